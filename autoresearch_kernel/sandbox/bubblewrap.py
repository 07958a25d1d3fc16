"""The command line of bubblewrap: a root with nothing in it but what a policy lists, and no network."""

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
_OF_NAMESPACE = "sysvipc"  # shows the sandbox's own shared memory and queues, read-only for everybody
_GPU_DEVICES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/kfd", "/dev/dri", "/dev/dxg", "/dev/accel")


def bubblewrap_prefix(policy: Policy) -> list[str]:
    """What stands before the command. Start it in an environment without secrets: /proc/1/environ keeps that one.

    Raises FileNotFoundError where bubblewrap is not installed.
    """
    command = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if command is None:
        raise FileNotFoundError("bwrap is not installed; `sudo apt install bubblewrap` installs it.")
    known = _options(command)
    return [
        command, "--unshare-all", "--unshare-user", *(["--disable-userns"] if "--disable-userns" in known else []),
        "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "sandbox",
        "--proc", "/proc", *(part for path in _machine_in_proc() for part in ("--ro-bind-try", path, path)),
        "--dev", "/dev",
        *_tmpfs("/dev/shm", policy, known), *_tmpfs("/tmp", policy, known),
        *(part for path in policy.read_only for part in _bind_or_link(path)),
        *(part for path in policy.hidden for part in _cover(path)),
        *(part for device in (_devices() if policy.gpu else []) for part in ("--dev-bind-try", device, device)),
        *(part for path in policy.writable for part in ("--bind", path, path)),
        "--remount-ro", "/dev", "--remount-ro", "/",
    ]  # fmt: skip


def _machine_in_proc() -> list[str]:
    """The folders of /proc that show the machine rather than a process, and the files there that may be written.

    bubblewrap itself makes only four of them read-only, and /proc/sys not at all when the mode of that folder refuses
    writing. The files below it belong to root, so in a sandbox that root started a training could change the kernel's
    settings without any capability. The list is read at run time because each driver adds its own entries.
    """
    with os.scandir("/proc") as entries:
        found = [e for e in entries if not (e.name.isdecimal() or e.is_symlink() or e.name == _OF_NAMESPACE)]
    return sorted(e.path for e in found if e.is_dir() or e.stat().st_mode & _WRITABLE)


@functools.lru_cache(maxsize=2)
def _options(command: str) -> frozenset[str]:
    """The options that this version has: older ones lack some."""
    said = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    return frozenset(word for word in (said.stdout + said.stderr).split() if word.startswith("--"))


def _tmpfs(path: str, policy: Policy, known: frozenset[str]) -> list[str]:
    size = ["--size", str(policy.tmp_bytes)] if "--size" in known and policy.tmp_bytes else []
    return [*size, "--tmpfs", path]


def _bind_or_link(path: str) -> list[str]:
    """/bin and /lib are links to /usr on most systems, and stay links."""
    if os.path.islink(path) and Path(path).parent == Path("/"):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path]


def _cover(path: str) -> list[str]:
    """Nothing in the place of a folder; in that of a file a device, which cannot be opened on a bound path."""
    if os.path.islink("/" + Path(path).parts[1]):
        return []  # what such a link leads to is covered where it lies
    return ["--tmpfs", path, "--remount-ro", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]


def _devices() -> list[str]:
    return sorted(found for pattern in _GPU_DEVICES for found in glob.glob(pattern))
