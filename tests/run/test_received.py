"""What a worker of a cluster receives and keeps: files that several send at once, and what is in use."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.types import RunOutcome
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run import connection, received, remote
from autoresearch_kernel.run.connection import Connection
from autoresearch_kernel.run.received import keep_newest
from autoresearch_kernel.run.training import Listener, Training
from tests.trainings import training

DATA = bytes(range(256)) * 4
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "corpora/0123/test/train.bin"
AN_HOUR_AGO = time.time() - 3700.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what a worker, this process, receives."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    return tmp_path / "cluster"


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection whose only worker is this process, to which a file travels in 8 parts, slowly."""
    monkeypatch.setattr(connection, "CHUNK_BYTES", len(DATA) // 8)
    monkeypatch.setattr(connection, "POLL_SECONDS", 0.005)
    found = Connection("tcp://pretended:1", 10.0)

    def ask(address: str, function: Any, *arguments: Any, tick: Any = None) -> Any:
        time.sleep(0.005)
        return asyncio.run(function(*arguments))

    monkeypatch.setattr(found, "ask", ask)
    yield found
    found.close()


def test_two_slots_of_a_worker_that_lacks_a_file_get_it_once(
    supervisor: Connection, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    ask = supervisor.ask

    def counted(address: str, function: Any, *arguments: Any, tick: Any = None) -> Any:
        parts.extend([arguments[1]] if function is received.put else [])
        return ask(address, function, *arguments, tick=tick)

    monkeypatch.setattr(supervisor, "ask", counted)
    failures: list[BaseException] = []
    ticks: list[int] = []

    def send() -> None:
        try:
            supervisor.send("a", {NAME: DATA}, lambda: ticks.append(1))
        except BaseException as failure:
            failures.append(failure)

    slots = [threading.Thread(target=send) for _ in range(4)]
    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join()
    assert failures == [] and len(parts) == 8 and ticks, "whoever waits obeys its user meanwhile"
    assert (home / NAME).read_bytes() == DATA and [path.name for path in (home / NAME).parent.iterdir()] == [
        "train.bin"
    ]


def test_a_send_that_fails_keeps_nobody_from_sending(
    supervisor: Connection, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match="network"):
        patch.setattr(supervisor, "_transfer", lambda *_: (_ for _ in ()).throw(OSError("no network")))
        supervisor.send("a", {NAME: DATA})
    supervisor.send("a", {NAME: DATA})
    assert (home / NAME).read_bytes() == DATA


def test_two_supervisors_may_send_a_worker_the_same_file(home: Path) -> None:
    def put(transfer: str, part: int) -> None:
        size = len(DATA) // 4
        data = DATA[part * size : (part + 1) * size]
        asyncio.run(received.put(NAME, part * size, data, len(DATA), SHA256, transfer))

    for part in range(4):  # the second one begins when the first one has sent half, and is slower
        put("one", part)
        if part > 1:
            put("other", part - 2)
    assert (home / NAME).read_bytes() == DATA
    put("other", 2)
    put("other", 3)
    assert (home / NAME).read_bytes() == DATA and len(list((home / NAME).parent.iterdir())) == 1


def test_what_a_transfer_has_left_that_was_cut_off_is_removed(home: Path) -> None:
    for transfer in ("old", "new"):
        asyncio.run(received.put(NAME, 0, DATA[:9], len(DATA), SHA256, transfer))
    (old,) = (home / NAME).parent.glob(".*old.part")
    os.utime(old, (AN_HOUR_AGO, AN_HOUR_AGO))
    asyncio.run(received.put(NAME, 0, DATA, len(DATA), SHA256, "again"))
    assert sorted(path.name for path in (home / NAME).parent.iterdir()) == [
        f".train.bin.{SHA256[:8]}-new.part", "train.bin",
    ]  # fmt: skip


# --- what is in use


def age(path: Path) -> None:
    """As if nobody had touched it, and what lies in it, for an hour."""
    for entry in (path, *path.rglob("*")):
        os.utime(entry, (AN_HOUR_AGO, AN_HOUR_AGO))


def order(token: str) -> remote.Order:
    return remote.Order(remote.PROCESS, token, "projects/p", 60.0, False, 1)


def train(name: str, run: int, home: Path) -> None:
    asked = training("", ExperimentPaths(Path()), home, Path(), run=run, seed=1, token=f"{name}-{run}")
    remote.train(order(asked.token), asked, f"studies/nov23/experiments/{name}", str(home))


@pytest.mark.parametrize("others", [["0002", "0003", "0004", "0005"], ["0001"]], ids=["experiments", "runs"])
def test_trainings_on_one_folder_leave_those_alone_that_are_in_work(
    others: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = home / "projects/p/studies/nov23/experiments"
    for name in ("0000", "0001"):
        (experiments / name / "handover-99").mkdir(parents=True)
    age(experiments)
    monkeypatch.setattr(remote, "KEPT_EXPERIMENTS", 2)
    monkeypatch.setattr(remote, "KEPT_FILES", 4)
    monkeypatch.setattr(remote, "TOUCH_SECONDS", -1.0)
    todo = [("0001", 0), *((name, run) for run in (1, 2) for name in others)]
    in_work: list[Listener] = []
    found: list[bool] = []

    def pretended(asked: Training, listener: Listener) -> RunOutcome:
        """Takes long, so that all of the others begin meanwhile."""
        asked.paths.handover(asked.run).mkdir()
        asked.paths.notebook(asked.run).touch()
        age(asked.paths.folder)
        in_work.append(listener)
        for each in in_work:
            assert each.on_tick is not None
            each.on_tick(1.0)
        if todo:
            train(*todo.pop(0), home)
        found.append(asked.paths.notebook(asked.run).is_file() and asked.paths.handover(asked.run).is_dir())
        return RunOutcome(None, "", None, None)

    monkeypatch.setattr(remote, "run_training", pretended)
    train(*todo.pop(0), home)
    assert found == [True] * len(found) and len(found) == 1 + 2 * len(others)
    unused = experiments / ("0000" if len(others) > 1 else "0001/handover-99")
    assert not unused.exists(), "what nobody uses is removed"


def test_the_newest_of_what_nobody_uses_is_kept(home: Path) -> None:
    for i in range(4):
        (home / f"{i}").mkdir(parents=True)
        os.utime(home / f"{i}", (AN_HOUR_AGO + i, AN_HOUR_AGO + i))
    keep_newest(home, 3)
    received.touch(home / "1")
    keep_newest(home, 1)
    assert sorted(path.name for path in home.iterdir()) == ["1"]


def test_a_model_that_was_removed_before_it_is_scored_is_the_machines_fault(home: Path) -> None:
    question: Any = SimpleNamespace(artefact="projects/p/studies/nov23/experiments/0001/handover/model.pkl")
    with pytest.raises(MachineFailed, match="model"):
        remote.score_model(order("t"), question)
