"""How a training ended, and what follows from that: its status, the reason in words and what was measured.

The outcome follows from the files that the run left and from exit codes, never from metadata of its notebook.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import MachineFailed
from ..core.sanitize import is_number, one_line
from ..core.types import RunOutcome, Status
from ..record.paths import ExperimentPaths
from ..system.own_time import OwnTime
from ..system.steady_clock import SteadyClock
from .handover import read_handover


class EndRun(Exception):
    """A callback of a Listener raises it to end the run, which then has this `status` and `reason`."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class LimitPassed(EndRun):
    """The run exceeded a limit of its sandbox and was ended."""


@dataclass(frozen=True)
class RunnerExit:
    """How the runner ended."""

    outcome: dict[str, Any] | None  # what it wrote; None when it could not
    exit_code: int
    overran: bool  # it passed its limit and was asked to end
    started: float  # monotonic
    finished: float
    left_behind: int  # processes that outlived it
    ended_by: EndRun | None  # the exception of a callback
    machine_speed: float | None  # see `system/machine_speed.py`; None where it is not known
    clock: SteadyClock | None  # that counted the budget; None for the wall clock
    own_time: OwnTime  # without the stops of a duel


def outcome_of(
    end: RunnerExit, paths: ExperimentPaths, run: int, *, limit_seconds: float, begun: float, why_the_code: str
) -> RunOutcome:
    """The outcome of a run. It has been trained when the hand-over is complete and every cell of the notebook ran.

    Args:
        limit_seconds: after which it was ended.
        begun: when the training lock was taken, on the monotonic clock.
        why_the_code: why a kill counts as the code's doing; "" when the system was short of memory.
    """
    from .notebook import mark_end

    _raise_own_failure(end, paths.runner_log(run))
    handed_over, complaint = read_handover(paths.handover(run))
    artefact = paths.artefact(run)
    said = end.outcome or {}
    measured = _measured(end, handed_over or {}, begun)
    status, reason = _status(end, said, handed_over is not None, complaint, limit_seconds)
    if measured["exit_code"] == -signal.SIGKILL and why_the_code:
        measured["exit_code"] = None  # the machine is not the cause, so there is no use in a retry
        reason += f"; {why_the_code}" * (status is Status.CRASH)
    if end.ended_by is not None:
        mark_end(paths.notebook(run), "Stopped", reason)
    elif end.outcome is None:
        mark_end(paths.notebook(run), "RunnerDied", reason)
    return RunOutcome(status, reason, artefact if status is None else None, paths.notebook(run), measured)


def _raise_own_failure(end: RunnerExit, log: Path) -> None:
    """Raise MachineFailed when this program or the machine failed before the code could, or while it executed it."""
    from .runner import NO_KERNEL, RUNNER_FAILED

    if end.ended_by is not None or end.overran:
        return
    said = end.outcome or {}
    if end.outcome is None and end.exit_code > 0:  # Python ended it, before or after the notebook
        raise MachineFailed(f"The process that executes the notebook ended: {_last_line(log)}.", may_be_the_code=True)
    if said.get("ended") == NO_KERNEL:
        raise MachineFailed(f"The kernel did not start in its sandbox: {one_line(str(said['reason']), 500)}")
    if said.get("ended") == RUNNER_FAILED:
        raise MachineFailed(f"The notebook could not be executed: {said['reason']}", may_be_the_code=True)


def _last_line(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        return one_line(next((line for line in reversed(lines) if line.strip()), "")) or "it said nothing"
    return "it said nothing"


def _status(
    end: RunnerExit, said: dict[str, Any], handed_over: bool, complaint: str, limit: float
) -> tuple[Status | None, str]:
    if end.ended_by is not None:
        return end.ended_by.status, end.ended_by.reason
    where = _where(said)
    if end.overran or said.get("ended") == "deadline":
        return Status.TIMEOUT, f"passed its hard limit of {limit:.0f} s{where}"
    if end.outcome is None:
        from .kernel_process import describe_exit

        return Status.CRASH, f"the runner {describe_exit(end.exit_code)}; see runner.log"
    if said["ended"] == "done":
        return (None, "") if handed_over else (Status.CRASH, f"all cells ran, but {complaint}")
    when = " before the hand-over" if said["ended"] in ("exit", "died") and not handed_over else ""
    return Status.CRASH, f"{said['reason']}{where}{when}"


def _where(said: dict[str, Any]) -> str:
    """The cell where a notebook ended, and the line of train.py where that is known."""
    cell = f" in cell {said['cell']}" if said.get("cell") else ""
    return f"{cell}, line {said['line']} of train.py" if cell and said.get("line") else cell


def _measured(end: RunnerExit, handed_over: dict[str, Any], begun: float) -> dict[str, Any]:
    """The facts of the hand-over, then those that the supervisor measured, which no training can write.

    `overhead_seconds` is the total time without the training itself. All times are without the stops of a duel, whose
    sum is `stopped_seconds`.
    """
    said = end.outcome or {}
    measured = dict(handed_over)
    own = end.own_time.between
    total = own(begun, end.finished) + end.own_time.worked_while_stopped
    if said:
        ready = said["begun"] + said["kernel_start_seconds"]
        measured |= {
            "runner_start_seconds": own(end.started, said["begun"]),
            "kernel_start_seconds": own(said["begun"], ready),
            "cells_seconds": own(ready, ready + said["cells_seconds"]) + end.own_time.worked_while_stopped,
            "shutdown_seconds": own(ready + said["cells_seconds"], end.finished),
            "process_peak_memory_mb": said["process_peak_memory_mb"],
            "exit_code": said["exit_code"],
            "left_behind": said["left_behind"] + end.left_behind,
        }
    else:
        measured |= {"exit_code": end.exit_code, "left_behind": end.left_behind}
    if end.clock is not None:
        measured |= _counted(end.clock, end, said)
    if isinstance(end.ended_by, LimitPassed):
        measured["exit_code"] = None  # the supervisor killed it for a reason, so there is no use in a retry
    if end.own_time.stops:
        measured["stopped_seconds"] = end.own_time.stopped()
        measured["worked_while_stopped_seconds"] = end.own_time.worked_while_stopped
    if end.machine_speed is not None:
        measured["machine_speed"] = end.machine_speed
    training = handed_over.get("training_seconds")
    if is_number(training):
        measured["overhead_seconds"] = total - training
    return measured | {"total_seconds": total}


def _counted(clock: SteadyClock, end: RunnerExit, said: Mapping[str, Any]) -> dict[str, Any]:
    """What the supervisor's steady clock counted while the cells ran, and how fast the machine was then."""
    if not said:
        return {"budget_speed": round(clock.between(end.started, end.finished).speed, 4)}
    begin = said["begun"] + said["kernel_start_seconds"]
    count = clock.between(begin, begin + said["cells_seconds"])
    counted = {"cells_counted_seconds": round(count.seconds, 3), "budget_speed": round(count.speed, 4)}
    return counted | {"clock_speed": round(count.machine, 4)}
