"""Trains train.py at the sizes of a preset: compiled and eager, in the sandbox and outside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.format import number
from ...core.sanitize import one_line
from ...core.types import MachineHolder, Status
from ...record.archive import failure_output
from ...record.paths import ExperimentPaths
from ...run.handover import read_handover
from ...run.outcome import EndRun
from ...run.training import Listener, Training, run_training, training_environment
from ...show.words import training_words
from ...source.parameters import set_parameters
from ...system.machine import training_lock
from ...system.measuring import last_error
from ...system.processes import kill_by_token, kill_group
from ...system.shell import shell_command
from ..checks import Check
from .bench import DOCUMENTATION, Bench, Trained, failed, skipped, variables
from .plan import COMPILING, Sizes

SEED = 42
LEAST_START_SECONDS, HANDOVER_SECONDS = 30.0, 30.0  # to start and compile; for the score on dev and the hand-over
EAGER = "TORCH_COMPILE_DISABLE"  # of torch: with 1, torch.compile returns the model as it is
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory")
FEWER_ROWS = 4  # times that a batch is halved after torch ran out of memory
SHOWN_OUTPUT = 1500  # characters of a failed training in the file
FACTS = (
    "tokens_per_second", "mfu_percent", "flops_per_token", "peak_memory_mb", "train_loss", "num_steps", "num_tokens",
    "num_params", "training_seconds", "start_up_seconds", "evaluation_seconds", "dev_bpb", "device", "dtype", "epoch",
)  # fmt: skip


def train(bench: Bench, preset: str, way: str) -> Check:
    """One row: a training `way` "compiled", "eager" or "outside" the sandbox, with fewer rows where memory is short."""
    name = f"{preset} {way}"
    if way == "compiled" and bench.device not in COMPILING:
        return skipped(name, f"train.py compiles its model on CUDA and ROCm alone, not on {bench.device}")
    if preset not in bench.corpora:
        return skipped(name, f"there is no corpus for it: see the row `{preset} corpus`")
    if way != "outside" and not bench.has_sandbox:
        return skipped(name, "there is no sandbox: see the row `sandbox`")
    sizes = bench.sizes[preset]
    for _ in range(FEWER_ROWS):
        check = _train_once(bench, sizes, way)
        rows = sizes.parameters["DEVICE_BATCH_SIZE"]
        if not check.facts.get("out_of_memory") or rows == 1:
            break
        words = f"DEVICE_BATCH_SIZE {rows // 2} instead of {rows}: torch ran out of memory"
        parameters = {**sizes.parameters, "DEVICE_BATCH_SIZE": rows // 2}
        sizes = replace(sizes, parameters=parameters, reduced="; ".join(filter(None, (sizes.reduced, words))))
    bench.sizes[preset] = sizes  # the next way begins with what fitted
    return check


def _train_once(bench: Bench, sizes: Sizes, way: str) -> Check:
    name = f"{sizes.preset} {way}"
    training = _training(bench, sizes, way)
    is_compiled = bench.device in COMPILING and way != "eager"
    bench.say(f"{name}: trains for {training.time_budget_seconds:g} s")
    with variables(**{EAGER: "0" if is_compiled else "1"}):
        ended = _outside(bench, training) if way == "outside" else _in_sandbox(bench, training, name)
    facts = {
        "preset": sizes.preset, "parameters": dict(sizes.parameters), "reduced": sizes.reduced,
        "is_compiled": is_compiled, "is_in_sandbox": way != "outside", "budget_seconds": training.time_budget_seconds,
    }  # fmt: skip
    if ended["failure"]:
        is_memory = any(words in ended["output"] + ended["failure"] for words in OUT_OF_MEMORY)
        facts |= {"output": ended["output"][-SHOWN_OUTPUT:], "out_of_memory": is_memory}
        return failed(name, ended["failure"], ended["remedy"], **facts)
    bench.models.setdefault(sizes.preset, Trained(name, training.paths.artefact(0)))
    return _row(bench, name, ended["measured"], facts)


def _training(bench: Bench, sizes: Sizes, way: str) -> Training:
    source = (bench.project / "train.py").read_text(encoding="utf-8")
    is_main = way == "compiled" or (way == "eager" and bench.device not in COMPILING)
    budget = bench.seconds.main if is_main else getattr(bench.seconds, way)
    paths = ExperimentPaths(bench.folder / f"{sizes.preset}-{way}-{sizes.parameters['DEVICE_BATCH_SIZE']}")
    return Training(
        source=set_parameters(source, sizes.parameters),
        paths=paths,
        run=0,
        seed=SEED,
        title=f"{sizes.preset} {way}",
        hypothesis="",
        diff="",
        corpus_dir=bench.corpora[sizes.preset][0],
        project=bench.project,
        time_budget_seconds=budget,
        startup_allowance_seconds=max(LEAST_START_SECONDS, min(bench.seconds.start, bench.seconds_left() - budget)),
        handover_allowance_seconds=HANDOVER_SECONDS,
        dtype=bench.facts["dtype"],
    )


def _ended(failure: str = "", output: str = "", measured: Mapping[str, Any] | None = None, remedy: str = "") -> dict:
    return {"failure": failure, "output": output, "measured": measured or {}, "remedy": remedy or DOCUMENTATION}


def _refuse(holder: MachineHolder) -> None:
    study = f" of study {holder.study}" if holder.study else ""
    raise EndRun(Status.INTERRUPTED, f"a training{study} uses this device")


def _in_sandbox(bench: Bench, training: Training, name: str) -> dict[str, Any]:
    def show(point: dict[str, Any]) -> None:
        share = number(point.get("progress")) or 0.0
        bench.say(f"{name}: {share:.0%} · {training_words(point)}")

    outcome = run_training(training, Listener(on_metrics=show, on_wait=_refuse))
    if outcome.status is None:
        return _ended(measured=outcome.measured)
    remedy = "Wait until it has ended, or stop it." if outcome.status is Status.INTERRUPTED else ""
    return _ended(f"{outcome.status}: {outcome.reason}", failure_output(training.paths), remedy=remedy)


def _outside(bench: Bench, training: Training) -> dict[str, Any]:
    """The same training as `python train.py`, in a process without a sandbox."""
    folder = training.paths.folder
    handover = training.paths.handover(0)
    handover.mkdir(parents=True)
    (folder / "train.py").write_text(training.source, encoding="utf-8")
    env = training_environment(training, folder)
    env |= {name: str(folder / "cache") for name in CACHES}  # empty, as those of a sandbox are, and removed with it
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(bench.project), env.get("PYTHONPATH"))))
    log = folder / "output.txt"
    try:
        with training_lock(_refuse), open(log, "wb") as output:
            exit_code = _run([sys.executable, "train.py"], env, folder, output, training)
    except EndRun as why:
        return _ended(why.reason, remedy="Wait until it has ended, or stop it.")
    said = log.read_text(encoding="utf-8", errors="replace")
    if exit_code is None:
        return _ended(f"it did not end within {training.limit_seconds:.0f} s", said)
    if exit_code != 0:
        return _ended(one_line(last_error(said) or f"exit status {exit_code}", 300), said)
    measured, complaint = read_handover(handover)
    return _ended(complaint, said) if measured is None else _ended(measured=measured)


def _run(command: list[str], env: dict[str, str], folder: Path, output: Any, training: Training) -> int | None:
    """The exit status of a process; None when it passed the training's limit. It leaves no process."""
    deadline = time.monotonic() + training.limit_seconds
    child = subprocess.Popen(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        return child.wait(timeout=deadline - time.monotonic())
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill_group(child.pid)
        child.wait()
        kill_by_token(training.token)


def _row(bench: Bench, name: str, measured: Mapping[str, Any], facts: dict[str, Any]) -> Check:
    found = facts | {key: measured.get(key) for key in FACTS}
    words = [f"{found['tokens_per_second'] or 0:,.0f} tokens/s"]
    if (mfu := number(found["mfu_percent"])) is not None:
        words.append(f"{mfu:.1f} % MFU")
    words += [
        f"{found['peak_memory_mb'] or 0:,.0f} MiB", f"{found['num_steps']} steps in {facts['budget_seconds']:g} s",
        f"ready after {found['start_up_seconds'] or 0:.1f} s", f"dev {found['dev_bpb'] or 0:.3f}",
    ]  # fmt: skip
    if facts["reduced"]:
        words.append(facts["reduced"])
    if not str(found["device"]).startswith(bench.device):
        why = f"it trained on {found['device']}, not on {bench.device}: the device is out of reach there"
        return failed(name, why, f"`{shell_command('doctor')}` says what the sandbox shows.", **found)
    return Check(name, "ok", " · ".join(words), facts=found)
