"""Which events of a study a user wants to hear of while away. Values only; `show/notice_words.py` has the words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from .state import Event
from .types import Status

ASKED_AGAIN = "It is asked again in"  # in the reason of a pause after which the agent is asked again


class News(StrEnum):
    """What a notice is about."""

    STARTED = "started"  # the first session after the user named the command: shows that it works
    RECORD = "record"  # an experiment was kept
    PAUSED = "paused"
    APPROVAL = "approval"  # a train.py waits for the user
    DRIFT = "drift"  # the machine's speed has left that of the start
    ENDED = "ended"
    RESULT = "result"  # `finish` has measured it


@dataclass
class NewsReader:
    """Tells of each event, given in order, which news it is.

    A study that pauses because its agent cannot answer tries again and pauses again, perhaps all night. Only the first
    pause for each reason is news, until the agent proposes something or a user sends a command.

    Args:
        since: number of the last event that is no news, whatever it says.
        greet_after: the first session that opens after this event is news, too.
    """

    since: int
    greet_after: int
    _is_greeted: bool = field(default=False, init=False)
    _told: set[str] = field(default_factory=set, init=False)  # why the agent could not answer, since the last proposal

    def kind(self, event: Event) -> News | None:
        """None for an event that is no news."""
        if event["event"] == "opened" and event["seq"] > self.greet_after and not self._is_greeted:
            self._is_greeted = True
            return News.STARTED
        if event["event"] in ("proposed", "command"):
            self._told.clear()
        why = _why_no_answer(event)
        is_repeated = why in self._told
        self._told |= {why} if why else set()
        return None if is_repeated or event["seq"] <= self.since else kind_of(event)


def _why_no_answer(event: Event) -> str:
    """Why a study pauses until its agent can be asked again; "" for any other event."""
    why, is_asked, _ = str(event.get("reason")).partition(ASKED_AGAIN)
    return why if event["event"] == "paused" and is_asked else ""


def kind_of(event: Event) -> News | None:
    """Which news an event is by itself."""
    match event["event"]:
        case "decided" if event.get("status") == Status.KEEP and event.get("experiment", 0) > 0:
            return News.RECORD
        case "paused" if not event.get("is_review"):  # the review itself is news
            return News.PAUSED
        case "review":
            return News.APPROVAL
        case "drift" if event.get("is_moved"):
            return News.DRIFT
        case "finished":
            return News.ENDED
        case "stopped" if not event.get("is_between_steps"):
            return News.ENDED
        case "result":
            return News.RESULT
    return None


def news(events: Iterable[Event], since: int, greet_after: int) -> list[tuple[News, Event]]:
    """All news among the events of a history, oldest first."""
    reader = NewsReader(since, greet_after)
    found = ((reader.kind(event), event) for event in events)
    return [(kind, event) for kind, event in found if kind is not None]


def study_name(events: Sequence[Event]) -> str:
    """The name that a history begins with; "" before that is written."""
    return str((events[0].get("study") or {}).get("name") or "") if events else ""


def notice_id(study: str, event: Event) -> str:
    """`nov23-118`: the same for the same event, whichever process tells of it."""
    return f"{study}-{event['seq']}"
