"""What the buttons and methods of the panel do, and what they say when something is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.control import actions
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer
from tests.lab.panels import Recorder, until


def test_every_button_does_what_its_method_does(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.study.facts["agent"] = "llm"  # which reads hints
    writer.open().baseline().settle(1, "keep", 1.49)
    made = panel()
    made.hint_text.value = "try a wider MLP"
    for button, asked in (
        (made.pause_button, ("pause", "")),
        (made.resume_button, ("resume", "")),
        (made.stop_button, ("stop", False)),
        (made.stop_now_button, ("stop", True)),
        (made.promote_button, ("promote", False)),
        (made.finish_button, ("finish", "nov23")),
        (made.attribute_button, ("attribute", "nov23")),
        (made.share_button, ("share", "nov23", False)),
        (made.hint_button, ("hint", "try a wider MLP")),
    ):
        button.click()
        until(lambda button=button, asked=asked: made.control.asked[-1:] == [asked] and not button.disabled)
    assert made.hint_text.value == ""  # it was said
    assert "answer to hint" in made.notice.value
    made.go_on_button.click()
    until(lambda: made.control.asked[-1] == ("go_on", "nov23", {}))


def test_an_error_of_a_button_is_shown_and_the_buttons_work_again(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    made = panel()
    made.control.refuse = True
    made.pause_button.click()
    until(lambda: "No process runs it." in made.notice.value and not made.pause_button.disabled)
    assert 'role="alert"' in made.notice.value
    made.review.reject_button.click()
    until(lambda: "Say why" in made.notice.value)


def test_words_that_may_be_private_are_removed_only_by_a_second_press(
    writer: Writer, panel: Callable[[], Panel]
) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    made = panel()
    made.control.private = True
    made.share_button.click()
    until(lambda: "a name: ada" in made.notice.value and not made.share_button.disabled)
    assert made.control.asked == [] and made.share_button.description == "Share without these words"
    made.share_button.click()
    until(lambda: made.control.asked == [("share", "nov23", True)] and not made.share_button.disabled)
    assert made.share_button.description == "Share" and "nov23.zip" in made.notice.value


def test_an_edited_train_py_is_overwritten_only_by_a_second_press(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    made = panel()
    made.control.edited = True
    made.promote_button.click()
    until(lambda: "train.py is edited. Use `lab.promote(force=True)`." in made.notice.value)
    assert ("promote", True) not in made.control.asked and made.promote_button.description == "Overwrite train.py"
    until(lambda: not made.promote_button.disabled)
    with pytest.raises(StudyError, match=r"is edited\. Use `lab\.promote\(force=True\)`\.$"):
        made.promote()
    made.promote_button.description = "another label"  # which is no state
    made.promote_button.click()
    until(lambda: made.control.asked[-1:] == [("promote", True)])
    assert made.promote_button.description == "Promote the incumbent"


def test_while_a_study_starts_or_is_shared_another_one_can_be_stopped(
    writer: Writer, panel: Callable[[], Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.open().baseline()
    made, goes_on = panel(), threading.Event()

    def wait(*arguments: Any) -> Any:
        goes_on.wait(10)
        raise StudyError("It did not start.")

    monkeypatch.setattr(made.control, "share", wait, raising=False)
    monkeypatch.setattr(made.control, "begin", wait, raising=False)
    made._open_form()
    made.form.start_button.click()
    made.share_button.click()
    assert made.form.start_button.disabled and made.share_button.disabled
    made.form.fields["name"].value = "nov25"  # each change of a field checks the form
    made.refresh()
    assert made.form.start_button.disabled and not made.stop_now_button.disabled
    made.form.start_button.click()  # a second click, before the browser has heard of the first
    made.stop_now_button.click()
    until(lambda: ("stop", True) in made.control.asked)
    goes_on.set()
    until(lambda: not made.form.start_button.disabled and not made.share_button.disabled)
    assert made._acting == []


def test_a_hint_that_is_typed_while_another_is_answered_stays(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.study.facts["agent"] = "llm"  # which reads hints
    writer.open().baseline()
    made = panel()

    def hint(*arguments: Any) -> str:
        made.hint_text.value = "the next one"
        return "the agent gets it"

    made.control.hint = hint
    made.hint_text.value = "the first one"
    made.hint(made.hint_text.value)
    assert made.hint_text.value == "the next one"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": "soon"}, "budget: 'soon' is not possible: give seconds"),
        ({"budget": -3}, "budget: -3 is not possible"),
        ({"experiments": 2.5}, "experiments: 2.5 is not possible: give a whole number"),
        ({"agent": "magic"}, "agent: There is no 'magic'. Choose one of search, llm"),
        ({"max_cost": 5.0}, "agent: max_cost is for agent llm or hybrid or command, not for search"),
        ({"colour": "red"}, "There is no setting 'colour'"),
        ({"name": "a b"}, "name: Letters, digits"),
    ],
)
def test_a_method_says_in_a_cell_what_is_wrong_without_the_name_of_a_class(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    made = Panel(actions, tmp_path)
    made.close()
    with pytest.raises(StudyError) as refused:
        made.start(**{"name": "nov24", **fields})
    shown = refused.value._render_traceback_()  # what IPython prints of it
    assert len(shown) == 1 and words in shown[0] and "Error" not in shown[0]
    assert not (tmp_path / "studies").exists()


def test_a_method_says_what_to_do_by_a_button_or_a_method(writer: Writer, tmp_path: Path) -> None:
    writer.study.facts.update(asked={}, seed=0)
    writer.open().baseline()
    writer.history.close()
    write_atomic(writer.study.paths.study, "{}")
    made = Panel(Recorder(writer), tmp_path)
    made.close()
    made.control = actions
    for act, words in (
        (
            made.pause,
            r"No process runs study 'nov23', so there is nothing to pause\. Press Continue or run `lab\.go_on\(\)`",
        ),
        (made.finish, r"which is usual in a short study\. So .* Press Continue or run `lab\.go_on\(\)` to go on"),
        (lambda: made.choose("zzz"), r"Choose another one, or start it with `lab\.start\('zzz'\)`\.$"),
    ):
        with pytest.raises(StudyError, match=words) as refused:
            act()
        assert "autoresearch " not in str(refused.value)


def test_no_error_in_the_panel_carries_the_name_of_its_class(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    made = panel()
    for error, words in (
        (ValueError("It is wrong."), "It is wrong."),
        (StudyError("Use --force or --max-cost."), "or max_cost."),
        (StudyError("See /a--b/c, or `autoresearch run --name x`."), "See /a--b/c, or `autoresearch run --name x`."),
        (KeyError("experiment"), "The panel failed"),
        (RuntimeError(), "run this cell again"),
    ):
        made._do(lambda error=error: raise_(error))
        until(lambda words=words: words in made.notice.value)
        assert "Error" not in made.notice.value
        until(lambda: not made.pause_button.disabled)


def raise_(error: Exception) -> str:
    raise error


@pytest.mark.parametrize("agent", ["search", "replay"])
def test_a_hint_to_an_agent_that_reads_none_is_refused(writer: Writer, tmp_path: Path, agent: str) -> None:
    writer.study.facts["agent"] = agent
    writer.open().baseline()
    made = Panel(Recorder(writer), tmp_path)
    made.close()
    assert made.hint_text.disabled and made.hint_button.disabled and made.hint_text.placeholder.endswith(".")
    made.pause_button.click()
    until(lambda: not made.pause_button.disabled)
    assert made.hint_button.disabled, "it came back with the other buttons"
    with pytest.raises(StudyError, match="hint"):
        actions.say_to(writer.study, "hint", "try a wider MLP")
    assert not writer.study.paths.commands.exists()
