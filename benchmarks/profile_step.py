"""Where the milliseconds of a step of train.py go, by torch.profiler: phases of the step, and kinds of operations.

    python benchmarks/profile_step.py [--preset laptop] [--steps 50] [--threads N] [--corpus DIR]

train.py runs as it is, in this process, up to the step where the profiler starts; then the given number of steps is
measured once without the profiler and once with it. Shares are more reliable than milliseconds on a busy machine.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.profiler import ProfilerActivity, profile, record_function

import prepare
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.presets import read_preset

PROJECT = Path(__file__).resolve().parents[1]
WARM_UP_STEPS = 5
# Names of operations, and what they are; the first that is part of the name counts.
KINDS = {
    "matrix products": ("mm", "linear", "matmul", "baddbmm"),
    "attention": ("attention",),
    "optimizers' fused updates": ("_foreach", "_fused"),
    "embeddings and n-gram rows": ("embedding", "index", "coalesce", "gather", "scatter", "unique", "sparse"),
    "softmax and loss": ("softmax", "nll_loss", "cross_entropy"),
    "norms and sums": ("norm", "sum", "mean"),
    "copies, casts, shapes": ("copy", "_to", "cat", "stack", "pad", "empty", "fill", "zero", "transpose", "view"),
}
OTHER, PYTHON = "other elementwise operations", "Python, autograd and dispatch between operations"


class Measured(Exception):
    """All steps were measured: train.py ends here."""


class ProfilingClock(prepare.TrainingClock):
    """A clock that measures steps and ends the training; `namespace` is that of the running train.py."""

    namespace: ClassVar[dict[str, Any]] = {}
    num_measured = 50

    def running(self) -> bool:
        going = super().running()
        if self.step == WARM_UP_STEPS:
            self.times: list[float] = []
        elif WARM_UP_STEPS < self.step <= WARM_UP_STEPS + self.num_measured:
            self.times.append(time.perf_counter() - self.began)
        if self.step == WARM_UP_STEPS + self.num_measured:
            name_phases(self.namespace)
            self.profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)
            self.profiler.start()
        if self.step == WARM_UP_STEPS + 2 * self.num_measured:
            self.profiler.stop()
            raise Measured
        self.began = time.perf_counter()
        return going


def name_phases(namespace: dict[str, Any]) -> None:
    """Let the phases of the loop of train.py carry names in the profile."""
    namespace["gradient_pass"] = named("forward and backward", namespace["gradient_pass"])
    torch.Tensor.backward = named("backward", torch.Tensor.backward)  # type: ignore[method-assign]
    for optimizer in namespace["optimizers"]:
        optimizer.step = named(f"optimizer {type(optimizer).__name__}", optimizer.step)


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with record_function(f"phase {name}"):
            return function(*arguments, **options)

    return call


def run(source: str, num_steps: int) -> ProfilingClock:
    """Train until all steps are measured; the clock with its times and its profile."""
    clocks: list[ProfilingClock] = []

    class Clock(ProfilingClock):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            clocks.append(self)

    namespace: dict[str, Any] = {"__name__": "__main__"}
    Clock.namespace, Clock.num_measured = namespace, num_steps
    prepare.TrainingClock = Clock  # type: ignore[misc]
    try:
        exec(compile(source, "train.py", "exec"), namespace)
    except Measured:
        return clocks[0]
    raise SystemExit(f"train.py ended before {WARM_UP_STEPS + 2 * num_steps} steps: ask for fewer with --steps.")


def phases(events: Any, num_steps: int) -> Iterator[tuple[str, float]]:
    """Milliseconds of a step in each phase."""
    total: dict[str, float] = defaultdict(float)
    for event in events:
        if event.key.startswith("phase "):
            total[event.key.removeprefix("phase ")] += event.cpu_time_total / 1e3 / num_steps
    total["forward"] = total.pop("forward and backward") - total["backward"]
    yield from sorted(total.items(), key=lambda pair: -pair[1])


def kinds(events: Any, num_steps: int) -> dict[str, float]:
    """Milliseconds of a step in operations of each kind, without those that they call."""
    total: dict[str, float] = defaultdict(float)
    for event in events:
        if event.key.startswith("aten::"):
            total[kind_of(event.key)] += event.self_cpu_time_total / 1e3 / num_steps
    return dict(sorted(total.items(), key=lambda pair: -pair[1]))


def kind_of(operation: str) -> str:
    name = operation.removeprefix("aten::")
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), OTHER)


def print_table(title: str, rows: dict[str, float], step_ms: float) -> None:
    print(f"\n| {title} | ms a step | share |\n|---|---|---|")
    for name, ms in rows.items():
        print(f"| {name} | {ms:.2f} | {100 * ms / step_ms:.0f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--corpus", type=Path, help="its folder; default: the preset's corpus")
    given = parser.parse_args()
    preset = read_preset(given.preset, PROJECT / "presets")
    sizes = {"vocab_size": preset.vocab_size, "sequence_length": preset.sequence_length}
    corpus = given.corpus or prepare.prepare(preset.corpus, **sizes)
    os.environ |= {"AUTORESEARCH_CORPUS": str(corpus), "AUTORESEARCH_DEVICE": "cpu"}
    os.environ["AUTORESEARCH_MAX_STEPS"] = str(WARM_UP_STEPS + 2 * given.steps + 1)
    if given.threads:
        torch.set_num_threads(given.threads)
    source = set_parameters((PROJECT / "train.py").read_text(encoding="utf-8"), preset.parameters)
    clock = run(source, given.steps)
    events = clock.profiler.key_averages()
    step_ms = 1e3 * statistics.median(clock.times)
    in_phases = dict(phases(events, given.steps))
    of_kinds = kinds(events, given.steps)
    whole = sum(event.cpu_time_total for event in events if event.key == "phase forward and backward")
    profiled_ms = whole / 1e3 / given.steps + sum(ms for name, ms in in_phases.items() if name.startswith("optimizer"))
    print(f"\n{step_ms:.1f} ms a step without the profiler (median of {given.steps}); {profiled_ms:.1f} ms with it")
    print_table("phase", in_phases, profiled_ms)
    print_table("kind of operation", of_kinds | {PYTHON: profiled_ms - sum(of_kinds.values())}, profiled_ms)


if __name__ == "__main__":
    main()
