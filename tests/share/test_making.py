"""The bundle: its files, its manifest, and that it verifies and opens as a study."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from urllib3 import HTTPResponse

from autoresearch_kernel import InteractiveStudy, analyse
from autoresearch_kernel.cli import main
from autoresearch_kernel.core.decide import best
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Objection, Refusal
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.share import overview
from autoresearch_kernel.share.build import make_bundle
from autoresearch_kernel.share.bundle import read_bundle
from autoresearch_kernel.share.check import check_bundle
from autoresearch_kernel.share.command import ignore_progress, share_study
from autoresearch_kernel.share.crate import CRATE, crate
from autoresearch_kernel.share.manifest import MANIFEST, file_facts
from autoresearch_kernel.share.material import read_material, study_to_share
from autoresearch_kernel.share.png import plain_png
from tests.conftest import PROJECT
from tests.recorded_night import BUNDLE, EVENTS, FOLDER, LAST, STATE, STUDY
from tests.shared_night import alice, make_night  # noqa: F401  (a fixture)

MADE_AT = "2027-01-15T09:00:00.000Z"
CRATE_FACTS = {"time_budget_seconds": 30.0, "corpus": {"corpus": "packages"}}
LIMIT_BYTES = 20_000_000  # of a bundle of 100 experiments


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded night, made a bundle anew where only the differences of its code were kept, and unpacked."""
    folder = tmp_path_factory.mktemp("night")
    thin = shutil.copytree(FOLDER, folder / "thin" / STUDY.name)
    for path in thin.glob("experiments/*/train.py"):
        if int(path.parent.name) > 0:
            path.unlink()
    study = study_to_share(thin)
    made = make_bundle(read_material(study, has_prompts=True), (), MADE_AT, ignore_progress)
    (folder / f"{STUDY.name}.zip").write_bytes(made.data)
    with zipfile.ZipFile(folder / f"{STUDY.name}.zip") as opened:
        opened.extractall(folder)
    return folder / STUDY.name


def test_the_manifest_lists_every_file_but_itself(example: Path) -> None:
    manifest = json.loads((example / MANIFEST).read_text())
    paths = {path.relative_to(example).as_posix() for path in example.rglob("*") if path.is_file()}
    assert paths == {*manifest["files"], MANIFEST}
    for path, facts in manifest["files"].items():
        assert facts == file_facts((example / path).read_bytes())
    assert manifest["running"] is False and manifest["study"] == STUDY.name and manifest["made_at"] == MADE_AT


def test_an_honest_bundle_verifies_from_the_zip_and_from_its_folder(example: Path) -> None:
    for place in (example.with_suffix(".zip"), example):
        rows = check_bundle(read_bundle(place))
        assert [row.findings for row in rows if row.findings] == []
        assert {row.name: row.checked for row in rows}["lineage"] == LAST + 1


def test_a_bundle_of_a_hundred_experiments_is_small_and_holds_no_pickle(example: Path) -> None:
    assert example.with_suffix(".zip").stat().st_size < LIMIT_BYTES
    kinds = {path.suffix for path in example.rglob("*") if path.is_file()}
    assert kinds <= {".html", ".py", ".diff", ".json", ".jsonl", ".tsv", ".ipynb", ".js"}


def test_an_unpacked_bundle_opens_as_a_study(example: Path) -> None:
    original = STATE
    state = read_state(example / "history.jsonl")
    assert [(e.number, e.status, e.val_bpb, e.parent) for e in state.experiments] == [
        (e.number, e.status, e.val_bpb, e.parent) for e in original.experiments
    ]
    night = analyse(example)
    assert len(night.experiments) == LAST + 1 and night.attribution().rows
    assert not any(event.get("chain") == "" for event in read_events(example / "history.jsonl"))


def test_the_code_of_an_experiment_of_which_only_the_difference_was_kept_is_made_from_its_parent(example: Path) -> None:
    for made in sorted(example.glob("experiments/*/train.py")):
        assert made.read_text() == (FOLDER / made.relative_to(example)).read_text()
    champion = best(STATE.experiments)
    assert champion is not None and champion.number > 0
    assert (example / "champion" / "train.py").read_text() == STUDY.experiment(champion.number).train.read_text()
    assert (example / "baseline" / "train.py").read_text() == STUDY.experiment(0).train.read_text()


