"""Studies on slots of several kinds of machine: nothing is compared across kinds, and nothing is lost."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.next_step import Action, next_step
from autoresearch_kernel.core.state import StudyState
from autoresearch_kernel.core.types import Experiment, Run, RunOutcome, Status
from autoresearch_kernel.record.history import History
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run.backend import Joined
from autoresearch_kernel.run.connection import ClusterRefused
from autoresearch_kernel.run.place import Place, name_kinds, refuse_another_device
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.source.parameters import read_parameters
from autoresearch_kernel.study import across
from autoresearch_kernel.study.across import difference, on_cluster, workers_named, workers_words
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.slot import Slot, present_seat
from tests.pretended import Machine
from tests.study.test_night import events_of, state_of
from tests.study.test_slots import NAMES, Landscape, kept, scripted, study_of

KINDS = {"": 0.0, "slow": 30.0, "fast": -30.0}  # what is added to a score there, in hundredths of a bit per byte
SLOTS = ("", "", "slow", "fast")


class Mixed(Landscape):
    """Two slots of the study's own kind, a slow and a fast one, whose scores differ by far more than any idea's."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.machine.divide = self.divide  # type: ignore[method-assign]
        self.broken: set[str] = set()
        self.too_small = ""  # a kind on which every experiment fails, but not the baseline

    @staticmethod
    def divide(num_slots: int) -> tuple[Slot, ...]:
        facts = {"device": "cpu"}
        return tuple(Slot(i, f"slot {i + 1}", facts=facts, machine=kind) for i, kind in enumerate(SLOTS[:num_slots]))

    def train(self, training: Training, listener: Listener) -> RunOutcome:
        seat = present_seat()
        kind = "" if seat is None else seat.slot.machine
        if kind in self.broken:
            raise MachineFailed(f"No worker of the kind {kind} answers.")
        if kind and kind == self.too_small and training.paths.folder.name != "0000":
            return RunOutcome(Status.CRASH, "out of memory", None, None)
        self.by_slot["" if seat is None else seat.slot.name] += 1
        outcome = super().train(training, listener)
        assert outcome.artefact is not None
        total, seed = outcome.artefact.read_text().split()
        outcome.artefact.write_text(f"{float(total) + KINDS[kind]} {seed}")
        return outcome


@pytest.fixture
def mixed(machine: Machine, no_pictures: None) -> Mixed:
    return Mixed(machine)


def tried_on(study: Study) -> Counter[str]:
    return Counter(e.machine for e in state_of(study).experiments[1:])


def test_no_score_of_one_kind_is_compared_with_one_of_another(project: Path, small_corpus: Path, mixed: Mixed) -> None:
    study = study_of(project, small_corpus, 4)
    worse = [{"ALPHA": 2.0 + i / 8} for i in range(20)]
    list(research(study, scripted(*worse), experiments=20))
    state = state_of(study)
    assert kept(study) == [0] and len(state.decided) == 21
    assert {*tried_on(study)} == {"", "slow", "fast"}
    for experiment in state.experiments[1:]:
        assert experiment.incumbent_bpb == pytest.approx(1.5 + KINDS[experiment.machine] / 100, abs=0.002)
        assert experiment.val_bpb is not None and experiment.val_bpb > experiment.incumbent_bpb
    baseline = state.experiments[0]
    assert Counter(run.machine for run in baseline.runs)["slow"] >= 2 <= len(baseline.scores_on("fast"))
    assert max(baseline.scores) - min(baseline.scores) < 0.01 and state.sigma is not None and state.sigma < 0.002
    assert {*state.kinds} == {"", "slow", "fast"} and events_of(study, "slots")[0]["kinds"] == [*SLOTS]


def test_the_incumbent_runs_on_each_kind_before_anything_is_tried_there(
    project: Path, small_corpus: Path, mixed: Mixed
) -> None:
    study = study_of(project, small_corpus, 4)
    list(research(study, scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(16)]), experiments=16))
    for kind in ("slow", "fast"):
        begun = [e["experiment"] for e in events_of(study, "started") if e.get("machine") == kind]
        assert begun[:2] == [0, 0] and any(begun[2:])


