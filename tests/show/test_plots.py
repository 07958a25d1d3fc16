"""What the pictures say, read from the figures: positions, labels and words, not pixels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from autoresearch_kernel.core.types import Audit, Experiment, Run, Status
from autoresearch_kernel.show.plot_curve import curve_figure, curve_png
from autoresearch_kernel.show.plot_labels import label_of
from autoresearch_kernel.show.plot_progress import draw_progress, progress_figure
from autoresearch_kernel.show.plot_scale import points_of

SIGMA = 0.003
MARKS = (
    "keep",
    "discard",
    "refused by the audit",
    "not decided yet",
    "baseline run",
    "confirmation",
    "incumbent again",
)
PNG = b"\x89PNG\r\n\x1a\n"


def experiment(number: int, status: Status | None, val_bpb: float | None, *runs: float, **more: Any) -> Experiment:
    scores = runs or (() if val_bpb is None else (val_bpb,))
    return Experiment(
        number,
        f"Idea {number}: it may help.",
        "search",
        None if number == 0 else 0,
        runs=tuple(Run(i, i, val_bpb=score) for i, score in enumerate(scores)),
        status=status,
        val_bpb=val_bpb,
        sigma=SIGMA,
        **{"standard_error": SIGMA / max(1, len(scores)) ** 0.5, **more},
    )


def night(count: int, seed: int = 0) -> list[Experiment]:
    """A baseline, then mostly discards, some crashes, ever smaller gains."""
    rng = np.random.default_rng(seed)
    best, study = 1.55, [experiment(0, Status.KEEP, 1.55, 1.549, 1.552, 1.549)]
    for number in range(1, count):
        chance = rng.random()
        if chance < 0.1:
            study.append(experiment(number, Status.CRASH if chance < 0.07 else Status.TIMEOUT, None))
        elif chance < 0.2:
            best -= float(rng.exponential(0.1)) * (best - 1.4)
            study.append(experiment(number, Status.KEEP, best, best - 0.001, best + 0.001))
        else:
            study.append(experiment(number, Status.DISCARD, best + float(rng.exponential(0.01))))
    return study


def drawn(figure: Figure) -> tuple[Figure, Axes]:
    figure.draw_without_rendering()
    return figure, figure.axes[0]


def marks(axes: Axes, gid: str) -> list[tuple[float, float]]:
    """Data coordinates of the marks of one kind."""
    return [
        (float(x), float(y))
        for line in axes.lines
        if line.get_gid() == gid
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def words(figure: Figure) -> str:
    axes = figure.axes[0]
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([t.get_text() for t in [*figure.texts, *axes.texts]] + legends)


def boxes(figure: Figure, gid: str) -> list[Any]:
    """Extents of the words alone, without the line to their mark."""
    return [Text.get_window_extent(t) for t in figure.axes[0].texts if t.get_gid() == gid]


def assert_all_inside(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    area = axes.get_window_extent()
    for x, y in axes.transData.transform(np.array(points)):
        assert area.x0 <= x <= area.x1 and area.y0 <= y <= area.y1


def test_a_refused_claim_is_drawn_where_it_claimed_to_be_with_a_mark_of_its_own():
    refused = Audit(False, 0.4, 0.01, 256, 201, "it looked", 2.0)
    run = Run(0, 1, status=Status.REJECTED, claimed_bpb=1.2, audit=refused)
    cheat = replace(experiment(5, Status.REJECTED, None), runs=(run,))
    points = points_of([*night(5), cheat])
    assert [e.val_bpb for e in points.rejected] == [1.2] and cheat not in points.floor
    figure = progress_figure([*night(5), cheat], title="nov25", sigma=0.002)
    (mark,) = [line for line in figure.axes[0].lines if line.get_gid() == "refused by the audit"]
    assert mark.get_marker() == "^" and list(mark.get_ydata()) == [1.2]


def test_every_experiment_has_its_mark_at_its_number_and_score() -> None:
    study = [
        experiment(0, Status.KEEP, 1.5, 1.499, 1.501),
        experiment(1, Status.DISCARD, 1.51),
        experiment(2, Status.CRASH, None),
        experiment(3, Status.TIMEOUT, None),
        experiment(4, Status.INVALID, None),
        experiment(5, Status.REJECTED, 1.48),
        experiment(6, Status.KEEP, 1.49, 1.488, 1.492),
        experiment(7, None, None),
    ]
    figure, axes = drawn(progress_figure(study, title="nov23", sigma=SIGMA))
    assert marks(axes, "keep") == [(6, 1.49)]
    assert [y for _, y in marks(axes, "baseline run")] == [1.499, 1.501]
    assert marks(axes, "discard") == [(1, 1.51)]
    assert marks(axes, "refused by the audit") == [(5, 1.48)]
    assert marks(axes, "confirmation") == [(6, 1.492)]
    assert [x for x, _ in marks(axes, "failed")] == [2, 3, 4]
    assert "crash 1, invalid 1, timeout 1" in words(figure)
    assert "1.5000 → 1.4900 bits per byte, 0.0100 ± 0.0030 better (0.7%)" in words(figure)
    assert "nov23" in words(figure)


def test_shapes_tell_the_marks_apart_without_colour() -> None:
    study = [*night(60), experiment(60, Status.REJECTED, 1.5), experiment(61, None, 1.51)]
    kept = next(e for e in study if e.number > 0 and e.status is Status.KEEP)
    study[kept.number] = run_again(kept, (50, 1.55))
    _, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    shape = {
        line.get_gid(): (line.get_marker(), line.get_markerfacecolor() == "none", line.get_fillstyle())
        for line in axes.lines
    }
    kinds = ["keep", "discard", "not decided yet", "failed", "refused by the audit", "confirmation", "baseline run"]
    kinds += ["incumbent again"]
    assert [shape[k][0] for k in kinds] == ["o", "o", "o", "x", "^", "_", "D", "v"]
    assert not shape["keep"][1] and shape["discard"][1]
    assert len({shape[k] for k in kinds}) == len(kinds)


@pytest.mark.parametrize("scores", [(1.549, 1.552, 1.549), (1.55, 1.55, 1.55)])
def test_the_baseline_s_three_runs_are_three_marks_apart_from_each_other(scores: tuple[float, ...]) -> None:
    study = [experiment(0, Status.KEEP, 1.55, *scores), *night(100)[1:]]
    figure, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    runs = marks(axes, "baseline run")
    assert tuple(y for _, y in runs) == scores
    assert_all_inside(axes, runs)
    columns = axes.transData.transform(np.array(runs))[:, 0]
    assert np.diff(columns).min() > 10  # pixels: wider than a mark
    assert "baseline run 3" in words(figure)


def test_a_baseline_that_runs_beside_a_later_incumbent_is_no_incumbent_again() -> None:
    study = [experiment(0, Status.KEEP, 1.5), *(experiment(i, Status.DISCARD, 1.51) for i in range(1, 10))]
    study[5] = experiment(5, Status.KEEP, 1.49)
    study[0] = run_again(study[0], (3, 1.502), (10, 1.503))
    study[5] = run_again(study[5], (10, 1.492))
    _, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    assert marks(axes, "baseline run") == [(0, 1.5), (10, 1.503)]
    assert marks(axes, "incumbent again") == [(3, 1.502), (10, 1.492)]


def test_a_baseline_of_which_one_run_is_scored_is_that_mark_already() -> None:
    _, axes = drawn(progress_figure([experiment(0, None, 1.55)], title="x", sigma=None))
    assert marks(axes, "baseline run") == [(0, 1.55)] and not marks(axes, "not decided yet")


def test_the_incumbent_s_line_steps_at_each_keep_and_goes_on_to_the_edge() -> None:
    study = night(40)
    study.append(experiment(40, Status.KEEP, 1.6))  # kept on a machine that became slower: the line rises
    figure, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    line = next(line for line in axes.lines if line.get_gid() == "incumbent line")
    keeps = [e for e in study if e.status is Status.KEEP]
    assert list(line.get_xdata()) == [*(e.number for e in keeps), axes.get_xlim()[1]]
    assert list(line.get_ydata()) == [*(e.val_bpb for e in keeps), keeps[-1].val_bpb]
    assert line.get_drawstyle() == "steps-post"
    band = axes.collections[0].get_paths()[0].vertices
    lowest = min(e.val_bpb for e in keeps if e.val_bpb is not None)
    assert band[:, 1].min() == pytest.approx(lowest - SIGMA)
    assert "incumbent" in words(figure).splitlines() and "best" not in words(figure)


@pytest.mark.parametrize("count", [1, 2, 10, 100, 1000])
def test_nothing_lies_outside_and_no_label_over_another(count: int) -> None:
    figure, axes = drawn(progress_figure(night(count), title="nov23", sigma=SIGMA))
    scored = [(e.number, e.val_bpb) for e in night(count) if e.val_bpb is not None]
    assert len(marks(axes, "keep") + marks(axes, "discard")) == len(scored) - 1
    assert len(marks(axes, "baseline run")) == 3
    assert_all_inside(axes, scored)
    labels = boxes(figure, "keep label")
    assert 1 <= len(labels) <= 16
    for index, box in enumerate(labels):
        assert all(not box.overlaps(other) for other in labels[index + 1 :])
        assert axes.get_window_extent().x0 <= box.x0 and box.x1 <= axes.get_window_extent().x1
    places = [place for kind in MARKS for place in marks(axes, kind)]
    pixels = axes.transData.transform(np.array(places))
    corners = [c for x, y in marks(axes, "incumbent line") for c in ((x, y), (x, y))]
    line = axes.transData.transform([(b[0], a[1]) for a, b in pairwise(corners)])
    for box in labels:
        assert not (
            (box.x0 < pixels[:, 0]) & (pixels[:, 0] < box.x1) & (box.y0 < pixels[:, 1]) & (pixels[:, 1] < box.y1)
        ).any()
        for (x0, y0), (x1, y1) in pairwise(line):
            assert max(x0, x1) <= box.x0 or min(x0, x1) >= box.x1 or max(y0, y1) <= box.y0 or min(y0, y1) >= box.y1
    for text in (t for t in axes.texts if t.get_gid() == "keep label"):
        box, (x, y) = Text.get_window_extent(text), axes.transData.transform(text.xy)
        away = np.hypot(max(box.x0 - x, x - box.x1, 0), max(box.y0 - y, y - box.y1, 0))
        assert away < 60 * figure.dpi / 96
    for legend in figure.legends:
        assert legend.get_window_extent().x1 <= figure.bbox.x1
        assert legend.get_window_extent().y1 <= axes.xaxis.label.get_window_extent().y0 + 2
    assert all(t.get_window_extent().x1 <= figure.bbox.x1 for t in figure.texts)


def test_experiments_that_were_ended_early_are_no_failures() -> None:
    study = [experiment(0, Status.KEEP, 1.5), experiment(1, Status.DISCARD, None), experiment(2, Status.CRASH, None)]
    figure, axes = drawn(progress_figure([*study, experiment(3, Status.DISCARD, None)], title="x", sigma=SIGMA))
    assert [x for x, _ in marks(axes, "ended early")] == [1, 3]
    assert [x for x, _ in marks(axes, "failed")] == [2]
    assert {y for _, y in marks(axes, "ended early")} == {y for _, y in marks(axes, "failed")}
    early = next(line for line in axes.lines if line.get_gid() == "ended early")
    assert (early.get_marker(), early.get_markerfacecolor()) == ("o", "white")
    assert "3 experiments, 0 kept, 2 ended early, 1 failed" in words(figure)
    assert "ended early 2" in words(figure) and "crash 1" in words(figure)


def run_again(e: Experiment, *runs: tuple[int, float]) -> Experiment:
    """The experiment with further runs: (experiments decided by then, score)."""
    more = tuple(Run(9, 9, val_bpb=score, num_decided=place) for place, score in runs)
    own = tuple(replace(run, num_decided=e.number) for run in e.runs)
    return replace(e, runs=own + more)


def test_the_incumbent_s_further_runs_stand_where_they_happened() -> None:
    study = night(30)
    incumbent = next(e for e in study if e.number > 0 and e.status is Status.KEEP)
    study[incumbent.number] = run_again(incumbent, (20, 1.561), (30, 1.532))  # the last when the study was concluded
    figure, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    again = marks(axes, "incumbent again")
    assert again == [(20, 1.561), (30, 1.532)]
    assert_all_inside(axes, again)
    own = [y for x, y in marks(axes, "confirmation") if x == incumbent.number]
    assert own == [incumbent.runs[1].val_bpb]
    assert "incumbent again 2" in words(figure)


@pytest.mark.parametrize("count", [10, 300])
def test_a_change_of_the_machine_s_speed_has_a_strip_of_its_own(count: int) -> None:
    at = count // 2
    speeds = [(float(i), 1.02 if i < at else 0.62) for i in range(1, count)]
    figure, axes = drawn(progress_figure(night(count), title="nov23", sigma=SIGMA, speeds=speeds))
    strip = figure.axes[1]
    line = next(line for line in strip.lines if line.get_gid() == "machine speed line")
    assert list(line.get_xdata()) == [*(x for x, _ in speeds), axes.get_xlim()[1]]
    assert list(line.get_ydata())[-1] == 0.62 and strip.get_xlim() == axes.get_xlim()
    said, now = sorted(strip.texts, key=lambda t: -len(t.get_text()))
    assert now.get_text() == "0.62 ×"
    assert said.get_text() == f"machine speed, 1.0 = at the start: 0.62 × from {at} on"
    areas = [axes.get_window_extent(), strip.get_window_extent(), said.get_window_extent()]
    areas += [t.get_window_extent() for t in figure.texts]
    for index, area in enumerate(areas):
        assert not any(area.overlaps(other) for other in areas[index + 1 :])
    assert said.get_window_extent().x1 < figure.bbox.x1


def test_several_changes_of_speed_are_told_in_order_and_a_steady_machine_is_not_mentioned() -> None:
    slow = {3: 0.7, 4: 0.7, 8: 1.3, 12: 0.5, 13: 0.5, 14: 0.5, 20: 0.89}
    speeds = [(float(i), slow.get(i, 1.0)) for i in range(30)]
    figure = progress_figure(night(30), title="x", sigma=SIGMA, speeds=speeds)
    assert any(
        t.get_text().endswith("0.70 × from 3 to 4, 1.30 × at 8, 0.50 × from 12 to 14") for t in figure.axes[1].texts
    )
    steady = [(float(i), 0.95 + 0.1 * (i % 2)) for i in range(30)]
    assert len(progress_figure(night(30), title="x", sigma=SIGMA, speeds=steady).axes) == 1
    label = ", as each was decided"  # at speeds that differ, so it is no difference of today
    assert label in words(figure)
    assert label not in words(progress_figure(night(30), title="x", sigma=SIGMA, speeds=steady))
    assert len(progress_figure(night(30), title="x", sigma=SIGMA).axes) == 1


def test_two_changes_of_speed_within_one_column_are_both_told() -> None:
    speeds = [(1.0, 1.0), (2.0, 1.3), (2.0, 1.0), (2.0, 0.7)]
    figure = progress_figure(night(3), title="x", sigma=SIGMA, speeds=speeds)
    assert any("1.30 × at 2, 0.70 × from 2 on" in text.get_text() for text in figure.axes[1].texts)


def test_failures_stand_below_every_score() -> None:
    study = night(100)
    _, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    lowest = min(e.val_bpb for e in study if e.val_bpb is not None)
    floor = axes.get_xaxis_transform().transform([0, marks(axes, "failed")[0][1]])[1]
    assert floor < axes.transData.transform([0, lowest])[1] - 8


@pytest.mark.parametrize("outlier", [9.7312, 1e6])
def test_a_giant_outlier_stays_in_sight_and_leaves_the_rest_legible(outlier: float) -> None:
    study = night(40)
    before = progress_figure(study, title="x", sigma=SIGMA).axes[0]
    study[5] = experiment(5, Status.DISCARD, outlier)
    figure, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    assert (5, outlier) in marks(axes, "discard")
    assert_all_inside(axes, marks(axes, "discard") + marks(axes, "keep"))
    assert f"{outlier:.4f}" in [t.get_text() for t in axes.texts if t.get_gid() == "extreme"]
    assert "not to scale" in words(figure)
    first, last = study[0].val_bpb, [e.val_bpb for e in study if e.status is Status.KEEP][-1]
    heights = [abs(np.diff(a.transData.transform([(0, first), (0, last)])[:, 1])[0]) for a in (before, axes)]
    assert heights[1] > 0.7 * heights[0]


def test_a_faked_score_far_below_does_not_flatten_the_night() -> None:
    study = night(40)
    study[9] = experiment(9, Status.REJECTED, 0.0312)
    figure, axes = drawn(progress_figure(study, title="x", sigma=SIGMA))
    assert_all_inside(axes, marks(axes, "refused by the audit") + marks(axes, "keep"))
    assert "0.0312" in words(figure)
    keeps = axes.transData.transform(marks(axes, "incumbent line"))[:, 1]
    assert np.ptp(keeps) > 0.3 * axes.get_window_extent().height


def test_a_difference_within_twice_its_error_is_not_called_better() -> None:
    """0.0084 lower on a noisy machine, with an error of 0.0196: by hand, 0.0112 and 0.0161 make it."""
    baseline = experiment(0, Status.KEEP, 1.5, standard_error=0.0112)
    kept = experiment(1, Status.KEEP, 1.4916, standard_error=0.0161)
    shown = words(progress_figure([baseline, kept], title="x", sigma=0.02))
    assert "1.5000 → 1.4916 bits per byte, no clear difference: −0.0084 ± 0.0196" in shown and "better (" not in shown
    clear = words(
        progress_figure(
            [replace(baseline, standard_error=0.003), replace(kept, standard_error=0.0)], title="x", sigma=0.003
        )
    )
    assert "0.0084 ± 0.0030 better (0.6%)" in clear


def test_a_difference_whose_error_is_not_known_says_so() -> None:
    study = [experiment(0, Status.KEEP, 1.5, standard_error=None), experiment(1, Status.KEEP, 1.4, standard_error=None)]
    assert "difference −0.1000, its error is not known" in words(progress_figure(study, title="x", sigma=None))


def test_axis_ticks_have_four_decimals() -> None:
    _, axes = drawn(progress_figure(night(30), title="x", sigma=SIGMA))
    texts = [t.get_text() for t in axes.get_yticklabels()]
    assert len(texts) >= 4 and all(len(t.split(".")[1]) == 4 for t in texts)


@pytest.mark.parametrize(
    "study", [[], [experiment(i, Status.CRASH, None) for i in range(8)], [experiment(0, None, None)]]
)
def test_a_study_without_a_score_says_so(study: list[Experiment]) -> None:
    figure, axes = drawn(progress_figure(study, title="nov23", sigma=None))
    assert "No experiment" in words(figure)
    assert len(marks(axes, "failed")) == sum(e.status is not None for e in study)


def test_scores_that_are_no_numbers_are_failures() -> None:
    study = [experiment(0, Status.KEEP, 1.5), experiment(1, Status.DISCARD, float("nan"))]
    study.append(experiment(2, Status.DISCARD, float("inf")))
    figure, axes = drawn(progress_figure(study, title="x", sigma=None))
    assert [x for x, _ in marks(axes, "failed")] == [1, 2]
    assert "no score 2" in words(figure)


def test_a_kept_change_is_labelled_by_what_moved() -> None:
    e = experiment(3, Status.KEEP, 1.4)
    changed = replace(e, changes={"MATRIX_LR": 0.055}, details={"previous": {"MATRIX_LR": 0.04}})
    assert label_of(changed) == "MATRIX_LR 0.04 → 0.055"
    assert label_of(replace(changed, details={})) == "MATRIX_LR = 0.055"
    assert label_of(e) == "Idea 3"
    assert len(label_of(replace(e, hypothesis="word " * 40))) <= 38
    assert label_of(experiment(0, Status.KEEP, 1.5)) == "baseline"


def test_a_title_with_dollar_signs_is_text() -> None:
    study = [experiment(0, Status.KEEP, 1.5), replace(experiment(1, Status.KEEP, 1.4), hypothesis="Cost $1 and $x_{")]
    figure, _ = drawn(progress_figure(study, title="$\\frac$", sigma=SIGMA))
    assert "Cost $1 and $x_{" in words(figure)


def test_progress_png_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = draw_progress(night(10), tmp_path / "deep" / "progress.png", title="nov23", sigma=SIGMA)
    assert path.read_bytes().startswith(PNG)
    assert [p.name for p in path.parent.iterdir()] == ["progress.png"]
    draw_progress(night(11), path, title="nov23")
    assert [p.name for p in path.parent.iterdir()] == ["progress.png"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError):
        draw_progress([], blocked / "progress.png", title="x")


def rows(count: int, level: float) -> list[dict[str, float]]:
    return [
        {
            "step": i,
            "progress": i / count,
            "seconds": 0.3 * i,
            "train_loss": level + 5 * float(np.exp(-i / 12)) + 0.02 * (-1) ** i,
        }
        for i in range(count)
    ]


def test_the_curve_shows_both_runs_and_their_last_losses() -> None:
    figure, axes = drawn(curve_figure(rows(200, 2.9), rows(200, 3.1)))
    assert axes.get_xlabel() == "seconds of training"
    assert "this run\n2.9" in words(figure) and "incumbent\n3.1" in words(figure)
    smooth = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert smooth["this run"].get_linestyle() == "-" and smooth["incumbent"].get_linestyle() == "--"
    ends = [t.get_window_extent() for t in axes.texts if "\n" in t.get_text()]
    assert not ends[0].overlaps(ends[1])
    assert all(t.x1 <= figure.bbox.x1 and t.y0 >= 0 for t in ends)


def test_the_steep_start_is_told_in_words_and_the_rest_is_drawn_to_scale() -> None:
    figure, axes = drawn(curve_figure(rows(200, 2.9), None))
    assert "from 7.92" in words(figure)
    low, high = axes.get_ylim()
    assert low < 2.9 and high < 4.5


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([], "No training step was recorded"),
        (
            [{"step": 0, "train_loss": None}, {"step": 1, "train_loss": float("nan")}, {}],
            "No training step was recorded",
        ),
        (rows(1, 2.9), "this run"),
        ([{"step": 3, "train_loss": 4.0}, {"step": 4, "train_loss": float("inf")}], "4.0000"),
        ([{"progress": 0.1, "train_loss": 3.0}, {"progress": 0.2, "train_loss": 3.0}], "3.0000"),
        ([{"progress": 0.1, "train_loss": 3.0}, {"progress": 10**400, "train_loss": 10**400}], "3.0000"),
    ],
)
def test_odd_curves_still_give_a_picture(curve: list[dict[str, Any]], said: str) -> None:
    figure, _ = drawn(curve_figure(curve, None))
    assert said in words(figure)
    assert curve_png(curve, rows(5, 3.0)).startswith(PNG)


def test_a_curve_png_is_small() -> None:
    data = curve_png(rows(200, 2.9), rows(200, 3.0))
    assert data.startswith(PNG) and len(data) < 120_000


def test_matplotlib_is_not_imported_before_a_picture_and_pyplot_never() -> None:
    code = (
        "import sys; from autoresearch_kernel.show.plot_curve import curve_png; print('matplotlib' in sys.modules);"
        "curve_png([{'step': 1, 'train_loss': 2.0}], None); print('matplotlib.pyplot' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
