"""Makes the environment `.venv` with the versions of constraints.txt, or brings it up to date. `make` runs this file.

It uses the standard library only, and a syntax that Python 3.8 can read, so that an old interpreter answers with
a sentence. On Linux, torch from the public index is a CUDA build of several gigabytes: a machine without an NVIDIA GPU
gets the CPU build instead, where one can be found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

PROJECT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 14)  # versions of Python that constraints.txt covers
# Where PyTorch publishes its CPU builds: https://pytorch.org/get-started/locally
CPU_INDEX = os.environ.get("AUTORESEARCH_TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"
SILENCE_SECONDS = 10.0  # after that long without a line, one says that the work goes on
LEAST_SHOWN_MB = 5.0  # smaller downloads get no line of their own
INDEX_TIMEOUT_SECONDS = 20

# Measured on Linux x86_64 with Python 3.11 and 3.12: megabytes to download, and in .venv afterwards.
SIZES_MB = {"cpu": (290, 1350), "cuda": (2800, 5400)}
TEST_SIZE_MB = (170, 520)
MINUTES = {"cpu": "1 to 5 minutes", "cuda": "5 to 20 minutes"}


class SetUpError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make .venv, or bring it up to date.")
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml to install too, such as test")
    parser.add_argument(
        "--torch",
        choices=("auto", "cpu", "cuda"),
        default=os.environ.get("TORCH") or "auto",
        help="the build of torch; auto takes the CUDA build where there is an NVIDIA GPU",
    )
    arguments = parser.parse_args(words)
    try:
        if not OLDEST <= sys.version_info[:2] <= NEWEST:
            return run_with_another_python()
        return set_up(PROJECT, arguments.extras, arguments.torch)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on with the set-up.", file=sys.stderr)
        return 130
    except SetUpError as error:
        print(f"\nset-up: {error}", file=sys.stderr)
        return 1


# --- Python


def run_with_another_python() -> int:
    """Run this script again with a Python that constraints.txt covers, if there is one on PATH."""
    this = ".".join(map(str, sys.version_info[:3]))
    covered = f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            print(f"{sys.executable} is Python {this}, autoresearch needs {covered}: using {found}.", flush=True)
            return subprocess.call([found, *sys.argv])
    raise SetUpError(
        f"autoresearch needs {covered}, and {sys.executable} is Python {this}. Install one of these, "
        "then say which: make run PYTHON=/path/to/python3.12"
    )


def base_python() -> str:
    """The interpreter outside any virtual environment: .venv may be the active one, and may have to go."""
    return getattr(sys, "_base_executable", None) or sys.executable


# --- the environment


def set_up(project: Path, extras: list[str], torch: str) -> int:
    """Do what is missing; nothing and silently when `.venv` is as it should be."""
    venv, state_file = project / ".venv", project / ".venv" / "installed.json"
    state, version = read_state(state_file), version_of(venv)
    wanted = wanted_state(project, extras, torch, state)
    if version is None and venv.exists():
        print(f"The Python of {venv} does not run any more, so the environment is made anew.", flush=True)
        shutil.rmtree(str(venv))
        state = {}
    elif state.get("project", str(project)) != str(project):
        print(f"The project was moved from {state['project']}: the paths in .venv are adapted.", flush=True)
        adapt_paths(venv, state["project"], str(project))
        state["project"] = str(project)
        write_state(state_file, state)
    if version is not None and state == {**wanted, "python": version}:
        return 0
    if state:
        print(f"{reason(state, wanted)}: .venv is brought up to date.", flush=True)
    else:
        announce(project, wanted["torch"], wanted["extras"])
    steps = Steps(venv)
    if version is None:
        steps.say("making the environment .venv")
        make_environment(venv)
    if not any(venv.glob("lib/python*/site-packages/pip")):  # uv makes environments without it
        steps.run("installing pip", [str(python_of(venv)), "-m", "ensurepip"], project)
    pip = [str(python_of(venv)), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    wanted["torch"] = install_torch(steps, pip, project, wanted["torch"])
    target = f".[{','.join(wanted['extras'])}]" if wanted["extras"] else "."
    steps.run("installing the packages", [*pip, "-c", "constraints.txt", "-e", target], project)
    kernel = [str(python_of(venv)), "-m", "autoresearch_kernel.cli", "kernel", "install", "--sys-prefix"]
    steps.run("installing the Jupyter kernel", kernel, project)
    write_state(state_file, {**wanted, "python": version_of(venv)})
    steps.say(f"done: .venv has {size_mb(venv) / 1000:.2f} GB")
    return 0


def wanted_state(project: Path, extras: list[str], torch: str, state: dict) -> dict:
    """What `.venv` should hold; extras that were asked for before stay."""
    of_gpu = ["corpora"] if nvidia_gpu() else []  # the presets of GPUs train on text that is downloaded
    return {
        "project": str(project),
        "inputs": digest(project / "pyproject.toml", project / "constraints.txt"),
        "extras": sorted({*extras, *of_gpu, *state.get("extras", ())}),
        "torch": wanted_build(torch, state.get("torch")),
    }


def read_state(file: Path) -> dict:
    """What an earlier set-up finished with; empty when none did."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(file: Path, state: dict) -> None:
    file.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def digest(*files: Path) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes() + b"\0")
    return found.hexdigest()


