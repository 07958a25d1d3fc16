"""A slot of a Dask cluster with its present worker, and the kinds of machine that slots belong to.

Workers that are not alike are of several kinds, because scores of unlike machines are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..core.types import NO_SANDBOX
from .alike import OF_A_STUDY, name_of_kind, unlike
from .connection import ClusterRefused

# How well a worker, by its facts, fits a study that has begun: 0 where it is no machine of the study's own kind, and of
# several kinds that might be it the one with the highest number is.
IsOwn = Callable[[Mapping[str, Any]], int]
NO_KINDS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


@dataclass
class Place:
    """One slot of the cluster, and the worker that it has now."""

    name: str
    address: str  # of the worker
    process: str  # of the worker, see `remote.PROCESS`
    host: str  # which machine
    facts: Mapping[str, Any]  # hardware, versions and sandbox, see `remote.introduce`
    machine: str = ""  # the name of its kind; "" for the kind that the study began on
    part: tuple[Any, ...] = ()  # of the machine, that its worker may use, see `remote.introduce`
    lock: str = ""  # the file of the lock that its trainings take; "" where that is not known
    shares_machine: bool = False  # with other slots, whose processors are the same
    is_taken: bool = False
    is_lost: bool = False  # its worker has not answered
    num_failures: int = 0  # of the machine, one after the other, although its worker answers
    leftovers: list[str] = field(default_factory=list)  # tokens of tasks that may run there

    def move(self, there: Place) -> None:
        """Go on with the worker of another place."""
        self.address, self.process, self.host, self.facts = there.address, there.process, there.host, there.facts
        self.part, self.lock, self.shares_machine = there.part, there.lock, there.shares_machine
        self.leftovers, self.is_lost, self.num_failures = [], False, 0

    @property
    def shown(self) -> str:
        """Its name for users, with its kind where that is not the study's own."""
        return f"{self.name} ({self.machine})" if self.machine else self.name


def refuse_another_device(places: Sequence[Place]) -> None:
    """Raise ClusterRefused for workers with another device or number format, or for some without a sandbox."""
    first = places[0]
    for place in places[1:]:
        for fact, words in OF_A_STUDY.items():
            if place.facts[fact] != first.facts[fact]:
                raise ClusterRefused(
                    f"The workers {first.name} and {place.name} cannot train for one study: {words} "
                    f"{first.facts[fact]} and {place.facts[fact]}. End one of them, or begin a study for each."
                )
        if (first.facts["sandbox"] == NO_SANDBOX) != (place.facts["sandbox"] == NO_SANDBOX):
            without = first if first.facts["sandbox"] == NO_SANDBOX else place
            raise ClusterRefused(
                f"The worker {without.name} has no sandbox, and others have one. End it, or set up a sandbox there."
            )


def refuse_one_gpu(places: Sequence[Place], scheduler: str) -> None:
    """Raise ClusterRefused for slots whose trainings would use one GPU, and so wait for each other."""
    first_with: dict[tuple[str, str], Place] = {}
    for place in places:
        if place.facts["device"] == "cpu" or not place.lock:
            continue
        first = first_with.setdefault((place.host, place.lock), place)
        if first is not place:
            raise ClusterRefused(
                f"{first.name} and {place.name} would train on the same GPU, one after the other. Start one worker "
                "with one slot for each GPU: the first of a machine with "
                f'`CUDA_VISIBLE_DEVICES=0 dask worker {scheduler} --nthreads 1 --resources "slot=1"`, the second with '
                "CUDA_VISIBLE_DEVICES=1, and so on."
            )


def name_kinds(places: Sequence[Place], is_own: IsOwn | None, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each place the name of its kind; the kind of the study has none.

    That is the kind that it had before, else of those that `is_own` accepts the one that fits best, and is largest.
    """
    is_own = is_own or (lambda facts: 1)
    if "" in known:
        own = [place for place in places if not unlike(known[""], place.facts)]
    else:
        accepted = groups([place for place in places if is_own(place.facts)])
        own = max(accepted, key=lambda group: (is_own(group[0].facts), len(group)), default=[])
    names = {"", *known}
    for group in groups([place for place in places if place not in own]):
        facts = group[0].facts
        name = next((name for name, before in known.items() if name and not unlike(before, facts)), None)
        if name is None:
            name = name_of_kind(facts)
            name = f"{name}, as {group[0].name}" if name in names else name
        names.add(name)
        for place in group:
            place.machine = name


def groups(places: Sequence[Place]) -> list[list[Place]]:
    """Those that are alike together."""
    found: list[list[Place]] = []
    for place in places:
        group = next((group for group in found if not unlike(group[0].facts, place.facts)), None)
        if group is None:
            found.append([place])
        else:
            group.append(place)
    return found
