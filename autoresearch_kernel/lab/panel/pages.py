"""What the panel says, as HTML without widgets: how a study stands, one experiment, a proposal to review, notes."""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...core.format import count, duration, percent, plain
from ...core.state import Review, StudyState
from ...core.types import FAILED, Experiment
from ...record.archive import StudyArchive
from ...record.study import Study
from ...show import html
from ...show.attribution_words import attribution_lines
from ...show.cost import spent_words
from ...show.snapshot import Snapshot
from ...show.status import agent_words, command_line, doing, figures, rate_words, slot_lines
from ...show.study_words import counts, machine_words, sealed_words
from ...show.words import argument, audits_words, given_back_words, grounds, head_and_rest, idea, score_and_difference
from ...study.proposal_files import read_proposal
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
    """Messages for a panel whose kernel was restarted or does not answer; panel.css shows one of them."""
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

    `key` is the panel's, whose root has the class `ar-live-KEY`; `picture` is HTML.
    """
    style = base64.b64encode(_STILL_STYLE.replace("KEY", key).encode()).decode()
    link = f'<link rel="stylesheet" href="data:text/css;base64,{style}">'
    return f'{link}<div class="ar-still-{key}">{html.paragraph(words)}{picture}</div>'


def heading(now: Snapshot) -> str:
    """`nov23  ● training 0012`."""
    return f"{now.study.name}  {SIGNS.get(now.phase, '●')} {doing(now)}"


def replay_words(now: Snapshot, is_over: bool) -> str:
    """What a replay shows; the same words for as long as it plays."""
    recorded = f"recorded {now.began_at[:10]}, nothing trains" if now.began_at else "nothing trains"
    return f"{recorded}; at its end: {counts(now.state.experiments)}" if is_over else recorded


def moment(now: Snapshot) -> str:
    """What the study did at the moment that a replay shows."""
    words = " · ".join(html.text(part) for part in (heading(now).strip(), *figures(now)) if part)
    style = f"{html.UI_FONT};color:{html.INK};font-variant-numeric:tabular-nums;line-height:1.5"
    bar = html.progress_bar(now.fraction, "training") if now.activity == "training" else ""
    return f'<div style="{style}">{bar}{words}</div>'


def result(state: StudyState) -> str:
    """The study's result, above all validation figures; "" before `finish` has measured it."""
    lines = sealed_words(state).splitlines()
    if not lines:
        return ""
    below = "".join(html.paragraph(line.strip(), is_faint=True) for line in lines[1:])
    style = f"{html.UI_FONT};color:{html.INK};border-left:3px solid {html.GREEN};padding:2px 8px;margin:4px 0"
    return f'<div class="ar-result" style="{style}"><b>{html.text(lines[0])}</b>{below}</div>'


def attribution(state: StudyState) -> str:
    """Which kept changes carry the gain, once the champion trains without each of them; "" before that."""
    lines = attribution_lines(state)
    if not lines:
        return ""
    body = "".join(html.paragraph(line.strip(), is_faint=True) for line in lines[1:])
    return html.card("Attribution", html.paragraph(lines[0]) + html.details("Each kept change", body))


def gauge(now: Snapshot, memory_mb: float | None) -> str:
    """How far the running training is, and what the study is: the figures that move."""
    words = [
        f"{duration(now.supervisor_seconds)} in" if now.is_running else "",
        rate_words(now, " experiments/h") if now.is_running else "",
        *figures(now),
        f"{memory_mb:.0f} MB" if memory_mb else "",
        f"agent {agent_words(now)}",
        spent_words(now.state.spent, now.state.limits),
    ]
    line = " · ".join(html.text(part) for part in words if part)
    machine = machine_words(now.state)
    return (
        f'<div style="{html.UI_FONT};color:{html.FAINT};font-variant-numeric:tabular-nums;line-height:1.5">'
        f"{_progress(now)}{line}{f'<br>{html.text(machine)}' if machine else ''}{_slots(now)}</div>"
    )


def _slots(now: Snapshot) -> str:
    """What each slot does, a line each; "" where the machine is not divided."""
    if not now.slots:
        return ""
    lines = html.text("\n".join(slot_lines(now)))
    return f'<div class="ar-slots" style="{html.CODE_FONT};font-size:12px;white-space:pre-wrap">{lines}</div>'


