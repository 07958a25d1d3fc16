"""The scoring child: loads one artefact and answers with a negative log-likelihood per token. Untrusted.

It runs the agent's model code, so nothing it says is believed beyond its shape: the parent
(`judge/score.py`) sends rows, reads a fixed number of float32 values and does the arithmetic.
Run as `python -m autoresearch_kernel.judge.scorer PARENT_PID`; standard input carries one line of
JSON (the request) and then the rows as little-endian uint32.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from ..record.children import die_with_parent

if __name__ == "__main__":  # before torch, whose import takes seconds
    die_with_parent(int(sys.argv[1]))

import numpy as np
import torch
import torch.nn.functional as F


def negative_log_likelihood(
    model: Any, rows: torch.Tensor, special_ids: list[int], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Nats per target of `rows` (B, T+1), as float32 (B, T); special targets get 0.

    Special ids are masked before normalising, so probability kept for them is not free.
    Raises ValueError when the model does not map (B, T) to finite logits (B, T, vocab_size).
    """
    x, y = rows[:, :-1], rows[:, 1:]  # (B, T) each
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(x)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 3 or logits.shape[:2] != x.shape:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the model returned {found} for token ids {tuple(x.shape)}; expected logits (B, T, vocab_size)"
        )
    logits = logits.float()  # (B, T, vocab_size)
    logits[..., special_ids] = -torch.inf
    is_special = torch.isin(y, torch.tensor(special_ids, device=y.device))
    targets = torch.where(is_special, -100, y)  # cross_entropy ignores -100
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=-100)
    return nll.view(y.shape)  # (B, T)


def answer(request: dict[str, Any], rows: np.ndarray, out: BinaryIO) -> None:
    """Write the float32 answer for `rows` (N, T+1) to `out`, batch by batch."""
    device = torch.device(request["device"])
    dtype = getattr(torch, request["dtype"])
    if device.type == "cpu":
        torch.set_num_threads(request["num_threads"])
    with Path(request["artefact"]).open("rb") as file:
        model = pickle.load(file)
    model = model.to(device).eval()
    rows_per_batch = request["rows_per_batch"]
    with torch.inference_mode():
        for start in range(0, len(rows), rows_per_batch):
            batch = torch.from_numpy(rows[start : start + rows_per_batch].astype(np.int64)).to(device)
            nll = negative_log_likelihood(model, batch, request["special_ids"], device, dtype)
            out.write(nll.float().cpu().numpy().astype("<f4").tobytes())
            out.flush()


def _end_with_parent(parent_pid: int) -> None:
    """A scorer that nobody waits for any more ends itself: where the operating system does not end it."""
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
    rows = np.frombuffer(data, dtype="<u4").reshape(request["num_rows"], -1)  # (N, T+1)
    answer(request, rows, out)
    out.flush()
    os._exit(0)  # nothing here needs tearing down, and interpreter shutdown with torch takes 0.2 s


if __name__ == "__main__":
    main()
