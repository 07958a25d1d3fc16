"""What an experiment uses of prepare.py: tokenizer, batches, clock, scoring and the hand-over."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import prepare
from autoresearch_kernel.corpora.tokens import train_tokenizer
from autoresearch_kernel.sandbox.policy import hidden_paths
from autoresearch_kernel.scoring.job import Wrap, no_sandbox
from autoresearch_kernel.system.locations import cache_dir
from autoresearch_kernel.system.steady_clock import LAYOUT, LEAST_RATE, MOST_RATE
from tests.formats import FORMATS, HAS_BFLOAT16

ROOT = Path(__file__).parent.parent
TEXT = "for name in names:\n    print(f'{name}: naïve café, 你好, 🙂')\n"


def write_corpus(
    folder: Path, train: np.ndarray, dev: np.ndarray, *, sequence_length: int, ranks: dict[bytes, int] | None = None
) -> prepare.Tokenizer:
    """A training-side folder with these very tokens, and a tokenizer of single bytes by default."""
    tokenizer = prepare.Tokenizer(ranks or {bytes([i]): i for i in range(256)})
    folder.mkdir(parents=True)
    (folder / "tokenizer.tiktoken").write_bytes(tokenizer.to_bytes())
    np.save(folder / "token_bytes.npy", tokenizer.token_bytes)
    train.astype(np.uint16).tofile(folder / "train.bin")
    dev.astype(np.uint16).tofile(folder / "dev.bin")
    meta = {
        "format": prepare.FORMAT,
        "split_pattern": prepare.SPLIT_PATTERN,
        "token_dtype": "uint16",
        "vocab_size": tokenizer.get_vocab_size(),
        "sequence_length": sequence_length,
        "num_train_tokens": len(train),
        "num_dev_tokens": len(dev),
        "content_sha256": "as good as any",
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return prepare.Tokenizer.from_directory(folder)


def write_heldout(corpus: Path, val: np.ndarray) -> None:
    heldout = prepare.heldout_dir(corpus)
    heldout.mkdir(parents=True)
    np.save(heldout / "val.npy", val.astype(np.uint16))
    (heldout / "meta.json").write_text((corpus / "meta.json").read_text())


@pytest.fixture
def counting(tmp_path: Path) -> prepare.Tokenizer:
    """A corpus in which every training token is another number: 0, 1, ... 1000."""
    return write_corpus(tmp_path / "corpora" / "counting", np.arange(1001), np.arange(500), sequence_length=32)


class Guess(torch.nn.Module):
    """Gives every next token the same logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*idx.shape, -1)


# ---------------------------------------------------------------- tokenizer


def test_text_that_is_not_ascii_survives_the_tokenizer() -> None:
    tokenizer = train_tokenizer([TEXT] * 3, vocab_size=300)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.get_vocab_size() == 300
    assert len(tokenizer.encode(TEXT)) < len(TEXT.encode())


def test_token_bytes_add_up_to_the_raw_bytes_of_the_text() -> None:
    tokenizer = train_tokenizer([TEXT], vocab_size=280)
    assert tokenizer.token_bytes[tokenizer.encode(TEXT)].sum() == len(TEXT.encode())


def test_special_tokens_have_no_bytes_and_no_text_encodes_to_them() -> None:
    tokenizer = train_tokenizer([TEXT], vocab_size=270)
    special = range(tokenizer.get_bos_token_id(), tokenizer.get_vocab_size())
    assert len(special) == len(prepare.SPECIAL_TOKENS)
    assert tokenizer.token_bytes[special].sum() == 0
    assert not set(tokenizer.encode("".join(prepare.SPECIAL_TOKENS))) & set(special)


def test_a_tokenizer_trained_twice_is_the_same() -> None:
    texts = [Path(os.__file__).read_text(), Path(json.__file__).read_text()]
    assert train_tokenizer(texts, 512).to_bytes() == train_tokenizer(texts, 512).to_bytes()