def test_what_is_promising_elsewhere_is_kept_only_after_runs_on_the_studys_own_kind(
    project: Path, small_corpus: Path, mixed: Mixed
) -> None:
    study = study_of(project, small_corpus, 4)
    gains = [{"ALPHA": 0.2}, {"BETA": 0.1}, {"GAMMA": 0.3}, {"DELTA": 0.2}]
    worse = [{"ALPHA": 2.0 + i / 8} for i in range(60)]
    mixed.seconds = 0.1
    # the gains are in the second wave; the other kinds' slots go on with proposals while the stacks are tried
    list(research(study, scripted(*worse[:8], *gains, *worse[8:]), experiments=48))
    state = state_of(study)
    assert {e.machine for e in state.experiments[9:13]} & {"slow", "fast"}, "else this says nothing"
    best = state.incumbent
    assert best is not None and best.agent == "stack" and {run.machine for run in best.judged_runs} == {""}
    assert not [e.number for e in state.experiments if e.status is Status.KEEP and e.machine]
    code = read_parameters(study.train_source(best.number))
    assert [code[name].value for name in NAMES] == [0.2, 0.1, 0.3, 0.2]


def test_the_best_of_a_wave_is_tried_alone_where_it_was_tried_elsewhere(
    project: Path, small_corpus: Path, mixed: Mixed, machine: Machine
) -> None:
    study = study_of(project, small_corpus, 4)
    ideas = [{"ALPHA": 2.0 + i / 8} for i in range(30)]
    list(research(study, scripted(*ideas[:24]), experiments=24))
    one = next(e.number for e in state_of(study).experiments if e.machine == "fast")
    again = study_of(project, small_corpus, 4, name="again")
    ideas[one - 1] = {"BETA": 0.1}
    list(research(again, scripted(*ideas), experiments=14))
    state = state_of(again)
    winner = next(e for e in state.experiments if e.changes.get("BETA") == 0.1)
    if winner.machine:  # it is on which slot is free first
        alone = next(e for e in state.experiments if e.details.get("merged") == [winner.number])
        assert alone.status is Status.KEEP and alone.fingerprint == winner.fingerprint
    assert state.incumbent is not None and state.incumbent.number > 0


def test_a_study_goes_on_without_a_kind_that_fails(project: Path, small_corpus: Path, mixed: Mixed) -> None:
    study = study_of(project, small_corpus, 4)
    mixed.broken = {"fast"}
    list(research(study, scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(12)]), experiments=12))
    state = state_of(study)
    assert len(state.decided) == 13 and state.finished == "12 experiments" and not state.in_work
    assert any("The study goes on without fast" in e["text"] for e in events_of(study, "note"))
    assert "fast" not in {run.machine for e in state.experiments for run in e.runs if run.val_bpb is not None}


def test_what_fails_elsewhere_trains_once_more_on_the_studys_own_kind(
    project: Path, small_corpus: Path, mixed: Mixed
) -> None:
    study = study_of(project, small_corpus, 4)
    mixed.too_small = "slow"
    list(research(study, scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(16)]), experiments=16))
    state = state_of(study)
    failed = [e for e in state.experiments[1:] if e.runs[0].machine == "slow"]
    assert failed and all(e.status is Status.DISCARD and e.machine == "" and len(e.runs) == 2 for e in failed)
    assert all(e.runs[0].status is Status.CRASH and e.incumbent_bpb == pytest.approx(1.5, abs=0.002) for e in failed)


