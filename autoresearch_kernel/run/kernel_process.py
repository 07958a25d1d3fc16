"""Starts and ends the kernel of one notebook, with this interpreter and without an installed kernelspec."""

from __future__ import annotations

import os
import signal
import subprocess
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

from ..sandbox.bubblewrap import has_own_pids
from ..sandbox.policy import SANDBOX_FOLDER
from ..system.processes import descendants, kill_group, peak_memory_mb
from ..system.start import python_command
from ..system.temporary import make_folder, remove_folder
from .kernelspec import KERNEL_NAME, PACKAGE, kernelspec

LONGEST_SOCKET_PATH = 90  # bytes; the system's limit is about 107, and jupyter_client appends "-5"
STDERR_TAIL_BYTES = 4_000
GRACE_SECONDS = 2.0  # from the interrupt to the kill


class KernelFailed(RuntimeError):
    """A kernel did not start; the message has its command and the end of its stderr."""


class OwnSpecs(KernelSpecManager):
    """The installed kernelspecs, and this program's own, which always starts this interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name == KERNEL_NAME:
            return KernelSpec(**kernelspec() | {"argv": python_command(PACKAGE, "-f", "{connection_file}")})
        return super().get_kernel_spec(kernel_name)


class OwnKernelManager(AsyncKernelManager):
    """A kernel manager with `OwnSpecs`, which can start the kernel through the command of a sandbox."""

    prefix: tuple[str, ...] = ()

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [*self.prefix, *super().format_kernel_cmd(extra_arguments)]

    @default("kernel_spec_manager")
    def _own_specs(self) -> OwnSpecs:
        return OwnSpecs(parent=self)


class Kernel:
    """One kernel process from its start to its end. Start it from the main thread, because it ends with its thread.

    With `prefix`, the beginning of a command that starts a sandbox (`sandbox/kinds.py`), the kernel runs in that
    sandbox. In `folder` it may then write only to `folder`/kernel, where its sockets and its working folder `cwd` must
    be.
    """

    def __init__(
        self, name: str = KERNEL_NAME, folder: Path | None = None, cwd: str | None = None, prefix: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.own_folder = folder is None
        self.folder = folder or make_folder()
        self.log = self.folder / "kernel.log"
        self.is_sandboxed = bool(prefix)
        self.has_own_pids = has_own_pids(prefix)
        # Both are of a sandbox with pids of its own, whose processes the runner cannot see once they have ended.
        self.peak_memory_mb = 0.0
        self.left_behind = 0  # processes that were still running at the end
        inside = self.folder / SANDBOX_FOLDER
        inside.mkdir(exist_ok=True)
        connection_file = inside / "kernel.json"
        short = len(os.fsencode(connection_file)) <= LONGEST_SOCKET_PATH
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
        provisioner: Any = self.manager.provisioner  # the local one, because our kernelspec names no other
        self.process: subprocess.Popen[bytes] = provisioner.process

    def poll(self) -> int | None:
        """The exit code once the kernel has ended; negative for a signal, also when it ran in a sandbox."""
        code = self.process.poll()
        return 128 - code if self.has_own_pids and code is not None and code > 128 else code

    @property
    def command(self) -> str:
        spec = self.manager.kernel_spec
        return " ".join(spec.argv) if spec is not None else "(no kernelspec)"

    async def connect(self, timeout_seconds: float) -> AsyncKernelClient:
        """A client of the kernel, once it answers and its output arrives. Raises KernelFailed.

        jupyter_client's own wait ends after a silence of 0.2 s, and this one ends with the first message.
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
        how = f"it {describe_exit(self.poll())}" if self.poll() is not None else "it did not answer"
        raise KernelFailed(
            f"The kernel {self.name!r} ({self.command}) did not start within {timeout_seconds:.0f} s: {how}. "
            f"The end of its stderr: {self.stderr_tail() or '(nothing)'}"
        )

    def stderr_tail(self) -> str:
        """The end of the stderr of the process itself, such as the stack of a segmentation fault."""
        with suppress(OSError), open(self.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - STDERR_TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").strip()
        return ""

    def signal(self, signum: int) -> None:
        """Signal the kernel and its children.

        In a sandbox with pids of its own, all signals but SIGKILL are sent to the processes inside it.
        """
        if self.has_own_pids and signum != signal.SIGKILL:
            if len(inside := descendants(self.process.pid)) > 1:
                kill_group(_group_of(inside[1]), signum)
        else:
            kill_group(self.process.pid, signum)  # the kernel leads a session of its own

    def end(self, client: AsyncKernelClient | None = None) -> None:
        """Kill the kernel with its process group at once; a notebook has written its results before."""
        self.exit_code = self.poll()
        inside = descendants(self.process.pid) if self.has_own_pids else []
        self.peak_memory_mb = max(self.peak_memory_mb, *map(peak_memory_mb, [self.process.pid, *inside]))
        self.left_behind += max(0, len(inside) - 2)  # without the sandbox's first process and the kernel
        self.signal(signal.SIGKILL)
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
            with suppress(OSError):
                remove_folder(self.folder)


class Deadline:
    """A thread that interrupts the kernel when its time is up, and kills it when that has no effect."""

    def __init__(self, kernel: Kernel, seconds: float | None, grace_seconds: float = GRACE_SECONDS) -> None:
        self.kernel, self.seconds, self.grace_seconds = kernel, seconds, grace_seconds
        self.has_passed = False
        self.finished = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True, name="deadline")
        if seconds is not None:
            self.thread.start()

    def _watch(self) -> None:
        assert self.seconds is not None
        if self.finished.wait(max(0.0, self.kernel.started + self.seconds - time.monotonic())):
            return
        self.has_passed = True
        self.kernel.signal(signal.SIGINT)
        if not self.finished.wait(self.grace_seconds):
            self.kernel.signal(signal.SIGKILL)


def _group_of(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def _reap(pid: int, timeout_seconds: float = 5.0) -> None:
    """Wait for the first process of a sandbox, which becomes our child when bwrap ends; all others end before it."""
    deadline = time.monotonic() + timeout_seconds
    with suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.002)


def describe_exit(code: int | None) -> str:
    """How a process ended: 'exited with code 0', 'was killed by signal 11 (a crash in C code)'."""
    if code is None:
        return "is still running"
    if code >= 0:
        return f"exited with code {code}"
    hints = {11: "a crash in C code", 6: "aborted in C code", 7: "bus error", 4: "bad instruction"}
    hint = hints.get(-code)
    return f"was killed by signal {-code}" + (f" ({hint})" if hint else "")
