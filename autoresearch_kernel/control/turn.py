"""Whose turn it is in a study, for a client that proposes from outside: the client's or the study's, and what to do.

It reads the study's files alone, as every view does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..core.format import duration, plain
from ..record.study import Study
from ..show.follow import View
from ..show.snapshot import WAITING, Snapshot
from ..show.status import doing, standing, wanted
from ..system.shell import shell_command

LOOK_EVERY_SECONDS = 0.25
State = Literal["yours", "working", "paused", "ended", "not running"]


@dataclass(frozen=True)
class Turn:
    """Whose turn it is."""

    # "yours" (the study waits for a train.py), "working", "paused", "ended" (it has had what was asked for), "not
    # running" (no process runs it)
    state: State
    message: str  # why, and what to do next


def turn_of(now: Snapshot) -> Turn:
    """Whose turn it is at this moment."""
    name, review = now.study.name, now.state.review
    if now.damage:
        return Turn("not running", now.damage)
    if now.holder is not None and not now.is_running:
        return Turn("working", f"Study {name} starts or ends at this moment.")
    if now.phase == "finished":
        more = shell_command(f"run --name {name} --experiments 10 --detach")
        return Turn("ended", f"{standing(now)} Nothing more is proposed in study {name}. `{more}` continues it.")
    if not now.is_running:
        start = shell_command(f"run --name {name} --detach")
        return Turn("not running", f"No process runs study {name}. `{start}` continues it; then repeat this command.")
    if is_yours(now):
        assert review is not None
        ask = shell_command(f"ask --name {name}")
        return Turn("yours", f"Experiment {review.experiment:04d} is yours. `{ask}` says what is known.")
    if now.state.paused and now.phase in WAITING:  # a supervisor that starts has not ended the pause of the last one
        if review is not None and not review.is_draft:
            return Turn("paused", wanted(now.study, review))
        resume = shell_command(f"resume --name {name}")
        return Turn("paused", f"{standing(now)} `{resume}` continues the study.")
    return Turn("working", f"Study {name}: {_work(now)}.")


def is_yours(now: Snapshot) -> bool:
    """Whether the study waits for the train.py of a user; not while one is being checked."""
    review = now.state.review
    return review is not None and review.is_draft and now.phase == "reviewing" and bool(now.state.paused)


def is_checking(now: Snapshot) -> bool:
    """Whether a train.py that was handed over is being checked."""
    review = now.state.review
    return review is not None and review.is_draft and now.is_running and not now.state.paused


def _work(now: Snapshot) -> str:
    if is_checking(now):
        return "a train.py is being checked"
    left = f", {duration(now.seconds_left)} left" if now.activity == "training" and now.seconds_left else ""
    return plain(doing(now)) + left


def await_turn(
    study: Study, timeout_seconds: float, is_enough: Callable[[Snapshot], bool] = lambda now: False
) -> tuple[Snapshot, Turn]:
    """Wait while the study works, until `is_enough`, and for `timeout_seconds` at most; what is seen then."""
    view, deadline = View(study), time.monotonic() + timeout_seconds
    while True:
        now = view.look()
        turn = turn_of(now)
        if turn.state != "working" or is_enough(now) or time.monotonic() >= deadline:
            return now, turn
        time.sleep(LOOK_EVERY_SECONDS)
