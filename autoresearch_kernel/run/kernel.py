"""The Jupyter kernel `autoresearch`: ipykernel with the changes that experiments need.

The kernel keeps its history in memory, seeds the random generators, finds prepare.py from any notebook, and ends with
the process that runs the experiment. A kernel that a user starts takes its settings from its folder: see
`run/interactive.py`. In the kernel of an experiment, code means what it means in `python train.py`: see
`run/script.py`.

Variables that it reads: AUTORESEARCH_RUNNER_PID (set by `run/kernel_process.py`: the kernel runs an experiment),
AUTORESEARCH_SEED, AUTORESEARCH_PROJECT (folder of prepare.py; by default the project of the working folder).
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import faulthandler
import importlib
import os
import random
import re
import select
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ipykernel.compiler import XCachingCompiler
from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type
from traitlets.config import Config

from ..core.version import __version__
from ..source.encoding import decode_source
from ..source.syntax import parsed
from ..system.locations import PROJECT, ForeignProject, NoProject, originals, project_root
from ..system.processes import die_with_parent
from ..system.start import import_from
from .interactive import OnImport, configure_kernel, script_of
from .outputs import RateLimit
from .script import SCRIPT, AtExit, Bytes, Script, last_line_in_script, say_where_it_ends

RUNNER_PID = "AUTORESEARCH_RUNNER_PID"
DRAIN_SECONDS = 0.5  # at the end of a cell, for output that went through a descriptor


class AutoresearchKernel(IPythonKernel):
    """A Python kernel under its own name, which Jupyter displays."""

    implementation = "autoresearch"
    implementation_version = __version__
    banner = f"autoresearch {__version__}: `import prepare` works here; train.py is a notebook.\n"


class ExperimentStream(OutStream):
    """stdout or stderr of an experiment: whatever a cell prints, only a beginning and then a limited rate is sent.

    Limiting at the source means that 300 MB of output cost neither messages nor memory nor time at the other end.
    Code may use it as it uses the stream of a script.
    """

    encoding, errors, newlines, mode, line_buffering, write_through = "utf-8", "strict", None, "w", False, False
    is_forwarding = False  # output that was written to the descriptor
    MOST_FLUSHES, FLUSHES_PER_SECOND = 100, 20  # that the code asks for: each makes it wait for another thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.limit = RateLimit()
        self.flushes_left, self.flushed = float(self.MOST_FLUSHES), time.monotonic()
        super().__init__(*args, **kwargs)

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if allowed := self.limit.admit(string):
            super().write(allowed)
        return len(string)

    @property
    def buffer(self) -> Bytes:
        """The stream for bytes of UTF-8."""
        return Bytes(self)

    def reconfigure(self, **settings: Any) -> None:
        """Accept what a script sets: here each line is sent at once, as UTF-8."""
        if unknown := settings.keys() - {"encoding", "errors", "newline", "line_buffering", "write_through"}:
            raise TypeError(f"{min(unknown)!r} is an invalid keyword argument for reconfigure()")

    def fileno(self) -> int:
        """The descriptor whose output goes to the cell; ipykernel's goes to the log of the kernel."""
        return int(self._original_stdstream_fd) if self._should_watch else int(super().fileno())

    def flush(self) -> None:
        """Send what was written: now, or with the next flush where the code prints thousands of lines with flush=True.

        ipykernel's own flushes, before an error and at the end of a cell, always send.
        """
        now = time.monotonic()
        refilled = self.flushes_left + (now - self.flushed) * self.FLUSHES_PER_SECOND
        self.flushes_left, self.flushed = min(float(self.MOST_FLUSHES), refilled), now
        is_own = str(sys._getframe(1).f_globals.get("__name__")).startswith(("ipykernel", "IPython"))
        if is_own or self.flushes_left >= 1:
            super().flush()
            self.flushes_left -= not is_own

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Start a new limit, because a new cell begins."""
        super().set_parent(parent)
        self.limit = RateLimit()

    def end_cell(self) -> None:
        """Send what is still on its way through the descriptor, then the end of the output that was held back."""
        until = time.monotonic() + DRAIN_SECONDS
        while self._should_watch and (self.is_forwarding or _has_data(self._fid)) and time.monotonic() < until:
            time.sleep(0.001)
        if text := self.limit.remainder():
            super().write(text)
        self.flush()

    def _watch_pipe_fd(self) -> None:
        """Forward what C code and child processes write to the descriptor, but not to the runner's log."""
        while self._should_watch and self._fid is not None:
            try:
                data = os.read(self._fid, 65536)
            except OSError:
                return
            if not data:
                return
            self.is_forwarding = True
            self.write(data.decode(errors="replace"))
            self.is_forwarding = False


def _has_data(descriptor: int | None) -> bool:
    return descriptor is not None and bool(select.select([descriptor], [], [], 0)[0])


