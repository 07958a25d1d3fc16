"""A study on the workers of a cluster: what they are, and whether a study can go on with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.format import count
from ..core.state import replay
from ..core.types import NO_SANDBOX
from ..record.history import events_so_far
from ..record.study import Study
from ..run.alike import MEMORY_TOLERANCE, SPEED_TOLERANCE, apart
from ..run.backend import Backend
from ..run.cluster import cluster_backend
from ..run.connection import ClusterRefused
from ..sandbox.kinds import SANDBOX
from ..system.files import take_lock
from ..system.slot import Slot
from .options import StudyOptions, refuse_cluster

if TYPE_CHECKING:
    from .steps import Steps

OF_THE_RECORD = ("versions", "sandbox")  # facts of a worker that are not its hardware
THE_SAME = ("device", "device_name", "dtype")  # of the hardware that a study began on
NEARLY_THE_SAME = {  # by which share they may differ, and how they are told
    "memory_mb": (MEMORY_TOLERANCE, "GB", 1024.0), "flops": (SPEED_TOLERANCE, "GFLOP/s", 1e9),
}  # fmt: skip


def measure_worker(address: str, project: Path) -> dict[str, Any]:
    """Device, number format, memory and speed of a worker of the most frequent kind, as `measure_machine` has them.

    Raises ClusterRefused where there is no cluster, or where no study can have its workers together.
    """
    with cluster_backend(address, project) as backend:
        facts = next(slot.facts for slot in backend.divide(0) if not slot.machine)
    return {name: value for name, value in facts.items() if name not in OF_THE_RECORD}


@contextmanager
def on_cluster(
    study: Study, address: str | None, backend: Backend | None, agent: str | None = None
) -> Iterator[Backend | None]:
    """The workers of the cluster as a backend; `backend` as it is where there is no address.

    Args:
        agent: that will propose, by its name; None where nothing is proposed.

    Raises OptionRefused for a study that cannot go on with a cluster, StudyInUse when another process runs it, and
    ClusterRefused where no worker is a machine of the kind that the study began on, or one has no sandbox.
    """
    if address is None:
        yield backend
        return
    refuse_cluster(StudyOptions(cluster=address, agent=agent), study.clock, study.num_slots, study.name)
    os.close(take_lock(study.paths.lock))  # workers that train for another process answer late
    hardware: Mapping[str, Any] = study.facts["hardware"]
    known = replay(events_so_far(study.paths.history)).kinds

    def is_own(facts: Mapping[str, Any]) -> bool:
        return not difference(hardware, facts)

    with cluster_backend(address, study.project, is_own=is_own, known=known) as there:
        slots = there.divide(0)
        if all(slot.machine for slot in slots):
            found = difference(hardware, slots[0].facts)
            began, has = found or ("another kind of machine", "another kind")
            raise ClusterRefused(
                f"Study {study.name!r} began on {began}, and the worker {slots[0].name} has {has}; no worker is of the "
                "kind that the study began on, with which its scores could be compared. Start such a worker, or begin "
                "another study with --name."
            )
        without = [slot.name for slot in slots if slot.facts["sandbox"] == NO_SANDBOX]
        if without and os.environ.get(SANDBOX) != NO_SANDBOX:
            raise ClusterRefused(
                f"The worker {without[0]} has no sandbox, so code that an agent wrote could reach all that its user "
                "can. Set up a sandbox there, or add --unsafe: then the results are marked untrusted."
            )
        yield there


def note_workers(session: Steps, address: str | None) -> None:
    """Record what trains, where that is a cluster."""
    if address is not None:
        session.note(workers_words(session.backend.divide(0)))


def difference(hardware: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a study began on and what a worker has, in words, where they are of two kinds; else None."""
    for fact in THE_SAME:
        if fact in hardware and hardware[fact] != facts[fact]:
            return str(hardware[fact]), str(facts[fact])
    for fact, (most, unit, size) in NEARLY_THE_SAME.items():
        began, now = hardware.get(fact), facts[fact]
        if began and apart(began, now) > most:
            return f"a machine with {began / size:.0f} {unit}", f"{now / size:.0f} {unit}"
    return None


def workers_words(slots: Sequence[Slot]) -> str:
    """What trains, for the record."""
    kinds = dict.fromkeys(slot.machine for slot in slots)
    parts = [_of_one_kind([slot for slot in slots if slot.machine == kind]) for kind in kinds]
    other = " Scores of different kinds are not compared." if len(parts) > 1 else ""
    return f"{count(len(slots), 'slot')} of a cluster: {' '.join(parts)}{other}"


def _of_one_kind(slots: Sequence[Slot]) -> str:
    facts = slots[0].facts
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    names = ", ".join(slot.name for slot in slots)
    return (
        f"{names}. {'Each is' if len(slots) > 1 else 'It is'} {facts['device_name']} with "
        f"{facts['memory_mb'] / 1024:.1f} GB, {facts['flops'] / 1e9:.0f} GFLOP/s in {facts['dtype']}, "
        f"sandbox {facts['sandbox']}, {versions}."
    )
