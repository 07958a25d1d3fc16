"""verify.js in a real browser, from the disk and without a network: it says what the check in Python says."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoresearch_kernel.core.grounds import DuelGrounds, Grounds, recorded
from autoresearch_kernel.core.student import as_known, quantile
from autoresearch_kernel.record.bundle import NIGHTS
from autoresearch_kernel.share.bundle import Bundle
from autoresearch_kernel.share.check import UNKNOWN, check_bundle
from autoresearch_kernel.share.figures import FIGURES, OF_CHANGE, OF_EXPERIMENT, OF_RUNS, known
from autoresearch_kernel.share.manifest import HISTORY, MANIFEST
from autoresearch_kernel.share.recorded import Recorded
from autoresearch_kernel.show.attribution_words import VERDICTS
from tests.bundles import Files, events_in, files_of, flipped, with_events, zip_of
from tests.conftest import PROJECT
from tests.share.test_pages import SIZES, Visit
from tests.share.test_verifying import FORGERIES, with_calls

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NUM_FLIPS = 30
CHECK = """async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const rows = await verifyBundle.checkBundle(await verifyBundle.readZip(bytes));
  return rows.map((row) => [row.name, row.checked, row.unchecked, row.findings]);
}"""


@pytest.fixture(scope="module")
def page(night: Path, driven: Browser) -> Iterator[Visit]:
    yield Visit(driven, night.parent / "nov23" / "index.html")


def says(visit: Visit, path: Path) -> list[Any]:
    found: list[Any] = visit.page.evaluate(CHECK, base64.b64encode(path.read_bytes()).decode())
    return found


def python_says(files: Files) -> list[Any]:
    rows = check_bundle(Bundle(dict(files)), is_whole=False)
    return [[row.name, row.checked, row.unchecked, [[f.file, f.problem] for f in row.findings]] for row in rows]


def test_an_honest_bundle_and_an_old_one_get_the_same_rows(
    page: Visit, files: Files, night: Path, tmp_path: Path
) -> None:
    assert says(page, night) == python_says(files)

    def forget(events: list[dict[str, Any]]) -> None:
        for event in events:
            event.pop("rule", None)

    old = with_events(forget)(files)
    assert says(page, zip_of(old, tmp_path / "old.zip")) == python_says(old)


def test_a_night_on_several_slots_gets_the_same_rows(page: Visit, slots: Path) -> None:
    found = says(page, slots)
    assert found == python_says(files_of(slots)) and not any(findings for *_, findings in found)


def test_a_night_of_duels_gets_the_same_rows(page: Visit, duels: Path) -> None:
    found = says(page, duels)
    assert found == python_says(files_of(duels)) and not any(findings for *_, findings in found)


@pytest.mark.parametrize("path", sorted((PROJECT / NIGHTS).glob("*.zip")), ids=lambda path: path.stem)
def test_a_recorded_night_gets_the_same_rows(page: Visit, path: Path) -> None:
    found = says(page, path)
    assert found == python_says(files_of(path)) and not any(findings for *_, findings in found)


def test_damaged_bundles_get_the_same_findings(page: Visit, files: Files, tmp_path: Path) -> None:
    dice = random.Random(40)
    damaged = [flipped(files, dice)[0] for _ in range(NUM_FLIPS)]
    damaged += [flipped({name: files[name]}, dice)[0] for name in (MANIFEST, HISTORY, "index.html") for _ in range(3)]
    damaged += [{n: d for n, d in files.items() if n != name} for name in (HISTORY, "index.html", "results.tsv")]
    damaged.append(files | {"experiments/0001/more.py": b"1"})
    damaged.append(files | {HISTORY: files[HISTORY][:-300]})
    for change in damaged:
        whole = change if len(change) > 3 else files | change
        assert says(page, zip_of(whole, tmp_path / "damaged.zip")) == python_says(whole)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forgeries_get_the_same_findings(page: Visit, files: Files, tmp_path: Path, forgery: str) -> None:
    forged = FORGERIES[forgery][0](files)
    found = says(page, zip_of(forged, tmp_path / "forged.zip"))
    assert found == python_says(forged) and any(findings for *_, findings in found)


def test_damage_of_the_packed_bytes_is_found_or_changes_no_content(page: Visit, night: Path, tmp_path: Path) -> None:
    dice, data = random.Random(5), night.read_bytes()
    for _ in range(8):
        place = dice.randrange(len(data))
        path = tmp_path / "packed.zip"
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :])
        try:
            found = says(page, path)
        except Exception as error:  # of playwright, with the words of the page
            assert "zip" in str(error) or "manifest.json" in str(error)
            continue
        if not any(findings for *_, findings in found):
            assert files_of(path) == files_of(night)


def test_its_own_sha_256_and_crc_are_those_of_python(page: Visit) -> None:
    dice = random.Random(1)
    texts = ["", "abc", "a" * 55, "a" * 56, "a" * 64, "ü" * 1000, *("x" * n for n in range(50, 70))]
    data = [text.encode() for text in texts] + [dice.randbytes(n) for n in (1, 63, 1000, 100_000)]
    script = """async (packed) => Promise.all(packed.map(async (text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      return [verifyBundle.ownSha256(bytes), await verifyBundle.sha256(bytes), verifyBundle.crc32(bytes)];
    }))"""
    found = page.page.evaluate(script, [base64.b64encode(part).decode() for part in data])
    for part, answer in zip(data, found, strict=True):
        digest = hashlib.sha256(part).hexdigest()
        assert answer == [digest, digest, f"{zlib.crc32(part):08x}"]


def test_its_rule_is_the_rule(page: Visit) -> None:
    """Thresholds and means of 600 random decisions in every mode of the rule, and Student's t."""
    dice = random.Random(2)
    rules = [recorded(_of_runs(dice) if n % 3 else _of_duel(dice)) for n in range(600)]
    sent = json.loads(json.dumps(rules))
    found = page.page.evaluate(
        "(rules) => rules.map((r) => verifyBundle[r.kind === 'runs' ? 'ofRuns' : 'ofDuel'](r))", sent
    )
    for rule, answer in zip(rules, found, strict=True):
        assert answer["keep"] == (rule["keep_below"] and pytest.approx(rule["keep_below"], rel=1e-9))
        assert answer["confirm"] == (rule["confirm_below"] and pytest.approx(rule["confirm_below"], rel=1e-9))
    degrees = [1, 2, 3, 7, 20, 101]
    reached = page.page.evaluate(
        "(all) => all.map((n) => [verifyBundle.quantile(1e-5, n), verifyBundle.quantile(0.01, n)])", degrees
    )
    assert reached == [[pytest.approx(quantile(1e-5, n)), pytest.approx(quantile(0.01, n))] for n in degrees]


