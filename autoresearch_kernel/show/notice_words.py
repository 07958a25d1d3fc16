"""A notice to a user who is away: one event of a study as a JSON object, with a title and one line of text.

Titles are plain ASCII, as mail programs and HTTP headers want them. A text begins with words of this program, and what
an agent wrote stands in it in quotation marks, on the same line and without control characters.
"""

from __future__ import annotations

from typing import Any

from ..core.format import bpb, count, plain
from ..core.notices import News, notice_id
from ..core.state import Event, StudyState
from ..core.types import Result, Status
from .study_words import compared_at_end, gain_words, result_words, sealed_words

LONGEST_IDEA = 200  # characters
LONGEST_REASON = 400
FACTS = (  # of the event, where it has them
    "experiment", "status", "val_bpb", "standard_error", "incumbent_bpb", "hypothesis", "reason", "by_person",
    "is_draft", "machine_speed", "champion", "champion_bpb", "baseline_bpb", "difference_bpb",
    "difference_standard_error", "champion_test_bpb", "baseline_test_bpb", "test_difference", "test_standard_error",
)  # fmt: skip


def notice(kind: News, event: Event, state: StudyState) -> dict[str, Any]:
    """What the user's command gets for an event; `state` is that of the study after it, or later."""
    study = str(state.study.get("name") or "study")
    title, text = _words(kind, event, state, study)
    facts = {name: event[name] for name in FACTS if event.get(name) is not None}
    if kind is News.RECORD:
        facts["hypothesis"] = _idea(event, state)
    for name, longest in (("hypothesis", LONGEST_IDEA), ("reason", LONGEST_REASON)):
        if name in facts:
            facts[name] = plain(str(facts[name]), longest)
    known = {"id": notice_id(study, event), "kind": str(kind), "study": study, "time": event["time"]}
    return known | {"title": title, "text": plain(text)} | facts


def _words(kind: News, event: Event, state: StudyState, study: str) -> tuple[str, str]:
    """Title and text."""
    match kind:
        case News.STARTED:
            return f"{study}: started", (
                f"Study {study} has started. It runs this command when a record is set, the study pauses or ends, the "
                "speed of the machine changes, or your approval is wanted."
            )
        case News.RECORD:
            return _of_record(event, state, study)
        case News.PAUSED:
            return f"{study}: paused", f"Study {study} has paused: {_reason(event)}."
        case News.APPROVAL:
            return _of_review(event, study)
        case News.DRIFT:
            speed = f"{event.get('machine_speed', 1.0):.2f}"
            return f"{study}: the machine runs at {speed} times its speed", (
                f"Study {study}: the machine now runs at {speed} times its speed at the start. The study goes on and "
                "compares only runs of nearly equal speed. Look what else the machine does, and how warm it is."
            )
        case News.ENDED:
            return _of_end(event, state, study)
        case News.RESULT:
            names = Result.__dataclass_fields__
            result = Result(**{name: event[name] for name in names if name in event})
            of_study = state.result == result  # else another champion was kept or refused meanwhile
            words = sealed_words(state) if of_study else result_words(result)
            return f"{study}: the result is measured", f"Study {study}. {words.splitlines()[0]}"


def _of_record(event: Event, state: StudyState, study: str) -> tuple[str, str]:
    number = event["experiment"]
    experiment = state.experiments[number]
    compared = f"{experiment.compared}" if experiment.compared else f"val_bpb {bpb(event.get('val_bpb'))}"
    text = f"Study {study} has kept experiment {number:04d}: {compared}. The idea: “{_idea(event, state)}”"
    return f"{study}: record, val_bpb {bpb(event.get('val_bpb'))}", text


def _of_review(event: Event, study: str) -> tuple[str, str]:
    number = event["experiment"]
    if event.get("is_draft"):
        return f"{study}: waits for your train.py", f"Study {study} waits for your train.py of experiment {number:04d}."
    idea = plain(str(event.get("hypothesis") or ""), LONGEST_IDEA)
    return f"{study}: approval wanted", f"Study {study} waits for your approval of experiment {number:04d}: “{idea}”"


def _of_end(event: Event, state: StudyState, study: str) -> tuple[str, str]:
    tried = [e for e in state.decided if e.number > 0]
    kept = sum(e.status is Status.KEEP for e in tried)
    so_far = f"{count(len(tried), 'experiment')}, {kept} kept"
    if event["event"] == "stopped":
        return f"{study}: stopped", (
            f"Study {study} has stopped: {_reason(event)}. It has {so_far}. The same command continues it."
        )
    text = f"Study {study} has ended ({_reason(event)}) with {so_far}."
    if event.get("champion") and event.get("champion_bpb") is not None and event.get("baseline_bpb") is not None:
        at_end = compared_at_end(event)
        gain = gain_words(at_end.difference, at_end.error)
        text += f" Experiment {event['champion']:04d} has val_bpb {bpb(at_end.mine)}, the baseline "
        text += f"{bpb(at_end.theirs)}; {gain}."
    return f"{study}: ended, {kept} kept", text


def _reason(event: Event) -> str:
    return plain(str(event.get("reason") or "it does not say why"), LONGEST_REASON).rstrip(".")


def _idea(event: Event, state: StudyState) -> str:
    return plain(state.experiments[event["experiment"]].hypothesis, LONGEST_IDEA)
