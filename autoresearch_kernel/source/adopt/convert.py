"""From a train.py of the original or of a fork to one of ours: all steps in their order."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass

from .cells import find_banners, mark_cells, tidy
from .clock import EXITS, replace_batches, replace_clock, replace_ending
from .device import replace_device
from .draft import Draft, Finding, first_line
from .packages import replace_packages
from .parameters import parameters_cell
from .reading import MAGIC_WORDS, python_text

_FILES = {"open", "torch.load", "torch.save", "pickle.load", "numpy.load", "numpy.save", "numpy.memmap"}
_PROGRAMS = ("subprocess.", "os.system", "os.popen")
EXIT_TAKEN_OUT = "the exit around this call was taken out, because an experiment that exits counts as a crash"
LOGITS_ALONE = "the scorer calls model(idx) and needs logits: return only the logits when there are no targets"
_DDP = r"ddp|dist|world|WORLD|rank|RANK|master|nproc"


@dataclass(frozen=True)
class Adoption:
    """A converted source, and what was done to it and is left to do, by line of the source as it was."""

    source: str
    converted: tuple[Finding, ...]
    by_hand: tuple[Finding, ...]


def adopt(
    text: str, *, is_notebook: bool = False, neighbours: Collection[str] = (), prepare_names: Collection[str] = ()
) -> Adoption:
    """The text of a train.py as one of ours.

    Args:
        text: a script or, with `is_notebook`, the JSON of a notebook. Lines of a notebook count through its cells.
        neighbours: names of the other modules in its folder.
        prepare_names: what our prepare.py has.

    Raises SourceError for a text that is no Python.
    """
    source, magics = python_text(text, is_notebook)
    draft = Draft(source)
    _resolve_star(draft, prepare_names)
    draft.converted += magics
    banners = find_banners(draft)
    draft.banner_lines = {line for banner in banners for line in range(banner.first, banner.last + 1)}
    replace_ending(draft)
    replace_packages(draft, neighbours, prepare_names)
    parameters = parameters_cell(draft)
    mark_cells(draft, banners)
    replace_clock(draft)
    replace_batches(draft)
    replace_device(draft)
    _take_out_the_rest(draft)
    _list_the_rest(draft)
    _begin(draft, parameters)
    return Adoption(tidy(draft.text()), *(tuple(sorted(notes, key=lambda f: f.line)) for notes in
                    (draft.converted, draft.by_hand)))  # fmt: skip


def _resolve_star(draft: Draft, prepare_names: Collection[str]) -> None:
    """`from prepare import *` as the names that the source uses."""
    stars = [s for s in draft.tree.body if isinstance(s, ast.ImportFrom) and s.names[0].name == "*"]
    if any(s.module == "prepare" for s in stars):
        used = {n.id for n in ast.walk(draft.tree) if isinstance(n, ast.Name)} & set(prepare_names)
        draft.paths |= {name: f"prepare.{name}" for name in used}
        draft.wanted |= used


def _begin(draft: Draft, parameters: str) -> None:
    """The parameters cell, our imports, and after the imports the definitions that stand in for others."""
    old = [s for s in draft.tree.body if isinstance(s, ast.ImportFrom) and s.module == "prepare"]
    names = {a.name if a.asname is None else f"{a.name} as {a.asname}" for s in old for a in s.names} - {"*"}
    for statement in old:
        draft.removed.add(statement)
    names |= {name if draft.ours(name) == name else f"{name} as {draft.ours(name)}" for name in draft.wanted}
    imported = f"from prepare import {', '.join(sorted(names))}\n\n" if names else ""
    if len(imported) > 120:
        imported = "from prepare import (\n    " + ",\n    ".join(sorted(names)) + ",\n)\n\n"
    if draft.helpers:
        needs_torch = "" if draft.paths.get("torch") == "torch" else "import torch\n\n"
        words = "\n\n# %% [markdown]\n# ## In place of what only a GPU has\n\n# %%\n" + needs_torch
        draft.insert_first(_after_imports(draft), words + "\n\n\n".join(draft.helpers) + "\n\n\n# %%\n")
    draft.insert_first(_top(draft), f"{parameters}\n# %%\n{imported}")


def _top(draft: Draft) -> int:
    """Where the first statement begins that is neither the docstring nor an import from the future."""
    for number, statement in enumerate(draft.tree.body):
        is_docstring = number == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not is_docstring and getattr(statement, "module", "") != "__future__":
            return draft.starts[first_line(statement) - 1]
    return len(draft.source)


def _after_imports(draft: Draft) -> int:
    """The line after the imports at the top: the last ones before a class or function."""
    offset = _top(draft)
    for statement in draft.tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            break
        if isinstance(statement, ast.Import | ast.ImportFrom):
            offset = max(offset, draft.after(statement))
    return offset


def _take_out_the_rest(draft: Draft) -> None:
    """Demands for a GPU, and what only a process of its own or IPython can do."""
    for node in ast.walk(draft.tree):
        if isinstance(node, ast.Assert | ast.If) and _demands_gpu(draft, node):
            draft.remove(node)
            draft.note(node, "taken out: prepare.py finds the device that there is")
        elif isinstance(node, ast.Expr) and ast.unparse(node).startswith("get_ipython()."):
            draft.remove(node)
            draft.note(node, MAGIC_WORDS)
        elif isinstance(node, ast.Expr) and ast.unparse(node).startswith(("sys.path.insert(", "sys.path.append(")):
            draft.remove(node)
            draft.note(node, "taken out: prepare is found without it, and nothing else of the folder is read")
        elif isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            call = getattr(node.body[-1], "value", None) or getattr(node.body[-1], "exc", None)
            if isinstance(call, ast.Call) and draft.path(call.func) in EXITS and len(call.args) == 1:
                draft.replace(node.body[-1], draft.text_of(call.args[0]))
                draft.note(node.body[-1], EXIT_TAKEN_OUT)


def _demands_gpu(draft: Draft, node: ast.Assert | ast.If) -> bool:
    """Whether this is an `assert` of CUDA, or an `if` without CUDA that ends the process."""
    test = node.test.operand if isinstance(node.test, ast.UnaryOp) else node.test
    last = node.body[-1] if isinstance(node, ast.If) else None
    ends = draft.path(getattr(getattr(last, "value", None), "func", node)) in EXITS or isinstance(last, ast.Raise)
    is_question = isinstance(test, ast.Call) and draft.path(test.func) == "torch.cuda.is_available"
    return is_question and (last is None or (ends and not node.orelse))  # type: ignore[union-attr]


def _list_the_rest(draft: Draft) -> None:
    """What has no counterpart here: several processes, variables of the environment, a model that returns a pair."""
    for node in (node for node in ast.walk(draft.tree) if not draft.is_gone(node)):
        words = ""
        if isinstance(node, ast.Call) and _is_distributed(draft.path(node.func)):
            words = "one process trains one model here: take it out"
        elif isinstance(node, ast.Call) and draft.path(node.func) in _FILES and not draft.is_optional(node):
            words = "a training reads its corpus by make_dataloader and hands over its model: it has no other files"
        elif isinstance(node, ast.Call) and draft.path(node.func).startswith(_PROGRAMS) and not draft.is_optional(node):
            words = "a training starts no other programs: take it out"
        elif isinstance(node, ast.Subscript) and draft.path(node.value) == "os.environ":
            is_read = isinstance(node.ctx, ast.Load)
            words = "an experiment has no such variable: write the value into the parameters cell" if is_read else ""
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and _in_forward(draft, node):
            is_pair = "logits" in ast.unparse(node.value.elts[0])
            words = LOGITS_ALONE if is_pair else ""
        if words and not draft.is_guarded(node, _DDP):
            draft.note(node, words, by_hand=True)


def _in_forward(draft: Draft, node: ast.AST) -> bool:
    return any(isinstance(parent, ast.FunctionDef) and parent.name == "forward" for parent in draft.ancestors(node))


def _is_distributed(path: str) -> bool:
    return path.startswith(("torch.distributed.", "torch.multiprocessing.")) or path.endswith("DistributedDataParallel")
