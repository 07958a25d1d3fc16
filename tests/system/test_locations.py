"""Where corpora and locks are kept, and what is said where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.doctor import disk
from autoresearch_kernel.system.locations import below_home
from autoresearch_kernel.system.places import NoPlace, require_cache


@pytest.mark.parametrize("variable", ["HOME", "AUTORESEARCH_HOME"])
def test_a_home_that_cannot_be_is_named(
    variable: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AUTORESEARCH_HOME")
    monkeypatch.setenv(variable, "/dev/null/x")
    for words in (["run", "--name", "nov24", "--experiments", "1"], ["prepare"]):
        assert main(words) == 1
        assert capsys.readouterr().err.startswith(f"autoresearch: {variable} is /dev/null/x: /dev/null/x")
    assert disk(project).verdict == "fail" and f"{variable} is /dev/null/x: " in disk(project).found
    assert not (project / "studies").exists()


def test_a_home_that_can_be_made_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTORESEARCH_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "not" / "there"))
    require_cache()
    (tmp_path / "not").write_text("a file")
    with pytest.raises(NoPlace):
        require_cache()


def test_a_home_that_is_a_link_has_two_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nfs" / "al").mkdir(parents=True)
    (tmp_path / "al").symlink_to(tmp_path / "nfs" / "al")
    monkeypatch.setenv("HOME", str(tmp_path / "al"))
    assert below_home(f"{tmp_path}/al/x") == below_home(f"{tmp_path}/nfs/al/x") == "~/x"


def test_only_a_path_that_begins_with_the_home_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/al")
    assert below_home("/scratch/home/al/ar") == "/scratch/home/al/ar"
    assert below_home("/home/al/ar") == "~/ar" and below_home("/home/alan/ar") == "/home/alan/ar"
    assert below_home("it lies in '/home/al/ar', not in /x/home/al/ar") == "it lies in '~/ar', not in /x/home/al/ar"
