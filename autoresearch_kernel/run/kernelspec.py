"""The kernelspec `autoresearch`, with which Jupyter and experiments start the kernel in this very interpreter."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..system.temporary import own_folder

KERNEL_NAME, PACKAGE = "autoresearch", "autoresearch_kernel"
LOGO = Path(__file__).with_name("logo-svg.svg")  # in the kernelspec's folder by this name, Jupyter's launcher shows it


def kernelspec() -> dict[str, Any]:
    """The content of kernel.json, with the absolute path of this interpreter."""
    return {
        "argv": [sys.executable, "-m", PACKAGE, "-f", "{connection_file}"],
        "display_name": "autoresearch",
        "language": "python",
        "interrupt_mode": "signal",
        # Without this, debugpy warns at each start about frozen modules of the standard library.
        "env": {"PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        "metadata": {"debugger": True},
    }


def notebook_metadata() -> dict[str, Any]:
    """Metadata for which Jupyter and papermill choose this kernel."""
    return {
        "kernelspec": {"name": KERNEL_NAME, "display_name": KERNEL_NAME, "language": "python"},
        "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    }


def install_kernelspec(prefix: str | Path | None = None) -> Path:
    """Install the kernelspec for this user, or under `prefix` (as sys.prefix), and return its folder.

    One with the same content stays untouched: sandboxes show it, and what is known of the files that sandboxes show
    holds as long as none of them is written anew. Raises PermissionError when the folder cannot be written.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    kernels = manager.user_kernel_dir if prefix is None else Path(prefix).absolute() / "share" / "jupyter" / "kernels"
    files = {
        "kernel.json": (json.dumps(kernelspec(), indent=1) + "\n").encode(),
        LOGO.name: LOGO.read_bytes(),
    }
    installed = Path(kernels) / KERNEL_NAME
    if _is_readable(installed) and all(_content(installed / name) == content for name, content in files.items()):
        return installed
    with own_folder() as folder:
        folder.chmod(0o755)  # which the copy has too: other users of an environment start its kernel
        for name, content in files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o644)
        where = manager.install_kernel_spec(
            str(folder), kernel_name=KERNEL_NAME, user=prefix is None, prefix=str(prefix) if prefix else None
        )
    return Path(where)


def _is_readable(folder: Path) -> bool:
    """Whether other users can read it; older versions of this program installed a folder for one user alone."""
    try:
        return folder.stat().st_mode & 0o5 == 0o5 and all(file.stat().st_mode & 0o4 for file in folder.iterdir())
    except OSError:
        return False


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
