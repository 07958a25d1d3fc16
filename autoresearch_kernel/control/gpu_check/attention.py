"""The attention backends of torch side by side, and the versions: what `in_torch` says, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

from ...core.sanitize import parse_object
from ...system.environment import SETTINGS, UTF8
from ...system.locations import PROJECT
from ...system.measuring import last_error
from ...system.start import python_command
from ..checks import Check
from .bench import Bench, failed, skipped
from .plan import ATTENTION_TOLERANCE, backends_of

PROGRAM = "autoresearch_kernel.control.gpu_check.in_torch"
LIMIT_SECONDS = 120.0  # of one process, which imports torch and compares the backends


def torch_facts(project: os.PathLike[str]) -> dict[str, Any]:
    """What `in_torch.facts` says. Raises RuntimeError with the last words of the process when it fails."""
    answers, complaint = _ask(project, "facts")
    if not answers:
        raise RuntimeError(f"torch does not load here: {complaint}")
    if "refused" in answers[0]:
        raise RuntimeError(answers[0]["refused"])
    return answers[0]


def compare_backends(bench: Bench, preset: str) -> Iterator[Check]:
    """A row for each backend of `scaled_dot_product_attention`, at the shape of a preset."""
    shape, dtype = bench.sizes[preset].attention_shape, bench.facts["dtype"]
    waiting = []
    for row in backends_of(bench.device, bool(bench.facts.get("rocm"))):
        if row["skipped"]:
            yield skipped(f"{preset} {row['backend']}", row["skipped"])
        else:
            waiting.append(row["backend"])
    while waiting:  # a backend that ends the process is named, and the others are asked in another one
        bench.say(f"{preset}: compares attention backends ({', '.join(waiting)})")
        request = {"shape": shape, "dtype": dtype, "seconds": bench.seconds.attention, "backends": waiting}
        answers, complaint = _ask(bench.project, "attention", json.dumps(request))
        for answer in answers:
            yield _row(f"{preset} {answer['backend']}", answer, shape, dtype)
        if len(answers) < len(waiting) and not (answers and "error" in answers[-1]):
            yield failed(f"{preset} {waiting[len(answers)]}", f"its process ended: {complaint}", **_facts(shape, dtype))
            answers.append({})
        waiting = waiting[len(answers) :]


def _row(name: str, answer: dict[str, Any], shape: tuple[int, ...], dtype: str) -> Check:
    if "skipped" in answer:
        return skipped(name, answer["skipped"])
    if "error" in answer:
        return failed(name, answer["error"], **_facts(shape, dtype))
    tolerance = ATTENTION_TOLERANCE[dtype]
    error = max(answer["output_error"], answer["gradient_error"])
    words = (
        f"{answer['forward_ms']:.3g} ms forward, {answer['forward_backward_ms']:.3g} ± "
        f"{answer['forward_backward_spread_ms']:.2g} ms with backward; differs from float32 by {error:.1e} of the "
        f"largest value, {tolerance:g} allowed in {dtype}"
    )
    facts = {**_facts(shape, dtype), **answer, "tolerance": tolerance}
    if not error <= tolerance:  # a NaN, too
        remedy = "Do not train with this backend on this device; post the file with the versions in it."
        return Check(name, "fail", words, remedy, facts)
    return Check(name, "ok", words, facts=facts)


def _facts(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype}


def _ask(project: os.PathLike[str], *words: str) -> tuple[list[dict[str, Any]], str]:
    """The answers of one process, and its last words."""
    env = SETTINGS | dict(os.environ) | UTF8 | {PROJECT: str(project)}
    try:
        done = subprocess.run(
            python_command(PROGRAM, *words), env=env, cwd=project, capture_output=True, encoding="utf-8",
            errors="replace", timeout=LIMIT_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode("utf-8", "replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return _answers(printed), f"it did not end within {LIMIT_SECONDS:.0f} s"
    return _answers(done.stdout), last_error(done.stderr) or f"exit status {done.returncode}"


def _answers(printed: str) -> list[dict[str, Any]]:
    return [answer for line in printed.splitlines() if (answer := parse_object(line)) is not None]
