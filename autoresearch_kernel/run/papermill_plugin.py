"""The entry points of papermill: `papermill train.py out.ipynb -p DEPTH 3 --engine autoresearch`.

papermill loads this module while it is itself half imported, so the module imports nothing of papermill at its top.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from ..source.cell import SourceError
from ..source.encoding import decode_source
from ..source.parameters import Parameter, check_values, read_parameters
from .kernelspec import KERNEL_NAME

# papermill warns about every input that is not .ipynb or .json, even when a handler can read it.
warnings.filterwarnings("ignore", message=r"The specified file \(.*\.py\) does not end in one of")


class Refused(click.ClickException, ValueError):
    """What papermill's command line says in one line, with exit status 1, and without a traceback."""


class CheckedParameters:
    """papermill's translator of parameters into Python, which checks them against the parameters cell first.

    papermill shows it that cell just before it asks for the code of the parameters.
    """

    def __init__(self, translator: Any) -> None:
        self.translator = translator
        self.known: dict[str, Parameter] | None = None

    def inspect(self, parameters_cell: Any) -> Any:
        try:
            self.known = read_parameters(f'# %% tags=["parameters"]\n{parameters_cell.source}\n')
        except SourceError:  # another program's notebook
            self.known = None
        return self.translator.inspect(parameters_cell)

    def codify(self, parameters: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The code that assigns the parameters. Raises Refused for one that train.py does not have, or of a wrong type.

        SEED is known in any notebook, as an experiment's is given to it.
        """
        known, self.known = self.known, None
        given = {name: value for name, value in parameters.items() if not name.startswith("PAPERMILL_")}
        if known is not None:
            try:
                check_values(
                    known, {name: v for name, v in given.items() if name in known or name != "SEED"}, "this notebook"
                )
            except SourceError as error:
                raise Refused(str(error)) from error
        return self.translator.codify(parameters, *args, **kwargs)


def check_parameters() -> None:
    """Let papermill check the parameters of every notebook for the kernel of this program."""
    from papermill.translators import papermill_translators

    python = papermill_translators.find_translator("", "python")
    papermill_translators.register(KERNEL_NAME, CheckedParameters(python))


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

        file = Path(path.removeprefix("py:"))
        try:
            source = decode_source(file.read_bytes(), str(file))
            check_source(source)
        except (SourceError, OSError) as error:
            raise Refused(str(error)) from error
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


check_parameters()
