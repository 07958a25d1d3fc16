"""benchmarks/scripted_model.py: its ideas fit train.py, and none is proposed twice."""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.agents.edits import apply_edits
from autoresearch_kernel.agents.prompt import build_prompt
from autoresearch_kernel.agents.reply import read_submission
from tests.nights import BASELINE, BUDGET, context, count_tokens

PROJECT = Path(__file__).resolve().parents[1]
TRAIN = (PROJECT / "train.py").read_text(encoding="utf-8")

_spec = importlib.util.spec_from_file_location("scripted_model", PROJECT / "benchmarks" / "scripted_model.py")
assert _spec is not None and _spec.loader is not None
scripted = importlib.util.module_from_spec(_spec)
sys.modules["scripted_model"] = scripted  # dataclasses look their module up
_spec.loader.exec_module(scripted)


def prompt_after(*titles: str, notes: str = "") -> str:
    tried = [replace(BASELINE, number=i, hypothesis=f"{title}: why.") for i, title in enumerate(titles, 1)]
    asked = context(train_source=TRAIN, notes=notes, experiments=(BASELINE, *tried))
    return build_prompt(asked, 2 * BUDGET, count_tokens)


def test_there_are_many_ideas_with_titles_of_their_own() -> None:
    titles = [idea.title for idea in scripted.IDEAS]
    assert len(titles) >= 75
    assert len(set(titles)) == len(titles)
    assert not [a for a in titles for b in titles if a != b and f"{a}:" in f"{b}:"]  # found where they are not meant
    assert max(map(len, titles)) < 40  # the shortest line of a record still holds it


@pytest.mark.parametrize("idea", scripted.IDEAS, ids=lambda idea: idea.title)
def test_an_idea_fits_train_py_and_says_what_it_expects(idea: scripted.Idea) -> None:
    assert [scripted.places(TRAIN, edit.search) for edit in idea.edits] == [1] * len(idea.edits)
    compile(changed := scripted.applied(idea, TRAIN), "train.py", "exec")
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(TRAIN))
    float(idea.expected_bpb.split(" to ")[0])
    submission = read_submission(scripted.proposal(idea, {1}))
    assert submission.hypothesis.startswith(f"{idea.title}: ")
    assert submission.expected == idea.expected_bpb and submission.refutation
    assert apply_edits(TRAIN, submission) == changed


def test_the_first_idea_that_is_new_is_proposed() -> None:
    first, second, third = scripted.IDEAS[:3]
    assert read_submission(scripted.reply_to(prompt_after())).hypothesis.startswith(first.title)
    submission = read_submission(scripted.reply_to(prompt_after(first.title, third.title)))
    assert submission.hypothesis.startswith(second.title)
    assert submission.notes == f"{scripted.NOTES} 1-3."


def test_the_notes_keep_what_the_record_no_longer_names() -> None:
    notes = f"{scripted.NOTES} 1-4, 6."
    assert read_submission(scripted.reply_to(prompt_after(notes=notes))).notes == f"{scripted.NOTES} 1-6."


def test_an_idea_that_came_back_is_not_proposed_again() -> None:
    prompt = prompt_after()
    prompt += f"\n\n# Your reply to this\n\n{scripted.reply_to(prompt)}"
    assert read_submission(scripted.reply_to(prompt)).hypothesis.startswith(scripted.IDEAS[1].title)


def test_an_idea_that_no_longer_fits_is_left_out() -> None:
    prompt = prompt_after().replace("        self.out = nn.Linear(width, MODEL_DIM, bias=False)\n", "")
    assert read_submission(scripted.reply_to(prompt)).hypothesis.startswith(scripted.IDEAS[1].title)


def test_without_an_idea_it_says_so() -> None:
    assert "no idea left" in scripted.reply_to(prompt_after(*(idea.title for idea in scripted.IDEAS)))
    assert "no train.py" in scripted.reply_to("What is the weather?")


def test_numbers_are_read_as_they_are_written() -> None:
    assert scripted.in_words([7, 1, 3, 2]) == "1-3, 7"
    assert scripted.numbers_in("1-3, 7.") == {1, 2, 3, 7}
