"""A proposal that waits for a user in the panel: it is approved, edited or refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_kernel.control import actions
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.record.study import StudyError, sha256
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer
from tests.lab.panels import Recorder, gone, until


def put_on_desk(writer: Writer, incumbent: str, proposed: str, hypothesis: str) -> Path:
    """A proposal that waits for approval; returns the file that a person may edit."""
    writer.open().baseline()
    write_atomic(writer.study.experiment(0).train, incumbent)
    review_file = writer.study.paths.review
    review_file.parent.mkdir()
    write_atomic(review_file, proposed)
    writer.append("review", experiment=1, hypothesis=hypothesis, train_sha256="x", is_draft=False)
    writer.append("paused", reason="experiment 0001 waits for your approval")
    return review_file


def test_what_waits_for_a_person_can_be_approved_edited_and_refused(writer: Writer, panel: Callable[[], Panel]) -> None:
    put_on_desk(writer, "A = 1\nB = 2\n", "A = 1\nB = 3\n", "B is too small")
    made = panel()
    assert made.review.root.layout.display == "" and "+B = 3" in made.review.words.value
    assert "B is too small" in made.review.words.value and made.review.source.value == "A = 1\nB = 3\n"
    made.review.approve_button.click()
    until(lambda: ("approve", None, "") in made.control.asked)
    assert made.control.seen == [sha256("A = 1\nB = 3\n")]
    made.review.source.value = "A = 1\nB = 4\n"
    made.review.why.value = "4 is rounder"
    made.refresh()
    assert made.review.source.value == "A = 1\nB = 4\n", "a look must not undo what a person types"
    made.review.approve_button.click()
    until(lambda: ("approve", "A = 1\nB = 4\n", "4 is rounder") in made.control.asked)
    made.review.reject_button.click()
    until(lambda: ("reject", "4 is rounder") in made.control.asked)
    assert made.control.seen == [sha256("A = 1\nB = 3\n")] * 3


def test_another_proposal_than_the_user_saw_is_not_approved(writer: Writer, tmp_path: Path) -> None:
    review_file = put_on_desk(writer, "A = 1\n", "A = 2\n", "A is too small")
    write_atomic(writer.study.paths.study, "{}")
    made = Panel(Recorder(writer), tmp_path)
    made.close()
    made.control = actions
    write_atomic(review_file, "A = 9\n")  # of another client, and no look has shown it yet
    with pytest.raises(StudyError, match="Another file was put there meanwhile, so this approve"):
        made.approve("A = 4\n")
    assert review_file.read_text() == "A = 9\n"
    words = "experiment 0001: another file was put there meanwhile"
    threading.Timer(0.2, lambda: answer_last(writer, words)).start()
    with pytest.raises(StudyError, match="Experiment 0001: another file was put there meanwhile, so this reject"):
        made.reject("no")
    sent = json.loads(writer.study.paths.commands.read_text())
    assert sent["command"] == "reject" and sent["train_sha256"] == sha256("A = 2\n")


def answer_last(writer: Writer, words: str) -> None:
    sent = json.loads(writer.study.paths.commands.read_text().splitlines()[-1])
    writer.append("command", **{name: sent[name] for name in ("id", "command", "text", "by")}, answer=words)


def test_an_edit_of_the_file_on_the_desk_is_taken_and_never_written_over(
    writer: Writer, panel: Callable[[], Panel]
) -> None:
    review_file = put_on_desk(writer, "A = 1\n", "A = 2\n", "A is too small")
    made = panel()
    write_atomic(review_file, "A = 3\n")  # saved in JupyterLab's editor
    made.refresh()
    assert made.review.source.value == "A = 3\n" and "+A = 3" in made.review.words.value
    made.review.approve_button.click()
    until(lambda: made.control.asked == [("approve", None, "")])
    made.review.source.value = "A = 4\n"
    write_atomic(review_file, "A = 5\n")
    made.refresh()
    made.review.approve_button.click()
    until(lambda: "edited both in its file and here" in made.notice.value)
    assert made.review.source.value == "A = 4\n" and len(made.control.asked) == 1
    with pytest.raises(StudyError, match="gone"):
        made.control.say_to = gone
        made.pause()
    assert made.review.source.value == "A = 4\n"


def test_an_edit_that_was_not_taken_is_said_and_can_be_mended(writer: Writer, panel: Callable[[], Panel]) -> None:
    review_file = put_on_desk(writer, "A = 1\n", "A = 2\n", "A is too small")
    made = panel()
    made.review.source.value = "A = \n"
    made.review.approve_button.click()
    until(lambda: ("approve", "A = \n", "") in made.control.asked)
    write_atomic(review_file, "A = \n")  # as the control does
    writer.append("note", text="Your train.py was not taken: line 1: invalid syntax. It is still there.")
    made.refresh()
    assert "invalid syntax" in made.notice.value
    made.notice.value = ""
    made.refresh()
    assert "invalid syntax" not in made.notice.value, "it is said once"
    made.review.source.value = "A = 3\n"
    made.review.approve_button.click()
    until(lambda: ("approve", "A = 3\n", "") in made.control.asked)
