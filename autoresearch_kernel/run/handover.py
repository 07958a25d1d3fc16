"""TODO."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object, plain_facts
from ..record.curves import shorten_curve
from ..record.paths import ARTEFACT, HANDOVER, METRICS
from ..system.untrusted_files import opened_up, read_plain_file, remove_tree

TEXTS = {"device", "device_name", "dtype"}  # of the hand-over; all else in it is a number or is left out


OURS = {
    "runner_start_seconds", "kernel_start_seconds", "cells_seconds", "shutdown_seconds", "process_peak_memory_mb",
    "exit_code", "left_behind", "overhead_seconds", "total_seconds", "relative_speed", "ended_at", "scored",
    "scoring_seconds", "slowest_batch_seconds",
}  # fmt: skip  # facts of a run that are measured from outside, whatever the hand-over calls so


HANDOVER_LIMIT_BYTES = 100_000  # of handover.json; a real one has a few hundred


def read_handover(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What prepare.py measured, or None and what is missing of the hand-over."""
    if not _is_plain_file(folder / ARTEFACT) or (folder / ARTEFACT).stat().st_size == 0:
        return None, f"no {ARTEFACT} was handed over: does the last cell call evaluate_bpb?"
    try:
        facts = read_plain_file(folder / HANDOVER, HANDOVER_LIMIT_BYTES)
    except OSError:
        return None, f"there is no usable {HANDOVER}"
    content = parse_object(facts.decode("utf-8", errors="replace"))
    if content is None:
        return None, f"{HANDOVER} is not a JSON object"
    return plain_facts(content, texts=TEXTS, without=OURS), ""


def keep_only_the_handover(folder: Path) -> None:
    """Remove whatever a training left beside its hand-over, and what only has the names of one: links, pipes, folders,
    files that are closed to their owner.

    What reads these files later may then open them. A curve without end is cut to what is ever read of it.
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


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return parse_object(path.read_bytes())
    except OSError:
        return None
