"""Measures this machine in a child process, so that torch is loaded only there.

The child first reports what torch and prepare.py say about the machine, then waits for requests. The caller can make
other checks meanwhile: they do not disturb a measurement that has not been requested yet.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .environment import SETTINGS, UTF8
from .locations import PROJECT
from .start import python_command

_NAMES_AN_ERROR = re.compile(r"[\w.]*(Error|Exception)(:|$)")
LONGEST_WAIT_SECONDS = 120.0  # for one answer: importing torch from a cold disk can take most of a minute

_CHILD = """
import json, os, sys, time
import torch
from prepare import PrepareError, autocast, autocast_dtype, device_name, get_device

def say(value):
    print(json.dumps(value), flush=True)

try:
    device = get_device()
    dtype = autocast_dtype(device)
except PrepareError as error:
    say({"refused": str(error)})
    sys.exit()
on_cpu = device.type == "cpu"
gpu_memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
memory = gpu_memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
say({
    "device": device.type, "device_name": device_name(device), "dtype": str(dtype).removeprefix("torch."),
    "num_cores": os.cpu_count(), "num_threads": torch.get_num_threads(),
    "instructions": torch.backends.cpu.get_cpu_capability(),
    "memory_mb": round(memory / 2**20), "gpu_memory_mb": round(gpu_memory / 2**20),
})

def synchronize():
    if not on_cpu:
        getattr(torch, device.type).synchronize()

def product_flops(num_slices, slice_seconds, warm_up_seconds):
    size = 384 if on_cpu else 4096
    x, y = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    def products_per_second(seconds):
        started, count = time.perf_counter(), 0
        while (now := time.perf_counter()) - started < seconds:
            with autocast(device):
                x @ y
            synchronize()
            count += 1
        return count / (now - started)
    products_per_second(warm_up_seconds)
    return [2 * size**3 * products_per_second(slice_seconds) for _ in range(num_slices)]

def training_flops(seconds):
    rows, width, hidden = (1024, 128, 512) if on_cpu else (16384, 1024, 4096)
    x = torch.randn(rows, width, device=device)
    up = torch.randn(hidden, width, device=device, requires_grad=True)
    down = torch.randn(width, hidden, device=device, requires_grad=True)
    def step_seconds(steps):
        started = time.perf_counter()
        for _ in range(steps):
            with autocast(device):
                y = torch.relu(x @ up.T).square() @ down.T
            torch.autograd.grad(y.float().square().mean(), (up, down))
        synchronize()
        return (time.perf_counter() - started) / steps
    step_seconds(5)
    fastest, ends = step_seconds(3), time.perf_counter() + seconds
    while time.perf_counter() < ends:  # short bursts: the fastest of them was not disturbed
        fastest = min(fastest, step_seconds(3))
    return 2 * rows * width * hidden * 5 / fastest

for line in sys.stdin:
    name, *arguments = json.loads(line)
    say({"product": product_flops, "training": training_flops}[name](*arguments))
"""


def last_error(said: str) -> str:
    """The last line that names an error, else the last line: CUDA's errors go on with lines of general advice."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if _NAMES_AN_ERROR.match(line)), lines[-1] if lines else "")


class SettingRefused(RuntimeError):
    """prepare.py refused a requested device or number format; the message says what to do."""


class MeasuringProcess:
    """The child process. Every method raises RuntimeError, with the child's last words, when it ends early."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self.stdin: IO[str] = process.stdin
        self.stdout: IO[str] = process.stdout
        self.stderr: IO[str] = process.stderr

    def facts(self) -> dict[str, Any]:
        """Device, number format, threads and memory. Call it once, and first. Raises SettingRefused."""
        found = dict(self._answer())
        if "refused" in found:
            raise SettingRefused(found["refused"])
        return found

    def product_flops(self, num_slices: int, slice_seconds: float, warm_up_seconds: float) -> list[float]:
        """FLOP/s of a matrix product, one value for each slice of time."""
        return list(self._request("product", num_slices, slice_seconds, warm_up_seconds))

    def training_flops(self, seconds: float = 2.0) -> float:
        """FLOP/s of the forward and backward pass of a small layer, in the fastest burst within `seconds`."""
        return float(self._request("training", seconds))

    def _request(self, *words: Any) -> Any:
        with suppress(BrokenPipeError):  # the child has ended; reading its answer says why
            self.stdin.write(json.dumps(words) + "\n")
            self.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        if not select.select([self.stdout], [], [], LONGEST_WAIT_SECONDS)[0]:
            raise RuntimeError(f"it said nothing for {LONGEST_WAIT_SECONDS:.0f} s")
        line = self.stdout.readline()
        if not line:
            raise RuntimeError(last_error(self.stderr.read()) or "it ended without a word")
        return json.loads(line)


@contextmanager
def open_measuring_process(project: Path, python: str = sys.executable) -> Iterator[MeasuringProcess]:
    """Start the child with the settings that trainings have, and kill it at the end of the block."""
    with subprocess.Popen(
        [python, *python_command("-c", _CHILD)[1:]], cwd=project,
        env=SETTINGS | dict(os.environ) | UTF8 | {PROJECT: str(project)}, encoding="utf-8", errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        measuring = MeasuringProcess(process)
        try:
            yield measuring
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # of a request that an ended child did not read
                measuring.stdin.close()
