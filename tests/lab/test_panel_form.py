"""The form of the panel that starts a study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoresearch_kernel.control import actions
from autoresearch_kernel.lab.panel.form import StudyForm
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import standing
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer
from tests.lab.panels import Recorder, until


def test_without_a_study_there_is_a_form(tmp_path: Path, writer: Writer) -> None:
    recorder = Recorder(writer)
    recorder.studies = []
    (tmp_path / "studies").mkdir(exist_ok=True)
    made = Panel(recorder, tmp_path)
    made.close()
    assert made.form.is_open and made.live.layout.display == "none"
    with pytest.raises(StudyError, match="no study yet"):
        made.pause()
    recorder.studies = [writer.open().baseline().study]
    made.form.fields["name"].value = "nov24"
    made.form.start_button.click()
    until(lambda: not made.form.is_open)
    assert recorder.asked == [("begin", "nov24", {"agent": "search", "budget": 60.0, "hours": 8.0})]
    until(lambda: "runs in the background" in made.notice.value and "nov23" in made.said.data)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": "a b"}, "name", "Letters, digits"),
        ({"budget": "soon"}, "budget", "'soon' is not possible: give seconds, a number above 0"),
        ({"budget": "-3"}, "budget", "-3.0 is not possible"),
        ({"experiments": "2.5"}, "experiments", "give a whole number above 0"),
        ({"agent": "llm"}, "model", "the name by which its server knows it"),
        ({"agent": "llm", "model": "gpt-5-mini", "max_cost": "x"}, "max_cost", "'x' is not possible: give US dollars"),
        ({"agent": "llm", "model": "never-heard-of", "max_cost": "5"}, "max_cost", "price of 'never-heard-of'"),
        ({"agent": "replay"}, "recording", "the study whose proposals are made once more"),
        ({"agent": "replay", "recording": "nov1"}, "recording", "There is no study nov1"),
        ({"corpus": "files"}, "files_folder", "whole path"),
        ({"corpus": "files", "files_folder": "/nowhere/at/all"}, "files_folder", "There is no folder or file"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], field: str, words: str
) -> None:
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1")
    form = StudyForm(lambda name, fields: actions.problems(name, tmp_path, fields), lambda: None)
    form.open("nov24", can_cancel=True)
    assert form.read() is not None
    for name, value in changes.items():
        form.fields[name].value = value
    assert words.replace("'", "&#x27;") in form.messages[field].value
    assert [name for name, message in form.messages.items() if message.value] == [field]
    assert form.start_button.disabled and form.read() is None


def form_of(project: Path) -> StudyForm:
    return StudyForm(lambda name, fields: actions.problems(name, project, fields), lambda: None)


@pytest.mark.parametrize("agent", ["llm", "hybrid"])
def test_a_missing_key_is_said_at_the_agent_with_how_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    form = form_of(tmp_path)
    form.open("nov24", can_cancel=True)
    form.fields["model"].value, form.fields["agent"].value = "gpt-5-mini", agent
    said = form.messages["agent"].value
    assert "getpass.getpass()" in said and "OPENAI_API_KEY" in said and "OPENAI_BASE_URL" in said
    assert form.read() is None
    with pytest.raises(actions.SettingsRefused, match="getpass"):
        actions.begin("nov24", tmp_path, {"agent": agent, "model": "gpt-5-mini"}, print)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-given-in-a-cell")
    assert form.check() and form.messages["agent"].value == ""
    assert os.environ["OPENAI_API_KEY"] == "sk-given-in-a-cell", "a look takes no key"


def test_a_key_that_is_given_while_the_form_is_open_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    made = Panel(actions, tmp_path)
    made.form.fields["agent"].value, made.form.fields["model"].value = "llm", "gpt-5-mini"
    assert made.form.start_button.disabled
    monkeypatch.setenv("OPENAI_API_KEY", "sk-given-in-a-cell")
    until(lambda: not made.form.start_button.disabled)
    made.close()


def test_a_study_is_not_continued_without_the_key_that_it_needs(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    writer.study.facts.update(agent="llm", asked={}, seed=0)
    write_atomic(writer.study.paths.study, "{}")
    with pytest.raises(StudyError, match=r"getpass\.getpass\(\)"):
        actions.go_on(writer.study, {})
    with pytest.raises(actions.SettingsRefused, match="hours: 'all' is not possible"):
        actions.go_on(writer.study, {"hours": "all"})


def test_why_a_study_stopped_ends_with_one_full_stop(writer: Writer) -> None:
    writer.open()
    writer.propose(0)
    writer.append("stopped", reason="The baseline did not train. The same command tries it again.")
    writer.history.close()
    assert standing(look(writer.study)).endswith(" tries it again.")


def test_a_start_that_is_refused_says_why_at_the_field_and_keeps_what_was_typed(writer: Writer, tmp_path: Path) -> None:
    recorder = Recorder(writer)
    recorder.studies = []
    recorder.refuse = True
    made = Panel(recorder, tmp_path)
    made.close()
    typed = {"name": "nov24", "budget": "45", "hours": "3", "corpus": "stdlib"}
    for name, value in typed.items():
        made.form.fields[name].value = value
    made.form.start_button.click()
    until(lambda: "A branch of that name is left." in made.form.messages["name"].value)
    until(lambda: "seed: No." in made.notice.value)
    assert made.form.is_open and {name: made.form.fields[name].value for name in typed} == typed
    made.form.start_button.click()
    assert "correct what the form marks" in made.notice.value and made.form.fields["budget"].value == "45"
    made.form.fields["name"].value = "nov25"
    assert made.form.messages["name"].value == "" and not made.form.start_button.disabled
