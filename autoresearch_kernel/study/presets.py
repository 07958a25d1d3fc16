"""Chooses the sizes of the baseline for a machine and a budget: from a file in presets/, or after a measurement.

The module has the tuned sizes. It edits no train.py and prepares no corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..system.locations import originals
from ..system.measuring import open_measuring_process
from .options import PRESETS

# FLOP/s of the measurement on the machine where the CPU points were tuned: 2 cores with AVX2, float32, both quiet.
REFERENCE_FLOPS = 9.0e10
H100_FLOPS, H100_MEMORY_MB = 2.5e14, 70_000  # from here on the sizes of the original pay
GPU_FLOPS = 5e12  # a GPU slower than this is treated as a fast CPU


class PresetError(ValueError):
    """A preset that does not exist or cannot be read; the message names it and what to do."""


@dataclass(frozen=True)
class Preset:
    """Parameters to fold into train.py, and the corpus that suits them."""

    name: str
    parameters: dict[str, Any] = field(hash=False)
    corpus: str
    vocab_size: int  # special tokens included
    sequence_length: int  # tokens in a row
    reason: str


@dataclass(frozen=True)
class Point:
    """What was best for `budget_seconds` on the reference machine."""

    budget_seconds: float
    sequence_length: int
    vocab_size: int
    parameters: Mapping[str, Any]


CPU_POINTS = (
    Point(30, 128, 2048, {
        "DEPTH": 1, "MODEL_DIM": 128, "NUM_HEADS": 2, "HEAD_DIM": 64, "MLP_RATIO": 2, "NGRAM_ROWS": 2**16,
        "SEQUENCE_LENGTH": 128, "DEVICE_BATCH_SIZE": 8, "TOTAL_BATCH_SIZE": 2**10,
    }),
    Point(60, 128, 2048, {
        "DEPTH": 1, "MODEL_DIM": 128, "NUM_HEADS": 2, "HEAD_DIM": 64, "MLP_RATIO": 2, "NGRAM_ROWS": 2**16,
        "SEQUENCE_LENGTH": 128, "DEVICE_BATCH_SIZE": 8, "TOTAL_BATCH_SIZE": 2**10,
    }),
    Point(300, 256, 2048, {
        "DEPTH": 2, "MODEL_DIM": 128, "NUM_HEADS": 2, "HEAD_DIM": 64, "MLP_RATIO": 2, "NGRAM_ROWS": 2**16,
        "SEQUENCE_LENGTH": 256, "DEVICE_BATCH_SIZE": 4, "TOTAL_BATCH_SIZE": 2**10,
    }),
)  # fmt: skip


def measure_machine(project: Path, python: str) -> dict[str, Any]:
    """Device, number format, memory and speed (`flops`, FLOP/s of a small training), within a few seconds.

    Raises PresetError when the measuring process fails.
    """
    try:
        with open_measuring_process(project, python) as process:
            return process.facts() | {"flops": process.training_flops()}
    except (OSError, RuntimeError) as error:
        raise PresetError(f"This machine could not be measured: {error}") from error


def choose_preset(
    name: str, *, budget_seconds: float, measured: dict[str, Any] | None = None, folder: Path | None = None
) -> Preset:
    """The named preset from `folder`, or for `auto` the one that suits the measured machine and the budget."""
    if name not in PRESETS:
        raise PresetError(f"There is no preset {name!r}. Choose one of {', '.join(PRESETS)}.")
    if name != "auto":
        return read_preset(name, folder)
    if measured is None:
        return read_preset("laptop", folder)
    if measured["device"] == "cpu" or measured["flops"] < GPU_FLOPS:
        return _for_cpu(budget_seconds, measured)
    return _for_gpu(measured, folder)


def read_preset(name: str, folder: Path | None = None) -> Preset:
    """presets/<name>.yaml: parameters in capitals, wishes about the corpus in small letters."""
    known = (folder or Path.cwd() / "presets", originals() / "presets")  # those of this program at last
    path = next(filter(Path.is_dir, known)) / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        parameters = {key: value for key, value in values.items() if key.isupper()}
        corpus, vocab_size, sequence_length = (values[key] for key in ("corpus", "vocab_size", "sequence_length"))
        return Preset(name, parameters, corpus, vocab_size, sequence_length, f"from presets/{path.name}")
    except OSError as error:
        raise PresetError(f"The preset {name} cannot be read: {error}.") from error
    except (yaml.YAMLError, AttributeError, KeyError) as error:
        raise PresetError(
            f"{path} is not a preset ({error}). It needs corpus, vocab_size, sequence_length and lines `NAME: value`."
        ) from error


def _for_cpu(budget_seconds: float, measured: dict[str, Any]) -> Preset:
    """The tuned point whose amount of computing is nearest, as a ratio, to what this machine does in the budget."""
    speed = measured["flops"] / REFERENCE_FLOPS
    reach = max(budget_seconds * speed, 1e-3)
    point = min(CPU_POINTS, key=lambda p: max(p.budget_seconds / reach, reach / p.budget_seconds))
    sizes = point.parameters
    reason = (
        f"{measured['num_cores']} cores at {speed:.2f} times the reference machine's speed, so {budget_seconds:g} s do "
        f"the work of {reach:.0f} s there; tuned for {point.budget_seconds:g} s: depth {sizes['DEPTH']}, "
        f"{sizes['MODEL_DIM']} wide, {point.sequence_length} tokens of context"
    )
    return Preset("auto", dict(sizes), "stdlib", point.vocab_size, point.sequence_length, reason)


def _for_gpu(measured: dict[str, Any], folder: Path | None) -> Preset:
    name, flops, memory_mb = measured["device_name"], measured["flops"], measured["memory_mb"]
    if flops >= H100_FLOPS and memory_mb >= H100_MEMORY_MB:
        preset = read_preset("h100", folder)
        parameters = preset.parameters
    else:
        preset = read_preset("gpu", folder)
        parameters = preset.parameters | {"DEVICE_BATCH_SIZE": _rows_that_fit(preset, memory_mb)}
    reason = f"{name} at {flops / 1e12:.0f} TFLOP/s with {memory_mb / 1024:.0f} GB: presets/{preset.name}.yaml"
    return Preset("auto", parameters, preset.corpus, preset.vocab_size, preset.sequence_length, reason)


def _rows_that_fit(preset: Preset, memory_mb: int) -> int:
    """The largest power of two of rows whose scores, the largest tensor, take a tenth of the memory in float32."""
    row_mb = 4 * preset.sequence_length * preset.vocab_size / 2**20
    rows = max(1, int(memory_mb / 10 / row_mb))
    most = preset.parameters["TOTAL_BATCH_SIZE"] // preset.sequence_length
    return int(min(2 ** (rows.bit_length() - 1), most))
