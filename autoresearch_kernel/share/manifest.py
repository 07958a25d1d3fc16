"""The text of a bundle's manifest.json, which names every other file with its hash and seals itself. Pure.

Its last field, `seal`, is the SHA-256 of the file's own text without the digits of the seal. So a changed byte of the
manifest is told from a changed byte of a file that it names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

MANIFEST, PAGE, HISTORY, TABLE = "manifest.json", "index.html", "history.jsonl", "results.tsv"
FORMAT = 1
_SEAL = re.compile(r'("seal": ")([0-9a-f]{64})("\n\}\n)\Z')


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """manifest.json for these fields; a `seal` among them is made anew."""
    fields = {name: value for name, value in manifest.items() if name != "seal"}
    text = json.dumps(fields | {"seal": ""}, indent=1, ensure_ascii=True) + "\n"
    return text.removesuffix('""\n}\n') + f'"{_hash(text)}"\n}}\n'


def is_sealed(text: str) -> bool:
    """Whether the text of a manifest is the one that its seal was made of."""
    found = _SEAL.search(text)
    return found is not None and found[2] == _hash(_SEAL.sub(r"\1\3", text))


def embedded(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as index.html holds it: without the hash of index.html itself, and without the seal."""
    files = {name: facts for name, facts in manifest["files"].items() if name != PAGE}
    return {name: value for name, value in manifest.items() if name != "seal"} | {"files": files}


def file_facts(data: bytes) -> dict[str, Any]:
    """What the manifest says of a file with this content."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
