"""The program of a check that loads torch: `python -m ... in_torch facts`, or `attention` and a request in JSON.

It prints one line of JSON for each answer. It runs in a process of its own, because an error of a GPU can end the
process, or leave it unable to use the GPU again: it ends itself after an unexpected error, and its parent starts
another one for what is left.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import prepare

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
WARM_UP, LEAST_REPEATS, MOST_REPEATS = 3, 5, 200
NO_KERNEL = ("No available kernel", "No viable backend")  # how torch says that a backend cannot do this

Tensors = tuple[torch.Tensor, ...]


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def facts() -> dict[str, Any]:
    """What torch and the makers say about the device: names, versions, memory in MiB, peak in FLOP/s."""
    device = prepare.get_device()
    name = prepare.device_name(device)
    peak = prepare.peak_flops(name)
    found: dict[str, Any] = {
        "device": device.type, "device_name": name, "peak_flops": peak, "torch": torch.__version__,
        "cuda": torch.version.cuda, "rocm": torch.version.hip, "cudnn": torch.backends.cudnn.version(), "triton": None,
    }  # fmt: skip
    for package in ("triton", "triton-rocm", "pytorch-triton-rocm"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found["triton"] = f"{package} {metadata.version(package)}"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "compute_capability": f"{properties.major}.{properties.minor}",
            "architecture": getattr(properties, "gcnArchName", None),
            "num_multiprocessors": properties.multi_processor_count,
            "num_gpus": torch.cuda.device_count(),
        }
    return found


# --- attention


def attention(request: dict[str, Any]) -> None:
    """Compare each of `backends` with attention in float32, and time it.

    The request has `shape` (rows, heads, tokens, width), `dtype`, `seconds` of a measurement and `backends`.
    """
    device, dtype = prepare.get_device(), getattr(torch, request["dtype"])
    torch.manual_seed(0)
    rows, heads, tokens, width = request["shape"]
    inputs = tuple(
        torch.randn((rows, heads, tokens, width), device=device, dtype=dtype, requires_grad=True) for _ in range(3)
    )
    upstream = torch.randn((rows, heads, tokens, width), device=device, dtype=dtype)
    reference = reference_of(inputs, upstream)
    for backend in request["backends"]:
        try:
            found = measure(backend, inputs, upstream, reference, request["seconds"])
        except RuntimeError as error:
            words = str(error).strip().split("\n")[0]
            if any(known in words for known in NO_KERNEL):
                say({"backend": backend, "skipped": words})
                continue
            say({"backend": backend, "error": f"{type(error).__name__}: {words}"})
            sys.exit(1)
        say({"backend": backend, **found})


def reference_of(inputs: Tensors, upstream: torch.Tensor) -> Tensors:
    """Output and gradients of causal attention in float32, written out: a matrix of weights, row by row."""
    results = []
    for row in range(len(upstream)):
        q, k, v = (x[row].detach().float().requires_grad_() for x in inputs)  # each (heads, tokens, width)
        weights = q @ k.mT / math.sqrt(q.shape[-1])  # (heads, tokens, tokens)
        future = torch.ones(weights.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        y = weights.masked_fill(future, -math.inf).softmax(dim=-1) @ v
        results.append((y, *torch.autograd.grad(y, (q, k, v), upstream[row].float())))
    return tuple(torch.stack(parts).detach() for parts in zip(*results, strict=True))


def chosen(backend: str) -> contextlib.AbstractContextManager[Any]:
    """Within it, scaled_dot_product_attention uses this backend alone; with "default" torch chooses."""
    return contextlib.nullcontext() if backend == "default" else sdpa_kernel(BACKENDS[backend])


def measure(
    backend: str, inputs: Tensors, upstream: torch.Tensor, reference: Tensors, seconds: float
) -> dict[str, Any]:
    """Errors against the reference and milliseconds of one backend. Raises RuntimeError where torch cannot do it."""

    def forward() -> torch.Tensor:
        q, k, v = inputs
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward_backward() -> Tensors:
        y = forward()
        return y.detach(), *torch.autograd.grad(y, inputs, upstream)

    with warnings.catch_warnings(record=True) as said, chosen(backend):
        warnings.simplefilter("always")
        try:
            found = forward_backward()
        except RuntimeError as error:
            reasons = [str(warning.message).split("(Triggered")[0].strip() for warning in said]
            raise RuntimeError(" ".join([str(error).strip().split("\n")[0], *reasons])) from error
        errors = [relative_error(x, y) for x, y in zip(found, reference, strict=True)]
        forward_ms, backward_ms = (milliseconds(step, seconds) for step in (forward, forward_backward))
    rows, heads, tokens, width = upstream.shape
    flops = 2 * rows * heads * tokens * tokens * width  # of the two products, without the masked half
    return {
        "output_error": errors[0], "gradient_error": max(errors[1:]), "forward_ms": forward_ms[0],
        "forward_backward_ms": backward_ms[0], "forward_backward_spread_ms": backward_ms[1],
        "forward_tflops": flops / forward_ms[0] / 1e9, "num_repeats": backward_ms[2],
    }  # fmt: skip


def relative_error(x: torch.Tensor, y: torch.Tensor) -> float:
    """Largest difference, as a share of the largest value of `y`."""
    return float((x.float() - y).abs().max() / y.abs().max())


def milliseconds(step: Callable[[], Any], seconds: float) -> tuple[float, float, int]:
    """Median, half of the distance between the quartiles, and number of repeats, after a warm-up."""
    for _ in range(WARM_UP):
        step()
    once = timed(step)
    repeats = max(LEAST_REPEATS, min(MOST_REPEATS, int(seconds * 1e3 / max(once, 1e-3))))
    times = sorted(timed(step) for _ in range(repeats))
    quartiles = statistics.quantiles(times, n=4)
    return statistics.median(times), (quartiles[2] - quartiles[0]) / 2, repeats


def timed(step: Callable[[], Any]) -> float:
    """Milliseconds of one call: by events of the GPU on CUDA and ROCm, else by the clock around a synchronisation."""
    device = prepare.get_device()
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)
    started = time.perf_counter()
    step()
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    mode, *request = sys.argv[1:]
    if mode == "facts":
        try:
            say(facts())
        except prepare.PrepareError as error:  # a device that torch does not find
            say({"refused": str(error)})
    else:
        attention(json.loads(request[0]))


if __name__ == "__main__":
    main()
