"""A sample of what `python -m tests.faults` tries, and bugs planted to see that it finds them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")


def faults(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_a_study_survives_a_fault_of_every_kind_and_kills_of_its_processes(small_corpus: Path) -> None:
    done = faults("--sample", "46", "--kills", "4", "--corpus", str(small_corpus))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.rstrip().endswith("46 faults, 0 violations")
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


# Does what `python -m tests.faults` does with each list of arguments, in a fork that need not import anything.
EACH = """
import json, os, sys
from pathlib import Path
from tests.faults import server
from tests.faults.__main__ import main

server.warm_up(Path(sys.argv[1]))
for line in sys.stdin:
    output, arguments = json.loads(line)
    if (pid := os.fork()) == 0:
        for fd in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fd)
        try:
            status = main(arguments)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            status = 3
        sys.stdout.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
Planted = dict[str, Future[tuple[int, str]]]  # exit status and output


class Forker:
    """A process that has imported the harness, for one planted bug after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-c", EACH, str(folder)]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def faults(self, plant: str, where: list[str]) -> tuple[int, str]:
        output = self.folder / plant
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(output), ["--plant", plant, *where]]) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return status, output.read_text()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """What is said of every planted bug, two at a time: most of the work of each keeps one processor busy."""
    forkers = [Forker(tmp_path_factory.mktemp("planted")) for _ in range(2)]
    idle = Queue[Forker]()
    for forker in forkers:
        idle.put(forker)

    def found(plant: str) -> tuple[int, str]:
        forker = idle.get()
        try:
            return forker.faults(plant, PLANTED[plant][0])
        finally:
            idle.put(forker)

    with ThreadPoolExecutor(len(forkers)) as pool:
        yield {plant: pool.submit(found, plant) for plant in PLANTED}
    for forker in forkers:
        forker.process.communicate()


def test_a_study_on_two_slots_survives_kills_of_its_processes(small_corpus: Path, planted: Planted) -> None:
    """Most of it is waiting, so the bugs are looked for meanwhile."""
    done = faults("--kills", "5", "--slots", "2", "--corpus", str(small_corpus))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "5 kills in a real study: held" in done.stdout


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found_and_named(planted: Planted, plant: str) -> None:
    (status, said), seen = planted[plant].result(), PLANTED[plant][1]
    assert status == 1, said[-4000:]
    assert re.search(seen, said), said[-2000:]
    assert re.search(rf"again: python -m tests\.faults --only \d+ --fault [\w-]+ --plant {plant}", said)
