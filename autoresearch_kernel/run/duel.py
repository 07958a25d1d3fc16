"""A duel: two trainings take turns on this machine, so that both meet the same machine.

One side's processes are stopped (SIGSTOP) while the other side runs. A slice is about half a second of a side's own
time. Its length is drawn anew for each turn, and is the same for both sides, so that neither the code nor a neighbour
with a rhythm of its own falls into step with it. Each side has its whole budget, and its hard limit is counted in its
own time (`system/own_time.py`). When one side ends, the other one goes on alone.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar

from ..core.types import RunOutcome
from ..system.machine import training_lock
from ..system.machine_speed import MachineSpeed
from .training import InWork, Listener, Steps, Training, Turn, training_steps

T = TypeVar("T")
Pair = tuple[T, T]
SLICE_SECONDS = (0.4, 0.6)  # shortest and longest slice
CHECK_SECONDS = 0.1  # between two looks at whether the stopped side stands still


@dataclass
class _Side:
    """One of the two trainings."""

    steps: Steps
    in_work: InWork | None = None  # None before its first slice
    outcome: RunOutcome | None = None  # None until it has ended

    def run(self, seconds: float, other: _Side) -> None:
        """Train for one slice; until the end where the other side has ended."""
        if self.in_work is not None:
            self.in_work.own_time.go_on()
        else:
            self._start(other)
        until = time.monotonic() + seconds
        while self.outcome is None and self._advance():
            left = until - time.monotonic()
            if other.outcome is None and left <= 0:
                break
            assert self.in_work is not None
            wait = min(self.in_work.seconds, CHECK_SECONDS, left if other.outcome is None else CHECK_SECONDS)
            self.in_work.wait(wait)
            if other.in_work is not None and other.outcome is None:
                other.in_work.own_time.stay_stopped()
        if self.outcome is None and other.outcome is None and self.in_work is not None:
            self.in_work.own_time.stop()

    def _start(self, other: _Side) -> None:
        """Start its processes. The supervisor keeps nothing stopped meanwhile, so the other side goes on."""
        waiting = other.in_work.own_time if other.in_work is not None and other.outcome is None else None
        if waiting is not None:
            waiting.go_on()
        if self._advance() and waiting is not None:
            waiting.stop()

    def _advance(self) -> bool:
        """One check of its limits; False once it has ended."""
        try:
            self.in_work = next(self.steps)
        except StopIteration as end:
            self.outcome = end.value
        return self.outcome is None


def run_duel(trainings: Pair[Training], listeners: Pair[Listener]) -> Pair[RunOutcome]:
    """Train two codes in turns, the first one first; both outcomes as `run_training` has them.

    Raises what `run_training` raises. However this call ends, no process of either side is left. A callback that raises
    EndRun ends its own side; every other exception ends both.
    """
    from . import notebook, runner  # noqa: F401  # else the first side goes on while the second one imports them

    first, second = trainings
    heard = listeners[0]
    with training_lock(heard.on_wait, heard.on_tick, first.study) as lock, ExitStack() as stack:
        turn = Turn(lock, MachineSpeed())
        sides = [
            _Side(stack.enter_context(closing(training_steps(training, listener, turn=turn))))
            for training, listener in zip((first, second), listeners, strict=True)
        ]
        while any(side.outcome is None for side in sides):
            seconds = random.uniform(*SLICE_SECONDS)
            for side, other in (sides, sides[::-1]):
                if side.outcome is None:
                    side.run(seconds, other)
    outcomes = [side.outcome for side in sides]
    assert outcomes[0] is not None and outcomes[1] is not None
    return outcomes[0], outcomes[1]
