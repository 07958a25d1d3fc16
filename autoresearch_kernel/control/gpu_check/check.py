"""The steps of a check in their order: each is made although others failed, and the whole ends within its limit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ...core.sanitize import one_line
from ...sandbox.kinds import probe
from ...study.create import build_corpus
from ...study.presets import measure_machine, read_preset
from ...system.explain import explain
from ...system.locations import DEVICE, originals
from ...system.temporary import own_folder
from ..checks import Check
from ..doctor import sandboxed
from .attention import compare_backends, torch_facts
from .bench import Bench, failed, skipped, variables
from .plan import LIMIT_SECONDS, PRESETS, Seconds, is_small, seconds_for, sizes_for
from .report import Row
from .scoring import WAYS, score_model
from .training import train

START_SECONDS = 15.0  # that a training needs beside its budget, at least
PROCESS_SECONDS = 10.0  # of a scorer, of a comparison of attention backends, and of a corpus that exists already


@dataclass(frozen=True)
class Step:
    """One step of the check, which makes one row or several."""

    name: str
    needs_seconds: float  # at least; with less time left it is skipped
    make: Callable[[Bench], Iterable[Check]]


def run_check(
    device: str,
    say: Callable[[str], None],
    facts: dict[str, Any],
    *,
    limit_seconds: float = LIMIT_SECONDS,
    seconds: Seconds | None = None,
) -> Iterator[Row]:
    """Make every step on a device of DEVICES, one row after the other, within about `limit_seconds`.

    Args:
        say: is called with how far a step is.
        facts: an empty dictionary, to which the first step adds those of the device.
        seconds: of trainings and measurements; by default those of `plan.seconds_for`.
    """
    project = originals()
    with nullcontext() if device == "auto" else variables(**{DEVICE: device}), own_folder() as folder:
        bench = Bench(project, folder, facts, seconds or seconds_for("cpu"), limit_seconds, say)
        yield from _guarded(bench, Step("device", 0.0, _measure_device))
        if not bench.facts:
            return
        bench.seconds = seconds or seconds_for(bench.device)
        for step in steps(bench):
            yield from _guarded(bench, step)


def steps(bench: Bench) -> Iterator[Step]:
    """All steps after the first. Which trainings come first depends on what the steps before them found."""
    yield Step("versions", 0.0, _versions)
    yield Step("sandbox", 0.0, _sandbox)
    for preset in PRESETS:
        ways = ["compiled", "eager", *(["outside"] if preset == PRESETS[0] or not bench.has_sandbox else [])]
        yield Step(f"{preset} corpus", PROCESS_SECONDS, partial(_corpus, preset=preset))
        while ways and preset not in bench.models:  # until there is one to score
            yield _training_step(bench, preset, ways.pop(0))
        for way in WAYS:
            yield Step(f"{preset} {way}", PROCESS_SECONDS, partial(_score, preset=preset, way=way))
        for way in ways:
            yield _training_step(bench, preset, way)
        yield Step(f"{preset} attention", PROCESS_SECONDS, partial(compare_backends, preset=preset))


def _training_step(bench: Bench, preset: str, way: str) -> Step:
    seconds = bench.seconds
    budget = {"compiled": seconds.main, "eager": seconds.eager, "outside": seconds.outside}[way]
    start = 0.0 if is_small(bench.device) else START_SECONDS
    return Step(f"{preset} {way}", budget + start, lambda bench: [train(bench, preset, way)])


def _score(bench: Bench, preset: str, way: str) -> list[Check]:
    return [score_model(bench, preset, way)]


def _guarded(bench: Bench, step: Step) -> Iterator[Row]:
    """The rows of a step; one that fails, whatever it raises, is a row and ends no other."""
    if bench.seconds_left() < step.needs_seconds:
        why = f"{max(0.0, bench.seconds_left()):.0f} s are left of the check's {bench.limit_seconds:.0f} s"
        yield Row(skipped(step.name, f"{why}, and it needs {step.needs_seconds:.0f} s"), 0.0)
        return
    began = bench.clock.monotonic()
    bench.say(step.name)
    try:
        for check in step.make(bench):
            now = bench.clock.monotonic()
            yield Row(check, now - began)
            began = now
    except Exception as error:  # of any kind: a check has to say what happens on machines that no one has seen yet
        words = one_line(explain(error), 400)
        if not isinstance(error, RuntimeError | ValueError | OSError):
            words = f"{type(error).__name__}: {words}"
        yield Row(failed(step.name, words), bench.clock.monotonic() - began)


# --- the first steps


def _measure_device(bench: Bench) -> Iterator[Check]:
    facts = bench.facts
    facts.update(torch_facts(bench.project) | measure_machine(bench.project, sys.executable))
    for preset in PRESETS:
        bench.sizes[preset] = sizes_for(read_preset(preset, bench.project / "presets"), facts)
    words = f"{facts['device']}: {facts['device_name']}, {facts['memory_mb'] / 1024:.0f} GB, trains in {facts['dtype']}"
    if is_small(bench.device):
        words += "; everything in small, as there is no GPU" + " in use" * bool(os.environ.get(DEVICE))
    elif facts["peak_flops"] is None:
        words += "; MFU is left out, as prepare.py has no peak of this device"
    else:
        words += f"; MFU is the share of {facts['peak_flops'] / 1e12:.0f} TFLOP/s, dense bfloat16 in the data sheet"
    yield Check("device", "ok", words)


def _versions(bench: Bench) -> Iterator[Check]:
    known = {name: bench.facts.get(name) for name in ("torch", "cuda", "rocm", "cudnn", "triton")}
    words = [f"{name} {value}" for name, value in known.items() if value is not None]
    yield Check("versions", "ok", " · ".join(words), facts=known)


def _sandbox(bench: Bench) -> Iterator[Check]:
    check = sandboxed(probe())
    bench.has_sandbox = check.verdict != "fail"
    yield check if check.verdict == "fail" else replace(check, verdict="ok")


def _corpus(bench: Bench, preset: str) -> Iterator[Check]:
    """The embedded corpus with the vocabulary and the row length of the preset, in the cache of this user."""
    sizes = bench.sizes[preset]
    wanted = {"corpus": "stdlib", "vocab_size": sizes.vocab_size, "sequence_length": sizes.sequence_length}
    folders = build_corpus(bench.project, wanted, lambda line: bench.say(f"{preset} corpus: {line}"))
    bench.corpora[preset] = folders
    meta = json.loads((folders[0] / "meta.json").read_text(encoding="utf-8"))
    facts = wanted | {name: meta[name] for name in ("num_train_tokens", "num_val_rows", "content_sha256")}
    words = f"{folders[0].name}: {meta['num_train_tokens'] / 1e6:.1f} M tokens, {meta['num_val_rows']} rows of val"
    yield Check(f"{preset} corpus", "ok", words, facts=facts)
