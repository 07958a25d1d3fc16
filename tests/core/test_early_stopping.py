from __future__ import annotations

import math
import random

import pytest

from autoresearch_kernel.core.early_stopping import CHECKPOINTS, LATE, caution, hopeless, projected_timeout
from autoresearch_kernel.source.diff import diff
from autoresearch_kernel.source.parameters import set_parameters

PARAMETERS = """\
# %% tags=["parameters"]
SEED = 42  # fixed
DEPTH = 2  # blocks, each with a loss of time; 1..12
MODEL_DIM = 128  # width; 64..512
MATRIX_LR = 0.015  # Muon; 0.002..0.2 log
WARMDOWN = 0.6  # the learning rate falls; 0.0..1.0
MUON_MOMENTUM = 0.95  # memory; 0.7..0.99
TOTAL_BATCH_SIZE = 2**10  # tokens; 2**9..2**20
SEQUENCE_LENGTH = 256  # tokens in a row; {128, 256}
# %%
"""


def curve(gap=lambda p: 0.0, *, points: int = 200, noise: float = 0.03, start: float = 7.6, seed: int = 0, end=1.0):
    """A descent from `start` to about 3.3, `gap(progress)` above it."""
    rng = random.Random(seed)
    made = []
    for i in range(1, points + 1):
        p = i / points
        if p > end:
            break
        loss = 3.0 + (start - 3.0) * math.exp(-9 * p) + 1.5 * (1 - p) * (1 - math.exp(-9 * p)) + 0.3
        loss += (gap(p) if i > 1 else 0.0) + (rng.gauss(0, noise) if i > 1 else 0.0)
        made.append({"step": 5 * i, "progress": round(p, 5), "seconds": 300 * p, "train_loss": loss, "num_tokens": i})
    return made


INCUMBENT = curve(seed=1)


def says(run, incumbent=INCUMBENT, caution: float | None = 1.0) -> list[float]:
    """Progress of each point at which the rule speaks, as a live run would ask it."""
    return [run[i]["progress"] for i in range(len(run)) if hopeless(run[: i + 1], incumbent, caution=caution)]


def test_a_wreck_is_called_at_thirty_percent():
    wreck = curve(lambda p: 2.0, seed=2)
    assert says(wreck)[0] == CHECKPOINTS[0]
    at = next(i for i, p in enumerate(wreck, 1) if p["progress"] >= 0.3)
    reason = hopeless(wreck[:at], INCUMBENT, caution=1.0)
    assert reason.startswith("at 30% of the budget its train_loss is ")
    assert "\n" not in reason


def test_a_run_that_falls_behind_later_is_called_at_half_time():
    assert says(curve(lambda p: 2.0 * max(0.0, p - 0.15), seed=2))[0] == pytest.approx(CHECKPOINTS[1])


def test_it_speaks_at_the_checkpoints_and_nowhere_else():
    spoken = says(curve(lambda p: 2.0, seed=2))
    assert spoken and all(any(c <= p < c + LATE for c in CHECKPOINTS) for p in spoken)


def test_what_may_still_win_is_left_alone():
    for seed in range(10):
        assert says(curve(seed=seed)) == []
        assert says(curve(lambda p: 0.15, seed=seed)) == []  # a tenth of what is still to come
        assert says(curve(lambda p: -0.5, seed=seed)) == []
        assert says(curve(noise=0.5, seed=seed), curve(noise=0.5, seed=seed + 100)) == []  # a very noisy loss


def test_a_gap_that_is_closing_is_hope():
    assert says(curve(lambda p: 4 * math.exp(-6 * p), seed=2)) == []


def test_caution_widens_the_margin_or_switches_it_off():
    behind = curve(lambda p: 0.7, seed=2)
    assert says(behind)
    assert says(behind, caution=2.0) == []
    assert says(curve(lambda p: 2.5, seed=2), caution=2.0)
    assert says(curve(lambda p: 50.0, seed=2), caution=None) == []


def test_the_answer_has_no_units():
    def in_bits(points):
        return [point | {"train_loss": point["train_loss"] / math.log(2)} for point in points]

    for height in (0.1, 0.5, 0.7, 0.9, 1.5):
        run = curve(lambda p, height=height: height, seed=2)
        assert says(run) == says(in_bits(run), in_bits(INCUMBENT))


