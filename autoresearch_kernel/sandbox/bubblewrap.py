"""The command line of bubblewrap: a root with only the paths that a policy lists, and no network."""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..system.processes import run_program
from .policy import Policy, inner_links, system_paths

HELP_SECONDS = 10.0  # in which bwrap has to print its help; it takes milliseconds
# What Python, glibc, torch, psutil and compilers read in /proc besides the entries of processes. The other entries of
# the machine are empty in a sandbox: root may write some of them, and their counters tell what other sandboxes did.
IN_PROC = {"cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems", "sys", "sysvipc"}
IN_PROC_FOR_GPU = {"devices", "driver", "modules"}
SETTINGS = (  # below /proc/sys
    "kernel/cap_last_cap", "kernel/ngroups_max", "kernel/osrelease", "kernel/pid_max", "kernel/random/uuid",
    "net/core/somaxconn", "vm/max_map_count", "vm/mmap_min_addr", "vm/overcommit_memory",
)  # fmt: skip
# The user whose rights the code gets where root starts a sandbox. Neither Debian nor systemd uses this number, and
# it is one of the 65,536 that a container usually has.
OTHER_USER = 65_529
_TO_CHANGE_USER = ("CAP_CHOWN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")  # confine.py gives them up
_AMONG = 7  # of the first words of a command, before which a template is asked (`join.py`)
_GPU_DEVICES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/kfd", "/dev/dri", "/dev/dxg", "/dev/accel")


def bubblewrap_prefix(policy: Policy, user: int | None = None, as_first: bool = False) -> list[str]:
    """The beginning of the command. Start it in an environment without secrets, because /proc/1/environ keeps that one.

    With `user`, which root alone can ask for, there is no user namespace, and the command gets the capabilities with
    which `confine.py` becomes that user. With `as_first` the command itself is the sandbox's first process. Raises
    FileNotFoundError where bubblewrap is not installed.
    """
    command = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if command is None:
        raise FileNotFoundError("bwrap is not installed; `sudo apt install bubblewrap` installs it.")
    known, links = _options(command), inner_links(policy.read_only)
    own_user = ["--unshare-user", *(["--disable-userns"] if "--disable-userns" in known else [])]
    return [
        command, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        *(own_user if user is None else []), "--cap-drop", "ALL",
        *(part for name in (_TO_CHANGE_USER if user is not None else ()) for part in ("--cap-add", name)),
        "--die-with-parent", *(["--as-pid-1"] if as_first else []), "--new-session", "--hostname", "sandbox",
        "--proc", "/proc", *_without_the_machine(policy.gpu),
        "--dev", "/dev",
        *_tmpfs("/dev/shm", policy, known), *_tmpfs("/tmp", policy, known),
        *_folders_above([*policy.read_only, *policy.writable]),
        *(part for path in dict.fromkeys((*_root_links(), *policy.read_only)) for part in _bind_or_link(path, links)),
        *(part for path in dict.fromkeys(_place_of(path, links) for path in policy.hidden) for part in _hide(path)),
        *(part for device in (_devices() if policy.gpu else []) for part in ("--dev-bind-try", device, device)),
        *(part for path in policy.writable for part in ("--bind", path, path)),
        "--remount-ro", "/dev", "--remount-ro", "/",
    ]  # fmt: skip


def has_own_pids(words: Sequence[str]) -> bool:
    """Whether a command that `kinds.wrap` made starts bubblewrap, whose processes are numbered anew."""
    return any(Path(word).name == "bwrap" for word in words[:_AMONG])


def _without_the_machine(gpu: bool) -> list[str]:
    """Cover the entries of /proc that describe the machine and are not in the list, and all settings but a few.

    The entries are read at run time, because each driver adds its own.
    """
    kept = IN_PROC | (IN_PROC_FOR_GPU if gpu else set())
    with os.scandir("/proc") as entries:
        names = sorted(e.name for e in entries if not (e.name.isdecimal() or e.is_symlink() or e.name in kept))
    covered = [part for name in names for part in _hide(f"/proc/{name}")]
    driver = ["--ro-bind-try", "/proc/driver", "/proc/driver"] if gpu else []
    settings = [f"/proc/sys/{name}" for name in SETTINGS]
    shown = [part for path in settings for part in ("--ro-bind-try", path, path)]
    return [*covered, *driver, "--tmpfs", "/proc/sys", *_folders_above(settings), *shown, "--remount-ro", "/proc/sys"]


