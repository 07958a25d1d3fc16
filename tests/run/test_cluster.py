"""A real scheduler and two real workers on loopback: what they do for a study, and what becomes of their faults."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("distributed", reason="Dask is not installed: make setup EXTRAS=cluster")

import distributed

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.types import Progress, RunOutcome, Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run import alike, cluster, places
from autoresearch_kernel.run.backend import LOCAL, Backend
from autoresearch_kernel.run.cluster import cluster_backend
from autoresearch_kernel.run.conformance import check_backend
from autoresearch_kernel.run.connection import ClusterRefused, Connection
from autoresearch_kernel.run.outcome import EndRun
from autoresearch_kernel.run.place import Place
from autoresearch_kernel.run.places import Places
from autoresearch_kernel.run.received import put
from autoresearch_kernel.run.training import Listener, Training, new_token
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.share.decisions import check_decisions
from autoresearch_kernel.study.across import measure_worker
from autoresearch_kernel.study.finish import finish
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.locations import RUN_TOKEN
from autoresearch_kernel.system.slot import Seat, taking
from tests.conftest import COUNTING_TRAIN, PROJECT, counting_study
from tests.pretended import Machine
from tests.study.test_loop import Scripted, with_cell
from tests.study.test_night import events_of, state_of
from tests.trainings import training

LIMIT_SECONDS = 90.0  # for anything that is waited for: the machine may be busy
LOST_SECONDS = 6.0
# It reports for as long as the budget lasts, so that there is something to interrupt.
LASTING = COUNTING_TRAIN.replace("TrainingClock(3600)", "TrainingClock(20)").replace(
    " and clock.step < NUM_BATCHES", " and clock.step < 1500"
)
# Its model is slow to score, so that there is something to interrupt.
SLOW_TO_SCORE = COUNTING_TRAIN.replace(
    "        return self.logits[idx]", "        time.sleep(0.5 * (len(idx) > 16))\n        return self.logits[idx]"
)


@dataclass
class Workers:
    """A scheduler and the processes `dask worker`, each with a cache of its own as if it were another machine."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]]

    @property
    def address(self) -> str:
        return str(json.loads((self.folder / "scheduler.json").read_text())["address"])

    def start(self, name: str, *words: str, **environment: str) -> None:
        own = {"AUTORESEARCH_HOME": str(self.folder / f"home-{name}")} | environment
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", *words], cwd=self.folder, env=os.environ | own, stdout=log, stderr=log,
            )  # fmt: skip

    def start_worker(self, name: str, **environment: str) -> None:
        options = ["--nthreads", "1", "--resources", "slot=1", "--name", name, "--no-dashboard", "--memory-limit", "0"]
        self.start(name, "worker", self.address, *options, "--local-directory", str(self.folder / name), **environment)

    def start_scheduler(self, port: int = 0) -> None:
        (self.folder / "scheduler.json").unlink(missing_ok=True)
        file = str(self.folder / "scheduler.json")
        words = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--scheduler-file", file)
        self.start("scheduler", "scheduler", *words)
        until(lambda: (self.folder / "scheduler.json").is_file() and self.address, "the scheduler's start")

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        for child in children:
            with suppress(psutil.Error):
                child.kill()

    def wait_for(self, *names: str) -> None:
        """Until the scheduler lists exactly these workers."""
        connection = Connection(self.address, 10.0)
        try:

            def are_there() -> bool:
                connection.list_workers()
                return sorted(map(connection.name, connection.workers)) == sorted(names)

            until(are_there, f"the workers {names}")
        finally:
            connection.close()

    def pid(self, name: str) -> int:
        """Of the process that does the work; its parent starts it again when it is killed."""
        with asking(self) as (connection, address_of):
            return int(connection.ask(address_of(name), os.getpid))


@contextmanager
def asking(workers: Workers) -> Iterator[tuple[Connection, Callable[[str], str]]]:
    """A connection, and a function that has the address of a worker by its name."""
    connection = Connection(workers.address, 10.0)
    try:
        connection.list_workers()
        yield connection, lambda name: next(a for a in connection.workers if connection.name(a) == name)
    finally:
        connection.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {LIMIT_SECONDS:.0f} s")


