"""Verifies a bundle: everything that can be recomputed from its files, and in words what cannot be known.

verify.js does the same in the page, with the same rows and the same sentences, except for the last two rows, which need
the installed program. A row looks only at files whose content is what the manifest says, so a changed byte is reported
once, with the file that it is in.

A maker of bundles writes, besides the files that it likes: `manifest.json` with `manifest.manifest_text`;
`history.jsonl` with `chain.chained`; `experiments/NNNN/train.py` and, from 0001 on, `experiments/NNNN/change.diff`,
made by `source/diff.py` against the parent's code; `baseline/train.py` and `champion/train.py`; `results.tsv`;
`index.html` with figures (`figures.py`) and `<script type="application/json" id="bundle">`, which holds
`{"manifest": manifest.embedded(...), "history": [lines], "sources": {"0001": text}, "diffs": {"0001": text}}` with
each `<` written as `\\u003c`. Where cleaning changed a train.py, `train_sha256` in the history has to be that of the
new text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.format import count, plain
from ..core.state import Event, HistoryDamaged
from ..core.version import __version__
from ..source.diff import applied
from . import chain
from .bundle import CHANGED, Bundle
from .decisions import check_decisions, decide_again
from .figures import Page, fits, known, missing, missing_of, needs_state, read_page
from .manifest import FORMAT, HISTORY, MANIFEST, PAGE, TABLE, embedded, file_facts, is_sealed
from .recorded import UNFIT, Recorded
from .remade import differing, is_of_this_program
from .settings import SETTINGS, problems_of_settings

UNKNOWN = (  # what no check of a bundle can know
    "Whether the machine told the truth: a person who makes up numbers and recomputes all hashes gets a bundle that "
    "verifies. The command rerun trains an experiment again on your machine.",
    "Whether the clock was honest: the budget of a run was counted where the study ran.",
    "Whether the models had the scores that are recorded: a bundle holds no model.",
    "Whether notebooks, curves and prompts are those of the study: a person who changes them and recomputes all hashes "
    "is not found out.",
    "Whether sentences and pictures of the pages say what the record says, where the check is made in a browser: the "
    "command makes the pages again and compares them. Where they differ and another program made them, it cannot tell.",
    "Whether experiments were left out before the history began, or whether a better study was not shared.",
    "What the cleaning removed: names, paths and keys were replaced before the hashes were made.",
)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    file: str  # path in the bundle
    problem: str  # one line

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


@dataclass(frozen=True)
class Row:
    """One part of the check."""

    name: str
    checked: int  # things that were looked at
    findings: tuple[Finding, ...] = ()
    unchecked: int = 0  # things that could not be looked at
    why: str = ""  # why not; "" where all were

    @property
    def words(self) -> str:
        """What was looked at, in one line; for a row without findings."""
        what = _WORDS[self.name]
        if not self.checked:
            return f"not checked: {self.why}"
        rest = f"; {self.unchecked} not checked: {self.why}" if self.unchecked else ""
        return f"{count(self.checked, what[0])} {what[1]}{rest}"


_WORDS = {  # noun and what is so
    "files": ("file", "as the manifest has them"),
    "history": ("line", "of the history, each chained to the one before"),
    "lineage": ("experiment", "whose diff leads from the parent's code to its own"),
    "decisions": ("decision", "that follow from their numbers"),
    "figures": ("figure", "that follow from the history"),
    "page": ("part", "that the page holds and that are those of the files"),
    "rule": ("decision", "for which the installed rule gets the same numbers"),
    "remade": ("text", "of pages and tables that this program makes again from the record in the same words"),
}
OLD = "the version that recorded them kept no numbers"
UNREADABLE = "the program cannot read an event of it, so figures that rest on all of them are not checked"
OF_COMMAND = ("rule", "remade")  # rows of the command alone, which a page cannot have


def check_bundle(bundle: Bundle, is_whole: bool = True) -> list[Row]:
    """The rows of the check, in their order.

    Args:
        is_whole: with those that need the installed program, which take the longest.
    """
    files, manifest = _files(bundle)
    bad = {finding.file for finding in files.findings}
    whole = Bundle({name: data for name, data in bundle.files.items() if name not in bad})
    history, events = _history(whole, manifest)
    rows = [files, history]
    if events is None:
        why = "the history is not whole"
        names = ("lineage", "decisions", "figures", "page", *(OF_COMMAND if is_whole else ()))
        return [*rows, *(Row(name, 0, unchecked=1, why=why) for name in names)]
    decided, recorded = check_decisions(events)
    problems = tuple(Finding(HISTORY, problem) for problem in decided.problems)
    why = OLD if decided.unchecked else ""
    page = read_page(whole.text(PAGE) or "") if PAGE in whole.files else None
    rows += [
        _lineage(whole, recorded),
        Row("decisions", decided.checked, problems, decided.unchecked, why or "there is none"),
        _figures(whole, page, recorded, (manifest or {}).get("version")),
        _page(whole, page, manifest),
    ]
    if not is_whole:
        return rows
    return [*rows, _rule(events, has_problems=bool(problems)), _remade(bundle, manifest, bad)]


def events_of(bundle: Bundle) -> list[Event]:
    """The events of a bundle that verifies."""
    return [json.loads(line) for line in (bundle.text(HISTORY) or "").split("\n")[:-1]]


# --- files


def _files(bundle: Bundle) -> tuple[Row, dict[str, Any] | None]:
    """The row, and the manifest, None for one that is not as it was written."""
    manifest = _manifest(bundle)
    if manifest is None:
        problem = bundle.broken.get(MANIFEST, CHANGED)
        why = "the manifest is not whole"
        return Row("files", 0, (Finding(MANIFEST, problem),), len(bundle.files), why), None
    findings = []
    for name in sorted({*manifest["files"], *bundle.files, *bundle.broken} - {MANIFEST}):
        if problem := _of_file(name, bundle, manifest["files"]):
            findings.append(Finding(name, problem))
    return Row("files", 1 + len(manifest["files"]), tuple(findings)), manifest


def _manifest(bundle: Bundle) -> dict[str, Any] | None:
    text = bundle.text(MANIFEST)
    if text is None or not is_sealed(text):
        return None
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    has_parts = is_ours and isinstance(manifest.get("files"), dict) and isinstance(manifest.get("history"), dict)
    has_parts = has_parts and all(isinstance(facts, dict) for facts in manifest["files"].values())
    return manifest if has_parts else None


def _of_file(name: str, bundle: Bundle, known: dict[str, Any]) -> str:
    if name in bundle.broken:
        return bundle.broken[name]
    if name not in known:
        return "it is not in the manifest"
    if name not in bundle.files:
        return "it is missing"
    facts = file_facts(bundle.files[name])
    return "" if all(known[name].get(key) == value for key, value in facts.items()) else CHANGED


# --- history


def _history(whole: Bundle, manifest: dict[str, Any] | None) -> tuple[Row, list[Event] | None]:
    """The row, and the events; None where the history is not whole."""
    text = whole.text(HISTORY)
    if text is None:
        return Row("history", 0, unchecked=1, why="history.jsonl is not whole"), None
    lines = text.split("\n")
    problems = [] if lines.pop() == "" else ["its last line has no end"]
    problems += [f"line {line.number}: {line.problem}" for line in chain.check(lines)]
    events = [_event(line) for line in lines]
    problems += [f"line {n}: it is not record {n}" for n, e in enumerate(events, 1) if e is None or e["seq"] != n]
    if manifest is not None and manifest["history"] != {"events": len(lines), "head": chain.head(lines)}:
        problems.append("its length and its last chain are not those of the manifest")
    if problems:
        return Row("history", len(lines), tuple(Finding(HISTORY, problem) for problem in problems)), None
    found = [event for event in events if event is not None]
    settings = whole.text(SETTINGS)
    wrong = [] if settings is None else problems_of_settings(settings, found)
    return Row("history", len(lines), tuple(Finding(SETTINGS, problem) for problem in wrong)), found


def _event(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("seq"), int)
    return event if is_event else None


# --- lineage


def _lineage(whole: Bundle, recorded: Recorded) -> Row:
    findings: list[Finding] = []
    checked = unchecked = 0
    for number in sorted(recorded.parents):
        found = _of_experiment(whole, recorded, number)
        if found is None:
            unchecked += 1
            continue
        checked += 1
        findings += found
    findings += _copies(whole, recorded)
    return Row("lineage", checked, tuple(findings), unchecked, "their files are not there, or not whole")


def _of_experiment(whole: Bundle, recorded: Recorded, number: int) -> list[Finding] | None:
    """What is wrong with one experiment's code; None where a file that this needs is not there."""
    name, parent = _train(number), recorded.parents[number]
    source, before = whole.text(name), None if parent is None else whole.text(_train(parent))
    if source is None or (parent is not None and before is None):
        return None
    if recorded.sources[number] not in ("", file_facts(whole.files[name])["sha256"]):
        return [Finding(name, "it is not the code that the history names")]
    if parent != recorded.incumbents[number]:
        return [Finding(HISTORY, f"experiment {number:04d}: its parent was not the incumbent")]
    if parent is None or before is None:
        return []
    path = f"experiments/{number:04d}/change.diff"
    change = whole.text(path)
    if change is None:
        return None
    is_fit = _applied(before, change) == source
    return [] if is_fit else [Finding(path, f"it does not lead from the code of {parent:04d} to that of {number:04d}")]