def test_what_is_no_study_is_not_shared(tmp_path: Path) -> None:
    for words in (str(BUNDLE), str(tmp_path / "nothing")):
        with pytest.raises(StudyError, match=r"is no folder of a study\. Give the name of a study, or its folder"):
            study_to_share(words)


def test_the_same_study_makes_the_same_bytes(alice: Path) -> None:  # noqa: F811
    material = read_material(make_night(alice).study, has_prompts=True)
    once, again = (make_bundle(material, (), MADE_AT, ignore_progress) for _ in range(2))
    assert once == again


def test_a_running_study_is_shared_as_it_stands_and_verifies(alice: Path) -> None:  # noqa: F811
    night = make_night(alice)
    path, made = share_study(night.study, alice / "nov23.zip", decide=list)
    assert made.is_running
    with zipfile.ZipFile(path) as opened:
        page = opened.read("nov23/index.html").decode()
        assert "nov23/experiments/0004/train.py" in opened.namelist()  # proposed, not decided
    assert "This study was still running when it was shared" in page
    assert [row.findings for row in check_bundle(read_bundle(path)) if row.findings] == []
    night.writer.history.close()
    again, made = share_study(night.study, path, decide=list)  # an earlier bundle is replaced
    assert again == path and not made.is_running


def test_an_unpacked_bundle_is_shared_again_with_its_prompts(alice: Path) -> None:  # noqa: F811
    path, _ = share_study(make_night(alice).study, alice / "nov23.zip", agree=bool, decide=list)
    with zipfile.ZipFile(path) as opened:
        said = {name: opened.read(name) for name in opened.namelist() if name.endswith("/conversation.json")}
        opened.extractall(alice / "unpacked")
    asked: list[int] = []
    again, _ = share_study(
        study_to_share(alice / "unpacked" / "nov23"),
        alice / "b.zip",
        agree=lambda num: not asked.append(num),
        decide=list,
    )
    with zipfile.ZipFile(again) as opened:
        assert {name: opened.read(name) for name in opened.namelist() if name.endswith("/conversation.json")} == said
    assert said and asked == [len(said)]
    removed, before = (json.loads(read_bundle(made).text(MANIFEST) or "")["removed"] for made in (again, path))
    assert removed == before != [], "what was replaced before is replaced in this one too"


def test_progress_is_told_for_each_experiment(alice: Path) -> None:  # noqa: F811
    told: list[tuple[int, int]] = []
    share_study(make_night(alice).study, alice / "x.zip", decide=list, say=lambda done, of: told.append((done, of)))
    assert told == [(number, 5) for number in range(5)]


def test_another_file_is_not_overwritten(alice: Path) -> None:  # noqa: F811
    night, path = make_night(alice), alice / "thesis.zip"
    for content in (b"my thesis", _zip_of("other/manifest.json")):
        path.write_bytes(content)
        with pytest.raises(StudyError, match="is no bundle of nov23"):
            share_study(night.study, path, decide=list)
        assert path.read_bytes() == content


def _zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr(name, "{}")
    return buffer.getvalue()


