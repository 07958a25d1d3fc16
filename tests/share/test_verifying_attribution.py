"""The check of a bundle computes again what an attribution ended with: which kept changes carry the gain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_kernel.share.bundle import Bundle
from autoresearch_kernel.share.check import Row, check_bundle
from autoresearch_kernel.share.manifest import HISTORY
from autoresearch_kernel.study.attribution import attribute
from tests.bundles import Event, Files, files_of, share, with_events
from tests.pretended import Machine
from tests.study.test_attribution import night, plant, turned

KNOBS = ("WIDE", "DEEP")  # the first carries gain, and the second had luck
WORDS = "the attribution of 0002: its effects do not follow from its trainings"


@pytest.fixture
def attributed(project: Path, small_corpus: Path, machine: Machine, tmp_path: Path) -> Files:
    """The files of a night whose kept changes were taken out one by one."""
    plant(machine)
    study = night(project, small_corpus, *map(turned, KNOBS))
    assert attribute(study)
    return files_of(share(study, tmp_path / "nov23.zip"))


def rule_of(files: Files) -> Row:
    return next(row for row in check_bundle(Bundle(dict(files))) if row.name == "rule")


def ended(events: list[Event]) -> Event:
    return next(event for event in events if event["event"] == "attribution" and event["what"] == "ended")


def better_gain(events: list[Event]) -> None:
    ended(events)["effects"][0]["gain"] += 0.001


def no_luck(events: list[Event]) -> None:
    effect = ended(events)["effects"][1]
    effect["part"] = "carries" if effect["part"] != "carries" else "luck"


def narrow(events: list[Event]) -> None:
    ended(events)["effects"][1] |= {"low": 0.0, "high": 0.0}


def fewer(events: list[Event]) -> None:
    ended(events)["effects"].pop()


def other_trial(events: list[Event]) -> None:
    scored = next(e for e in events if e["event"] == "attribution" and e["what"] == "scored" and e["without"])
    scored["val_bpb"] += 0.01


def test_an_attribution_follows_from_its_trainings_or_is_named(attributed: Files) -> None:
    assert not any(row.findings for row in check_bundle(Bundle(dict(attributed))))
    forgeries: tuple[Callable[[list[Event]], None], ...] = (better_gain, no_luck, narrow, fewer, other_trial)
    for forge in forgeries:
        found = [(finding.file, finding.problem) for finding in rule_of(with_events(forge)(attributed)).findings]
        assert found == [(HISTORY, WORDS)], forge
