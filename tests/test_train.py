"""train.py: it trains, its hand-written derivatives are right, and any setting of one parameter runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from autoresearch_kernel.scoring.job import Wrap
from autoresearch_kernel.source.parameters import Parameter, read_parameters, set_parameters
from tests.formats import FORMATS, tolerance

PROJECT = Path(__file__).parents[1]
SOURCE = (PROJECT / "train.py").read_text()
SMALL = {"DEPTH": 2, "MODEL_DIM": 64, "DEVICE_BATCH_SIZE": 16, "TOTAL_BATCH_SIZE": 1024, "SEQUENCE_LENGTH": 64}


@dataclass(frozen=True)
class Place:
    """Where a train.py runs, on which corpus, and how it starts."""

    folder: Path
    corpus: Path
    wrap: Wrap

    def below(self, name: str) -> Place:
        (self.folder / name).mkdir()
        return replace(self, folder=self.folder / name)


@pytest.fixture
def place(tmp_path: Path, small_corpus: Path, with_torch: Wrap) -> Place:
    return Place(tmp_path, small_corpus, with_torch)


def run(source: str, place: Place, steps: int, **env: str) -> subprocess.CompletedProcess[str]:
    """`python train.py` of `source`, by hand unless AUTORESEARCH_HANDOVER is given."""
    folder, corpus = place.folder, place.corpus
    (folder / "train.py").write_text(source)
    settings = {"AUTORESEARCH_CORPUS": str(corpus), "AUTORESEARCH_HOME": str(corpus.parents[1])}
    settings |= {"PYTHONPATH": str(PROJECT)}
    settings |= {"AUTORESEARCH_MAX_STEPS": str(steps), "AUTORESEARCH_DEVICE": "cpu", "GOMP_SPINCOUNT": "1000"}
    settings |= {"AUTORESEARCH_PRESET": "none"}
    command = place.wrap([sys.executable, "train.py"], folder)
    return subprocess.run(command, cwd=folder, env=os.environ | settings | env, capture_output=True, text=True)


def handed_over(source: str, place: Place, steps: int) -> dict[str, Any]:
    handover = place.folder / "handover"
    handover.mkdir(exist_ok=True)
    done = run(source, place, steps, AUTORESEARCH_HANDOVER=str(handover))
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads((handover / "handover.json").read_text())
    return result


def all_handed_over(sources: list[str], place: Place, steps: int) -> list[dict[str, Any]]:
    """Two at a time: their budget is in steps."""
    places = [place.below(f"{n}") for n in range(len(sources))]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda source, each: handed_over(source, each, steps), sources, places))


@pytest.fixture(scope="module", params=FORMATS)
def cells(request: pytest.FixtureRequest, small_corpus: Path) -> Iterator[dict[str, Any]]:
    """The names that train.py defines before its clock starts, on a small corpus, with a small model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_DTYPE", request.param)
        patch.setenv("AUTORESEARCH_CORPUS", str(small_corpus))
        patch.setenv("AUTORESEARCH_DEVICE", "cpu")
        patch.setenv("AUTORESEARCH_PRESET", "none")
        patch.syspath_prepend(str(PROJECT))
        source = set_parameters(SOURCE, SMALL)
        names: dict[str, Any] = {"__name__": "train"}
        exec(compile(source[: source.index("clock = TrainingClock()")], "train.py", "exec"), names)
        assert names["dtype"] == getattr(torch, request.param)
        yield names
    torch.set_flush_denormal(False)


def test_by_hand_it_prints_the_summary_of_the_original(place: Place) -> None:
    done = run(set_parameters(SOURCE, SMALL), place, steps=3)
    assert done.returncode == 0, done.stderr
    summary = dict(line.split(":", 1) for line in done.stdout.split("---")[-1].splitlines() if ":" in line)
    assert summary["depth"].strip() == "2"
    assert summary["num_steps"].strip() == "3"
    assert 1 < float(summary["val_bpb"]) < 10


def test_in_sixty_steps_it_learns(place: Place) -> None:
    measured = handed_over(set_parameters(SOURCE, SMALL), place, steps=60)
    assert measured["num_steps"] == 60
    assert measured["num_tokens"] == 60 * 1024
    assert measured["dev_bpb"] < 3.4  # a uniform guess is 4.3


