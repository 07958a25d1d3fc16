"""Notebooks elsewhere: valid, small, for a plain kernel, convertible, and clear about what they need."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.share.clean import Cleaner
from autoresearch_kernel.share.command import share_study
from autoresearch_kernel.share.notebook import LIMIT_BYTES, Place, as_text, portable
from tests.conftest import PROJECT
from tests.shared_night import Night, make_night

MINE = sorted(PROJECT.glob("notebooks/*.ipynb"))
GITHUB_BYTES = 1_000_000


def notebooks_of(study: Study, folder: Path) -> list[Path]:
    path, _ = share_study(study, folder / "shared.zip", decide=list)
    with zipfile.ZipFile(path) as opened:
        opened.extractall(folder / "unpacked")
    return sorted((folder / "unpacked").rglob("*.ipynb"))


def converted(path: Path) -> str:
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(path))
    return str(page)


def check_portable(path: Path, kernel: str) -> None:
    """What GitHub, nbviewer and nbconvert need."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == kernel and "widgets" not in notebook.metadata
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and path.stat().st_size < GITHUB_BYTES
    assert "<h1" in converted(path)


def test_notebooks_of_a_real_study_are_portable(measured: Study, tmp_path: Path) -> None:
    paths = notebooks_of(measured, tmp_path)
    runs = read_state(measured.paths.history).experiments[0].runs  # three, or more on an unsteady machine
    assert {path.name for path in paths} == {measured.experiment(0).notebook(run.index).name for run in runs}
    for path in paths:
        check_portable(path, "python3")
    first = next(path for path in paths if path.name == "experiment.ipynb")
    notebook = nbformat.read(first, as_version=4)
    original = nbformat.read(measured.experiment(0).notebook(0), as_version=4)
    assert notebook.cells[0].source.startswith("# 0000 · Baseline") and "**keep**" in notebook.cells[0].source
    printed = [[o.get("text") for o in cell.outputs] for cell in original.cells if cell.cell_type == "code"]
    kept = [[o.get("text") for o in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    assert kept[1:-1] == printed[:-1]  # the first says what is needed, the last has the curve
    assert "image/png" in notebook.cells[-2].outputs[0].data
    assert notebook.cells[-1].source.startswith("## Verdict")
    text = first.read_text()
    assert "papermill" in text and str(measured.project) not in text and "input_path" not in text


@pytest.mark.parametrize("path", MINE, ids=lambda path: path.name)
def test_the_project_s_notebooks_are_portable(path: Path) -> None:
    check_portable(path, "autoresearch")


def elsewhere(cells: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The code of a notebook in a Python that has neither the project nor any package, as a kernel would run it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-S", "-c", "\n\n".join(cells)]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", MINE, ids=lambda path: path.name)
def test_a_kernel_without_the_project_is_told_so_in_one_sentence(path: Path, tmp_path: Path) -> None:
    done = elsewhere(code_of(path), tmp_path)
    assert done.returncode == 1
    assert done.stderr == "This notebook needs the project autoresearch: install it, as its README.md says.\n"


def test_so_is_one_that_opens_the_notebook_of_an_experiment(tmp_path: Path) -> None:
    night = make_night(tmp_path)
    first = next(path for path in notebooks_of(night.study, tmp_path) if path.parent.name == "0001")
    done = elsewhere(code_of(first), tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr.startswith("To train this again you need the project autoresearch") and done.stderr.count("\n") == 1
    )


# --- sizes


def png(size: int) -> str:
    """A picture of random pixels, which cannot be compressed, in base64."""
    import struct
    import zlib

    rows = np.random.default_rng(size).integers(0, 256, (size, size * 3 + 1), dtype=np.uint8)
    rows[:, 0] = 0

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes())), chunk(b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def made(night: Night, outputs: list[dict[str, Any]], most_bytes: int) -> dict[str, Any]:
    notebook = json.loads(night.study.experiment(1).notebook(0).read_text())
    notebook["cells"][2]["outputs"] = outputs
    experiment = read_state(night.study.paths.history).experiments[1]
    place = Place(experiment, experiment.runs[0], night.study.facts, "")
    return portable(notebook, place, Cleaner(()), most_bytes)


def display(**data: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def test_the_largest_pictures_go_first_where_a_notebook_is_too_large(tmp_path: Path) -> None:
    pictures = [png(size) for size in (30, 200, 60)]
    outputs = [display(**{"image/png": picture, "text/plain": "<Figure>"}) for picture in pictures]
    notebook = made(make_night(tmp_path), outputs, 120_000)
    kept = [output["data"] for output in notebook["cells"][3]["outputs"]]
    assert [data.get("image/png") in pictures for data in kept] == [True, False, True]
    assert kept[1]["text/plain"].startswith("<Figure>\n[a picture of 1") and "left out" in kept[1]["text/plain"]


def test_a_notebook_is_below_the_limit_whatever_was_printed(tmp_path: Path) -> None:
    text = {"output_type": "stream", "name": "stdout", "text": "x" * 3_000_000 + "the end"}
    notebook = made(make_night(tmp_path), [text, text], 10_000_000)
    assert len(as_text(notebook)) < LIMIT_BYTES
    assert notebook["cells"][3]["outputs"][0]["text"].endswith("the end")
    nbformat.validate(nbformat.from_dict(notebook))


def test_only_text_and_png_are_kept_of_an_output(tmp_path: Path) -> None:
    svg, jpeg = "<svg onload='alert(1)'/>", base64.b64encode(b"\xff\xd8\xff\xe0 JFIF").decode()
    outputs = [
        display(**{"image/svg+xml": svg, "text/plain": ["a ", "figure"]}), display(**{"text/html": "<b>x</b>"}),
        display(**{"image/png": base64.b64encode(b"<script>").decode()}), display(**{"image/jpeg": jpeg}),
        {"output_type": "odd"}, {"output_type": "stream", "name": "x", "text": ["\x1b[31mred\x1b[0m", "\u202e"]},
    ]  # fmt: skip
    kept = made(make_night(tmp_path), outputs, 100_000)["cells"][3]["outputs"]
    assert kept[0]["data"] == {"text/plain": "a figure"}
    assert kept[1]["data"] == {"text/plain": "[text/html was not kept: only text and pictures are]"}
    assert [list(output["data"]) for output in kept[2:5]] == [["text/plain"]] * 3
    assert kept[5] == {"output_type": "stream", "name": "stdout", "text": "red"}
