"""The controls of a replay in the panel (`player.js`), and what they do to a Playback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Unicode

from ...core.format import clock, duration
from ...core.playback import SPEEDS
from ...core.sanitize import is_number
from ...record.bundle import recorded_study
from ...record.study import StudyError
from ...show.playback import Playback
from ...show.quiz_words import answered_words, outcome_lines, question_lines

HERE = Path(__file__).parent


class Player(anywidget.AnyWidget):
    """Buttons, a slider and the question of the quiz; `asked` is what the viewer did last."""

    _esm = HERE / "player.js"
    _css = HERE / "panel.css"
    data = Unicode("null").tag(sync=True)  # JSON
    asked = Unicode("").tag(sync=True)  # JSON: count, what, value


def count_of(asked: str) -> int:
    """The count of a request; 0 where there is none yet."""
    with suppress(ValueError, TypeError, KeyError):
        return int(json.loads(asked)["count"])
    return 0


class Replay:
    """One replay in a panel: the recording, open until `close`, and where it is."""

    def __init__(self, path: Path, before: str | None) -> None:
        """`before` is the study that the panel showed. Raises StudyError where there is no recording."""
        self.path, self.before = path, before
        self.said: list[str] = []  # below the controls
        self.count = 0  # of the last request that was heard
        with ExitStack() as stack:
            self.playback = Playback(stack.enter_context(recorded_study(path)))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Remove what a bundle was unpacked to."""
        self._stack.close()

    def act(self, asked: str) -> bool:
        """Do what the viewer asked for; False for the end of the replay. Raises StudyError for what cannot be."""
        try:
            request = json.loads(asked)
            what, value, count = request["what"], request["value"], int(request.get("count", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(f"The browser sent {asked[:80]!r}, which is no request. Reload the page.") from error
        self.count = max(self.count, count)  # two browsers may count at once
        playback = self.playback
        if what in ("step", "speed", "jump", "seek") and not is_number(value):
            raise StudyError(f"{value!r} is no number, so the replay stays where it is.")
        match what:
            case "play" | "pause":
                getattr(playback, what)()
            case "step":
                playback.step(1 if value > 0 else -1)
            case "speed":
                playback.set_speed(float(value))
            case "jump":
                playback.jump(int(value))
            case "seek":
                playback.seek(float(value))
            case "quiz":
                playback.ask(bool(value))
                self.said = []
            case "answer":
                self.answer(value)
            case "end":
                return False
        return True

    def answer(self, call: Any) -> str:
        """Answer the open question; the sentence that says what the rule says."""
        words = answered_words(self.playback.answer(call), call)
        self.said = [words]
        return words

    def data(self) -> dict[str, Any]:
        """What the browser shows."""
        playback, timeline = self.playback, self.playback.timeline
        shown = playback.shown()
        asked = None if shown is None else question_lines(shown)
        began = clock(timeline.events[0]["time"]) if timeline.events else ""
        said = outcome_lines(playback.outcome()) if playback.is_quiz and playback.is_over else self.said
        return {
            "name": playback.study.name,
            "count": self.count,
            "moment": round(playback.moment, 3),
            "seconds": timeline.seconds,
            "when": f"{duration(playback.moment)} of {duration(timeline.seconds)} · began {began}",
            "is_playing": playback.is_playing,
            "is_over": playback.is_over,
            "speed": playback.head.speed,
            "speeds": list(SPEEDS),
            "experiment": timeline.experiment_at(playback.moment),
            "experiments": [min(timeline.experiments), max(timeline.experiments)] if timeline.experiments else [],
            "is_quiz": playback.is_quiz,
            "question": asked,
            "said": said,
        }


def as_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, allow_nan=False)
