"""`python -I -S confine.py SPEC COMMAND...`: gives up the rights that SPEC (JSON) names, then becomes COMMAND.

This is the last step into a sandbox: it sets limits, the environment and a system call filter, and Landlock where there
are no namespaces. It imports nothing of the package, so that it starts within a few hundredths of a second. When a step
fails, it does not start the command but exits with code 125 and one line that names the step.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

REFUSED = 125

# <linux/prctl.h>, <linux/capability.h>, <linux/landlock.h>; the system calls have these numbers on every machine.
_PDEATHSIG, _SET_DUMPABLE, _NO_NEW_PRIVS, _SECCOMP, _CAPBSET_DROP, _SECUREBITS = 1, 4, 38, 22, 24, 28
_CAPABILITIES_V3, _SECCOMP_FILTER, _NO_ROOT_LOCKED = 0x20080522, 2, 0x3
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CAPSET = {"x86_64": 126, "aarch64": 91}

_READ_FILE, _READ_DIR, _EXECUTE = 1 << 2, 1 << 3, 1 << 0
_WRITE_FILE, _TRUNCATE, _IOCTL_DEV, _MAKE_DEVICES = 1 << 1, 1 << 14, 1 << 15, 1 << 6 | 1 << 11
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # number of file rights that each version of Landlock knows
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SHARED = ("/tmp", "/dev/shm")  # of a sandbox with namespaces; other paths of the sandbox are mounted below them
_TCP = 0x3  # bind and connect, from version 4
_SCOPES = 0x3  # abstract sockets and signals, from version 6

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    start(json.loads(sys.argv[1]), sys.argv[2:])


def start(spec: dict[str, Any], command: list[str]) -> NoReturn:
    """Close the sandbox and become the command."""
    close_sandbox(spec)
    try:
        os.execvpe(command[0], command, os.environ)
    except OSError as error:
        _refuse(f"starting {command[0]}", error)


def close_sandbox(spec: dict[str, Any]) -> None:
    """Give up the rights that `spec` names, in this process. When a step fails, the process ends with REFUSED."""
    _take(_STEPS, spec)


def stay_behind(spec: dict[str, Any]) -> None:
    """The same for the first process of a sandbox, which only waits; it stays the user that its parent can end."""
    _take(_STEPS_OF_THE_FIRST, {**spec, "user": None})


def _take(steps: Mapping[str, Callable[[dict[str, Any]], None]], spec: dict[str, Any]) -> None:
    for name, act in steps.items():
        try:
            act(spec)
        except (OSError, ValueError) as error:
            _refuse(name, error)


def _refuse(step: str, error: Exception) -> NoReturn:
    sys.stderr.write(f"The sandbox could not be closed ({step}): {error}. Nothing was started.\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def set_up(spec: dict[str, Any]) -> None:
    """Make the sandbox's own folders, set the environment, and start a session."""
    for folder in spec["folders"]:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    for link, target in spec["links"].items():
        if not os.path.lexists(link):
            os.symlink(target, link)
    os.environ.update(spec["env"])
    if "AUTORESEARCH_RUNNER_PID" in os.environ:  # inside a sandbox the runner has another number
        os.environ["AUTORESEARCH_RUNNER_PID"] = str(os.getppid())
    if os.getppid() == 1:  # ipykernel would take it for the death of its parent
        os.environ.pop("JPY_PARENT_PID", None)
    os.environ["AUTORESEARCH_SANDBOX_PARENT"] = str(os.getppid())
    if os.getpgrp() != os.getpid():
        os.setsid()  # so that an interrupt reaches the command and its children


def limit(spec: dict[str, Any]) -> None:
    """Set the limits of each process, and let the system kill this process first when memory runs out."""
    for name, value in spec["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    if spec["max_tasks"]:
        most = spec["max_tasks"] + _tasks_of(os.getuid() if spec["user"] is None else spec["user"])
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    with open("/proc/self/oom_score_adj", "r+") as file:
        score = max(int(file.read()), 500)
        file.seek(0)
        file.write(str(score))


def _tasks_of(user: int) -> int:
    """Threads of a user in /proc, all of which the limit counts; in a namespace these are the sandbox's."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    total += os.stat(f"/proc/{name}/task").st_nlink - 2
            except OSError:  # the process ended meanwhile
                continue
    return total


def give_up_capabilities(spec: dict[str, Any]) -> None:
    """Drop all capabilities of root, so that starting a program cannot restore them, and become the sandbox's user."""
    if os.geteuid() == 0:
        _libc.prctl(_SECUREBITS, _NO_ROOT_LOCKED, 0, 0, 0)
    for capability in range(64):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL above the last one
    if spec["user"] is not None:
        _become(spec["user"], spec["own"])
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.syscall(_CAPSET[os.uname().machine], header, nothing))


