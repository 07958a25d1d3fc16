"""What a study on a cluster records: the sandbox and the versions of its workers, and not those of the supervisor."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.core.types import is_trusted
from autoresearch_kernel.record.study import Study, study_versions
from autoresearch_kernel.run.place import Place, name_kinds
from autoresearch_kernel.study import across, steps
from autoresearch_kernel.study.across import on_cluster
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.slot import Slot, present_seat
from tests.pretended import WORKER, Machine, on_a_worker
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of
from tests.study.test_slots import study_of

ADDRESS = "tcp://10.0.0.1:8786"
HARDWARE = {name: WORKER[name] for name in ("device", "device_name", "dtype", "memory_mb", "flops")}
NEWER, NEWEST = study_versions() | {"torch": "99.1"}, study_versions() | {"torch": "99.2"}


@pytest.fixture
def study(project: Path, small_corpus: Path, no_pictures: None) -> Study:
    return study_of(project, small_corpus, 1, hardware=HARDWARE)


@pytest.fixture
def worker(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Facts of the one worker of a cluster."""
    monkeypatch.setattr(across, "cluster_backend", on_a_worker(machine))
    for name, value in WORKER.items():
        monkeypatch.setitem(WORKER, name, value)
    return WORKER


def go_on(study: Study, experiments: int, cluster: str | None = ADDRESS) -> None:
    ideas = Scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(experiments)])
    list(research(study, ideas, experiments=experiments, cluster=cluster))


def notes_of_versions(study: Study) -> list[str]:
    return [e["text"] for e in events_of(study, "note") if e["text"].startswith("Scores from here on")]


def scores_stand(study: Study) -> bool:
    return {check.name: check.verdict for check in verify(study)}["scores"] == "ok"


def test_the_sandbox_on_record_is_the_workers(study: Study, worker: dict[str, Any]) -> None:
    worker["sandbox"] = "landlock"
    go_on(study, 1)
    for kind in ("opened", "started", "scored"):
        assert {event["sandbox"] for event in events_of(study, kind)} == {"landlock"}, kind
    assert not any("sandbox" in event for event in events_of(study, "trained"))


def test_a_run_that_another_worker_trained_has_its_sandbox(
    study: Study, machine: Machine, worker: dict[str, Any]
) -> None:
    """As a slot whose worker is lost goes on with another one, of which nothing is known when the training starts."""
    slots = (Slot(0, "alpha", facts=WORKER),)
    other = {**WORKER, "sandbox": "landlock"}
    backend = replace(
        machine.backend, divide=lambda _: slots, num_slots=1, worker=lambda is_next: WORKER if is_next else other
    )
    list(research(study, Scripted(), experiments=0, backend=backend))
    assert {event["sandbox"] for event in events_of(study, "started")} == {"bubblewrap"}
    assert {event["sandbox"] for event in events_of(study, "trained")} == {"landlock"}
    runs = state_of(study).experiments[0].runs
    assert {run.sandbox for run in runs} == {"landlock"}
    other["sandbox"] = "none"
    list(research(study, Scripted({"ALPHA": 2.0}), experiments=1, backend=backend))
    assert not any(map(is_trusted, state_of(study).experiments[1].runs))


def test_the_versions_on_record_are_the_workers(
    study: Study, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker["packages"] = NEWER
    go_on(study, 1)
    assert notes_of_versions(study) == [], "nothing was scored by other ones before"
    assert [event["versions"] for event in events_of(study, "opened")] == [NEWER] and scores_stand(study)
    monkeypatch.setattr(steps, "study_versions", lambda: NEWEST)  # an upgrade on this machine makes no score
    go_on(study, 2)
    assert notes_of_versions(study) == [] and scores_stand(study)
    worker["packages"] = NEWEST
    go_on(study, 3)
    words = "Scores from here on are made by other versions: torch 99.2, before 99.1. Compare them with that in mind."
    assert notes_of_versions(study) == [words] and scores_stand(study)


def test_a_study_that_goes_on_with_another_torch_says_so(
    study: Study, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same hardware: here first, then on a worker, then here again."""
    go_on(study, 1, cluster=None)
    worker |= {"packages": NEWER, "versions": {"torch": "99.1"}}
    go_on(study, 2)
    go_on(study, 3, cluster=None)
    now, newer = study_versions()["torch"], "99.1"
    first, second = notes_of_versions(study)
    assert f"torch {newer}, before {now}. Compare" in first and f"torch {now}, before {newer}. Compare" in second
    assert scores_stand(study)


def test_a_score_of_a_worker_with_other_packages_says_which(study: Study, machine: Machine) -> None:
    """As numpy, by which kinds of machine are not told apart."""
    slots = tuple(Slot(i, f"slot {i}", facts=WORKER) for i in range(2))
    other = study_versions() | {"numpy": "99.3"}

    def used(is_next: bool) -> dict[str, Any]:
        seat = present_seat()
        return {**WORKER, "packages": other if seat is not None and seat.slot.index else study_versions()}

    backend = replace(machine.backend, divide=lambda _: slots, num_slots=2, worker=used)
    list(research(study, Scripted(*[{"ALPHA": 2.0 + i / 8} for i in range(4)]), experiments=4, backend=backend))
    started = {(e["experiment"], e["run"]): e["slot"] for e in events_of(study, "started")}
    for event in events_of(study, "scored"):
        is_other = started[event["experiment"], event["run"]] == "slot 1"
        assert event.get("versions") == (other if is_other else None)
    assert {*started.values()} == {"slot 0", "slot 1"} and scores_stand(study)


def test_of_like_workers_those_with_the_studys_versions_are_its_own(
    study: Study, machine: Machine, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on(study, 1, cluster=None)
    torch = study_versions()["torch"]
    facts = [{**WORKER, "versions": {"torch": version}} for version in ("99.1", "99.1", torch)]

    def found(address: str, project: Path, *, is_own: Any, known: Any) -> Any:
        places = [Place(f"gpu{i}", f"tcp://{i}", "p", f"host {i}", facts[i]) for i in range(3)]
        name_kinds(places, is_own, known)
        slots = tuple(Slot(i, p.name, facts=p.facts, machine=p.machine) for i, p in enumerate(places))
        return nullcontext(replace(machine.backend, divide=lambda _: slots, num_slots=3, worker=lambda _: WORKER))

    monkeypatch.setattr(across, "cluster_backend", found)

    def own() -> list[str]:
        with on_cluster(study, ADDRESS, None) as backend:
            assert backend is not None
            return [slot.name for slot in backend.divide(0) if not slot.machine]

    assert own() == ["gpu2"]
    facts[2]["device_name"] = "another machine"
    assert own() == ["gpu0", "gpu1"], "a session on them notes the other versions"