@contextmanager
def started(folder: Path, *names: str) -> Iterator[Workers]:
    found = Workers(folder, {})
    try:
        found.start_scheduler()
        for name in names:
            found.start_worker(name)
        found.wait_for(*names)
        yield found
    finally:
        for name in list(found.processes):
            found.stop(name)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with started(tmp_path_factory.mktemp("cluster"), "alpha", "beta") as workers:
        yield workers


@pytest.fixture
def workers(both: Workers, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Two workers that share the processors of this machine, so that their speeds say little."""
    monkeypatch.setattr(alike, "SPEED_TOLERANCE", 0.9)
    monkeypatch.setattr(places, "SPEED_TOLERANCE", 0.9)
    both.wait_for("alpha", "beta")
    return both


@pytest.fixture
def backend(workers: Workers, project: Path) -> Iterator[Backend]:
    with cluster_backend(workers.address, project, lost_seconds=LOST_SECONDS) as there:
        yield there


def training_of(project: Path, corpus: Path, source: str = COUNTING_TRAIN, number: int = 1, **others: Any) -> Training:
    paths = ExperimentPaths(project / "studies" / "nov23" / "experiments" / f"{number:04d}")
    usual = {"time_budget_seconds": 2.0, "startup_allowance_seconds": 60.0, "handover_allowance_seconds": 30.0}
    return training(source, paths, corpus, project, **(usual | others))


def job_of(artefact: Path, corpus: Path, project: Path, **others: Any) -> ScoringJob:
    heldout = HeldOut.load(corpus, corpus.parents[1] / "heldout" / corpus.name, "val")
    heldout = replace(heldout, rows=heldout.rows[:256])
    return ScoringJob(artefact, heldout, ScoringSettings("cpu", "float32", 32, 1), project, **others)


def carriers(token: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(RUN_TOKEN) == token:
                found.append(process.pid)
    return found


def on(backend: Backend, index: int) -> Any:
    return taking(Seat(backend.divide(0)[index]))


# --- what a cluster does


def test_a_cluster_has_a_slot_for_each_worker(backend: Backend, workers: Workers) -> None:
    slots = backend.divide(0)
    assert [slot.name for slot in slots] == ["alpha", "beta"] and backend.num_slots == 2
    assert slots[0].facts["device"] == "cpu" and slots[0].facts["flops"] > 0
    assert [slot.name for slot in backend.divide(1)] == ["alpha"]
    with asking(workers) as (connection, address_of):
        set_by_dask = connection.ask(address_of("alpha"), os.getenv, "OMP_NUM_THREADS")
    assert set_by_dask is None, "Dask would leave each training one thread"


def test_a_training_on_a_worker_leaves_the_files_of_one_here(
    backend: Backend, workers: Workers, project: Path, small_corpus: Path
) -> None:
    points: list[dict[str, Any]] = []
    ticks: list[float] = []
    printed: list[str] = []
    here = LOCAL.train(training_of(project, small_corpus, number=1, dtype="float32"), Listener())
    asked = training_of(project, small_corpus, number=2, dtype="float32")
    with on(backend, 1):
        there = backend.train(asked, Listener(printed.append, points.append, on_tick=ticks.append))
    assert there.status is None and there.artefact == asked.paths.artefact(0) and there.notebook is not None
    assert set(there.measured) >= set(here.measured) - {"machine_speed"}
    assert there.measured["train_loss"] == here.measured["train_loss"]

    def names(outcome: RunOutcome) -> list[str]:
        assert outcome.notebook is not None
        folder = outcome.notebook.parent
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

    assert names(there) == names(here)
    lines = asked.paths.metrics(0).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [point["step"] for point in points]
    assert ticks == sorted(ticks) and "dev_bpb" in "".join(printed)
    mirrors = (workers.folder / "home-beta" / "cluster" / "projects").iterdir()  # of this test's project and of others
    assert any((mirror / "studies/nov23/experiments/0002/handover/model.pkl").is_file() for mirror in mirrors)
    assert not (workers.folder / "home-alpha" / "cluster" / "corpora").exists(), "a corpus goes where it is needed"
    assert not carriers(asked.token)


def test_scores_and_audits_are_those_of_this_machine(backend: Backend, project: Path, small_corpus: Path) -> None:
    asked = training_of(project, small_corpus, number=3)
    with on(backend, 0):
        outcome = backend.train(asked, Listener())
    assert outcome.artefact is not None
    job = job_of(outcome.artefact, small_corpus, project)
    here = LOCAL.score(job, nll_path=project / "here.npy")
    for index in (0, 1):  # where it was trained, and where the model has to be sent
        with on(backend, index):
            progress: list[float] = []
            there = backend.score(replace(job, on_progress=progress.append), nll_path=project / "there.npy")
            assert there.val_bpb == pytest.approx(here.val_bpb, abs=1e-6)
            assert there.nll_path == project / "there.npy" and (there.num_bytes, there.num_tokens) == (
                here.num_bytes, here.num_tokens,
            )  # fmt: skip
            nll = np.load(project / "there.npy")
            found = backend.audit(job, nll, claim_seconds=1.0, reference=nll, cuts_path=project / "cuts.npy", seed=1)
            assert found.accepted and len(np.load(project / "cuts.npy")) == found.num_cuts
            lied = backend.audit(job, nll * 0.5, claim_seconds=1.0, seed=1)
            assert not lied.accepted


def test_a_cluster_does_what_a_study_needs(backend: Backend, project: Path, small_corpus: Path) -> None:
    heldout, settings = (
        small_corpus.parents[1] / "heldout" / small_corpus.name,
        ScoringSettings("cpu", "float32", 32, 1),
    )
    found = [*check_backend(backend, project, small_corpus, heldout, settings)]
    assert len(found) > 9 and [finding for finding in found if finding.problem] == []


def test_each_point_of_a_curve_is_passed_on_once(backend: Backend, project: Path, small_corpus: Path) -> None:
    source = LASTING.replace("TrainingClock(20)", "TrainingClock(4)")
    seen: list[tuple[int, float]] = []
    seconds = [0.0]
    asked = training_of(project, small_corpus, source, time_budget_seconds=4.0, number=12)
    told = Listener(
        on_metrics=lambda point: seen.append((point["step"], seconds[0])),
        on_tick=lambda now: seconds.__setitem__(0, now),
    )
    assert backend.train(asked, told).status is None
    steps = [step for step, _ in seen]
    assert steps == [json.loads(line)["step"] for line in asked.paths.metrics(0).read_text().splitlines()]
    assert len({when for _, when in seen}) > 4, "they arrive while it trains"


def test_a_callback_that_ends_the_run_has_the_outcome(backend: Backend, project: Path, small_corpus: Path) -> None:
    def end(point: dict[str, Any]) -> None:
        raise EndRun(Status.DISCARD, "ended early: it cannot win")

    asked = training_of(project, small_corpus, LASTING, time_budget_seconds=30.0)
    begun = time.monotonic()
    outcome = backend.train(asked, Listener(on_metrics=end))
    assert (outcome.status, outcome.reason, outcome.artefact) == (Status.DISCARD, "ended early: it cannot win", None)
    assert outcome.notebook == asked.paths.notebook(0) and outcome.notebook.is_file()
    assert time.monotonic() - begun < 20 and not carriers(asked.token)


class Stop(Exception):
    """Anything that a callback raises to end all."""


def test_an_exception_is_raised_once_nothing_runs_any_more(backend: Backend, project: Path, small_corpus: Path) -> None:
    asked = training_of(project, small_corpus, LASTING, time_budget_seconds=30.0)

    def stop(point: dict[str, Any]) -> None:
        assert carriers(asked.token)
        raise Stop

    with pytest.raises(Stop):
        backend.train(asked, Listener(on_metrics=stop))
    assert not carriers(asked.token)


def test_a_study_on_a_cluster_trains_on_all_workers(
    workers: Workers, project: Path, small_corpus: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LOST_SECONDS", LOST_SECONDS)
    study = study_of(project, small_corpus)
    told: list[Progress] = []
    ideas = Scripted({"ALPHA": 0.1}, {"ALPHA": 0.01})
    decided = list(research(study, ideas, experiments=2, cluster=workers.address, watch=told.append))
    assert sorted(e.number for e in decided) == [0, 1, 2]
    state = state_of(study)
    assert state.slots == ("alpha", "beta") and state.finished == "2 experiments"
    assert {p.slot for p in told if p.phase == "starting"} == {"alpha", "beta"}
    assert all(run.val_bpb is not None for run in state.experiments[0].runs)
    kept = [e for e in state.experiments if e.status is Status.KEEP]
    assert len(kept) >= 2 and any(run.audit is not None for run in kept[-1].runs)
    assert [m["device"] for m in events_of(study, "slots")[0]["machines"]] == ["cpu", "cpu"]
    assert "2 slots of a cluster: alpha, beta" in events_of(study, "note")[0]["text"]
    result = finish(study, cluster=workers.address)
    assert result is not None and result.champion == state.incumbent.number
    assert (result.num_baseline_runs, result.num_champion_runs) == (3, 3)


def test_a_slower_worker_is_a_kind_of_its_own_and_nothing_is_compared_across_kinds(
    both: Workers, project: Path, small_corpus: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both share this machine's processors, so the measured speed of one is halved."""
    describe = Places._describe

    def slowed(self: Places, place: Place, *arguments: Any, **others: Any) -> dict[str, Any]:
        return describe(self, place, *arguments, **others) | {"flops": 2e10 if place.name == "alpha" else 1e10}

    monkeypatch.setattr(Places, "_describe", slowed)
    both.wait_for("alpha", "beta")
    study = study_of(project, small_corpus)
    ideas = Scripted(*({"ALPHA": alpha} for alpha in (0.1, 2.0, 3.0, 0.05)))
    list(research(study, ideas, experiments=4, cluster=both.address))
    state, events = state_of(study), read_events(study.paths.history)
    machines = {(e.number, run.index): run.machine for e in state.experiments for run in e.runs}
    assert len(set(machines.values())) == 2, "alpha and beta are two kinds"
    compared = [e for e in events if e["event"] == "decided" and "incumbent_runs" in (e.get("rule") or {})]
    for event in compared:
        rule, number = event["rule"], event["experiment"]
        mine = {machines[number, run] for run in rule["runs"]}
        assert mine == {machines[rule["incumbent"], run] for run in rule["incumbent_runs"]} and len(mine) == 1
    begun = [e["experiment"] for e in events if e["event"] == "started" and machines[e["experiment"], e["run"]]]
    kept = [e.number for e in state.experiments if e.status is Status.KEEP]
    assert compared and begun[0] in kept, "the other kind begins with an incumbent"
    found, _ = check_decisions(events)
    assert found.checked >= len(compared) and found.problems == []


def test_a_study_comes_to_the_same_decisions_on_slots_on_a_cluster_and_where_trainings_are_pretended(
    workers: Workers, project: Path, small_corpus: Path, no_pictures: None
) -> None:
    """Of an idea that is better, one that is worse, and one that fails."""
    ideas = {"ALPHA": 0.1}, {"ALPHA": 3.0}, with_cell("raise RuntimeError('a bad idea')")
    machine = Machine()

    def pretended(training: Training, listener: Listener) -> RunOutcome:
        if "a bad idea" in training.source:
            return RunOutcome(Status.CRASH, "RuntimeError: a bad idea", None, None)
        return machine.pretend_training(training, listener)

    machine.train = pretended
    where: dict[str, dict[str, Any]] = {
        "pretended": {"backend": machine.backend}, "slots": {"backend": LOCAL}, "cluster": {"cluster": workers.address},
    }  # fmt: skip
    decided, scores = {}, {}
    for name, options in where.items():
        asked = {} if "cluster" in options else {"asked": {"slots": 2}}
        study = study_of(project, small_corpus, name=name, time_budget_seconds=20.0, **asked)
        list(research(study, Scripted(*ideas), experiments=3, **options))
        state = state_of(study)
        assert len(state.slots) == 2 and state.incumbent is not None
        decided[name] = state.incumbent.number, [(e.number, e.parent, e.status, e.hypothesis) for e in state.decided]
        runs = {(e.number, run.index): run.val_bpb for e in state.experiments for run in e.runs}
        scores[name] = {key: val_bpb for key, val_bpb in runs.items() if val_bpb is not None}
    assert decided["slots"] == decided["cluster"] == decided["pretended"]
    assert [status for _, _, status, _ in decided["slots"][1]] == [
        Status.KEEP, Status.KEEP, Status.DISCARD, Status.CRASH,
    ]  # fmt: skip
    both = scores["slots"].keys() & scores["cluster"].keys()
    assert both >= {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)}
    for key in both:
        assert scores["slots"][key] == pytest.approx(scores["cluster"][key], abs=1e-6), key


