"""Lesson 6 for real: its broken train.py files are trained, scored and audited in the sandbox.

And the recorded attempts, with which the answers of the exercises are tested, ended as the real ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.core.overtime import allowed_overtime
from autoresearch_kernel.core.types import Context, Run
from autoresearch_kernel.lab.lessons import broken_trains, checks_6
from autoresearch_kernel.lab.lessons import small_study as small_study_module
from autoresearch_kernel.lab.lessons.attempt import Attempt
from autoresearch_kernel.lab.lessons.build import FOLDER
from autoresearch_kernel.lab.lessons.cheating import prints_a_score, signs_of_cheating
from autoresearch_kernel.lab.lessons.exercise import WrongAnswer
from autoresearch_kernel.lab.lessons.learned import PROGRESS_FILE
from autoresearch_kernel.lab.lessons.recorded_small import RecordedSmall, recorded_attempt
from autoresearch_kernel.lab.lessons.small_study import (
    baseline_scores,
    context_of,
    project_of_lessons,
    same_code,
    small_study,
    small_train,
    try_out,
)
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.study.steps import Steps
from tests.conftest import PROJECT

SECONDS = 1.0
LEAK = broken_trains.LOGITS + "        logits = logits + 4.0 * F.one_hot(idx.roll(-1, dims=1), vocab_size)\n"
ROLLS_AHEAD = "idx.roll(shifts=-1, dims=1)", "torch.roll(idx, -1, 1)", "torch.roll(idx, shifts=(-1,), dims=(1,))"
ROLLS_BACK = "idx.roll(1, -1)", "idx.roll(shifts=1, dims=-1)", "torch.roll(idx, 1, -1)", "torch.roll(-idx, 1, dims=1)"


@pytest.fixture(scope="module")
def study(small_corpus: Path) -> Iterator[Study]:
    """The lessons' study in a cache of the tests, with its baseline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_HOME", str(small_corpus.parents[1]))
        found = small_study("test", SECONDS)
        assert isinstance(found, Study)
        assert len(baseline_scores(found)) >= 3
        yield found


def attempted(study: Study, source: str, idea: str) -> Attempt:
    found = try_out(study, source, idea)
    assert "/" + study.project.name not in repr(found), "no path of this machine is shown"
    return found


def test_a_model_that_sees_the_next_token_is_refused_and_solves_the_exercise(study: Study) -> None:
    leak = attempted(study, small_train().replace(broken_trains.LOGITS, LEAK), "leak")
    assert leak.status == "rejected" and leak.val_bpb is None
    assert leak.claimed_bpb is not None and leak.claimed_bpb < leak.baseline_bpb - checks_6.LEAST_LEAK_BPB
    assert leak.num_mismatches > leak.num_cuts / 2
    assert "secret places" in checks_6.EXERCISES[0].check(leak)
    seen = broken_trains.seen_by_audit(study, leak)
    assert len(seen.rows) == broken_trains.CUTS_SHOWN and any(blind > claimed + 1 for *_, claimed, blind in seen.rows)
    assert recorded_attempt("leak").status == leak.status


def test_known_code_is_shown_and_not_trained_again(study: Study) -> None:
    before = study.paths.history.read_bytes()
    again = try_out(study, small_train().replace(broken_trains.LOGITS, LEAK), "leak")
    assert again.status == "rejected" and study.paths.history.read_bytes() == before
    spaced = small_train().replace(broken_trains.LOGITS, LEAK.replace("4.0 * F", "4.0*F") + "        # ahead\n")
    same_leak = try_out(study, spaced, "leak")
    assert replace(same_leak, source=again.source) == again and study.paths.history.read_bytes() == before
    assert "secret places" in checks_6.EXERCISES[0].check(same_leak)
    assert broken_trains.seen_by_audit(study, same_leak).rows
    same = try_out(study, small_train() + "# only a comment\n", "nothing")
    assert same.status == recorded_attempt("unchanged").status == "repeat"
    assert same_code(study, 3) == baseline_scores(study)[:3]


