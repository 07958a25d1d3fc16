"""Folders of untrusted code are removed, whatever the code did to prevent that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoresearch_kernel.system.untrusted_files import opened_up, remove_tree


def nest(folder: Path, levels: int, name: str = "d") -> None:
    """Folders in folders, deeper than a path can name."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize(("levels", "name"), [(3_000, "d"), (100, "n" * 250)])
def test_a_tree_of_any_depth_goes(tmp_path: Path, levels: int, name: str) -> None:
    (tmp_path / "tree" / "beside").mkdir(parents=True)
    nest(tmp_path / "tree", levels, name)
    remove_tree(tmp_path / "tree")
    assert not list(tmp_path.iterdir())


def test_folders_closed_to_their_owner_go(tmp_path: Path) -> None:
    inner = tmp_path / "tree" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for folder in (inner, inner.parent, tmp_path / "tree"):
        folder.chmod(0)
    remove_tree(tmp_path / "tree")
    assert not list(tmp_path.iterdir())


def test_links_go_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    for link in (tree / "link", tree / "inner" / "link", tmp_path / "link"):
        link.symlink_to(kept)
    os.mkfifo(tree / "pipe")
    remove_tree(tree)
    remove_tree(tmp_path / "link")
    assert list(tmp_path.iterdir()) == [kept] and kept.stat().st_mode & 0o777 == 0o500
    (tmp_path / "link").symlink_to(kept)
    with pytest.raises(OSError), opened_up(tmp_path / "link"):
        pass


def test_nothing_is_removed_where_nothing_is(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
    (tmp_path / "file").touch()
    remove_tree(tmp_path / "file")
    assert not list(tmp_path.iterdir())
