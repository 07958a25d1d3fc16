"""Is this machine fit for a night? Each check says what was found, and what to do where that is not enough.

It changes nothing and leaves nothing behind. A check fails when it would stop `autoresearch run`; what only makes a
night worse is a warning.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..agents.chat import make_chat
from ..agents.command_check import installed
from ..agents.server import knows_server
from ..agents.server_check import MOST_NAMES, ask_server
from ..agents.tools import ToolError, read_tools
from ..core.types import NO_SANDBOX, MachineHolder, RunOutcome, Status
from ..corpora.copies import COUNTED, LIMIT, NEXT_STEP, count_copies
from ..record.git import LineageError, open_lineage
from ..record.paths import ExperimentPaths
from ..record.study import SHORT, heldout_sha256, sha256, study_versions, versions_of
from ..run.outcome import EndRun
from ..run.training import Listener, Training, run_training
from ..sandbox.hidden_stdlib import copies_file
from ..sandbox.kinds import SANDBOX, probe
from ..sandbox.probe import SandboxReport
from ..study.disk_space import LEAST_FREE_BYTES
from ..study.server_start import least_context
from ..system.corpus_command import corpus_command
from ..system.disk import free_bytes
from ..system.environment import SETTINGS
from ..system.explain import explain
from ..system.locations import NoHome, cache_dir, originals
from ..system.machine import trains_on_gpu
from ..system.measuring import MeasuringProcess, SettingRefused, open_measuring_process
from ..system.places import NoPlace, require_places, temporary_folder
from ..system.processes import run_program
from ..system.shell import shell_command
from ..system.speed import Steadiness, measure_steadiness
from ..system.temporary import own_folder
from .checks import Check
from .shadows import look_for_shadows
from .studies import studies
from .tools import tools

GB = 1e9
NIGHT_BYTES, NIGHT_MEMORY_BYTES = 2 * GB, 2 * GB  # below that much room a night may have to wait, or be killed
SHOWN_VERSIONS = ("torch", "numpy", "tiktoken", "papermill", "ipykernel", "jupyterlab")
KERNEL_LIMIT_SECONDS = 60.0
GIT_SECONDS = 10.0  # to say its version
IS_CHECKOUT = (originals() / "Makefile").is_file()
SET_UP = (
    "`make setup`"
    if IS_CHECKOUT
    else f"`{sys.executable} -m pip install --force-reinstall` with the clone or wheel of this program"
)
QUIETER = "Mains power and a cool place help, and so does a host that no other user shares."

# A train.py that trains nothing: it starts where a real one does and hands over where a real one does.
_EMPTY = """# %% [markdown]
# # Nothing

# %% tags=["parameters"]
SEED = 1  # fixed

# %%
import json
import os
from pathlib import Path

import torch

import prepare