def test_runs_that_fail_again_and_again_end_with_a_sentence(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    have, steps = len(baseline_scores(study)), []
    monkeypatch.setattr(small_study_module, "execute", lambda session, step: steps.append(step))
    with pytest.raises(StudyError, match=f"has {have} of 9 scores, and its runs fail now"):
        same_code(study, 9)
    assert len(steps) == 9 * small_study_module.MOST_STEPS_A_RUN


def test_training_before_the_clock_is_refused_for_its_time(study: Study) -> None:
    late = attempted(study, broken_trains.before_the_clock(9), "late")
    assert late.status == recorded_attempt("late").status == "timeout" and late.val_bpb is None
    assert late.overtime_seconds is not None and late.allowed_overtime_seconds is not None
    assert late.overtime_seconds > late.allowed_overtime_seconds
    with pytest.raises(WrongAnswer, match="refused this one for its time"):
        checks_6.EXERCISES[5].check(
            (late, late.delta_bpb - 2 * late.delta_error, late.delta_bpb + 2 * late.delta_error)
        )


def test_a_memory_across_rows_is_refused(study: Study) -> None:
    memory = attempted(study, broken_trains.memory_across_rows(), "memory")
    assert memory.status == recorded_attempt("memory").status == "rejected"
    assert memory.num_mismatches > memory.num_cuts / 2


def test_a_printed_score_is_shown_and_has_no_effect(study: Study) -> None:
    printed = attempted(study, broken_trains.printed_score(), "printed")
    assert "0.100000" in printed.printed
    assert printed.claimed_bpb is not None and printed.claimed_bpb > 1.0
    assert abs(printed.claimed_bpb - printed.baseline_bpb) < 0.5


def test_a_short_warm_up_within_the_slack_escapes_and_solves_the_exercise(study: Study) -> None:
    escape = attempted(study, broken_trains.before_the_clock(1.2), "escape")
    assert escape.status in ("keep", "discard")
    low, high = (escape.delta_bpb + side * 2 * escape.delta_error for side in (-1, 1))
    assert "It was not refused" in checks_6.EXERCISES[5].check((escape, low, high))


def test_an_agent_of_the_lesson_reads_the_first_train_py_although_something_was_kept(study: Study) -> None:
    """The recorded replies of lesson 5 quote it, and the lesson may be opened again."""
    kept = try_out(study, broken_trains.before_the_clock(1.4), "another escape")
    assert len(read_state(study.paths.history).experiments) > 1 and kept.val_bpb is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "context", _as_if_kept(Steps.context, kept.source))
        context = context_of(study)
    assert context.train_source == small_train() and context.incumbent.number == 0
    assert [e.number for e in context.experiments] == [0] and context.number == 1


def _as_if_kept(method: Callable[[Steps], Context], source: str) -> Callable[[Steps], Context]:
    return lambda session: replace(method(session), train_source=source)


def test_what_others_try_stays_out_of_the_learners_own_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grading by hand, and `autoresearch lessons --check`, name another file for the progress."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    own = project_of_lessons()
    assert own.is_relative_to(tmp_path / "cache")
    places = []
    for name in ("ann", "ben"):
        monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / name / "progress.json"))
        places.append(project_of_lessons())
        assert places[-1].is_relative_to(tmp_path / name) and (places[-1] / "train.py").read_text() == small_train()
    assert len({own, *places}) == 3


def test_a_leak_that_gains_little_is_told_apart_from_none() -> None:
    leak = recorded_attempt("leak")
    weak = replace(leak, claimed_bpb=leak.baseline_bpb - 0.1)
    with pytest.raises(WrongAnswer, match="Add more to the logit"):
        checks_6.EXERCISES[0].check(weak)
    with pytest.raises(WrongAnswer, match="the leak is too small"):
        checks_6.EXERCISES[0].check(replace(weak, status="keep"))


