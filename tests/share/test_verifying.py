"""The check of a bundle: every changed byte is found, and every forged number that the record contradicts."""

from __future__ import annotations

import io
import json
import random
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.core.sanitize import Rule
from autoresearch_kernel.core.version import __version__
from autoresearch_kernel.share import build
from autoresearch_kernel.share.build import ignore_progress, make_bundle
from autoresearch_kernel.share.bundle import Bundle, NotABundle, read_bundle
from autoresearch_kernel.share.check import UNKNOWN, UNREADABLE, Row, check_bundle
from autoresearch_kernel.share.crate import CRATE
from autoresearch_kernel.share.manifest import HISTORY, MANIFEST, PAGE, file_facts, manifest_text
from autoresearch_kernel.share.material import read_material
from autoresearch_kernel.share.remade import ADDED, DIFFERS, MISSING
from tests.bundles import (
    CRASHES,
    REFUSED,
    Event,
    Files,
    events_in,
    files_of,
    flipped,
    resealed,
    with_events,
    with_file,
    zip_of,
)
from tests.shared_night import alice, make_night  # noqa: F401  (a fixture)

NUM_FLIPS = 500


def rows_of(files: Files, is_quick: bool = True) -> dict[str, Row]:
    return {row.name: row for row in check_bundle(Bundle(dict(files)), is_whole=not is_quick)}


def problems_of(files: Files, is_quick: bool = True) -> list[tuple[str, str, str]]:
    """Row, file and problem of each finding."""
    rows = rows_of(files, is_quick).values()
    return [(row.name, finding.file, finding.problem) for row in rows for finding in row.findings]


def last(events: list[Event], kind: str, **fields: object) -> Event:
    return [e for e in events if e["event"] == kind and all(e.get(name) == value for name, value in fields.items())][-1]


def kept_late(events: list[Event]) -> Event:
    """The last decision that kept a change by one run."""
    return [e for e in events if e["event"] == "decided" and e["experiment"] > 0 and e["status"] == "keep"][-1]


# --- an honest bundle


def test_every_decision_of_an_honest_bundle_follows_from_its_numbers(night: Path) -> None:
    events, rows = events_in(files_of(night)), check_bundle(read_bundle(night))
    decided = [event for event in events if event["event"] == "decided"]
    asked = [event for event in events if event["event"] == "started" and "rule" in event]
    by_name = {row.name: row for row in rows}
    assert [str(finding) for row in rows for finding in row.findings] == []
    assert by_name["decisions"].checked == len(decided) + len(asked) and by_name["decisions"].unchecked == 0
    assert by_name["rule"].checked == sum("rule" in event for event in decided) + len(asked)
    assert by_name["lineage"].checked == len(decided) and by_name["history"].checked == len(events)
    kinds = {(event["status"], len(event["rule"]["scores"])) for event in decided if "rule" in event}
    assert kinds >= {("keep", 3), ("keep", 1), ("keep", 2), ("discard", 1), ("discard", 2)} and asked
    assert {event["status"] for event in decided} >= {"crash", "rejected"}


def test_the_verdict_of_a_decision_is_one_comparison_with_what_its_event_holds(files: Files) -> None:
    for event in events_in(files):
        rule = event.get("rule") if event["event"] == "decided" else None
        if rule and rule["kind"] == "runs":
            is_kept = rule["keep_below"] is not None and event["val_bpb"] < rule["keep_below"]
            assert event["status"] == ("keep" if is_kept else "discard"), event


def test_a_night_of_duels_verifies_too(duels: Path) -> None:
    kinds = [
        event["rule"]["kind"] for event in events_in(files_of(duels)) if event["event"] == "decided" and "rule" in event
    ]
    assert "duel" in kinds and "runs" in kinds
    rows = check_bundle(read_bundle(duels))
    assert [str(finding) for row in rows for finding in row.findings] == []


def test_a_night_on_several_slots_verifies_too(slots: Path) -> None:
    events = events_in(files_of(slots))
    decided = [event for event in events if event["event"] == "decided"]
    assert {event["event"] for event in events} >= {"slots", "stacking", "beat"}
    assert [event["experiment"] for event in decided] != sorted(event["experiment"] for event in decided)
    assert any("wave" in event for event in decided)
    rows = check_bundle(read_bundle(slots))
    assert [str(finding) for row in rows for finding in row.findings] == []


def test_nothing_is_kept_because_of_its_wave(slots: Path) -> None:
    def forge(events: list[Event]) -> None:
        event = next(event for event in events if event.get("wave"))
        event["status"] = "keep"

    forged = with_events(forge)(files_of(slots))
    problems = [problem for row, _, problem in problems_of(forged, is_quick=False) if row == "decisions"]
    assert any("because of its wave, which only discards" in problem for problem in problems)


