"""What an experiment is about and why one failed, by the words that are there. Pure text, no judgement.

Parameters and parts of train.py name themselves; an idea in words, as in the original's results.tsv, is put under the
first theme of THEMES that one of its words belongs to.
"""

from __future__ import annotations

import re

from ...core.format import plain
from ...core.types import Experiment, Status

# Words of a change -> its theme; the first that matches counts. `_` ends a word: MATRIX_LR is about "lr".
THEMES = (
    ("weight decay", r"weight decay|wd"),
    ("schedule", r"warm ?(up|down)|cool ?down|schedul|cosine|decay to|final lr|anneal|lr frac"),
    ("learning rate", r"lr|lrs|learning rates?"),
    ("batch", r"batch|batches|accumulat\w*|tokens? (per|a) step"),
    ("context", r"seq|sequences?|context|seq len"),
    ("optimizer", r"adam\w*|muon|adagrad|sgd|lion|optimi[sz]ers?|betas?\d?|momentum|eps|epsilon|newton\w*|ns steps"),
    ("attention", r"attention|attn|heads?|gqa|mqa|kv|qk|rope|rotary|windows?|positions?|positional"),
    ("size", r"depth|layers?|width|wider|deeper|dim|dims|model dim|aspect|n layer|n embd|params|bigger|smaller"),
    ("MLP", r"mlp|ffn|swiglu|geglu|relu\w*|gelu|silu|activations?|experts?|moe"),
    ("embedding", r"embed\w*|tied?|tying|untie\w*|vocab|ngram|bigram|value embeddings?|wte|unembed\w*"),
    ("norm and residual", r"norm\w*|rms\w*|residuals?|skips?|gates?|gating|lambdas?"),
    ("initialisation", r"init\w*"),
    ("regularisation", r"dropout|label smoothing|regulari[sz]\w*|z loss|ema|clip\w*"),
    ("head and loss", r"soft ?caps?|logits?|loss\w*|lm head"),
    ("speed", r"compile\w*|fp8|bf16|precision|kernels?|fused?|flash|speed\w*|throughput"),
)
OTHER = "other"
GIST_CHARACTERS = 80  # of a description that say what was done; what follows says why
_BESIDE = re.compile(r"\(|;| after | because | instead of | — ")  # ends what was done as well
_THEMES = [(name, re.compile(rf"\b(?:{words})\b")) for name, words in THEMES]

# Words of a failure -> its cause; the first that matches counts.
CAUSES = (
    ("out of memory", r"out ?of ?memory|oom\b|cannot allocate|MemoryError"),
    ("not a number", r"\bnan\b|not a finite|diverge|\binf\b|infinite"),
    ("shapes do not fit", r"shape|size mismatch|dimension|divisible"),
    ("too slow", r"hard limit|time ?out|timed out|too slow"),
)
_CAUSES = [(name, re.compile(words, re.IGNORECASE)) for name, words in CAUSES]
_EXCEPTION = re.compile(r"\b([A-Z]\w*(?:Error|Exception|Exit|Interrupt))\b")


def theme_of(words: str) -> str:
    """The theme of a change by its words: `MATRIX_LR` and "lower the learning rate" have the same one."""
    text = re.sub(r"[_\W]+", " ", words.lower())
    return next((name for name, pattern in _THEMES if pattern.search(text)), OTHER)


def subjects_of(experiment: Experiment) -> list[tuple[str, str]]:
    """(theme, subject) of an experiment: its parameters, else what its agent says, else a theme from its words."""
    told = experiment.details.get("subjects")
    named = list(experiment.changes) or ([str(s) for s in told] if isinstance(told, list | tuple) else [])
    if not named:
        theme = theme_of(_gist(experiment.hypothesis))
        return [(theme, theme)]
    from_words = theme_of(_gist(experiment.hypothesis))
    pairs = [(theme_of(_split(name)), plain(name)) for name in dict.fromkeys(named)]
    return [(from_words if theme == OTHER else theme, name) for theme, name in pairs]


def _gist(description: str) -> str:
    return _BESIDE.split(description)[0][:GIST_CHARACTERS]


def _split(name: str) -> str:
    """`Attention.forward` and `CausalSelfAttention` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def cause_of(experiment: Experiment) -> str:
    """Why it failed, in a few words that failures of the same kind share."""
    texts = [experiment.reason, *(run.reason for run in experiment.runs)]
    text = " ".join(filter(None, texts)) or experiment.hypothesis
    known = next((name for name, pattern in _CAUSES if pattern.search(text)), "")
    if known:
        return known
    if found := _EXCEPTION.search(text):
        return found[1]
    return {Status.TIMEOUT: "too slow", Status.INVALID: "not a valid train.py"}.get(
        experiment.status or Status.CRASH, "interrupted" if experiment.status is Status.INTERRUPTED else "not known"
    )
