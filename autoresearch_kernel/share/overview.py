"""index.html of a bundle: the night, its picture, what was kept, every experiment, what failed, facts, and Verify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.decide import best
from ..core.format import bpb, clock, count, plain, thousands
from ..core.types import FAILED, Experiment, Status
from ..show.html import MARKS, diff_html, facts_of_html, folded, text
from ..show.plot_scale import later_runs
from ..show.svg_progress import progress_svg
from ..show.words import argument, given_back_words, idea, is_ended_early, status_word, title
from .attributed import attribution_html
from .layout import anchor, asset, data_element, figure, mark_in, page, paragraph, section, target, wide
from .material import Material
from .story import budget_html, marked, marked_gain, result_html, speed_html, spent_html, story, tried

MOST_GIVEN_BACK, MOST_WORDS = 20, 300  # proposals that are listed, and characters of each part of one
BROAD, NARROW = (1048.0, 430.0), (370.0, 330.0)  # pixels of the picture on a large and on a small screen
HEADS = (  # of the table: words, what a click sorts by, class
    ("#", "number", "right"), ("what changed", "text", "idea"), ("status", "text", ""), ("val_bpb", "number", "right"),
    ("against", "number", "right minor"), ("difference (σ)", "number", "right"), ("runs", "number", "right minor"),
    ("decided (UTC)", "text", "minor"),
)  # fmt: skip
KINDS = {Status.KEEP: "keep", Status.DISCARD: "discard", Status.REJECTED: "rejected", None: "pending"}


def overview(
    material: Material,
    diffs: Mapping[int, str],
    data: Any,
    removed: Sequence[Mapping[str, Any]],
    verify_js: str,
    version: str,
) -> str:
    """The page.

    Args:
        diffs: experiment -> its change, unified.
        data: what the script of Verify reads.
        removed: what the cleaning replaced, as the manifest lists it.
        verify_js: the script of Verify; "" where there is none.
        version: of the program that makes the bundle.
    """
    name, day = material.study.name, material.events[0]["time"][:10]
    body = [
        f'<header>\n<h1>{text(name)}</h1>\n<p class="faint">An autoresearch study of {text(plain(day))}</p>\n</header>',
        _navigation(material),
        '<main id="main">',
        section("The night", "night", paragraph(story(material))),
        section("Every experiment in one picture", "picture", _picture(material)),
        section("Result", "result", paragraph(result_html(material))),
        section("What was kept", "kept", *_kept(material, diffs)),
        section("What carries the gain", "attribution", *attribution_html(material)),
        section("All experiments", "all", _filter(material), wide("All experiments", _table(material))),
        section("What failed, and why", "failed", _failed(material)),
        section("How it was measured", "facts", facts_of_html(_facts(material))),
        _verify_part(),
        section("With the program", "program", _with_program(material)),
        section("Files of this bundle", "files", _files(material), _removed(removed)),
        "</main>",
    ]
    scripts = [asset("page.js"), *filter(None, [verify_js])]
    return page(f"{name} · autoresearch", body, version=version, scripts=scripts, data=data_element("bundle", data))


def mark(experiment: Experiment) -> str:
    """The sign of its status, as in the picture."""
    kind = "failed" if experiment.status in FAILED else KINDS[experiment.status]
    sign = MARKS[experiment.status][0] if experiment.status is not None else "◐"
    sign = "◆" if experiment.parent is None and experiment.status is Status.KEEP else sign
    return f'<span class="mark-{kind}" aria-hidden="true">{sign}</span>'


def status_html(experiment: Experiment) -> str:
    """How it ended, marked where the history has the same word."""
    word = status_word(experiment)
    return figure(f"status-{experiment.number}", word) if word == experiment.status else text(word)


def _navigation(material: Material) -> str:
    carries = [("attribution", "Attribution")] if any(attribution_html(material)) else []
    parts = (
        ("night", "The night"), ("picture", "Picture"), ("result", "Result"), ("kept", "Kept"), *carries,
        ("all", "Experiments"), ("failed", "Failures"), ("facts", "Measurement"), ("verify-heading", "Verify"),
        ("program", "Program"), ("files", "Files"),
    )  # fmt: skip
    items = "".join(f"<li>{anchor(f'#{name}', words)}</li>" for name, words in parts)
    return f'<nav aria-label="Parts of this page"><ul>{items}</ul></nav>'


def _picture(material: Material) -> str:
    """The staircase for a large and for a small screen; one of them is shown."""
    state = material.state
    words = (
        f"Validation bits per byte of {count(len(tried(material)), 'experiment')}, one column each; the line is the "
        "incumbent's score, which falls with each kept change. The table below has every figure."
    )
    drawn = [
        progress_svg(state.decided, sigma=state.sigma, width=w, height=h, words=words, target=target, name=name)
        for name, (w, h) in (("broad", BROAD), ("narrow", NARROW))
    ]
    items = "".join(f'<li><span class="mark-{kind}" aria-hidden="true">{sign}</span> {words}</li>' for kind, sign, words
                    in _legend(material))  # fmt: skip
    return f'<figure style="margin:0">{"".join(drawn)}<figcaption><ul class="legend">{items}</ul></figcaption></figure>'


def _legend(material: Material) -> Iterator[tuple[str, str, str]]:
    """Kind, sign and words of each mark that the picture has."""
    done, sigma = tried(material), material.state.sigma
    yield "keep", "◆", "baseline"
    for name, kind, sign, words, number in (
        ("kept", "keep", "●", "kept", sum(e.status is Status.KEEP for e in done)),
        ("discarded", "discard", "○", "discarded", sum(e.status is Status.DISCARD for e in done)),
        ("refused", "rejected", "▲", "refused by the audit", sum(e.status is Status.REJECTED for e in done)),
        ("failed", "failed", "×", "failed, on the lowest line", sum(e.status in FAILED for e in done)),
    ):
        if number:
            yield kind, sign, f"{words} {figure(name, thousands(number))}"
    yield "keep", "—", "score of the incumbent"
    if sigma:
        yield "pending", "▒", f"noise of a run, ± {figure('sigma', f'{sigma:.4f}')}"
    if any(later_runs(e) for e in material.state.decided):
        yield "keep", "▽", "a kept change that ran again later"


def _kept(material: Material, diffs: Mapping[int, str]) -> Iterator[str]:
    """The lineage: each kept change with its scores, its reasons and its diff, the first one first."""
    kept = [e for e in tried(material) if e.status is Status.KEEP]
    if not kept:
        yield "<p>Nothing was kept: no change beat the baseline by more than the noise.</p>"
        return
    yield "<p>Each change was made to the code of the one before it, and the first to the baseline.</p>"
    for experiment in kept:
        yield f"<h3>{mark(experiment)} {anchor(target(experiment.number), title(experiment))}</h3>"
        yield f'<p class="number">{_scores(experiment)}. {text(plain(experiment.reason))}</p>'
        yield folded(argument(experiment))
        yield diff_html(diffs.get(experiment.number, ""))


def _scores(experiment: Experiment) -> str:
    """Of a kept change and of what it was compared with, and their difference."""
    number, compared = experiment.number, experiment.compared
    mine = figure(f"bpb-{number}", bpb(experiment.val_bpb))
    if compared is None:
        return f"val_bpb {mine}"
    gain = marked_gain(compared, f"difference-{number}", f"difference-error-{number}")
    return f"{mine} against {figure(f'incumbent-bpb-{number}', bpb(compared.theirs))}: {gain}"


def _filter(material: Material) -> str:
    words = sorted({status_word(e) for e in material.state.experiments})
    options = "".join(f"<option>{text(word)}</option>" for word in words)
    return (
        '<div class="filter" id="filter" hidden><label>Show rows with <input type="search" autocomplete="off"></label>'
        f'<label>Status <select><option value="">all</option>{options}</select></label>'
        '<span class="faint" id="shown" role="status"></span></div>'
    )


def _table(material: Material) -> str:
    heads = "".join(
        f'<th scope="col" data-kind="{kind}" class="{style}">{text(words)}</th>' for words, kind, style in HEADS
    )
    rows = "".join(_row(experiment) for experiment in material.state.experiments)
    caption = "Scores in bits per byte, lower is better. A difference is the one that the decision was made on."
    return (
        f'<table id="experiments" class="study"><caption>{caption}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(experiment: Experiment) -> str:
    compared, number, word = experiment.compared, experiment.number, status_word(experiment)
    theirs, difference = (compared.theirs, compared.difference) if compared else (None, None)
    decided_at = plain(experiment.decided_at.replace("T", " ")[:16])
    cells = (
        (str(number), anchor(target(number), f"{number:04d}")),
        (idea(experiment), text(idea(experiment))),
        (word, f"{mark(experiment)} {status_html(experiment)}"),
        (_plain(experiment.val_bpb), _score(f"bpb-{number}", experiment.val_bpb)),
        (_plain(theirs), _score(f"incumbent-bpb-{number}", theirs)),
        (_plain(difference), _difference(experiment)),
        (str(len(experiment.runs)), figure(f"runs-{number}", str(len(experiment.runs)))),
        (decided_at, text(decided_at) or "not decided"),
    )
    drawn = "".join(
        f'<td class="{style}" data-value="{text(value)}">{inner}</td>'
        for (value, inner), (_, _, style) in zip(cells, HEADS, strict=True)
    )
    return f'<tr data-status="{text(word)}">{drawn}</tr>'


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _score(name: str, value: float | None) -> str:
    return "–" if value is None else figure(name, bpb(value))


def _difference(experiment: Experiment) -> str:
    """The difference with its error, and what it is in sigma below it."""
    compared = experiment.compared
    if compared is None:
        return "–"
    number, words = experiment.number, compared.in_sigmas
    sigmas = f"<br>{mark_in(words, (f'sigmas-{number}', '', words.removesuffix(' σ')))}" if words else ""
    names = f"difference-{number}", f"difference-error-{number}"
    return f"{marked(compared.difference, compared.error, *names)}{sigmas}"


def _failed(material: Material) -> str:
    """Each experiment that ended without a score that counts, with the reason."""
    failed = [e for e in tried(material) if e.status in FAILED | {Status.REJECTED} or is_ended_early(e)]
    given_back = _given_back(material)
    if not failed:
        return f"<p>Every experiment ended with a score that counts.</p>{given_back}"
    items = "".join(
        f"<li>{mark(e)} {anchor(target(e.number), title(e))} <b>{text(status_word(e))}</b>: "
        f"{text(plain(e.reason) or 'no reason was recorded')}</li>"
        for e in failed
    )
    return f"<ul>{items}</ul>{given_back}"


def _given_back(material: Material) -> str:
    """Proposals that did not train, as they were: the agent mended them or proposed something else."""
    refused = material.state.refusals
    if not refused:
        return ""
    items = "".join(
        f"<li>{refusal.experiment:04d} {text(plain(refusal.hypothesis)[:MOST_WORDS])}: "
        f"{text(plain(given_back_words(refusal.objection, refusal.why))[:MOST_WORDS])}</li>"
        for refusal in refused[:MOST_GIVEN_BACK]
    )
    more = f" The first {MOST_GIVEN_BACK} are:" if len(refused) > MOST_GIVEN_BACK else ""
    number, noun = count(len(refused), "proposal").split(" ")
    told = f"{figure('given-back', number)} {noun}"
    return f"<p>Given back to the agent before it trained: {told}.{more}</p><ul>{items}</ul>"


def _facts(material: Material) -> Iterator[tuple[str, str]]:
    """Names and values as HTML, of which those without a value are left out."""
    known, state = material.study.facts, material.state
    corpus, hardware, options = known["corpus"], known["hardware"], known.get("agent_options") or {}
    agent = {"": known["agent"], **options}
    sandboxes = {run.sandbox or "not recorded" for e in state.experiments for run in e.runs}
    yield "agent", text(" · ".join(f"{name} {value}" for name, value in agent.items() if value is not None).strip())
    yield "corpus", text(f"{corpus.get('corpus')}, content {str(corpus.get('content_sha256'))[:12]}")
    yield "tokens", text(f"vocabulary {corpus.get('vocab_size')}, context {corpus.get('sequence_length')}")
    yield "budget", f"{budget_html(material)} s of training a run, clock {text(known.get('clock') or 'wall')}"
    yield "hardware", text(", ".join(f"{value} {unit}".strip() for value, unit in _hardware(hardware)))
    yield "noise", _noise(material)
    yield "machine", speed_html(material) or "its speed was steady"
    yield "sandbox", text(", ".join(sorted(sandboxes)))
    yield "cost", spent_html(material) or "no language model was asked"
    yield "versions", text(", ".join(f"{name} {version}" for name, version in (known.get("versions") or {}).items()))
    yield "made", text(f"{clock(material.events[0]['time'])} to {clock(material.events[-1]['time'])}")


def _hardware(hardware: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    for name, unit in (("device_name", ""), ("num_threads", "threads"), ("memory_mb", "MB of memory"), ("dtype", "")):
        if hardware.get(name):
            yield hardware[name], unit


def _noise(material: Material) -> str:
    noise = material.state.noise
    if noise.sigma is None:
        return "not known: no code ran twice"
    reruns = sum(len(e.scores) - 1 for e in material.state.experiments if len(e.scores) > 1)
    return (
        f"σ = {figure('sigma', f'{noise.sigma:.4f}')} bits per byte from run to run, "
        f"{figure('sigma-degrees', str(noise.degrees_of_freedom))} degrees of freedom, "
        f"{figure('repeated-runs', thousands(reruns))} repeated runs"
    )


def _verify_part() -> str:
    return (
        '<div id="verify-part">\n<h2 id="verify-heading">Verify</h2>\n<section id="verify" '
        'aria-labelledby="verify-heading"></section>\n<noscript><p>The check in this page needs JavaScript. '
        "<code>autoresearch verify FILE.zip</code> makes the same check.</p></noscript>\n</div>"
    )


def _with_program(material: Material) -> str:
    """What a reader can do who has the zip and the program."""
    name, champion = text(material.study.name), best(material.state.experiments)
    number = champion.number if champion and champion.number else 1
    commands = (
        (f"autoresearch verify {name}.zip", "the check above, and whether these pages follow from the record"),
        (f"autoresearch replay {name}.zip", "the night once more, at any speed"),
        (
            f"autoresearch rerun {name}.zip --experiment {number}",
            "trains it again: does its claim hold on your machine?",
        ),
    )
    items = "".join(f"<li><code>{command}</code>: {words}</li>" for command, words in commands)
    return (
        f"<p>This study was made with autoresearch, a toolkit in which an agent tries changes of a language model’s "
        "training and a rule that knows the noise keeps some of them. Who gave you this file can tell you where the "
        f"program is; its README.md says how to install it.</p><ul>{items}</ul>"
    )


def _files(material: Material) -> str:
    links = (
        ("results.tsv", "all experiments as a table"), ("history.jsonl", "the record, one event a line, chained"),
        ("study.json", "what was fixed at the start"), ("baseline/train.py", "the code at the start"),
        ("champion/train.py", "the code that was kept last"), ("manifest.json", "every file with its SHA-256"),
        ("ro-crate-metadata.json", "the same for machines, as an RO-Crate"),
    )  # fmt: skip
    items = "".join(f"<li>{anchor(path, path)}: {text(words)}</li>" for path, words in links)
    kept = f"{count(len(material.notebooks), 'executed notebook')} in <code>experiments/NNNN/experiment.ipynb</code>"
    return f"<ul>{items}<li>{kept}: the outputs are those of the one real run</li></ul>"


def _removed(removed: Sequence[Mapping[str, Any]]) -> str:
    if not removed:
        return "<p>Nothing private was found in the record, so nothing was removed.</p>"
    told = "; ".join(f"{part['what']}, {thousands(part['count'])} times" for part in removed)
    return f"<p>Removed before this bundle was made, because it is private: {text(told)}.</p>"
