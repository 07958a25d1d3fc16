"""The template: what its children share with each other (nothing), and what happens without it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.sandbox import template
from autoresearch_kernel.sandbox.kinds import probe, wrap
from autoresearch_kernel.sandbox.policy import Policy, scoring_policy
from autoresearch_kernel.system.environment import environment
from autoresearch_kernel.system.locations import PROJECT
from autoresearch_kernel.system.start import python_command

ROOT = Path(__file__).parents[2]
# What a process is allowed to do, as the system shows it, without numbers that differ from process to process.
RIGHTS = """
import json, os, re, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
kept = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask",
        "Seccomp_filters", "SigIgn", "SigBlk", "PPid")
mounts = [line.split(" ") for line in open("/proc/self/mountinfo")]
print(json.dumps({
    **{name: status[name].split() for name in kept},
    "mounts": [[m[3], m[4], m[5], *m[-3:-1]] for m in mounts],
    "limits": [resource.getrlimit(i) for i in range(16)],
    "environment": {name: value for name, value in os.environ.items() if name != "LC_CTYPE"},
    "folders": [os.getcwd(), os.path.realpath("/proc/self/root"), sorted(os.listdir("/tmp"))],
    "dumpable": os.stat("/proc/self/environ").st_uid, "session": os.getsid(0) == os.getpid(),
    "oom": open("/proc/self/oom_score_adj").read(), "first": os.stat("/proc/1").st_uid,
}))
"""
# What the next child must not find, then what this one finds and leaves.
SHARED = """
import builtins, glob, json, os, random, sys, tempfile
forked = "torch" in sys.modules
import numpy, torch
found = {
    "memory": getattr(torch, "left", None) or getattr(builtins, "left", None) or os.environ.get("LEFT"),
    "files": glob.glob("/tmp/left*") + glob.glob("/dev/shm/*"), "random": random.random(),
    "numpy": float(numpy.random.rand()), "temporary": tempfile.mktemp(), "torch": torch.initial_seed(),
    "descriptors": sorted(set(os.listdir("/proc/self/fd")) - {"0", "1", "2", "3"}),
    "threads": len(os.listdir("/proc/self/task")),
    "namespaces": {n: os.readlink("/proc/self/ns/" + n) for n in ("pid", "ipc", "mnt", "net", "uts")},
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()), "modules": len(sys.modules),
    "forked": forked,
}
torch.left = builtins.left = os.environ["LEFT"] = "a bit"
torch.manual_seed(5)
open("/tmp/left", "w").write("a bit")
open("/dev/shm/left", "w").write("a bit")
print(json.dumps(found))
"""

# Reads the blocks of the inherited heap that its last word marks with 1, so that the system marks their pages.
MARK = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
heap = next(line for line in open("/proc/self/maps") if "[heap]" in line)
size = 64 * 4096
first = int(heap.split("-")[0], 16) + 16 * size
blocks = [first + i * size for i in range(16)]
for block, bit in zip(blocks, sys.argv[-1]):
    if bit == "1":
        assert libc.madvise(ctypes.c_void_p(block), ctypes.c_size_t(size), 22) == 0
"""
# Shows how much of each block is marked. Every second one gets a setting of its own, so that each is an own area.
SHOW_MARKS = (
    MARK
    + """
for block in blocks[::2]:
    libc.madvise(ctypes.c_void_p(block), ctypes.c_size_t(size), 16)
marked, area = {}, 0
for words in map(str.split, open("/proc/self/smaps")):
    if not words[0].endswith(":"):
        area = int(words[0].split("-")[0], 16)
    elif words[0] == "Referenced:":
        marked[area] = int(words[1])
print([marked[block] > size / 2048 for block in blocks[:-1]])
"""
)


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    if probe().name != "bubblewrap":
        pytest.skip("only sandboxes of bubblewrap have a template")
    (tmp_path / "model.pkl").write_bytes(b"weights")
    return scoring_policy(tmp_path / "model.pkl", ROOT, None, gpu=False)


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(policy: Policy) -> Iterator[Run]:
    """Runs code in a sandbox of its own, by a child of the template where there is one."""

    def run(code: str, change: Callable[[list[str]], None] = lambda command: None) -> subprocess.CompletedProcess[str]:
        command = wrap(policy, python_command("-c", code))
        change(command)
        env = environment("t") | {PROJECT: str(ROOT)}
        return subprocess.run(command, env=env, cwd="/usr", capture_output=True, text=True, timeout=120)

    yield run


