"""Does a train.py seed its own generators? Then a confirmation repeats the first run and is not fresh. Pure.

A seed is fixed when it is computed from constants alone. One that comes from SEED, which is another in each run, or
from the clock is not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .cell import SourceError, comments_of, find_cell
from .syntax import parsed, split_lines

SEED = "SEED"
_SEEDERS = {
    "manual_seed", "manual_seed_all", "default_rng", "RandomState", "SeedSequence", "seed_everything", "set_seed",
    "seed_all", "set_random_seed",
}  # fmt: skip
_OF_RANDOM = {"seed", "Random"}  # of the modules random and numpy.random alone
LONGEST = 60  # characters of a call that are shown


def seeds_itself(source: str) -> str:
    """`it seeds itself in line 12 (torch.manual_seed(137)), so ...`; "" when each run has a seed of its own."""
    found = fixed_seeds(source)
    if not found:
        return ""
    line, code = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"it seeds itself in line {line} ({code}){more}, so its confirmations are not fresh: use SEED there"


def fixed_seeds(source: str) -> list[tuple[int, str]]:
    """Line and code of each statement that seeds a generator with constants, or gives SEED another value."""
    tree = parsed(source)
    if tree is None:
        return []
    values = _Values(tree)
    found = [(call.lineno, ast.unparse(call)[:LONGEST]) for call in _calls(tree) if values.is_seeding(call)]
    return sorted({*found, *_reassigned(tree, source)})


def _reassigned(tree: ast.Module, source: str) -> Iterator[tuple[int, str]]:
    try:
        first, last = find_cell(comments_of(source), len(split_lines(source)))
    except SourceError:
        return
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        is_seed = any(isinstance(target, ast.Name) and target.id == SEED for target in targets)
        is_constant = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        if is_seed and is_constant and not first < node.lineno <= last:  # type: ignore[attr-defined]
            yield node.lineno, ast.unparse(node)[:LONGEST]  # type: ignore[attr-defined]


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(node: ast.expr | None) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class _Values:
    """What the names of a train.py stand for, and which of its calls and functions seed."""

    def __init__(self, tree: ast.Module) -> None:
        self.given: dict[str, list[ast.expr]] = {}  # by variable, attribute, key or command line option
        for node in ast.walk(tree):
            for name, value in _givings(node):
                self.given.setdefault(name, []).append(value)
        self.of_random = {"random"} | {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if alias.name in ("random", "numpy.random")
        }
        self.imported_seeders = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random")
            for alias in node.names
            if alias.name in _OF_RANDOM
        }
        self.functions = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}

    def is_seeding(self, call: ast.Call) -> bool:
        """Whether a call seeds a generator with what is computed from constants alone."""
        if any(keyword.arg == "seed" and self._is_fixed(keyword.value) for keyword in call.keywords):
            return True
        if isinstance(call.func, ast.Name) and (function := self.functions.get(call.func.id)) is not None:
            return self._seeds_with_argument(function) and self._is_fixed(_argument(call, function))
        return self._is_seeder(call.func) and bool(call.args) and self._is_fixed(call.args[0])

    def _is_seeder(self, function: ast.expr) -> bool:
        name = _name(function)
        if isinstance(function, ast.Attribute) and name in _OF_RANDOM:
            return _name(function.value) in self.of_random
        return name in _SEEDERS or name in self.imported_seeders

    def _seeds_with_argument(self, function: ast.FunctionDef) -> bool:
        """Whether a function of train.py seeds with its first argument."""
        arguments = [argument.arg for argument in function.args.args]
        return bool(arguments) and any(
            self._is_seeder(call.func) and bool(call.args) and _name(call.args[0]) == arguments[0]
            for call in _calls(function)
        )

    def _is_fixed(self, node: ast.expr | None, depth: int = 0) -> bool:
        if node is None or depth > 10:
            return False
        if isinstance(node, ast.Constant):
            return type(node.value) in (int, float, str)
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            key = node.slice if isinstance(node, ast.Subscript) else None
            name = str(key.value) if isinstance(key, ast.Constant) else _name(node)
            known = self.given.get(name, [])
            return name != SEED and bool(known) and all(self._is_fixed(value, depth + 1) for value in known)
        if isinstance(node, ast.Call):
            return _name(node.func) in ("int", "hash", "abs") and all(self._is_fixed(a, depth + 1) for a in node.args)
        if isinstance(node, ast.NamedExpr):
            return self._is_fixed(node.value, depth + 1)
        if isinstance(node, ast.BinOp | ast.UnaryOp):
            parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]
            return all(self._is_fixed(part, depth + 1) for part in parts)
        return False


def _argument(call: ast.Call, function: ast.FunctionDef) -> ast.expr | None:
    """The first argument of a call, or the default that the function has for it."""
    if call.args:
        return call.args[0]
    named = [keyword.value for keyword in call.keywords if keyword.arg == function.args.args[0].arg]
    is_optional = len(function.args.defaults) == len(function.args.args)
    return named[0] if named else function.args.defaults[0] if is_optional else None


def _givings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What a statement gives a value to: a variable, an attribute, a key of a dictionary, an option, a keyword."""
    if isinstance(node, ast.Assign):
        yield from ((_name(target), node.value) for target in node.targets if _name(target))
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None and _name(node.target):
        yield _name(node.target), node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value
    elif isinstance(node, ast.Call) and _name(node.func) == "add_argument":
        default = next((keyword.value for keyword in node.keywords if keyword.arg == "default"), None)
        options = [a.value for a in node.args if isinstance(a, ast.Constant) and str(a.value).startswith("--")]
        if default is not None and options:
            yield str(options[0]).lstrip("-").replace("-", "_"), default
