"""The hashes of everything that a score depends on, and one digest of them, which is recorded with each score.

Two scores with the same digest come from the same code, rows, settings and versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .study import sha256

SETTINGS = ("time_budget_seconds", "startup_allowance_seconds", "handover_allowance_seconds", "seed", "scoring")
CLOCK = "clock"  # of a study on a steady clock; one on the wall clock has no such key
MACHINE = ("device", "device_name", "dtype")
SYSTEM = "system"  # key in study.json's versions: an updated operating system changes no score


def changed_versions(then: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, version then and version now of each package that may change a score; "gone" for a missing one."""
    return [(k, old, now.get(k, "gone")) for k, old in then.items() if k != SYSTEM and old != now.get(k)]


def last_versions(facts: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Those that the last session of a study ran with, or the study began with."""
    opened = (event["versions"] for event in reversed(events) if event["event"] == "opened" and event.get("versions"))
    return next(opened, facts.get("versions") or {})


def same_versions(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the scores of both have the same provenance."""
    return _of_scores(one) == _of_scores(other)


def _of_scores(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in versions.items() if name != SYSTEM}


def parts_of(facts: Mapping[str, Any], versions: Mapping[str, str], train_sha256: str) -> dict[str, str]:
    """Name and SHA-256 of each part; `facts` are study.json, `versions` those that made the score."""
    corpus = facts["corpus"]
    return {
        "train.py": train_sha256,
        "prepare.py": facts["sha256"]["prepare.py"],
        "corpus": _digest({"text": corpus["content_sha256"], "files": facts.get("corpus_files") or {}}),
        "tokenizer": corpus["tokenizer_sha256"],
        "held-out rows": corpus["heldout_sha256"],
        "versions": _digest(_of_scores(versions)),
        "study settings": _digest(_settings(facts)),
        "machine": _digest({name: facts["hardware"].get(name) for name in MACHINE}),
    }


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    clock = {CLOCK: facts[CLOCK]} if CLOCK in facts else {}
    return {name: facts.get(name) for name in SETTINGS} | clock


def provenance(facts: Mapping[str, Any], versions: Mapping[str, str], train_sha256: str) -> str:
    """The digest of all parts."""
    return _digest(parts_of(facts, versions, train_sha256))


def _digest(value: Any) -> str:
    """SHA-256 of JSON in one form: sorted keys, no spaces."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True))
