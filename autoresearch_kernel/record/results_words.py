"""What the cells of a table of results say: a status, a score, the name of a metric and whether lower is better."""

from __future__ import annotations

import math
import re

from ..core.types import Status

_WORDS = {
    Status.KEEP: "keep keeps kept keeper improved improves improvement better best accept accepted baseline merged win",
    Status.DISCARD: "discard discards discarded discarding revert reverted reverts reject rejected drop dropped worse "
    "regressed regression undone undo rollback",
    Status.CRASH: "crash crashed crashes fail failed fails failure error errored oom diverged broken killed",
    Status.TIMEOUT: "timeout timedout",
    Status.INVALID: "invalid",
    Status.INTERRUPTED: "interrupted aborted cancelled canceled",
}
_SIGNS = {
    Status.KEEP: "✅✔☑🏆⭐🌟🥇👍🟢●", Status.DISCARD: "❌✖✗✘👎🔴⛔○🚫↩", Status.CRASH: "💥🔥☠💀×",
    Status.TIMEOUT: "⏰⌛⏱",
}  # fmt: skip
_STATUS_OF = {word: status for status, words in _WORDS.items() for word in words.split()}
_STATUS_OF_SIGN = {sign: status for status, signs in _SIGNS.items() for sign in signs}
_ANSWERS = {"yes": Status.KEEP, "y": Status.KEEP, "true": Status.KEEP, "1": Status.KEEP}
_ANSWERS |= {"no": Status.DISCARD, "n": Status.DISCARD, "false": Status.DISCARD, "0": Status.DISCARD}
_NOT = {"no", "not", "never", "non", "un", "don", "didn", "isn", "wasn", "without"}
_DOUBT = {"maybe", "tentative", "tentatively", "pending", "almost", "nearly", "probably", "todo", "rerun", "if"}
_LONGEST_STATUS = 60  # characters; a longer cell is a description

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4})?")
_AROUND = re.compile(r"[*_`~≈\s]*(?P<number>[-+]?(?:\d[\d.,]*\d|\d|[.,]\d+)(?:[eE][-+]?\d{1,4})?)\s*(?P<after>.*)")
# What may follow a number: Markdown, its error, a unit.
_AFTER = re.compile(r"[*_`%†‡^\s]*(?:(?:±|\+/-|\().*)?|bpb|bits.{0,12}|[^\s,;:{}\[\]\"\d]{0,3}")
_NO_SCORE = {
    "", "-", "--", "---", "–", "—", "?", "x", "n/a", "na", "none", "null", "nan", "inf", "+inf", "-inf", "infinity",
    "-infinity", "∞", "-∞", "crash", "crashed", "oom", "fail", "failed", "error", "timeout", "tbd", "pending",
    "diverged",
}  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LOWER = _words(
    "bpb bpc bpw loss ppl perplexity rmse mse mae mape smape rmsle error err wer cer nll ce xent entropy logloss brier "
    "crps latency regret fid bits distance"
)
_SHARES = _words(  # of one, or in percent
    "acc accuracy f1 auc auroc roc ap map precision recall iou miou dice ndcg mrr correct top1 top5 success winrate "
    "hellaswag mmlu"
)
_HIGHER = _SHARES | _words(
    "r2 reward return sharpe bleu rouge psnr ssim elo profit pnl throughput kappa mcc spearman pearson corr"
)
_NAMED = _words("score metric fitness objective val valid validation eval dev test holdout")


def status_of(text: str, *, is_answer: bool = False) -> Status | None:
    """The status that a cell names in its own words, as `KEEP (best)` does; None when it names none or two.

    With `is_answer`, the column asks whether a change was kept, and the cell may be yes or no.
    """
    words = re.findall(r"[^\W_]+", text.lower().replace("time out", "timeout").replace("timed out", "timeout"))
    if len(text) > _LONGEST_STATUS:
        return None
    if is_answer and len(words) == 1 and words[0] in _ANSWERS:
        return _ANSWERS[words[0]]
    said = {_STATUS_OF[word] for word in words if word in _STATUS_OF}
    said |= {_STATUS_OF_SIGN[sign] for sign in text if sign in _STATUS_OF_SIGN}
    if said == {Status.KEEP} and _DOUBT.intersection(words):
        return None
    if said == {Status.KEEP} and _NOT.intersection(words):
        return Status.DISCARD
    return said.pop() if len(said) == 1 else None


def number_of(text: str) -> float | None:
    """The number of a cell; None where it says that there is none, as a dash, `nan` or `crash` does.

    A decimal comma is read, and so is a number with markdown, a unit or its error. Raises ValueError for other text.
    """
    text = text.strip().replace("\u2212", "-").strip('"')
    if text.lower() in _NO_SCORE:
        return None
    found = _AROUND.fullmatch(text[:100])
    if found is None or not _AFTER.fullmatch(found["after"]):
        raise ValueError(f"{text[:40]!r} is not a number")
    digits = found["number"]
    if "," in digits and digits.rfind(",") > digits.rfind("."):  # 1,234 and 1.234,5: a decimal comma
        digits = digits.replace(".", "").replace(",", ".")
    digits = digits.replace(",", "")
    if not digits.isascii() or not _NUMBER.fullmatch(digits):
        raise ValueError(f"{text[:40]!r} is not a number")
    value = float(digits)
    return value if math.isfinite(value) else None


def is_text(cell: str) -> bool:
    """Whether a cell holds neither a number nor what stands for a missing one."""
    try:
        number_of(cell)
    except ValueError:
        return True
    return False


def is_number_text(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        return number_of(text) is not None
    except ValueError:
        return False


def plain_name(text: str) -> str:
    """The name of a column without capitals, blanks, signs and markdown: `Val BPB (↓)` is val_bpb."""
    return "_".join(re.findall(r"[a-z0-9]+", re.sub(r"\(.*?\)|\[.*?\]", "", text.lower())))


def is_metric(name: str) -> bool:
    """Whether a column's plain name says that it holds a score."""
    return bool((_LOWER | _HIGHER | _NAMED).intersection(name.split("_")))


def is_higher_better(name: str, kept: list[float]) -> bool:
    """By the metric's name; where that does not say it, by the scores that were kept, oldest first."""
    words = set(name.split("_"))
    if words & _LOWER or words & _HIGHER:
        return not words & _LOWER
    return len(kept) > 1 and kept[-1] > kept[0]


def ceiling_of(name: str, scores: list[float]) -> float:
    """The most that a score can be: 1 for shares, 100 for percentages; 0 where that is not known."""
    if not scores or not _SHARES.intersection(name.split("_")) or min(scores) < 0 or max(scores) > 100:
        return 0.0
    return 1.0 if max(scores) <= 1 else 100.0
