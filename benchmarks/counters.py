"""How many bits a process leaves for a later one in what the kernel counts: process numbers, inodes, /proc, speed.

python -m benchmarks.counters             about three minutes on two cores

A sender works for SECONDS and ends, as a scorer does. Then a receiver, another process that imports torch, reads one
number, as an auditor could. The number is read once before the sender starts, as a training could read it and leave it
in its artefact. Some senders count up as far as they can, the others do nothing; they take turns. What arrives is the
difference of the two means; its noise is the standard deviation where the sender did nothing. The bits are
log2(1 + difference / (4 x noise)), which is what a careful sender could choose from. Nothing runs in a sandbox here:
docs/trust.md says which of these numbers a scorer can still read.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS, REPEATS = 1.0, 8

PREAMBLE = f"""
import os, sys, threading, time
end = time.monotonic() + {SECONDS}

def counter(path, name, place=1):
    with open(path) as file:
        return next(float(line.split()[place]) for line in file if line.startswith(name))

def inode():
    ends = os.pipe()
    return os.fstat(ends[0]).st_ino

def forks():
    while time.monotonic() < end:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)

def pipes():
    while time.monotonic() < end:
        for fd in os.pipe():
            os.close(fd)

def names():
    number = 0
    while time.monotonic() < end:
        number += 1
        os.path.exists(f"/tmp/{{os.getpid()}}-{{number}}")

def switches():
    a, b = os.pipe(), os.pipe()
    def echo():
        while os.read(a[0], 1) == b"x":
            os.write(b[1], b"x")
    thread = threading.Thread(target=echo)
    thread.start()
    while time.monotonic() < end:
        os.write(a[1], b"x")
        os.read(b[0], 1)
    os.write(a[1], b"q")
    thread.join()

def burn():
    children = []
    while len(children) < 15 and (not children or children[-1]):
        children.append(os.fork())
    while time.monotonic() < end:
        pass
    if not children[-1]:
        os._exit(0)
    for pid in children:
        os.waitpid(pid, 0)

def laps():
    began, number = time.process_time(), 0
    while time.process_time() < began + 0.2:
        number += 1
    return number

def idle():
    time.sleep(max(0.0, end - time.monotonic()))
"""


@dataclass(frozen=True)
class Way:
    """One number that outlives a process."""

    send: str  # the sender's work at its most
    read: str  # an expression


WAYS: Mapping[str, Way] = {
    "last process number": Way("forks()", "os.getpid()"),
    "number of the next pipe": Way("pipes()", "inode()"),
    "/proc/stat: processes": Way("forks()", "counter('/proc/stat', 'processes')"),
    "/proc/stat: context switches": Way("switches()", "counter('/proc/stat', 'ctxt')"),
    "/proc/stat: user time": Way("burn()", "counter('/proc/stat', 'cpu ')"),
    "/proc/uptime: idle time": Way("burn()", "float(open('/proc/uptime').read().split()[1])"),
    "/proc/loadavg": Way("burn()", "float(open('/proc/loadavg').read().split()[0])"),
    "/proc/meminfo: SReclaimable": Way("names()", "counter('/proc/meminfo', 'SReclaimable')"),
    "speed of the processor": Way("burn()", "laps()"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N", help="of each way, busy and idle")
    repeats = parser.parse_args().repeats
    print(f"| what | sent in {SECONDS:.0f} s | noise (sd of {repeats}) | bits |\n|---|---|---|---|")
    for name, way in WAYS.items():
        pairs = [(moved(way.read, way.send), moved(way.read, "idle()")) for _ in range(repeats)]
        busy, idle = ([pair[i] for pair in pairs] for i in (0, 1))
        sent, noise = abs(statistics.median(busy) - statistics.median(idle)), statistics.stdev(idle)
        bits = math.log2(1 + sent / (4 * noise)) if noise else math.inf
        print(f"| {name} | {sent:.4g} | {noise:.3g} | {bits:.1f} |", flush=True)


def moved(read: str, send: str) -> float:
    """By how much the number moved from before the sender until the receiver read it."""
    before = value(f"print({read})")
    value(send)
    return value(f"import torch\nprint({read})") - before


def value(code: str) -> float:
    """What a new Python prints that runs the code; 0 for nothing."""
    command = [sys.executable, "-c", PREAMBLE + code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout or 0)


if __name__ == "__main__":
    main()
