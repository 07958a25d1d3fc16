"""What the steps of one check share: where it works, what the device is, and what earlier steps left for later ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.sanitize import one_line
from ...core.types import Evaluation
from ...system.clock import SYSTEM_CLOCK, Clock
from ..checks import Check
from .plan import Seconds, Sizes

DOCUMENTATION = "docs/gpu.md says what each row means."


@dataclass(frozen=True)
class Trained:
    """A model that a training handed over."""

    name: str  # of the training's row
    artefact: Path


@dataclass
class Bench:
    """One check. Steps read what is above the line and add to what is below it."""

    project: Path  # with the prepare.py and the train.py that come with this program
    folder: Path  # for temporary files
    facts: dict[str, Any]  # of the device, see `study.presets.measure_machine`, and those of `in_torch.facts`
    seconds: Seconds
    limit_seconds: float
    say: Callable[[str], None]  # shows how far a step is
    clock: Clock = SYSTEM_CLOCK
    # ---
    has_sandbox: bool = False
    sizes: dict[str, Sizes] = field(default_factory=dict)  # by preset
    corpora: dict[str, tuple[Path, Path]] = field(default_factory=dict)  # training side and held-out side, by preset
    models: dict[str, Trained] = field(default_factory=dict)  # by preset; the one that is scored
    scores: dict[str, Evaluation] = field(default_factory=dict)  # by preset
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.monotonic()

    @property
    def device(self) -> str:
        return str(self.facts["device"])

    def seconds_left(self) -> float:
        """Until the limit of the whole check."""
        return self.limit_seconds - (self.clock.monotonic() - self.began)


def skipped(name: str, why: str) -> Check:
    return Check(name, "skip", f"skipped: {why}")


def failed(name: str, why: str, remedy: str = DOCUMENTATION, **facts: Any) -> Check:
    return Check(name, "fail", one_line(why, 500), remedy, facts)


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """These environment variables within the block, for the processes that it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
