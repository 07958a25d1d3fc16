"""The parameters cell: constants in capitals, and the defaults of a command line."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from typing import Any

from ..cell import SourceError, constant
from .draft import Draft, Edit, is_bound

OF_PREPARE = {"TIME_BUDGET", "MAX_SEQ_LEN", "EVAL_TOKENS"}  # which a fork may set itself
_OF_DEVICE = {"DEVICE", "DEVICE_TYPE"}  # which become get_device()
_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
_FIXED = re.compile(
    r"(?:^|_)(?:FLOPS|TIME|BUDGET|SECONDS|SEED|EVAL|LOG|PRINT|SAVE|CKPT|CHECKPOINT|PATH|DIR|FILE|URL|PROJECT|WANDB|"
    r"DEBUG|COMPILE|VOCAB|WORKERS|MAX_STEPS|NUM_STEPS|MAX_ITERS|EPOCHS)(?:_|$)"
)
_RANGE = re.compile(r"\.\.|\{")
_SEEDS = {"torch.manual_seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all", "random.seed"}
_SEEDS |= {"numpy.random.seed", "numpy.random.default_rng"}
_CASTS: dict[str, Any] = {"int": int, "float": float, "str": str}
SMALLEST_SIZE = 16  # a power of two from here on is a size that others are divided by, and stays a power of two


def parameters_cell(draft: Draft) -> str:
    """The text of the cell; its constants are taken out of their old places."""
    seeds = _seeds(draft)
    moved = [text for statement in draft.tree.body if (text := _moved(draft, statement)) is not None]
    defaults = _command_line(draft)
    if not any(re.match(r"SEED\b", line) for text in moved for line in text.split("\n")):
        moved.insert(0, f"SEED = {[*seeds, 42][0]}  # fixed: each run of an experiment gets its own")
    if len(moved) + len(defaults) == 1:
        words = "no constants in capitals stand outside of functions: move the numbers that may be tuned into the cell"
        draft.note(1, words, by_hand=True)
    blocks = [f"\n{text}" if text.startswith("#") else text for text in [*moved, *defaults]]
    return '# %% tags=["parameters"]\n' + "\n".join(blocks) + "\n"


def _seeds(draft: Draft) -> list[int]:
    """Seeds that are written as numbers; SEED takes their places."""
    found = []
    for node in ast.walk(draft.tree):
        if not isinstance(node, ast.Call):
            continue
        values = node.args if _sets_seed(draft, node) and len(node.args) == 1 else []
        if name_of_option(node) == "SEED":
            values = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
        for value in values:
            if isinstance(value, ast.Constant) and type(value.value) is int:
                found.append(value.value)
                draft.replace(value, "SEED")
                draft.note(node, "SEED of the parameters cell")
    return found


def _sets_seed(draft: Draft, call: ast.Call) -> bool:
    return draft.path(call.func) in _SEEDS or (isinstance(call.func, ast.Attribute) and call.func.attr == "manual_seed")


def _moved(draft: Draft, statement: ast.stmt) -> str | None:
    """The lines of a constant for the parameters cell; None for any other statement, which stays."""
    name, value = _assigned(statement)
    if not name or name in _OF_DEVICE or value is None or not draft.owns_its_lines(statement):
        return None
    if name in OF_PREPARE:
        draft.remove(statement)
        draft.wanted.add(name)
        draft.note(statement, f"{name} of prepare.py, which the study sets")
        return None
    if reason := _why_it_stays(draft, name, value):
        draft.note(statement, f"stays below the parameters cell: {reason}")
        return None
    number, end = _value(value), statement.end_lineno or statement.lineno
    first = draft.first_line(statement)
    start, stop = draft.starts[first - 1], draft.starts[end] - 1
    lines = draft.source[start:stop].split("\n")
    is_constant = _is_constant(value)
    if end == statement.lineno or not is_constant:
        text = draft.text_of(value) if is_constant else repr(number)
        lines[statement.lineno - first :] = [_line(name, text, number, draft.comments.get(end, (0, ""))[1])]
    draft.edits.append(Edit(start, stop + 1, ""))
    draft.moved.add(statement)
    draft.note(statement, "moved into the parameters cell")
    return "\n".join(lines)


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    if isinstance(target, ast.Name) and _CAPITALS.fullmatch(target.id):
        return target.id, statement.value  # type: ignore[attr-defined]
    return "", None


def _why_it_stays(draft: Draft, name: str, value: ast.expr) -> str:
    try:
        number = _value(value)
    except SourceError:
        return "it is not a literal"
    if isinstance(number, float) and not math.isfinite(number):
        return "it is no finite number"
    nodes = list(ast.walk(draft.tree))
    times = sum(is_bound(n) and n.id == name for n in nodes)  # type: ignore[attr-defined]
    is_global = any(isinstance(n, ast.Global) and name in n.names for n in nodes)
    return "it is assigned more than once" if times > 1 or is_global else ""


def _is_constant(value: ast.expr) -> bool:
    try:
        constant(value)
    except SourceError:
        return False
    return True


def _value(node: ast.expr) -> Any:
    """Of a constant, or the default where an environment variable is read. Raises SourceError for anything else."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in _CASTS and len(node.args) == 1:
        try:
            return _CASTS[ast.unparse(node.func)](_value(node.args[0]))
        except (ValueError, TypeError, OverflowError) as error:
            raise SourceError(str(error)) from error
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
        return _value(node.left) == _value(node.comparators[0])
    default = _default_of_variable(node)
    return constant(node) if default is None else default