@pytest.mark.parametrize("words", ["31.4 k", "31.5 k", "31\u2009431", "31.4 M"])
def test_what_a_model_used_gets_the_same_findings(page: Visit, files: Files, tmp_path: Path, words: str) -> None:
    forged = with_calls(words)(files)
    assert says(page, zip_of(forged, tmp_path / "calls.zip")) == python_says(forged)


def test_its_figures_are_those_of_the_program_whatever_the_machine_did(page: Visit, files: Files, slots: Path) -> None:
    """Of 120 histories with other scores, speeds, kinds of machine, audits and calls."""
    of_experiments = (*OF_RUNS, *OF_EXPERIMENT, *OF_CHANGE)
    names = [*FIGURES, *(f"{kind}-{number}" for kind in of_experiments for number in range(27))]
    dice, seen, parts = random.Random(13), dict.fromkeys(names, 0), set()
    for n in range(120):
        events = _changed(events_in(files if n % 4 else files_of(slots)), dice)
        recorded = Recorded()
        for event in events:
            recorded.add(event)
        mine = {name: known(name, recorded) for name in names}
        parts |= {effect.part for effect in recorded.effects.values()}
        found = page.page.evaluate("([events, names]) => verifyBundle.figuresOf(events, names)", [events, names])
        for name, value in mine.items():
            is_number, near = isinstance(value, int | float), 1e-6 if name.startswith("sigmas-") else 1e-12
            assert found[name] == (pytest.approx(value, rel=1e-9, abs=near) if is_number else value), name
        for name, value in mine.items():
            seen[name] += value is not None
    assert all(seen[name] for name in FIGURES), seen
    assert all(any(seen[f"{kind}-{number}"] for number in range(27)) for kind in of_experiments), seen
    assert parts == set(VERDICTS)


