"""A small project to run studies in: the real prepare.py, a tiny corpus, a train.py that counts instead of training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.core.decide import NUM_BASELINE_RUNS
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study, create_study, open_study
from autoresearch_kernel.run.backend import using_backend
from autoresearch_kernel.scoring.job import ScoringSettings, Wrap
from autoresearch_kernel.show import plot_progress
from autoresearch_kernel.study import disk_space
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system import machine_speed, speed
from autoresearch_kernel.system.disk import Reserve
from tests.event_writer import writer  # noqa: F401  (a fixture)
from tests.pretended import Machine
from tests.ready import SMALL, home_with, made_once
from tests.trust import zygote

PROJECT = Path(__file__).parents[1]
# The slowest first: a slow file that begins last keeps the other workers waiting for its end. The first one makes the
# corpus that the journeys need.
SLOW_FILES = (
    "test_main_job.py", "faults/test_faults.py", "journeys/test_panel_journey.py", "journeys/test_notebooks_journey.py",
    "test_machines.py", "lab/lessons/test_execution.py", "control/test_supervisor.py", "lab/lessons/test_class.py",
    "lab/lessons/test_lesson_6.py", "journeys/test_lessons_journey.py", "study/test_loop.py", "trust/test_escapes.py",
    "run/test_cluster.py", "agents/test_command_real_night.py",
    "trust/test_channels.py", "trust/test_cheats.py", "control/test_gpu_check.py", "study/test_create.py",
    "agents/test_llm.py", "run/test_interactive.py", "run/test_duel.py", "run/test_training.py", "test_set_up.py",
    "study/test_auditing.py", "study/test_proposals.py", "sandbox/test_template.py", "agents/test_command.py",
    "control/test_doctor.py", "test_lock.py", "test_train.py", "test_packaging.py", "test_prepare.py", "test_docs.py",
    "corpora/test_packages.py", "corpora/test_copies.py", "corpora/test_sources.py", "run/test_machine_speed.py",
    "test_cli.py", "test_setup.py", "lab/test_study.py", "lab/test_panel.py", "source/test_adopt.py",
)  # fmt: skip
DTYPE = os.environ.get("AUTORESEARCH_DTYPE") or "float32"  # set it to run the studies of the tests in another format

QUIET = str(PROJECT / "tests" / "quiet")  # on PYTHONPATH, it makes processes take the machine for a quiet one

# Counts which token follows which in a few batches. ALPHA is a knob with a known effect: smoothing by 1.0 is too much.
COUNTING_TRAIN = """# %% [markdown]
# # A model that counts

# %% tags=["parameters"]
SEED = 1  # fixed
ALPHA = 1.0  # added to every count; 0.001..10.0 log
NUM_BATCHES = 20  # batches to count; 5..40

# %%
import time

import torch

from prepare import MAX_SEQ_LEN, Tokenizer, TrainingClock, evaluate_bpb, make_dataloader

tokenizer = Tokenizer.from_directory()
vocab_size = tokenizer.get_vocab_size()


# %%
class Bigram(torch.nn.Module):
    def __init__(self, counts: torch.Tensor):
        super().__init__()
        self.logits = torch.nn.Parameter(counts.log())

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return self.logits[idx]  # (B, T, vocab_size)


# %%
clock = TrainingClock(3600)
counts = torch.full((vocab_size, vocab_size), ALPHA)
batches = make_dataloader(tokenizer, 16, MAX_SEQ_LEN, "train", seed=SEED)
while clock.running() and clock.step < NUM_BATCHES:
    time.sleep(0.01)  # so that its speed is the same on a busy machine
    x, y, epoch = next(batches)
    counts.index_put_((x.flatten(), y.flatten()), torch.ones(x.numel()), accumulate=True)
    clock.report(train_loss=5.0 / (clock.step + 1))

# %%
val_bpb = evaluate_bpb(Bigram(counts), tokenizer, 16)
"""


@pytest.fixture(scope="session", autouse=True)
def active_environment() -> Iterator[None]:
    """Tests run as if their environment were active, so messages name commands as `autoresearch ...`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PATH", os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"])))
        yield


@pytest.fixture(autouse=True)
def quiet_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the measurement of the machine have the mark `real_load`; all others take it for a quiet one."""
    if request.node.get_closest_marker("real_load") is None:
        pretend_quiet(monkeypatch)


def pretend_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions in this process see no load and measure no speed, whatever runs beside the test."""
    monkeypatch.setattr(speed, "busiest", lambda *_: ())
    monkeypatch.setattr(speed, "stolen_seconds", lambda: 0.0)
    monkeypatch.setattr(speed.measure_load, "__defaults__", (0.01,))
    monkeypatch.setattr(machine_speed, "can_measure", lambda: False)


