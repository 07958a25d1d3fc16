"""Trainings as tests ask for them: what matters to the test is named, the rest is filled in."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from autoresearch_kernel.core.types import RunOutcome
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.training import Listener, Training, run_training

CALLBACKS = {f.name for f in fields(Listener)}


def training(source: str, paths: ExperimentPaths, corpus_dir: Path, project: Path, **settings: Any) -> Training:
    """A training of `time_budget_seconds` with no allowances; `settings` are fields of Training."""
    usual = {"run": 0, "seed": 1, "title": "t", "hypothesis": "h", "diff": "", "time_budget_seconds": 20.0}
    usual |= {"startup_allowance_seconds": 0.0, "handover_allowance_seconds": 0.0}
    return Training(source=source, paths=paths, corpus_dir=corpus_dir, project=project, **(usual | settings))


def train(source: str, paths: ExperimentPaths, corpus_dir: Path, project: Path, **settings: Any) -> RunOutcome:
    """Run such a training; `settings` are fields of Training and of Listener, and further arguments of run_training."""
    callbacks = {name: settings.pop(name) for name in CALLBACKS & set(settings)}
    more = {name: settings.pop(name) for name in {"memory_kills"} & set(settings)}
    return run_training(training(source, paths, corpus_dir, project, **settings), Listener(**callbacks), **more)