def test_a_study_goes_on_where_a_kind_is_gone(project: Path, small_corpus: Path, mixed: Mixed) -> None:
    study = study_of(project, small_corpus, 4)
    gains = [{"ALPHA": 0.2}, {"BETA": 0.1}, {"GAMMA": 0.3}, {"DELTA": 0.2}]

    class Cut(BaseException):
        pass

    def cut(experiment: int, run: int) -> None:
        if experiment == 4:
            raise Cut

    mixed.during = cut
    with pytest.raises(Cut):
        list(research(study, scripted(*gains), experiments=8))
    mixed.during = lambda experiment, run: None
    mixed.machine.divide = lambda num: tuple(Slot(i, f"slot {i + 1}") for i in range(num))  # type: ignore[method-assign]
    list(research(study, scripted(*gains, *({"ALPHA": 2.0 + i / 8} for i in range(20))), experiments=10))
    state = state_of(study)
    assert not state.in_work and state.incumbent is not None and state.incumbent.number > 0
    assert Counter(e["experiment"] for e in events_of(study, "decided")) == Counter(range(len(state.experiments)))


# --- pure


def run(index: int, score: float, machine: str = "") -> Run:
    return Run(index, seed=index, val_bpb=score, machine=machine)


def state(*experiments: Experiment) -> StudyState:
    return StudyState(experiments=experiments, incumbent=experiments[0])


OWN = tuple(run(i, 1.5 + i / 1000) for i in range(3))
BASELINE = Experiment(0, "", "baseline", None, runs=OWN, status=Status.KEEP, val_bpb=1.501)
BOTH = replace(BASELINE, runs=(*OWN, run(3, 1.8, "slow"), run(4, 1.802, "slow")))


def challenger(score: float, machine: str = "slow") -> Experiment:
    return Experiment(1, "h", "a", 0, runs=(run(0, score, machine),))


def test_a_level_is_of_the_challengers_own_kind() -> None:
    now = state(BOTH, challenger(1.79))
    level = now.level_for(now.experiments[1])
    assert level is not None and level.bpb == pytest.approx(1.801) and [r.index for r in level.runs] == [3, 4]
    assert now.incumbent_bpb == pytest.approx(1.501)
    assert BOTH.scores == tuple(r.val_bpb for r in OWN) and BOTH.next_run == 5 == BOTH.on("slow").next_run
    assert now.judged_against(now.experiments[1])[0] == pytest.approx(1.801)


def test_runs_of_two_kinds_are_no_noise() -> None:
    alone, both = state(BASELINE).noise, state(BOTH).noise
    assert alone.sigma is not None and both.sigma is not None and both.sigma < 2 * alone.sigma
    assert both.degrees_of_freedom == alone.degrees_of_freedom + 1


def test_what_has_nothing_to_be_compared_with_is_discarded() -> None:
    now = state(BASELINE, challenger(1.2))
    step = next_step(now)
    assert step.status is Status.DISCARD and "0000 has no score on slow" in step.why and step.wave == (0,)


def test_one_slot_discards_what_is_promising_on_a_kind_that_is_not_there() -> None:
    step = next_step(state(BOTH, challenger(1.2)))
    assert step.status is Status.DISCARD or step.action == "audit"
    audited = replace(challenger(1.79), runs=(replace(run(0, 1.79, "slow"), audit=_accepted()),))
    step = next_step(state(BOTH, audited))
    assert step.status is Status.DISCARD and "promising on slow, of which kind no machine is here" in step.why


def test_one_slot_trains_again_what_crashed_on_a_kind_that_is_not_there() -> None:
    crashed = Run(0, 0, Status.CRASH, "RuntimeError: no", machine="slow", num_decided=1)
    step = next_step(state(BOTH, replace(challenger(1.2), runs=(crashed,))))
    assert (step.action, step.experiment, step.run) == (Action.TRAIN, 1, 1)