@pytest.fixture
def quiet_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the processes that a test starts: see tests/quiet/sitecustomize.py."""
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [QUIET, before])))


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training side of the embedded corpus with a small vocabulary and a short context, in a cache of its own."""
    return home_with(tmp_path_factory, SMALL) / "corpora" / "stdlib-v512-t64"


@pytest.fixture(scope="session")
def with_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrap]:
    """Makes of `python script.py` a command that forks it from a process that has imported torch, and nothing else."""
    with zygote.started(tmp_path_factory.mktemp("torch"), PROJECT, "torch") as wrap:
        yield wrap


@pytest.fixture
def project(tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git repository with the files that a study needs; its locks and caches are its own."""
    folder = make_project(tmp_path, small_corpus, monkeypatch)
    monkeypatch.chdir(folder)
    yield folder


def make_project(
    parent: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, train_source: str = COUNTING_TRAIN
) -> Path:
    folder = parent / "project"
    folder.mkdir()
    for name in ("prepare.py", "program.md"):
        shutil.copy(PROJECT / name, folder)
    (folder / "train.py").write_text(train_source)
    (folder / ".gitignore").write_text("studies/\n__pycache__/\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "start")
    monkeypatch.setenv("AUTORESEARCH_HOME", str(corpus.parents[1]))
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views take half a second an experiment; most tests look at the record."""
    forget_views(monkeypatch)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Sessions run on a backend that trains in no time; the picture of the study, the slowest part, is not drawn.

    Nor is the reserve of disk space as large as ever: to write it takes longer than all the rest.
    """
    monkeypatch.setattr(plot_progress, "draw_progress", lambda *_, **__: None)
    monkeypatch.setattr(disk_space, "Reserve", partial(Reserve, size_bytes=2**16))
    pretended = Machine()
    with using_backend(pretended.backend):
        yield pretended


def forget_views(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("show_study", "show_notebooks"):
        monkeypatch.setattr(f"autoresearch_kernel.study.steps.{name}", lambda *arguments: None)


def rank_of(path: Path) -> int:
    name = path.relative_to(PROJECT / "tests").as_posix()
    return SLOW_FILES.index(name) if name in SLOW_FILES else len(SLOW_FILES)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def counting_study(
    project: Path, corpus: Path, name: str = "nov23", source: str = COUNTING_TRAIN, **others: Any
) -> Study:
    """A study of the model that counts, with 2 s a run; `others` are settings of `create_study` to replace."""
    settings: dict[str, Any] = {
        "preset": {"name": "none", "parameters": {}, "reason": "a test"},
        "agent": "scripted",
        "time_budget_seconds": 2.0,
        "scoring": vars(ScoringSettings.for_corpus("cpu", DTYPE, 64, 512)),
        "hardware": {"device": "cpu", "device_name": "a test machine"},
        "startup_allowance_seconds": 12.0,  # a hang must end before the reader of a test does
        "handover_allowance_seconds": 6.0,
    }
    return create_study(
        name,
        project=project,
        corpus_dir=corpus,
        heldout_dir=corpus.parents[1] / "heldout" / corpus.name,
        baseline_source=source,
        **(settings | others),
    )


@pytest.fixture(scope="session")
def measured_project(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """A project with a study whose baseline was measured by real kernels and scorers; see `measured`."""

    def measure(parent: Path) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            pretend_quiet(monkeypatch)
            for _ in range(5):  # on a machine that changes its speed, a baseline runs more often than tests count on
                shutil.rmtree(parent / "project", ignore_errors=True)
                study = counting_study(make_project(parent, small_corpus, monkeypatch), small_corpus)
                list(islice(research(study, SearchAgent()), 1))
                if len(replay(read_events(study.paths.history)).experiments[0].runs) == NUM_BASELINE_RUNS:
                    return
        raise AssertionError("the machine changed its speed in the baseline of each of five studies")

    return made_once(tmp_path_factory, "measured", measure) / "project"


@pytest.fixture
def measured(
    tmp_path: Path, measured_project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Study]:
    """The study of `measured_project` in a copy of that project: its baseline takes a test no time."""
    yield copy_of(measured_project, tmp_path, small_corpus, monkeypatch)


def copy_of(project: Path, parent: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study of a project, in a copy of the project that becomes the working folder."""
    folder = shutil.copytree(project, parent / "project", symlinks=True)
    monkeypatch.setenv("AUTORESEARCH_HOME", str(corpus.parents[1]))
    monkeypatch.chdir(folder)
    return open_study("nov23", folder)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first, and mark all tests of generated inputs: `pytest -m fuzz` runs them alone."""
    items.sort(key=lambda item: rank_of(item.path))
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("fuzz")
