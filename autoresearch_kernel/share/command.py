"""`autoresearch share`: asks about what may be private, makes the bundle, and says what was removed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.format import count, plain, thousands
from ..record.history import events_so_far
from ..record.study import Remedied, Study, StudyError
from ..show.words import bar
from ..system.files import utc_now, write_atomic
from .build import MOST_ZIP_BYTES, Made, Say, ignore_progress, is_bundle_of, make_bundle
from .clean import Cleaner, Doubt, doubts_in, rules_for, rules_for_workers, rules_of
from .material import read_material, strings_of
from .pdf import is_page_of, print_page, require_browser

MOST_NAMED = 20  # doubts that are named in a message
ON_PROMPTS = (
    "{of} of this study have prompts and replies of a language model, which hold what the agent was told and what it "
    "wrote. Share them too? y or n (n): "
)
QUESTION = (
    "Enter removes all of them. Type the numbers of those that may stay, as in 1 3, or q to stop without a bundle: "
)


class Unanswered(Remedied):
    """Words that may be private, and no terminal at which a user could be asked; `doubts` has them."""

    def __init__(self, doubts: Sequence[Doubt]) -> None:
        self.doubts = tuple(doubts)
        named = doubts[:MOST_NAMED]
        words = "; ".join(f"{doubt.what}: {plain(doubt.word, 60)}" for doubt in named)
        more = f"; and {len(doubts) - MOST_NAMED} more" if len(doubts) > MOST_NAMED else ""
        super().__init__(
            f"{count(len(doubts), 'word')} of this study may be private ({words}{more}).",
            remedy="Run the command in a terminal, which asks about each, or add --yes (in a notebook: yes=True) to "
            "remove all of them.",
            in_panel="Press the button again to remove all of them, or share with yes=True.",
        )


def share_study(
    study: Study,
    out: Path | None = None,
    *,
    agree: Callable[[int], bool] = lambda num: False,
    decide: Callable[[Sequence[Doubt]], Sequence[Doubt]],
    say: Say = ignore_progress,
) -> tuple[Path, Made]:
    """Write the bundle of a study; the file and what is in it.

    Args:
        out: the file; NAME.zip in the working folder when left out. An earlier bundle of this study is replaced.
        agree: gets the number of experiments that have prompts and replies of a model, where there are any, and
            returns whether to share them.
        decide: gets the words that may be private, and returns those to remove.
        say: is told how many experiments of how many are done.

    Raises StudyError where nothing is decided yet, or the file is another one; HistoryDamaged for a damaged record.
    """
    path = out or Path(f"{study.name}.zip")
    if path.exists() and not is_bundle_of(path, _names_of(study)):
        raise StudyError(
            f"{path} exists and is no bundle of {study.name}. Move it away, or name another file with --out."
        )
    material = read_material(study, has_prompts=True)
    num_conversations = len(material.conversations)
    if not (num_conversations and agree(num_conversations)):
        material = replace(material, has_prompts=False, conversations={})
    workers = rules_for_workers(material.events)
    doubts = doubts_in(strings_of(material), study.project, certain=workers, server=_server_of(study))
    chosen = decide(doubts) if doubts else ()
    rules = (*rules_for(study.project), *workers, *rules_of(chosen))  # a doubt is a word of the text that is left
    made = make_bundle(material, rules, utc_now(), say)
    write_atomic(path, made.data)
    return path, replace(made, num_left_out=num_conversations - len(material.conversations))


def _server_of(study: Study) -> str:
    """Host and port of the language model's server; "" for none."""
    return str((study.facts.get("agent_options") or {}).get("server") or "")


def _names_of(study: Study) -> set[str]:
    """What the study is called in its bundles: its name, also without what is private and what may be."""
    workers = rules_for_workers(events_so_far(study.paths.history))
    certain = (*rules_for(study.project), *workers)
    doubts = doubts_in([("name", study.name)], study.project, certain=workers, server=_server_of(study))
    return {study.name, *(Cleaner(rules).text(study.name) for rules in (certain, (*certain, *rules_of(doubts))))}


