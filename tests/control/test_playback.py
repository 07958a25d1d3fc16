"""`autoresearch replay`: all at once where the output is no terminal, by keys on a terminal, with a quiz in both."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control.playback import Viewer, recording_path
from autoresearch_kernel.record.study import StudyError, open_folder
from autoresearch_kernel.show.playback import Playback
from autoresearch_kernel.show.words import outcome_line
from tests import recorded_night
from tests.conftest import PROJECT
from tests.event_writer import Writer
from tests.show.test_playback import Hand, make_bundle

NIGHT = str(recorded_night.FOLDER)
HOSTILE = "\x1b[2J\x1b]0;title\x07 A <b>bold</b> idea"


def test_without_a_terminal_the_whole_night_is_told_in_the_words_of_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(recorded_night.FOLDER, tmp_path / "night.zip")
    assert main(["replay", str(bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"Replay of study {recorded_night.STUDY.name}, which began 2026-12-01 11:42 UTC and took "
    )
    decided = recorded_night.DECIDED
    told = [line for line in lines if re.match(r"\d{4} ", line) and ":" not in line[:12]]
    assert [line for line in told if "against" in line][:3] == [outcome_line(e) for e in decided if e.compared][:3]
    assert sum(re.match(rf"{e.number:04d} ", line) is not None for e in decided for line in told) >= len(decided)


def test_a_quiz_reads_its_answers_as_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("discard\nhm\nk\nonce more\n"))
    assert main(["replay", NIGHT, "--quiz"]) == 0
    out = capsys.readouterr().out
    assert "0001 · TOKEN_SHIFT False → True" in out and "Keep, discard, or train it once more" in out
    assert "0001: you say discard, the rule says once more." in out
    assert "'hm' is no answer: k keep, d discard, o once more." in out
    assert (
        "0001: you say keep, the rule says keep." in out and "0002: you say once more, the rule says once more" in out
    )
    assert "The input ended, so the quiz ends here." in out
    assert "You answered 3 of" in out and "Your call was the rule's in 2 of them." in out
    assert out.index("0001: you say keep") < out.index("0001 ● keep"), "the verdict comes after the answer"


def test_what_is_replayed_is_found_by_file_folder_or_name(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(recorded_night.FOLDER, tmp_path / "night.zip")
    assert recording_path(str(bundle)) == bundle and recording_path(str(recorded_night.FOLDER)) == recorded_night.FOLDER
    (tmp_path / "studies" / "nov23").mkdir(parents=True)
    (tmp_path / "studies" / "nov23" / "study.json").write_text("{}")
    assert recording_path("nov23", tmp_path) == tmp_path / "studies" / "nov23"
    assert recording_path("example", tmp_path) == recorded_night.BUNDLE == recording_path("optimiser", tmp_path)
    with pytest.raises(StudyError, match=r"or the zip of a bundle\. Recorded nights that come .*: optimiser"):
        recording_path("dec7", tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replay", "nowhere.zip"], "There is no nowhere.zip. Give the name of a study"),
        (
            ["replay", NIGHT, "--experiment", "500"],
            f"has no experiment 500: it has 0 to {recorded_night.LAST}",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_speed_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for speed in ("0", "-3", "fast", "nan", "inf"):
        with pytest.raises(SystemExit):
            main(["replay", "--speed", speed])
        assert "give a number above 0" in capsys.readouterr().err


def test_keys_pause_jump_and_answer() -> None:
    hand, said = Hand(), list[str]()
    viewer = Viewer(Playback(open_folder(recorded_night.FOLDER), hand), said.append)
    playback = viewer.playback
    playback.play()
    assert viewer.press(" ") and not playback.is_playing
    assert viewer.press(" ") and playback.is_playing
    viewer.press("+")
    assert playback.head.speed == 120
    for key in "g12\n":
        viewer.press(key)
    assert said[-1] == "--- at experiment 0012" and playback.look().state.experiments[-1].number == 12
    viewer.press("\x1b[C")
    viewer.press("b")
    assert said[-2:] == ["--- at experiment 0013", "--- at experiment 0012"]
    playback.ask(True)
    hand.now += 1e6
    viewer.show()
    assert said[-1].strip() == "k keep, d discard, o once more" and "keep" in viewer.live_line(playback.look())
    viewer.press("o")
    assert "0012: you say once more, the rule says" in said[-1] and "0012" in said[-7]
    for key in "g999\n":
        viewer.press(key)
    assert any("has no experiment 999" in line for line in said)
    assert not viewer.press("q")


def test_what_an_agent_wrote_moves_no_cursor(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    writer.open().baseline().propose(1, HOSTILE)
    writer.run(1, 1.49)
    writer.decide(1, "keep", 1.49, reason=HOSTILE)
    writer.study.paths.study.write_text('{"name": "nov23", "time_budget_seconds": 100.0}')
    assert main(["replay", str(writer.study.paths.folder)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "bold" in out


def test_on_a_terminal_keys_steer_it(tmp_path: Path) -> None:
    """A real terminal: the quiz waits for a key, and q ends it with the terminal as it was."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "replay", NIGHT, "--speed", "2000", "--quiz"]
    env = os.environ | {"PYTHONPATH": str(PROJECT), "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env, cwd=tmp_path)
    os.close(terminal)
    seen = ""

    def read_until(words: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while words not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([controller], [], [], 0.2)[0]:
                seen += os.read(controller, 65536).decode("utf-8", "replace")

    try:
        read_until("k keep, d discard, o once more")
        os.write(controller, b"d")
        read_until("0001: you say discard, the rule says once more.")
        read_until("(2 runs)")
        os.write(controller, b"q")
        read_until("You answered 1 of")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)
