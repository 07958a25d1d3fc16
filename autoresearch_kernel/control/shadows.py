"""Files that take the place of Python's, of a package's or of this program's are named."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ..core.sanitize import shown
from ..run.kernelspec import KERNEL_NAME, kernelspec
from .checks import Check

PACKAGES = {"torch", "numpy", "tiktoken", "cloudpickle"}  # besides Python's, what train.py imports
HARMLESS = {"test", "this", "antigravity", "idlelib", "turtledemo"}  # no training imports these of Python


def shadowing_files(project: Path) -> list[Path]:
    """Files and packages beside train.py that `python train.py` imports instead of Python's module of that name."""
    names = (sys.stdlib_module_names | PACKAGES) - HARMLESS
    found = []
    for path in sorted(project.iterdir()):
        is_module = path.suffix in (".py", ".so") and path.is_file()
        if path.name.split(".")[0] in names and (is_module or (path / "__init__.py").is_file()):
            found.append(path)
    return found


def shadowing_words(project: Path) -> str:
    """What the shadowing files do, in a sentence; "" without any."""
    found = [shown(path.name) for path in shadowing_files(project)]
    if not found:
        return ""
    hide, them = ("hides a module", "it") if len(found) == 1 else ("hide modules", "them")
    return (
        f"{', '.join(found)} in {shown(project)} {hide} of the same name that Python or torch needs. Studies do "
        f"not import {them}, but `python train.py` does and may fail: rename {them}."
    )


def look_for_shadows(project: Path) -> Iterator[Check]:
    """Of modules, and of the Jupyter kernel."""
    words = shadowing_words(project)
    yield Check("files", "warn", words, "") if words else Check("files", "ok", "none beside train.py hides a module")
    yield jupyter()


def _is_ours(argv: object) -> bool:
    """Whether a command starts this program; an environment has several names for its interpreter."""
    python, *words = kernelspec()["argv"]
    return isinstance(argv, list) and argv[1:] == words and Path(str(argv[0])).parent == Path(python).parent


def jupyter() -> Check:
    """Whether Jupyter starts this program's kernel under its name."""
    from jupyter_client.kernelspec import KernelSpecManager

    folder = KernelSpecManager().find_kernel_specs().get(KERNEL_NAME)
    if folder is None:
        return Check("jupyter", "ok", f"no kernel {KERNEL_NAME} yet; opening the lab installs it")
    file = Path(folder) / "kernel.json"
    try:
        argv = json.loads(file.read_text(encoding="utf-8"))["argv"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Check("jupyter", "warn", f"{file} cannot be read ({error})", f"Remove {file.parent}.")
    if _is_ours(argv):
        return Check("jupyter", "ok", f"starts the kernel {KERNEL_NAME} from {file.parent}")
    program = argv[0] if isinstance(argv, list) and argv else "nothing"
    found = f"{file} comes first and starts {program}, not this program: notebooks run in an older or another version"
    return Check("jupyter", "warn", found, f"Remove {file.parent}, or take its folder out of JUPYTER_PATH.")
