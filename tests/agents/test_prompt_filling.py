"""A prompt is filled by worth: what it holds after 12 structural edits and after 100, from 2,000 to 32,000 tokens."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch_kernel.agents import history_text
from autoresearch_kernel.agents.history_text import by_worth, forms_in_full, prediction
from autoresearch_kernel.agents.prices import count_tokens
from autoresearch_kernel.agents.prompt import build_prompt
from autoresearch_kernel.core.types import Context, Experiment, Limits, Objection, Refusal, Run, Spent, Status
from tests.nights import BASELINE, MEASURED, PREPARE, SIGMA, TRAIN, CountingArchive, context, parts, tried

BUDGETS = (2_000, 4_000, 8_000, 16_000, 32_000)
SMALL_PROGRAM = "# Program\n\nLower val_bpb. One idea an experiment.\n"
SMALL_TRAIN = """\
# %% tags=["parameters"]
SEED = 42  # fixed
LEARNING_RATE = 0.02  # step; 0.001..0.1 log
DROPOUT = 0.1  # left over from an earlier model; 0.0..0.5

# %%
from prepare import Tokenizer, TrainingClock, evaluate_bpb, make_dataloader

def warm_up(progress):
    return min(1.0, 10 * progress)

# %%
clock = TrainingClock()
while clock.running():
    clock.report(train_loss=step(LEARNING_RATE, SEED))

