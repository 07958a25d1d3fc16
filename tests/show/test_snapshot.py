"""A study that another process runs, seen from its files."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autoresearch_kernel.core.types import Experiment, Progress, Result, Status
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.show.follow import View, follow, look
from autoresearch_kernel.show.snapshot import PHASES, Snapshot
from autoresearch_kernel.show.status import doing, next_step

if TYPE_CHECKING:
    from tests.event_writer import Writer


def view_of(writer: Writer) -> View:
    """Sees the study at the writer's time."""
    return View(writer.study, clock=lambda: writer.clock)


RESULT = Result(1, 1.56, 1.55, -0.01, 0.002, -0.011, 0.002, -0.012, 3, 3, 1)


def test_every_phase_of_a_night_is_told_apart(writer: Writer) -> None:
    view = view_of(writer)
    seen: list[str] = []

    def expect(phase: str, activity: str, experiment: int | None) -> Snapshot:
        now = view.look()
        assert (now.phase, now.activity, now.experiment and now.experiment.number) == (phase, activity, experiment)
        seen.append(phase)
        return now

    expect("not started", "", None)
    writer.open()
    said = writer.study.paths.activity.read_text()
    writer.study.paths.activity.unlink()
    expect("starting", "", None)
    writer.study.paths.activity.write_text(said)
    expect("measuring the baseline", "proposing", None)
    writer.propose(0)
    writer.start(0)
    expect("measuring the baseline", "training", 0)
    writer.train(0)
    expect("measuring the baseline", "scoring", 0)
    writer.score(0, 1.498)
    expect("measuring the baseline", "training", 0)
    for run, val_bpb in ((1, 1.502), (2, 1.5)):
        writer.run(0, val_bpb, run)
    now = expect("measuring the baseline", "auditing", 0)
    assert doing(now) == "measuring the baseline, run 3 of 3 to 8: auditing"
    writer.audit(0, run=2)
    expect("measuring the baseline", "deciding", 0)
    writer.decide(0, "keep", 1.5)
    expect("proposing", "proposing", None)
    writer.append("dry_run", experiment=1, train_sha256="ab", ended=None)
    expect("dry run", "dry run", None)
    writer.append("dry_run", experiment=1, train_sha256="ab", ended="", seconds=4.0)
    writer.append("review", experiment=1, hypothesis="Half the batch", train_sha256="ab", is_draft=False)
    writer.append("paused", reason="experiment 0001 waits for your approval")
    now = expect("reviewing", "", None)
    assert "approve --name" in next_step(now) and "Half the batch" in next_step(now)
    writer.append("resumed", reason="a person has looked at it")
    writer.propose(1)
    busy = {"why": "experiment 0001 is to train", "cores": 1.4, "num_cores": 2, "who": "make (process 7) 90 %"}
    writer.append("quiet_wait", **busy, seconds=1800.0)
    now = expect("waiting for a quieter machine", "quiet", 1)
    assert doing(now) == "waiting for a quieter machine to train 0001"
    assert next_step(now) == (
        "Experiment 0001 waits for a quieter machine, for 30 min more at most: other processes take 140 % of 200 % "
        "processor time (make (process 7) 90 %)."
    )
    writer.append("quiet_waited", **busy, seconds=60.0)
    writer.start(1)
    writer.append("waiting", study="dec1", pid=4711, since="2027-01-15T08:00:00Z")
    now = expect("waiting for the machine", "waiting", 1)
    assert doing(now) == "waiting for the machine to train 0001"
    assert next_step(now) == (
        "Another training (study dec1, process 4711) runs on this machine since 2027-01-15 08:00 UTC; "
        "this study trains when it has ended."
    )
    writer.append("waited")
    now = expect("training", "training", 1)
    assert now.run is not None and now.run.status is Status.INTERRUPTED  # as the record has it until the run ends
    writer.train(1)
    expect("scoring", "scoring", 1)
    writer.score(1, 1.42)
    now = expect("auditing", "auditing", 1)
    assert doing(now) == "auditing 0001"
    writer.audit(1)
    expect("deciding", "deciding", 1)
    writer.decide(1, "keep", 1.42)
    writer.append("paused", reason="by ann@here", by_person=True)
    expect("paused", "", None)
    writer.append("resumed", reason="asked to go on")
    writer.purpose = "conclusion"
    writer.start(1, run=1)  # the champion's further runs, before a figure is published
    expect("concluding", "training", 1)
    writer.train(1, run=1)
    writer.score(1, 1.421, run=1)
    now = expect("concluding", "auditing", 1)
    assert now.run is not None and now.run.index == 1
    writer.audit(1, run=1)
    expect("concluding", "proposing", None)
    writer.append("finished", reason="1 experiment", champion=1)
    expect("finished", "", None)
    writer.history.close()
    expect("finished", "", None)
    writer.open()
    writer.purpose = "result"
    writer.append("finishing", champion=1)
    writer.start(0, run=3)
    expect("finishing", "training", 0)
    writer.train(0, run=3)
    writer.score(0, 1.5, run=3)
    writer.say("scoring", 0, 3)
    expect("finishing", "scoring", 0)  # on the sealed test split
    writer.append("result", **vars(RESULT))
    expect("finished", "", None)
    writer.history.close()
    assert view.look().state.result == RESULT
    writer.open()
    writer.purpose = "attribution"
    writer.append("attribution", what="begun", champion=1, changes=[1], num_seeds=2)
    for without in (None, 1):
        writer.append("attribution", what="variant", champion=1, without=without, train_sha256="ab", obstacle=None)
    writer.append("attribution", what="started", champion=1, without=None, run=0, seed=9)
    writer.say("training", 1)
    assert doing(expect("attributing", "training", None)) == "attributing, training 1 of at most 6"
    writer.history.close()
    assert "attribute nov23` goes on taking out kept changes." in next_step(expect("gone", "", None))
    writer.open().append("attribution", what="ended", champion=1)
    expect("finished", "", None)
    writer.history.close()
    writer.purpose = "rerun"
    writer.open()
    expect("proposing", "proposing", None)
    writer.propose(2)
    writer.start(2)
    writer.history.close()
    expect("gone", "", 2)
    writer.open()
    writer.append("interrupted", experiment=2, run=0, reason="the harness went away", cause="gone")
    expect("training", "training", 2)
    writer.append("stopped", reason="asked by ann@here")
    writer.history.close()
    expect("stopped", "", 2)
    assert set(seen) | {"re-running the incumbent"} == set(PHASES)


