"""Steers a running study: obeys and acknowledges users' commands, pauses, and waits while it reads commands.

This module parses commands. The step that is running decides how to react.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..agents.options import NO_READERS
from ..core.agent import NothingToPropose
from ..core.format import count
from ..core.types import Progress
from ..record.commands import CHECKED_ALREADY, FOR_THE_AGENT, NOTHING_WAITS, OTHER_FILE, Command, Inbox
from ..record.study import sha256
from ..system.disk import is_full
from .session import Session

LOOK_EVERY_SECONDS = 0.2  # for commands, while the supervisor waits


class StopNow(RuntimeError):
    """A user wants the study to end at once; the message says who."""


class StopAfter(StopNow):
    """A user wants the study to end after the experiments in work; raised where nothing of an experiment runs."""


class Enough(NothingToPropose):
    """The study has had what was asked for while it waited for an agent or a user."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The study has had its {what}.")
        self.reason = what


class Steering:
    """What users asked of one session."""

    def __init__(self, session: Session, inbox: Inbox) -> None:
        self.session, self.inbox = session, inbox
        self.stopping = ""  # who wants the study to end after this experiment; "" while no user does
        self._pausing = ""  # who wants it to pause
        self._waiting: list[Command] = []  # commands that a full disk keeps from being answered
        self._is_sent_on = False  # a user wants a wait to end
        self._is_idle = False  # it waits before a training, and a pause begins at once
        self._is_reviewing = False  # it waits for a user's verdict
        self._num_waits = 0  # pauses that go on now, on any slot
        self._verdict: tuple[Command, bytes | OSError] | None = None  # and the file under review as it was then
        self._look: Callable[[], bytes | OSError] = bytes

    def obey(self) -> None:
        """Do what users asked since the last call. Raises StopNow when a user wants the study to end at once."""
        self._waiting += self.inbox.read()
        while self._waiting:
            command = self._waiting[0]
            try:
                stop_now = self._obey(command)
            except OSError as error:
                if not is_full(error):
                    raise
                return  # it is answered when there is room
            self._waiting.pop(0)
            if stop_now:
                raise StopNow(command.by)

    def answer_old(self, commands: list[Command]) -> None:
        """Acknowledge commands sent while no supervisor ran the study: those for the agent hold, others do not."""
        for command in commands:
            if command.id not in self.session.state.answered:
                old = "ignored: no supervisor ran the study then"
                self._acknowledge(command, self._for_agent(command) if command.command in FOR_THE_AGENT else old)

    def _for_agent(self, command: Command) -> str:
        """The answer to a hint, or to clearing them."""
        if command.command == "clear hints":
            return f"the agent no longer gets {count(len(self.session.state.hints), 'earlier hint')}"
        return NO_READERS.get(self.session.study.agent, "the agent gets it with its next question").rstrip(".")

    def _obey(self, command: Command) -> bool:
        """Acknowledge a command, then act on it; whether it wants the study to end at once."""
        if command.id in self.session.state.answered:
            return False
        unfinished = [f"{experiment.number:04d}" for experiment in self.session.state.in_work]
        which = f"experiment{'s' if len(unfinished) > 1 else ''} {', '.join(unfinished)}"
        after = f"after {which}" if unfinished else "after what runs now"
        match command.command:
            case "pause":
                self._acknowledge(command, "pauses now, before it trains" if self._is_idle else f"pauses {after}")
                self._pausing = command.by
            case "resume":
                waits = "it waits for `approve` or `reject`" if self._is_reviewing else ""
                goes_on = "goes on" if self._pausing or self.session.state.paused else "it is not paused"
                self._acknowledge(command, waits or goes_on)
                self._pausing, self._is_sent_on = "", True
            case "stop":
                self._acknowledge(command, "stops now, before it trains" if self._is_idle else f"stops {after}")
                self.stopping = command.by
            case "stop now":
                are = "are" if len(unfinished) > 1 else "is"
                again = f"; {which} {are} resumed when the study goes on" if unfinished else ""
                self._acknowledge(command, f"stops now{again}")
                return True
            case "hint" | "clear hints":
                self._acknowledge(command, self._for_agent(command))
            case "approve" | "reject":
                self._take_verdict(command)
            case other:
                self._acknowledge(command, f"not understood: {other!r}")
        return False

    def _take_verdict(self, command: Command) -> None:
        """Acknowledge an `approve` or `reject`, and keep it with the file under review as it is now."""
        review = self.session.state.review
        if review is None:
            self._acknowledge(command, NOTHING_WAITS)
            return
        which = f"experiment {review.experiment:04d}"
        if not self._is_reviewing or self._verdict is not None:
            self._acknowledge(command, f"{which} {CHECKED_ALREADY}")
            return
        seen = self._look()  # another user may write the file as soon as this one has the answer
        if command.train_sha256 and isinstance(seen, bytes) and sha256(seen) != command.train_sha256:
            self._acknowledge(command, f"{which}: {OTHER_FILE}")
            return
        then = "it is checked, and trains if it passes" if command.command == "approve" else "it is given back"
        self._acknowledge(command, f"{which}: {then}")
        self._verdict = command, seen

    def _acknowledge(self, command: Command, answer: str) -> None:
        words = f"{command.command}{f' ({command.text})' if command.text else ''}, asked by {command.by}: {answer}"
        self.session.history.append(
            "command", id=command.id, command=command.command, text=command.text, by=command.by, answer=answer
        )
        self.session.watch(Progress("note", text=words[0].upper() + words[1:] + "."))

    def check(self) -> None:
        """Between two steps: pause while a user wants that. Raises StopNow when a user wants the study to end."""
        self.wait_while_paused()
        self.end_if_stopping()

    def end_if_stopping(self) -> None:
        """Raises StopAfter when a user wants the study to end."""
        if self.stopping:
            raise StopAfter(self.stopping)

    def wait_while_paused(self) -> None:
        """Return when no user wants the study to pause (any more), or one wants it to stop."""
        self.session.tick()
        if self._pausing:
            self.wait(f"by {self._pausing}", lambda: not self._pausing, "asked to go on", is_asked=True)

    def wait(self, reason: str, until: Callable[[], bool], then: str, *, is_asked: bool = False) -> None:
        """Begin nothing for `reason` until `until()` holds, go on because of `then`; commands are obeyed meanwhile.

        `is_asked`: a user asked for it, and ends it.
        """
        if until() or self.stopping:
            return
        facts = {"is_review": True} if self._is_reviewing else {}
        self.session.history.append("paused", reason=reason, by_person=is_asked, **facts)
        phase = "reviewing" if self._is_reviewing else "paused"
        with self._waits(), self.session.telling(Progress(phase, text=f"Paused: {reason}")):
            while not until() and not self.stopping:
                self.session.tick()
                self.session.clock.sleep(LOOK_EVERY_SECONDS)
        if not self.stopping:
            self.session.history.append("resumed", reason=then)

    @contextmanager
    def _waits(self) -> Iterator[None]:
        self._num_waits += 1
        try:
            yield
        finally:
            self._num_waits -= 1

    def end_unrecorded_pause(self) -> None:
        """Record the end of a pause that a full disk has kept out of the record; the study goes on already."""
        if self.session.state.paused and not self._num_waits and not self.stopping:
            self.session.history.append("resumed", reason="it has gone on, and the full disk kept that from the record")

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Within this block the supervisor waits before a training, and `pause` and `stop` are obeyed at once."""
        self._is_idle = True
        try:
            yield
        finally:
            self._is_idle = False

    def pause_for(self, seconds: float, reason: str) -> None:
        """Pause for a while, until a user resumes the study, or until there is no time left for anything else.

        Raises StopNow, and Enough.
        """
        deadline = self.session.clock.monotonic() + seconds
        self._is_sent_on = False
        self._wait_or_end(
            reason, lambda: self._is_sent_on or self.session.clock.monotonic() >= deadline, "it is tried again"
        )
        self.wait_while_paused()

    def wait_for_verdict(self, reason: str, look: Callable[[], bytes | OSError]) -> tuple[Command, bytes | OSError]:
        """Pause until a user approves or rejects the train.py under review; the verdict, and what `look` saw before it.

        Raises StopNow, and Enough.
        """
        self._verdict, self._is_reviewing, self._look = None, True, look
        try:
            self._wait_or_end(reason, lambda: self._verdict is not None, "a user has looked at it")
        finally:
            verdict, self._verdict, self._is_reviewing = self._verdict, None, False
        assert verdict is not None
        return verdict

    def _wait_or_end(self, reason: str, until: Callable[[], bool], then: str) -> None:
        self.wait(reason, lambda: until() or bool(self.session.enough()), then)
        self.end_if_stopping()
        if not until():
            self.end_if_enough()

    def wait_a_moment(self, seconds: float) -> None:
        """While nothing trains, obey commands and let a moment pass. Raises StopNow for every stop, and Enough."""
        self.session.tick()
        self.end_if_stopping()
        self.end_if_enough()
        self.session.clock.sleep(seconds)

    def end_if_enough(self) -> None:
        """Raises Enough when nothing more is to be proposed."""
        if why := self.session.enough():
            raise Enough(why)

    def wait_seconds(self, seconds: float) -> None:
        """Let time pass, obeying commands."""
        deadline = self.session.clock.monotonic() + seconds
        while self.session.clock.monotonic() < deadline and not self.stopping:
            self.session.tick()
            self.session.clock.sleep(min(LOOK_EVERY_SECONDS, seconds))
