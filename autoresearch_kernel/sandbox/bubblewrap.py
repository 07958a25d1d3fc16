"""The command line of bubblewrap: a root with only the paths that a policy lists, and no network."""

from __future__ import annotations

import functools
import glob
import os
import shutil
import stat
import subprocess
from pathlib import Path

from .policy import Policy

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_NAMESPACED = "sysvipc"  # shows only the sandbox's own shared memory and queues, and is always read-only
_GPU_DEVICES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/kfd", "/dev/dri", "/dev/dxg", "/dev/accel")


def bubblewrap_prefix(policy: Policy) -> list[str]:
    """The beginning of the command. Start it in an environment without secrets, because /proc/1/environ keeps that one.

    Raises FileNotFoundError where bubblewrap is not installed.
    """
    command = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if command is None:
        raise FileNotFoundError("bwrap is not installed; `sudo apt install bubblewrap` installs it.")
    known = _options(command)
    return [
        command, "--unshare-all", "--unshare-user", *(["--disable-userns"] if "--disable-userns" in known else []),
        "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "sandbox",
        "--proc", "/proc", *(part for path in _machine_entries_in_proc() for part in ("--ro-bind-try", path, path)),
        "--dev", "/dev",
        *_tmpfs("/dev/shm", policy, known), *_tmpfs("/tmp", policy, known),
        *(part for path in policy.read_only for part in _bind_or_link(path)),
        *(part for path in policy.hidden for part in _hide(path)),
        *(part for device in (_devices() if policy.gpu else []) for part in ("--dev-bind-try", device, device)),
        *(part for path in policy.writable for part in ("--bind", path, path)),
        "--remount-ro", "/dev", "--remount-ro", "/",
    ]  # fmt: skip


def _machine_entries_in_proc() -> list[str]:
    """The folders of /proc that describe the machine instead of a process, and the writable files there.

    bubblewrap itself makes only four of them read-only, and it skips /proc/sys when the mode of that folder refuses
    writing. The files below it belong to root, so a training in a sandbox that root started could change kernel
    settings without any capability. The list is read at run time because each driver adds its own entries.
    """
    with os.scandir("/proc") as entries:
        found = [e for e in entries if not (e.name.isdecimal() or e.is_symlink() or e.name == _NAMESPACED)]
    return sorted(e.path for e in found if e.is_dir() or e.stat().st_mode & _WRITABLE)


@functools.lru_cache(maxsize=2)
def _options(command: str) -> frozenset[str]:
    """The options of the installed version; older versions lack some."""
    said = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    return frozenset(word for word in (said.stdout + said.stderr).split() if word.startswith("--"))


def _tmpfs(path: str, policy: Policy, known: frozenset[str]) -> list[str]:
    size = ["--size", str(policy.tmp_bytes)] if "--size" in known and policy.tmp_bytes else []
    return [*size, "--tmpfs", path]


def _bind_or_link(path: str) -> list[str]:
    """On most systems /bin and /lib are links to /usr, and they stay links in the sandbox."""
    if os.path.islink(path) and Path(path).parent == Path("/"):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path]


def _hide(path: str) -> list[str]:
    """Put an empty folder over a folder, and over a file a device, which cannot be opened on a bound path."""
    if os.path.islink("/" + Path(path).parts[1]):
        return []  # the target of such a link is hidden at its own path
    return ["--tmpfs", path, "--remount-ro", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]


def _devices() -> list[str]:
    return sorted(found for pattern in _GPU_DEVICES for found in glob.glob(pattern))
