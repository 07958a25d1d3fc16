"""A recorded night played again in this terminal: no training, no key, no network. With a quiz before each verdict.

On a terminal the night plays at its speed, and keys steer it. Where the output goes elsewhere, all of it is printed at
once. A quiz reads its answers as lines where the input is no terminal.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from ..core.format import clock, duration, plain
from ..core.playback import USUAL_SPEED
from ..core.quiz import Call
from ..core.sanitize import readable
from ..core.types import Experiment, Progress
from ..record.bundle import night_names, night_path, recorded_study
from ..record.paths import MY_NOTEBOOKS
from ..record.study import StudyError, latest_study, study_exists
from ..share.bundle import is_bundle
from ..show.follow import news
from ..show.playback import Playback
from ..show.quiz_words import answered_words, outcome_lines, question_lines
from ..show.snapshot import Snapshot
from ..show.status import cut, doing
from ..show.terminal import Screen
from ..show.words import bar, outcome_line
from ..system.locations import NoProject, project_root

LOOK_SECONDS = 0.1  # between two looks at the keys
FASTER = 2.0  # times, by one press of + or -
HELP = "space pauses, ← → previous and next experiment, + - speed, g NUMBER Enter jumps, q ends"
CALL_KEYS: dict[str, Call] = {"k": "keep", "d": "discard", "o": "confirm"}
CHOICES = "k keep, d discard, o once more"
ARROWS = {"\x1b[C": "n", "\x1b[D": "b"}


def recording_path(named: str | None, project: Path | None = None) -> Path:
    """What is to be replayed: a bundle, a folder, a study or a recorded night by its name.

    Without a name it is the latest study, and where there is none the night "example", which is that of the optimiser.
    `project` is that of the working folder when left out. Raises StudyError where there is none of that name.
    """
    project = _project() if project is None else project
    if named is None:
        latest = latest_study(project) if project is not None else None
        return night_path() if latest is None else latest.paths.folder
    path = Path(named).expanduser()
    if path.is_file() or (path / "study.json").is_file():
        return path
    if project is not None and len(path.parts) == 1 and study_exists(named, project):
        return project / "studies" / named
    if named == "example":
        return night_path()
    if named in (nights := night_names()):
        return night_path(named)
    come_with_it = f" Recorded nights that come with the program: {', '.join(nights)}." if nights else ""
    raise StudyError(
        f"There is no {named}. Give the name of a study, its folder, or the zip of a bundle.{come_with_it}"
    )


def bundles_in(project: Path) -> list[Path]:
    """The bundles that lie in a project's folder, or beside a user's notebooks, by their names."""
    found = [path for folder in (project, project / MY_NOTEBOOKS) for path in folder.glob("*.zip")]
    return sorted(path for path in found if _is_bundle(path))


def _is_bundle(path: Path) -> bool:
    try:
        facts = path.stat()
    except OSError:  # removed meanwhile
        return False
    return _is_known_bundle(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=100)
def _is_known_bundle(path: Path, changed_at: int, size: int) -> bool:
    """The same, once for each content of the file."""
    return is_bundle(path)


def _project() -> Path | None:
    try:
        return project_root()
    except NoProject:  # a bundle needs none
        return None


def replay(named: str | None, speed: float = USUAL_SPEED, experiment: int | None = None, is_quiz: bool = False) -> None:
    """Play a recorded study in this terminal.

    Args:
        named: a bundle, a folder or a study's name; see `recording_path`.
        speed: times the study's own.
        experiment: with which to begin.
        is_quiz: stop before each verdict and ask.
    """
    with recorded_study(recording_path(named)) as study:
        playback = Playback(study)
        playback.set_speed(speed)
        if experiment is not None:
            playback.jump(experiment)
        playback.ask(is_quiz)
        viewer = Viewer(playback, Screen().line)
        viewer.say(_start_words(playback))
        if sys.stdin.isatty() and sys.stdout.isatty():
            _on_terminal(viewer)
        else:
            _in_one_go(viewer)
        if is_quiz:
            for line in outcome_lines(playback.outcome()):
                viewer.say(line)


def _start_words(playback: Playback) -> str:
    timeline, name = playback.timeline, playback.study.name
    began = clock(timeline.events[0]["time"]) if timeline.events else "no time"
    takes = duration(timeline.seconds / playback.head.speed)
    return (
        f"Replay of study {name}, which began {began} and took {duration(timeline.seconds)}; at "
        f"{playback.head.speed:g} times its speed that is {takes}. Nothing trains."
    )


class Viewer:
    """What a terminal shows of a replay: a line for each thing that happened; `line` prints one."""

    def __init__(self, playback: Playback, line: Callable[[str], None]) -> None:
        self.playback, self.say = playback, line
        self.told = playback.count  # events that are on the screen, or were jumped over
        self.asked: int | None = None  # index of the question that is on the screen
        self.typed: str | None = None  # digits after g; None while nothing is typed

    def show(self) -> None:
        """Print what happened since the last call, and the question where it stands at one."""
        playback = self.playback
        question, count = playback.question, playback.count
        events = playback.timeline.events
        if count > self.told:
            state = playback.look().state
            for event in events[self.told : count]:
                for told in news(event, state):
                    self._tell(told)
        self.told = count
        shown = playback.shown()
        if question is None or shown is None:
            self.asked = None
        elif question.index != self.asked:
            self.asked = question.index
            for line in (*question_lines(shown), f"  {CHOICES}"):
                self.say(line)

    def _tell(self, told: Experiment | Progress) -> None:
        if isinstance(told, Experiment):
            self.say(outcome_line(told))
        elif told.phase == "note":
            self.say(told.text)

    def press(self, key: str) -> bool:
        """Do what a key says; False for the end."""
        playback, key = self.playback, ARROWS.get(key, key)
        if self.typed is not None:
            self._type(key)
        elif key in CALL_KEYS and playback.question is not None:
            self.answer(CALL_KEYS[key])
        elif key == " ":
            playback.pause() if playback.head.is_playing else playback.play()
        elif key in ("n", "b"):
            playback.step(1 if key == "n" else -1)
            self.arrive()
        elif key in ("+", "-"):
            playback.set_speed(playback.head.speed * (FASTER if key == "+" else 1 / FASTER))
        elif key == "g":
            self.typed = ""
        return key not in ("q", "\x04")

    def answer(self, call: Call) -> None:
        self.say(f"  {answered_words(self.playback.answer(call), call)}")

    def _type(self, key: str) -> None:
        """The number of an experiment, digit by digit, until Enter."""
        assert self.typed is not None
        if key.isdecimal():
            self.typed += key
        elif key in ("\r", "\n") and self.typed:
            number, self.typed = int(self.typed), None
            try:
                self.playback.jump(number)
            except StudyError as error:
                self.say(str(error))
            self.arrive()
        else:
            self.typed = None

    def arrive(self) -> None:
        """After a jump: what lies between is not told."""
        self.told = self.playback.count
        number = self.playback.timeline.experiment_at(self.playback.moment)
        self.say(f"--- at experiment {number:04d}" if number is not None else "--- at the beginning")

    def live_line(self, now: Snapshot) -> str:
        """Where the replay is, and the keys."""
        when = datetime.fromtimestamp(now.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        moves = f"{self.playback.head.speed:g} ×" if self.playback.is_playing else "paused"
        if self.typed is not None:
            return f"jump to experiment: {self.typed}"
        if self.playback.question is not None:
            return f"{when} · {CHOICES}"
        progress = f" {bar(now.fraction)}" if now.activity == "training" else ""
        return f"{when} · {doing(now)}{progress} · {moves} · {HELP}"


def _in_one_go(viewer: Viewer) -> None:
    """Without a terminal: print all of the night, asking on the way where the quiz is on, a line for each answer."""
    playback = viewer.playback
    playback.pause()
    while True:
        playback.skip_to_question()
        viewer.show()
        if playback.question is None:
            return
        answer = sys.stdin.readline()
        if not answer:
            viewer.say("The input ended, so the quiz ends here.")
            return
        if (key := answer.strip()[:1].lower()) in CALL_KEYS:
            viewer.answer(CALL_KEYS[key])
        else:
            viewer.say(f"  {plain(answer, 40)!r} is no answer: {CHOICES}.")


def _on_terminal(viewer: Viewer) -> None:
    """Play until its end or until the user ends it; the line below moves."""
    playback = viewer.playback
    playback.play()
    with _single_keys() as read_keys:
        while True:
            viewer.show()
            _print_live(viewer.live_line(playback.look()))
            if playback.is_over and playback.question is None:
                break
            if not all(viewer.press(key) for key in read_keys(LOOK_SECONDS)):
                break
    print("\r\033[K", end="", flush=True)


def _print_live(line: str) -> None:
    print("\r\033[K" + cut(readable(line), shutil.get_terminal_size().columns - 1), end="", flush=True)


@contextmanager
def _single_keys() -> Iterator[Callable[[float], list[str]]]:
    """Within this block the terminal gives each key at once; the function waits for some seconds and returns them."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read_keys(seconds: float) -> list[str]:
        deadline = time.monotonic() + seconds
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return []
        typed = os.read(descriptor, 64).decode("utf-8", "replace")
        for sequence, key in ARROWS.items():
            typed = typed.replace(sequence, key)
        return list(typed)

    try:
        tty.setcbreak(descriptor)
        yield read_keys
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
