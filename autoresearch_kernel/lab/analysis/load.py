"""Open a study for the analysis: by name, by path, or as a results.tsv. Reads only, and takes no lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ...core.attribution import effects
from ...core.playback import Timeline
from ...core.types import Experiment
from ...record.archive import StudyArchive
from ...record.bundle import OPTIMISER, night_names, night_path, unpacked_study
from ...record.history_reader import Readable, readable_events, views_of
from ...record.results import read_results
from ...record.study import Study, StudyError, explained, open_folder, open_study, study_names
from ...show.study_words import machine_words
from ...source.compare import subjects
from ...system.files import seconds_of
from ...system.locations import project_root
from ...system.shell import shell_command
from .analysis import Analysis

RESULTS_NOTE = (
    "From a results.tsv, which holds no times, no cost and no repeated runs: what depends on them is unknown."
)
EXAMPLE_NOTE = "There is no study here yet: this is the recorded example that comes with the project."


@explained()
def analyse(study: str | Path | Study = "") -> Analysis:
    """What a study has found.

    >>> analyse("nov23").attribution()  # doctest: +SKIP

    Args:
        study: a study's name, a Study, its folder, a bundle, or the path of a results.tsv, also of the original.
            "" is the study touched last, and where there is none the recorded example.

    Raises StudyError when there is no such study, ResultsDamaged for a file without a table of results.
    """
    if isinstance(study, Study):
        return _of_study(study)
    if not study:
        return _latest()
    path = Path(study).expanduser()
    if path.suffix == ".zip" and path.is_file():
        return _of_study(unpacked_study(path))
    if path.is_file():
        return _of_results(path)
    if (path / "study.json").is_file():
        return _of_study(open_folder(path))
    if (path / "results.tsv").is_file():
        return _of_results(path / "results.tsv")
    if path.suffix == ".tsv" or len(path.parts) > 1:
        what = f"{path} holds neither a results.tsv nor a study" if path.is_dir() else f"There is no {path}"
        raise StudyError(
            f"{what}. Give a study's name, as in "
            'analyse("nov23"), the folder of a study, or the path of a results.tsv.'
        )
    return _named(str(study))


def _of_results(path: Path) -> Analysis:
    found = read_results(path)
    note = " ".join((RESULTS_NOTE, *found.notes))
    return Analysis(path.resolve().parent.name or path.stem, found.experiments, note=note, metric=found.metric)


@explained()
def open_example(night: str = OPTIMISER) -> Study:
    """A recorded night that comes with the project, to be looked at: its records, diffs, notebooks and curves.

    Its files lie in a folder that is removed when this process ends.

    >>> study = open_example()  # doctest: +SKIP
    >>> study.name  # doctest: +SKIP

    Args:
        night: its name; they lie in docs/nights.

    Raises StudyError where there is no such night.
    """
    nights = night_names()
    if nights and night not in nights:
        there_are = ", ".join(nights)
        raise StudyError(f"There is no recorded night {night!r}. Those that come with the program: {there_are}.")
    return unpacked_study(night_path(night))


def _latest() -> Analysis:
    project = project_root()
    names = [name for name in study_names(project) if (project / "studies" / name / "history.jsonl").is_file()]
    unread = []
    for name in names:
        try:
            found = _of_study(open_study(name, project))
        except StudyError as error:
            unread.append(f"Study {name} is left out: {error}")
        else:
            return replace(found, note=" ".join(filter(None, (found.note, *unread))))
    return replace(_of_study(open_example()), note=" ".join((EXAMPLE_NOTE, *unread)))


def _named(name: str) -> Analysis:
    project = project_root()
    try:
        return _of_study(open_study(name, project))
    except (StudyError, ValueError) as error:
        names = study_names(project)
        if name in names:
            raise
        there_are = (
            f"There are {', '.join(names[:8])}." if names else f"There is none yet: `{shell_command('run')}` makes one."
        )
        raise StudyError(f"There is no study {name!r}. {there_are} A results.tsv is given by its path.") from error


def _of_study(study: Study) -> Analysis:
    readable = readable_events(study.paths.history) if study.paths.history.is_file() else Readable([])
    events, (state, damage) = readable.events, views_of(readable)
    timeline = Timeline.of(events, seconds_of)
    finished = next((event for event in reversed(events) if event["event"] == "finished"), None)
    return Analysis(
        study.name,
        tuple(_with_subjects(state.decided, StudyArchive(study.paths))),
        sigma=state.sigma,
        spent=state.spent_by_experiment,
        seconds=timeline.seconds_of_experiments if events else None,
        whole_seconds=timeline.seconds if events else None,
        attribution_seconds=timeline.seconds_before("attribution"),
        finished=finished,
        machine=machine_words(state),
        note=damage,
        taken_out=state.attribution,
        effects=effects(state.attribution, state.noise) if state.attribution else (),
        can_be_attributed=study.paths.folder.parent.name == "studies",
    )


def _with_subjects(experiments: Iterable[Experiment], archive: StudyArchive) -> Iterable[Experiment]:
    """Add the parts of train.py that an edit changed, where its agent did not name any."""
    for e in experiments:
        if e.parent is not None and not e.changes and not e.details.get("subjects"):
            before, after = archive.source(e.parent), archive.source(e.number)
            found = subjects(before, after) if before and after else ()
            e = replace(e, details={**e.details, "subjects": list(found)}) if found else e
        yield e