def test_curves_of_different_resolution_are_compared_over_the_same_stretch():
    assert says(curve(points=60, seed=3)) == []
    assert says(curve(lambda p: 2.0, points=60, seed=3))


@pytest.mark.parametrize("what", ["few", "nan", "other loss", "backwards", "empty", "words"])
def test_a_curve_that_cannot_be_compared_is_left_alone(what):
    wreck = curve(lambda p: 2.0, seed=2)
    bad = {
        "few": wreck[:: len(wreck) // 20],
        "nan": [*wreck[:10], wreck[10] | {"train_loss": math.nan}, *wreck[11:]],
        "other loss": [point | {"train_loss": point["train_loss"] * 1.44} for point in wreck],
        "backwards": [*wreck[:10], wreck[5], *wreck[11:]],
        "empty": [],
        "words": [{"step": 1, "train_loss": "low"}, *wreck],
    }[what]
    assert says(wreck)
    assert says(bad) == []
    if what != "other loss":
        assert says(wreck, incumbent=bad) == []


def test_an_incumbent_that_was_not_finished_says_nothing():
    assert says(curve(lambda p: 2.0, seed=2), curve(seed=1, end=0.9)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"DEPTH": 3}, 1.0),
        ({"DEPTH": 3, "MODEL_DIM": 256}, 1.0),
        ({"MATRIX_LR": 0.03}, 2.0),
        ({"DEPTH": 3, "MUON_MOMENTUM": 0.9}, 2.0),
        ({"TOTAL_BATCH_SIZE": 2**11}, 2.0),
        ({"WARMDOWN": 0.8}, None),
        ({"SEQUENCE_LENGTH": 128}, None),
    ],
)
def test_caution_of_a_change_of_parameters(changes, expected):
    assert caution(diff(PARAMETERS, set_parameters(PARAMETERS, changes))) == expected


def test_caution_of_code_looks_at_the_lines_around_it():
    model = "class Block:\n    def forward(self, x):\n        return self.mlp(x)\n"
    assert caution(diff(model, model.replace("self.mlp(x)", "x + self.mlp(x)"))) == 1.0
    loss = "def loss_of(h):\n    scale = 1.0\n    return h * scale\n"
    assert caution(diff(loss, loss.replace("1.0", "0.5"))) is None
    update = "class Muon:\n    def go(self):\n        x = 1\n"
    assert caution(diff(update, update.replace("x = 1", "x = 2"))) == 2.0
    comment = "x = 1\n# the loss\n"
    assert caution(diff(comment, comment.replace("the loss", "a loss"))) == 1.0


def test_no_change_is_compared_and_what_is_no_diff_is_not():
    assert caution("") == 1.0
    assert caution("rewrote the optimizer") is None


def test_a_run_that_keeps_its_time_is_left_alone():
    limits = {"time_budget_seconds": 300, "hard_limit_seconds": 480}
    for point in range(0, 200, 10):
        points = curve()[:point]
        seconds = points[-1]["seconds"] if points else 0.0
        assert projected_timeout(points, seconds_since_start=seconds + 150, **limits) == ""


def test_training_that_began_too_late_is_called_before_it_ends():
    limits = {"time_budget_seconds": 300, "hard_limit_seconds": 480}
    reason = projected_timeout(curve()[:20], seconds_since_start=30 + 200, **limits)
    assert reason == ("training began after 200 s, so 300 s of it would end after 500 s, and its hard limit is 480 s")
    assert projected_timeout(curve()[:20], seconds_since_start=30 + 179, **limits) == ""


def test_a_run_that_keeps_its_own_time_is_left_alone():
    limits = {"time_budget_seconds": 300, "hard_limit_seconds": 480}
    steps = [point | {"seconds": 10 * point["seconds"]} for point in curve()[:20]]  # its steps are the budget
    assert projected_timeout(steps, seconds_since_start=305, **limits) == ""
    assert projected_timeout([], seconds_since_start=470, **limits) == ""  # it never reports


@pytest.mark.parametrize("point", [{"progress": 0.0, "seconds": 900}, {"progress": math.nan, "seconds": 1}, {}])
def test_a_point_without_sense_projects_nothing(point):
    assert projected_timeout([point], seconds_since_start=900, time_budget_seconds=300, hard_limit_seconds=480) == ""
