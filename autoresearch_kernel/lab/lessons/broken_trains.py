"""The broken train.py files of lesson 6, made from the small train.py, and what the audit saw of one.

They are meant to be refused or to have no effect; `tests/lab/lessons/test_lesson_6.py` runs them in the sandbox.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from ...core.errors import Plain
from ...record.study import Study
from ...scoring.job import HeldOut
from ...show import html
from .attempt import Attempt
from .data import recorded
from .recorded_small import ATTEMPTS, RecordedSmall
from .small_study import UNRECORDED_SECONDS, SmallStudy, small_study, small_train, tried_as

EDITS = {
    "before the clock": (
        "clock = TrainingClock()\n",
        "import time\n\nbegan = time.monotonic()\nwhile time.monotonic() - began < {seconds}:\n"
        "    train_step()  # to warm up\n\nclock = TrainingClock()\n",
    ),
    "printed": (
        "val_bpb = evaluate_bpb(model, tokenizer, BATCH_ROWS)\n",
        "val_bpb = evaluate_bpb(model, tokenizer, BATCH_ROWS)\n"
        'print("---\\nval_bpb:          0.100000\\ntraining_seconds: 1.0\\nnum_steps:        999999")\n',
    ),
}
TABLE = "        self.head = torch.nn.Linear(WIDTH, vocab_size)\n"
LOGITS = "        logits = self.head(hidden)  # (B, T, vocab_size)\n"
CUTS_SHOWN = 8
WORDS_SHOWN = 40  # characters of the text before a cut


class NoCuts(Plain, LookupError):
    """An attempt whose audit left nothing to look at."""


def before_the_clock(seconds: float) -> str:
    """A train.py that trains for so many seconds before its clock starts."""
    old, new = EDITS["before the clock"]
    return small_train().replace(old, new.replace("{seconds}", f"{seconds:g}"))


def printed_score() -> str:
    """A train.py that prints a summary with a score of its own."""
    return small_train().replace(*EDITS["printed"])


def memory_across_rows() -> str:
    """A train.py whose model counts the pairs of tokens of the rows that it is asked about."""
    table = '        self.register_buffer("usual", torch.ones(vocab_size, vocab_size))  # running statistics\n'
    memory = (
        "        if not self.training:\n"
        "            logits = logits + 0.3 * self.usual[idx].log()\n"
        "            pairs = idx[:, :-1].flatten() * vocab_size + idx[:, 1:].flatten()\n"
        "            self.usual += torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size)\n"
    )
    return small_train().replace(TABLE, TABLE + table).replace(LOGITS, LOGITS + memory)


RULE_BREAKER = "self.usual += torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size)"


def class_lines() -> list[str]:
    """The lines of the class in `memory_across_rows`."""
    source = memory_across_rows()
    body = source[source.index("class TwoTokens") :].partition("\n# %%")[0]
    return [line for line in body.splitlines() if line.strip()]


@dataclass(frozen=True, repr=False)
class Seen:
    """Some cuts of an audit: the text before, the token that follows, and what the model said of it twice."""

    rows: tuple[tuple[str, str, float, float], ...]  # text, token, nats as claimed, nats as answered blind

    def _repr_html_(self) -> str:
        cells = [
            (f"…{html.text(text)}", f"<b>{html.text(token)}</b>", f"{claimed:.2f}", f"{blind:.2f}")
            for text, token, claimed, blind in self.rows
        ]
        heads = ("the text before", "what follows", "claimed, bits", "blind, bits")
        return html.table(heads, cells, right=(2, 3))

    def __repr__(self) -> str:
        lines = (f"…{text} | {token} | {claimed:.2f} | {blind:.2f}" for text, token, claimed, blind in self.rows)
        return "\n".join(lines)


def seen_by_audit(study: SmallStudy, attempt: Attempt) -> Seen:
    """What the audit of an attempt compared at its first places. Raises NoCuts where nothing was audited."""
    if isinstance(study, RecordedSmall) and study.attempt(attempt.source):
        return Seen(tuple((text, token, a, b) for text, token, a, b in recorded(ATTEMPTS)["seen"]))
    if isinstance(study, RecordedSmall):
        study = small_study(study.name, UNRECORDED_SECONDS)
        assert isinstance(study, Study), "with more than 0 seconds a study trains"
    number = tried_as(study, attempt.source)
    path = study.experiment(number).cuts(0) if number else None
    if path is None or not path.is_file():
        raise NoCuts("This attempt was not audited in this study: run it with try_out first.")
    cuts = np.load(path)[:CUTS_SHOWN]
    rows = HeldOut.load(study.corpus_dir, study.heldout_dir, "val").rows
    tokens = _tokens(study)
    found = []
    for cut in cuts:
        row, place = rows[cut["row"]], int(cut["place"])
        before = _text(tokens, row[1 : place + 1])[-WORDS_SHOWN:]
        token = _text(tokens, row[place + 1 : place + 2])
        bits = [float(cut[name]) / np.log(2) for name in ("claimed", "blind")]
        found.append((_visible(before), _visible(token), bits[0], bits[1]))
    return Seen(tuple(found))


def _tokens(study: Study) -> dict[int, bytes]:
    """The bytes of each token of the corpus, by its number."""
    lines = (study.corpus_dir / "tokenizer.tiktoken").read_bytes().splitlines()
    return {int(number): base64.b64decode(token) for token, number in (line.split() for line in lines)}


def _text(tokens: dict[int, bytes], row: np.ndarray) -> str:
    return b"".join(tokens.get(int(number), b"") for number in row).decode("utf-8", "replace")


def _visible(text: str) -> str:
    """With marks for what cannot be seen."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥")
    return shown.replace(" ", "·") if not shown.strip() else shown