def _changed(events: list[dict[str, Any]], dice: random.Random) -> list[dict[str, Any]]:
    """A history that the supervisor could have written on another machine; its decisions are what they were."""
    names = dice.sample(MEASURED, dice.randrange(len(MEASURED) + 1))
    scatter, speeds, has_kinds = dice.choice((0.001, 0.02)), dice.choice((0.01, 0.1, 0.5)), dice.random() < 0.3
    for event in events:
        kind = event["event"]
        if kind == "study_started":
            event["study"] |= {
                "time_budget_seconds": dice.choice((5, 300.5)),
                "hardware": {"device": dice.choice(DEVICES)},
            }
        elif kind == "started" and has_kinds:
            event["machine"] = dice.choice(("", "", "a faster kind"))
        elif kind == "trained" and event.get("measured"):
            some = {name: dice.lognormvariate(5, speeds) for name in names if dice.random() < 0.95}
            event["measured"] = (
                {"curve_slope": dice.random()} | some | {"relative_speed": dice.lognormvariate(0, speeds)}
            )
        elif kind == "scored" and event.get("val_bpb") is not None:
            event["val_bpb"] += dice.gauss(0, scatter)
            event["standard_error"] = dice.choice((None, 0.01, 0.03))
        elif kind == "audited" and dice.random() < 0.1:
            event["event"] = "note"
        elif kind == "result":
            event |= {"num_looks": dice.choice((1, 2)), "num_failed_runs": dice.choice((0, 1, 3))}
        elif kind == "stopped" and dice.random() < 0.5:
            event |= {"event": "note", "text": ""}
    for _ in range(dice.randrange(3)):
        call = {"experiment": 2, "model": "m", "tokens_in": dice.randrange(10**6), "tokens_out": 5, "seconds": 1.0}
        events.append({"event": "called", "cost": dice.choice((None, 0.25)), "time": events[-1]["time"], **call})
    refusal = {"experiment": 2, "objection": "repeat", "why": "", "hypothesis": ""}
    events += [{"event": "refused", **refusal} for _ in range(dice.randrange(3))]
    return events + [{"event": "attribution", **event} for event in _taken_out(events, dice)]


def _taken_out(events: list[dict[str, Any]], dice: random.Random) -> Iterator[dict[str, Any]]:
    """Events of an attribution of the champion that is under way, with trainings of every kind."""
    kept = [event["experiment"] for event in events if event["event"] == "decided" and event["status"] == "keep"]
    of = {"champion": kept[-1]}
    is_whole = dice.random() < 0.2  # as many runs as it takes to tell luck
    num_seeds, level, scatter = 9 if is_whole else dice.randrange(1, 5), 1.5, dice.choice((0.001, 0.05))
    yield of | {"what": "begun", "changes": kept[1:], "num_seeds": num_seeds}
    for without in [None, *dice.sample(kept[1:], len(kept) - 1 if is_whole else dice.randrange(len(kept)))]:
        obstacle = dice.choice((None,) * 5 + ("conflict", "same", "dry run")) if without else None
        one = of | {"without": without}
        yield one | {"what": "variant", "obstacle": obstacle, "why": "it is so" if obstacle else ""}
        worth = dice.choice((-0.1, 0.0, 0.0, 0.1)) if without else 0.0
        for run in range(0 if obstacle else num_seeds if is_whole else dice.randrange(num_seeds + 1)):
            yield one | {"what": "started", "run": run, "seed": run}
            kind = "scored" if is_whole else dice.choice(("scored",) * 6 + ("crash", "cut off", "not scored", "again"))
            if kind == "cut off":
                yield one | {"what": "interrupted", "run": run, "cause": dice.choice(("gone", "slow")), "reason": "x"}
            if kind == "again":
                yield one | {"what": "started", "run": run, "seed": run + 9}
            if kind in ("scored", "not scored", "crash"):
                yield one | {"what": "trained", "run": run, "status": kind if kind == "crash" else None, "reason": "x"}
            if kind in ("scored", "not scored"):
                scored = {"val_bpb": level + worth + dice.gauss(0, scatter), "status": None}
                lost = {"val_bpb": None, "status": "invalid", "reason": "no model"}
                yield one | {"what": "scored", "run": run} | (scored if kind == "scored" else lost)


DEVICES = ("cpu", "cuda")
MEASURED = ("machine_speed", "budget_speed", "num_tokens", "counted_seconds", "tokens_per_second")


def test_its_differences_in_sigma_are_those_of_the_program(page: Visit) -> None:
    dice = random.Random(6)
    pairs = [(dice.gauss(0, 8), dice.choice((None, 0, 1, 2, 5, 20, 300))) for _ in range(60)] + [(0.0, 3), (-900.0, 40)]
    found = page.page.evaluate("(pairs) => pairs.map(([t, degrees]) => verifyBundle.asKnown(t, degrees))", pairs)
    assert found == [pytest.approx(as_known(*pair), abs=1e-6) for pair in pairs]


