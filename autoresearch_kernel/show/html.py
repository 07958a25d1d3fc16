"""Pieces of a page about an experiment: a coloured diff, marks, tables, a picture. Pure HTML, as strings.

They have no script and no style sheet, so they also work in a saved notebook. Colours and fonts follow JupyterLab's
theme (`--jp-*`). Text that an agent or a training wrote is escaped here.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Sequence

from ..core.format import bpb, plain
from ..core.types import Experiment, Status
from .study_words import count_with_baseline
from .words import difference, head_and_rest, idea, status_word

GREEN, GREY, RED, ORANGE, BLUE = "#008A63", "#8C8C8C", "#C0392B", "#C77700", "#2E86C1"  # the marks, as in plot_style.py
INK = "var(--jp-content-font-color1, #202020)"
FAINT = "var(--jp-content-font-color2, #666)"
LINE = "var(--jp-border-color2, #ddd)"
PAPER = "var(--jp-layout-color1, #fff)"
SHADE = "var(--jp-layout-color2, #f5f5f5)"
UI_FONT = "font-family:var(--jp-ui-font-family, system-ui, sans-serif);font-size:var(--jp-ui-font-size1, 13px)"
CODE_FONT = "font-family:var(--jp-code-font-family, ui-monospace, monospace);font-size:var(--jp-code-font-size, 13px)"
FOLD_LINES = 30  # a longer diff is folded

MARKS = {
    Status.KEEP: ("●", GREEN),
    Status.DISCARD: ("○", GREY),
    Status.REJECTED: ("▲", ORANGE),
    Status.CRASH: ("×", RED),
    Status.TIMEOUT: ("×", RED),
    Status.INVALID: ("×", RED),
    Status.INTERRUPTED: ("×", RED),
}


def text(words: str) -> str:
    """Text, escaped for HTML; line breaks are kept where the surrounding element keeps them."""
    return html.escape(words, quote=True)


def mark(status: Status | None, is_baseline: bool = False) -> str:
    """`●` for a keep, `○` a discard, `×` a failure, `▲` a refusal by the audit, `◆` a baseline that was kept."""
    sign, colour = MARKS[status] if status is not None else ("◐", BLUE)
    sign = "◆" if is_baseline and status is Status.KEEP else sign
    return f'<span style="color:{colour}" aria-hidden="true">{sign}</span>'


def status_words(experiment: Experiment) -> str:
    """`● keep`, `○ ended early`, `◐ not decided`, `◆ baseline`: mark and word."""
    return f"{mark(experiment.status, is_baseline=experiment.parent is None)} {status_word(experiment)}"


def diff_html(diff: str, fold_lines: int = FOLD_LINES) -> str:
    """A unified diff: added lines green, removed ones red, with their signs; folded when it is long."""
    lines = _hunks(diff)
    if not lines:
        return f'<p style="color:{FAINT}">No change.</p>'
    body = "".join(_diff_line(line) for line in lines)
    style = f"{CODE_FONT};color:{INK};line-height:1.35;overflow-x:auto;margin:0;white-space:pre;word-break:normal"
    block = f'<pre style="{style}" tabindex="0">{body}</pre>'
    added, removed = num_changed_lines(diff)
    if len(lines) <= fold_lines:
        return block
    return details(f"What changed in train.py: {added} lines added, {removed} removed", block)


def num_changed_lines(diff: str) -> tuple[int, int]:
    """Lines added and removed."""
    lines = _hunks(diff)
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def _hunks(diff: str) -> list[str]:
    """The lines below the names of the files; what only looks like such a name, as an added `++x` does, stays."""
    lines = diff.strip("\n").split("\n") if diff.strip() else []
    first = next((i for i, line in enumerate(lines) if line.startswith("@@")), 0)
    return lines[first:]


def _diff_line(line: str) -> str:
    kinds = {"+": "background:rgba(0,138,99,.16)", "-": "background:rgba(192,57,43,.16)", "@": f"color:{FAINT}"}
    style = kinds.get(line[:1], "")
    return f'<span style="display:block;{style}">{text(line) or " "}</span>'


def progress_bar(fraction: float, label: str) -> str:
    """A bar; `label` tells readers without pictures what progresses."""
    return (
        f'<span role="progressbar" aria-label="{label}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * fraction:.0f}" style="display:inline-block;width:150px;height:8px;margin-right:8px;'
        f'background:{LINE};border-radius:2px;overflow:hidden;vertical-align:baseline">'
        f'<span style="display:block;height:100%;width:{100 * fraction:.1f}%;background:{GREEN}"></span></span>'
    )


def links(anchors: Iterable[str]) -> str:
    """`Open notebook.ipynb · train.py`, of anchors in HTML; "" without any."""
    joined = " · ".join(anchors)
    return f'<div style="margin:4px 0">Open {joined}</div>' if joined else ""


def details(summary: str, body: str, is_open: bool = False) -> str:
    """A part that folds; `summary` is text, `body` HTML."""
    opened = " open" if is_open else ""
    words = f'<summary style="cursor:pointer;color:{INK}">{text(summary)}</summary>'
    return f'<details{opened} style="{UI_FONT};margin:4px 0">{words}{body}</details>'


def card(title: str, body: str, state: str = "") -> str:
    """A frame with a heading (`title` and `state` are text) around HTML."""
    beside = f'<span style="font-weight:normal;color:{FAINT}"> · {text(state)}</span>' if state else ""
    return (
        f'<div style="{UI_FONT};color:{INK};background:{PAPER};border:1px solid {LINE};border-radius:3px;'
        f'padding:8px 12px;margin:2px 0;line-height:1.45">'
        f'<div style="font-weight:600;margin-bottom:4px">{text(title)}{beside}</div>{body}</div>'
    )


def paragraph(words: str, is_faint: bool = False) -> str:
    """Text, with its line breaks."""
    colour = FAINT if is_faint else INK
    return f'<p style="margin:4px 0;color:{colour};white-space:pre-wrap">{text(words)}</p>'


def printed(words: str) -> str:
    """Text as a program wrote it, in a frame that scrolls."""
    style = f"{CODE_FONT};font-size:12px;color:{INK};white-space:pre-wrap;max-height:340px;overflow:auto"
    return f'<pre style="{style}" tabindex="0">{text(words)}</pre>'


def folded(words: str, shown: Callable[[str], str] = paragraph) -> str:
    """Text; of a long one its beginning, with the rest behind "more"."""
    head, rest = head_and_rest(words)
    return shown(head) + (details("more", paragraph(rest)) if rest else "")


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns; both are text, rows without a value are left out."""
    return facts_of_html((name, text(value)) for name, value in rows)


