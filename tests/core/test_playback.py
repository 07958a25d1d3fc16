"""A timeline and where a replay is on it: pure, with a clock that the test moves."""

from __future__ import annotations

import pytest

from autoresearch_kernel.core.playback import Playhead, Timeline, neighbour
from autoresearch_kernel.system.files import seconds_of


def timeline() -> Timeline:
    """A study of three experiments; its supervisor was away for a night, and its clock was set back once."""
    kinds = (
        ("opened", "10:00:00", None), ("proposed", "10:00:01", 0), ("decided", "10:00:11", 0),
        ("proposed", "10:00:12", 1), ("stopped", "10:00:20", None), ("opened", "22:00:00", None),
        ("decided", "22:00:05", 1), ("proposed", "21:59:00", 2), ("decided", "21:59:30", 2),
    )  # fmt: skip
    events = [
        {"event": kind, "time": f"2026-11-23T{time}.000Z"} | ({} if number is None else {"experiment": number})
        for kind, time, number in kinds
    ]
    return Timeline.of(events, seconds_of)


def test_time_without_a_supervisor_and_a_clock_that_was_set_back_are_left_out() -> None:
    assert timeline().moments == (0, 1, 11, 12, 20, 20, 25, 25, 55)
    assert timeline().seconds == 55 and timeline().experiments == (0, 1, 2)
    assert Timeline.of([], seconds_of).seconds == 0


def test_experiments_take_a_session_up_to_its_last_event_of_one_that_was_not_decided() -> None:
    kinds = (
        ("study_started", 0, None), ("opened", 1, None), ("proposed", 2, 0), ("decided", 10, 0), ("finished", 15, None),
        ("opened", 100, None), ("started", 120, 0), ("tested", 150, 0),  # `finish`
        ("opened", 200, None), ("attribution", 230, None), ("note", 235, None), ("attribution", 240, None),
        ("opened", 300, None), ("proposed", 310, 1), ("trained", 320, 1), ("attribution", 330, None),
    )  # fmt: skip
    events = [{"event": kind, "time": str(time), "experiment": number} for kind, time, number in kinds]
    line = Timeline.of(events, float)
    assert line.seconds == (15 - 1) + 50 + 40 + 30
    assert line.seconds_of_experiments == (10 - 1) + 20
    assert line.seconds_before("attribution") == 30 + 5 + 10
    assert Timeline.of([], float).seconds_of_experiments == 0


def test_at_a_moment_there_are_the_events_up_to_it() -> None:
    line = timeline()
    assert [line.count_at(moment) for moment in (-1, 0, 0.5, 1, 20, 55, 99)] == [0, 1, 1, 2, 6, 9, 9]
    assert [line.experiment_at(moment) for moment in (0, 1, 12, 54)] == [None, 0, 1, 2]
    assert line.moment_of(2) == 25 and line.moment_of(7) is None
    assert line.next_event(0.5) == 1 and line.next_event(55) is None


def test_a_playhead_moves_with_the_viewers_clock_and_stops_at_the_end() -> None:
    head = Playhead(speed=10.0).played(now=100.0)
    assert [head.at(now, until=55) for now in (99, 100, 102, 200)] == [0, 0, 20, 55]
    rests = head.paused(102, until=55)
    assert not rests.is_playing and rests.at(1000, until=55) == 20
    faster = head.at_speed(60, 102, until=55)
    assert faster.at(102, until=1000) == 20 and faster.at(103, until=1000) == 80
    assert head.moved(40, 102).at(103, until=55) == 50
    with pytest.raises(ValueError, match="0 is no speed: give a number above 0"):
        head.at_speed(0, 100, until=55)


def test_a_step_back_from_the_middle_of_an_experiment_is_its_own_beginning() -> None:
    line = timeline()
    assert [neighbour(line, moment, 1) for moment in (0, 1, 12, 30)] == [0, 1, 2, None]
    assert [neighbour(line, moment, -1) for moment in (0, 1, 5, 12, 30)] == [None, None, 0, 0, 2]
