"""The notebook of an experiment: made from a train.py that passes the gate, later given its curve and its verdict.

This module reads train.py with jupytext and writes the heading, the curve and the verdict. It runs nothing.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

from ..core.markdown import fenced, inert, inert_markdown
from ..core.sanitize import escaped, one_line
from ..source.gate import CURVE, HEADING, VERDICT, InvalidSource, check_cells
from ..source.syntax import without_mark
from ..system.files import write_atomic
from .imports import without
from .kernelspec import notebook_metadata

with without("rfc3987_syntax"):  # jsonschema's optional check of URIs takes 2.3 s to import
    import nbformat
    from nbformat import NotebookNode

FOLD_DIFF_LINES = 30  # a longer diff is folded
_PAPERMILL_MARKER = "papermill-error-cell-tag"
_SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # jupytext takes them for line ends, and Python does not
_PLAIN_TAG = re.compile(r"[\w-]{1,40}")  # a viewer may write the others into HTML
# jupytext would take an ordinary comment such as `# rm old weights` for a shell command, and run it.
_PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}


def check_source(source: str) -> None:
    """Raise InvalidSource unless train.py means the same as a notebook, as jupytext reads it, and as a script."""
    check_cells(source, _cells)


def _cells(source: str) -> list[NotebookNode]:
    import jupytext  # takes 0.2 s, and readers of executed notebooks do not need it

    unused = (character for character in map(chr, range(0xE000, 0xF900)) if character not in source)
    substitutes = {ord(separator): next(unused) for separator in _SEPARATORS}
    try:
        cells = list(jupytext.reads(without_mark(source).translate(substitutes), fmt=dict(_PERCENT)).cells)
    except Exception as error:  # a cell header or a YAML header that jupytext cannot read: of any kind
        raise InvalidSource(f"train.py cannot be read as percent-format cells: {one_line(str(error), 200)}.") from error
    originals = {ord(substitute): separator for separator, substitute in substitutes.items()}
    for cell in cells:
        cell.source = cell.source.translate(originals)
    return cells


def percent_cells(source: str) -> list[NotebookNode]:
    """The cells of a file in percent format, with their metadata; it need not be a train.py."""
    import jupytext

    return list(jupytext.reads(source, fmt=dict(_PERCENT)).cells)


# --- the notebook


def read_source(source: str) -> NotebookNode:
    """train.py as a notebook with this program's kernel, without a heading and without checks."""
    notebook = nbformat.v4.new_notebook(metadata=notebook_metadata())
    for number, cell in enumerate(_cells(source)):
        metadata = {"tags": list(cell.metadata.get("tags", []))} if cell.metadata.get("tags") else {}
        new = {
            "code": nbformat.v4.new_code_cell,
            "markdown": nbformat.v4.new_markdown_cell,
            "raw": nbformat.v4.new_raw_cell,
        }[cell.cell_type]
        notebook.cells.append(new(cell.source, metadata=metadata, id=f"train-{number:02d}"))
    return notebook


def build_notebook(source: str, *, heading: str) -> NotebookNode:
    """The notebook of an experiment: the heading (see `heading_markdown`), then the cells of train.py.

    Code cells are as in train.py. Markdown is inert, and raw cells, which some viewers take for HTML, are plain text.
    Raises InvalidSource when `check_source` refuses the source.
    """
    check_source(source)
    notebook = read_source(source)
    for cell in notebook.cells:
        if "tags" in cell.metadata:
            cell.metadata["tags"] = [tag for tag in cell.metadata["tags"] if _PLAIN_TAG.fullmatch(tag)]
        if cell.cell_type == "markdown":
            cell.source = inert_markdown(cell.source)
        elif cell.cell_type == "raw":
            cell.metadata["raw_mimetype"] = "text/plain"
    notebook.cells.insert(0, _markdown(heading, HEADING))
    return notebook


