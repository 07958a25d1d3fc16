"""Commands of this program in the form in which the user can type them; all messages take them from here."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

PROGRAM = "autoresearch"


def shell_command(words: str, is_elsewhere: bool = False) -> str:
    """`autoresearch run --name nov23`, in the form that starts this installation of the program.

    Args:
        words: the words after the program's name, as "run --name nov23".
        is_elsewhere: whether the command is for another working folder, where a relative path would not be found.

    The plain name suffices where the shell finds this environment's program by it, as in an active environment.
    Otherwise the result has the program's path: relative when the program lies below the working folder, absolute in a
    notebook, because its reader's terminal may be open in any folder.
    """
    program = _program()
    if program is None:
        return f"{shlex.quote(sys.executable)} -m autoresearch_kernel.cli {words}"
    found = shutil.which(PROGRAM)
    if found is not None and os.path.samefile(found, program):
        return f"{PROGRAM} {words}"
    return f"{shlex.quote(str(program) if is_elsewhere else _typed(program))} {words}"


def _program() -> Path | None:
    """The installed script of this environment; None when there is none."""
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
