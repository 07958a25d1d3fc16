"""The corpus `packages`: the Python sources of the packages that torch and matplotlib bring to every installation.

Wheels of one version have the same source files for every Python, system and kind of device, but for NOT_SAME. So equal
versions make the same bytes everywhere. `KNOWN` has the versions of constraints.txt and a hash of their text; other
versions make another corpus, and the log names the packages that differ.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

from prepare import PrepareError

from ..system.held_out_packages import TEST, VAL
from .sources import Document, Source

DIGITS_LIMIT = 0.2  # of the bytes without blanks; above it a file is mostly a table of numbers
DISTINCT_LIMIT = 0.5  # of the bytes in lines; below it a file repeats its own lines, as generated code does
LONGEST = 150_000  # characters of a document; what a file has beyond is left out
DEV_SHARE = 40  # one of so many training documents is dev
NOT_SAME = (  # differ between builds, or are missing for some versions of Python
    "torch/version.py",
    "numpy/__config__.py",
    "numpy/distutils/",
)
_GENERATED = re.compile(
    rb"auto-?generated|@generated|generated from [^\n]{1,80} by antlr|do not (?:edit|modify|change) (?:this|by hand)",
    re.IGNORECASE,
)
_HEAD = 2000  # bytes of a file where it would say that it was generated
_BLANKS = bytes(range(33))
_DIGITS = b"0123456789"


class Known(NamedTuple):
    """The version of a package that defines the corpus."""

    version: str
    sha256: str  # of its text, see `_Reading.sha256`
    licence: str


KNOWN = {
    "torch": Known("2.13.0", "88ff3490b91bfeac1e85fe7cfec81895e4db93d7e1e4726f4d018015c0ac28ad", "BSD-3-Clause"),
    "sympy": Known("1.14.0", "ed907cf53f47a9dc5fae7230b189a9efcda486a0aaf2542090e76323bdc22bdf", "BSD-3-Clause"),
    "numpy": Known("2.4.6", "f7b4de44632f06c0dee6ea6855a68b0bd15169d0b5880d401f780807e1ccaaf6", "BSD-3-Clause"),
    "matplotlib": Known(
        "3.11.2",
        "32dd6d7f5d4f5b2600f21766a7bd089ce48abb73d8d3bc18c5e2335255db8564",
        "Matplotlib licence (based on PSF)",
    ),
    "networkx": Known("3.6.1", "ce1a2fa668e705683510a8e68008593360a38551a1ff83252be66c3b56d7ea16", "BSD-3-Clause"),
    "fonttools": Known("4.68.0", "f0e8080ea04b07a63fc8fe9ac3a8199d5324fecb953cea65685d89b2e3cd9844", "MIT"),
    "mpmath": Known("1.3.0", "1b491720b3f6c559b9d5e71a862e7a5a99f39f84fa4f656f99c332a4c1e671db", "BSD-3-Clause"),
}


@dataclass
class _Reading:
    """The files of the packages that become documents, and what was left out of them."""

    known: Mapping[str, Known]
    installed: dict[str, Distribution]
    paths: list[tuple[str, Path]] = field(default_factory=list)  # name and file, in the order of the documents
    sha256: dict[str, str] = field(default_factory=dict)  # of each package: of the names and hashes of its files
    num_files: int = 0
    num_bytes: int = 0
    generated: int = 0  # files
    generated_bytes: int = 0
    cut_bytes: int = 0

    def versions(self) -> dict[str, str]:
        """The versions without what names a build, such as `+cpu`."""
        return {name: found.version.partition("+")[0] for name, found in self.installed.items()}

    def notes(self) -> list[str]:
        """Which packages are not those that define the corpus, and what was left out; once all was read."""
        if not self.num_files:
            return []
        left_out = self.generated_bytes + self.cut_bytes
        return [
            *self._differing(),
            f"Left out of {self.num_bytes / 1e6:.1f} MB in {self.num_files:,} files: {left_out / 1e6:.1f} MB, of which "
            f"{self.generated_bytes / 1e6:.1f} MB are {self.generated} generated files and {self.cut_bytes / 1e6:.1f} "
            f"MB lie beyond {LONGEST:,} characters of a file",
        ]

    def _differing(self) -> list[str]:
        versions = self.versions()
        other = {name: known for name, known in self.known.items() if versions[name] != known.version}
        changed = {
            name: known for name, known in self.known.items() if name not in other and self.sha256[name] != known.sha256
        }
        words = [f"{name} is {versions[name]}, not {known.version}" for name, known in other.items()]
        words += [f"files of {name} {known.version} are not those of its wheel" for name, known in changed.items()]
        if not words:
            return []
        return [
            f"This is another corpus than with the versions of constraints.txt: {'; '.join(words)}. Its scores cannot "
            f"be compared with those of other machines. {_install(other | changed)}"
        ]


def packages_source(
    log: Callable[[str], None], known: Mapping[str, Known] = KNOWN, folders: Sequence[str] | None = None
) -> Source:
    """The sources of the installed packages.

    Args:
        known: what defines the corpus.
        folders: where packages are installed; where this interpreter imports from when left out.

    Raises PrepareError when a package is missing, or its installation does not list its files.
    """
    reading = _Reading(known, {name: _installed(name, known[name], folders) for name in known})

    def documents() -> Iterator[Document]:
        if not reading.paths:
            _read_all(reading)
            for line in reading.notes():
                log(f"  {line}")
        for name, path in reading.paths:
            yield Document(split_of_file(name), _text(path.read_bytes()), name)

    return Source("packages", documents, dict[str, Any](reading.versions()), reading.notes)


def _installed(name: str, known: Known, folders: Sequence[str] | None) -> Distribution:
    found = next(iter(distributions(name=name) if folders is None else distributions(name=name, path=[*folders])), None)
    if found is None:
        raise PrepareError(
            f"The corpus 'packages' needs {name} {known.version}, which this Python does not have. "
            f"{_install({name: known})}. Or choose --corpus stdlib."
        )
    return found


def _install(wanted: Mapping[str, Known]) -> str:
    pins = " ".join(f"{name}=={known.version}" for name, known in wanted.items())
    return f"In the project's folder run `make setup`; in another environment: pip install {pins}"


def source_files(found: Distribution) -> list[str]:
    """The names of the source files of a package, sorted, as `torch/nn/init.py`. Raises PrepareError without a list."""
    if found.files is None:
        name = found.metadata["Name"]
        raise PrepareError(
            f"The installation of {name} {found.version} has no list of its files (RECORD). Install it again: "
            f"pip install --force-reinstall --no-deps {name}=={found.version}"
        )
    names = [file.as_posix() for file in found.files if file.suffix == ".py"]
    return sorted(name for name in names if not name.startswith(("..", "/", *NOT_SAME)) and ".dist-info/" not in name)


def _read_all(reading: _Reading) -> None:
    """Read every file once: hash it, and keep those that are no copies, not generated and not empty."""
    seen: set[bytes] = set()
    for package, found in reading.installed.items():
        listing = hashlib.sha256()
        for name in source_files(found):
            path = Path(str(found.locate_file(name)))
            data = path.read_bytes()
            digest = hashlib.sha256(data).digest()
            listing.update(f"{name} {digest.hex()}\n".encode())
            if not data.strip() or digest in seen:
                continue
            seen.add(digest)
            reading.num_files += 1
            reading.num_bytes += len(data)
            if is_generated(data):
                reading.generated += 1
                reading.generated_bytes += len(data)
                continue
            reading.cut_bytes += len(data) - len(_text(data).encode())
            reading.paths.append((name, path))
        reading.sha256[package] = listing.hexdigest()
    reading.paths.sort(key=lambda item: hashlib.sha256(item[0].encode()).digest())


def is_generated(data: bytes) -> bool:
    """Whether a source file says so, is mostly numbers, or mostly repeats its own lines."""
    if _GENERATED.search(data, 0, _HEAD):
        return True
    dense = data.translate(None, _BLANKS)
    if len(dense) - len(dense.translate(None, _DIGITS)) > DIGITS_LIMIT * len(dense):
        return True
    lines = [line.strip() for line in data.splitlines()]
    return sum(map(len, set(lines))) < DISTINCT_LIMIT * sum(map(len, lines))


def _text(data: bytes) -> str:
    """The text of a file to the last whole line within LONGEST characters."""
    text = data.decode("utf-8-sig")
    return text if len(text) <= LONGEST else text[: text.rindex("\n", 0, LONGEST) + 1]


def split_of_file(name: str) -> str:
    """val or test for a file that VAL or TEST names; of the rest a hash of the name makes a fortieth dev."""
    if name in VAL or name in TEST:
        return "val" if name in VAL else "test"
    return "train" if int(hashlib.sha256(name.encode()).hexdigest(), 16) % DEV_SHARE else "dev"
