"""The page of one experiment: idea, diff, curve, score and audit, the executed notebook, prompt and reply."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.format import bpb, count, plain, signed
from ..core.sanitize import readable
from ..core.types import Experiment
from ..show.html import details, diff_html, facts, printed, text
from ..show.svg_curve import curve_svg
from ..show.words import argument, grounds, score_and_difference, title
from ..source.gate import CURVE, HEADING, VERDICT
from .layout import anchor, mark_in, page, section, wide
from .material import CONVERSATION, Material, Notebook
from .notebook import NEEDS, joined
from .overview import mark, status_html

MOST_SOURCE_LINES = 40  # of a cell that are shown unfolded
MOST_OF_AN_END = 6_000  # characters of the beginning and of the end of a long message


def experiment_page(
    material: Material,
    experiment: Experiment,
    diff: str,
    notebooks: Mapping[int, Notebook],
    sources: Sequence[str],
    version: str,
) -> str:
    """The page.

    Args:
        diff: its change, unified; "" for the baseline.
        notebooks: run -> the notebook, as the bundle holds it.
        sources: names of the files beside this page.
        version: of the program that makes the bundle.
    """
    body = [
        _navigation(material, experiment),
        f"<header>\n<h1>{text(title(experiment))}</h1>\n"
        f'<p class="number">{mark(experiment)} {status_html(experiment)} · {_score(experiment) or "no score"}'
        f"</p>\n<p>{text(plain(experiment.reason))}</p>\n</header>",
        '<main id="main">',
        section("The idea", "idea", *_idea(experiment)),
        section("What changed in train.py", "change", diff_html(diff)) if experiment.number else "",
        section("Training", "training", *_curves(material, experiment)),
        section("Score and audit", "score", *_scores(material, experiment)),
        *(_notebook_part(notebooks[run], run, material) for run in sorted(notebooks)),
        section("Prompt and reply", "conversation", *_conversation(material, experiment)),
        section("Files", "files", "<ul>" + "".join(f"<li>{anchor(name, name)}</li>" for name in sources) + "</ul>"),
        "</main>",
    ]
    return page(f"{experiment.number:04d} · {material.study.name}", body, version=version)


def _score(experiment: Experiment) -> str:
    """As `score_and_difference` has it, with its figures marked."""
    number, compared, own_error = experiment.number, experiment.compared, experiment.standard_error
    if experiment.val_bpb is None:
        claimed = (f"claimed-{number}", "claimed ", bpb(experiment.claimed_bpb))
        return mark_in(score_and_difference(experiment), claimed)
    figures = [(f"bpb-{number}", "val_bpb ", bpb(experiment.val_bpb))]
    if compared is None:
        figures += [(f"error-{number}", " ± ", f"{own_error:.4f}")] if own_error else []
    else:
        figures += [(f"incumbent-bpb-{number}", "incumbent's ", bpb(compared.theirs))]
        figures += [(f"difference-{number}", ": ", signed(compared.difference))]
        error = compared.error
        figures += [(f"difference-error-{number}", " ± ", f"{error:.4f}")] if error is not None else []
        sigmas = compared.in_sigmas.removesuffix(" σ")
        figures += [(f"sigmas-{number}", " (", sigmas)] if sigmas else []
    return mark_in(score_and_difference(experiment), *figures, *_means(experiment))


def _means(experiment: Experiment) -> Iterator[tuple[str, str, str]]:
    """How many runs a score is the mean of, and what later runs say: names, what is before each, and its text."""
    number, judged, runs = experiment.number, len(experiment.judged_runs), len(experiment.scores)
    if judged > 1:
        yield f"judged-runs-{number}", "mean of ", str(judged)
    if 0 < judged < runs:
        yield f"runs-so-far-{number}", "mean of its ", str(runs)
        yield f"bpb-so-far-{number}", " runs so far ", bpb(experiment.mean_bpb)
        if error := experiment.mean_standard_error:
            yield f"error-so-far-{number}", " ± ", f"{error:.4f}"


def _navigation(material: Material, experiment: Experiment) -> str:
    last = len(material.state.experiments) - 1
    links = [anchor("../../index.html", f"← {material.study.name}")]
    for number, words in ((experiment.number - 1, "previous"), (experiment.number + 1, "next")):
        if 0 <= number <= last:
            links.append(anchor(f"../{number:04d}/index.html", f"{words}: {number:04d}"))
    if experiment.parent is not None:
        links.append(anchor(f"../{experiment.parent:04d}/index.html", f"compared with {experiment.parent:04d}"))
    return f'<nav aria-label="Experiments"><ul>{"".join(f"<li>{link}</li>" for link in links)}</ul></nav>'


def _idea(experiment: Experiment) -> Iterator[str]:
    yield f'<p style="white-space:pre-wrap">{text(readable(argument(experiment)))}</p>'
    yield f'<p class="faint">Proposed by the agent {text(plain(experiment.agent))}.</p>'


def _curves(material: Material, experiment: Experiment) -> Iterator[str]:
    """A picture for each run, beside its parent's first run."""
    other = material.curves.get((experiment.parent, 0), []) if experiment.parent is not None else []
    drawn = False
    for run in experiment.runs:
        curve = material.curves.get((experiment.number, run.index), [])
        beside = f"incumbent {experiment.parent:04d}" if other else ""
        if picture := curve_svg(curve, other, label=f"run {run.index + 1}, seed {run.seed}", other_label=beside):
            drawn = True
            yield picture
    if not drawn:
        yield "<p>No training step was recorded.</p>" if experiment.runs else "<p>It was not trained.</p>"


