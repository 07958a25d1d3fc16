"""What the panel says, as HTML: how a study stands, one experiment in full, a proposal that waits, the agent's notes.

Made from values and from the record's files, without widgets. Text that an agent or a training wrote is escaped by
`show/html.py`.
"""

from __future__ import annotations

import base64
import difflib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.format import count, duration, percent, plain
from ...core.state import Review, StudyState
from ...core.types import FAILED, Experiment
from ...record.archive import StudyArchive
from ...record.study import Study
from ...show import html
from ...show.cost import cost_table, spent_words
from ...show.snapshot import ENDED, Snapshot
from ...show.status import agent_words, command_line, doing
from ...show.study_words import counts, sealed_words
from ...show.words import argument, audits_words, difference, grounds, head_and_rest, idea, score_line
from ...system.files import seconds_of

TRANSCRIPT_LIMIT = 150_000  # characters of one message that are shown
OUTPUT_LIMIT = 6_000  # of what a failed run printed
SIGNS = {"gone": "○", "stopped": "○", "finished": "○", "not started": "○", "paused": "❙❙", "reviewing": "?"}


def spoken(heading: str, words: str) -> str:
    """The line that says how a study stands; a screen reader says it when it changes."""
    more = f'<span style="color:{html.FAINT}"> {html.text(words)}</span>' if words else ""
    return (
        f'<div style="{html.UI_FONT};color:{html.INK};line-height:1.5;'
        f'margin:4px 0 0"><b>{html.text(heading)}</b>{more}</div>'
    )


def notice(words: str, is_wrong: bool) -> str:
    """The answer to a button."""
    colour = html.RED if is_wrong else html.GREEN
    role = "alert" if is_wrong else "status"
    return (
        f'<div role="{role}" style="{html.UI_FONT};color:{html.INK};border-left:3px solid {colour};'
        f'padding:2px 8px;margin:4px 0;white-space:pre-wrap;line-height:1.4">{html.text(words)}</div>'
    )


def gone() -> str:
    """What stands in the place of a panel whose kernel was restarted, or says nothing any more: panel.css shows one."""
    restarted = "The kernel was restarted: run this cell again. The study was not affected."
    silent = "The kernel does not answer. If it was shut down, run this cell again. The study was not affected."
    return (
        f'<div class="ar-restarted">{html.paragraph(restarted)}</div>'
        f'<div class="ar-no-answer">{html.paragraph(silent)}</div>'
    )


# The second output of a panel's cell is hidden while the first is live, and the first where nothing of it is there:
# JupyterLab says "model not found" of a widget in a notebook that was opened again. JupyterLab drops the style from a
# notebook that it does not trust; then both are seen. The style is a link, since a reader of Markdown that drops an
# element `style` shows its text.
_STILL_STYLE = """
body:has(.ar-live-KEY:not(.jupyter-widgets-disconnected, .ar-silent)) .ar-still-KEY { display: none; }
.jp-OutputArea-child:has(+ .jp-OutputArea-child .ar-still-KEY):not(:has(.ar-live-KEY)) { display: none; }
"""


def still(key: str, words: str, picture: str = "") -> str:
    """What a panel's cell shows where there is no kernel: opened again, on GitHub, in an export.

    Args:
        key: of the panel, whose root has the class `ar-live-KEY`.
        words: the panel in a sentence.
        picture: of its study, as HTML; empty before there is anything to draw.
    """
    style = base64.b64encode(_STILL_STYLE.replace("KEY", key).encode()).decode()
    link = f'<link rel="stylesheet" href="data:text/css;base64,{style}">'
    return f'{link}<div class="ar-still-{key}">{html.paragraph(words)}{picture}</div>'


def heading(now: Snapshot) -> str:
    """`nov23  ● training 0012`."""
    return f"{now.study.name}  {SIGNS.get(now.phase, '●')} {doing(now)}"


def result(state: StudyState) -> str:
    """The study's result, above all validation figures; "" before `finish` has measured it."""
    lines = sealed_words(state).splitlines()
    if not lines:
        return ""
    below = "".join(html.paragraph(line.strip(), is_faint=True) for line in lines[1:])
    style = f"{html.UI_FONT};color:{html.INK};border-left:3px solid {html.GREEN};padding:2px 8px;margin:4px 0"
    return f'<div class="ar-result" style="{style}"><b>{html.text(lines[0])}</b>{below}</div>'


