"""The original's train.py on this GPU, beside the row `h100 compiled` of a GPU check of this program.

    python benchmarks/original.py PATH/TO/CHECKOUT [--attention sdpa|own] [--check gpu-check.json] [--python PYTHON]

The checkout is the user's own, with its data prepared, and its train.py runs unchanged. It loads FlashAttention by the
package `kernels`; with `--attention sdpa` a module of that name, made here, gives it attention of PyTorch instead. It
takes the original's own budget of five minutes and its compilation. The scores are on different text: compare speeds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.source.adopt.packages import ATTENTION

ROW = "h100 compiled"
# A module `kernels` whose every kernel is attention of PyTorch.
KERNELS = f"""from types import SimpleNamespace

import torch

{ATTENTION}

def get_kernel(*names, **options):
    return SimpleNamespace(flash_attn_interface=SimpleNamespace(flash_attn_func=flash_attn_func))
"""
FIGURES = (  # of the table: what it is called, its name in a check and in the original's summary
    ("tokens/s", "tokens_per_second", "tokens_per_second"), ("MFU, %", "mfu_percent", "mfu_percent"),
    ("memory, MiB", "peak_memory_mb", "peak_vram_mb"), ("training, s", "training_seconds", "training_seconds"),
    ("steps", "num_steps", "num_steps"), ("val_bpb, each on its own text", "val_bpb", "val_bpb"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the original and print the table; 1 with one line where something is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder with the original's train.py and prepare.py")
    parser.add_argument("--attention", choices=("sdpa", "own"), default="sdpa")
    parser.add_argument("--check", type=Path, help="file of `autoresearch gpu-check` on the same GPU")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has what the original needs")
    given = parser.parse_args(arguments)
    try:
        mine = row_of_check(given.check) if given.check else {}
        theirs = run_original(given.checkout, given.attention, given.python)
    except (OSError, ValueError) as error:
        print(f"original.py: {error}", file=sys.stderr)
        return 1
    print(*table(mine, theirs), sep="\n")
    return 0


def row_of_check(path: Path) -> dict[str, Any]:
    """The figures of the row `h100 compiled`, with the score of its model. Raises ValueError where it has none."""
    try:
        steps = {step["name"]: step["facts"] for step in json.loads(path.read_text(encoding="utf-8"))["steps"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of `autoresearch gpu-check` ({error}).") from error
    if "tokens_per_second" not in steps.get(ROW, {}):
        raise ValueError(f"{path} has no training in the row `{ROW}`. Run the check on this GPU first.")
    scores = [facts["val_bpb"] for facts in steps.values() if facts.get("model") == ROW]
    return {**steps[ROW], "val_bpb": scores[0] if scores else None}


def run_original(checkout: Path, attention: str, python: str) -> dict[str, float]:
    """What the original's summary says, with its tokens/s. Raises ValueError with its last line when it fails."""
    for name in ("train.py", "prepare.py"):
        if not (checkout / name).is_file():
            raise ValueError(f"{checkout / name} is missing: name the folder of a checkout of the original.")
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ)
        if attention == "sdpa":
            (Path(folder) / "kernels.py").write_text(KERNELS, encoding="utf-8")
            env["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, env.get("PYTHONPATH"))))
        command = [python, "-u", "train.py"]
        with subprocess.Popen(
            command, cwd=checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            errors="replace",
        ) as child:  # fmt: skip
            said = list(_shown(child.stdout or ()))
    if child.returncode != 0:
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        raise ValueError(f"{checkout / 'train.py'} ended with exit status {child.returncode}: {last.strip()}")
    found = summary(said)
    if "total_tokens_M" not in found or not found.get("training_seconds"):
        raise ValueError(f"{checkout / 'train.py'} printed no summary with total_tokens_M and training_seconds.")
    return found | {"tokens_per_second": 1e6 * found["total_tokens_M"] / found["training_seconds"]}


def _shown(lines: Any) -> Iterator[str]:
    """Each line of the original, and the same on this terminal, so that its progress is seen."""
    for line in lines:
        print(line, end="", flush=True)
        yield line


def summary(lines: Sequence[str]) -> dict[str, float]:
    """The lines `name: number` after the last line `---`."""
    starts = [i for i, line in enumerate(lines) if line.strip() == "---"]
    found = {}
    for line in lines[starts[-1] + 1 :] if starts else ():
        if match := re.fullmatch(r"(\w+):\s+([-+\d.e]+)\s*", line):
            found[match[1]] = float(match[2])
    return found


def table(mine: dict[str, Any], theirs: dict[str, float]) -> Iterator[str]:
    """A Markdown table of both."""
    yield f"| | this program, `{ROW}` | the original |"
    yield "|---|---|---|"
    for words, of_check, of_original in FIGURES:
        cells = (_cell(mine.get(of_check)), _cell(theirs.get(of_original)))
        yield f"| {words} | {' | '.join(cells)} |"


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
