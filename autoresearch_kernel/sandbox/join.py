"""Starts a program in a sandbox as a child of the template, or by itself where that is impossible.

`python -I -S join.py ask SOCKET BWRAP...` connects to the template (`template_process.py`) and becomes bubblewrap.
`python -I -S join.py hold SPEC PROGRAM...` is the first process in that sandbox. It asks the template for a process
that gives up the rights that SPEC names (`confine.py`) and becomes PROGRAM in here, gives up its own, and ends with it.
When the template does not answer, or when its child could not close the sandbox behind itself, this process starts
PROGRAM.

Like confine.py, this file imports nothing of the package.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from contextlib import suppress
from types import ModuleType

DESCRIPTOR = "AUTORESEARCH_TEMPLATE_FD"  # environment variable: the connection to the template
ANSWER_SECONDS = 20.0  # for the template to answer; it takes a few hundredths of a second
LARGEST_REQUEST = 2**20
# The template says GO when it waits for a request, and its child READY, with its pid, before it becomes the program; it
# then waits for GO.
GO, READY = b"G", b"R"


def ask(path: str, command: list[str]) -> None:
    """Become `command` with a connection to the template, or without one where nothing listens.

    A template that hangs takes no connection any more once its queue is full: then there is none, either.
    """
    os.environ.pop(DESCRIPTOR, None)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    with suppress(OSError):
        connection.connect(path)
        connection.set_inheritable(True)
        os.environ[DESCRIPTOR] = str(connection.fileno())
    os.execv(command[0], command)


def hold(spec: dict[str, object], program: list[str]) -> int:
    """Run `program` in this sandbox until it ends; returns its exit status, 128 and the number for a signal."""
    descriptor, confine = os.environ.pop(DESCRIPTOR, None), _confine()
    child = None
    if descriptor is not None:
        with suppress(OSError, ValueError):
            child = _from_template(socket.socket(fileno=int(descriptor)), spec, program)
    pid, start = child or _from_here(confine, spec, program)
    confine.stay_behind(spec)  # before any code of an agent runs
    with start:
        start.send(GO)
    _let_go_of_streams()
    return _wait_for(pid)


def _from_template(
    connection: socket.socket, spec: dict[str, object], program: list[str]
) -> tuple[int, socket.socket] | None:
    """The pid of a process of the template that becomes `program` in this sandbox when the connection says GO.

    None when there is no such process.
    """
    connection.settimeout(ANSWER_SECONDS)
    if connection.recv(1) == GO:
        facts: dict[str, object] = {"spec": spec, "argv": program, "env": dict(os.environ), "cwd": os.getcwd()}
        facts["cpus"] = sorted(os.sched_getaffinity(0))
        socket.send_fds(connection, [json.dumps(facts).encode()], [0, 1, 2])
        said = connection.recv(64)
        if said[:1] == READY:
            return int(said[1:]), connection
    connection.close()
    return None


def _from_here(confine: ModuleType, spec: dict[str, object], program: list[str]) -> tuple[int, socket.socket]:
    """The pid of a child that becomes `program` when the connection says GO."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        here.close()
        with there:
            there.recv(1)
        confine.start(spec, program)
    there.close()
    return pid, here


def _let_go_of_streams() -> None:
    """Let the program's streams end with the program."""
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _wait_for(pid: int) -> int:
    """Collect every process that ends in this sandbox until `pid` does, which is a child of this first process."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _confine() -> ModuleType:
    """confine.py beside this file."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "confine.py")
    spec = importlib.util.spec_from_file_location("confine", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    role, first, *words = sys.argv[1:]
    if role == "ask":
        ask(first, words)
    os._exit(hold(json.loads(first), words))


if __name__ == "__main__":
    main()
