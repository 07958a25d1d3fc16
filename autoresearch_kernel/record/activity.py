"""activity.json: what the supervisor of a study does now, replaced at each change of phase.

The file is for views only: the supervisor never reads it, and it says nothing once its process has ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Activity:
    """One phase of a supervisor's work."""

    # "proposing", "dry run", "reviewing", "waiting" (for another training), "quiet" (waits for it), "training",
    # "scoring", "auditing", "deciding" or "paused"
    phase: str
    purpose: str  # "baseline", "experiment", "rerun", "conclusion", "result" or "attribution"
    experiment: int
    run: int
    why: str  # reason to train a decided experiment again; "" otherwise
    since: str  # UTC ISO 8601
    pid: int
    writes: str = ""  # the last lines of what the agent writes now, made inert; "" while it writes nothing
    # Until nothing more is proposed, as of `since`, the proposal in work not counted; None for no limit.
    experiments_left: int | None = None
    seconds_left: float | None = None
    # What each slot does, where there is more than one: `slot`, its name, and phase, purpose, experiment, run, since.
    slots: tuple[Mapping[str, Any], ...] = ()


def write_activity(path: Path, activity: Activity) -> None:
    """Replace the file, without waiting for the disk and without an error when the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        temporary.write_text(json.dumps(asdict(activity)) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def read_activity(path: Path, pid: Any) -> Activity | None:
    """What the process `pid` does; None when the file is missing, incomplete, or another process's."""
    try:
        activity = Activity(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return activity if activity.pid == pid else None