def test_a_discard_of_its_wave_may_follow_a_confirmation_that_was_cut_off(slots: Path) -> None:
    def cut_off(events: list[Event]) -> None:
        decided = next(event for event in events if event.get("wave"))
        started = last(events, "started", experiment=decided["experiment"]) | {"run": 1, "seed": 77}
        started.pop("rule", None)
        events.insert(events.index(decided), started | {"time": decided["time"]})

    rows = rows_of(with_events(cut_off)(files_of(slots)))
    assert not rows["decisions"].findings


def test_a_history_without_numbers_cannot_be_checked_and_is_no_error(files: Files) -> None:
    def forget(events: list[Event]) -> None:
        for event in events:
            event.pop("rule", None)

    old = with_events(forget)(files)
    rows = rows_of(old, is_quick=False)
    failed = [e for e in events_in(old) if e["event"] == "decided" and e["status"] in ("crash", "rejected")]
    assert not any(row.findings for row in rows.values())
    assert rows["decisions"].checked == len(failed) and rows["decisions"].unchecked > 10
    assert "the version that recorded them kept no numbers" in rows["decisions"].words
    assert rows["rule"].words == "not checked: the version that recorded them kept no numbers"


def test_words_that_were_removed_are_removed_from_study_json_and_from_the_history(alice: Path) -> None:  # noqa: F811
    """Also half of a surrogate pair, which a command line may hold, is the same in both."""
    found = read_material(make_night(alice).study, has_prompts=False)
    facts = found.study.facts | {"agent_options": {"tool": "/home/alice/tool \udc80", "name of alice": ["alice", 1]}}
    events = ({**found.events[0], "study": facts}, *found.events[1:])
    material = replace(found, study=replace(found.study, facts=facts), events=events)
    rules = (Rule("user name", re.compile("alice"), "user", ("alice",)),)
    made = make_bundle(material, rules, "2027-01-15T09:00:00.000Z", ignore_progress)
    with zipfile.ZipFile(io.BytesIO(made.data)) as opened:
        files = {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}
    assert b"alice/tool" not in files["study.json"] and b"user/tool" in files["study.json"]
    assert [row.findings for row in check_bundle(Bundle(files), is_whole=False) if row.findings] == []


# --- damage


def test_each_of_500_changed_bits_is_found_and_its_file_is_named(files: Files) -> None:
    dice = random.Random(500)
    hit = set()
    for _ in range(NUM_FLIPS):
        damaged, name = flipped(files, dice)
        assert {file for _, file, _ in problems_of(damaged)} == {name}
        hit.add(name.rpartition("/")[2])
    assert hit >= {MANIFEST, HISTORY, "index.html", "train.py", "change.diff", "results.tsv", "study.json", "verify.js"}


@pytest.mark.parametrize("name", [MANIFEST, HISTORY])
def test_no_bit_of_the_manifest_or_the_history_can_change_unseen(files: Files, name: str) -> None:
    dice = random.Random(7)
    one = {name: files[name]}
    for _ in range(100):
        damaged, _ = flipped(one, dice)
        assert {file for _, file, _ in problems_of(files | damaged)} == {name}


def test_a_line_that_was_changed_is_named_alone_and_one_that_is_gone_breaks_the_chain(files: Files) -> None:
    lines = files[HISTORY].decode().split("\n")
    gone = files | {HISTORY: "\n".join(lines[:9] + lines[10:]).encode()}
    whole = {name: content for name, content in gone.items() if name != MANIFEST}
    told = [problem for row, _, problem in problems_of(whole) if row == "history"]
    assert told[0] == "line 10: its chain does not fit its text and the line before it"
    assert "line 10: it is not record 10" in told and len([words for words in told if "chain" in words]) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda files: {n: d for n, d in files.items() if n != "champion/train.py"},
            "champion/train.py: it is missing",
        ),
        (
            lambda files: files | {"experiments/0001/more.py": b"1"},
            "experiments/0001/more.py: it is not in the manifest",
        ),
        (lambda files: files | {"study.json": b""}, "study.json: its content was changed"),
    ],
)
def test_a_file_that_is_gone_new_or_emptied_is_named(
    files: Files, change: Callable[[Files], Files], problem: str
) -> None:
    assert [f"{file}: {words}" for _, file, words in problems_of(change(files))] == [problem]


