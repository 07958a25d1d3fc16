"""Scorers and trainings that need not import torch each time: forked from a process that has. For tests alone.

A forked scorer runs the scorer's own module as `__main__`, with the descriptors that `scorer_process.py` opened, and
the environment and folder that it would have had; it ends when the process started in its place is killed. `wrap`
puts it in the place of the real command.

zygote.py serve SOCKET MODULE waits for something to start, with what MODULE imports; zygote.py ask SOCKET PARENT MODE
stands for a scorer: hands its descriptors over, ends as the scorer ends; zygote.py ask SOCKET PYTHON train.py does the
same for a train.py in this folder.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

SCORER = "autoresearch_kernel.scoring.scorer"
START_SECONDS = 60.0


@contextmanager
def started(folder: Path, project: Path, module: str = SCORER) -> Iterator[Callable[[list[str], Path], list[str]]]:
    """A zygote that has imported `module`, and the `wrap` that uses it: of a command it takes the last two words."""
    path = str(folder / "zygote")
    env = os.environ | {"PYTHONPATH": str(project)}
    with subprocess.Popen([sys.executable, __file__, "serve", path, module], env=env) as server:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not os.path.exists(path):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            yield lambda command, artefact: [sys.executable, "-I", "-S", __file__, "ask", path, *command[-2:]]
        finally:
            server.kill()


def serve(path: str, module: str) -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as prepare.py sets it before it imports torch
    imported = importlib.import_module(module)  # and with it torch
    if module == SCORER:
        imported.get_ready_to_fork()
    server = socket.socket(socket.AF_UNIX)
    server.bind(path + ".new")
    server.listen(8)
    os.rename(path + ".new", path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(connection)
            os._exit(0)
        connection.close()


def _watch(connection: socket.socket) -> None:
    """Fork the scorer, say how it ended; end it when nobody waits for it any more."""
    message, descriptors, _, _ = socket.recv_fds(connection, 65536, 3)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(descriptors, **json.loads(message))
    for descriptor in descriptors:
        os.close(descriptor)
    ready, _, _ = select.select([connection, os.pidfd_open(pid)], [], [])
    if connection in ready:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(descriptors: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> None:
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [folder, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    try:
        if arguments[-1].endswith(".py"):
            sys.argv = arguments[-1:]
            runpy.run_path(arguments[-1], run_name="__main__")
            sys.exit(0)
        sys.argv = ["scorer.py", str(os.getppid()), arguments[-1]]
        del sys.modules[SCORER]
        runpy.run_module(SCORER, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else 1)
    except BaseException as error:
        sys.excepthook(type(error), error, _in_script(error, arguments[-1]))
        _leave(1)


def _in_script(error: BaseException, script: str) -> TracebackType | None:
    """The traceback as it would begin in a process of its own: with the script, where that is what ran."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    return trace or error.__traceback__


def _leave(status: int) -> None:
    """As a process of its own ends: with what it wanted to do at the end."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def ask(path: str, *arguments: str) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    message = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    socket.send_fds(connection, [json.dumps(message).encode()], [0, 1, 2])
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    status = int(connection.recv(16) or b"1")
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