class ScriptCompiler(XCachingCompiler):
    """Compiles a cell of train.py under that file's name and with its lines there; another cell as ipykernel does."""

    script: Script | None = None
    offset = 0  # lines of the file before the cell that is compiled

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        start = self.script.find(transformed_code) if self.script is not None else None
        if start is None:
            return str(super().cache(transformed_code, number, raw_code))
        self.offset = start
        return SCRIPT

    def ast_parse(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> ast.AST:
        tree = super().ast_parse(source, filename, symbol)
        return ast.increment_lineno(tree, self.offset) if filename == SCRIPT else tree

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        return ("File", SCRIPT) if os.path.basename(name) == SCRIPT else super().format_code_name(name)


class ExperimentShell(ZMQInteractiveShell):
    """IPython without what a script does not have, and without keeping all printed output in the kernel's memory."""

    compile: ScriptCompiler
    at_exit: AtExit
    script_streams: tuple[Any, Any]  # what the code has as sys.stdout and sys.stderr
    loop: asyncio.AbstractEventLoop | None = None
    error_line: int | None = None  # of train.py, where the last exception was raised

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        yield

    def init_builtins(self) -> None:
        super().init_builtins()
        self.builtin_trap.auto_builtins = {}  # it would hide Python's own exit and quit
        for name in ("display", "__IPYTHON__"):
            builtins.__dict__.pop(name, None)

    def init_user_ns(self) -> None:
        super().init_user_ns()
        for name in ("exit", "quit", "get_ipython"):
            self.user_ns.pop(name, None)

    def transform_cell(self, raw_cell: str) -> str:
        """Python as it stands; what is none may be a magic."""
        if parsed(raw_cell) is None:
            return str(super().transform_cell(raw_cell))
        return raw_cell if raw_cell.endswith("\n") else f"{raw_cell}\n"

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        """Run a cell as a part of a script: no event loop runs, and what it puts in the place of sys.stdout stays.

        Between the cells the kernel has its own streams and its own loop back.
        """
        running, streams = asyncio._get_running_loop(), (sys.stdout, sys.stderr)
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
            self.script_streams = streams
        asyncio._set_running_loop(None)
        sys.stdout, sys.stderr = self.script_streams
        try:
            result = super().run_cell(*args, **kwargs)
            if not result.success or (self.compile.script is not None and self.compile.script.is_over):
                self.at_exit.run()
            return result
        finally:
            self.script_streams = (sys.stdout, sys.stderr)
            for stream in self.script_streams:
                with suppress(Exception):  # a stream of the code's own, which may have no `flush`
                    stream.flush()
            sys.stdout, sys.stderr = streams
            asyncio._set_running_loop(running)

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show also where SystemExit was raised, which IPython leaves out."""
        kind, _, trace = sys.exc_info()
        self.error_line = last_line_in_script(trace)
        if kind is SystemExit:
            kwargs.pop("exception_only", None)
        super().showtraceback(*args, **kwargs)


class ExperimentKernel(AutoresearchKernel):
    """The kernel of an experiment."""

    shell_class = Type(ExperimentShell)
    shell: ExperimentShell

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shell.compile = ScriptCompiler()
        self.shell.at_exit = AtExit(self.shell.user_ns)

    def _forward_input(self, allow_stdin: bool = False) -> None:
        """Leave `input` and `getpass` as they are: they find the end of an empty standard input."""

    def _restore_input(self) -> None:
        """There is nothing to restore."""

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell, then write the end of its output, however much was held back before.

        The reply to a failed cell has `line`, the line of train.py.
        """
        self.shell.error_line = None
        reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
        if reply["status"] == "error":
            reply["line"] = self.shell.error_line
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, ExperimentStream):
                stream.end_cell()
        return reply

    def be_script(self, path: Path) -> None:
        """Give the cells the lines of train.py."""
        script = Script(path, decode_source(path.read_bytes()))
        self.shell.compile.script = script
        self.shell.user_module.__doc__ = script.docstring()


class ExperimentApp(IPKernelApp):
    """The application around the kernel of an experiment."""

    def log_connection_info(self) -> None:
        """Print no advice for a terminal: it would stand in the notebook and name a folder of this machine."""


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


def import_torch_for(source: str) -> None:
    """Import torch where a train.py does, before its first cell.

    Where kernels are forked it is there already. So its import is never a part of the time of the cells, whether this
    kernel was forked or not, and the runs of one study can be compared.
    """
    if re.search(r"^[ \t]*(?:import|from)[ \t]+torch\b", source, re.MULTILINE):
        with suppress(Exception):  # the cell that imports it fails in the same way
            importlib.import_module("torch")


def add_project_to_path() -> None:
    """Let notebooks in any folder import prepare: the project's, else the one that comes with this program."""
    folder = os.environ.get(PROJECT)
    if not folder:
        try:
            folder = str(project_root())
        except ForeignProject:
            return
        except NoProject:
            folder = str(originals())
    import_from(folder)


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
        log = os.dup(2)  # the log of the runner; ipykernel replaces descriptor 2 later
        faulthandler.enable(file=log, all_threads=False)
        say_where_it_ends(log)
        warnings.filterwarnings("ignore", "To exit: use")  # IPython's advice after SystemExit
        script = Path.cwd() / SCRIPT
    else:
        sys.meta_path.insert(0, OnImport("prepare", configure_kernel(Path.cwd(), os.environ)))
        script = script_of(Path.cwd(), os.environ)
    if seed := os.environ.get("AUTORESEARCH_SEED"):
        seed_everything(int(seed))
    add_project_to_path()
    app = (ExperimentApp if experiment else IPKernelApp).instance(config=_config(experiment))
    app.initialize(argv)
    sys.argv = [script.name]
    if script.is_file():
        app.kernel.shell.user_ns["__file__"] = str(script)
        if experiment:
            app.kernel.be_script(script)
            if "AUTORESEARCH_HANDOVER" in os.environ:  # else a user runs some notebook beside a train.py
                import_torch_for("\n".join(app.kernel.shell.compile.script.lines))
    if experiment:
        sys.breakpointhook = sys.__breakpointhook__
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc, assignment]
    app.start()
