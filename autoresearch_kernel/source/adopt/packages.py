"""Imports: what stands in for packages that an experiment does not have, FlashAttention among them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable

from .draft import Draft

KNOWN = {"torch", "numpy", "prepare", "tqdm"} | set(sys.stdlib_module_names)
_ATTENTION = {"kernels", "flash_attn", "flash_attn_interface", "flash_attn_3"}
_TRACKERS = {"wandb", "trackio", "swanlab", "mlflow", "comet_ml", "neptune", "tensorboard", "tensorboardX", "aim"}
_TAKEN_OUT = dict.fromkeys(_TRACKERS, "the clock keeps the curve, and the experiment's notebook shows it")
_TAKEN_OUT |= {"dotenv": "the parameters cell: an experiment reads no .env"}
_OF_PREPARE = "prepare.py builds the corpus and the tokenizer beforehand; a training has no network"
_FRAMEWORK = "another framework, which cannot be converted: the model must be a torch.nn.Module"
_LAUNCHER = "one process trains one model: call the model and the optimizer directly"
STAND_INS = {
    **dict.fromkeys(("requests", "httpx", "aiohttp", "pyarrow", "datasets", "huggingface_hub", "rustbpe"), _OF_PREPARE),
    **dict.fromkeys(("tiktoken", "tokenizers", "sentencepiece", "pandas", "modal", "boto3"), _OF_PREPARE),
    **dict.fromkeys(("mlx", "jax", "flax", "tensorflow", "keras", "tinygrad"), _FRAMEWORK),
    **dict.fromkeys(("deepspeed", "accelerate", "lightning", "pytorch_lightning", "horovod", "ray"), _LAUNCHER),
    "transformers": "no pretrained models: write the layers with torch.nn",
    "triton": "compiled for GPUs only: write it with torch, and torch.compile makes the kernel",
    "torchao": "number formats of GPUs: autocast of prepare.py",
    "bitsandbytes": "number formats of GPUs: an optimizer of torch.optim",
    "apex": "F.rms_norm, F.layer_norm and fused optimizers of torch",
    "xformers": "F.scaled_dot_product_attention",
    "transformer_engine": "layers of torch.nn, under autocast of prepare.py",
    "einops": "view, transpose and reshape of torch",
    "muon": "write the optimizer out, as train.py of this project does",
    "matplotlib": "the experiment's notebook shows the curve: take the plots out",
    "psutil": "prepare.py measures time and memory: take it out",
}
_UNKNOWN = "an experiment has torch, numpy, the standard library and prepare: write out what is used of it"
_NEIGHBOUR = "an experiment consists of one file: put the code of {} in the place of this line"
_INSTEAD = {"VOCAB_SIZE": "tokenizer.get_vocab_size()"}

ATTENTION = '''
def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)):
    """PyTorch's attention in place of FlashAttention: q (B, T, heads, head_dim), k and v with fewer heads perhaps."""
    q, k, v = (t.to(v.dtype).transpose(1, 2) for t in (q, k, v))
    left, mask = window_size[0], None
    if causal and 0 <= left < q.size(2) - 1:  # a token sees itself and `left` tokens before it
        position = torch.arange(q.size(2), device=q.device)
        distance = position[:, None] - position[None, :]
        mask = (distance >= 0) & (distance <= left)
    y = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=causal and mask is None, scale=softmax_scale,
        enable_gqa=k.size(1) != q.size(1),
    )
    return y.transpose(1, 2)
