"""The frame of a page of a bundle: everything is in the page itself, and its policy allows no network. Pure.

Scripts are named by their hashes, so no other script runs even if a text were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..show.html import text

HERE = Path(__file__).parent


def page(title: str, body: Iterable[str], *, version: str, scripts: Sequence[str] = (), data: str = "") -> str:
    """A whole page.

    Args:
        version: of the program that makes the bundle.
        body: HTML, with every foreign text escaped.
        scripts: sources of this program's own scripts.
        data: an element with data for them.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'; "
        "form-action 'none'"
    )
    made = "".join(f"<script>{script}</script>\n" for script in scripts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{asset('page.css')}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the content</a>\n'
        + "\n".join(filter(None, body))
        + f"\n<footer>Made by autoresearch {text(version)} from the record of the study.</footer>\n"
        + f"{data}{made}</body>\n</html>\n"
    )


def section(heading: str, name: str, *parts: str) -> str:
    """A part of a page with a heading of the second level; "" without any content."""
    inner = "\n".join(filter(None, parts))
    if not inner:
        return ""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{text(heading)}</h2>\n{inner}\n</section>'


def paragraph(sentences: Iterable[str]) -> str:
    """Sentences of HTML."""
    joined = " ".join(filter(None, sentences))
    return f"<p>{joined}</p>" if joined else ""


def anchor(path: str, words: str) -> str:
    """A link within the bundle."""
    return f'<a href="{text(path)}">{text(words)}</a>'


def target(number: int) -> str:
    """The page of an experiment, from index.html."""
    return f"experiments/{number:04d}/index.html"


def figure(name: str, words: str) -> str:
    """A figure that follows from the history, with its name in `figures.py`."""
    return f'<span data-figure="{name}">{text(words)}</span>'


def mark_in(words: str, *figures: tuple[str, str, str]) -> str:
    """Words of another part as HTML, with marks for figures in them; without the mark of one that is not in the words.

    Whoever checks the page then reads that this mark is missing.

    Args:
        figures: of each, in the order in which they stand there: its name, what is before it, and its own text.
    """
    done = ""
    for name, before, value in figures:
        start, found, rest = words.partition(before + value)
        if found:
            done += text(start + before) + figure(name, value)
            words = rest
    return done + text(words)


def wide(label: str, inner: str) -> str:
    """Something that may be wider than a small screen: it scrolls by itself, also by keys."""
    return f'<div class="wide" role="region" aria-label="{text(label)}" tabindex="0">{inner}</div>'


def data_opening(name: str) -> str:
    """The tag before data for a script."""
    return f'<script type="application/json" id="{name}">'


def data_element(name: str, value: Any) -> str:
    """Data for a script, which no browser executes or takes for an element."""
    words = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"{data_opening(name)}{words}</script>\n"


@cache
def asset(name: str) -> str:
    """A file of this program that pages contain."""
    return (HERE / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
