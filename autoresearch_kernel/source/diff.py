"""The difference of two train.py texts, as a unified diff. Pure."""

from __future__ import annotations

import difflib

from .compare import lines_of


def diff(old: str, new: str) -> str:
    """A unified diff of two train.py texts that `git apply` accepts; empty when they are equal."""
    before, after = lines_of(old), lines_of(new)
    text = difflib.unified_diff(before, after, "a/train.py", "b/train.py")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in text)
