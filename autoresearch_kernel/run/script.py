"""What `python train.py` gives to its code, for the cells of a notebook: its lines, its `atexit`, its byte streams.

`run/kernel.py` gives these to the cells of an experiment. Nothing here knows Jupyter.
"""

from __future__ import annotations

import ast
import atexit
import codecs
import io
import linecache
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from ..source.syntax import split_lines

SCRIPT = "train.py"  # beside the kernel, and the name of the file in each traceback
SEND_SECONDS = 0.1  # for printed output on its way through sockets
_REST = re.compile(r"\s*(#.*)?")  # lines after the last cell


class Script:
    """train.py as a file: which of its lines a cell has, so that tracebacks and `inspect` show the file's own."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.lines = split_lines(source)
        self.next_line = 0  # 0-based: where the search for the next cell begins
        linecache.cache[SCRIPT] = (len(source), None, [line + "\n" for line in self.lines], SCRIPT)

    @property
    def is_over(self) -> bool:
        """Whether no code is left behind the last cell that was found."""
        return all(_REST.fullmatch(line) for line in self.lines[self.next_line :])

    def find(self, cell: str) -> int | None:
        """The 0-based line where a cell begins, at or after the end of the one before; None when it is not there."""
        wanted = split_lines(cell.rstrip("\r\n"))
        for start in range(self.next_line, len(self.lines) - len(wanted) + 1):
            if self.lines[start : start + len(wanted)] == wanted:
                self.next_line = start + len(wanted)
                return start
        return None

    def docstring(self) -> str | None:
        """`__doc__` of the file."""
        try:
            return ast.get_docstring(ast.parse("\n".join(self.lines)), clean=False)
        except SyntaxError:
            return None


def last_line_in_script(trace: TracebackType | None) -> int | None:
    """The line of train.py where an exception was raised, or where train.py called what raised it."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == SCRIPT:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def say_where_it_ends(log: int) -> None:
    """Let `os._exit` write its line of train.py to the descriptor `log`, and wait for the output to be sent."""
    leave, pid = os._exit, os.getpid()

    def exit_with_line(status: int) -> None:
        frame = sys._getframe(1)
        if os.getpid() == pid and frame.f_code.co_filename == SCRIPT:
            time.sleep(SEND_SECONDS)
            os.write(log, f"os._exit({status}) in {SCRIPT}, line {frame.f_lineno}\n".encode())
        leave(status)

    os._exit = exit_with_line  # type: ignore[assignment]


class AtExit:
    """Keeps what cells register with `atexit`, and runs it when the last cell has run: a kernel is killed."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.callbacks: list[tuple[Callable[..., Any], Callable[[], Any]]] = []
        self._register, self._unregister = atexit.register, atexit.unregister
        atexit.register, atexit.unregister = self.register, self.unregister

    def register(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """As `atexit.register`; what libraries register stays with `atexit`."""
        if sys._getframe(1).f_globals is not self.namespace:
            return self._register(func, *args, **kwargs)
        self.callbacks.append((func, partial(func, *args, **kwargs)))
        return func

    def unregister(self, func: Callable[..., Any]) -> None:
        """As `atexit.unregister`."""
        self.callbacks = [(known, call) for known, call in self.callbacks if known != func]
        self._unregister(func)

    def run(self) -> None:
        """Call what cells registered, the last first; an exception is printed and changes nothing."""
        while self.callbacks:
            _, call = self.callbacks.pop()
            try:
                call()
            except BaseException:
                traceback.print_exc()


class Bytes(io.BufferedIOBase):
    """`sys.stdout.buffer` of a text stream without one; closing it leaves the stream open."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, data: Any) -> int:
        content = bytes(data)
        self.stream.write(self.decoder.decode(content))
        return len(content)

    def flush(self) -> None:
        if not self.stream.closed:
            self.stream.flush()
