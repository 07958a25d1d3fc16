"""The scorer process: loads one artefact and answers what the model says of rows.

The process runs the agent's model code, so the parent (`scoring/scorer_process.py`) believes nothing of its answer: it
sends rows, reads a fixed number of float32 values and does the arithmetic. Its arguments are
PARENT_PID and MODE. Standard input has one line of JSON (the request), then the rows as
little-endian uint32. The process writes one byte when it has started, another one before it loads the model, and then
its answer.

claim   rows (N, T+1); the answer is a negative log-likelihood per target, (N, T)
audit   rows (N, T), of which only the first part of each is text; the answer is the logits at one place of each of the
        first `len(cuts)` rows, (len(cuts), vocab_size)
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..system.processes import die_with_parent
from .no_paths import can_refuse_paths, import_named_modules, refuse_paths

if __name__ == "__main__":  # before torch, whose import takes seconds
    die_with_parent(int(sys.argv[1]))

import numpy as np
import torch
import torch.nn.functional as F


def logits_of(model: Any, x: torch.Tensor, vocab_size: int, dtype: torch.dtype) -> torch.Tensor:
    """The model's logits for token ids `x` (B, T), as float32 (B, T, vocab_size).

    Raises ValueError when the model does not map (B, T) to logits (B, T, vocab_size).
    """
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(x)
    if not isinstance(logits, torch.Tensor) or logits.shape != (*x.shape, vocab_size):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the model returned {found} for token ids {tuple(x.shape)}; expected logits (B, T, vocab_size), "
            f"{(*x.shape, vocab_size)}"
        )
    return logits.float()  # (B, T, vocab_size)


def negative_log_likelihood(logits: torch.Tensor, y: torch.Tensor, special_ids: list[int]) -> torch.Tensor:
    """Nats per target `y` (B, T), as float32 (B, T); special targets get 0.

    Special ids are masked before normalising: no target is one, so probability on them would only be lost.
    """
    logits[..., special_ids] = -torch.inf
    is_special = torch.isin(y, torch.tensor(special_ids, device=y.device))
    targets = torch.where(is_special, -100, y)  # cross_entropy ignores -100
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=-100)
    return nll.view(y.shape)  # (B, T)


def claim(model: Any, rows: np.ndarray, request: dict[str, Any]) -> Iterator[torch.Tensor]:
    """Nats per target of `rows` (N, T+1), batch by batch, each (B, T)."""
    dtype = getattr(torch, request["dtype"])
    for batch in _batches(rows, request):
        logits = logits_of(model, batch[:, :-1], request["vocab_size"], dtype)
        yield negative_log_likelihood(logits, batch[:, 1:], request["special_ids"])


def audit(model: Any, rows: np.ndarray, request: dict[str, Any]) -> Iterator[torch.Tensor]:
    """Logits at the cut of each row of `rows` (N, T), batch by batch, each (B, vocab_size)."""
    dtype, cuts = getattr(torch, request["dtype"]), request["cuts"]
    for batch in _batches(rows, request):
        mine, cuts = cuts[: len(batch)], cuts[len(batch) :]  # the last batch may have rows without a cut
        logits = logits_of(model, batch, request["vocab_size"], dtype)
        yield logits[range(len(mine)), mine]  # (B, vocab_size)


def _batches(rows: np.ndarray, request: dict[str, Any]) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), request["rows_per_batch"]):
        batch = rows[start : start + request["rows_per_batch"]].astype(np.int64)
        yield torch.from_numpy(batch).to(request["device"])


def answer(mode: str, request: dict[str, Any], rows: np.ndarray, artefact: BinaryIO, out: BinaryIO) -> None:
    """Load the model and write its float32 answer for `rows` to `out`, batch by batch."""
    _get_ready(request, artefact, out)
    with artefact:
        model = pickle.load(artefact)
    model = model.to(request["device"]).eval()
    with torch.inference_mode():
        for values in {"claim": claim, "audit": audit}[mode](model, rows, request):
            out.write(values.float().cpu().numpy().astype("<f4").tobytes())
            out.flush()


def _get_ready(request: dict[str, Any], artefact: BinaryIO, out: BinaryIO) -> None:
    """All that comes before the model is loaded; on a CPU the process then loses the calls that look up paths.

    The parent takes what fails before the first byte for a fault of the machine. What the modules that the model names
    do is the model's, but the time to import them does not count as the model's time.
    """
    on_cpu = torch.device(request["device"]).type == "cpu"
    if on_cpu:
        torch.set_num_threads(request["num_threads"])
        _score_a_small_model(request)
    refuses = on_cpu and can_refuse_paths()
    out.write(b"S")  # started
    out.flush()
    if on_cpu:
        import_named_modules(artefact)
        if "torch.nn.attention.flex_attention" in sys.modules:
            _use_flex_attention()
    if refuses:
        refuse_paths()
    out.write(b"R")  # ready: from now on the parent measures the model's time
    out.flush()


def _score_a_small_model(request: dict[str, Any]) -> None:
    """Load and score a model of this program's own, since torch imports some modules at their first use."""
    small = torch.nn.Sequential(
        torch.nn.Embedding(4, 8), torch.nn.TransformerEncoderLayer(8, 2, 8), torch.nn.Linear(8, 4)
    )
    loaded = pickle.loads(pickle.dumps(small)).eval()
    x = torch.zeros((1, 2), dtype=torch.int64)  # (B, T)
    with torch.inference_mode():
        repr(negative_log_likelihood(logits_of(loaded, x, 4, getattr(torch, request["dtype"])), x, [1]))


def get_ready_to_fork() -> None:
    """Import what torch imports at its first use, in a process that will be forked: by one thread, and seedless."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        _score_a_small_model({"dtype": "float32"})
    # In one of about forty forked trainings a part of the logarithms was less exact, log(3) 1.09858 instead of 1.09861.
    # Perhaps two threads called the library of vector functions for the first time at once; so it is called before.
    torch.ones(4).log()
    torch.set_num_threads(num_threads)


def _use_flex_attention() -> None:
    """Call it once, since it imports modules at its first use, and without the compiler, which makes folders.

    Where it is not compiled as a whole, the compiler only traces it and runs the same operations.
    """
    from torch.nn.attention import flex_attention

    flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
    x = torch.zeros((1, 1, 2, 16))  # (batch, heads, tokens, width of a head)
    with torch.inference_mode():
        flex_attention.flex_attention(x, x, x, score_mod=lambda score, b, h, q, k: torch.where(q >= k, score, -1e9))


def _end_with_parent(parent_pid: int) -> None:
    """End this process when its parent has ended; for systems that cannot do that themselves."""
    while os.getppid() == parent_pid:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    if sys.platform != "linux":
        threading.Thread(target=_end_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
    # The model's own prints must not mix with the answer: keep the pipe, point stdout at stderr.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read()
    rows = np.frombuffer(data, dtype="<u4").reshape(request["num_rows"], -1)
    artefact = open(request["artefact"], "rb")  # noqa: SIM115 (a file that is missing is no fault of the model)
    answer(sys.argv[2], request, rows, artefact, out)
    out.flush()
    os._exit(0)  # nothing here needs tearing down, and interpreter shutdown with torch takes 0.2 s


if __name__ == "__main__":
    main()
