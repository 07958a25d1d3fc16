"""Commands in messages start this very program, whether its environment is active or not."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from autoresearch_kernel.system.shell import shell_command
from tests.conftest import PROJECT

SCRIPTS = sysconfig.get_path("scripts")
BARE_PATH = "/usr/bin:/bin"


def test_in_an_active_environment_the_plain_name_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{SCRIPTS}:{BARE_PATH}")
    assert shell_command("run --name nov23") == "autoresearch run --name nov23"


def test_a_program_of_that_name_from_elsewhere_is_not_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "autoresearch"
    other.write_text("#!/bin/sh\nexit 3\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{BARE_PATH}")
    monkeypatch.chdir(tmp_path)
    assert shell_command("status") == f"{shlex.quote(SCRIPTS)}/autoresearch status"


def test_a_link_on_path_to_this_program_is_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "autoresearch").symlink_to(Path(SCRIPTS) / "autoresearch")
    monkeypatch.setenv("PATH", f"{tmp_path}:{BARE_PATH}")
    assert shell_command("status") == "autoresearch status"


def test_the_path_is_relative_below_the_working_folder_and_whole_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", BARE_PATH)
    monkeypatch.chdir(Path(SCRIPTS).parent)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert shell_command("status") == f"{Path(SCRIPTS).name}/autoresearch status"
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert shell_command("status") == f"{shlex.quote(SCRIPTS)}/autoresearch status"


def test_a_message_can_be_made_in_a_working_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setenv("PATH", BARE_PATH)
    (tmp_path / "gone").rmdir()
    assert shell_command("status") == f"{shlex.quote(SCRIPTS)}/autoresearch status"


@pytest.mark.parametrize("folder", [PROJECT, PROJECT / "notebooks", Path("/")])
def test_what_an_error_names_can_be_typed_as_it_stands(folder: Path, project: Path) -> None:
    """The command in a message of a program started by its path, run by a shell in the same folder."""
    root = project if folder == PROJECT else folder
    env = os.environ | {"PATH": BARE_PATH}
    code = "from autoresearch_kernel.system.shell import shell_command; print(shell_command('--version'))"
    named = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True)
    said = subprocess.run(named.stdout, shell=True, cwd=root, env=env, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("autoresearch ")


def test_every_message_that_names_a_command_gets_it_from_here() -> None:
    """The plain name is for docstrings, whose readers are developers."""
    found = []
    for path in (PROJECT / "autoresearch_kernel").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        found += [f"{path}:{t.lineno}" for t in texts if id(t) not in described and "`autoresearch " in t.value]
    assert not found