def _scores(material: Material, experiment: Experiment) -> Iterator[str]:
    if not experiment.runs:
        return
    rows = grounds(experiment, experiment.runs[-1], material.study.facts)
    yield facts((name, plain(words)) for name, words in rows)


def _notebook_part(notebook: Notebook, run: int, material: Material) -> str:
    seconds = f"It trained for at most {material.study.longest_budget_seconds:g} s; the outputs are those of that run."
    heading = "The executed notebook" + (f", run {run + 1}" if run else "")
    cells = list(cells_html(notebook))
    inner = "\n".join(cells)
    if run:  # further runs of the same code are folded
        inner = details(f"{count(len(cells), 'cell')} of run {run + 1}, with another seed", inner)
    return section(heading, f"notebook-{run}", f'<p class="faint">{seconds}</p>', inner)


def cells_html(notebook: Notebook) -> Iterator[str]:
    """The cells of train.py with their outputs, as text and PNG."""
    for cell in notebook["cells"]:
        tags = set(cell["metadata"].get("tags", []))
        if tags & {HEADING, VERDICT, CURVE, NEEDS}:
            continue
        source = joined(cell["source"])
        if cell["cell_type"] != "code":
            yield f'<p style="white-space:pre-wrap">{text(readable(html.unescape(source)))}</p>'
            continue
        yield _source(source)
        yield from (_output(output) for output in cell["outputs"])


def _source(source: str) -> str:
    block = f'<pre class="code" tabindex="0">{text(source)}</pre>'
    lines = source.count("\n") + 1
    first = next((line.strip() for line in source.splitlines() if line.strip()), "")
    return block if lines <= MOST_SOURCE_LINES else details(f"{lines} lines: {plain(first, 60)}", block)


def _output(output: Mapping[str, Any]) -> str:
    kind = output["output_type"]
    if kind == "stream":
        return f'<pre class="output" tabindex="0">{text(output["text"])}</pre>'
    if kind == "error":
        return f'<pre class="output error" tabindex="0">{text(chr(10).join(output["traceback"]))}</pre>'
    words = output["data"].get("text/plain", "")
    if picture := output["data"].get("image/png"):
        return f'<img src="data:image/png;base64,{text(picture)}" alt="{text(plain(words) or "a picture")}">'
    return f'<pre class="output" tabindex="0">{text(words)}</pre>'


def _conversation(material: Material, experiment: Experiment) -> Iterator[str]:
    """Each message, folded; none where the person did not agree to share them."""
    for message in material.conversations.get(experiment.number, ()):
        said = readable(message.get("content", ""))
        summary = f"{plain(message.get('role', ''), 20)}: {count(len(said), 'character')}"
        yield details(summary, wide(summary, printed(_ends(said))))


def _ends(said: str) -> str:
    """A long prompt would stand twice in a bundle: its page shows how it begins and ends."""
    if len(said) <= 2 * MOST_OF_AN_END:
        return said
    left = f"[... {len(said) - 2 * MOST_OF_AN_END:,} characters more, which are in {CONVERSATION} ...]"
    return f"{said[:MOST_OF_AN_END]}\n{left}\n{said[-MOST_OF_AN_END:]}"
