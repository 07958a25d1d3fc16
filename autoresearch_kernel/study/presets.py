"""Chooses the sizes of the baseline for a machine and a budget: from a file in presets/, or after a measurement.

`preset_points.py` has the tuned sizes. This module edits no train.py and prepares no corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..system.locations import originals
from ..system.measuring import open_measuring_process
from ..system.shell import shell_command
from .options import PRESETS
from .preset_points import CONTEXT, VOCAB_SIZE, dropout_for, sizes_for

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
    num_tokens: float | None = None  # that the training will see, where it can be foreseen


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
    """The named preset from `folder`, or for `auto` the one that suits the measured machine and the budget.

    `none` has the corpus of `auto` and no parameters, so that those of train.py stay. Raises PresetError.
    """
    if name not in PRESETS:
        raise PresetError(f"There is no preset {name!r}. Choose one of {', '.join(PRESETS)}.")
    if name == "none" and measured is not None:
        chosen = choose_preset("auto", budget_seconds=budget_seconds, measured=measured, folder=folder)
        return replace(chosen, name=name, parameters={}, reason="the sizes of train.py stay as they are")
    if name == "none":
        return Preset(name, {}, "packages", VOCAB_SIZE, CONTEXT, "the sizes of train.py stay as they are")
    if name != "auto":
        return read_preset(name, folder)
    if measured is None:
        return read_preset("laptop", folder)
    if measured["device"] == "cpu" or measured["flops"] < GPU_FLOPS:
        return _for_cpu(budget_seconds, measured)
    return _for_gpu(measured, folder)


def fit_to_corpus(preset: Preset, corpus_tokens: int) -> Preset:
    """The preset with the dropout that suits a corpus of `corpus_tokens` training tokens, where it can be foreseen."""
    if preset.num_tokens is None or not preset.parameters:
        return preset
    dropout = dropout_for(preset.num_tokens, corpus_tokens)
    epochs = f"; about {preset.num_tokens / max(1, corpus_tokens):.1f} epochs of this corpus, dropout {dropout:g}"
    return replace(preset, parameters=preset.parameters | {"DROPOUT": dropout}, reason=preset.reason + epochs)


def read_parameters_file(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What presets/<name>.yaml holds; from this program's own presets where `folder` lacks it. Raises PresetError."""
    known = (folder or Path.cwd() / "presets", originals() / "presets")
    paths = [each / f"{name}.yaml" for each in known]
    path = next(filter(Path.is_file, paths), paths[0])
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PresetError(f"The preset {name} cannot be read: {error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PresetError(
            f"{path} is not YAML ({error}). Correct it, or copy it again: `{shell_command('new')}`."
        ) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise PresetError(f"{path} is not a preset. It needs corpus, vocab_size, sequence_length and `NAME: value`.")
    return values


def read_preset(name: str, folder: Path | None = None) -> Preset:
    """presets/<name>.yaml: parameters in capitals, wishes about the corpus in small letters."""
    values = read_parameters_file(name, folder)
    parameters = {key: value for key, value in values.items() if key.isupper() and key != "PRESET"}
    for key in ("vocab_size", "sequence_length", "TOTAL_BATCH_SIZE"):
        if key in values and (type(values[key]) is not int or values[key] < 1):
            raise PresetError(f"presets/{name}.yaml: {key} is {values[key]!r}: write a whole number, 1 or more.")
    try:
        corpus, vocab_size, sequence_length = (values[key] for key in ("corpus", "vocab_size", "sequence_length"))
    except KeyError as error:
        raise PresetError(
            f"presets/{name}.yaml is not a preset ({error}). It needs corpus, vocab_size, sequence_length and lines "
            "`NAME: value`."
        ) from error
    return Preset(name, parameters, corpus, vocab_size, sequence_length, f"from presets/{name}.yaml")


def _for_cpu(budget_seconds: float, measured: dict[str, Any]) -> Preset:
    """The sizes for the amount of computing that this machine does in the budget."""
    speed = measured["flops"] / REFERENCE_FLOPS
    seconds = budget_seconds * speed
    sizes = sizes_for(seconds)
    chosen = sizes.parameters
    reason = (
        f"{measured['num_cores']} cores at {speed:.2f} times the reference machine's speed, so {budget_seconds:g} s do "
        f"the work of {seconds:.0f} s there: depth {chosen['DEPTH']}, {chosen['MODEL_DIM']} wide, "
        f"{chosen['TOTAL_BATCH_SIZE']} tokens a step"
    )
    return Preset("auto", dict(chosen), "packages", VOCAB_SIZE, CONTEXT, reason, sizes.num_tokens)


def _for_gpu(measured: dict[str, Any], folder: Path | None) -> Preset:
    name, flops, memory_mb = measured["device_name"], measured["flops"], measured["memory_mb"]
    if flops >= H100_FLOPS and memory_mb >= H100_MEMORY_MB:
        preset = read_preset("h100", folder)
        parameters = preset.parameters
    else:
        preset = read_preset("gpu", folder)
        parameters = preset.parameters | {"DEVICE_BATCH_SIZE": rows_that_fit(preset, memory_mb)}
    reason = f"{name} at {flops / 1e12:.0f} TFLOP/s with {memory_mb / 1024:.0f} GB: presets/{preset.name}.yaml"
    return Preset("auto", parameters, preset.corpus, preset.vocab_size, preset.sequence_length, reason)


def rows_that_fit(preset: Preset, memory_mb: int) -> int:
    """The largest power of two of rows whose scores, the largest tensor, take a tenth of the memory in float32.

    A step has at most as many rows, where the preset says how many tokens it has.
    """
    row_mb = 4 * preset.sequence_length * preset.vocab_size / 2**20
    rows = max(1, int(memory_mb / 10 / row_mb))
    fitting = 2 ** (rows.bit_length() - 1)
    total = preset.parameters.get("TOTAL_BATCH_SIZE")
    return fitting if total is None else max(1, min(fitting, total // preset.sequence_length))