def _of_runs(dice: random.Random) -> Grounds:
    scores = tuple(dice.gauss(1.5, 0.002) for _ in range(dice.choice((1, 1, 2, 3))))
    theirs = tuple(dice.gauss(1.5, 0.002) for _ in range(dice.choice((1, 2, 3, 7))))
    sigma = dice.choice((None, 0.0, 0.001, 0.002))
    return Grounds(
        3, tuple(range(len(scores))), scores, tuple(range(len(theirs))), theirs,
        speed_bpb=dice.choice((0.0, 0.0013)), sigma=sigma, degrees_of_freedom=dice.choice((0, 1, 2, 9, 40)),
        level_error=None if sigma is None else dice.choice((0.0005, 0.004)), is_like=dice.random() < 0.8,
        worse_share=dice.choice((0.0, 0.1, 0.125, 0.3, 0.4, 0.9)), is_lucky=dice.random() < 0.5,
        is_simpler=dice.random() < 0.3,
    )  # fmt: skip


def _of_duel(dice: random.Random) -> DuelGrounds:
    pairs = tuple((dice.gauss(1.5, 0.002), dice.gauss(1.5, 0.002)) for _ in range(dice.choice((1, 2))))
    scores = (1.4991,) if dice.random() < 0.7 else ()
    return DuelGrounds(
        0, tuple(range(len(scores))), scores, 1.5003, 0.0021, tuple((n + 1, n + 3) for n in range(len(pairs))), pairs,
        0.0017, degrees_of_freedom=dice.choice((7, 9, 30)), worse_share=dice.choice((0.0, 0.2)),
        is_simpler=dice.random() < 0.3,
    )  # fmt: skip


# --- what a person does and sees


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_dark", [False, True])
def test_the_button_and_the_zip_say_that_all_is_well(
    driven: Browser,
    night: Path,
    size: str,
    is_dark: bool,
) -> None:
    visit = Visit(driven, night.parent / "nov23" / "index.html", SIZES[size], dark=is_dark)
    section = visit.page.locator("#verify")
    section.get_by_role("button", name="Verify what this page holds").click()
    verdict = section.locator(".verify-verdict")
    verdict.wait_for()
    assert verdict.inner_text() == "Nothing that was checked is wrong."
    text = section.inner_text()
    assert "files not checked: choose the zip or its folder" in text and all(words in text for words in UNKNOWN)
    visit.shot(f"verify-own-{size}-{'dark' if is_dark else 'light'}")
    section.get_by_label("All files, from the zip:").set_input_files(night)
    section.get_by_text("Everything that can be checked is as it should be.").wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.shot(f"verify-zip-{size}-{'dark' if is_dark else 'light'}")
    assert visit.complaints == []


def test_a_folder_is_read_too_and_what_was_changed_in_it_is_named(
    driven: Browser,
    files: Files,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "nov23"
    for name, content in (files | {"results.tsv": b"other\n"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    visit = Visit(driven, folder / "index.html", SIZES["phone"])
    visit.page.locator("#verify").get_by_label("or from its folder:").set_input_files(folder)
    visit.page.locator("#verify .verify-verdict").wait_for()
    text = visit.page.locator("#verify").inner_text()
    assert "1 problem found." in text and "results.tsv: its content was changed" in text
    visit.shot("verify-damaged-phone")


def test_the_page_finds_a_forged_decision_in_what_it_holds_itself(
    driven: Browser,
    files: Files,
    tmp_path: Path,
) -> None:
    path = tmp_path / "index.html"
    path.write_bytes(FORGERIES["a verdict is turned"][0](files)["index.html"])
    visit = Visit(driven, path)
    visit.page.locator("#verify").get_by_role("button", name="Verify what this page holds").click()
    visit.page.locator("#verify .verify-verdict").wait_for()
    assert "its numbers say keep" in visit.page.locator("#verify").inner_text()


def test_the_browser_has_its_own_sha_256_for_a_page_of_the_disk_or_the_page_brings_one(page: Visit) -> None:
    """Chromium has it; the check also works where `crypto.subtle` is missing."""
    script = """async () => {
      const own = Object.getOwnPropertyDescriptor(Crypto.prototype, "subtle");
      Object.defineProperty(crypto, "subtle", { value: undefined, configurable: true });
      const rows = await verifyBundle.checkOwnPage(document);
      delete crypto.subtle;
      return [own !== undefined, rows.flatMap((row) => row.findings), rows[1].checked];
    }"""
    has_own, findings, lines = page.page.evaluate(script)
    assert has_own is True and findings == [] and lines > 100


def test_the_events_of_the_page_are_those_of_the_file(page: Visit, files: Files) -> None:
    held = page.page.evaluate("JSON.parse(document.getElementById('bundle').textContent).history.length")
    assert held == len(events_in(files))