folder = Path(os.environ["AUTORESEARCH_HANDOVER"])
(folder / "model.pkl").write_bytes(b"-")
(folder / "handover.json").write_text(json.dumps({"num_threads": torch.get_num_threads()}))
"""


def examine(project: Path, model: str | None = None, tool: str | None = None) -> Iterator[Check]:
    """Look at everything, one check after the other; about ten seconds. `model` is asked if its server is set.

    Args:
        tool: a command-line tool to ask; "all" lists those that are installed, None looks for none.
    """
    with open_measuring_process(project) as process:  # it loads torch during the other checks
        yield versions()
        yield disk(project)
        yield from studies(project)
        yield from corpora()
        yield from copies(project)
        yield git(project)
        yield from look_for_shadows(project)
        sandbox = _find_sandbox()
        yield sandboxed(sandbox)
        try:
            facts = process.facts()
        except SettingRefused as refusal:
            yield Check("device", "fail", str(refusal))
            return
        except RuntimeError as error:
            yield Check("torch", "fail", f"prepare.py cannot be loaded: {error}", f"{SET_UP} installs what it needs.")
            return
        yield machine(facts)
        yield device(facts)
        yield threads(facts, os.environ, usable_cores())
        yield kernel(project, sandbox)
        if tool is None:
            yield agents(project)
            yield from model_server(project, model)
        else:
            yield from tools(project, tool, model)
        yield _steady(process, facts["device"])


def versions() -> Check:
    """Python and the packages whose numbers end up in results."""
    found = study_versions() | versions_of(SHOWN_VERSIONS)
    missing = [package for package in SHOWN_VERSIONS if package not in found]
    if missing:
        return Check("versions", "fail", f"not installed: {', '.join(missing)}", f"{SET_UP} installs them.", found)
    words = [f"autoresearch-kernel {found.get('autoresearch-kernel', '?')}", f"python {found['python']}"]
    return Check(
        "versions", "ok", " · ".join([*words, *(f"{name} {found[name]}" for name in SHOWN_VERSIONS)]), facts=found
    )


def disk(project: Path) -> Check:
    """Whether studies, corpora and temporary files have a place, and room there."""
    try:
        require_places(project)
    except (NoHome, NoPlace) as error:
        return Check("disk", "fail", str(error))
    places = {"studies": project / "studies", "corpora": cache_dir(), "temporary files": temporary_folder()}
    free = {name: free_bytes(path) for name, path in places.items()}
    words = " · ".join(f"{name} {_gb(value)}" for name, value in free.items())
    facts = {name: {"path": str(places[name]), "free_bytes": value} for name, value in free.items()}
    least = min(free, key=lambda name: free[name])
    remedy = f"Free some of what lies on the disk of {places[least]}."
    if free[least] < LEAST_FREE_BYTES:
        return Check("disk", "fail", f"free for {words}: no training would begin", remedy, facts)
    if os.statvfs(places["temporary files"]).f_flag & getattr(os, "ST_NOEXEC", 0):
        found = f"{places['temporary files']} does not allow programs (noexec), so torch.compile may fail there"
        return Check("disk", "warn", found, "Set TMPDIR to a folder on another disk.", facts)
    if free[least] < NIGHT_BYTES:
        return Check("disk", "warn", f"free for {words}: a long night may have to wait for room", remedy, facts)
    return Check("disk", "ok", f"free for {words}", facts=facts)


def _gb(value: float) -> str:
    return f"{value / GB:.0f} GB" if value >= 10 * GB else f"{value / GB:.1f} GB"


def corpora(cache: Path | None = None) -> Iterator[Check]:
    """Each corpus that is prepared, and whether its bytes have their hashes."""
    cache = cache or cache_dir()
    try:
        folders = sorted(path.parent for path in (cache / "corpora").glob("*/meta.json"))
    except OSError as error:
        yield Check("corpus", "fail", explain(error))
        return
    if not folders:
        remedy = (
            f"`{shell_command('prepare')}` builds the embedded one in about a minute, and so does starting a study."
        )
        yield Check("corpus", "warn", f"none yet in {cache / 'corpora'}", remedy)
    for folder in folders:
        try:
            yield _corpus(folder, cache / "heldout" / folder.name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = f"{folder / 'meta.json'} cannot be used ({type(error).__name__}: {error})"
            yield Check("corpus", "fail", found, "Remove this folder and build the corpus again.")


def _corpus(folder: Path, heldout: Path) -> Check:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    remedy = f"`{corpus_command(folder, meta)}` makes it anew."
    tokenizer, tokens = folder / "tokenizer.tiktoken", folder / "train.bin"
    found = {
        "tokenizer": sha256(tokenizer.read_bytes()) if tokenizer.is_file() else "gone",
        "held-out rows": heldout_sha256(heldout),
        "training tokens": tokens.stat().st_size if tokens.is_file() else "gone",
    }
    known = {
        "tokenizer": meta["tokenizer_sha256"],
        "held-out rows": meta["heldout_sha256"],
        "training tokens": meta["num_train_tokens"] * (4 if meta["token_dtype"] == "uint32" else 2),
    }
    facts = {"folder": str(folder), "found": found, "recorded": known}
    wrong = [name for name in known if known[name] != found[name]]
    if wrong:
        return Check(
            "corpus", "fail", f"{folder.name}: {', '.join(wrong)} are not those it was made with", remedy, facts
        )
    words = (
        f"{folder.name}: {meta['num_train_tokens'] / 1e6:.1f} M tokens, hashes agree ({meta['content_sha256'][:SHORT]})"
    )
    return Check("corpus", "ok", words, facts=facts)


def copies(project: Path, cache: Path | None = None) -> Iterator[Check]:
    """How much held-out text of the embedded corpora stands in files that a sandbox shows."""
    cache = cache or cache_dir()
    for folder in sorted(path.parent for path in (cache / "corpora").glob("*/meta.json")):
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            if meta["corpus"] not in COUNTED:
                continue
            heldout, known = cache / "heldout" / folder.name, copies_file(cache, folder.name)
            counted = count_copies(folder, heldout, project, known)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            continue  # `corpora` says what is wrong with it
        facts = {"shares": counted.shares, "limit": LIMIT, "worst": counted.worst, "hidden": counted.hidden}
        if counted.is_too_much:
            remedy = f"`{corpus_command(folder, meta, rebuild=False)}` hides what no training can import. {NEXT_STEP}"
            yield Check("copies", "fail", f"{folder.name}: {counted.too_much()}", remedy, facts)
        else:
            yield Check("copies", "ok", f"{folder.name}: {counted.words()}", facts=facts)


def git(project: Path) -> Check:
    """Whether each train.py becomes a commit."""
    command = shutil.which("git")
    if command is None:
        remedy = "Install git. Without it each train.py is kept in the study's folder alone."
        return Check("git", "warn", "git is not installed, so there are no commits of experiments", remedy)
    try:
        said = run_program([command, "--version"], GIT_SECONDS).stdout.decode("utf-8", "replace").split()
        lineage, why_not = open_lineage(project, "doctor")
    except (LineageError, OSError) as error:
        said, lineage, why_not = [], None, explain(error)
    facts = {"version": "".join(said[-1:]), "lineage": lineage is not None}
    if lineage is None:
        remedy = "Studies run all the same; each train.py is kept in the study's folder."
        return Check("git", "warn", f"no lineage: {why_not}", remedy, facts)
    return Check("git", "ok", f"{facts['version']}; each experiment's train.py becomes a commit", facts=facts)


def _find_sandbox() -> SandboxReport:
    try:
        return probe()
    except ValueError as error:  # an unknown sandbox was asked for
        return SandboxReport(NO_SANDBOX, (), (("what was asked for", str(error), f"Unset {SANDBOX}."),))


def sandboxed(sandbox: SandboxReport) -> Check:
    """What the sandbox enforces; every way out was tried from inside it."""
    facts = {
        "name": sandbox.name,
        "enforced": list(sandbox.enforced),
        "missing": [list(gap) for gap in sandbox.missing],
    }
    gaps = "; ".join(f"{what}: {reason}" for what, reason, _ in sandbox.missing)
    remedy = next((words for _, _, words in sandbox.missing if words), "")
    if sandbox.name == NO_SANDBOX and os.environ.get(SANDBOX) == NO_SANDBOX:
        found = f"none, as {SANDBOX}={NO_SANDBOX} wants it: every result is marked untrusted"
        return Check(
            "sandbox", "fail", found, f"Unset {SANDBOX}; a study runs without a sandbox with --unsafe alone.", facts
        )
    if sandbox.name == NO_SANDBOX:
        found = f"none, and without one no study runs: {gaps}"
        return Check(
            "sandbox", "fail", found, f"{remedy} --unsafe runs without, and marks every result untrusted.", facts
        )
    found = f"{sandbox.name}: {', '.join(sandbox.enforced)}"
    if sandbox.missing:
        return Check("sandbox", "warn", f"{found}. Not: {gaps}", remedy, facts)
    return Check("sandbox", "ok", found, facts=facts)


def kernel(project: Path, sandbox: SandboxReport) -> Check:
    """Start an empty training the way real ones are: runner, sandbox, kernel, torch, prepare.py, hand-over."""
    if sandbox.name == NO_SANDBOX and os.environ.get(SANDBOX) != NO_SANDBOX:
        return Check("kernel", "fail", "not tried, as there is no sandbox to start it in")
    try:
        outcome = _train_nothing(project)
    except (OSError, RuntimeError, EndRun) as error:
        return Check("kernel", "fail", f"it did not start: {error}", f"{SET_UP} installs the kernel.")
    if outcome.status is Status.INTERRUPTED:
        return Check("kernel", "warn", outcome.reason, "Wait for it to end; it has the machine to itself.")
    if outcome.status is not None:
        return Check("kernel", "fail", f"{outcome.status}: {outcome.reason}", f"{SET_UP} installs what it needs.")
    start, total = (outcome.measured[name] for name in ("kernel_start_seconds", "total_seconds"))
    found = f"starts and answers in {start:.1f} s; with torch, prepare.py and the hand-over {total:.1f} s a training"
    return Check("kernel", "ok", found, facts={"kernel_start_seconds": start, "total_seconds": total})


def agents(project: Path) -> Check:
    """Which coding agents are on PATH; none of them is started."""
    try:
        known, found = list(read_tools(project)), [chat.tool.name for chat in installed(project)]
    except ToolError as error:
        return Check("agents", "warn", str(error))
    facts = {"installed": found, "known": known}
    if not found:
        return Check("agents", "ok", f"none of {', '.join(known)} is on PATH; the optimiser needs none", facts=facts)
    ask = f"`{shell_command(f'doctor --with {found[0]}')}` asks {found[0]} a question"
    return Check("agents", "ok", f"on PATH: {', '.join(found)}; {ask}", facts=facts)


def model_server(project: Path, model: str | None = None) -> Iterator[Check]:
    """Whether the model's server answers, where one is set; without one the agents `llm` and `hybrid` do not work."""
    if not knows_server():
        return
    name, model = "model server", model or os.environ.get("OPENAI_MODEL", "").strip()
    try:
        chat = make_chat(model or "?")
    except ValueError as error:
        yield Check(name, "fail", str(error))
        return
    if not model:
        names = [listed["id"] for listed in chat.list_models()][:MOST_NAMES]
        has = f"; it lists {', '.join(names)}" if names else ""
        remedy = "Name a model with --model or OPENAI_MODEL, and the doctor asks it."
        yield Check(name, "warn", f"{chat.host} was not asked, as no model is named{has}", remedy)
        return
    check = ask_server(chat, least_context(project))
    facts: dict[str, Any] = {"host": chat.host, "model": model, "cause": check.cause}
    if check.call is not None:
        facts |= {"tokens_in": check.call.tokens_in, "tokens_out": check.call.tokens_out}
    if check.cause is None:
        yield Check(name, "ok", check.words.rstrip("."), facts=facts)
    else:
        yield Check(name, "fail" if check.refuses else "warn", check.words.rstrip("."), facts=facts)