def test_a_seed_is_a_run(place: Place) -> None:
    seeded = [set_parameters(SOURCE, SMALL | {"SEED": seed}) for seed in (1, 1, 2)]
    scores = [measured["dev_bpb"] for measured in all_handed_over(seeded, place, 5)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert scores[0] != pytest.approx(scores[2], abs=1e-6)


def test_an_exploding_loss_ends_the_run_with_step_and_value(place: Place) -> None:
    wild = SOURCE.replace("optimizer.step(learning_rate(clock.progress))", "model.head.weight.data.fill_(torch.nan)")
    assert wild != SOURCE
    done = run(set_parameters(wild, SMALL), place, steps=5)
    assert done.returncode != 0
    assert "FloatingPointError" in done.stderr and "nan at step 2" in done.stderr


def extremes(parameter: Parameter) -> list[Any]:
    if parameter.choices:
        return [parameter.choices[0], parameter.choices[-1]]
    return [parameter.low, parameter.high]


def test_no_parameter_at_the_end_of_its_range_breaks_the_first_steps(place: Place) -> None:
    """One process per end would be minutes; the ends are combined instead, all low and all high, sizes kept small."""
    parameters = read_parameters(SOURCE)
    ends = {name: extremes(p) for name, p in parameters.items() if p.tunable}
    slow = {"DEPTH": 3, "MODEL_DIM": 192, "NUM_HEADS": 6, "NGRAM_ROWS": 2**14, "TOTAL_BATCH_SIZE": 8192}
    high = {name: values[1] for name, values in ends.items()} | slow
    low = {name: values[0] for name, values in ends.items()}
    learning_rates = [name for name in high if name.endswith("LR")]
    both = (low, high | {name: parameters[name].value for name in learning_rates})
    sources = [set_parameters(SOURCE, settings) for settings in both]
    assert [m["num_steps"] for m in all_handed_over(sources, place, 2)] == [2, 2]


def test_every_parameter_but_the_seed_and_the_preset_may_be_tuned() -> None:
    parameters = read_parameters(SOURCE)
    assert [name for name, parameter in parameters.items() if not parameter.tunable] == ["SEED", "PRESET"]
    assert parameters["SEED"].fixed and parameters["PRESET"].fixed


def test_the_loss_taken_in_chunks_is_cross_entropy(cells: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model, softcap, dtype = cells["model"], cells["softcap"], cells["dtype"]
    h = torch.randn(300, 64, requires_grad=True)  # more than one chunk, and a last one that is not full
    weight = torch.randn(model.head.weight.shape, requires_grad=True)
    targets = torch.randint(weight.size(0), (300,))
    expected = F.cross_entropy(softcap(h @ weight.T), targets)
    actual = cells["HeadLoss"].apply(h, weight, targets)
    # A logit has one rounding of the format; over 300 rows these average out to a sixteenth of one.
    torch.testing.assert_close(actual, expected, rtol=tolerance(dtype, 1 / 16), atol=0)
    for got, wanted in zip(
        torch.autograd.grad(3 * actual, (h, weight)), torch.autograd.grad(3 * expected, (h, weight)), strict=True
    ):
        # Weight, logit and gradient are rounded once each. A small element is a sum of large ones.
        largest = wanted.abs().max().item()
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance(dtype, 3) * largest)


def test_the_loss_is_the_cross_entropy_of_the_logits(cells: dict[str, Any]) -> None:
    model, x, y = cells["model"], cells["x"], cells["y"]
    with cells["autocast"]("cpu"):
        torch.testing.assert_close(model.loss(x, y), F.cross_entropy(model(x).flatten(0, 1), y.flatten()))


def test_short_derivatives_agree_with_autograd(cells: dict[str, Any]) -> None:
    x = torch.randn(5, 7, 16, requires_grad=True)
    pairs = [
        (cells["norm"], lambda t: F.rms_norm(t, (16,), eps=1e-12)),
        (cells["squared_relu"], lambda t: F.relu(t).square()),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours(x), theirs(x))
        direction = torch.randn(5, 7, 16)
        ours_grad, their_grad = (torch.autograd.grad(f(x), x, direction)[0] for f in (ours, theirs))
        torch.testing.assert_close(ours_grad, their_grad, rtol=1e-4, atol=1e-5)


def test_the_first_loss_is_that_of_a_uniform_guess(cells: dict[str, Any]) -> None:
    uniform = torch.tensor(float(cells["vocab_size"])).log()
    with cells["autocast"]("cpu"):
        torch.testing.assert_close(cells["model"].loss(cells["x"], cells["y"]), uniform, rtol=0.02, atol=0)


def test_no_token_sees_the_ones_after_it(cells: dict[str, Any]) -> None:
    model = cells["model"]
    idx = cells["x"][:1, :40]
    with torch.no_grad(), cells["autocast"]("cpu"):
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
        changed = idx.clone()
        changed[0, 20:] = (changed[0, 20:] + 1) % cells["vocab_size"]
        before, after = model(idx), model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_orthogonalise_gives_singular_values_near_one(cells: dict[str, Any]) -> None:
    values = torch.linalg.svdvals(cells["orthogonalise"](torch.randn(3, 32, 64)))
    assert values.min() > 0.6 and values.max() < 1.4


def test_adam_agrees_with_torch(cells: dict[str, Any]) -> None:
    ours, theirs = torch.randn(4, 3), torch.empty(4, 3)
    theirs.copy_(ours)
    adam = cells["AdamW"]([ours], lr=0.1)
    betas = (cells["ADAM_BETA1"], cells["ADAM_BETA2"])
    reference = torch.optim.AdamW([theirs.requires_grad_()], lr=0.1, betas=betas, eps=1e-10, weight_decay=0.0)
    for _ in range(3):
        grad = torch.randn(4, 3)
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        adam.step(1.0)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_the_learning_rate_rises_holds_and_falls(cells: dict[str, Any]) -> None:
    rate, final = cells["learning_rate"], cells["FINAL_LR"]
    assert rate(0.0) == final
    assert rate((1 - cells["WARMDOWN"] + cells["WARMUP"]) / 2) == 1.0
    assert rate(1.0) == final