def test_a_worker_that_joins_trains_from_then_on(
    workers: Workers, project: Path, small_corpus: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(project, small_corpus)
    told: list[Progress] = []
    introductions = places.Places._introductions

    def on_another_machine(found: places.Places, addresses: Any) -> Any:
        said = introductions(found, addresses)
        is_gamma = {address: found.connection.name(address) == "gamma" for address in said}
        return {a: facts | ({"host": "elsewhere"} if is_gamma[a] else {}) for a, facts in said.items()}

    monkeypatch.setattr(places.Places, "_introductions", on_another_machine)
    try:

        def watch(progress: Progress) -> None:
            told.append(progress)
            if progress.phase == "starting" and progress.experiment == 1 and "gamma" not in workers.processes:
                workers.start_worker("gamma")

        ideas = Scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(30)])
        for decided in research(study, ideas, experiments=30, cluster=workers.address, watch=watch):
            if decided.number > 0 and any(p.phase == "starting" and p.slot == "gamma" for p in told):
                break
    finally:
        if "gamma" in workers.processes:
            workers.stop("gamma")
        workers.wait_for("alpha", "beta")
    assert state_of(study).slots == ("alpha", "beta", "gamma")
    assert any(p.phase == "starting" and p.slot == "gamma" for p in told)
    assert any("Joined: 1 slot of a cluster: gamma." in e["text"] for e in events_of(study, "note"))


