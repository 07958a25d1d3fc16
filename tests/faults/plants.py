"""Bugs to plant, so that one can see the harness find them: a check that cannot fail is worth nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoresearch_kernel.core import next_step
from autoresearch_kernel.record import history
from autoresearch_kernel.record.git import Lineage
from autoresearch_kernel.record.history import History
from autoresearch_kernel.study import steps, train
from autoresearch_kernel.system import files

from .operations import replace_in


def in_place() -> None:
    """Files are written where they are, not beside and then renamed: readers may see half of one."""

    def write_atomic(path: str | Path, data: bytes | str) -> None:
        files.ensure_folder(Path(path).parent)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            files.write(fd, data.encode() if isinstance(data, str) else data)
        finally:
            os.close(fd)

    for module in list(sys.modules.values()):
        if getattr(module, "write_atomic", None) is files.write_atomic and module is not files:
            replace_in(module, write_atomic=write_atomic)


def buffered_history() -> None:
    """A record reaches the file with the one after it, or when the history is closed."""
    waiting: list[bytes] = []
    close = History.close

    def write(fd: int, data: bytes) -> None:
        if waiting:
            files.write(fd, waiting.pop())
        waiting.append(data)

    def flush_and_close(self: History) -> None:
        if waiting and self._fd >= 0:
            files.write(self._fd, waiting.pop())
        close(self)

    replace_in(history, write=write)
    replace_in(History, close=flush_and_close, _check_ready=lambda self: None)


def unsynced() -> None:
    """Nothing waits for the disk."""

    def sync(fd: int) -> None:
        """Gone."""

    replace_in(files, sync=sync)
    replace_in(history, sync=sync)


def deaf() -> None:
    """A record that could not be written is taken for written."""
    append = History.append

    def append_or_not(self: History, event: str, /, **fields: Any) -> Any:
        try:
            return append(self, event, **fields)
        except OSError:
            return {"seq": len(self.events) + 1, "time": "", "event": event, **fields}

    replace_in(History, append=append_or_not)


def no_views() -> None:
    """Nothing is shown to people."""
    replace_in(steps.Steps, show=lambda self, experiment: None)


def no_refs() -> None:
    """Commits are made and no ref is moved to them."""
    replace_in(Lineage, _update=lambda self, ref, commit, old: None)


def one_seed() -> None:
    """Every run of an experiment has the seed of its first."""
    seed = train.run_seed
    replace_in(train, run_seed=lambda study_seed, experiment, run: seed(study_seed, experiment, 0))


def leftovers() -> None:
    """What a killed write left stays."""
    replace_in(steps, remove_temporaries=lambda folder: None)


def no_audits() -> None:
    """Every claim is believed."""
    replace_in(next_step, audit_due=lambda experiment, verdict: None)


def none() -> None:
    """The product as it is."""


PLANTS: dict[str, Callable[[], None]] = {
    "none": none,
    "in-place": in_place,
    "buffered-history": buffered_history,
    "unsynced": unsynced,
    "deaf": deaf,
    "no-views": no_views,
    "no-refs": no_refs,
    "one-seed": one_seed,
    "leftovers": leftovers,
    "no-audits": no_audits,
}
