"""The answer in a reply: what a model thought, and what stands in its other channels, is taken out. Pure.

Servers are meant to part thoughts from the answer. Many do not, and each model has marks of its own: a pair of tags
in any brackets, channels, or a line such as "Thinking...". A mark may be damaged, missing or left open. Marks within a
search/replace block, a whole file or notes are text like any other.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from .blocks import FENCE, block_spans
from .channels import AnswerText, final_channel, hidden_of, is_quoted
from .labels import label_of
from .typography import in_ascii

MOST_NESTED = 5  # thoughts around the answer itself

LONGEST_LABEL = 100  # characters of a line before a mark in square brackets that are looked at
_THOUGHT = re.compile(
    r"th(?:ink|ought)|reason|internal|critique|verif|review|notes?[_ ]to[_ ]self"
    r"|reflect|scratch|monolog|ruminat|ponder|brainstorm|deliberat|contemplat|analy[sz]|rationale"
    r"|(?<![a-z])(?:cot|plan|planning|drafts?|details)(?![a-z])"
    "|\u601d\u8003|\u601d\u7ef4|\u63a8\u7406"
)
_SAME = {"thought": "think"}
_BEGINS, _ENDS = {"begin", "start", "of", "the"}, {"end", "stop", "close", "finish", "finished", "done"}
_ANSWER = {"answer", "response", "solution", "final"}
_TAG = re.compile(
    r"<{1,2}(?P<angle>[^<>\n]{1,250})\n?>{1,2}"
    r"|&lt;(?P<entity>[^&<>\n]{1,60})&gt;"
    r"|\[(?P<square>[^\[\]\n]{1,60})\](?!\()"
    "|[\u25c1\u27e8\u3008\u3010\u300e\u300c\u00ab\uff3b\uff1c]"
    "(?P<other>[^\u25c1\u25b7\u27e8\u27e9\u3008\u3009\u3010\u3011\u300e\u300f\u300c\u300d\u00ab\u00bb\uff3b\uff3d\uff1c\uff1e\n]{1,60})"
    "[\u25b7\u27e9\u3009\u3011\u300f\u300d\u00bb\uff3d\uff1e]"
    r"|(?m:^[ \t*_]*[{(](?P<line>/?[A-Za-z ]{1,30})[})][ \t*_]*$)"
)
_LINE = re.compile(
    r"^[ \t*_#]*(?P<open>(?:Thinking|Reasoning)(?:\.{3}|\u2026)|Here (?:is|are) my (?:thought|reasoning)[^\n]{0,40}:)"
    r"[ \t*_]*$|^[ \t*_]*(?P<close>(?:\.{3}|\u2026) ?done thinking\.?|Here is my response:)[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_DETAILS = re.compile(
    r"<details[^<>\n]{0,200}>\s{0,20}<summary>[^<\n]{0,80}(?:th(?:ink|ought)|reason)[^<\n]{0,80}</summary>", re.I
)
_FENCED = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*(?:think\w*|thoughts?|reason\w*|scratch_?pad|analysis|reflect\w*)[ \t]*$", re.I
)
_PAIRS = re.compile(  # marks that are no tags of a thought by their names: a turn of its own, a comment, Gemma's marks
    r"(?P<open><\|im_start\|>\s{0,9}(?:think|thought|reason|analysis)\w{0,9}|<!--|<unused94>(?:thought)?)"
    r"|(?P<close><\|im_end\|>|-->|<unused95>)",
    re.IGNORECASE,
)
_NAME_OF_PAIR = {"<|im": "turn", "<!--": "comment", "-->": "comment", "<unu": "unused"}
_ANY_TAG = re.compile(r"<[^<>\n]{1,40}>")
_END_OF_TURN = re.compile(
    r"<[|\uff5c](?:im_end|eot_id|eom_id|end_of_text|endoftext|eot|end|return|call|end_of_turn|end[_\u2581]of[_\u2581]sentence)[|\uff5c]>"
    r"|<end_of_turn>|</s>|<eos>|<[|\uff5c]im_start[|\uff5c]>\s*(?=user)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Mark:
    start: int
    end: int
    kind: str  # "open", "close", "turn"
    name: str = ""


def answer_of(reply: str) -> AnswerText:
    """The answer in a reply. The text of a thought is the answer when there is nothing else and it ends in a block."""
    in_channel = final_channel(reply)
    answer = _without_thoughts(in_channel.text)
    return replace(answer, ends_in_thought=in_channel.ends_in_thought or answer.ends_in_thought)


def _without_thoughts(text: str) -> AnswerText:
    """`text` outside of its thoughts; of a text that is nothing but thoughts the last one, if it ends in a block."""
    for depth in range(MOST_NESTED):
        hidden = hidden_of(text)
        marks = sorted(_marks(hidden), key=lambda mark: mark.start)
        thoughts, loose = _matched(marks)
        kept, may_be_thought = _kept(hidden, marks, thoughts, loose)
        answer = "\n".join(text[a:b] for a, b in kept)
        if answer.strip() or not thoughts:
            is_from_thought = depth > 0 or _ends_with_a_thought(hidden, loose)
            return AnswerText(answer, any(mark.kind == "open" for mark in loose), may_be_thought, is_from_thought)
        text = text[thoughts[-1][0].end : thoughts[-1][1].start]
        lines = text.split("\n")
        ends = [span.last for span in block_spans(lines) if not span.problem]
        if not ends or "".join(lines[ends[-1] + 1 :]).strip("`~ \t"):
            break
    return AnswerText("", ends_in_thought=True)


def _ends_with_a_thought(hidden: str, loose: Sequence[_Mark]) -> bool:
    """Whether the text ends with the mark that closes a thought, and no mark says where that thought begins."""
    ends = [mark.end for mark in loose if mark.kind == "close"]
    return bool(ends) and not _ANY_TAG.sub("", hidden[ends[-1] :]).strip("`~* \t\n")


def _marks(hidden: str) -> Iterator[_Mark]:
    for found in _TAG.finditer(hidden):
        inside = found[found.lastgroup or 0]
        if found.lastgroup == "square" and not _may_be_square(hidden, found):
            continue
        if (kind := _kind(inside)) and not is_quoted(hidden, found.start(), found.end()):
            yield _Mark(found.start(), found.end(), *kind)
    for found in _LINE.finditer(hidden):
        yield _Mark(found.start(), found.end(), "open" if found["open"] else "close", "line")
    for found in _DETAILS.finditer(hidden):
        yield _Mark(found.start(), found.end(), "open", "details")
    own_turns = yield from _pairs(hidden)
    for found in _END_OF_TURN.finditer(hidden):
        if found.start() not in own_turns and not is_quoted(hidden, found.start(), found.end()):
            yield _Mark(found.start(), found.end(), "turn")
    yield from _fences(hidden)


def _pairs(hidden: str) -> Generator[_Mark, None, set[int]]:
    """The marks of `_PAIRS`; returns where the turns that hold a thought end."""
    is_open: dict[str, bool] = {}
    ends = set()
    for found in _PAIRS.finditer(hidden):
        name, kind = _NAME_OF_PAIR[found[0][:4].casefold()], "open" if found["open"] else "close"
        if is_quoted(hidden, found.start(), found.end()) or (
            kind == "close" and name != "unused" and not is_open.get(name)
        ):
            continue
        is_open[name] = kind == "open"
        ends |= {found.start()} if kind == "close" else set()
        yield _Mark(found.start(), found.end(), kind, name)
    return ends


@lru_cache(maxsize=1000)
def _kind(inside: str) -> tuple[str, str] | None:
    """(whether a tag opens or closes a thought, the name of the thought), from what stands in its brackets."""
    body = in_ascii(inside).casefold().replace("\u2581", "_").strip("|\\ \t")
    is_end = body.startswith("/")
    body = body.strip("/|\\ \t")
    name, _, attributes = body.partition(" ")
    words = re.findall(r"[^\W\d_]+", name)
    rest = re.findall(r"[a-z]+", attributes)
    if rest and "=" not in attributes:
        if not {*words, *rest} & (_BEGINS | _ENDS):
            return None
        words += rest
    if not words or len(words) > 6 or len(name) > 60 or not re.fullmatch(r"[\w:.\-|]+", name):
        return None
    if words[0] == "details" and not is_end and not _THOUGHT.search(attributes):
        return None
    is_end = is_end or words[0] in _ENDS or words[-1] in _ENDS
    if found := _THOUGHT.search(" ".join(words)):
        return "close" if is_end else "open", _SAME.get(found[0], found[0])
    if {*words} & _ANSWER and words[0] in _BEGINS:
        return "close", "answer"
    return None


def _fences(hidden: str) -> Iterator[_Mark]:
    """The marks of thoughts in a fence: ```thinking ... ```."""
    place, depth = 0, 0
    if "```" not in hidden and "~~~" not in hidden:
        return
    for line in hidden.split("\n"):
        end = place + len(line)
        if depth == 0 and _FENCED.match(line):
            yield _Mark(place, end, "open", "fence")
            depth = 1
        elif depth and FENCE.fullmatch(line):
            depth += 1 if line.strip("`~ \t") else -1
            if depth == 0:
                yield _Mark(place, end, "close", "fence")
        place = end + 1


def _matched(marks: Sequence[_Mark]) -> tuple[list[tuple[_Mark, _Mark]], list[_Mark]]:
    """(outermost pairs of marks around thoughts, the marks outside of them that have no partner), in their order."""
    last_close = {mark.name: mark.start for mark in marks if mark.kind == "close"}
    stack: list[_Mark] = []
    pairs: list[tuple[_Mark, _Mark]] = []
    loose: list[_Mark] = []
    num_open: dict[str, int] = {}
    for mark in marks:
        if mark.kind == "open":
            stack.append(mark)
            num_open[mark.name] = num_open.get(mark.name, 0) + 1
            continue
        partner = None
        if mark.kind == "close" and num_open.get(mark.name, 0):
            while (partner := _popped(stack, num_open)).name != mark.name:
                pass
        elif mark.kind == "close" and stack and last_close.get(stack[-1].name, -1) < mark.start:
            partner = _popped(stack, num_open)
        if partner is None:
            loose.append(mark)
        else:
            while pairs and pairs[-1][0].start >= partner.start:
                pairs.pop()
            pairs.append((partner, mark))
    starts = [pair[0].start for pair in pairs]
    loose = sorted([*loose, *stack], key=lambda mark: mark.start)
    outside = [m for m in loose if not (i := bisect_right(starts, m.start)) or m.start >= pairs[i - 1][1].end]
    return pairs, outside


def _popped(stack: list[_Mark], num_open: dict[str, int]) -> _Mark:
    mark = stack.pop()
    num_open[mark.name] -= 1
    return mark


def _kept(
    hidden: str, marks: Sequence[_Mark], thoughts: Sequence[tuple[_Mark, _Mark]], loose: Sequence[_Mark]
) -> tuple[list[tuple[int, int]], bool]:
    """(the stretches of the text that are the answer, whether they stand in a thought that is never closed)."""
    places = _places(hidden, marks, thoughts)
    begin, end, may_be_thought = 0, len(hidden), False
    holes: list[tuple[int, int]] = []
    for mark in loose:
        if mark.kind == "close":
            is_first = begin == 0 and not (thoughts and thoughts[0][0].start < mark.start)
            if places.is_answered_after(mark.end) or (is_first and mark.end < places.last_word):
                begin = mark.end if mark.name != "details" else begin
        elif places.is_answered_between(begin, mark.start):
            end = mark.start
            break
        may_be_thought = may_be_thought or mark.kind == "open"
        holes.append((mark.start, mark.end))
    holes = sorted([*holes, *((a.start, b.end) for a, b in thoughts)])
    kept: list[tuple[int, int]] = []
    for a, b in [*holes, (end, end)]:
        if begin < min(a, end):
            kept.append((begin, min(a, end)))
        begin = max(begin, b)
    return kept, may_be_thought


@dataclass(frozen=True)
class _Places:
    """Where hypotheses and the ends of edits stand outside of thoughts, and where the last word ends."""

    labels: list[int]
    edits: list[int]
    last_word: int

    def is_answered_after(self, place: int) -> bool:
        return bool(self.labels and self.labels[-1] >= place)

    def is_answered_between(self, begin: int, end: int) -> bool:
        """Whether a hypothesis with an edit under it stands there."""
        first, last = bisect_left(self.labels, begin), bisect_left(self.edits, end) - 1
        is_there = first < len(self.labels) and self.labels[first] < end and last >= 0
        return is_there and self.labels[first] < self.edits[last]


def _places(hidden: str, marks: Sequence[_Mark], thoughts: Sequence[tuple[_Mark, _Mark]]) -> _Places:
    pieces, end = [], 0
    for mark in marks:
        if mark.start >= end:
            pieces += [hidden[end : mark.start], " " * (mark.end - mark.start - 1), "\n"]
            end = mark.end
    lines = "".join([*pieces, hidden[end:]]).split("\n")
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line) + 1)
    starts = [a.start for a, _ in thoughts]

    def outside(numbers: Iterable[int]) -> list[int]:
        places = (offsets[number] for number in numbers)
        return [p for p in places if not (i := bisect_right(starts, p)) or p >= thoughts[i - 1][1].end]

    labels = outside(i for i, line in enumerate(lines) if line.strip() and label_of(line)[0] == "hypothesis")
    complete = (span.last for span in block_spans(lines) if not span.problem)
    fences = (i for i, line in enumerate(lines) if line.strip("`~ \t") == "" and FENCE.fullmatch(line))
    words = _ANY_TAG.sub(lambda found: " " * len(found[0]), "\n".join(lines)).rstrip("`~* \t\n")
    return _Places(labels, outside(sorted({*complete, *fences})), len(words))


def _may_be_square(text: str, found: re.Match[str]) -> bool:
    """Whether square brackets may be the mark of a thought: `[THINKING]`, but not "HYPOTHESIS: [VERIFIED] Less"."""
    is_line = _is_line(text, found.start(), found.end())
    if is_line or not found["square"].isupper():
        return is_line
    near = max(0, found.start() - LONGEST_LABEL)
    line = text.rfind("\n", near, found.start())
    is_labelled = (line >= 0 or near == 0) and label_of(text[max(near, line + 1) : found.start()])[0]
    return not is_labelled or f"[/{found['square']}]" in text


def _is_line(text: str, start: int, end: int) -> bool:
    line = text[text.rfind("\n", 0, start) + 1 : start], text[end : min(len(text), end + 200)].split("\n")[0]
    return not line[0].strip("*_# \t") and not line[1].strip("*_ \t")
