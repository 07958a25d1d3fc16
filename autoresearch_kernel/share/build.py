"""Makes the bundle of a study: one zip with pages, notebooks, code, the record, and hashes of all of it.

The bundle holds no pickle and nothing that `clean.py` takes for private. `check.py` verifies what is made here.
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import unidata_version

from ..core.decide import best
from ..core.sanitize import Rule
from ..core.state import Event, replay
from ..core.types import Experiment
from ..core.version import __version__
from ..record.paths import METRICS
from ..record.results import results_text
from ..record.study import StudyError, sha256
from ..source.diff import diff
from ..system.locations import PACKAGED
from ..system.processes import began_at
from ..system.shell import shell_command
from . import chain
from .bundle import MOST_BYTES, names_in
from .clean import Cleaner
from .crate import CRATE, crate
from .experiment_page import experiment_page
from .layout import HERE
from .manifest import FORMAT, HISTORY, MANIFEST, PAGE, TABLE, embedded, file_facts, manifest_text
from .material import CONVERSATION, Conversation, Material, Notebook, cleaned
from .notebook import Place, as_text, portable
from .overview import overview
from .settings import SETTINGS
from .story import result_html, story

MOST_ZIP_BYTES = 20_000_000  # of a bundle of 100 experiments
ALL_PICTURES_BYTES = 8_000_000  # of a bundle's notebooks, which its pages show too: 100 experiments stay below 20 MB
FEWEST_NOTEBOOKS = 10  # among which these bytes are shared at least
MOST_EMBEDDED_BYTES = 10_000_000  # of code that index.html holds for its check
ALL_MESSAGES_CHARACTERS = 10_000_000  # of prompts and replies, which each stand in a page and in a file
FEWEST_CONVERSATIONS, MOST_OF_A_MESSAGE = 10, 150_000  # among which these are shared at least; characters
CUT = re.compile(r"\n\[\.\.\. ([\d,]+) characters more \.\.\.\]\Z", re.ASCII)  # how a message ends that was cut
VERIFY = "verify.js"
Say = Callable[[int, int], None]  # hears how many experiments of how many are done


def ignore_progress(done: int, of: int) -> None:
    """Default: says nothing."""


@dataclass(frozen=True)
class Made:
    """A bundle that was made."""

    data: bytes  # of the zip
    num_files: int
    num_notebooks: int
    is_running: bool
    removed: tuple[Mapping[str, Any], ...]  # what was replaced, and how often
    num_experiments: int
    num_left_out: int = 0  # experiments whose prompts and replies are not in it


def make_bundle(found: Material, rules: Sequence[Rule], made_at: str, say: Say) -> Made:
    """The zip of a study as it was found.

    Args:
        rules: what is private.
        made_at: UTC, ISO 8601.
        say: is told how far it is.
    """
    cleaner = Cleaner(rules)
    material = with_new_hashes(cleaned(found, cleaner), found.sources)
    diffs = _diffs(material)
    notebooks = _portable(material, diffs, cleaner)
    cleaner.counts.update(found.removed)
    removed = tuple(cleaner.removed())
    material = replace(material, notebooks=notebooks, conversations=_shortened(material.conversations))
    data = files_of(material, diffs, removed, made_at, say)
    _refuse_too_much(sum(map(len, data.values())), material)
    zipped = _zipped(material.study.name, data, made_at)
    return Made(zipped, len(data), len(notebooks), material.is_running, removed, len(material.state.experiments))


def files_of(
    material: Material,
    diffs: Mapping[int, str],
    removed: Sequence[Mapping[str, Any]],
    made_at: str,
    say: Say = ignore_progress,
    version: str = __version__,
) -> dict[str, bytes]:
    """All files of a bundle by their path below its folder. `remade.py` makes them again from a bundle's own files.

    Args:
        material: cleaned, with portable notebooks.
        diffs: experiment -> its change against the parent's code.
        removed: what the cleaning replaced, as the manifest lists it.
        made_at: UTC, ISO 8601.
        say: is told how far it is.
        version: of the program, which the manifest and each page name.
    """
    name = material.study.name
    files = {path: data for number in range(len(material.state.experiments))
             for path, data in _of_experiment(material, number, diffs, say, version)}  # fmt: skip
    files |= _of_study(material)
    lines = chain.chained(json_text(event) for event in material.events)
    files[HISTORY] = "".join(f"{line}\n" for line in lines)
    listed = [*files, PAGE, MANIFEST]
    files[CRATE] = crate(name, plain_story(material), made_at, listed, material.study.facts, version)
    data = {path: text.encode(errors="replace") for path, text in files.items()}
    manifest: dict[str, Any] = {
        "format": FORMAT, "study": name, "version": version, "program_sha256": program_sha256(),
        "made_at": made_at, "running": material.is_running, "prompts": material.has_prompts,
        "files": {path: file_facts(content) for path, content in sorted(data.items())},
        "history": {"events": len(lines), "head": chain.head(lines)}, "removed": list(removed),
    }  # fmt: skip
    page_data = {"manifest": embedded(manifest), "history": lines, **_code_for_page(material, diffs)}
    data[PAGE] = overview(material, diffs, page_data, removed, verify_script(), version).encode(errors="replace")
    manifest["files"] = {path: file_facts(content) for path, content in sorted(data.items())}
    data[MANIFEST] = manifest_text(manifest).encode()
    return data


@cache
def program_sha256() -> str:
    """Of all source files of this program: two with the same one make the same pages of the same record.

    Python's table of characters counts too, as it says which ones can be printed. "" where a file has changed since
    this process began, as in a notebook that was open while a new version was installed.
    """
    digest, package, since = hashlib.sha256(unidata_version.encode()), HERE.parent, began_at()
    paths = (path for ending in ("py", "js", "css") for path in package.rglob(f"*.{ending}"))
    for path in sorted(path for path in paths if path.relative_to(package).parts[0] != PACKAGED):
        if path.stat().st_mtime > since:
            return ""
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _refuse_too_much(num_bytes: int, material: Material) -> None:
    """Raise StudyError for a bundle that `verify` and its own page could not read."""
    if num_bytes <= MOST_BYTES:
        return
    words = f"The bundle would have {num_bytes / 1e6:.0f} MB unpacked, and one with more than {MOST_BYTES / 1e6:.0f} MB"
    without = " Leave the prompts and replies of its model out: add --no-prompts." if material.has_prompts else ""
    raise StudyError(f"{words} is not read by `{shell_command('verify')}`, so none was made.{without}")


def with_new_hashes(material: Material, before: Mapping[int, str]) -> Material:
    """Where cleaning changed a train.py, the history gets the SHA-256 of the new text.

    The hash of a file that was no longer what the history names, `before` it was cleaned, stays as it is.
    """
    known = {e.number: e.train_sha256 for e in material.state.experiments}
    intact = (number for number, source in before.items() if sha256(source) == known[number])
    new = {known[number]: sha256(material.sources[number]) for number in intact}
    events = tuple(_renamed(event, new) for event in material.events)
    return replace(material, events=events, state=replay(events))


def _renamed(event: Event, new: Mapping[str, str]) -> Event:
    digest = event.get("train_sha256") or ""
    return event | {"train_sha256": new[digest]} if digest in new else event


def plain_story(material: Material) -> str:
    """The night as plain text."""
    sentences = " ".join((*story(material), *result_html(material)))
    return html.unescape(re.sub(r"<[^>]+>", "", sentences))


def verify_script() -> str:
    """verify.js; "" in a version without it."""
    path = HERE / VERIFY
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that can be written as UTF-8, which half of a surrogate pair cannot."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _portable(material: Material, diffs: Mapping[int, str], cleaner: Cleaner) -> dict[tuple[int, int], Notebook]:
    share = ALL_PICTURES_BYTES // max(FEWEST_NOTEBOOKS, len(material.notebooks))
    made = {}
    for (number, run), notebook in material.notebooks.items():
        experiment = material.state.experiments[number]
        place = Place(experiment, experiment.runs[run], material.study.facts, diffs.get(number, ""))
        made[number, run] = portable(notebook, place, cleaner, share)
    return made


def _shortened(conversations: Mapping[int, Conversation]) -> dict[int, Conversation]:
    """Messages that are so long that the bundle would be too large are cut, and say so."""
    most = ALL_MESSAGES_CHARACTERS // max(FEWEST_CONVERSATIONS, len(conversations))
    return {
        number: tuple(_cut(message, min(MOST_OF_A_MESSAGE, most // len(messages))) for message in messages)
        for number, messages in conversations.items()
    }


def _cut(message: dict[str, str], most: int) -> dict[str, str]:
    said, earlier = message.get("content", ""), 0
    if found := CUT.search(said):  # of an unpacked bundle, which is shared again
        said, earlier = said[: found.start()], int(found[1].replace(",", ""))
    if len(said) <= most:
        return message
    return message | {"content": f"{said[:most]}\n[... {len(said) - most + earlier:,} characters more ...]"}


def _diffs(material: Material) -> dict[int, str]:
    """Each change against the parent's code, of the cleaned texts."""
    sources, experiments = material.sources, material.state.experiments
    pairs = ((e.number, e.parent) for e in experiments if e.parent in sources and e.number in sources)
    return {number: diff(sources[parent], sources[number]) for number, parent in pairs if parent is not None}


