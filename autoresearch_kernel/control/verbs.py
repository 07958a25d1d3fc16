"""What a client does that proposes from outside, as an agent in its own conversation: ask, propose, wait.

The study is one with `--agent human`: it waits for a train.py in its folder `review` as long as that takes, so a client
that goes away loses nothing. The command line and the MCP server call these functions; `actions` hands the file over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..agents.edits import EditError, apply_edits
from ..agents.reply import read_submission
from ..core.format import count, plain
from ..core.state import Event
from ..core.types import Experiment, Status
from ..record.study import Study, StudyError, sha256
from ..show.follow import View
from ..show.snapshot import Snapshot
from ..show.words import outcome_line
from ..source.cell import SourceError
from ..source.encoding import decode_source
from ..system.shell import shell_command
from . import actions
from .asking import PROMPT_TOKENS, chosen, last_refusal, prompt_for, sections_of
from .turn import LOOK_EVERY_SECONDS, Turn, await_turn, is_checking, is_yours, turn_of

TIMEOUT_SECONDS = 540.0  # below the ten minutes that coding agents give a command at most
MOST_REASON_CHARS = 1_000  # of a hypothesis, an expected effect, or what refutes it; as of a model's
MOST_SOURCE_CHARS = 500_000  # of a train.py; ours has 25,000
EXITS = {  # exit status of a command, by the state of its answer
    "yours": 0, "accepted": 0, "decided": 0, "paused": 3, "ended": 4, "refused": 5, "not running": 6, "working": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came of a verb."""

    study: str
    state: str  # one of EXITS
    message: str  # for the client: what happened, and what to do next
    experiment: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        return EXITS[self.state]

    def as_json(self) -> dict[str, Any]:
        own = {"study": self.study, "state": self.state, "experiment": self.experiment, "message": self.message}
        return own | dict(self.facts)


def ask(
    study: Study,
    parts: Sequence[str] = (),
    *,
    tokens: int = PROMPT_TOKENS,
    timeout_seconds: float = TIMEOUT_SECONDS,
    is_tool: bool = False,
) -> Answer:
    """Wait until the study wants a train.py, and return the prompt that a model would get, or `parts` of it."""
    require_outside(study)
    now, turn = await_turn(study, timeout_seconds)
    if turn.state != "yours":
        return _of_turn(study, turn)
    assert now.state.review is not None
    prompt = prompt_for(study, now, tokens=tokens, is_tool=is_tool)
    facts = {"prompt": chosen(prompt, parts), "parts": [heading for heading in sections_of(prompt) if heading]}
    return Answer(study.name, turn.state, turn.message, now.state.review.experiment, facts)


