"""From an agent's reply to a proposal that is worth its budget: given back, merged, tried for a few steps, approved.

The agent thinks in a thread (`question.py`), so that the supervisor obeys commands meanwhile, and so that the agent may
think while the experiment before trains.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from typing import Any

from ..core.agent import Agent, AgentUnavailable, NothingToPropose, UnusableReply, asks_person, listens, thinks_ahead
from ..core.format import duration, plain
from ..core.notices import ASKED_AGAIN
from ..core.types import Call, Context, Objection, Progress, Proposal, Refusal
from ..record.study import sha256
from ..show.words import given_back_words, in_short
from ..source.compare import literal_changes
from ..source.diff import rebase
from ..system.disk import is_full
from ..system.files import write_atomic
from .disk_space import DiskSpace
from .dry_run import dry_run
from .proposal_files import encodable, json_text, open_proposal, save_proposal, writable
from .question import MOST_FIXES, AgentFailed, Question, num_fixes, objection
from .review import Rejected, Unreadable, await_verdict
from .session import Session
from .steering import Steering

MOST_QUESTIONS = 6  # in a row without a usable proposal, before the study goes on without the model or ends
NOT_TAKEN = "Your train.py was not taken"  # how the note begins that says why
MOST_SAID_CHARS = 200  # of the model's words, in a message to users
PAUSE_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)  # before an agent that could not answer is asked again; then the last
LOOK_EVERY_SECONDS = 0.05


class NoUsableProposal(NothingToPropose):
    """The agent was asked again and again and sent no proposal that could be used. The study ends."""

    reason = f"no usable proposal in {MOST_QUESTIONS} questions"


class Proposals:
    """The questions of one session; it writes their record."""

    def __init__(self, session: Session, steering: Steering, disk_space: DiskSpace) -> None:
        self.session, self.steering, self.disk_space = session, steering, disk_space
        self.question: Question | None = None
        self.is_waited_for = False  # nothing trains until there is an answer
        self.ask_again_at = 0.0  # monotonic: when what failed ahead is asked again
        self.num_failed_ahead = 0  # questions ahead that failed one after the other

    @property
    def is_asked(self) -> bool:
        """Whether the next proposal has been asked for, or is there already."""
        return self.question is not None or self.saved() is not None

    def think_ahead(self, agent: Agent) -> None:
        """Ask for the next proposal while others train, if the agent can do that and nothing is asked yet."""
        session = self.session
        if self.question is not None or session.state.incumbent is None:
            return
        number = len(session.state.experiments)
        if session.study.experiment(number).proposal.exists():  # answered before the supervisor went away
            return
        context = session.context()
        if thinks_ahead(agent, context):
            self.question = Question(agent, context, is_ahead=True)

    def tick(self) -> None:
        """Record what a question said meanwhile, and keep its answer; called several times a second."""
        question = self.question
        if question is None:
            return
        try:
            is_done = question.is_done  # before the look: what it said, it said before it was done
            self.session.show_writing("" if is_done else question.writes)
            while question.said:
                self._record(question.said[0], question.context.number)
                question.said.popleft()
            if is_done and question.proposal is not None and not question.is_saved:
                self._save(question.proposal, question.context)
                question.is_saved = True
            if is_done and question.is_ahead and not self.is_waited_for:
                self._ask_again(question)
        except OSError as error:
            if not is_full(error):
                raise  # else it is recorded when there is room

    def _ask_again(self, question: Question) -> None:
        """What failed ahead is asked again while the experiment still trains: by then the server may be up."""
        failure = question.failure
        if not isinstance(failure, AgentUnavailable):
            return
        if not self.ask_again_at:
            self.session.note(f"The agent could not answer: {failure}")
            seconds = failure.again_in_seconds or _pause_seconds(self.num_failed_ahead)
            self.ask_again_at = self.session.clock.monotonic() + seconds
            self.num_failed_ahead += 1
        if self.session.clock.monotonic() >= self.ask_again_at:
            self.ask_again_at = 0.0
            context = replace(question.context, spent=self.session.state.spent)
            self.question = Question(question.agent, context, is_ahead=True)

    def give_up(self) -> None:
        """At the end of a session: what an unanswered question said is recorded, and what it may still cost."""
        question = self.question
        is_open = question is not None and not question.is_done
        if question is not None and is_open:
            question.give_up()  # before anything is drawn, which may fail
        self.is_waited_for = True  # what is given up is not asked again
        try:
            self.tick()
            self.session.show_writing("")
        finally:
            self.question = None
            if question is not None and is_open:
                self._record_given_up(question)

    def _record_given_up(self, question: Question) -> None:
        """The call that is out may still cost something; one that was answered meanwhile is recorded as it was."""
        calls, sent = [said for said in list(question.said) if isinstance(said, Call)], question.give_up()
        if sent is not None:
            calls.append(replace(sent, failed="given up when the study stopped"))
        with suppress(OSError):  # a full disk, on which nothing else is recorded either
            for call in calls:
                self._record(call, question.context.number)

    def _record(self, said: Call | Refusal | str, number: int) -> None:
        if isinstance(said, Call):
            self.session.history.append("called", experiment=number, **asdict(said))
        elif isinstance(said, Refusal):
            self.refuse(said)
        else:
            self.session.note(f"The agent waits: {said}")

    def refuse(self, refusal: Refusal) -> None:
        """Record that a proposal was given back, and keep it beside the one that will be run."""
        self._record_refusal(refusal)
        self.session.study.experiment(refusal.experiment).proposal.unlink(missing_ok=True)
        self.session.watch(Progress("note", text=given_back_words(refusal.objection, refusal.why)))

    def _record_refusal(self, refusal: Refusal, **others: Any) -> None:
        paths, proposal = self.session.study.experiment(refusal.experiment), refusal.proposal
        kept, files = json_text(asdict(refusal)), dict[str, str]()
        index = next(index for index in count(1) if not paths.refused(index).exists())
        if proposal is not None or refusal.transcript:
            files = {paths.refused(index).relative_to(self.session.study.paths.folder).as_posix(): sha256(kept)}
        self.session.history.append(
            "refused",
            experiment=refusal.experiment,
            objection=refusal.objection,
            why=writable(refusal.why),
            hypothesis=writable(refusal.hypothesis),
            parameters=proposal.details.get("parameters") if proposal is not None else None,
            train_sha256=sha256(encodable(proposal).train_source) if proposal is not None else "",
            files=files,
            **others,
        )
        if files:
            write_atomic(paths.refused(index), kept)

    def _save(self, proposal: Proposal, context: Context) -> None:
        """A reply may have cost money: it is on the disk before anything else happens with it."""
        save_proposal(self.session.study.experiment(context.number), encodable(proposal), context.incumbent.number)

    def next(self, agent: Agent, refused: tuple[Refusal, ...] = ()) -> Proposal:
        """A proposal for the present incumbent that passed every check its agent listens to.

        `refused` are answers to this very question that were given back before.
        Raises NothingToPropose (Enough is one), AgentFailed for whatever else an agent raises, and StopNow.
        While an agent cannot answer, the study is paused; after MOST_QUESTIONS without a usable proposal it ends, or
        goes on without the model.
        """
        useless = pauses = 0
        while True:
            try:
                proposal, parent = self.saved() or self._answer(agent, refused)
                proposal = encodable(proposal)
                context = replace(self.session.context(), refused=refused)
                settled = self._settle(agent, proposal, parent, context)
            except AgentUnavailable as failure:
                self._pause(f"{failure}", pauses, failure.again_in_seconds)
                pauses += 1
                continue
            except UnusableReply as failure:
                self.refuse(failure.refusal)
                useless, refused = useless + 1, ()
                if useless == MOST_QUESTIONS:
                    self._go_on_without(agent, failure.refusal)
                    useless = 0
                continue
            if isinstance(settled, Proposal):
                self._save(settled, context)
                self.steering.end_if_enough()  # it is there when the study goes on
                return settled
            self.refuse(settled)
            is_conflict = settled.objection is Objection.CONFLICT  # the code has changed under it: start again
            refused = (settled,) if is_conflict else (*refused, settled)

    def _go_on_without(self, agent: Agent, last: Refusal) -> None:
        """Leave the proposals to the optimiser of a hybrid agent. Raises NoUsableProposal for other agents."""
        session, said = self.session, last.hypothesis.strip()
        replies = session.study.experiment(last.experiment).refused(1).with_name("refused-*.json")
        model = f' The last reply begins: "{plain(said, MOST_SAID_CHARS)}".' if said else " The last reply had no text."
        what = f"The agent sent {NoUsableProposal.reason}, the last: {in_short(last.objection, last.why)}.{model}"
        go_on_without_model = getattr(agent, "go_on_without_model", None)
        if not callable(go_on_without_model) or getattr(agent, "is_without_model", False):
            raise NoUsableProposal(f"{what} Its replies are in {replies}. Continue the study with another --model.")
        go_on_without_model()
        session.note(f"{what} The optimiser makes the proposals from here on; its replies are in {replies}.")

    def saved(self) -> tuple[Proposal, int] | None:
        """What was replied to this very question before the supervisor went away, and the incumbent it was made for."""
        return None if self.question is not None else open_proposal(self.session.study, self.session.state)

    def _answer(self, agent: Agent, refused: tuple[Refusal, ...]) -> tuple[Proposal, int]:
        """The agent's answer and the incumbent that it was asked about; asks when nothing is asked yet."""
        session = self.session
        if self.question is None:
            self.question = Question(agent, replace(session.context(), refused=refused))
        question = self.question
        self.is_waited_for = True
        try:
            while not question.is_done:
                self.steering.wait_a_moment(LOOK_EVERY_SECONDS)
            self.tick()
        finally:
            self.is_waited_for = False
        if question.said:  # the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        again_at, failure = self.ask_again_at, question.failure
        self.question, self.ask_again_at = None, 0.0
        self.num_failed_ahead = 0 if failure is None else self.num_failed_ahead
        if question.is_ahead and isinstance(failure, AgentUnavailable):
            left = again_at - session.clock.monotonic() if again_at else failure.again_in_seconds
            if failure.again_in_seconds is not None and left is not None and left > 0:
                raise AgentUnavailable(str(failure), left)  # a limit that ends at a known moment
            return self._answer(agent, refused)  # that was a while ago
        if failure is None:
            assert question.proposal is not None
            return question.proposal, question.context.incumbent.number
        if isinstance(failure, NothingToPropose | AgentUnavailable | UnusableReply):
            raise failure
        raise AgentFailed(f"{type(failure).__name__}: {failure}") from failure

    def _pause(self, reason: str, times: int, stated_seconds: float | None = None) -> None:
        """`stated_seconds`: until the moment that the agent or its server names."""
        seconds = stated_seconds or _pause_seconds(times)
        reason = reason.rstrip(". \n")
        self.session.note(f"The agent cannot answer: {reason}.")
        when = f"{seconds:g} s" if stated_seconds is None else duration(seconds)
        self.steering.pause_for(seconds, f"{reason}. {ASKED_AGAIN} {when}")

    def _settle(self, agent: Agent, proposal: Proposal, parent: int, context: Context) -> Proposal | Refusal:
        """The proposal on the present incumbent, or why not."""
        session, number = self.session, context.number
        if parent != context.incumbent.number:
            merged = rebase(session.study.train_source(parent), context.train_source, proposal.train_source)
            if merged is None:
                why = f"experiment {context.incumbent.number:04d} was kept meanwhile and changed the same lines"
                return Refusal(number, Objection.CONFLICT, why, proposal.hypothesis, proposal)
            proposal = replace(
                proposal,
                train_source=merged,
                changes=literal_changes(context.train_source, merged),
                details=proposal.details | {"made_for": parent},
            )
        if listens(agent, context) and (refusal := self._check(proposal, context)):
            return refusal
        is_needed = (session.state.approve or asks_person(agent)) and not session.is_interactive
        if not is_needed or "approved_by" in proposal.details:  # by a person, before the supervisor went away
            return proposal
        return self._review(proposal, context, asks_person(agent))

    def _check(self, proposal: Proposal, context: Context) -> Refusal | None:
        """Gate, repeats and a dry run, as long as the agent may still mend it; a repeat is not run in any case."""
        is_last = num_fixes(context.refused) >= MOST_FIXES
        if refusal := objection(proposal, context):
            if is_last and refusal.objection is Objection.REPEAT:
                raise UnusableReply(refusal)
            return None if is_last else refusal
        if is_last:
            return None
        self._save(proposal, context)
        if failure := dry_run(self.session, self.disk_space, proposal, context.number):
            return Refusal(context.number, Objection.DRY_RUN, failure, proposal.hypothesis, proposal)
        return None

    def _review(self, proposal: Proposal, context: Context, is_draft: bool) -> Proposal | Refusal:
        """What a user makes of it. An edit that does not run stays in the file under review, with a note of why."""
        session = self.session
        self._save(proposal, context)
        while True:
            try:
                approved = await_verdict(session, self.steering, proposal, context.incumbent, context.number, is_draft)
            except Rejected as no:
                if is_draft:
                    session.note("There is nothing to reject: it waits for your train.py.")
                    continue
                return Refusal(context.number, Objection.PERSON, str(no), proposal.hypothesis, proposal)
            except Unreadable as error:
                session.note(f"{NOT_TAKEN}: {error}. It belongs into {session.study.paths.review}.")
                continue
            if is_draft:
                approved = replace(approved, notes=session.new_notes())
            if approved.train_source == proposal.train_source and not is_draft:
                return approved
            refusal = self._objection_to_edit(approved, context)
            if refusal is None:
                return approved
            if is_draft:
                self._record_refusal(refusal, is_draft=True)
            reason = refusal.why.strip().splitlines()
            last = f" ... {reason[-1]}" if len(reason) > 1 else ""
            why = reason[0].rstrip(".") + last
            session.note(f"{NOT_TAKEN}: {why}. It is still in {session.study.paths.review}.")

    def _objection_to_edit(self, approved: Proposal, context: Context) -> Refusal | None:
        """What speaks against a user's train.py, by its text or by a few steps of it; None for nothing."""
        if refusal := objection(approved, context):
            return refusal
        failure = dry_run(self.session, self.disk_space, approved, context.number)
        if not failure:
            return None
        return Refusal(context.number, Objection.DRY_RUN, failure, approved.hypothesis, approved)


def _pause_seconds(times: int) -> float:
    """Before an agent that failed this many times before is asked again."""
    return PAUSE_SECONDS[min(times, len(PAUSE_SECONDS) - 1)]
