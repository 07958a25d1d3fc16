"""The entry points of papermill: `papermill train.py out.ipynb -p DEPTH 3 --engine autoresearch`.

papermill loads this module while it is itself half imported, so the module imports nothing of papermill at its top.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

# papermill warns about every input that is not .ipynb or .json, even when a handler can read it.
warnings.filterwarnings("ignore", message=r"The specified file \(.*\.py\) does not end in one of")


class PercentSource:
    """Reads train.py as a notebook.

    papermill chooses a handler by the beginning of a path. This one is registered for `train.py` and `./train.py`, and
    for `py:` before any other path, as in `py:studies/nov23/best/train.py`.
    """

    @classmethod
    def read(cls, path: str) -> str:
        """The notebook of the file, as JSON. Raises InvalidSource when the gate refuses the file."""
        import nbformat

        from .notebook import check_source, read_source

        source = Path(path.removeprefix("py:")).read_text(encoding="utf-8")
        check_source(source)
        return str(nbformat.writes(read_source(source)))

    @classmethod
    def write(cls, buf: str, path: str) -> None:
        raise OSError(f"papermill would write a notebook to {path}: name an output that ends in .ipynb.")

    @classmethod
    def listdir(cls, path: str) -> list[str]:
        raise OSError(f"{path} is one notebook, not a folder of them.")

    @classmethod
    def pretty_path(cls, path: str) -> str:
        return path


class EnginePlugin:
    """The engine of `run/engine.py`, imported when papermill first uses it."""

    @classmethod
    def execute_notebook(cls, *args: Any, **kwargs: Any) -> Any:
        from .engine import AutoresearchEngine

        return AutoresearchEngine.execute_notebook(*args, **kwargs)

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        return name or str(nb.metadata.get("kernelspec", {}).get("name", "autoresearch"))

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        return language or "python"