def test_the_incumbent_that_runs_again_is_not_taken_for_a_conclusion(writer: Writer) -> None:
    writer.open().baseline()
    for number in range(1, 21):
        writer.settle(number)
    writer.why = "20 experiments since its last run"
    writer.start(0, run=3)
    now = view_of(writer).look()
    assert (now.phase, now.activity) == ("re-running the incumbent", "training")
    assert now.experiment is not None and now.experiment.number == 0 and now.run is not None and now.run.index == 3
    assert "experiments since its last run" in now.rerun_reason
    writer.train(0, run=3)
    writer.score(0, 1.5, run=3)
    assert view_of(writer).look().phase == "proposing"
    writer.propose(21)
    writer.run(21, 1.5)
    writer.why = "experiment 0021 was slow twice"
    writer.start(0, run=4)  # asked in the middle of an experiment: was that slow because of the machine?
    now = view_of(writer).look()
    assert now.phase == "re-running the incumbent" and "0021 was slow twice" in now.rerun_reason


def test_time_left_goes_on_between_two_points_of_the_curve(writer: Writer) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.start(1)
    view = view_of(writer)
    now = view.look()
    assert (now.fraction, now.seconds_left, now.tokens_per_second) == (0.0, 100.0, None)
    writer.curve(1, upto=0.3)
    now = view.look()
    assert now.fraction == pytest.approx(0.3) and now.seconds_left == pytest.approx(70.0)
    assert now.tokens_per_second == pytest.approx(28_054.5)  # median of the last ten points
    assert len(now.curve) == 60 and len(now.incumbent_curve) == 200
    assert now.incumbent is not None and now.incumbent.number == 0
    writer.clock += 12.5
    now = view.look()
    assert now.fraction == pytest.approx(0.425) and now.seconds_left == pytest.approx(57.5)
    writer.clock += 3600
    now = view.look()
    assert (now.fraction, now.seconds_left) == (1.0, 0.0)


def test_the_curve_of_an_attempt_that_was_cut_off_is_not_the_next_one_s(writer: Writer) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.start(1)
    path = writer.curve(1, upto=0.6)
    view = view_of(writer)
    assert len(view.look().curve) == 120
    writer.history.close()
    assert view.look().phase == "gone" and view.look().fraction == pytest.approx(0.6)
    writer.open()
    assert view.look().curve == ()  # taken up, but not begun again
    writer.append("interrupted", experiment=1, run=0, reason="the harness went away")
    path.unlink()
    writer.start(1)
    assert view.look().fraction == 0.0
    writer.curve(1, upto=0.1)
    now = view.look()
    assert len(now.curve) == 20 and now.run is not None and now.run.attempts == 2


