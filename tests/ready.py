"""What several files of tests use, made once for all workers of a test run: whoever is first makes it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SMALL = ("--corpus", "stdlib", "--vocab-size", "512", "--sequence-length", "64")
STDLIB = ("--corpus", "stdlib", "--vocab-size", "2048", "--sequence-length", "256")
PACKAGES = ("--corpus", "packages", "--vocab-size", "2048", "--sequence-length", "256")  # of studies on processors


def home_with(factory: pytest.TempPathFactory, *corpora: tuple[str, ...]) -> Path:
    """A new cache, of the caller alone, with these corpora; each is named by the options of prepare.py that build it.

    What a file of tests changes or locks there does not reach another file, nor another worker.
    """
    home = factory.mktemp("home")
    for options in corpora:
        add(factory, home, options)
    return home


def add(factory: pytest.TempPathFactory, home: Path, options: tuple[str, ...]) -> None:
    """Put a corpus into a cache."""
    shutil.copytree(_built_once(factory, options), home, dirs_exist_ok=True)


def offer(factory: pytest.TempPathFactory, home: Path, options: tuple[str, ...]) -> None:
    """Let others use the one corpus in the cache of a test that was to build it from nothing."""

    def copy(new: Path) -> None:
        for part in ("corpora", "heldout", "copies"):
            shutil.copytree(home / part, new / part)

    made_once(factory, _name_of(options), copy)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of all workers that `make` filled; it is only read."""
    own = factory.getbasetemp()
    of_all = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "of-all-workers"
    of_all.mkdir(exist_ok=True)
    folder, new = of_all / name, of_all / f"{name}.new"
    with open(of_all / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(new, ignore_errors=True)  # of a worker that failed
            new.mkdir()
            make(new)
            new.rename(folder)
    return folder


def _built_once(factory: pytest.TempPathFactory, options: tuple[str, ...]) -> Path:
    """A cache with this corpus alone."""

    def build(new: Path) -> None:
        command = [sys.executable, str(PROJECT / "prepare.py"), *options, "--home", str(new)]
        subprocess.run(command, check=True, capture_output=True)

    return made_once(factory, _name_of(options), build)


def _name_of(options: tuple[str, ...]) -> str:
    return "-".join(options).replace("--", "")
