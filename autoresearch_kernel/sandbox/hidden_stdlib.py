"""The files of Python's standard library that no sandbox may read, because the corpus `stdlib` scores on their text.

`system/standard_library.py` names the modules; no training imports them. Every sandbox hides their source and compiled
files, whatever its corpus. It also hides every other standard library on its paths, because another version has nearly
the same text.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Iterable

from ..system.standard_library import HELD_OUT

_MARKS = ("os", "abc", "codecs", "traceback")  # modules in the folder of every standard library
_DEPTH = 6  # levels below a listed folder that are searched for other standard libraries
_DEPTH_IN_NIX = 3
_WITHOUT = {
    "include", "doc", "man", "locale", "icons", "site-packages", "dist-packages", "node_modules", "__pycache__",
}  # fmt: skip
_ON_MACOS = ("/Library/Frameworks", "/System/Library/Frameworks")


def held_out_paths(read_only: Iterable[str]) -> tuple[str, ...]:
    """The files and folders to hide below the `read_only` paths of a sandbox. No links lead to them."""
    own = os.path.realpath(sysconfig.get_paths()["stdlib"])
    listed = [*read_only, *(_ON_MACOS if sys.platform == "darwin" else ())]
    hidden = [*_own_files(own), *(path for root in _outermost(listed) for path in _libraries(root) if path != own)]
    shown = [(root, os.path.realpath(root)) for root in listed]
    found = (root + path[len(real) :] for path in hidden for root, real in shown if f"{path}/".startswith(f"{real}/"))
    return tuple(dict.fromkeys(found))


def _own_files(library: str) -> list[str]:
    """The held-out packages, modules and compiled modules in the library of this interpreter."""
    folders = [folder for folder in (library, os.path.join(library, "__pycache__")) if os.path.isdir(folder)]
    names = [(folder, name) for folder in folders for name in sorted(os.listdir(folder))]
    return [os.path.join(folder, name) for folder, name in names if name.partition(".")[0] in HELD_OUT]


def _outermost(paths: Iterable[str]) -> list[str]:
    """The real folders that may contain a library, without those inside another one of them."""
    real = {os.path.realpath(path) for path in paths} - {"/sys", "/proc"}
    real = {path for path in real if os.path.isdir(path) and os.path.basename(path) not in _WITHOUT}
    return sorted(path for path in real if not any(path.startswith(f"{other}/") for other in real))


@functools.lru_cache(maxsize=64)
def _libraries(root: str) -> tuple[str, ...]:
    """Other standard libraries in a folder, also zipped ones. A process searches each folder once."""
    found: list[str] = []
    folders = [(os.path.realpath(root), _DEPTH_IN_NIX if root == "/nix/store" else _DEPTH)]
    while folders:
        folder, depth = folders.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if all(names & {f"{mark}.py", f"{mark}.pyc"} for mark in _MARKS):
            found.append(folder)
            continue
        found += [os.path.join(folder, name) for name in names if name.startswith("python") and name.endswith(".zip")]
        if depth:
            folders += [
                (entry.path, depth - 1)
                for entry in entries
                if entry.name not in _WITHOUT and entry.is_dir(follow_symlinks=False)
            ]
    return tuple(sorted(found))
