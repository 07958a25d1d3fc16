"""Duels with real processes: who runs when, what each side's clock says, how a side ends, and who gains nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.types import RunOutcome, Status
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.duel import run_duel
from autoresearch_kernel.run.training import Listener
from autoresearch_kernel.system.own_time import can_stop
from autoresearch_kernel.system.processes import descendants
from tests.conftest import PROJECT
from tests.trainings import training

pytestmark = pytest.mark.skipif(not can_stop(), reason="the processes of a training cannot be stopped here")

# A training that counts for BUDGET seconds of its clock, and says when it ran.
COUNTING = """# %% tags=["parameters"]
SEED = 1  # fixed

# %%
import json, os, pathlib, time
from prepare import TrainingClock

clock = TrainingClock(BUDGET)
ran, steps = [], 0
while clock.running():
    until = time.process_time() + 0.005
    while time.process_time() < until:
        pass
    steps += 1
    ran.append(time.monotonic())
EXTRA
# %%
folder = pathlib.Path(os.environ["AUTORESEARCH_HANDOVER"])
(folder / "model.pkl").write_text(json.dumps(ran))
(folder / "handover.json").write_text(json.dumps({"training_seconds": clock.elapsed, "num_steps": steps}))
"""

Duel = Callable[..., tuple[RunOutcome, RunOutcome]]


def counting(budget: float = 2.0, extra: str = "") -> str:
    return COUNTING.replace("BUDGET", str(budget)).replace("EXTRA", extra)


@pytest.fixture
def duel(tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Duel:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))

    def run(one: str, other: str, listeners: tuple[Listener, Listener] | None = None, limit: float = 30.0) -> Any:
        trainings = [
            training(source, ExperimentPaths(tmp_path / name), small_corpus, PROJECT, time_budget_seconds=limit)
            for name, source in (("0003", other), ("0007", one))
        ][::-1]
        return run_duel(trainings, listeners or (Listener(), Listener()))

    return run


def times(outcome: RunOutcome) -> list[float]:
    """When its steps ended, on the monotonic clock, which both sides share."""
    assert outcome.artefact is not None, outcome.reason
    found: list[float] = json.loads(outcome.artefact.read_text())
    return found


def test_both_sides_have_their_whole_budget_and_never_run_at_once(duel: Duel) -> None:
    began = time.monotonic()
    outcomes = duel(counting(2.0), counting(2.0))
    wall = time.monotonic() - began
    for outcome in outcomes:
        assert (outcome.status, outcome.reason) == (None, "")
        measured = outcome.measured
        assert 2.0 <= measured["training_seconds"] < 2.5  # by its own clock, which does not count the stops
        assert measured["stopped_seconds"] > 1.5  # the time of the other side
        assert measured["worked_while_stopped_seconds"] < 0.3
        parts = ("runner_start_seconds", "kernel_start_seconds", "cells_seconds", "shutdown_seconds")
        assert sum(measured[part] for part in parts) <= measured["total_seconds"] + 0.1
        assert measured["total_seconds"] + measured["stopped_seconds"] <= wall + 0.1
    switches = [side for _, side in sorted((at, side) for side in (0, 1) for at in times(outcomes[side]))]
    turns = 1 + sum(before != after for before, after in pairwise(switches))
    assert turns >= 6  # slices of half a second, and not one training after the other
    steps = [outcome.measured["num_steps"] for outcome in outcomes]
    assert min(steps) >= 10  # even where others keep the machine busy


def test_a_side_that_fails_ends_and_the_other_one_goes_on_alone(duel: Duel) -> None:
    crashed, trained = duel(counting(3.0, "    if steps == 20: raise ValueError('no')\n"), counting(2.0))
    assert crashed.status is Status.CRASH and "ValueError: no" in crashed.reason
    assert trained.status is None and 2.0 <= trained.measured["training_seconds"] < 2.5


def test_a_side_that_hangs_ends_at_its_own_limit(duel: Duel) -> None:
    ended: dict[str, float] = {}
    listeners = tuple(Listener(on_tick=lambda s, side=side: ended.update({side: s})) for side in ("one", "other"))
    hung, trained = duel(counting(1.0, "    time.sleep(1000)\n"), counting(1.0), listeners, limit=15.0)
    assert hung.status is Status.TIMEOUT and hung.reason.startswith("passed its hard limit of 15 s")
    assert trained.status is None
    assert 15.0 <= ended["one"] < 30.0  # its own seconds: the other side's do not count


def test_a_callback_that_raises_ends_both_sides_and_leaves_no_process(duel: Duel) -> None:
    runners: list[int] = []

    def stop(seconds: float) -> None:
        if len(runners) == 2 and seconds > 2.0:
            raise KeyboardInterrupt

    listeners = (Listener(on_spawn=runners.append, on_tick=stop), Listener(on_spawn=runners.append))
    with pytest.raises(KeyboardInterrupt):
        duel(counting(20.0), counting(20.0), listeners)
    assert len(runners) == 2 and all(not descendants(pid) for pid in runners)


# --- code that wants to gain by a duel

# Timers of the system that continue the process although all of it is stopped.
CONTINUED = """
# %%
import ctypes, signal
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("how", ctypes.c_int), ("pad", ctypes.c_int * 12)]
class Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]
signal.signal(signal.SIGCONT, lambda signum, frame: None)  # the system drops what has no handler
libc = ctypes.CDLL(None, use_errno=True)
for n in range(1, 1000):  # one shot each: a stop takes back the signal of a timer that repeats, and with it the timer
    timer = ctypes.c_void_p()
    assert libc.timer_create(1, ctypes.byref(Event(None, signal.SIGCONT, 0)), ctypes.byref(timer)) == 0
    assert libc.timer_settime(timer, 0, ctypes.byref(Spec(0, 0, n // 50, n % 50 * 20_000_000 + 1)), None) == 0
"""
# A child in a session of its own, which continues its parent whenever it can.
WOKEN = """
# %%
import os, signal
parent = os.getpid()
if os.fork() == 0:
    os.setsid()
    while True:
        os.kill(parent, signal.SIGCONT)
"""
TRIES = 3  # other work on this machine may spoil a measurement
NOTICED = """    gap = ran[-1] - (ran[-2] if steps > 1 else ran[-1])
    if gap > 0.2:
        seen = seen + 1 if steps > 2 and "seen" in globals() else 1
        end = time.process_time() + 0.2
        while time.process_time() < end: steps += 1
"""


def with_cell(cell: str, source: str) -> str:
    head, first, rest = source.partition("\n# %%\n")
    return head + cell + first + rest


def test_code_that_continues_itself_is_ended(duel: Duel) -> None:
    cheat, honest = duel(with_cell(CONTINUED, counting(4.0)), counting(4.0))
    assert cheat.status is Status.CRASH and "while it was stopped" in cheat.reason
    assert honest.status is None and 4.0 <= honest.measured["training_seconds"] < 4.4


def test_a_child_that_continues_its_parent_is_stopped_with_it(duel: Duel) -> None:
    for _ in range(TRIES):
        cheat, honest = duel(with_cell(WOKEN, counting(2.0)), counting(2.0))
        assert honest.status is None
        if cheat.status is not None or cheat.measured["worked_while_stopped_seconds"] < 0.3:
            return
    pytest.fail(f"it worked for {cheat.measured['worked_while_stopped_seconds']} s while it was stopped")


def test_work_after_a_stop_that_was_noticed_counts_as_its_own_time(duel: Duel) -> None:
    """The clock cannot be made to stand still by looking like a process that was stopped."""
    cheat, honest = duel(counting(2.0, NOTICED), counting(2.0))
    for outcome in (cheat, honest):
        assert outcome.status is None
        assert 2.0 <= outcome.measured["training_seconds"] < 4.0  # its last step may end late on a busy machine
