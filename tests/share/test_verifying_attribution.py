"""The check of a bundle computes again what an attribution ended with: which kept changes carry the gain."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import autoresearch_kernel.share as share_package
from autoresearch_kernel.core.attribution import Obstacle, Part
from autoresearch_kernel.core.types import Cause, Status
from autoresearch_kernel.share.bundle import Bundle
from autoresearch_kernel.share.check import check_bundle
from autoresearch_kernel.share.figures import OF_CHANGE
from autoresearch_kernel.share.manifest import HISTORY, PAGE
from autoresearch_kernel.study.attribution import attribute
from tests.bundles import Event, Files, files_of, share, with_events, with_file, zip_of
from tests.pretended import Machine
from tests.share.test_pages import Visit
from tests.share.test_verifying import of_program, other_figure, without_mark
from tests.share.test_verifying_in_browser import python_says, says
from tests.study.test_attribution import night, plant, turned

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KNOBS = ("WIDE", "DEEP")  # the first carries gain, and the second had luck
WORDS = "the attribution of 0002: its effects do not follow from its trainings"


@pytest.fixture
def attributed(project: Path, small_corpus: Path, machine: Machine, tmp_path: Path) -> Files:
    """The files of a night whose kept changes were taken out one by one."""
    plant(machine)
    study = night(project, small_corpus, *map(turned, KNOBS))
    assert attribute(study)
    return files_of(share(study, tmp_path / "nov23.zip"))


def problems_of(files: Files) -> list[tuple[str, str, str]]:
    rows = check_bundle(Bundle(dict(files)))
    return [(row.name, finding.file, finding.problem) for row in rows for finding in row.findings]


def ended(events: list[Event]) -> Event:
    return next(event for event in events if event["event"] == "attribution" and event["what"] == "ended")


def better_gain(events: list[Event]) -> None:
    ended(events)["effects"][0]["gain"] += 0.001


def no_luck(events: list[Event]) -> None:
    effect = ended(events)["effects"][1]
    effect["part"] = "carries" if effect["part"] != "carries" else "luck"


def narrow(events: list[Event]) -> None:
    ended(events)["effects"][1] |= {"low": 0.0, "high": 0.0}


def fewer(events: list[Event]) -> None:
    ended(events)["effects"].pop()


def other_trial(events: list[Event]) -> None:
    scored = next(e for e in events if e["event"] == "attribution" and e["what"] == "scored" and e["without"])
    scored["val_bpb"] += 0.01


def malformed(of: str, /, **facts: object) -> Callable[[list[Event]], None]:
    """The last event of that kind with other facts, which no supervisor writes; ... is a fact that is missing."""

    def forge(events: list[Event]) -> None:
        event = [e for e in events if e["event"] == "attribution" and e["what"] == of][-1]
        for name, value in facts.items():
            if value is ...:
                del event[name]
            else:
                event[name] = value

    return forge


def late(**facts: object) -> Callable[[list[Event]], None]:
    """One more event before the end of the attribution."""

    def forge(events: list[Event]) -> None:
        place = events.index(ended(events))
        added = {name: events[place][name] for name in ("time", "event", "champion")}
        events.insert(place, added | facts)
        for seq, event in enumerate(events, 1):
            event["seq"] = seq

    return forge


MALFORMED: dict[str, Callable[[list[Event]], None]] = {
    "a training of no variant": late(what="started", without=7, run=0, seed=1),
    "a kind of a later version": late(what="praised", without=1),
    "a training that did not start": late(what="trained", without=1, run=99, status=None, reason=""),
    "a score of no training": late(what="scored", without=1, run=99, val_bpb=1.0),
    "an interruption of no training": late(what="interrupted", without=1, run=99, cause="gone", reason=""),
    "an unknown cause": late(what="interrupted", without=1, run=0, cause="bored", reason=""),
    "no reason": malformed("trained", reason=...),
    "an unknown status": malformed("trained", status="splendid"),
    "an unknown obstacle": malformed("variant", obstacle="laziness"),
    "no seed": malformed("started", seed=...),
    "no number of seeds": malformed("begun", num_seeds=...),
    "changes that are none": malformed("begun", changes=3),
    "an unknown part": malformed("ended", effects=[{"change": 1, "part": "shines"}]),
    "no change": malformed("ended", effects=[{"part": "luck"}]),
    "no champion": malformed("ended", champion=...),
    "another champion": malformed("ended", champion=1),
    "no what": malformed("ended", what=...),
}
EFFECTS: tuple[Callable[[list[Event]], None], ...] = (better_gain, no_luck, narrow, fewer, other_trial)
FIGURES = ("attribution-seeds", *(f"{kind}-{change}" for change in (1, 2) for kind in OF_CHANGE))


def test_the_page_knows_the_kinds_that_the_program_knows() -> None:
    source = (Path(share_package.__file__).parent / "verify.js").read_text(encoding="utf-8")
    for name, kinds in (("STATUSES", Status), ("CAUSES", Cause), ("OBSTACLES", Obstacle)):
        found = re.search(rf"\b{name} = \[(.*?)\]", source, re.DOTALL)
        assert found and set(re.findall(r'"(.*?)"', found[1])) == set(kinds), name
    parts = re.search(r"PARTS = \{(.*?)\n  \}", source, re.DOTALL)
    assert parts and set(re.findall(r'(\w+): "', parts[1])) == set(Part)


def test_events_of_an_attribution_that_no_supervisor_writes_get_the_same_findings(
    attributed: Files, driven: Browser, tmp_path: Path
) -> None:
    (tmp_path / PAGE).write_bytes(attributed[PAGE])
    visit = Visit(driven, tmp_path / PAGE)
    differ = {}
    for name, forge in MALFORMED.items():
        forged = with_events(forge)(attributed)
        by_page, by_command = says(visit, zip_of(forged, tmp_path / "forged.zip")), python_says(forged)
        for mine, theirs in zip(by_page, by_command, strict=True):
            is_same = mine == theirs
            if mine[0] == "figures":  # the command says once that it cannot read an event, the page names the figures
                is_same = bool(mine[3]) == bool(theirs[3])
            if not is_same:
                differ[name] = [mine, theirs]
    assert differ == {}


def test_an_attribution_follows_from_its_trainings_or_is_named(
    attributed: Files, driven: Browser, tmp_path: Path
) -> None:
    """In the page, too: by the command and by the page the same findings, also of its figures."""
    (tmp_path / PAGE).write_bytes(attributed[PAGE])
    visit = Visit(driven, tmp_path / PAGE)
    assert problems_of(attributed) == []
    assert says(visit, zip_of(attributed, tmp_path / "honest.zip")) == python_says(attributed)
    for forge in EFFECTS:
        forged = with_events(forge)(attributed)
        assert ("decisions", HISTORY, WORDS) in problems_of(forged), forge
        assert says(visit, zip_of(forged, tmp_path / "forged.zip")) == python_says(forged)
    for name in FIGURES:
        forged = with_file(PAGE, other_figure(name))(attributed)
        said = f'its figure "{name}" says "9.8765", and the history does not'
        assert ("figures", PAGE, said) in problems_of(forged)
        assert says(visit, zip_of(forged, tmp_path / "forged.zip")) == python_says(forged)
        forge_mark, row, words = without_mark(name)
        bare = forge_mark(attributed)
        assert (row, PAGE, words) in problems_of(bare)
        assert says(visit, zip_of(bare, tmp_path / "forged.zip")) == python_says(bare)
        earlier = of_program(forge_mark(attributed), version="0.12.9")
        assert not any(problem == words for _, _, problem in problems_of(earlier))


def test_an_attribution_that_has_not_ended_has_figures_of_its_trainings_so_far(
    project: Path, small_corpus: Path, machine: Machine, driven: Browser, tmp_path: Path
) -> None:
    plant(machine)
    study = night(project, small_corpus, *map(turned, KNOBS))
    assert attribute(study)
    lines = study.paths.history.read_text(encoding="utf-8").splitlines(keepends=True)
    scored = [place for place, line in enumerate(lines) if '"what": "scored"' in line]
    study.paths.history.write_text("".join(lines[: scored[4] + 1]), encoding="utf-8")
    files = files_of(share(study, tmp_path / "nov23.zip"))
    page = files[PAGE].decode()
    assert "It has not ended: training 6 of at most" in page and "is not settled yet" in page
    (tmp_path / PAGE).write_bytes(files[PAGE])
    visit = Visit(driven, tmp_path / PAGE)
    assert problems_of(files) == []
    for name in FIGURES:
        forged = with_file(PAGE, other_figure(name))(files)
        said = f'its figure "{name}" says "9.8765", and the history does not'
        assert ("figures", PAGE, said) in problems_of(forged)
        assert says(visit, zip_of(forged, tmp_path / "forged.zip")) == python_says(forged)
