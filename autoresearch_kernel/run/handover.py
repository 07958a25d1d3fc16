"""Reads what a training hands over: the pickled model, the facts that prepare.py measured, and the curve."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object, plain_facts
from ..record.curves import shorten_curve
from ..record.paths import ARTEFACT, HANDOVER, METRICS
from ..system.untrusted_files import opened_up, read_plain_file, remove_tree

TEXTS = {"device", "device_name", "dtype"}  # facts that are text; all others are numbers
# Facts of a run that its supervisor measures; a hand-over that contains one of these names is not believed.
MEASURED_OUTSIDE = {
    "runner_start_seconds", "kernel_start_seconds", "cells_seconds", "shutdown_seconds", "process_peak_memory_mb",
    "exit_code", "left_behind", "overhead_seconds", "total_seconds", "relative_speed", "ended_at", "scored",
    "scoring_seconds", "slowest_batch_seconds",
}  # fmt: skip
HANDOVER_LIMIT_BYTES = 100_000  # of handover.json, which normally has a few hundred


def read_handover(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The facts that prepare.py measured, or None and what is missing in the hand-over."""
    if not _is_plain_file(folder / ARTEFACT) or (folder / ARTEFACT).stat().st_size == 0:
        return None, f"no {ARTEFACT} was handed over: does the last cell call evaluate_bpb?"
    try:
        facts = read_plain_file(folder / HANDOVER, HANDOVER_LIMIT_BYTES)
    except OSError:
        return None, f"there is no usable {HANDOVER}"
    content = parse_object(facts.decode("utf-8", errors="replace"))
    if content is None:
        return None, f"{HANDOVER} is not a JSON object"
    return plain_facts(content, texts=TEXTS, without=MEASURED_OUTSIDE), ""


def keep_only_the_handover(folder: Path) -> None:
    """Remove everything but the files of a hand-over from its folder, and entries that only have the name of one.

    Such entries are links, pipes, folders and unreadable files. Afterwards other code may open the remaining files. A
    curve that is too long is cut to the part that is ever read.
    """
    with opened_up(folder):
        for entry in folder.iterdir():
            is_known = entry.name in (ARTEFACT, HANDOVER, METRICS)
            if not (is_known and _is_plain_file(entry) and os.access(entry, os.R_OK | os.W_OK)):
                remove_tree(entry)
    if (folder / METRICS).exists():
        shorten_curve(folder / METRICS)


def _is_plain_file(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
