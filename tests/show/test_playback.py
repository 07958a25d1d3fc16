"""A replay shows what the history says up to its moment, and nothing of what came later."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.bundle import night_path, recorded_study
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import StudyError, open_folder
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.playback import Playback
from autoresearch_kernel.show.quiz_words import answered_words, outcome_lines, question_lines
from autoresearch_kernel.show.status import doing, status_table
from tests.event_writer import Writer
from tests.recorded_night import EVENTS, FOLDER, LAST


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def playback(hand: Hand) -> Playback:
    return Playback(open_folder(FOLDER), hand)


def test_at_twenty_random_moments_the_view_is_the_fold_of_the_events_up_to_it(playback: Playback, hand: Hand) -> None:
    rng = random.Random(19)
    for moment in (rng.uniform(0, playback.timeline.seconds) for _ in range(20)):
        playback.seek(moment)
        count = sum(m <= moment for m in playback.timeline.moments)
        expected, now = replay(EVENTS[:count]), playback.look()
        assert now.state == expected and now.last_event_at == EVENTS[count - 1]["time"]
        assert now.study_seconds == pytest.approx(moment)
        if now.experiment is not None:
            assert now.experiment == expected.experiments[now.experiment.number]
        shown = status_table(now, last=200)
        unknown = expected.num_events < len(EVENTS) and next(
            (e for e in EVENTS[count:] if e["event"] == "proposed"), None
        )
        assert not unknown or unknown["hypothesis"] not in shown


def test_its_end_is_the_study_as_it_is(playback: Playback) -> None:
    playback.seek(playback.timeline.seconds)
    now, end = playback.look(), look(open_folder(FOLDER))
    assert playback.is_over and now.state == end.state and (now.phase, now.finished) == (end.phase, end.finished)


def test_it_plays_with_the_viewers_clock_and_its_speed(playback: Playback, hand: Hand) -> None:
    playback.play()
    hand.now += 2
    assert playback.moment == pytest.approx(120) and playback.is_playing
    playback.set_speed(300)
    hand.now += 1
    assert playback.moment == pytest.approx(420)
    playback.pause()
    hand.now += 1000
    assert playback.moment == pytest.approx(420) and not playback.is_playing
    playback.play()
    hand.now += 1e6
    assert playback.is_over and not playback.is_playing
    playback.play()
    assert playback.moment == 0 and playback.is_playing, "from its beginning"


def test_a_jump_shows_the_beginning_of_an_experiment(playback: Playback) -> None:
    playback.jump(5)
    assert playback.look().state.experiments[-1].number == 5 and playback.look().state.experiments[-1].runs == ()
    playback.step(1)
    assert playback.look().state.experiments[-1].number == 6
    playback.step(-1)
    assert playback.look().state.experiments[-1].number == 5
    with pytest.raises(StudyError, match=f"has no experiment 500: it has 0 to {LAST}"):
        playback.jump(500)


def test_a_training_shows_its_curve_as_far_as_it_was(playback: Playback) -> None:
    index = next(i for i, e in enumerate(EVENTS) if e["event"] == "started" and e["experiment"] == 3)
    begin, end = playback.timeline.moments[index], playback.timeline.moments[index + 1]
    lengths = []
    for share in (0.25, 0.5, 0.75):
        playback.seek(begin + share * (end - begin))
        now = playback.look()
        assert doing(now) == "training 0003" and now.fraction == pytest.approx(share)
        lengths.append(len(now.curve))
    playback.seek(begin + 1.0001 * (end - begin))
    whole = len(playback.look().curve)
    assert doing(playback.look()) == "scoring 0003" and 0 < lengths[0] < lengths[1] < lengths[2] < whole


# --- the quiz


def test_a_quiz_stops_before_each_verdict_and_goes_on_with_the_answer(playback: Playback, hand: Hand) -> None:
    playback.ask(True)
    playback.play()
    hand.now += 1e6
    question = playback.question
    assert question is not None and (question.experiment, question.run) == (1, 0) and not playback.is_playing
    now, shown = playback.look(), playback.shown()
    assert now.state == replay(EVENTS[: question.count]) and shown is not None
    assert now.state.experiments[1].status is None, "the verdict is not told"
    lines = question_lines(shown)
    assert lines[0] == "0001 · TOKEN_SHIFT False → True" and "val_bpb 2.8897 (1 run)" in lines
    assert "against the incumbent's 2.9142 (3 runs): −0.0245 ± 0.0116 (−1.5 σ)" in lines
    assert answered_words(playback.answer("keep"), "keep") == "0001: you say keep, the rule says once more."
    hand.now += 1e6
    assert playback.question is not None and (playback.question.experiment, playback.question.run) == (1, 1)
    with pytest.raises(StudyError, match="'perhaps' is no answer"):
        playback.answer("perhaps")  # type: ignore[arg-type]


def test_an_answered_quiz_tells_how_the_calls_compare(playback: Playback, hand: Hand) -> None:
    playback.ask(True)
    playback.play()
    hand.now += 1e6
    while (question := playback.question) is not None:
        playback.answer("keep" if question.experiment % 2 else question.verdict)
        hand.now += 1e6
    assert playback.is_over
    found = playback.outcome()
    assert len(found.answers) == len(playback.questions) == found.num_questions
    words = "\n".join(outcome_lines(found))
    assert f"You answered {found.num_questions} of {found.num_questions} questions." in words
    assert f"Your call was the rule's in {found.as_the_rule} of them." in words
    assert "the record has no later run of the same code" in words


def test_a_jump_leaves_out_the_questions_before_it_and_no_quiz_asks_none(playback: Playback, hand: Hand) -> None:
    playback.ask(True)
    playback.jump(40)
    playback.play()
    hand.now += 1e6
    assert playback.question is not None and playback.question.experiment >= 40
    playback.ask(False)
    assert playback.question is None
    with pytest.raises(StudyError, match="No question is open"):
        playback.answer("keep")


# --- what is replayed


def make_bundle(folder: Path, into: Path, name: str = "example") -> Path:
    """The zip of a study as `share` makes it: a folder at the top, and a chain in each line of the history."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, f"{name}/{path.relative_to(folder).as_posix()}")
        bundle.writestr(f"{name}/index.html", "<title>night</title>")
        bundle.writestr(f"{name}/manifest.json", json.dumps({"format": 1}))
    return into


