"""A question to an agent that the supervisor gives up: the agent sends nothing more, and what it sent is billed."""

from __future__ import annotations

import threading

from autoresearch_kernel.core.types import Call, Context, Proposal
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.study.question import Question
from autoresearch_kernel.study.steps import open_session
from tests.study.test_night import events_of

CALL = Call("tiny", 100, 50, 0.01, 0.0, estimated=True)


class Persistent:
    """Sends call after call; each is answered when the test lets it."""

    name = "persistent"

    def __init__(self) -> None:
        self.sent, self.answers = threading.Semaphore(0), threading.Semaphore(0)
        self.num_sent = 0

    def propose(self, context: Context) -> Proposal:
        while True:
            context.on_send(CALL)
            self.num_sent += 1
            self.sent.release()
            self.answers.acquire(timeout=10)
            context.on_call(CALL)


def test_a_question_that_is_given_up_sends_no_further_call_and_the_one_that_is_out_is_billed(measured: Study) -> None:
    agent = Persistent()
    with open_session(measured) as session:
        session.proposals.question = question = Question(agent, session.context())
        assert agent.sent.acquire(timeout=10)
    agent.answers.release()  # the server answers after the session has ended
    question.thread.join(10)
    assert question.is_done and agent.num_sent == 1
    (called,) = events_of(measured, "called")
    assert (called["failed"], called["tokens_in"]) == ("given up when the study stopped", 100)
