"""The budget of a real training in its sandbox, counted by the supervisor's steady clock."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.system.steady_clock import LEAST_RATE, MOST_RATE
from tests.run.test_machine_speed import HANDOVER, INFLUENCES, NORMAL, START, TRIES, USUAL
from tests.trainings import train

ROOT = Path(__file__).resolve().parents[2]
BUDGET = 2.0

# Trains for the budget and then says what it read; it also tries to write the count.
READS = f"""
from prepare import TrainingClock
clock = TrainingClock(time_budget_seconds={BUDGET})
while clock.running():
    sum(range(10_000))
facts = {{"training_seconds": clock.elapsed, "counted_seconds": clock.counted_seconds, "budget_speed": 9.0}}
try:
    open(os.environ["AUTORESEARCH_CLOCK"], "r+b").close()
    facts["could_write"] = 1
except OSError:
    facts["could_write"] = 0
"""

pytestmark = [
    pytest.mark.real_load,
    pytest.mark.skipif(sys.platform != "linux", reason="the machine's speed is measured on Linux alone"),
]


def measured(work: str, folder: Path, normal: float | None, handover: str = HANDOVER) -> dict[str, Any]:
    """The facts of a training that does the given work, its budget counted by a steady clock."""
    settings = {"clock": "steady", "normal_speed": normal}
    outcome = train(START + work + handover, ExperimentPaths(folder / "0001"), folder, ROOT, **settings)
    assert outcome.status is None, outcome.reason
    return outcome.measured


def test_a_training_reads_the_count_and_cannot_write_it(tmp_path: Path) -> None:
    own = HANDOVER.replace(next(line for line in HANDOVER.splitlines() if line.startswith("facts")), "")
    first = measured(READS.replace('os.environ["AUTORESEARCH_CLOCK"]', '"/nowhere"'), tmp_path, None, own)
    assert first["counted_seconds"] == first["training_seconds"] == pytest.approx(BUDGET, abs=0.2)
    assert first["cells_counted_seconds"] == pytest.approx(first["cells_seconds"], abs=0.01)
    facts = measured(READS, tmp_path, first["clock_speed"], own)
    assert facts["could_write"] == 0
    assert facts["counted_seconds"] == pytest.approx(BUDGET, abs=0.2)
    assert BUDGET / MOST_RATE <= facts["training_seconds"] <= BUDGET / LEAST_RATE + 0.2
    least, most = LEAST_RATE * facts["cells_seconds"] - 0.1, MOST_RATE * facts["cells_seconds"] + 0.1
    assert least <= facts["cells_counted_seconds"] <= most
    assert facts["budget_speed"] != 9.0, "the training's own word for it is not believed"


def test_hidden_processes_gain_no_time_that_the_rule_does_not_take_off(tmp_path: Path) -> None:
    """Where their work slows the count, the machine looks as much faster, so that the product stays as usual."""
    for _ in range(TRIES):
        normal = measured(USUAL, tmp_path, None)["clock_speed"]
        usual = measured(USUAL, tmp_path, normal)
        hidden = measured(INFLUENCES["works in children whose time nobody counts"], tmp_path, normal)
        before, after = (m["cells_counted_seconds"] / m["cells_seconds"] for m in (usual, hidden))
        if after * hidden["budget_speed"] > NORMAL * before * usual["budget_speed"]:
            return
    pytest.fail(f"count {before:.2f} and speed {usual['budget_speed']} became {after:.2f} and {hidden['budget_speed']}")


def test_children_that_read_memory_do_not_slow_the_measure_down(tmp_path: Path) -> None:
    """Each lives for a moment, so that none is known when the others are stopped for the measurement."""
    work = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
block = bytes(2**24)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    if os.fork() == 0:
        until = time.monotonic() + 0.03
        while time.monotonic() < until:
            block.count(b"x")
        os._exit(0)
    time.sleep(0.02)
"""
    for _ in range(TRIES):
        normal = measured(USUAL, tmp_path, None)["clock_speed"]
        usual, found = measured(USUAL, tmp_path, normal), measured(work, tmp_path, normal)
        before, after = (m["cells_counted_seconds"] / m["cells_seconds"] * m["budget_speed"] for m in (usual, found))
        if after > NORMAL * before:
            return
    pytest.fail(f"the machine seems to have {after:.2f} of its speed instead of {before:.2f}")