'''
_KEYWORDS = {"dropout_p", "softmax_scale", "causal", "window_size"}


def replace_packages(draft: Draft, neighbours: Collection[str], prepare_names: Collection[str]) -> None:
    """Take out what has a stand-in, and list the other packages by line."""
    _attention(draft)
    for node in list(ast.walk(draft.tree)):
        if isinstance(node, ast.Import | ast.ImportFrom) and not draft.is_gone(node):
            _import(draft, node, neighbours, prepare_names)


def _import(
    draft: Draft, node: ast.Import | ast.ImportFrom, neighbours: Collection[str], prepare_names: Collection[str]
) -> None:
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    roots = [module.split(".")[0] for module in modules]
    tracker = next((m for m in modules if m.split(".")[0] in _TAKEN_OUT or "tensorboard" in m), "")
    strange = [root for root in roots if root not in KNOWN]
    if isinstance(node, ast.ImportFrom) and node.level:
        draft.note(node, _NEIGHBOUR.format(f"{node.module or '.'}"), by_hand=True)
    elif roots == ["prepare"]:
        _of_prepare(draft, node, prepare_names)
    elif not strange and not tracker:
        return
    elif draft.is_optional(node):
        draft.note(node, "stays, because the code also runs without it")
    elif tracker and len(modules) == 1:
        _take_out(draft, node, _TAKEN_OUT.get(tracker.split(".")[0], _TAKEN_OUT["wandb"]))
    else:
        for root in strange:
            words = _NEIGHBOUR.format(f"{root}.py") if root in neighbours else STAND_INS.get(root, _UNKNOWN)
            draft.note(node, words, by_hand=True)


def _of_prepare(draft: Draft, node: ast.Import | ast.ImportFrom, prepare_names: Collection[str]) -> None:
    for alias in node.names if isinstance(node, ast.ImportFrom) else []:
        if alias.name not in prepare_names and alias.name != "*":
            is_score = "eval" in alias.name or "bpb" in alias.name
            instead = _INSTEAD.get(alias.name, "evaluate_bpb(model, tokenizer, batch_size)" if is_score else "")
            advice = f"use {instead}" if instead else "write it out, or do without"
            draft.note(node, f"prepare.py here has no {alias.name}: {advice}", by_hand=True)


def _names_of(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {alias.asname or alias.name.split(".")[0] for alias in node.names}


def _root(node: ast.AST) -> str:
    """The name that a chain of calls, attributes and subscripts begins with."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _take_out(draft: Draft, node: ast.Import | ast.ImportFrom, words: str) -> None:
    """An import with the statements that only call it; other uses are listed."""
    names = _names_of(node)
    draft.remove(node)
    draft.note(node, words)
    for statement in [s for s in ast.walk(draft.tree) if isinstance(s, ast.Expr | ast.Assign) and not draft.is_gone(s)]:
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if isinstance(target, ast.Name) and _root(statement.value) in names:
            names.add(target.id)
        elif not (isinstance(statement, ast.Expr) and _root(statement.value) in names) and not (
            target is not None and _root(target) in names
        ):
            continue
        draft.remove(statement)
        draft.note(statement, "taken out with it")
    _list_uses(draft, names, f"take it out, too: {words}")


def _list_uses(draft: Draft, names: Iterable[str], words: str) -> None:
    for node in ast.walk(draft.tree):
        if isinstance(node, ast.Name) and node.id in names and not draft.is_gone(node):
            draft.note(node, words, by_hand=True)


# --- FlashAttention


def _attention(draft: Draft) -> None:
    """FlashAttention at the top of the file, loaded in any way, becomes a function around PyTorch's own attention."""
    imports = [s for s in draft.tree.body if isinstance(s, ast.Import | ast.ImportFrom)]
    gone: list[ast.stmt] = [s for s in imports if draft.path_of_import(s).split(".")[0] in _ATTENTION]
    if not gone:
        return
    names = {name for statement in gone for name in _names_of(statement)}  # type: ignore[arg-type]
    for statement in draft.tree.body:
        if (target := _target(statement)) and _names_in(statement) & names:
            names.add(target)
            gone.append(statement)
    for statement in reversed(draft.tree.body[: draft.tree.body.index(gone[-1])]):  # what chose the kernel
        target = _target(statement)
        kept = [s for s in ast.walk(draft.tree) if isinstance(s, ast.stmt) and s not in gone]
        if target and [s for s in kept if target in _names_in(s)] == [statement]:
            gone.append(statement)
    for statement in gone:
        draft.remove(statement)
        draft.note(statement, "PyTorch's scaled_dot_product_attention, in a function of this file")
    draft.helpers.append(ATTENTION.strip("\n"))
    for call in [node for node in ast.walk(draft.tree) if isinstance(node, ast.Call)]:
        if _root(call.func) in names and not draft.is_gone(call):
            _attention_call(draft, call)


def _target(statement: ast.stmt) -> str:
    """The name that an assignment gives a value; "" for other statements."""
    is_plain = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    return statement.targets[0].id if is_plain else ""  # type: ignore[attr-defined]


def _names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _attention_call(draft: Draft, call: ast.Call) -> None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else draft.path(call.func).split(".")[-1]
    parent = draft.parents[call]
    unpacked = isinstance(parent, ast.Subscript) or (
        isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Tuple)
    )
    if name == "flash_attn_func" and not unpacked and {keyword.arg for keyword in call.keywords} <= _KEYWORDS:
        draft.replace(call.func, "flash_attn_func")
        draft.note(call, "flash_attn_func of this file")
    else:
        words = "F.scaled_dot_product_attention(q, k, v, is_causal=True), on (B, heads, T, head_dim)"
        draft.note(call, words, by_hand=True)
