"""Studies on several slots, on a machine that pretends: what runs at once, how waves end, what is resumed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.core.agent import AgentUnavailable, NothingToPropose
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Context, Experiment, Progress, Proposal, RunOutcome, Status
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.show.follow import follow, look
from autoresearch_kernel.source.parameters import read_parameters
from autoresearch_kernel.study import pool
from autoresearch_kernel.study.goal import Goal
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.options import (
    OptionRefused,
    StudyOptions,
    refuse_cluster,
    refuse_other_settings,
    refuse_slots,
    slurm_jobs,
)
from autoresearch_kernel.study.pool import Pool
from autoresearch_kernel.system.slot import Slot, TooManySlots, divide
from tests.conftest import COUNTING_TRAIN, counting_study
from tests.pretended import Machine
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of

SOURCE = COUNTING_TRAIN.replace("ALPHA = 1.0", "BETA = 1.0\nGAMMA = 1.0\nDELTA = 1.0\nALPHA = 1.0")
NAMES = ("ALPHA", "BETA", "GAMMA", "DELTA")


class Landscape:
    """Trains with real waiting, so that slots overlap; the score falls by a hundredth of each parameter's fall."""

    def __init__(self, machine: Machine, seconds: float = 0.05) -> None:
        self.machine, self.seconds = machine, seconds
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.by_slot: Counter[str] = Counter()
        self.during: Callable[[int, int], None] = lambda experiment, run: None
        machine.train = self.train

    def train(self, training: Training, listener: Listener) -> RunOutcome:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            outcome = self.machine.pretend_training(training, listener)
            assert listener.on_tick is not None
            self.during(int(training.paths.folder.name), training.run)
            until = time.monotonic() + self.seconds
            while time.monotonic() < until:
                listener.on_tick(0.5)
                time.sleep(0.005)
            values = read_parameters(training.source)
            total = sum(float(values[name].value) - 1 for name in NAMES)
            assert outcome.artefact is not None
            outcome.artefact.write_text(f"{total} {training.seed}")
            return outcome
        finally:
            with self.lock:
                self.at_once -= 1


@pytest.fixture
def landscape(machine: Machine, no_pictures: None) -> Landscape:
    return Landscape(machine)


def study_of(project: Path, corpus: Path, num_slots: int, **others: Any) -> Study:
    return counting_study(project, corpus, source=SOURCE, asked={"slots": num_slots}, **others)


def scripted(*ideas: dict[str, float]) -> Scripted:
    return Scripted(*ideas)


def kept(study: Study) -> list[int]:
    return [e["experiment"] for e in events_of(study, "decided") if e["status"] == "keep"]


def test_all_slots_train_at_once_and_each_experiment_is_decided_once(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 3)
    worse = [{"ALPHA": 2.0 + i / 8} for i in range(12)]
    told = [e.number for e in research(study, scripted(*worse), experiments=12)]
    assert landscape.most_at_once == 3
    assert sorted(told) == list(range(13)) and told[0] == 0
    assert Counter(e["experiment"] for e in events_of(study, "decided")) == Counter(range(13))
    assert kept(study) == [0]
    state = state_of(study)
    assert state.slots == ("slot 1", "slot 2", "slot 3") and state.finished == "12 experiments"
    assert {e.parent for e in state.experiments[1:]} == {0}


def test_a_caller_who_looks_for_long_at_one_experiment_still_gets_the_last_ones(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 3)
    ideas = scripted(*({"ALPHA": 2.0 + i / 8} for i in range(8)))
    told = []
    for experiment in research(study, ideas, experiments=8):
        told.append(experiment.number)
        time.sleep(1.0)  # all slots come to their decisions meanwhile
    assert sorted(told) == list(range(9))


def test_the_runs_of_the_baseline_fill_all_slots(project: Path, small_corpus: Path, landscape: Landscape) -> None:
    landscape.seconds = 1.0
    study = study_of(project, small_corpus, 4)
    list(research(study, scripted(), experiments=0))
    baseline = state_of(study).experiments[0]
    assert baseline.status is Status.KEEP and len(baseline.scores) >= 4
    assert landscape.most_at_once == 4
    assert len({run.seed for run in baseline.runs}) == len(baseline.runs)


