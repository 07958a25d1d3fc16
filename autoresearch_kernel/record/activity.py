"""activity.json: what the supervisor of a study does at this moment, replaced at each change of phase.

A view, no record: the supervisor never reads it, and nothing depends on it. It says nothing when its process is gone.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Activity:
    """One phase of a supervisor's work."""

    phase: (
        str  # "proposing", "dry run", "reviewing", "waiting", "training", "scoring", "auditing", "deciding", "paused"
    )
    purpose: str  # "baseline", "experiment", "rerun", "conclusion" or "result"
    experiment: int
    run: int
    why: str  # for a training of an experiment that is decided already; "" otherwise
    since: str  # UTC ISO 8601
    pid: int


def write_activity(path: Path, activity: Activity) -> None:
    """Replace the file; without waiting for the disk, and without an error where the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        temporary.write_text(json.dumps(asdict(activity)) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def read_activity(path: Path, pid: Any) -> Activity | None:
    """What the process `pid` does; None where the file is missing, cut off, or another process's."""
    try:
        activity = Activity(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return activity if activity.pid == pid else None
