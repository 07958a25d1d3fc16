"""Makes the pages of a bundle again from its record, code, notebooks and curves, and names those that differ. Pure.

A person who changes a sentence or a figure of a page and computes all hashes anew is found out here. The pages are
made with the version that the manifest names. Where all are the same, they follow from the record, whatever program
made the bundle. Where some differ, that says something only where the same program made it, which `program_sha256` in
the manifest names: another one may have other words. A person may name another one there; then the row says that it
cannot tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.state import Event, replay
from ..core.version import __version__
from ..record.paths import ExperimentPaths, StudyPaths
from ..record.study import Study
from .build import VERIFY, files_of, program_sha256
from .bundle import Bundle
from .crate import CRATE
from .layout import data_opening
from .manifest import PAGE, TABLE
from .material import CONVERSATION, Material

MADE = re.compile(
    rf"(experiments/\d{{4,}}/)?{re.escape(PAGE)}|{re.escape(TABLE)}|{re.escape(CRATE)}|{re.escape(VERIFY)}"
)
DATA, END = data_opening("bundle"), "</script>"  # of what index.html holds for its own check
MISSING, ADDED = (
    "the program makes it of this record, and it is not here",
    "the program makes no such page of this record",
)
DIFFERS = "its text does not follow from the record and the files beside it"


def is_of_this_program(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest names the installed program, which then makes the same pages for certain."""
    known = program_sha256()
    return bool(known) and (manifest.get("version"), manifest.get("program_sha256")) == (__version__, known)


def differing(
    bundle: Bundle, manifest: Mapping[str, Any], events: Sequence[Event]
) -> tuple[int, list[tuple[str, str]]]:
    """How many pages and tables were made again, and path and problem of those that the bundle has otherwise.

    The data that index.html holds for its own check is left out: the check of the page looks at it. Raises KeyError,
    TypeError, ValueError, AttributeError or another of `UNFIT` where files are not as a bundle has them.
    """
    material = _material(bundle, manifest, events)
    changes = {number: bundle.text(f"{_folder(number)}/change.diff") for number in material.sources if number > 0}
    diffs = {number: change for number, change in changes.items() if change is not None}
    version = str(manifest["version"])
    files = files_of(material, diffs, manifest["removed"], manifest["made_at"], version=version)
    made = {path: text for path, text in files.items() if MADE.fullmatch(path)}
    given = {path: text for path, text in bundle.files.items() if MADE.fullmatch(path)}
    problems = [(path, MISSING) for path in made if path not in given]
    problems += [(path, ADDED) for path in given if path not in made]
    problems += [(path, DIFFERS) for path in made if path in given and not _is_same(path, made[path], given[path])]
    return len(made), problems


def _is_same(path: str, made: bytes, given: bytes) -> bool:
    if path != PAGE:
        return made == given
    words, found = made.decode(errors="replace"), given.decode(errors="replace")
    before, _, rest = words.partition(DATA)
    begin, end = before + DATA, END + rest.partition(END)[2]
    is_framed = found.startswith(begin) and found.endswith(end) and len(found) >= len(begin) + len(end)
    return is_framed and "<" not in found[len(begin) : len(found) - len(end)]


def _material(bundle: Bundle, manifest: Mapping[str, Any], events: Sequence[Event]) -> Material:
    """What the pages were made from, as the bundle has it."""
    facts, state = json.loads(bundle.files["study.json"]), replay(tuple(events))
    study = Study(facts["name"], Path(), StudyPaths(Path()), facts)
    sources, conversations, notebooks, curves = {}, {}, {}, {}
    for experiment in state.experiments:
        number, folder = experiment.number, _folder(experiment.number)
        paths = ExperimentPaths(Path(folder))
        if (source := bundle.text(paths.train.as_posix())) is not None:
            sources[number] = source
        if said := bundle.text(f"{folder}/{CONVERSATION}"):
            conversations[number] = tuple(json.loads(said))
        for run in experiment.runs:
            if notebook := bundle.text(paths.notebook(run.index).as_posix()):
                notebooks[number, run.index] = json.loads(notebook)
            if curve := bundle.text(paths.metrics(run.index).as_posix()):
                curves[number, run.index] = [json.loads(line) for line in curve.splitlines()]
    is_running, has_prompts = manifest["running"], manifest["prompts"]
    return Material(study, tuple(events), state, is_running, has_prompts, sources, notebooks, curves, conversations)


def _folder(number: int) -> str:
    return f"experiments/{number:04d}"