def test_what_is_promising_of_a_wave_is_tried_together_and_the_best_stack_is_kept(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 3)
    ideas = [{"ALPHA": 0.2}, {"BETA": 0.1}, {"GAMMA": 0.3}, *({"DELTA": 2 + i / 10} for i in range(19))]

    def wait(experiment: int, run: int) -> None:
        """The stacks train until the incumbent has run again, however slow the machine is."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            state = state_of(study)
            if state.experiments[experiment].agent != "stack" or len(state.experiments[0].scores) >= 4:
                return
            time.sleep(0.02)

    landscape.during = wait
    list(research(study, scripted(*ideas), experiments=12))
    state = state_of(study)
    stacking = events_of(study, "stacking")[0]
    assert (stacking["incumbent"], stacking["candidates"], stacking["wave_end"]) == (0, [2, 1, 3], 7)
    stacks = [e for e in state.experiments if e.agent == "stack"]
    assert [e.details["merged"] for e in stacks] == [[2, 1], [2, 1, 3]] and all(e.parent == 0 for e in stacks)
    code = read_parameters(study.train_source(stacks[1].number))
    assert [code[name].value for name in NAMES] == [0.2, 0.1, 0.3, 1.0]
    assert kept(study) == [0, stacks[1].number]
    beaten, *promising = (state.experiments[number].reason for number in (2, 1, 3))
    assert beaten == f"it beat 0000, and {stacks[1].number:04d} of the same wave did so by more"
    assert promising == ["promising: its change is tried together with others, of 0002, 0001, 0003"] * 2
    assert len(state.experiments[0].runs) >= 4, "the incumbent runs again beside the stacks"
    notes = [event["text"] for event in events_of(study, "note")]
    assert (
        "A wave is tried. Promising, the best first: 0002, 0001, 0003. 0002 runs again by itself, and 0002, 0001, 0003 "
        "are tried together."
    ) in notes


def test_what_was_made_from_an_earlier_incumbent_is_compared_with_it_and_merged_into_the_new_one(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 2)
    ideas = [{"ALPHA": 0.2}, *({"DELTA": 2 + i / 10} for i in range(3)), {"BETA": 0.1}]
    ideas += [{"DELTA": 3 + i / 10} for i in range(20)]

    def wait(experiment: int, run: int) -> None:
        """Experiment 5 trains until the first one is kept, however slow the machine is."""
        until = time.monotonic() + 30
        while experiment == 5 and 1 not in kept(study) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.8 if experiment == 4 else 0.0)

    landscape.during = wait
    list(research(study, scripted(*ideas), experiments=12))
    state = state_of(study)
    late = state.experiments[5]
    assert late.parent == 0 and kept(study)[:2] == [0, 1]
    decided = next(e for e in events_of(study, "decided") if e["experiment"] == 5)
    assert decided["status"] == "discard" and 5 in decided["wave"]
    merged = next(e for e in state.experiments if e.agent == "stack" and 5 in e.details["merged"])
    code = read_parameters(study.train_source(merged.number))
    assert merged.parent == 1 and [code[name].value for name in NAMES] == [0.2, 0.1, 1.0, 1.0]
    assert merged.status is Status.KEEP


def test_a_recorded_study_is_made_again_without_stacks_and_says_so(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 2, agent="replay")
    ideas = [{"ALPHA": 0.2}, {"BETA": 0.1}, *({"DELTA": 2 + i / 10} for i in range(8))]
    list(research(study, scripted(*ideas), experiments=8))
    state = state_of(study)
    assert kept(study) == [0, 2] and not any(e.details.get("merged") for e in state.experiments)
    words = "A wave is tried. Promising, the best first: 0002, 0001. 0002 runs again by itself."
    assert words in [event["text"] for event in events_of(study, "note")]
    assert state.experiments[1].reason in (
        "promising, but a recorded study is made again without stacks, and another one is best of its wave",
        "it beat 0000, and 0002 of the same wave did so by more",
    )


@pytest.mark.parametrize(
    ("stacks", "is_alone", "words"),
    [
        ([], True, "0004 runs again by itself."),
        ([(4,)], False, "0004 is tried on the present incumbent."),
        ([(4, 7), (4, 7, 5)], False, "0004, 0007, 0005 are tried together."),
        ([], False, "No change of them can be tried on the present incumbent."),
    ],
)
def test_what_becomes_of_a_wave_is_said_as_it_is(stacks: list[tuple[int, ...]], is_alone: bool, words: str) -> None:
    assert pool._how_tried([4, 7, 5], stacks, is_alone) == words


class Ahead(Scripted):
    """Is asked ahead, and cannot answer once its ideas are used up."""

    num_asked = 0

    def thinks_ahead(self, context: Context) -> bool:
        return True

    def propose(self, context: Context) -> Proposal:
        if self.ideas:
            return super().propose(context)
        self.num_asked += 1
        assert self.num_asked < 5, "the stack waits for it"
        raise AgentUnavailable("its server is down")


def test_a_stack_does_not_wait_for_an_agent_that_could_not_answer_ahead(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 2)
    agent = Ahead({"ALPHA": 0.2}, {"BETA": 0.1}, {"DELTA": 2.0}, {"DELTA": 3.0})
    landscape.seconds = 1.0
    for experiment in research(study, agent, experiments=5):
        until = time.monotonic() + 30
        while experiment.number in (3, 4) and len(state_of(study).decided) < 3 and time.monotonic() < until:
            time.sleep(0.05)  # so that all of the wave is tried when its caller lets the study go on
    assert agent.num_asked > 0, "else this says nothing"
    assert [e.agent for e in state_of(study).experiments] == ["baseline", *["scripted"] * 4, "stack"]


def test_at_the_end_what_is_promising_is_judged_by_itself(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 3)
    list(research(study, scripted({"ALPHA": 0.2}, {"BETA": 0.1}), experiments=2))
    assert kept(study) == [0, 2] and not state_of(study).in_work
    assert events_of(study, "stacking") == []


class Cut(BaseException):
    """The supervisor ends without a word."""


def test_a_study_that_was_cut_off_on_all_slots_goes_on_where_it_was(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 3)

    def cut(experiment: int, run: int) -> None:
        if experiment == 2:
            while landscape.at_once < 3:
                time.sleep(0.002)
            raise Cut

    landscape.during = cut
    ideas = [{"ALPHA": 2.0 + i / 8} for i in range(6)]
    with pytest.raises(Cut):
        list(research(study, scripted(*ideas), experiments=6))
    begun = state_of(study)
    in_work = [e.number for e in begun.in_work]
    assert len(in_work) == 3
    landscape.during = lambda experiment, run: None
    list(research(study, scripted(*ideas), experiments=6 - len(begun.decided) + 1))
    state = state_of(study)
    assert Counter(e["experiment"] for e in events_of(study, "decided")) == Counter(range(len(state.experiments)))
    assert all(run.attempts <= 2 and run.val_bpb is not None for e in state.experiments for run in e.runs)


def test_a_user_who_stops_at_once_ends_all_slots(project: Path, small_corpus: Path, landscape: Landscape) -> None:
    study = study_of(project, small_corpus, 2)
    landscape.seconds = 0.3

    def stop(experiment: int, run: int) -> None:
        if experiment == 1:
            send(study.paths.commands, "stop now")

    landscape.during = stop
    list(research(study, scripted({"ALPHA": 2.0}, {"ALPHA": 3.0}), experiments=2))
    who = events_of(study, "command")[0]["by"]
    assert events_of(study, "stopped")[-1]["reason"] == f"asked by {who}"
    reasons = {e["experiment"]: e["reason"] for e in events_of(study, "interrupted")}
    assert reasons == {number: f"stopped by {who} while it trained" for number in (1, 2)}
    assert landscape.at_once == 0


def test_a_stop_lets_all_slots_come_to_their_decisions(project: Path, small_corpus: Path, landscape: Landscape) -> None:
    study = study_of(project, small_corpus, 2)

    def stop(experiment: int, run: int) -> None:
        until = time.monotonic() + 20
        while experiment == 1 and landscape.at_once < 2 and time.monotonic() < until:
            time.sleep(0.005)
        if experiment == 1:
            send(study.paths.commands, "stop")

    landscape.during, landscape.seconds = stop, 0.5
    decided = [e.number for e in research(study, scripted(*[{"ALPHA": 2.0}, {"ALPHA": 3.0}, {"ALPHA": 4.0}]))]
    assert sorted(decided) == [0, 1, 2] and not state_of(study).in_work
    answers = [e["answer"] for e in events_of(study, "command")]
    assert answers[0] == "stops after experiments 0001, 0002"


def test_an_error_on_one_slot_ends_the_study_and_what_runs_on_the_others(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 2)

    def fail(experiment: int, run: int) -> None:
        if experiment == 2:
            raise ValueError("a fault of this program")

    landscape.during, landscape.seconds = fail, 0.3
    others = {*threading.enumerate()}  # of tests before this one
    with pytest.raises(ValueError, match="a fault of this program"):
        list(research(study, scripted({"ALPHA": 2.0}, {"ALPHA": 3.0}), experiments=2))
    assert [e["reason"] for e in events_of(study, "interrupted")] == [
        "stopped by an error on another slot while it trained"
    ]
    assert landscape.at_once == 0 and not [t.name for t in threading.enumerate() if t not in others]


def test_an_error_on_a_slot_ends_a_study_that_is_paused(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 2)

    def pause_and_fail(experiment: int, run: int) -> None:
        if experiment == 1:
            send(study.paths.commands, "pause")
        if experiment == 2:
            time.sleep(0.5)
            raise ValueError("a fault of this program")

    landscape.during = pause_and_fail
    with pytest.raises(ValueError, match="a fault of this program"):
        list(research(study, scripted({"ALPHA": 2.0}, {"ALPHA": 3.0}, {"ALPHA": 4.0}), experiments=3))


def test_a_stop_while_the_agent_thinks_interrupts_no_training(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study, may_answer = study_of(project, small_corpus, 3), threading.Event()

    class Slow(Scripted):
        def propose(self, context: Context) -> Proposal:
            if context.number == 3:
                send(study.paths.commands, "stop")
                may_answer.wait(20)
            return super().propose(context)

    landscape.seconds = 0.5
    decided = [e.number for e in research(study, Slow({"ALPHA": 2.0}, {"ALPHA": 3.0}, {"ALPHA": 4.0}))]
    may_answer.set()
    assert sorted(decided) == [0, 1, 2]
    assert events_of(study, "interrupted") == []


def test_an_agent_without_ideas_is_asked_again_once_something_is_decided(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    asked: list[int] = []

    class Patient(Scripted):
        def propose(self, context: Context) -> Proposal:
            asked.append(len(context.in_work))
            if context.in_work:
                raise NothingToPropose("not while something is in work")
            return super().propose(context)

    study, agent = study_of(project, small_corpus, 2), Patient({"ALPHA": 2.0}, {"ALPHA": 3.0})
    list(research(study, agent, experiments=2))
    state = state_of(study)
    assert len(state.decided) == 3 and state.finished == "2 experiments"
    assert asked in ([0, 1, 0, 1], [0, 1, 0]), "once for each change of what is in work"


def test_an_agent_is_told_what_is_in_work(project: Path, small_corpus: Path, landscape: Landscape) -> None:
    told: list[tuple[int, list[int]]] = []

    class Listening(Scripted):
        def propose(self, context: Context) -> Proposal:
            told.append((context.number, [e.number for e in context.in_work]))
            return super().propose(context)

    landscape.during = lambda experiment, run: time.sleep(1.0 if experiment == 1 else 0.0)
    study = study_of(project, small_corpus, 2)
    list(research(study, Listening({"ALPHA": 2.0}, {"ALPHA": 3.0}, {"ALPHA": 4.0}), experiments=3))
    assert told[:2] == [(1, []), (2, [1])]
    assert told[2] == (3, [1])


def test_the_optimiser_proposes_other_values_for_each_slot(
    project: Path, small_corpus: Path, landscape: Landscape
) -> None:
    study = study_of(project, small_corpus, 4)
    list(research(study, SearchAgent(), experiments=8))
    prints = [e.fingerprint for e in state_of(study).experiments]
    assert len(set(prints)) == len(prints)


def test_the_views_say_what_each_slot_does(project: Path, small_corpus: Path, landscape: Landscape) -> None:
    study = study_of(project, small_corpus, 2)
    seen: list[list[tuple[str, str, int]]] = []
    attached: list[Progress | Experiment] = []

    def view(experiment: int, run: int) -> None:
        if experiment == 2:
            rows = look(study).slots
            seen.append([(row["slot"], row["phase"], row["experiment"]) for row in rows])
            attached.extend(islice(follow(study), 4))

    landscape.during, landscape.seconds = view, 0.2
    list(research(study, scripted({"ALPHA": 2.0}, {"ALPHA": 3.0}), experiments=2))
    assert seen[0] == [("slot 1", "training", 1), ("slot 2", "training", 2)]
    told = [(p.phase, p.slot, p.experiment) for p in attached[:4] if isinstance(p, Progress)]
    both = [("slot 1", 1), ("slot 2", 2)]
    assert told == [(phase, *slot) for phase in ("starting", "training") for slot in both]
    assert look(study).slots == ()


def test_slot_hours_end_a_study(project: Path, small_corpus: Path, landscape: Landscape) -> None:
    study = study_of(project, small_corpus, 2)
    began = time.monotonic()
    list(research(study, scripted(*[{"ALPHA": 2.0 + i / 1000} for i in range(900)]), slot_hours=0.001))  # 1.8 s each
    assert state_of(study).finished == "0.001 slot hours" and time.monotonic() - began < 30.0


def test_slot_hours_are_shared_by_the_slots_that_there_are() -> None:
    now = [0.0]
    clock = SimpleNamespace(real_seconds=lambda: now[0])
    session: Any = SimpleNamespace(backend=SimpleNamespace(num_slots=2), clock=clock, state=replay([]))
    goal = Goal(session, None, None, 16.0)
    assert goal.left() == (None, 8 * 3600.0)
    now[0] = 4 * 3600.0
    goal.share_slot_hours(8)  # 8 of 16 are left
    assert goal.left() == (None, 3600.0) and goal.reached() == ""
    goal.share_slot_hours(4)
    assert goal.left() == (None, 7200.0)
    now[0] += 7200.0
    assert goal.reached() == "16 slot hours" and goal.left() == (None, 0.0)
    both = Goal(session, None, 1.0, 16.0)
    assert both.left() == (None, 3600.0)
    both.share_slot_hours(64)
    assert both.left() == (None, 900.0)


# --- what is refused


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (StudyOptions(slots=2, clock="steady"), "--clock steady stops what else trains"),
        (StudyOptions(slots=2, duel="auto"), "A duel needs the whole machine"),
        (StudyOptions(slots=2, agent="human"), "--agent human prepares one train.py at a time"),
    ],
)
def test_what_needs_the_whole_machine_is_refused(asked: StudyOptions, words: str) -> None:
    with pytest.raises(OptionRefused, match=words):
        refuse_slots(asked)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"clock": "steady"}, "--clock steady counts on this machine"),
        ({"duel": "always"}, "A duel needs one machine"),
        ({"slots": 2}, "--slots divides this machine"),
        ({"agent": "human"}, "--agent human prepares one train.py at a time"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(option: dict[str, Any], words: str) -> None:
    for where in ({"cluster": "tcp://127.0.0.1:8786"}, {"slurm": "count=2"}):
        asked = StudyOptions(**where, **option)
        with pytest.raises(OptionRefused, match=words):
            refuse_cluster(asked, asked.clock, asked.value("slots"))
    refuse_cluster(StudyOptions(**option), asked.clock, asked.value("slots"))


@pytest.mark.parametrize(
    ("asked", "is_detached", "words"),
    [
        (StudyOptions(slurm="count=2", cluster="tcp://127.0.0.1:8786"), False, "--cluster names others"),
        (StudyOptions(slurm="count=2"), True, "it is not for --detach"),
        (StudyOptions(slurm="partition=gpu"), False, "--slurm partition=gpu: count is missing"),
    ],
)
def test_jobs_that_slurm_cannot_run_are_refused(asked: StudyOptions, is_detached: bool, words: str) -> None:
    with pytest.raises(OptionRefused, match=words):
        slurm_jobs(asked, is_detached)
    assert slurm_jobs(replace(asked, slurm=None), is_detached) is None


def test_a_study_that_cannot_run_on_a_cluster_says_so(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, 2)
    words = "Study 'nov23' began with --slots 2, which divides this machine, so it goes on without --cluster only"
    with pytest.raises(OptionRefused, match=words):
        refuse_other_settings(study, StudyOptions(cluster="tcp://127.0.0.1:8786"))
    with pytest.raises(OptionRefused, match=words):
        list(research(study, scripted(), cluster="tcp://127.0.0.1:8786"))


def test_a_study_keeps_its_number_of_slots(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, 2)
    refuse_other_settings(study, StudyOptions(slots=2))
    with pytest.raises(OptionRefused, match="began with --slots 2, not 1"):
        refuse_other_settings(study, StudyOptions(slots=1))
    with pytest.raises(OptionRefused, match="A duel needs the whole machine"):
        refuse_other_settings(study, StudyOptions(duel="always"))
    refuse_other_settings(study, StudyOptions(duel="never"))


def test_a_machine_that_cannot_be_divided_is_an_error(
    project: Path, small_corpus: Path, machine: Machine, landscape: Landscape
) -> None:
    def divide_no_further(num_slots: int) -> Any:
        raise TooManySlots("--slots 65 is more than this machine's processors. Give at most 2.")

    machine.divide = divide_no_further  # type: ignore[method-assign]
    study = study_of(project, small_corpus, 65)
    with pytest.raises(StudyError, match="Give at most 2"):
        list(research(study, scripted(), experiments=0, backend=machine.backend))


# --- how a machine is divided


def test_processors_are_divided_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch_kernel.system.slot.usable_cpus", lambda: (0, 1, 2, 3, 6, 8))
    assert divide(2, 0) == (Slot(0, "cores 0-2", (0, 1, 2)), Slot(1, "cores 3,6,8", (3, 6, 8)))
    assert [slot.name for slot in divide(6, 0)] == ["core 0", "core 1", "core 2", "core 3", "core 6", "core 8"]
    with pytest.raises(TooManySlots, match="Give at most 6"):
        divide(7, 0)


def test_each_slot_sees_one_gpu() -> None:
    slots = divide(2, 4, {})
    assert [(slot.name, slot.environment) for slot in slots] == [
        ("GPU 0", {"CUDA_VISIBLE_DEVICES": "0"}), ("GPU 1", {"CUDA_VISIBLE_DEVICES": "1"}),
    ]  # fmt: skip
    chosen = divide(2, 2, {"HIP_VISIBLE_DEVICES": "5, 7"})
    assert [slot.environment for slot in chosen] == [{"HIP_VISIBLE_DEVICES": "5"}, {"HIP_VISIBLE_DEVICES": "7"}]
    with pytest.raises(TooManySlots, match="Give at most 4"):
        divide(5, 4, {})


class Ending:
    """A thread that takes a while to end; a user presses Ctrl-C while it is waited for."""

    def __init__(self, *, num_interrupts: int) -> None:
        self.left = num_interrupts
        self.has_ended = False

    def is_alive(self) -> bool:
        return not self.has_ended

    def join(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise KeyboardInterrupt
        self.has_ended = True


def test_a_second_ctrl_c_waits_until_all_slots_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Ending(num_interrupts=2), Ending(num_interrupts=1)
    of_a_pool: Any = SimpleNamespace(
        failure=None, threads={0: first, 1: second}, baton=SimpleNamespace(free=nullcontext)
    )
    Pool.close(of_a_pool, KeyboardInterrupt())
    assert first.has_ended and second.has_ended and isinstance(of_a_pool.failure, KeyboardInterrupt)
    monkeypatch.setattr(pool, "END_SECONDS", 0.0)
    of_a_pool.threads = {0: Ending(num_interrupts=1)}
    with pytest.raises(KeyboardInterrupt):  # at last a user gets out
        Pool.close(of_a_pool, KeyboardInterrupt())