@pytest.mark.parametrize(
    "wrong",
    [
        '{"progress": NaN, "train_loss": "low", "tokens_per_second": [1]}\n',
        '{"progress": 1e999, "train_loss": -1e999, "tokens_per_second": 1' + "0" * 400 + "}\n",
        "[1, 2]\nnull\n\x1b[2J{\n",
        '{"progress": 0.6, "seconds"',
    ],
)
def test_whatever_stands_in_a_curve_the_study_can_be_seen(writer: Writer, wrong: str) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.start(1)
    writer.curve(1, upto=0.5, wrong=wrong)
    now = view_of(writer).look()
    assert now.phase == "training" and 0.0 <= now.fraction <= 1.0
    assert now.tokens_per_second == pytest.approx(28_095.0, abs=1)


def test_a_curve_that_is_no_file_is_none(writer: Writer) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.start(1)
    writer.study.experiment(1).metrics(0).mkdir(parents=True)
    assert view_of(writer).look().curve == ()


def test_what_the_present_supervisor_heard_and_said_is_there(writer: Writer) -> None:
    writer.open().baseline()
    writer.append("note", text="of the first supervisor")
    writer.history.close()
    writer.clock += 1000
    writer.open()
    began = writer.clock
    writer.append("note", text="git is gone")
    writer.append("command", id="1", command="hint", text="warm up longer", by="ann@here", answer="the agent reads it")
    for number in (1, 2, 3):
        writer.settle(number)
    now = view_of(writer).look()
    assert [note["text"] for note in now.notes] == ["git is gone"]
    assert [(c["command"], c["answer"]) for c in now.commands] == [("hint", "the agent reads it")]
    assert now.state.hints == ("warm up longer",)
    assert now.supervisor_seconds == pytest.approx(writer.clock - began) == 300
    assert now.study_seconds == pytest.approx(300 + 1000 + 300)
    assert now.experiments_per_hour == pytest.approx(36.0)
    assert now.holder is not None and now.holder["pid"] > 0


def test_what_one_slot_would_do_has_no_time_that_was_waited_for_a_wave(writer: Writer) -> None:
    writer.open().baseline()
    writer.append("slots", names=["slot 1", "slot 2"])
    for number in (1, 2):
        writer.propose(number)
        writer.run(number, 1.51)  # 100 s
    writer.append("dry_run", experiment=1, train_sha256="ab", ended="", seconds=10.0)
    writer.clock += 1000  # the wave takes its time
    writer.run(1, 1.51, run=1)
    writer.audit(1)  # 1 s
    writer.run(0, 1.5, run=3)  # beside it
    writer.propose(3)
    writer.run(3, 1.51)  # not decided, so it counts on neither side
    for number in (1, 2):
        writer.decide(number, "discard", 1.51)
    for run in (4, 5):
        writer.run(0, 1.5, run)  # at the end
    now = view_of(writer).look()
    assert now.one_slot_per_hour == pytest.approx(2 * 3600 / (4 * 100 + 10 + 1))
    assert now.experiments_per_hour == pytest.approx(2 * 3600 / 1500)


def test_a_study_that_nobody_runs_gets_no_older(writer: Writer) -> None:
    writer.open().baseline()
    writer.history.close()
    writer.clock += 5000
    now = view_of(writer).look()
    assert now.supervisor_seconds == now.study_seconds == 300 and now.holder is None and not now.is_running


def test_only_what_was_added_is_read(writer: Writer) -> None:
    writer.open().baseline()
    view = view_of(writer)
    before = view.look()
    first = view.events[0]
    writer.settle(1)
    now = view.look()
    assert view.events[0] is first, "the old records were parsed again"
    assert len(now.state.experiments) == len(before.state.experiments) + 1
    assert view.look().state is now.state, "without a new event the state is not worked out again"


def test_a_record_that_was_taken_back_is_forgotten(writer: Writer) -> None:
    """A write that fails after it was seen is cut off again, and another record may take its place."""
    path = writer.open().baseline().study.paths.history
    whole = path.read_bytes()
    writer.append("note", text="never acknowledged, for the disk failed")
    with_note = path.read_bytes()
    writer.history.close()
    view = view_of(writer)
    assert len(view.look().notes) == 1
    path.write_bytes(whole)
    assert view.look().notes == ()
    path.write_bytes(with_note)
    assert len(view.look().notes) == 1
    path.write_bytes(whole)  # and now a longer record takes its place between two looks
    writer.open()
    writer.append("note", text="another one, " + "which is a good deal longer " * 9)
    assert view.look().notes[0]["text"].startswith("another one")
    assert tuple(view.events) == writer.history.events