def test_machines_that_join_train_from_then_on(
    project: Path, small_corpus: Path, mixed: Mixed, machine: Machine
) -> None:
    study = study_of(project, small_corpus, 2)
    new = (Slot(2, "gamma", facts=FACTS), Slot(3, "delta (slow)", facts=FACTS, machine="slow"))
    news = [Joined(new), Joined(words="A worker that joined the cluster is left out. It has another version.")]
    is_begun = threading.Event()

    def begin(experiment: int, run: int) -> None:
        if experiment:
            is_begun.set()

    mixed.during = begin
    backend = replace(machine.backend, joined=lambda _: news.pop() if is_begun.is_set() and news else Joined())
    ideas = scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(24)])
    list(research(study, ideas, experiments=24, backend=backend))
    state = state_of(study)
    assert len(state.decided) == 25 and mixed.most_at_once == 4 and set(mixed.by_slot) == {*state.slots}
    assert state.slots == ("slot 1", "slot 2", "gamma", "delta (slow)")
    assert [e["names"] for e in events_of(study, "slots")] == [["slot 1", "slot 2"], [*state.slots]]
    assert state.kinds["slow"] == FACTS and tried_on(study)["slow"] > 0
    notes = "\n".join(e["text"] for e in events_of(study, "note"))
    assert "It has another version." in notes and "Joined: 2 slots of a cluster: gamma. It is Xeon" in notes


def test_a_study_with_one_slot_goes_on_with_a_machine_that_joins(
    project: Path, small_corpus: Path, mixed: Mixed, machine: Machine
) -> None:
    study = study_of(project, small_corpus, 1)
    news = [
        Joined((Slot(1, "gamma", facts=FACTS),)),  # in the middle of an experiment
        *[Joined()] * 13,
        Joined(words="The worker delta has joined the cluster, and is left out."),
    ]
    backend = replace(machine.backend, num_slots=1, joined=lambda _: news.pop() if news else Joined())
    ideas = scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(24)])
    told = [e.number for e in research(study, ideas, experiments=24, backend=backend)]
    state = state_of(study)
    assert sorted(told) == [*range(len(state.decided))] and len(told) == 25
    assert [e["names"] for e in events_of(study, "slots")] == [["slot 1"], ["slot 1", "gamma"]]
    assert mixed.most_at_once == 2 and mixed.by_slot["gamma"] > 0 and kept(study) == [0]
    notes = "\n".join(e["text"] for e in events_of(study, "note"))
    assert "is left out." in notes and "Joined: 1 slot of a cluster: gamma. It is Xeon" in notes


def _accepted() -> Any:
    from tests.pretended import ACCEPTED

    return ACCEPTED


FACTS = {
    "device": "cpu", "device_name": "Xeon", "dtype": "float32", "memory_mb": 8192, "flops": 1e11,
    "versions": {"torch": "2.13.0"}, "sandbox": "bubblewrap",
}  # fmt: skip


def place(name: str, **facts: Any) -> Place:
    return Place(name, f"tcp://{name}", name, name, FACTS | facts)


def test_kinds_have_names_and_the_most_frequent_one_is_the_studys() -> None:
    places = [place("a", flops=5e10), place("b"), place("c", flops=1.05e11), place("d", memory_mb=16384)]
    name_kinds(places, None, {})
    assert [p.machine for p in places] == ["Xeon, 8 GB, 50 GFLOP/s", "", "", "Xeon, 16 GB, 100 GFLOP/s"]
    words = workers_words([Slot(i, p.name, facts=p.facts, machine=p.machine) for i, p in enumerate(places)])
    assert "4 slots of a cluster: a. It is Xeon with 8.0 GB, 50 GFLOP/s" in words and "b, c. Each is Xeon" in words
    assert "Scores of different kinds are not compared." in words
    assert [*workers_named(f"Joined: {words}")] == ["a", "b", "c", "d"]


def test_a_study_that_goes_on_finds_its_kinds_again() -> None:
    places = [place("a", flops=5.2e10), place("b"), place("c")]
    known = {"": FACTS, "the slow one": FACTS | {"flops": 5e10}}
    name_kinds(places, lambda facts: False, known)  # what it is known by counts first
    assert [p.machine for p in places] == ["the slow one", "", ""]
    places = [place("a", flops=5.2e10), place("b"), place("c")]
    name_kinds(places, lambda facts: facts["flops"] < 6e10, {})
    assert [p.machine for p in places] == ["", "Xeon, 8 GB, 100 GFLOP/s", "Xeon, 8 GB, 100 GFLOP/s"]
    newer = [place("a"), place("b", versions={"torch": "2.14.0"})]
    name_kinds(newer, None, {"": FACTS, "Xeon, 8 GB, 100 GFLOP/s": FACTS | {"versions": {"torch": "2.12.0"}}})
    assert [p.machine for p in newer] == ["", "Xeon, 8 GB, 100 GFLOP/s, as b"], "another version is another kind"
    name_kinds(places, lambda facts: False, {})
    assert all(p.machine for p in places) and len({p.machine for p in places}) == 2