def test_tokenizer_comes_back_from_its_folder(tmp_path: Path) -> None:
    trained = train_tokenizer([TEXT] * 3, vocab_size=300)
    loaded = write_corpus(tmp_path / "c", np.arange(9), np.arange(9), sequence_length=8, ranks=trained.ranks)
    assert loaded.encode(TEXT) == trained.encode(TEXT)
    assert loaded.encode([TEXT], prepend=loaded.get_bos_token_id()) == [[296, *trained.encode(TEXT)]]


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize(("B", "T"), [(1, 7), (11, 13), (5, 32)])  # 1001 is 7 x 143, 13 x 77; 32 does not divide it
def test_every_token_is_a_target_once_an_epoch(counting: prepare.Tokenizer, B: int, T: int) -> None:
    loader = prepare.make_dataloader(counting, B, T, "train", device="cpu")
    rows = -(-1001 // T)
    seen: list[int] = []
    for _ in range(rows // B + 1):
        _, y, epoch = next(loader)
        seen += y.flatten().tolist()
        assert epoch in (1, 2)
    first_epoch = seen[: rows * T]
    assert set(first_epoch) == set(range(1001))
    assert len(first_epoch) - 1001 < T  # only the last row wraps around


def test_rows_begin_with_bos_and_targets_are_the_next_tokens(counting: prepare.Tokenizer) -> None:
    for x, y, _ in islice(prepare.make_dataloader(counting, 4, 16, "train", device="cpu"), 40):
        assert x.shape == y.shape == (4, 16)
        assert x.dtype == y.dtype == torch.int64
        assert (x[:, 0] == counting.get_bos_token_id()).all()
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert torch.equal(y[:, 1:], (y[:, :-1] + 1) % 1001)


def test_seed_decides_the_order(counting: prepare.Tokenizer) -> None:
    def first(seed: int) -> list[int]:
        return next(prepare.make_dataloader(counting, 8, 16, "train", device="cpu", seed=seed))[1].flatten().tolist()

    assert first(1) == first(1) != first(2)


def test_each_epoch_cuts_elsewhere(counting: prepare.Tokenizer) -> None:
    loader = prepare.make_dataloader(counting, 1, 32, "train", device="cpu")
    cuts = {epoch: int(y[0, 0]) % 32 for _, y, epoch in islice(loader, 200) if y[0, 0] < 900}
    assert len(set(cuts.values())) > 1


def test_dev_comes_in_order(counting: prepare.Tokenizer) -> None:
    batches = islice(prepare.make_dataloader(counting, 2, 10, "dev", device="cpu"), 3)
    assert [y[0, 0].item() for _, y, _ in batches] == [0, 20, 40]


def test_validation_comes_by_hand_in_its_fixed_rows(counting: prepare.Tokenizer) -> None:
    assert counting.directory is not None
    rows = np.concatenate([np.full((3, 1), 256), np.arange(96).reshape(3, 32)], axis=1)
    write_heldout(counting.directory, rows)
    x, y, epoch = next(prepare.make_dataloader(counting, 4, 32, "val", device="cpu"))
    assert y[:3].flatten().tolist() == list(range(96))
    assert torch.equal(y[3], y[0])
    assert (x[:, 0] == 256).all() and epoch == 2


def test_rows_longer_than_the_corpus_is_scored_on_are_refused(counting: prepare.Tokenizer) -> None:
    with pytest.raises(ValueError, match="1 to MAX_SEQ_LEN = 32"):
        prepare.make_dataloader(counting, 4, 33, "train", device="cpu")


def test_a_cut_token_file_is_refused(counting: prepare.Tokenizer) -> None:
    assert counting.directory is not None
    path = counting.directory / "train.bin"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(prepare.PrepareError, match=r"train.bin has 1,992 bytes, not 2,002"):
        next(prepare.make_dataloader(counting, 4, 8, "train", device="cpu"))


def test_rows_to_score_are_spread_over_the_whole_stream() -> None:
    rows = prepare.cut_rows(np.arange(1000, dtype=np.uint16), sequence_length=10, limit=100, bos=7)
    assert rows.shape == (10, 11)
    assert (rows[:, 0] == 7).all()
    assert rows[:, 1].tolist() == list(range(0, 1000, 100))


def test_rows_to_score_are_never_more_than_there_are() -> None:
    rows = prepare.cut_rows(np.arange(25, dtype=np.uint16), sequence_length=10, limit=2**20, bos=7)
    assert rows[:, 1:].flatten().tolist() == list(range(20))


# ---------------------------------------------------------------- scoring


def test_uniform_logits_over_one_byte_tokens_are_eight_bits_a_byte() -> None:
    tokenizer = prepare.Tokenizer({bytes([i]): i for i in range(256)})
    rows = np.random.default_rng(0).integers(0, 256, (5, 17))
    rows[2, 9] = tokenizer.get_bos_token_id()  # a special target is not scored
    model = Guess(torch.zeros(tokenizer.get_vocab_size()))
    assert prepare.score_rows(model, rows, tokenizer.token_bytes, batch_size=2) == pytest.approx(8.0, abs=1e-6)


def test_nothing_is_won_or_lost_by_the_probability_of_special_tokens() -> None:
    tokenizer = prepare.Tokenizer({bytes([i]): i for i in range(256)})
    rows = np.random.default_rng(0).integers(0, 256, (3, 9))
    logits = torch.zeros(tokenizer.get_vocab_size())
    logits[tokenizer.get_bos_token_id()] = 50.0
    assert prepare.score_rows(Guess(logits), rows, tokenizer.token_bytes, 8) == pytest.approx(8.0, abs=1e-6)


def test_bits_per_byte_of_tokens_of_several_bytes_by_hand() -> None:
    ranks = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"abc": 257}
    tokenizer = prepare.Tokenizer(ranks)
    rows = np.array([[tokenizer.get_bos_token_id(), 256, 257, ord("a")]])  # 2 + 3 + 1 bytes
    logits = torch.zeros(tokenizer.get_vocab_size())
    logits[256] = math.log(3.0)  # p = 3/260, and 1/260 for each of the other 257
    by_hand = -(math.log2(3 / 260) + 2 * math.log2(1 / 260)) / 6
    assert prepare.score_rows(Guess(logits), rows, tokenizer.token_bytes, 1) == pytest.approx(by_hand, abs=1e-6)


def test_the_score_does_not_depend_on_the_batch_size(counting: prepare.Tokenizer) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (13, 33))
    model = Guess(torch.randn(260, generator=torch.Generator().manual_seed(0)))
    scores = [prepare.score_rows(model, rows, counting.token_bytes, size) for size in (1, 4, 100)]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-7)
    assert model.training