def test_a_bundle_is_replayed_as_its_study_is_and_leaves_nothing(tmp_path: Path, hand: Hand) -> None:
    bundle = make_bundle(FOLDER, tmp_path / "example.zip")
    with recorded_study(bundle) as study:
        played = Playback(study, hand)
        played.seek(1000)
        folder = study.paths.folder
        assert played.look().state == replay(EVENTS[: played.count]) and len(played.look().incumbent_curve) > 10
        assert (folder / "experiments" / "0001" / "change.diff").is_file() and not (folder / "index.html").exists()
    assert not folder.exists()


@pytest.mark.parametrize("top", ["", "night/", "mail/night/"])
def test_a_bundle_that_was_zipped_again_is_read_as_well(tmp_path: Path, top: str) -> None:
    with zipfile.ZipFile(tmp_path / "again.zip", "w") as bundle:
        for name in ("history.jsonl", "study.json"):
            bundle.write(FOLDER / name, f"{top}{name}")
    with recorded_study(tmp_path / "again.zip") as study:
        assert read_events(study.paths.history) == EVENTS


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["../../history.jsonl", "../../study.json"], "it has no history.jsonl"),
        (["a/history.jsonl", "b/history.jsonl"], "it has 2 files history.jsonl"),
        (["a/readme.txt"], "it has no history.jsonl"),
        (["a/history.jsonl", "a/../../evil/study.json"], r"study\.json cannot be read"),
    ],
)
def test_a_zip_that_is_no_bundle_is_refused_and_writes_nothing_outside(
    tmp_path: Path, names: list[str], why: str
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as bundle:
        for name in names:
            bundle.writestr(name, "{}")
    with pytest.raises(StudyError, match=why), recorded_study(tmp_path / "x.zip"):
        pass
    assert not list(tmp_path.rglob("evil"))


def test_what_is_no_zip_or_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(StudyError, match=r"x\.zip cannot be read as a zip"), recorded_study(tmp_path / "x.zip"):
        pass
    with pytest.raises(StudyError, match=r"There is no .*y\.zip"), recorded_study(tmp_path / "y.zip"):
        pass
    shutil.copy(FOLDER / "study.json", tmp_path)
    with pytest.raises(StudyError, match=r"has no history\.jsonl"), recorded_study(tmp_path) as study:
        Playback(study)


def test_the_night_that_comes_with_the_program_can_be_replayed() -> None:
    with recorded_study(night_path()) as study:
        assert Playback(study).timeline.seconds > 600


def test_a_study_that_still_runs_is_replayed_as_far_as_it_is(writer: Writer) -> None:
    writer.open().baseline().propose(1)
    writer.start(1)
    played = Playback(writer.study)
    played.seek(played.timeline.seconds)
    assert doing(played.look()) == "training 0001" and played.is_over
