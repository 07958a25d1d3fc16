"""What a study needs of a backend, as checks: for whoever writes a backend, and for a cluster before a night.

`check_backend` trains a tiny model several times, scores and audits it, and lets code fail in the ways that code fails.
It takes about a minute, on a machine with a corpus. `autoresearch doctor --cluster ADDRESS` runs it on a cluster.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.types import Evaluation, RunOutcome, Status
from ..record.paths import ExperimentPaths
from ..sandbox.kinds import scorer_options
from ..scoring.job import HeldOut, ScoringJob, ScoringSettings
from ..scoring.score import bits_per_byte
from ..scoring.scorer_process import ScoringFailed
from ..system.explain import explain
from ..system.machine_speed import usable_cores
from ..system.slot import Seat, Slot, TooManySlots, taking
from .backend import Backend
from .outcome import EndRun
from .training import Listener, Training

NUM_STEPS = 20
START_SECONDS, LEAVE_SECONDS = 60.0, 30.0  # allowances of a training
HANG_SECONDS = 12.0  # limit of a training that hangs, its start included
ROWS = 64  # that are scored
SAME = 1e-3  # relative difference of two losses that count as the same: sums on a GPU have no fixed order
# A model that knows how often each token is; it is the same program on every device.
SOURCE = f"""# %% tags=["parameters"]
SEED = 1

# %%
import time

import torch
from prepare import MAX_SEQ_LEN, Tokenizer, TrainingClock, evaluate_bpb, get_device, make_dataloader

PAUSE = 0.0
tokenizer, device = Tokenizer.from_directory(), get_device()
batches = make_dataloader(tokenizer, 8, MAX_SEQ_LEN, "train", device=device, seed=SEED)


# %%
class Unigram(torch.nn.Module):
    def __init__(self, vocab_size: int):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(vocab_size))

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*idx.shape, -1)  # (B, T, vocab_size)


# %%
model = Unigram(tokenizer.get_vocab_size()).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
clock = TrainingClock()
while clock.running() and clock.step < {NUM_STEPS}:
    x, y, epoch = next(batches)
    loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(PAUSE)
    clock.report(train_loss=loss.item())

# %%
val_bpb = evaluate_bpb(model, tokenizer, 8)
"""
SLOW = SOURCE.replace("PAUSE = 0.0", "PAUSE = 1.0")  # so that there is something to end
LAST = "# %%\nval_bpb"


class Unfit(Exception):
    """What a backend does wrong, in a sentence that follows its check's name."""


def require(is_so: object, words: str) -> None:
    """Raise Unfit with these words unless it is so."""
    if not is_so:
        raise Unfit(words)


@dataclass(frozen=True)
class Finding:
    """What came of one check."""

    check: str  # its name
    problem: str  # "" where the backend passes
    seconds: float


@dataclass
class Heard:
    """What a listener of a training heard."""

    steps: list[int] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)

    @property
    def listener(self) -> Listener:
        return Listener(on_metrics=lambda point: self.steps.append(point["step"]), on_tick=self.ticks.append)


class Bench:
    """A backend, and what its checks train and score."""

    def __init__(
        self,
        backend: Backend,
        project: Path,
        corpus_dir: Path,
        heldout_dir: Path,
        settings: ScoringSettings,
        folder: Path,
    ) -> None:
        self.backend, self.project, self.corpus_dir, self.folder = backend, project, corpus_dir, folder
        self.settings = settings
        self.heldout = HeldOut.load(corpus_dir, heldout_dir, "val")
        self.heldout = replace(self.heldout, rows=self.heldout.rows[:ROWS])
        self.count = 0

    def training(self, source: str = SOURCE, **others: Any) -> Training:
        """A new training, in a folder of its own."""
        self.count += 1
        facts: dict[str, Any] = {
            "time_budget_seconds": START_SECONDS, "startup_allowance_seconds": START_SECONDS,
            "handover_allowance_seconds": LEAVE_SECONDS, "dtype": self.settings.dtype,
        }  # fmt: skip
        paths = ExperimentPaths(self.folder / f"{self.count:04d}")
        paths.folder.mkdir(parents=True)
        facts |= {"title": "A check", "hypothesis": "It trains.", "diff": ""}
        facts |= {"corpus_dir": self.corpus_dir, "project": self.project}
        return Training(source=source, paths=paths, run=0, seed=1, **(facts | others))

    def train(self, training: Training, listener: Listener | None = None) -> RunOutcome:
        return self.backend.train(training, listener or Heard().listener)

    def job(self, artefact: Path) -> ScoringJob:
        return ScoringJob(artefact, self.heldout, self.settings, self.project, **scorer_options(self.project))

    @cached_property
    def artefact(self) -> Path:
        """A trained model."""
        outcome = self.train(self.training())
        require(outcome.artefact is not None, f"a training ended with {outcome.status}: {outcome.reason}")
        assert outcome.artefact is not None
        return outcome.artefact

    @cached_property
    def scored(self) -> tuple[Evaluation, np.ndarray]:
        """The score of this model, and its nats per target."""
        path = self.folder / "nll.npy"
        evaluation = self.backend.score(self.job(self.artefact), nll_path=path)
        require(path.is_file() and evaluation.nll_path == path, "the nats of a score are not where they were wanted")
        return evaluation, np.load(path)