class WithoutFloat64(torch.Tensor):
    """A tensor on a device that has no float64, as Apple's mps."""

    def double(self) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


def test_a_device_without_float64_scores_as_well(counting: prepare.Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, model = np.random.default_rng(0).integers(0, 256, (3, 33)), Guess(torch.zeros(260))
    expected, token_nll = prepare.score_rows(model, rows, counting.token_bytes, 4), prepare.token_nll
    monkeypatch.setattr(prepare, "token_nll", lambda *values: token_nll(*values).as_subclass(WithoutFloat64))
    assert prepare.score_rows(model, rows, counting.token_bytes, 4) == expected


def test_logits_of_another_shape_are_refused(counting: prepare.Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"gave \(2, 8, 99\) for token ids \(2, 8\), not logits for 260 tokens"):
        prepare.score_rows(Guess(torch.zeros(99)), np.zeros((2, 9), dtype=np.uint16), counting.token_bytes, 4)


# ---------------------------------------------------------------- clock


def test_the_clock_ends_with_its_budget() -> None:
    clock = prepare.TrainingClock(time_budget_seconds=0.2)
    started = time.monotonic()
    seen = []
    while clock.running():
        seen.append((clock.step, clock.progress))
        time.sleep(0.01)
    assert 0.2 <= time.monotonic() - started < 1.0
    assert seen[0][0] == 0 and seen[0][1] < 0.05
    assert [step for step, _ in seen] == list(range(len(seen))) and clock.step == len(seen)
    assert clock.progress == 1.0 and clock.elapsed >= 0.2
    assert not clock.running() and clock.step == len(seen)


@pytest.mark.parametrize(("rate", "takes"), [(1.25, 0.8), (0.8, 1.25), (3.0, 0.7), (0.1, 1.5)])
def test_a_steady_clock_counts_what_the_supervisor_wrote_within_its_limits(
    rate: float, takes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "clock"
    count.write_bytes(LAYOUT.pack(*(time.monotonic() - 5, 7.0, rate) * 2))
    monkeypatch.setenv("AUTORESEARCH_CLOCK", str(count))
    clock = prepare.TrainingClock(time_budget_seconds=0.4)
    while clock.running():
        time.sleep(0.002)
    assert takes * 0.4 <= clock.elapsed < takes * 0.4 + 0.2
    assert clock.progress == 1.0 and 0.4 <= clock.counted_seconds < 0.4 + 0.2 * prepare.MOST_RATE


def test_a_count_that_is_just_being_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, at = tmp_path / "clock", time.monotonic()
    count.write_bytes(LAYOUT.pack(*(at, 7.0, 1.2) * 2))
    monkeypatch.setenv("AUTORESEARCH_CLOCK", str(count))
    clock = prepare.TrainingClock(time_budget_seconds=60)
    assert clock.running()
    for torn in (LAYOUT.pack(at + 50, 99.0, 1.0, at, 7.0, 1.2), b"", b"\0" * 20):
        count.write_bytes(torn)
        before, counted, after = clock.elapsed, clock.counted_seconds, clock.elapsed
        assert 1.2 * before <= counted <= 1.2 * after + 1e-6


@pytest.mark.parametrize("budget", [0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_time_is_named(budget: float) -> None:
    with pytest.raises(
        prepare.PrepareError, match=r"time_budget_seconds is .*: give a finite number of seconds above 0"
    ):
        prepare.TrainingClock(budget)


def test_folders_of_a_corpus_may_begin_with_the_sign_for_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AUTORESEARCH_CORPUS", "~/corpora/own")
    monkeypatch.setenv("AUTORESEARCH_HELDOUT", "~/rows")
    assert prepare.corpus_dir() == tmp_path / "corpora" / "own"
    assert prepare.heldout_dir(prepare.corpus_dir()) == tmp_path / "rows"
    assert tmp_path / "rows" in hidden_paths(Path("/srv/project"))


def test_a_missing_count_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_CLOCK", str(tmp_path / "gone"))
    with pytest.raises(prepare.PrepareError, match=r"AUTORESEARCH_CLOCK is '.*gone', which cannot be read .*: unset"):
        prepare.TrainingClock()


def test_both_sides_of_the_steady_clock_have_the_same_limits() -> None:
    assert (prepare.LEAST_RATE, prepare.MOST_RATE) == (LEAST_RATE, MOST_RATE)
    assert prepare._SteadySeconds.layout.format == LAYOUT.format


def test_steps_can_be_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", "4")
    clock = prepare.TrainingClock()
    seen = []
    while clock.running():
        seen.append(clock.progress)
    assert seen == [0.0, 0.25, 0.5, 0.75]
    assert clock.progress == 1.0 and clock.step == 4


def test_the_clock_counts_the_tokens_of_the_loop_alone(
    counting: prepare.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", "3")
    loader = prepare.make_dataloader(counting, 2, 8, "train", device="cpu")
    next(loader)
    clock = prepare.TrainingClock()
    while clock.running():
        next(loader)
    next(prepare.make_dataloader(counting, 2, 8, "dev", device="cpu"))
    assert clock.num_tokens == 3 * 2 * 8


def test_the_curve_has_about_two_hundred_points_and_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", "1999")
    monkeypatch.setenv("AUTORESEARCH_HANDOVER", str(tmp_path))
    clock = prepare.TrainingClock()
    while clock.running():
        clock.report(train_loss=2.0 + clock.step % 2, learning_rate=0.1)
    points = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 190 <= len(points) <= 210
    assert points[0]["step"] == 1 and points[-1]["step"] == 1999
    assert points[5]["train_loss"] == pytest.approx(2.5, abs=0.06)  # the mean since the point before
    keys = {"step", "progress", "seconds", "train_loss", "tokens_per_second", "num_tokens", "learning_rate"}
    assert set(points[-1]) == keys


def test_a_piped_run_prints_about_twenty_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", "500")
    clock = prepare.TrainingClock(report_every_seconds=0.0)
    while clock.running():
        clock.report(train_loss=3.0)
    lines = capsys.readouterr().out.splitlines()
    assert 19 <= len(lines) <= 22
    assert lines[-1].startswith("step   500 | 100%")


def test_a_loop_that_is_left_with_break_has_finished_the_step_that_it_reported() -> None:
    clock = prepare.TrainingClock(60.0)
    while clock.running():
        clock.report(train_loss=3.0)
        if clock.step == 4:
            break
    assert clock.num_steps == 5
    clock.stop()
    assert clock.num_steps == 5 and not clock.running() and clock.num_steps == 5


def test_a_step_that_was_not_reported_before_the_break_is_not_counted() -> None:
    clock = prepare.TrainingClock(60.0)
    assert clock.num_steps == 0
    while clock.running() and clock.step < 3:
        clock.report(train_loss=3.0)
    assert clock.num_steps == 3


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e9])
def test_a_loss_that_came_apart_names_its_step_and_value(loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", "9")
    clock = prepare.TrainingClock()
    assert clock.running()
    clock.report(train_loss=torch.tensor(5.0, requires_grad=True))
    assert clock.running()
    with pytest.raises(FloatingPointError, match=rf"train_loss is {loss:.6g}".replace("+", r"\+") + " at step 2"):
        clock.report(train_loss=loss)


def test_a_first_loss_that_is_no_number_is_not_blamed_on_the_learning_rates() -> None:
    clock = prepare.TrainingClock()
    assert clock.running()
    with pytest.raises(FloatingPointError, match=r"at step 1 .* Look at the initialisation and the forward pass"):
        clock.report(train_loss=math.nan)


# ---------------------------------------------------------------- devices


def test_a_device_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cpu")
    assert prepare.get_device() == torch.device("cpu")


def test_autocast_is_never_to_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTORESEARCH_DTYPE", raising=False)
    assert prepare.autocast_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert prepare.autocast_dtype("mps") == torch.float32


@pytest.mark.parametrize("name", FORMATS)
def test_a_number_format_can_be_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DTYPE", name)
    assert prepare.autocast_dtype("cpu") == getattr(torch, name)
    weight = torch.ones(2, 2)
    with prepare.autocast("cpu"):
        assert (weight @ weight).dtype == getattr(torch, name)


@pytest.mark.parametrize("named", ["gpu", "cuda:7", "meta"])
def test_a_device_that_is_not_here_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", named)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(prepare.PrepareError, match=f"AUTORESEARCH_DEVICE is '{named}', which torch does not find"):
        prepare.get_device()
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cuda:1")
    assert prepare.get_device() == torch.device("cuda:1")


@pytest.mark.parametrize("named", ["abc", "nan", "-1"])
@pytest.mark.parametrize("variable", ["AUTORESEARCH_TIME_BUDGET", "AUTORESEARCH_MAX_STEPS"])
def test_a_variable_that_is_no_number_is_one_sentence(train: Train, variable: str, named: str) -> None:
    done = train(TRAIN, **{variable: named})
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert f"{variable} is {named!r}: use a number such as 30, or unset it." in done.stderr


def test_a_budget_of_no_seconds_is_one_sentence(train: Train) -> None:
    done = train(TRAIN, AUTORESEARCH_TIME_BUDGET="0", AUTORESEARCH_MAX_STEPS="")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "AUTORESEARCH_TIME_BUDGET is '0': use a number such as 30, or unset it." in done.stderr


def test_a_number_format_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DTYPE", "float16")
    with pytest.raises(prepare.PrepareError, match="'float16': use float32 or bfloat16, or unset it"):
        prepare.autocast_dtype("cpu")
    monkeypatch.setenv("AUTORESEARCH_DTYPE", "bfloat16")
    for kind in ["mps"] if HAS_BFLOAT16 else ["mps", "cpu"]:
        with pytest.raises(prepare.PrepareError, match=rf"'bfloat16'.* instructions on this machine's {kind}:.*Use fl"):
            prepare.autocast_dtype(kind)


def test_peaks_are_found_by_the_name_that_the_driver_gives() -> None:
    assert prepare.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert prepare.peak_flops("NVIDIA H100 PCIe") == 756e12
    assert prepare.peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert prepare.peak_flops("NVIDIA L4") == 121e12
    assert prepare.peak_flops("NVIDIA GH200 144G HBM3e") == 989e12
    assert prepare.peak_flops("NVIDIA GeForce RTX 4090") == 165e12
    assert prepare.peak_flops("AMD Instinct MI300X") == 1.307e15
    assert prepare.peak_flops("AMD Instinct MI250X / MI250") == 362e12
    assert prepare.peak_flops("4 x x86_64") is None


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA L40",
        "NVIDIA RTX A1000 Laptop GPU",
        "NVIDIA RTX A4000",
        "NVIDIA A10G",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    ],
)
def test_a_device_with_a_similar_name_has_no_known_peak(name: str) -> None:
    assert prepare.peak_flops(name) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu_are_those_of_the_cpu(counting: prepare.Tokenizer) -> None:
    on_gpu = prepare.make_dataloader(counting, 4, 16, "train", device="cuda")
    on_cpu = prepare.make_dataloader(counting, 4, 16, "train", device="cpu")
    for _ in range(50):
        (x, y, epoch), (x_cpu, y_cpu, epoch_cpu) = next(on_gpu), next(on_cpu)
        assert x.is_cuda and torch.equal(x.cpu(), x_cpu) and torch.equal(y.cpu(), y_cpu) and epoch == epoch_cpu


# ---------------------------------------------------------------- hand-over

TRAIN = """
import torch
from prepare import MAX_SEQ_LEN, Tokenizer, TrainingClock, evaluate_bpb, make_dataloader

WIDTH = 8

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(WIDTH, WIDTH)
    def forward(self, x):
        return x + helper(self.linear(x))

def helper(x):
    return torch.relu(x) * MAX_SEQ_LEN / 32

class Model(torch.nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, WIDTH)
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(WIDTH, vocab_size)
        self.head.weight = self.embedding.weight
    def forward(self, idx):
        x = self.embedding(idx)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

tokenizer = Tokenizer.from_directory()
model = Model(tokenizer.get_vocab_size())
loader, clock = make_dataloader(tokenizer, 2, 16, "train"), TrainingClock()
while clock.running():
    x, y, epoch = next(loader)
    loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    clock.report(train_loss=loss)
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    tokens = np.random.default_rng(0).integers(0, 256, 2000)
    write_corpus(tmp_path / "corpora" / "bytes", tokens, tokens[:500], sequence_length=32)
    write_heldout(
        tmp_path / "corpora" / "bytes", np.concatenate([np.full((4, 1), 256), tokens[:128].reshape(4, 32)], 1)
    )
    return tmp_path / "corpora" / "bytes"


def run_script(
    folder: Path, source: str, wrap: Wrap = no_sandbox, **environment: str
) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(source)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AUTORESEARCH_")}
    command = wrap([sys.executable, str(script)], folder)
    return subprocess.run(command, cwd=folder, env=bare | environment, capture_output=True, text=True, timeout=120)


Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def train(corpus: Path, with_torch: Wrap) -> Train:
    """Runs a train.py on `corpus`, three steps unless the environment says otherwise."""
    always = {"AUTORESEARCH_CORPUS": str(corpus), "AUTORESEARCH_MAX_STEPS": "3", "AUTORESEARCH_DEVICE": "cpu"}

    def train(source: str, wrap: Wrap = with_torch, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_script(corpus.parent, source, wrap, PYTHONPATH=str(ROOT), **(always | environment))

    return train


def test_a_compiled_model_loads_where_neither_its_script_nor_prepare_is_known(train: Train, tmp_path: Path) -> None:
    handover = tmp_path / "handover"
    compiled = "model = torch.compile(model)\nmodel.blocks[0].linear = torch.compile(model.blocks[0].linear)\n"
    done = train(
        TRAIN + compiled + "print('dev', evaluate_bpb(model, tokenizer, 4))",
        wrap=no_sandbox,  # the compiler starts processes of its own, from a process that is no fork
        AUTORESEARCH_HANDOVER=str(handover),
        AUTORESEARCH_HELDOUT="/nowhere",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in handover.iterdir()) == ["handover.json", "metrics.jsonl", "model.pkl"]
    load = f"""
import pickle, sys, torch
model = pickle.load(open({str(handover / "model.pkl")!r}, "rb"))
assert "prepare" not in sys.modules and "torch._dynamo" not in sys.modules
assert not model.training and type(model.blocks[0].linear) is torch.nn.Linear
assert model.head.weight is model.embedding.weight
print(model(torch.zeros(2, 5, dtype=torch.int64)).shape)
"""
    loaded = run_script(tmp_path, load)
    assert loaded.stdout.strip() == "torch.Size([2, 5, 260])", loaded.stderr


def test_an_experiment_hands_over_what_it_measured(train: Train, tmp_path: Path) -> None:
    source = TRAIN + "import sys\nprint('dev', evaluate_bpb(model, tokenizer, 4), 'autoresearch_kernel' in sys.modules)"
    done = train(source, AUTORESEARCH_HANDOVER=str(tmp_path / "h"))
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "h" / "handover.json").read_text())
    assert measured["num_steps"] == 3 and measured["num_tokens"] == 3 * 2 * 16
    assert measured["num_params"] == 260 * 8 + 260 + 2 * (8 * 8 + 8)
    assert measured["device"] == "cpu" and measured["mfu_percent"] is None
    assert 0 < measured["start_up_seconds"] < 60 and measured["epoch"] == 1
    assert f"dev {measured['dev_bpb']} False" in done.stdout  # and the package was not needed
    assert "val_bpb" not in done.stdout


def test_by_hand_the_summary_of_the_original_is_printed(train: Train) -> None:
    done = train(TRAIN + "print('returned', evaluate_bpb(model, tokenizer, 4))")
    assert done.returncode == 0, done.stderr
    block = done.stdout.split("---\n")[1].splitlines()
    names = (
        "val_bpb training_seconds total_seconds peak_vram_mb mfu_percent total_tokens_M num_steps num_params_M depth"
    )
    assert [line.split(":")[0] for line in block[:-1]] == names.split()
    values = {line.split(":")[0]: line.split(":")[1].strip() for line in block[:-1]}
    assert float(values["val_bpb"]) == pytest.approx(float(block[-1].split()[1]), abs=1e-6)
    assert values["num_steps"] == "3" and values["depth"] == "2"


def test_a_device_may_be_given_as_forks_of_the_original_do(train: Train) -> None:
    source = TRAIN.replace('"train")', '"train", device="cpu")')
    source += "print('same', evaluate_bpb(model, tokenizer, 4, device='cuda') == evaluate_bpb(model, tokenizer, 4))"
    done = train(source)
    assert done.returncode == 0, done.stderr
    assert "same True" in done.stdout


def test_steps_of_a_loop_that_was_left_with_break_are_all_handed_over(train: Train, tmp_path: Path) -> None:
    source = TRAIN + "    if clock.step == 1:\n        break\nevaluate_bpb(model, tokenizer, 4)"
    done = train(source, AUTORESEARCH_HANDOVER=str(tmp_path / "h"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "h" / "handover.json").read_text())["num_steps"] == 2


def test_a_model_that_cannot_be_pickled_says_what_it_may_hold(train: Train, tmp_path: Path) -> None:
    source = TRAIN + "model.log = open('log.txt', 'w')\nevaluate_bpb(model, tokenizer, 4)"
    done = train(source, AUTORESEARCH_HANDOVER=str(tmp_path / "h"))
    assert done.returncode == 1
    assert "script.py, line 38: The model cannot be handed over" in done.stderr
    assert not (tmp_path / "h" / "model.pkl").exists()


def test_without_a_corpus_the_first_line_says_how_to_make_one(tmp_path: Path) -> None:
    places = {"PYTHONPATH": str(ROOT), "AUTORESEARCH_HOME": str(tmp_path)}
    for path, python in ((str(Path(sys.executable).parent), "python"), ("/usr/bin", sys.executable)):
        done = run_script(tmp_path, "from prepare import MAX_SEQ_LEN", PATH=path, **places)
        assert done.returncode == 1
        assert f"Make one first (about a minute): {python} prepare.py\n" in done.stderr


def test_without_the_package_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    source = "import sys; sys.modules['autoresearch_kernel'] = None; import prepare; sys.exit(prepare.main([]))"
    done = run_script(tmp_path, source, PYTHONPATH=str(ROOT), AUTORESEARCH_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("prepare.py: Corpora are built by the package autoresearch-kernel")
    assert "make setup" in done.stderr and "pip install autoresearch-kernel" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("climbmix-v8192-t2048", "--corpus climbmix --vocab-size 8192 --sequence-length 2048"),
        ("files_ab12-v512-t64", "--corpus files --files-folder DIR --vocab-size 512 --sequence-length 64"),
    ],
)
def test_a_folder_without_a_corpus_says_how_to_make_the_one_that_it_is_named_after(
    tmp_path: Path, key: str, options: str
) -> None:
    with pytest.raises(prepare.PrepareError) as missing:
        prepare.read_meta(tmp_path / "corpora" / key)
    assert f"prepare.py {options} --rebuild --home {tmp_path}" in str(missing.value)


def test_a_corpus_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("not a corpus")
    with pytest.raises(prepare.PrepareError, match=r"texts/meta.json cannot be read \(Not a directory\): set AUTO"):
        prepare.read_meta(tmp_path / "texts")


@pytest.mark.parametrize("named", ["~/cache", "cache", "link", None])
def test_the_package_finds_the_same_cache(named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.delenv("AUTORESEARCH_HOME", raising=False)
    if named:
        monkeypatch.setenv("AUTORESEARCH_HOME", named)
    assert prepare.home_dir() == cache_dir() and prepare.home_dir().is_relative_to(tmp_path)


def test_importing_prepare_brings_in_nothing_that_only_some_need() -> None:
    source = "import torch, sys; before = set(sys.modules); import prepare; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    heavy = {
        "autoresearch_kernel",
        "tiktoken",
        "rustbpe",
        "huggingface_hub",
        "pyarrow",
        "cloudpickle",
        "torch._dynamo",
        "requests",
    }
    assert not heavy & set(done.stdout.split())
