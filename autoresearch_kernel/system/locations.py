"""Where the project and the cache lie, and the environment variables that this program and prepare.py share."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The folder with prepare.py and train.py: the working folder or one above it, else the checkout of this package.

    Example:
        >>> (project_root() / "prepare.py").is_file()
        True

    Raises FileNotFoundError when neither holds them.
    """
    here = Path.cwd()
    package = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, package):
        if (folder / "prepare.py").is_file() and (folder / "train.py").is_file():
            return folder
    raise FileNotFoundError(
        f"No prepare.py and train.py in {here}, above it, or in {package}. "
        "Run autoresearch from a checkout of the project."
    )


def cache_dir() -> Path:
    """Where corpora live: $AUTORESEARCH_HOME, else ~/.cache/autoresearch (as in the original)."""
    return Path(os.environ.get("AUTORESEARCH_HOME") or Path.home() / ".cache" / "autoresearch")


DEVICE = "AUTORESEARCH_DEVICE"  # read by prepare.py: what to train on, "cpu" or "cuda:1"
DTYPE = "AUTORESEARCH_DTYPE"  # read by prepare.py: the number format of autocast, "float32" or "bfloat16"
RUN_TOKEN = "AUTORESEARCH_RUN_TOKEN"  # every process of one run carries it in its environment
SANDBOX_PARENT = "AUTORESEARCH_SANDBOX_PARENT"  # set inside a sandbox: the pid by which its process knows its parent