# --- the checks


def trains(bench: Bench) -> None:
    """A training leaves model, curve and notebook where its paths say, and tells of each point once."""
    training, heard = bench.training(), Heard()
    outcome, paths = bench.train(training, heard.listener), training.paths
    require(outcome.status is None, f"it ended with {outcome.status}: {outcome.reason}")
    require(outcome.artefact == paths.artefact(0) and paths.artefact(0).is_file(), "its model is not in its folder")
    require(outcome.notebook == paths.notebook(0) and paths.notebook(0).is_file(), "its notebook is not in its folder")
    cells = json.loads(paths.notebook(0).read_text(encoding="utf-8"))["cells"]
    require(any(cell.get("execution_count") for cell in cells), "its notebook was not executed")
    lines = paths.metrics(0).read_text(encoding="utf-8").splitlines() if paths.metrics(0).is_file() else []
    steps = [json.loads(line)["step"] for line in lines]
    require(steps and steps == heard.steps, "the points of its curve were not told once each, in their order")
    require(heard.ticks and heard.ticks == sorted(heard.ticks), "its seconds were not told, or ran backwards")
    known = outcome.measured.get("num_steps")
    require(known == NUM_STEPS, f"it made {NUM_STEPS} steps, and the measured facts say {known}")


def repeats(bench: Bench) -> None:
    """The same code and seed give the same loss."""
    losses = [bench.train(bench.training()).measured.get("train_loss") for _ in range(2)]
    one, other = (loss if isinstance(loss, float) else float("nan") for loss in losses)
    require(abs(one - other) <= SAME * abs(one), f"the last losses were {losses[0]} and {losses[1]}")


def tells_a_crash(bench: Bench) -> None:
    """An exception of the code is a crash, whose reason names it, with the notebook as far as it came."""
    training = bench.training(SOURCE.replace(LAST, 'raise ValueError("planted")\n\n' + LAST))
    outcome = bench.train(training)
    require(outcome.status is Status.CRASH, f"it ended with {outcome.status or 'a model'}")
    require("planted" in outcome.reason, f"the reason is {outcome.reason!r}")
    require(outcome.artefact is None, "there is a model all the same")
    require(outcome.notebook is not None and outcome.notebook.is_file(), "there is no notebook")


def refuses_what_is_no_program(bench: Bench) -> None:
    """A source that does not parse is invalid, and nothing runs."""
    outcome = bench.train(bench.training("def ("))
    require(outcome.status is Status.INVALID and outcome.reason, f"it ended with {outcome.status or 'a model'}")


def ends_what_hangs(bench: Bench) -> None:
    """Code that passes its limit is ended, as a timeout."""
    source = SOURCE.replace(LAST, "time.sleep(3600)\n\n" + LAST)
    limits = {"startup_allowance_seconds": HANG_SECONDS, "time_budget_seconds": 1.0, "handover_allowance_seconds": 1.0}
    began = time.monotonic()
    outcome = bench.train(bench.training(source, **limits))
    seconds = time.monotonic() - began
    require(outcome.status is Status.TIMEOUT, f"it ended with {outcome.status or 'a model'}")
    require(seconds < HANG_SECONDS + START_SECONDS, f"it ended only after {seconds:.0f} s")


def obeys_its_listener(bench: Bench) -> None:
    """A callback that raises EndRun ends the training, and decides how it ended."""

    def end(point: dict[str, Any]) -> None:
        raise EndRun(Status.DISCARD, "enough")

    outcome = bench.train(bench.training(SLOW), Listener(on_metrics=end))
    require(
        (outcome.status, outcome.reason) == (Status.DISCARD, "enough"), f"it ended with {outcome.status or 'a model'}"
    )
    require(outcome.artefact is None, "there is a model all the same")


class _Stopped(Exception):
    """What a callback raises to end all."""


def passes_exceptions_on(bench: Bench) -> None:
    """Any other exception of a callback ends the training, and is raised."""

    def stop(point: dict[str, Any]) -> None:
        raise _Stopped

    try:
        outcome = bench.train(bench.training(SLOW), Listener(on_metrics=stop))
    except _Stopped:
        return
    raise Unfit(f"it was swallowed, and the training ended with {outcome.status or 'a model'}")


