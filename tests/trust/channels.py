"""`python channels.py FOLDER SANDBOX HELD NUM_BITS`: sends bits from sandbox to sandbox by page cache and access times.

Scorer A sends to scorer B, B to a later A, and this one to the next training, with the real policies and `wrap` between
them. HELD is 0 to leave out what the supervisor does against it. Prints, for each direction and way, the share of bits
that arrived; 0.5 is guessing. With "names" or "no names" in place of HELD, A sends by names that it looks for and does
not find, with its calls or without them. It needs only the standard library, so that it also runs as another user.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from autoresearch_kernel.sandbox import page_cache
from autoresearch_kernel.sandbox.kinds import wrap
from autoresearch_kernel.sandbox.policy import Policy, scoring_policy, training_policy
from autoresearch_kernel.system.environment import environment

PAGE = os.sysconf("SC_PAGE_SIZE")
WAYS = ("mincore", "nowait", "timing")  # by which a process finds out which pages are in memory
DAY_SECONDS = 24 * 3600

# What a sandboxed process does: it receives, and sends anew. A page that is not in memory means 1.
AGENT = r"""
import ctypes, json, mmap, os, sys, time
job = json.loads(sys.stdin.readline())
page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
def opened(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
    return descriptor
def mincore(path, count):
    descriptor, found = opened(path), ctypes.create_string_buffer(count)
    address = libc.mmap(None, count * page, 1, 2, descriptor, 0)
    libc.mincore(address, count * page, found)
    return [1 - (byte & 1) for byte in found.raw]
def nowait(path, count):
    descriptor, buffer = opened(path), bytearray(1)
    def missing(i):
        try: return int(os.preadv(descriptor, [buffer], i * page, os.RWF_NOWAIT) < 1)
        except BlockingIOError: return 1
    return [missing(i) for i in range(count)]
def timing(path, count):
    descriptor, clock = opened(path), time.perf_counter_ns
    def nanoseconds(i):
        begun = clock()
        os.pread(descriptor, 1, i * page)
        return clock() - begun
    return [int(nanoseconds(i) > 20_000) for i in range(count)]
def atime(path, count):
    return [int(os.stat(f"{path}/{i}.py").st_atime > job["began"] - 3600) for i in range(count)]
def evict(path, bits):
    descriptor = opened(path)
    with mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as pages:
        pages.madvise(21)  # MADV_PAGEOUT
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for i, bit in enumerate(bits):
        if not bit: os.pread(descriptor, 1, i * page)
def touch(path, bits):
    for i, bit in enumerate(bits):
        if bit:
            with open(f"{path}/{i}.py", "rb") as file: file.read(1)
def names(path, count):
    clock = time.perf_counter_ns
    def nanoseconds(i):
        begun = clock()
        os.access(f"{path}/missing{i}", os.F_OK)
        return clock() - begun
    times = [nanoseconds(i) for i in range(count)]
    middle = sorted(times)[count // 2]
    return [int(needed < middle) for needed in times]
def look(path, bits):
    for i, bit in enumerate(bits):
        if bit: os.access(f"{path}/missing{i}", os.F_OK)
if job["package"]:
    sys.path.insert(0, job["package"])
    from autoresearch_kernel.scoring import no_paths
    assert no_paths.can_refuse_paths()
    no_paths.refuse_paths()
get = {"names": names, "mincore": mincore, "nowait": nowait, "timing": timing, "artefact": nowait, "atime": atime}
got = {way: get[way](path, job["count"]) for way, path in job["receive"].items()}
for way, (path, message) in job["send"].items():
    {"atime": touch, "names": look}.get(way, evict)(path, [int(bit) for bit in message])
print(json.dumps({way: "".join(map(str, bits)) for way, bits in got.items()}))
"""


class World:
    """A project, an artefact, and a folder that Python imports from, with files that carry bits."""

    def __init__(self, folder: Path, sandbox: str, held: bool, num_bits: int) -> None:
        self.folder, self.sandbox, self.held, self.num_bits = folder, sandbox, held, num_bits
        for name in ("project", "imports/times", "handover", "own", "scratch", "corpora/a"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "project" / "prepare.py").write_text("")
        self.files = {way: folder / "imports" / f"{way}.so" for way in WAYS} | {"artefact": folder / "model.pkl"}
        for file in self.files.values():
            with open(file, "wb") as opened:
                opened.write(os.urandom(PAGE) * num_bits)
                os.fsync(opened.fileno())  # only written pages can be evicted
        self.times = folder / "imports" / "times"
        for i in range(num_bits if sandbox == "landlock" else 0):  # bubblewrap's paths are mounted read-only
            (self.times / f"{i}.py").write_text("x")
            os.utime(self.times / f"{i}.py", (time.time() - 2 * DAY_SECONDS,) * 2)

    def package(self) -> Path:
        """The folder in which a sandboxed process finds this program."""
        return self.folder / "scratch" / "import" if self.sandbox == "landlock" else Path(__file__).parents[2]

    def policy(self, kind: str) -> Policy:
        project, scratch = self.folder / "project", None if self.sandbox == "bubblewrap" else self.folder / "scratch"
        if kind == "training":
            places = self.folder / "corpora" / "a", project, self.folder / "handover", self.folder / "own"
            policy = training_policy(*places, seconds=60, gpu=False)
        else:
            policy = scoring_policy(self.files["artefact"], project, scratch, gpu=False)
        return policy if self.held else replace(policy, in_memory=None)

    def start(self, kind: str, receive: list[str], send: dict[str, str], loses_calls: bool = False) -> dict[str, str]:
        """What a new process of a kind receives by some ways, before it sends messages by some ways."""
        places = {**self.files, "atime": self.times, "names": self.times}
        paths = {way: str(path) for way, path in places.items()}
        job = {
            "count": self.num_bits, "began": time.time(), "receive": {way: paths[way] for way in receive},
            "send": {way: (paths[way], message) for way, message in send.items()},
            "package": str(self.package()) if loses_calls else "",
        }  # fmt: skip
        command = wrap(self.policy(kind), [sys.executable, "-I", "-S", "-c", AGENT], self.sandbox)
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, env=environment("bits"), cwd="/"
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found: dict[str, str] = json.loads(done.stdout)
        return found


def chain(world: World) -> dict[str, dict[str, float]]:
    """The share of bits that arrived, for each direction and way."""
    rng, arrived = random.Random(1), {}
    hops = (("", "scorer"), ("A to B", "scorer"), ("B to A", "scorer"), ("A to the next training", "training"))
    sent: dict[str, str] = {}
    for direction, kind in hops:
        ways = [*WAYS, *(["artefact"] if kind == "scorer" else [])]
        ways += ["atime"] if world.sandbox == "landlock" and direction in ("", "A to B") else []  # once a day
        messages = {way: balanced(world.num_bits, rng) for way in ways}
        got = world.start(kind, [way for way in ways if way in sent], messages)
        if direction:
            arrived[direction] = {
                way: sum(a == b for a, b in zip(bits, sent[way], strict=True)) / world.num_bits
                for way, bits in got.items()
            }
        sent = messages
    return arrived


def by_names(world: World, loses_calls: bool) -> float:
    """The share of bits that arrive by names that A looks for and does not find."""
    message = balanced(world.num_bits, random.Random(2))
    world.start("scorer", [], {"names": message}, loses_calls)
    got = world.start("scorer", ["names"], {})["names"]
    return sum(a == b for a, b in zip(got, message, strict=True)) / world.num_bits


def balanced(num_bits: int, rng: random.Random) -> str:
    """As many ones as zeros, so that a receiver that always says the same is right in half of the cases."""
    bits = ["0", "1"] * (num_bits // 2)
    rng.shuffle(bits)
    return "".join(bits)


if __name__ == "__main__":
    folder, sandbox, held, num_bits = sys.argv[1:]
    os.environ["PYTHONPATH"] = str(Path(folder) / "imports")
    world = World(Path(folder), sandbox, held == "1", int(num_bits))
    found = by_names(world, held == "no names") if held.endswith("names") else chain(world)
    page_cache.release()
    print(json.dumps(found))
