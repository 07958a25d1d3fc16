"""Folders that cannot hold what they are for are named before anything is measured."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.doctor import disk
from autoresearch_kernel.system.files import NoLocks, lock_holder, sync_folder, take_lock
from autoresearch_kernel.system.locations import NoHome, cache_dir
from autoresearch_kernel.system.places import NoPlace, require_folder, require_places
from tests.conftest import counting_study


def test_a_folder_that_is_well_or_can_be_made_passes_and_stays_as_it_was(tmp_path: Path, project: Path) -> None:
    require_folder(tmp_path / "not" / "there", "studies", "")
    require_places(project)
    assert not (tmp_path / "not").exists() and not list(tmp_path.glob(".autoresearch*"))


def dangling(project: Path) -> str:
    (project / "studies").symlink_to("/no/such/disk")
    return "{project}/studies is a link to /no/such/disk, which does not exist. Create it."


def a_file(project: Path) -> str:
    (project / "studies").write_text("notes")
    return "{project}/studies, where studies are kept, is a file. "


def read_only(project: Path) -> str:
    (project / "studies").symlink_to("/proc/self")
    return "{project}/studies, where studies are kept, cannot be written"


@pytest.mark.parametrize("make", [dangling, a_file, read_only])
def test_a_place_for_studies_that_cannot_be_is_named_at_once(
    make: object, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(make)
    words = str(make(project)).format(project=project)
    assert main(["run", "--name", "nov24", "--experiments", "1"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"autoresearch: {words}") and not said.out
    assert disk(project).verdict == "fail" and disk(project).found.startswith(words)


def test_no_folder_for_temporary_files_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/full']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/full")
    assert main(["run", "--name", "nov24"]) == 1
    assert capsys.readouterr().err.startswith("autoresearch: TMPDIR is /full, which cannot hold temporary files")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTORESEARCH_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(NoHome, match=r"no user with the number 4242\. Set AUTORESEARCH_HOME"):
        cache_dir()


def test_a_cache_behind_a_link_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "link"))
    assert cache_dir() == tmp_path / "disk"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AUTORESEARCH_HOME", "~/link")
    assert cache_dir() == tmp_path / "disk"


# --- a file system without locks

NO_LOCKS = "import errno, fcntl\ndef flock(fd, operation): raise OSError({number}, 'No locks')\nfcntl.flock = flock\n"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize(
    ("words", "status"),
    [(("run", "--name", "nov23"), 1), (("prepare",), 1), (("status",), 0), (("pause",), 1), (("attach",), 0)],
)
def test_a_file_system_without_locks_is_named(
    number: int, words: tuple[str, ...], status: int, project: Path, small_corpus: Path, tmp_path: Path
) -> None:
    study = counting_study(project, small_corpus, agent="search")
    if words[0] == "attach":
        study.paths.history.touch()  # else it waits for the first record
    (tmp_path / "sitecustomize.py").write_text(NO_LOCKS.format(number=number))
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    command = [sys.executable, "-P", "-m", "autoresearch_kernel.cli", *words]
    done = subprocess.run(command, cwd=project, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == status and "Errno" not in done.stderr and "Traceback" not in done.stderr
    if words[0] in ("run", "prepare"):
        assert "is on a file system without locks (No locks)" in done.stderr and "on a local disk" in done.stderr


def test_a_lock_where_there_are_none_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(NoLocks, match=f"^{tmp_path} is on a file system without locks"):
        take_lock(tmp_path / "lock")
    assert lock_holder(tmp_path / "lock") is None
    with pytest.raises(NoPlace, match="without locks"):
        require_folder(tmp_path, "studies", "")


def test_a_network_drive_that_cannot_sync_a_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    assert sync_folder(tmp_path) is None
