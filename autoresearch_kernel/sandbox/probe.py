"""Finds the sandbox that works on this machine, by starting one and trying to reach out of it.

Only an attempt shows whether a sandbox holds: container profiles, AppArmor and old kernels each disable another part.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import MachineFailed
from ..core.sanitize import parse_object
from ..system.explain import explain
from ..system.locations import home_folder
from ..system.processes import run_program, start_ticks
from ..system.temporary import own_folder
from .bubblewrap import OTHER_USER
from .hidden_stdlib import held_out_paths
from .policy import Policy, hidden_paths, python_paths, readable_parts, system_paths

NAMES = ("bubblewrap", "landlock", "seatbelt", "none")
PROBE_SECONDS = 20.0

Command = Callable[[Policy, list[str], str, int | None], list[str]]

# Tries every known way out of the sandbox and prints which ways are open. It imports nothing that takes time.
_ATTEMPTS = """
import json, os, socket, sys
given = json.loads(sys.argv[1])
def can(act):
    try: act()
    except BaseException as error: return False if isinstance(error, (OSError, ValueError)) else repr(error)
    return True
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s: s.settimeout(1); s.connect(address)
def read(path):
    with open(path, "rb") as f: f.read(1)
def write(path):
    with open(path, "ab") as f: f.write(b"x")
def started(pid):
    with open("/proc/%d/stat" % pid) as f: return f.read().rpartition(")")[2].split()[19]
def is_it(pid):
    try: return sys.platform != "linux" or started(pid) == given["started"]
    except OSError: return False
def read_or_list(path):
    os.listdir(path) if os.path.isdir(path) else read(path)
