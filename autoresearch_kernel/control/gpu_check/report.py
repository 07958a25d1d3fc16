"""Writes a check for users and for programs: the table of its figures, and the file to post."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.version import __version__
from ...record.study import sha256, study_versions
from ...system.files import utc_now
from ...system.locations import originals
from ...system.privacy import private_to
from ...system.processes import run_program
from ..checks import Check

SCHEMA = 1  # of the file
GIT_SECONDS = 10.0
_FOLDERS = re.compile(r"(?<![\w.~:/])~?/(?:[^\s/'\":,()]+/)+")  # of a path, all but the name of the file


@dataclass(frozen=True)
class Row:
    """What a step found, and how long that took."""

    check: Check
    seconds: float


def verdict(rows: Sequence[Row]) -> str:
    """`fail` when a step failed, else `ok`; steps that were skipped by name do not count."""
    return "fail" if any(row.check.verdict == "fail" for row in rows) else "ok"


# --- the file


def document(rows: Sequence[Row], facts: dict[str, Any], *, is_complete: bool, total_seconds: float) -> dict[str, Any]:
    """What is posted: no name of a user or machine, and of paths only the last part.

    Args:
        facts: of the device, see `bench.Bench`; empty where it could not be measured.
        is_complete: whether all steps were made.
    """
    project = originals()
    versions = ("torch", "cuda", "rocm", "cudnn", "triton")
    found = {
        "schema": SCHEMA,
        "kind": "autoresearch gpu-check",
        "verdict": verdict(rows),
        "is_complete": is_complete,
        "date": utc_now(),
        "total_seconds": round(total_seconds, 1),
        "program": {"version": __version__, **_commit(project), "train_sha256": _sha256(project / "train.py")},
        "hardware": {name: value for name, value in facts.items() if name not in versions},
        "versions": study_versions() | {name: facts.get(name) for name in versions},
        "steps": [_step(row) for row in rows],
    }
    return dict(_postable(private_to(project).clean_all(found)))


def write_document(path: Path, content: dict[str, Any]) -> None:
    """Raises OSError with the name of the file where it cannot be written."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _step(row: Row) -> dict[str, Any]:
    check = row.check
    return {
        "name": check.name, "verdict": check.verdict, "seconds": round(row.seconds, 2), "found": check.found,
        "next_step": check.remedy, "facts": check.facts,
    }  # fmt: skip


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes())


def _commit(project: Path) -> dict[str, Any]:
    """The commit of a checkout, and whether tracked files were changed; None for an installed package."""
    nothing = {"commit": None, "is_modified": None}
    if not (project / ".git").exists():
        return nothing
    try:
        answers = [
            run_program(["git", "-C", str(project), *words], GIT_SECONDS)
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except OSError:  # there is no git
        return nothing
    if any(answer.returncode for answer in answers):
        return nothing
    commit, changes = (answer.stdout.decode("utf-8", "replace").strip() for answer in answers)
    return {"commit": commit, "is_modified": bool(changes)}


def _postable(value: Any) -> Any:
    """The value with paths as the name of their file alone, and with numbers that are not finite as None."""
    if isinstance(value, str):
        return _FOLDERS.sub(".../", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _postable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_postable(part) for part in value]
    return value


# --- the table


def summary(rows: Sequence[Row]) -> str:
    """The figures of all steps as tables, and how many steps passed, failed or were skipped."""
    checks = {row.check.name: row.check for row in rows}
    parts = [_trainings(checks), _attention(checks), *_comparisons(checks), _count(rows)]
    return "\n\n".join(filter(None, parts))


def _trainings(checks: dict[str, Check]) -> str:
    scores = {str(check.facts["model"]): check.facts["val_bpb"] for check in checks.values() if "model" in check.facts}
    lines = [("training", "format", "tokens/s", "MFU", "memory", "steps", "ready", "val_bpb")]
    for name, check in checks.items():
        facts = check.facts
        if "tokens_per_second" not in facts:
            continue
        memory, ready, mfu, score = (
            _figure(value, form)
            for value, form in (
                (facts["peak_memory_mb"], "{:,.0f} MiB"), (facts["start_up_seconds"], "{:.1f} s"),
                (facts["mfu_percent"], "{:.1f} %"), (scores.get(name), "{:.4f}"),
            )
        )  # fmt: skip
        speed = _figure(facts["tokens_per_second"], "{:,.0f}")
        lines.append((name, str(facts["dtype"]), speed, mfu, memory, str(facts["num_steps"]), ready, score))
    return _aligned(lines)


def _attention(checks: dict[str, Check]) -> str:
    lines = [("attention", "shape", "forward", "with backward", "TFLOP/s", "error")]
    for name, check in checks.items():
        facts = check.facts
        if "forward_ms" in facts:
            shape = " x ".join(map(str, facts["shape"]))
            times = (f"{facts['forward_ms']:.3g} ms", f"{facts['forward_backward_ms']:.3g} ms")
            lines.append((name, shape, *times, f"{facts['forward_tflops']:.3g}", f"{facts['output_error']:.1e}"))
    return _aligned(lines)


def _comparisons(checks: dict[str, Check]) -> Iterable[str]:
    """How fast a training is beside another one of the same preset."""
    for name, check in checks.items():
        preset, _, way = name.partition(" ")
        mine = check.facts.get("tokens_per_second")
        for other, words in (("eager", "not compiled"), ("outside", "outside the sandbox")):
            theirs = checks.get(f"{preset} {other}")
            same = theirs is not None and (other == "eager" or theirs.facts.get("is_compiled") == (way == "compiled"))
            if way in ("compiled", "eager") and way != other and mine and same and theirs is not None:
                speed = theirs.facts.get("tokens_per_second")
                if speed:
                    yield f"{name}: {mine / speed:.2f} times as many tokens/s as {words}"


def _count(rows: Sequence[Row]) -> str:
    count = Counter(row.check.verdict for row in rows)
    return f"{count['ok']} steps passed, {count['skip']} were skipped, {count['fail']} failed."


def _figure(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns, the first one to the left and the others to the right; "" for a heading alone."""
    if len(lines) == 1:
        return ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join("  ".join(row) for row in rows)