def test_a_study_begins_with_the_hardware_of_a_worker(
    workers: Workers, project: Path, small_corpus: Path, no_pictures: None
) -> None:
    hardware = measure_worker(workers.address, project)
    assert {"device", "device_name", "dtype", "memory_mb", "flops", "num_threads"} <= set(hardware)
    assert not {"versions", "packages", "sandbox"} & set(hardware)
    study = counting_study(project, small_corpus, hardware=hardware | {"device_name": "another machine"})
    with pytest.raises(ClusterRefused, match=r"began on another machine, and the worker alpha .* has"):
        list(research(study, Scripted(), experiments=0, cluster=workers.address))
    assert not study.paths.history.exists()


def study_of(project: Path, corpus: Path, **others: Any) -> Study:
    allowances = {"startup_allowance_seconds": 60.0, "handover_allowance_seconds": 30.0}
    return counting_study(project, corpus, hardware={"device": "cpu"}, **(allowances | others))


# --- faults


def in_the_middle(action: Callable[[], None]) -> Callable[[Any], None]:
    """A callback that does this once, in a thread, so that the supervisor goes on meanwhile."""
    done = threading.Event()

    def callback(*_: Any) -> None:
        if not done.is_set():
            done.set()
            threading.Thread(target=action, daemon=True).start()

    return callback