def reason(state: dict, wanted: dict) -> str:
    """Why an environment that works is not the wanted one."""
    if state.get("inputs") != wanted["inputs"]:
        return "The required packages changed"
    if missing := set(wanted["extras"]) - set(state.get("extras", ())):
        return f"More packages are needed ({', '.join(sorted(missing))})"
    if state.get("torch") != wanted["torch"]:
        return f"Another build of torch is wanted ({wanted['torch']} instead of {state.get('torch')})"
    return "Python changed"


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def version_of(venv: Path) -> str | None:
    """Version of an environment's Python; None where it does not run."""
    command = [str(python_of(venv)), "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


def make_environment(venv: Path) -> None:
    done = subprocess.run([base_python(), "-m", "venv", "--clear", str(venv)], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetUpError(f"{base_python()} -m venv failed. {done.stdout.decode(errors='replace').strip()}")


def adapt_paths(venv: Path, old: str, new: str) -> None:
    """Write the project's new folder where an environment names the old one: scripts, editable install, kernel."""
    places = (
        "pyvenv.cfg",
        "bin/*",
        "lib/python*/site-packages/__editable__*",
        "lib/python*/site-packages/autoresearch_kernel-*.dist-info/direct_url.json",
        "share/jupyter/kernels/*/kernel.json",
    )
    files = [file for place in places for file in venv.glob(place) if file.is_file() and not file.is_symlink()]
    for file in files:
        content = file.read_bytes()
        if old.encode() in content and b"\0" not in content:
            file.write_bytes(content.replace(old.encode(), new.encode()))


# --- torch


def nvidia_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU that its driver knows."""
    if any(Path("/proc/driver/nvidia/gpus").glob("*")) or any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    command = shutil.which("nvidia-smi") or shutil.which("/usr/lib/wsl/lib/nvidia-smi")
    if command is None:
        return False
    done = subprocess.run([command, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0 and b"GPU" in done.stdout


def wanted_build(asked: str, installed: str | None) -> str:
    """`cpu`, `cuda`, or `default` where torch has one build only. A CUDA build that is there already stays."""
    if platform.system() != "Linux":
        return "default"
    if asked != "auto":
        return asked
    return "cuda" if nvidia_gpu() or installed == "cuda" else "cpu"


def install_torch(steps: Steps, pip: list[str], project: Path, build: str) -> str:
    """Install torch in the wanted build, or in the one that can be had; returns which."""
    version, installed = torch_version(project / "constraints.txt"), installed_torch(steps.venv)
    if build == "cpu" and installed != f"{version}+cpu":
        own = [*pip, "--no-deps", f"torch=={version}+cpu"]
        documented = [*own, "--index-url", CPU_INDEX, "--timeout", str(INDEX_TIMEOUT_SECONDS), "--retries", "1"]
        steps.say(f"torch {version}: there is no NVIDIA GPU, so the CPU build is installed")
        if not steps.attempt(own, project) and not steps.attempt(documented, project):
            download, disk = SIZES_MB["cuda"]
            steps.say(
                f"the CPU build of torch is neither where pip looks nor at {CPU_INDEX}, so the CUDA build is "
                f"installed: {download / 1000:.1f} GB to download, {disk / 1000:.1f} GB on the disk"
            )
            need_room(project, disk)
            build = "cuda"
    if build == "cuda" and installed == f"{version}+cpu":
        steps.run("removing the CPU build of torch", [pip[0], "-m", "pip", "uninstall", "-y", "torch"], project)
    if build != "cpu":
        steps.run(f"installing torch {version}", [*pip, "-c", "constraints.txt", "torch"], project)
    return build


def torch_version(constraints: Path) -> str:
    found = re.search(r"^torch==([\w.]+)", constraints.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SetUpError(f"{constraints} has no line `torch==...`. `git checkout constraints.txt` restores the file.")
    return found[1]


def installed_torch(venv: Path) -> str | None:
    """Version of the torch in the environment, with the name of its build, such as 2.13.0+cpu."""
    found = next(venv.glob("lib/python*/site-packages/torch-*.dist-info"), None)
    return None if found is None else found.name[len("torch-") : -len(".dist-info")]


# --- what is said


def announce(project: Path, build: str, extras: list[str]) -> None:
    """Before anything is downloaded: what, how large, how long. Raises SetUpError when the disk is too small."""
    kind = "cuda" if build == "cuda" else "cpu"
    download, disk = SIZES_MB[kind]
    if "test" in extras:
        download, disk = download + TEST_SIZE_MB[0], disk + TEST_SIZE_MB[1]
    print(
        f"Setting up autoresearch in {project / '.venv'}, which takes {MINUTES[kind]}: {download / 1000:.1f} GB to "
        f"download, {disk / 1000:.1f} GB on the disk. The whole output of pip goes to .venv/setup.log.",
        flush=True,
    )
    need_room(project, disk)


def need_room(project: Path, mb: float) -> None:
    free = shutil.disk_usage(str(project)).free / 1e6
    if free < mb:
        raise SetUpError(f"The disk of {project} has {free:.0f} MB free, {mb} MB are needed. Free some space first.")


class Steps:
    """Runs commands one after the other: a line for each large download, and one when nothing was said for a while."""

    def __init__(self, venv: Path) -> None:
        self.venv, self.log = venv, venv / "setup.log"
        self.started = self.spoke = time.monotonic()
        self.doing = ""

    def say(self, words: str) -> None:
        self.spoke = time.monotonic()
        seconds = int(self.spoke - self.started)
        print(f"  {seconds // 60}:{seconds % 60:02d}  {words}", flush=True)

    def run(self, words: str, command: list[str], project: Path) -> None:
        """Run a command that has to succeed."""
        self.say(words)
        if not self.attempt(command, project, words):
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
            raise SetUpError(
                "\n  ".join(["this command failed:", " ".join(command), *said])
                + f"\nAll of it is in {self.log}. The same make command goes on where this one stopped."
            )

    def attempt(self, command: list[str], project: Path, words: str = "installing torch") -> bool:
        """Whether the command succeeded."""
        self.doing = words
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                command, cwd=str(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
            reader = threading.Thread(target=self._read, args=(process, log), daemon=True)
            reader.start()
            try:
                while reader.is_alive():
                    reader.join(1.0)
                    if time.monotonic() - self.spoke > SILENCE_SECONDS:
                        self.say(f"{self.doing} ... ({size_mb(self.venv):.0f} MB in .venv)")
                return process.wait() == 0
            except BaseException:
                process.kill()
                process.wait()
                raise

    def _read(self, process: subprocess.Popen[bytes], log: TextIO) -> None:
        for raw in process.stdout or ():
            line = raw.decode("utf-8", "replace")
            log.write(line)
            large = re.search(r"Downloading (?:\S+/)?([\w.+%-]+?)-([\w.+%]+)-\S+ \(([\d.]+) ([MG])B\)", line)
            if large and float(large[3]) * (1000 if large[4] == "G" else 1) >= LEAST_SHOWN_MB:
                self.doing = f"downloading {large[1]} ({large[3]} {large[4]}B)"
                self.say(self.doing)
            elif line.startswith("Collecting "):
                self.doing = f"looking for {line.split()[1]}"
            elif line.startswith("Installing collected packages"):
                number = line.count(",") + 1
                self.doing = f"unpacking {number} packages" if number > 1 else f"unpacking {line.split()[-1]}"
                self.say(self.doing)


def size_mb(folder: Path) -> float:
    """Megabytes of the files in a folder."""
    total = 0
    for place, _, files in os.walk(str(folder)):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size
            except OSError:  # pip has just removed it
                continue
    return total / 1e6


if __name__ == "__main__":
    sys.exit(main())
