"""What a study found, checked against hand calculations on small histories."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel import analyse, open_example
from autoresearch_kernel.core.types import Experiment, Run, Spent, Status
from autoresearch_kernel.lab.analysis.analysis import Analysis
from autoresearch_kernel.lab.analysis.finding import Finding
from autoresearch_kernel.lab.analysis.plots import noise_figure, themes_figure, waterfall_figure
from autoresearch_kernel.lab.analysis.tried import cause_of, theme_of

SIGMA = 0.002
PNG = "data:image/png;base64,iVBOR"


def tried(number: int, status: Status, *scores: float, against: float | None = 1.5, **more: Any) -> Experiment:
    """An experiment whose runs all came before its decision."""
    runs = tuple(Run(i, i, val_bpb=score, num_decided=number) for i, score in enumerate(scores))
    known: dict[str, Any] = {"hypothesis": f"Idea {number}.", "parent": 0 if number else None, "sigma": SIGMA} | more
    runs_of_incumbent = 2 if against == 1.5 else 1
    return Experiment(
        number=number,
        agent="search",
        runs=known.pop("runs", runs),
        status=status,
        val_bpb=sum(scores) / len(scores) if scores else None,
        standard_error=SIGMA / math.sqrt(len(scores)) if scores else None,
        incumbent_bpb=against if number else None,
        incumbent_standard_error=SIGMA / math.sqrt(runs_of_incumbent) if number else None,
        decided_at=f"2026-11-23T0{number}:00:00.000Z",
        **known,
    )


def small_night() -> Analysis:
    """Baseline 1.5; two keeps that gain 0.03 and 0.01; a near miss, a bad idea, a crash."""
    lr = {"changes": {"MATRIX_LR": 0.02}, "details": {"previous": {"MATRIX_LR": 0.04}}}
    experiments = (
        tried(0, Status.KEEP, 1.5, 1.5),
        tried(1, Status.KEEP, 1.47, **lr),
        tried(2, Status.DISCARD, 1.473, against=1.47, parent=1),
        tried(3, Status.CRASH, against=1.47, reason="RuntimeError: shapes (3, 4) and (5, 6) do not fit", parent=1),
        tried(4, Status.DISCARD, 1.6, against=1.47, parent=1, changes={"MATRIX_LR": 0.2}),
        tried(5, Status.KEEP, 1.458, 1.462, against=1.47, parent=1, hypothesis="Use a squared ReLU in the MLP."),
    )
    spent = {1: Spent(1, 900, 100, 0.5), 2: Spent(1, 900, 100, 0.5), 5: Spent(2, 1800, 200, 1.0)}
    return Analysis("nov23", experiments, sigma=SIGMA, spent=spent, seconds=5 * 3600.0)


# --- who gained what


def test_gains_are_shared_out_between_the_kept_changes() -> None:
    first, second = small_night().attribution().rows
    assert (first["number"], second["number"]) == (1, 5)
    assert (first["gain"], second["gain"]) == (pytest.approx(0.03), pytest.approx(0.01))
    assert (first["share"], second["share"]) == (pytest.approx(0.75), pytest.approx(0.25))
    assert second["cumulative"] == pytest.approx(0.04)
    assert second["sigmas"] == pytest.approx(5.0)


def test_a_gain_carries_its_runs_its_error_its_time_and_its_cost() -> None:
    first, second = small_night().attribution().rows
    assert (first["runs"], second["runs"]) == (1, 2)
    assert second["standard_error"] == pytest.approx(SIGMA * math.sqrt(1 / 1 + 1 / 2))
    assert (second["seconds"], second["experiments"]) == (4 * 3600.0, 4)
    assert (second["tokens"], second["cost"]) == (3000, 1.5)  # of 0002 to 0005


def test_a_rerun_on_a_slower_machine_does_not_change_what_was_gained() -> None:
    night = small_night()
    last = night.experiments[-1]
    slow = replace(last, runs=(*last.runs, Run(2, 2, val_bpb=1.6, num_decided=6)))
    slowed = replace(night, experiments=(*night.experiments[:-1], slow))
    assert slowed.gain == pytest.approx(0.04)
    means = "val_bpb 1.5067 ± 0.0012, the baseline's 1.5000 ± 0.0014; difference +0.0067 ± 0.0018"
    assert f"Over all runs so far, re-runs included: {means}." in repr(slowed.attribution())


# --- how fast


def test_rates_and_prices_of_a_gain() -> None:
    values = {row["quantity"]: row["value"] for row in small_night().pace().rows}
    assert values["experiments"] == 5
    assert values["kept"] == pytest.approx(0.4)
    assert values["failed"] == pytest.approx(0.2)
    assert values["experiments an hour"] == pytest.approx(1.0)
    assert values["time for a keep"] == pytest.approx(2.5 * 3600)
    assert values["time for 0.01 bpb"] == pytest.approx(5 * 3600 / 4)
    assert values["cost of a keep"] == pytest.approx(1.0)
    assert values["tokens for 0.01 bpb"] == pytest.approx(1000)


def test_the_price_of_a_gain_is_counted_by_what_fresh_seeds_showed() -> None:
    night = replace(small_night(), finished={"champion": 5, "champion_bpb": 1.48, "baseline_bpb": 1.5})
    values = {row["quantity"]: row["value"] for row in night.pace().rows}
    assert values["time for 0.01 bpb"] == pytest.approx(5 * 3600 / 2)


def test_all_seconds_are_accounted_for() -> None:
    measured = {"training_seconds": 60.0, "start_up_seconds": 10.0, "scoring_seconds": 5.0}
    runs = (Run(0, 0, val_bpb=1.5, measured=measured), Run(1, 1, val_bpb=1.5, measured=measured))
    night = Analysis("nov23", (tried(0, Status.KEEP, 1.5, runs=runs),), seconds=160.0)
    night = replace(night, whole_seconds=260.0, attribution_seconds=60.0)
    values = {row["quantity"]: row["value"] for row in night.pace().rows}
    assert (values["training"], values["start-up"], values["scoring"]) == (120.0, 20.0, 10.0)
    assert (values["attribution"], values["waiting and the rest"]) == (60.0, 50.0)


def test_what_finish_and_attribute_took_is_no_time_of_experiments() -> None:
    """The recorded night took 52 minutes; its result and its attribution took 24 more."""
    night = analyse(open_example())
    values = {row["quantity"]: row["value"] for row in night.pace().rows}
    assert "62 experiments in 52 min" in night.summary()
    assert values["experiments an hour"] == pytest.approx(62 * 3600 / night.seconds)
    assert 51 * 60 < night.seconds < 53 * 60 and 70 * 60 < night.whole_seconds < 80 * 60
    assert 18 * 60 < values["attribution"] < 22 * 60


def test_an_unknown_price_is_not_zero() -> None:
    night = replace(small_night(), spent={1: Spent(1, 900, 100, 0.0, unpriced_calls=1)})
    values = {row["quantity"]: row["value"] for row in night.pace().rows}
    assert values["cost of a keep"] is None
    assert values["tokens for a keep"] == 500
    assert night.attribution().rows[0]["cost"] is None


# --- how sure


def test_promising_first_runs_regress_in_later_ones() -> None:
    lucky = tried(1, Status.DISCARD, 1.494, 1.502)
    night = Analysis("nov23", (tried(0, Status.KEEP, 1.5), lucky), sigma=SIGMA)
    (row,) = night.noise().rows
    assert (row["first_delta"], row["later_delta"]) == (pytest.approx(-0.006), pytest.approx(0.002))
    assert row["shrinkage"] == pytest.approx(1 + 0.002 / 0.006)
    assert "Run again, 1 promising change went from −0.0060 to +0.0020 on average." in night.noise().words


def test_the_chance_that_a_keep_is_luck_comes_from_its_later_runs() -> None:
    kept = tried(1, Status.KEEP, 1.49, 1.5)  # the second run shows nothing at all
    rows = Analysis("nov23", (tried(0, Status.KEEP, 1.5), kept), sigma=SIGMA).noise().rows
    assert rows[0]["luck"] == pytest.approx(0.5)
    sure = tried(1, Status.KEEP, 1.49, 1.49)  # 0.01 with an error of 0.002 sqrt(2): 3.54 standard errors
    rows = Analysis("nov23", (tried(0, Status.KEEP, 1.5), sure), sigma=SIGMA).noise().rows
    assert rows[0]["luck"] == pytest.approx(0.0002, abs=0.00005)


def test_a_change_that_duels_decided_is_counted_by_them_and_not_by_its_first_run() -> None:
    def run(index: int, score: float, duel: tuple[int, int] | None, decided: int) -> Run:
        return Run(index, index, val_bpb=score, num_decided=decided, duel=duel)

    # The first run met a fast hour, and the duels a slow one.
    mine = (run(0, 1.45, None, 1), run(1, 1.53, (0, 1), 1), run(2, 1.54, (0, 2), 1))
    theirs = (run(0, 1.5, None, 0), run(1, 1.54, (1, 1), 1), run(2, 1.56, (1, 2), 1))
    baseline = tried(0, Status.KEEP, 1.5, runs=theirs)
    kept = replace(tried(1, Status.KEEP, 1.45, runs=mine), val_bpb=1.485, difference_error=0.01)
    night = Analysis("nov23", (baseline, kept), sigma=SIGMA)
    (row,) = night.noise().rows
    assert (row["delta"], row["later_delta"]) == (pytest.approx(-0.015), pytest.approx(-0.015))
    assert row["luck"] == pytest.approx(0.0668, abs=0.0001)  # 1.5 standard errors
    assert row["by_duels"] and row["first_delta"] == row["delta"] and row["shrinkage"] is None
    assert "promising" not in night.noise().words and "−0.05" not in repr(night.noise())
    assert PNG in night.noise()._repr_html_()


# --- whether the machine drifted


def test_reruns_and_speed_say_whether_the_machine_drifted() -> None:
    runs = (
        Run(0, 0, val_bpb=1.5, measured={"tokens_per_second": 100.0}),
        Run(1, 1, val_bpb=1.506, measured={"tokens_per_second": 80.0, "relative_speed": 0.8}, num_decided=3),
    )
    night = Analysis("nov23", (tried(0, Status.KEEP, 1.5, runs=runs),), sigma=SIGMA)
    drift = night.drift()
    (row,) = drift.rows
    assert (row["at"], row["number"], row["delta"]) == (3, 0, pytest.approx(0.006))
    assert row["sigmas"] == pytest.approx(3.0)
    assert drift.words.startswith("The machine did not keep its speed: 0.80 to 0.80 times that of the start")


# --- what was tried


@pytest.mark.parametrize(
    ("words", "theme"),
    [
        ("MATRIX_LR", "learning rate"),
        ("increase LR to 0.04", "learning rate"),
        ("WARMDOWN", "schedule"),
        ("cosine learning rate schedule", "schedule"),
        ("switch to GeLU activation", "MLP"),
        ("double model width (OOM)", "size"),
        ("TOTAL_BATCH_SIZE", "batch"),
        ("ADAM_BETA2", "optimizer"),
        ("halve the SSSL window pattern", "attention"),
        ("NGRAM_ROWS", "embedding"),
        ("a quite different thing", "other"),
        ("clearly", "other"),  # "lr" within a word is none
    ],
)
def test_words_have_a_theme(words: str, theme: str) -> None:
    assert theme_of(words) == theme


def test_changes_are_counted_by_parameter_and_edits_by_their_subjects_or_words() -> None:
    edit = tried(6, Status.DISCARD, 1.48, against=1.46, details={"subjects": ["Attention.forward", "MATRIX_LR"]})
    night = replace(small_night(), experiments=(*small_night().experiments, edit))
    rows = {(row["theme"], row["subject"]): row for row in night.themes().rows}
    rate = rows["learning rate", "MATRIX_LR"]
    assert (rate["tried"], rate["kept"], rate["best_number"]) == (3, 1, 1)
    assert (rate["best_delta"], rate["best_sigmas"]) == (pytest.approx(-0.03), pytest.approx(-15))
    assert rate["values"] == [0.02, 0.2]
    assert rows["attention", "Attention.forward"]["tried"] == 1
    assert rows["MLP", "MLP"]["kept"] == 1
    assert rows["other", "other"]["failed"] == 1


def test_a_description_is_about_what_was_done_not_about_what_it_came_after() -> None:
    words = (
        "remove the logit cap after 3x MLP and scalar lr 0.3",
        "weight tying (conflicting LR needs)",
        "lower weight decay to 0.1",
    )
    tries = tuple(tried(i + 1, Status.DISCARD, 1.6, hypothesis=said) for i, said in enumerate(words))
    rows = Analysis("nov23", (tried(0, Status.KEEP, 1.5), *tries)).themes().rows
    assert {row["theme"] for row in rows} == {"head and loss", "embedding", "weight decay"}


def test_a_page_of_a_description_is_cut_in_tables_alone() -> None:
    night = Analysis("nov23", (tried(0, Status.KEEP, 1.5), tried(1, Status.KEEP, 1.4, hypothesis="Long. " * 100)))
    assert max(map(len, repr(night.attribution()).splitlines())) < 200
    assert len(night.attribution().rows[0]["idea"]) > 500


# --- near misses and failures


def test_near_misses_lie_within_two_sigma_of_their_incumbent() -> None:
    near = small_night().near_misses()
    assert [row["number"] for row in near.rows] == [2]  # 1.473 is 1.5 sigma above 1.47, 1.6 is far away
    assert near.rows[0]["sigmas"] == pytest.approx(1.5)
    assert near.rows[0]["to_best"] == pytest.approx(0.013)


def test_failures_are_counted_by_cause() -> None:
    assert [(row["cause"], row["numbers"]) for row in small_night().failures().rows] == [("shapes do not fit", [3])]


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("CUDA out of memory. Tried to allocate", "out of memory"),
        ("passed its hard limit of 95 s", "too slow"),
        ("NameError: name 'x' is not defined", "NameError"),
        ("the loss is NaN at step 4", "not a number"),
        ("", "not known"),
    ],
)
def test_a_failure_has_a_cause(reason: str, cause: str) -> None:
    assert cause_of(tried(1, Status.CRASH, hypothesis="An idea.", reason=reason)) == cause


# --- every kind of night has a sensible display


def nights() -> dict[str, Analysis]:
    crash, baseline = tried(0, Status.CRASH, reason="it broke"), tried(0, Status.KEEP, 1.5)
    return {
        "nothing": Analysis("nov23", ()),
        "one experiment": Analysis("nov23", (baseline,)),
        "only crashes": Analysis("nov23", (crash, tried(1, Status.CRASH), tried(2, Status.TIMEOUT))),
        "no keeps": Analysis("nov23", (baseline, tried(1, Status.DISCARD, 1.6), tried(2, Status.DISCARD, 1.7)), SIGMA),
        "no sigma": replace(small_night(), sigma=None),
        "sigma zero": replace(small_night(), sigma=0.0),
        "no score, no reason": Analysis(
            "nov23", (baseline, tried(1, Status.DISCARD), tried(2, Status.REJECTED, 1.2)), SIGMA
        ),
        "a good night": small_night(),
    }


@pytest.mark.parametrize("kind", nights())
def test_every_night_is_shown_as_text_and_as_html(kind: str) -> None:
    night = nights()[kind]
    for shown in (night, *night.findings()):
        text, page = repr(shown), shown._repr_html_()
        assert text and "None" not in text and "nan" not in text
        assert page.startswith("<div") and page.count("<div") == page.count("</div>")
        assert "None" not in page.split(PNG)[0] and ">nan<" not in page


def test_a_night_of_crashes_says_so_and_never_shows_a_zero_score() -> None:
    night = nights()["only crashes"]
    assert "3 experiments, none of them kept" in repr(night)
    assert "0.0000" not in "".join(map(repr, night.findings()))


def test_what_an_agent_wrote_stays_text() -> None:
    evil = tried(1, Status.KEEP, 1.4, hypothesis="<script>alert(1)</script>\x1b[31m $x^{$")
    night = Analysis("nov23", (tried(0, Status.KEEP, 1.5), evil), sigma=SIGMA)
    for shown in (night, *night.findings()):
        assert "<script" not in shown._repr_html_() and "\x1b" not in repr(shown)


def test_long_tables_are_cut_and_say_where_the_rest_is() -> None:
    many = tuple(
        tried(0, Status.KEEP, 1.5) if i == 0 else replace(tried(1, Status.DISCARD, 1.5), number=i) for i in range(60)
    )
    near = Analysis("nov23", many, sigma=SIGMA).near_misses()
    assert len(near.rows) == 59
    assert "19 rows more in .rows" in repr(near)


# --- pictures


def words_of(figure: Any) -> list[str]:
    figure.draw_without_rendering()
    axes = figure.axes[0]
    return [text.get_text() for text in [*axes.texts, *axes.get_yticklabels()]]


def test_the_waterfall_has_a_step_for_each_kept_change() -> None:
    figure = waterfall_figure(small_night().attribution().rows)
    assert [round(bar.get_width(), 4) for bar in figure.axes[0].patches] == [-0.03, -0.01]
    assert {"−0.0300 ± 0.0024   75 %", "0001 MATRIX_LR 0.04 → 0.02", "in all", "−0.0400 ± 0.0020"} <= set(
        words_of(figure)
    )


def test_a_theme_shows_every_experiment_and_every_failure() -> None:
    night = small_night()
    figure = themes_figure(night, night.themes().rows)
    marks = [line.get_gid() for line in figure.axes[0].lines]
    assert marks.count("keep") == 2 and marks.count("discard") == 2 and marks.count("failed") == 1


def test_the_picture_of_the_noise_compares_first_and_later_runs() -> None:
    night = small_night()
    marks = [line.get_gid() for line in noise_figure(night, night.noise().rows).axes[0].lines]
    assert marks.count("first run") == 2 and marks.count("later runs") == 1


def test_a_night_is_saved_as_one_page(tmp_path: Path) -> None:
    page = small_night().save(tmp_path / "night.html").read_text()
    assert page.count(PNG) == 4  # every experiment, the waterfall, the noise, the themes
    assert "http" not in page and page.endswith("</html>\n")


def test_an_answer_without_a_table_is_its_words() -> None:
    assert repr(Finding("How fast it went", "Nothing was tried.")) == "How fast it went\nNothing was tried."