def facts_of_html(rows: Iterable[tuple[str, str]]) -> str:
    """The same of values that are HTML."""
    cells = "".join(
        f'<tr style="background:none"><th scope="row" style="text-align:left;font-weight:normal;color:{FAINT};'
        f'padding:1px 16px 1px 0;vertical-align:top;white-space:nowrap">{text(name)}</th>'
        f'<td style="text-align:left;padding:1px 0">{value}</td></tr>'
        for name, value in rows
        if value
    )
    return f'<table style="{UI_FONT};color:{INK};border-collapse:collapse;margin:4px 0">{cells}</table>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = (), caption: str = "") -> str:
    """A table of HTML cells under text heads; the columns in `right` are right-aligned, with tabular figures."""

    def cell(tag: str, index: int, content: str, style: str) -> str:
        align = "right" if index in right else "left"
        return f'<{tag} style="text-align:{align};padding:2px 10px 2px 0;{style}">{content}</{tag}>'

    head = "".join(
        cell("th", i, text(name), f"color:{FAINT};font-weight:600;border-bottom:1px solid {LINE};white-space:nowrap")
        for i, name in enumerate(heads)
    )
    body = "".join(
        '<tr style="background:none">'
        + "".join(cell("td", i, c, "vertical-align:top") for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    above = f'<caption style="text-align:left;color:{FAINT};padding:2px 0">{text(caption)}</caption>' if caption else ""
    return (
        f'<table style="{UI_FONT};color:{INK};border-collapse:collapse;font-variant-numeric:tabular-nums">{above}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def experiments_table(experiments: Sequence[Experiment], last: int | None = None) -> str:
    """The experiments, the latest first: number, what changed, the two scores compared, difference, status."""
    shown = experiments if last is None else experiments[-last:]
    rows = [
        (
            str(e.number),
            folded(idea(e), text),
            bpb(e.val_bpb),
            bpb(e.compared.theirs) if e.compared else "",
            text(difference(e)) or "–",
            status_words(e),
            text(e.decided_at.replace("T", " ")[:16]) if e.decided_at else "",
        )
        for e in reversed(shown)
    ]
    before = experiments[: len(experiments) - len(shown)]
    caption = f"The last {len(shown)}; {count_with_baseline(before)} before these" if before else ""
    heads = ("#", "what changed", "val_bpb", "against", "Δ (σ)", "status", "when (UTC)")
    return table(heads, rows, right=(0, 2, 3, 4), caption=caption)


def picture(png: bytes, words: str, width: str = "100%") -> str:
    """A PNG within the page; `words` say what it shows, for readers without pictures."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{text(plain(words))}" style="max-width:{width};height:auto">'