def _train_nothing(project: Path) -> RunOutcome:
    """What came of it; of a crash with the last words of the log, which does not stay."""

    def refuse(holder: MachineHolder) -> None:
        study = f" of study {holder.study}" if holder.study else ""
        raise EndRun(Status.INTERRUPTED, f"not tried: a training{study} runs on this machine")

    with own_folder() as folder:
        empty = folder / "corpus"
        empty.mkdir()
        paths = ExperimentPaths(folder / "0000")
        training = Training(
            source=_EMPTY,
            paths=paths,
            run=0,
            seed=1,
            title="Nothing",
            hypothesis="",
            diff="",
            corpus_dir=empty,
            project=project,
            time_budget_seconds=1.0,
            startup_allowance_seconds=KERNEL_LIMIT_SECONDS,
            handover_allowance_seconds=1.0,
        )
        outcome = run_training(training, Listener(on_wait=refuse))
        said = paths.runner_log(0).read_text(errors="replace").split("\n") if paths.runner_log(0).is_file() else []
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        is_crash = outcome.status is Status.CRASH and last
        return replace(outcome, reason=f"{outcome.reason}: {last}") if is_crash else outcome


def machine(facts: Mapping[str, Any]) -> Check:
    """Processor and memory."""
    total, free = _memory_bytes()
    words = [processor_name(), f"{os.cpu_count()} cores", str(facts["instructions"]), f"{_gb(total)} of memory"]
    found = {"processor": words[0], "cores": os.cpu_count(), "memory_bytes": total, "free_memory_bytes": free}
    found |= {"system": platform.system(), "instructions": facts["instructions"]}
    if free < NIGHT_MEMORY_BYTES:
        remedy = "Close what uses it: a training that the system kills for memory is made again."
        return Check("machine", "warn", " · ".join([*words, f"only {_gb(free)} free"]), remedy, found)
    return Check("machine", "ok", " · ".join([*words, f"{_gb(free)} free"]), facts=found)


