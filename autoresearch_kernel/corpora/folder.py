"""What lies in a user's folder: the files to read, and all that is left out before any file is opened."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from prepare import PrepareError

from ..core.sanitize import shown
from .readers import READERS, why_unreadable

SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
MOST_KINDS = 12  # that a message names
STRUCTURED = {  # kinds that a user names by the file, and whose text no reader finds
    ".json": "JSON, of which only JSON lines are read: write one object a line into a .jsonl file",
}


@dataclass
class Listing:
    """The files of one folder, or one file."""

    root: Path
    files: list[Path] = field(default_factory=list)  # sorted by their bytes
    left_out: dict[str, str] = field(default_factory=dict)  # name and reason
    other_kinds: Counter[str] = field(default_factory=Counter)  # suffixes that no reader knows
    hidden: int = 0

    def name_of(self, path: Path) -> str:
        return shown(path.relative_to(self.root)) if path != self.root else shown(Path(path.name))

    def other_kinds_in_words(self) -> str:
        """`Kinds of files that are not read: 3 .png, 1 .pdf`; empty without such files."""
        if not self.other_kinds:
            return ""
        kinds = [f"{count:,} {shown(Path(kind))}" for kind, count in self.other_kinds.most_common(MOST_KINDS)]
        more = len(self.other_kinds) - MOST_KINDS
        kinds += [f"and {more:,} more kinds"] if more > 0 else []
        return f"Kinds of files that are not read: {', '.join(kinds)}"


def list_texts(root: Path) -> Listing:
    """All files below a folder that a reader knows, or the one file that `root` names. Raises PrepareError.

    Links are followed, and each folder is read once. Hidden names are left out.
    """
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "" if isinstance(error, FileNotFoundError | ValueError) else f" ({getattr(error, 'strerror', error)})"
        raise PrepareError(
            f"There is no folder or file {shown(root)}{reason}. Name one with --files-folder."
        ) from error
    listing = Listing(root)
    if stat.S_ISREG(mode):
        if root.suffix.lower() in STRUCTURED:
            raise PrepareError(f"{shown(root)} is {STRUCTURED[root.suffix.lower()]}.")
        listing.files.append(root)
        return listing
    if not stat.S_ISDIR(mode):
        raise PrepareError(f"{shown(root)} is {SPECIAL.get(stat.S_IFMT(mode), 'no file')}, not a folder or a file.")
    _walk(listing)
    listing.files.sort(key=os.fsencode)
    if not listing.files:
        raise PrepareError(_no_text(listing))
    return listing


def _no_text(listing: Listing) -> str:
    kinds = " ".join(sorted(READERS))
    words = f"{shown(listing.root)} holds no {kinds} file, not even in its folders"
    if listing.other_kinds:
        words += f". {listing.other_kinds_in_words()}. One file of plain text is read under any name when "
        words += "--files-folder names it"
    left_out = [f"{name}: {reason}" for name, reason in listing.left_out.items()]
    return "\n  ".join([f"{words}.", *left_out[:20]])


def _walk(listing: Listing) -> None:
    """Folders first and links to folders last, so that a folder that is here itself is read under its own name."""
    folders, links, seen = deque([listing.root]), deque[Path](), set[tuple[int, int]]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                listing.left_out[listing.name_of(folder)] = "a link to a folder that is read already"
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            reason = why_unreadable(error).replace("u+r FILE", "u+rx FOLDER")
            if folder == listing.root:
                raise PrepareError(f"{shown(folder)}: {reason}.") from error
            listing.left_out[listing.name_of(folder) + "/"] = reason
            continue
        for entry in found:
            _sort_in(entry, listing, folders, links)


def _sort_in(entry: os.DirEntry[str], listing: Listing, folders: deque[Path], links: deque[Path]) -> None:
    path = Path(entry.path)
    if entry.name.startswith("."):
        listing.hidden += 1
        return
    if entry.name == "__pycache__":
        return
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        listing.left_out[listing.name_of(path)] = _why_no_target(entry, error)
        return
    if stat.S_ISDIR(mode):
        (links if entry.is_symlink() else folders).append(path)
    elif not stat.S_ISREG(mode):
        listing.left_out[listing.name_of(path)] = SPECIAL.get(stat.S_IFMT(mode), "no file")
    elif path.suffix.lower() in READERS:
        listing.files.append(path)
    else:
        listing.other_kinds[path.suffix.lower() or "without a suffix"] += 1


def _why_no_target(entry: os.DirEntry[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a link that leads in a circle"
    if isinstance(error, FileNotFoundError) and entry.is_symlink():
        return "a link that leads nowhere"
    return why_unreadable(error)
