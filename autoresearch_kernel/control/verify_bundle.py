"""Verifies a bundle for the command line: a line for each part of the check, and what no check can know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..core.format import plain
from ..share.bundle import read_bundle
from ..share.check import UNKNOWN, Row, check_bundle
from .checks import Check
from .verify import MOST_NAMED

REMEDY = "The bundle is not what its study recorded. Ask for it again, and compare the SHA-256 of both zips."

MOST_SAID = 300  # characters of a finding, whose words may be those of a hostile bundle


def verify_bundle(path: Path) -> Iterator[Check]:
    """Raises NotABundle for a file that cannot be read as one."""
    yield from map(_check, check_bundle(read_bundle(path)))
    for words in UNKNOWN:
        yield Check("not known", "skip", words)


def _check(row: Row) -> Check:
    facts = asdict(row)
    if not row.findings:
        return Check(row.name, "ok" if row.checked else "skip", row.words, facts=facts)
    named = [plain(str(finding), MOST_SAID) for finding in row.findings[:MOST_NAMED]]
    more = [f"and {len(row.findings) - MOST_NAMED} more"] if len(row.findings) > MOST_NAMED else []
    return Check(row.name, "fail", "; ".join([*named, *more]), REMEDY if row.name == "files" else "", facts)