def heading_markdown(title: str, *, status_line: str = "", hypothesis: str = "", diff: str = "") -> str:
    """The heading cell: title, a line of state, the hypothesis as a quotation, and the diff (folded when long)."""
    parts = [f"# {inert(' '.join(title.split()))}"]
    if status_line:
        parts.append(inert(" ".join(status_line.split())))
    if hypothesis.strip():
        parts.append("\n".join(f"> {line}" for line in inert_markdown(hypothesis).split("\n")))
    if diff.strip():
        parts.append(_diff_markdown(diff.strip("\n")))
    return "\n\n".join(parts)


def _diff_markdown(diff: str) -> str:
    lines = [escaped(line) for line in diff.split("\n")]
    block = "\n".join(fenced(lines, "diff"))
    if len(lines) <= FOLD_DIFF_LINES:
        return block
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    summary = f"What changed in train.py: {added} lines added, {removed} removed"
    return f"<details>\n<summary>{summary}</summary>\n\n{block}\n\n</details>"


def _markdown(source: str, tag: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": [tag]}, id=tag)


# --- the verdict


def set_verdict(
    path: str | Path, *, heading: str | None = None, curve_png: bytes | None = None, curve_text: str = "", verdict: str
) -> None:
    """Put the heading, the curve and the verdict into an executed notebook, as static content that stays in the file.

    A second call replaces them. `heading` and `verdict` are markdown; without `heading` the old one stays, and without
    `curve_png` there is no curve. `curve_text` describes the picture in words. The file is replaced atomically.
    """
    path = Path(path)
    notebook = read_notebook(path)
    kept = [cell for cell in notebook.cells if not _tags(cell) & {CURVE, VERDICT, _PAPERMILL_MARKER}]
    if heading is not None:
        kept = [_markdown(heading, HEADING), *(cell for cell in kept if HEADING not in _tags(cell))]
    if curve_png is not None:
        kept.append(_curve_cell(curve_png, curve_text or "The curve of this run."))
    notebook.cells = [*kept, _markdown(verdict, VERDICT)]
    write_notebook(notebook, path)


def _curve_cell(png: bytes, text: str) -> NotebookNode:
    picture = {"image/png": base64.b64encode(png).decode("ascii"), "text/plain": text}
    return nbformat.v4.new_code_cell(
        "# The curve, drawn by the supervisor from metrics.jsonl",
        metadata={"tags": [CURVE], "jupyter": {"source_hidden": True}},
        id=CURVE,
        outputs=[nbformat.v4.new_output("display_data", data=picture)],
    )


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def mark_end(path: Path, name: str, reason: str) -> None:
    """Write into a notebook why its run ended, when its runner could not: cells that had not begun are `skipped`.

    The reason replaces the runner's note that it was stopped; without one it goes to the running or the next cell.
    """
    notebook = read_notebook(path)
    words = {"ename": name, "evalue": reason, "traceback": [f"{name}: {reason}"]}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stops = [output for cell in code for output in cell.outputs if output.get("ename") == "Stopped"]
    if stops:
        stops[-1].update(words)
    elif open_cells := [cell for cell in code if _cell_status(cell) in ("pending", "running")]:
        open_cells[0].outputs.append(nbformat.v4.new_output("error", **words))
    for cell in code:
        if _cell_status(cell) == "running":
            cell.metadata.papermill |= {"status": "failed", "exception": True}
        elif _cell_status(cell) == "pending":
            cell.metadata.setdefault("papermill", {})["status"] = "skipped"
    write_notebook(notebook, path)


def _cell_status(cell: NotebookNode) -> str:
    return str(cell.metadata.get("papermill", {}).get("status", "pending"))


# --- files


def read_notebook(path: str | Path) -> NotebookNode:
    """The notebook at `path`. Raises ValueError, which names the file, when it is not one."""
    try:
        return nbformat.reads(Path(path).read_text(encoding="utf-8"), as_version=4)
    except (nbformat.ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a notebook: {str(error)[:200]}") from error


def write_notebook(notebook: NotebookNode, path: str | Path) -> None:
    """Write the notebook atomically."""
    write_atomic(path, nbformat.writes(notebook) + "\n")
