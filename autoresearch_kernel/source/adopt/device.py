"""CUDA: what a train.py says of its device, in the words of prepare.py, which runs on CPU, CUDA, ROCm and Apple."""

from __future__ import annotations

import ast

from .draft import Draft, Edit
from .parameters import name_of_option

_GUARDS = r"cuda|mps|xpu|gpu|GPU"
_KINDS = ("cuda", "cpu", "mps", "xpu")
_NEEDLESS = {"synchronize", "empty_cache", "reset_peak_memory_stats", "manual_seed", "manual_seed_all", "set_device",
             "ipc_collect", "init", "set_per_process_memory_fraction"}  # fmt: skip
_MEMORY = {"max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved",
           "current_allocated_memory", "driver_allocated_memory"}  # fmt: skip
_HARMLESS = {"is_available", "device_count", "is_initialized", "is_bf16_supported", "OutOfMemoryError"}
_AUTOCASTS = {"torch.autocast", "torch.amp.autocast", "torch.cuda.amp.autocast", "torch.amp.autocast_mode.autocast"}
_SCALERS = {"torch.cuda.amp.GradScaler", "torch.amp.GradScaler", "torch.GradScaler"}

_OF_STUDY = "get_device() of prepare.py, which the study sets"
_FLOAT16 = "float16 needs loss scaling, which is not here: use autocast_dtype(get_device()) of prepare"
COMPILE = '''
def compile_on_gpu(function=None, **options):
    """torch.compile on a GPU. Elsewhere the function as it is: compiling would take a large part of the budget."""
    if function is None:
        return lambda function: compile_on_gpu(function, **options)
    return torch.compile(function, **options) if {get_device}().type == "cuda" else function
'''


def replace_device(draft: Draft) -> None:
    """Replace what only works on CUDA, and list what has no counterpart."""
    for statement in [node for node in ast.walk(draft.tree) if isinstance(node, ast.Assign | ast.If)]:
        if not draft.is_gone(statement):
            _own_pick(draft, statement)
    for node in list(ast.walk(draft.tree)):
        if draft.is_gone(node) or node in draft.replaced:
            continue
        if isinstance(node, ast.Call):
            _call(draft, node)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            _name(draft, node)


# --- the device


def _own_pick(draft: Draft, statement: ast.Assign | ast.If) -> None:
    """`device = ...`, or an `if` that assigns nothing else in any branch."""
    name, kind = _picked(draft, statement)
    parent = draft.parents[statement]
    is_elif = isinstance(statement, ast.If) and isinstance(parent, ast.If) and statement in parent.orelse
    if not name or not kind or is_elif or draft.is_guarded(parent, _GUARDS) or draft.is_guarded(statement, _GUARDS):
        return
    get_device = draft.ours("get_device")
    draft.replace(statement, f"{name} = {get_device}(){'.type' if kind == 'str' else ''}")
    draft.note(statement, _OF_STUDY)


