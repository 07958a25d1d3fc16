"""The score: hand calculations, and a scorer process that is given bad artefacts."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import platform
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings, Wrap
from autoresearch_kernel.scoring.score import bits_per_byte, score
from autoresearch_kernel.scoring.scorer_process import ScoringFailed
from autoresearch_kernel.system.processes import kill_by_token
from tests.formats import FORMATS

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


class Suicidal(Uniform):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        import os

        os.kill(os.getpid(), 9)
        return super().forward(idx)


class Orphaning(Uniform):
    """Leaves a process of its own behind, in a session of its own and with the pipe of the answer open."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        if os.fork() == 0:
            os.setsid()
            time.sleep(300)
        raise SystemExit(0)


class LookingForFiles(Uniform):
    """Tries every way to bring a name to the system, and fails unless all are refused.

    It also names a module that ends the process that imports it.
    """

    program = "unittest.__main__"

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        ways = [
            lambda: os.open("/dev/null", os.O_RDONLY), lambda: os.stat("/no-such-name"), lambda: os.stat("/usr"),
            lambda: os.listdir("/"), lambda: os.readlink("/proc/self/exe"), lambda: os.access("/no-such-name", os.F_OK),
            lambda: os.chdir("/"), lambda: os.mkdir("/tmp/x"), lambda: os.execv("/bin/true", ["true"]),
            lambda: os.statvfs("/"), lambda: socket.socket(socket.AF_UNIX), lambda: os.utime("/no-such-name"),
            lambda: os.unlink("/no-such-name"),
        ]  # fmt: skip
        for way in ways:
            try:
                found = way()
            except PermissionError as error:
                assert error.errno == errno.EPERM
                continue
            if found is not False:  # access reports no error
                raise AssertionError(f"{found} was found")
        return super().forward(idx)


class UsingTheCompilersModules(Uniform):
    """Honest, and calls what imports torch._dynamo at its first use."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        x = torch.zeros((len(idx), 1, idx.shape[1], 16))
        nothing = flex_attention(x, x, x).sum() + torch.jit.trace(torch.sum, x)(x)
        logits: torch.Tensor = checkpoint(super().forward, idx, use_reentrant=False)
        return logits + nothing


class HoldingTheGil(torch.nn.Module):
    """Answers the first batch, and holds the interpreter in the second one."""

    answered = False

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        if self.answered:
            ctypes.PyDLL(None).sleep(60)
        self.answered = True
        return torch.zeros((*idx.shape, VOCAB))


class Quitter(torch.nn.Module):
    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        raise SystemExit(0)


class AskingForTheFormat(Uniform):
    """Uniform where prepare.py names the format that the scorer computes in."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        import prepare

        used = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        assert prepare.autocast_dtype("cpu") == used
        return super().forward(idx)


def test_uniform_logits_over_256_bytes_are_8_bits_per_byte_whatever_bos_gets(tmp_path: Path) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    nll_path = tmp_path / "nll.npy"
    result = score(ScoringJob(pickled(Uniform(), tmp_path), heldout, SETTINGS, PROJECT), nll_path)
    assert result.val_bpb == pytest.approx(8.0, abs=1e-5)
    assert result.num_tokens == result.num_bytes == 10 * (T - 1)  # the BOS targets are not scored
    assert result.standard_error == pytest.approx(0.0, abs=1e-5)
    nll = np.load(nll_path)
    assert nll.shape == (10, T)
    assert (nll[:, 6] == 0).all()


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_model_may_ask_for_the_number_format_that_it_is_scored_in(tmp_path: Path, dtype: str, forked: Wrap) -> None:
    heldout, settings = HeldOut(rows_of_random_bytes(), TOKEN_BYTES), replace(SETTINGS, dtype=dtype)
    evaluation = score(ScoringJob(pickled(AskingForTheFormat(), tmp_path), heldout, settings, PROJECT, wrap=forked))
    assert evaluation.val_bpb == pytest.approx(8.0, abs=1e-5)