def test_a_worker_that_is_killed_while_it_trains_is_the_machines_fault(
    backend: Backend, workers: Workers, project: Path, small_corpus: Path
) -> None:
    asked = training_of(project, small_corpus, LASTING, time_budget_seconds=30.0)
    pid = workers.pid("alpha")
    kill = in_the_middle(lambda: os.kill(pid, signal.SIGKILL))
    with on(backend, 0), pytest.raises(MachineFailed, match="alpha is gone") as failure:
        backend.train(asked, Listener(on_metrics=kill))
    assert failure.value.may_be_the_code
    until(lambda: not carriers(asked.token), "the end of its processes")
    workers.wait_for("alpha", "beta")
    again = training_of(project, small_corpus)
    with on(backend, 0):  # on the worker that Dask has started in its place, or on the other one
        assert backend.train(again, Listener()).status is None


@dataclass
class Question:
    """A model that beta has trained, and that is slow to score, to be scored or audited there."""

    backend: Backend
    job: ScoringJob
    nll_path: Path
    what: str
    token: str = field(default_factory=new_token)

    def ask(self, on_progress: Callable[[float], None]) -> None:
        """Ask beta; the scorer's processes have the token of this question."""
        job = replace(self.job, token=self.token, on_progress=on_progress)
        with on(self.backend, 1):
            if self.what == "scores":
                self.backend.score(job)
            else:
                self.backend.audit(job, np.load(self.nll_path), claim_seconds=1.0, seed=1)

    def is_answered(self) -> bool:
        """Whether the slot of beta scores the model and accepts its score."""
        with on(self.backend, 1):
            self.backend.score(self.job, nll_path=self.nll_path)
            return self.backend.audit(self.job, np.load(self.nll_path), claim_seconds=1.0, seed=1).accepted


