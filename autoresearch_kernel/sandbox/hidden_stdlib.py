"""The files of Python and its packages that no sandbox may read, because an embedded corpus scores on their text.

`system/standard_library.py` names the modules of the corpus `stdlib`, and `system/held_out_packages.py` the files of
the corpus `packages`; no training imports them. Every sandbox hides their source and compiled files, whatever its
corpus. It also hides every other standard library on its paths, because another version has nearly the same text, and
the copies that `prepare` found in other files (corpora/copies.py).
"""

from __future__ import annotations

import functools
import glob
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import MachineFailed
from ..system import held_out_packages
from ..system.locations import NoHome, cache_dir
from ..system.shell import shell_command
from ..system.standard_library import HELD_OUT, REPEATING

_MARKS = ("os", "abc", "codecs", "traceback")  # modules in the folder of every standard library
_DEPTH = 6  # levels below a listed folder that are searched for other standard libraries
_DEPTH_IN_NIX = 3
_WITHOUT = {
    "include", "doc", "man", "locale", "icons", "site-packages", "dist-packages", "node_modules", "__pycache__",
}  # fmt: skip
_FOREIGN_PACKAGES = ("site-packages", "dist-packages")  # in the library of an interpreter whose environment is another
_ON_MACOS = ("/Library/Frameworks", "/System/Library/Frameworks")


def held_out_paths(read_only: Iterable[str], copies: Path | None = None) -> tuple[str, ...]:
    """The files and folders to hide below the `read_only` paths of a sandbox. No links lead to them.

    Args:
        copies: the folder with the lists of copies that `prepare` wrote; None for that of the cache in use.

    Raises MachineFailed when a list of copies that `prepare` wrote is damaged.
    """
    own = os.path.realpath(sysconfig.get_paths()["stdlib"])
    read_only = tuple(read_only)
    listed = [*read_only, *(_ON_MACOS if sys.platform == "darwin" else ())]
    hidden = [
        *_own_files(own),
        *_files_of_packages(),
        *_copies(copies),
        *(path for root in _outermost(listed) for path in _libraries(root) if path != own),
    ]
    shown = [(root, os.path.realpath(root)) for root in listed]
    found = (root + path[len(real) :] for path in hidden for root, real in shown if f"{path}/".startswith(f"{real}/"))
    paths = dict.fromkeys(found)
    return tuple(path for path in paths if not any(str(folder) in paths for folder in Path(path).parents))


def _files_of_packages() -> list[str]:
    """The held-out files of packages, and what they are compiled to, in all folders that are imported from.

    A package's folder of tests that has one of them is hidden whole: no package imports from its tests except to
    run them, and each path that is hidden makes the start of a sandbox longer.
    """
    folders = dict.fromkeys(os.path.realpath(folder) for folder in (*sys.path, *site.getsitepackages()) if folder)
    names = dict.fromkeys(map(_with_its_tests, held_out_packages.HELD_OUT))
    paths = [os.path.join(folder, name) for folder in folders for name in names]
    return [found for path in paths if os.path.exists(path) for found in (path, *_compiled(path))]


def _with_its_tests(name: str) -> str:
    """The folder `tests` above a file of a package, or the file where there is none."""
    parts = name.split("/")
    return "/".join(parts[: parts.index("tests") + 1]) if "tests" in parts else name


def _compiled(source: str) -> list[str]:
    folder, base = os.path.split(source.removesuffix(".py"))
    return sorted(glob.glob(os.path.join(glob.escape(folder), "__pycache__", f"{base}.*.pyc")))


def _own_files(library: str) -> list[str]:
    """The held-out packages, modules and compiled modules in the library of this interpreter, and what repeats them."""
    found = [os.path.join(library, name) for name in (*REPEATING, *_FOREIGN_PACKAGES)]
    found = [path for path in found if path not in map(os.path.realpath, sys.path)]
    for name in HELD_OUT:
        path = os.path.join(library, *name.split("."))
        found += [path, f"{path}.py", *_compiled(path)]
    return [path for path in found if os.path.exists(path)]


def copies_file(cache: Path, key: str) -> Path:
    """What `prepare` counted for a corpus: the shares of copied text, and the paths that every sandbox hides."""
    return cache / "copies" / f"{key}.json"


def _copies(folder: Path | None) -> list[str]:
    """The paths with copies of held-out text that `prepare` found, of every corpus with a list in the folder."""
    try:
        folder = folder or copies_file(cache_dir(), "x").parent
    except NoHome:
        return []
    files = sorted(glob.glob(os.path.join(glob.escape(str(folder)), "*.json")))  # none where it is closed to this user
    found = [path for file in files for path in _listed_in(Path(file))]
    return [path for path in dict.fromkeys(found) if os.path.exists(path)]


def _listed_in(file: Path) -> list[str]:
    try:
        return [os.fspath(path) for path in json.loads(file.read_bytes())["hidden"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineFailed(
            f"{file} is damaged ({type(error).__name__}). It lists files that sandboxes hide, so no sandbox starts "
            f"without it. Remove it and run `{shell_command('prepare')}` with the options of its corpus, {file.stem}."
        ) from error


def _outermost(paths: Iterable[str]) -> list[str]:
    """The real folders that may contain a library, without those inside another one of them."""
    real = {os.path.realpath(path) for path in paths if not f"{path}/".startswith("/sys/")}
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