def test_prints_of_the_model_do_not_reach_the_answer(tmp_path: Path, forked: Wrap) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    job = ScoringJob(pickled(Chatty(), tmp_path), heldout, SETTINGS, PROJECT, wrap=forked)
    assert score(job).val_bpb == pytest.approx(8.0, abs=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Mute(), r"expected logits \(B, T, vocab_size\)"),
        (NotANumber(), "some tokens have no finite likelihood"),
        (Quitter(), "it ended before it had answered"),
    ],
)
def test_a_bad_artefact_fails_with_one_line(tmp_path: Path, model: torch.nn.Module, message: str, forked: Wrap) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    with pytest.raises(ScoringFailed, match=message):
        score(ScoringJob(pickled(model, tmp_path), heldout, SETTINGS, PROJECT, wrap=forked, may_quote=True))


class Telltale(torch.nn.Module):
    """Puts what it was given into its error."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"tokens {idx[0].tolist()}")


def test_what_a_child_says_of_held_out_rows_is_not_told(tmp_path: Path, forked: Wrap) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    job = ScoringJob(pickled(Telltale(), tmp_path), heldout, SETTINGS, PROJECT, wrap=forked)
    with pytest.raises(ScoringFailed) as error:
        score(job)
    assert str(error.value) == "the model failed on the held-out rows; what it printed about them is not shown"
    with pytest.raises(ScoringFailed, match=r"ValueError: tokens \[256, \d+"):
        score(replace(job, may_quote=True))


class Learner(torch.nn.Module):
    """Takes its time when it is asked first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.is_ready = False

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        if not self.is_ready:
            time.sleep(1.5)
        self.is_ready = True
        return torch.zeros(*idx.shape, 257)


def test_a_batch_that_takes_long_is_told_and_ended_at_its_limit(tmp_path: Path, forked: Wrap) -> None:
    heldout, artefact = HeldOut(rows_of_random_bytes(), TOKEN_BYTES), pickled(Learner(), tmp_path)
    job = ScoringJob(artefact, heldout, SETTINGS, PROJECT, wrap=forked)
    found = score(job)
    assert found.slowest_batch_seconds is not None and 1.4 < found.slowest_batch_seconds < found.evaluation_seconds
    with pytest.raises(ScoringFailed, match=r"took longer than 1\.0 s") as error:
        score(replace(job, batch_limit_seconds=1.0))
    assert error.value.may_be_the_machine


