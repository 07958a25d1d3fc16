"""Two studies side by side: the figures by hand, "cannot tell" where that is the answer, refusals in one sentence."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel import compare_studies
from autoresearch_kernel.cli import main
from autoresearch_kernel.control import compare
from autoresearch_kernel.core.contrast import NO_GAIN, Estimate, Found, Side, contrast, mean_of
from autoresearch_kernel.core.types import Experiment, Spent
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.show.contrast_words import contrast_json, contrast_table, program_diff, verdict
from autoresearch_kernel.study.finish import finish
from autoresearch_kernel.study.loop import research
from tests.conftest import counting_study
from tests.pretended import Machine
from tests.study.test_loop import Scripted

FOUND = Found(Estimate(1.5, 0.001, 2), Estimate(1.48, 0.001, 2), Estimate(-0.02, 0.0014, 4))


def side(name: str, **others: Any) -> Side:
    facts: dict[str, Any] = {"start_sha256": "a" * 64, "on_test": FOUND, "on_validation": FOUND}
    return Side(name, 7, 20, 3, 1, Spent(), **facts | others)


def found(gain: float, error: float | None, freedom: float | None = 4) -> Found:
    return replace(FOUND, gain=Estimate(gain, error, freedom))


# --- numbers


def test_an_interval_is_that_of_student_s_table() -> None:
    low, high = mean_of([1.0, 2.0, 3.0]).interval or (0, 0)  # sd 1, n 3: 2 ± 4.3027 / sqrt(3)
    assert (low, high) == pytest.approx((2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-4)
    assert Estimate(0.0, 1.0).interval == pytest.approx((-1.95996, 1.95996), abs=1e-4)
    assert Estimate(0.0, 1.0, 8).interval == pytest.approx((-2.306, 2.306), abs=1e-3)
    assert Estimate(1.0).interval is None and mean_of([1.0]).error is None


def test_a_difference_has_the_error_and_the_degrees_of_freedom_of_welch() -> None:
    one, other = mean_of([1.0, 2.0, 3.0]), mean_of([2.0, 4.0, 6.0])  # variances of the means 1/3 and 4/3
    difference = one - other
    assert difference.value == -2.0 and difference.error == pytest.approx(math.sqrt(5 / 3))
    assert difference.degrees_of_freedom == pytest.approx((5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2))
    assert (one - NO_GAIN).degrees_of_freedom == 2 and (one - Estimate(1.0)).error is None
    assert (Estimate(1.0, 0.1) - Estimate(0.5, 0.1)).degrees_of_freedom is None


# --- what is compared


@pytest.mark.parametrize(
    ("first", "second", "better"),
    [
        (found(-0.02, 0.001), found(-0.01, 0.001), "a"),
        (found(-0.01, 0.001), found(-0.02, 0.001), "b"),
        (found(-0.012, 0.001), found(-0.01, 0.001), None),  # 2 standard errors of one, 1.4 of the difference
        (found(-0.02, None), found(-0.01, 0.001), None),
    ],
)
def test_the_study_with_the_lower_figure_found_more_where_the_interval_says_so(
    first: Found, second: Found, better: str | None
) -> None:
    compared = contrast(side("a", on_test=first), side("b", on_test=second))
    assert compared.is_sealed and compared.is_of_gains
    assert (compared.better and compared.better.name) == better
    said = " ".join(verdict(compared))
    assert (f"Study {better} found more" if better else "It cannot be told which study found more") in said
    assert "Another night of the same agent would have other ideas" in said


def test_validation_scores_stand_in_where_a_result_is_missing_and_it_is_said() -> None:
    compared = contrast(side("a", on_validation=found(-0.03, 0.001)), side("b", on_test=None))
    assert not compared.is_sealed and compared.difference is not None
    assert compared.difference.value == pytest.approx(-0.01)
    said = " ".join(verdict(compared))
    assert "These are the validation scores that chose the champions, so each of them is a little too good" in said
    assert "finish --name b`" in said and "finish --name a`" not in said


def test_scores_are_compared_where_the_studies_began_with_other_code() -> None:
    compared = contrast(side("a"), side("b", start_sha256="b" * 64))
    assert not compared.is_of_gains and compared.difference is not None
    assert compared.difference.value == 0.0 and compared.difference.error == pytest.approx(0.001 * math.sqrt(2))
    assert "They did not begin with the same train.py" in " ".join(verdict(compared))


def test_a_study_that_kept_nothing_has_a_gain_of_exactly_zero() -> None:
    nothing = {"champion": 0, "on_test": None, "on_validation": replace(FOUND, gain=NO_GAIN)}
    compared = contrast(side("a"), replace(side("b"), **nothing))
    assert compared.is_sealed and compared.difference == Estimate(-0.02, 0.0014, pytest.approx(4))
    assert compared.better is not None and compared.better.name == "a"
    both = contrast(replace(side("a"), **nothing), replace(side("b"), **nothing))
    assert verdict(both) == ["Neither study has kept a change, so it cannot be told whether a or b finds more."]


# --- studies


@pytest.fixture
def pair(project: Path, small_corpus: Path, machine: Machine) -> tuple[Study, Study]:
    """Two studies with a result each; the second agent found more, and had another program.md."""
    studies = []
    for name, alpha, seed in (("nov23", 0.5, 0), ("nov24", 0.01, 1)):
        study = counting_study(project, small_corpus, name=name, seed=seed)
        (project / "program.md").write_text(f"# Method\n\nThe way of {name}.\n")
        list(research(study, Scripted({"ALPHA": alpha}, {"ALPHA": 5.0}), experiments=2))
        finish(study)
        studies.append(study)
    return studies[0], studies[1]


def test_two_studies_stand_side_by_side(
    pair: tuple[Study, Study], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = compare.compare_studies(*pair)
    results = [read_state(study.paths.history).result for study in pair]
    assert compared.is_sealed and compared.is_of_gains and compared.difference is not None
    gains = [result.test_difference for result in results if result]
    errors = [result.test_standard_error for result in results if result]
    assert compared.difference.value == pytest.approx(gains[0] - gains[1])
    assert compared.difference.error == pytest.approx(math.hypot(*errors))
    assert compared.difference.degrees_of_freedom is not None and compared.difference.degrees_of_freedom > 2
    assert compared.better is not None and compared.better.name == "nov24"
    assert program_diff(compared)[-2:] == ["-The way of nov23.", "+The way of nov24."]

    monkeypatch.chdir(project)
    assert main(["compare", "nov23", "nov24"]) == 0
    printed = capsys.readouterr().out
    assert "Study nov24 found more: the interval does not contain zero." in printed
    for words in ("experiments", "champion on test", "gain", "They differ in:", "program.md", "seed", "+The way of"):
        assert words in printed, printed
    assert main(["compare", "nov23", str(pair[1].paths.folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["better"] == "nov24" and facts["first"]["num_experiments"] == 2 and len(facts["interval_bpb"]) == 2


def test_the_models_that_proposed_are_named_and_not_the_one_that_a_study_began_with() -> None:
    study: Any = SimpleNamespace(agent="llm", seed=0, facts={"agent_options": {"model": "small"}}, project=Path("none"))
    study.paths = SimpleNamespace(program=Path("none"))
    tried = [Experiment(n, "", "llm", 0, details={"model": model}) for n, model in enumerate(("small", "large"), 1)]
    assert compare._settings(study, tried)["model"] == "small, then large"
    assert compare._settings(study, tried[1:])["model"] == "large"
    assert compare._settings(study, ())["model"] == "small"


def test_a_notebook_shows_the_same(pair: tuple[Study, Study], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    shown = compare_studies("nov23", pair[1])
    assert "nov24 found more" in repr(shown) and "champion on test" in repr(shown)
    page = shown._repr_html_()
    assert "data:image/png;base64," in page and "They differ in" in page and "The way of nov24." in page


def test_the_program_of_a_prompt_is_kept_and_an_older_study_says_that_it_is_not(
    pair: tuple[Study, Study], project: Path
) -> None:
    assert pair[0].paths.program.read_text() == "# Method\n\nThe way of nov23.\n"
    pair[0].paths.program.unlink()
    compared = compare.compare_studies(*pair)
    assert "program.md in study nov23 is not kept" in " ".join(program_diff(compared))
    assert "program.md" in contrast_table(compared)
    json.dumps(contrast_json(compared))


def changed(study: Study, **others: Any) -> Study:
    facts = json.loads(json.dumps(study.facts))
    for path, value in others.items():
        *parents, name = path.split("__")
        place = facts
        for parent in parents:
            place = place[parent]
        place[name] = value
    return replace(study, facts=facts)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"time_budget_seconds": 300.0}, "a run trains for 2 s and 300 s, and a longer training has a better score."),
        (
            {"corpus__corpus": "packages", "corpus__content_sha256": "0" * 64},
            "their corpora are stdlib .* and packages ",
        ),
        ({"corpus__heldout_sha256": "0" * 64}, r"fingerprint \w{8}\) and .* different corpora are never compared"),
        ({"clock": "steady"}, "counted by the clocks wall and steady"),
        ({"sha256": {"prepare.py": "0" * 64}}, "their prepare.py differ"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    pair: tuple[Study, Study], others: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=f"^Studies 'nov23' and 'nov24' cannot be compared: .*{words}") as refused:
        compare.compare_studies(pair[0], changed(pair[1], **others))
    assert str(refused.value).count(". ") == 0


def test_a_study_without_a_baseline_and_the_same_study_twice_are_refused(
    project: Path, small_corpus: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    study = counting_study(project, small_corpus)
    list(islice(research(study, Scripted()), 1))
    new = counting_study(project, small_corpus, name="new")
    with pytest.raises(StudyError, match="Study 'new' has no baseline yet"):
        compare.compare_studies(study, new)
    with pytest.raises(StudyError, match="cannot be compared with itself"):
        compare.compare_studies(study, study)
    assert main(["compare", "nov23", "nov99"]) == 1
    assert "There is no study 'nov99'" in capsys.readouterr().err


def test_words_of_a_study_are_one_line_each_in_the_table() -> None:
    hostile = {"agent": "llm", "model": "x\x1b[31m\n\u202e" + "y" * 500}
    table = contrast_table(contrast(side("a", settings=hostile), side("b", settings={"agent": "llm"})))
    assert "\x1b" not in table and "\u202e" not in table and max(map(len, table.splitlines())) < 400
