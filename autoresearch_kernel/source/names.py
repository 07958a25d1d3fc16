"""The names of a Python file: what it offers to others, and what it defines and never uses. Pure; nothing is run."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from .cell import SourceError, assignments
from .syntax import parse, parsed

# Methods of a torch.nn.Module that other code than train.py calls: torch, or the scorer.
CALLED_BY_OTHERS = frozenset({"forward", "extra_repr", "state_dict", "load_state_dict", "train", "eval", "apply"}) | {
    "parameters", "named_parameters", "estimate_flops",
}  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """A public name of a module: a constant, a function, or a class with its public methods."""

    name: str
    short: str  # with the names of the arguments and their defaults: `make_dataloader(tokenizer, B, seed=0)`
    full: str  # with annotations
    summary: str = ""  # the first line of the docstring, or the comment of a constant
    methods: tuple[Signature, ...] = ()


def signatures(source: str) -> list[Signature]:
    """The public names at the top level of a module, in their order; none of a source that does not parse.

    Names that a module-level `__getattr__` compares with count as constants of its return type.
    """
    tree, lines, found = parsed(source), source.split("\n"), list[Signature]()
    for node in tree.body if tree is not None else []:
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            found += [Signature(name, name, f"{name}: {_text(node.returns) or 'Any'}") for name in _compared(node)]
        elif isinstance(node, ast.FunctionDef) and _is_public(node.name):
            found.append(_function(node))
        elif isinstance(node, ast.ClassDef) and _is_public(node.name):
            found.append(_class(node))
        else:
            names = [name for name in _assigned(node) if name.isupper() and _is_public(name)]
            summary = lines[node.lineno - 1].partition("  # ")[2] if names else ""
            found += [Signature(name, name, name, summary) for name in names]
    return found


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _text(node: ast.AST | None) -> str:
    return "" if node is None else ast.unparse(node)


def _summary(node: ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").strip().partition("\n")[0]


def _compared(node: ast.FunctionDef) -> list[str]:
    sides = (side for part in ast.walk(node) if isinstance(part, ast.Compare) for side in part.comparators)
    return [side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]


def _function(node: ast.FunctionDef, is_method: bool = False) -> Signature:
    short, full = (_arguments(node, annotated) for annotated in (False, True))
    decorators = {_text(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    result = f" -> {_text(node.returns)}" if node.returns is not None else ""
    if is_method and decorators & {"property", "cached_property"}:
        return Signature(node.name, node.name, node.name + result.replace(" ->", ":"), _summary(node))
    return Signature(node.name, f"{node.name}({short})", f"{node.name}({full}){result}", _summary(node))


def _arguments(node: ast.FunctionDef, annotated: bool) -> str:
    """The arguments as text, without `self` and `cls`."""
    arguments = parse(f"def f({_text(node.args)}): pass").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    args = arguments.args
    if args.args and args.args[0].arg in ("self", "cls"):
        args.args = args.args[1:]
    if not annotated:
        others = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs, *others]:
            arg.annotation = None
    return _text(args)


def _class(node: ast.ClassDef) -> Signature:
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    begin = next((_function(method) for method in methods if method.name == "__init__"), None)
    short, full = ("()", "()") if begin is None else (begin.short[8:], begin.full[8:].removesuffix(" -> None"))
    public = tuple(_function(method, is_method=True) for method in methods if _is_public(method.name))
    return Signature(node.name, node.name + short, node.name + full, _summary(node), public)


def imported_names(source: str, module: str) -> set[str]:
    """What a source imports from a module: by `from module import name`, or as an attribute of the module."""
    tree = parsed(source)
    nodes = list(ast.walk(tree)) if tree is not None else []
    from_module = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == module]
    aliases = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names if alias.name == module]
    modules = {alias.asname or module for alias in aliases}
    attributes = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }
    return attributes | {alias.name for node in from_module for alias in node.names}


def unused_names(source: str) -> list[str]:
    """Parameters, constants, imports, functions, classes and methods that nothing in the file uses, in their order.

    What only an unused function reads is unused too. In doubt a name counts as used: one that is quoted, or a local
    variable of the same name. None for a source that does not parse.
    """
    tree = parsed(source)
    if tree is None:
        return []
    parameters = _parameters(tree, source)
    definitions: dict[str, list[ast.AST]] = {}
    used: set[str] = set()
    for node in tree.body:
        names = [name for name in _defined(node) if name.isupper() or name in parameters or not _assigned(node)]
        for name in names:
            definitions.setdefault(name, []).append(node)
        if not names or _assigned(node):
            used |= _read(node)
    waiting = [name for name in definitions if name in used]
    while waiting:
        found = set().union(*(_read(node) for node in definitions[waiting.pop()])) - used
        used |= found
        waiting += [name for name in definitions if name in found]
    unused = [name for name in definitions if name not in used]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name in used]
    named = _read(tree) | {part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)} | CALLED_BY_OTHERS
    return unused + [f"{node.name}.{name}" for node in classes for name in _own_methods(node) if name not in named]


def _parameters(tree: ast.Module, source: str) -> set[str]:
    try:
        return {assignment.name for assignment in assignments(tree, source)}
    except SourceError:
        return set()


def _assigned(node: ast.stmt) -> list[str]:
    """The plain names that an assignment at the top level sets."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names if alias.name != "*"]
    return _assigned(node)


def _read(node: ast.AST) -> set[str]:
    """Names that are read within a node, and quoted words, which may be names."""
    parts = list(ast.walk(node))
    names = {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
    quoted = {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return names | quoted


def _own_methods(node: ast.ClassDef) -> list[str]:
    """Methods that only this file can call: those of a class whose base classes are not of another library."""
    if not {_text(base).rpartition(".")[2] for base in node.bases} <= {"Module", "object"}:
        return []
    return [part.name for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("__")]
