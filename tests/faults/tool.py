"""A short study whose proposals come from a command-line tool, with pauses and notices; training is the stub's.

The tool is a real program: it meets two usage limits that state their reset, it is not signed in once, and it fails
five times in a row. Its answers go by how often it was started, so a fault changes which answer comes when; therefore
`wrong_with` compares with no reference but asks for what a user relies on.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoresearch_kernel.agents import command
from autoresearch_kernel.agents.llm import LLMAgent
from autoresearch_kernel.agents.options import chat_of, make_agent
from autoresearch_kernel.core.notices import news, notice_id
from autoresearch_kernel.core.state import Event, replay
from autoresearch_kernel.core.types import Context, Proposal
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.notices import read_notifier
from autoresearch_kernel.record.paths import study_paths
from autoresearch_kernel.record.study import Study, open_study
from autoresearch_kernel.study import loop
from autoresearch_kernel.system.clock import Clock
from autoresearch_kernel.system.contained import Ended, run_contained

from . import check, stub
from .operations import Injector, Operation, replace_in

NUM_EXPERIMENTS = 2
FIRST_REPLY = 8  # the start of the tool from which on it proposes, but for a limit at the one after it
PROGRAM = """#!/bin/sh
cat > /dev/null
printf x >> {folder}/starts
number=$(wc -c < {folder}/starts)
case $number in
1) echo "5-hour limit reached, resets in 15 s" ;;
2) echo "Not logged in. Please run /login."; exit 1 ;;
3|4|5|6|7) echo "out of cheese" >&2; exit 3 ;;
9) echo "You have hit your usage limit. Try again in 20 seconds." ;;
8) new="LEVEL = 1.4  # bits per byte" old="LEVEL = 1.5  # bits per byte" ;;
*) new="TrainingClock().running()\nLINE = $number" old="TrainingClock().running()" ;;
esac
[ -z "$new" ] && exit
printf 'HYPOTHESIS: Reply %s helps.\nEXPECTED: val_bpb falls.\nREFUTED BY: it rises.\n\n' "$number"
printf '<<<<<<< SEARCH\n%s\n=======\n%b\n>>>>>>> REPLACE\n' "$old" "$new"
"""
NOTIFY = "cat >> {folder}/told"
TOOL = "the tool"  # whom the injector's operations name
FASTER = 10  # than the supervisor believes, pauses pass
WAIT_SECONDS = 0.002  # of real time, for each wait of the supervisor's clock
LIMIT_SECONDS = 20.0  # until what the tool said is recorded


def drive(folder: Path, injector: Injector) -> None:
    """Start or continue the study, until two experiments are decided."""
    backend = replace(stub.begin(folder, injector), clock=_clock())
    replace_in(command, run_contained=_contained(injector))
    program = folder / "agent"
    program.write_text(PROGRAM.replace("{folder}", str(folder)))
    program.chmod(0o755)
    options = {"with": str(program), "model": None, "prompt_tokens": 20_000, "reply_tokens": 4_000}
    study = stub.take_study(folder, agent="command", agent_options=options)
    left = NUM_EXPERIMENTS - max(0, len(read_state(study.paths.history).decided) - 1)
    notify = NOTIFY.replace("{folder}", str(folder))
    for _ in loop.research(study, _agent(study), experiments=left, notify=notify, backend=backend):
        pass


def _clock() -> Clock:
    """Time passes as the supervisor waits, and much faster than elsewhere."""
    passed = [time.monotonic()]
    sleep = time.sleep  # the injector's, which was installed

    def wait(seconds: float) -> None:
        passed[0] += FASTER * seconds
        sleep(WAIT_SECONDS)

    return Clock(sleep=wait, monotonic=lambda: passed[0])


def _agent(study: Study) -> LLMAgent:
    """The agent of the study, whose steps have the same order each time.

    It does not think while an experiment trains, and asks its tool again once the last failure is recorded.
    """
    agent = make_agent(study)
    chat = chat_of(agent)
    assert isinstance(agent, LLMAgent) and isinstance(chat, command.CommandChat)
    propose = agent.propose

    def after_the_record(context: Context) -> Proposal:
        said = context.on_call.__self__.said  # type: ignore[attr-defined]  # of the question, until it is recorded
        chat.sleep = lambda seconds: _until(lambda: not said)
        return propose(context)

    replace_in(agent, propose=after_the_record, thinks_ahead=lambda context: False)
    return agent


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(WAIT_SECONDS)


def _contained(injector: Injector) -> Callable[..., Ended]:
    """The tool's start and its answer as operations; a kill after its start is one while it thinks."""

    def contained(words: Sequence[str], **options: Any) -> Ended:
        fault = injector.begin("spawn", TOOL)
        if fault == "failure":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        ended = run_contained(words, **options | {"on_look": lambda stdout: injector.end(fault)})
        injector.end(fault)
        fault = injector.begin("reply", TOOL)
        if fault == "failure":
            return replace(ended, returncode=-signal.SIGKILL, stdout=b"", stderr=b"")
        injector.end(fault)
        return ended

    return contained


