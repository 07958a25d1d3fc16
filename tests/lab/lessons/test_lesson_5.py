"""Lesson 5: the prompt in its sections, the recorded server, and the interval."""

from __future__ import annotations

from statistics import fmean

import pytest

from autoresearch_kernel.agents.edits import apply_edits
from autoresearch_kernel.agents.reply import read_submission
from autoresearch_kernel.core.agent import AgentUnavailable
from autoresearch_kernel.core.types import Status
from autoresearch_kernel.lab.lessons.agent_prompt import ask, example_context, program_md, prompt_of, with_discards
from autoresearch_kernel.lab.lessons.build import FOLDER
from autoresearch_kernel.lab.lessons.checks_5 import gains, interval_of
from autoresearch_kernel.lab.lessons.recorded_server import RecordedServer, recordings
from autoresearch_kernel.lab.lessons.recorded_small import RecordedSmall
from autoresearch_kernel.lab.lessons.small_study import small_train
from autoresearch_kernel.run.notebook import check_source
from autoresearch_kernel.source.gate import check_clock
from tests.conftest import PROJECT
from tests.recorded_night import DECIDED


def test_the_sections_of_a_prompt_are_the_whole_prompt() -> None:
    prompt = prompt_of(example_context())
    assert {"How to reply", "What counts", "The record", "Now"} <= set(prompt.sections)
    words = " ".join(" ".join(f"# {name} {text}" for name, text in prompt.sections.items()).split())
    assert " ".join(prompt.text.split()) in words.replace("# (before the first heading) ", "")
    assert prompt["The inc"].heading.startswith("The incumbent: train.py of experiment")
    with pytest.raises(KeyError, match="The headings are"):
        prompt["Nothing of that name"]


def test_the_example_is_what_an_agent_read_at_that_time() -> None:
    context = example_context(40)
    kept = [e.number for e in DECIDED[:40] if e.status is Status.KEEP]
    assert context.number == 40 and context.incumbent.number == max(kept)
    assert max(e.number for e in context.experiments) == 39
    changed = context.incumbent.changes
    assert changed and all(f"{name} = {value}" in context.train_source for name, value in changed.items())


def test_the_lesson_says_that_some_lines_of_the_record_have_no_score() -> None:
    assert any(e.val_bpb is None for e in example_context(40).experiments)
    assert "Most lines show two" in (PROJECT / FOLDER / "5-an-agent-at-work.py").read_text()


def test_a_prompt_of_the_lesson_names_no_folder_of_this_machine() -> None:
    for context in (example_context(), RecordedSmall("agent").context(small_train())):
        assert "/home/" not in prompt_of(context).text and "/root/" not in prompt_of(context).text


def test_the_server_replays_the_replies_to_the_program_that_it_is_asked_with() -> None:
    known, context = recordings(), RecordedSmall("agent").context(small_train())
    with RecordedServer(known) as server:
        for name, recording in known.items():
            asked = [ask(server.base_url, context, recording.program) for _ in range(2)]
            assert [a.reply.strip() for a in asked] == [reply.strip() for reply in recording.replies[:2]], name
            assert recording.program.splitlines()[0] in asked[0].prompt.text
            assert asked[0].proposal.train_source != context.train_source and asked[0].diff


def test_another_program_gets_a_sentence_and_no_reply() -> None:
    context = RecordedSmall("agent").context(small_train())
    words = "only has replies to the program"
    with RecordedServer(recordings()) as server, pytest.raises(AgentUnavailable, match=words):
        ask(server.base_url, context, "# My own program\n\nFind something.\n")


def test_every_recorded_reply_applies_and_may_run() -> None:
    seen = set()
    for recording in recordings().values():
        assert len(recording.replies) == 8
        for reply in recording.replies:
            submission = read_submission(reply)
            source = apply_edits(small_train(), submission)
            check_source(source)
            check_clock(source)
            seen.add(source)
            assert submission.hypothesis and submission.expected and submission.refutation
    assert len(seen) == 16


def test_the_projects_program_fits_a_prompt_of_the_lesson() -> None:
    prompt = prompt_of(with_discards(example_context(), 10), program_md())
    assert "Of the program, this applies now" in prompt.sections


def test_the_interval_is_that_of_a_calculation_by_hand() -> None:
    """a: mean 2, squares 2; b: mean 5, squares 8; pooled variance 10/4, error √(2.5·2/3) = 1.29099, t(4) = 2.77645."""
    low, high = interval_of([1.0, 2.0, 3.0], [3.0, 5.0, 7.0])
    assert (low, high) == pytest.approx((3 - 3.58437, 3 + 3.58437), abs=1e-4)


def test_the_recorded_comparison_cannot_tell_which_program_is_better() -> None:
    """What exercise 5.5 says."""
    found = gains()
    assert set(found) == set(recordings()) and all(len(values) == 8 for values in found.values())
    low, high = interval_of(*found.values())
    small, new = map(fmean, found.values())
    assert low < 0 < high and low < new - small < high
