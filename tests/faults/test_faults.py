"""A sample of what `python -m tests.faults` tries, and bugs planted to see that it finds them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")


def faults(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_a_study_survives_a_fault_of_every_kind_and_kills_of_its_processes(small_corpus: Path) -> None:
    done = faults("--sample", "40", "--kills", "4", "--corpus", str(small_corpus))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.rstrip().endswith("40 faults, 0 violations")
    assert "4 kills in a real study: held" in done.stdout
    for damage in ("torn tails", "flipped bytes", "two at once"):
        assert f"{damage}: held" in done.stdout


PLANTED = {
    "in-place": (["--what", "proposal.json", "--fault", "short-kill"], r"proposal\.json is not whole"),
    "unsynced": (["--what", "trainer 0001", "--fault", "power-cut"], r"experiment\.ipynb is not whole"),
    "buffered-history": (
        ["--what", "trainer 0001", "--fault", "kill-before"],
        "was acknowledged and is not in the history",
    ),
    "deaf": (["--what", "history.jsonl", "--fault", "enospc", "--sample", "4"], "was acknowledged"),
    "no-views": (["--what", "agent", "--sample", "1"], r"results\.tsv.* not there"),
    "no-refs": (["--what", "agent", "--sample", "1"], r"refs/autoresearch/faults/0000 is missing"),
    "one-seed": (["--what", "agent", "--sample", "1"], "two runs share a seed"),
    "no-audits": (["--what", "agent", "--sample", "1"], "was kept, and its audit says nothing"),
    "leftovers": (["--what", "results.tsv", "--fault", "short-kill", "--sample", "1"], "was left behind"),
}


@pytest.fixture(scope="module")
def planted() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """What is said of every planted bug, two at a time: most of the work of each keeps one processor busy."""
    with ThreadPoolExecutor(2) as pool:
        yield {plant: pool.submit(faults, "--plant", plant, *where) for plant, (where, _) in PLANTED.items()}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found_and_named(
    planted: dict[str, Future[subprocess.CompletedProcess[str]]], plant: str
) -> None:
    done, seen = planted[plant].result(), PLANTED[plant][1]
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(seen, done.stdout), done.stdout[-2000:]
    assert re.search(rf"again: python -m tests\.faults --only \d+ --fault [\w-]+ --plant {plant}", done.stdout)