def gauge(now: Snapshot, memory_mb: float | None) -> str:
    """How far the running training is, and what the study is: the figures that move."""
    facts, state = now.study.facts, now.state
    rate, speed = now.experiments_per_hour, now.tokens_per_second
    hours = now.phase not in ENDED
    words = [
        f"{duration(now.supervisor_seconds)} in" if hours else "",
        f"{rate:.1f} experiments/h" if rate and hours else "",
        counts(state.experiments),
        f"{facts['corpus']['corpus']}, {facts['time_budget_seconds']:g} s a run",
        f"{speed / 1e3:.1f} k tokens/s" if speed and now.activity else "",
        f"{memory_mb:.0f} MB" if memory_mb else "",
        f"agent {agent_words(now)}",
        spent_words(state.spent, state.limits),
    ]
    line = " · ".join(html.text(part) for part in words if part)
    return (
        f'<div style="{html.UI_FONT};color:{html.FAINT};font-variant-numeric:tabular-nums;line-height:1.5">'
        f"{_progress(now)}{line}</div>"
    )


def _progress(now: Snapshot) -> str:
    if now.activity == "waiting":
        waits = duration(max(0.0, now.time - seconds_of(now.state.waiting_since)))
        return f'<span style="color:{html.INK}">waits for the machine: {waits} so far</span> · '
    if now.activity != "training":
        return ""
    share = percent(now.fraction)
    return (
        f'<span role="progressbar" aria-label="training" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * now.fraction:.0f}" style="display:inline-block;width:150px;height:8px;'
        f'margin-right:8px;background:{html.LINE};border-radius:2px;overflow:hidden;vertical-align:baseline">'
        f'<span style="display:block;height:100%;width:{100 * now.fraction:.1f}%;background:{html.GREEN}"></span>'
        "</span>"
        f'<span style="color:{html.INK}" title="{share}">{duration(now.seconds_left or 0)} left</span> · '
    )


# --- one experiment


def experiment_head(experiment: Experiment) -> str:
    """Title, status, score, what audits said of it, and what the agent says for it."""
    against = f"{difference(experiment)} against {experiment.parent:04d}" if experiment.delta_bpb is not None else ""
    parts = [score_line(experiment), against]
    line = html.status_words(experiment) + "".join(f" · {html.text(part)}" for part in parts if part)
    theme = ", ".join(map(str, experiment.details.get("subjects") or ()))
    heading, _ = head_and_rest(idea(experiment))
    audits = audits_words(experiment)
    body = f"<div>{line}</div>" + (html.paragraph(f"audit {audits}", is_faint=True) if audits else "")
    return html.card(f"{experiment.number:04d} · {heading}", body + _argument(experiment, heading), state=theme)


def _argument(experiment: Experiment, heading: str) -> str:
    """The agent's words for it, without what the heading says already; a long hypothesis is folded."""
    head, rest = head_and_rest(experiment.hypothesis)
    shown = "" if plain(head).rstrip(".") == heading.rstrip(".") else head
    if rest:
        folded = html.details("more", html.paragraph(argument(replace(experiment, hypothesis=rest))))
        return (html.paragraph(shown) if shown else "") + folded
    words = argument(replace(experiment, hypothesis=shown))
    return html.paragraph(words) if words else ""


def experiment_body(study: Study, experiment: Experiment, archive: StudyArchive) -> str:
    """Below the curve: change, reasons, figures, files, output of a failure, prompt and reply."""
    number = experiment.number
    parts = [html.diff_html(archive.diff(number)) if number else html.paragraph("The baseline.", is_faint=True)]
    if experiment.reason:
        parts.append(html.paragraph(f"{experiment.status}: {experiment.reason}"))
    failed = experiment.failed_run
    if experiment.status in FAILED and failed is not None and (output := archive.output(number, failed)):
        parts.append(html.details("What it printed, and where it failed", html.printed(output[-OUTPUT_LIMIT:])))
    if experiment.runs:
        rows = grounds(experiment, experiment.runs[-1], study.facts)
        parts.append(html.details("Figures: score, training, all seconds accounted for", html.facts(rows)))
    parts.append(_files(study, experiment))
    parts += [html.details(_speaker(message), _message(message["content"])) for message in transcript(study, number)]
    return f'<div style="{html.UI_FONT};color:{html.INK}">{"".join(parts)}</div>'


def _files(study: Study, experiment: Experiment) -> str:
    paths = study.experiment(experiment.number)
    found = [paths.notebook(run.index) for run in experiment.runs] + [paths.train]
    links = [file_link(path, study.project) for path in found if path.is_file()]
    return f'<div style="margin:4px 0">Open {" · ".join(links)}</div>' if links else ""


def file_link(path: Path, project: Path) -> str:
    """A file that JupyterLab opens beside this notebook when it is clicked; elsewhere its name.

    Lab runs the command in `data-commandlinker-command`; its paths begin at the folder that `autoresearch lab` opens.
    """
    try:
        inside = path.relative_to(project).as_posix()
    except ValueError:
        return html.text(str(path))
    arguments = html.text(json.dumps({"path": inside}))
    return (
        f'<a href="#" title="{html.text(inside)}" data-commandlinker-command="docmanager:open" '
        f'data-commandlinker-args="{arguments}" onclick="return false" '
        f'style="color:var(--jp-content-link-color, #1976d2)">{html.text(path.name)}</a>'
    )


