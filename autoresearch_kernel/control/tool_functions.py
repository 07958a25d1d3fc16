"""The tools that an agent gets through the Model Context Protocol: one function each, with the docstring that it reads.

They act on one study, which no argument can change. `finish`, `promote`, approvals and a run without a sandbox are not
among them. Each runs in a thread, so that one that waits holds up no other, nor the JupyterLab that it may run in.
"""

# Annotations stay values here: what registers a tool reads them from a wrapper that lies in another module.

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from threading import Thread
from typing import Any

from ..core.sanitize import all_readable
from ..record.study import Study, StudyError, latest_study, open_study
from ..system.explain import explain
from ..system.locations import project_root
from ..system.shell import shell_command
from . import actions, reading, verbs

STUDY: ContextVar[str] = ContextVar("STUDY", default="")  # name of the study; "" for the one that was touched last
WAIT_SECONDS = 50.0  # below the minute that some clients give a tool
MOST_WAIT_SECONDS = 3_600.0
PREFIX = "autoresearch_"  # of the functions, for a server on which other programs have tools as well


async def autoresearch_status() -> dict[str, Any]:
    """How the study stands: whose turn it is and what to do next, the incumbent, counts, limits, hints from people."""
    return await _in_thread(reading.status_facts)


async def autoresearch_ask(parts: list[str] | None = None, timeout_seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    """Wait for your turn and get what a proposal needs: the research program, train.py, the record, hints.

    Args:
        parts: words from the headings of the parts that you want, such as "record"; all parts when left out.
        timeout_seconds: after which the answer has the state "working"; then call this again.
    """
    asked = parts or []
    return await _answer(lambda study: verbs.ask(study, asked, timeout_seconds=_within(timeout_seconds), is_tool=True))


async def autoresearch_history(last: int = 20) -> dict[str, Any]:
    """The last experiments, oldest first, each with its status, score, difference to the incumbent and hypothesis."""
    return await _in_thread(lambda study: reading.history_facts(study, last))


async def autoresearch_read_experiment(experiment: int) -> dict[str, Any]:
    """One experiment: its verdict, its change as a diff, its figures, and what it printed if it failed."""
    return await _in_thread(lambda study: reading.experiment_facts(study, experiment))


async def autoresearch_read_train(experiment: int | None = None) -> dict[str, Any]:
    """The whole train.py of an experiment; of the incumbent, which you edit, when no number is given."""
    return await _in_thread(lambda study: reading.train_facts(study, experiment))


async def autoresearch_propose(
    hypothesis: str,
    train_source: str = "",
    edits: str = "",
    expected: str = "",
    refuted_by: str = "",
    experiment: int | None = None,
    timeout_seconds: float = WAIT_SECONDS,
) -> dict[str, Any]:
    """Hand in one experiment: the whole new train.py, or edits of the incumbent's.

    The state of the answer is "accepted", "refused" with the reason, or "working" while it is checked: then call
    `wait`.

    Args:
        hypothesis: one sentence that could turn out false.
        train_source: the whole new train.py.
        edits: search/replace blocks that apply to the incumbent's train.py, instead of train_source.
        expected: the effect on val_bpb, beginning with a number such as -0.004, and why that size.
        refuted_by: a result that would show that the hypothesis is wrong.
        experiment: the number that `ask` named; the proposal is refused if the study has gone on since.
    """

    def act(study: Study) -> verbs.Answer:
        verbs.require_outside(study)
        if bool(train_source) == bool(edits):
            raise StudyError("Give either train_source, the whole new train.py, or edits, blocks that apply to it.")
        if len(edits) > verbs.MOST_SOURCE_CHARS:
            raise StudyError(f"The edits have {len(edits)} characters. Send only the lines that change.")
        return verbs.propose(
            study,
            train_source,
            hypothesis,
            edits=edits,
            expected=expected,
            refutation=refuted_by,
            experiment=experiment,
            timeout_seconds=_within(timeout_seconds),
        )

    return await _answer(act)


async def autoresearch_wait(experiment: int | None = None, timeout_seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    """Wait for the verdict on the last proposal, or on one experiment.

    The state of the answer is "decided" with the figures, "refused" with the reason, or "working": then call this
    again. "paused", "ended" and "not running" come with what a person has to do.
    """
    return await _answer(lambda study: verbs.wait(study, experiment, timeout_seconds=_within(timeout_seconds)))


async def autoresearch_hint(text: str) -> dict[str, Any]:
    """Give the agent of the study a hint, which it reads before its next proposal."""
    return await _say(lambda study: actions.hint(study, text))


async def autoresearch_pause() -> dict[str, Any]:
    """Begin nothing new once the present experiment is decided."""
    return await _say(lambda study: actions.say_to(study, "pause"))


async def autoresearch_resume() -> dict[str, Any]:
    """Continue after a pause."""
    return await _say(lambda study: actions.say_to(study, "resume"))


async def autoresearch_stop() -> dict[str, Any]:
    """End the study once the present experiment is decided; a person can continue it."""
    return await _say(lambda study: actions.say_to(study, "stop"))


TOOLS: tuple[Callable[..., Any], ...] = (
    autoresearch_status, autoresearch_ask, autoresearch_history, autoresearch_read_experiment, autoresearch_read_train,
    autoresearch_propose, autoresearch_wait, autoresearch_hint, autoresearch_pause, autoresearch_resume,
    autoresearch_stop,
)  # fmt: skip
# For the entry point jupyter_server_mcp.tools, which takes names.
JUPYTER_TOOLS = [f"{__name__}:{tool.__name__}" for tool in TOOLS]


def _study() -> Study:
    project = project_root()
    name = STUDY.get()
    study = open_study(name, project) if name else latest_study(project)
    if study is None:
        start = shell_command("run --agent human --detach")
        raise StudyError(f"There is no study in {project / 'studies'} yet. A person starts one with `{start}`.")
    return study


async def _in_thread(act: Callable[[Study], dict[str, Any]]) -> dict[str, Any]:
    """What `act` returns for the study, without characters that could steer a terminal; errors become one sentence.

    The thread is a daemon, so one that waits does not outlive the server.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[dict[str, Any]] = loop.create_future()

    def work() -> None:
        try:
            found, failure = all_readable(act(_study())), None
        except Exception as error:
            found, failure = {}, StudyError(explain(error))
        with suppress(RuntimeError):  # the loop is closed: the client has gone
            loop.call_soon_threadsafe(_settle, answer, found, failure)

    Thread(target=copy_context().run, args=(work,), name="autoresearch tool", daemon=True).start()
    return await answer


def _settle(answer: asyncio.Future[dict[str, Any]], found: dict[str, Any], failure: Exception | None) -> None:
    if answer.done():  # the client has cancelled the call
        return
    if failure is None:
        answer.set_result(found)
    else:
        answer.set_exception(failure)


async def _answer(act: Callable[[Study], verbs.Answer]) -> dict[str, Any]:
    return await _in_thread(lambda study: act(study).as_json())


async def _say(act: Callable[[Study], str]) -> dict[str, Any]:
    return await _in_thread(lambda study: {"study": study.name, "message": act(study)})


def _within(seconds: float) -> float:
    return min(MOST_WAIT_SECONDS, max(0.0, seconds))
