"""Studies that are removed, renamed, made again or damaged while the panel shows one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.control import actions
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer
from tests.lab.panels import Recorder, until


def test_a_study_that_was_removed_is_said_to_be(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    made = panel()
    shutil.rmtree(writer.study.paths.folder)
    with pytest.raises(StudyError, match="was removed"):
        made.refresh()
    assert "Control panel of study nov23" in made._repr_mimebundle_()["text/plain"], "the panel can still be shown"
    made._refresh()
    assert "was removed" in made.notice.value
    made.pause_button.click()  # which does without a look
    until(lambda: not made.pause_button.disabled)
    made.card.follow_button.click()
    made.folds["log"].value = True
    made._refresh()
    assert "answer to pause" in made.notice.value, "what was said since stays"
    with pytest.raises(StudyError, match="was removed"):
        actions.say_to(writer.study, "hint", "for the next study of this name")
    assert not writer.study.paths.folder.exists()


def test_a_study_that_was_renamed_stands_in_the_picker_under_its_new_name(
    writer: Writer, panel: Callable[[], Panel]
) -> None:
    writer.open().baseline()
    made = panel()
    writer.study.paths.folder.rename(writer.study.paths.folder.with_name("dec1"))
    made.control.studies = [SimpleNamespace(name="dec1")]
    for _ in range(5):
        made._refresh()
    assert [label for label, _ in made.picker.options] == ["dec1"] and made.picker.value is None


def test_a_study_that_was_made_again_under_its_name_is_shown_anew(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    made = panel()
    made._tell("of the study that was removed")
    writer.history.close()
    shutil.rmtree(writer.study.paths.folder)
    made._refresh()
    assert "was removed" in made.notice.value
    again = Writer(writer.study.project)
    again.study.facts["agent"] = "llm"
    made.control.studies = [again.study]
    again.open().baseline()
    write_atomic(again.study.paths.study, "{ }")
    made._refresh()
    assert made.study is again.study and made.notice.value == "" and not made.hint_text.disabled
    assert [row["number"] for row in made.experiments.numbers["rows"]] == [0]
    again.history.close()


def test_a_study_that_cannot_be_read_does_not_hide_the_others(writer: Writer, tmp_path: Path) -> None:
    class Picky(Recorder):
        def study_names(self, project: Path) -> list[str]:
            return ["broken", "nov23"]

        def open_study(self, name: str, project: Path) -> Any:
            if name == "broken":
                raise StudyError("study.json is not readable")
            return super().open_study(name, project)

    writer.open().baseline()
    made = Panel(Picky(writer), tmp_path)
    made.close()
    assert made.study is writer.study and "not readable" in made.notice.value
    made.picker.value = "broken"
    assert made.study is writer.study and made.picker.value == "nov23" and "not readable" in made.notice.value
