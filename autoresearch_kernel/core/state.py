"""What the events of a study mean: folded into experiments, the incumbent and sigma. Values only, no files.

ValueError
  HistoryDamaged    a record that cannot be trusted, because of its bytes or its place
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from .attribution import Attribution, folded
from .decide import mean, standard_error
from .drift import Level, at_present_speed, level
from .duel import DUEL_MODES, FORMER_PRIOR_SPEED, DuelMode, DuelNoise, duel_noise
from .errors import Plain
from .noise import Noise, noise_of
from .speed_worth import CPU_BUDGET_SECONDS, usual_worth
from .types import (
    NO_LIMITS,
    NO_SANDBOX,
    Audit,
    Busy,
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

T = TypeVar("T")

Event = dict[str, Any]  # one record of the history; `_Fold` has a method for each kind

MOST_LOST = 1_000  # proposals in a row that a view of a damaged history stands for
LOST: Event = {"parent": None, "hypothesis": "(The record of this proposal is lost.)", "agent": ""}


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
class Stacking:
    """What was promising of a wave on several slots, and which of its changes are tried together."""

    number: int  # of the first experiment after it
    incumbent: int  # the experiment that the stacks are merged into
    candidates: tuple[int, ...]  # promising experiments, the best first
    stacks: tuple[tuple[int, ...], ...]  # which of them each stack holds
    wave_end: int  # number of the first experiment of the next wave
    num_runs: int  # of the incumbent, then
    refused: tuple[tuple[int, ...], ...] = ()  # stacks that users refused


@dataclass(frozen=True)
class StudyState:
    """What the events of a study add up to."""

    study: dict[str, Any] = field(default_factory=dict)  # study.json, as recorded at the start; empty before that
    experiments: tuple[Experiment, ...] = ()  # in the order of their numbers, undecided ones included
    incumbent: Experiment | None = None  # the last one kept; None before the baseline is decided
    num_events: int = 0
    finished: str | None = None  # why the study ended; None while it goes on
    paused: str = ""  # why nothing new is begun; "" while it goes on
    is_paused_by_person: bool = False  # who also ends the pause
    stopped: str = ""  # why the last supervisor ended before the study was finished
    is_between_steps: bool = False  # it was a cell in which a user took one step
    waiting: MachineHolder | None = None  # whose training the next one waits for; None while it waits for none
    waiting_since: str = ""  # UTC ISO 8601; "" while it does not wait
    busy: tuple[Busy, ...] = ()  # moments at which other processes kept the machine busy, oldest first
    quiet_wait: Busy | None = None  # since when, and because of whom, the study waits for a quieter machine
    quiet_wait_limit: float = 0.0  # seconds that this wait may last
    quiet_seconds: float = 0.0  # that the study has waited for a quieter machine, in all
    is_drifting: bool = False  # the machine has left its speed at the start, as last recorded
    answered: frozenset[str] = frozenset()  # ids of commands that the history acknowledges
    hints: tuple[str, ...] = ()  # what people said to the agent and did not clear, oldest first
    undrawn: tuple[int, ...] = ()  # experiments whose views could not be drawn
    spent_by_experiment: Mapping[int, Spent] = field(default_factory=dict)  # on models, those never proposed included
    limits: Limits = NO_LIMITS  # of that
    approve: bool = False  # nothing trains that no person has approved
    duels: DuelMode = "never"  # when a confirmation is a duel
    can_duel: bool = False  # the last supervisor could stop one training while another one runs
    slots: tuple[str, ...] = ()  # names of the last supervisor's slots, where it has more than one
    # Facts of each kind of machine of a cluster that has trained, by its name: "" for the kind that the study began on.
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stacking: Stacking | None = None  # the last one
    slot_seconds: Mapping[str, float] = field(default_factory=dict)  # that each slot was in work, by its name
    refusals: tuple[Refusal, ...] = ()  # proposals that were given back, oldest first
    notes: str = ""  # the agent's, as it last wrote them
    notes_at: int = 0  # experiments decided then, the baseline not counted
    review: Review | None = None  # what waits for a person
    dry_runs: Mapping[str, str] = field(default_factory=dict)  # sha256 of a train.py -> what failed; "" if nothing did
    tested: tuple[SealedScore, ...] = ()  # scores on the sealed test split, oldest first
    results: tuple[Result, ...] = ()  # one for each champion that was finished, oldest first
    attributions: tuple[Attribution, ...] = ()  # one for each champion whose kept changes were taken out, oldest first
    files: Mapping[str, str] = field(default_factory=dict)  # path in the study's folder -> SHA-256 as last recorded

    @property
    def result(self) -> Result | None:
        """Of the present champion; None while it is not finished."""
        return next((r for r in self.results if self.incumbent and r.champion == self.incumbent.number), None)

    @property
    def attribution(self) -> Attribution | None:
        """Of the present champion; None while nothing was taken out of it."""
        champion = self.incumbent
        return next((a for a in self.attributions if champion and a.champion == champion.number), None)

    @property
    def decided(self) -> tuple[Experiment, ...]:
        return tuple(e for e in self.experiments if e.status is not None)

    @property
    def in_work(self) -> tuple[Experiment, ...]:
        """Those that are proposed and not decided, oldest first; more than one where several slots train."""
        return tuple(e for e in self.experiments if e.status is None)

    @property
    def unfinished(self) -> Experiment | None:
        """The first experiment that is proposed but not decided. Its last run says where to resume.

        No run: train. Status `interrupted`: it was started and never ended, train it again (its reason is
        "" until a session recorded the interruption). No status and no val_bpb: trained, score it. Otherwise decide.
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
        if self.incumbent is None:
            return ()
        own = self.incumbent.on(self.incumbent.machine)
        return scores_of(at_present_speed(own.runs, self.noise.like_speed))

    @property
    def incumbent_bpb(self) -> float | None:
        """Mean over these runs: what a challenger at the machine's present speed has to beat."""
        return mean(self.incumbent_scores) if self.incumbent_scores else None

    @property
    def incumbent_standard_error(self) -> float | None:
        """Of `incumbent_bpb`."""
        return standard_error(len(self.incumbent_scores), self.sigma)

    def level_for(self, challenger: Experiment) -> Level | None:
        """What a challenger with these runs has to beat; None without an incumbent or without a score."""
        reference = self.reference_for(challenger)
        if reference is None:
            return None
        return level(challenger.runs, reference.audited.runs, self.noise.like_speed, self.noise.worth)

    def reference_for(self, challenger: Experiment, machine: str | None = None) -> Experiment | None:
        """What a challenger is compared with: the incumbent, or its parent where another one was kept meanwhile.

        It has only its runs on one kind of machine: the challenger's, or the one that is named, for its next run.
        """
        if self.incumbent is None:
            return None
        reference = self.incumbent
        if challenger.status is None and challenger.parent not in (None, reference.number):
            parent = next((e for e in self.experiments if e.number == challenger.parent), None)
            reference = parent if parent is not None and parent.status is Status.KEEP else reference
        return reference.on(challenger.machine if machine is None else machine)

    def usual_runs(self, machine: str) -> tuple[Run, ...]:
        """The runs on this kind of machine whose time outside the budget is the measure of others.

        Those of the baseline; of the incumbent where the baseline has no score there.
        """
        baseline = self.experiments[0].on(machine)
        if scores_of(baseline.runs) or self.incumbent is None:
            return baseline.runs
        return self.incumbent.on(machine).runs

    def judged_against(self, challenger: Experiment) -> tuple[float | None, float | None]:
        """The score that a decision on a challenger compares it with, and its standard error; None where unknown."""
        if (level := self.level_for(challenger)) is None:
            if challenger.machine:
                return None, None
            return self.incumbent_bpb, self.incumbent_standard_error
        return level.bpb, level.standard_error(self.sigma, self.noise.worth_error)

    @cached_property
    def noise(self) -> Noise:
        """How much runs of the same code differ."""
        hardware = self.study.get("hardware") or {}
        usual = usual_worth(
            hardware.get("device") or "cpu", self.study.get("time_budget_seconds") or CPU_BUDGET_SECONDS
        )
        return noise_of([e.audited for e in self.experiments], usual)

    @cached_property
    def duel_noise(self) -> DuelNoise:
        """How much the difference of a duel scatters."""
        prior = self.study.get("duel_prior_speed") or FORMER_PRIOR_SPEED
        return duel_noise([e.audited for e in self.experiments], self.noise.worth, prior)

    @property
    def sigma(self) -> float | None:
        """Run-to-run standard deviation, pooled over all experiments that were run more than once."""
        return self.noise.sigma

    @property
    def is_unsteady(self) -> bool:
        """The machine's speed changed so often that no three runs of the baseline are alike."""
        return self.noise.is_unsteady


