"""Rare events: a baseline that was refused, a prepare.py that changes, a quota, a clock that is set back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.attribution import Attribution, Variant, effects, folded
from autoresearch_kernel.core.decide import best, clearly_worse_share
from autoresearch_kernel.core.noise import Noise
from autoresearch_kernel.core.types import Audit, Cause, Experiment, Proposal, Run, RunOutcome, Status
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.study import disk_space
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.steps import open_session
from tests.conftest import counting_study
from tests.pretended import ACCEPTED, Machine
from tests.record.test_history import Study as Events
from tests.study.test_finish import state_of
from tests.study.test_loop import Scripted, events_of

REFUSED = Audit(False, 0.0, 0.0, 256, 100, "100 of 256 answers differ", 0.1)


@pytest.fixture
def study(project: Path, small_corpus: Path, machine: Machine) -> Study:
    return counting_study(project, small_corpus)


def test_a_baseline_that_was_refused_once_is_judged_by_its_later_runs(study: Study, machine: Machine) -> None:
    answers = [REFUSED]
    machine.audit = lambda job, **facts: answers.pop() if answers else ACCEPTED
    with pytest.raises(StudyError, match="The baseline was refused by the audit"):
        list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    first, second = state_of(study).experiments
    assert first.status is Status.KEEP and first.refusal is not None and len(first.scores) >= 3
    assert second.parent == 0 and second.agent == "scripted"


def test_a_study_whose_baseline_is_refused_proposes_no_second_one(study: Study, machine: Machine) -> None:
    machine.audit = lambda job, **facts: REFUSED
    for _ in range(3):
        with pytest.raises(StudyError, match="The baseline was refused by the audit"):
            list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    assert len(state_of(study).experiments) == 1


def test_a_prepare_py_that_changes_in_the_middle_of_a_study_ends_it(study: Study, machine: Machine) -> None:
    path = study.project / "prepare.py"
    before = path.read_text()
    list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    machine.during = lambda number: path.write_text(before + "\n# a new idea\n") and None
    with pytest.raises(StudyError, match=r"prepare\.py has changed since study 'nov23' began"):
        list(research(study, Scripted({"ALPHA": 0.25}), experiments=1))
    run = state_of(study).experiments[-1].runs[0]
    assert run.status is Status.INTERRUPTED and run.reason == "prepare.py was changed while it trained"
    assert run.attempts == 0, "a kill later in this run is still its first one"
    machine.during = lambda number: None
    path.write_text(before)
    list(research(study, Scripted({"ALPHA": 0.25}), experiments=1))
    assert state_of(study).experiments[-1].status in (Status.KEEP, Status.DISCARD)


def test_a_program_md_that_is_away_for_a_moment_ends_nothing(study: Study, machine: Machine) -> None:
    path = study.project / "program.md"
    machine.during = lambda number: path.unlink(missing_ok=True)
    list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    assert state_of(study).experiments[-1].status in (Status.KEEP, Status.DISCARD)


def test_a_quota_that_is_used_up_counts_as_a_full_disk(
    study: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [True, False, False]  # for each look after a crash, the last one first
    monkeypatch.setattr(disk_space, "takes", lambda folder, size: room.pop())
    list(research(study, Scripted(), experiments=0))
    crashes = [True]

    def train(training: Training, listener: Listener) -> RunOutcome:
        if crashes:
            crashes.pop()
            return RunOutcome(Status.CRASH, "OSError: [Errno 122] Disk quota exceeded", None, None)
        return machine.pretend_training(training, listener)

    machine.train = train
    list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    run = state_of(study).experiments[1].runs[0]
    assert Cause.FULL_DISK in run.causes and run.val_bpb is not None
    assert any("a quota is used up" in str(event) for event in events_of(study, "interrupted"))
    assert room == [], "the study waited, and looked again"


class OfWindows:
    name = "of Windows"

    def propose(self, context: Any) -> Proposal:
        source = context.train_source.replace("ALPHA = 1.0", "ALPHA = 0.5").replace("\n", "\r\n")
        return Proposal("the line ends of Windows", source, self.name)


def test_a_proposal_with_other_line_ends_trains(study: Study, machine: Machine) -> None:
    list(research(study, OfWindows(), experiments=1))
    assert state_of(study).experiments[1].status in (Status.KEEP, Status.DISCARD)
    assert b"\r" not in study.experiment(1).train.read_bytes()


def test_code_that_an_earlier_version_recorded_with_other_line_ends_is_read(study: Study, machine: Machine) -> None:
    list(research(study, Scripted({"ALPHA": 0.5}), experiments=1))
    from autoresearch_kernel.record.study import sha256

    text = study.experiment(1).train.read_text().replace("\n", "\r\n")
    study.experiment(1).train.write_bytes(text.encode())
    with open_session(study) as session:
        old = Experiment(1, "An idea", "scripted", 0, train_sha256=sha256(text))
        assert session.source(old) == text.replace("\r\n", "\n")


# --- pure functions


def test_a_wall_clock_that_is_set_back_leaves_one_champion() -> None:
    events = Events().baseline()
    for number, hour in ((1, "02"), (2, "01")):
        events.propose(number).train(number, 0).score(number, 0, 1.3).decide(number, "keep", 1.3)
        events.events[-1]["time"] = f"2027-01-16T{hour}:00:00.000Z"
    state = events.state
    champion = best(state.experiments)
    assert champion is not None and state.incumbent is not None
    assert champion.number == state.incumbent.number == 2


def test_a_speed_near_zero_that_code_reports_of_itself_stops_no_study() -> None:
    slow = Run(0, 1, val_bpb=1.6, measured={"relative_speed": 0.0})
    judged = Experiment(1, "An idea", "search", 0, runs=(slow,), status=Status.DISCARD, incumbent_bpb=1.5)
    assert clearly_worse_share([judged] * 5, 0.01, 9, 0.2) == 0.0


def attribution_of(champion: int, what: str, **facts: Any) -> dict[str, Any]:
    return {"event": "attribution", "champion": champion, "what": what} | facts


def test_an_attribution_goes_on_after_that_of_a_later_champion_had_begun() -> None:
    found: tuple[Attribution, ...] = ()
    for event in (
        attribution_of(1, "begun", changes=[1], num_seeds=4),
        attribution_of(2, "begun", changes=[1, 2], num_seeds=4),
        attribution_of(1, "variant", without=None),
        attribution_of(1, "variant", without=1),
    ):
        found = folded(found, event)
    first = next(a for a in found if a.champion == 1)
    assert [variant.without for variant in first.variants] == [None, 1]
    assert next(a for a in found if a.champion == 2).variants == ()


@pytest.fixture
def ended() -> Iterator[Attribution]:
    effect = {"change": 1, "part": "carries", "gain": 0.1, "error": 0.01, "low": 0.08, "high": 0.12, "num_seeds": 3}
    found = folded((), attribution_of(1, "begun", changes=[1], num_seeds=4))
    for without in (None, 1):
        found = folded(found, attribution_of(1, "variant", without=without))
    yield folded(found, attribution_of(1, "ended", effects=[effect | {"of_a_later_version": 1}]))[0]


def test_an_attribution_that_has_ended_says_what_it_ended_with(ended: Attribution) -> None:
    (effect,) = effects(ended, Noise(0.01, 9, 0.2, 0.01, 1.05, False))
    assert (effect.change, effect.part.value, effect.gain) == (1, "carries", 0.1)
    assert ended.is_done(4) and isinstance(ended.variants[0], Variant)
