"""Escapes: a training that reaches out of its sandbox, or harms the machine. Each is tried in every sandbox that there
is.

What counts is what is left: files, processes, and what servers outside heard. See docs/trust.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from autoresearch_kernel.core.types import RunOutcome, Status
from autoresearch_kernel.corpora.sources import split_of_path, stdlib_files
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.notebook import read_notebook
from autoresearch_kernel.run.training import training_environment
from autoresearch_kernel.sandbox.kinds import wrap
from autoresearch_kernel.sandbox.policy import Policy, scoring_policy, training_policy
from autoresearch_kernel.system import held_out_packages
from autoresearch_kernel.system.machine import lock_path
from autoresearch_kernel.system.processes import descendants
from autoresearch_kernel.system.standard_library import HELD_OUT
from autoresearch_kernel.system.start import python_command
from tests.trainings import train as run_one
from tests.trainings import training
from tests.trust.escapes.reach import OPEN_ALL_IN_SANDBOX, PRELUDE, REACHES, Reach
from tests.trust.outcomes import record

PROJECT = Path(__file__).parents[2]
CANARY = "canary-5bd1e995-of-a-secret"
PARAMETERS = '# %% tags=["parameters"]\nSEED = 1  # fixed\n\n# %%\n'
HAND_OVER = """
# %%
import json, os, pathlib
handover = pathlib.Path(os.environ["AUTORESEARCH_HANDOVER"])
(handover / "model.pkl").write_bytes(b"weights")
(handover / "handover.json").write_text(json.dumps({"training_seconds": 0.5}))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap and Landlock are Linux's")