def while_asked(operations: Sequence[Operation]) -> set[int]:
    """Numbers of the operations of the tool, and of those on files between a question and the training it led to."""
    found, is_asked = set[int](), False
    for operation in operations:
        is_asked = (is_asked and not operation.what.startswith("trainer")) or operation.what == TOOL
        if is_asked and not operation.what.startswith("git "):
            found.add(operation.number)
    return found


# --- what must hold


def wrong_with(folder: Path, logs: Sequence[Path]) -> list[str]:
    """Everything that does not hold once the study is complete, a sentence each."""
    study = open_study(stub.NAME, folder / "project")
    events = read_events(study.paths.history)
    num_starts = (folder / "starts").stat().st_size
    return [
        *check.consistent(study, logs),
        *_proposals(events, num_starts),
        *_pauses(events),
        *_calls(events, num_starts),
        *_notices(folder, events),
    ]


def _proposals(events: Sequence[Event], num_starts: int) -> Iterator[str]:
    """Each is a reply of the tool, is used once and is decided once; only the tool proposes."""
    state = replay(list(events))
    decided = [event["experiment"] for event in events if event["event"] == "decided"]
    if sorted(decided) != list(range(NUM_EXPERIMENTS + 1)):
        yield f"these experiments were decided: {decided}"
    possible = {f"Reply {n} helps." for n in range(FIRST_REPLY, num_starts + 1) if n != FIRST_REPLY + 1}
    used = [experiment.hypothesis for experiment in state.experiments[1:]]
    if len(set(used)) != len(used) or not set(used) <= possible:
        yield f"the hypotheses are {used}, and the tool's are {sorted(possible)}"
    if others := {e.agent for e in state.experiments[1:]} - {"command"}:
        yield f"{others} proposed in the place of the tool"


def _pauses(events: Sequence[Event]) -> Iterator[str]:
    """A pause is recorded once, and ends before anything else is begun: it is resumed, or its supervisor ends."""
    why = ""
    for event in events:
        if event["event"] == "paused":
            if why:
                yield f"the study paused ({event['reason']}) while it was paused ({why})"
            why = event["reason"]
        elif event["event"] == "resumed":
            if not why:
                yield "the study was resumed and had not paused"
            why = ""
        elif event["event"] == "opened":
            why = ""
        elif why and event["event"] in ("called", "proposed", "dry_run", "started", "decided", "finished"):
            yield f"{event['event']!r} was recorded while the study was paused ({why})"
    reasons = [event["reason"] for event in events if event["event"] == "paused"]
    if not any("usage limit" in reason for reason in reasons):
        yield f"no usage limit is among the reasons of the pauses: {reasons}"


def _calls(events: Sequence[Event], num_starts: int) -> Iterator[str]:
    """What was asked is recorded but for what a dead supervisor took with it, and what never started is marked so."""
    calls = [event for event in events if event["event"] == "called"]
    started = [call for call in calls if "cannot start it" not in call["failed"]]
    if not num_starts - 1 <= len(started) <= num_starts:
        yield f"the tool was started {num_starts} times, and the history has {len(started)} calls"


def _notices(folder: Path, events: Sequence[Event]) -> Iterator[str]:
    """Each news was told once."""
    notifier = read_notifier(study_paths(stub.NAME, folder / "project").notify)
    if notifier is None:
        yield "the command for notices is not known any more"
        return
    told = Counter(json.loads(line)["id"] for line in (folder / "told").read_text().splitlines())
    wanted = {notice_id(stub.NAME, event) for _, event in news(events, notifier.since, notifier.greet_after)}
    if twice := [name for name, count in told.items() if count > 1]:
        yield f"the notices {twice} were told more than once"
    if set(told) != wanted:
        yield f"these notices were told: {sorted(told)}; these were to be told: {sorted(wanted)}"
