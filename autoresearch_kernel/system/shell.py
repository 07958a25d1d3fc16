"""How a person types a command of this program where they are: every message that names one gets it from here."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .locations import cache_dir

PROGRAM = "autoresearch"


def shell_command(words: str) -> str:
    """`autoresearch run --name nov23`, in the form that starts this very program.

    Args:
        words: what follows the program's name, as "run --name nov23".

    The plain name stands where the shell finds this environment's program by it, as it does in an active environment.
    Elsewhere it is the program's path: relative where it lies below the working folder, absolute in a notebook, whose
    reader may have a terminal open in any folder.
    """
    program = _program()
    if program is None:
        return f"{shlex.quote(sys.executable)} -m autoresearch_kernel.cli {words}"
    found = shutil.which(PROGRAM)
    if found is not None and os.path.samefile(found, program):
        return f"{PROGRAM} {words}"
    return f"{shlex.quote(_typed(program))} {words}"


def corpus_command(corpus_dir: Path, meta: Mapping[str, Any]) -> str:
    """The command that builds a corpus again, with all that it was made with; `meta` is what its meta.json holds."""
    options = meta.get("prepared_with") or (
        f"--corpus {meta['corpus']} --vocab-size {meta['vocab_size']} --sequence-length {meta['sequence_length']}"
    )
    words = f"prepare {options} --rebuild"
    if corpus_dir.parent.name == "corpora" and corpus_dir.parents[1].resolve() != cache_dir().resolve():
        words += f" --home {shlex.quote(str(corpus_dir.parents[1]))}"
    return shell_command(words)


def _program() -> Path | None:
    """The installed script of this environment; None where there is none."""
    for path in (Path(sysconfig.get_path("scripts")) / PROGRAM, Path(sys.argv[0])):
        if path.name == PROGRAM and path.is_file():
            return path.absolute()
    return None


def _typed(program: Path) -> str:
    if "ipykernel" in sys.modules:
        return str(program)
    try:
        return str(program.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):  # it lies elsewhere, or the working folder was removed
        return str(program)
