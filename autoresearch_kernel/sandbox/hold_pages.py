"""`python -I -S hold_pages.py`: keeps files in memory, so that no process can evict their pages.

`page_cache.py` starts it and explains why. Its standard input has one line of JSON, {"paths": [...], "code": [...],
"hidden": [...], "most_bytes": N}, and then one empty line for each request. Below `code` only Python's files and
libraries are held, and nothing at all where the files have more than `most_bytes` together. It answers each request
with one line of JSON, after all pages of these files have been brought into memory. It ends with its standard input. It
imports nothing of the package, to start quickly.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator

# <linux/mman.h>
_READ, _PRIVATE, _FIXED, _ANONYMOUS, _NORESERVE = 0x1, 0x2, 0x10, 0x20, 0x4000
_POPULATE_READ = 22  # since Linux 5.14
_FAILED = ctypes.c_void_p(-1).value
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CODE = (".py", ".pyc", ".so")
_SPARE_MAPPINGS = 1_000  # of a process, for its own libraries

_ANSWER = struct.Struct("<?QQ")  # of a further process: whether no file has become shorter, files, bytes

_libc = ctypes.CDLL(None, use_errno=True)
_mmap, _madvise = _libc.mmap, _libc.madvise
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Files:
    """The files below some paths with their bytes, found once, and the times at which their folders changed."""

    def __init__(self, paths: list[str], code: list[str], hidden: list[str]) -> None:
        self.hidden = set(map(os.path.realpath, hidden))
        self.changed: dict[str, int] = {}  # folder -> nanoseconds
        self.sizes: dict[str, int] = {}
        for roots, code_only in ((paths, False), (code, True)):
            real = set(map(os.path.realpath, roots))
            for path in sorted(path for path in real if not any(path.startswith(f"{other}/") for other in real)):
                for file in self._below(path, code_only):
                    with contextlib.suppress(OSError):  # it is gone
                        self.sizes[file] = os.stat(file).st_size

    def _below(self, path: str, code_only: bool) -> Iterator[str]:
        if not os.path.isdir(path):
            yield path
            return
        folders = [path]
        while folders:
            folder = folders.pop()
            try:
                changed = os.stat(folder).st_mtime_ns
                with os.scandir(folder) as entries:
                    inside = [entry for entry in entries if entry.path not in self.hidden]
            except PermissionError:  # closed to a sandbox of this user as well
                continue
            except FileNotFoundError:
                changed, inside = 0, []
            if code_only:
                inside = [entry for entry in inside if entry.is_dir(follow_symlinks=False) or _is_code(entry.name)]
            if not code_only or any(_is_code(entry.name) for entry in inside):  # entries of other folders may change
                self.changed[folder] = changed
            for entry in inside:
                if entry.is_symlink():
                    with contextlib.suppress(FileNotFoundError):
                        os.readlink(
                            entry.path
                        )  # also sets its access time, which a sandboxed process could set otherwise
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path

    def have_changed(self) -> bool:
        """Whether a file was added or removed since, as by an installation of a package."""
        try:
            return any(os.stat(folder).st_mtime_ns != then for folder, then in self.changed.items())
        except FileNotFoundError:
            return True


class Pages:
    """Files mapped one behind the other, so that one system call reaches all of their pages."""

    def __init__(self, files: list[tuple[str, int]]) -> None:
        space = sum(map(_whole_pages, (size for _, size in files)))
        self.base = _map(None, space, 0, _PRIVATE | _ANONYMOUS | _NORESERVE, -1) if space else 0
        self.size = self.num_files = 0
        for file, known_size in files:
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # closed to a sandbox of this user as well
                continue
            found = os.fstat(descriptor)
            size = _whole_pages(min(found.st_size, known_size))
            if stat.S_ISREG(found.st_mode) and size:
                _map(self.base + self.size, size, _READ, _PRIVATE | _FIXED, descriptor)
                self.size += size
                self.num_files += 1
            os.close(descriptor)

    def populate(self) -> bool:
        """Bring all pages into memory; False when a file has become shorter."""
        if self.size == 0 or _madvise(self.base, self.size, _POPULATE_READ) == 0:
            return True
        number = ctypes.get_errno()
        if number == errno.EFAULT:
            return False
        if number != errno.EINVAL:  # that of an older kernel
            raise OSError(number, os.strerror(number))
        memoryview((ctypes.c_char * self.size).from_address(self.base))[::_PAGE].tobytes()
        return True


def _is_code(name: str) -> bool:
    return name.endswith(_CODE) or ".so." in name


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _map(at: int | None, size: int, protection: int, flags: int, descriptor: int) -> int:
    address = _mmap(at, size, protection, flags, descriptor, 0)
    if address is None or address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def _mappings_per_process() -> int:
    try:
        with open("/proc/sys/vm/max_map_count") as file:
            return int(file.read()) - _SPARE_MAPPINGS
    except OSError:
        return 65_530 - _SPARE_MAPPINGS


def _start_helper(files: list[tuple[str, int]]) -> tuple[int, int]:
    """A process that holds further files: the descriptors to write a request to, and to read the answer from."""
    requests, to_helper = os.pipe()
    from_helper, answers = os.pipe()
    if os.fork():
        os.close(requests)
        os.close(answers)
        return to_helper, from_helper
    os.close(to_helper)
    pages = Pages(files)
    while os.read(requests, 1):
        os.write(answers, _ANSWER.pack(pages.populate(), pages.num_files, pages.size))
    os._exit(0)


def main() -> None:
    given = json.loads(sys.stdin.readline())
    files, most = Files(given["paths"], given["code"], given["hidden"]), _mappings_per_process()
    needed = sum(files.sizes.values())
    found, problem = list(files.sizes.items()), ""
    if needed > given["most_bytes"]:
        found, problem = (
            [],
            f"the files have {needed} bytes, and only {given['most_bytes']} bytes of memory may be used",
        )
    helpers = [_start_helper(found[start : start + most]) for start in range(most, len(found), most)]
    pages = Pages(found[:most])
    for _ in sys.stdin:
        for to_helper, _ in helpers:
            os.write(to_helper, b".")
        answers = [(pages.populate(), pages.num_files, pages.size)]
        for _, from_helper in helpers:
            said = os.read(from_helper, _ANSWER.size)
            if len(said) != _ANSWER.size:
                raise OSError("a process that held further files has ended")
            answers.append(_ANSWER.unpack(said))
        whole, num_files, num_bytes = zip(*answers, strict=True)
        changed = files.have_changed() or not all(whole)
        answer = {"files": sum(num_files), "bytes": sum(num_bytes), "changed": changed, "problem": problem}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
