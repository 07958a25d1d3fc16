"""From train.py to an experiment's notebook, behind a gate: what runs is what the file says, to the last syntax node.

It owns the heading, the curve and the verdict of an executed notebook. It runs nothing, and it refuses a source whose
cells, taken together, would mean anything else than the file.
"""

from __future__ import annotations

import ast
import base64
import html
import re
import warnings
from pathlib import Path

from ..source.syntax import parse
from ..system.files import write_atomic
from .imports import without
from .kernelspec import notebook_metadata

with without("rfc3987_syntax"):  # jsonschema's optional check of URIs takes 2.3 s to import
    import nbformat
    from nbformat import NotebookNode

SOURCE_LIMIT_BYTES = 1_000_000  # far above any train.py that a person would read
FOLD_DIFF_LINES = 30  # a longer diff is folded
HEADING, CURVE, VERDICT, PARAMETERS = "heading", "curve", "verdict", "parameters"  # cell tags

# A cell with one of these would be skipped, forgiven, overwritten or taken for one of ours.
_REFUSED_TAGS = {"skip-execution", "raises-exception", "injected-parameters", HEADING, CURVE, VERDICT}
_PAPERMILL_MARKER = "papermill-error-cell-tag"
# jupytext would take an ordinary comment such as `# rm old weights` for a shell command, and run it.
_PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}


class InvalidSource(ValueError):
    """A train.py that must not run as a notebook, with the reason and, where there is one, the line."""


# --- the gate


def check_source(source: str) -> None:
    """Raise InvalidSource unless train.py means the same as a notebook and as a script.

    Its cells must parse alone and together give the file's own syntax tree; exactly one is tagged `parameters` and
    assigns literals or constant expressions such as 2**16; no tag may keep a cell from running or forgive its errors.
    """
    tree = _parse(source)
    cells = _cells(source)
    code = [cell for cell in cells if cell.cell_type == "code"]
    _check_tags(cells)
    for number, cell in enumerate(code, 1):
        _check_alone(cell.source, number)
    _check_same_tree(tree, "\n".join(cell.source for cell in code))
    _check_parameters([cell for cell in code if PARAMETERS in cell.metadata.get("tags", [])])