def _of_experiment(
    material: Material, number: int, diffs: Mapping[int, str], say: Say, version: str
) -> Iterator[tuple[str, str]]:
    """Paths and texts of one experiment's files."""
    experiment = material.state.experiments[number]
    say(number, len(material.state.experiments))
    folder = f"experiments/{number:04d}"
    mine = {run: notebook for (of, run), notebook in material.notebooks.items() if of == number}
    beside = dict(_beside(material, experiment, mine, diffs))
    page = experiment_page(material, experiment, diffs.get(number, ""), mine, sorted(beside), version)
    yield f"{folder}/{PAGE}", page
    for name, text in beside.items():
        yield f"{folder}/{name}", text


def _beside(
    material: Material, experiment: Experiment, notebooks: Mapping[int, Notebook], diffs: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    """The files beside an experiment's page, under the names that they have in a study."""
    number, paths = experiment.number, material.study.experiment(experiment.number)
    if number in material.sources:
        yield paths.train.name, material.sources[number]
        if number in diffs or experiment.parent is None:
            yield paths.diff.name, diffs.get(number, "")
    for index, notebook in notebooks.items():
        yield paths.notebook(index).name, as_text(notebook)
    if messages := material.conversations.get(number):
        yield CONVERSATION, json.dumps(messages, indent=1, ensure_ascii=False) + "\n"
    for run in experiment.runs:
        if curve := material.curves.get((number, run.index)):
            yield f"{paths.handover(run.index).name}/{METRICS}", "".join(f"{json.dumps(point)}\n" for point in curve)


def _of_study(material: Material) -> Iterator[tuple[str, str]]:
    champion = best(material.state.experiments)
    for name, number in (("baseline", 0), ("champion", champion.number if champion else 0)):
        if number in material.sources:
            yield f"{name}/train.py", material.sources[number]
    yield TABLE, results_text(material.state.experiments)
    yield SETTINGS, json_text(material.study.facts, indent=1) + "\n"
    if script := verify_script():
        yield VERIFY, script


def _code_for_page(material: Material, diffs: Mapping[int, str]) -> dict[str, Any]:
    """What the page checks the lineage with; nothing where it would make the page too large."""
    sources = {f"{number:04d}": source for number, source in material.sources.items()}
    if sum(map(len, sources.values())) > MOST_EMBEDDED_BYTES:
        return {"sources": {}, "diffs": {}}
    return {"sources": sources, "diffs": {f"{number:04d}": change for number, change in diffs.items()}}


def _zipped(name: str, files: Mapping[str, bytes], made_at: str) -> bytes:
    buffer, when = io.BytesIO(), datetime.fromisoformat(made_at)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{name}/{path}", when.timetuple()[:6])
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            opened.writestr(entry, content)
    return buffer.getvalue()


def is_bundle_of(path: Path, names: Collection[str]) -> bool:
    """Whether a file is an earlier bundle of the study of one of these names, which a new one may replace."""
    return not names_in(path).isdisjoint(f"{name}/{MANIFEST}" for name in names)
