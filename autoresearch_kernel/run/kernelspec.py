"""The kernelspec `autoresearch`, with which Jupyter and experiments start the kernel in this very interpreter."""

from __future__ import annotations

import json
import shutil
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

    Raises PermissionError when that folder cannot be written.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    with own_folder() as folder:
        (folder / "kernel.json").write_text(json.dumps(kernelspec(), indent=1) + "\n", encoding="utf-8")
        shutil.copy(LOGO, folder)
        where = KernelSpecManager().install_kernel_spec(
            str(folder), kernel_name=KERNEL_NAME, user=prefix is None, prefix=str(prefix) if prefix else None
        )
    return Path(where)
