"""The files that a study keeps of each experiment: code, diff, curve, and the output of its runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.types import Archive
from .curves import read_curve
from .paths import ExperimentPaths, StudyPaths

NOTEBOOK_LIMIT_BYTES = 20_000_000
PRINTED_LIMIT = 2_000  # characters of what was printed before a failure
TRACEBACK_LIMIT = 6_000


@dataclass(frozen=True)
class StudyArchive(Archive):
    """The experiments of one study, in its folder."""

    paths: StudyPaths

    def source(self, number: int) -> str:
        return _text(self.paths.experiment(number).train)

    def diff(self, number: int) -> str:
        return _text(self.paths.experiment(number).diff)

    def curve(self, number: int) -> list[dict[str, Any]]:
        return read_curve(self.paths.experiment(number).metrics(0))

    def output(self, number: int, run: int) -> str:
        return failure_output(self.paths.experiment(number), run)


def failure_output(paths: ExperimentPaths, run: int = 0) -> str:
    """The last lines that a run printed and its traceback, from its notebook; "" when it has none."""
    path = paths.notebook(run)
    try:
        if path.stat().st_size > NOTEBOOK_LIMIT_BYTES:
            return ""
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    outputs = [output for output in found if isinstance(output, dict)]
    printed = "".join(_joined(o.get("text")) for o in outputs if o.get("output_type") == "stream")
    errors = [o for o in outputs if o.get("output_type") == "error"]
    traced = errors[-1].get("traceback") if errors else None
    traceback = "\n".join(map(str, traced)) if isinstance(traced, list) else ""
    return f"{printed[-PRINTED_LIMIT:]}\n{traceback[-TRACEBACK_LIMIT:]}".strip()


def _joined(text: Any) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
