"""What the events of a study mean: folded into experiments, the incumbent and sigma. Values only, no files.

ValueError
  HistoryDamaged    a record that cannot be trusted, because of its bytes or its place
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .decide import estimate_sigma, mean, standard_error
from .drift import alike, at_present_speed
from .errors import Plain
from .types import (
    NO_LIMITS,
    NO_SANDBOX,
    Audit,
    Call,
    Cause,
    Experiment,
    Limits,
    MachineHolder,
    Objection,
    Refusal,
    Result,
    Run,
    SealedScore,
    Spent,
    Status,
    scores_of,
)

Event = dict[str, Any]  # one record of the history; the events are listed in _STEPS below


class HistoryDamaged(Plain, ValueError):
    """A record that cannot be trusted; the message names it and says what to do."""


@dataclass(frozen=True)
class Review:
    """A train.py that waits for a user to approve, edit or reject it."""

    experiment: int
    hypothesis: str
    train_sha256: str  # as it was put there
    is_draft: bool  # it is the incumbent's, for a person to edit


@dataclass(frozen=True)
class StudyState:
    """What the events of a study add up to."""

    study: dict[str, Any]  # study.json, as recorded at the start; empty before that
    experiments: tuple[Experiment, ...]  # in the order of their numbers, undecided ones included
    incumbent: Experiment | None  # the last one kept; None before the baseline is decided
    num_events: int
    finished: str | None  # why the study ended; None while it goes on
    paused: str = ""  # why nothing new is begun; "" while it goes on
    is_paused_by_person: bool = False  # who also ends the pause
    stopped: str = ""  # why the last supervisor ended before the study was finished
    waiting: MachineHolder | None = None  # whose training the next one waits for; None while it waits for none
    waiting_since: str = ""  # UTC ISO 8601; "" while it does not wait
    answered: frozenset[str] = frozenset()  # ids of commands that the history acknowledges
    hints: tuple[str, ...] = ()  # what people said to the agent and did not clear, oldest first
    undrawn: tuple[int, ...] = ()  # experiments whose views could not be drawn
    spent_by_experiment: Mapping[int, Spent] = field(default_factory=dict)  # on models, those never proposed included
    limits: Limits = NO_LIMITS  # of that
    approve: bool = False  # nothing trains that no person has approved
    refusals: tuple[Refusal, ...] = ()  # proposals that were given back, oldest first
    notes: str = ""  # the agent's, as it last wrote them
    notes_at: int = 0  # experiments decided then, the baseline not counted
    review: Review | None = None  # what waits for a person
    dry_runs: Mapping[str, str] = field(default_factory=dict)  # sha256 of a train.py -> what failed; "" if nothing did
    tested: tuple[SealedScore, ...] = ()  # scores on the sealed test split, oldest first
    results: tuple[Result, ...] = ()  # one for each champion that was finished, oldest first

    @property
    def result(self) -> Result | None:
        """Of the present champion; None while it is not finished."""
        return next((r for r in self.results if self.incumbent and r.champion == self.incumbent.number), None)

    @property
    def decided(self) -> tuple[Experiment, ...]:
        return tuple(e for e in self.experiments if e.status is not None)

    @property
    def unfinished(self) -> Experiment | None:
        """The first experiment that is proposed but not decided. Its last run says where to resume.

        No run: train. Status `interrupted`: it was started and never ended, train it again (its reason is
        "" until someone recorded the interruption). No status and no val_bpb: trained, score it. Otherwise decide.
        """
        return next((e for e in self.experiments if e.status is None), None)

    @property
    def spent(self) -> Spent:
        """On language models, in all."""
        return sum(self.spent_by_experiment.values(), Spent())

    def spent_on(self, number: int) -> Spent:
        return self.spent_by_experiment.get(number, Spent())

    @property
    def incumbent_scores(self) -> tuple[float, ...]:
        """One per scored run of the incumbent that the machine made at its present speed, re-runs included."""
        return scores_of(at_present_speed(self.incumbent.runs, self.sigma)) if self.incumbent else ()

    @property
    def incumbent_bpb(self) -> float | None:
        """Mean over these runs: what a challenger has to beat."""
        return mean(self.incumbent_scores) if self.incumbent_scores else None

    @property
    def incumbent_standard_error(self) -> float | None:
        """Of `incumbent_bpb`."""
        return standard_error(len(self.incumbent_scores), self.sigma)

    @property
    def sigma(self) -> float | None:
        """Run-to-run standard deviation, pooled over all experiments that were run more than once."""
        judged = [e for e in self.experiments if e.status is not Status.REJECTED]
        return estimate_sigma(scores for e in judged for scores in alike(e.runs))


def replay(events: Iterable[Event]) -> StudyState:
    """Fold events, oldest first. Events this version does not know are counted and otherwise ignored.

    Raises HistoryDamaged when an event does not fit what came before it.
    """
    fold = _Fold()
    for event in events:
        fold.num_events += 1
        step = _STEPS.get(event["event"])
        if step is not None:
            try:
                step(fold, event)
            except (KeyError, ValueError, TypeError, IndexError) as error:
                wrong = f"it has no field {error}" if isinstance(error, KeyError) else str(error)
                what = f"Record {event.get('seq')} ({event['event']} of experiment {event.get('experiment')})"
                raise HistoryDamaged(
                    f"{what} does not fit the records before it: {wrong}. Restore the history "
                    "from a copy, or continue the study with the version that wrote it."
                ) from error
    return fold.freeze()


class _Fold:
    """What is being added up. Experiments and runs are dicts of their fields until they are frozen."""

    def __init__(self) -> None:
        self.study: dict[str, Any] = {}
        self.experiments: list[dict[str, Any]] = []  # index is the experiment's number
        self.runs: list[list[dict[str, Any]]] = []
        self.kept: list[int] = []  # numbers, in the order of their decisions
        self.num_events = 0
        self.num_decided = 0
        self.finished: str | None = None
        self.paused = self.stopped = self.waiting_since = ""
        self.is_paused_by_person = False
        self.waiting: MachineHolder | None = None
        self.answered: set[str] = set()
        self.hints: list[str] = []
        self.undrawn: set[int] = set()
        self.spent: dict[int, Spent] = {}  # by experiment, those never proposed included
        self.limits, self.approve = NO_LIMITS, False
        self.refusals: list[Refusal] = []
        self.notes, self.notes_at = "", 0
        self.review: Review | None = None
        self.dry_runs: dict[str, str] = {}
        self.tested: list[SealedScore] = []
        self.results: list[Result] = []

    def run(self, event: Event) -> dict[str, Any]:
        return self.runs[event["experiment"]][event["run"]]

    def freeze(self) -> StudyState:
        experiments = tuple(
            Experiment(
                **known,
                runs=tuple(Run(**run) for run in runs),
                spent=self.spent.get(known["number"], Spent()),
            )
            for known, runs in zip(self.experiments, self.runs, strict=True)
        )
        incumbent = experiments[self.kept[-1]] if self.kept else None
        return StudyState(
            self.study, experiments, incumbent, self.num_events, self.finished, self.paused, self.is_paused_by_person,
            self.stopped, self.waiting, self.waiting_since, frozenset(self.answered), tuple(self.hints),
            tuple(sorted(self.undrawn)), dict(self.spent), self.limits, self.approve, tuple(self.refusals), self.notes,
            self.notes_at, self.review, self.dry_runs.copy(), tuple(self.tested), tuple(self.results),
        )  # fmt: skip


def _study_started(fold: _Fold, event: Event) -> None:
    fold.study = event["study"]


def _proposed(fold: _Fold, event: Event) -> None:
    number = event["experiment"]
    if number != len(fold.experiments):
        raise ValueError(f"experiment {len(fold.experiments)} comes next")
    fold.finished = fold.review = None
    fold.runs.append([])
    fold.experiments.append(
        {
            "number": number,
            "hypothesis": event["hypothesis"],
            "agent": event["agent"],
            "parent": event["parent"],
            "changes": event.get("changes") or {},
            "details": event.get("details") or {},
            "expected": event.get("expected") or "",
            "refutation": event.get("refutation") or "",
            "fingerprint": event.get("fingerprint") or "",
            "code_size": event.get("code_size"),
            "train_sha256": event.get("train_sha256", ""),
            "proposed_at": event["time"],
        }
    )


def _started(fold: _Fold, event: Event) -> None:
    """Until it ends, a run is an interrupted one: that is what it is if nothing comes after."""
    runs, index = fold.runs[event["experiment"]], event["run"]
    run = {"index": index, "seed": event["seed"], "status": Status.INTERRUPTED, "num_decided": fold.num_decided}
    run["sandbox"] = event.get("sandbox")
    if index == len(runs):
        runs.append(run)
    else:
        before = runs[index]
        why = (before["reason"],) if before.get("reason") else ()
        runs[index] = run | {
            "attempts": before.get("attempts", 1) + 1,
            "interruptions": before.get("interruptions", ()) + why,
            "causes": before.get("causes", ()),
        }


def _trained(fold: _Fold, event: Event) -> None:
    _waited(fold, event)
    status = event["status"]
    fold.run(event).update(
        status=None if status is None else Status(status),
        reason=event.get("reason") or "",
        measured=event.get("measured") or {},
    )


def _interrupted(fold: _Fold, event: Event) -> None:
    _waited(fold, event)
    run = fold.run(event)
    run.update(status=Status.INTERRUPTED, reason=event.get("reason") or "interrupted")
    cause = Cause(event.get("cause") or Cause.GONE)
    run["causes"] = (*run.get("causes", ()), cause)
    if cause is not Cause.GONE:
        run["attempts"] = run.get("attempts", 1) - 1


def _scored(fold: _Fold, event: Event) -> None:
    run, val_bpb = fold.run(event), event.get("val_bpb")
    run["val_bpb"], run["standard_error"] = val_bpb, event.get("standard_error")
    run["provenance"] = event.get("provenance") or ""
    if event.get("sandbox") == NO_SANDBOX:  # it trained in one, and was scored by a later session without
        run["sandbox"] = NO_SANDBOX
    if val_bpb is None:
        run["status"] = Status(event["status"])
        run["reason"] = event.get("reason") or ""
    facts = {"scored": {k: event[k] for k in ("num_tokens", "num_bytes") if k in event}}
    if "evaluation_seconds" in event:
        facts["scoring_seconds"] = event["evaluation_seconds"]
    if event.get("slowest_batch_seconds") is not None:
        facts["slowest_batch_seconds"] = event["slowest_batch_seconds"]
    run["measured"] = {**run.get("measured", {}), **facts}


def _audited(fold: _Fold, event: Event) -> None:
    """An accepted claim is corrected; a refused one is no score, and an experiment that was kept for it is not kept."""
    run, number = fold.run(event), event["experiment"]
    audit = Audit(**{f.name: event[f.name] for f in fields(Audit)})
    run["audit"], run["claimed_bpb"] = audit, run["val_bpb"]
    if audit.accepted:
        run["val_bpb"] += audit.correction_bpb
        run["standard_error"] = math.hypot(run.get("standard_error") or 0.0, audit.standard_error)
        return
    refused = {"status": Status.REJECTED, "val_bpb": None, "standard_error": None, "reason": audit.reason}
    run.update(refused)
    if fold.experiments[number].get("status") is not None:
        fold.experiments[number].update(refused)
        fold.kept = [kept for kept in fold.kept if kept != number]


def _decided(fold: _Fold, event: Event) -> None:
    number, status = event["experiment"], Status(event["status"])
    fold.num_decided += fold.experiments[number].get("status") is None
    fold.experiments[number].update(
        status=status,
        val_bpb=event.get("val_bpb"),
        standard_error=event.get("standard_error"),
        reason=event.get("reason") or "",
        incumbent_bpb=event.get("incumbent_bpb"),
        incumbent_standard_error=event.get("incumbent_standard_error"),
        sigma=event.get("sigma"),
        commit=event.get("commit"),
        decided_at=event["time"],
    )
    if number in fold.kept:  # decided anew, after a second look
        fold.kept.remove(number)
    if status is Status.KEEP:
        fold.kept.append(number)


def _committed(fold: _Fold, event: Event) -> None:
    """The commit of an experiment that was decided while git could not be written."""
    fold.experiments[event["experiment"]]["commit"] = event["commit"]


def _finished(fold: _Fold, event: Event) -> None:
    fold.finished = event.get("reason") or "finished"


def _tested(fold: _Fold, event: Event) -> None:
    fold.tested.append(SealedScore(**{f.name: event[f.name] for f in fields(SealedScore)}))


def _result(fold: _Fold, event: Event) -> None:
    fold.results.append(Result(**{f.name: event[f.name] for f in fields(Result)}))
    fold.finished = fold.finished or "its result is there"


def _opened(fold: _Fold, event: Event) -> None:
    fold.paused = fold.stopped = ""
    fold.is_paused_by_person = False
    _waited(fold, event)


def _waiting(fold: _Fold, event: Event) -> None:
    fold.waiting = MachineHolder(event["study"], event["pid"], event["since"])
    fold.waiting_since = fold.waiting_since or event["time"]


def _waited(fold: _Fold, event: Event) -> None:
    fold.waiting, fold.waiting_since = None, ""


def _paused(fold: _Fold, event: Event) -> None:
    fold.paused, fold.is_paused_by_person = event["reason"], bool(event.get("by_person"))


def _resumed(fold: _Fold, event: Event) -> None:
    fold.paused, fold.is_paused_by_person = "", False


def _stopped(fold: _Fold, event: Event) -> None:
    _waited(fold, event)
    fold.stopped = event["reason"]


def _command(fold: _Fold, event: Event) -> None:
    fold.answered.add(event["id"])
    if event["command"] == "hint":
        fold.hints.append(event["text"])
    elif event["command"] == "clear hints":
        fold.hints.clear()


def _undrawn(fold: _Fold, event: Event) -> None:
    fold.undrawn.add(event["experiment"])


def _drawn(fold: _Fold, event: Event) -> None:
    fold.undrawn.discard(event["experiment"])


def _called(fold: _Fold, event: Event) -> None:
    number, names = event["experiment"], [f.name for f in fields(Call)]
    call = Call(**{name: event[name] for name in names if name in event})
    fold.spent[number] = fold.spent.get(number, Spent()).plus(call)


def _limits(fold: _Fold, event: Event) -> None:
    fold.limits = Limits(event["max_tokens"], event["max_cost"])


def _approval(fold: _Fold, event: Event) -> None:
    fold.approve = event["is_needed"]


def _refused(fold: _Fold, event: Event) -> None:
    fold.review = None
    objection, parameters = Objection(event["objection"]), event.get("parameters") or {}
    said, digest = (event["why"], event["hypothesis"]), event.get("train_sha256") or ""
    refusal = Refusal(event["experiment"], objection, *said, parameters=parameters, train_sha256=digest)
    fold.refusals.append(refusal)


def _notes(fold: _Fold, event: Event) -> None:
    fold.notes, fold.notes_at = event["text"], event["decided"]


def _review(fold: _Fold, event: Event) -> None:
    fold.review = Review(event["experiment"], event["hypothesis"], event["train_sha256"], event["is_draft"])


def _dry_run(fold: _Fold, event: Event) -> None:
    if event.get("void"):  # it was cut off, or failed for what is not its own doing
        del fold.dry_runs[event["train_sha256"]]
    else:
        fold.dry_runs[event["train_sha256"]] = event["ended"] or ""


_STEPS: dict[str, Callable[[_Fold, Event], None]] = {
    "study_started": _study_started,
    "proposed": _proposed,
    "started": _started,
    "trained": _trained,
    "interrupted": _interrupted,
    "scored": _scored,
    "audited": _audited,
    "decided": _decided,
    "committed": _committed,
    "finished": _finished,
    "tested": _tested,
    "result": _result,
    "opened": _opened,
    "waiting": _waiting,
    "waited": _waited,
    "paused": _paused,
    "resumed": _resumed,
    "stopped": _stopped,
    "command": _command,
    "undrawn": _undrawn,
    "drawn": _drawn,
    "called": _called,
    "limits": _limits,
    "approval": _approval,
    "refused": _refused,
    "notes": _notes,
    "review": _review,
    "dry_run": _dry_run,
}
