"""Copies of the notebooks to work in: made once, refreshed until a user edits them, never overwritten after that."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.lab.working_copies import SERVER_CONFIG, keep_original, update_copies
from autoresearch_kernel.record.paths import MY_NOTEBOOKS, NOTEBOOKS
from autoresearch_kernel.system.locations import project_root
from tests.conftest import PROJECT

STEP = f"{MY_NOTEBOOKS}/step.ipynb"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with its notebooks, copied once."""
    (tmp_path / "prepare.py").write_text("class TrainingClock: ...\n")
    (tmp_path / "train.py").write_text("")
    shutil.copytree(PROJECT / NOTEBOOKS, tmp_path / NOTEBOOKS, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (words,) = update_copies(tmp_path)
    assert words.startswith(f"Your copies of the notebooks are in {MY_NOTEBOOKS}/: analysis.ipynb, control.ipynb, step")
    return tmp_path


def edit(path: Path, source: str | None = None, output: str | None = None) -> None:
    """Change the first code cell as Jupyter saves it, and add an empty cell, as running the last one does."""
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source = cell.source if source is None else source
    if output is not None:
        cell.execution_count, cell.outputs = 1, [nbformat.v4.new_output("stream", text=output)]
        notebook.cells.append(nbformat.v4.new_code_cell(""))
    nbformat.write(notebook, path)


def upgrade(checkout: Path) -> None:
    edit(checkout / NOTEBOOKS / "step.ipynb", 'NAME = "another lesson"')


def test_the_copies_are_the_notebooks_and_find_the_project(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout / MY_NOTEBOOKS)
    assert project_root() == checkout
    for original in (checkout / NOTEBOOKS).rglob("*.ipynb"):
        copy = nbformat.read(checkout / MY_NOTEBOOKS / original.relative_to(checkout / NOTEBOOKS), as_version=4)
        assert copy.cells == nbformat.read(original, as_version=4).cells
    links = {Path(part.split(")")[0]) for part in (checkout / STEP).read_text().split("](")[1:]}
    assert links == {Path("control.ipynb"), Path("analysis.ipynb"), Path("../train.py")}
    assert all((checkout / MY_NOTEBOOKS / link).is_file() for link in links)
    assert list(update_copies(checkout)) == []


def test_an_upgrade_refreshes_a_copy_without_edits(checkout: Path) -> None:
    upgrade(checkout)
    assert list(update_copies(checkout)) == [f"{STEP} is now the project's new version."]
    assert "another lesson" in (checkout / STEP).read_text()
    assert list(update_copies(checkout)) == []


def test_an_upgrade_keeps_what_a_copy_showed_that_was_only_run(checkout: Path) -> None:
    for number in (1, 2):
        edit(checkout / STEP, output=f"lesson {number}")
        edit(checkout / NOTEBOOKS / "step.ipynb", f'NAME = "version {number}"')
        (words,) = update_copies(checkout)
        kept = checkout / MY_NOTEBOOKS / f"step-before-upgrade-{number}.ipynb"
        assert words.endswith(f"What yours showed is in {MY_NOTEBOOKS}/{kept.name}.")
        assert f"lesson {number}" in kept.read_text() and f"version {number}" in (checkout / STEP).read_text()


@pytest.mark.parametrize("spoil", [lambda path: edit(path, 'NAME = "mine"'), lambda path: path.write_text("{")])
def test_a_copy_that_was_edited_is_never_overwritten(checkout: Path, spoil: Any) -> None:
    spoil(checkout / STEP)
    before = (checkout / STEP).read_bytes()
    if before != b"{":
        assert list(update_copies(checkout)) == []
    upgrade(checkout)
    (words,) = update_copies(checkout)
    assert words.startswith(f"{STEP} has your edits and stays as it is.") and words.endswith("notebooks/step.ipynb.")
    assert list(update_copies(checkout)) == [], "it was said once"
    edit(checkout / NOTEBOOKS / "step.ipynb", 'NAME = "yet another lesson"')
    assert len(list(update_copies(checkout))) == 1, "of the next version too"
    assert (checkout / STEP).read_bytes() == before


def test_the_notebooks_of_the_project_are_written_as_jupyter_writes_them() -> None:
    """So that saving one that was only run changes no byte: see `keep_original`."""
    for path in (PROJECT / NOTEBOOKS).glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n", path.name
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_a_run_of_an_original_is_not_saved_and_an_edit_is(checkout: Path) -> None:
    class Manager:
        root_dir = str(checkout)

    def saved(path: str, **changes: Any) -> Any:
        at = checkout / path
        before = at.read_bytes()
        edit(at, **changes)
        model = {"type": "notebook", "content": json.loads(at.read_text())}
        at.write_bytes(before)  # the hook runs before the file is written
        keep_original(model=model, path=path, contents_manager=Manager())
        return model["content"], json.loads(before)

    content, original = saved("notebooks/step.ipynb", output="hello")
    assert content == original
    content, original = saved("notebooks/step.ipynb", source="NAME = 'mine'", output="hello")
    assert content != original and "hello" in json.dumps(content)
    content, original = saved(STEP, output="hello")
    assert content != original and "hello" in json.dumps(content)


@contextmanager
def plain_jupyter(root: Path, prefix: Path, home: Path) -> Iterator[str]:
    """The address of a JupyterLab that was started as in any project, in an environment with this prefix."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        f"--ServerApp.root_dir={root}", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True",
    ]  # fmt: skip
    places = {"JUPYTER_CONFIG_PATH": str(prefix / "etc" / "jupyter"), "JUPYTER_CONFIG_DIR": str(home / "config")}
    places["JUPYTER_RUNTIME_DIR"] = str(home / "runtime")
    with open(home / "log", "wb") as log, subprocess.Popen(command, env=os.environ | places, stderr=log) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def put(server: str, path: str, notebook: Any) -> None:
    """Save a notebook as its page does."""
    content = json.dumps({"type": "notebook", "format": "json", "content": notebook}).encode()
    request = urllib.request.Request(f"{server}/api/contents/{path}", content, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


def test_a_jupyter_that_is_started_plainly_keeps_the_originals(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, home = tmp_path_factory.mktemp("prefix"), tmp_path_factory.mktemp("home")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    assert main(["kernel", "install", "--sys-prefix"]) in (0, None)
    assert (prefix / SERVER_CONFIG).is_file()
    original = checkout / NOTEBOOKS / "step.ipynb"
    before = original.read_bytes()
    notebook = nbformat.read(original, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.execution_count, cell.outputs = 1, [nbformat.v4.new_output("stream", text="hello")]
    with plain_jupyter(checkout.parent, prefix, home) as server:
        put(server, f"{checkout.name}/{NOTEBOOKS}/step.ipynb", notebook)
        put(server, f"{checkout.name}/{MY_NOTEBOOKS}/step.ipynb", notebook)
    assert original.read_bytes() == before
    assert "hello" in (checkout / STEP).read_text(), "a copy keeps what it showed"
