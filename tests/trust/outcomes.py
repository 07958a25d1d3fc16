"""What was tried against the sandbox and the score, and what came of it: the tables of docs/trust.md.

The suites call `record` once for each thing they try. With AUTORESEARCH_WRITE_OUTCOMES set, the tables are written anew
when the session ends; otherwise what was tried must stand there already. Rows of earlier sessions are kept in a
temporary file, so the escapes and the cheats may run one after the other.
"""

from __future__ import annotations

import atexit
import json
import os
import tempfile
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"
MARK = "<!-- What follows is written by the tests: see tests/trust/outcomes.py. -->\n"
TITLES = {
    "escape": ("Escapes: a training that reaches out of its sandbox", "what was tried"),
    "cheat": ("Cheats: a train.py that claims what it did not learn", "what was tried"),
    "honest": ("Honest models, which must pass", "model"),
}
SANDBOXES = ("bubblewrap", "landlock")

Row = dict[str, str]


def rows_file() -> Path:
    """Where the rows wait for the page."""
    return Path(tempfile.gettempdir()) / f"autoresearch-outcomes-{os.getuid()}.jsonl"


def record(kind: str, name: str, what: str, outcome: str, sandbox: str = "") -> None:
    """Note one outcome: `kind` is "escape", "cheat" or "honest"; `name` identifies the row, `what` is shown for it.

    An escape names the `sandbox` it was tried in. The last outcome of a name (and sandbox) is the one that counts.
    """
    if kind not in TITLES:
        raise ValueError(f"kind {kind!r}: use one of {', '.join(TITLES)}")
    if not os.environ.get("AUTORESEARCH_WRITE_OUTCOMES"):
        assert f"| {_plain(what)} |" in _tables_of_page(), (
            f"{PAGE.name} has no row {what!r}: run AUTORESEARCH_WRITE_OUTCOMES=1 python -m pytest tests/trust"
        )
        return
    with open(rows_file(), "a", encoding="utf-8") as file:
        file.write(
            json.dumps({"kind": kind, "name": name, "what": what, "outcome": outcome, "sandbox": sandbox}) + "\n"
        )
    atexit.unregister(write_page)
    atexit.register(write_page)


def write_page() -> None:
    """Write the tables of the page from all rows so far."""
    lines = rows_file().read_text(encoding="utf-8").splitlines()
    words = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(words + MARK + tables([json.loads(line) for line in lines]), encoding="utf-8")


@cache
def _tables_of_page() -> str:
    return PAGE.read_text(encoding="utf-8").partition(MARK)[2]


def tables(rows: list[Row]) -> str:
    """A table in Markdown for each kind that has rows."""
    parts = []
    for kind, (title, first) in TITLES.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        if of_kind:
            parts.append(f"\n### {title}\n\n{_table(of_kind, first)}")
    return "".join(parts)


def _table(rows: list[Row], first: str) -> str:
    """One line per name, one column per sandbox; a sandbox that a machine lacks has a dash."""
    sandboxes = [sandbox for sandbox in SANDBOXES if any(row["sandbox"] == sandbox for row in rows)]
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["name"], {})["what"] = row["what"]
        cells[row["name"]][row["sandbox"]] = row["outcome"]
    columns = sandboxes or [""]
    head = [first, *(sandboxes or ["outcome"])]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for cell in cells.values():
        lines.append("| " + " | ".join(_plain(cell.get(column, "-")) for column in ("what", *columns)) + " |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
