"""When an audit is due, what the record makes of it, and studies that are cut off around one."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from autoresearch_kernel import open_study
from autoresearch_kernel.core.next_step import audit_due
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Audit, Experiment, Run, Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.backend import LOCAL
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.scoring.scorer_process import ScoringFailed
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.steps import open_session
from tests.record.test_history import Study as Events
from tests.study.test_loop import Scripted, events_of
from tests.trust.test_cheats import LEAK

FINE = Audit(True, 0.0, 0.0, 256, 0, "", 1.0)


def challenger(*runs: Run, number: int = 3, status: Status | None = None) -> Experiment:
    return Experiment(number, "An idea", "search", 0, runs=runs, status=status)


def test_what_the_rule_would_keep_or_run_again_is_audited_first_and_only_once() -> None:
    first, second = Run(0, 1, val_bpb=1.4), Run(1, 2, val_bpb=1.41)
    assert audit_due(challenger(first), "discard") is None
    assert audit_due(challenger(first), "keep") == audit_due(challenger(first), "confirm") == 0
    seen = Run(0, 1, val_bpb=1.4, audit=FINE)
    assert audit_due(challenger(seen), "confirm") is None
    assert audit_due(challenger(seen, second), "keep") == 1
    assert audit_due(challenger(first, status=Status.KEEP), "keep") is None


def test_of_the_baseline_the_last_run_is_audited_before_it_is_kept() -> None:
    runs = [Run(index, index, val_bpb=1.4) for index in range(3)]
    assert audit_due(challenger(*runs[:2], number=0), "confirm") is None
    assert audit_due(challenger(*runs, number=0), "keep") == 2


def test_of_what_was_kept_each_further_run_is_audited() -> None:
    old, again = Run(0, 1, val_bpb=1.4, num_decided=1), Run(1, 2, val_bpb=1.4, num_decided=2)
    assert challenger(old, again, number=1, status=Status.KEEP).awaiting_audit == (again,)
    assert challenger(old, replace(again, audit=FINE), number=1, status=Status.KEEP).awaiting_audit == ()
    assert challenger(old, again, number=0, status=Status.KEEP).awaiting_audit == ()
    assert challenger(old, again, number=1).awaiting_audit == ()


def audited(events: Events, number: int, run: int, **facts: Any) -> Events:
    found = vars(FINE) | facts
    return events.add("audited", experiment=number, run=run, **found)


def test_an_accepted_claim_is_corrected_and_stays_visible() -> None:
    events = Events().baseline().propose(1).train(1, 0).score(1, 0, 1.40)
    run = audited(events, 1, 0, correction_bpb=0.004, standard_error=0.0015).state.experiments[1].runs[0]
    assert (run.claimed_bpb, run.val_bpb) == (1.40, pytest.approx(1.404))
    assert run.standard_error == pytest.approx(0.0025)
    assert run.audit is not None and run.audit.num_cuts == 256


def test_a_refused_claim_is_no_score_and_counts_nowhere() -> None:
    events = Events().baseline()
    sigma = events.state.sigma
    events.propose(1).train(1, 0).score(1, 0, 1.10)
    state = audited(events, 1, 0, accepted=False, num_mismatches=200, reason="it looked").state
    run = state.experiments[1].runs[0]
    assert (run.status, run.reason, run.val_bpb, run.claimed_bpb) == (Status.REJECTED, "it looked", None, 1.10)
    assert state.experiments[1].refusal == run and state.sigma == sigma


def test_a_champion_whose_last_run_is_refused_gives_way_to_the_one_before() -> None:
    events = Events().baseline().propose(1).train(1, 0).score(1, 0, 1.30)
    audited(events, 1, 0).decide(1, "keep", 1.30, sigma=0.01).train(1, 1).score(1, 1, 1.2)
    assert events.state.incumbent is not None and events.state.incumbent.number == 1
    state = audited(events, 1, 1, accepted=False, reason="it looked").state
    assert state.incumbent is not None and state.incumbent.number == 0
    assert (state.experiments[1].status, state.experiments[1].val_bpb) == (Status.REJECTED, None)


def test_a_study_that_was_cut_off_before_its_audit_makes_it_and_after_it_never_again(measured: Study) -> None:
    last = len(events_of(measured, "scored")) - 1  # the baseline may run more than three times on a busy machine
    assert [event["run"] for event in events_of(measured, "audited")] == [last]
    with open_session(measured) as session:
        experiment = session.propose(Scripted({"ALPHA": 0.1}))
        session.train(experiment, 0)
        session.score(experiment, 0)
    (done,) = islice(research(measured, Scripted()), 1)
    assert done.status is Status.KEEP
    kinds = [event["event"] for event in read_events(measured.paths.history) if event.get("experiment") == 1]
    told = [kind for kind in kinds if kind in ("scored", "audited", "decided")]
    assert told == ["scored", "audited"] * len(done.runs) + ["decided"]


def test_a_model_that_is_gone_when_its_audit_is_due_trains_again(measured: Study) -> None:
    with open_session(measured) as session:
        experiment = session.propose(Scripted({"ALPHA": 0.1}))
        session.train(experiment, 0)
        session.score(experiment, 0)
    measured.experiment(1).artefact(0).unlink()
    (done,) = islice(research(measured, Scripted()), 1)
    assert done.status is Status.KEEP and done.runs[0].audit is not None
    runs = [e["run"] for e in events_of(measured, "started") if e["experiment"] == 1]
    assert runs.count(0) == 2 and len(set(runs)) == len(done.runs)


def test_an_audit_that_is_killed_is_made_once_more_and_killed_twice_is_a_refusal(
    measured: Study, no_pictures: None
) -> None:
    killed = ScoringFailed("the scorer was killed (out of memory?)")
    killed.may_be_the_machine = True
    asked: list[str] = []

    def audit(job: ScoringJob, **facts: Any) -> Audit:
        """The first audit of experiment 1 is killed, and each one of experiment 2."""
        asked.append(next(part for part in job.artefact.parts if part in ("0001", "0002")))
        if len(asked) == 1 or asked[-1] == "0002":
            raise killed
        return FINE

    ideas = Scripted({"ALPHA": 0.3}, {"ALPHA": 0.02})
    kept, rejected = islice(research(measured, ideas, backend=replace(LOCAL, audit=audit)), 2)
    assert kept.status is Status.KEEP
    assert rejected.status is Status.REJECTED and "ended twice" in rejected.reason


def test_by_hand_a_verdict_shows_its_audit_and_what_both_scorers_answered(measured: Study, no_pictures: None) -> None:
    study = open_study("nov23", measured.project)
    study.run(study.propose(Scripted({"ALPHA": 0.1})))
    honest = study.judge()
    while honest.verdict == "confirm":  # its speed was another one than the baseline's
        study.run()
        honest = study.judge()
    assert honest.audit is not None and honest.audit.accepted
    assert "accepted: 2\u2009048 places say the same" in repr(honest)
    looked = honest.cuts()
    nats = honest.nats()[looked["row"], looked["place"]]
    assert np.abs(looked["claimed"] - nats).max() == 0 and np.abs(looked["blind"] - nats).max() < 1e-5
    study.record()
    study.run(study.propose(Scripted(LEAK)))
    cheat = study.judge()
    assert cheat.verdict == "rejected" and cheat.val_bpb is None and cheat.audit is not None
    for words in (repr(cheat), cheat._repr_html_()):
        assert "refused (claimed" in words and "secretly chosen places" in words
    looked = cheat.cuts()
    assert (looked["blind"] - looked["claimed"]).mean() > 1.0
    recorded = study.record()
    assert recorded.status is Status.REJECTED and "refused by the audit" in repr(recorded)
    rows = measured.paths.history.read_text()
    assert rows and replay(read_events(measured.paths.history)).incumbent.number == 1
