"""The command that builds a corpus again with the same options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .locations import cache_dir
from .shell import shell_command


def corpus_command(corpus_dir: Path, meta: Mapping[str, Any], rebuild: bool = True) -> str:
    """The command that builds a corpus with the same options; `meta` is the content of its meta.json.

    Without `rebuild` it only checks a corpus that is there.
    """
    options = meta.get("prepared_with") or (
        f"--corpus {meta['corpus']} --vocab-size {meta['vocab_size']} --sequence-length {meta['sequence_length']}"
    )
    words = f"prepare {options}" + (" --rebuild" if rebuild else "")
    if corpus_dir.parent.name == "corpora" and corpus_dir.parents[1].resolve() != cache_dir().resolve():
        words += f" --home {shlex.quote(str(corpus_dir.parents[1]))}"
    return shell_command(words)
