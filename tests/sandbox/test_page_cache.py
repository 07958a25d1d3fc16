"""The process that holds files in memory: what it holds, and that no study ends where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch_kernel.sandbox import page_cache, policy
from autoresearch_kernel.sandbox.page_cache import Shown, settle

ROOT = Path(__file__).parents[2]
PAGE = 4096
MEMORY_BYTES = 2**30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are held on Linux alone")


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "packages"
    (folder / "data").mkdir(parents=True)
    for name in ("code.py", "library.so", "library.so.1", "data/rows.bin"):
        (folder / name).write_bytes(b"x" * 100)
    yield folder
    page_cache.release()


def test_of_a_folder_of_users_only_code_is_held(packages: Path) -> None:
    found = settle(Shown((), held=(str(packages),), memory_bytes=MEMORY_BYTES))
    assert (found.files, found.problem) == (4, "")
    found = settle(Shown((), code=(str(packages),), memory_bytes=MEMORY_BYTES))
    assert (found.files, found.problem) == (3, "")


def test_a_new_package_is_held_and_new_data_are_not_looked_for(packages: Path) -> None:
    shown = Shown((), code=(str(packages),), memory_bytes=MEMORY_BYTES)
    assert settle(shown).files == 3
    first = page_cache._holders[0]
    (packages / "data" / "more.bin").write_text("x")
    assert settle(shown).files == 3 and page_cache._holders[0] is first
    (packages / "more.py").write_text("x")
    assert settle(shown).files == 4 and page_cache._holders[0] is not first


def test_a_file_that_becomes_shorter_ends_nothing(packages: Path) -> None:
    shown = Shown((), held=(str(packages),), memory_bytes=MEMORY_BYTES)
    (packages / "long.bin").write_bytes(b"x" * 3 * PAGE)
    assert settle(shown).files == 5
    with open(packages / "long.bin", "r+b") as file:
        file.truncate(0)
    found = settle(shown)
    assert (found.files, found.problem) == (4, "")


def test_files_that_always_change_end_nothing(packages: Path) -> None:
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            (packages / f"{number}.py").write_text("x")
            (packages / f"{number}.py").unlink()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        found = settle(Shown((), held=(str(packages),), memory_bytes=MEMORY_BYTES))
    finally:
        done.set()
        thread.join()
    assert found.files >= 4 and found.problem in ("", page_cache._CHANGED)


def test_nothing_is_held_where_memory_is_too_small_for_it(packages: Path) -> None:
    found = settle(Shown((), held=(str(packages),), memory_bytes=600))
    assert (found.files, found.problem) == (0, "the files have 400 bytes, and only 300 bytes of memory may be used")


def test_the_error_of_the_process_is_told(packages: Path) -> None:
    with open(packages / "sparse.bin", "wb") as file:
        file.truncate(2**29)
    code = (
        "import resource, sys; from autoresearch_kernel.sandbox.page_cache import Shown, settle\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\n"
        "print(settle(Shown((), held=(sys.argv[1],), memory_bytes=2**40)).problem)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(packages)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "OSError: [Errno 12] Cannot allocate memory\n", done.stderr


def test_an_interrupted_request_leaves_no_answer_for_the_next(packages: Path) -> None:
    shown = Shown((), held=(str(packages),), memory_bytes=MEMORY_BYTES)
    settle(shown)
    holder = page_cache._holders[0]
    os.kill(holder._process.pid, signal.SIGSTOP)  # it gets the request and does not answer
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            settle(shown)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not holder.is_alive() and settle(shown).files == 4


def test_on_a_gpu_the_system_is_shown_and_not_held() -> None:
    shown = policy._shown_to_scorers(ROOT, gpu=True)
    assert "/usr" in shown.paths
    assert not {"/usr", "/bin", "/lib", "/sys", "/nix/store"} & {*shown.held, *shown.code}
    on_cpu = policy._shown_to_scorers(ROOT, gpu=False)
    assert "/usr" not in on_cpu.paths and set(shown.held) <= set(on_cpu.held)
