"""Room on the disk, on a file system of a few megabytes that is really full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch_kernel.system.disk import Reserve, footprint_bytes, free_bytes, is_full

ROOT = Path(__file__).resolve().parents[2]


def on_small_disk(tmp_path: Path, megabytes: int, code: str) -> str:
    """What `code` prints, with `disk` the root of a file system of a few megabytes that is gone afterwards."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    begin = "import os\nfrom pathlib import Path\nfrom autoresearch_kernel.system.disk import *\n"
    begin += f"disk = Path({str(mounted)!r})\n"
    script = f'mount -t tmpfs -o size={megabytes}m none {mounted} || exit 77\nexec {sys.executable} -c "$CODE"'
    # In a mount namespace of its own: an ordinary user may do that too, where the system allows user namespaces.
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env={**os.environ, "CODE": begin + code, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_record_is_finished_on_a_full_disk_with_the_reserve(tmp_path: Path) -> None:
    said = on_small_disk(tmp_path, 8, """
from autoresearch_kernel.system.files import write_atomic
reserve = Reserve(disk / "study" / "reserve", 2**20)
print(reserve.take(), reserve.take(), footprint_bytes(disk) >= 2**20)
try:
    with open(disk / "filler", "wb", buffering=0) as filler:
        while True: filler.write(bytes(4096))
except OSError as error:
    print(is_full(error), free_bytes(disk) < 4096)
try:
    write_atomic(disk / "record", b"x" * 10_000)
except OSError as error:
    print("no room")
reserve.release()
write_atomic(disk / "record", b"x" * 10_000)
print((disk / "record").stat().st_size, reserve.is_taken, reserve.take())
(disk / "filler").unlink()
print(reserve.take(), sorted(p.name for p in (disk / "study").iterdir()))
""")  # fmt: skip
    assert said.splitlines() == [
        "True True True", "True True", "no room", "10000 False False", "True ['reserve']",
    ]  # fmt: skip


def test_a_reserve_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    said = on_small_disk(tmp_path, 2, """
print(Reserve(disk / "reserve", 4 * 2**20).take(), os.listdir(disk))
import autoresearch_kernel.system.disk as space
space.free_bytes = lambda folder: 2**40  # as with a quota, which only a write meets
print(Reserve(disk / "reserve", 4 * 2**20).take(), os.listdir(disk))
""")  # fmt: skip
    assert said.splitlines() == ["False []", "False []"]


def test_the_default_reserve_takes_its_room(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "new" / "reserve")
    assert reserve.take()
    stat = reserve.path.stat()
    assert stat.st_size == 16 * 2**20 <= stat.st_blocks * 512
    first = stat.st_ino
    assert reserve.take() and reserve.path.stat().st_ino == first
    reserve.release()
    reserve.release()
    assert not reserve.path.exists()


def test_half_a_reserve_and_a_sparse_one_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    path.write_bytes(b"half")
    assert not Reserve(path, 2**16).is_taken and Reserve(path, 2**16).take()
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(2**16)
    assert not Reserve(path, 2**16).is_taken and Reserve(path, 2**16).take()
    assert path.stat().st_blocks * 512 >= 2**16


def test_another_failure_than_a_full_disk_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        Reserve(tmp_path / "file" / "reserve", 4096).take()


def test_the_device_that_is_always_full_is_full() -> None:
    with pytest.raises(OSError) as failure, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert is_full(failure.value)
    assert is_full(OSError(errno.EDQUOT, "quota")) and not is_full(OSError(errno.EIO, "broken"))


def test_free_bytes_of_a_folder_that_will_be_made(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)
    assert free_bytes(tmp_path) > 0


def test_a_footprint_is_what_the_disk_gives(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    (folder / "experiments").mkdir(parents=True)
    empty = footprint_bytes(folder)
    (folder / "experiments" / "model").write_bytes(os.urandom(100_000))
    os.link(folder / "experiments" / "model", folder / "best")  # one file with two names
    (folder / "elsewhere").symlink_to(tmp_path)
    with open(folder / "sparse", "wb") as file:
        file.truncate(10**9)
    assert 100_000 <= footprint_bytes(folder) - empty < 100_000 + 20_000
    du = int(subprocess.run(["du", "-s", "-B1", folder], capture_output=True, text=True).stdout.split()[0])
    assert footprint_bytes(folder) == du - folder.stat().st_blocks * 512
    assert footprint_bytes(tmp_path / "none") == 0