class Loiterer(Uniform):
    """Takes a little time for every batch."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        time.sleep(0.4)
        return super().forward(idx)


def test_batches_that_take_long_together_are_ended_at_their_limit(tmp_path: Path, forked: Wrap) -> None:
    heldout, artefact = HeldOut(rows_of_random_bytes(), TOKEN_BYTES), pickled(Loiterer(), tmp_path)
    job = ScoringJob(artefact, heldout, SETTINGS, PROJECT, wrap=forked, batch_limit_seconds=20.0)
    found = score(job)
    assert found.answer_seconds is not None and 1.2 < found.answer_seconds < found.evaluation_seconds
    with pytest.raises(ScoringFailed, match=r"all batches together took longer than 0\.8 s") as error:
        score(replace(job, total_limit_seconds=0.8))
    assert error.value.may_be_the_machine


@pytest.mark.parametrize("counts", [[3, 4], [3, 3], [None, None]])
def test_a_killed_scorer_is_the_machines_doing_only_when_memory_was_short(
    tmp_path: Path, counts: list[int | None], forked: Wrap
) -> None:
    heldout, count = HeldOut(rows_of_random_bytes(), TOKEN_BYTES), iter(counts).__next__
    job = ScoringJob(pickled(Suicidal(), tmp_path), heldout, SETTINGS, PROJECT, wrap=forked, memory_kills=count)
    with pytest.raises(ScoringFailed, match="the scorer was killed") as error:
        score(job)
    assert error.value.may_be_the_machine == (counts == [3, 4])
    assert ("the code counts as the cause" in str(error.value)) == (counts != [3, 4])


def test_a_file_that_is_no_pickle_fails_with_one_line(tmp_path: Path, forked: Wrap) -> None:
    artefact, heldout = tmp_path / "model.pkl", HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    artefact.write_bytes(b"not a model")
    with pytest.raises(ScoringFailed, match="UnpicklingError"):
        score(ScoringJob(artefact, heldout, SETTINGS, PROJECT, wrap=forked, may_quote=True))


def test_a_hanging_model_is_ended_at_the_limit(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ScoringFailed, match="longer than 4 s"):
        heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
        score(ScoringJob(pickled(Sleeper(), tmp_path), heldout, SETTINGS, PROJECT, limit_seconds=4))
    assert time.monotonic() - started < 8


def test_a_scorer_can_be_watched_and_ended(tmp_path: Path) -> None:
    moments: list[float] = []
    spawned: list[int] = []

    def look() -> None:
        moments.append(time.monotonic())
        if len(moments) == 8:
            raise KeyboardInterrupt

    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    artefact = pickled(Sleeper(), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        score(ScoringJob(artefact, heldout, SETTINGS, PROJECT, on_tick=look, on_spawn=spawned.append))
    assert max(b - a for a, b in pairwise(moments)) < 0.25
    assert len(spawned) == 1 and not alive(spawned[0])


def test_what_a_model_starts_ends_with_its_score(tmp_path: Path) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    started = time.monotonic()
    with pytest.raises(ScoringFailed, match="the model failed on the held-out rows"):
        score(ScoringJob(pickled(Orphaning(), tmp_path), heldout, SETTINGS, PROJECT, token="score-of-ours"))
    assert time.monotonic() - started < 30
    assert kill_by_token("score-of-ours") == set()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter for other machines")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a filter")
def test_a_model_cannot_look_for_files_while_it_is_scored(tmp_path: Path) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    job = ScoringJob(pickled(LookingForFiles(), tmp_path), heldout, SETTINGS, PROJECT, may_quote=True)
    assert score(job).val_bpb == pytest.approx(8.0, abs=1e-5)


def test_an_honest_model_may_use_what_torch_imports_late(tmp_path: Path) -> None:
    heldout = HeldOut(rows_of_random_bytes(), TOKEN_BYTES)
    job = ScoringJob(pickled(UsingTheCompilersModules(), tmp_path), heldout, SETTINGS, PROJECT, may_quote=True)
    assert score(job).val_bpb == pytest.approx(8.0, abs=1e-5)


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="needs its call by number")
def test_a_filter_that_fails_is_not_the_models_fault(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from autoresearch_kernel.scoring import no_paths\n"
        "from autoresearch_kernel.system import seccomp\n"
        "no_paths._install(seccomp.refusing([317]))  # no further filter\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    job = ScoringJob(
        pickled(Uniform(), tmp_path), HeldOut(rows_of_random_bytes(), TOKEN_BYTES), SETTINGS, PROJECT,
        wrap=lambda command, artefact: [sys.executable, "-c", code, *command],
    )  # fmt: skip
    with pytest.raises(MachineFailed, match=r"did not start.*could not give up looking for files"):
        score(job)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_scorer_dies_with_its_parent_even_in_c_code(tmp_path: Path) -> None:
    pid_file, marker = tmp_path / "pid", tmp_path / "marker"
    artefact = pickled(HoldingTheGil(), tmp_path)
    np.savez(tmp_path / "rows.npz", rows=rows_of_random_bytes(), token_bytes=TOKEN_BYTES)
    code = f"""
import numpy as np
from pathlib import Path
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings, Wrap
from autoresearch_kernel.scoring.score import score
saved = np.load({str(tmp_path / "rows.npz")!r})
score(ScoringJob(Path({str(artefact)!r}), HeldOut(saved["rows"], saved["token_bytes"]),
    ScoringSettings("cpu", "float32", 4, 2), Path("."),
    on_progress=lambda share: Path({str(marker)!r}).touch(),
    on_spawn=lambda pid: Path({str(pid_file)!r}).write_text(str(pid))))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    deadline = time.monotonic() + 60
    while not marker.exists():
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 1
    while alive(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(int(pid_file.read_text()))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