@functools.lru_cache(maxsize=2)
def _options(command: str) -> frozenset[str]:
    """The options of the installed version; older versions lack some."""
    said = run_program([command, "--help"], HELP_SECONDS)
    words = (said.stdout + said.stderr).decode("utf-8", "replace").split()
    return frozenset(word for word in words if word.startswith("--"))


def _tmpfs(path: str, policy: Policy, known: frozenset[str]) -> list[str]:
    size = ["--size", str(policy.tmp_bytes)] if "--size" in known and policy.tmp_bytes else []
    return [*size, "--tmpfs", path]


def _folders_above(paths: Iterable[str]) -> list[str]:
    """Make the folders that contain these paths. bubblewrap would make them closed to all users but root."""
    folders = dict.fromkeys(map(os.path.dirname, paths))
    return [part for folder in folders if folder != "/" for part in ("--dir", folder)]


def _root_links() -> list[str]:
    """The loader looks for libraries through these; they lead nowhere unless a policy lists what they lead to."""
    return [path for path in ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin") if os.path.islink(path)]


def _bind_or_link(path: str, links: Mapping[str, str]) -> list[str]:
    """On most systems /bin and /lib are links to /usr; these, and links into another listed path, stay links."""
    if os.path.islink(path) and Path(path).parent == Path("/"):
        return ["--symlink", os.readlink(path), path]
    if path in links:
        return ["--symlink", links[path], path]
    return ["--ro-bind", path, path]


def _place_of(path: str, links: Mapping[str, str]) -> str:
    """A path, or where it is without a link that stays one: bubblewrap mounts nothing through a link."""
    return next((to + path[len(link) :] for link, to in links.items() if path.startswith(f"{link}/")), path)


def _hide(path: str) -> list[str]:
    """Put an empty folder over a folder, and over a file a device, which cannot be opened on a bound path."""
    if os.path.islink("/" + Path(path).parts[1]):
        return []  # the target of such a link is hidden at its own path
    return ["--tmpfs", path, "--remount-ro", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]


def may_be_left_to(user: int, policy: Policy) -> bool:
    """Whether another user can do what a policy allows.

    What is listed besides the system must be readable for everybody. This looks at the listed paths, at what lies
    directly in them, and at some packages, as root may have installed them with a umask of 077. Folders that root
    cannot give away lie on some network and USB drives.
    """
    system = set(map(str, system_paths(policy.gpu)))
    tops = [Path(path) for path in policy.read_only if path not in system]
    inside = [child for top in tops if top.is_dir() for child in top.iterdir()]
    modes = [path.stat().st_mode for path in (*tops, *inside, *_parts_of_packages()) if path.exists()]
    needs = [(mode, 0o5 if stat.S_ISDIR(mode) else 0o4) for mode in modes]
    devices = [os.stat(path).st_mode for path in _devices()] if policy.gpu else []
    needs += [(mode, 0o6) for mode in devices if stat.S_ISCHR(mode) and mode & 0o222]
    return all(mode & need == need for mode, need in needs) and _can_be_given(policy.writable, user)


def _parts_of_packages() -> list[Path]:
    """The first file of each of some packages, and the two folders above it."""
    found = [importlib.util.find_spec(name) for name in ("ipykernel", "numpy", "torch")]
    files = [Path(spec.origin) for spec in found if spec is not None and spec.origin is not None]
    return [part for file in files for part in (file, *file.parents[:2])]


def _can_be_given(folders: Iterable[str], user: int) -> bool:
    """Whether root may give these folders to a user; tried, and undone, as bubblewrap itself has to enter them."""
    try:
        for folder in folders:
            os.chown(folder, user, user)
            os.chown(folder, os.geteuid(), os.getegid())
    except OSError:
        return False
    return True


def _devices() -> list[str]:
    return sorted(found for pattern in _GPU_DEVICES for found in glob.glob(pattern))