def propose(
    study: Study,
    source: str,
    hypothesis: str,
    *,
    edits: str = "",
    expected: str = "",
    refutation: str = "",
    experiment: int | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """Hand over a train.py, or `edits` of the incumbent's, and wait until the study has taken or refused it.

    `experiment` is the number that the client was asked for: another one means that the study has gone on since.
    """
    require_outside(study)
    deadline = time.monotonic() + timeout_seconds
    now, turn = await_turn(study, 0.0)
    number = now.state.review.experiment if now.state.review is not None else None
    if turn.state == "working":
        why = f"It is not your turn. {turn.message} `{shell_command(f'ask --name {study.name}')}` waits for it."
        return Answer(study.name, "refused", why, number)
    if turn.state != "yours":
        return _of_turn(study, turn)
    reasons = {"hypothesis": hypothesis.strip(), "expected": expected.strip(), "refutation": refutation.strip()}
    why = _wrong_reasons(reasons) or _other_number(study, experiment, number)
    if edits and not why:
        try:
            source = _with_edits(study, reasons["hypothesis"], edits)
        except StudyError as error:
            why = str(error)
    if why := why or _wrong_source(source):
        return Answer(study.name, "refused", why, number)
    since = now.state.num_events
    try:
        actions.approve(
            study, source, plain(reasons["hypothesis"]), expected=plain(reasons["expected"]),
            refutation=plain(reasons["refutation"]),
        )  # fmt: skip
    except StudyError as error:
        return Answer(study.name, "refused", str(error), number)
    digest = sha256(decode_source(source.encode()))
    return _await_outcome(study, since, digest, number, deadline)


def _wrong_reasons(reasons: Mapping[str, str]) -> str:
    """Why a proposal is not even looked at, by its hypothesis and what belongs to it; "" for one that is."""
    if not reasons["hypothesis"]:
        return "There is no hypothesis. State the idea in one sentence that could turn out false."
    for name, text in reasons.items():
        if len(text) > MOST_REASON_CHARS:
            most = count(MOST_REASON_CHARS, "character")
            return f"The {name} has {count(len(text), 'character')}. Say it in at most {most}."
    return ""


def _wrong_source(source: str) -> str:
    """Why a train.py is not even looked at; "" for one that is."""
    if len(source) > MOST_SOURCE_CHARS:
        most = count(MOST_SOURCE_CHARS, "character")
        return f"The train.py has {count(len(source), 'character')}. At most {most} are taken."
    try:
        decode_source(source.encode())
    except (SourceError, UnicodeEncodeError) as error:
        return f"The train.py is no text that Python reads: {error}."
    return ""


def _with_edits(study: Study, hypothesis: str, edits: str) -> str:
    """The incumbent's train.py with search/replace blocks applied, as a model's reply is. Raises StudyError."""
    incumbent = actions.read_state(study).incumbent
    if incumbent is None:
        raise StudyError(f"The baseline of study {study.name} is not measured yet, so there is nothing to edit.")
    try:
        submission = read_submission(f"HYPOTHESIS: {plain(hypothesis)}\n\n{edits}")
        return apply_edits(study.train_source(incumbent.number), submission)
    except EditError as error:
        raise StudyError(f"The edits were not applied. {error}") from error


def _other_number(study: Study, asked: int | None, number: int | None) -> str:
    if asked is None or asked == number:
        return ""
    ask_again = shell_command(f"ask --name {study.name}")
    return f"Study {study.name} now waits for experiment {number:04d}, not {asked:04d}. `{ask_again}` asks again."


def _await_outcome(study: Study, since: int, digest: str, number: int | None, deadline: float) -> Answer:
    """What became of the train.py with this digest, handed over after event `since`."""
    view = View(study)
    while True:
        now = view.look()
        answer = _outcome(now, [e for e in view.events if e["seq"] > since], digest, number)
        turn = turn_of(now)
        if answer is not None:
            return answer
        if turn.state in ("ended", "not running"):
            kept = f"Your train.py was not checked; it lies in {study.paths.review}."
            return Answer(study.name, turn.state, f"{kept} {turn.message}", number)
        if time.monotonic() >= deadline:
            wait_again = shell_command(f"wait --name {study.name}")
            words = f"Your train.py is being checked. `{wait_again}` says what becomes of it."
            return Answer(study.name, "working", words, number)
        time.sleep(LOOK_EVERY_SECONDS)


def _outcome(now: Snapshot, events: Sequence[Event], digest: str, number: int | None) -> Answer | None:
    """What these events say of a train.py; None while it is checked."""
    name, wait_for = now.study.name, shell_command(f"wait --name {now.study.name}")
    for event in events:
        if event["event"] == "proposed":
            if event.get("train_sha256") != digest:
                return Answer(name, "refused", "Another train.py was taken for this experiment.", event["experiment"])
            words = f"Experiment {event['experiment']:04d} trains. `{wait_for}` gives its verdict."
            return Answer(name, "accepted", words, event["experiment"])
        if event["event"] == "refused" and event.get("train_sha256") == digest:
            return _refused(now, event["objection"], event["why"], event["experiment"])
    approvals = [e["seq"] for e in events if e["event"] == "command" and e["command"] == "approve"]
    if approvals and is_yours(now) and any(e["event"] == "paused" and e["seq"] > approvals[-1] for e in events):
        notes = [e["text"] for e in events if e["event"] == "note"]
        return Answer(name, "refused", plain(notes[-1]) if notes else "Your train.py was not taken.", number)
    return None


def _refused(now: Snapshot, objection: str, why: str, number: int) -> Answer:
    propose_again = shell_command(f"propose FILE --name {now.study.name}")
    lines = why.strip().splitlines() or ["no reason given"]
    words = (
        f"Experiment {number:04d} was not taken ({objection}): {plain(lines[0])} Mend it and `{propose_again}` again."
    )
    return Answer(now.study.name, "refused", words, number, {"objection": str(objection), "why": why})


def wait(study: Study, experiment: int | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Answer:
    """Wait for the verdict on `experiment`, or on the last one that was proposed.

    Where the last proposal was refused before it became an experiment, the answer says so; where none was made, it is
    the client's turn.
    """
    now, turn = await_turn(study, timeout_seconds, lambda now: _verdict(now, experiment) is not None)
    return _verdict(now, experiment) or _of_turn(study, turn)


def _verdict(now: Snapshot, asked: int | None) -> Answer | None:
    """What became of the last proposal, or of one experiment; None while that is open."""
    experiments = now.state.experiments
    if asked is not None:
        found = experiments[asked] if 0 <= asked < len(experiments) else None
        return None if found is None or found.status is None else _decided(now, found)
    if is_checking(now):
        return None
    refusal = last_refusal(now.state)
    if refusal is not None and is_yours(now):
        return _refused(now, refusal.objection, refusal.why, refusal.experiment)
    last = experiments[-1] if len(experiments) > 1 else None
    return None if last is None or last.status is None else _decided(now, last)


def _decided(now: Snapshot, experiment: Experiment) -> Answer:
    incumbent = now.state.incumbent
    facts = verdict_facts(experiment) | {"incumbent": incumbent.number if incumbent is not None else None}
    return Answer(now.study.name, "decided", plain(outcome_line(experiment)), experiment.number, facts)


def verdict_facts(experiment: Experiment) -> dict[str, Any]:
    """What was decided of an experiment, and on which figures; bits per byte, negative differences are better."""
    return {
        "status": experiment.status,
        "is_kept": experiment.status is Status.KEEP,
        "val_bpb": experiment.val_bpb,
        "incumbent_bpb": experiment.incumbent_bpb,
        "delta_bpb": experiment.delta_bpb,
        "delta_standard_error": experiment.delta_standard_error,
        "num_runs": len(experiment.runs),
        "reason": plain(experiment.reason),
        "hypothesis": plain(experiment.hypothesis),
        "expected": plain(experiment.expected),
    }


def require_outside(study: Study) -> None:
    """Raise StudyError for a study whose agent proposes itself."""
    if study.agent != "human":
        new = shell_command("run --name NEW --agent human --detach")
        raise StudyError(
            f"The agent of study {study.name} is {study.agent}, which makes the proposals itself. A study for "
            f"proposals from outside begins with `{new}`; name it with --name."
        )


def _of_turn(study: Study, turn: Turn) -> Answer:
    return Answer(study.name, turn.state, turn.message)