def test_signs_of_cheating_are_found_in_each_broken_train_and_in_no_honest_one() -> None:
    broken = [
        small_train().replace(broken_trains.LOGITS, LEAK),
        broken_trains.memory_across_rows(),
        broken_trains.before_the_clock(1),
        small_train() + "import time\ntime.monotonic = lambda: 0.0\n",
    ]
    ahead, back = (
        [small_train().replace(broken_trains.LOGITS, LEAK.replace("idx.roll(-1, dims=1)", roll)) for roll in rolls]
        for rolls in (ROLLS_AHEAD, ROLLS_BACK)
    )
    broken += ahead
    assert all(map(signs_of_cheating, broken))
    honest = [small_train(), recorded_attempt("honest").source, recorded_attempt("looks back").source, *back]
    honest += [recorded_attempt(f"reply: {name}").source for name in ("small steps", "new ideas")]
    honest.append(broken_trains.before_the_clock(0))  # nothing trains before its clock
    assert not any(map(signs_of_cheating, honest))


def test_a_score_of_its_own_in_the_output_is_seen_in_the_code() -> None:
    written = small_train() + 'import sys\nsys.stdout.write(f"val_bpb: {0.1}")\n'
    assert prints_a_score(broken_trains.printed_score()) and prints_a_score(written)
    assert not prints_a_score(small_train() + 'print("the end")\n')
    assert not prints_a_score(recorded_attempt("memory").source)


def test_an_attempt_shows_hostile_words_as_text() -> None:
    words = "<script>alert(1)</script>"
    shown = Attempt(words, "", "crash", words, 2.0, 0.01, 2.0, printed=words)
    assert words not in shown._repr_html_() and "&lt;script&gt;" in shown._repr_html_()


def test_the_recorded_study_answers_as_a_study_does() -> None:
    recorded = small_study("cheats", 0)
    assert isinstance(recorded, RecordedSmall) and len(baseline_scores(recorded)) >= 3
    leak = recorded_attempt("leak")
    assert try_out(recorded, leak.source, "leak") == leak
    assert broken_trains.seen_by_audit(recorded, leak).rows
    assert recorded.attempt(small_train() + "x = 1\n") is None
    spaced = leak.source.replace("4.0 * follows", "4.0*follows")
    assert spaced != leak.source and try_out(recorded, spaced, "leak").status == "rejected"
    assert broken_trains.seen_by_audit(recorded, replace(leak, source=spaced)).rows


def test_the_rule_breaker_is_one_line_of_the_class() -> None:
    assert [line.strip() for line in broken_trains.class_lines()].count(broken_trains.RULE_BREAKER) == 1


def test_the_solution_and_the_check_of_the_slack_name_the_same_seconds() -> None:
    """What a cheat can hide has two parts, the slack and a share of the budget."""
    source = (PROJECT / FOLDER / "6-how-agents-cheat.py").read_text()
    words = " ".join(source.replace("\n# ", " ").split())
    assert f"In a lesson of two seconds that is {allowed_after(0.0, 2.0):.2f} seconds" in words
    assert f"In a study of 300 seconds it is {allowed_after(4.0, 300.0):.0f} seconds" in words
    at_twelve = f"{allowed_after(12.0, 300.0):.0f}"
    assert f"With 12 seconds that is 3, and {at_twelve} in all" in words
    said = checks_6.EXERCISES[1].check(lambda overtime, budget: overtime + max(2.0, overtime / 4) + 0.02 * budget)
    assert f"{at_twelve} s more" in said


def allowed_after(overtime: float, budget: float) -> float:
    """Seconds more than the baseline's that are allowed, as the supervisor computes them."""
    run = Run(0, 0, val_bpb=1.0, measured={"cells_seconds": overtime + budget})
    return allowed_overtime([run], {}, budget) - overtime  # type: ignore[operator]


def test_the_chance_of_a_refusal_is_that_of_a_sum_by_hand() -> None:
    """Two cuts, one is forgiven: both have to differ."""
    assert checks_6.caught(0.5, 2) == pytest.approx(0.25)
    assert checks_6.caught(0.5, 3) == pytest.approx(0.5)