def test_another_device_is_refused() -> None:
    with pytest.raises(ClusterRefused, match="a and b cannot train for one study: number format float32 and bfloat16"):
        refuse_another_device([place("a"), place("b", dtype="bfloat16")])
    with pytest.raises(ClusterRefused, match="The worker b has no sandbox, and others have one"):
        refuse_another_device([place("a"), place("b", sandbox="none")])
    refuse_another_device([place("a"), place("b", flops=1e10)])


HARDWARE = {name: FACTS[name] for name in ("device", "device_name", "dtype", "memory_mb", "flops")}


@pytest.mark.parametrize("is_old", [False, True])
def test_a_study_that_began_on_a_cluster_goes_on_here_on_such_a_machine_alone(
    is_old: bool, project: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, measured = dict(HARDWARE), list[int]()

    def measure(project: Path, python: str) -> dict[str, Any]:
        measured.append(1)
        return dict(here)

    def go_on(study: Study) -> None:
        with on_cluster(study, None, None) as backend:
            assert backend is None

    monkeypatch.setattr(across, "measure_machine", measure)
    monkeypatch.setattr(across, "remember_flops", lambda machine, flops: flops)
    here["device_name"] = "EPYC"
    go_on(study_of(project, small_corpus, 1, name="here", hardware=HARDWARE))
    assert not measured, "one that began here is none of its business"
    study = study_of(project, small_corpus, 1, hardware=HARDWARE | ({} if is_old else {across.OF_A_WORKER: True}))
    if is_old:
        with History.open(study.paths.history, lock=study.paths.lock) as history:
            history.append("note", text=workers_words([Slot(0, "alpha", facts=FACTS)]))
    with pytest.raises(StudyError, match=r"began on a cluster, on Xeon, and this machine has EPYC.*with --cluster and"):
        go_on(study)
    here |= {"device_name": "Xeon", "flops": 0.5e11}
    with pytest.raises(StudyError, match="on a machine with 100 GFLOP/s, and this machine has 50 GFLOP/s"):
        go_on(study)
    here["flops"] = 0.9e11
    go_on(study)


def test_a_study_whose_workers_have_another_torch_now_says_so(
    project: Path, small_corpus: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(project, small_corpus, 1, hardware=HARDWARE)
    with History.open(study.paths.history, lock=study.paths.lock) as history:
        history.append("slots", names=["gpu1"], machines=[FACTS], kinds=[""])

    def upgraded(*_: Any, **__: Any) -> Any:
        slots = (Slot(0, "gpu1", facts=FACTS | {"versions": {"torch": "2.14.0"}}, machine="Xeon"),)
        return nullcontext(replace(machine.backend, divide=lambda _: slots, num_slots=1))

    monkeypatch.setattr(across, "cluster_backend", upgraded)
    words = r"began on workers from which gpu1 differs: torch 2\.13\.0 and 2\.14\.0; no worker is of the kind"
    with pytest.raises(ClusterRefused, match=words), on_cluster(study, "tcp://10.0.0.1:8786", None):
        pass


def test_a_difference_in_hardware_has_words() -> None:
    assert difference(HARDWARE, FACTS) is None
    assert difference(HARDWARE, FACTS | {"device_name": "EPYC"}) == ("Xeon", "EPYC")
    assert difference(HARDWARE, FACTS | {"flops": 5e10}) == ("a machine with 100 GFLOP/s", "50 GFLOP/s")
