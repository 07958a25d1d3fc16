"""Makes the environment `.venv` with the versions of constraints.txt, or brings it up to date. `make` runs this file.

It uses the standard library only, and a syntax that Python 3.8 can read, so that an old interpreter answers with
a sentence. On Linux, torch from the public index is a CUDA build of several gigabytes: a machine without an NVIDIA GPU
gets the CPU build instead, where one can be found.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Iterator, TextIO  # noqa: UP035  (Python 3.8)

PROJECT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 14)  # versions of Python that constraints.txt covers
BUILDS = ("auto", "cpu", "cuda")
# Where PyTorch publishes its CPU builds: https://pytorch.org/get-started/locally
CPU_INDEX = os.environ.get("AUTORESEARCH_TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"
SILENCE_SECONDS = 8.0  # after that long without a line, one says that the work goes on
LEAST_SHOWN_MB = 5.0  # smaller downloads get no line of their own
INDEX_TIMEOUT_SECONDS = 20
LONGEST_SHEBANG = 127  # bytes of the first line of a script that every kernel reads

# Measured on Linux x86_64 with Python 3.11 and 3.12: megabytes to download, and in .venv afterwards.
SIZES_MB = {"cpu": (290, 1350), "cuda": (2800, 5400)}
TEST_SIZE_MB = (170, 520)
MINUTES = {"cpu": "1 to 5 minutes", "cuda": "5 to 20 minutes"}


class SetUpError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make .venv, or bring it up to date.")
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml to install too, such as test")
    parser.add_argument("--torch", default="", help="its build: cpu, cuda, or auto, which is cuda with an NVIDIA GPU")
    parser.add_argument("--python-was-named", action="store_true", help="say so when .venv has another Python")
    arguments = parser.parse_args(words)
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.default_int_handler)
    try:
        if arguments.torch and arguments.torch not in BUILDS:
            raise SetUpError(f"TORCH is {arguments.torch!r}: use one of {', '.join(BUILDS)}.")
        if not OLDEST <= sys.version_info[:2] <= NEWEST:
            return run_with_another_python()
        return set_up(PROJECT, arguments.extras, arguments.torch, arguments.python_was_named)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on with the set-up.", file=sys.stderr)
        return 130
    except (SetUpError, OSError) as error:
        print(f"\nset-up: {error}", file=sys.stderr)
        return 1


# --- Python


def run_with_another_python() -> int:
    """Run this script again with a Python that constraints.txt covers, if there is one on PATH."""
    this = ".".join(map(str, sys.version_info[:3]))
    covered = f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    for number in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{number}")
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


# --- what to do


def set_up(project: Path, extras: list[str], torch: str, python_was_named: bool = False) -> int:
    """Do what is missing; nothing and silently when `.venv` is as it should be."""
    this = platform.python_version()
    if python_was_named and (version := version_of(project / ".venv")) and minor(version) != minor(this):
        print(f".venv has Python {version} and keeps it. Remove .venv first to use Python {this}.", flush=True)
    if is_current(project, extras, torch):
        return 0
    with one_at_a_time(project):
        if not is_current(project, extras, torch):  # another set-up may have done it meanwhile
            mend(project, extras, torch)
    return 0


def is_current(project: Path, extras: list[str], torch: str) -> bool:
    """Whether an earlier set-up has left all that is wanted, here and whole."""
    venv = project / ".venv"
    state, version = read_state(venv), version_of(venv)
    if version is None or state != {**wanted_state(project, extras, torch, state), "python": version}:
        return False
    return is_whole(venv, version)


def is_whole(venv: Path, version: str) -> bool:
    """Whether the first and the last package that a set-up installs are there."""
    site = site_packages(venv, version)
    return (site / "torch").is_dir() and any(site.glob("autoresearch_kernel-*.dist-info"))


@contextlib.contextmanager
def one_at_a_time(project: Path) -> Iterator[None]:
    """Two commands may need the environment at the same moment; the second waits for the first."""
    with open(str(project / "pyproject.toml"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another command sets up this project: waiting until it has finished.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mend(project: Path, extras: list[str], torch: str) -> None:
    """Make the environment, or what is missing of it."""
    venv = project / ".venv"
    if venv.is_dir() and not os.access(str(venv), os.W_OK):
        raise SetUpError(f"{venv} belongs to another user and has to change. Remove it, or use a clone of your own.")
    state, version = read_state(venv), version_of(venv)
    wanted = wanted_state(project, extras, torch, state)
    if version is not None and not OLDEST <= minor(version) <= NEWEST:
        raise SetUpError(f"{venv} has Python {version}, which is not supported. Remove .venv and repeat the command.")
    has_python = version is not None and site_packages(venv, version).is_dir()
    if version is not None and has_python and (is_whole(venv, version) or not state.get("finished")):
        if state.get("project", str(project)) != str(project):
            print(f"The project was moved from {state['project']}: the paths in .venv are adapted.", flush=True)
            adapt_paths(venv, state["project"], str(project))
            state["project"] = str(project)
            write_state(venv, state)
            if is_current(project, extras, torch):
                return
    elif any(venv.glob("*")):
        print(f"Python or packages of {venv} were removed or replaced: the environment is made anew.", flush=True)
        state, version = {"extras": wanted["extras"]}, None
    if state.get("finished"):
        print(f"{reason(state, wanted)}: .venv is brought up to date.", flush=True)
    else:
        announce(project, wanted["torch"], wanted["extras"])
    steps = Steps(venv)
    if version is None or not site_packages(venv, version).is_dir():
        make_environment(steps, project)
    write_state(venv, {**state, "project": str(project), "asked": wanted["asked"], "finished": False})
    install(steps, project, wanted)


def install(steps: Steps, project: Path, wanted: dict) -> None:
    """Everything that belongs into the environment, whose Python runs."""
    python = str(python_of(steps.venv))
    if not steps.attempt([python, "-m", "pip", "--version"], project):  # interrupted, or an environment that uv made
        steps.run("installing pip", [python, "-m", "ensurepip", "--upgrade"], project)
    pip = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    wanted["torch"] = install_torch(steps, pip, project, wanted["torch"])
    target = f".[{','.join(wanted['extras'])}]" if wanted["extras"] else "."
    steps.run("installing the packages", [*pip, "-c", "constraints.txt", "-e", target], project)
    kernel = [python, "-m", "autoresearch_kernel.cli", "kernel", "install", "--sys-prefix"]
    steps.run("installing the Jupyter kernel", kernel, project)
    write_state(steps.venv, {**wanted, "python": version_of(steps.venv)})
    steps.say(f"done: .venv has {size_mb(steps.venv) / 1000:.2f} GB")


# --- what is there, and what should be


def wanted_state(project: Path, extras: list[str], torch: str, state: dict) -> dict:
    """What `.venv` should hold; extras and a build of torch that were asked for before stay."""
    of_gpu = ["corpora"] if nvidia_gpu() else []  # the presets of GPUs train on text that is downloaded
    asked = torch or state.get("asked") or "auto"
    return {
        "project": str(project),
        "inputs": digest(project / "pyproject.toml", project / "constraints.txt"),
        "extras": sorted({*extras, *of_gpu, *state.get("extras", ())}),
        "asked": asked,
        "torch": wanted_build(asked, state.get("torch")),
        "finished": True,
    }


def read_state(venv: Path) -> dict:
    """What earlier set-ups left in an environment; empty when none did."""
    try:
        state = json.loads((venv / "installed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(venv: Path, state: dict) -> None:
    (venv / "installed.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def digest(*files: Path) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes() + b"\0")
    return found.hexdigest()


def reason(state: dict, wanted: dict) -> str:
    """Why an environment that was finished is not the wanted one."""
    if state.get("inputs") != wanted["inputs"]:
        return "The required packages changed"
    if missing := set(wanted["extras"]) - set(state.get("extras", ())):
        return f"More packages are needed ({', '.join(sorted(missing))})"
    if state.get("torch") != wanted["torch"]:
        return f"Another build of torch is wanted ({wanted['torch']} instead of {state.get('torch')})"
    return "Python changed"


def python_of(venv: Path) -> Path:
    return venv / "bin" / "python"


def version_of(venv: Path) -> str | None:
    """Version of an environment's Python; None where it does not run."""
    command = [str(python_of(venv)), "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except PermissionError:
        raise SetUpError(f"This user may not run {python_of(venv)}. Use a clone of the project of your own.") from None
    except OSError:
        return None
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


def minor(version: str) -> tuple[int, int]:
    first, second = version.split(".")[:2]
    return int(first), int(second)


def site_packages(venv: Path, version: str) -> Path:
    return venv / "lib" / "python{}.{}".format(*minor(version)) / "site-packages"


def make_environment(steps: Steps, project: Path) -> None:
    Path(os.path.realpath(str(steps.venv))).mkdir(parents=True, exist_ok=True)  # .venv may be a link to another disk
    command = [base_python(), "-m", "venv", "--clear", str(steps.venv)]
    with tempfile.TemporaryDirectory() as folder:
        steps.log = Path(folder) / "setup.log"  # what lies in .venv is cleared
        steps.run("making the environment .venv", command, project)
        shutil.copy(str(steps.log), str(steps.venv / "setup.log"))
    steps.log = steps.venv / "setup.log"


# --- a project that was moved


def adapt_paths(venv: Path, old: str, new: str) -> None:
    """Write the project's new folder where an environment names the old one: scripts, editable install, kernel."""
    places = (
        "pyvenv.cfg",
        "bin/*",
        "lib/python*/site-packages/__editable__*",
        "lib/python*/site-packages/autoresearch_kernel-*.dist-info/direct_url.json",
        "share/jupyter/kernels/*/kernel.json",
    )
    for file in [file for place in places for file in venv.glob(place) if file.is_file() and not file.is_symlink()]:
        content = file.read_bytes()
        if b"\0" in content:
            continue
        written = json_text if file.name == "kernel.json" else str
        changed = replaced(content, written(old).encode(), written(new).encode())
        if changed != content:
            file.write_bytes(with_shell_start(changed, str(python_of(venv)).encode()))


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    """The content with `old` replaced where it is a path or begins one; /home/a/py is no part of /home/a/pythons."""
    part = rb"[\w.\-\x80-\xff]"
    return re.sub(rb"(?<!%b)%b(?!%b)" % (part, re.escape(old), part), lambda _: new, content)


def json_text(words: str) -> str:
    return json.dumps(words)[1:-1]


def with_shell_start(script: bytes, python: bytes) -> bytes:
    """A script of this Python that also starts from a folder whose path has a space or is too long for a first line.

    As pip does, /bin/sh then starts the Python: the second line is a command for it and a string for Python.
    """
    first, _, rest = script.partition(b"\n")
    if not first.startswith(b"#!" + python[: python.rindex(b"/")]):
        return script
    if b" " not in first and len(first) <= LONGEST_SHEBANG:
        return script
    return b"#!/bin/sh\n'''exec' \"%b\" \"$0\" \"$@\"\n' '''\n%b" % (first[2:], rest)


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
    if build == "default":
        steps.run(f"installing torch {version}", [*pip, "-c", "constraints.txt", "torch"], project)
        return build
    cpu = f"{version}+cpu"
    if build == "cpu" and installed != cpu:
        steps.say(f"installing torch {version}, the CPU build")
        own = [*pip, "--no-deps", f"torch=={cpu}"]
        documented = [*own, "--index-url", CPU_INDEX, "--timeout", str(INDEX_TIMEOUT_SECONDS), "--retries", "1"]
        if steps.attempt(own, project) or steps.attempt(documented, project):
            return build
        if not index_answers(steps, pip, project):
            raise SetUpError("No package can be downloaded from here. Check the network, then repeat the command.")
        steps.say(f"pip finds the CPU build of torch neither by itself nor at {CPU_INDEX}: installing the CUDA build")
        build = "cuda"
    if build == "cuda" and (installed is None or installed == cpu):
        download, disk = SIZES_MB["cuda"]
        steps.say(f"torch's CUDA build: {download / 1000:.1f} GB to download, {disk / 1000:.1f} GB on the disk")
        need_room(project, disk)
        # === leaves out the CPU build, which == prefers where pip finds both
        steps.run(f"installing torch {version}", [*pip, "-c", "constraints.txt", f"torch==={version}"], project)
    return build


def index_answers(steps: Steps, pip: list[str], project: Path) -> bool:
    """Whether pip can download a package of 11 kB."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["download", "--no-input", "--no-deps", "--dest", folder, "-c", "constraints.txt", "six"]
        return steps.attempt([*pip[:3], *words], project)


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
    """Raise SetUpError where the disk cannot take what is missing of an environment of `mb` megabytes."""
    missing = mb - size_mb(project / ".venv")
    free = shutil.disk_usage(str(project)).free / 1e6
    if free < missing:
        raise SetUpError(
            f"The disk of {project} has {free:.0f} MB free, {missing:.0f} MB are needed. Free some space first."
        )


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
                + "\nThe same make command goes on where this one stopped."
                + (f" The whole output is in {self.log}." if self.log.parent == self.venv else "")
            )

    def attempt(self, command: list[str], project: Path, words: str = "installing torch") -> bool:
        """Whether the command succeeded."""
        self.doing = words
        with open(str(self.log), "a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                command, cwd=str(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
            reader = threading.Thread(target=self._read, args=(process, log), daemon=True)
            reader.start()
            try:
                while reader.is_alive():
                    reader.join(0.5)
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
