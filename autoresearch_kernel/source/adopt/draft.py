"""A source with the edits that are collected on it. All positions are those of the source as it was read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..cell import CELL_MARKER, comments_of, parse_source


@dataclass(frozen=True)
class Finding:
    """One line of the report: what stands in place of a line, or what the user has to do about it."""

    line: int  # of the file that was read, 1-based
    code: str  # that line, or its beginning
    words: str


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of the source become `new`; an insertion where both are equal."""

    start: int
    end: int
    new: str


class Draft:
    """A source, its tree, and what is to be done to it. Raises SourceError for a source that does not parse."""

    def __init__(self, source: str) -> None:
        self.source, self.tree, self.comments = source, parse_source(source), comments_of(source)
        self.lines = source.split("\n")
        self.starts = [0]  # offset of each line
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.paths = _imported_paths(self.tree)
        self.bound = {node.id for node in ast.walk(self.tree) if is_bound(node)} | set(self.paths)  # type: ignore[attr-defined]
        self.bound |= {n.name for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        self.edits: list[Edit] = []
        self.removed: set[ast.stmt] = set()
        self.replaced: set[ast.AST] = set()
        self.moved: set[ast.stmt] = set()  # constants that went into the parameters cell
        self.converted: list[Finding] = []
        self.by_hand: list[Finding] = []
        self.wanted: set[str] = set()  # names of prepare that the new source needs
        self.banner_lines: set[int] = set()
        self.helpers: list[str] = []  # definitions that stand in for what is not there

    # --- positions

    def offset(self, line: int, byte_column: int) -> int:
        """Of a position of the syntax tree, which counts columns in UTF-8 bytes."""
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:byte_column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Offsets of a node; of a class or function without its decorators."""
        end = self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        return self.offset(node.lineno, node.col_offset), end  # type: ignore[attr-defined]

    def after(self, statement: ast.stmt) -> int:
        """The offset of the line after a statement."""
        return self.starts[statement.end_lineno or statement.lineno]

    def text_of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def indent(self, statement: ast.stmt) -> str:
        return self.lines[statement.lineno - 1][: statement.col_offset]

    def first_line(self, statement: ast.stmt) -> int:
        """Of a statement with its decorators and the comment lines directly above it."""
        line = first_line(statement)
        while line - 1 in self.comments and self.lines[line - 2].lstrip().startswith("#"):
            if line - 1 in self.banner_lines or CELL_MARKER.match(self.lines[line - 2]):
                break
            line -= 1
        return line

    def owns_its_lines(self, statement: ast.stmt) -> bool:
        """Whether nothing but a comment stands beside a statement."""
        start, end = self.span(statement)
        before = self.source[self.starts[statement.lineno - 1] : start]
        after = self.source[end : self.after(statement)]
        return not before.strip() and (not after.strip() or after.strip().startswith("#"))

    # --- names

    def path(self, node: ast.AST) -> str:
        """The dotted path of a name or an attribute with imports resolved, as torch.nn.functional; "" for others."""
        if isinstance(node, ast.Name):
            return self.paths.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.path(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    @staticmethod
    def path_of_import(statement: ast.Import | ast.ImportFrom) -> str:
        return statement.module or "" if isinstance(statement, ast.ImportFrom) else statement.names[0].name

    def ours(self, name: str) -> str:
        """How the new source calls a name of prepare, which its import then has."""
        self.wanted.add(name)
        own = self.paths.get(name, "" if name not in self.bound else "another") in ("", f"prepare.{name}")
        return name if own else f"prepare_{name}"

    def new_name(self, name: str) -> str:
        """`name`, or one that the source does not use yet."""
        while name in self.bound:
            name = f"training_{name}"
        return name

    # --- where a node stands

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def is_gone(self, node: ast.AST) -> bool:
        """Whether the new source no longer has this node."""
        return node in self.removed or any(p in self.removed or p in self.replaced for p in self.ancestors(node))

    def is_optional(self, node: ast.AST) -> bool:
        """Whether the source has another way for the case that this fails."""
        return any(isinstance(parent, ast.Try) and parent.handlers for parent in self.ancestors(node))

    def is_guarded(self, node: ast.AST, words: str) -> bool:
        """Whether a node is reached only under a condition that names one of `words`."""
        for parent in self.ancestors(node):
            if isinstance(parent, ast.If | ast.IfExp) and re.search(words, ast.unparse(parent.test)):
                return True
            if isinstance(parent, ast.BoolOp) and re.search(words, ast.unparse(parent.values[0])):
                return True
        return False

    def statement_of(self, node: ast.AST) -> ast.stmt:
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def block_of(self, statement: ast.stmt) -> list[ast.stmt]:
        """The statements among which this one stands."""
        parent = self.parents[statement]
        blocks = (getattr(parent, field, None) for field in ("body", "orelse", "finalbody"))
        return next(block for block in blocks if isinstance(block, list) and statement in block)

    # --- edits

    def note(self, node: ast.AST | int, words: str, by_hand: bool = False) -> None:
        line = node if isinstance(node, int) else node.lineno  # type: ignore[attr-defined]
        finding = Finding(line, self.lines[line - 1].strip(), words)
        notes = self.by_hand if by_hand else self.converted
        if finding not in notes:
            notes.append(finding)

    def replace(self, node: ast.AST, new: str) -> None:
        self.replaced.add(node)
        self.edits.append(Edit(*self.span(node), new))

    def insert(self, offset: int, new: str) -> None:
        self.edits.append(Edit(offset, offset, new))

    def insert_first(self, offset: int, new: str) -> None:
        """Before what was inserted there already."""
        self.edits.insert(0, Edit(offset, offset, new))

    def remove(self, statement: ast.stmt, with_comments: bool = False) -> None:
        """Take a statement out, with its lines; an `if` without an `else` of which nothing is left goes, too."""
        self.removed.add(statement)
        if with_comments and (first := self.first_line(statement)) < statement.lineno:
            self.edits.append(Edit(self.starts[first - 1], self.starts[statement.lineno - 1], ""))
        parent = self.parents[statement]
        if isinstance(parent, ast.If) and not parent.orelse and all(s in self.removed for s in parent.body):
            self.remove(parent)

    def text(self) -> str:
        """The source with all edits; of two that overlap, the wider one is made."""
        edits = sorted([*self.edits, *self._removals()], key=lambda edit: (edit.start, -edit.end, edit.new == ""))
        insertions = [edit for edit in edits if edit.start == edit.end]
        wide: list[Edit] = []
        for edit in (edit for edit in edits if edit.start < edit.end):
            if not wide or edit.start >= wide[-1].end:
                wide.append(edit)
        kept = [i for i in insertions if not any(w.start < i.start < w.end for w in wide)]
        pieces, at = [], 0
        for edit in sorted([*kept, *wide], key=lambda edit: (edit.start, edit.end)):
            pieces += [self.source[at : edit.start], edit.new]
            at = edit.end
        return "".join([*pieces, self.source[at:]])

    def _removals(self) -> Iterator[Edit]:
        for statement in self.removed:
            if any(parent in self.removed for parent in self.ancestors(statement)):
                continue
            block, parent = self.block_of(statement), self.parents[statement]
            is_last_of_block = parent is not self.tree and all(s in self.removed for s in block)
            if not self.owns_its_lines(statement) or (is_last_of_block and statement is block[0]):
                yield Edit(*self.span(statement), "pass")
            else:
                yield Edit(self.starts[first_line(statement) - 1], self.after(statement), "")


def first_line(statement: ast.stmt) -> int:
    """Of a statement with its decorators."""
    return min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])


def _imported_paths(tree: ast.Module) -> dict[str, str]:
    """Imported name -> its dotted path, for imports anywhere in the file."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                found[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_bound(node: ast.AST) -> bool:
    """Whether a node is a name that gets a value."""
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
