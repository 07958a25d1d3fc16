"""What of a study goes into its bundle: the history, each train.py, executed notebooks, curves and conversations.

`read_material` reads it from the study's files, `cleaned` gives the same without what is private. The models, which
are pickles, and what the scorers answered stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.format import plain
from ..core.sanitize import all_readable
from ..core.state import Event, StudyState, replay
from ..record.archive import NOTEBOOK_LIMIT_BYTES, StudyArchive
from ..record.curves import read_curve
from ..record.history import events_so_far
from ..record.study import Study, StudyError, open_folder, open_study
from ..source.diff import applied
from ..study.proposal_files import are_messages, read_proposal
from ..system.files import lock_holder
from ..system.locations import project_root
from .clean import CHOSEN, Cleaner
from .manifest import MANIFEST

MOST_CURVE_POINTS = 200  # of one run
# Fields that name this machine or what else runs on it, and what stands in their place.
MACHINE_FIELDS: dict[str, dict[str, Any]] = {
    "opened": {"pid": 0, "boot_id": "", "host": ""},
    "waiting": {"pid": None, "study": ""},
    "busy": {"who": ""},
    "quiet_wait": {"who": ""},
    "quiet_waited": {"who": ""},
}
OF_MACHINE = "process, boot or program of this machine"  # what these fields hold, as the manifest says it
Notebook = dict[str, Any]
Conversation = tuple[dict[str, str], ...]  # the messages between the supervisor and a language model
CONVERSATION = "conversation.json"  # of an experiment, in a bundle; a study has it in proposal.json


@dataclass(frozen=True)
class Material:
    """A study as its files tell it at one moment."""

    study: Study
    events: tuple[Event, ...]
    state: StudyState  # what the events add up to
    is_running: bool
    has_prompts: bool  # the person agreed to share them
    sources: Mapping[int, str]  # experiment -> its train.py
    notebooks: Mapping[tuple[int, int], Notebook]  # experiment and run -> the executed notebook
    curves: Mapping[tuple[int, int], list[dict[str, Any]]]
    conversations: Mapping[int, Conversation]  # experiment -> prompt and reply; empty without consent
    removed: Mapping[str, int] = field(default_factory=dict)  # of an unpacked bundle: what was replaced in it before

    @property
    def finished(self) -> Event | None:
        """The last `finished` event."""
        return next((event for event in reversed(self.events) if event["event"] == "finished"), None)


def study_to_share(name: str | Path) -> Study:
    """The study of that name in this project, or the one in a folder, for reading alone. Raises StudyError."""
    path = Path(name).expanduser()
    if (path / "study.json").is_file():
        return open_folder(path)
    if path.is_file() or len(path.parts) > 1:
        raise StudyError(f"{name} is no folder of a study. Give the name of a study, or its folder.")
    return open_study(str(name), project_root())


def read_material(study: Study, *, has_prompts: bool) -> Material:
    """Raises HistoryDamaged for a history that cannot be trusted, StudyError for one without a decided experiment."""
    events = tuple(events_so_far(study.paths.history))
    state = replay(events)
    if not state.decided:
        raise StudyError(f"{study.name} has no decided experiment yet, so there is nothing to share. Wait for one.")
    runs = [(e.number, run.index) for e in state.decided for run in e.runs]
    notebooks = {(number, run): _notebook(study.experiment(number).notebook(run)) for number, run in runs}
    curves = {(number, run): _thinned(read_curve(study.experiment(number).metrics(run))) for number, run in runs}
    asked = state.experiments if has_prompts else ()
    conversations = {e.number: _conversation(study, e.number) for e in asked}
    return Material(
        study,
        events,
        state,
        lock_holder(study.paths.lock) is not None,
        has_prompts,
        _sources(study, state),
        {place: notebook for place, notebook in notebooks.items() if notebook is not None},
        {place: curve for place, curve in curves.items() if curve},
        {number: messages for number, messages in conversations.items() if messages},
        _removed_before(study.paths.folder / MANIFEST),
    )


def strings_of(material: Material) -> Iterator[tuple[str, str]]:
    """Every text of it, with the name of its place."""
    for event in material.events:
        yield from ((f"history.jsonl, line {event['seq']}", text) for text in _strings(event))
    yield from (("study.json", text) for text in _strings(material.study.facts))
    for number, source in material.sources.items():
        yield f"train.py of {number:04d}", source
    for (number, run), notebook in material.notebooks.items():
        yield from ((f"notebook of {number:04d}, run {run + 1}", text) for text in _strings(notebook))
    for (number, run), curve in material.curves.items():
        names = dict.fromkeys(name for point in curve for name in point)  # a training chooses them
        yield f"curve of {number:04d}, run {run + 1}", "\n".join([*names, *_strings(curve)])
    for number, messages in material.conversations.items():
        yield from ((f"conversation of {number:04d}", text) for text in _strings(messages))


def cleaned(material: Material, cleaner: Cleaner) -> Material:
    """The same without what is private; notebooks are cleaned where they are written anew (`notebook.portable`)."""
    programs = _programs(material.events)
    events = tuple(cleaner.event(_without_machine(event, programs, cleaner)) for event in material.events)
    facts = cleaner.all(material.study.facts)
    return replace(
        material,
        study=replace(material.study, name=str(facts["name"]), facts=facts),
        events=events,
        state=replay(events),
        sources={number: cleaner.text(source) for number, source in material.sources.items()},
        curves={place: cleaner.all(curve, has_chosen_names=True) for place, curve in material.curves.items()},
        conversations={n: tuple(cleaner.all(all_readable(said))) for n, said in material.conversations.items()},
    )


def _programs(events: Iterable[Event]) -> tuple[str, ...]:
    """What notes quote of the programs that kept this machine busy, the longest first."""
    found = {plain(str(event.get("who") or "")) for event in events if "who" in MACHINE_FIELDS.get(event["event"], ())}
    return tuple(sorted(found - {""}, key=len, reverse=True))


def _without_machine(event: Event, programs: Iterable[str], cleaner: Cleaner) -> Event:
    fields = {name: put for name, put in MACHINE_FIELDS.get(event["event"], {}).items() if event.get(name)}
    if event["event"] == "note":
        text = event["text"]
        for who in programs:
            text = text.replace(f" ({who})", "").replace(who, "")
        if text != event["text"]:
            fields["text"] = text
    if fields:
        cleaner.counts[OF_MACHINE] += len(fields)
    return event | fields


def _strings(value: Any, *, has_chosen_names: bool = False) -> Iterator[str]:
    """All texts in a value of JSON but pictures, and the names of fields that a training or an agent chose."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if has_chosen_names:
            yield "\n".join(map(str, value))
        for name, part in value.items():
            if not str(name).startswith("image/"):
                yield from _strings(part, has_chosen_names=has_chosen_names or name in CHOSEN)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part, has_chosen_names=has_chosen_names)


