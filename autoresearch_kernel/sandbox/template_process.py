"""The template: a process that has imported what a sandboxed process needs, and forks a child into a sandbox.

    python start.py autoresearch_kernel.sandbox.template_process SOCKET MODULE...

It imports the modules, of which none may leave a thread or run an operation of torch in parallel, since a forked child
would have neither the thread nor the locks that it held. It then listens on SOCKET until its standard input ends.

The template runs no code of an agent, reads no request and holds no file. For each connection it forks a child that
reads the request, enters the namespaces of the sandbox that asked, as `docker exec` does, closes all descriptors, gives
up the same rights by the same steps (`confine.py`), and becomes the program. What one child does to its memory stays
its own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any

from ..system.start import forget_project, python_command, run, set_import_paths
from . import confine
from .join import ANSWER_SECONDS, GO, LARGEST_REQUEST, READY

_NAMESPACES = {  # <sched.h>
    "user": 0x10000000, "mnt": 0x00020000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000,
    "cgroup": 0x02000000,
}  # fmt: skip
_POPULATE_READ = 22  # <linux/mman.h>, since Linux 5.14
# Each read of a page moves it one step up: referenced, active, active and referenced, where it stays. Its mark
# "referenced" is shown in /proc/self/smaps and outlives the process that set it, so each child brings all pages to the
# last step before it becomes a program.
_STEPS_OF_A_PAGE = 3
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_BACKLOG = 16
_libc = ctypes.CDLL(None, use_errno=True)


def serve(path: str) -> dict[str, Any] | None:
    """Fork a child for each connection; returns its request in a child, and None when standard input has ended."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(_BACKLOG)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system collects the children
    _bring_back_memory()
    print("ready", flush=True)
    while True:
        ready: list[Any] = select.select([listener.fileno(), 0], [], [])[0]
        if 0 in ready:
            return None
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _enter(connection)
        connection.close()


def _enter(connection: socket.socket) -> dict[str, Any]:
    """Read the request, go into the sandbox that asked, and return there, in a child of its first process.

    Two more forks are needed: a process can only make its children members of a namespace of pids, and only an orphan
    of that namespace becomes a child of its first process.
    """
    request, streams, first = _receive(connection)
    _bring_back_memory()
    _join_namespaces(first)
    if child := os.fork():
        os.waitpid(child, 0)
        os._exit(0)
    if os.fork():
        os._exit(0)
    while os.getppid() != 1:  # until the parent has ended
        time.sleep(0.0005)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    said = connection.detach()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != said:
            with suppress(OSError):  # the one that listed them
                os.close(int(name))
    _use_processors(request["cpus"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    confine.close_sandbox(request["spec"])
    with socket.socket(fileno=said) as answer:
        answer.settimeout(ANSWER_SECONDS)
        answer.send(READY + str(os.getpid()).encode())
        if answer.recv(1) != GO:
            os._exit(confine.REFUSED)
    return request


def _use_processors(cpus: list[int]) -> None:
    """Keep to the processors of the process that asked, where these are fewer than the template's."""
    if set(cpus) == os.sched_getaffinity(0):
        return
    os.sched_setaffinity(0, cpus)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(min(torch.get_num_threads(), len(cpus)))


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int], int]:
    """The request, its three streams, and the pid of the process that sent it, as the system says.

    Ends this child where nothing is asked of it: the supervisor only looked whether the template answers, or the
    sandbox that asked is gone.
    """
    connection.settimeout(ANSWER_SECONDS)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    room = socket.CMSG_SPACE(3 * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)
    message, parts = b"", list[Any]()
    with suppress(ConnectionError):
        connection.send(GO)
        message, parts, _, _ = connection.recvmsg(LARGEST_REQUEST, room)
    if not message:
        os._exit(0)
    data = {kind: data for level, kind, data in parts if level == socket.SOL_SOCKET}
    streams = list(struct.unpack("3i", data[socket.SCM_RIGHTS]))
    connection.setblocking(True)
    return json.loads(message), streams, _CREDENTIALS.unpack(data[socket.SCM_CREDENTIALS])[0]


def _join_namespaces(pid: int) -> None:
    """Enter every namespace of a process that differs from this one's; that of pids counts for the children."""
    flags = 0
    for name, flag in _NAMESPACES.items():
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
            flags |= flag
    if not flags & _NAMESPACES["pid"] or not flags & _NAMESPACES["mnt"]:
        raise OSError(f"process {pid} is in no sandbox with namespaces of its own")
    descriptor = os.pidfd_open(pid)
    if _libc.setns(descriptor, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the sandbox of process {pid} cannot be entered: {os.strerror(number)}")
    os.close(descriptor)


def _bring_back_memory() -> None:
    """Read all memory, also what was moved to swap, so that no child can tell which pages an earlier one used."""
    with open("/proc/self/maps") as file:
        areas = [line.split() for line in file]
    for area in areas * _STEPS_OF_A_PAGE:
        begin, end = (int(place, 16) for place in area[0].split("-"))
        is_own = area[1].startswith("rw") or area[4] == "0"
        if area[1].startswith("r") and is_own and not area[-1].startswith("[v"):  # not [vdso], [vvar]
            _libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _POPULATE_READ)


# --- the program


def become(request: dict[str, Any]) -> None:
    """Run the program of a request as a new interpreter would run it. Raises ValueError for one that is not known."""
    own, words = python_command(), request["argv"]
    if words[: len(own)] != own:
        raise ValueError(f"{words[:4]} is no program of this package")
    name, *arguments = words[len(own) :]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    tempfile.tempdir = None
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    forget_project()
    set_import_paths()
    sys.argv[:], sys.orig_argv[:] = [name, *arguments], [sys.executable, *words[1:]]
    if "." in name:  # a program that was imported is imported once more, as __main__
        sys.modules.pop(name, None)
    run(name, arguments)


def import_all(modules: list[str]) -> None:
    """Import the modules and let each that can get ready. Raises RuntimeError when a thread is left at a fork."""
    for name in modules:
        get_ready = getattr(importlib.import_module(name), "get_ready_to_fork", None)
        if get_ready is not None:
            get_ready()
    gc.collect()
    gc.freeze()  # so that no collection in a child writes to, and so copies, these objects
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)  # OpenBLAS ended its threads before the fork
    if (num_threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{num_threads} threads run after the import of {', '.join(modules)}, so none is forked")


def main() -> None:
    path, *modules = sys.argv[1:]
    import_all(modules)
    request = serve(path)
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
