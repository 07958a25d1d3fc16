"""A steady clock counts seconds of normal speed, within its limits, from measures that a test makes up."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoresearch_kernel.system import machine_speed, steady_clock
from autoresearch_kernel.system.machine_speed import Used, usable_cores
from autoresearch_kernel.system.steady_clock import LAYOUT, LEAST_RATE, MOST_RATE, SteadyClock

NORMAL = 50.0
CORES = usable_cores() if sys.platform == "linux" else 2.0


class Machine:
    """Measures of a machine whose clock a test sets: what share each second went to the training, or stayed idle."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.used = Used(self.at, 0.0, 0.0, 0.0)
        self.speed = NORMAL

    def go_on(
        self, seconds: float, *, own: float, idle: float = 0.0, hidden: float = 0.0, withheld: float = 0.0
    ) -> None:
        """Let time pass; shares of all processors, and visible others use the rest."""
        u, all_seconds = self.used, CORES * seconds
        self.at += seconds
        self.used = Used(
            self.at,
            others=u.others + (1 - own - idle - hidden - withheld) * all_seconds,
            wanted=u.wanted + (1 - idle) * all_seconds,
            withheld=u.withheld + withheld * all_seconds,
            whole=u.whole + all_seconds,
            own=u.own + own * all_seconds,
            idle=u.idle + idle * all_seconds,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(tmp_path: Path, machine: Machine) -> SteadyClock:
    (tmp_path / "clock").touch()
    return SteadyClock(1, tmp_path / "clock", NORMAL, used=lambda: machine.used, speed=lambda: machine.speed)


def count(clock: SteadyClock, machine: Machine, seconds: float, **shares: float) -> steady_clock.Count:
    """The count of so many seconds, measured twice a second."""
    begin = machine.at
    for _ in range(round(2 * seconds)):
        machine.go_on(0.5, **shares)
        clock.next_at = 0.0
        clock.tick()
    return clock.between(begin, machine.at)


def test_a_training_alone_counts_as_the_wall_clock_does(clock: SteadyClock, machine: Machine) -> None:
    for shares in ({"own": 1.0}, {"own": 0.5, "idle": 0.5}):
        found = count(clock, machine, 10, **shares)
        assert found.seconds == pytest.approx(10, rel=0.01) and found.speed == pytest.approx(1, rel=0.01)


def test_what_others_use_does_not_count(clock: SteadyClock, machine: Machine) -> None:
    found = count(clock, machine, 10, own=0.8)
    assert found.seconds == pytest.approx(8, rel=0.01) and found.speed == pytest.approx(1, rel=0.01)


def test_what_the_host_withholds_does_not_count(clock: SteadyClock, machine: Machine) -> None:
    found = count(clock, machine, 10, own=0.8, withheld=0.2)
    assert found.seconds == pytest.approx(8, rel=0.01) and found.speed == pytest.approx(1, rel=0.01)


def test_processors_that_wait_for_a_withheld_one_count_less(clock: SteadyClock, machine: Machine) -> None:
    """Of the time in which processors were wanted 7/8 was given, and 9/10 of all time."""
    found = count(clock, machine, 10, own=0.7, idle=0.2, withheld=0.1)
    assert found.seconds == pytest.approx(10 * (7 / 8) ** 2 / 0.9, rel=0.01)
    assert found.speed == pytest.approx(1, rel=0.01)


def test_a_host_that_withholds_nearly_all_leaves_the_least(clock: SteadyClock, machine: Machine) -> None:
    found = count(clock, machine, 10, own=0.05, withheld=0.95)
    assert found.seconds == pytest.approx(10 * LEAST_RATE) and found.speed < 0.2


def test_a_slower_processor_counts_less(clock: SteadyClock, machine: Machine) -> None:
    machine.speed = 0.9 * NORMAL
    count(clock, machine, 10, own=1.0)
    found = count(clock, machine, 10, own=1.0)
    assert found.seconds == pytest.approx(9, rel=0.01) and found.machine == pytest.approx(0.9 * NORMAL, rel=0.01)


def test_beyond_the_limits_the_speed_says_what_was_not_counted(clock: SteadyClock, machine: Machine) -> None:
    slow = count(clock, machine, 10, own=0.4)
    assert slow.seconds == pytest.approx(10 * LEAST_RATE) and slow.speed == pytest.approx(0.4 / LEAST_RATE, rel=0.02)
    machine.speed = 2 * NORMAL
    count(clock, machine, 10, own=1.0)
    fast = count(clock, machine, 10, own=1.0)
    assert fast.seconds == pytest.approx(10 * MOST_RATE) and fast.speed == pytest.approx(2 / MOST_RATE, rel=0.02)


def test_time_that_hidden_processes_took_makes_the_machine_look_fast(clock: SteadyClock, machine: Machine) -> None:
    found = count(clock, machine, 10, own=0.7, hidden=0.3)
    assert found.seconds == pytest.approx(7, rel=0.01) and found.speed == pytest.approx(1 / 0.7, rel=0.01)


def test_the_first_run_counts_by_the_wall_clock_and_measures_the_machine(tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "clock").touch()
    first = SteadyClock(1, tmp_path / "clock", None, used=lambda: machine.used, speed=lambda: machine.speed)
    found = count(first, machine, 10, own=0.6, idle=0.2)
    assert found.seconds == pytest.approx(10) and found.speed == pytest.approx(1, rel=0.01)
    assert found.machine == pytest.approx(0.8 * NORMAL, rel=0.01)
    assert (tmp_path / "clock").read_bytes() == b""
    assert count(first, machine, 10, own=0.5, hidden=0.5).speed == pytest.approx(2, rel=0.01)


def test_the_file_has_the_last_count_and_its_rate_twice(clock: SteadyClock, machine: Machine) -> None:
    count(clock, machine, 2, own=0.75)
    numbers = LAYOUT.unpack(clock.file.read_bytes())
    assert numbers[:3] == numbers[3:]
    assert numbers[0] == pytest.approx(machine.at, abs=1.5) and numbers[1:3] == pytest.approx((1.5, 0.75), abs=0.4)


def test_the_speed_as_felt_is_that_of_products_and_sums() -> None:
    speeds = [steady_clock.speed_as_felt() for _ in range(5)]
    products = [machine_speed.processor_speed() for _ in range(5)]
    assert 0.05 < max(speeds) / max(products) < 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_speed, "processor_speed", lambda: 4 * max(products))
        assert max(steady_clock.speed_as_felt() for _ in range(5)) > 1.4 * max(speeds) * 0.9


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_are_paused_for_a_measurement_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        with steady_clock._paused([2**22 + 1], lambda: [busy.pid]):
            state = Path(f"/proc/{busy.pid}/stat").read_text().rpartition(")")[2].split()[0]
            for _ in range(50):
                if state == "T":
                    break
                time.sleep(0.02)
                state = Path(f"/proc/{busy.pid}/stat").read_text().rpartition(")")[2].split()[0]
            assert state == "T"
        state = Path(f"/proc/{busy.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state in "RS"
        busy.send_signal(signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the processor time of a thread is read on Linux alone")
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_training_that_goes_on_during_a_measurement_gains_nothing_by_it(tmp_path: Path, goes_on: bool) -> None:
    """Beside it a processor seems slow, so the fastest of the last measurements counts in its place."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.3)

    def speed() -> float:
        if goes_on:
            child.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        return NORMAL / 2

    (tmp_path / "clock").touch()
    used = Used(time.monotonic(), 0.0, 0.0, 0.0, below=(child.pid,))
    clock = SteadyClock(1, tmp_path / "clock", NORMAL, used=lambda: used, speed=lambda: NORMAL)
    clock.speed = speed
    try:
        clock.next_at = 0.0
        clock.tick()
    finally:
        child.kill()
        child.wait()
    assert clock.speeds[-1] == (NORMAL if goes_on else NORMAL / 2)