def test_the_command_takes_a_name_or_a_folder(
    alice: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    night = make_night(alice)
    (alice / "prepare.py").write_text("class TrainingClock: ...\n")
    (alice / "train.py").write_text("")
    monkeypatch.chdir(alice)
    assert main(["share", "nov23", "--yes"]) == 0 and (alice / "nov23.zip").is_file()
    assert main(["share", str(night.study.paths.folder), "--yes", "--out", "b.zip", "--no-prompts"]) == 0
    assert read_bundle(alice / "b.zip").text("study.json")
    assert main(["share", "nov24", "--yes"]) == 1
    assert "There is no study 'nov24'" in capsys.readouterr().err


def test_the_crate_names_every_file(example: Path) -> None:
    graph = {part["@id"]: part for part in json.loads((example / "ro-crate-metadata.json").read_text())["@graph"]}
    listed = {part["@id"] for part in graph["./"]["hasPart"]}
    paths = {path.relative_to(example).as_posix() for path in example.rglob("*") if path.is_file()}
    assert listed == paths - {"ro-crate-metadata.json"} and listed < graph.keys()
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert f"{LAST} experiments were made in 52 min with the agent search" in graph["./"]["description"]


def answer_with_terms(
    adapter: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **_: Any
) -> requests.Response:
    """The terms that a crate uses, in place of the public context of RO-Crates, so that no network is needed."""
    named = re.findall(r'"([a-zA-Z]+)":|"@type": "(\w+)"', crate("nov23", "", MADE_AT, ["train.py"], CRATE_FACTS))
    terms = {term: f"http://schema.org/{term}" for pair in named for term in pair if term}
    terms |= {"File": "http://schema.org/MediaObject", "conformsTo": "http://purl.org/dc/terms/conformsTo"}
    body = io.BytesIO(json.dumps({"@context": terms}).encode())
    headers = {"Content-Type": "application/ld+json"}
    return adapter.build_response(request, HTTPResponse(body, headers, 200, preload_content=False))


@pytest.mark.parametrize("lacks", ["", "license", "datePublished", "name"])
def test_the_crate_passes_the_public_validator(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    from rocrate_validator import models, services

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer_with_terms)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    metadata = json.loads((example / CRATE).read_text())
    root = next(part for part in metadata["@graph"] if part["@id"] == "./")
    root.pop(lacks, None)
    folder = Path(shutil.copytree(example, tmp_path / "crate"))
    (folder / CRATE).write_text(json.dumps(metadata))
    settings = services.ValidationSettings(
        rocrate_uri=str(folder), profile_identifier="ro-crate-1.1", requirement_severity=models.Severity.REQUIRED
    )
    found = services.validate(settings)
    assert len(found.executed_checks) > 40
    messages = [str(issue.message) for issue in found.get_issues()]
    assert bool(messages) == bool(lacks) and all(lacks in message for message in messages), messages


def test_a_history_s_events_are_those_of_the_study(example: Path) -> None:
    mine = [{k: v for k, v in event.items() if k != "chain"} for event in read_events(example / "history.jsonl")]
    theirs = [{k: v for k, v in event.items() if k != "chain"} for event in EVENTS]
    assert len(mine) == len(theirs)
    changed = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    assert {a["event"] for a, _ in changed} <= {"opened"}  # whose process and boot are left out
    assert replay(mine).experiments == replay(theirs).experiments


def test_a_picture_keeps_what_draws_it_and_loses_its_texts() -> None:
    picture = (PROJECT / "docs" / "progress.png").read_bytes()
    assert b"history_sha256" in picture
    plain = plain_png(picture)
    assert plain is not None and b"history_sha256" not in plain and b"IDAT" in plain
    assert plain_png(plain) == plain
    for wrong in (b"", b"<svg/>", picture[:-1], picture[:2000] + b"x" + picture[2001:], b"\xff\xd8\xff\xe0 JFIF"):
        assert plain_png(wrong) is None


def test_a_notebook_shares_with_a_method_and_is_told_what_may_be_private(
    alice: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    night = make_night(alice, leak="max@lab-of-alice.org")
    study = InteractiveStudy(**vars(night.study))
    with pytest.raises(StudyError, match=r"max@lab-of-alice.org.*in a notebook: yes=True"):
        study.share(alice / "mine.zip")
    path = study.share(alice / "mine.zip", yes=True)
    assert path == alice / "mine.zip" and "max@lab" not in (read_bundle(path).text("history.jsonl") or "")
    assert "removed: e-mail address" in capsys.readouterr().out


def test_proposals_that_were_given_back_before_they_trained_are_listed() -> None:
    refusals = tuple(Refusal(n, Objection.DRY_RUN, "TypeError: <b>no</b>", f"Idea {n}") for n in range(1, 31))
    material: Any = SimpleNamespace(state=SimpleNamespace(refusals=refusals))
    shown = overview._given_back(material)
    assert 'data-figure="given-back">30</span> proposals. The first 20 are:' in shown and shown.count("<li>") == 20
    assert "Idea 1:" in shown and "&lt;b&gt;no" in shown and "<b>no" not in shown
    assert overview._given_back(SimpleNamespace(state=SimpleNamespace(refusals=()))) == ""  # type: ignore[arg-type]
