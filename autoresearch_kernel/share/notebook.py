"""An executed notebook for others: the plain kernel `python3`, text and PNG alone, no paths, no widgets, below 1 MB.

Heading and verdict are written anew from the cleaned record. Code and outputs are those of the run.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.markdown import inert_markdown
from ..core.sanitize import is_number, readable
from ..core.types import Experiment, Run
from ..run.notebook import heading_markdown
from ..run.outputs import plain_data
from ..show import words
from ..source.gate import CURVE, HEADING, VERDICT
from .clean import Cleaner
from .material import Notebook
from .png import plain_base64, small_base64

LIMIT_BYTES = 950_000  # of a notebook; GitHub shows those below 1 MB
LEAST_TEXT = 4_000  # characters of a text that are kept where a notebook is too large
LEFT_OUT = "[a picture of {size:,} bytes was left out: this notebook would be too large]"
NO_PNG = "[a picture was left out: only PNG is kept]"
NEEDS = "needs-the-project"  # tag of the cell that says what a training needs
ERROR_TAG = "papermill-error-cell-tag"
PLAIN_TAG = re.compile(r"[\w-]{1,40}")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
NEEDS_SOURCE = """# The outputs below are those of the real run. This cell was not part of it.
import importlib.util

if importlib.util.find_spec("prepare") is None:
    raise SystemExit("To train this again you need the project autoresearch, whose command rerun does it.")
"""


@dataclass(frozen=True)
class Place:
    """Whose notebook it is, in the cleaned record."""

    experiment: Experiment
    run: Run
    facts: Mapping[str, Any]  # study.json
    diff: str


def portable(notebook: Notebook, place: Place, cleaner: Cleaner, most_picture_bytes: int) -> Notebook:
    """The notebook as a value of JSON. What comes from the run is cleaned here."""
    cells = [_markdown(_heading(place), HEADING), _code(NEEDS_SOURCE, [NEEDS], [])]
    for cell in notebook["cells"]:
        tags = _tags(cell)
        if tags & {HEADING, VERDICT, ERROR_TAG, NEEDS}:
            continue
        cells.append(_curve(cell, place) if CURVE in tags else _cell(cell, tags, cleaner))
    cells.append(_markdown(words.verdict(place.experiment, place.run, dict(place.facts)), VERDICT))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    _drop_pictures(cells, most_picture_bytes)
    whose = {"study": place.facts.get("name"), "experiment": place.experiment.number, "run": place.run.index}
    made = {"cells": cells, "metadata": METADATA | {"autoresearch": whose}, "nbformat": 4, "nbformat_minor": 5}
    if len(as_text(made)) > LIMIT_BYTES:
        _shorten(cells)
    return made


def as_text(notebook: Notebook) -> str:
    """The file, as nbformat writes it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def joined(text: Any) -> str:
    """A text of a notebook, which may be one string or a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


def _heading(place: Place) -> str:
    experiment = place.experiment
    line = words.status_line(experiment, dict(place.facts))
    return heading_markdown(
        words.title(experiment), status_line=line, hypothesis=words.argument(experiment), diff=place.diff
    )


def _tags(cell: Mapping[str, Any]) -> set[str]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()


def _markdown(source: str, *tags: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {"tags": list(tags)} if tags else {}, "source": source}


def _code(source: str, tags: list[str], outputs: list[dict[str, Any]], count: int | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    facts = {"execution_count": count, "metadata": metadata, "outputs": outputs, "source": source.rstrip("\n")}
    return {"cell_type": "code"} | facts


def _cell(cell: Mapping[str, Any], tags: set[str], cleaner: Cleaner) -> dict[str, Any]:
    """A cell of train.py with its outputs; Markdown that holds private words is made inert once more."""
    plain_tags = sorted(tag for tag in map(cleaner.text, tags) if PLAIN_TAG.fullmatch(tag))
    source, kind = joined(cell.get("source")), cell.get("cell_type")
    if kind == "markdown":
        shown = html.unescape(source)
        cleaned = cleaner.text(shown)
        return _markdown(source if cleaned == shown else inert_markdown(cleaned), *plain_tags)
    if kind != "code":
        metadata = {"raw_mimetype": "text/plain"}
        return {"cell_type": "raw", "metadata": metadata, "source": cleaner.text(source)}
    outputs, count = cell.get("outputs"), cell.get("execution_count")
    kept = [_output(output, cleaner) for output in outputs if isinstance(output, dict)] if outputs else []
    made = _code(cleaner.text(source), plain_tags, kept, count if isinstance(count, int) else None)
    made["metadata"] |= _timing(cell)
    return made


def _timing(cell: Mapping[str, Any]) -> dict[str, Any]:
    """How long the cell took and whether it was completed, as papermill's own field says."""
    metadata = cell.get("metadata")
    told = metadata.get("papermill") if isinstance(metadata, dict) else None
    if not isinstance(told, dict):
        return {}
    status, seconds = told.get("status"), told.get("duration")
    facts = {"status": status} if status in ("completed", "failed", "skipped", "pending", "running") else {}
    return {"papermill": facts | ({"duration": seconds} if is_number(seconds) else {})}


