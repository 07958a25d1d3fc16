"""Which sandbox is found, what it is told to do, and that nothing runs without one unasked. Escapes: tests/trust."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.sandbox import bubblewrap
from autoresearch_kernel.sandbox.bubblewrap import OTHER_USER, may_be_left_to
from autoresearch_kernel.sandbox.kinds import SandboxMissing, ScorerSandbox, command, probe, require_sandbox, wrap
from autoresearch_kernel.sandbox.policy import (
    Policy,
    hidden_paths,
    memory_limit,
    readable_parts,
    scoring_policy,
    training_policy,
)
from autoresearch_kernel.sandbox.probe import find_sandbox
from autoresearch_kernel.sandbox.watchdog import Watchdog
from autoresearch_kernel.system.seccomp import program
from autoresearch_kernel.system.untrusted_files import remove_tree

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_sandbox_nothing_runs_and_the_error_says_how_it_could(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", "seatbelt" if sys.platform == "linux" else "bubblewrap")
    assert probe().name == "none" and probe().missing
    with pytest.raises(SandboxMissing, match=r"(?s)without a sandbox\. .*--unsafe"):
        require_sandbox()


def test_no_sandbox_at_all_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", "none")
    assert require_sandbox().name == "none" and wrap(Policy(), ["true"]) == ["true"]
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", "cardboard")
    with pytest.raises(ValueError, match="'cardboard': use one of bubblewrap, landlock"):
        probe()


def test_a_temporary_folder_too_long_for_sockets_is_said_to_be(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    code = "from autoresearch_kernel.sandbox.kinds import require_sandbox; require_sandbox()"
    env = {k: v for k, v in os.environ.items() if k != "AUTORESEARCH_SANDBOX"} | {"TMPDIR": str(long)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert "SandboxMissing" in done.stderr and "Set TMPDIR to a folder with a short name." in done.stderr


def test_a_folder_that_holds_something_hidden_is_allowed_in_pieces(tmp_path: Path) -> None:
    for name in ("a/b/secret", "a/b/open", "a/c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "b" / "secret")
    hidden = (tmp_path / "a" / "b" / "secret",)
    assert readable_parts(tmp_path / "a", hidden) == [tmp_path / "a" / "b" / "open", tmp_path / "a" / "c"]
    assert readable_parts(tmp_path / "a" / "c", hidden) == [tmp_path / "a" / "c"]


def test_a_checkout_is_never_allowed_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "prepare.py").touch()
    policy = training_policy(tmp_path / "c", tmp_path, tmp_path / "h", tmp_path / "o", seconds=1, gpu=False)
    allowed = [Path(path) for path in policy.read_only]
    forbidden = [ROOT / ".git", tmp_path / "studies", Path.home() / ".ssh", *hidden_paths(tmp_path)]
    assert [(a, f) for a in allowed for f in forbidden if a == f or a in f.parents] == []
    assert ROOT / "autoresearch_kernel" in allowed and tmp_path / "prepare.py" in allowed
    assert 2**28 < memory_limit() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_an_artefact_that_is_a_link_is_not_scored(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="not a plain file"):
        scoring_policy(tmp_path / "model.pkl", ROOT, None, gpu=False)


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
def test_a_scorer_reads_its_artefact_and_leaves_nothing(
    sandbox: str, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where root starts it in bubblewrap, another user scores what that user may read."""
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", sandbox)
    if probe().name != sandbox:
        pytest.skip(probe().why())
    for name in ("model.pkl", "other.pkl"):
        (tmp_path / name).write_text("weights")
        (tmp_path / name).chmod(mode)
    code = (
        "import os, sys, tempfile, prepare\n"
        "from autoresearch_kernel.system.processes import die_with_parent\ndie_with_parent(int(sys.argv[1]))\n"
        f"print(open({str(tmp_path / 'model.pkl')!r}).read(), len(tempfile.mkdtemp()) > 0)\n"
        f"try: open({str(tmp_path / 'other.pkl')!r})\nexcept OSError: print('closed')\n"
        "print(os.getuid())"
    )
    wrapper = ScorerSandbox(ROOT)
    command = wrapper([sys.executable, "-c", code, str(os.getpid())], tmp_path / "model.pkl")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    user = OTHER_USER if os.geteuid() == 0 and sandbox == "bubblewrap" and mode == 0o644 else os.geteuid()
    assert done.stdout == f"weights True\nclosed\n{user}\n", done.stderr
    scratch = list(wrapper._folders)
    del wrapper
    assert not any(map(os.path.exists, scratch))


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
def test_a_command_starts_in_a_folder_that_is_closed_to_others(
    sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_SANDBOX", sandbox)
    if probe().name != sandbox:
        pytest.skip(probe().why())
    places = [tmp_path / name for name in ("corpus", "handover", "own")]
    places[0].mkdir()
    for place in places[1:]:
        place.mkdir(mode=0o700)
    (places[2] / "given").write_text("x")
    (places[2] / "given").chmod(0o600)
    policy = training_policy(places[0], ROOT, *places[1:], seconds=20, gpu=False)
    code = (
        "import os; os.mkdir('deep'); os.rename('given', 'deep/given')\n"
        "open(os.environ['HANDOVER'] + '/copy', 'w').write(open('deep/given').read()); print(os.getcwd(), os.getuid())"
    )
    env = {"PATH": os.environ["PATH"], "HANDOVER": str(places[1])}
    done = subprocess.run(wrap(policy, [sys.executable, "-c", code]), env=env, cwd=places[2], capture_output=True)
    user = OTHER_USER if os.geteuid() == 0 and sandbox == "bubblewrap" else os.geteuid()
    assert done.stdout.decode() == f"{places[2]} {user}\n", done.stderr
    assert (places[1] / "copy").read_text() == "x"


@pytest.mark.parametrize(("mode", "may_be"), [(0o644, True), (0o600, False)])
def test_packages_that_are_closed_to_others_keep_the_user(
    mode: int, may_be: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "ipykernel").mkdir(mode=0o755)
    (tmp_path / "ipykernel" / "__init__.py").touch(mode)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert may_be_left_to(os.geteuid(), Policy()) is may_be


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_where_root_cannot_become_another_user_the_report_says_so() -> None:
    def refused(policy: Policy, argv: list[str], name: str, user: int | None) -> list[str]:
        return command(policy, argv, name, user) if user is None else ["sh", "-c", "echo no such user >&2; exit 1"]

    if find_sandbox("bubblewrap", command).name != "bubblewrap":
        pytest.skip("there is no bubblewrap")
    report = find_sandbox("bubblewrap", refused)
    assert (report.name, report.user, report.missing[0][:2]) == (
        "bubblewrap", None, ("another user for what root starts", "no such user"),
    )  # fmt: skip
    assert "ordinary user" in report.why() and "no rights of root" not in report.enforced


@pytest.mark.parametrize("is_shown", [os.path.isdir, os.path.isfile], ids=["folders", "files"])
def test_a_sandbox_that_shows_held_out_text_does_not_hold(is_shown: Callable[[str], bool]) -> None:
    """Tests of a package are hidden as one folder, other held-out files one by one."""

    def leaky(policy: Policy, argv: list[str], name: str, user: int | None) -> list[str]:
        hidden = tuple(path for path in policy.hidden if not is_shown(path))
        assert len(hidden) < len(policy.hidden)
        return command(replace(policy, hidden=hidden), argv, name, user)

    if find_sandbox("bubblewrap", command).name != "bubblewrap":
        pytest.skip("there is no bubblewrap")
    report = find_sandbox("bubblewrap", leaky)
    assert report.name == "none" and "did not hold: no held-out document" in report.why()


def test_bubblewrap_shows_no_counter_and_no_setting_of_the_machine_but_the_listed_ones(tmp_path: Path) -> None:
    code = (
        "import os\nfor folder, folders, names in os.walk('/proc'):\n"
        "    if folder == '/proc': folders[:] = [n for n in folders if not n.isdecimal()]\n"
        "    for name in names:\n"
        "        path = os.path.join(folder, name)\n"
        "        try: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))\n"
        "        except OSError: continue\n"
        "        print(path)\n"
        "print(*sorted(os.listdir('/sys')), *sorted(os.listdir('/sys/devices/system')))"
    )
    policy = training_policy(tmp_path / "c", ROOT, tmp_path, tmp_path, seconds=20, gpu=False)
    if (report := find_sandbox("bubblewrap", command)).name != "bubblewrap":
        pytest.skip(report.why())
    python = [os.path.realpath(sys.executable), "-I", "-S", "-c", code]
    done = subprocess.run(command(policy, python, "bubblewrap", report.user), capture_output=True, text=True, cwd="/")
    *shown, in_sys = done.stdout.splitlines()
    listed = {f"/proc/{name}" for name in bubblewrap.IN_PROC} | {f"/proc/sys/{name}" for name in bubblewrap.SETTINGS}
    own = {"/proc/mounts", *(f"/proc/sysvipc/{name}" for name in ("msg", "sem", "shm"))}  # of the sandbox itself
    assert {"/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory"} <= set(shown) <= listed | own
    assert set(in_sys.split()) <= {"devices", "fs", "kernel", "system", "cpu", "node"}, done.stderr


def test_a_step_that_fails_starts_nothing(tmp_path: Path) -> None:
    spec = '{"limits": {}, "max_tasks": 0, "user": null, "folders": ["/dev/null/x"], "links": {}, "env": {}}'
    confine = ROOT / "autoresearch_kernel" / "sandbox" / "confine.py"
    command = [sys.executable, "-I", "-S", str(confine), spec, "touch", str(tmp_path / "started")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 125 and "could not be closed (set-up)" in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_filter_is_known_for_two_machines_and_no_jump_is_too_far() -> None:
    for machine in ("x86_64", "aarch64"):
        for has_namespaces in (True, False):
            code = program(has_namespaces, machine)
            assert code[-8:] == program(True, "x86_64")[-8:] and 100 < len(code) // 8 < 4096
    assert program(True, "s390x") == b""


def test_the_watchdog_is_quiet_within_its_limits_and_names_the_one_that_is_passed(tmp_path: Path) -> None:
    me = os.getpid()
    assert Watchdog(me, Policy(memory_bytes=2**45, writable=(str(tmp_path),))).check() == ""
    assert Watchdog(me, Policy(memory_bytes=2**20)).check() == "used more than 1 MB of memory, its limit"
    (tmp_path / "x").write_bytes(b"x" * 2_000_000)
    small = Policy(writable=(str(tmp_path),), writable_bytes=1_000_000)
    assert Watchdog(me, small).check() == "wrote more than 1 MB to its folders, its limit"


def test_what_the_watchdog_cannot_count_is_a_limit_passed(tmp_path: Path) -> None:
    deep, long, closed = (tmp_path / name for name in ("deep", "long", "closed"))
    (deep / "/".join(["d"] * 101)).mkdir(parents=True)
    assert look_at(deep) == "made folders in folders, more than 100 deep, its limit"
    long.mkdir()
    here = os.open(long, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=here)
        inner = os.open("n" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert look_at(long) == "made a path that is too long to look at, its limit"
    remove_tree(long)
    (closed / "inner").mkdir(parents=True)
    (closed / "inner").chmod(0)
    can_look = os.access(closed / "inner", os.R_OK)  # as root can
    assert look_at(closed) == ("" if can_look else "made a folder that cannot be looked into (Permission denied)")


def look_at(folder: Path) -> str:
    return Watchdog(os.getpid(), Policy(writable=(str(folder),))).check()


@pytest.mark.parametrize("home", ["/nonexistent", "/", "closed"])
def test_a_home_that_is_not_there_costs_no_sandbox(home: str, tmp_path: Path) -> None:
    if home == "closed":
        (tmp_path / "home").write_text("a file, which cannot be listed")
        home = str(tmp_path / "home")
    code = (
        "from autoresearch_kernel.sandbox.kinds import probe; r = probe(); print(r.name, 'no files' in str(r.enforced))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"HOME": home}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [probe().name, str("no files" in str(probe().enforced))]


@pytest.mark.parametrize("script", ["exec sleep 100", "sleep 100", "case $1 in --help) exit 0;; esac; sleep 100"])
def test_a_bwrap_that_hangs_is_named_and_the_next_kind_is_tried(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a child of its own, `sleep` would keep the pipes of a bwrap that was killed open."""
    hanging = tmp_path / "bwrap"
    hanging.write_text(f"#!/bin/sh\n{script}\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(bubblewrap, "HELP_SECONDS", 0.5)
    monkeypatch.setattr("autoresearch_kernel.sandbox.probe.PROBE_SECONDS", 3.0)
    begun = time.monotonic()
    report = find_sandbox("", command)
    assert time.monotonic() - begun < 20
    ((name, reason, remedy), *_) = report.missing
    assert name == "bubblewrap" and reason.startswith(f"{hanging} did not end within") and "bwrap --version" in remedy


def test_a_home_at_the_root_hides_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/")
    assert Path("/") not in hidden_paths(tmp_path)
    assert readable_parts(Path("/usr"), hidden_paths(tmp_path))
