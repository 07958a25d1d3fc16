"""The words around an experiment, and what the verdict says of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from autoresearch_kernel.record.experiment import Cause, Experiment, Run, Status
from autoresearch_kernel.show.report import count, duration, number, sparkline, verdict

FACTS: dict[str, Any] = {
    "time_budget_seconds": 60.0,
    "hardware": {"device_name": "2 cores"},
    "scoring": {"dtype": "float32", "device": "cpu"},
    "corpus": {"corpus": "stdlib", "content_sha256": "c" * 64, "vocab_size": 512, "sequence_length": 64},
}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (Run(0, 1, val_bpb=1.5), None),
        (Run(0, 1, val_bpb=1.5, measured={"relative_speed": 0.95}), None),
        (Run(0, 1, val_bpb=1.5, measured={"relative_speed": 0.62}), "0.62 × as fast as the incumbent's runs"),
        (
            Run(0, 1, val_bpb=1.5, interruptions=("the machine slept for 2 h 3 min while it trained",)),
            "an earlier training did not count: the machine slept for 2 h 3 min while it trained",
        ),
        (
            Run(
                0,
                1,
                val_bpb=1.5,
                causes=(Cause.SLOW,),
                interruptions=("it ran at 41 %",),
                measured={"relative_speed": 0.5},
            ),
            "an earlier training did not count: it ran at 41 % · 0.50 × as fast as the incumbent's runs",
        ),
    ],
)
def test_the_verdict_tells_what_the_machine_did_to_a_run(run: Run, said: str | None) -> None:
    experiment = Experiment(1, "An idea.", "search", 0, runs=(run,), status=Status.DISCARD, val_bpb=1.5)
    text = verdict(experiment, run, FACTS)
    row = next((line for line in text.splitlines() if line.startswith("| machine ")), None)
    assert row is None if said is None else row is not None and said in row


def test_small_words() -> None:
    seconds = (0, 41.4, 80, 121, 3540, 3599, 11520, 3600 * 51)
    assert [duration(s) for s in seconds] == [
        "0 s", "41 s", "80 s", "2 min", "59 min", "1 h 0 min", "3 h 12 min", "2 d 3 h",
    ]  # fmt: skip
    assert [count(1, "process"), count(2, "process"), count(2, "run")] == ["1 process", "2 processes", "2 runs"]
    assert [number(v) for v in (1, 2.5, "3", None, True, float("nan"), 10**400)] == [1.0, 2.5, *[None] * 5]
    assert sparkline([3.0, 1.0, 2.0]) == "█▁▅" and sparkline([9.0, 1.0], 40, 0.0, 2.0) == "█▅"
