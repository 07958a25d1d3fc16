"""Reads what a training hands over: the pickled model, the facts that prepare.py measured, and the curve."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object, plain_facts
from ..record.curves import shorten_curve
from ..record.paths import ARTEFACT, HANDOVER, METRICS
from ..system.untrusted_files import open_plain_file, opened_up, read_plain_file, remove_tree

TEXTS = {"device", "device_name", "dtype"}  # facts that are text; all others are numbers
# Facts of a run that its supervisor measures; a hand-over that contains one of these names is not believed.
MEASURED_OUTSIDE = {
    "runner_start_seconds", "kernel_start_seconds", "cells_seconds", "shutdown_seconds", "process_peak_memory_mb",
    "exit_code", "left_behind", "overhead_seconds", "total_seconds", "relative_speed", "relative_machine_speed",
    "curve_slope", "ended_at", "scored", "scoring_seconds", "slowest_batch_seconds", "answer_seconds", "machine_speed",
    "cells_counted_seconds", "budget_speed", "clock_speed",
    "stopped_seconds", "worked_while_stopped_seconds",
}  # fmt: skip
FILE_MODE = 0o644  # the sandbox of a scorer may have another user; the study's folder decides who else can read it
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

    Such entries are links, pipes, folders and unreadable files. Afterwards other code may open the remaining files,
    which belong to this process's user and have no setuid bit and no capability. A curve that is too long is cut to the
    part that is ever read.
    """
    with opened_up(folder) as top:
        _make_own(top)
        for entry in folder.iterdir():
            is_known = entry.name in (ARTEFACT, HANDOVER, METRICS)
            if not (
                is_known and _is_plain_file(entry) and os.access(entry, os.R_OK | os.W_OK) and _is_made_plain(entry)
            ):
                remove_tree(entry)
    if (folder / METRICS).exists():
        shorten_curve(folder / METRICS)


def _make_own(descriptor: int) -> None:
    """Give a file or folder to this process's user, where the drive knows owners; a file loses its capabilities."""
    with suppress(OSError):
        os.fchown(descriptor, os.geteuid(), os.getegid() if os.geteuid() == 0 else -1)


def _is_made_plain(file: Path) -> bool:
    """Make a file this user's own, with the usual rights; False when it keeps a setuid or setgid bit all the same."""
    with open_plain_file(file) as opened:
        _make_own(opened.fileno())
        with suppress(OSError):
            os.fchmod(opened.fileno(), FILE_MODE)
        return not os.fstat(opened.fileno()).st_mode & (stat.S_ISUID | stat.S_ISGID)


def _is_plain_file(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