def processor_name() -> str:
    """As its maker calls it, or the name of its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_bytes() -> tuple[int, int]:
    """All of it, and what is free or can be freed."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return page * pages, int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return page * pages, page * pages


def device(facts: Mapping[str, Any]) -> Check:
    """What trains."""
    name = facts["device_name"]
    if facts["device"] == "cpu" and trains_on_gpu():
        found = f"the processor trains, in {facts['dtype']}: this machine has a GPU driver, but torch finds no GPU"
        remedy = "Set AUTORESEARCH_DEVICE=cpu, or install a driver and a build of torch that fit the GPU."
        return Check("device", "warn", found, remedy, facts=dict(facts))
    if facts["device"] == "cpu":
        return Check("device", "ok", f"the processor trains, in {facts['dtype']}; no GPU was found", facts=dict(facts))
    memory = f", {_gb(facts['gpu_memory_mb'] * 2**20)}" if facts["gpu_memory_mb"] else ""
    return Check("device", "ok", f"{facts['device']}: {name}{memory}, in {facts['dtype']}", facts=dict(facts))


def usable_cores() -> int:
    """Cores that this process may use: fewer than there are in a container with a quota, or with an affinity."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return mine if quota == "max" else max(1, min(mine, int(quota) // int(period)))
    except (OSError, ValueError):
        return mine


def threads(facts: Mapping[str, Any], env: Mapping[str, str], cores: int) -> Check:
    """Whether a training uses the cores that it may use, and no more."""
    used, asked = int(facts["num_threads"]), env.get("OMP_NUM_THREADS")
    spin = env.get("GOMP_SPINCOUNT") or SETTINGS["GOMP_SPINCOUNT"]
    set_by = f"OMP_NUM_THREADS={asked}" if asked else "OMP_NUM_THREADS is not set"
    found = f"{used} for {cores} cores; {set_by}, GOMP_SPINCOUNT={spin}"
    known = {"torch": used, "cores": cores, "OMP_NUM_THREADS": asked, "GOMP_SPINCOUNT": spin}
    if used > cores:
        return Check("threads", "warn", f"{found}: they wait for each other", f"export OMP_NUM_THREADS={cores}", known)
    if 2 * used < cores and facts["device"] == "cpu" and asked:
        return Check("threads", "warn", f"{found}: most cores stand idle", "unset OMP_NUM_THREADS", known)
    return Check("threads", "ok", found, facts=known)


def _steady(process: MeasuringProcess, device: str) -> Check:
    try:
        return steady(measure_steadiness(process, device))
    except RuntimeError as error:
        return Check("steady", "fail", f"the measurement ended early: {error}")


def steady(measured: Steadiness) -> Check:
    """Whether runs can be compared: what the spread of speed is worth in bits per byte."""
    mean = sum(measured.flops) / len(measured.flops)
    speed = f"{mean / 1e12:.1f} TFLOP/s" if mean >= 1e12 else f"{mean / 1e9:.0f} GFLOP/s"
    spread = f"±{100 * measured.spread:.1f} %"
    worth = f"worth {measured.worth_bpb:.4f} bits per byte at most in runs of {measured.budget_seconds:g} s"
    facts = {
        "spread": measured.spread, "worth_bpb": measured.worth_bpb, "flops": mean, "stolen_cores": measured.load.stolen,
        "others": [{"name": name, "pid": pid, "cores": cores} for name, pid, cores in measured.load.others],
    }  # fmt: skip
    if measured.is_steady:
        return Check("steady", "ok", f"steady: {spread} at {speed}, {worth}", facts=facts)
    taken = measured.load.words()
    who = f"; of {100 * measured.load.num_cores} % others took: {taken}" if taken else ""
    remedy = "A study wants the machine to itself: end what is named, or wait." if taken else QUIETER
    return Check("steady", "warn", f"busy: {spread} at {speed}, {worth}{who}", remedy, facts)


def farewell(verdict: str) -> str:
    """The last line."""
    start = f"`{shell_command('run --detach')}` starts a study."
    return {
        "ok": f"Fit for a night: {start}",
        "warn": f"Fit for a night, with the remarks above: {start}",
        "fail": "Not fit yet: what is marked ✗ would stop a study.",
    }[verdict]
