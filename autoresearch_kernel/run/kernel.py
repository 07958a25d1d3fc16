"""The Jupyter kernel `autoresearch`: ipykernel with the manners an experiment needs.

Its history stays in memory, it seeds the random generators, `import prepare` works from any notebook, and it never
outlives the process that runs the experiment. It refuses to know what is trained in it. A person's kernel takes its
settings from where it starts: see `run/interactive.py`.

The environment it reads: AUTORESEARCH_RUNNER_PID (set by `run/engine.py`: it is an experiment), AUTORESEARCH_SEED,
AUTORESEARCH_PROJECT (folder of prepare.py; else the working folder, one above it, or this checkout).
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type
from traitlets.config import Config

from ..core.version import __version__
from ..system.locations import ForeignProject, NoProject, originals, project_root
from ..system.processes import die_with_parent
from .interactive import OnImport, settle
from .kernelspec import install_kernelspec
from .outputs import Trickle

__all__ = ["AutoresearchKernel", "install_kernelspec", "main"]

RUNNER_PID = "AUTORESEARCH_RUNNER_PID"


class AutoresearchKernel(IPythonKernel):
    """A Python kernel under its own name, so that Jupyter says which one runs."""

    implementation = "autoresearch"
    implementation_version = __version__
    banner = f"autoresearch {__version__}: `import prepare` works here; train.py is a notebook.\n"


class ExperimentStream(OutStream):
    """stdout or stderr of an experiment: a beginning, then a trickle, whatever a cell prints.

    Held back here, at the source, 300 MB cost no message, no memory and no time at the other end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.trickle = Trickle()
        super().__init__(*args, **kwargs)

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if allowed := self.trickle.let_through(string):
            super().write(allowed)
        return len(string)

    def set_parent(self, parent: dict[str, Any]) -> None:
        """A new cell begins: its burst is its own."""
        super().set_parent(parent)
        self.trickle = Trickle()

    def end_cell(self) -> None:
        """Say the end of what was held back."""
        if text := self.trickle.last_words():
            super().write(text)

    def _watch_pipe_fd(self) -> None:
        """Forward what C code and child processes write to the descriptor, without echoing it to the runner's log."""
        while self._should_watch and self._fid is not None:
            try:
                data = os.read(self._fid, 65536)
            except OSError:
                return
            if not data:
                return
            self.write(data.decode(errors="replace"))


class ExperimentShell(ZMQInteractiveShell):
    """IPython, less its habit of keeping all that was ever printed in the kernel's memory."""

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        yield


class ExperimentKernel(AutoresearchKernel):
    """The kernel of an experiment."""

    shell_class = Type(ExperimentShell)

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell; its last words are heard however much it said before."""
        reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, ExperimentStream):
                stream.end_cell()
        return reply


class _Seeded(Loader):
    """The loader of a module whose random generator is seeded once it is loaded."""

    def __init__(self, loader: Loader, seed: int) -> None:
        self.loader, self.seed = loader, seed

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if module.__name__ == "numpy":
            module.random.seed(self.seed % 2**32)
        else:
            module.manual_seed(self.seed)


class SeedOnImport(MetaPathFinder):
    """Seeds numpy and torch when a notebook first imports them, so that a kernel starts without either."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("numpy", "torch"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Seeded(spec.loader, self.seed)
        return spec


def seed_everything(seed: int) -> None:
    """Seed Python's generator now, numpy's and torch's when they are imported (now, if they are already)."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    sys.meta_path.insert(0, SeedOnImport(seed))


def add_project_to_path() -> None:
    """Let notebooks import prepare, wherever they lie: the project's, else the one that comes with this program."""
    folder = os.environ.get("AUTORESEARCH_PROJECT")
    if not folder:
        try:
            folder = str(project_root())
        except ForeignProject:
            return
        except NoProject:
            folder = str(originals())
    sys.path.insert(0, folder)


def _config(experiment: bool) -> Config:
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    config.IPKernelApp.kernel_class = ExperimentKernel if experiment else AutoresearchKernel
    if experiment:
        config.IPKernelApp.outstream_class = f"{__name__}.ExperimentStream"
        config.InteractiveShell.automagic = False  # a line means what it means in `python train.py`
    return config


def main(argv: list[str] | None = None) -> None:
    """Run the kernel until its front end, or its parent, is done with it."""
    experiment = os.environ.get(RUNNER_PID) == str(os.getppid())
    if experiment:
        die_with_parent(os.getppid())
        # Before ipykernel replaces descriptor 2, so that the stack of a segmentation fault reaches the runner's log.
        faulthandler.enable(file=os.dup(2), all_threads=False)
    else:
        sys.meta_path.insert(0, OnImport("prepare", settle(Path.cwd(), os.environ)))
    if seed := os.environ.get("AUTORESEARCH_SEED"):
        seed_everything(int(seed))
    add_project_to_path()
    app = IPKernelApp.instance(config=_config(experiment))
    app.initialize(argv)
    app.start()