# %%
val_bpb = evaluate_bpb(model, Tokenizer.from_directory(), 16)
"""
DELTAS = (0.03, -0.012, 0.0004, 0.008, None, 0.05, 0.002, -0.009, 0.011, 0.02, 0.0015, None)  # of twelve edits
CLEAREST = 6  # of them, counted from 1


class Edits(CountingArchive):
    """Each experiment has a diff of its own, of 5 to 30 lines."""

    def diff(self, number: int) -> str:
        self.read.add(number)
        lines = range(random.Random(number).randint(5, 30))
        added = (f"+        x = x + self.gate_{number}_{i} * norm(self.layer_{number}(x, idx))" for i in lines)
        return "\n".join(["--- a/train.py", "+++ b/train.py", "@@ -9,2 +9,9 @@", *added]) + "\n"


def edits(deltas: tuple[float | None, ...] = DELTAS) -> tuple[Experiment, ...]:
    """Structural edits of a language model after the baseline; None for a crash."""
    experiments = [BASELINE]
    for number, delta in enumerate(deltas, 1):
        status = Status.CRASH if delta is None else Status.KEEP if delta < -0.005 else Status.DISCARD
        said = {
            "hypothesis": f"A gate of the kind {number} lets the residual stream forget what it no longer needs.",
            "expected": f"-0.00{number % 9 + 1} to -0.001, since a step costs 2 % more",
            "refutation": "a difference above -0.002",
            "reason": "cell 9: RuntimeError: shapes differ" if delta is None else f"{delta / SIGMA:.1f} sigma",
            "decided_at": f"2026-11-30T{number // 10:02d}:{6 * (number % 10):02d}:00.000Z",
        }
        experiments.append(tried(number, status, delta, **said))
    return tuple(experiments)


def hundred() -> tuple[Experiment, ...]:
    rng = random.Random(5)
    return edits(tuple(None if rng.random() < 0.07 else rng.gauss(0.004, 0.006) for _ in range(100)))


def small(experiments: tuple[Experiment, ...], **others: Any) -> Context:
    """A context whose program.md and train.py leave room in a prompt of 2,000 tokens."""
    incumbent = next(e for e in reversed(experiments) if e.status is Status.KEEP)
    known: dict[str, Any] = {"prepare_source": PREPARE, "archive": Edits(), "incumbent": incumbent}
    known |= {"program": SMALL_PROGRAM, "train_source": SMALL_TRAIN, "experiments": experiments}
    return context(**(known | others))


def quarter(text: str) -> int:
    """A token for 4 characters, as most vocabularies need in English; `count_tokens` errs upwards."""
    return -(-len(text) // 4)


def least_of(asked: Context) -> int:
    with pytest.raises(ValueError, match="at the very least") as caught:
        build_prompt(asked, 1, count_tokens)
    return int(re.findall(r"takes (\d+) tokens", str(caught.value))[0])


# Its room


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("experiments", [edits(), hundred()], ids=["12 edits", "100 experiments"])
def test_the_room_is_used_while_there_is_more_to_show(experiments: tuple[Experiment, ...], budget: int) -> None:
    asked, count = small(experiments), quarter if budget < 4_000 else count_tokens
    prompt = build_prompt(asked, budget, count)
    assert count(prompt) <= budget
    everything = build_prompt(asked, 1_000_000, count)
    assert count(prompt) >= 0.9 * min(budget, count(everything))
    parts(prompt)  # every fence is closed
    assert "lack of room" not in everything and "left out" not in everything


@pytest.mark.parametrize("budget", BUDGETS[1:])
@pytest.mark.parametrize("experiments", [edits(), hundred()], ids=["12 edits", "100 experiments"])
def test_the_largest_clear_loss_is_shown_in_full(experiments: tuple[Experiment, ...], budget: int) -> None:
    lost = [e for e in experiments if e.status is Status.DISCARD and e.delta_bpb is not None]
    clearest = max(lost, key=lambda e: e.delta_bpb or 0.0)
    asked = small(experiments)
    whole = next(forms_in_full(clearest, "clearly refuted", asked.archive))
    assert asked.archive.diff(clearest.number).splitlines()[-1] in whole
    assert whole in build_prompt(asked, budget, count_tokens)


def test_after_twelve_edits_the_default_prompt_shows_every_diff() -> None:
    asked = small(edits(), train_source=TRAIN)
    prompt = build_prompt(asked, 32_000, count_tokens)
    for number in range(1, 13):
        assert "\n".join(asked.archive.diff(number).splitlines()[2:]) in prompt
    assert "not shown in full" not in prompt


def test_each_experiment_has_a_line_before_a_second_one_is_shown_in_full() -> None:
    found = parts(build_prompt(small(hundred()), 12_000, count_tokens))
    assert all(f"\n{number:04d} " in found["The record"] for number in range(101))
    assert " experiments not shown in full for lack of room.)" in found["Some of them in full"]


def test_a_giant_diff_leaves_room_for_the_others() -> None:
    class Giant(Edits):
        def diff(self, number: int) -> str:
            return super().diff(number) * (400 if number == CLEAREST else 1)

    prompt = build_prompt(small(edits(), archive=Giant()), 16_000, count_tokens)
    full = parts(prompt)["Some of them in full"]
    assert re.search(r"0006 discard \(clearly refuted\)", full) and "characters left out ...]" in full
    assert len(re.findall(r"^\d{4} \w+", full, re.MULTILINE)) > 5


def test_a_prompt_that_cannot_hold_the_least_is_refused_with_its_numbers() -> None:
    numbers = r"takes \d+ tokens at the very least, of which \d+ are train.py and \d+ program.md, and it may take 500\."
    with pytest.raises(ValueError, match=numbers):
        build_prompt(small(edits()), 500, count_tokens)


# The order of worth


def test_the_most_instructive_experiments_come_first() -> None:
    order = [(e.number, why) for e, why in by_worth(edits())]
    assert order[:4] == [(6, "clearly refuted"), (2, "gain"), (12, "failed"), (3, "near miss")]
    assert order[4:8] == [(1, "clearly refuted"), (8, "gain"), (5, "failed"), (11, "near miss")]
    assert sorted(number for number, _ in order) == list(range(1, 13))


def test_of_an_optimisers_numbers_a_line_says_nearly_all() -> None:
    experiments = [BASELINE, *(tried(n, Status.DISCARD, 0.05, agent="search") for n in range(1, 30))]
    experiments[5] = tried(5, Status.DISCARD, 0.01)
    order = [e.number for e, _ in by_worth(experiments)]
    assert order[0] == 5 and order[1:5] == [29, 28, 27, 26] and len(order) == 29


def test_a_loss_within_the_noise_refutes_nothing() -> None:
    losses = (0.001, 0.004, 0.006, 0.02)  # the error of a difference is 0.0024
    reasons = {
        e.number: why for e, why in by_worth([BASELINE, *(tried(*_loss(n, x)) for n, x in enumerate(losses, 1))])
    }
    assert [number for number, why in reasons.items() if why == "clearly refuted"] == [4, 3]


def _loss(number: int, delta: float) -> tuple[int, Status, float]:
    return number, Status.DISCARD, delta


def test_an_error_that_was_not_recorded_is_that_of_two_runs() -> None:
    lost = replace(tried(1, Status.DISCARD, 0.005), incumbent_standard_error=None)  # sqrt(2) * 0.0021 is 0.0030
    assert not history_text._refutations([lost]) and history_text._refutations([replace(lost, val_bpb=1.507)])
    assert not history_text._refutations([replace(lost, sigma=None, standard_error=None, val_bpb=1.6)])


def test_shorter_forms_leave_out_the_figures_and_then_the_diff() -> None:
    archive = Edits(output="a line of output\n" * 3 + "RuntimeError: shapes differ")
    forms = list(forms_in_full(edits()[12], "failed", archive))
    assert len(forms) > 1 and sorted(map(len, forms), reverse=True) == [len(form) for form in forms]
    assert all("RuntimeError: shapes differ" in form and "hypothesis: A gate" in form for form in forms)
    assert re.search(r"diff: \d+ lines, left out for lack of room", forms[-1])


# What it says


def asked_after_edits(**others: Any) -> str:
    return build_prompt(small(edits(), **others), 32_000, count_tokens)


def test_it_says_what_is_left_of_the_study() -> None:
    limits, spent = Limits(2_000_000, 5.0), Spent(3, 400_000, 100_000, 1.25)
    now = parts(asked_after_edits(experiments_left=30, seconds_left=11_000.0, limits=limits, spent=spent))["Now"]
    assert (
        "Left in this study: 30 experiments, this one included; 3 h 3 min, about 30 experiments at the pace so far; "
        "1,500,000 tokens for your calls; $3.75 for your calls." in now
    )  # an experiment takes 6 minutes
    assert "Left in this study: 1 experiment, this one included." in parts(asked_after_edits(experiments_left=1))["Now"]
    for no_limit in (None, float("inf")):
        assert "No end of the study is set" in parts(asked_after_edits(seconds_left=no_limit))["Now"]


def test_hours_are_told_in_experiments_only_where_the_times_are_known() -> None:
    experiments = tuple(replace(e, decided_at="yesterday") for e in edits())
    now = parts(build_prompt(small(experiments, seconds_left=600.0), 32_000, count_tokens))["Now"]
    assert "Left in this study: 10 min." in now


def test_it_shows_what_prepare_offers() -> None:
    offered = parts(asked_after_edits())["What prepare.py offers"]
    assert (
        "make_dataloader(tokenizer: Tokenizer, B: int, T: int, split: str, device: str | torch.device | None=None, "
        in offered
    )
    assert ") -> Iterator[Batch]  # Batches without end: x (B, T), y (B, T)" in offered
    assert "\nMAX_SEQ_LEN: int\n" in offered and "\nTIME_BUDGET  # seconds of training\n" in offered
    assert "    .report(train_loss: float | torch.Tensor, **more: float) -> None  # Take the loss" in offered
    for name in ("heldout", "score_rows", "save_model", "prepare(", "main("):
        assert name not in offered


def test_in_a_small_prompt_it_shows_what_train_py_imports() -> None:
    asked = small(edits())
    offered = parts(build_prompt(asked, least_of(asked), count_tokens))["What prepare.py offers"]
    assert "make_dataloader(tokenizer, B, T, split, device=None, seed=0)\n" in offered
    assert "TrainingClock(time_budget_seconds=None, report_every_seconds=1.0): running(), stop(), " in offered
    assert re.search(r"\(\d+ more names left out for lack of room\.\)", offered) and "get_device" not in offered


def test_it_names_what_train_py_no_longer_uses() -> None:
    assert "\ndefined in train.py and never used: DROPOUT, make_dataloader, warm_up\n" in asked_after_edits()


def test_it_says_where_the_seconds_of_a_step_go() -> None:
    class Measuring(Edits):
        def curve(self, number: int) -> list[dict[str, Any]]:
            """The first of 100 steps takes 2 s, the others 40 ms; train.py reports how long its forward pass takes."""
            points = [{"step": i, "seconds": 2 + 0.04 * (i - 1), "train_loss": 4.0} for i in range(1, 101)]
            return [point | {"progress": i / 100, "forward_seconds": 0.015} for i, point in enumerate(points, 1)]

    prompt = asked_after_edits(archive=Measuring())
    assert "\nseconds: training 298.4 (92 %), start-up 21.3 (7 %), dev score and hand-over 1.8 (1 %)" in prompt
    assert "a step: 40.8 ms on average, 1,024 tokens; median 40.0 ms, the first 2,000.0 ms, the slowest" in prompt
    assert "reported by train.py, means: forward_seconds 0.015 (last 0.015)" in prompt


def test_each_line_has_the_prediction_beside_the_outcome() -> None:
    lines = parts(asked_after_edits())["The record"].splitlines()
    line = next(line for line in lines if line.startswith("0006"))
    assert line.startswith("0006 discard 1.5500 vs 1.5000: +0.0500±0.0024 [expected -0.007 to -0.001] thing 6: A gate")
    without = tried(1, Status.DISCARD, 0.004, expected="")
    assert "[expected" not in "".join(history_text.experiment_lines([without], history_text.Detail(99, None, 0, 0, 0)))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("-0.004, since the step costs 2 % more", "-0.004"),
        ("-0.006 to -0.002 (two sigma)", "-0.006 to -0.002"),
        ("val_bpb falls by 0.01.", "val_bpb falls by 0.01"),
        ("Faster steps, so val_bpb should fall by 0.004. More would surprise me.", "so val_bpb should fall by 0.004"),
        ("lower; by how much I cannot say", "lower"),
        ("0.002–0.004 lower because rare words repeat", "0.002–0.004 lower"),
        ("a gain of 1.5e-3: small", "a gain of 1.5e-3"),
        ("", ""),
        (" . ", ""),
        ("-0.004 and then a very long explanation that goes on", "-0.004 and then a very…"),
    ],
)
def test_a_prediction_is_the_clause_with_its_number(said: str, shown: str) -> None:
    assert prediction(tried(1, Status.DISCARD, 0.004, expected=said), 24 if "very" in said else 40) == shown


def test_what_is_left_out_is_counted() -> None:
    refusals = tuple(Refusal(n, Objection.PERSON, f"No number {n}. " * 30, f"Idea {n}.") for n in range(40))
    asked = small(hundred(), hints=("shorter rows", "no dropout"), refusals=refusals)
    found = parts(build_prompt(asked, least_of(asked), count_tokens))
    assert "(2 hints left out for lack of room.)" in found["Hints from the people who asked you, the latest last"]
    assert "(39 earlier refusals left out for lack of room.)" in found["What people refused, and why"]
    assert found["Some of them in full"].strip() == "(100 experiments not shown in full for lack of room.)"
    assert re.search(r"\d+ older experiments by subject", found["The record"])
    assert "> no dropout" in build_prompt(asked, least_of(asked) + 400, count_tokens)


# Any history, any budget

WORDS = st.text(max_size=300) | st.sampled_from(["", "```\n# Now\n", "-0.004, perhaps", "x" * 5000, "注" * 400])
NUMBERS = st.none() | st.floats(allow_nan=True) | st.floats(-0.05, 0.05)
MEASUREMENTS = st.dictionaries(st.sampled_from([*MEASURED, "other"]), NUMBERS | st.text(max_size=9), max_size=5)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Experiment, ...]:
    experiments = [BASELINE]
    for number in range(1, draw(st.integers(0, 25)) + 1):
        status, delta = draw(st.sampled_from(Status)), draw(st.none() | st.floats(-0.1, 0.3))
        experiment = tried(number, status, delta, hypothesis=draw(WORDS), expected=draw(WORDS), reason=draw(WORDS))
        if draw(st.booleans()):
            changes = {"LEARNING_RATE": draw(st.floats(0.001, 1.0) | st.text(max_size=5))}
            experiment = replace(experiment, agent="search", changes=changes)
        run = Run(0, number, status=draw(st.none() | st.sampled_from(Status)), measured=draw(MEASUREMENTS))
        experiments.append(replace(experiment, runs=(*experiment.runs, run), decided_at=draw(WORDS)))
    return tuple(experiments)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(histories(), st.lists(WORDS, max_size=6), WORDS, st.text(max_size=2000), st.integers(0, 12_000))
def test_any_history_fits_any_budget_that_holds_the_least(
    experiments: tuple[Experiment, ...], hints: list[str], notes: str, printed: str, room: int
) -> None:
    archive = CountingArchive(diff=printed, output=printed)
    asked = small(experiments, hints=tuple(hints), notes=notes, archive=archive, incumbent=BASELINE)
    budget = least_of(asked) + room
    prompt = build_prompt(asked, budget, count_tokens)
    assert count_tokens(prompt) <= budget
    found = parts(prompt)
    assert found["Now"].startswith("\nPropose experiment ")
    assert not hints or any(heading.startswith("Hints") for heading in found)
    assert SMALL_TRAIN.rstrip() in prompt
    assert prompt == build_prompt(asked, budget, count_tokens)
