"""Takes from a scorer process every system call that looks up a path, before the code of a model runs in it.

A process that has seen targets could otherwise leave bits for later processes in the kernel's memory: which names it
looked for, which pages of a file it evicted, when it read a file. Afterwards no name reaches the kernel any more, not
even of a file that does not exist. The modules that a model names are therefore imported first.

Linux on x86_64 and aarch64 alone; elsewhere, and on a GPU, whose driver opens files at any time, nothing is taken.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickletools
import platform
import re
import sys
from typing import BinaryIO

from ..system.locations import PROJECT
from ..system.seccomp import allow_all, without_paths

_NO_NEW_PRIVS, _SET_MODE_FILTER, _ALL_THREADS = 38, 1, 1  # <linux/prctl.h>, <linux/seccomp.h>
_SECCOMP = {"x86_64": 317, "aarch64": 277}  # the number of this call
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_LONGEST_NAME = 200
# These import it only when they are called. It takes seconds, so it is imported for a model that names one of them.
_NEED_DYNAMO = {"torch.utils.checkpoint", "torch.nn.attention.flex_attention", "torch.jit", "torch.compiler"}


def import_named_modules(artefact: BinaryIO) -> None:
    """Import every module that the pickle `artefact` names anywhere, as its functions do; leaves the file at its start.

    A name that is no module is passed over, and so is a module that fails: the model itself will report that.
    """
    names: dict[str, None] = {}
    try:
        for operation, argument, _ in pickletools.genops(artefact):
            if operation.name == "GLOBAL":
                names[str(argument).partition(" ")[0]] = None
            elif operation.name in _STRINGS and len(str(argument)) < _LONGEST_NAME:
                names[str(argument)] = None
    except ValueError:  # no pickle; loading it says so
        names.clear()
    artefact.seek(0)
    if not _NEED_DYNAMO.isdisjoint(names):
        names["torch._dynamo"] = None
    for name in names:
        if name not in sys.modules and _NAME.fullmatch(name) and not _is_of_project(name):
            try:
                importlib.import_module(name)
            except (Exception, SystemExit):
                continue


def _is_of_project(name: str) -> bool:
    """Whether a name leads to a file of the project, such as train.py; prepare.py may be imported."""
    first, project = name.partition(".")[0], os.environ.get(PROJECT)
    return first != "prepare" and project is not None and os.path.exists(os.path.join(project, f"{first}.py"))


def can_refuse_paths() -> bool:
    """Whether `refuse_paths` works here, tried with a filter that allows every call.

    False where there is neither support nor a sandbox. Raises OSError in a sandbox, which has a filter already, so that
    another one must be possible.
    """
    if sys.platform != "linux" or platform.machine() not in _SECCOMP:
        return False
    try:
        _install(allow_all())
    except OSError:
        with open("/proc/self/status") as status:
            if any(line.split() == ["Seccomp:", "2"] for line in status):
                raise
        return False
    return True


def refuse_paths() -> None:
    """From now on no thread of this process, and no child of it, can look up a path. Raises OSError where it fails."""
    _install(without_paths())


def _install(code: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = Program(len(code) // 8, code)
    if libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) != 0:
        raise OSError(ctypes.get_errno(), "the scorer could not give up looking for files")
