"""Two train.py texts compared by what they mean: fingerprints, changed parameters, names for a change. Pure.

No constant that could grow large is computed, because the sources are a model's and have passed no check yet.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from typing import Any

from .cell import CELL_MARKER, SourceError, assignments, comments_of, computed, constant
from .syntax import parsed

DEEPEST = 100  # levels of a syntax tree; train.py has 20, and 300 come near Python's own limit


def fingerprint(source: str) -> str:
    """16 hex digits that stay when comments, layout, docstrings or the spelling of constants change.

    Of a source that does not parse: of its text.
    """
    tree = _normal(source)
    text = f"text {source}" if tree is None else _canonical(tree)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def code_size(source: str) -> int | None:
    """Nodes of the syntax tree without docstrings, constants folded: what a simplification makes smaller.

    None for a source that cannot be read.
    """
    tree = _normal(source)
    return None if tree is None else sum(not isinstance(node, ast.expr_context) for node in ast.walk(tree))


def subjects(old: str, new: str) -> tuple[str, ...]:
    """What a change is about, for people, sorted: "MATRIX_LR", "Attention.forward", "training loop", "code of cell 3".

    Code cells count from 1. () when the two mean the same.
    """
    before, after = _units(old), _units(new)
    if before is None or after is None:
        return () if old == new else ("code that cannot be read",)
    both = before | after
    changed = {key for key in both if key not in before or key not in after or before[key][1] != after[key][1]}
    whole = {key for key in changed if (key in before) != (key in after)}  # of a new class, its methods need no naming
    labels = {both[key][0] for key in changed if "." not in both[key][0] or key.split(".")[0] not in whole}
    if not labels and fingerprint(old) != fingerprint(new):
        return ("order of statements",)
    return tuple(sorted(labels - {"imports"} or labels))


def literal_changes(old: str, new: str) -> dict[str, Any]:
    """Parameter -> new value when the sources differ in literals of the parameters cell alone; else {}."""
    before, after = _parameters_apart(old), _parameters_apart(new)
    if before is None or after is None or before[0] != after[0]:
        return {}
    try:
        changed = {name: value for name, value in after[1].items() if repr(value) != repr(before[1].get(name))}
        json.dumps(changed, allow_nan=False)  # it goes into a record
    except ValueError:  # infinite, or an integer of thousands of digits
        return {}
    return changed


def structure(source: str) -> str:
    """12 hex digits that stay when the values of parameters, comments or layout change."""
    apart = _parameters_apart(source)
    return fingerprint(source)[:12] if apart is None else hashlib.sha256(apart[0].encode()).hexdigest()[:12]


def _parameters_apart(source: str) -> tuple[str, dict[str, Any]] | None:
    """(canonical code without the values of the parameters, name -> value); None without a readable parameters cell."""
    tree = parsed(source)
    if tree is None or _is_deep(tree):
        return None
    try:
        found = assignments(tree, source)
        values = {assignment.name: constant(assignment.value) for assignment in found}
    except SourceError:
        return None
    for assignment in found:
        assignment.statement.value = ast.Constant(None)
    return _canonical(_Normaliser().visit(tree)), values


def _units(source: str) -> dict[str, tuple[str, list[str]]] | None:
    """Name -> (name for people, canonical code) of what stands at the top level; code without a name is its own."""
    tree = _normal(source)
    if tree is None:
        return None
    units: dict[str, tuple[str, list[str]]] = {}
    cells = _code_cells(source)
    for statement in tree.body:
        for name, code in _named(statement):
            loop = "training loop" if isinstance(statement, ast.While) else ""
            label = name or loop or f"code of cell {sum(line <= statement.lineno for line in cells)}"
            units.setdefault(name or code, (label[:60], []))[1].append(code)
    return units


def _code_cells(source: str) -> list[int]:
    """Line numbers at which the code cells begin; code before the first marker is a cell too."""
    comments = comments_of(source)
    markers = [line for line, (column, text) in comments.items() if column == 0 and CELL_MARKER.match(text)]
    above = source.split("\n")[: markers[0] - 1] if markers else [source]
    before = [1] if any(line.strip() and not line.startswith("#") for line in above) else []
    return before + [line for line in markers if not re.search(r"\[(?:markdown|md|raw)\]", comments[line][1])]


def _named(statement: ast.stmt) -> list[tuple[str, str]]:
    """(name, canonical code) of a statement, of a class also its methods one by one; "" for what has no name."""
    if isinstance(statement, ast.ClassDef):
        methods = [part for part in statement.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
        statement.body = [part for part in statement.body if part not in methods]
        parts = [(f"{statement.name}.{method.name}", _canonical(method)) for method in methods]
        return [(statement.name, _canonical(statement)), *parts]
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return [(statement.name, _canonical(statement))]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [("imports", _canonical(statement))]
    is_assignment = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
    return [(_assigned(statement) if is_assignment else "", _canonical(statement))]


def _assigned(statement: ast.stmt) -> str:
    """What an assignment assigns to, as written: "model", "x, y, epoch"."""
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    return ast.unparse(target).strip("()") if isinstance(target, ast.AST) else ""


def _normal(source: str) -> ast.Module | None:
    """The syntax tree with constants computed and without statements that are constants; None if there is none."""
    tree = parsed(source)
    return None if tree is None or _is_deep(tree) else _Normaliser().visit(tree)


def _is_deep(tree: ast.AST) -> bool:
    level = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return bool(level)


class _Normaliser(ast.NodeTransformer):
    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.Constant) else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        value = node.operand.value if isinstance(node.operand, ast.Constant) else None
        if type(value) not in (int, float) or not isinstance(node.op, ast.USub | ast.UAdd):
            return node
        return ast.Constant(-value if isinstance(node.op, ast.USub) else value)  # type: ignore[operator]

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.left, ast.Constant) or not isinstance(node.right, ast.Constant):
            return node
        try:
            value = computed(node.op, node.left.value, node.right.value)
        except (ArithmeticError, TypeError, ValueError):
            return node
        return node if value is None else ast.Constant(value)


def _canonical(node: Any) -> str:
    """A syntax tree as text, the same in every version of Python: fields that are empty are left out."""
    if isinstance(node, ast.Constant):
        value = hex(node.value) if type(node.value) is int else repr(node.value)
        return f"{type(node.value).__name__} {value}"
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind", "type_comment")]
        given = [f"{name}={_canonical(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({', '.join(given)})"
    return f"[{', '.join(map(_canonical, node))}]" if isinstance(node, list) else repr(node)
