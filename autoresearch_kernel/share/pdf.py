"""Prints the page of a bundle as PDF, with a browser of this machine that has Chromium's command line."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
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
BY_HAND = "Or unpack the zip, open index.html and print it."


def browser() -> str:
    """The first of BROWSERS on this machine. Raises StudyError."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise StudyError(f"A PDF needs Chromium, Chrome or Edge, and none was found. Install one. {BY_HAND}")
    return found


def print_page(bundle: bytes, out: Path) -> Path:
    """Write index.html of a bundle, a zip, as the PDF `out`. Raises StudyError when the browser fails."""
    program = browser()
    with own_folder() as folder:
        with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
            page = next(name for name in opened.namelist() if name.count("/") == 1 and name.endswith(f"/{PAGE}"))
            opened.extract(page, folder)
        made = folder / "page.pdf"
        options = [
            "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={made}", *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]  # fmt: skip
        try:
            ended = run_program([program, *options, (folder / page).as_uri()], LIMIT_SECONDS, cwd=folder)
        except (OSError, ProgramHung) as error:
            raise StudyError(f"{program} did not print the page ({error}). {BY_HAND}") from error
        if not made.is_file():
            said = ended.stderr.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit status {ended.returncode}"
            raise StudyError(f"{program} did not print the page ({why}). {BY_HAND}")
        write_atomic(out, made.read_bytes())
    return out
