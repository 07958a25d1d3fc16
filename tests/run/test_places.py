"""Which worker of a cluster a slot gets: of one whose machine fails although its worker answers, another one's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.run.place import Place
from autoresearch_kernel.run.places import MOST_FAILURES, Places
from autoresearch_kernel.system.slot import Seat, Slot, taking

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