print(json.dumps({
    "network": can(lambda: connect(socket.AF_INET, ("127.0.0.1", given["port"]))),
    "files": can(lambda: read(given["file"])) or can(lambda: write(given["file"])) and None,
    "held out": any(can(lambda: read(path)) is True for path in given["hidden"]),
    "home": any(can(lambda: read_or_list(path)) is True for path in given["home"]),
    "sockets": can(lambda: connect(socket.AF_UNIX, given["socket"])),
    "signals": is_it(given["pid"]) and can(lambda: os.kill(given["pid"], 0)),
    "secrets": is_it(given["pid"]) and can(lambda: read("/proc/%d/environ" % given["pid"])),
    "work": can(lambda: write(given["own"])),
}))
"""
_PROMISES = {  # what a sandbox provides when the attempt fails
    "network": "no network", "files": "no files but the listed ones", "home": "no home",
    "held out": "no held-out document",
    "sockets": "no service of this machine", "signals": "no other process", "secrets": "no environment of others",
}  # fmt: skip


@dataclass(frozen=True)
class SandboxReport:
    """A sandbox of this machine. `missing` has what is not enforced, why, and the remedy."""

    name: str  # "bubblewrap", "landlock", "seatbelt" or "none"
    enforced: tuple[str, ...] = ()
    missing: tuple[tuple[str, str, str], ...] = ()
    user: int | None = None  # whose rights the code gets where root starts it; None for the caller's

    def why(self) -> str:
        """What is missing, in one line for users."""
        return " ".join(f"{what}: {reason}. {remedy}" for what, reason, remedy in self.missing)


def find_sandbox(wanted: str, command: Command) -> SandboxReport:
    """The first sandbox that holds, or the requested one, or none; with the problems of the others."""
    if wanted not in ("", *NAMES):
        raise ValueError(f"AUTORESEARCH_SANDBOX is {wanted!r}: use one of {', '.join(NAMES)}, or unset it.")
    if wanted == "none":
        return SandboxReport(
            "none", (), (("a sandbox", "AUTORESEARCH_SANDBOX=none or --unsafe renounced it", "Unset it."),)
        )
    missing: list[tuple[str, str, str]] = []
    for name in (wanted,) if wanted else ("seatbelt",) if sys.platform == "darwin" else ("bubblewrap", "landlock"):
        for user in (OTHER_USER, None) if name == "bubblewrap" and os.geteuid() == 0 else (None,):
            held, reason = _try(name, user, command)
            if not reason:
                promises = (*held, *_ALWAYS, *(["no rights of root"] if user is not None else []))
                return SandboxReport(name, promises, (*missing, *_gaps(name)), user)
            if user is not None and _HUNG not in reason:
                missing.append((_WITHOUT_ROOT, reason, _REMEDY_WITHOUT_ROOT))
                continue
            missing = [gap for gap in missing if gap[0] != _WITHOUT_ROOT]
            missing.append((name, reason, _remedy(name, reason)))
            break
    return SandboxReport("none", (), tuple(missing))


_HUNG = "did not end within"
_WITHOUT_ROOT = "another user for what root starts"
_REMEDY_WITHOUT_ROOT = (
    "Start studies as an ordinary user. Otherwise this needs the capabilities of root, and an interpreter that every "
    "user may read."
)
_ALWAYS = ("memory, processes and disk are limited", "no process outlives its run", "caches are private")


def _try(name: str, user: int | None, command: Command) -> tuple[tuple[str, ...], str]:
    """What held in a sandbox that was started, and "", or the problem."""
    if name != "seatbelt" and sys.platform != "linux":
        return (), f"it needs Linux, this is {platform.system()}"
    if name == "bubblewrap" and shutil.which("bwrap") is None:
        return (), "bwrap is not installed"
    try:
        with own_folder() as folder:
            open_ways, reason = _reach_out(name, user, folder, command)
    except (OSError, MachineFailed) as error:
        return (), f"it could not be tried: {explain(error)}"
    broken = [_PROMISES[way] for way in _PROMISES if open_ways.get(way) not in (False, None)]
    if not reason and broken and not (name == "landlock" and broken == [_PROMISES["signals"]]):
        reason = f"a sandbox was started, and it did not hold: {', '.join(broken)}"
    return tuple(_PROMISES[way] for way in _PROMISES if open_ways.get(way) is False), reason


def _a_file_of(path: str) -> list[str]:
    """The file at a path, or one of the files below it."""
    if os.path.isfile(path):
        return [path]
    return next(([os.path.join(folder, min(names))] for folder, _, names in os.walk(path) if names), [])


def _reach_out(name: str, user: int | None, folder: Path, command: Command) -> tuple[dict[str, bool | str], str]:
    """The open ways out of a sandbox, found by a sandboxed process that tries them all; and why that was impossible."""
    own, outside = folder / "own", folder / "outside"
    own.mkdir()
    outside.write_text("x")
    listed = (*system_paths(False), *python_paths(hidden_paths(folder)))
    paths = [part for path in listed for part in readable_parts(path, hidden_paths(path.parent))]
    confine = str(Path(__file__).with_name("confine.py"))
    read_only = (*map(str, paths), confine)
    policy = Policy(read_only, held_out_paths(read_only), (str(own),), scratch=str(own))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "s"))
        unix.listen()
        given = {
            "port": tcp.getsockname()[1], "file": str(outside), "home": _home_without(policy), "pid": os.getpid(),
            "socket": str(folder / "s"), "own": str(own / "file"), "started": start_ticks(os.getpid()),
            "hidden": [file for path in policy.hidden for file in _a_file_of(path)],
        }  # fmt: skip
        python = [os.path.realpath(sys.executable), "-I", "-S", "-c", _ATTEMPTS, json.dumps(given)]
        env = {"PATH": os.environ.get("PATH", os.defpath)}
        try:
            done = run_program(command(policy, python, name, user), PROBE_SECONDS, env=env, cwd=own)
        except OSError as error:
            return {}, explain(error)
    said = parse_object(done.stdout)
    if said is None:
        stderr = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
        return {}, stderr or f"it ended with exit status {done.returncode} and said nothing"
    said["files"] = said["files"] is True or outside.read_text() != "x"
    return said, "" if said.pop("work") is True else "its own folder could not be written"


def _home_without(policy: Policy) -> list[str]:
    """Some paths in the home that lead to nothing that the policy lists.

    None for a home that does not exist or cannot be listed, or that is `/`.
    """
    home, listed = home_folder(), [Path(path) for path in policy.read_only]
    try:
        found = [] if home is None or home == home.parent else sorted(home.iterdir())
    except OSError:
        return []
    return [str(path) for path in found if not any(path in (p, *p.parents) for p in listed)][:20]


def _gaps(name: str) -> list[tuple[str, str, str]]:
    """What this kind of sandbox does not enforce."""
    if name == "bubblewrap" and _landlock_version() < 1:
        return [("a second wall", "this kernel has no Landlock, so the namespaces of bubblewrap stand alone", "")]
    if name != "landlock":
        return []
    gaps = [
        ("names of other processes", "Landlock hides what they hold, not that they run", _INSTALL),
        ("a GPU", "CUDA does not start under Landlock", _INSTALL),
        ("processes that share memory", "/dev/shm is closed, as it would be shared with everybody", _INSTALL),
    ]
    version = _landlock_version()
    if version < 4:
        gaps.append(("TCP ports by Landlock", f"its version {version} has none; the call filter refuses them", ""))
    if version < 6:
        gaps.append(("signals to other processes of yours", f"version {version} of Landlock cannot", _INSTALL))
    return gaps


_INSTALL = "Install bubblewrap: `sudo apt install bubblewrap`."


def _landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


def _remedy(name: str, reason: str) -> str:
    """What a user can do when a sandbox does not start."""
    if "AF_UNIX" in reason:
        return "Set TMPDIR to a folder with a short name."
    if _HUNG in reason:
        return "Run `bwrap --version` to see whether it answers; installing bubblewrap again may help."
    if "it needs Linux" in reason:
        return "On Windows, work inside WSL2."
    if name == "bubblewrap" and "not installed" in reason:
        return _INSTALL
    if name == "bubblewrap" and Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists():
        return (
            "Ubuntu 24.04 and later allow it to programs with a profile: `sudo apt install apparmor-profiles && "
            "sudo ln -s /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && "
            "sudo systemctl reload apparmor`."
        )
    if name == "bubblewrap":
        return (
            "In a container, allow user namespaces: `docker run --security-opt seccomp=unconfined --security-opt "
            "systempaths=unconfined`, or `sysctl kernel.unprivileged_userns_clone=1` on the machine."
        )
    return "It needs Linux 5.13 or later with Landlock among the names in /sys/kernel/security/lsm."