def _parse(source: str) -> ast.Module:
    try:
        if len(source.encode("utf-8")) > SOURCE_LIMIT_BYTES:
            raise InvalidSource(f"train.py is longer than {SOURCE_LIMIT_BYTES:,} bytes.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compile(source, "train.py", "exec", dont_inherit=True)  # also finds a `return` outside a function
            return parse(source)
    except SyntaxError as error:
        raise InvalidSource(f"train.py, line {error.lineno}: {error.msg}.") from error
    except InvalidSource:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, lone surrogates, absurd nesting
        raise InvalidSource(f"train.py is not Python text: {error}.") from error


def _cells(source: str) -> list[NotebookNode]:
    import jupytext  # takes 0.2 s, and readers of executed notebooks do not need it

    try:
        return list(jupytext.reads(source, fmt=dict(_PERCENT)).cells)
    except Exception as error:  # a cell header or a YAML header that jupytext cannot read: of any kind
        raise InvalidSource(f"train.py cannot be read as percent-format cells: {error}.") from error


def _check_tags(cells: list[NotebookNode]) -> None:
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidSource(f"Cell {_name(cell)}: tags must be a list of strings, not {tags!r}.")
        if refused := sorted(tag for tag in tags if tag in _REFUSED_TAGS or tag.startswith("active-")):
            raise InvalidSource(f"Cell {_name(cell)} is tagged {refused[0]!r}, which an experiment does not allow.")
        if "active" in cell.metadata:
            raise InvalidSource(f"Cell {_name(cell)} is `active` only in some formats: it would not run.")


def _check_alone(source: str, number: int) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            parse(source)
    except SyntaxError as error:
        line = source.splitlines()[(error.lineno or 1) - 1 :][:1]
        raise InvalidSource(
            f"Code cell {number} does not parse alone: {error.msg} at {''.join(line).strip()!r}. "
            "Is there an indented '# %%', or a block split over two cells?"
        ) from error


def _check_same_tree(tree: ast.Module, joined: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        cells = parse(joined)
    if ast.dump(tree) == ast.dump(cells):
        return
    for mine, theirs in zip(tree.body, [*cells.body, None], strict=False):
        if theirs is None or ast.dump(mine) != ast.dump(theirs):
            raise InvalidSource(
                f"train.py, line {mine.lineno}: this statement is not the same in the notebook's code cells. "
                "Is code hidden in a markdown or raw cell, or a comment taken for code?"
            )
    raise InvalidSource("The notebook's code cells hold statements that train.py does not have.")


def _check_parameters(cells: list[NotebookNode]) -> None:
    if len(cells) != 1:
        raise InvalidSource(f'train.py has {len(cells)} code cells tagged "parameters"; it must have exactly one.')
    seen: set[str] = set()
    for statement in parse(cells[0].source).body:
        name, value = _assignment(statement)
        if name is None or value is None or not _is_constant(value):
            raise InvalidSource(
                f"The parameters cell may only assign literals or constant expressions such as 2**16, "
                f"not {ast.unparse(statement)[:80]!r}."
            )
        if name in seen:
            raise InvalidSource(f"The parameters cell assigns {name} twice.")
        seen.add(name)


def _assignment(statement: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign) and statement.simple:
        target = statement.target
    else:
        return None, None
    return (target.id, statement.value) if isinstance(target, ast.Name) else (None, None)


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, bool | int | float | str)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.UAdd) and _is_constant(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_constant(node.left) and _is_constant(node.right)
    if isinstance(node, ast.Tuple | ast.List):
        return all(_is_constant(element) for element in node.elts)
    return False


def _name(cell: NotebookNode) -> str:
    lines = cell.source.strip().splitlines()
    return repr(lines[0][:60]) if lines else "(empty)"


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

    Raises InvalidSource when `check_source` refuses the source.
    """
    check_source(source)
    notebook = read_source(source)
    notebook.cells.insert(0, _markdown(heading, HEADING))
    return notebook


def heading_markdown(title: str, *, status_line: str = "", hypothesis: str = "", diff: str = "") -> str:
    """The heading cell: title, a line of state, the hypothesis as a quotation, and the diff (folded when long)."""
    parts = [f"# {_plain(' '.join(title.split()))}"]
    if status_line:
        parts.append(_plain(" ".join(status_line.split())))
    if hypothesis.strip():
        parts.append("\n".join(f"> {_plain(line)}" for line in hypothesis.strip().splitlines()))
    if diff.strip():
        parts.append(_diff_markdown(diff.strip("\n")))
    return "\n\n".join(parts)


def _diff_markdown(diff: str) -> str:
    lines = diff.splitlines()
    longest = max((len(run) for run in re.findall(r"`{3,}", diff)), default=2)
    fence = "`" * (longest + 1)
    block = f"{fence}diff\n{diff}\n{fence}"
    if len(lines) <= FOLD_DIFF_LINES:
        return block
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    summary = f"What changed in train.py: {added} lines added, {removed} removed"
    return f"<details>\n<summary>{summary}</summary>\n\n{block}\n\n</details>"


def _plain(text: str) -> str:
    """The text of an agent as text, without HTML and without images of other servers."""
    return html.escape(text, quote=False).replace("&gt;", ">").replace("![", "!\\[")


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
        "# The curve, drawn by the harness from metrics.jsonl",
        metadata={"tags": [CURVE], "jupyter": {"source_hidden": True}},
        id=CURVE,
        outputs=[nbformat.v4.new_output("display_data", data=picture)],
    )


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


# --- files


def read_notebook(path: str | Path) -> NotebookNode:
    """The notebook at `path`. Raises ValueError, which names the file, when it is not one."""
    try:
        return nbformat.reads(Path(path).read_text(encoding="utf-8"), as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook: {str(error)[:200]}") from error


def write_notebook(notebook: NotebookNode, path: str | Path) -> None:
    """Write the notebook atomically."""
    write_atomic(path, nbformat.writes(notebook) + "\n")
