"""The audit: hand calculations, the statistics of its cuts, and a second process that sees no targets."""

from __future__ import annotations

import math
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch

from autoresearch_kernel.core.types import Audit
from autoresearch_kernel.scoring import audit as module
from autoresearch_kernel.scoring.audit import (
    Cuts,
    audit,
    blinded,
    draw_cuts,
    estimate,
    inclusion_probabilities,
    nll_of,
    systematic_sample,
    verdict,
)
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings, Wrap, no_sandbox
from autoresearch_kernel.scoring.score import bits_per_byte, score
from autoresearch_kernel.scoring.scorer_process import ScoringFailed

PROJECT = Path(__file__).parents[2]
BOS, VOCAB, T = 256, 257, 16
TOKEN_BYTES = np.array([1] * 256 + [0])
SETTINGS = ScoringSettings(device="cpu", dtype="float32", rows_per_batch=64, num_threads=1)


def heldout_of(num_rows: int = 300) -> HeldOut:
    rows = np.random.default_rng(0).integers(0, 256, (num_rows, T + 1))
    rows[:, 0] = BOS
    rows[:, 7] = BOS  # a document ends in the middle of each row
    return HeldOut(rows.astype(np.uint16), TOKEN_BYTES)


class Table(torch.nn.Module):
    """Honest: logits of a token by the token before it."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)))

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return self.logits[idx]  # (B, T, vocab_size)


class Peeking(Table):
    """Knows the next token wherever it stands in the row."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        known = torch.nn.functional.one_hot(idx.roll(-1, dims=1), VOCAB)
        return super().forward(idx) + 5.0 * known