def _default_of_variable(node: ast.expr) -> Any:
    """The default in `os.environ.get(NAME, default)` or `os.getenv(NAME, default)`; None without one."""
    if not isinstance(node, ast.Call) or len(node.args) != 2 or not _is_constant(node.args[1]):
        return None
    reads = ast.unparse(node.func) in ("os.environ.get", "environ.get", "os.getenv", "getenv")
    return constant(node.args[1]) if reads else None


def _line(name: str, text: str, value: Any, comment: str) -> str:
    """`NAME = text  # comment; range`, where a range or the word `fixed` is added when the comment has none."""
    words = comment.lstrip("# ").rstrip()
    added = "" if _RANGE.search(words) else _range(name, value)
    note = "; ".join(filter(None, (words, added)))
    return f"{name} = {text}" + (f"  # {note}" if note else "")


def _range(name: str, value: Any) -> str:
    if _FIXED.search(name):
        return "fixed"
    if type(value) is int and value >= SMALLEST_SIZE and value & (value - 1) == 0:
        power = value.bit_length() - 1
        return f"2**{power - 2}..2**{power + 1}"
    return "0.0..0.3" if value == 0 and isinstance(value, float) and "FRAC" in name else ""


# --- the command line


def _command_line(draft: Draft) -> list[str]:
    """Numbers that are defaults of argparse, as lines of the cell. A notebook has no arguments."""
    lines: list[str] = []
    for call in [node for node in ast.walk(draft.tree) if isinstance(node, ast.Call)]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name == "add_argument":
            lines += _parameter(draft, call)
        elif name in ("parse_args", "parse_known_args") and not call.keywords:
            start = draft.offset(call.func.end_lineno or 0, call.func.end_col_offset or 0)
            draft.edits.append(Edit(start, draft.span(call)[1], "([])"))
            draft.note(call, "the defaults: a notebook has no command line")
    return lines


def name_of_option(call: ast.Call) -> str:
    """The parameter for `add_argument("--an-option", ...)`: AN_OPTION; "" for any other call."""
    is_option = isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
    words = [str(a.value) for a in call.args if isinstance(a, ast.Constant)] if is_option else []
    name = next((word.lstrip("-").replace("-", "_").upper() for word in words if word.startswith("--")), "")
    return name if name.isidentifier() else ""


def _from_arguments(draft: Draft) -> set[str]:
    """Names that only repeat an argument, as in `DEPTH = args.depth`."""
    pairs = [_assigned(statement) for statement in draft.tree.body]
    return {name for name, value in pairs if isinstance(value, ast.Attribute) and value.attr.upper() == name}


def _parameter(draft: Draft, call: ast.Call) -> Iterator[str]:
    name = name_of_option(call)
    default = next((keyword.value for keyword in call.keywords if keyword.arg == "default"), None)
    taken = (draft.bound - _from_arguments(draft)) | OF_PREPARE | {"SEED"}
    if default is None or not name or name in taken or not _is_constant(default):
        return
    value = constant(default)
    if isinstance(value, int | float) and not isinstance(value, bool):
        kinds = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "type"]
        draft.replace(default, name)
        draft.bound.add(name)
        draft.note(call, f"the default is {name} of the parameters cell")
        yield _line(name, repr(float(value)) if kinds == ["float"] else draft.text_of(default), value, "")