@dataclass
class World:
    """A project with studies, a home with a key, a corpus with held-out rows: what there is to reach."""

    folder: Path
    project: Path = field(init=False)
    corpus: Path = field(init=False)
    study: Path = field(init=False)

    def __post_init__(self) -> None:
        self.project, self.corpus = self.folder / "project", self.folder / "cache" / "corpora" / "a"
        self.study = self.project / "studies" / "mine"
        texts = {
            "home/.ssh/id_ed25519": CANARY, "cache/corpora/a/train.txt": "text", "cache/corpora/b/train.txt": CANARY,
            "cache/heldout/a/val.npy": CANARY, "project/train.py": "print(1)\n", "project/.git/HEAD": CANARY,
            "project/.git/config": CANARY, "project/studies/other/history.jsonl": CANARY,
            "project/studies/mine/history.jsonl": CANARY,
        }  # fmt: skip
        for name, text in texts.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        shutil.copy(PROJECT / "prepare.py", self.project)

    @property
    def paths(self) -> ExperimentPaths:
        return ExperimentPaths(self.study / "experiments" / "0001")

    @property
    def precious(self) -> list[Path]:
        return [
            self.project / "train.py", self.project / "prepare.py", self.study / "history.jsonl",
            self.project / ".git" / "config", PROJECT / "autoresearch_kernel" / "study" / "loop.py",
        ]  # fmt: skip

    def listing(self) -> dict[str, tuple[bytes, int]]:
        """Every file outside the hand-over, with its content and mode, and the package's."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and self.paths.folder not in path.parents]
        return {str(path): (path.read_bytes(), path.stat().st_mode) for path in [*files, *self.precious]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The world, which must look the same afterwards."""
    world = World(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    (tmp_path / "cache" / "locks").mkdir()
    lock_path("cpu").touch()
    before = world.listing()
    yield world
    after = world.listing()
    assert {path: seen for path, seen in after.items() if before.get(path) != seen} == {}
    assert before.keys() == after.keys()


# --- ways out, tried by a process in the sandbox of a training


@pytest.fixture
def outside(world: World, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Things to reach for; afterwards none of them was reached, and nothing new is there."""
    name = f"escape-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
        subprocess.Popen(["sleep", "3600"], env={"SECRET": CANARY, "PATH": os.environ["PATH"]}) as bystander,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "docker.sock"))
        abstract.bind("\0" + name)
        datagram.bind(str(tmp_path / "log.sock"))
        for listener in (unix, abstract):
            listener.listen()
        limits = Path(f"/proc/{bystander.pid}/limits").read_text()
        try:
            yield {
                "key": str(tmp_path / "home" / ".ssh" / "id_ed25519"),
                "heldout": str(tmp_path / "cache" / "heldout" / "a" / "val.npy"),
                "corpus": str(world.corpus / "train.txt"),
                "other_corpus": str(tmp_path / "cache" / "corpora" / "b" / "train.txt"),
                "other_study": str(world.project / "studies" / "other" / "history.jsonl"),
                "history": str(world.study / "history.jsonl"),
                "git": str(world.project / ".git"),
                "precious": list(map(str, world.precious)),
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                "unix": str(tmp_path / "docker.sock"),
                "abstract": name,
                "datagram": str(tmp_path / "log.sock"),
                "bystander": bystander.pid,
                "ipc_key": 0x0A57 + os.getpid(),
                "name": name,
            }
            for server in (tcp, udp, unix, abstract, datagram):
                server.setblocking(False)
                with pytest.raises(BlockingIOError):
                    server.recvfrom(1) if server in (udp, datagram) else server.accept()
            assert bystander.poll() is None
            assert Path(f"/proc/{bystander.pid}/limits").read_text() == limits
        finally:
            bystander.kill()
    assert not [folder for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", "/") if Path(folder, name).exists()]
    for table in ("shm", "msg"):
        assert f" {0x0A57 + os.getpid()} " not in Path(f"/proc/sysvipc/{table}").read_text()


# Stands between the test and the sandbox, so that what kills its parent does not kill the tests.
PARENT = "import json, subprocess, sys; sys.exit(subprocess.run(json.loads(sys.argv[1])).returncode)"


@pytest.mark.parametrize("start", ["started", "forked"])
@pytest.mark.parametrize("reach", REACHES, ids=lambda reach: reach.name)
def test_a_reach_out_of_the_sandbox_meets_nothing(
    reach: Reach, start: str, sandbox: str, world: World, outside: dict[str, Any]
) -> None:
    """By a process that was started in the sandbox, and by one that the template forked into it."""
    if start == "forked" and sandbox != "bubblewrap":
        pytest.skip("only sandboxes of bubblewrap have a template")
    handover, own = world.paths.handover(0), world.folder / "own"
    handover.mkdir(parents=True)
    own.mkdir()
    given = {**outside, "own": str(own), "canary": CANARY}
    policy = training_policy(world.corpus, world.project, handover, own, seconds=20, gpu=False)
    env = training_environment(training("", world.paths, world.corpus, world.project), own)
    words = ["-c", PRELUDE + reach.code + "\nprint('tried')", json.dumps(given)]
    command = wrap(policy, python_command(*words) if start == "forked" else [sys.executable, *words], sandbox)
    assert ("ask" in command) == (start == "forked")
    parent = [sys.executable, "-c", PARENT, json.dumps(command)]
    done = subprocess.run(parent, env=env, cwd=own, capture_output=True, text=True, timeout=30)
    shutil.rmtree(own)
    assert "REACHED" not in done.stdout and "Traceback" not in done.stderr, done
    assert done.returncode == 0 and done.stdout.endswith("tried\n"), done
    record("escape", reach.name, reach.what, _refusals(done.stdout), sandbox)


def _refusals(stdout: str) -> str:
    """What the escape met, each kind of refusal once: "Permission denied", "No such process"."""
    found = dict.fromkeys(re.findall(r"\[Errno \S+\] ([^:\n]+)", stdout))
    words = [os.strerror(int(number)) for number in re.findall(r"\[Errno (\d+)\]", stdout)]
    return ", ".join(dict.fromkeys(words)) or next(iter(found), "nothing of it outside")


def test_without_a_sandbox_the_same_reaches_succeed(world: World, tmp_path: Path) -> None:
    """The suite can fail: what it looks for is there."""
    for reach in (reach for reach in REACHES if reach.name in ("home", "held-out", "other study")):
        given = {
            "key": str(tmp_path / "home/.ssh/id_ed25519"), "heldout": str(tmp_path / "cache/heldout/a/val.npy"),
            "other_study": str(world.project / "studies/other/history.jsonl"),
            "history": str(world.study / "history.jsonl"),
        }  # fmt: skip
        command = [sys.executable, "-c", PRELUDE + reach.code, json.dumps(given)]
        assert "REACHED" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- the machine's files


# What a process in a sandbox may open for writing in /proc.
HARMLESS = {
    r"/proc/\d+/(task/\d+/)?fd/\d+": "it has these open already",
}
ORDINARY_USER = 64_123  # a number of this test


@pytest.mark.parametrize("who", ["root", "an ordinary user"])
def test_no_file_of_proc_and_sys_can_be_opened_for_writing(who: str, sandbox: str) -> None:
    """The files of the machine and of all processes that are shown. Nothing is ever written."""
    is_root = os.geteuid() == 0
    if who == "root" and not is_root:
        pytest.skip("only root can start it as root")
    python, user = sys.executable, {}
    if who != "root" and is_root:
        python, user = "/usr/bin/python3", {"user": ORDINARY_USER, "group": ORDINARY_USER, "extra_groups": []}
        imports = [python, "-S", "-c", "import sys, autoresearch_kernel; sys.exit(sys.version_info < (3, 11))"]
        env = {"PYTHONPATH": str(PROJECT)}
        if not os.path.exists(python) or subprocess.run(imports, env=env, cwd="/", **user).returncode:
            pytest.skip("no other user can start Python and read this checkout")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "AUTORESEARCH_SANDBOX": sandbox, "HOME": "/root"}
    command = [python, "-S", "-c", OPEN_ALL_IN_SANDBOX, str(PROJECT)]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=True, **user)
    name, other_user, why, listed, inside, outside = json.loads(done.stdout)
    assert name == sandbox, why
    assert (other_user is not None) == (who == "root" and sandbox == "bubblewrap"), why
    assert outside["opened"] == ["/proc/self/comm"]
    assert len(listed) > 1000 and "/proc/sys/kernel/core_pattern" in listed
    assert [path for path in inside["opened"] if not any(re.fullmatch(allowed, path) for allowed in HARMLESS)] == []
    what = f"open for writing each file of /proc and /sys, of the machine and of processes, started by {who}"
    record("escape", f"proc and sys, {who}", what, _refusals("\n".join(inside["met"])), sandbox)


# --- the held-out documents, which are files of Python itself

# Says which files that are named like a held-out module could be read below the listed paths, and what else was met.
SEARCH = """
import json, os, sys
given = json.loads(sys.argv[1])
names, read, met = set(given["names"]), [], []
def look(path):
    try:
        with open(path, "rb") as file: file.read()
        read.append(path)
    except OSError as error: met.append(error.strerror)
for path in given["documents"]: look(path)
for root in given["roots"]:
    for folder, _, files in os.walk(root):
        for path in (os.path.join(folder, name) for name in files if name.endswith((".py", ".pyc", ".pyo"))):
            parts = path.split("/")
            if parts[-1].split(".")[0] in names or names & set(parts[-3:-1]): look(path)
print(json.dumps([sorted(set(read)), sorted(set(met))]))
"""


def _held_out_documents() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    names = [path.relative_to(root).as_posix() for path in stdlib_files(root)]
    return [root / name for name in names if split_of_path(name) in ("val", "test")]


def _lines(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 35}


def _has_text_of(path: Path, known: set[str]) -> bool:
    """Whether half of the long lines of a source file, or of the one that a file was compiled from, are known ones."""
    source = path
    if path.suffix != ".py":
        folder = path.parent.parent if path.parent.name == "__pycache__" else path.parent
        source = folder / f"{path.name.partition('.')[0]}.py"
    lines = _lines(source) if source.is_file() else set()
    return len(lines & known) > len(lines) / 2


def _policy_of(who: str, world: World, own: Path) -> Policy:
    """What a training or a scorer may do, with `own` as its folder."""
    handover = world.paths.handover(0)
    for folder in (handover, own):
        folder.mkdir(parents=True)
    (handover / "model.pkl").write_text("weights")
    if who == "training":
        return training_policy(world.corpus, world.project, handover, own, seconds=60, gpu=False)
    return scoring_policy(handover / "model.pkl", world.project, own, gpu=False)


OPEN_EACH = """
import json, sys
opened, met = [], []
for path in json.loads(sys.argv[1]):
    try:
        with open(path, "rb") as file: file.read(1)
        opened.append(path)
    except OSError as error: met.append(error.strerror)
print(json.dumps([opened, sorted(set(met))]))
"""


@pytest.mark.parametrize("who", ["training", "scorer"])
def test_no_held_out_file_of_a_package_can_be_read_nor_what_it_is_compiled_to(
    who: str, sandbox: str, world: World
) -> None:
    own = world.folder / "own"
    policy = _policy_of(who, world, own)
    root = Path(torch.__file__).parents[1]
    sources = [root / name for name in held_out_packages.HELD_OUT]
    compiled = [path for source in sources for path in source.parent.glob(f"__pycache__/{source.stem}.*.pyc")]
    of_packages = [next((p.parent for p in source.parents if p.name == "tests"), source.parent) for source in sources]
    neighbours = [folder / "__init__.py" for folder in of_packages if (folder / "__init__.py").is_file()]
    assert all(path.is_file() for path in sources) and len(neighbours) > len(sources) / 2
    search = [sys.executable, "-c", OPEN_EACH, json.dumps(list(map(str, (*sources, *compiled, *neighbours))))]
    env = training_environment(training("", world.paths, world.corpus, world.project), own)
    done = subprocess.run(wrap(policy, search, sandbox), env=env, cwd=own, capture_output=True, text=True, check=True)
    shutil.rmtree(own)
    opened, met = json.loads(done.stdout)
    assert set(opened) == set(map(str, neighbours)) and met
    what = f"read the held-out files of packages and what they are compiled to ({who})"
    record("escape", f"packages {who}", what, ", ".join(met), sandbox)


@pytest.mark.parametrize("who", ["training", "scorer"])
def test_the_text_of_the_held_out_documents_is_nowhere_in_a_sandbox(who: str, sandbox: str, world: World) -> None:
    own = world.folder / "own"
    policy = _policy_of(who, world, own)
    documents = _held_out_documents()
    known = set().union(*map(_lines, documents))
    roots = [path for path in policy.read_only if not path.startswith("/sys/")]
    given = {
        "names": [name.rpartition(".")[2] for name in HELD_OUT],
        "documents": list(map(str, documents)),
        "roots": roots,
    }
    search = [sys.executable, "-c", SEARCH, json.dumps(given)]
    env = training_environment(training("", world.paths, world.corpus, world.project), own)
    without = subprocess.run(search, capture_output=True, text=True, check=True).stdout
    done = subprocess.run(wrap(policy, search, sandbox), env=env, cwd=own, capture_output=True, text=True, check=True)
    shutil.rmtree(own)
    found, read = ({Path(path) for path in json.loads(said)[0]} for said in (without, done.stdout))
    copies = {path for path in found if _has_text_of(path, known)}
    assert {path for path in documents if _lines(path)} <= copies and [path for path in copies if path.suffix == ".pyc"]
    assert (copies | set(documents)) & read == set() and read <= found
    what = "read the held-out documents in Python's library, their compiled files and other Pythons"
    record("escape", f"library {who}", f"{what} ({who})", ", ".join(json.loads(done.stdout)[1]), sandbox)


def test_what_is_not_held_out_can_be_imported_in_a_sandbox(sandbox: str, world: World) -> None:
    handover, own = world.paths.handover(0), world.folder / "own"
    for folder in (handover, own):
        folder.mkdir(parents=True)
    policy = training_policy(world.corpus, world.project, handover, own, seconds=60, gpu=False)
    code = (
        "import torch, torch.utils.data, torch.optim, torch._dynamo, torch._inductor.compile_fx, numpy, cloudpickle\n"
        "import asyncio, concurrent.futures.process, dataclasses, decimal, email.message, http.server, json, pdb\n"
        "import logging.handlers, multiprocessing.managers, unittest.mock, urllib.request, IPython\n"
        "import compileall, ipykernel.debugger, ipykernel.kernelapp, jedi, matplotlib.pyplot, pexpect, tiktoken\n"
        "print(pexpect.run('true').decode() + 'imported')\n"
    )
    env = training_environment(training("", world.paths, world.corpus, world.project), own)
    command = wrap(policy, [sys.executable, "-c", code], sandbox)
    done = subprocess.run(command, env=env, cwd=own, capture_output=True, text=True, check=False)
    shutil.rmtree(own)
    assert done.stdout == "imported\n", done.stderr


# --- trainings


class Ran:
    """A training that tried something: how it ended, what it said, and the processes it ever had."""

    def __init__(self, world: World, cell: str, after: str = HAND_OVER, limit: float = 20.0, **limits: Any) -> None:
        self.pids: set[int] = set()
        self.said: list[str] = []
        self.runner = 0
        begun = time.monotonic()
        self.outcome: RunOutcome = run_one(
            PARAMETERS + cell + "\n" + after, world.paths, world.corpus, world.project, time_budget_seconds=limit,
            on_spawn=self._spawned, on_tick=self._look, on_output=self.said.append, limits=limits,
        )  # fmt: skip
        self.seconds = time.monotonic() - begun
        self.reason = self.outcome.reason

    def _spawned(self, pid: int) -> None:
        self.runner = pid

    def _look(self, seconds: float) -> None:
        if self.runner:
            self.pids.update(descendants(self.runner, 2_000))

    def alive(self) -> list[int]:
        """Processes of the run that still are."""
        return [pid for pid in self.pids if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def train(sandbox: str, world: World) -> Callable[..., Ran]:
    """Trains in the sandbox; nothing of it may be alive afterwards, and the study holds no secret."""

    def run(cell: str, *arguments: Any, **options: Any) -> Ran:
        ran = Ran(world, cell, *arguments, **options)
        assert ran.alive() == []
        left = [path for path in world.paths.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        assert left and not [path for path in left if CANARY.encode() in path.read_bytes()]
        return ran

    return run


Train = Callable[..., Ran]


def test_a_fork_bomb_is_defused(train: Train, sandbox: str) -> None:
    cell = "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    ran = train(cell, max_processes=100)
    assert (ran.outcome.status, ran.reason) == (Status.CRASH, "had more than 100 processes, its limit")
    assert ran.seconds < 15
    record("escape", "fork bomb", "fork without end", f"ended: {ran.reason}", sandbox)


def test_a_memory_hog_is_ended_before_the_machine_suffers(train: Train, sandbox: str) -> None:
    cell = (
        "import os, time\nfor _ in range(3): os.fork()\nhoard = []\nwhile True: hoard.append(bytearray(b'x' * 2**24))"
    )
    ran = train(cell, memory_bytes=2**30)
    assert (ran.outcome.status, ran.reason) == (Status.CRASH, "used more than 1.1 GB of memory, its limit")
    record(
        "escape", "memory hog", "eight processes that take memory as fast as they can", f"ended: {ran.reason}", sandbox
    )


def test_memory_that_is_no_process_s_counts(train: Train, sandbox: str) -> None:
    cell = (
        "import os, time\nfds = []\n"
        "for _ in range(400):\n    fds.append(os.memfd_create('x'))\n    os.write(fds[-1], bytes(2**22))\n"
        "time.sleep(60)"
    )
    ran = train(cell, memory_bytes=2**30)
    assert (ran.outcome.status, ran.reason) == (Status.CRASH, "used more than 1.1 GB of memory, its limit")
    record("escape", "memory files", "take memory as files that no process maps", f"ended: {ran.reason}", sandbox)


def test_a_disk_filler_meets_its_quota(train: Train, sandbox: str, world: World) -> None:
    cell = (
        "import os, time\nhandover = os.environ['AUTORESEARCH_HANDOVER']\n"
        "for i in range(10_000):\n    with open(f'{handover}/{i}', 'wb') as file: file.write(bytes(2**20))\n"
        "    time.sleep(0.001)"
    )
    ran = train(cell, writable_bytes=50_000_000)
    assert (ran.outcome.status, ran.reason) == (Status.CRASH, "wrote more than 50 MB to its folders, its limit")
    assert list(world.paths.handover(0).iterdir()) == []
    record("escape", "disk filler", "fill the disk, file by file", f"ended: {ran.reason}", sandbox)


def test_a_deleted_file_that_grows_meets_the_quota_too(train: Train, sandbox: str) -> None:
    cell = (
        "import os, time\npath = os.environ['AUTORESEARCH_HANDOVER'] + '/x'\nfile = open(path, 'wb')\nos.unlink(path)\n"
        "while True:\n    file.write(bytes(2**20)); time.sleep(0.001)"
    )
    ran = train(cell, writable_bytes=50_000_000)
    assert (ran.outcome.status, ran.reason) == (Status.CRASH, "wrote more than 50 MB to its folders, its limit")
    record("escape", "nameless file", "fill the disk with a file that was deleted", f"ended: {ran.reason}", sandbox)


def test_a_giant_file_stops_growing(train: Train, sandbox: str) -> None:
    cell = "open('giant', 'wb').write(bytes(2**24))"
    ran = train(cell, max_file_bytes=2**20)
    assert ran.outcome.status is Status.CRASH and "OSError: [Errno 27] File too large" in ran.reason
    record("escape", "giant file", "write one file past its limit", "refused: File too large", sandbox)


def test_a_daemon_ends_with_its_training(train: Train, sandbox: str) -> None:
    cell = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        os.closerange(0, 100)\n        os.execve('/bin/sleep', ['sleep', '300'], {})\n    os._exit(0)\n"
        "time.sleep(0.3)"
    )
    ran = train(cell)
    assert ran.outcome.status is None and ran.outcome.measured["left_behind"] >= 1
    record("escape", "daemon", "a daemon by two forks, without an environment", "gone with its training", sandbox)


def test_a_training_that_ignores_signals_ends_in_time(train: Train, sandbox: str) -> None:
    cell = (
        "import os, signal, time\nfor number in set(range(1, 32)) - {9, 19}: signal.signal(number, signal.SIG_IGN)\n"
        "os.fork()\nwhile True: time.sleep(1)"
    )
    ran = train(cell, limit=3.0)
    assert (ran.outcome.status, ran.reason[:30]) == (Status.TIMEOUT, "passed its hard limit of 3 s i")
    assert ran.seconds < 10
    record("escape", "ignored signals", "ignore SIGINT, SIGTERM and all others", f"ended: {ran.reason}", sandbox)


def test_an_interrupt_reaches_the_code_in_the_sandbox(train: Train, world: World) -> None:
    ran = train("while True: pass", limit=3.0)
    assert ran.outcome.status is Status.TIMEOUT
    assert "KeyboardInterrupt" in world.paths.notebook(0).read_text()


def test_a_gigabyte_of_prints_is_cut(train: Train, sandbox: str, world: World) -> None:
    cell = "line = 'x' * 1_000_000\nfor _ in range(1000): print(line)"
    ran = train(cell)
    assert ran.outcome.status is None
    size = sum(path.stat().st_size for path in world.paths.folder.rglob("*") if path.is_file())
    assert size < 4_000_000 and len("".join(ran.said)) < 4_000_000
    record("escape", "prints", "print a gigabyte", f"trained; {size / 1e6:.1f} MB kept", sandbox)


FORGED = """
from IPython import get_ipython
kernel = get_ipython().kernel
parent = kernel.get_parent()
def forge(kind, content): kernel.session.send(kernel.iopub_socket, kind, content, parent=parent, ident=kind.encode())
bad = '<script>alert("x")</script>'
forge("display_data", {"data": {"text/html": bad, "image/png": bad, "text/plain": [bad]}, "metadata": {"x": bad}})
forge("display_data", {"data": bad, "metadata": bad})
forge("execute_input", {"execution_count": bad, "code": bad})
forge("stream", {"name": bad, "text": {"a": 1}})
forge("error", {"ename": 1, "evalue": {}, "traceback": bad})
forge("comm_open", {"comm_id": "1", "target_name": "jupyter.widget", "data": {"state": {"value": bad}}})
forge("surprise", {"x": bad})
forge("stream", {"name": "stdout", "text": "half a character \\\\ud800"})
"""


def test_forged_messages_change_nothing(train: Train, sandbox: str, world: World) -> None:
    ran = train(FORGED)
    text = world.paths.notebook(0).read_text()
    assert ran.outcome.status is None, ran.reason
    outputs = [output for cell in read_notebook(world.paths.notebook(0)).cells for output in cell.get("outputs", [])]
    assert outputs and {kind for output in outputs for kind in output.get("data", {})} <= {"text/plain"}
    assert {output.get("name", "stdout") for output in outputs} <= {"stdout", "stderr"}
    assert all(isinstance(cell.get("execution_count", 1), int | None) for cell in json.loads(text)["cells"])
    record("escape", "forged messages", "send what no kernel sends", "kept as text or dropped; trained", sandbox)


def test_a_forged_end_of_a_cell_does_not_make_a_training(train: Train, sandbox: str) -> None:
    cell = (
        "from IPython import get_ipython\nkernel = get_ipython().kernel\nparent = kernel.get_parent()\n"
        "idle = {'execution_state': 'idle'}\n"
        "kernel.session.send(kernel.iopub_socket, 'status', idle, parent=parent, ident=b'status')\n"
        "import os, time; time.sleep(0.2); os._exit(0)"
    )
    ran = train(cell)
    assert ran.outcome.status is Status.CRASH and ran.outcome.artefact is None
    record("escape", "forged end", "say that all cells ran, and exit", f"crash: {ran.reason}", sandbox)


FORGED_REPLIES = {
    "an empty reply": """
send = kernel.session.send
def forge(stream, kind, content=None, *args, **kwargs):
    return send(stream, kind, {} if kind == "execute_reply" else content, *args, **kwargs)
kernel.session.send = forge
""",
    "a payload of numbers": """
send = kernel.session.send
def forge(stream, kind, content=None, *args, **kwargs):
    content = {**content, "payload": [1]} if kind == "execute_reply" else content
    return send(stream, kind, content, *args, **kwargs)
kernel.session.send = forge
""",
    "a state without a state": """
kernel.session.send(kernel.iopub_socket, "status", {}, parent=kernel.get_parent(), ident=b"status")
""",
}


@pytest.mark.parametrize("forged", FORGED_REPLIES)
def test_a_reply_that_no_kernel_sends_is_a_crash_of_the_code_and_no_second_try(
    train: Train, sandbox: str, forged: str
) -> None:
    ran = train("from IPython import get_ipython\nkernel = get_ipython().kernel\n" + FORGED_REPLIES[forged])
    assert ran.outcome.status is Status.CRASH and "a message that no kernel sends" in ran.reason
    record("escape", "forged replies", "answer for the kernel and leave parts out", "crash of the code", sandbox)


@pytest.mark.parametrize("name", ["model.pkl", "handover.json", "metrics.jsonl"])
def test_a_link_in_the_hand_over_leads_nowhere(train: Train, sandbox: str, world: World, name: str) -> None:
    target = world.folder / "cache" / "heldout" / "a" / "val.npy"
    cell = f"(handover / {name!r}).unlink(missing_ok=True)\n(handover / {name!r}).symlink_to({str(target)!r})\n"
    ran = train("pass", HAND_OVER + cell)
    assert not (world.paths.handover(0) / name).exists()
    assert ran.outcome.artefact is None if name != "metrics.jsonl" else ran.outcome.status is None
    record(
        "escape", f"link {name}", f"hand over {name} as a link to the held-out rows", "removed, never opened", sandbox
    )


def test_pipes_in_the_hand_over_hang_nobody(train: Train, sandbox: str, world: World) -> None:
    cell = (
        "import os, time\nfor name in ('metrics.jsonl', 'model.pkl', 'handover.json'):\n"
        "    os.mkfifo(os.environ['AUTORESEARCH_HANDOVER'] + '/' + name)\ntime.sleep(0.5)"
    )
    ran = train(cell, "")
    assert ran.outcome.status is Status.CRASH and "no model.pkl was handed over" in ran.reason and ran.seconds < 10
    assert list(world.paths.handover(0).iterdir()) == []
    record("escape", "pipes", "hand over pipes without a writer", f"crash: {ran.reason}", sandbox)


SECOND_WRITER = """
import subprocess, sys
code = '''
import json, os, time
fake = json.dumps({"exit_code": 0, "left_behind": -5, "total_seconds": 1e-9})
while True:
    open(os.environ["AUTORESEARCH_HANDOVER"] + "/handover.json", "w").write(fake)
    time.sleep(0.01)
'''
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
"""


def test_a_second_writer_of_the_hand_over_changes_no_figure_of_ours(train: Train, sandbox: str) -> None:
    measured = train(SECOND_WRITER).outcome.measured
    assert measured["exit_code"] is None and measured["left_behind"] >= 1 and measured["total_seconds"] > 0.5
    what = "keep writing handover.json from another process"
    record("escape", "second writer", what, "ended; our figures stand", sandbox)


HOSTILE = """
from IPython.display import HTML, SVG, Javascript, Markdown, display
bad = "<script>alert(1)</script><img src=x onerror=alert(1)>"
svg = SVG("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
for show in (HTML(bad), Javascript("alert(1)"), svg, Markdown(bad)):
    display(show)
widget = {"application/vnd.jupyter.widget-view+json": {"model_id": bad}}
display({"text/html": bad, "text/plain": bad, **widget}, raw=True)
handle = display("x", display_id=True)
handle.update(HTML(bad))
print(bad)
"""


def test_hostile_html_stays_text(train: Train, sandbox: str, world: World) -> None:
    from nbconvert import HTMLExporter

    ran = train(HOSTILE)
    assert ran.outcome.status is None, ran.reason
    notebook = read_notebook(world.paths.notebook(0))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert {kind for output in outputs for kind in output.get("data", {})} == {"text/plain"}
    assert "<script>" in str(outputs) and "widgets" not in notebook.metadata
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "alert(1)&lt;/script&gt;" in page and "<script>alert(1)" not in page and "<img src=x" not in page
    record("escape", "html", "show scripts as HTML, SVG, Javascript, Markdown, widget", "kept as text", sandbox)


def test_a_shared_cache_is_no_channel_to_the_next_run(
    train: Train, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
    for name in names:
        monkeypatch.setenv(name, str(shared))
    cell = (
        f"import os, pathlib\nplaces = [pathlib.Path(p) for p in ({str(shared)!r}, '/tmp', '/dev/shm', "
        f"os.path.expanduser('~'), *map(os.environ.get, {names!r}))]\n"
        "print('FOUND' if any((p / 'planted').exists() for p in places) else 'nothing')\n"
        "for p in places:\n    try: p.mkdir(exist_ok=True, parents=True); (p / 'planted').write_text('x')\n"
        "    except OSError: pass\nprint('planted', sum((p / 'planted').exists() for p in places))"
    )
    assert [train(cell).said[0].split("\n")[0] for _ in range(2)] == ["nothing", "nothing"]
    assert list(shared.iterdir()) == []
    record(
        "escape",
        "compile cache",
        "leave something in a compile cache for the next run",
        "the next finds nothing",
        sandbox,
    )


def test_a_secret_of_the_supervisor_is_nowhere_in_the_study(train: Train, sandbox: str, world: World) -> None:
    cell = (
        "import glob, os, subprocess\nprint(dict(os.environ))\n"
        "for path in (p for name in ('environ', 'task/*/environ', 'cmdline') for p in glob.glob('/proc/*/' + name)):\n"
        "    try: print(open(path).read())\n    except OSError as error: print(error)\n"
        "print(subprocess.run('env; ps axeww; cat /proc/1/environ', shell=True, capture_output=True))"
    )
    ran = train(cell)
    assert ran.outcome.status is None and CANARY not in "".join(ran.said) and "PYTHONUTF8" in "".join(ran.said)
    record("escape", "secrets", "print every environment it can find", "no secret in the study", sandbox)


# Tries every way to set the bits, on the artefact and on a new file.
SETUID = """
import ctypes
def attempt(act):
    try: act()
    except OSError as error: print(error)
model, mode = handover / "model.pkl", 0o6755
descriptor = os.open(model, os.O_RDWR)
attempt(lambda: os.chmod(model, mode))
attempt(lambda: os.fchmod(descriptor, mode))
attempt(lambda: os.chmod("model.pkl", mode, dir_fd=os.open(handover, os.O_RDONLY)))
model.unlink()
attempt(lambda: os.mknod(model, mode | 0o100000))
attempt(lambda: os.open(model, os.O_CREAT | os.O_RDWR, mode))
how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_RDWR, mode, 0)
ctypes.CDLL(None).syscall(437, -100, os.fsencode(model), how, 24)  # openat2
if not model.exists(): model.write_bytes(b"weights")
attempt(lambda: os.setxattr(model, "security.capability", bytes([1, 0, 0, 2, 255, 255, 255, 255]) + bytes(12)))
print("modes", {name: oct((handover / name).stat().st_mode & 0o6000) for name in os.listdir(handover)})
"""


def test_no_setuid_file_is_made_in_a_sandbox(train: Train, sandbox: str, world: World) -> None:
    ran = train("pass", HAND_OVER + SETUID)
    assert ran.outcome.status is None, ran.reason
    assert "modes {" in "".join(ran.said) and "'0o0'" in "".join(ran.said)
    assert re.findall(r"'0o[1-9]\d*'", "".join(ran.said)) == []
    found = [path.stat() for path in (world.paths.handover(0), *world.paths.handover(0).iterdir())]
    assert {(stat.st_uid, stat.st_gid) for stat in found} == {(os.geteuid(), os.getegid())}
    assert {oct(stat.st_mode) for stat in found[1:]} == {"0o100644"}
    assert "security.capability" not in os.listxattr(world.paths.artefact(0))
    record("escape", "setuid", "hand over a setuid program, and one with capabilities", "without them", sandbox)


def test_what_else_it_leaves_is_removed(train: Train, sandbox: str, world: World) -> None:
    after = HAND_OVER + "import os\n(handover / 'deep').mkdir()\n(handover / 'deep' / 'x').symlink_to('/')\n"
    after += "os.link(handover / 'model.pkl', handover / 'twin')\n(handover / '.hidden').write_text('x')\n"
    ran = train("pass", after.replace("os.link(handover / 'model.pkl', handover / 'twin')\n", ""))
    assert ran.outcome.status is None
    assert sorted(path.name for path in world.paths.handover(0).iterdir()) == ["handover.json", "model.pkl"]
    record("escape", "left-overs", "leave other files and links beside the hand-over", "removed", sandbox)
