"""A recorder in the place of the functions that talk to a supervisor, and what tests of the panel share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from autoresearch_kernel.control import actions
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.record.study import StudyError, WouldOverwrite
from autoresearch_kernel.share.clean import Doubt
from autoresearch_kernel.share.command import Unanswered
from tests.event_writer import Writer

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> & 'quotes' \""


class Recorder(SimpleNamespace):
    """The functions of control.py, written down instead of done: talking to a supervisor is not the subject here."""

    NO_READERS = actions.NO_READERS

    def __init__(self, writer: Writer) -> None:
        super().__init__(asked=[], seen=[], studies=[writer.study])

    def study_names(self, project: Path) -> list[str]:
        return [study.name for study in self.studies]

    def open_study(self, name: str, project: Path) -> Any:
        return next(study for study in self.studies if study.name == name)

    def problems(self, name: str, project: Path, fields: Mapping[str, Any]) -> dict[str, str]:
        return actions.problems(name, project, fields)

    def begin(self, name: str, project: Path, fields: Mapping[str, Any], say: Callable[[str], None]) -> Any:
        if "refuse" in self.__dict__:
            raise actions.SettingsRefused({"name": "A branch of that name is left.", "seed": "No."})
        self.asked.append(("begin", name, dict(fields)))
        return self.studies[0]

    def go_on(self, study: Any, fields: Mapping[str, Any]) -> int:
        self.asked.append(("go_on", study.name, dict(fields)))
        return 1234

    def say_to(self, study: Any, command: str, text: str = "", train_sha256: str = "") -> str:
        self.seen.append(train_sha256)
        if command == "pause" and "refuse" in self.__dict__:
            raise StudyError("No process runs it.")
        self.asked.append((command, text))
        return f"answer to {command}"

    def hint(self, study: Any, text: str = "", clear: bool = False) -> str:
        return self.say_to(study, "hint", text)

    def stop(self, study: Any, now: bool = False) -> str:
        self.asked.append(("stop", now))
        return "stops"

    def approve(self, study: Any, source: str | None = None, why: str = "", seen_sha256: str = "") -> str:
        self.seen.append(seen_sha256)
        self.asked.append(("approve", source, why))
        return "it is checked"

    def finish(self, study: Any, unsafe: bool = False) -> str:
        self.asked.append(("finish", study.name))
        return "Process 1234 measures the result"

    def attribute(self, study: Any, seeds: int | None = None, unsafe: bool = False) -> str:
        self.asked.append(("attribute", study.name))
        return "Process 1234 runs in the background"

    def share(self, study: Any, prompts: bool, yes: bool, say: Callable[[int, int], None]) -> str:
        say(20, 62)
        if "private" in self.__dict__ and not yes:
            raise Unanswered([Doubt("a name", "ada", 3, "history.jsonl, line 2")])
        self.asked.append(("share", study.name, yes))
        return "nov23.zip: 0.1 MB"

    def promote(self, study: Any, force: bool = False) -> str:
        if "edited" in self.__dict__ and not force:
            raise WouldOverwrite(
                "train.py is edited.", remedy="Use --force.", in_panel="Use `lab.promote(force=True)`."
            )
        self.asked.append(("promote", force))
        return "done"


def shown_buttons(panel: Panel) -> list[str]:
    return [button.description for button in panel.acts.children]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def gone(*arguments: Any) -> str:
    raise OSError("gone")
