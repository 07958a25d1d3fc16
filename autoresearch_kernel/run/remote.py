"""What a worker of a Dask cluster does for a supervisor on another machine; `run/cluster.py` is the supervisor's side.

A task trains, scores or audits with the same functions as on the supervisor's machine, in this machine's own sandbox,
and returns what came of it with all its files. The other functions are no tasks: they are called directly while a task
works. What a task does is in `_works`, by its token. What a supervisor has sent is in `run/received.py`.

A task ends by itself when its supervisor has not asked for a while. Nothing here is part of a study's record.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import MachineFailed
from ..core.types import Audit, Evaluation, MachineHolder, RunOutcome, Status
from ..record.paths import ExperimentPaths
from ..record.study import study_versions
from ..sandbox.kinds import SandboxMissing, require_sandbox, scorer_options
from ..scoring.audit import audit
from ..scoring.job import HeldOut, ScoringJob, ScoringSettings
from ..scoring.score import score
from ..system.disk import free_bytes
from ..system.explain import explain
from ..system.files import boot_id
from ..system.machine import lock_path
from ..system.measuring import open_measuring_process
from ..system.processes import kill_by_token
from ..system.slot import VISIBLE, Seat, Slot, taking, usable_cpus
from ..system.temporary import own_folder
from .outcome import EndRun
from .received import below_root, keep_newest, sha256_of, touch
from .training import Listener, Training, run_training

PROCESS = secrets.token_hex(8)  # of this process: after a restart a worker may have the same address
LEAST_FREE_BYTES = 64 * 2**20  # disk space without which no training is begun
OUTPUT_LIMIT_CHARS = 200_000  # of the output that is kept for the supervisor; older output is dropped
# The newest, and all that is in use; what a supervisor misses it sends again. A run leaves a hand-over with its model,
# a notebook and a log.
KEPT_EXPERIMENTS, KEPT_FILES, KEPT_ARRAYS = 32, 120, 48
TOUCH_SECONDS = 60.0  # after which a task says again what it uses, see `received.IN_USE_SECONDS`
END_SECONDS = 20.0  # that a task may take to end what it runs
FORGET_SECONDS = 3600.0  # after which a task that never began is forgotten


class SupervisorGone(Exception):
    """The supervisor has not asked for a while, so its task is ended."""


class WorkerRestarted(MachineFailed):
    """The task was meant for another process of this worker."""


class Ended(Exception):
    """The supervisor has ended the task."""


@dataclass(frozen=True)
class Seen:
    """What a task does, and what is new of it since the supervisor asked last."""

    is_working: bool = False  # the code runs; before that the task waits for its turn or for the machine
    seconds: float = 0.0  # since the runner started
    fraction: float = 0.0  # of an answer of a scorer that has arrived, 0..1
    holder: MachineHolder | None = None  # whose training it waits for
    points: tuple[dict[str, Any], ...] = ()  # of the curve
    output: str = ""  # of the notebook
    num_chars: int = 0  # that the notebook has written up to the end of `output`

    def after(self, num_points: int, num_chars: int) -> Seen:
        """What is new for a supervisor that has so many points of the curve and so many characters of the output."""
        num_new = self.num_chars - num_chars
        return replace(self, points=self.points[num_points:], output=self.output[-num_new:] if num_new else "")


@dataclass
class Work:
    """A task that is asked for or works."""

    asked: float = field(default_factory=time.monotonic)  # when the supervisor asked last
    lost_seconds: float = FORGET_SECONDS
    has_begun: bool = False
    is_over: bool = False
    seen: Seen = Seen()
    points: list[dict[str, Any]] = field(default_factory=list)  # all of the curve
    output: str = ""  # the end of it
    num_chars: int = 0  # of all of it
    ending: Exception | None = None  # is raised in the task
    used: tuple[Path, ...] = ()  # files and folders
    touched: float = 0.0  # when these were touched last
    lock: threading.Lock = field(default_factory=threading.Lock)  # of `output` and `num_chars`

    def tick(self, seconds: float = 0.0) -> None:
        """Raises what ends the task: the wish of its supervisor, or that the supervisor has vanished."""
        if seconds:
            self.seen = replace(self.seen, seconds=seconds)
        if time.monotonic() - self.touched > TOUCH_SECONDS:
            self.use(*self.used)
        if self.ending is not None:
            raise self.ending
        if (silent := time.monotonic() - self.asked) > self.lost_seconds:
            raise SupervisorGone(f"the supervisor has not asked for {silent:.0f} s")

    def use(self, *paths: Path) -> None:
        """Keep files and folders, and what they lie in, from being removed as long as the task ticks."""
        self.used, self.touched = paths, time.monotonic()
        for path in paths:
            touch(path)

    def hear(self, text: str) -> None:
        with self.lock:
            self.output = (self.output + text)[-OUTPUT_LIMIT_CHARS:]
            self.num_chars += len(text)

    def all_seen(self) -> Seen:
        """What the task does, with all of its curve and the end of its output."""
        with self.lock:
            return replace(self.seen, points=tuple(self.points), output=self.output, num_chars=self.num_chars)


_works: dict[str, Work] = {}  # by token
_described: dict[str, dict[str, Any]] = {}  # by the content of prepare.py


# --- called directly, and not as tasks: each answers at once


async def introduce() -> dict[str, Any]:
    """Which process, machine and part of the machine this is, and with which sandbox and versions it works.

    `part`: the GPUs and the processors that it may use; `lock`: the lock that its trainings take, of one GPU where they
    use one; `versions`: those by which kinds of machine are told apart; `packages`: those on which scores depend.

    Raises MachineFailed where there is no sandbox, and none was renounced.
    """
    _forget_settings_of_dask()
    _keep_log_short()
    try:
        sandbox = (await asyncio.to_thread(require_sandbox)).name  # the first call starts one
    except SandboxMissing as none:
        raise MachineFailed(f"{platform.node()}: {none}") from none
    versions = study_versions()
    return {
        "process": PROCESS,
        "host": f"{platform.node()} {boot_id()}",
        "part": (*(os.environ.get(name) for name in VISIBLE), usable_cpus()),
        "lock": str(lock_path()),
        "sandbox": sandbox,
        "versions": {name: versions.get(name, "missing") for name in ("autoresearch-kernel", "python", "torch")},
        "packages": versions,
    }


def _forget_settings_of_dask() -> None:
    """Remove the variables that Dask sets in its workers: they would leave each training one processor."""
    import dask.config

    for name, value in (dask.config.get("distributed.nanny.pre-spawn-environ", None) or {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]


def _keep_log_short() -> None:
    """Leave out of the worker's log that it is asked what a task does, four times a second."""
    logger = logging.getLogger("distributed.worker")
    if _is_of_interest not in logger.filters:
        logger.addFilter(_is_of_interest)


