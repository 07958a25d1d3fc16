"""What lesson 5 shows of an agent: the prompt in its sections, the reply, and what is made of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from ...agents.chat import Chat
from ...agents.llm import LLMAgent
from ...agents.prices import count_tokens
from ...agents.prompt import build_prompt
from ...core.state import StudyState, replay
from ...core.types import Archive, Context, Experiment, Proposal, Status
from ...record.archive import StudyArchive
from ...record.history_reader import readable_events
from ...show import html
from ...source.diff import diff
from ...source.parameters import set_parameters
from ...system.locations import originals
from ..analysis.load import open_example
from ..results import Diff

PROMPT_TOKENS = 16_000  # at most, in the lesson
SHOWN_CHARACTERS = 6_000  # of a section


@dataclass(frozen=True, repr=False)
class Prompt:
    """A prompt, whole and in its sections; a notebook shows the sections with their sizes."""

    text: str

    @property
    def sections(self) -> dict[str, str]:
        """The text under each heading of the first level, outside of fences."""
        return dict(_sections(self.text))

    def __getitem__(self, heading: str) -> Section:
        """The section of that heading. Raises KeyError, which names the headings."""
        for known, text in self.sections.items():
            if known.startswith(heading):
                return Section(known, text)
        raise KeyError(f"There is no section {heading!r}. The headings are: {', '.join(self.sections)}.")

    def _repr_html_(self) -> str:
        sizes = {name: count_tokens(text) for name, text in self.sections.items()}
        rows = [(html.text(name), f"{tokens:,}") for name, tokens in sizes.items()]
        rows.append(("<b>all</b>", f"<b>{sum(sizes.values()):,}</b>"))
        return html.table(("section of the prompt", "tokens, at most"), rows, right=(1,))

    def __repr__(self) -> str:
        return "\n".join(f"{count_tokens(text):>6} tokens  {name}" for name, text in self.sections.items())


@dataclass(frozen=True, repr=False)
class Section:
    """One section of a prompt, as text that a notebook shows as it is."""

    heading: str
    text: str

    def _repr_html_(self) -> str:
        return html.card(self.heading, html.printed(self.text[:SHOWN_CHARACTERS].strip()))

    def __repr__(self) -> str:
        return f"# {self.heading}\n{self.text[:SHOWN_CHARACTERS]}"


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """(heading, text below it) for each heading that is not within a fence."""
    heading, lines, fence = "(before the first heading)", list[str](), ""
    for line in text.splitlines():
        if line.startswith("```"):
            mark = line[: len(line) - len(line.lstrip("`"))]
            fence = "" if mark == fence and line == mark else fence or mark
        if line.startswith("# ") and not fence:
            if lines:
                yield heading, "\n".join(lines)
            heading, lines = line[2:], []
        else:
            lines.append(line)
    yield heading, "\n".join(lines)


def program_md() -> str:
    """The program.md that comes with the project."""
    return (originals() / "program.md").read_text(encoding="utf-8")


@cache
def example_context(number: int = 40) -> Context:
    """All that an agent could have read before it proposed experiment `number` of the recorded night."""
    study = open_example()
    events = readable_events(study.paths.history).events
    proposed = [i for i, event in enumerate(events) if event["event"] == "proposed"]
    state = replay(events[: next(i for i in proposed if events[i]["experiment"] == number)])
    assert state.incumbent is not None
    return Context(
        program=program_md(),
        train_source=_source_of(state, study.train_source(0)),
        incumbent=state.incumbent,
        experiments=state.decided,
        sigma=state.sigma,
        study=study.facts,
        seed=0,
        archive=StudyArchive(study.paths),
        prepare_source=(originals() / "prepare.py").read_text(encoding="utf-8"),
        experiments_left=events[proposed[-1]]["experiment"] - number + 1,
    )


def _source_of(state: StudyState, baseline: str) -> str:
    """The incumbent's train.py: the optimiser changed numbers only, so the kept changes add up to it."""
    source = baseline
    for experiment in state.decided:
        if experiment.status is Status.KEEP and experiment.changes:
            source = set_parameters(source, experiment.changes)
    return source


def with_discards(context: Context, discards: int) -> Context:
    """The context after so many discards in a row: the last experiments of a short, made-up record."""
    baseline = next(e for e in context.experiments if e.number == 0)
    tried = [_discard(number, baseline) for number in range(1, discards + 1)]
    return replace(context, experiments=(baseline, *tried), incumbent=baseline, archive=Archive())


def _discard(number: int, baseline: Experiment) -> Experiment:
    score = (baseline.val_bpb or 0.0) + 0.02
    details = {"subjects": [f"part {number}"]}
    found = Experiment(number, f"Idea {number}", "llm", 0, details=details, status=Status.DISCARD, val_bpb=score)
    return replace(found, incumbent_bpb=baseline.val_bpb, reason="not better")


def prompt_of(context: Context, program: str | None = None, tokens: int = PROMPT_TOKENS) -> Prompt:
    """The prompt for the next experiment, as an agent that asks a language model builds it.

    Args:
        program: another program.md than the context's.
        tokens: that the prompt may take at most.
    """
    asked = context if program is None else replace(context, program=program)
    return Prompt(build_prompt(asked, tokens, count_tokens))


@dataclass(frozen=True, repr=False)
class Asked:
    """One question to a model and its reply."""

    prompt: Prompt
    reply: str
    proposal: Proposal
    train_source: str  # that the proposal was made for

    @property
    def diff(self) -> Diff:
        """What the reply changes in train.py."""
        return Diff(diff(self.train_source, self.proposal.train_source))

    def _repr_html_(self) -> str:
        words = [("hypothesis", self.proposal.hypothesis), ("expected", self.proposal.expected)]
        words += [("refuted by", self.proposal.refutation)]
        return html.card("A proposal", html.facts(words) + self.diff._repr_html_())

    def __repr__(self) -> str:
        return f"{self.proposal.hypothesis}\n{self.diff}"


def reply_of(words: str, search: str, replace: str) -> str:
    """A reply with one edit, as a model writes it; a cell cannot hold its last line, because Jupyter removes `>>>`.

    Args:
        words: what stands above the edit, the hypothesis among it.
        search: lines of train.py.
        replace: the lines that replace them.
    """
    return f"{words}\n\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


def ask(base_url: str, context: Context, program: str | None = None) -> Asked:
    """Ask the model behind a server for one proposal, as a study asks it; the replies are checked in the same way."""
    asked = context if program is None else replace(context, program=program)
    agent = LLMAgent(Chat("recorded", base_url=base_url), prompt_tokens=PROMPT_TOKENS)
    proposal = agent.propose(asked)
    first, *_, last = proposal.transcript
    return Asked(Prompt(first["content"]), last["content"], proposal, context.train_source)
