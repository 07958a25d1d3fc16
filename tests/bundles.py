"""Bundles of recorded studies for the tests of their check: honest ones, damaged ones, and forged ones."""

from __future__ import annotations

import json
import random
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.types import Audit, RunOutcome, Status
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.backend import using_backend
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.share import chain
from autoresearch_kernel.share.command import share_study
from autoresearch_kernel.share.manifest import HISTORY, MANIFEST, PAGE, embedded, file_facts, manifest_text
from autoresearch_kernel.show import plot_progress
from autoresearch_kernel.study.finish import finish
from autoresearch_kernel.study.loop import research
from tests.conftest import counting_study, make_project, pretend_quiet
from tests.pretended import ACCEPTED, Machine
from tests.study.test_loop import Scripted

Files = dict[str, bytes]
Event = dict[str, Any]
CRASHES, REFUSED = 5, 9  # experiments of the night that crash, and that the audit refuses
REFUSAL = Audit(False, 0.0, 0.0, 256, 100, "100 of 256 answers differ", 0.1)
DATA = re.compile(r'(<script type="application/json" id="bundle">)(.*?)(</script>)', re.DOTALL)


def make_bundle_of_night(parent: Path, corpus: Path, *, is_duel: bool = False, num_slots: int = 1) -> Path:
    """The zip of a night with a result, on a machine that pretends to train."""
    machine = Machine()
    seconds = 0.05 if num_slots > 1 else 0.0  # so that several train at once
    machine.train = lambda training, listener: _train(machine, training, listener, seconds)
    machine.audit = lambda job, **facts: REFUSAL if _number(job) == REFUSED else ACCEPTED
    machine.duel = machine.pretend_duel if is_duel else None
    with pytest.MonkeyPatch.context() as patch, using_backend(machine.backend):
        pretend_quiet(patch)
        patch.setattr(plot_progress, "draw_progress", lambda *_, **__: None)
        asked = {"slots": num_slots} if num_slots > 1 else {}
        study = counting_study(make_project(parent, corpus, patch), corpus, asked=asked)
        patch.chdir(study.project)
        ideas = _ideas(12 if is_duel else 26)
        list(research(study, Scripted(*ideas), experiments=len(ideas), duel="always" if is_duel else "never"))
        finish(study)
        return share(study, parent / "nov23.zip")


def share(study: Study, path: Path) -> Path:
    return share_study(study, path, decide=list)[0]


def _ideas(count: int) -> list[dict[str, float]]:
    """Small wins, clear wins, small losses and clear losses, so that every branch of the rule is taken."""
    rng, level = random.Random(4), 1.0
    ideas = []
    for number in range(1, count + 1):
        step = rng.choice((-0.03, -0.02, 0.02, 0.3, -0.15, -0.06))
        step = {CRASHES: -1.0, REFUSED: -1.0}.get(number, step)
        ideas.append({"ALPHA": round(level + step, 4)})
        level = level + step if step < -0.05 and number not in (CRASHES, REFUSED) else level
    return ideas


def _train(machine: Machine, training: Training, listener: Listener, seconds: float) -> RunOutcome:
    time.sleep(seconds)
    if int(training.paths.folder.name) == CRASHES:
        return RunOutcome(Status.CRASH, "RuntimeError: it fails", None, None)
    return machine.pretend_training(training, listener)


def _number(job: ScoringJob) -> int:
    return int(job.artefact.parents[1].name)


# --- files


def files_of(path: Path) -> Files:
    """Every file of a bundle, by its path below the bundle's folder."""
    with zipfile.ZipFile(path) as opened:
        return {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}


def zip_of(files: Mapping[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(f"nov23/{name}", content)
    return path


def flipped(files: Files, dice: random.Random) -> tuple[Files, str]:
    """The files with one changed bit, and the name of the file that has it."""
    name = dice.choice(sorted(name for name, content in files.items() if content))
    data, place = files[name], dice.randrange(len(files[name]))
    return files | {name: data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]}, name


# --- forgeries: all hashes are those of the forged files


def events_in(files: Files) -> list[Event]:
    return [json.loads(chain.bare(line)) for line in files[HISTORY].decode().split("\n")[:-1]]


def resealed(files: Files, events: Iterable[Event] | None = None) -> Files:
    """The files with new hashes in history, page and manifest, as a careful forger makes them."""
    files = dict(files)
    if events is not None:
        lines = chain.chained(json.dumps(event, ensure_ascii=False) for event in events)
        files[HISTORY] = "".join(f"{line}\n" for line in lines).encode()
    lines = files[HISTORY].decode().split("\n")[:-1]
    manifest = json.loads(files[MANIFEST])
    manifest["history"] = {"events": len(lines), "head": chain.head(lines)}
    manifest["files"] = {n: file_facts(d) for n, d in sorted(files.items()) if n not in (MANIFEST, PAGE)}
    html = files[PAGE].decode()
    found = DATA.search(html)
    assert found is not None
    data = json.loads(found[2]) | {"manifest": embedded(manifest), "history": lines}
    for kind, file in (("sources", "train.py"), ("diffs", "change.diff")):
        data[kind] = {number: files[f"experiments/{number}/{file}"].decode() for number in data[kind]}
    words = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    files[PAGE] = (html[: found.start(2)] + words + html[found.end(2) :]).encode()
    manifest["files"][PAGE] = file_facts(files[PAGE])
    files[MANIFEST] = manifest_text(manifest).encode()
    return files


def with_events(change: Callable[[list[Event]], object]) -> Callable[[Files], Files]:
    """A forgery of the history."""

    def forge(files: Files) -> Files:
        events = events_in(files)
        change(events)
        return resealed(files, events)

    return forge


def with_file(name: str, change: Callable[[str], str]) -> Callable[[Files], Files]:
    """A forgery of another file."""

    def forge(files: Files) -> Files:
        old = files[name].decode()
        new = change(old)
        assert new != old, f"the forgery changes nothing of {name}"
        return resealed(files | {name: new.encode()})

    return forge