def said(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_children_of_one_template_share_nothing(run: Run) -> None:
    first, second = said(run(SHARED)), said(run(SHARED))
    assert first["forked"] and second["forked"]
    for found in (first, second):
        assert found["memory"] is None and found["files"] == [] and found["descriptors"] == []
        assert found["threads"] == 1 and found["processes"] == [1, 3]
    for name in ("random", "numpy", "temporary"):
        assert first[name] != second[name], name
    assert first["torch"] == second["torch"]  # that of every new process; a kernel is seeded by its experiment
    assert first["modules"] == second["modules"]


def test_no_child_sees_which_memory_an_earlier_one_read(policy: Policy) -> None:
    """Also the second child of a template, whose pages none but the first one has used."""
    env = environment("t") | {PROJECT: str(ROOT)}
    for num_before in range(3):
        template.release()
        seen = []
        for code, bits in (*[("pass", "")] * num_before, (MARK, "1011001110001110"), (SHOW_MARKS, "")):
            command = wrap(policy, python_command("-c", code, bits))
            done = subprocess.run(command, env=env, cwd="/usr", capture_output=True, text=True, timeout=120, check=True)
            seen.append(done.stdout.strip())
        assert seen[-1] in (str([True] * 15), str([False] * 15)), num_before


def test_two_children_at_the_same_time_are_in_different_namespaces(policy: Policy) -> None:
    code = SHARED + "\nsys.stdout.flush(); sys.stdin.read()"
    env = environment("t") | {PROJECT: str(ROOT)}
    children = [
        subprocess.Popen(wrap(policy, python_command("-c", code)), env=env, cwd="/usr", stdin=-1, stdout=-1, text=True)
        for _ in range(2)
    ]
    try:
        found = [json.loads(child.stdout.readline()) for child in children]  # type: ignore[union-attr]
        own = {name: os.readlink(f"/proc/self/ns/{name}") for name in found[0]["namespaces"]}
        for name in own:
            assert len({found[0]["namespaces"][name], found[1]["namespaces"][name], own[name]}) == 3, name
    finally:
        for child in children:
            child.communicate()


def test_a_forked_child_has_the_rights_of_a_started_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    forked = said(run(RIGHTS))
    monkeypatch.setenv(template.TEMPLATE, "none")
    started = said(run(RIGHTS))
    forked["mounts"], started["mounts"] = sorted(forked["mounts"]), sorted(started["mounts"])
    assert {name for name in started if started[name] != forked[name]} == set()
    assert started["CapEff"] == ["0000000000000000"] and started["Seccomp"] == ["2"] and started["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("import os; os._exit(0)", 0),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
        ("import ctypes; ctypes.string_at(0)", 128 + 11),
        ("import os; os.fork() or os.setsid() or __import__('time').sleep(60); raise SystemExit(4)", 4),
    ],
)
def test_the_exit_status_is_that_of_the_program_and_nothing_outlives_it(run: Run, code: str, status: int) -> None:
    begun = time.monotonic()
    assert run(code).returncode == status
    assert time.monotonic() - begun < 30


