"""What the check needs of a bundle's history: the scores of all runs, the decisions, and who was the incumbent. Pure.

It is smaller than `core/state.py`, on purpose: verify.js has the same fold, line by line, and both must agree. Figures
that rest on more, such as sigma, are asked of the state that the program itself makes of the same events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..core.attribution import Effect, effects
from ..core.state import Event, HistoryDamaged, StudyState, replay

UNFIT = (  # what values that no supervisor writes may end in
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, AssertionError, RecursionError,
    HistoryDamaged,
)  # fmt: skip


@dataclass
class Recorded:
    """The sum of the events so far."""

    parents: dict[int, int | None] = field(default_factory=dict)  # experiment -> its parent
    incumbents: dict[int, int | None] = field(default_factory=dict)  # experiment -> the incumbent when it was proposed
    sources: dict[int, str] = field(default_factory=dict)  # experiment -> SHA-256 of its train.py
    runs: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)  # experiment -> run -> its facts
    decided: dict[int, dict[str, Any]] = field(default_factory=dict)  # experiment -> its decision
    kept: list[int] = field(default_factory=list)  # in the order of their decisions
    tested: dict[int, dict[int, float | None]] = field(default_factory=dict)  # experiment -> run -> test_bpb
    looks: set[int | None] = field(default_factory=set)  # champions that the test split was opened for
    results: list[Event] = field(default_factory=list)
    has_numbers: bool = False  # a decision kept the numbers that it was made from
    events: list[Event] = field(default_factory=list)  # that were added

    @cached_property
    def state(self) -> StudyState:
        """What the program makes of the events, to be asked for after the last one. Raises HistoryDamaged."""
        return replay(self.events)

    @property
    def incumbent(self) -> int | None:
        return self.kept[-1] if self.kept else None

    @property
    def result(self) -> Event | None:
        """Of the champion; None while there is none."""
        return next((result for result in self.results if result["champion"] == self.incumbent), None)

    def last_status(self, number: int) -> str | None:
        """How the last run of an experiment ended, a refusal of any run before that; None where it has a score.

        A refusal of the baseline, which no agent wrote, ends only that run.
        """
        runs = self.runs.get(number) or {}
        statuses = [run["status"] for _, run in sorted(runs.items())]
        return "rejected" if "rejected" in statuses and number > 0 else statuses[-1] if statuses else None

    @cached_property
    def is_fit(self) -> bool:
        """Whether the program can read all events, to be asked after the last one; this fold looks at fewer of them."""
        try:
            return bool(self.state)
        except UNFIT:
            return False

    @cached_property
    def effects(self) -> dict[int, Effect]:
        """Kept change -> what it is worth in the champion; empty without an attribution. Raises what `state` raises."""
        attribution = self.state.attribution
        if attribution is None or not attribution.variants:
            return {}
        return {effect.change: effect for effect in effects(attribution, self.state.noise)}

    def has_score(self, number: int) -> bool:
        return any(run["val_bpb"] is not None for run in self.runs[number].values())

    def add(self, event: Event) -> None:
        """Raises KeyError, TypeError or ValueError for an event that does not fit the ones before it."""
        add = getattr(self, f"_on_{event['event']}", None)
        if add is not None:
            add(event)
        self.events.append(event)

    def _run(self, event: Event) -> dict[str, Any]:
        return self.runs[event["experiment"]][event["run"]]

    def _on_proposed(self, event: Event) -> None:
        number = event["experiment"]
        self.parents[number], self.incumbents[number] = event["parent"], self.incumbent
        self.sources[number], self.runs[number] = event.get("train_sha256") or "", {}

    def _on_started(self, event: Event) -> None:
        number, machine = event["experiment"], event.get("machine") or ""
        decided = len(self.decided) if number in self.decided else None
        run = {"status": "interrupted", "val_bpb": None, "claimed": None, "machine": machine, "decided": decided}
        self.runs[number][event["run"]] = run

    def _on_trained(self, event: Event) -> None:
        self._run(event)["status"] = event["status"]

    def _on_interrupted(self, event: Event) -> None:
        self._run(event)["status"] = "interrupted"

    def _on_scored(self, event: Event) -> None:
        run = self._run(event)
        run["val_bpb"] = event.get("val_bpb")
        if run["val_bpb"] is None:
            run["status"] = event["status"]

    def _on_audited(self, event: Event) -> None:
        run, number = self._run(event), event["experiment"]
        run["claimed"] = run["val_bpb"]
        if event["accepted"]:
            run["val_bpb"] += event["correction_bpb"]
            return
        run["status"], run["val_bpb"] = "rejected", None
        if number in self.decided:
            self.decided[number] = {**self.decided[number], "status": "rejected", "val_bpb": None}
            self.kept = [kept for kept in self.kept if kept != number]

    def _on_decided(self, event: Event) -> None:
        number = event["experiment"]
        self.decided[number] = event
        self.has_numbers = self.has_numbers or bool(event.get("rule"))
        self.kept = [kept for kept in self.kept if kept != number]
        if event["status"] == "keep":
            self.kept.append(number)

    def num_failed(self, number: int) -> int:
        """How many runs of an experiment failed that were begun after the last decision."""
        num, runs = len(self.decided), self.runs[number].values()
        late = [r for r in runs if r["decided"] is not None and (r["decided"] == num or num <= number + 1)]
        return sum(run["status"] not in (None, "interrupted") for run in late)

    def test_scores(self, number: int) -> dict[int, float]:
        """Of the models of an experiment that were scored on the test split, by their runs."""
        return {run: bpb for run, bpb in sorted(self.tested.get(number, {}).items()) if bpb is not None}

    def _on_tested(self, event: Event) -> None:
        self.looks.add(event.get("champion"))
        self.tested.setdefault(event["experiment"], {})[event["run"]] = event["test_bpb"]

    def _on_result(self, event: Event) -> None:
        self.results.append(event)
