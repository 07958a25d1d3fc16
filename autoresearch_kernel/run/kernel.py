"""The Jupyter kernel `autoresearch`: ipykernel with the changes that experiments need.

The kernel keeps its history in memory, seeds the random generators, finds prepare.py from any notebook, and ends with
the process that runs the experiment. A kernel that a user starts takes its settings from its folder: see
`run/interactive.py`.

Variables that it reads: AUTORESEARCH_RUNNER_PID (set by `run/kernel_process.py`: the kernel runs an experiment),
AUTORESEARCH_SEED, AUTORESEARCH_PROJECT (folder of prepare.py; by default the project of the working folder).
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
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
from .interactive import OnImport, configure_kernel
from .outputs import RateLimit

RUNNER_PID = "AUTORESEARCH_RUNNER_PID"


class AutoresearchKernel(IPythonKernel):
    """A Python kernel under its own name, which Jupyter displays."""

    implementation = "autoresearch"
    implementation_version = __version__
    banner = f"autoresearch {__version__}: `import prepare` works here; train.py is a notebook.\n"


class ExperimentStream(OutStream):
    """stdout or stderr of an experiment: whatever a cell prints, only a beginning and then a limited rate is sent.

    Limiting at the source means that 300 MB of output cost neither messages nor memory nor time at the other end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.limit = RateLimit()
        super().__init__(*args, **kwargs)

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if allowed := self.limit.admit(string):
            super().write(allowed)
        return len(string)

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Start a new limit, because a new cell begins."""
        super().set_parent(parent)
        self.limit = RateLimit()

    def end_cell(self) -> None:
        """Write the end of the output that was held back."""
        if text := self.limit.remainder():
            super().write(text)

    def _watch_pipe_fd(self) -> None:
        """Forward what C code and child processes write to the descriptor, but not to the runner's log."""
        while self._should_watch and self._fid is not None:
            try:
                data = os.read(self._fid, 65536)
            except OSError:
                return
            if not data:
                return
            self.write(data.decode(errors="replace"))


class ExperimentShell(ZMQInteractiveShell):
    """IPython, without keeping all printed output in the kernel's memory."""

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        yield


class ExperimentKernel(AutoresearchKernel):
    """The kernel of an experiment."""

    shell_class = Type(ExperimentShell)

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell, then write the end of its output, however much was held back before."""
        reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, ExperimentStream):
                stream.end_cell()
        return reply


class SeedOnImport(MetaPathFinder):
    """Seeds numpy and torch when a notebook first imports them, so that a kernel can start without either."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("numpy", "torch"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_seed(module: ModuleType) -> None:
                execute(module)
                _seed(module, self.seed)

            spec.loader.exec_module = execute_and_seed  # type: ignore[method-assign]
        return spec


def _seed(module: ModuleType, seed: int) -> None:
    if module.__name__ == "numpy":
        module.random.seed(seed % 2**32)
    else:
        module.manual_seed(seed)


def seed_everything(seed: int) -> None:
    """Seed Python's generator now, and those of numpy and torch now or when they are imported."""
    random.seed(seed)
    for name in sys.modules.keys() & {"numpy", "torch"}:
        _seed(sys.modules[name], seed)
    sys.meta_path.insert(0, SeedOnImport(seed))


def add_project_to_path() -> None:
    """Let notebooks in any folder import prepare: the project's, else the one that comes with this program."""
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
        config.InteractiveShell.automagic = False  # so that each line means the same as in `python train.py`
    return config


def main(argv: list[str] | None = None) -> None:
    """Run the kernel until its front end or its parent ends it."""
    experiment = os.environ.get(RUNNER_PID) == str(os.getppid())
    if experiment:
        die_with_parent(os.getppid())
        # ipykernel replaces descriptor 2 later; the stack of a segmentation fault shall reach the runner's log.
        faulthandler.enable(file=os.dup(2), all_threads=False)
    else:
        sys.meta_path.insert(0, OnImport("prepare", configure_kernel(Path.cwd(), os.environ)))
    if seed := os.environ.get("AUTORESEARCH_SEED"):
        seed_everything(int(seed))
    add_project_to_path()
    app = IPKernelApp.instance(config=_config(experiment))
    app.initialize(argv)
    app.start()