def test_a_child_ends_with_the_command_that_asked_for_it(policy: Policy) -> None:
    command = wrap(policy, python_command("-c", "import os, time; print('here', flush=True); time.sleep(60)"))
    env = environment("t") | {PROJECT: str(ROOT)}
    with subprocess.Popen(command, env=env, cwd="/usr", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        process.kill()
        assert process.stdout.read() == ""  # the pipe has ended, so the child has


def test_a_template_that_died_is_replaced(run: Run) -> None:
    assert said(run(SHARED))["forked"]
    old = template._templates[0].process
    old.send_signal(signal.SIGKILL)
    old.wait()
    assert said(run(SHARED))["forked"] and template._templates[0].process.pid != old.pid


def test_a_template_that_hangs_is_replaced_once_and_the_user_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "FORK_SECONDS", 1.0)
    monkeypatch.setattr(template, "_hangs", 0)
    assert said(run(SHARED))["forked"]
    for then, forked in (("it is replaced", True), ("from here on they start by themselves", False)):
        old = template._templates[0].process
        old.send_signal(signal.SIGSTOP)
        with pytest.warns(UserWarning, match=f"gave no answer within 1 s; {then}"):
            assert said(run(SHARED))["forked"] is forked
        assert old.poll() is not None
    assert not template._templates


def test_what_an_import_writes_is_no_failure_of_a_child(tmp_path: Path) -> None:
    (tmp_path / "talkative.py").write_text("import sys\nprint('a warning of a library', file=sys.stderr)\n")
    one = template.Template(environment("t") | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}, ["talkative"])
    try:
        assert one.wait() == "" and one.answers() and one.new_error() == ""
    finally:
        one.close()


def test_the_user_is_told_why_a_child_of_the_template_failed(run: Run) -> None:
    """A process that is in no sandbox asks, and is refused."""
    assert said(run(SHARED))["forked"]
    one = template._templates[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(one.socket))
        assert connection.recv(1) == template.GO
        with open(os.devnull) as null:
            socket.send_fds(connection, [b"{}"], [null.fileno()] * 3)
        assert connection.recv(64) == b""
    with pytest.warns(UserWarning, match="started by itself.*is in no sandbox with namespaces of its own"):
        assert said(run(SHARED))["forked"]


def test_a_program_starts_by_itself_when_the_template_dies_after_it_was_chosen(run: Run) -> None:
    def kill(command: list[str]) -> None:
        template.release()

    assert not said(run(SHARED, kill))["forked"]


def test_a_program_starts_by_itself_when_the_template_does_not_serve_it(run: Run, tmp_path: Path) -> None:
    """Something else listens there, and closes every connection."""
    code = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.bind(sys.argv[1]); s.listen(); print('ready', flush=True)\nwhile True: s.accept()[0].close()"
    )
    path = str(tmp_path / "s")
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"

        def change(command: list[str]) -> None:
            command[command.index("ask") + 1] = path

        try:
            assert not said(run(SHARED, change))["forked"]
        finally:
            server.kill()


def test_a_program_starts_by_itself_when_the_template_hangs_and_its_queue_is_full(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(path)
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        waiting.connect(path)

        def change(command: list[str]) -> None:
            command[command.index("ask") + 1] = path

        begun = time.monotonic()
        assert not said(run(SHARED, change))["forked"]
        assert time.monotonic() - begun < 60


def test_none_is_started_where_that_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(template.TEMPLATE, "none")
    assert not said(run(SHARED))["forked"]


def test_a_thread_that_lives_on_after_a_fork_is_refused(tmp_path: Path) -> None:
    (tmp_path / "with_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    env = environment("t") | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    one = template.Template(env, ["with_thread"])
    assert "2 threads run after the import of with_thread" in one.wait() and not one.is_alive()


def test_a_module_that_cannot_be_imported_is_no_failure_of_a_study(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    template.release()
    monkeypatch.setattr(template, "_problems", {})
    monkeypatch.setattr(template.Template.__init__, "__defaults__", (("no_such_module",),))
    with pytest.warns(UserWarning, match="are not forked but started.*no_such_module"):
        assert not said(run(SHARED))["forked"]
    assert "no_such_module" in template.why_no_template()
