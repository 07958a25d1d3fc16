"""Imports without an optional package, where finding it costs time and brings nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Inside, `packages` are as if not installed: importing one raises ImportError, unless it is there already."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: the import system's word for "no"
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