def _become(user: int, folders: list[str]) -> None:
    """Become a user and the group of the same number, who owns these folders with what the parent has put there."""
    paths = {*folders}
    for top in paths - {*_SHARED}:
        for folder, folders_inside, files in os.walk(top, onerror=_raise):
            paths |= {os.path.join(folder, name) for name in (*folders_inside, *files)}
    for path in sorted(paths, key=len, reverse=True):  # a closed folder cannot be entered after it was given away
        os.lchown(path, user, user)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _check(_libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0))  # else its entry in /proc belongs to root until it starts a program


def _raise(error: OSError) -> None:
    raise error


def end_with_parent(spec: dict[str, Any]) -> None:
    """Receive SIGKILL when the parent ends, and accept no privileges from program files."""
    parent = os.getppid()
    _check(_libc.prctl(_PDEATHSIG, 9, 0, 0, 0))
    if os.getppid() != parent:
        raise OSError("the parent is gone")
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))


def restrict_files(spec: dict[str, Any]) -> None:
    """Landlock: allow only the listed paths, no TCP, and no signals or abstract sockets to the outside.

    In a sandbox with namespaces, whose rules list nothing to read, it is a second wall: it restricts writing, and no
    process can take over the sandbox's first one. Without Landlock such a sandbox does without this wall.
    """
    rules = spec["landlock"]
    if rules is None:
        return
    version = _libc.syscall(_CREATE_RULESET, None, 0, 1)
    has_namespaces = not rules["read"]
    if version < 1:
        if has_namespaces:
            return
        raise OSError("this kernel has no Landlock")
    rights = (1 << _FS_RIGHTS.get(version, 16)) - 1
    reading = _READ_FILE | _READ_DIR | _EXECUTE
    handled = rights & ~reading if has_namespaces else rights
    tcp = _TCP if version >= 4 and not has_namespaces else 0
    attributes = (ctypes.c_uint64 * 3)(handled, tcp, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _check(_libc.syscall(_CREATE_RULESET, attributes, size, 0))
    hidden = set(rules["hidden"])
    above = {folder for path in hidden for folder in _folders_of(path)}
    for path in rules["read"]:
        _allow_around(ruleset, path, reading & handled, hidden, above)
    for path in rules["write"]:
        _allow(ruleset, path, handled & ~(_IOCTL_DEV | _MAKE_DEVICES))
    for path in rules["devices"]:
        _allow(ruleset, path, (reading | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV) & handled)
    _restrict(ruleset)


def _folders_of(path: str) -> list[str]:
    """The folders that contain a path, up to the root."""
    folders = []
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        folders.append(path)
    return folders


def _allow_around(ruleset: int, path: str, rights: int, hidden: set[str], above: set[str]) -> None:
    """Allow `path` without what is hidden in it.

    Landlock cannot take rights away. So a folder above a hidden path may only be listed, and each of its other entries
    is allowed. A link in such a folder gets no rule, because that would open its target, which has a rule at its own
    path.
    """
    real = os.path.realpath(path)
    if real in hidden or not hidden.isdisjoint(_folders_of(real)):
        return
    if real not in above:
        _allow(ruleset, path, rights)
        return
    _allow(ruleset, real, _READ_DIR)
    with os.scandir(real) as entries:
        for entry in entries:
            if not entry.is_symlink():
                _allow_around(ruleset, entry.path, rights, hidden, above)


def _restrict(ruleset: int) -> None:
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rights &= ~0 if os.path.isdir(path) else _OF_FILES
    _check(_libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(_PathRule(rights, descriptor)), 0))
    os.close(descriptor)


def filter_calls(spec: dict[str, Any]) -> None:
    """Start the system call filter; this is the last step, because the filter also applies to this process."""
    code = base64.b64decode(spec["seccomp"])
    if not code:
        return

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    _check(_libc.prctl(_SECCOMP, _SECCOMP_FILTER, ctypes.byref(Program(len(code) // 8, code)), 0, 0))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


_STEPS = {
    "limits": limit,
    "capabilities": give_up_capabilities,
    "set-up": set_up,
    "parent": end_with_parent,
    "Landlock": restrict_files,
    "system calls": filter_calls,
}
_STEPS_OF_THE_FIRST = {name: _STEPS[name] for name in ("capabilities", "parent", "Landlock", "system calls")}


if __name__ == "__main__":
    main()
