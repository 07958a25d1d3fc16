"""The short study that faults are tried on: real record, rule, git and notebooks; a stub trains, scores and proposes.

The stub is deterministic by (train.py, seed), so a study that was cut off must end with the same numbers.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat.v4 import nbbase

from autoresearch_kernel.core.agent import NothingToPropose
from autoresearch_kernel.core.attribution import LEAST_SEEDS
from autoresearch_kernel.core.types import Audit, Context, Evaluation, Proposal, RunOutcome, Status
from autoresearch_kernel.record.study import Study, create_study, open_study, study_exists
from autoresearch_kernel.run.backend import Backend
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.scoring.scorer_process import ScoringFailed
from autoresearch_kernel.show import plot_curve, plot_progress
from autoresearch_kernel.study import disk_space, loop
from autoresearch_kernel.study.attribution import attribute
from autoresearch_kernel.study.finish import finish
from autoresearch_kernel.system.disk import Reserve
from autoresearch_kernel.system.files import write_atomic
from autoresearch_kernel.system.locations import RUN_TOKEN
from autoresearch_kernel.system.speed import Load

from .operations import Injector, replace_in

NAME = "faults"
NOISE = 0.002  # bits per byte, spread of a run
TEST_OFFSET = 0.05  # the test split is a little harder
RESERVE_BYTES = 2**16  # of disk space kept for the record; the real one takes longer to write than all the rest
MODEL_BYTES = 20_000
HEAD = '# %% tags=["parameters"]\nSEED = 1  # fixed\nLEVEL = {level}  # bits per byte\n\n'
TRAIN = HEAD + "# %%\nTrainingClock().running()\n{code}\n"
BASELINE = TRAIN.format(level=1.5, code="train()")
# (level, code) of each idea. Far better, hardly better than that, worse, a crash, and a claim that the audit refuses.
IDEAS = (
    (1.4, "train()"),
    (1.398, "train()"),
    (1.6, "train()"),
    (1.3, "raise RuntimeError('a bad idea')"),
    (1.2, "leak()"),
)
ROWS = np.ones((2, 3), dtype=np.uint32)  # of val and of test
CORPUS = {
    "corpus": "stub",
    "vocab_size": 4,
    "sequence_length": 2,
    "content_sha256": "c" * 64,
    "tokenizer_sha256": "d" * 64,
    "heldout_sha256": hashlib.sha256(2 * ROWS.tobytes()).hexdigest(),
}
PNG = b"\x89PNG\r\n\x1a\n"


class ModelDamaged(ScoringFailed):
    """A model of which not every byte is there came to be scored."""


# --- the study


def make_template(folder: Path) -> None:
    """A project in a git repository, and a corpus of which only the sums are read: copied for every fault."""
    project, corpus, heldout = folder / "project", corpus_of(folder), heldout_of(folder)
    for path in (project, corpus, heldout):
        path.mkdir(parents=True)
    (project / "prepare.py").write_text("# stands for prepare.py\n")
    (project / "program.md").write_text("Lower val_bpb.\n")
    (project / "train.py").write_text(BASELINE)
    (project / ".gitignore").write_text("studies/\n")
    (corpus / "meta.json").write_text(json.dumps(CORPUS))
    np.save(corpus / "token_bytes.npy", np.array([0, 1, 1, 1]))
    for split in ("val", "test"):
        np.save(heldout / f"{split}.npy", ROWS)
    for command in (
        ["init", "-q", "-b", "main", "--template="],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "start"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True)


def corpus_of(folder: Path) -> Path:
    return folder / "corpora" / "stub"


def heldout_of(folder: Path) -> Path:
    return folder / "heldout" / "stub"


def take_study(folder: Path, **others: Any) -> Study:
    """The study in `folder`, created where it is not there yet; `others` are settings of `create_study` to replace."""
    project = folder / "project"
    if study_exists(NAME, project):
        return open_study(NAME, project)
    settings: dict[str, Any] = {
        "preset": {"name": "none", "parameters": {}, "reason": "a test"},
        "agent": "scripted",
        "time_budget_seconds": 1.0,
        "scoring": {"device": "cpu", "dtype": "float32", "rows_per_batch": 1, "num_threads": 1},
        "hardware": {"device": "cpu", "device_name": "a test machine"},
    }
    return create_study(
        NAME,
        project=project,
        corpus_dir=corpus_of(folder),
        heldout_dir=heldout_of(folder),
        baseline_source=BASELINE,
        **(settings | others),
    )


def drive(folder: Path, injector: Injector, *, real_views: bool = False) -> None:
    """Start or continue the study, go on until the agent has nothing left to propose, finish and attribute it."""
    backend = begin(folder, injector, real_views=real_views)
    study = take_study(folder)
    for _ in loop.research(study, Scripted(injector), experiments=len(IDEAS) + 1, backend=backend):
        pass
    finish(study, backend=backend)
    attribute(study, LEAST_SEEDS, backend=backend)


def begin(folder: Path, injector: Injector, *, real_views: bool = False) -> Backend:
    """Make this process one in which an operation may fail; what trains and scores there."""
    os.chdir(folder / "project")
    injector.install()
    stub = Stub(injector)
    replace_in(disk_space, Reserve=partial(Reserve, size_bytes=RESERVE_BYTES))
    replace_in(tempfile, tempdir=str(folder))  # what a killed process leaves there goes with the folder
    if not real_views:
        make_views_cheap()
    return Backend(stub.train, stub.score, stub.audit, load=lambda: Load((), 2))


def make_views_cheap() -> None:
    """Pictures that cost nothing and still say what they were drawn from, so that a stale one is seen.

    Cells of notebooks are taken as they come: checking each against the schema takes as long as the rest of the study.
    """

    def draw_progress(experiments: Any, path: str | Path, **facts: Any) -> Path:
        shown = [(e.number, e.status, e.val_bpb, e.hypothesis) for e in experiments]
        write_atomic(path, PNG + repr((shown, sorted(facts.items()))).encode())
        return Path(path)

    def curve_png(points: Any, *_: Any, **__: Any) -> bytes:
        return PNG + repr(list(points)).encode()

    replace_in(plot_progress, draw_progress=draw_progress)
    replace_in(plot_curve, curve_png=curve_png)
    replace_in(nbbase, validate=lambda *_, **__: None)


# --- who proposes, trains and scores


class Scripted:
    """Proposes by the number of what was decided, so it goes on where the study stopped."""

    name = "scripted"

    def __init__(self, injector: Injector) -> None:
        self.injector = injector

    def propose(self, context: Context) -> Proposal:
        number = len(context.experiments)
        with self.injector.conversation("agent", ConnectionRefusedError("the agent does not answer")) as reply:
            fault = reply()
            if fault == "failure":
                raise TimeoutError("the agent took too long")
            self.injector.end(fault)
        if number > len(IDEAS):
            raise NothingToPropose("every idea was tried")
        level, code = IDEAS[number - 1]
        return Proposal(f"Level {level}: {code}", TRAIN.format(level=level, code=code), self.name)


def true_bpb(source: str, seed: int) -> float:
    """What the stub scores: the level that the source names and noise of the seed's."""
    (level,) = re.findall(r"^LEVEL = (\S+)", source, re.MULTILINE)
    noise = int.from_bytes(hashlib.sha256(f"noise {seed}".encode()).digest()[:4], "big") / 2**32 - 0.5
    return float(level) + NOISE * noise


