"""The table of options: each is declared once, and command line, form, keywords and refusals follow."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel import start_study
from autoresearch_kernel.cli import make_parser
from autoresearch_kernel.lab.panel.form import StudyForm
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.study.options import (
    OF_A_NEW_STUDY,
    OPTIONS,
    OptionRefused,
    SettingsRefused,
    StudyOptions,
    agent_options,
    began_with,
    options_of,
    refuse_other_settings,
    supervisor_words,
    wrong_values,
)
from tests.agents.test_options import LLM, study_of

ASKED = StudyOptions(
    budget=60, hours=7.5, experiments=3, corpus="files", files_folder="/texts", text_key="body", preset="laptop",
    seed=0, unsafe=True, agent="hybrid", model="m-1", share=0.5, max_tokens=10, max_cost=2.5, prompt_tokens=900,
    approve=False,
)  # fmt: skip


def parsed(*words: str) -> StudyOptions:
    arguments = make_parser().parse_args(["run", *words])
    return StudyOptions(**{name: getattr(arguments, name) for name in OPTIONS})


def test_a_supervisor_is_told_what_its_study_does_not_keep() -> None:
    words = supervisor_words(ASKED)
    assert words == [
        "--hours", "7.5", "--experiments", "3", "--unsafe", "--model", "m-1", "--max-tokens", "10", "--max-cost", "2.5",
        "--prompt-tokens", "900", "--no-approve",
    ]  # fmt: skip
    told = parsed(*words)
    for name, option in OPTIONS.items():
        assert getattr(told, name) == (None if option.is_fixed else getattr(ASKED, name)), name


def test_the_command_line_reads_every_option() -> None:
    words = [
        "--budget", "60", "--corpus", "files", "--files-folder", "/texts", "--text-key", "body", "--preset", "laptop",
        "--seed", "0", "--agent", "hybrid", "--share", "0.5", "--from", "nov22", *supervisor_words(ASKED),
    ]  # fmt: skip
    assert parsed(*words) == StudyOptions(**vars(ASKED) | {"recording": "nov22"})
    assert parsed() == StudyOptions()


def test_the_form_has_a_field_for_every_option_with_a_label() -> None:
    form = StudyForm(lambda *_: {}, lambda: None)
    assert set(form.fields) == {"name", *(name for name, option in OPTIONS.items() if option.label)}
    form.fields["agent"].value, form.fields["model"].value, form.fields["max_cost"].value = "llm", " m-1 ", "2,5"
    read = form.read()
    assert read is not None and read[1] == {
        "agent": "llm", "model": "m-1", "max_cost": 2.5, "budget": 60.0, "hours": 8.0
    }  # fmt: skip


def test_the_keywords_of_start_study_are_options() -> None:
    named = [p.name for p in inspect.signature(start_study).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert set(named) - {"project"} < set(OF_A_NEW_STUDY)
    documented = (inspect.getdoc(start_study) or "").partition("of_agent:")[2].partition("as on")[0]
    assert set(documented.replace(",", "").split()) == set(OF_A_NEW_STUDY) - set(named)


@pytest.mark.parametrize(("given", "words"), [({"hours": 3}, "no setting 'hours'"), ({"budgte": 3}, "'budgte'")])
def test_start_study_refuses_keywords_that_it_has_not(project: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        start_study("nov24", **given)


def test_start_study_refuses_values_that_cannot_be(project: Path) -> None:
    with pytest.raises(SettingsRefused, match="budget: -3 is not possible") as refused:
        start_study("nov24", budget=-3, agent="oracle")
    assert set(refused.value.problems) == {"budget", "agent"}
    assert not (project / "studies").exists()


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("budget", [0, -1, "60", True, float("nan"), float("inf")], [0.5, 60]),
        ("experiments", [0, 2.5, "3"], [1, 10**6]),
        ("seed", [-1, 0.5], [0, 7]),
        ("share", [0, 1.5], [0.1, 1]),
        ("approve", ["yes", 1], [True, False]),
        ("model", [5], ["gpt-5-mini"]),
        ("corpus", ["wikipedia"], ["files"]),
    ],
)
def test_values_are_within_their_bounds(name: str, wrong: list[Any], right: list[Any]) -> None:
    for value in wrong:
        assert set(wrong_values({name: value})) == {name}, value
    for value in [*right, None]:
        assert wrong_values({name: value}) == {}, value


def test_an_option_that_does_not_go_with_another_names_the_one_to_change() -> None:
    for asked, option in (
        (StudyOptions(share=0.5), "agent"),
        (StudyOptions(files_folder="/texts", corpus="stdlib"), "corpus"),
        (StudyOptions(agent="llm"), "model"),
        (StudyOptions(agent="replay"), "recording"),
    ):
        with pytest.raises(OptionRefused) as refused:
            agent_options(asked.value("agent"), asked, {})
        assert refused.value.option == option


def test_what_a_study_keeps_is_what_is_fixed(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, "search")
    assert set(began_with(study)) == {name for name, option in OPTIONS.items() if option.is_fixed}


def test_a_setting_that_nothing_has_is_refused_by_name() -> None:
    with pytest.raises(StudyError, match=r"no setting 'budgets'.*budget"):
        options_of({"budgets": 3})


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("llm", StudyOptions(), "needs --model"),
        ("hybrid", StudyOptions(), "needs --model"),
        ("search", StudyOptions(model="gpt-5"), "not for search"),
        ("human", StudyOptions(share=0.5), "not for human"),
        ("llm", StudyOptions(model="m", share=0.5), "--share is for"),
        (
            "search",
            StudyOptions(max_cost=5.0, max_tokens=9),
            "--max-tokens and --max-cost are for --agent llm or hybrid",
        ),
        ("replay", StudyOptions(recording="nov22", prompt_tokens=9), "--prompt-tokens is for .* not for replay"),
        ("llm", StudyOptions(model="m", recording="nov22"), "--from is for --agent replay, not for llm"),
        ("replay", StudyOptions(), "--from STUDY"),
        ("search", StudyOptions(recording="nov22"), "--from is for --agent replay"),
    ],
)
def test_what_does_not_go_together_is_said(name: str, asked: StudyOptions, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        agent_options(name, asked, {})


def test_what_study_json_keeps() -> None:
    assert agent_options("search", StudyOptions(), {}) == {}
    sizes = {"prompt_tokens": 32_000, "reply_tokens": 16_000}
    assert agent_options("llm", StudyOptions(model="m"), {}) == {"model": "m"} | sizes
    assert agent_options("hybrid", StudyOptions(), {"OPENAI_MODEL": "m"})["share"] == 0.3
    assert agent_options("replay", StudyOptions(recording="nov22"), {}) == {"from": "nov22"}


def test_a_study_keeps_its_share_and_its_recording(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, "hybrid", **LLM, share=0.3)
    refuse_other_settings(study, StudyOptions(share=0.3, model="another"))
    with pytest.raises(StudyError, match=r"--share 0\.3, not 0\.5"):
        refuse_other_settings(study, StudyOptions(share=0.5))
    with pytest.raises(StudyError, match="--agent hybrid, not llm"):
        refuse_other_settings(study, StudyOptions(agent="llm"))


def test_a_study_refuses_what_its_agent_would_ignore(project: Path, small_corpus: Path) -> None:
    study = study_of(project, small_corpus, "search")
    with pytest.raises(StudyError, match="--max-cost is for --agent llm or hybrid or command, not for search"):
        refuse_other_settings(study, StudyOptions(max_cost=5.0))
    with pytest.raises(StudyError, match="--agent search, not llm"):
        refuse_other_settings(study, StudyOptions(agent="llm", model="m"))
