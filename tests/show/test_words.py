"""The words around an experiment, and what the verdict says of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from autoresearch_kernel.core.format import count, duration, number
from autoresearch_kernel.core.types import Audit, Cause, Experiment, Objection, Run, Status
from autoresearch_kernel.show.study_words import correction_words, unclear_words
from autoresearch_kernel.show.words import audits_words, given_back_words, outcome_line, sparkline, verdict

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


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("The reply was empty. Write the answer as text.", "The reply was empty"),
        ("Line 3, 'x = 1. # So. It is', ends. Send the whole reply again.", "Line 3, 'x = 1. # So. It is', ends"),
        ("Line 3, \"it's 2. No\", isn't `a. B`. Send it.", "Line 3, \"it's 2. No\", isn't `a. B`"),
        ("It holds an open ' quote. Send it again.", "It holds an open ' quote"),
        ("The block fits twice:\n\nWIDTH = 48", "The block fits twice"),
        ("", "no reason given"),
    ],
)
def test_what_is_given_back_is_said_without_the_letter_to_the_model(why: str, said: str) -> None:
    assert given_back_words(Objection.UNUSABLE, why) == f"Given back (unusable): {said}"


def test_small_words() -> None:
    seconds = (0, 41.4, 80, 121, 3540, 3599, 11520, 3600 * 51)
    assert [duration(s) for s in seconds] == [
        "0 s", "41 s", "80 s", "2 min", "59 min", "1 h 0 min", "3 h 12 min", "2 d 3 h",
    ]  # fmt: skip
    assert [count(1, "process"), count(2, "process"), count(2, "run")] == ["1 process", "2 processes", "2 runs"]
    assert [number(v) for v in (1, 2.5, "3", None, True, float("nan"), 10**400)] == [1.0, 2.5, *[None] * 5]
    assert sparkline([3.0, 1.0, 2.0]) == "█▁▅" and sparkline([9.0, 1.0], 40, 0.0, 2.0) == "█▅"


def test_the_line_of_an_experiment_cannot_steer_a_terminal() -> None:
    line = outcome_line(Experiment(1, "Try", "a", None, status=Status.CRASH, reason="Odd\x1b[2J\x07: b\nad"))
    assert line.isprintable() and line.endswith("[Odd: b ad]")


def test_audits_are_told_run_by_run_and_a_correction_in_one_clause() -> None:
    fine = Run(0, 1, val_bpb=1.4, claimed_bpb=1.4, audit=Audit(True, 0.0, 0.0, 256, 0, "", 1.0))
    mended = Run(1, 2, val_bpb=1.41, claimed_bpb=1.4, audit=Audit(True, 0.01, 0.0001, 256, 1, "", 1.0))
    alone, both = (Experiment(4, "An idea", "search", 0, runs=runs) for runs in ((fine,), (fine, mended)))
    assert audits_words(alone).startswith("accepted: 256 places say the same")
    assert "run 1 accepted: 256 places say the same" in audits_words(both)
    assert "run 2 accepted: claimed 1.4000, corrected by +0.01000 ± 0.00010" in audits_words(both)
    assert correction_words([alone]) == "" and both.correction_bpb == pytest.approx(0.005)
    assert correction_words([alone, both]) == "1 corrected by the audit, by +0.00500 bpb at most"


@pytest.mark.parametrize(
    ("difference", "error", "words"),
    [
        (-0.02, 0.01, ""),
        (-0.02, None, ""),
        (-0.019, 0.01, "no clear difference"),
        (0.019, 0.01, "no clear difference"),
        (0.02, 0.01, "worse than the baseline"),
    ],
)
def test_a_difference_that_is_no_clear_gain_is_called_so(difference: float, error: float | None, words: str) -> None:
    said = unclear_words(difference, error)
    assert words in said and bool(words) == bool(said)


def test_a_verdict_names_a_fixed_seed() -> None:
    words = "it seeds itself in line 9 (torch.manual_seed(137)), so its confirmations are not fresh: use SEED there"
    seeded = Experiment(1, "An idea.", "llm", 0, details={"seeds": words}, runs=(Run(0, 1, val_bpb=1.5),))
    assert f"| seeds | {words} |" in verdict(seeded, seeded.runs[0], FACTS)