def share(study: Study, out: Path | None, has_prompts: bool | None, is_yes: bool, has_pdf: bool = False) -> None:
    """The command: questions at the terminal, a bar while it works, and what was made and removed.

    Args:
        has_prompts: None to ask, and to leave them out where no user can be asked.
        is_yes: no question is asked: what may be private is removed, and prompts are left out.
    """
    pdf = (out or Path(f"{study.name}.zip")).with_suffix(".pdf")
    if has_pdf:
        require_browser()  # before any work
        if pdf == out:
            raise StudyError(f"{pdf} cannot be the bundle and its PDF at once. Name a .zip with --out.")
        if pdf.exists() and not is_page_of(pdf, _names_of(study)):
            raise StudyError(
                f"{pdf} exists and is no page of {study.name} as PDF. Move it away, or name another file with --out."
            )
    decide = list if is_yes else _ask
    agree = _agrees if has_prompts is None and not is_yes else lambda num: bool(has_prompts)
    path, made = share_study(study, out, agree=agree, decide=decide, say=_bar)
    print(report(path, made, "--prompts"))
    if has_pdf:
        print(f"{print_page(made.data, pdf)}: its first page as PDF.")


def report(path: Path, made: Made, with_prompts: str) -> str:
    """What was made, for users; `with_prompts` is what they add to share prompts and replies."""
    size = f"{len(made.data) / 1e6:.1f} MB"
    notebooks = count(made.num_notebooks, "executed notebook")
    lines = [f"{path}: {size}, {count(made.num_files, 'file')}, {notebooks}."]
    if made.is_running:
        lines.append("The study still runs; the bundle has what was recorded until now, and says so.")
    if made.num_left_out:
        of = count(made.num_left_out, "experiment")
        lines.append(f"Prompts and replies of {of} were left out; {with_prompts} shares them too.")
    if len(made.data) > MOST_ZIP_BYTES * max(1.0, made.num_experiments / 100):
        lines.append(f"That is more than the {MOST_ZIP_BYTES / 1e6:.0f} MB that 100 experiments should have at most.")
    for part in made.removed:
        lines.append(f"  removed: {part['what']}, {thousands(part['count'])} times")
    if not made.removed:
        lines.append("  Nothing private was found, so nothing was removed.")
    lines.append("Look at it before you pass it on: unpack it and open index.html.")
    return "\n".join(lines)


def refuse(doubts: Sequence[Doubt]) -> list[Doubt]:
    """Where no user can be asked: raises Unanswered."""
    raise Unanswered(doubts)


def _agrees(num_conversations: int) -> bool:
    """Whether the user at the terminal agrees to share prompts and replies; False where there is none."""
    if not sys.stdin.isatty():
        return False
    return input(ON_PROMPTS.format(of=count(num_conversations, "experiment"))).strip().lower().startswith("y")


def _ask(doubts: Sequence[Doubt]) -> list[Doubt]:
    """The words to remove, chosen at the terminal."""
    if not sys.stdin.isatty():
        return refuse(doubts)
    print("These words may be private:")
    for number, doubt in enumerate(doubts, 1):
        where = f"{thousands(doubt.count)} times, first in {doubt.where}"
        print(f"  {number:>2}  {plain(doubt.word, 70)}   ({doubt.what}; {where})")
    answer = input(QUESTION).strip().lower()
    if answer.startswith("q"):
        raise StudyError("No bundle was made.")
    kept = {int(number) for number in re.findall(r"\d+", answer)}
    return [doubt for number, doubt in enumerate(doubts, 1) if number not in kept]


def _bar(done: int, of: int) -> None:
    """On a terminal, one line that is drawn again."""
    if sys.stderr.isatty():
        end = "\r" if done + 1 < of else "\r\033[K"
        print(f"{bar((done + 1) / of)} experiment {done + 1} of {of}", end=end, file=sys.stderr, flush=True)
