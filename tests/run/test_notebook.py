"""The notebook of an experiment, and what is written into it afterwards."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
import pytest

from autoresearch_kernel.run.notebook import (
    build_notebook,
    heading_markdown,
    read_notebook,
    set_verdict,
    write_notebook,
)

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = '# %% tags=["parameters"]\nSEED = 1  # fixed\nBATCH = 2**16  # tokens; 2**10..2**18\n\n'
PNG = base64.b64decode(  # one transparent pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def source(*cells: str) -> str:
    return PARAMETERS + "\n\n".join(cells) + "\n"


def code_of(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_comments_that_look_like_shell_commands_stay_comments() -> None:
    text = source("# %%\n# !touch x\n# rm old weights\n# cat foo\n# %pip install y\n# %%bash\nx = 1")
    assert "# rm old weights" in code_of(build_notebook(text, heading="# h"))


def test_a_header_that_asks_for_magics_is_not_obeyed() -> None:
    header = "# ---\n# jupyter:\n#   jupytext:\n#     comment_magics: true\n# ---\n\n"
    assert "# rm x" in code_of(build_notebook(header + source("# %%\n# rm x\ny = 1"), heading="# h"))


def test_the_notebook_begins_with_its_heading_and_is_valid() -> None:
    notebook = build_notebook(source("# %% [markdown]\n# ## Why", "# %%\nx = 1"), heading="# 0001 · Try")
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "markdown", "code"]
    assert notebook.cells[0].source == "# 0001 · Try"
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.metadata.kernelspec.name == "autoresearch"


def test_the_same_source_gives_the_same_notebook_byte_for_byte() -> None:
    first, second = (nbformat.writes(build_notebook(source("# %%\nx = 1"), heading="# h")) for _ in range(2))
    assert first == second


def test_a_heading_shows_what_changed_and_why() -> None:
    text = heading_markdown(
        "0010 · Halve the batch: 4096 -> 2048", status_line="keep · 1.4312", hypothesis="Less is\nmore", diff="-a\n+b"
    )
    assert text == (
        "# 0010 · Halve the batch: 4096 -> 2048\n\nkeep · 1.4312\n\n> Less is\n> more\n\n```diff\n-a\n+b\n```"
    )


def test_a_long_diff_is_folded_and_fences_itself() -> None:
    diff = "--- a\n+++ b\n" + "+```\n" * 20 + "-x\n" * 20
    text = heading_markdown("t", diff=diff)
    assert "<summary>What changed in train.py: 20 lines added, 20 removed</summary>" in text
    assert "````diff\n" in text and text.endswith("````\n\n</details>")


def test_words_of_an_agent_are_neither_html_nor_images() -> None:
    text = heading_markdown("<script>x</script>", hypothesis="![x](http://evil/x.png) a < b & c > d")
    assert "<script" not in text and "![" not in text
    assert "a &lt; b &amp; c > d" in text


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.ipynb"
    write_notebook(build_notebook(source("# %%\nx = 1"), heading="# 0001 · running"), path)
    return path


def test_a_verdict_replaces_the_heading_and_is_replaced_by_the_next(executed: Path) -> None:
    notebook = read_notebook(executed)
    marker = nbformat.v4.new_markdown_cell("<span>An Exception</span>")
    marker.metadata["tags"] = ["papermill-error-cell-tag"]
    notebook.cells.insert(0, marker)
    write_notebook(notebook, executed)

    set_verdict(executed, heading="# 0001 · discard", curve_png=PNG, curve_text="loss 3.1 at the end", verdict="old")
    set_verdict(executed, heading="# 0001 · keep", curve_png=PNG, curve_text="loss 3.0 at the end", verdict="new")

    notebook = read_notebook(executed)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells if cell.cell_type == "markdown"] == ["# 0001 · keep", "new"]
    assert notebook.cells[0].source == "# 0001 · keep" and notebook.cells[-1].source == "new"
    data = notebook.cells[-2].outputs[0].data
    assert base64.b64decode(data["image/png"]) == PNG and data["text/plain"] == "loss 3.0 at the end"
    assert list(executed.parent.iterdir()) == [executed]


def test_without_heading_and_curve_only_the_verdict_is_added(executed: Path) -> None:
    set_verdict(executed, verdict="crash")
    sources = [cell.source for cell in read_notebook(executed).cells]
    assert sources[0] == "# 0001 · running" and sources[-1] == "crash" and len(sources) == 4


def test_a_file_that_is_no_notebook_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("half of {")
    with pytest.raises(ValueError, match=r"x\.ipynb is not a notebook"):
        set_verdict(tmp_path / "x.ipynb", verdict="v")


def test_it_reads_well_as_html(executed: Path) -> None:
    from nbconvert import HTMLExporter

    diff = "\n".join(f"+line {i}" for i in range(40))
    set_verdict(
        executed, heading=heading_markdown("0001 · Try", diff=diff), curve_png=PNG, verdict="## Verdict\n\nkeep"
    )
    html, _ = HTMLExporter().from_filename(str(executed))
    for part in (
        "<details>",
        "+line 39",
        "data:image/png;base64,",
        "Verdict</h2>" if "Verdict</h2>" in html else "Verdict",
    ):
        assert part in html