def test_a_zip_that_is_cut_off_or_is_none_is_refused_in_a_sentence(night: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(night.read_bytes()[:-5000])
    with pytest.raises(NotABundle, match="copy it again"):
        read_bundle(path)
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("other/notes.txt", "hello")
    with pytest.raises(NotABundle, match=r"holds no manifest\.json"):
        read_bundle(path)


def test_damage_of_the_packed_bytes_never_ends_in_a_traceback(night: Path, tmp_path: Path) -> None:
    dice, data, path = random.Random(3), night.read_bytes(), tmp_path / "damaged.zip"
    for _ in range(60):
        place = dice.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :])
        try:
            bundle = read_bundle(path)
        except NotABundle:
            continue
        if bundle.files != files_of(night):  # a date of a file in the zip is no content
            assert any(row.findings for row in check_bundle(bundle, is_whole=False))


# --- forgeries: every hash fits, and the record contradicts itself


def turn(events: list[Event]) -> None:
    event = kept_late(events)
    event["status"] = "discard"


def better_score(events: list[Event]) -> None:
    event = kept_late(events)
    last(events, "scored", experiment=event["experiment"], run=0)["val_bpb"] -= 0.01


def other_sigma(events: list[Event]) -> None:
    kept_late(events)["rule"]["sigma"] *= 2


def other_numbers(events: list[Event]) -> None:
    kept_late(events)["rule"]["scores"][0] -= 0.01


def other_mean(events: list[Event]) -> None:
    kept_late(events)["val_bpb"] -= 0.01


def other_incumbent(events: list[Event]) -> None:
    rule = kept_late(events)["rule"]
    rule["incumbent"] = 0 if rule["incumbent"] else 1


def other_scores_of_incumbent(events: list[Event]) -> None:
    kept_late(events)["rule"]["incumbent_scores"][0] += 0.01


def other_machine(events: list[Event]) -> None:
    last(events, "started", experiment=kept_late(events)["experiment"], run=0)["machine"] = "a faster kind"


def kept_crash(events: list[Event]) -> None:
    last(events, "decided", experiment=CRASHES)["status"] = "keep"


def kept_refusal(events: list[Event]) -> None:
    last(events, "decided", experiment=REFUSED)["status"] = "discard"


def other_kind(events: list[Event]) -> None:
    kept_late(events)["rule"]["kind"] = "luck"


def without_part(events: list[Event]) -> None:
    del kept_late(events)["rule"]["worse_share"]


def without_numbers(events: list[Event]) -> None:
    del kept_late(events)["rule"]


def lost_run(events: list[Event]) -> None:
    first = next(event for event in events if event["event"] == "started" and event["experiment"] == 2)
    first["event"] = "note"


def other_error(events: list[Event]) -> None:
    kept_late(events)["standard_error"] *= 2


def other_baseline(events: list[Event]) -> None:
    last(events, "decided", experiment=0)["val_bpb"] += 0.1


def as_baseline(events: list[Event]) -> None:
    """A change is kept without a comparison."""
    event = kept_late(events)
    rule = event["rule"]
    event["rule"] = {name: rule[name] for name in ("version", "runs", "scores")} | {
        "kind": "baseline", "has_like_runs": True, "keep_below": None, "confirm_below": None,
    }  # fmt: skip


def counted_twice(events: list[Event]) -> None:
    rule = kept_late(events)["rule"]
    rule["runs"], rule["scores"] = [*rule["runs"], rule["runs"][0]], [*rule["scores"], rule["scores"][0]]


def other_difference(events: list[Event]) -> None:
    last(events, "result")["test_difference"] *= 2


def other_result(events: list[Event]) -> None:
    result = last(events, "result")
    result["champion_test_bpb"] -= 0.1
    result["test_difference"] -= 0.1


def other(field: str) -> Callable[[list[Event]], None]:
    """Another number in the result."""

    def change(events: list[Event]) -> None:
        last(events, "result")[field] += 1

    return change


def better_error(events: list[Event]) -> None:
    last(events, "result")["test_standard_error"] /= 2


def best_runs(events: list[Event]) -> None:
    """The mean of the champion is one of no runs, and lies between them all the same."""
    scores = [e["test_bpb"] for e in events if e["event"] == "tested" and e["experiment"] == e["champion"]]
    result = last(events, "result")
    result["champion_test_bpb"], result["num_champion_runs"] = min(scores) + 1e-5, 2
    result["test_difference"] = result["champion_test_bpb"] - result["baseline_test_bpb"]


def other_error_of_baseline(events: list[Event]) -> None:
    last(events, "decided", experiment=0)["standard_error"] /= 2


def without_beginning(events: list[Event]) -> None:
    events[0]["event"] = "note"


def begun_twice(events: list[Event]) -> None:
    """A second event names other settings, which a reader of the whole history takes for those of the study."""
    study = json.loads(json.dumps(events[0]["study"]))
    study["hardware"]["device_name"] = "a pocket calculator"
    events.append(events[0] | {"seq": len(events) + 1, "study": study})