def _applied(before: str, change: str) -> str | None:
    try:
        return applied(before, change)
    except IndexError:  # a line without its first character
        return None


def _copies(whole: Bundle, recorded: Recorded) -> Iterator[Finding]:
    """The code of the baseline and of the champion stands twice."""
    for name, number in (("baseline/train.py", 0), ("champion/train.py", recorded.incumbent)):
        of = None if number is None else whole.files.get(_train(number))
        if number is not None and None not in (of, whole.files.get(name)) and of != whole.files[name]:
            yield Finding(name, f"it is not the code of experiment {number:04d}")


def _train(number: int) -> str:
    return f"experiments/{number:04d}/train.py"


# --- the page


def _figures(whole: Bundle, page: Page | None, recorded: Recorded, version: Any) -> Row:
    checked, findings = _of_page(PAGE, page, missing(page, recorded, version), recorded) if page else (0, [])
    for number in sorted(recorded.parents):
        path = f"experiments/{number:04d}/{PAGE}"
        if (html := whole.text(path)) is not None:
            own = read_page(html)
            more, found = _of_page(path, own, missing_of(own, number, recorded, version), recorded)
            checked, findings = checked + more, findings + found
    findings += [] if recorded.is_fit else [Finding(HISTORY, UNREADABLE)]
    rows = list(_rows_of_table(whole, recorded))
    findings += [Finding(TABLE, problem) for problem in rows if problem]
    is_read = page is not None and TABLE in whole.files
    return Row("figures", checked + len(rows), tuple(findings), int(not is_read), "a file with figures is not whole")


