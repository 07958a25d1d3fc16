"""Temporary folders: those of killed processes are removed, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch_kernel.system.temporary import PREFIX, make_folder, own_folder, remove_abandoned, remove_folder

OWNER = """
import time
from autoresearch_kernel.system.temporary import make_folder
print(make_folder(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test and of its children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(place: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        folder = Path(owner.stdout.readline().strip())
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "model.pkl").write_bytes(b"x" * 1000)
        assert folder.parent == place and folder.stat().st_mode & 0o777 == 0o700
        assert remove_abandoned() == 0 and folder.exists()
        owner.send_signal(signal.SIGKILL)
    assert remove_abandoned() == 1 and not folder.exists()


def test_only_folders_of_this_program_are_removed(place: Path) -> None:
    mine = make_folder()
    (place / "other").mkdir()
    (place / f"{PREFIX}file").write_text("no folder")
    (place / f"{PREFIX}link").symlink_to(place / "other")
    assert remove_abandoned() == 0
    assert {path.name for path in place.iterdir()} == {mine.name, "other", f"{PREFIX}file", f"{PREFIX}link"}
    remove_folder(mine)
    assert not mine.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_folder_is_left_alone(place: Path) -> None:
    theirs = place / f"{PREFIX}theirs"
    theirs.mkdir()
    os.chown(theirs, 64_123, 64_123)
    assert remove_abandoned() == 0 and theirs.exists()


def test_a_folder_is_gone_after_its_block_whatever_was_put_there(place: Path) -> None:
    with pytest.raises(KeyError), own_folder() as folder:
        (folder / "closed").mkdir(mode=0)
        raise KeyError
    assert list(place.iterdir()) == []
