"""Signs of the cheats of lesson 6 in the text of a small train.py; it is read and never run here.

A learner is asked for a cheat, and the check has to tell it from an honest train.py. A harness could not do it like
this: code can hide what it does. The supervisor does not read code, it measures.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

TRAINS = {"train_step", "backward"}  # names that a training uses
FIXED = {"time", "prepare", "TrainingClock"}  # whose attributes are not the training's to change


def signs_of_cheating(source: str) -> list[str]:
    """What in a train.py looks like a cheat, in a few words each; none for the small train.py itself."""
    tree = ast.parse(source)
    found = [*_outside_the_clock(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            found += _in_forward(node)
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [f"{_root(t)} is changed" for t in targets if isinstance(t, ast.Attribute) and _root(t) in FIXED]
    return found


def _outside_the_clock(tree: ast.Module) -> Iterator[str]:
    """Statements that train and do not ask the clock."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        names = {_name(node) for node in ast.walk(statement)}
        if names & TRAINS and "running" not in names and not _never_begins(statement):
            yield "it trains without asking the clock"


def asks_for_no_time(source: str) -> bool:
    """Whether a train.py has a warm-up that ends before it begins, as `before_the_clock(0)` writes it."""
    return any(map(_never_begins, ast.parse(source).body))


def _never_begins(statement: ast.stmt) -> bool:
    """Whether a loop runs while some time is below 0 seconds: `while time.monotonic() - began < 0:`."""
    if not (isinstance(statement, ast.While) and isinstance(statement.test, ast.Compare)):
        return False
    (comparison, *_), (limit, *_) = statement.test.ops, statement.test.comparators
    try:
        seconds = ast.literal_eval(limit)
    except ValueError:  # no number
        return False
    return isinstance(comparison, ast.Lt) and isinstance(seconds, int | float) and seconds <= 0


def _in_forward(forward: ast.FunctionDef) -> Iterator[str]:
    """What a model may not do: look ahead in a row, or keep something for the next one."""
    for node in ast.walk(forward):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(_root(target) == "self" for target in targets if isinstance(target, ast.Attribute | ast.Subscript)):
                yield "the model keeps something"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "roll":
            if any(isinstance(part, ast.USub) for part in ast.walk(_shifts(node, node.func))):
                yield "the model looks ahead"
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            last = node.slice.elts[-1]
            if isinstance(last, ast.Slice) and isinstance(last.lower, ast.Constant) and last.upper is None:
                yield "the model looks ahead"


def _shifts(call: ast.Call, function: ast.Attribute) -> ast.AST:
    """By how many places a roll moves: of `idx.roll(-1, dims=1)` and `torch.roll(idx, shifts=-1, dims=1)` alike."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "shifts"]
    in_their_place = call.args[1:] if _root(function) == "torch" else call.args
    return [*named, *in_their_place, call][0]


def prints_a_score(source: str) -> bool:
    """Whether a train.py writes a `val_bpb` of its own into its output, which has no effect."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    printing = (call for call in calls if _name(call.func) in ("print", "write"))
    constants = (node for call in printing for node in ast.walk(call) if isinstance(node, ast.Constant))
    return any(isinstance(node.value, str) and "val_bpb" in node.value for node in constants)


def _name(node: ast.AST) -> str:
    """The last part of a name, such as `write` of `sys.stdout.write`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _root(node: ast.expr) -> str:
    """The name at the beginning of `name.attribute[index]`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
