"""Neither the page cache nor names that are not found carry a message between sandboxes.

See "What the kernel remembers" in docs/trust.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65_534
NUM_BITS, MOST = 10_000, 0.52  # guessing gives more in one of 30,000 attempts (four standard deviations)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap and Landlock are Linux's")


Arrived = dict[str, dict[str, float]]


def arrived(folder: Path, sandbox: str, held: bool, num_bits: int, user: int | None = None) -> Arrived:
    """The share of bits that arrived, by direction and way, between sandboxes of this or of another user."""
    found: Arrived = share(folder, sandbox, str(int(held)), num_bits, user)
    assert len(found) == 3 and all(len(ways) >= 3 for ways in found.values())
    return found


def share(folder: Path, sandbox: str, held: str, num_bits: int, user: int | None = None) -> Any:
    """What channels.py prints."""
    start = (
        f"import sys, runpy; sys.path.insert(0, {str(PROJECT)!r}); sys.argv[:1] = ['channels.py']; "
        f"runpy.run_path({str(PROJECT / 'tests/trust/channels.py')!r}, run_name='__main__')"
    )
    folder.mkdir()
    python = [sys.executable]
    if user is not None:
        python = [SYSTEM_PYTHON, "-S"]  # others may be unable to read the interpreter of these tests
        os.chown(folder, user, user)
    command = [*python, "-B", "-c", start, str(folder), sandbox, held, str(num_bits)]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=folder, user=user, group=user,
        extra_groups=None if user is None else [],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_the_holder_bits_arrive(sandbox: str, tmp_path: Path) -> None:
    found = arrived(tmp_path / "world", sandbox, False, 1_000)
    assert all(max(ways.values()) > 0.95 for ways in found.values()), found
    assert found["A to B"].get("atime", 1.0) > 0.95


def test_with_the_holder_receivers_guess(sandbox: str, tmp_path: Path) -> None:
    found = arrived(tmp_path / "world", sandbox, True, NUM_BITS)
    assert max(share for ways in found.values() for share in ways.values()) < MOST, found
    assert min(share for ways in found.values() for share in ways.values()) > 1 - MOST, found


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter for other machines")
def test_a_scorer_without_its_calls_sends_no_names(sandbox: str, tmp_path: Path) -> None:
    with_calls = share(tmp_path / "with", sandbox, "names", 1_000)
    if with_calls < 0.6:
        pytest.skip(f"this file system does not keep names that were not found: {with_calls}")
    assert 1 - MOST < share(tmp_path / "without", sandbox, "no names", NUM_BITS) < MOST


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not os.path.exists(SYSTEM_PYTHON),
    reason="only root can start processes of another user",
)
def test_receivers_of_an_ordinary_user_guess(sandbox: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        os.chmod(name, 0o755)
        assert max(arrived(Path(name, "open"), sandbox, False, 1_000, NOBODY)["A to B"].values()) > 0.95
        found = arrived(Path(name, "world"), sandbox, True, NUM_BITS, NOBODY)
    assert max(share for ways in found.values() for share in ways.values()) < MOST, found