def replay(events: Iterable[Event], left_out: list[Event] | None = None) -> StudyState:
    """Fold events, oldest first. Events this version does not know are counted and otherwise ignored.

    Raises HistoryDamaged when an event does not fit what came before it; a view passes the list `left_out`, which then
    takes such events.
    """
    fold = _Fold(is_lenient=left_out is not None)
    for event in events:
        fold.num_events += 1
        fold.files.update(event.get("files") or {})
        add = getattr(fold, f"on_{event['event']}", None)
        if add is not None:
            try:
                add(event)
            except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
                if left_out is not None:
                    left_out.append(event)
                    continue
                wrong = f"it has no field {error}" if isinstance(error, KeyError) else str(error)
                what = f"Record {event.get('seq')} ({event['event']} of experiment {event.get('experiment')})"
                raise HistoryDamaged(
                    f"{what} does not fit the records before it: {wrong}. Restore the history "
                    "from a copy, or continue the study with the version that wrote it."
                ) from error
    return fold.freeze()


class _Fold:
    """The sum of the events so far; `on_EVENT` adds one event. Experiments and runs are dicts until `freeze`."""

    def __init__(self, is_lenient: bool = False) -> None:
        self.is_lenient = is_lenient
        self.known: dict[str, Any] = {}  # fields of StudyState that an event sets as a whole
        self.experiments: list[dict[str, Any]] = []  # index is the experiment's number
        self.runs: list[list[dict[str, Any]]] = []
        self.kept: list[int] = []  # numbers, in the order of their decisions
        self.num_events = self.num_decided = self.num_decisions = 0
        self.answered: set[str] = set()
        self.hints: list[str] = []
        self.undrawn: set[int] = set()
        self.spent: dict[int, Spent] = {}  # by experiment, those never proposed included
        self.refusals: list[Refusal] = []
        self.dry_runs: dict[str, str] = {}
        self.tested: list[SealedScore] = []
        self.results: list[Result] = []
        self.attributions: tuple[Attribution, ...] = ()
        self.files: dict[str, str | None] = {}  # None for one that is being made again
        self.busy: list[Busy] = []
        self.slot_seconds: dict[str, float] = {}  # that each slot was in work
        self.slot_since: dict[tuple[int, int], tuple[str, float]] = {}  # experiment and run -> slot, Unix time

    def freeze(self) -> StudyState:
        experiments = tuple(
            Experiment(**known, runs=tuple(Run(**run) for run in runs), spent=self.spent.get(known["number"], Spent()))
            for known, runs in zip(self.experiments, self.runs, strict=True)
        )
        has_baseline = not self.is_lenient or (bool(experiments) and experiments[0].val_bpb is not None)
        return StudyState(
            **self.known,
            experiments=experiments,
            incumbent=experiments[self.kept[-1]] if self.kept and has_baseline else None,
            num_events=self.num_events,
            answered=frozenset(self.answered),
            hints=tuple(self.hints),
            undrawn=tuple(sorted(self.undrawn)),
            spent_by_experiment=self.spent.copy(),
            refusals=tuple(self.refusals),
            dry_runs=self.dry_runs.copy(),
            tested=tuple(self.tested),
            results=tuple(self.results),
            attributions=self.attributions,
            files={path: digest for path, digest in self.files.items() if digest is not None},
            busy=tuple(self.busy),
            slot_seconds=self.slot_seconds.copy(),
        )

    def run(self, event: Event) -> dict[str, Any]:
        """The run that an event is about; the time since its last event was its slot's."""
        key = event["experiment"], event["run"]
        if key in self.slot_since:
            (slot, since), now = self.slot_since[key], _seconds_of(event)
            self.slot_seconds[slot] = self.slot_seconds.get(slot, 0.0) + max(0.0, now - since)
            self.slot_since[key] = slot, now
        return self.runs[event["experiment"]][event["run"]]

    # --- the study

    def on_study_started(self, event: Event) -> None:
        self.known["study"] = event["study"]

    def on_opened(self, event: Event) -> None:
        self.known |= {"stopped": "", "is_between_steps": False, "paused": "", "is_paused_by_person": False}
        self.slot_since.clear()
        self.known |= {"quiet_wait": None, "can_duel": bool(event.get("can_duel")), "slots": ()}
        self.on_waited(event)

    def on_slots(self, event: Event) -> None:
        self.known["slots"] = tuple(event["names"])
        kinds = dict(zip(event.get("kinds") or (), event.get("machines") or (), strict=False))
        self.known["kinds"] = {**kinds, **self.known.get("kinds", {})}

    def on_paused(self, event: Event) -> None:
        self.known |= {"paused": event["reason"], "is_paused_by_person": bool(event.get("by_person"))}

    def on_resumed(self, event: Event) -> None:
        self.known |= {"paused": "", "is_paused_by_person": False}

    def on_stopped(self, event: Event) -> None:
        self.on_waited(event)
        self.known["quiet_wait"] = None
        self.known |= {"stopped": event["reason"], "is_between_steps": event.get("is_between_steps", False)}

    def on_finished(self, event: Event) -> None:
        self.known["finished"] = event.get("reason") or "finished"

    def on_waiting(self, event: Event) -> None:
        holder = MachineHolder(event["study"], event["pid"], event["since"])
        self.known |= {"waiting": holder, "waiting_since": self.known.get("waiting_since") or event["time"]}

    def on_waited(self, event: Event) -> None:
        self.known |= {"waiting": None, "waiting_since": ""}

    def on_busy(self, event: Event) -> None:
        self.busy.append(from_event(event, Busy))

    def on_quiet_wait(self, event: Event) -> None:
        self.on_busy(event)
        self.known |= {"quiet_wait": self.busy[-1], "quiet_wait_limit": event["seconds"]}

    def on_quiet_waited(self, event: Event) -> None:
        seconds = self.known.get("quiet_seconds", 0.0) + event["seconds"]
        self.known |= {"quiet_wait": None, "quiet_seconds": seconds}

    def on_drift(self, event: Event) -> None:
        self.known["is_drifting"] = bool(event["is_moved"])

    def on_limits(self, event: Event) -> None:
        self.known["limits"] = Limits(event["max_tokens"], event["max_cost"], event.get("max_calls"))

    def on_approval(self, event: Event) -> None:
        self.known["approve"] = event["is_needed"]

    def on_duels(self, event: Event) -> None:
        if event["mode"] not in DUEL_MODES:
            raise ValueError(f"there is no mode of duels {event['mode']!r}")
        self.known["duels"] = event["mode"]

    def on_command(self, event: Event) -> None:
        self.answered.add(event["id"])
        if event["command"] == "hint":
            self.hints.append(event["text"])
        elif event["command"] == "clear hints":
            self.hints.clear()

    # --- proposals

    def on_called(self, event: Event) -> None:
        number, names = event["experiment"], [f.name for f in fields(Call)]
        call = Call(**{name: event[name] for name in names if name in event})
        self.spent[number] = self.spent.get(number, Spent()).plus(call)

    def on_notes(self, event: Event) -> None:
        self.known |= {"notes": event["text"], "notes_at": event["decided"]}

    def on_review(self, event: Event) -> None:
        self.known["review"] = from_event(event, Review)

    def on_dry_run(self, event: Event) -> None:
        if event.get("void"):  # it was cut off, or failed for what is not its own doing
            del self.dry_runs[event["train_sha256"]]
        else:
            self.dry_runs[event["train_sha256"]] = event["ended"] or ""

    def on_refused(self, event: Event) -> None:
        if not event.get("is_draft"):  # a user's own train.py stays under review
            self.known["review"] = None
        objection, parameters = Objection(event["objection"]), event.get("parameters") or {}
        said, digest = (event["why"], event["hypothesis"]), event.get("train_sha256") or ""
        refusal = Refusal(event["experiment"], objection, *said, parameters=parameters, train_sha256=digest)
        self.refusals.append(refusal)

    def on_proposed(self, event: Event) -> None:
        number = event["experiment"]
        while self.is_lenient and len(self.experiments) < number <= len(self.experiments) + MOST_LOST:
            self._add(LOST | {"experiment": len(self.experiments), "time": event["time"]})
        if number != len(self.experiments):
            raise ValueError(f"experiment {len(self.experiments)} comes next")
        self._add(event)

    def _add(self, event: Event) -> None:
        proposed = {
            "number": event["experiment"],
            "parent": event["parent"],
            "decided_before": self.num_decided,
            "hypothesis": event["hypothesis"],
            "agent": event["agent"],
            "changes": event.get("changes") or {},
            "details": event.get("details") or {},
            "code_size": event.get("code_size"),
            "proposed_at": event["time"],
            **{name: event.get(name) or "" for name in ("expected", "refutation", "fingerprint", "train_sha256")},
        }
        self.known |= {"finished": None, "review": None}
        self.runs.append([])
        self.experiments.append(proposed)

    # --- runs

    def on_started(self, event: Event) -> None:
        """Until it ends, a run is an interrupted one: that is what it is if nothing comes after."""
        runs, index = self.runs[event["experiment"]], event["run"]
        run = {"index": index, "seed": event["seed"], "status": Status.INTERRUPTED, "num_decided": self.num_decided}
        number, is_decided = event["experiment"], self.experiments[event["experiment"]].get("status") is not None
        # With several slots others may be decided before it, and experiments before it later.
        run["num_decided"] = max(self.num_decided, number + 1) if is_decided else min(self.num_decided, number)
        run |= {"sandbox": event.get("sandbox"), "duel": tuple(event["duel"]) if event.get("duel") else None}
        run["slot"], run["machine"] = event.get("slot") or "", event.get("machine") or ""
        if run["slot"]:
            self.slot_since[event["experiment"], index] = run["slot"], _seconds_of(event)
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

    def on_trained(self, event: Event) -> None:
        self.on_waited(event)
        status = None if event["status"] is None else Status(event["status"])
        self.run(event).update(status=status, reason=event.get("reason") or "", measured=event.get("measured") or {})
        if event.get("sandbox"):
            self.run(event)["sandbox"] = event["sandbox"]

    def on_interrupted(self, event: Event) -> None:
        self.on_waited(event)
        run = self.run(event)
        run.update(status=Status.INTERRUPTED, reason=event.get("reason") or "interrupted")
        cause = Cause(event.get("cause") or Cause.GONE)
        run["causes"] = (*run.get("causes", ()), cause)
        if cause is not Cause.GONE:
            run["attempts"] = run.get("attempts", 1) - 1

    def on_scored(self, event: Event) -> None:
        run, val_bpb = self.run(event), event.get("val_bpb")
        run["val_bpb"], run["standard_error"] = val_bpb, event.get("standard_error")
        run["provenance"] = event.get("provenance") or ""
        if event.get("sandbox") == NO_SANDBOX:  # it trained in one, and was scored by a later session without
            run["sandbox"] = NO_SANDBOX
        if val_bpb is None:
            run.update(status=Status(event["status"]), reason=event.get("reason") or "")
        facts = {"scored": {k: event[k] for k in ("num_tokens", "num_bytes") if k in event}}
        if "evaluation_seconds" in event:
            facts["scoring_seconds"] = event["evaluation_seconds"]
        for name in ("slowest_batch_seconds", "answer_seconds"):
            if event.get(name) is not None:
                facts[name] = event[name]
        run["measured"] = {**run.get("measured", {}), **facts}

    def on_audited(self, event: Event) -> None:
        """An accepted score is corrected; a refused one is none, and an experiment kept for it is not kept."""
        run, number, audit = self.run(event), event["experiment"], from_event(event, Audit)
        run["audit"], run["claimed_bpb"] = audit, run["val_bpb"]
        if audit.accepted:
            run["val_bpb"] += audit.correction_bpb
            run["standard_error"] = math.hypot(run.get("standard_error") or 0.0, audit.standard_error)
            return
        refused = {"status": Status.REJECTED, "val_bpb": None, "standard_error": None, "reason": audit.reason}
        run.update(refused)
        if self.experiments[number].get("status") is not None:
            self.experiments[number].update(refused)
            self.kept = [kept for kept in self.kept if kept != number]
            self._forget_incumbent(number)

    def _forget_incumbent(self, number: int) -> None:
        """What was found against an incumbent that is refused now is found anew; the stacks go on the one before."""
        for experiment in self.experiments:
            if experiment.get("beat") == number:
                experiment["beat"] = None
        stacking = self.known.get("stacking")
        if stacking is not None and stacking.incumbent == number and self.kept:
            self.known["stacking"] = replace(stacking, incumbent=self.kept[-1])

    def on_stacking(self, event: Event) -> None:
        stacks = tuple(tuple(stack) for stack in event["stacks"])
        facts = {name: event[name] for name in ("incumbent", "wave_end", "num_runs")}
        self.known["stacking"] = Stacking(
            number=len(self.experiments), candidates=tuple(event["candidates"]), stacks=stacks, **facts
        )

    def on_stack_refused(self, event: Event) -> None:
        before = self.known["stacking"]
        self.known["stacking"] = replace(before, refused=(*before.refused, tuple(event["merged"])))

    def on_beat(self, event: Event) -> None:
        """An experiment has beaten the incumbent while others are in work, and waits for them."""
        self.experiments[event["experiment"]]["beat"] = event["incumbent"]

    def on_decided(self, event: Event) -> None:
        number, status = event["experiment"], Status(event["status"])
        self.num_decided += self.experiments[number].get("status") is None
        self.num_decisions += 1
        self.experiments[number].update(
            status=status,
            place=self.num_decisions,
            reason=event.get("reason") or "",
            decided_at=event["time"],
            val_bpb=event.get("val_bpb"),
            standard_error=event.get("standard_error"),
            incumbent_bpb=event.get("incumbent_bpb"),
            incumbent_standard_error=event.get("incumbent_standard_error"),
            sigma=event.get("sigma"),
            degrees_of_freedom=event.get("degrees_of_freedom"),
            difference_error=event.get("difference_error"),
            commit=event.get("commit"),
        )
        if number in self.kept:  # decided anew, after a second look
            self.kept.remove(number)
        if status is Status.KEEP:
            self.kept.append(number)

    def on_committed(self, event: Event) -> None:
        """The commit of an experiment that was decided while git could not be written."""
        self.experiments[event["experiment"]]["commit"] = event["commit"]

    def on_undrawn(self, event: Event) -> None:
        self.undrawn.add(event["experiment"])

    def on_drawn(self, event: Event) -> None:
        self.undrawn.discard(event["experiment"])

    # --- the result

    def on_tested(self, event: Event) -> None:
        self.tested.append(from_event(event, SealedScore))

    def on_result(self, event: Event) -> None:
        self.results.append(from_event(event, Result))
        self.known["finished"] = self.known.get("finished") or "its result is there"

    def on_attribution(self, event: Event) -> None:
        self.attributions = folded(self.attributions, event)
        if event["what"] == "ended":
            self.known["finished"] = self.known.get("finished") or "its kept changes are attributed"


def _seconds_of(event: Event) -> float:
    """Unix time of an event."""
    return datetime.fromisoformat(event["time"]).timestamp()


def from_event(event: Event, kind: type[T]) -> T:
    """A dataclass whose fields stand in the event under their names; one with a default may be missing."""
    needed = [f.name for f in fields(kind) if f.name in event or f.default is MISSING]  # type: ignore[arg-type]
    return kind(**{name: event[name] for name in needed})