def writing(now: Snapshot) -> str:
    """The last lines of what the agent writes now, as text; "" while it writes nothing."""
    if not now.agent_writes:
        return ""
    style = (
        f"{html.CODE_FONT};font-size:12px;color:{html.FAINT};white-space:pre-wrap;overflow-wrap:anywhere;"
        f"margin:0;border-left:3px solid {html.LINE};padding:2px 8px"
    )
    heading = html.paragraph("The agent writes:", is_faint=True)
    return f'<div class="ar-writes">{heading}<pre style="{style}">{html.text(now.agent_writes)}</pre></div>'


def _progress(now: Snapshot) -> str:
    if now.activity == "waiting":
        waits = duration(max(0.0, now.time - seconds_of(now.state.waiting_since)))
        return f'<span style="color:{html.INK}">waits for the machine: {waits} so far</span> · '
    if now.activity == "quiet" and now.state.quiet_wait is not None:
        waits = duration(max(0.0, now.time - seconds_of(now.state.quiet_wait.time)))
        return f'<span style="color:{html.INK}">waits for a quieter machine: {waits} so far</span> · '
    if now.activity != "training" or now.experiment is None:
        return ""
    left, share = duration(now.seconds_left or 0), percent(now.fraction)
    words = f'<span style="color:{html.INK}" title="{share}">{left} left</span> · '
    return html.progress_bar(now.fraction, "training") + words


def experiment_head(experiment: Experiment) -> str:
    """Title, status, score, what audits said of it, and what the agent says for it."""
    score = score_and_difference(experiment)
    line = html.status_words(experiment) + (f" · {html.text(score)}" if score else "")
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
    found = read_proposal(study.experiment(number))
    parts += map(_said, found[0].transcript if found else ())
    return f'<div style="{html.UI_FONT};color:{html.INK}">{"".join(parts)}</div>'


def _files(study: Study, experiment: Experiment) -> str:
    paths = study.experiment(experiment.number)
    found = [paths.notebook(run.index) for run in experiment.runs] + [paths.train]
    return html.links(file_link(path, study.project) for path in found if path.is_file())


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


def _said(message: Mapping[str, str]) -> str:
    """A prompt or a reply, folded."""
    speaker, content = (
        {"user": "Prompt", "assistant": "Reply"}.get(message["role"], message["role"]),
        message["content"],
    )
    cut = "" if len(content) <= TRANSCRIPT_LIMIT else "\n[the rest is in proposal.json]"
    shown = html.printed(content[:TRANSCRIPT_LIMIT] + cut)
    return html.details(f"{speaker}, {count(len(content), 'character')}", shown)


def review(study: Study, waiting: Review, parent_source: str, source: str) -> str:
    """The proposal that waits for a person: hypothesis and change, or the invitation to write one."""
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
    refused = [(f"{r.experiment:04d}", given_back_words(r.objection, r.why)) for r in state.refusals[-10:]]
    if refused:
        parts.append(html.details(f"Given back: {len(state.refusals)}", html.facts(refused)))
    if now.commands:
        said = [(f"{c['time'][11:16]} UTC", command_line(c)) for c in now.commands[-10:]]
        parts.append(html.details("What people asked, and the answers", html.facts(said), is_open=True))
    return "".join(parts)


def log(tail: str) -> str:
    """The end of the supervisor's log. The box grows from its bottom, so the newest line is in sight."""
    words = tail or "Nothing has been printed: a study in the foreground of a terminal has no log."
    style = f"{html.CODE_FONT};font-size:12px;color:{html.INK};white-space:pre-wrap;margin:0;flex:none"
    box = "display:flex;flex-direction:column-reverse;max-height:340px;overflow:auto"
    return f'<div style="{box}" tabindex="0" aria-label="log"><pre style="{style}">{html.text(words)}</pre></div>'


def settings(now: Snapshot) -> str:
    """What was fixed when the study began."""
    facts, state = now.study.facts, now.state
    corpus, hardware, preset = (facts.get(name) or {} for name in ("corpus", "hardware", "preset"))
    parameters = ", ".join(f"{name} = {value}" for name, value in (preset.get("parameters") or {}).items())
    options = ", ".join(f"{name} {value}" for name, value in (facts.get("agent_options") or {}).items())
    limits = [f"{state.limits.max_tokens} tokens" if state.limits.max_tokens else ""]
    limits += [f"${state.limits.max_cost:.2f}" if state.limits.max_cost else ""]
    limits += [f"{state.limits.max_calls} calls" if state.limits.max_calls else ""]
    return html.facts(
        [
            ("training", f"{facts['time_budget_seconds']:g} s a run"),
            ("agent", f"{facts['agent']} {options}"),
            ("may spend", " and ".join(filter(None, limits))),
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