def _is_of_interest(record: logging.LogRecord) -> bool:
    return record.args != (look.__name__,)


def described(process: str, project: str) -> dict[str, Any] | None:
    """What `describe` found for an earlier study, also while a task keeps the slot busy; None before that."""
    _require_process(process)
    return _described.get(sha256_of(below_root(project) / "prepare.py"))


def look(token: str, num_points: int, num_chars: int) -> Seen:
    """What a task does now, with what is new after that many points of its curve and characters of its output.

    The answer can be lost, so the supervisor says what it has, and nothing is forgotten because it was told once.
    """
    now = time.monotonic()
    for key, old in list(_works.items()):
        if not old.has_begun and now - old.asked > FORGET_SECONDS:
            _works.pop(key, None)
    work = _works.setdefault(token, Work())
    work.asked = now
    return work.all_seen().after(num_points, num_chars)


def end_run(token: str, status: str, reason: str) -> None:
    """End a training, which then has this outcome."""
    _works.setdefault(token, Work()).ending = EndRun(Status(status), reason)


async def end(tokens: list[str]) -> None:
    """End tasks, also those that have not begun, and return once nothing of them runs."""
    for token in tokens:
        _works.setdefault(token, Work()).ending = Ended("the supervisor has ended it")
    until = time.monotonic() + END_SECONDS
    while any(_is_at_work(token) for token in tokens) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    for token in tokens:
        await asyncio.to_thread(kill_by_token, token)


