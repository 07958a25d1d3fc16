"""Starts and ends the kernel of one notebook, with this interpreter and without an installed kernelspec."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from traitlets import default

from ..sandbox.policy import SANDBOX_FOLDER
from ..system.processes import descendants, kill_group, peak_memory_mb
from .kernelspec import KERNEL_NAME, kernelspec

LONGEST_SOCKET_PATH = 90  # bytes; the operating system's limit is about 107, and "-5" and a margin come on top
STDERR_TAIL_BYTES = 4_000


class KernelFailed(RuntimeError):
    """A kernel that did not start, with its command and the end of what it wrote to stderr."""


class OwnSpecs(KernelSpecManager):
    """The installed kernelspecs, and ours, which is always this interpreter's."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name == KERNEL_NAME:
            return KernelSpec(**kernelspec())
        return super().get_kernel_spec(kernel_name)


class OwnKernelManager(AsyncKernelManager):
    """A kernel manager that knows our kernelspec, and may start the kernel through another command: its sandbox."""

    prefix: tuple[str, ...] = ()

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [*self.prefix, *super().format_kernel_cmd(extra_arguments)]

    @default("kernel_spec_manager")
    def _own_specs(self) -> OwnSpecs:
        return OwnSpecs(parent=self)


class Kernel:
    """One kernel process from its start to its end. Start it from the main thread: it dies with the thread's end.

    With `prefix`, the start of a command that ends in a sandbox (`sandbox/kinds.py`), it runs in that sandbox: of
    `folder` it may then only write to `folder`/kernel, where its sockets and its working folder `cwd` must be.
    """

    def __init__(
        self,
        name: str = KERNEL_NAME,
        folder: Path | None = None,
        cwd: str | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ar-"))  # mode 0700
        self.log = self.folder / "kernel.log"
        self.is_sandboxed = bool(prefix)
        self.has_own_pids = self.is_sandboxed and Path(prefix[0]).name == "bwrap"
        self.peak_memory_mb = (
            0.0  # of what was ended with it in a sandbox of its own pids: the system does not tell later
        )
        self.left_behind = 0  # processes that it had not ended itself; where no pids of its own, the runner counts
        inside = self.folder / SANDBOX_FOLDER
        inside.mkdir(exist_ok=True)
        connection_file = inside / "kernel.json"
        short = len(os.fsencode(connection_file)) <= LONGEST_SOCKET_PATH and sys.platform != "win32"
        if self.is_sandboxed and not short:
            raise KernelFailed(f"{connection_file} is too long for a socket. Set TMPDIR to a shorter folder.")
        self.manager = OwnKernelManager(
            kernel_name=name, connection_file=str(connection_file), transport="ipc" if short else "tcp"
        )
        self.manager.prefix = tuple(prefix)
        self.started = time.monotonic()
        self.exit_code: int | None = None
        self.language_info: dict[str, Any] = {}
        env = dict(os.environ)
        if threading.current_thread() is threading.main_thread():
            env["AUTORESEARCH_RUNNER_PID"] = str(os.getpid())
        with open(self.log, "wb") as log:
            run_sync(self.manager.start_kernel)(cwd=cwd, env=env, stdout=log, stderr=log)
        provisioner: Any = self.manager.provisioner  # the local one: our kernelspec names no other
        self.process: subprocess.Popen[bytes] = provisioner.process
        self.pgid = self.process.pid if sys.platform != "win32" else None  # it leads a session of its own

    def poll(self) -> int | None:
        """The exit code once it has ended, negative for a signal, as of a process without a sandbox."""
        code = self.process.poll()
        return 128 - code if self.has_own_pids and code is not None and code > 128 else code

    @property
    def command(self) -> str:
        spec = self.manager.kernel_spec
        return " ".join(spec.argv) if spec is not None else "(no kernelspec)"

    async def connect(self, timeout_seconds: float) -> AsyncKernelClient:
        """A client of the kernel, once it answers and its output arrives. Raises KernelFailed.

        jupyter_client's own wait ends with a silence of 0.2 s; ours ends with the first message.
        """
        client = self.manager.client()
        client.start_channels(stdin=False, hb=False)
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline and self.poll() is None:
            client.kernel_info()
            with suppress(Empty):
                reply = await client.shell_channel.get_msg(timeout=0.5)
                if reply["msg_type"] == "kernel_info_reply":
                    await client.iopub_channel.get_msg(timeout=0.5)
                    self.language_info = dict(reply["content"].get("language_info", {}))
                    return client
        client.stop_channels()
        how = f"it {exit_words(self.poll())}" if self.poll() is not None else "it did not answer"
        raise KernelFailed(
            f"The kernel {self.name!r} ({self.command}) did not start within {timeout_seconds:.0f} s: {how}. "
            f"The end of its stderr: {self.stderr_tail() or '(nothing)'}"
        )

    def stderr_tail(self) -> str:
        """The end of what the process itself wrote to stderr, such as the stack of a segmentation fault."""
        with suppress(OSError), open(self.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - STDERR_TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").strip()
        return ""

    def signal(self, signum: int) -> None:
        """Signal the kernel and its children: in a sandbox of its own pids all but SIGKILL are for those inside."""
        if self.has_own_pids and signum != signal.SIGKILL:
            if len(inside := descendants(self.process.pid)) > 1:
                kill_group(_group_of(inside[1]), signum)
        elif self.pgid is not None:
            kill_group(self.pgid, signum)
        elif self.process.poll() is None:
            self.process.send_signal(signum)

    def end(self, client: AsyncKernelClient | None = None) -> None:
        """Kill the kernel and all of its process group now; what a notebook wanted to keep, it has written."""
        self.exit_code = self.poll()
        inside = descendants(self.process.pid) if self.has_own_pids else []
        self.peak_memory_mb = max(self.peak_memory_mb, *map(peak_memory_mb, [self.process.pid, *inside]))
        self.left_behind += max(0, len(inside) - 2)  # besides the first process of the sandbox and the kernel
        self.signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        if inside:
            _reap(inside[0])
        if client is not None:
            client.stop_channels()
        self.manager.cleanup_connection_file()
        self.manager.cleanup_ipc_files()
        self.manager.context.destroy(linger=0)
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def _group_of(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def _reap(pid: int, timeout_seconds: float = 5.0) -> None:
    """Wait for the first process of a sandbox, ours once bwrap is gone; all others in it end before it."""
    deadline = time.monotonic() + timeout_seconds
    with suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.002)


def exit_words(code: int | None) -> str:
    """How a process ended, in plain words: 'exited with code 0', 'was killed by signal 9 (out of memory?)'."""
    if code is None:
        return "is still running"
    if code >= 0:
        return f"exited with code {code}"
    hints = {9: "out of memory?", 11: "a crash in C code", 6: "aborted in C code", 7: "bus error", 4: "bad instruction"}
    hint = hints.get(-code)
    return f"was killed by signal {-code}" + (f" ({hint})" if hint else "")
