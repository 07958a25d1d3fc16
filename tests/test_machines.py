"""Studies on machines as people have them: containers, links to other disks, old terminals, unlucky file names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.types import Cause, Proposal, RunOutcome, Status
from autoresearch_kernel.record.archive import failure_output
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.run import training
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.sandbox.kinds import probe, scorer_options
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.scoring.score import score
from autoresearch_kernel.study.dry_run import dry_run
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.steps import open_session
from tests.conftest import COUNTING_TRAIN, QUIET, counting_study, make_project
from tests.pretended import Machine
from tests.study.test_loop import Scripted

ROOT = Path(__file__).parents[1]
CLI = (sys.executable, "-P", "-m", "autoresearch_kernel.cli")
PYTHONPATH = os.pathsep.join(filter(None, [QUIET, str(ROOT), os.environ.get("PYTHONPATH")]))


def autoresearch(*words: str, before: tuple[str, ...] = (), **how: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; `before` is the beginning of a command that starts it elsewhere."""
    env = os.environ | {"PYTHONPATH": PYTHONPATH} | how.pop("env", {})
    usual: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "timeout": 240}
    return subprocess.run([*before, *CLI, *words], env=env, **usual | how)


def container(work: Path) -> tuple[str, ...]:
    """A root that can only be read, but for `work`; a user with a number and no name; no home and no bubblewrap."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("bubblewrap makes the container of this test")
    command = (
        bwrap, "--unshare-user", "--uid", "4242", "--gid", "4242", "--ro-bind", "/", "/", "--dev", "/dev",
        "--proc", "/proc", "--tmpfs", "/tmp", "--ro-bind", str(ROOT), str(ROOT),
        "--bind", str(work), str(work), "--ro-bind", "/dev/null", bwrap,
        "--unsetenv", "HOME", "--unsetenv", "USER", "--unsetenv", "LOGNAME",
    )  # fmt: skip
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("bubblewrap may not make namespaces here")
    probe = "from autoresearch_kernel.sandbox.kinds import require_sandbox as r; print(r().name)"
    done = subprocess.run(
        [*command, sys.executable, "-c", probe], env=os.environ | {"PYTHONPATH": PYTHONPATH}, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("there is no Landlock to stand in for bubblewrap")
    return command


def test_two_experiments_in_a_container_on_a_link_with_ascii_output(project: Path, small_corpus: Path) -> None:
    """No home, no name, a root that can only be read, no bubblewrap, `studies` on another disk."""
    (project.parent / "disk").mkdir()
    (project / "studies").symlink_to(project.parent / "disk")
    shutil.copytree(small_corpus.parents[1], project.parent / "cache")
    cache = project.parent / "cache"
    corpus = cache / "corpora" / small_corpus.name
    counting_study(project, corpus, agent="search")
    inside = container(project.parent)
    env = {"AUTORESEARCH_HOME": str(cache), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = autoresearch("run", "--name", "nov23", "--experiments", "2", before=inside, cwd=project, env=env)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr + done.stdout
    assert done.stdout.isascii() and "? baseline" in done.stdout
    state = read_state(project.parent / "disk" / "nov23" / "history.jsonl")
    assert len(state.decided) == 3 and all(e.val_bpb is not None for e in state.decided), [
        (e.status, e.reason) for e in state.decided
    ]


UNLUCKY = ("random.py", "calendar.py", "code.py", "statistics.py", "types.py", "json.py", "select.py", "openai.py",
           "email/__init__.py", "numpy.py", "tempfile.py", "__init__.py")  # fmt: skip


@pytest.fixture
def unlucky(project: Path) -> Path:
    """A project with files of the names of modules; to import one of them is an error."""
    for name in UNLUCKY:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("raise RuntimeError('homework')\n")
    return project


def test_a_study_runs_beside_files_with_the_names_of_modules(unlucky: Path, small_corpus: Path) -> None:
    counting_study(unlucky, small_corpus, agent="search")
    how: dict[str, Any] = {"cwd": unlucky, "capture_output": True, "text": True, "timeout": 240}
    words = [sys.executable, "-m", "autoresearch_kernel.cli", "run", "--name", "nov23", "--experiments", "1"]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": PYTHONPATH}, **how)
    assert done.returncode == 0 and "homework" not in done.stdout + done.stderr, done.stderr + done.stdout
    assert "calendar.py, code.py, email, json.py, numpy.py" in done.stdout.splitlines()[0]
    assert len(read_state(unlucky / "studies" / "nov23" / "history.jsonl").decided) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "autoresearch_kernel.cli", "status"),
        ("-m", "autoresearch_kernel.cli", "prepare", "--help"),
        ("-P", "-m", "autoresearch_kernel.cli", "status"),
        ("prepare.py", "--help"),
    ],
)
def test_commands_start_beside_them(words: tuple[str, ...], unlucky: Path, small_corpus: Path) -> None:
    counting_study(unlucky, small_corpus)
    env = os.environ | {"PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, *words], cwd=unlucky, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


IN_LOOP = "    clock.report("
LATE = "    if clock.step == 3:\n        next(make_dataloader(tokenizer, 3, 10**9, 'train'))\n"
LATE_CRASH = COUNTING_TRAIN.replace(IN_LOOP, LATE + IN_LOOP, 1)


def test_a_crash_within_prepare_tells_nothing_about_the_user(
    tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "alice-secretname"
    home.mkdir(parents=True)
    project = make_project(home, small_corpus, monkeypatch, LATE_CRASH)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "alice-secretname")
    study = counting_study(project, small_corpus, source=LATE_CRASH)
    with pytest.raises(StudyError, match=r"did not train \(crash\)"):
        list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    paths = study.experiment(0)
    assert "prepare.py" in failure_output(paths)
    for file in (paths.notebook(0), paths.runner_log(0)):
        assert "alice-secretname" not in file.read_text(encoding="utf-8")
    said = [event for event in read_events(study.paths.history) if event["event"] in ("trained", "stopped", "note")]
    assert said and "alice-secretname" not in str(said)


def test_a_kernel_that_does_not_start_is_not_the_models_crash(
    project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = counting_study(project, small_corpus)
    monkeypatch.setattr(training, "wrap", lambda policy, argv, sandbox: ["/no/such/bwrap"])
    with pytest.raises(StudyError, match=r"The kernel did not start in its sandbox: /no/such/bwrap does not exist"):
        list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    (run,) = read_state(study.paths.history).experiments[0].runs
    assert (run.status, run.causes) == (Status.INTERRUPTED, (Cause.NOT_STARTED,))


def test_a_machine_that_fails_once_costs_an_experiment_nothing(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study = counting_study(project, small_corpus)
    failures = [MachineFailed("The kernel did not start: no more processes."), None, MachineFailed("Again.")]

    def train(given: Training, listener: Listener) -> RunOutcome:
        if given.paths.folder.name == "0001" and failures and (failure := failures.pop()):
            raise failure
        return machine.pretend_training(given, listener)

    machine.train = train
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    state = read_state(study.paths.history)
    assert state.experiments[1].status is Status.KEEP
    notes = [event["text"] for event in read_events(study.paths.history) if event["event"] == "note"]
    assert sum("This is not the experiment's fault; it is tried again in 5 s." in note for note in notes) == 2


def test_a_runner_that_fails_twice_while_the_code_runs_is_the_codes_doing(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study = counting_study(project, small_corpus)

    def train(given: Training, listener: Listener) -> RunOutcome:
        if given.paths.folder.name == "0001":
            raise MachineFailed("The notebook could not be executed: odd.", may_be_the_code=True)
        return machine.pretend_training(given, listener)

    machine.train = train
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    assert read_state(study.paths.history).experiments[1].status is Status.CRASH


def test_a_runner_that_fails_once_after_a_kernel_that_did_not_start_is_no_crash_of_the_code(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study = counting_study(project, small_corpus)
    failures = [
        MachineFailed("The worker is gone.", may_be_the_code=True),
        MachineFailed("The kernel did not start: no more processes."),
    ]

    def train(given: Training, listener: Listener) -> RunOutcome:
        if given.paths.folder.name == "0001" and failures:
            raise failures.pop()
        return machine.pretend_training(given, listener)

    machine.train = train
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    tried = read_state(study.paths.history).experiments[1]
    assert tried.status is Status.KEEP and tried.runs[0].causes == (Cause.NOT_STARTED, Cause.DIED)


def test_a_worker_that_is_lost_once_in_a_dry_run_says_nothing_about_the_code(
    project: Path, small_corpus: Path, machine: Machine, no_pictures: None
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, Scripted(), experiments=0))
    failures = [MachineFailed("The worker is gone.", may_be_the_code=True)] * 3
    tokens: list[str] = []

    def lose(given: Training, listener: Listener) -> RunOutcome:
        tokens.append(given.token)
        assert listener.on_spawn is not None
        listener.on_spawn(os.getpid())
        if failures:
            raise failures.pop()
        return machine.pretend_dry_run(given, listener)

    machine.dry_run = lose
    with open_session(study) as session:
        found = []
        for comment in ("# one", "# another"):
            proposal = Proposal("An idea", f"{study.train_source(0)}{comment}\n", agent="script")
            found.append(dry_run(session, session.disk_space, proposal, 1))
        assert not study.paths.running.exists()
    assert found == ["crash: The worker is gone.", ""]
    assert len({*tokens}) == 4, "a worker that answers again ends what has the token of the first time"


@pytest.mark.parametrize("what", ["score", "audit"])
def test_a_model_over_which_two_workers_are_lost_counts_as_that_also_after_a_restart(
    what: str, project: Path, small_corpus: Path, machine: Machine
) -> None:
    study, pretended = counting_study(project, small_corpus), getattr(machine, what)
    num_lost, is_cut = 0, what == "score"

    def lose(job: ScoringJob, **others: Any) -> Any:
        nonlocal num_lost, is_cut
        if job.artefact.parents[1].name != "0001":
            return pretended(job, **others)
        if num_lost == 1 and is_cut:  # the supervisor ends between the two
            is_cut = False
            raise KeyboardInterrupt
        num_lost += 1
        raise MachineFailed("The worker alpha is gone.", may_be_the_code=True)

    setattr(machine, what, lose)
    if is_cut:
        with pytest.raises(KeyboardInterrupt):
            list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    tried = read_state(study.paths.history).experiments[1]
    assert tried.status is (Status.CRASH if what == "score" else Status.REJECTED) and num_lost == 2
    assert "The worker alpha is gone, the second one over this model" in tried.reason


def test_a_worker_that_is_lost_over_a_score_and_one_over_the_audit_say_nothing_about_the_model(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study, lost = counting_study(project, small_corpus), set[str]()

    def losing(what: str, pretended: Any) -> Any:
        def once(job: ScoringJob, **others: Any) -> Any:
            if job.artefact.parents[1].name == "0001" and what not in lost:
                lost.add(what)
                raise MachineFailed("The worker alpha is gone.", may_be_the_code=True)
            return pretended(job, **others)

        return once

    machine.score, machine.audit = losing("score", machine.score), losing("audit", machine.audit)
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    assert read_state(study.paths.history).experiments[1].status is Status.KEEP and lost == {"score", "audit"}


def test_a_worker_that_is_lost_over_each_of_two_trainings_is_the_machines_fault(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study, pretended, lost = counting_study(project, small_corpus), machine.score, list[str]()

    def lose(job: ScoringJob) -> Any:
        if job.artefact.parents[1].name == "0001" and len(lost) < 2:
            lost.append("The worker alpha is gone.")
            job.artefact.unlink()  # so that it trains again
            raise MachineFailed(lost[0], may_be_the_code=True)
        return pretended(job)

    machine.score = lose
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    assert read_state(study.paths.history).experiments[1].status is Status.KEEP and len(lost) == 2


def test_a_worker_that_is_lost_twice_in_the_score_of_a_dry_run_says_something_about_the_code(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, Scripted(), experiments=0))
    failures = [MachineFailed("The worker is gone.", may_be_the_code=True)] * 3
    tokens: list[str | None] = []

    def lose(job: ScoringJob, nll_path: Path | None = None) -> Any:
        tokens.append(job.token)
        if failures:
            raise failures.pop()
        return machine._score(job, nll_path)

    with open_session(study, backend=replace(machine.backend, score=lose)) as session:
        found = []
        for comment in ("# one", "# another"):
            proposal = Proposal("An idea", f"{study.train_source(0)}{comment}\n", agent="script")
            found.append(dry_run(session, session.disk_space, proposal, 1))
    assert "could not be scored, and this ended its worker twice: The worker is gone." in found[0] and found[1] == ""
    assert len({*tokens}) == 4 and None not in tokens


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
def test_a_model_behind_a_link_is_scored(
    sandbox: str, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", sandbox)
    if probe().name != sandbox:
        pytest.skip(probe().why())
    (tmp_path / "disk").mkdir()
    (project / "studies").symlink_to(tmp_path / "disk")
    artefact = project / "studies" / "model.pkl"
    artefact.write_bytes(cloudpickle.dumps(torch.nn.Embedding(260, 260)))
    token_bytes = np.array([1] * 256 + [0] * 4, dtype=np.int32)
    rows = np.random.default_rng(0).integers(0, 256, (4, 17))
    job = ScoringJob(artefact, HeldOut(rows, token_bytes), ScoringSettings("cpu", "float32", 4, 1), project)
    assert score(replace(job, **scorer_options(project))).val_bpb > 8
    artefact.unlink()
    with pytest.raises(MachineFailed, match="did not start in its sandbox: FileNotFoundError"):
        score(job)
