"""A model's reply read: its search/replace blocks or its whole file, its reasons and its notes. Pure.

Only the answer is read: thoughts and other channels are taken out first, and an edit counts only when it stands under
the last hypothesis. Whatever a reply holds, reading it soon ends in a Submission or in an EditError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from .blocks import (
    FENCE,
    Span,
    block_spans,
    broken_file,
    check_file,
    fenced_text,
    named_file,
    other_form,
    read_block,
    whole_files,
)
from .channels import NOTES_TAG
from .edits import Edit, EditError, Submission
from .labels import TAKEN, label_of, read_labels
from .stream import mended
from .thoughts import answer_of
from .transport import whole_text, without_line_mark

FORM = """HYPOTHESIS: one sentence that could turn out false
EXPECTED: the effect on val_bpb, and why that size
REFUTED BY: what result would show that it is wrong

<<<<<<< SEARCH
lines of train.py, copied exactly, indentation and comments included
=======
the lines that replace them
>>>>>>> REPLACE"""

MOST_BLOCKS = 200
CUT_OFF = "The reply was cut off"  # how the words of each refusal of such a reply begin

_LINE_END = re.compile(r"\r+\n?")


def read_submission(reply: str, *, is_cut: bool = False, may_lack_end: bool = False) -> Submission:
    """The edits or the whole file in a model's reply, with its reasons.

    Args:
        is_cut: the reply ended because of a limit. It is used only if it was cut off in the notes behind its edits.
        may_lack_end: what printed the reply failed. It is used only if it stands outside of all thoughts, and nothing
            follows its edits but notes and the end of a fence around them.

    Raises EditError when there is nothing to use.
    """
    text = _LINE_END.sub("\n", mended(reply).replace("\0", "")).removeprefix("\ufeff")
    answer = answer_of(whole_text(text))
    if is_cut and answer.ends_in_thought:
        raise EditError(f"{CUT_OFF} while the model was thinking, so it holds no answer. Think less.")
    if may_lack_end and (answer.ends_in_thought or answer.may_be_thought or answer.is_from_thought):
        raise EditError("The reply may hold nothing but a thought. Send the answer again.")
    lines, notes = _without_notes(answer.text)
    if is_cut and not block_spans(lines) and not any(map(FENCE.fullmatch, lines)):
        raise EditError(f"{CUT_OFF} before it held an edit. Think less, and send a shorter reply.")
    edits, whole, prose = _edits(lines if block_spans(lines) else _unlisted(lines))
    _check_end(prose, is_cut, answer.may_be_thought)
    if may_lack_end and not _shows_its_end(lines, prose):
        raise EditError("The end of the reply may be missing. Send the whole reply again.")
    labels = read_labels(prose)
    if not labels.get("hypothesis"):
        raise EditError(f"The reply states no hypothesis. Send all of it again in this form:\n\n{FORM}")
    if answer.may_be_thought and not any(map(NOTES_TAG.search, prose)):
        notes = ""  # those of a thought that was never closed
    reasons = labels["hypothesis"], labels.get("expected", ""), labels.get("refutation", "")
    return Submission(*reasons, notes, tuple(edits), whole)


def _check_end(prose: Sequence[str], is_cut: bool, may_be_thought: bool) -> None:
    """Raises EditError when what follows the last edit says that the edit is not the whole or not the last word."""
    after = _after_edits(prose)
    if is_cut and not any(map(NOTES_TAG.search, after)):
        raise EditError(
            f"{CUT_OFF} before its end, so a part of the edit may be missing. Send the whole reply again, shorter."
        )
    if may_be_thought and any(map(_says_something, after)):
        raise EditError(
            "The reply begins a thought and never ends it, so its edit may be a draft. "
            f"Send the answer alone, in this form:\n\n{FORM}"
        )


def _shows_its_end(lines: Sequence[str], prose: Sequence[str]) -> bool:
    """Whether a reply, whose end may be missing, has no begun fence and no word behind its last edit."""
    fences = [line for line in _around(lines, block_spans(lines))[0] if FENCE.fullmatch(line)]
    return len(fences) % 2 == 0 and not any(map(_says_something, _after_edits(prose)))


def _after_edits(prose: Sequence[str]) -> Sequence[str]:
    return prose[max((i for i, line in enumerate(prose) if line == TAKEN), default=0) + 1 :]


def _says_something(line: str) -> bool:
    """Whether a line is neither blank nor a fence, and does not stand for a block, a file or notes."""
    return bool(line.strip("`~ \t")) and not line.startswith(TAKEN)


def _without_notes(text: str) -> tuple[list[str], str]:
    """(lines of the rest, notes): the last section that is closed. Notes that were cut off are none."""
    tags = list(NOTES_TAG.finditer(text))
    for start, end in reversed(list(pairwise(tags))):
        if end[1] and not start[1]:
            rest = f"{text[: start.start()]}\n{TAKEN}<notes>\n{text[end.end() :]}"
            return rest.split("\n"), text[start.end() : end.start()].strip()
    return text.split("\n"), ""


def _unlisted(lines: list[str]) -> list[str]:
    """The lines without the numbers or quote marks before them, if there are blocks then."""
    bare = [without_line_mark(line) for line in lines]
    return bare if any(not span.problem for span in block_spans(bare)) else lines


def _edits(lines: list[str]) -> tuple[list[Edit], str | None, list[str]]:
    """(blocks under the last hypothesis, or the whole train.py there, the lines around them from there on)."""
    prose, places = _around(lines, block_spans(lines))
    start = _last_hypothesis(prose)
    blocks = [span for place, span in places if place > start]
    if len(blocks) > MOST_BLOCKS:
        raise EditError(f"The reply has {len(blocks)} blocks. Send at most {MOST_BLOCKS}: only those that are needed.")
    if blocks:
        return [read_block(lines, span, i) for i, span in enumerate(blocks, 1)], None, prose[max(0, start) :]
    files = whole_files(prose)
    spans = [Span(first, last) for first, last in files]
    rest, file_places = _around(prose, spans)
    start = _last_hypothesis(rest)
    found = [span for place, span in file_places if place > start]
    texts = {fenced_text(prose, (span.first, span.last)) for span in found}
    if len(texts) > 1:
        raise EditError(
            f"The reply holds {len(found)} whole files. Send one, or search/replace blocks, and nothing twice."
        )
    if not texts:
        raise EditError(broken_file(rest[max(0, start) :]) or _no_edit(rest, start, bool(places or files)))
    check_file("The file", prose[found[0].first], prose[: found[0].first])
    return [], texts.pop(), rest[max(0, start) :]


def _around(lines: Sequence[str], spans: Sequence[Span]) -> tuple[list[str], list[tuple[int, Span]]]:
    """(the lines around the spans, with one that stands for each; the place of each among them)."""
    prose: list[str] = []
    places: list[tuple[int, Span]] = []
    end = 0
    for span in spans:
        prose += lines[end : span.first]
        places.append((len(prose), span))
        prose.append(TAKEN)
        end = span.last + 1
    return [*prose, *lines[end:]], places


def _last_hypothesis(prose: Sequence[str]) -> int:
    """The line of the last hypothesis, -1 for none; one that is quoted counts only when no other does."""
    labelled = [i for i, line in enumerate(prose) if label_of(line)[0] == "hypothesis"]
    own = [i for i in labelled if not prose[i].lstrip().startswith(">")]
    return max(own or labelled, default=-1)


def _no_edit(prose: Sequence[str], start: int, has_drafts: bool) -> str:
    if has_drafts:
        what = "No edit stands under the last HYPOTHESIS of the reply, and what stands above it is taken for a draft"
        return f"{what}. Send the hypothesis first and its blocks under it:\n\n{FORM}"
    answer = prose[max(0, start) :]
    others = [name for line in answer if (name := named_file(line)) not in ("", "train.py")]
    if others:
        return f"The reply is about {others[0]}. Only train.py may change, in this form:\n\n{FORM}"
    if not any(map(str.strip, answer)):
        return f"The reply is empty. Send it in this form, with as many blocks as needed:\n\n{FORM}"
    form = other_form(answer)
    what = f"{form} is not read" if form else "A description is not read"
    return (
        f"The reply holds no edit of train.py in search/replace blocks. {what}. "
        f"Send it in this form, with as many blocks as needed:\n\n{FORM}"
    )