def test_half_a_line_waits_and_a_damaged_one_is_named(writer: Writer) -> None:
    path = writer.open().baseline().study.paths.history
    writer.append("note", text="long enough to be cut")
    whole = path.read_bytes()
    writer.history.close()
    path.write_bytes(whole[:-20])
    view = view_of(writer)
    assert view.look().notes == ()
    path.write_bytes(whole)
    assert len(view.look().notes) == 1
    path.write_bytes(whole[:2000] + b"#" + whole[2001:])
    found = look(writer.study)
    assert re.search(
        r"history\.jsonl is damaged: line \d+ of \d+ cannot be trusted\. .* Restore the file", found.damage
    )
    assert len(found.notes) == 1 and next_step(found) == found.damage
    path.write_bytes(whole + b"\0" * 64 + b"\n")  # a power cut: a block that was never written
    assert len(view_of(writer).look().notes) == 1


def test_looking_writes_nothing(writer: Writer) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.start(1)
    writer.curve(1, upto=0.5)

    def files() -> dict[Path, tuple[int, int]]:
        found = writer.study.project.rglob("*")
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = files()
    view = view_of(writer)
    for _ in range(3):
        view.look()
    assert files() == before
    look(replace(writer.study, paths=replace(writer.study.paths, folder=writer.study.paths.folder / "not there")))
    assert files() == before


# --- attached


def collected(study: Study, act: Callable[[], None]) -> list[Experiment | Progress]:
    """What follow gives from now until the study ends, while `act` goes on in another thread."""
    thread = threading.Thread(target=act)
    thread.start()
    seen = list(follow(study, every_seconds=0.01))
    thread.join()
    return seen


def test_follow_gives_what_happens_from_now_on_and_ends_with_the_study(writer: Writer) -> None:
    writer.open().baseline()
    writer.settle(1)
    writer.propose(2, "Something bold.")
    writer.start(2)

    def act() -> None:
        time.sleep(0.1)
        writer.curve(2, upto=0.5)
        time.sleep(0.1)
        writer.train(2)
        writer.score(2, 1.49)
        writer.decide(2, "keep", 1.49)
        writer.append("note", text="the disk\x1b[2J fills up")
        writer.append("command", id="1", command="pause", text="", by="ann@here", answer="pauses now")
        writer.append("paused", reason="by ann@here", by_person=True)
        time.sleep(0.1)
        writer.append("resumed", reason="asked to go on")
        writer.append("finished", reason="2 experiments", champion=2)
        writer.history.close()

    seen = collected(writer.study, act)
    assert [e.number for e in seen if isinstance(e, Experiment)] == [2]  # not what was decided before
    steps = [value for value in seen if isinstance(value, Progress)]
    assert (steps[0].phase, steps[0].experiment, steps[0].hypothesis) == ("starting", 2, "Something bold.")
    training = [p for p in steps if p.phase == "training" and p.metrics["train_loss"] is not None]
    assert training and training[-1].fraction >= 0.5
    assert training[-1].metrics["train_loss"] == pytest.approx(3.044, abs=0.001)
    assert any(p.phase == "paused" and "autoresearch resume --name nov23" in p.text for p in steps)
    notes = [p.text for p in steps if p.phase == "note"]
    assert notes == [
        "the disk fills up",
        "ann@here: pause → pauses now",
        "Paused: by ann@here",
        "Resumed: asked to go on",
    ]


def test_follow_says_what_to_do_when_nobody_runs_the_study(writer: Writer) -> None:
    (note,) = follow(writer.study)
    assert isinstance(note, Progress) and note.text == "`autoresearch run --name nov23` starts it."
    writer.open().baseline()
    writer.history.close()
    (note,) = follow(writer.study)
    assert isinstance(note, Progress) and "The supervisor is gone since 2027-01-15" in note.text
    assert "`autoresearch run --name nov23` goes on" in note.text


HOLD = """
import sys, time
from pathlib import Path
from autoresearch_kernel.record.history import History
with History.open(Path(sys.argv[1]), lock=Path(sys.argv[2])) as history:
    print("ready", flush=True)
    for number in range(10_000):
        history.append("note", text=f"note {number} " + "x" * (number % 3000))
"""


def test_a_process_that_writes_all_the_time_is_seen_until_it_is_killed(writer: Writer) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.history.close()
    paths = writer.study.paths
    command = [sys.executable, "-c", HOLD, str(paths.history), str(paths.lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        view = View(writer.study)
        counts = []
        for _ in range(100):
            now = view.look()
            assert now.phase == "starting" and now.holder is not None and now.holder["pid"] == child.pid
            counts.append(len(now.notes))
            time.sleep(0.002)
        assert counts == sorted(counts) and counts[-1] > counts[0]
        child.kill()
    now = view.look()
    assert now.phase == "gone" and len(now.notes) >= counts[-1]
    assert [note["text"].split(" x")[0] for note in now.notes[:3]] == ["note 0 ", "note 1", "note 2"]
