"""The sizes of a train.py that a user runs by hand: those that a study with the same budget has on this machine.

`prepare.preset_parameters` calls this module outside of experiments only. It writes no file but the machine's speed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..system.known_speed import known_flops, remember_flops
from .preset_points import sizes_for
from .presets import choose_preset, fit_to_corpus, measure_machine

SHIPPED_SECONDS = 60  # reference seconds of the point whose sizes train.py comes with
SWITCH = "PRESET"  # parameter of train.py


def shipped_parameters() -> dict[str, Any]:
    """The sizes that train.py comes with: a parameter with another value was changed by its user."""
    return {**sizes_for(SHIPPED_SECONDS).parameters, "DROPOUT": 0.0}


def without_own_values(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's parameters without those to which a user gave another value in train.py, or by papermill."""
    shipped = shipped_parameters()
    is_own = {name for name in parameters if name in shipped and values.get(name) != shipped[name]}
    return {name: value for name, value in parameters.items() if name in values and name not in is_own}


def parameters_by_hand(
    name: str,
    values: Mapping[str, Any],
    *,
    project: Path,
    machine: Mapping[str, Any],
    budget_seconds: float,
    corpus_tokens: int,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """What the preset `name` changes in train.py, after a line that names it.

    Args:
        values: the present values by name, as train.py has them.
        machine: device, device_name, dtype and num_threads, as `measure_machine` says them.
        corpus_tokens: tokens to train on in the corpus that is in use.

    Raises PresetError for a name that no preset has and for a machine that cannot be measured.
    """
    measured = None
    if name == "auto":
        measured = _measured(project, machine, say)
    preset = choose_preset(name, budget_seconds=budget_seconds, measured=measured, folder=project / "presets")
    fitted = fit_to_corpus(preset, corpus_tokens).parameters
    changed = {k: v for k, v in without_own_values(fitted, values).items() if v != values[k]}
    words = ", ".join(f"{name} {value}" for name, value in changed.items()) or "it changes nothing"
    say(f'Preset {name} for {budget_seconds:g} s: {words} (PRESET = "none" keeps the sizes of the file)')
    return changed


def _measured(project: Path, machine: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The facts of this machine with the fastest speed that is known of it, measured only where none is."""
    flops = known_flops(machine)
    if flops is not None:
        return {**machine, "flops": flops}
    say("Measuring this machine once, to choose sizes that fit (about five seconds) ...")
    measured = measure_machine(project, sys.executable)
    return measured | {"flops": remember_flops(measured, measured["flops"])}