def transcript(study: Study, number: int) -> list[dict[str, str]]:
    """Prompt and reply of an experiment's proposal, role and content a message; none when no model was asked."""
    try:
        facts = json.loads(study.experiment(number).proposal.read_text(encoding="utf-8"))
        return [{"role": str(m["role"]), "content": str(m["content"])} for m in facts.get("transcript") or ()]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _speaker(message: dict[str, str]) -> str:
    names = {"user": "Prompt", "assistant": "Reply"}
    return f"{names.get(message['role'], message['role'])}, {count(len(message['content']), 'character')}"


def _message(content: str) -> str:
    cut = "" if len(content) <= TRANSCRIPT_LIMIT else "\n[the rest is in proposal.json]"
    return html.printed(content[:TRANSCRIPT_LIMIT] + cut)


# --- the other parts


def review(study: Study, waiting: Review, parent_source: str, source: str) -> str:
    """What waits for a person: the hypothesis and the change, or the invitation to write one."""
    if waiting.is_draft:
        words = (
            "Edit train.py below and press Approve; the incumbent's is what you start from. "
            "The line beside the buttons takes your idea in a sentence."
        )
        return html.card(f"{waiting.experiment:04d} · your turn", html.paragraph(words))
    change = "\n".join(difflib.unified_diff(parent_source.splitlines(), source.splitlines(), lineterm="", n=3))
    where = file_link(study.paths.review, study.project)
    body = html.folded(waiting.hypothesis) + html.diff_html(change)
    return html.card(f"{waiting.experiment:04d} · waits for your approval", f"{body}<div>It lies in {where}</div>")


def notes(now: Snapshot) -> str:
    """What the agent has learned, what people told it, what they refused."""
    state = now.state
    parts = [html.paragraph(state.notes) if state.notes else html.paragraph("The agent has no notes.", is_faint=True)]
    if state.hints:
        parts.append(html.facts([(f"hint {i}", hint) for i, hint in enumerate(state.hints, 1)]))
    refused = [(f"{r.experiment:04d}, {r.objection}", plain(r.why)[:300]) for r in state.refusals[-10:]]
    if refused:
        parts.append(html.details(f"Given back: {len(state.refusals)}", html.facts(refused)))
    if now.commands:
        said = [(c["time"][11:16], command_line(c)) for c in now.commands[-10:]]
        parts.append(html.details("What people asked, and the answers", html.facts(said), is_open=True))
    return "".join(parts)


def log(tail: str) -> str:
    """The end of the supervisor's log. The box grows from its bottom, so the newest line is in sight."""
    words = tail or "Nothing has been printed: a study in the foreground of a terminal has no log."
    style = f"{html.CODE_FONT};font-size:12px;color:{html.INK};white-space:pre-wrap;margin:0;flex:none"
    box = "display:flex;flex-direction:column-reverse;max-height:340px;overflow:auto"
    return f'<div style="{box}" tabindex="0" aria-label="log"><pre style="{style}">{html.text(words)}</pre></div>'


def cost(state: StudyState) -> str:
    """The table of `autoresearch cost`."""
    return html.printed(cost_table(state))


def settings(now: Snapshot) -> str:
    """What was fixed when the study began."""
    facts, state = now.study.facts, now.state
    corpus, hardware, preset = (facts.get(name) or {} for name in ("corpus", "hardware", "preset"))
    parameters = ", ".join(f"{name} = {value}" for name, value in (preset.get("parameters") or {}).items())
    limits = [f"{state.limits.max_tokens} tokens" if state.limits.max_tokens else ""]
    limits += [f"${state.limits.max_cost:.2f}" if state.limits.max_cost else ""]
    return html.facts(
        [
            ("training", f"{facts['time_budget_seconds']:g} s a run"),
            ("agent", f"{facts['agent']} {_options(facts.get('agent_options') or {})}"),
            ("may spend", " and ".join(part for part in limits if part)),
            ("approval", "every proposal waits for a person" if state.approve else "none needed"),
            ("corpus", f"{corpus.get('corpus')}, vocabulary {corpus.get('vocab_size', '?')}"),
            ("preset", f"{preset.get('name')}: {preset.get('reason', '')}"),
            ("parameters", parameters),
            ("hardware", f"{hardware.get('device_name', '')} ({hardware.get('device', '')})"),
            ("sigma", f"{state.sigma:.4f} bpb from run to run" if state.sigma else ""),
            ("seed", str(facts.get("seed", ""))),
            ("began", str(facts.get("created_at", "")).replace("T", " ")[:16] + " UTC"),
            ("folder", str(now.study.paths.folder)),
        ]
    )


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())
