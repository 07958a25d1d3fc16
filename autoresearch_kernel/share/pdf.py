"""Prints the page of a bundle as PDF, with a browser of this machine that has Chromium's command line."""

from __future__ import annotations

import io
import os
import re
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path

from ..record.study import StudyError
from ..system.files import write_atomic
from ..system.processes import ProgramHung, run_program
from ..system.temporary import own_folder
from .manifest import PAGE

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)  # fmt: skip
LIMIT_SECONDS = 120.0
TITLE = "{} · autoresearch"  # of the page of a study, by its name, which browsers make the title of the PDF
_TITLES = re.compile(rb"/Title\s*(?:<([0-9A-Fa-f\s]*)>|\(((?:\\.|[^\\()])*)\))", re.DOTALL)
_QUOTED = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
BY_HAND = "Print index.html of the bundle from your browser instead."


def browsers() -> list[str]:
    """Those of BROWSERS that this machine has."""
    return [found for name in BROWSERS if (found := shutil.which(name))]


def require_browser() -> None:
    """Raise StudyError where no browser of this machine can print."""
    if not browsers():
        raise StudyError(f"A PDF needs Chromium, Chrome or Edge, and none was found. Install one. {BY_HAND}")


def is_page_of(path: Path, names: Collection[str]) -> bool:
    """Whether a file is a PDF of the page of a study with one of these names, which a new one may replace."""
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    titles = {_decoded(coded, literal) for coded, literal in _TITLES.findall(data)}
    return data.startswith(b"%PDF-") and not titles.isdisjoint(TITLE.format(name) for name in names)


def _decoded(coded: bytes, literal: bytes) -> str:
    """A text of a PDF: in hexadecimal digits, or between parentheses, where a backslash quotes a character."""
    digits = b"".join(coded.split()).decode()
    data = bytes.fromhex(digits + "0" * (len(digits) % 2)) if digits else _QUOTED.sub(_unquoted, literal)
    return data.decode("utf-16" if data.startswith((b"\xfe\xff", b"\xff\xfe")) else "latin-1", "replace")


def _unquoted(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8) & 0xFF]) if found[1].isdigit() else found[1]


def print_page(bundle: bytes, out: Path) -> Path:
    """Write index.html of a bundle, a zip, as the PDF `out`. Raises StudyError when no browser does it."""
    with own_folder() as folder:
        with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
            page = next(name for name in opened.namelist() if name.count("/") == 1 and name.endswith(f"/{PAGE}"))
            opened.extract(page, folder)
        problems = []
        for program in browsers():
            if problem := _print(program, folder / page, folder / "page.pdf"):
                problems.append(f"{program}: {problem}")
            else:
                write_atomic(out, (folder / "page.pdf").read_bytes())
                return out
    raise StudyError(f"The bundle was made, and its page was not printed ({'; '.join(problems)}). {BY_HAND}")


def _print(program: str, page: Path, made: Path) -> str:
    """Why the browser did not print the page; "" when it did. A browser in a snap sees no temporary files."""
    options = [
        "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={made.with_name('profile')}",
        f"--print-to-pdf={made}", *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]  # fmt: skip
    try:
        ended = run_program([program, *options, page.as_uri()], LIMIT_SECONDS, cwd=made.parent)
    except (OSError, ProgramHung) as error:
        return str(error)
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    return "" if made.is_file() else said[-1] if said else f"exit status {ended.returncode}"
