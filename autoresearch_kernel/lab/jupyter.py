"""JupyterLab in the project: the command that opens it, its kernel, and train.py as a notebook."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..record.paths import MY_NOTEBOOKS
from ..run.kernelspec import KERNEL_NAME, install_kernelspec
from .working_copies import protect_originals, update_copies

CONTROL = f"{MY_NOTEBOOKS}/control.ipynb"  # what `autoresearch lab` opens


def open_lab(project: Path, options: Sequence[str], notebook: str = CONTROL) -> NoReturn:
    """Install the kernel, refresh the user's copies of the notebooks, and become `jupyter lab` at one of them."""
    install_for_lab()
    for words in update_copies(project):
        print(words, flush=True)
    _offer_train_as_a_notebook()
    os.execv(sys.executable, lab_command(project, options, notebook))


def install_for_lab() -> None:
    """Install the kernel into this environment; for this user where the environment is another user's."""
    try:
        install_kernelspec(prefix=Path(sys.prefix))
        protect_originals(Path(sys.prefix))
    except PermissionError:
        where = install_kernelspec()
        print(f"This environment is another user's, so the kernel is installed in {where}.", flush=True)


def lab_command(project: Path, options: Sequence[str], notebook: str = CONTROL) -> list[str]:
    """JupyterLab in the project, at a notebook of the user, unless `options`, which are jupyter lab's, name a place."""
    command = [sys.executable, "-P", "-m", "jupyterlab", f"--ServerApp.root_dir={project}"]
    command.append(f"--MultiKernelManager.default_kernel_name={KERNEL_NAME}")
    asked = any("default_url" in word or Path(word).exists() for word in options)
    if (project / notebook).is_file() and not asked:
        command.append(f"--LabApp.default_url=/lab/tree/{notebook}")
    if os.name == "posix" and os.geteuid() == 0:
        command.append("--allow-root")  # in a container root is all there is, and jupyter would only say no
    return [*command, *options]


def _offer_train_as_a_notebook() -> None:
    """Save a workspace of Lab in which train.py is open as a notebook: /lab/workspaces/train.

    Lab has no address for a file in a chosen viewer; as the default viewer, it would open every .py file so.
    """
    from jupyterlab.commands import get_workspaces_dir
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    widget = "notebook:train.py"
    dock = {"type": "tab-area", "currentIndex": 0, "widgets": [widget]}
    layout = {"layout-restorer:data": {"main": {"dock": dock, "current": widget}}}
    opened = {widget: {"data": {"path": "train.py", "factory": "Jupytext Notebook"}}}
    workspace = {"data": layout | opened, "metadata": {"id": "train"}}
    WorkspacesManager(get_workspaces_dir()).save("train", json.dumps(workspace))


def install_kernel(is_of_environment: bool) -> str:
    """Install the kernelspec for this user, or into this environment; returns a sentence that says where it is."""
    where = install_kernelspec(prefix=Path(sys.prefix) if is_of_environment else None)
    if is_of_environment:
        protect_originals(Path(sys.prefix))
    return f"Kernel `autoresearch` installed in {where}. `jupyter kernelspec list` shows it."
