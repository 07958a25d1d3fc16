"""Workers that join a cluster while a study runs, on a pretended scheduler: which become slots, and which do not."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.core.version import __version__
from autoresearch_kernel.run.backend import Joined
from autoresearch_kernel.run.connection import ClusterRefused
from autoresearch_kernel.run.newcomers import Newcomers
from autoresearch_kernel.run.place import Place
from autoresearch_kernel.run.places import Places
from autoresearch_kernel.system.slot import Seat, taking

FACTS: dict[str, Any] = {
    "device": "cuda", "device_name": "A100", "dtype": "bfloat16", "memory_mb": 81920, "flops": 1e14,
}  # fmt: skip
VERSIONS = {"autoresearch-kernel": __version__, "python": "3.12.0", "torch": "2.13.0"}


class Pretended:
    """A connection to a scheduler with these workers; the name of a worker is its address up to a dot."""

    address = "tcp://pretended:1"

    def __init__(self) -> None:
        self.workers: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, str] = {}  # of this package, where it is another one
        self.facts: dict[str, dict[str, Any]] = {}
        self.slots: dict[str, int] = {}
        self.measured: list[str] = []

    def start(
        self,
        address: str,
        host: str | None = None,
        *,
        slots: int = 1,
        where: dict[str, Any] | None = None,
        sandbox: str = "bubblewrap",
        **facts: Any,
    ) -> None:
        where = {"host": host or address, "part": ("0", None, (0, 1)), "lock": f"lock of {address}"} | (where or {})
        said = {"process": f"process {address}", "versions": VERSIONS, "packages": VERSIONS, "sandbox": sandbox} | where
        self.workers = self.workers | {address: said}
        self.facts[address], self.slots[address] = FACTS | facts, slots

    def end(self, address: str) -> None:
        self.workers = {other: said for other, said in self.workers.items() if other != address}

    @staticmethod
    def name(address: str) -> str:
        return address.partition(".")[0]

    def num_slots(self, address: str) -> int:
        return self.slots[address] if address in self.workers else 0

    def ask_all(self, addresses: Collection[str], function: Any, *arguments: Any) -> dict[str, Any]:
        if function is pkgutil.resolve_name:
            return {address: self.versions.get(address, __version__) for address in addresses}
        return {address: dict(self.workers[address]) for address in addresses}

    def send(self, *_: Any) -> None:
        pass


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """Two workers, alpha and beta, on machines of their own."""
    pretended = Pretended()

    def describe(places: Places, place: Place, mirror: str, is_again: bool = False) -> dict[str, Any]:
        pretended.measured.append(place.name)
        return pretended.facts[place.address]

    monkeypatch.setattr(Places, "_describe", describe)
    for name in ("alpha", "beta"):
        pretended.start(name)
    return pretended


@pytest.fixture
def places(there: Pretended, tmp_path: Path) -> Places:
    found = Places(there)  # type: ignore[arg-type]
    found.find(tmp_path)
    there.measured.clear()
    return found


@pytest.fixture
def newcomers(places: Places, tmp_path: Path) -> Newcomers:
    return Newcomers(places, tmp_path)


def news(newcomers: Newcomers, kinds: Collection[str] = ("",)) -> list[Joined]:
    """All that joins, until no worker is measured and none is new."""
    found, deadline, num_idle = [], time.monotonic() + 20.0, 0
    while num_idle < 3 and time.monotonic() < deadline:
        joined = newcomers.joined(kinds)
        num_idle = num_idle + 1 if newcomers._measuring is None else 0
        found += [joined] if joined != Joined() else []
        time.sleep(0.001)
    assert num_idle == 3, "it was measured for ever"
    return found


def names(found: list[Joined]) -> list[tuple[int, str]]:
    return [(slot.index, slot.name) for joined in found for slot in joined.slots]


def test_a_worker_that_joins_becomes_a_slot_once(there: Pretended, newcomers: Newcomers) -> None:
    assert news(newcomers) == [] and there.measured == []
    there.start("gamma")
    there.start("delta", slots=2, where={"lock": ""})
    assert names(news(newcomers)) == [(2, "gamma"), (3, "delta #1"), (4, "delta #2")]
    assert news(newcomers) == [] and there.measured == ["gamma", "delta #1"]


def test_a_worker_that_joins_while_the_others_are_measured_is_not_forgotten(there: Pretended, tmp_path: Path) -> None:
    found = Places(there)  # type: ignore[arg-type]
    describe = found._describe

    def describe_slowly(place: Place, mirror: str, is_again: bool = False) -> dict[str, Any]:
        if "gamma" not in there.workers:
            there.start("gamma")
        return describe(place, mirror, is_again)

    found._describe = describe_slowly  # type: ignore[method-assign]
    found.find(tmp_path)
    assert [place.name for place in found.all] == ["alpha", "beta"]
    assert names(news(Newcomers(found, tmp_path))) == [(2, "gamma")]


def test_a_worker_that_was_started_again_goes_on_in_its_place(
    there: Pretended, places: Places, newcomers: Newcomers
) -> None:
    there.end("beta")
    there.start("beta.2", host="beta")
    (joined,) = news(newcomers)
    assert joined == Joined(words="The worker beta goes on as the slot beta, whose worker is gone.")
    assert [place.address for place in places.all] == ["alpha", "beta.2"] and there.measured == []
    there.end("alpha")  # and its machine is started again, which makes it another host
    there.start("alpha.2", host="alpha after its boot")
    assert [joined.slots for joined in news(newcomers)] == [()] and there.measured == ["alpha"]
    assert [place.address for place in places.all] == ["alpha.2", "beta.2"]


def test_a_worker_with_another_gpu_or_other_processors_is_measured_before_it_goes_on(
    there: Pretended, places: Places, newcomers: Newcomers
) -> None:
    for part in (("1", None, (0, 1)), ("0", None, (0,))):
        there.end("beta")
        there.start("beta.2", host="beta", where={"part": part})
        assert not places._takes_over(places.all[1], "beta.2")
        assert [joined.slots for joined in news(newcomers)] == [()] and there.measured == ["beta"]
        assert (places.all[1].address, places.all[1].part) == ("beta.2", part)
        there.end("beta.2")
        there.start("beta.3", host="beta", where={"part": part, "lock": "another home"})
        assert places._takes_over(places.all[1], "beta.3") and places.all[1].lock == "another home"
        there.end("beta.3")
        there.measured.clear()
        newcomers._seen.clear()


def test_a_worker_that_was_started_again_has_its_own_sandbox(
    there: Pretended, places: Places, newcomers: Newcomers
) -> None:
    there.end("beta")
    there.start("beta.2", host="beta", sandbox="none")
    assert not places._takes_over(places.all[1], "beta.2")
    (joined,) = news(newcomers)
    assert "The worker beta has joined the cluster, and is left out. The worker beta has no sandbox" in joined.words
    assert there.measured == ["beta"] and places.all[1].address == "beta"
    there.end("beta.2")
    there.start("beta.3", host="beta", sandbox="landlock")
    assert not places._takes_over(places.all[1], "beta.3"), "what has another sandbox is measured"
    assert "goes on as the slot beta" in news(newcomers)[0].words
    with taking(Seat(places.divide(0)[1])):
        assert places.worker(True)["sandbox"] == "landlock" and places.worker(True)["flops"] == FACTS["flops"]


def test_a_worker_that_was_started_again_has_its_own_packages(there: Pretended, places: Places) -> None:
    there.end("beta")
    there.start("beta.2", host="beta")
    there.workers["beta.2"]["packages"] = VERSIONS | {"numpy": "2.5.0"}
    with taking(Seat(places.divide(0)[1])):
        assert "numpy" not in places.worker(True)["packages"]
        assert places._takes_over(places.all[1], "beta.2")
        assert places.worker(True)["packages"]["numpy"] == "2.5.0"


def test_slots_that_would_train_on_one_gpu_are_refused(there: Pretended, tmp_path: Path) -> None:
    words = r"beta and beta again would train on the same GPU.*`CUDA_VISIBLE_DEVICES=0 dask worker tcp://pretended:1"
    there.start("beta again", host="beta", where={"lock": "lock of beta"})
    with pytest.raises(ClusterRefused, match=words):
        Places(there).find(tmp_path)  # type: ignore[arg-type]
    there.end("beta again")
    there.start("delta", slots=2)
    with pytest.raises(ClusterRefused, match="delta #1 and delta #2 would train on the same GPU"):
        Places(there).find(tmp_path)  # type: ignore[arg-type]
    there.end("delta")
    found = Places(there)  # type: ignore[arg-type]
    found.find(tmp_path)
    there.start("beta again", host="beta", where={"lock": "lock of beta"})
    (joined,) = news(Newcomers(found, tmp_path))
    assert "is left out" in joined.words and "would train on the same GPU" in joined.words
    there.end("beta again")
    there.end("alpha")
    there.start("alpha again", host="alpha", where={"lock": "lock of alpha"})
    assert "goes on as the slot alpha" in news(Newcomers(found, tmp_path))[0].words, "what is gone uses no GPU"
    for facts in there.facts.values():
        facts["device"] = "cpu"
    Places(there).find(tmp_path)  # type: ignore[arg-type]


def test_a_slot_that_has_not_noticed_its_loss_is_waited_for(
    there: Pretended, places: Places, newcomers: Newcomers
) -> None:
    places.all[1].is_taken = True
    there.end("beta")
    there.start("beta.2", host="beta")
    assert news(newcomers) == []
    places.all[1].is_taken, places.all[1].is_lost = False, True
    assert [joined.slots for joined in news(newcomers)] == [()]
    assert places.all[1].address == "beta.2" and not places.all[1].is_lost


def test_a_loss_during_the_measurement_is_waited_for(there: Pretended, places: Places, newcomers: Newcomers) -> None:
    places.all[1].is_taken = True
    there.start("gamma")
    measured = places.measured

    def measure(address: str, project: Path) -> list[Place]:
        found = measured(address, project)
        there.end("beta")
        return found

    places.measured = measure  # type: ignore[method-assign]
    assert news(newcomers) == [] and len(places.all) == 2
    places.all[1].is_taken = False
    assert [joined.slots for joined in news(newcomers)] == [()] and places.all[1].address == "gamma"


def test_a_worker_that_a_lost_slot_took_over_meanwhile_is_no_second_slot(
    there: Pretended, places: Places, newcomers: Newcomers
) -> None:
    there.end("beta")
    there.start("beta.2", host="beta")
    measured = places.measured

    def measure(address: str, project: Path) -> list[Place]:
        found = measured(address, project)
        assert places._takes_over(places.all[1], "beta.2")
        return found

    places.measured = measure  # type: ignore[method-assign]
    assert news(newcomers) == []
    assert [place.address for place in places.all] == ["alpha", "beta.2"]
    there.end("alpha")
    assert not places._takes_over(places.all[0], "beta.2"), "nor may a second slot take it"


def test_one_worker_that_is_left_out_keeps_no_other_one_away(there: Pretended, newcomers: Newcomers) -> None:
    there.start("old")
    there.versions["old"] = "0.9.0"
    there.start("format", dtype="float32")
    there.start("gamma")
    found = news(newcomers)
    assert names(found) == [(2, "gamma")]
    words = [joined.words for joined in found if joined.words]
    assert words[0].startswith("The worker old has joined the cluster, and is left out. ") and "0.9.0" in words[0]
    assert "number format" in words[1] and len(words) == 2
    assert news(newcomers) == [], "it is said once"
    there.end("old")
    assert news(newcomers) == []
    there.start("old")  # at the same address
    there.versions.clear()
    assert names(news(newcomers)) == [(3, "old")]


def test_an_unexpected_error_leaves_the_worker_out(
    there: Pretended, places: Places, newcomers: Newcomers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("flops")

    monkeypatch.setattr(Places, "_describe", fail)
    there.start("gamma")
    (joined,) = news(newcomers)
    assert "The worker gamma has joined the cluster, and is left out." in joined.words and "flops" in joined.words
    assert len(places.all) == 2


def test_a_worker_that_leaves_again_is_looked_at_when_it_comes_back(
    there: Pretended, places: Places, newcomers: Newcomers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def leave(found: Places, place: Place, *_: Any) -> dict[str, Any]:
            there.end("gamma")
            raise MachineFailed("The worker gamma is gone.")

        patch.setattr(Places, "_describe", leave)
        there.start("gamma")
        assert news(newcomers) == [] and len(places.all) == 2
    there.start("gamma")
    assert names(news(newcomers)) == [(2, "gamma")]


def test_processors_on_which_others_train_are_left_out_and_gpus_are_not(there: Pretended, tmp_path: Path) -> None:
    there.start("gpu 1", host="alpha")
    found = Places(there)  # type: ignore[arg-type]
    found.find(tmp_path)
    there.start("gpu 2", host="alpha")
    assert names(news(Newcomers(found, tmp_path))) == [(3, "gpu 2")]
    for facts in there.facts.values():
        facts["device"] = "cpu"
    found.find(tmp_path)
    there.start("cores", host="beta", device="cpu")
    (joined,) = news(Newcomers(found, tmp_path))
    assert joined.slots == () and "beta had the processors of its machine alone" in joined.words


def test_a_worker_of_a_kind_that_was_given_up_becomes_a_slot_again(there: Pretended, tmp_path: Path) -> None:
    there.start("slow", flops=5e13)
    found = Places(there)  # type: ignore[arg-type]
    found.find(tmp_path)
    kind = found.all[2].machine
    there.end("slow")
    there.start("slow.2", host="slow", flops=5e13)
    (joined,) = news(Newcomers(found, tmp_path), kinds=("",))
    assert [(slot.index, slot.name, slot.machine) for slot in joined.slots] == [(3, f"slow (again) ({kind})", kind)]


def test_a_kind_is_named_as_in_the_record(there: Pretended, tmp_path: Path) -> None:
    own = FACTS | {"versions": VERSIONS, "sandbox": "bubblewrap"}
    known = {"": own, "the slow ones": own | {"flops": 5e13}}
    found = Places(there)  # type: ignore[arg-type]
    found.find(tmp_path, known=known)
    there.start("gamma", flops=5.2e13)
    there.start("delta", flops=8.5e13)  # like those of the record, by whichever of the others it would be measured
    assert [slot.machine for joined in news(Newcomers(found, tmp_path)) for slot in joined.slots] == [
        "the slow ones",
        "",
    ]
