"""ro-crate-metadata.json: what the bundle is and what its files are, for programs that read RO-Crates (1.1). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from ..core.version import __version__

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
CONFORMS_TO = "https://w3id.org/ro/crate/1.1"
CRATE = "ro-crate-metadata.json"
TYPES = {  # of a file's name or its ending: format and what it is
    "index.html": ("text/html", "A page of the study"),
    "manifest.json": ("application/json", "Every file of the bundle with its SHA-256"),
    "study.json": ("application/json", "What was fixed when the study began"),
    "history.jsonl": ("application/jsonlines", "The record of the study: one event a line, each chained to all before"),
    "results.tsv": ("text/tab-separated-values", "All decided experiments with score and status"),
    "conversation.json": ("application/json", "Prompts and replies of the language model"),
    "train.py": ("text/x-python", "The code that an agent edits"),
    "change.diff": ("text/x-diff", "The change of an experiment against its parent"),
    "metrics.jsonl": ("application/jsonlines", "The curve of a training"),
    ".ipynb": ("application/x-ipynb+json", "An executed notebook"),
    ".js": ("text/javascript", "The check of the bundle, which index.html contains as well"),
}
NO_LICENSE = "#no-license"


def crate(
    name: str, story: str, made_at: str, files: Iterable[str], facts: Mapping[str, Any], version: str = __version__
) -> str:
    """The file.

    Args:
        name: of the study.
        story: what the study found, as plain text.
        made_at: UTC, ISO 8601.
        files: paths of all other files of the bundle.
        facts: study.json.
        version: of the program that makes the bundle.
    """
    listed = sorted(files)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"autoresearch study {name}",
        "description": story,
        "datePublished": made_at,
        "license": {"@id": NO_LICENSE},
        "keywords": "language model, hyperparameter and architecture search, bits per byte",
        "hasPart": [{"@id": path} for path in listed],
        "mentions": {"@id": "#study"},
    }
    graph = [_descriptor(), root, _study(name, facts), _software(version), _license(), *map(_file, listed)]
    return json.dumps({"@context": CONTEXT, "@graph": graph}, indent=1, ensure_ascii=False) + "\n"


def _descriptor() -> dict[str, Any]:
    about = {"about": {"@id": "./"}, "conformsTo": {"@id": CONFORMS_TO}}
    return {"@id": CRATE, "@type": "CreativeWork"} | about


def _study(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The study as an action of the program, which made the files."""
    return {
        "@id": "#study",
        "@type": "CreateAction",
        "name": f"Study {name}: {facts['time_budget_seconds']:g} s a run on {facts['corpus'].get('corpus')}",
        "startTime": str(facts.get("created_at") or ""),
        "instrument": {"@id": "#autoresearch"},
        "result": {"@id": "./"},
    }


def _software(version: str) -> dict[str, Any]:
    return {
        "@id": "#autoresearch", "@type": "SoftwareApplication", "name": "autoresearch", "version": version,
        "softwareVersion": version,
    }  # fmt: skip


def _license() -> dict[str, Any]:
    words = "The person who shared this bundle stated no license. Ask before you publish parts of it."
    return {"@id": NO_LICENSE, "@type": "CreativeWork", "name": "No license stated", "description": words}


def _file(path: str) -> dict[str, Any]:
    name, suffix = PurePosixPath(path).name, PurePosixPath(path).suffix
    kind, words = TYPES.get(name) or TYPES.get(suffix) or ("text/plain", "A file of the study")
    folder = PurePosixPath(path).parent.name
    of = f" of experiment {folder}" if folder.isdigit() else ""
    return {"@id": path, "@type": "File", "name": path, "description": f"{words}{of}", "encodingFormat": kind}
