"""`python -m tests.faults`: every fault of the short study, then kills in a real one; 1 when anything does not hold.

python -m tests.faults                               all of it
python -m tests.faults --sample 100                  some of it, of every kind
python -m tests.faults --only 137 --fault enospc     one fault, named as a violation is
python -m tests.faults --what proposal.json          those of one file, git command or process
python -m tests.faults --kills 50                    the kills alone
python -m tests.faults --plant in-place --sample 50  with a bug that must be found
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from . import kills, server
from .damage import DAMAGES
from .operations import FAULTS
from .plants import PLANTS
from .server import Fault

SEED = 20  # of which faults a sample holds
SHARE_OF_TOOL = 0.13  # of a sample; each of these faults takes several times as long as another
ALL_KILLS = 50
KILLS = "kills in a real study"
MOST_SHOWN = 20  # violations in full


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    only_kills = options.kills is not None and not (options.sample or options.only or options.what or options.fault)
    everything = not (options.sample or options.only or options.what or options.fault or options.plant != "none")
    num_kills = options.kills if options.kills is not None else ALL_KILLS * everything
    base = server.place()
    try:
        began = time.monotonic()
        plant = PLANTS[options.plant]
        reference = None if only_kills else server.make_reference(base, plant)
        known = () if reference is None else _known(base, reference, options)
        faults = [] if reference is None else _chosen(known, options)
        num_operations = len({fault.operation.number for fault in known})
        print(f"{num_operations} operations; {len(faults)} faults and {num_kills} kills to try", flush=True)
        board = _Board(len(faults), began, options.plant)
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
            work: dict[Future[list[str]], Fault | str] = {}
            if num_kills:
                work[pool.submit(kills.campaign, base / "kills", num_kills, options.corpus, options.slots)] = KILLS
            if reference is not None:
                if options.only is options.what is options.fault is None and options.plant == "none":
                    work |= {pool.submit(damage, reference): name for name, damage in DAMAGES.items()}
                work |= {pool.submit(server.try_fault, fault, reference.outcome, plant): fault for fault in faults}
            for done in as_completed(work):
                board.add(work[done], done.result())
        return board.finish(num_kills)
    finally:
        shutil.rmtree(base)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=str(__doc__).splitlines()[0])
    parser.add_argument("--sample", type=int, metavar="N", help="that many faults, of every kind some")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="the faults of one operation")
    parser.add_argument("--fault", choices=sorted({fault for kind in FAULTS.values() for fault in kind}))
    parser.add_argument("--what", metavar="TEXT", help="operations on what is named so")
    parser.add_argument("--kills", type=int, metavar="N", help="kills in a real study; alone, nothing else is done")
    parser.add_argument("--slots", type=int, default=1, metavar="N", help="trainings at once in the real study")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="of the real study; a small one is made otherwise")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="none", help="a bug, to see it found")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at once")
    return parser.parse_args(arguments)


def _known(base: Path, reference: server.Reference, options: argparse.Namespace) -> tuple[Fault, ...]:
    """All faults; those of the study of a tool are not needed to find a planted bug."""
    if options.plant != "none":
        return reference.faults
    return (*reference.faults, *server.make_tool_faults(base, reference.faults[-1].operation.number))


def _chosen(faults: Sequence[Fault], options: argparse.Namespace) -> list[Fault]:
    found = [
        fault
        for fault in faults
        if options.only in (None, fault.operation.number)
        and options.fault in (None, fault.fault)
        and (options.what or "") in fault.operation.what
    ]
    if not found:
        raise SystemExit("There is no such fault. `--what ''` names all.")
    if options.sample is None or options.sample >= len(found):
        return found
    of_tool = [fault for fault in found if fault.by_tool]
    num_of_tool = min(len(of_tool), math.ceil(options.sample * SHARE_OF_TOOL))
    others = [fault for fault in found if not fault.by_tool]
    return [*_sample(of_tool, num_of_tool), *_sample(others, options.sample - num_of_tool)]


def _sample(faults: Sequence[Fault], size: int) -> list[Fault]:
    """So many faults, first one of every kind."""
    shuffled = random.Random(SEED).sample(faults, len(faults))
    firsts = {(fault.operation.kind, fault.fault): fault for fault in reversed(shuffled)}
    rest = [fault for fault in shuffled if fault not in firsts.values()]
    return [*firsts.values(), *rest][:size]


class _Board:
    """What was tried so far and what did not hold, on the screen."""

    def __init__(self, num_faults: int, began: float, plant: str) -> None:
        self.planted = "" if plant == "none" else f" --plant {plant}"
        self.num_faults, self.began = num_faults, began
        self.tried: Counter[tuple[str, str]] = Counter()
        self.violated: Counter[tuple[str, str]] = Counter()
        self.said = 0.0

    def add(self, fault: Fault | str, problems: Sequence[str]) -> None:
        cell = (fault, "") if isinstance(fault, str) else (fault.operation.kind, fault.fault)
        self.tried[cell] += 1
        if problems:
            self.violated[cell] += 1
            self._show(fault, problems)
        self._progress()

    def _show(self, fault: Fault | str, problems: Sequence[str]) -> None:
        if self.violated.total() > MOST_SHOWN:
            return
        if isinstance(fault, str):
            print(f"\nVIOLATION: {fault}")
        else:
            number, kind, what = fault.operation.number, fault.operation.kind, fault.operation.what
            print(f"\nVIOLATION at operation {number}, {kind} of {what}: {fault.fault}")
            print(f"  again: python -m tests.faults --only {number} --fault {fault.fault}{self.planted}")
        print(*(f"  - {problem}" for problem in problems[:5]), sep="\n", flush=True)

    def _progress(self) -> None:
        now = time.monotonic()
        on_screen = sys.stdout.isatty()
        if now - self.said < (0.2 if on_screen else 20):
            return
        self.said = now
        tried = sum(count for (kind, _), count in self.tried.items() if kind in FAULTS)
        line = f"{tried} of {self.num_faults} faults, {self.violated.total()} violations, {now - self.began:.0f} s"
        print(f"\r{line} " if on_screen else line, end="" if on_screen else "\n", flush=True)

    def finish(self, num_kills: int) -> int:
        faults = list(dict.fromkeys(fault for kind in FAULTS.values() for fault in kind))
        print(f"\n\n{'':<12}" + "".join(f"{fault:>12}" for fault in faults))
        for kind in FAULTS:
            cells = [self._cell(kind, fault) for fault in faults]
            print(f"{kind:<12}" + "".join(f"{cell:>12}" for cell in cells))
        tried = sum(count for (kind, _), count in self.tried.items() if kind in FAULTS)
        violations = self.violated.total()
        for kind, _ in self.tried:
            if kind not in FAULTS:
                words = f"{num_kills} {kind}" if kind == KILLS else kind
                print(f"{words}: {'VIOLATED' if self.violated[kind, ''] else 'held'}")
        print(f"{time.monotonic() - self.began:.0f} s; a cell is how many were tried, and (after a slash) violated")
        print(f"{tried} faults, {violations} violations")
        return 1 if violations else 0

    def _cell(self, kind: str, fault: str) -> str:
        tried, violated = self.tried[kind, fault], self.violated[kind, fault]
        return "" if not tried else f"{tried}/{violated}" if violated else str(tried)


if __name__ == "__main__":
    sys.exit(main())
