"""The template of this process: started when a sandbox can use it, replaced when it died or hangs, ended with it.

Importing torch takes longer than all else that an experiment needs besides its training. `template_process.py` does it
once, and its children start in 0.1 s. Only sandboxes of bubblewrap have a template, because their namespaces can be
entered, and only where there is no GPU, whose driver does not survive a fork. All others start their programs as ever.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..system.environment import environment
from ..system.locations import PROJECT, RUN_TOKEN
from ..system.start import python_command
from ..system.temporary import make_folder, remove_folder
from .join import GO

TEMPLATE = "AUTORESEARCH_TEMPLATE"  # environment variable; "none": each process imports for itself
START_SECONDS = 120.0  # for the imports, on a busy machine with a cold disk
FORK_SECONDS = 10.0  # for a child to answer; it takes a few hundredths of a second
MOST_HANGS = 2  # before programs start by themselves: on a machine that swaps, a new template would hang as well
# The programs that start in sandboxes, with what they import; none of it starts a thread that lives on after a fork.
_MODULES = ("torch", "autoresearch_kernel.run.kernel", "autoresearch_kernel.scoring.scorer")
_PROGRAMS = ("-c", "autoresearch_kernel", "autoresearch_kernel.scoring.scorer")


class Template:
    """A process that forks children into sandboxes; `modules` are imported in it."""

    def __init__(self, env: Mapping[str, str], modules: Sequence[str] = _MODULES) -> None:
        self.env = dict(env)
        self.folder = make_folder()  # which only this user can open
        self.socket = self.folder / "template"
        command = python_command("autoresearch_kernel.sandbox.template_process", str(self.socket), *modules)
        empty = self.folder / "empty"  # stands for the project, which each child has for itself
        empty.mkdir()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this object)
        self._num_read = 0  # bytes of what it and its children wrote there
        with _on_all_processors():
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd="/",
                env=self.env | {PROJECT: str(empty)}, start_new_session=True,
            )  # fmt: skip
        self.close = weakref.finalize(self, _end, self.process, self.folder)

    def wait(self) -> str:
        """Wait until it listens; returns "", or why it does not, in which case it has ended."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        if ready and self.process.stdout.readline().strip() == b"ready":
            self.new_error()  # what the imports wrote is no failure of a child
            return ""
        self.close()
        return self.new_error() or f"it did not start within {START_SECONDS:.0f} s"

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def answers(self) -> bool:
        """Whether it forks a child that answers; the child then ends, as nothing is asked of it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(FORK_SECONDS)
            try:
                connection.connect(str(self.socket))
                return connection.recv(1) == GO
            except OSError:
                return False

    def new_error(self) -> str:
        """The last line that it or a child of it has written since the last call, such as why a child ended."""
        written = os.fstat(self._errors.fileno()).st_size
        lines = os.pread(self._errors.fileno(), written - self._num_read, self._num_read).decode(errors="replace")
        self._num_read = written
        return (lines.strip().splitlines() or [""])[-1]


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(BrokenPipeError):
            stream.close()
    process.kill()
    process.wait()
    with suppress(OSError):
        remove_folder(folder)


@contextmanager
def _on_all_processors() -> Iterator[None]:
    """What starts in this block may use all processors of this program, also where a slot has bound this thread.

    A child keeps to those of the process that asks for it, and torch would stay with the threads of the first slot.
    """
    bound = os.sched_getaffinity(0)
    with suppress(OSError):  # the system has taken some of them from this program since
        os.sched_setaffinity(0, _PROCESSORS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)


_PROCESSORS = os.sched_getaffinity(0) if sys.platform == "linux" else set[int]()
_lock = threading.Lock()
_templates: list[Template] = []  # at most one
_problems: dict[tuple[tuple[str, str], ...], str] = {}  # why there is none, by environment
_hangs = 0  # templates that gave no answer


def can_become(argv: Sequence[str]) -> bool:
    """Whether a child of the template can become this program; that of a kernel is named only when it starts."""
    own = python_command()
    return not argv or (list(argv[: len(own)]) == own and argv[len(own)] in _PROGRAMS)


def template_socket(places: Mapping[str, str]) -> Path | None:
    """The socket of the template, which listens; None where there is none.

    Args:
        places: home, temporary files and caches in sandboxes, as environment.
    """
    if os.environ.get(TEMPLATE) == "none":
        return None
    env = environment("") | dict(places)
    del env[RUN_TOKEN]
    key = tuple(sorted(env.items()))
    with _lock:
        if _templates and not (_templates[0].is_alive() and _templates[0].env == env):
            release()
        if _templates and not _is_well(_templates[0]):
            release()
        if _hangs >= MOST_HANGS:
            return None
        if not _templates and key not in _problems:
            template = Template(env)
            if problem := template.wait():
                _problems[key] = problem
                warnings.warn(
                    f"Kernels and scorers are not forked but started, which takes longer, because the process that "
                    f"imports torch for them ended: {problem}",
                    stacklevel=2,
                )
                return None
            _templates.append(template)
        return _templates[0].socket if _templates else None


def _is_well(template: Template) -> bool:
    """Whether the template answers. The user is told when it hangs, and what kept a child of it from its sandbox."""
    global _hangs
    if error := template.new_error():
        warnings.warn(
            f"A kernel or scorer was started by itself, which takes longer, because the process that was forked for it "
            f"failed: {error}",
            stacklevel=3,
        )
    if template.answers():
        return True
    if template.is_alive():
        _hangs += 1
        then = "it is replaced" if _hangs < MOST_HANGS else "from here on they start by themselves, which takes longer"
        warnings.warn(
            f"The process that forks kernels and scorers gave no answer within {FORK_SECONDS:.0f} s; {then}.",
            stacklevel=3,
        )
    return False


def why_no_template() -> str:
    """Why this process has no template although it wanted one; "" when nothing failed."""
    return next(reversed(_problems.values()), "")


def release() -> None:
    """End the template; the next sandbox starts another one."""
    while _templates:
        _templates.pop().close()
