"""The slots of a Dask cluster, and which worker each of them has.

A slot whose worker is lost goes on with the worker that has been started in its place, or waits until the worker of
another slot of the same kind is free.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pkgutil
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import MachineFailed
from ..core.version import __version__
from ..system.explain import explain
from ..system.slot import Slot, TooManySlots, present_seat
from . import remote
from .alike import SPEED_TOLERANCE, apart
from .backend import Joined
from .connection import CONNECT_SECONDS, POLL_SECONDS, ClusterRefused, Connection, NoAnswer, Tick, WorkerLost
from .place import NO_KINDS, IsOwn, Place, name_kinds, refuse_another_device, refuse_one_gpu

MEASURE_SECONDS = 300.0  # for the measurement of a worker, which may have to wait for the end of a training
MOST_FAILURES = 2  # of a worker's machine, one after the other, before its slot tries another worker of its kind
REPEATED_MEASUREMENTS = 2  # of a worker that is slower than the fastest one
OF_ITSELF = ("versions", "packages", "sandbox")  # facts that a worker knows without a measurement
VERSION = "autoresearch_kernel.core.version:__version__"  # an object by its name, for `pkgutil.resolve_name`


class Places:
    """The slots of one cluster. Its methods may be called by several threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.all: list[Place] = []
        self._known: Mapping[str, Mapping[str, Any]] = NO_KINDS  # of the study, before this session
        self._lock, self._reviving = threading.Lock(), threading.Lock()
        self._used = threading.local()  # `facts` of the worker that a thread has used last

    def find(
        self, project: Path, is_own: IsOwn | None = None, known: Mapping[str, Mapping[str, Any]] = NO_KINDS
    ) -> None:
        """Look at all workers, and make a place for each slot; workers are measured with the project's prepare.py.

        Args:
            is_own: whether facts of a worker are of the kind that the study began on; None for a new study, whose kind
                is that of most slots.
            known: facts of the kinds that have trained before, by their names.

        Raises ClusterRefused for workers with another version of this package, and for workers that no study can have
        together.
        """
        try:
            self.all, self._known = self._unmeasured(self._introductions(list(self.connection.workers))), known
            on_host = dict[str, list[Place]]()
            for place in self.all:
                on_host.setdefault(place.host, []).append(place)
            with concurrent.futures.ThreadPoolExecutor(len(on_host)) as threads:
                list(threads.map(lambda places: self._measure(places, project), on_host.values()))
            self._measure_slow_ones_again(self.all, mirror_of(project))
        except MachineFailed as failure:
            raise ClusterRefused(str(failure)) from failure
        refuse_another_device(self.all)
        refuse_one_gpu(self.all, self.connection.address)
        name_kinds(self.all, is_own, known)

    def measured(self, address: str, project: Path) -> list[Place]:
        """Places for the slots of a worker that has joined since, which belong to none of the others yet.

        It is not measured on a machine that has lost a worker like it, with the same GPUs and processors, the same
        sandbox and the same versions. Raises MachineFailed, and ClusterRefused for another version of this package, and
        for processors on which others train already.
        """
        new = self._unmeasured(self._introductions([address]))
        beside = [place for place in self.all if place.host == new[0].host]
        gone = [p for p in beside if self._is_gone(p) and _is_like(p, new[0].part, new[0].facts)]
        if gone:
            for place in new:
                place.facts, place.shares_machine = {**gone[0].facts, **place.facts}, gone[0].shares_machine
            return new
        working = [place for place in beside if not self._is_gone(place)]
        if working and working[0].facts["device"] == "cpu":
            names = ", ".join(place.name for place in working)
            raise ClusterRefused(
                f"{names} had the processors of its machine alone when the study measured them. Start all workers of "
                "such a machine before the study."
            )
        self._measure(new, project)
        self._measure_slow_ones_again(new, mirror_of(project))
        return new

    def add(self, new: Sequence[Place], kinds: Collection[str]) -> Joined | None:
        """Take in a worker that has joined: its slots go on in the place of lost ones, or are new.

        None where that cannot be said yet. Raises ClusterRefused where no study can have the worker beside the others.

        Args:
            kinds: the kinds of machine whose slots are in use; lost slots of other kinds stay lost.
        """
        with self._lock:
            if self.is_losing_one:
                return None
            num_before, moved = len(self.all), []
            refuse_another_device([*self.all, *new])
            at_work = [p for p in self.all if not self._is_gone(p) and p.address != new[0].address]
            refuse_one_gpu([*at_work, *new], self.connection.address)
            today = {place.machine: place.facts for place in reversed(self.all)}
            name_kinds(new, None, {**today, **self._known})
            for place in new:
                if not self._has_room(place)(place.address):  # a lost slot has taken the worker over meanwhile
                    continue
                lost = next((p for p in self.all if self._is_gone(p) and p.machine == place.machine), None)
                if lost is not None and lost.machine in kinds:
                    lost.move(place)
                    moved.append(f"The worker {place.name} goes on as the slot {lost.name}, whose worker is gone.")
                    continue
                place.name += " (again)" * any(place.name == other.name for other in self.all)
                self.all = [*self.all, place]
            return Joined(self.divide(0)[num_before:], " ".join(moved))

    @property
    def is_losing_one(self) -> bool:
        """Whether a slot works on a worker that is gone, and has not noticed yet."""
        return any(place.is_taken and place.address not in self.connection.workers for place in self.all)

    def _is_gone(self, place: Place) -> bool:
        return place.is_lost or place.address not in self.connection.workers

    def num_on(self, host: str) -> int:
        """How many slots work on a machine."""
        return max(1, sum(place.host == host and not self._is_gone(place) for place in self.all))

    def divide(self, num_slots: int) -> tuple[Slot, ...]:
        """The first so many slots, all of them for 0. Raises TooManySlots."""
        if num_slots > len(self.all):
            raise TooManySlots(f"The cluster at {self.connection.address} has {len(self.all)} slots, not {num_slots}.")
        chosen = self.all[: num_slots or None]
        return tuple(Slot(i, p.shown, facts=p.facts, machine=p.machine) for i, p in enumerate(chosen))

    # --- what the workers are

    def _introductions(self, addresses: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What each worker says of itself, by address. Raises ClusterRefused for one with another version of this."""
        connection = self.connection
        for address, version in connection.ask_all(addresses, pkgutil.resolve_name, VERSION).items():
            if version != __version__:
                what = f"autoresearch-kernel {version}" if isinstance(version, str) else f"none ({explain(version)})"
                raise ClusterRefused(
                    f"The worker {connection.name(address)} has {what}, and this machine has autoresearch-kernel "
                    f"{__version__}. Install the same version on both, and start the worker again."
                )
        found = connection.ask_all(addresses, remote.introduce)
        for address, said in found.items():
            if isinstance(said, Exception):
                raise MachineFailed(f"The worker {connection.name(address)} does not work: {explain(said)}")
        return found

    def _unmeasured(self, introductions: Mapping[str, Mapping[str, Any]]) -> list[Place]:
        """A place for each slot of each worker, sorted by name."""
        places = []
        for address, said in introductions.items():
            num_slots = self.connection.num_slots(address)
            for index in range(num_slots):
                name = self.connection.name(address) + (f" #{index + 1}" if num_slots > 1 else "")
                facts, where = _own_facts(said), {"part": said["part"], "lock": said["lock"]}
                places.append(Place(name, address, said["process"], said["host"], facts, **where))
        return sorted(places, key=lambda place: place.name)

    def _measure(self, places: Sequence[Place], project: Path) -> None:
        """Measure the workers of one machine, one after the other."""
        known: dict[str, Mapping[str, Any]] = {}
        for place in places:
            if place.address not in known:
                self.connection.send(place.address, {f"{mirror_of(project)}/prepare.py": project / "prepare.py"})
                known[place.address] = self._describe(place, mirror_of(project))
            place.facts = {**place.facts, **known[place.address]}
            place.shares_machine = len(places) > 1 and place.facts["device"] == "cpu"

    def _describe(self, place: Place, mirror: str, is_again: bool = False) -> dict[str, Any]:
        """What a worker is; it is not measured again for another study, whose training may keep its slot busy."""
        if not is_again and (known := self.connection.ask(place.address, remote.described, place.process, mirror)):
            return dict(known)
        arguments = place.process, mirror, is_again
        task = self.connection.submit(place.address, "describe", remote.describe, *arguments)
        try:
            return dict(self.connection.wait(self.connection.start(task), limit_seconds=MEASURE_SECONDS))
        except NoAnswer as none:
            raise MachineFailed(
                f"The worker {place.name} could not be measured within {MEASURE_SECONDS:.0f} s. Its slot may be busy "
                "with a task of another study; start again when that has ended."
            ) from none

    def _measure_slow_ones_again(self, places: Sequence[Place], mirror: str) -> None:
        """A worker may have been slow only because its machine was busy; the fastest of its measurements counts."""
        known = [*self.all, *(place for place in places if place not in self.all)]
        for _ in range(REPEATED_MEASUREMENTS):
            for place in places:
                name = place.facts["device_name"]
                fastest = max(other.facts["flops"] for other in known if other.facts["device_name"] == name)
                if apart(place.facts["flops"], fastest) > SPEED_TOLERANCE:
                    place.facts = {**place.facts, **self._describe(place, mirror, is_again=True)}

    # --- which place a thread gets

    @contextmanager
    def taking(self, tick: Tick) -> Iterator[Place]:
        """The place of this thread's slot; one of another slot while its own has no worker.

        Raises MachineFailed where no worker of the cluster answers.
        """
        place = self._take(tick)
        self._used.facts = place.facts
        try:
            yield place
            place.num_failures = 0
        except (WorkerLost, remote.WorkerRestarted):
            place.is_lost = True
            raise
        except MachineFailed:
            place.num_failures += 1
            raise
        finally:
            place.is_taken = False

    def worker(self, is_next: bool = False) -> Mapping[str, Any]:
        """Facts of the worker that this thread has used last, or of the one that it uses next as far as is known."""
        if not is_next and hasattr(self._used, "facts"):
            return dict(self._used.facts)
        wanted = self._wanted()
        return dict(next((place for place in wanted if not place.is_lost), wanted[0]).facts)

    def _wanted(self) -> list[Place]:
        """The places of this thread's slot; where it has none, all of the kind that the study began on."""
        if (seat := present_seat()) is not None:
            return [self.all[seat.slot.index % len(self.all)]]
        return [place for place in self.all if not place.machine]

    def _take(self, tick: Tick) -> Place:
        wanted = self._wanted()
        same = [place for place in self.all if place.machine == wanted[0].machine]
        while True:
            for place in self.all:
                place.is_lost = place.is_lost or place.address not in self.connection.workers
            if all(place.is_lost for place in wanted) and self._reviving.acquire(blocking=False):
                try:
                    self._revive(wanted, tick)
                finally:
                    self._reviving.release()
            answering = [place for place in same if not place.is_lost]
            sound = [place for place in answering if place.num_failures < MOST_FAILURES] or answering
            usable = [place for place in wanted if place in sound] or sound
            if not usable:
                names = ", ".join(place.name for place in same)
                which = f" of the kind {wanted[0].machine}" if wanted[0].machine else ""
                raise MachineFailed(f"No worker{which} of the cluster at {self.connection.address} answers: {names}.")
            with self._lock:
                free = next((place for place in usable if not place.is_taken), None)
                if free is not None:
                    free.is_taken = True
                    return free
            if tick is not None:
                tick()
            time.sleep(POLL_SECONDS)

    def _revive(self, lost: Sequence[Place], tick: Tick) -> None:
        """Let places go on whose worker answers again, or has been started again; others stay lost."""
        with suppress(MachineFailed):  # then the last list counts
            self.connection.list_workers(tick)
        for place in lost:
            if place.address in self.connection.workers and self._answers(place, tick):
                continue
            for address in filter(self._has_room(place), list(self.connection.workers)):
                if self._takes_over(place, address):
                    break

    def _answers(self, place: Place, tick: Tick) -> bool:
        """Whether its worker is the same process and answers; then what it may have left running is ended."""
        ask, limit = self.connection.ask, min(CONNECT_SECONDS, self.connection.lost_seconds)
        try:
            said = ask(place.address, remote.introduce, tick=tick, limit_seconds=limit)
            if said["process"] != place.process:
                return False
            limit += remote.END_SECONDS
            ask(place.address, remote.end, place.leftovers, tick=tick, limit_seconds=limit)
        except MachineFailed:
            return False
        place.leftovers, place.is_lost = [], False
        return True

    def _has_room(self, place: Place) -> Callable[[str], bool]:
        """Whether a worker, by its address, has a slot that no other place has."""
        claimed = [other.address for other in self.all if other is not place]
        return lambda address: claimed.count(address) < self.connection.num_slots(address)

    def _takes_over(self, place: Place, address: str) -> bool:
        """Give a place another worker that need not be measured, as it is like one that has been on its machine."""
        try:
            said = self._introductions([address])[address]
        except (MachineFailed, ClusterRefused):
            return False
        beside = (p for p in self.all if p.host == said["host"] and p.machine == place.machine)
        alike = next((p for p in beside if _is_like(p, said["part"], said)), None)
        if alike is None or said["process"] == place.process:
            return False
        with self._lock:
            if not self._has_room(place)(address):  # it has become a slot meanwhile
                return False
            facts = {**alike.facts, **_own_facts(said)}
            place.move(replace(alike, address=address, process=said["process"], lock=said["lock"], facts=facts))
        return True


def _own_facts(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker says of itself that is no measurement."""
    return {name: said[name] for name in OF_ITSELF}


def _is_like(place: Place, part: Sequence[Any], facts: Mapping[str, Any]) -> bool:
    """Whether a worker on a place's machine is what that place's worker is, so that it need not be measured."""
    return place.part == part and all(place.facts[name] == facts[name] for name in ("versions", "sandbox"))


def mirror_of(project: Path) -> str:
    """The name of a project's mirror on the workers."""
    whose = f"{platform.node()} {os.getuid()} {project.resolve()}"
    return f"projects/{hashlib.sha256(whose.encode()).hexdigest()[:16]}"
