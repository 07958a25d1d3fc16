"""What a check trains, measures and compares on a device: sizes, seconds and tolerances. Pure functions of facts.

A GPU gets the sizes of presets/gpu.yaml and presets/h100.yaml, made smaller by name where its memory or its speed does
not suffice. A processor gets the same steps in small, so that they can be tried without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...study.presets import H100_MEMORY_MB, Preset, rows_that_fit

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")  # ROCm is called cuda by torch
PRESETS = ("gpu", "h100")
LIMIT_SECONDS = 480.0  # of the whole check; a step that would not end before it is skipped by name
COMPILING = ("cuda",)  # devices on which train.py compiles its model: NVIDIA, and AMD through ROCm
LONGEST_STEP_SECONDS = 6.0  # of training: with longer steps, too few would fit into a minute

# Largest error of attention, as a share of the largest value: bfloat16 keeps 8 bits, and a product of float32 may be
# made with the 10 bits of TF32.
ATTENTION_TOLERANCE = {"bfloat16": 2e-2, "float32": 2e-3}
# Largest difference of one token's nats between two scorers with the same settings. In bfloat16 it is what the audit
# takes for an honest answer (`scoring.audit.MISMATCH_NATS`).
REPEAT_NATS = {"bfloat16": 2e-2, "float32": 1e-4}
# Largest difference of val_bpb between scoring in bfloat16 and in float32.
FORMAT_BPB = 0.01

SMALL_PARAMETERS = {
    "gpu": {"DEPTH": 1, "TOTAL_BATCH_SIZE": 512},
    "h100": {"DEPTH": 2, "TOTAL_BATCH_SIZE": 1024},
}
SMALL = {
    "MODEL_DIM": 64, "NUM_HEADS": 2, "HEAD_DIM": 32, "MLP_RATIO": 2, "NGRAM_ROWS": 2**12, "SEQUENCE_LENGTH": 64,
    "DEVICE_BATCH_SIZE": 8,
}  # fmt: skip
SMALL_VOCABULARY, SMALL_LENGTH = 512, 64


@dataclass(frozen=True)
class Seconds:
    """How long each kind of training lasts, and what a training and a scorer need beside that."""

    main: float  # the run that is scored
    eager: float  # beside a compiled one, for its speed alone
    outside: float  # for its speed alone
    start: float  # most that a training may take to start, compile and evaluate
    attention: float  # of one backend in one direction


@dataclass(frozen=True)
class Sizes:
    """A preset as this device can train it."""

    preset: str
    parameters: Mapping[str, Any]
    vocab_size: int
    sequence_length: int
    reduced: str  # what is smaller than in the preset, by name and with the reason; "" when nothing is

    @property
    def attention_shape(self) -> tuple[int, int, int, int]:
        """(rows, heads, tokens, width of a head) of the comparison of attention backends; at most 8 rows."""
        rows, heads = min(8, self.parameters["DEVICE_BATCH_SIZE"]), self.parameters["NUM_HEADS"]
        return rows, heads, self.parameters["SEQUENCE_LENGTH"], self.parameters["HEAD_DIM"]


def is_small(device: str) -> bool:
    """Whether the check runs in small, as on a processor."""
    return device == "cpu"


def seconds_for(device: str) -> Seconds:
    if is_small(device):
        return Seconds(main=2.0, eager=2.0, outside=2.0, start=60.0, attention=0.2)
    return Seconds(main=60.0, eager=20.0, outside=20.0, start=150.0, attention=0.5)


def sizes_for(preset: Preset, facts: Mapping[str, Any]) -> Sizes:
    """What of a preset this device trains.

    Args:
        facts: `device`, `memory_mb` and `flops` (FLOP/s of a small training) of `study.presets.measure_machine`.
    """
    if is_small(facts["device"]):
        parameters = {**preset.parameters, **SMALL, **SMALL_PARAMETERS[preset.name]}
        return Sizes(preset.name, parameters, SMALL_VOCABULARY, SMALL_LENGTH, "sizes for a processor")
    rows, total = preset.parameters["DEVICE_BATCH_SIZE"], preset.parameters["TOTAL_BATCH_SIZE"]
    fewer_rows = rows if facts["memory_mb"] >= H100_MEMORY_MB else min(rows, rows_that_fit(preset, facts["memory_mb"]))
    fewer_tokens, step_seconds = total, step_flops(preset) / facts["flops"]
    while step_seconds * fewer_tokens / total > LONGEST_STEP_SECONDS and fewer_tokens > preset.sequence_length:
        fewer_tokens //= 2
    reduced = []
    if fewer_tokens < total:
        reduced.append(f"TOTAL_BATCH_SIZE {fewer_tokens} instead of {total}: a step would take {step_seconds:.0f} s")
    most = fewer_tokens // preset.sequence_length
    if min(fewer_rows, most) < rows:
        why = f"{facts['memory_mb'] / 1024:.0f} GB of memory" if fewer_rows <= most else "as many as a step has"
        fewer_rows = min(fewer_rows, most)
        reduced.append(f"DEVICE_BATCH_SIZE {fewer_rows} instead of {rows}: {why}")
    parameters = {**preset.parameters, "TOTAL_BATCH_SIZE": fewer_tokens, "DEVICE_BATCH_SIZE": fewer_rows}
    return Sizes(preset.name, parameters, preset.vocab_size, preset.sequence_length, "; ".join(reduced))


def step_flops(preset: Preset) -> float:
    """FLOPs of one training step of train.py, about: 6 for each weight of a matrix and token."""
    sizes = preset.parameters
    width = sizes["NUM_HEADS"] * sizes["HEAD_DIM"]
    block = (4 * width + 2 * sizes["MLP_RATIO"] * sizes["MODEL_DIM"]) * sizes["MODEL_DIM"]
    weights = sizes["DEPTH"] * block + preset.vocab_size * sizes["MODEL_DIM"]
    return float(6 * weights * sizes["TOTAL_BATCH_SIZE"])


def backends_of(device: str, is_rocm: bool) -> tuple[dict[str, str], ...]:
    """The attention backends of torch, each with the reason why this device is not asked for it, "" where it is."""
    only_cuda = "" if device == "cuda" else f"torch has this backend on CUDA and ROCm, not on {device}"
    has_choice = device in ("cuda", "cpu")
    fused = "" if has_choice else f"torch does not let a program choose on {device}: see the row `default`"
    cudnn = "ROCm has no cuDNN" if is_rocm else only_cuda
    table = {"math": "", "default": "", "flash": fused, "efficient": only_cuda, "cudnn": cudnn}
    return tuple({"backend": name, "skipped": why} for name, why in table.items())