def _output(output: Mapping[str, Any], cleaner: Cleaner) -> dict[str, Any]:
    """Text and PNG of an output, whatever wrote them."""

    def clean(text: Any) -> str:
        return cleaner.text(readable(joined(text)))

    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {"output_type": "stream", "name": name, "text": clean(output.get("text"))}
    if kind == "error":
        traceback = [clean(line) for line in output.get("traceback") or [] if isinstance(line, str)]
        facts = {"ename": clean(output.get("ename")), "evalue": clean(output.get("evalue")), "traceback": traceback}
        return {"output_type": "error"} | facts
    data = output.get("data")
    forms = {form: joined(part) for form, part in data.items()} if isinstance(data, dict) else {}
    kept = plain_data({form: text for form, text in forms.items() if form in ("text/plain", "image/png")} or forms)
    picture = plain_base64(kept.pop("image/png", ""))
    shown = {form: clean(text) for form, text in kept.items() if form == "text/plain"}
    if picture is not None:
        shown["image/png"] = picture
    return {"output_type": "display_data", "metadata": {}, "data": shown or {"text/plain": NO_PNG}}


def _curve(cell: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The supervisor's picture of the curve, if it is still one."""
    text = f"The curve of run {place.run.index + 1}."
    found = (data for data in _data_of(cell) if isinstance(data, dict))
    picture = next(filter(None, (small_base64(joined(data.get("image/png"))) for data in found)), None)
    shown = {"text/plain": text} | ({"image/png": picture} if picture else {})
    output = {"output_type": "display_data", "metadata": {}, "data": shown}
    made = _code("# The curve, drawn by the supervisor from metrics.jsonl", [CURVE], [output])
    made["metadata"]["jupyter"] = {"source_hidden": True}
    return made


def _data_of(cell: Mapping[str, Any]) -> Iterator[Any]:
    for output in cell.get("outputs") or []:
        if isinstance(output, dict):
            yield output.get("data")


def _drop_pictures(cells: list[dict[str, Any]], most_bytes: int) -> None:
    """Replace the largest pictures by a sentence until the others take so many bytes at most."""
    pictures = [data for cell in cells for data in _data_of(cell) if data and "image/png" in data]
    total = sum(len(data["image/png"]) for data in pictures)
    for data in sorted(pictures, key=lambda data: -len(data["image/png"])):
        if total <= most_bytes:
            return
        size = len(data.pop("image/png"))
        total -= size
        data["text/plain"] = f"{data.get('text/plain', '')}\n{LEFT_OUT.format(size=size)}".strip()


def _shorten(cells: list[dict[str, Any]]) -> None:
    """Cut what was printed, so that a notebook that is still too large becomes small enough."""
    for cell in cells:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                output["text"] = _cut(output["text"])
            elif output["output_type"] == "error":
                output["traceback"] = [_cut("\n".join(output["traceback"]))]
            else:
                output["data"] = {"text/plain": _cut(output["data"].get("text/plain", ""))}


def _cut(text: str) -> str:
    if len(text) <= LEAST_TEXT:
        return text
    return f"{text[: LEAST_TEXT // 2]}\n[... {len(text) - LEAST_TEXT:,} characters ...]\n{text[-LEAST_TEXT // 2 :]}"