def _picked(draft: Draft, statement: ast.stmt) -> tuple[str, str]:
    """The name that a statement gives a device, and whether as "str" or "device"; "" and "" for other statements."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        name = statement.targets[0].id
        is_call = isinstance(statement.value, ast.Call)
        kind = _kind(draft, statement.value)
        return (name, kind) if "device" in name.lower() or (is_call and kind == "device") else ("", "")
    if isinstance(statement, ast.If) and statement.orelse:
        found = {_picked(draft, s) if len(block) == 1 else ("", "")
                 for block in (statement.body, statement.orelse) for s in block}  # fmt: skip
        return found.pop() if len(found) == 1 else ("", "")
    return "", ""


def _kind(draft: Draft, node: ast.expr | None, depth: int = 0) -> str:
    """ "str" for a name of a device, "device" for a torch.device, "" for anything else."""
    if isinstance(node, ast.Constant):
        return "str" if isinstance(node.value, str) and node.value.split(":")[0] in _KINDS else ""
    if isinstance(node, ast.JoinedStr):
        return "str" if ast.unparse(node)[2:6] in _KINDS else ""
    if isinstance(node, ast.IfExp):
        kinds = {_kind(draft, node.body, depth), _kind(draft, node.orelse, depth)}
        return kinds.pop() if len(kinds) == 1 else ""
    if isinstance(node, ast.Call) and draft.path(node.func) == "torch.device" and node.args:
        return "device" if _kind(draft, node.args[0], depth) else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and depth < 3:
        return _kind_of_function(draft, node.func.id, depth + 1)
    return ""


def _kind_of_function(draft: Draft, name: str, depth: int) -> str:
    """Of what a function of the file returns, when all of it is a device."""
    for function in ast.walk(draft.tree):
        if isinstance(function, ast.FunctionDef) and function.name == name:
            returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
            kinds = {_kind(draft, value, depth) for value in returns}
            return kinds.pop() if len(kinds) == 1 else ""
    return ""


# --- calls


def _call(draft: Draft, call: ast.Call) -> None:
    path = draft.path(call.func)
    module, _, name = path.rpartition(".")
    if path in _AUTOCASTS:
        _autocast(draft, call)
    elif path in _SCALERS:
        draft.note(call, "autocast here is bfloat16 or float32, which need no scaler: take it out", by_hand=True)
    elif module in ("torch.cuda", "torch.mps", "torch.xpu") and not _is_guarded(draft, call):
        _cuda(draft, call, name)
    elif isinstance(call.func, ast.Attribute) and call.func.attr in ("cuda", "bfloat16", "half") and not call.args:
        _method(draft, call, call.func)
    elif path == "torch.device" and call.args and _kind(draft, call.args[0]) and ast.unparse(call.args[0]) != "'cpu'":
        draft.replace(call, f"{draft.ours('get_device')}()")
        draft.note(call, _OF_STUDY)
    elif not draft.is_guarded(call, _GUARDS):
        _arguments(draft, call)


def _is_guarded(draft: Draft, call: ast.Call) -> bool:
    return draft.is_optional(call) or draft.is_guarded(call, _GUARDS)


def _autocast(draft: Draft, call: ast.Call) -> None:
    if any(keyword.arg == "enabled" for keyword in call.keywords):
        return
    if call in getattr(draft.parents[call], "decorator_list", []):
        draft.note(call, "`with autocast(get_device()):` inside of the function, both from prepare", by_hand=True)
        return
    new = f"{draft.ours('autocast')}({draft.ours('get_device')}())"
    draft.replace(call, new)
    draft.note(call, "autocast() of prepare.py: bfloat16 where the hardware multiplies it, else float32")


def _cuda(draft: Draft, call: ast.Call, name: str) -> None:
    statement = draft.parents[call]
    if name in _NEEDLESS and isinstance(statement, ast.Expr):
        draft.remove(statement)
        draft.note(call, "taken out: the clock waits for the GPU, and torch.manual_seed seeds it")
    elif name in _MEMORY:
        draft.replace(call, f"({draft.ours('peak_memory_mb')}({draft.ours('get_device')}()) * 2**20)")
        draft.note(call, "peak_memory_mb() of prepare.py")
    elif name not in _HARMLESS:
        draft.note(call, 'needs an NVIDIA GPU: put it under `if get_device().type == "cuda":`', by_hand=True)


def _method(draft: Draft, call: ast.Call, method: ast.Attribute) -> None:
    """`.cuda()`, `.bfloat16()` and `.half()`; what they are called on may hold other edits."""
    if method.attr == "half":
        draft.note(call, _FLOAT16, by_hand=True)
        return
    start = draft.offset(method.value.end_lineno or 0, method.value.end_col_offset or 0)
    what = f"{draft.ours('get_device')}()" if method.attr == "cuda" else _fast_dtype(draft)
    rest = "".join(f", {ast.unparse(keyword)}" for keyword in call.keywords)
    draft.edits.append(Edit(start, draft.span(call)[1], f".to({what}{rest})"))
    draft.note(call, f".to({what})")


def _arguments(draft: Draft, call: ast.Call) -> None:
    """A literal "cuda" where a device is expected."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    given = [(keyword.arg or "", keyword.value) for keyword in call.keywords]
    given += [("", value) for value in call.args[:1] if name in ("to", "set_default_device")]
    given += [("device_type", v) for k, v in given if k == "default" and name_of_option(call) == "DEVICE"]
    for keyword, value in given:
        is_cuda = isinstance(value, ast.Constant) and str(value.value).split(":")[0] == "cuda"
        if is_cuda and keyword in ("", "device", "device_type"):
            draft.replace(value, f"{draft.ours('get_device')}(){'.type' if keyword == 'device_type' else ''}")
            draft.note(value, _OF_STUDY)


# --- number formats and compilation


def _name(draft: Draft, node: ast.Attribute | ast.Name) -> None:
    path = draft.path(node)
    if path == "torch.bfloat16" and not any(
        isinstance(parent, ast.Call) and draft.path(parent.func) in _AUTOCASTS for parent in draft.ancestors(node)
    ):
        draft.replace(node, _fast_dtype(draft))
        draft.note(node, "fast_dtype: bfloat16 where the hardware multiplies it, else float32")
    elif path in ("torch.float16", "torch.half"):
        draft.note(node, _FLOAT16, by_hand=True)
    elif path == "torch.compile":
        helper = COMPILE.format(get_device=draft.ours("get_device")).strip("\n")
        if helper not in draft.helpers:
            draft.helpers.append(helper)
        draft.replace(node, "compile_on_gpu")
        draft.note(node, "only on a GPU, where the first steps of the budget compile")


def _fast_dtype(draft: Draft) -> str:
    line = f"fast_dtype = {draft.ours('autocast_dtype')}({draft.ours('get_device')}())"
    if line not in draft.helpers:
        draft.helpers.insert(0, line)
    return "fast_dtype"
