"""Which worker of a cluster a slot gets: of one whose machine fails although its worker answers, another one's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.run import remote
from autoresearch_kernel.run.connection import NoAnswer
from autoresearch_kernel.run.place import Place
from autoresearch_kernel.run.places import MOST_FAILURES, Places
from autoresearch_kernel.sandbox.policy import memory_limit
from autoresearch_kernel.system.slot import Seat, Slot, present_seat, taking

FIRST = Seat(Slot(0, "alpha"))


@pytest.fixture
def places() -> Places:
    """Two workers of one kind and one of another."""
    connection: Any = SimpleNamespace(workers={"a": 1, "b": 1, "c": 1}, address="tcp://10.0.0.1:8786")
    found = Places(connection)
    found.all = [Place(name, name[0], "p", name, {}, machine) for name, machine in
                 (("alpha", ""), ("beta", ""), ("charlie", "slow"))]  # fmt: skip
    return found


def fail(places: Places) -> str:
    """The name of the worker whose machine has failed."""
    with pytest.raises(MachineFailed), taking(FIRST), places.taking(None) as place:
        raise MachineFailed("The disk of its machine is full.")
    return place.name


def test_a_slot_whose_machine_fails_again_and_again_tries_another_worker_of_its_kind(places: Places) -> None:
    assert [fail(places) for _ in range(MOST_FAILURES)] == ["alpha"] * MOST_FAILURES
    with taking(FIRST), places.taking(None) as place:
        assert place.name == "beta"
    assert [fail(places) for _ in range(MOST_FAILURES)] == ["beta"] * MOST_FAILURES
    assert fail(places) == "alpha", "where all have failed, each is tried in its turn"


def test_a_machine_that_works_again_counts_as_sound(places: Places) -> None:
    assert fail(places) == "alpha"
    with taking(FIRST), places.taking(None) as place:
        assert place.name == "alpha"
    assert [fail(places) for _ in range(MOST_FAILURES)] == ["alpha"] * MOST_FAILURES


def test_a_slot_knows_which_worker_it_has_used_and_which_it_uses_next(places: Places) -> None:
    for place, sandbox in zip(places.all, ("bubblewrap", "landlock", "none"), strict=True):
        place.facts = {"sandbox": sandbox}
    with taking(FIRST):
        assert places.worker() == places.worker(True) == {"sandbox": "bubblewrap"}
    for _ in range(MOST_FAILURES):
        fail(places)
    with taking(FIRST):
        with places.taking(None) as place:
            assert place.name == "beta"
        assert places.worker() == {"sandbox": "landlock"} and places.worker(True) == {"sandbox": "bubblewrap"}
    with taking(Seat(Slot(2, "charlie"))):
        assert places.worker(True) == {"sandbox": "none"}


@pytest.mark.parametrize("shares_processors", [True, False])
def test_slots_of_one_machine_share_its_memory(shares_processors: bool, places: Places) -> None:
    places.all[1].host = "alpha"
    assert [places.num_on(host) for host in ("alpha", "charlie")] == [2, 1]
    whole = memory_limit()
    order = remote.Order(remote.PROCESS, "token", "project", 60.0, shares_processors, places.num_on("alpha"))
    with remote._on_machine(order):
        seat = present_seat()
        assert memory_limit() == whole // 2 and seat is not None and (seat.lock is not None) is shares_processors
    with remote._on_machine(remote.Order(remote.PROCESS, "token", "project", 60.0, False, 1)):
        assert memory_limit() == whole and present_seat() is None


def test_a_worker_that_is_known_is_described_while_its_slot_is_busy(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any, **__: Any) -> None:
        raise NoAnswer("The cluster did not answer within 300 s.")

    def ask(address: str, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    connection: Any = places.connection
    connection.ask, connection.wait = ask, busy
    connection.submit = connection.start = lambda *_: None
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    monkeypatch.setattr(remote, "_described", {})
    (tmp_path / "cluster" / "project").mkdir(parents=True)
    (tmp_path / "cluster" / "project" / "prepare.py").write_text("# the same for both studies")
    places.all[0].process = remote.PROCESS
    with pytest.raises(MachineFailed, match=r"alpha could not be measured within 300 s\. Its slot may be busy"):
        places._describe(places.all[0], "project")
    remote._described[remote.sha256_of(tmp_path / "cluster" / "project" / "prepare.py")] = {"flops": 1e11}
    assert places._describe(places.all[0], "project") == {"flops": 1e11}
