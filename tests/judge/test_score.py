"""The score: hand calculations, and a scorer process that is given bad artefacts."""

from __future__ import annotations

import math
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch

from autoresearch_kernel.judge.score import HeldOut, ScoringFailed, ScoringSettings, bits_per_byte, score

PROJECT = Path(__file__).parents[2]
BOS, VOCAB, T = 256, 257, 16
TOKEN_BYTES = np.array([1] * 256 + [0])
SETTINGS = ScoringSettings(device="cpu", dtype="float32", rows_per_batch=4, num_threads=2)


def rows_of_random_bytes(num_rows: int = 10) -> np.ndarray:
    rows = np.random.default_rng(0).integers(0, 256, (num_rows, T + 1))
    rows[:, 0] = BOS
    rows[:, 7] = BOS  # a document ends in the middle of each row
    return rows.astype(np.uint16)


def pickled(model: torch.nn.Module, folder: Path) -> Path:
    path = folder / "model.pkl"
    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    path.write_bytes(cloudpickle.dumps(model))
    return path


class Uniform(torch.nn.Module):
    """The same logit for each token: 8 bits a byte once BOS is masked."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*idx.shape, VOCAB)
        logits[..., BOS] = 20.0  # nearly all probability on the special token must gain nothing
        return logits


class Mute(torch.nn.Module):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return idx


class NotANumber(torch.nn.Module):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return torch.full((*idx.shape, VOCAB), torch.nan)


class Chatty(Uniform):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        print("looking busy" * 100)
        return super().forward(idx)


class Sleeper(torch.nn.Module):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        time.sleep(60)
        return idx


class Quitter(torch.nn.Module):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        raise SystemExit(0)


def test_uniform_logits_over_256_bytes_are_8_bits_per_byte_whatever_bos_gets(tmp_path: Path) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    nll_path = tmp_path / "nll.npy"
    result = score(pickled(Uniform(), tmp_path), heldout, SETTINGS, project=PROJECT, nll_path=nll_path)
    assert result.val_bpb == pytest.approx(8.0, abs=1e-5)
    assert result.num_tokens == result.num_bytes == 10 * (T - 1)  # the BOS targets are not scored
    assert result.standard_error == pytest.approx(0.0, abs=1e-5)
    nll = np.load(nll_path)
    assert nll.shape == (10, T)
    assert (nll[:, 6] == 0).all()


def test_prints_of_the_model_do_not_reach_the_answer(tmp_path: Path) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    assert score(pickled(Chatty(), tmp_path), heldout, SETTINGS, project=PROJECT).val_bpb == pytest.approx(
        8.0, abs=1e-5
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Mute(), r"expected logits \(B, T, vocab_size\)"),
        (NotANumber(), "150 of 150 tokens have no finite likelihood"),
        (Quitter(), "0 bytes of 640 were answered"),
    ],
)
def test_a_bad_artefact_fails_with_one_line(tmp_path: Path, model: torch.nn.Module, message: str) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    with pytest.raises(ScoringFailed, match=message):
        score(pickled(model, tmp_path), heldout, SETTINGS, project=PROJECT)


def test_a_file_that_is_no_pickle_fails_with_one_line(tmp_path: Path) -> None:
    artefact = tmp_path / "model.pkl"
    artefact.write_bytes(b"not a model")
    with pytest.raises(ScoringFailed, match="UnpicklingError"):
        score(artefact, HeldOut(rows_of_random_bytes(), TOKEN_BYTES), SETTINGS, project=PROJECT)


def test_a_hanging_model_is_ended_at_the_limit(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ScoringFailed, match="longer than 4 s"):
        score(
            pickled(Sleeper(), tmp_path),
            HeldOut(rows_of_random_bytes(), TOKEN_BYTES),
            SETTINGS,
            project=PROJECT,
            limit_seconds=4,
        )
    assert time.monotonic() - started < 8


def test_bits_per_byte_by_hand() -> None:
    nll = np.log(2) * np.array([[1.0, 3.0, 99.0], [2.0, 2.0, 4.0]])
    num_bytes = np.array([[1, 1, 0], [1, 2, 2]])
    ratio, standard_error = bits_per_byte(nll, num_bytes)
    assert ratio == pytest.approx(12 / 7)  # the unscored 99 bits are left out
    residuals = np.array([4 - 2 * 12 / 7, 8 - 5 * 12 / 7])
    assert standard_error == pytest.approx(math.sqrt(2 * (residuals**2).sum()) / 7)


def test_standard_error_matches_the_spread_over_resamples() -> None:
    rng = np.random.default_rng(0)
    scores, errors = [], []
    for _ in range(300):
        nll = rng.gamma(2.0, 1.0, (40, 8)) * rng.uniform(0.5, 1.5, (40, 1))
        ratio, error = bits_per_byte(nll, rng.integers(1, 6, (40, 8)))
        scores.append(ratio)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.1)


def test_missing_rows_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"val\.npy is missing. Run `autoresearch prepare`"):
        HeldOut.load(tmp_path, tmp_path, "val")
