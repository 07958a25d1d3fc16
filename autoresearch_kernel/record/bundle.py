"""A recorded study that is only read: in a folder, or in a bundle, the zip of a study that `share` makes.

A bundle has one folder at its top, with history.jsonl, study.json and experiments/NNNN/, unless it was zipped again.
Only the files that a view shows are taken out of it, each of a limited size, into a folder of this process. Nothing of
them is run.
"""

from __future__ import annotations

import atexit
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from ..system.locations import originals
from ..system.temporary import own_folder
from .study import Study, StudyError, open_folder

NIGHTS = Path("docs") / "nights"  # bundles that come with the program
OPTIMISER = "optimiser"  # the one of the embedded optimiser, from a plain start
TAKEN = re.compile(
    r"(history\.jsonl|study\.json|results\.tsv|notes\.md|(experiments/\d{4,}/)"
    r"(train\.py|change\.diff|proposal\.json|experiment(-\d+)?\.ipynb|handover(-\d+)?/metrics\.jsonl))"
)
MOST_BYTES = 50_000_000  # of one file
MOST_BYTES_IN_ALL = 500_000_000
NOT_HERE = "its project is not on this machine"  # the folder for links of a bundle: it does not exist


@contextmanager
def recorded_study(path: Path) -> Iterator[Study]:
    """The study in a folder or a bundle. Raises StudyError where there is none."""
    if path.is_dir():
        yield open_folder(path)
    elif path.is_file():
        with own_folder() as folder:
            study = open_folder(_unpacked(path, folder))
            yield Study(study.name, folder / NOT_HERE, study.paths, study.facts)
    else:
        raise StudyError(f"There is no {path}. Give a study's name, its folder, or the zip of a bundle.")


def night_names() -> list[str]:
    """The recorded nights that come with this program."""
    return sorted(path.stem for path in (originals() / NIGHTS).glob("*.zip"))


def night_path(name: str = OPTIMISER) -> Path:
    """The bundle of a recorded night that comes with this program. Raises StudyError where it was removed."""
    path = originals() / NIGHTS / f"{name}.zip"
    if not path.is_file():
        raise StudyError(f"The recorded night {path} is missing. Install the program, or its checkout, anew.")
    return path


def unpacked_study(bundle: Path) -> Study:
    """The study in a bundle, unpacked for as long as this process lives. Raises StudyError."""
    facts = bundle.stat()
    return _unpacked_study(bundle.resolve(), facts.st_mtime_ns, facts.st_size)


@cache
def _unpacked_study(bundle: Path, changed_at: int, size: int) -> Study:
    """The same, once for each content of the file."""
    opened = ExitStack()
    atexit.register(opened.close)
    return opened.enter_context(recorded_study(bundle))


def _unpacked(bundle: Path, into: Path) -> Path:
    """The folder of the bundle's study, below `into`."""
    try:
        with zipfile.ZipFile(bundle) as opened:
            top = _top(opened, bundle)
            total = 0
            for entry in opened.infolist():
                name = entry.filename.removeprefix(top)
                if not TAKEN.fullmatch(name) or not entry.filename.startswith(top):
                    continue
                total += entry.file_size
                if entry.file_size > MOST_BYTES or total > MOST_BYTES_IN_ALL:
                    raise StudyError(f"{bundle} is too large to be opened: {entry.filename} passes the limit.")
                _take(opened, entry, into / "study" / name)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{bundle} cannot be read as a zip ({error}). Ask for it once more.") from error
    return into / "study"


def _take(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Write one file of a bundle, and no more of it than it says that it has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source:
        target.write_bytes(source.read(entry.file_size + 1)[: entry.file_size])


def _top(opened: zipfile.ZipFile, bundle: Path) -> str:
    """The folder that holds the history, with a slash; "" for a bundle that was zipped again without its folder."""
    histories = [name for name in opened.namelist() if re.fullmatch(r"(?:(?!\.\.)[^/]+/)*history\.jsonl", name)]
    if len(histories) != 1:
        has = "no history.jsonl" if not histories else f"{len(histories)} files history.jsonl"
        raise StudyError(f"{bundle} is no bundle of a study: it has {has}. `share` makes a bundle.")
    return histories[0].removesuffix("history.jsonl")