def _is_at_work(token: str) -> bool:
    work = _works.get(token)
    return work is not None and work.has_begun and not work.is_over


# --- tasks


@dataclass(frozen=True)
class Order:
    """What each task is told: for which process it is, whose it is, and where its project is mirrored."""

    process: str  # PROCESS of the worker that is meant
    token: str
    project: str  # below root
    lost_seconds: float
    shares_machine: bool  # with other slots of the same study, so it takes no lock of the machine
    num_on_machine: int  # slots of the study, of which each gets its share of the memory


@dataclass(frozen=True)
class File:
    """A file that comes back."""

    name: str  # in the folder of the experiment
    data: bytes
    sha256: str

    @staticmethod
    def read(name: str, path: Path) -> File:
        data = path.read_bytes()
        return File(name, data, hashlib.sha256(data).hexdigest())

    @property
    def is_whole(self) -> bool:
        return hashlib.sha256(self.data).hexdigest() == self.sha256


@dataclass(frozen=True)
class Trained:
    """What a training left; paths in `outcome` are those of the worker."""

    outcome: RunOutcome
    files: tuple[File, ...]
    seen: Seen  # at its end, with all points of the curve


@dataclass(frozen=True)
class Question:
    """A model to be scored or audited; all files are named below root."""

    artefact: str
    rows: str
    token_bytes: str
    settings: ScoringSettings
    limits: Mapping[str, Any]  # further fields of ScoringJob


@contextmanager
def _working(order: Order) -> Iterator[Work]:
    """Register a task. Raises MachineFailed for one that was meant for another process, or that runs already."""
    _require_process(order.process)
    work = _works.setdefault(order.token, Work())
    if work.has_begun:
        raise MachineFailed(f"The worker on {platform.node()} was asked twice for the same task.")
    work.asked, work.lost_seconds, work.has_begun = time.monotonic(), order.lost_seconds, True
    try:
        work.tick()
        with _on_machine(order):
            yield work
    except SandboxMissing as none:
        raise MachineFailed(f"{platform.node()}: {none}") from none
    except OSError as error:
        raise MachineFailed(f"{platform.node()}: {explain(error)}") from error
    finally:
        work.is_over = True
        _works.pop(order.token, None)
        kill_by_token(order.token)


def _require_process(process: str) -> None:
    """Raise WorkerRestarted in a process that knows nothing of the study: Dask repeats tasks of a worker that died."""
    if process != PROCESS:
        raise WorkerRestarted(f"The worker on {platform.node()} was restarted.")


@contextmanager
def _on_machine(order: Order) -> Iterator[None]:
    """A training takes the lock of its device, or none where several slots of the study share the processors.

    Slots of one machine share its memory, also where each has a GPU of its own.
    """
    slot, num_slots = Slot(0, platform.node()), order.num_on_machine
    if not order.shares_machine:
        with taking(Seat(slot, num_slots=num_slots)) if num_slots > 1 else nullcontext():
            yield
        return
    with open(os.devnull, "rb") as nothing, taking(Seat(slot, lock=nothing.fileno(), num_slots=num_slots)):
        yield


def describe(process: str, project: str, is_again: bool = False) -> dict[str, Any]:
    """The hardware of this machine as a study records it, with its speed.

    It is measured once, or `is_again` once more; then the higher speed counts.
    """
    _require_process(process)
    folder = below_root(project)
    known = sha256_of(folder / "prepare.py")
    before = _described.get(known)
    if before is None or is_again:
        try:
            with open_measuring_process(folder) as measuring:
                facts = measuring.facts() | {"flops": measuring.training_flops()}
        except (OSError, RuntimeError) as error:
            raise MachineFailed(f"{platform.node()} could not be measured: {explain(error)}") from error
        flops = max(facts["flops"], before["flops"] if before is not None else 0.0)
        _described[known] = facts | {"flops": flops}
    return _described[known]