class Stub:
    """Trains and scores in no time, and leaves the files that the real ones leave."""

    def __init__(self, injector: Injector) -> None:
        self.injector = injector

    def train(self, training: Training, listener: Listener) -> RunOutcome:
        paths, run = training.paths, training.run
        busy = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        who = f"trainer {paths.folder.name} run {run}"
        with self.injector.conversation(who, busy) as reply, _process(training.token, listener.on_spawn):
            outcome = self._train(training)
            fault = reply()
            if fault == "failure":
                return RunOutcome(Status.CRASH, "the runner was killed by signal 9", None, paths.notebook(run))
            self.injector.end(fault)
        return outcome

    def _train(self, training: Training) -> RunOutcome:
        source, paths, run = training.source, training.paths, training.run
        handover = paths.handover(run)
        shutil.rmtree(handover, ignore_errors=True)
        handover.mkdir(parents=True)
        write_atomic(paths.notebook(run), notebook(training.title, source))
        points = [{"step": n, "progress": n / 4, "seconds": n / 4, "train_loss": 3 - n / 4} for n in range(1, 5)]
        paths.metrics(run).write_text("".join(json.dumps(point) + "\n" for point in points))
        if "raise" in source:
            return RunOutcome(Status.CRASH, "RuntimeError: a bad idea", None, paths.notebook(run))
        paths.artefact(run).write_bytes(_model(true_bpb(source, training.seed)))  # by another process, on a real night
        measured = {"training_seconds": 1.0, "total_seconds": 2.0, "device": "cpu", "process_peak_memory_mb": 100.0}
        (handover / "handover.json").write_text(json.dumps(measured))
        return RunOutcome(None, "", paths.artefact(run), paths.notebook(run), measured)

    def score(self, job: ScoringJob, nll_path: Path | None = None) -> Evaluation:
        """On validation rows, or on test rows, whose nats no study keeps, nor those of a dry run."""
        artefact = job.artefact
        split = "val" if nll_path is None or "experiments" in nll_path.parts else "test"
        busy = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        who = f"scorer {artefact.parents[1].name} {artefact.parent.name} {split}"
        with self.injector.conversation(who, busy) as reply, _process(job.token, job.on_spawn):
            val_bpb = self._read_model(artefact) + TEST_OFFSET * (split == "test")
            fault = reply()
            if fault == "failure":
                raise ScoringFailed("the scorer was killed by signal 9")
            self.injector.end(fault)
        if nll_path is not None:
            buffer = io.BytesIO()
            np.save(buffer, np.full(4, val_bpb, dtype="<f4"))
            write_atomic(nll_path, buffer.getvalue())
        return Evaluation(val_bpb, 0.0001, 4, 4, 0.5, nll_path)

    def audit(self, job: ScoringJob, nll: Any, **facts: Any) -> Audit:
        """Refuses what leaked; killed, as its fault is, it says nothing about the model and is asked once more."""
        artefact = job.artefact
        busy = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        who = f"auditor {artefact.parents[1].name} {artefact.parent.name}"
        with self.injector.conversation(who, busy) as reply, _process(job.token, job.on_spawn):
            self._read_model(artefact)
            fault = reply()
            if fault == "failure":
                killed = ScoringFailed("the scorer was killed (out of memory?)")
                killed.may_be_the_machine = True
                raise killed
            self.injector.end(fault)
        is_leak = "leak" in (artefact.parents[1] / "train.py").read_text()
        return Audit(not is_leak, 0.0, 0.0, 4, 4 * is_leak, "it says something else" if is_leak else "", 0.25)

    def _read_model(self, artefact: Path) -> float:
        data = artefact.read_bytes()
        if data != _model(json.loads(data[:MODEL_BYTES].partition(b"\n")[0] or b"0")):
            self.injector.log.say("violation", text=f"{artefact} was scored although it is not whole")
            raise ModelDamaged(f"{artefact} is not whole")
        return float(json.loads(data.partition(b"\n")[0]))


@contextmanager
def _process(token: str | None, on_spawn: Callable[[int], None] | None) -> Iterator[None]:
    """What trains or scores: it ends with a supervisor that has not told it to begin, and outlives any other.

    It begins once the supervisor has written down whom to end after a crash.
    """
    if token is None or on_spawn is None:
        yield
        return
    environment = {"PATH": os.environ["PATH"], RUN_TOKEN: token}
    command = ["sh", "-c", "read begin && exec sleep 1000"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdin is not None
        try:
            on_spawn(child.pid)
            child.stdin.write(b"begin\n")
            child.stdin.flush()
            yield
        finally:
            child.kill()


def _model(val_bpb: float) -> bytes:
    return json.dumps(val_bpb).encode().ljust(40) + b"\n" + bytes(range(256)) * (MODEL_BYTES // 256)


def notebook(title: str, source: str) -> str:
    cells = [
        nbformat.v4.new_markdown_cell(f"# {title}", metadata={"tags": ["heading"]}, id="heading"),
        nbformat.v4.new_code_cell(source, id="train-00"),
    ]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)) + "\n"