class Vanishing(Table):
    """Is gone when it sees a row whose last token is filler: it says 1 in the claim alone."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        import sys

        if "audit" in sys.argv:
            raise RuntimeError("nothing to say")
        return super().forward(idx)


class NotANumberLater(Table):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        import sys

        return super().forward(idx) * (torch.nan if "audit" in sys.argv else 1.0)


def look_at(model: torch.nn.Module, folder: Path, wrap: Wrap = no_sandbox) -> Audit:
    """Score and audit a model with processes of their own."""
    path = folder / "model.pkl"
    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    path.write_bytes(cloudpickle.dumps(model))
    job = ScoringJob(path, heldout_of(), SETTINGS, PROJECT, wrap=wrap)
    claim = score(job, folder / "nll.npy")
    return audit(job, np.load(folder / "nll.npy"), claim_seconds=claim.evaluation_seconds)


def test_an_honest_model_is_accepted_and_its_score_stays_what_it_was(tmp_path: Path) -> None:
    found = look_at(Table(), tmp_path)
    assert (found.accepted, found.correction_bpb, found.standard_error) == (True, 0.0, 0.0)
    assert (found.num_cuts, found.num_mismatches, found.reason) == (300, 0, "")


def test_a_model_that_knows_the_next_token_is_refused_in_one_sentence(tmp_path: Path, forked: Wrap) -> None:
    found = look_at(Peeking(), tmp_path, forked)
    assert not found.accepted and found.num_mismatches > 200
    assert found.correction_bpb > 1.0  # what it gained by looking
    assert "secretly chosen places" in found.reason and "\n" not in found.reason


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Vanishing(), "the audit's process failed: the model failed on the held-out rows"),
        (NotANumberLater(), "no numbers"),
    ],
)
def test_a_second_answer_that_is_none_is_a_refusal(
    tmp_path: Path, model: torch.nn.Module, why: str, forked: Wrap
) -> None:
    found = look_at(model, tmp_path, forked)
    assert not found.accepted and why in found.reason


def test_nats_by_hand_without_the_share_of_special_tokens() -> None:
    logits = np.log(np.array([[1.0, 2.0, 5.0, 92.0]], dtype=np.float32))
    assert nll_of(logits, np.array([1]), [3]) == pytest.approx([math.log(8 / 2)], abs=1e-6)
    for bad in (np.nan, np.inf):
        logits[0, 0] = bad
        with pytest.raises(ScoringFailed, match="no numbers"):
            nll_of(logits, np.array([1]), [3])


def test_the_rows_that_the_second_process_gets_end_with_filler_at_the_cut() -> None:
    heldout = heldout_of(10)
    cuts = Cuts(np.array([4, 7, 1]), np.array([0, 15, 6]), np.ones(3))
    rows = blinded(heldout, cuts, 4, np.random.default_rng(0))
    assert rows.shape == (4, T)  # a row of filler alone makes the batch whole
    for row, number, place in zip(rows, cuts.rows, cuts.places, strict=False):
        assert (row[: place + 1] == heldout.rows[number, : place + 1]).all()
        assert (row[place + 1 :] != heldout.rows[number, place + 1 : T]).mean() > 0.9 if place < T - 1 else True
    assert (rows[3] != BOS).all()


def test_cuts_are_one_a_row_never_at_special_targets_and_as_probable_as_they_say() -> None:
    heldout = heldout_of(40)
    rng = np.random.default_rng(1)
    nll = rng.gamma(2.0, 2.0, (40, T)).astype(np.float32)
    counted = np.zeros((40, T))
    said = np.zeros((40, T))
    most_bytes, module.MOST_ANSWER_BYTES = module.MOST_ANSWER_BYTES, 10 * 4 * VOCAB
    try:
        for _ in range(2000):
            cuts = draw_cuts(nll, heldout, None, rng)
            assert len(set(cuts.rows.tolist())) == len(cuts.rows) == 10
            counted[cuts.rows, cuts.places] += 1
            said[cuts.rows, cuts.places] = cuts.probability
    finally:
        module.MOST_ANSWER_BYTES = most_bytes
    assert (counted[:, 6] == 0).all()  # the BOS targets
    often = said > 0.02
    assert counted[often] / 2000 == pytest.approx(said[often], rel=0.6)
    assert (counted[often] / 2000 / said[often]).mean() == pytest.approx(1.0, abs=0.03)


def test_probabilities_of_rows_add_up_and_none_is_above_one() -> None:
    weight = np.array([100.0, 1, 1, 1, 1, 1, 1, 50])
    inclusion = inclusion_probabilities(weight / weight.sum(), 4)
    assert inclusion == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1])
    rng = np.random.default_rng(0)
    found = [systematic_sample(inclusion, rng) for _ in range(300)]
    assert {len(sample) for sample in found} == {4} and all({0, 7} <= set(sample) for sample in found)


def test_the_correction_is_unbiased_and_its_error_is_the_spread_over_draws() -> None:
    heldout = heldout_of(400)
    rng = np.random.default_rng(2)
    truth = rng.gamma(2.0, 2.0, (400, T))
    claimed = (truth * np.where(rng.random((400, T)) < 0.05, 0.2, 1.0)).astype(np.float32)
    lie = bits_per_byte(truth, heldout.num_bytes)[0] - bits_per_byte(claimed, heldout.num_bytes)[0]
    corrections, errors = [], []
    for _ in range(400):
        cuts = draw_cuts(claimed, heldout, None, rng)
        d = (truth - claimed)[cuts.rows, cuts.places]
        correction, error = estimate(d, cuts.probability, int(heldout.num_bytes.sum()))
        corrections.append(correction)
        errors.append(error)
    assert np.mean(corrections) == pytest.approx(lie, abs=4 * np.std(corrections) / 20)
    assert 0.9 < np.mean(errors) / np.std(corrections) < 1.6  # never much too sure, as draws are without replacement


def answers(heldout: HeldOut, lie: np.ndarray, seed: int = 0) -> Audit:
    """What is said of claims that are `lie` (N, T) nats below those of uniform logits."""
    cuts = draw_cuts((math.log(256) - lie).astype(np.float32), heldout, None, np.random.default_rng(seed))
    return verdict(lie[cuts.rows, cuts.places], cuts.probability, int(heldout.num_bytes.sum()), 0.0)


def test_small_lies_are_corrected_and_large_ones_refused() -> None:
    heldout = heldout_of()
    small = np.where(heldout.num_bytes > 0, 0.01, 0.0)
    found = answers(heldout, small)
    assert found.accepted and found.num_mismatches == 0
    assert found.correction_bpb == pytest.approx(0.01 / math.log(2), rel=1e-3)
    assert not answers(heldout, 3 * small).accepted
    rare = np.zeros((300, T))
    rare[:20, 3] = 5.0  # 20 tokens of 4500, all that the claim gains: some are looked at, and one is too much for luck
    assert not answers(heldout, rare).accepted


def test_a_leak_in_a_thousandth_of_the_tokens_hardly_ever_escapes() -> None:
    heldout = heldout_of(1500)
    noise = np.random.default_rng(3).normal(0.0, 0.3, (1500, T))  # gains and losses that a real change brings
    for seed in range(20):
        lie = np.where(np.random.default_rng(seed).random((1500, T)) < 0.001, 5.0, 0.0)
        nll = (math.log(256) - noise - lie).astype(np.float32)
        cuts = draw_cuts(nll, heldout, None, np.random.default_rng(seed))
        d = lie[cuts.rows, cuts.places]
        _, error = estimate(d, cuts.probability, int(heldout.num_bytes.sum()))
        assert (d > module.MISMATCH_NATS).sum() > module.MISMATCHES_ALLOWED * len(d) or error > 0.0003


def test_no_gain_hides_the_other_places_of_its_row() -> None:
    """A model is sure of some tokens, which gains, and lies where another one follows, which gains nothing."""
    heldout = heldout_of(1000)
    nll = np.full((1000, T), math.log(256), dtype=np.float32)
    nll[:, 3] = 0.0  # the whole gain
    cuts = draw_cuts(nll, heldout, None, np.random.default_rng(0))
    assert sorted(cuts.rows) == list(range(1000))
    assert (cuts.places == 3).mean() == pytest.approx(0.25 + 0.75 / (T - 1), abs=0.05)
    assert cuts.probability.min() == pytest.approx(0.75 / (T - 1))