def _of_page(path: str, page: Page, lacks: Iterable[str], recorded: Recorded) -> tuple[int, list[Finding]]:
    """How many figures of a page were looked at, and what is wrong with them."""
    figures = [(name, text) for name, text in page.figures if recorded.is_fit or not needs_state(name)]
    wrong = [(name, text.strip()) for name, text in figures if not fits(text, known(name, recorded))]
    absent = list(lacks)
    findings = [Finding(path, f'its figure "{name}" says "{said}", and the history does not') for name, said in wrong]
    findings += [Finding(path, f'its figure "{name}" is not there, and the history has it') for name in absent]
    return len(figures) + len(absent), findings


def _rows_of_table(whole: Bundle, recorded: Recorded) -> Iterator[str]:
    """What is wrong with each row of results.tsv, "" where nothing is."""
    text = whole.text(TABLE)
    if text is None:
        return
    lines = [line.split("\t") for line in text.split("\n")[1:] if line]
    if len(lines) != len(recorded.decided):
        yield f"it has {len(lines)} experiments, and the history has {len(recorded.decided)}"
        return
    for place, (number, cells) in enumerate(zip(sorted(recorded.decided), lines, strict=True), 2):
        decided = recorded.decided[number]
        score = decided.get("val_bpb")
        is_score = len(cells) > 3 and (cells[1] == "" if score is None else fits(cells[1], score))
        yield "" if is_score and cells[3] == decided["status"] else f"line {place} does not follow from the history"


def _page(whole: Bundle, page: Page | None, manifest: dict[str, Any] | None) -> Row:
    """Whether what the page holds for its own check is what the files hold."""
    if page is None:
        return Row("page", 0, unchecked=1, why="index.html is not whole")
    try:
        data = json.loads(page.data or "")
        parts = list(_parts(whole, data, manifest))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Row("page", 1, (Finding(PAGE, "it holds no data of the study that can be read"),))
    findings = [Finding(PAGE, f"it holds another {what}") for what, is_same in parts if not is_same]
    return Row("page", len(parts), tuple(findings))


def _parts(whole: Bundle, data: dict[str, Any], manifest: dict[str, Any] | None) -> Iterator[tuple[str, bool]]:
    if manifest is not None:
        yield MANIFEST, data["manifest"] == embedded(manifest)
    yield HISTORY, [*data["history"], ""] == (whole.text(HISTORY) or "").split("\n")
    for kind, file in (("sources", "train.py"), ("diffs", "change.diff")):
        for number in sorted(data.get(kind) or {}):
            name = f"experiments/{number}/{file}"
            if name in whole.files:
                yield name, data[kind][number] == whole.text(name)


def _rule(events: Sequence[Event], has_problems: bool) -> Row:
    if has_problems:
        return Row("rule", 0, unchecked=1, why="a decision does not follow from its own numbers")
    try:
        found = decide_again(events)
    except HistoryDamaged as damage:
        return Row("rule", 1, (Finding(HISTORY, str(damage)),))
    except UNFIT:
        return Row("rule", 1, (Finding(HISTORY, "the installed rule cannot read its events"),))
    problems = tuple(Finding(HISTORY, problem) for problem in found.problems)
    return Row("rule", found.checked, problems, int(not found.checked), OLD)


# --- by the installed program: the pages


def _remade(bundle: Bundle, manifest: dict[str, Any] | None, bad: set[str]) -> Row:
    """Whether the pages are those that the program makes of the other files."""
    if manifest is None or bad:
        return Row("remade", 0, unchecked=1, why="a file is not whole")
    events = [json.loads(chain.bare(line)) for line in (bundle.text(HISTORY) or "").split("\n")[:-1]]
    try:
        checked, differ = differing(bundle, manifest, events)
    except UNFIT:
        checked, differ = 1, [(HISTORY, "no pages can be made of the record and the files beside it")]
    if differ and not is_of_this_program(manifest):  # whose words may be others
        version = plain(str(manifest.get("version")), 20)
        is_same = manifest.get("version") == __version__
        other = "this version with other code, or with another Python" if is_same else f"{version}, not {__version__}"
        return Row("remade", 0, unchecked=1, why=f"its manifest names another program: {other}")
    return Row("remade", checked, tuple(Finding(*problem) for problem in differ))
