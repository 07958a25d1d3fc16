"""The prompt that a model would get, for a client that proposes from outside: built from the files of a study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..agents.prices import count_tokens
from ..agents.prompt import ABSENT_AT_TIMES, CHECKED, Form, build_prompt, objection_text
from ..core.state import StudyState
from ..core.types import Refusal
from ..record.activity import Activity, read_activity
from ..record.study import Study, StudyError
from ..show.snapshot import Snapshot
from ..study.context import context_of, read_notes
from ..system.files import seconds_of
from ..system.shell import shell_command

PROMPT_TOKENS = 24_000  # of a prompt, by our count, where the client names no number
CAME_BACK = "# What came back"
REASONS = """\
- The hypothesis is one sentence that could turn out false. The expected effect begins with a number: -0.004, or -0.006
  to -0.002. Negative is better. The record shows it beside the result.
- What refutes it is a result that would show that the hypothesis is wrong.
- Change train.py alone. Leave the other files of the project and of studies/ as they are, except your notes."""
BY_FILE = """\
# How to hand in

Think first. Then:

1. Copy {draft}, which is the train.py below, to a file outside of studies/. Edit the copy: one experiment, one idea.
2. `{propose}`
3. `{wait}` says what became of it.

{reasons}
- Your notes are {notes}. Rewrite this file when the program asks for it.

{checked}"""
BY_TOOL = """\
# How to hand in

Think first. Then call the tool `propose` with experiment={number}, a hypothesis, the expected effect, what refutes it,
and either `train_source`, the whole new train.py, or `edits`, blocks of this form that apply to the train.py below:

<<<<<<< SEARCH
lines of train.py, copied exactly, indentation and comments included
=======
the lines that replace them
>>>>>>> REPLACE

The SEARCH lines must occur exactly once in train.py. Afterwards the tool `wait` says what became of the experiment.

{reasons}

{checked}"""
_HEADING = re.compile(r"# (.+)")
_FENCE = re.compile(r"(`{3,})")


def form_of(study: Study, number: int, *, is_tool: bool) -> Form:
    """How a client hands in experiment `number`: by the command line, or by the tools of the MCP server."""
    if is_tool:
        how = BY_TOOL.format(number=number, reasons=REASONS, checked=CHECKED)
        return Form(how, "a call of `propose`", "your notes in the next hypothesis")
    name = study.name
    words = f'propose FILE --name {name} --experiment {number} --hypothesis "..." --expected "..." --refuted-by "..."'
    how = BY_FILE.format(
        draft=study.paths.review,
        propose=shell_command(words),
        wait=shell_command(f"wait --name {name}"),
        reasons=REASONS,
        notes=study.paths.notes,
        checked=CHECKED,
    )
    return Form(how, "an edited copy of it, with its reasons", f"your notes in {study.paths.notes} rewritten")


def prompt_for(study: Study, now: Snapshot, *, tokens: int = PROMPT_TOKENS, is_tool: bool = False) -> str:
    """What is known and what is wanted for the experiment that waits, in `tokens` at most.

    Raises StudyError when not even the least fits.
    """
    state = now.state
    assert state.incumbent is not None and state.review is not None
    activity = read_activity(study.paths.activity, (now.holder or {}).get("pid"))
    context = context_of(
        study,
        state,
        train_source=study.train_source(state.incumbent.number),
        program=_read(study.project / "program.md"),
        prepare_source=_read(study.project / "prepare.py"),
        notes=read_notes(study, state),
        left=_left(activity, now.time),
    )
    form, end = form_of(study, state.review.experiment, is_tool=is_tool), _came_back(state)
    try:
        return build_prompt(context, tokens - count_tokens(end), count_tokens, form) + end
    except ValueError as error:
        raise StudyError(f"{error} More is allowed with a larger number of tokens.") from error


def last_refusal(state: StudyState) -> Refusal | None:
    """Of the train.py that was handed in last for the experiment that waits; None where none was refused."""
    last = state.refusals[-1] if state.refusals else None
    return last if last is not None and last.experiment == len(state.experiments) else None


def _came_back(state: StudyState) -> str:
    refusal = last_refusal(state)
    return "" if refusal is None else f"\n{CAME_BACK}\n\n{objection_text(refusal)}\n"


def _left(activity: Activity | None, now: float) -> tuple[int | None, float | None]:
    """Experiments and seconds until nothing more is proposed; None where there is no limit, or it is not known."""
    if activity is None:
        return None, None
    seconds = activity.seconds_left
    return activity.experiments_left, None if seconds is None else max(
        0.0, seconds - (now - seconds_of(activity.since))
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def sections_of(prompt: str) -> dict[str, str]:
    """The text below each heading of the first level, the heading included; what stands in a fence is no heading."""
    found: dict[str, list[str]] = {}
    heading, mark = "", ""
    for line in prompt.splitlines():
        if fence := _FENCE.match(line):
            mark = "" if line == mark else mark or fence[1]
        elif not mark and (title := _HEADING.fullmatch(line)):
            heading = title[1]
        found.setdefault(heading, []).append(line)
    return {heading: "\n".join(lines).strip("\n") for heading, lines in found.items()}


def chosen(prompt: str, parts: Sequence[str]) -> str:
    """The sections whose heading holds one of `parts`, in any case; the whole prompt without parts.

    A part that only some prompts have, such as hints, may be absent. Raises StudyError, which lists the headings, for a
    part that no prompt has.
    """
    if not parts:
        return prompt
    sections = sections_of(prompt)
    for part in parts:
        if not any(part.casefold() in heading.casefold() for heading in (*sections, *ABSENT_AT_TIMES)):
            headings = ", ".join(repr(heading) for heading in sections if heading)
            raise StudyError(f"The prompt has no part {part!r}. Its parts are {headings}.")
    picked = [
        text for heading, text in sections.items() if any(part.casefold() in heading.casefold() for part in parts)
    ]
    return "\n\n".join(picked) + "\n" if picked else "The present prompt has none of these parts.\n"
