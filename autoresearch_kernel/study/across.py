"""A study on the workers of a cluster: what they are, and whether a study can go on with them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.format import count
from ..core.state import Event, replay
from ..core.types import NO_SANDBOX
from ..record.history import events_so_far
from ..record.provenance import last_versions
from ..record.study import Study, StudyError
from ..run.alike import MEMORY_TOLERANCE, SPEED_TOLERANCE, apart, unlike
from ..run.backend import LOCAL, Backend, chosen_backend
from ..run.cluster import cluster_backend
from ..run.connection import ClusterRefused
from ..sandbox.kinds import SANDBOX
from ..system.files import take_lock
from ..system.known_speed import remember_flops
from ..system.slot import Slot
from .options import StudyOptions, refuse_cluster
from .presets import PresetError, measure_machine

if TYPE_CHECKING:
    from .steps import Steps

OF_THE_RECORD = ("versions", "packages", "sandbox")  # facts of a worker that are not its hardware
OF_A_WORKER = "is_worker"  # in the hardware of a study that began on a cluster
A_CLUSTER = " of a cluster: "  # in the note that says what trains
_LISTED = re.compile(rf"(?:Joined: )?[\d,]+ slots?{A_CLUSTER}(.*)", re.DOTALL)  # the whole note
_NAMES = re.compile(r"(?:^|\. )((?:(?!\. ).)+?)\. (?:Each|It) is ")  # of workers that are alike, in it
_KIND = re.compile(r" \((?:[^()]|\([^()]*\))*\)")  # of a worker, after its name; it may hold parentheses itself
_SAID_OF = re.compile(  # sentences of `run` about one worker, which may never have had a slot
    r"\b[Tt]he worker (\S+(?: #\d+)?) (?:is gone|does not (?:answer|work)|failed:|sent |could not be measured|"
    r"goes on as the slot |has (?:joined the cluster|not answered|no sandbox|autoresearch-kernel))"
)
MEASUREMENTS = 3  # of this machine, which may be slow only because it is busy
THE_SAME = ("device", "device_name", "dtype")  # of the hardware that a study began on
NEARLY_THE_SAME = {  # by which share they may differ, and how they are told
    "memory_mb": (MEMORY_TOLERANCE, "GB", 1024.0), "flops": (SPEED_TOLERANCE, "GFLOP/s", 1e9),
}  # fmt: skip


def measure_worker(address: str, project: Path) -> dict[str, Any]:
    """Device, number format, memory and speed of a worker of the most frequent kind, as `measure_machine` has them.

    They say that they are a worker's. Raises ClusterRefused where there is no cluster, or where no study can have its
    workers together.
    """
    with cluster_backend(address, project) as backend:
        facts = next(slot.facts for slot in backend.divide(0) if not slot.machine)
    return {name: value for name, value in facts.items() if name not in OF_THE_RECORD} | {OF_A_WORKER: True}


@contextmanager
def on_cluster(
    study: Study, address: str | None, backend: Backend | None, agent: str | None = None
) -> Iterator[Backend | None]:
    """The workers of the cluster as a backend; `backend` as it is where there is no address.

    Args:
        agent: that will propose, by its name; None where nothing is proposed.

    Raises OptionRefused for a study that cannot go on with a cluster, StudyInUse when another process runs it, and
    ClusterRefused where no worker is a machine of the kind that the study began on, or one has no sandbox. Without an
    address, raises StudyError for a study that began on a cluster, where this machine is of another kind.
    """
    if address is None:
        if (backend or chosen_backend()) is LOCAL and _began_on_cluster(study):
            _refuse_another_machine(study)
        yield backend
        return
    refuse_cluster(StudyOptions(cluster=address, agent=agent), study.clock, study.num_slots, study.name)
    os.close(take_lock(study.paths.lock))  # workers that train for another process answer late
    hardware: Mapping[str, Any] = study.facts["hardware"]
    events = list(events_so_far(study.paths.history))
    known, versions = replay(events).kinds, last_versions({}, events)  # {} before the first session

    def is_own(facts: Mapping[str, Any]) -> int:
        """Of workers on such hardware, those with the study's versions go first; a session notes other versions."""
        has_changed = any(versions.get(name) not in (None, version) for name, version in facts["versions"].items())
        return 0 if difference(hardware, facts) else 1 if has_changed else 2

    with cluster_backend(address, study.project, is_own=is_own, known=known) as there:
        slots = there.divide(0)
        if all(slot.machine for slot in slots):
            raise ClusterRefused(
                f"Study {study.name!r} began on {_unlike_words(hardware, known, slots[0])}; no worker is of the "
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


def _unlike_words(hardware: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], slot: Slot) -> str:
    """On what a study began, and how a worker differs from that, by what `place.name_kinds` has looked at."""
    if "" in known:
        return f"workers from which {slot.name} differs: {unlike(known[''], slot.facts)}"
    began, has = difference(hardware, slot.facts) or ("another kind of machine", "another kind")
    return f"{began}, and the worker {slot.name} has {has}"


def _began_on_cluster(study: Study) -> bool:
    """Whether the hardware of a study is a worker's; of an older study the note before its first training says it."""
    before: Iterator[Event] = takewhile(lambda e: e["event"] != "started", events_so_far(study.paths.history))
    is_noted = any(event["event"] == "note" and A_CLUSTER in event["text"] for event in before)
    return bool(study.facts["hardware"].get(OF_A_WORKER)) or is_noted


def _refuse_another_machine(study: Study) -> None:
    """Raise StudyError where this machine is not of the kind of the workers that a study began on."""
    began = has = ""
    for _ in range(MEASUREMENTS):
        try:
            facts = measure_machine(study.project, sys.executable)
        except PresetError as error:
            raise StudyError(str(error)) from error
        facts["flops"] = remember_flops(facts, facts["flops"])
        found = difference(study.facts["hardware"], facts)
        if found is None:
            return
        began, has = found
    raise StudyError(
        f"Study {study.name!r} began on a cluster, on {began}, and this machine has {has}, so new scores would not "
        "compare with old ones: go on with --cluster and the address of a scheduler whose workers are like those, or "
        "begin another study with --name."
    )


def note_workers(session: Steps, address: str | None) -> None:
    """Record what trains, where that is a cluster."""
    if address is not None:
        slots = session.backend.divide(0)
        session.note(workers_words(slots), workers=[slot.name.removesuffix(f" ({slot.machine})") for slot in slots])


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
    return f"{count(len(slots), 'slot')}{A_CLUSTER}{' '.join(parts)}{other}"


def workers_named(text: str) -> Iterator[str]:
    """The names of workers in a text of the record: those that `workers_words` lists, and one that a sentence is about.

    Example:
        >>> list(workers_named("2 slots of a cluster: a #1, b (Xeon, 8 GB). Each is Xeon with 8.0 GB."))
        ['a #1', 'b']
    """
    if listed := _LISTED.fullmatch(text):
        for names in _NAMES.findall(listed[1]):
            yield from _KIND.sub("", names).split(", ")
    yield from _SAID_OF.findall(text)


def _of_one_kind(slots: Sequence[Slot]) -> str:
    facts = slots[0].facts
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    names = ", ".join(slot.name for slot in slots)
    return (
        f"{names}. {'Each is' if len(slots) > 1 else 'It is'} {facts['device_name']} with "
        f"{facts['memory_mb'] / 1024:.1f} GB, {facts['flops'] / 1e9:.0f} GFLOP/s in {facts['dtype']}, "
        f"sandbox {facts['sandbox']}, {versions}."
    )
