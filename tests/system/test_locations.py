"""Where corpora and locks are kept, and what is said where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.doctor import disk
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