def train(order: Order, training: Training, experiment: str, corpus: str) -> Trained:
    """Train in the mirror of the supervisor's project. `experiment` is the folder of its files, below the project's.

    Raises MachineFailed for what is no fault of the code, as a full disk of this machine.
    """
    with _working(order) as work:
        project = below_root(order.project)
        folder = below_root(f"{order.project}/{experiment}")
        own = replace(training, paths=ExperimentPaths(folder), project=project, corpus_dir=Path(corpus))
        folder.mkdir(parents=True, exist_ok=True)
        work.use(folder, own.paths.handover(own.run), own.paths.notebook(own.run), own.paths.runner_log(own.run))
        keep_newest(folder.parent, KEPT_EXPERIMENTS)
        keep_newest(folder, KEPT_FILES)
        _require_space(folder)
        for left in _files(own):
            left.unlink(missing_ok=True)
        outcome = run_training(own, _listener(work))
        if outcome.status is Status.CRASH:
            _require_space(folder)
        if order.shares_machine:  # the other slots would count as strangers that slow it down
            outcome.measured.pop("machine_speed", None)
        files = tuple(File.read(path.relative_to(folder).as_posix(), path) for path in _files(own) if path.is_file())
        return Trained(outcome, files, work.all_seen())


def _files(training: Training) -> tuple[Path, ...]:
    return *training.paths.trained(training.run), training.paths.runner_log(training.run)


def _listener(work: Work) -> Listener:
    def waits(holder: MachineHolder) -> None:
        work.seen = replace(work.seen, holder=holder)

    def begins(pid: int) -> None:
        work.seen = replace(work.seen, is_working=True)

    return Listener(work.hear, work.points.append, waits, work.tick, begins)


def _require_space(folder: Path) -> None:
    if (free := free_bytes(folder)) < LEAST_FREE_BYTES:
        raise MachineFailed(
            f"The disk of {folder} on {platform.node()} has {free / 1e6:.0f} MB left, and a training needs "
            f"{LEAST_FREE_BYTES / 1e6:.0f} MB."
        )


def score_model(order: Order, question: Question) -> tuple[Evaluation, bytes]:
    """Score a model: the evaluation, and an .npy of its nats per target (N, T). Raises ScoringFailed."""
    with _working(order) as work, own_folder() as folder:
        evaluation = score(_job(order, question, work), folder / "nll.npy")
        return replace(evaluation, nll_path=None), (folder / "nll.npy").read_bytes()


def audit_model(order: Order, question: Question, nll: str, reference: str | None, **facts: Any) -> tuple[Audit, bytes]:
    """Audit a claim: what came of it, and an .npy of the cuts, b"" where none were answered.

    `nll` and `reference` name arrays below root, and `facts` are further arguments of `audit`.
    """
    with _working(order) as work, own_folder() as folder:
        incumbent = None if reference is None else _array(reference)
        cuts, job = folder / "cuts.npy", _job(order, question, work)
        found = audit(job, _array(nll), reference=incumbent, cuts_path=cuts, **facts)
        return found, cuts.read_bytes() if cuts.is_file() else b""


def _array(name: str) -> np.ndarray:
    return np.asarray(np.load(below_root(name), allow_pickle=False))


def _job(order: Order, question: Question, work: Work) -> ScoringJob:
    def progress(fraction: float) -> None:
        work.seen = replace(work.seen, fraction=fraction)

    def begins(pid: int) -> None:
        work.seen = replace(work.seen, is_working=True)

    project, artefact = below_root(order.project), below_root(question.artefact)
    artefact.stat()  # one that was removed since it was sent is no fault of the code
    work.use(artefact.parent)
    heldout = HeldOut(_array(question.rows), _array(question.token_bytes))
    keep_newest(below_root(question.rows).parent, KEPT_ARRAYS)
    return ScoringJob(
        artefact,
        heldout,
        question.settings,
        project,
        token=order.token,
        **scorer_options(project),
        **question.limits,
        on_progress=progress,
        on_tick=work.tick,
        on_spawn=begins,
    )
