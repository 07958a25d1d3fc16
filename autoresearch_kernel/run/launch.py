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
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from traitlets import default

from .kernelspec import KERNEL_NAME, kernelspec
from .processes import kill_group

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
    """A kernel manager that knows our kernelspec."""

    @default("kernel_spec_manager")
    def _own_specs(self) -> OwnSpecs:
        return OwnSpecs(parent=self)


class Kernel:
    """One kernel process from its start to its end. Start it from the main thread: it dies with the thread's end."""

    def __init__(self, name: str = KERNEL_NAME, folder: Path | None = None, cwd: str | None = None) -> None:
        self.name = name
        self.own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ar-"))  # mode 0700
        self.log = self.folder / "kernel.log"
        connection_file = self.folder / "kernel.json"
        short = len(os.fsencode(connection_file)) <= LONGEST_SOCKET_PATH and sys.platform != "win32"
        self.manager = OwnKernelManager(
            kernel_name=name, connection_file=str(connection_file), transport="ipc" if short else "tcp"
        )
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
        while time.monotonic() < deadline and self.process.poll() is None:
            client.kernel_info()
            with suppress(Empty):
                reply = await client.shell_channel.get_msg(timeout=0.5)
                if reply["msg_type"] == "kernel_info_reply":
                    await client.iopub_channel.get_msg(timeout=0.5)
                    self.language_info = dict(reply["content"].get("language_info", {}))
                    return client
        client.stop_channels()
        how = f"it {exit_words(self.process.poll())}" if self.process.poll() is not None else "it did not answer"
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
        """Signal the kernel and its children."""
        if self.pgid is not None:
            kill_group(self.pgid, signum)
        elif self.process.poll() is None:
            self.process.send_signal(signum)

    def end(self, client: AsyncKernelClient | None = None) -> None:
        """Kill the kernel and all of its process group now; what a notebook wanted to keep, it has written."""
        self.exit_code = self.process.poll()
        self.signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        if client is not None:
            client.stop_channels()
        self.manager.cleanup_connection_file()
        self.manager.cleanup_ipc_files()
        self.manager.context.destroy(linger=0)
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def exit_words(code: int | None) -> str:
    """How a process ended, in plain words: 'exited with code 0', 'was killed by signal 9 (out of memory?)'."""
    if code is None:
        return "is still running"
    if code >= 0:
        return f"exited with code {code}"
    hints = {9: "out of memory?", 11: "a crash in C code", 6: "aborted in C code", 7: "bus error", 4: "bad instruction"}
    hint = hints.get(-code)
    return f"was killed by signal {-code}" + (f" ({hint})" if hint else "")
