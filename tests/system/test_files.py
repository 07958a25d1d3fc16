from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from autoresearch_kernel.system.files import (
    StudyInUse,
    ensure_folder,
    lock_holder,
    remove_temporaries,
    take_lock,
    write,
    write_atomic,
)

LIMITED_WRITER = """
import resource, signal, sys
from autoresearch_kernel.system.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(sys.argv[1], b"x" * 5000)
except OSError as error:
    print(error)
"""


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path):
    path = tmp_path / "best" / "of" / "train.py"
    write_atomic(path, "σ = 1\n")
    assert path.read_bytes() == "σ = 1\n".encode()
    write_atomic(str(path), b"again")
    assert path.read_bytes() == b"again"
    assert [p.name for p in path.parent.iterdir()] == ["train.py"]


def test_an_atomic_file_has_the_permissions_of_any_other(tmp_path: Path):
    write_atomic(tmp_path / "one", "")
    (tmp_path / "two").write_text("")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "two").stat().st_mode


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "results.tsv"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED_WRITER, str(path)], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.tsv"]


def test_a_target_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_atomic(tmp_path / "taken", "text")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_full_device_is_an_error():
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            write(fd, b"text")
    finally:
        os.close(fd)


def test_ensure_folder_is_content_with_what_is_there(tmp_path: Path):
    for _ in range(2):
        ensure_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_lock_names_its_holder_and_goes_with_it(tmp_path: Path):
    path = tmp_path / "lock"
    hold = "import sys, time; from pathlib import Path; from autoresearch_kernel.system.files import take_lock; "
    hold += "take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StudyInUse, match=f"process {holder.pid} on ") as caught:
            take_lock(path)
        assert caught.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    os.close(take_lock(path))


def test_a_lock_without_a_name_is_still_a_lock(tmp_path: Path):
    fd = take_lock(tmp_path / "lock")
    os.ftruncate(fd, 0)
    with pytest.raises(StudyInUse, match="another process") as caught:
        take_lock(tmp_path / "lock")
    assert caught.value.pid is None
    os.close(fd)


def test_a_lock_says_who_holds_it_and_looking_never_takes_it_from_anybody(tmp_path: Path):
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    fd = take_lock(path)
    holder = lock_holder(path)
    assert holder is not None and holder["pid"] == os.getpid() and holder["since"]
    os.close(fd)
    assert lock_holder(path) is None  # the file still names us, but nobody holds it
    looker = os.open(path, os.O_RDONLY)
    fcntl.flock(looker, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, [looker]).start()  # somebody looks at this very moment
    os.close(take_lock(path))


def test_what_a_killed_write_left_is_removed(tmp_path: Path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / ".train.py.123.tmp").write_text("hal")
    (tmp_path / ".study.json.9.tmp").write_text("{")
    write_atomic(tmp_path / "study.json", "{}")
    remove_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["best", "study.json"]
