"""Open a study in a notebook, or start one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import with_arguments
from ..record import study as records
from ..record.study import StudyError, study_exists
from ..study import create
from ..study.options import OF_A_NEW_STUDY, SettingsRefused, options_of, refuse_other_settings, wrong_values
from ..system.locations import project_root
from ..system.places import require_places
from .errors import in_one_sentence
from .study import InteractiveStudy


def open_study(name: str | None = None, project: str | Path | None = None) -> InteractiveStudy:
    """Open a study, to look at it, to take its steps by hand, or to give it to `research`.

    Args:
        name: of the study; the one touched last when left out.
        project: folder of train.py and prepare.py; found from the working folder when left out.

    >>> from autoresearch_kernel import open_study
    >>> study = open_study("nov23")  # doctest: +SKIP
    >>> study.figure()  # doctest: +SKIP

    Raises StudyError when there is none.
    """
    root = _root(project)
    with in_one_sentence():
        study = records.open_study(name, root) if name is not None else records.latest_study(root, print)
    if study is None:
        raise StudyError(
            f'There is no study in {root / "studies"} yet. Start one: `study = start_study("lesson", budget=20)`.'
        )
    return InteractiveStudy(**vars(study))


def start_study(
    name: str,
    *,
    budget: float | None = None,
    agent: str | None = None,
    corpus: str | None = None,
    preset: str | None = None,
    start: str | None = None,
    seed: int | None = None,
    clock: str | None = None,
    model: str | None = None,
    files_folder: str | Path | None = None,
    text_key: str | None = None,
    project: str | Path | None = None,
    **of_agent: Any,
) -> InteractiveStudy:
    """A new study, or the one of that name when it began with these settings: so the cell may be run again.

    Args:
        name: of the study and of its folder in `studies`.
        budget: training seconds a run; 300 when left out.
        agent: "search", "llm", "hybrid", "command", "replay" or "human".
        corpus: "packages", "stdlib", "tinystories", "climbmix", or "files" with `files_folder`; the preset's when left
            out.
        text_key: the key or column with the text in `files_folder`; "text" when left out.
        preset: sizes of the baseline, "laptop", "gpu", "h100", or "none" for train.py's; measured when left out.
        start: "tuned", train.py as it is, or "plain", a GPT without its ideas; "tuned" when left out.
        seed: of the study; 0 when left out.
        clock: "steady" counts the budget in seconds of the machine's normal speed, "wall" in seconds as they pass;
            steady on Linux processors when left out, else wall.
        model: of an agent that asks one.
        of_agent: slots, with_, share, prompt_tokens, reply_tokens, recording, max_tokens, max_cost, max_calls, as on
            the command line.

    >>> from autoresearch_kernel import start_study
    >>> study = start_study("lesson", budget=20)  # doctest: +SKIP
    >>> study.baseline()  # doctest: +SKIP

    Raises StudyError for settings that do not go together, or are not those the study began with.
    """
    folder = None if files_folder is None else str(Path(files_folder).expanduser().resolve())
    given = {"budget": budget, "agent": agent, "corpus": corpus, "preset": preset, "seed": seed, "model": model}
    given |= {"clock": clock, "start": start, "files_folder": folder, "text_key": text_key, **of_agent}
    asked = options_of(given, OF_A_NEW_STUDY)
    if wrong := wrong_values(given):
        raise SettingsRefused(wrong)
    root = _root(project)
    try:
        with in_one_sentence():
            if study_exists(name, root):
                study = records.open_study(name, root)
                refuse_other_settings(study, asked)
            else:
                require_places(root)
                study = create.start_study(name, root, asked)
    except StudyError as error:  # its message may name options of the command line
        raise StudyError(with_arguments(str(error))) from error
    return InteractiveStudy(**vars(study), asked=asked)


def _root(project: str | Path | None) -> Path:
    with in_one_sentence():
        return project_root(project)