def _sources(study: Study, state: StudyState) -> dict[int, str]:
    """Each train.py; where only the difference was kept, as in a recorded study, it is made from the parent's."""
    archive, found = StudyArchive(study.paths), dict[int, str]()
    for experiment in state.experiments:
        source: str | None = archive.source(experiment.number)
        if not source and experiment.parent in found:
            source = applied(found[experiment.parent], archive.diff(experiment.number))
        if source:
            found[experiment.number] = source
    return found


def _notebook(path: Path) -> Notebook | None:
    """None where there is none that can be read."""
    try:
        if path.stat().st_size > NOTEBOOK_LIMIT_BYTES:
            return None
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    is_one = isinstance(cells, list) and all(isinstance(cell, dict) for cell in cells)
    return notebook if is_one else None


def _removed_before(manifest: Path) -> dict[str, int]:
    """What the manifest of an unpacked bundle says was replaced, and how often; a study has no manifest."""
    try:
        removed = json.loads(manifest.read_text(encoding="utf-8"))["removed"]
        return {str(part["what"]): int(part["count"]) for part in removed}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _thinned(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    step = max(1, -(-len(curve) // MOST_CURVE_POINTS))
    return curve[::step] + (curve[-1:] if curve and (len(curve) - 1) % step else [])


def _conversation(study: Study, number: int) -> Conversation:
    """Of a study, or of an unpacked bundle with prompts; empty where there is none."""
    paths = study.experiment(number)
    if (proposal := read_proposal(paths)) is not None:
        return proposal[0].transcript
    try:
        messages = json.loads((paths.folder / CONVERSATION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(messages) if isinstance(messages, list) and are_messages(messages) else ()