def other_setting(*path: str) -> Callable[[str], str]:
    """study.json with another value of a field."""

    def change(text: str) -> str:
        facts = json.loads(text)
        part = facts
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = "another"
        return json.dumps(facts)

    return change


def without_mark(name: str) -> tuple[Callable[[Files], Files], str, str]:
    """A page in which a figure has no mark, and what the check says of it."""
    forge = with_file("index.html", lambda text: text.replace(f'data-figure="{name}"', 'data-other=""'))
    return forge, "figures", f'its figure "{name}" is not there, and the history has it'


def other_figure(name: str) -> Callable[[str], str]:
    """Writes another number where the page has this figure."""
    return lambda text: re.sub(f'(data-figure="{name}">)[^<]+<', r"\g<1>9.8765<", text)


SINCE_0_13 = (  # those of them that the page of the night shows
    "sigma", "sigma-degrees", "repeated-runs", "champion-difference", "champion-error", "baseline-runs", "budget",
    "result-champion-runs", "result-baseline-runs", "runs-3", "sigmas-3",
)  # fmt: skip
FORGERIES: dict[str, tuple[Callable[[Files], Files], str, str]] = {
    "a verdict is turned": (with_events(turn), "decisions", "its numbers say keep"),
    "a score is better than its decision": (with_events(better_score), "decisions", "not the scores of its runs"),
    "a sigma is doubled": (with_events(other_sigma), "decisions", "its thresholds do not follow"),
    "the numbers are better than the scores": (with_events(other_numbers), "decisions", "not the scores of its runs"),
    "a mean is better than its numbers": (with_events(other_mean), "decisions", "not the means of its numbers"),
    "another incumbent": (with_events(other_incumbent), "decisions", "which was not the incumbent"),
    "a worse incumbent": (with_events(other_scores_of_incumbent), "decisions", "the incumbent's numbers are not"),
    "scores of two kinds of machine": (with_events(other_machine), "decisions", "are of several kinds of machine"),
    "a crash is kept": (with_events(kept_crash), "decisions", "its last run ended as crash, and it is decided as keep"),
    "a refused score counts": (with_events(kept_refusal), "decisions", "its last run ended as rejected"),
    "an error is doubled": (with_events(other_error), "decisions", "its errors in the decision do not follow"),
    "a baseline is worse than its scores": (with_events(other_baseline), "decisions", "0000: its scores in the dec"),
    "a change counts as baseline": (with_events(as_baseline), "decisions", "are those of a baseline, and it is none"),
    "a run counts twice": (with_events(counted_twice), "decisions", "its numbers are not the scores of its runs"),
    "a result is doubled": (with_events(other_difference), "decisions", "its difference is not that of its two means"),
    "a result is better than its scores": (with_events(other_result), "decisions", "does not follow from the scores"),
    "another kind of numbers": (with_events(other_kind), "decisions", "there is no kind luck of numbers"),
    "numbers without a part": (with_events(without_part), "decisions", "it lacks worse_share"),
    "a decision without numbers": (with_events(without_numbers), "decisions", "it has no numbers, and a"),
    "a run that never began": (with_events(lost_run), "decisions", "does not fit the lines before it"),
    "other code": (
        with_file("experiments/0003/train.py", lambda text: text + "# more\n"),
        "lineage",
        "it is not the code that the history names",
    ),
    "another diff": (
        with_file("experiments/0003/change.diff", lambda text: text.replace("+ALPHA = ", "+ALPHA = 1")),
        "lineage",
        "it does not lead from the code of",
    ),
    "another champion": (
        with_file("champion/train.py", lambda text: text + "# more\n"),
        "lineage",
        "it is not the code of experiment",
    ),
    "a figure of the page": (
        with_file("index.html", lambda text: text.replace('experiments">26<', 'experiments">27<')),
        "figures",
        'its figure "experiments" says "27"',
    ),
    **{
        f"the page's {name}": (with_file(PAGE, other_figure(name)), "figures", f'its figure "{name}" says "9.8765"')
        for name in (
            "discarded", "failed", "refused", "result-low", "result-high", "result-val-difference", "result-val-error",
            "difference-3", "difference-error-3", "baseline-error", "result-judged-difference", "result-judged-error",
            *SINCE_0_13,
        )
    },
    **{
        f"a figure without its mark, {name}": without_mark(name)
        for name in (
            "bpb-3", "baseline-bpb", "champion-bpb", "discarded", "failed", "refused", "status-3", "difference-error-3",
            "result-low", "result-high", "result-val-difference", "result-val-error", *SINCE_0_13,
        )
    },
    **{
        f"another {field} of the result": (
            with_events(other(field)), "decisions", f"the result: its {field} does not follow from the record",
        )
        for field in (
            "test_standard_error", "val_difference", "val_standard_error", "judged_difference", "judged_standard_error",
            "baseline_val_bpb", "champion_val_bpb", "num_looks", "num_failed_runs",
        )
    },
    "a result is surer than its scores": (with_events(better_error), "decisions", "its test_standard_error does not"),
    "a result of no runs": (with_events(best_runs), "decisions", "does not follow from the scores on the test split"),
    "a baseline is surer than its runs": (
        with_events(other_error_of_baseline), "decisions", "0000: its errors in the decision do not follow",
    ),
    **{
        f"another {path[-1]} in study.json": (
            with_file("study.json", other_setting(*path)),
            "history",
            f'its field "{".".join(path)}" is not what the history says the study began with',
        )
        for path in (
            ("time_budget_seconds",), ("agent",), ("hardware", "device_name"), ("corpus", "corpus"),
            ("versions", "torch"), ("invented",),
        )
    },
    "a figure on the page of an experiment": (
        with_file("experiments/0003/index.html", other_figure("difference-3")),
        "figures",
        'its figure "difference-3" says "9.8765"',
    ),
    "a page of an experiment without a mark": (
        with_file("experiments/0003/index.html", lambda text: text.replace('data-figure="sigmas-3"', "")),
        "figures",
        'its figure "sigmas-3" is not there, and the history has it',
    ),
    **{
        f"the mark of a refused score, {how}": (
            with_file(f"experiments/{REFUSED:04d}/index.html", change), "figures",
            f'its figure "claimed-{REFUSED}" {words}',
        )
        for how, change, words in (
            ("changed", other_figure(f"claimed-{REFUSED}"), 'says "9.8765"'),
            ("gone", lambda text: text.replace(f'data-figure="claimed-{REFUSED}"', ""), "is not there, and the"),
        )
    },
    "a name with a sign before its number": (
        with_file(PAGE, lambda text: text.replace('data-figure="bpb-3"', 'data-figure="bpb-+3"')),
        "figures",
        'its figure "bpb-+3" says',
    ),
    "a name with digits of another script": (
        with_file(PAGE, lambda text: text.replace('data-figure="bpb-3"', 'data-figure="bpb-\u0663"')),
        "figures",
        'its figure "bpb-\u0663" says',
    ),
    "a setting that was left out": (
        with_file("study.json", lambda text: text.replace('"hardware"', '"hard_to_say"')),
        "history",
        'its field "hardware" is not what the history says the study began with',
    ),
    "study.json without fields": (
        with_file("study.json", lambda text: "[]"), "history", "it is not what the history says the study began with",
    ),
    "study.json without JSON": (with_file("study.json", lambda text: text[:-3]), "history", "it cannot be read"),
    "a study that never began": (
        with_events(without_beginning), "history", "the history does not say what the study began with",
    ),
    "a study that began twice": (
        with_events(begun_twice), "history", 'its field "hardware.device_name" is not what the history says',
    ),
    "a row of the table": (
        with_file("results.tsv", lambda text: text.replace("\tdiscard\t", "\tkeep\t", 1)),
        "figures",
        "does not follow from the history",
    ),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_with_new_hashes_contradicts_the_record(files: Files, forgery: str) -> None:
    forge, row, words = FORGERIES[forgery]
    forged = forge(files)
    assert forged != files
    found = rows_of(forged)
    assert not found["files"].findings, "every hash is new"
    assert row == "history" or not found["history"].findings
    assert any(words in finding.problem for finding in found[row].findings), found[row]


def test_the_installed_rule_sees_a_sigma_that_the_runs_do_not_have(files: Files) -> None:
    """All thresholds follow from the forged sigma, so only all runs together contradict it."""

    def forge(events: list[Event]) -> None:
        from autoresearch_kernel.core.grounds import read_grounds, recorded

        event = kept_late(events)
        sigma = event["sigma"] * 0.99
        event["rule"] = json.loads(json.dumps(recorded(read_grounds(event["rule"] | {"sigma": sigma}))))
        event |= {"sigma": sigma, "standard_error": event["standard_error"] * 0.99}
        del last(events, "result")["judged_standard_error"]  # as in a record of an earlier version

    forged = with_events(forge)(files)
    rows = rows_of(forged, is_quick=False)
    assert not rows["decisions"].findings
    assert [f.problem for f in rows["rule"].findings if "the installed rule gets other numbers" in f.problem]


def test_the_page_must_hold_what_the_files_hold(files: Files) -> None:
    other = resealed(files)
    page = other["index.html"].decode().replace('"sources":{"0000":"', '"sources":{"0000":"# ', 1)
    assert page != other["index.html"].decode()
    manifest = json.loads(other[MANIFEST])
    manifest["files"]["index.html"] = file_facts(page.encode())
    forged = other | {"index.html": page.encode(), MANIFEST: manifest_text(manifest).encode()}
    assert [(row, file) for row, file, _ in problems_of(forged)] == [("page", "index.html")]


# --- the pages, made again by the program that made them

WORDS = {  # file -> what is written over it
    "index.html": ("Of the experiments, ", "Of the experiments, all that matters: "),
    "experiments/0003/index.html": ("Proposed by the agent", "Dreamt of by the agent"),
    "results.tsv": ("ALPHA", "BETA"),
    "ro-crate-metadata.json": ("experiments were made", "experiments were dreamt of"),
    "verify.js": ("its content was changed", "all is well"),
}
DATA, END = '<script type="application/json" id="bundle">', "</script>"


def test_each_page_of_an_honest_bundle_is_made_again_in_the_same_words(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    time.tzset()
    try:
        row = rows_of(files, is_quick=False)["remade"]
    finally:
        monkeypatch.undo()
        time.tzset()
    pages = [name for name in files if name.endswith("index.html")]
    assert row.checked == len(pages) + 3 and not row.findings and len(pages) > 26


@pytest.mark.parametrize("name", WORDS)
def test_words_that_do_not_follow_from_the_record_are_found_by_the_program_that_wrote_them(
    files: Files, name: str
) -> None:
    forged = with_file(name, lambda text: text.replace(*WORDS[name], 1))(files)
    assert problems_of(forged, is_quick=False) == [("remade", name, DIFFERS)]


def test_a_sentence_cannot_hide_in_what_looks_like_the_data_of_the_page(files: Files) -> None:
    """A browser takes the first of both elements for text of the style, and shows what follows."""
    page = files[PAGE].decode()
    before, _, rest = page.partition(DATA)
    data, _, after = rest.partition(END)
    moved = f'{DATA}</style><p>The best night ever</p><style>{END}<script id="bundle" type="application/json">'
    forged = before.replace("</style>", f"{moved}{data}{END}</style>", 1) + after
    manifest = json.loads(files[MANIFEST])
    manifest["files"][PAGE] = file_facts(forged.encode())
    found = problems_of(files | {PAGE: forged.encode(), MANIFEST: manifest_text(manifest).encode()}, is_quick=False)
    assert ("remade", PAGE, DIFFERS) in found


def test_a_page_that_was_left_out_or_added_is_found(files: Files) -> None:
    page, other = "experiments/0007/index.html", "experiments/0099/index.html"
    less = resealed({name: data for name, data in files.items() if name != page})
    assert problems_of(less, is_quick=False) == [("remade", page, MISSING)]
    more = resealed(files | {other: files[page]})
    assert problems_of(more, is_quick=False) == [("remade", other, ADDED)]


@pytest.mark.parametrize("other", [{"program_sha256": "0" * 64}, {"program_sha256": ""}])
def test_pages_of_another_program_that_differ_may_be_in_its_words(files: Files, other: dict[str, str]) -> None:
    forged = with_file("index.html", lambda text: text.replace(*WORDS["index.html"], 1))(of_program(files, **other))
    row = rows_of(forged, is_quick=False)["remade"]
    assert row.words.startswith("not checked: its manifest names another program: this version with other code, or ")
    assert not row.findings


def test_pages_of_another_program_that_are_the_same_follow_from_the_record(files: Files) -> None:
    """Also those of another version, which they name in their words."""
    old = of_program(files, program_sha256="0" * 64, version="0.12.7")
    row = rows_of(old, is_quick=False)["remade"]
    assert row.checked == 0, "they still name the version of this program"
    assert row.words == f"not checked: its manifest names another program: 0.12.7, not {__version__}"
    names = [name for name in old if name.endswith("index.html") or name == CRATE]
    for name in names:
        old[name] = old[name].replace(f"autoresearch {__version__} from".encode(), b"autoresearch 0.12.7 from")
        old[name] = old[name].replace(f'ersion": "{__version__}"'.encode(), b'ersion": "0.12.7"')
    row = rows_of(resealed(old), is_quick=False)["remade"]
    assert row.checked == len([name for name in names if name != CRATE]) + 3 and not row.findings, row


def of_program(files: Files, **named: str) -> Files:
    """The files of a bundle whose manifest names another program."""
    return resealed(files | {MANIFEST: json.dumps(json.loads(files[MANIFEST]) | named).encode()})


# --- figures that pages of another version have


PAGE_OF_3 = "experiments/0003/index.html"


@pytest.mark.parametrize(
    "name", ["bpb-3", "incumbent-bpb-3", "difference-3", "difference-error-3", "sigmas-3", "status-3"]
)
def test_the_page_of_an_experiment_marks_what_it_says_first(files: Files, name: str) -> None:
    forged = with_file(PAGE_OF_3, other_figure(name))(files)
    assert problems_of(forged) == [
        ("figures", PAGE_OF_3, f'its figure "{name}" says "9.8765", and the history does not')
    ]
    lacks = with_file(PAGE_OF_3, lambda text: text.replace(f'data-figure="{name}"', ""))
    words = f'its figure "{name}" is not there, and the history has it'
    assert problems_of(lacks(files)) == [("figures", PAGE_OF_3, words)]
    assert problems_of(lacks(of_program(files, version="0.12.9"))) == []


def with_calls(words: str) -> Callable[[Files], Files]:
    """A history with two calls of a model without a price, and a page that says this of its 31 431 tokens."""

    def forge(files: Files) -> Files:
        events = events_in(files)
        call = {
            "event": "called",
            "experiment": 1,
            "model": "m",
            "cost": None,
            "seconds": 1.0,
            "time": events[-1]["time"],
        }
        for tokens_in, tokens_out in ((30_000, 31), (1_000, 400)):
            events.append({"seq": len(events) + 1, **call, "tokens_in": tokens_in, "tokens_out": tokens_out})
        said = f'<p>The model used <span data-figure="tokens">{words}</span> tokens.</p></main>'
        return resealed(files | {PAGE: files[PAGE].replace(b"</main>", said.encode())}, events)

    return forge


@pytest.mark.parametrize("name", ["baseline-error", "result-judged-difference", "result-judged-error"])
def test_a_page_of_this_and_of_a_later_version_must_mark_more_figures(files: Files, name: str) -> None:
    forge, row, words = without_mark(name)
    earlier, later = (of_program(files, version=version) for version in ("0.11.0", "0.14.0"))
    assert problems_of(earlier) == problems_of(later) == problems_of(forge(earlier)) == []
    assert problems_of(forge(files)) == problems_of(forge(later)) == [(row, PAGE, words)]


@pytest.mark.parametrize("name", SINCE_0_13)
def test_a_page_before_0_13_need_not_mark_what_later_ones_must(files: Files, name: str) -> None:
    forge, row, words = without_mark(name)
    assert problems_of(forge(of_program(files, version="0.12.9"))) == []
    assert problems_of(forge(files)) == problems_of(forge(of_program(files, version="0.14.0"))) == [(row, PAGE, words)]


@pytest.mark.parametrize(
    ("words", "is_right"), [("31.4 k", True), ("31.5 k", False), ("31\u2009431", True), ("31.4 M", False)]
)
def test_what_a_model_used_is_compared_in_its_unit(files: Files, words: str, is_right: bool) -> None:
    found = problems_of(with_calls(words)(files))
    wrong = ("figures", PAGE, f'its figure "tokens" says "{words}", and the history does not')
    assert found == ([] if is_right else [wrong])
    without = with_file(PAGE, lambda text: text.replace('data-figure="tokens"', ""))(with_calls(words)(files))
    assert problems_of(without) == [("figures", PAGE, 'its figure "tokens" is not there, and the history has it')]


@pytest.mark.parametrize("version", ["0.11.0", "0.9.12"])
def test_a_page_of_an_earlier_version_has_fewer_marks(files: Files, version: str) -> None:
    earlier = of_program(files, version=version)
    for name in ("result-low", "discarded", "status-3", "difference-error-3", "baseline-bpb"):
        assert problems_of(without_mark(name)[0](earlier)) == []
    forge, row, words = without_mark("bpb-3")
    assert problems_of(forge(earlier)) == [(row, PAGE, words)]


def test_the_scores_of_what_was_kept_are_marked(files: Files) -> None:
    kept = [event for event in events_in(files) if event["event"] == "decided" and event["status"] == "keep"][1:]
    part = files[PAGE].decode().partition("What was kept</h2>")[2].partition("</section>")[0]
    for number in (event["experiment"] for event in kept):
        names = ("bpb", "incumbent-bpb", "difference", "difference-error")
        assert all(part.count(f'data-figure="{name}-{number}"') == 1 for name in names), number
    plain = re.sub(r"<[^>]+>", "", part)
    assert len(kept) > 3 and len(
        re.findall(r"\d\.\d{4} against \d\.\d{4}: .*?[+−]\d\.\d{4} ± \d\.\d{4}\.", plain)
    ) == len(kept)


def test_a_program_that_has_changed_since_it_began_vouches_for_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "began_at", lambda: 1.0)
    build.program_sha256.cache_clear()
    try:
        assert build.program_sha256() == ""
    finally:
        build.program_sha256.cache_clear()


def null_run(events: list[Event]) -> None:
    last(events, "started")["run"] = None


def huge_scores(events: list[Event]) -> None:
    for event in events:
        if event["event"] == "tested" and event["test_bpb"] is not None:
            event["test_bpb"] *= 1e160


@pytest.mark.parametrize("kind", ["limits", "called", "refused"])
def test_an_event_that_the_program_alone_reads_is_one_finding_and_not_one_for_each_figure(
    files: Files, kind: str
) -> None:
    """The page in a browser looks at fewer fields of such events, or at none."""

    def add(events: list[Event]) -> None:
        events.append({"seq": len(events) + 1, "event": kind, "time": events[-1]["time"], "tokens_in": "many"})

    row = rows_of(with_events(add)(files))["figures"]
    assert [str(finding) for finding in row.findings] == [f"{HISTORY}: {UNREADABLE}"]
    assert row.checked < rows_of(files)["figures"].checked


@pytest.mark.parametrize("forge", [null_run, huge_scores])
def test_values_that_no_supervisor_writes_end_in_findings_and_no_traceback(
    files: Files, forge: Callable[[list[Event]], None]
) -> None:
    assert problems_of(with_events(forge)(files), is_quick=False)


def test_a_bundle_whose_pages_cannot_be_made_again_is_no_traceback(files: Files) -> None:
    forged = resealed(files | {"study.json": b"[]"})
    found = [(row, file) for row, file, _ in problems_of(forged, is_quick=False)]
    assert found == [("history", "study.json"), ("remade", HISTORY)]
    other = of_program(forged, program_sha256="0" * 64)
    assert [(row, file) for row, file, _ in problems_of(other, is_quick=False)] == [("history", "study.json")]


def test_the_installed_rule_sees_a_baseline_that_is_surer_than_its_runs(files: Files) -> None:
    """Sigma and the error of the baseline agree, and only its runs contradict both."""

    def forge(events: list[Event]) -> None:
        event = last(events, "decided", experiment=0)
        event |= {"sigma": event["sigma"] / 2, "standard_error": event["standard_error"] / 2}

    found = problems_of(with_events(forge)(files), is_quick=False)
    words = "experiment 0000: the installed rule gets other numbers from the runs before it"
    assert ("rule", HISTORY, words) in found and "decisions" not in {row for row, _, _ in found}


@pytest.mark.parametrize(("run", "rule"), [(1, None), (0, None), (1, {"version": 0})])
def test_a_run_that_the_rule_did_not_ask_for_is_found(files: Files, run: int, rule: dict[str, int] | None) -> None:
    def draw_again(events: list[Event]) -> None:
        """The change was discarded after one run, and trains once more all the same."""
        decided = next(
            event for event in events
            if event["event"] == "decided" and event["status"] == "discard" and len(event["rule"]["scores"]) == 1
        )  # fmt: skip
        place, number = events.index(decided), decided["experiment"]
        first = [e for e in events if e.get("experiment") == number and e["event"] in ("started", "trained", "scored")]
        again = [{**event, "run": run} for event in first]
        assert len(again) == 3 and "rule" not in again[0]
        again[0] |= {"rule": rule} if rule else {}
        events[place:place] = again
        for seq, event in enumerate(events, 1):
            event["seq"] = seq

    forged = with_events(draw_again)(files)
    problems = [problem for row, _, problem in problems_of(forged, is_quick=False) if row == "rule"]
    assert any(f"its run {run + 1} was not asked for by the rule" in problem for problem in problems), problems


# --- the command


def test_verify_says_what_was_checked_and_what_cannot_be_known(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(night)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("as the manifest has them", "that follow from their numbers", "the installed rule gets the same"):
        assert words in said
    assert all(" ".join(words.split()) in said for words in UNKNOWN)


def test_verify_of_a_damaged_bundle_names_the_file_and_has_another_exit_status(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = zip_of(files | {"results.tsv": b"commit\n"}, tmp_path / "damaged.zip")
    assert main(["verify", str(path), "--json"]) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["files"]["verdict"] == "fail" and checks["files"]["found"] == "results.tsv: its content was changed"
    assert checks["files"]["facts"]["findings"] == [{"file": "results.tsv", "problem": "its content was changed"}]
    assert main(["verify", str(tmp_path / "nothing.zip")]) == 1
    assert "nothing.zip" in capsys.readouterr().err
