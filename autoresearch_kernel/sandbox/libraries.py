"""The shared libraries of the system that an interpreter and its packages need, found in their ELF files."""

from __future__ import annotations

import functools
import glob
import mmap
import os
import re
import struct
import sysconfig

# Loaded by name while a process runs: the unwinder of threads that end, and names of users and machines.
_LOADED_LATER = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
_LOADERS = "ld-*.so.*"
_PT_LOAD, _PT_DYNAMIC, _DT_NEEDED, _DT_STRTAB = 1, 2, 1, 5
_SHARED = re.compile(r"\.so(\.|$)")


@functools.lru_cache(maxsize=8)
def needed_libraries(folders: tuple[str, ...], programs: tuple[str, ...]) -> tuple[str, ...]:
    """The system's libraries that `programs` and the libraries below `folders` need, and those that these need.

    A library of that name in a package does not count, because another package may need the system's.
    """
    places = _library_folders()
    waiting = [*programs, *(file for folder in folders for file in _libraries_below(folder))]
    names = {*_LOADED_LATER, *(os.path.basename(path) for place in places for path in glob.glob(f"{place}/{_LOADERS}"))}
    found: dict[str, None] = {}
    known: set[str] = set()
    while waiting or names - known:
        for name in names - known:
            paths = [path for place in places if os.path.isfile(path := f"{place}/{name}")]
            found |= dict.fromkeys(paths)
            waiting += paths
        known |= names
        names = {name for file in waiting for name in _needed_by(file)}
        waiting = []
    return tuple(found)


def _libraries_below(folder: str) -> list[str]:
    return [os.path.join(above, name) for above, _, names in os.walk(folder) for name in names if _SHARED.search(name)]


def _library_folders() -> list[str]:
    """The folders that the loader searches, without links."""
    named = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"]
    if architecture := sysconfig.get_config_var("MULTIARCH"):
        named += [f"/lib/{architecture}", f"/usr/lib/{architecture}"]
    for file in ("/etc/ld.so.conf", *sorted(glob.glob("/etc/ld.so.conf.d/*.conf"))):
        try:
            with open(file, encoding="utf-8", errors="replace") as text:
                named += [line.strip() for line in text if line.startswith("/")]
        except OSError:
            continue
    return list(dict.fromkeys(os.path.realpath(folder) for folder in named if os.path.isdir(folder)))


def _needed_by(file: str) -> list[str]:
    """The names of the libraries that a 64-bit little-endian ELF file needs; none for any other file."""
    try:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _needed(data) if data[:6] == b"\x7fELF\x02\x01" else []
    except (OSError, ValueError, struct.error):  # unreadable, empty or damaged
        return []


def _needed(data: mmap.mmap) -> list[str]:
    start, size, count = struct.unpack_from("<Q14xHH", data, 32)
    headers = [struct.unpack_from("<IIQQQQ", data, start + size * i) for i in range(count)]
    dynamic = next(((offset, length) for kind, _, offset, _, _, length in headers if kind == _PT_DYNAMIC), (0, 0))
    entries = list(struct.iter_unpack("<QQ", data[dynamic[0] : dynamic[0] + dynamic[1] // 16 * 16]))
    address = next((value for tag, value in entries if tag == _DT_STRTAB), None)
    if address is None:
        return []
    loads = [(offset, memory, length) for kind, _, offset, memory, _, length in headers if kind == _PT_LOAD]
    names = next((address - memory + offset for offset, memory, length in loads if 0 <= address - memory < length), 0)
    places = [names + value for tag, value in entries if tag == _DT_NEEDED]
    return [data[place : data.find(b"\0", place)].decode("utf-8", "replace") for place in places]