def scores(bench: Bench) -> None:
    """A score is the mean of the nats that it leaves, in bits per byte."""
    evaluation, nll = bench.scored
    val_bpb, error = bits_per_byte(nll, bench.heldout.num_bytes)
    require(nll.shape == bench.heldout.rows[:, 1:].shape, f"there are {nll.shape} nats")
    is_same = abs(evaluation.val_bpb - val_bpb) < 1e-6 and abs(evaluation.standard_error - error) < 1e-6
    require(is_same, f"it is {evaluation.val_bpb:.6f}, and the nats say {val_bpb:.6f}")
    require(1.0 < val_bpb < 8.0, f"it is {val_bpb:.4f} for a model that knows how often each token is")


def refuses_a_model_that_cannot_answer(bench: Bench) -> None:
    """A file that is no model has no score."""
    artefact = bench.training().paths.folder / "model.pkl"
    artefact.write_bytes(b"no model")
    try:
        evaluation = bench.backend.score(bench.job(artefact), nll_path=artefact.with_name("nll.npy"))
    except ScoringFailed:
        return
    raise Unfit(f"its score is {evaluation.val_bpb}")


def audits(bench: Bench) -> None:
    """An audit accepts a true claim, and refuses one that says less than the model."""
    _, nll = bench.scored
    job = bench.job(bench.artefact)
    found = bench.backend.audit(job, nll, claim_seconds=60.0, cuts_path=bench.folder / "cuts.npy")
    require(found.accepted, f"a true claim was refused: {found.reason}")
    require((bench.folder / "cuts.npy").is_file(), "the places that it looked at were not written")
    lied = bench.backend.audit(bench.job(bench.artefact), nll * 0.5, claim_seconds=60.0)
    require(not lied.accepted, "a claim of half the nats was accepted")


def _slots(backend: Backend) -> tuple[Slot, ...]:
    """All that it has; two where a study says how many it has, unless its machine cannot be divided."""
    if backend.num_slots is not None:
        return backend.divide(backend.num_slots)
    try:
        return backend.divide(2)
    except TooManySlots:
        return backend.divide(1)


def trains_on_each_slot(bench: Bench) -> None:
    """Each slot has a name, and all of them train and score at the same time."""
    backend = bench.backend
    slots, cores = _slots(backend), usable_cores()
    require(len({slot.name for slot in slots}) == len(slots), f"two slots have one name: {[s.name for s in slots]}")
    trainings = [bench.training() for _ in slots]

    def work(slot: Slot, lock: int | None, training: Training) -> str:
        with taking(Seat(slot, lock, cores, len(slots))):
            outcome = bench.train(training)
            if outcome.artefact is None:
                return f"{slot.name}: a training ended with {outcome.status}: {outcome.reason}"
            val_bpb = backend.score(bench.job(outcome.artefact), nll_path=training.paths.nll(0)).val_bpb
        expected = bench.scored[0].val_bpb
        return (
            ""
            if abs(val_bpb - expected) <= SAME * expected
            else f"{slot.name}: the score is {val_bpb:.6f}, not {expected:.6f}"
        )

    _ = bench.scored  # once, and not in each thread
    held = backend.hold(slots, lambda holder: None, lambda seconds: None, "")
    with held as locks, ThreadPoolExecutor(len(slots)) as threads:
        problems = [*filter(None, threads.map(work, slots, locks, trainings))]
    require(not problems, "; ".join(problems))


CHECKS: tuple[Callable[[Bench], None], ...] = (
    trains, repeats, tells_a_crash, refuses_what_is_no_program, ends_what_hangs, obeys_its_listener,
    passes_exceptions_on, scores, refuses_a_model_that_cannot_answer, audits, trains_on_each_slot,
)  # fmt: skip


def check_backend(
    backend: Backend,
    project: Path,
    corpus_dir: Path,
    heldout_dir: Path,
    settings: ScoringSettings,
    checks: Sequence[Callable[[Bench], None]] = CHECKS,
) -> Iterator[Finding]:
    """Each check as it is made; a study can run on a backend that has no problem.

    Args:
        project: the folder with prepare.py. A folder for the checks is made in its `studies`, and removed.
        corpus_dir, heldout_dir: both sides of a corpus that is prepared.
        settings: device and number format of the backend's machines.

    Example:
        >>> for found in check_backend(mine, project, corpus_dir, heldout_dir, settings):  # doctest: +SKIP
        ...     print(found.check, found.problem or "passes")
    """
    (project / "studies").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".check-", dir=project / "studies"))
    try:
        bench = Bench(backend, project, corpus_dir, heldout_dir, settings, folder)
        for check in checks:
            began, problem = time.monotonic(), ""
            try:
                check(bench)
            except Unfit as unfit:
                problem = str(unfit)
            except Exception as error:  # whatever a backend raises is its problem
                problem = f"it raised {type(error).__name__}: {explain(error)}"
            yield Finding(check.__name__.replace("_", " "), problem, time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
