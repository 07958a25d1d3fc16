"""A study on a steady clock: its first run says what speed is normal, and all later runs are counted by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.core.types import RunOutcome
from autoresearch_kernel.record.study import Study, open_study
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.study.loop import research
from tests.conftest import counting_study
from tests.pretended import Machine
from tests.study.test_night import worse


@pytest.fixture
def seen(machine: Machine) -> list[tuple[str, float | None, float]]:
    """Clock, normal speed and hard limit of each training, on a machine that becomes faster from run to run."""
    seen: list[tuple[str, float | None, float]] = []

    def train(training: Training, listener: Listener) -> RunOutcome:
        seen.append((training.clock, training.normal_speed, training.limit_seconds))
        outcome = machine.pretend_training(training, listener)
        return replace(outcome, measured=outcome.measured | {"clock_speed": 40.0 + len(seen), "budget_speed": 1.0})

    machine.train = train
    return seen


def test_the_first_run_says_what_speed_is_normal_also_after_a_pause(
    project: Path, small_corpus: Path, seen: list[tuple[str, float | None, float]]
) -> None:
    study: Study = counting_study(project, small_corpus, clock="steady")
    list(research(study, worse(1), experiments=1))
    list(research(open_study("nov23", project), worse(1), experiments=1))
    assert [kind for kind, _, _ in seen] == ["steady"] * len(seen) and len(seen) >= 5
    assert [normal for _, normal, _ in seen] == [None] + [41.0] * (len(seen) - 1)


def test_on_the_wall_clock_nothing_is_normal(
    project: Path, small_corpus: Path, seen: list[tuple[str, float | None, float]]
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, worse(1), experiments=1))
    assert {kind for kind, _, _ in seen} == {"wall"} and study.longest_budget_seconds == study.time_budget_seconds
