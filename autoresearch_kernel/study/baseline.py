"""The parameters of experiment 0: what the preset and the start of a study write into train.py. Pure but for presets/.

A *start* says what kind of model the study begins with: `tuned` is train.py as it is, `plain` sets the values of
presets/plain.yaml, a GPT without the ideas that train.py adds to a textbook's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..record.study import StudyError
from ..source.cell import SourceError
from ..source.parameters import check_values, read_parameters
from .by_hand import SWITCH, without_own_values
from .options import PRESETS
from .presets import Preset, read_parameters_file


def preset_named(source: str) -> str:
    """The preset that train.py names in PRESET; `auto` where it names none. Raises StudyError for another value."""
    switch = read_parameters(source).get(SWITCH)
    if switch is None:
        return "auto"
    if switch.value not in PRESETS:
        raise StudyError(
            f"Line {switch.line} of train.py has {SWITCH} = {switch.text}: choose one of {', '.join(PRESETS)}."
        )
    return str(switch.value)


def baseline_parameters(
    source: str, preset: Preset, start: str, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Values by parameter: those of the preset, over them those of the start, and PRESET switched off.

    A size of the preset `auto` that differs from the one that train.py comes with stays, as it does by hand. Names
    that train.py lacks are left out with a line. Raises StudyError where train.py lacks what the start needs.
    """
    known = {name: parameter.value for name, parameter in read_parameters(source).items()}
    if missing := sorted(set(preset.parameters) - set(known)):
        say(f"  train.py has no {', '.join(missing)}; left out")
    parameters = {name: value for name, value in preset.parameters.items() if name in known}
    if SWITCH in known and preset.name == "auto":
        kept = set(parameters) - set(parameters := without_own_values(parameters, known))
        if kept:
            say(f"  train.py has values of its own, which stay: {', '.join(f'{n} {known[n]}' for n in sorted(kept))}")
    parameters |= _start_parameters(source, start, folder)
    return parameters | ({SWITCH: "none"} if SWITCH in known else {})


def _start_parameters(source: str, start: str, folder: Path) -> dict[str, Any]:
    """What `start` sets. Raises StudyError where train.py has no such parameter or cannot have the value."""
    if start == "tuned":
        return {}
    values = {name: value for name, value in read_parameters_file(start, folder).items() if name.isupper()}
    try:
        check_values(read_parameters(source), values)
    except SourceError as error:
        raise StudyError(
            f"--start {start} does not suit this train.py: {error} Take the train.py that comes with the program, or "
            "--start tuned."
        ) from error
    return values