@pytest.fixture(params=["scores", "audits"])
def question(request: pytest.FixtureRequest, backend: Backend, project: Path, small_corpus: Path) -> Question:
    with on(backend, 1):
        outcome = backend.train(training_of(project, small_corpus, SLOW_TO_SCORE, number=4), Listener())
        assert outcome.artefact is not None
        found = Question(backend, job_of(outcome.artefact, small_corpus, project), project / "nll.npy", request.param)
        if found.what == "audits":
            backend.score(found.job, nll_path=found.nll_path)
    return found


def test_a_worker_that_is_killed_while_it_scores_or_audits_is_the_machines_fault(
    question: Question, workers: Workers
) -> None:
    pid = workers.pid("beta")
    kill = in_the_middle(lambda: os.kill(pid, signal.SIGKILL))
    with pytest.raises(MachineFailed, match="beta is gone") as failure:
        question.ask(kill)
    assert failure.value.may_be_the_code
    until(lambda: not carriers(question.token), "the end of its processes")
    workers.wait_for("alpha", "beta")
    assert question.is_answered()


@pytest.fixture(params=[signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def fault(request: pytest.FixtureRequest) -> signal.Signals:
    """What becomes of the process of a worker."""
    return signal.Signals(request.param)


@contextmanager
def failing_while_it_receives(file: str, part_bytes: int, pid: int, fault: signal.Signals) -> Iterator[None]:
    """Within this block a worker fails between the first two parts of a file whose name ends so."""
    ask, parts = Connection.ask, []

    def ask_and_fail(self: Connection, address: str, function: Any, *arguments: Any, **others: Any) -> Any:
        if function is put and arguments[0].endswith(file):
            parts.append(arguments[1])
            if len(parts) == 2:
                os.kill(pid, fault)
        return ask(self, address, function, *arguments, **others)

    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Connection, "ask", ask_and_fail)
            patched.setattr("autoresearch_kernel.run.connection.CHUNK_BYTES", part_bytes)
            yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert len(parts) == 2, "it failed in the middle"


def test_a_worker_that_fails_while_it_receives_a_model_gets_it_again(
    fault: signal.Signals, backend: Backend, workers: Workers, project: Path, small_corpus: Path
) -> None:
    with on(backend, 0):
        outcome = backend.train(training_of(project, small_corpus, number=14), Listener())
    assert outcome.artefact is not None and outcome.artefact.stat().st_size > 3 * 4096
    job = job_of(outcome.artefact, small_corpus, project)
    with (
        failing_while_it_receives("model.pkl", 4096, workers.pid("beta"), fault),
        on(backend, 1),
        pytest.raises(MachineFailed, match="beta"),
    ):
        backend.score(job)
    workers.wait_for("alpha", "beta")
    with on(backend, 1):
        there = backend.score(job)
    assert there.val_bpb == pytest.approx(LOCAL.score(job).val_bpb, abs=1e-6)


def test_a_worker_that_fails_while_it_receives_a_corpus_gets_it_again(
    fault: signal.Signals, backend: Backend, workers: Workers, project: Path, small_corpus: Path, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(small_corpus, tmp_path / "corpora" / small_corpus.name))
    (corpus / "new.bin").write_bytes(os.urandom(4 * 2**20))  # so that no worker has this corpus
    asked = training_of(project, corpus, number=15)
    with (
        failing_while_it_receives("new.bin", 2**20, workers.pid("beta"), fault),
        on(backend, 1),
        pytest.raises(MachineFailed, match="beta"),
    ):
        backend.train(asked, Listener())
    workers.wait_for("alpha", "beta")
    with on(backend, 1):
        assert backend.train(asked, Listener()).status is None
    copies = [path.read_bytes() for path in (workers.folder / "home-beta").rglob("new.bin")]
    assert (corpus / "new.bin").read_bytes() in copies


def test_a_worker_that_fails_while_its_files_come_back_trains_again(
    fault: signal.Signals,
    backend: Backend,
    workers: Workers,
    project: Path,
    small_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It fails when its training has ended, before it has sent anything of it."""
    pid, fetched = workers.pid("beta"), []
    gather = distributed.Client._gather

    async def fail_and_gather(self: distributed.Client, futures: Any, *arguments: Any, **others: Any) -> Any:
        if not fetched and "train-" in str(futures):
            fetched.append(futures)
            os.kill(pid, fault)
            await asyncio.sleep(0.5)
        return await gather(self, futures, *arguments, **others)

    asked = training_of(project, small_corpus, number=16)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(distributed.Client, "_gather", fail_and_gather)
            with on(backend, 1), pytest.raises(MachineFailed, match="beta"):
                backend.train(asked, Listener())
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert fetched and not asked.paths.artefact(0).exists()
    until(lambda: not carriers(asked.token), "the end of its processes")
    workers.wait_for("alpha", "beta")
    with on(backend, 1):
        outcome = backend.train(replace(asked, token=new_token()), Listener())
    assert outcome.status is None and outcome.artefact == asked.paths.artefact(0) and outcome.artefact.is_file()


@contextmanager
def frozen(workers: Workers, name: str) -> Iterator[Callable[[Any], None]]:
    """A callback that freezes the process of a worker; it thaws when this block is left."""
    pid = workers.pid(name)
    try:
        yield in_the_middle(lambda: os.kill(pid, signal.SIGSTOP))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_frozen_worker_is_lost_and_its_training_ends_when_it_thaws(
    backend: Backend, workers: Workers, project: Path, small_corpus: Path
) -> None:
    asked = training_of(project, small_corpus, LASTING, time_budget_seconds=60.0, number=5)
    with frozen(workers, "alpha") as freeze:
        with on(backend, 0), pytest.raises(MachineFailed, match="has not answered for"):
            backend.train(asked, Listener(on_metrics=freeze))
        with on(backend, 0):  # its slot has the other worker for now
            assert backend.train(training_of(project, small_corpus, number=6), Listener()).status is None
    until(lambda: not carriers(asked.token), "the end of its processes")
    with on(backend, 0):
        assert backend.train(training_of(project, small_corpus, number=7), Listener()).status is None


def test_a_worker_that_freezes_while_it_scores_or_audits_is_lost_until_it_thaws(
    question: Question, workers: Workers
) -> None:
    with frozen(workers, "beta") as freeze:
        with pytest.raises(MachineFailed, match="beta has not answered for") as failure:
            question.ask(freeze)
        assert failure.value.may_be_the_code
        assert question.is_answered(), "its slot has the other worker for now"
    until(lambda: not carriers(question.token), "the end of its processes")
    assert question.is_answered()


VANISH = "import sys; from tests.run.test_cluster import train_until_killed; train_until_killed(*sys.argv[1:])"


def test_a_training_ends_when_its_supervisor_vanishes(
    workers: Workers, backend: Backend, project: Path, small_corpus: Path
) -> None:
    token = "b" * 32
    words = [sys.executable, "-c", VANISH, workers.address, str(project), str(small_corpus), token]
    supervisor = subprocess.Popen(words, cwd=PROJECT)
    try:
        until(lambda: carriers(token), "the training's start")
    finally:
        supervisor.kill()
        supervisor.wait()
    until(lambda: not carriers(token), "the end of its processes")
    with on(backend, 0):
        assert backend.train(training_of(project, small_corpus, number=8), Listener()).status is None


def train_until_killed(address: str, project: str, corpus: str, token: str) -> None:
    """In a process of its own: a supervisor."""
    alike.SPEED_TOLERANCE = places.SPEED_TOLERANCE = 0.9
    asked = training_of(Path(project), Path(corpus), LASTING, time_budget_seconds=60.0, token=token, number=9)
    with cluster_backend(address, Path(project), lost_seconds=LOST_SECONDS) as there, on(there, 0):
        there.train(asked, Listener())


def test_a_scheduler_that_is_started_again_is_found_again(
    tmp_path: Path, project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = training_of(project, small_corpus, LASTING, time_budget_seconds=60.0, number=10)
    with (
        started(tmp_path, "alpha") as workers,
        cluster_backend(workers.address, project, lost_seconds=LOST_SECONDS) as there,
    ):
        port = int(workers.address.rpartition(":")[2])
        stop = in_the_middle(lambda: workers.stop("scheduler"))
        with pytest.raises(MachineFailed):
            there.train(asked, Listener(on_metrics=stop))
        until(lambda: not carriers(asked.token), "the end of its processes")
        with pytest.raises(MachineFailed):
            there.train(training_of(project, small_corpus, number=11), Listener())
        workers.stop("alpha")
        workers.start_scheduler(port)
        workers.start_worker("alpha")
        workers.wait_for("alpha")
        for wait in (5.0, 5.0, 0.0):  # a study tries again after 5 s, too
            try:
                assert there.train(training_of(project, small_corpus, number=11), Listener()).status is None
                return
            except MachineFailed:
                time.sleep(wait)
    pytest.fail("the cluster was not found again in three tries")


def test_a_study_goes_on_after_a_worker_was_killed(
    workers: Workers, project: Path, small_corpus: Path, no_pictures: None
) -> None:
    study = study_of(project, small_corpus)
    pid = workers.pid("beta")
    kill = in_the_middle(lambda: os.kill(pid, signal.SIGKILL))

    def watch(progress: Progress) -> None:
        if progress.phase == "training" and progress.experiment == 2:
            kill()

    ideas = Scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(3)])
    list(research(study, ideas, experiments=3, cluster=workers.address, watch=watch))
    state = state_of(study)
    assert len(state.decided) == 4 and all(run.attempts <= 2 for e in state.experiments for run in e.runs)
    assert state.slots == ("alpha", "beta"), "its successor is no third slot"
    assert any("This is not the experiment's fault" in e["text"] for e in events_of(study, "note"))


def test_a_file_that_arrives_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    with pytest.raises(MachineFailed, match="arrived damaged"):
        asyncio.run(put("arrays/x.npy", 0, b"other bytes", 11, "0" * 64, "t"))
    assert not list((tmp_path / "cluster" / "arrays").iterdir())
    with pytest.raises(MachineFailed, match="no name of a file of the cluster"):
        asyncio.run(put("../x.npy", 0, b"", 0, "0" * 64, "t"))


# --- what is refused


def test_no_scheduler_is_one_clear_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch_kernel.run.connection.CONNECT_SECONDS", 2.0)
    with (
        pytest.raises(ClusterRefused, match="No scheduler answers at tcp://127"),
        cluster_backend("tcp://127.0.0.1:1", project),
    ):
        pass


def test_workers_without_a_sandbox_are_refused_beside_others(workers: Workers, project: Path) -> None:
    workers.start_worker("gamma", AUTORESEARCH_SANDBOX="none")
    workers.wait_for("alpha", "beta", "gamma")
    try:
        with (
            pytest.raises(ClusterRefused, match="The worker gamma has no sandbox, and others have one"),
            cluster_backend(workers.address, project),
        ):
            pass
    finally:
        workers.stop("gamma")


def test_a_worker_with_another_version_is_refused(workers: Workers, project: Path, tmp_path: Path) -> None:
    package = tmp_path / "old" / "autoresearch_kernel"
    shutil.copytree(Path(cluster.__file__).parents[1] / "core", package / "core")
    (package / "__init__.py").touch()
    (package / "core" / "version.py").write_text('__version__ = "0.0.1"\n')
    workers.start_worker("old", PYTHONPATH=f"{tmp_path / 'old'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    workers.wait_for("alpha", "beta", "old")
    try:
        with (
            pytest.raises(ClusterRefused, match=r"old has autoresearch-kernel 0\.0\.1, and this machine has"),
            cluster_backend(workers.address, project),
        ):
            pass
    finally:
        workers.stop("old")
