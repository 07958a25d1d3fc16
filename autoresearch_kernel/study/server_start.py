"""Asks the server or tool of a study's model before anything trains, and keeps what that took for the study's record.

The process that asks need not be the one that runs the study, so the calls are handed over in the environment.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..agents.chat import Chat
from ..agents.command import CommandChat
from ..agents.command_check import check_tool
from ..agents.conversation import LEAST_REPLY_TOKENS
from ..agents.model import ModelClient
from ..agents.prices import count_tokens
from ..agents.server_check import ask_server
from ..core.types import Call
from ..record.study import StudyError

ASKED = "AUTORESEARCH_SERVER_ASKED"
OTHER_TOKENS = 2_500  # of a prompt besides program.md and train.py, at the least
COUNT_RATIO = 1.4  # of our count to the real one
FRESH_SECONDS = 120.0  # in which an answer holds: from the question to the supervisor's start


def require_server(name: str, chat: ModelClient, project: Path, say: Callable[[str], None]) -> None:
    """Ask the model of study `name` one question, unless a process that starts the study has just done so.

    When the server is busy or a usage limit is reached for now, the user is told so, and the study starts all the same.
    Raises StudyError for what a user has to change: a wrong key, an unknown model, a server that is down, a context
    that is too short, a tool that is not installed, not signed in or does not know a flag.
    """
    asked = _asked()
    if asked.get("study") == name and time.time() - asked["at"] < FRESH_SECONDS:
        return
    if isinstance(chat, CommandChat):
        check = check_tool(chat)
    else:
        assert isinstance(chat, Chat)
        check = ask_server(chat, least_context(project))
    if check.refuses:
        raise StudyError(f"{check.words} Nothing was started.")
    say(check.words if check.cause is None else f"{check.words} The study starts all the same and asks again.")
    calls = asked["calls"] if asked.get("study") == name else []  # a corpus was built since the first
    calls += [asdict(check.call)] if check.call is not None else []
    os.environ[ASKED] = json.dumps({"study": name, "at": time.time(), "calls": calls})


def take_asked(name: str) -> list[Call]:
    """The calls of `require_server` for this study, once."""
    asked = _asked()
    if asked.get("study") != name:
        return []
    del os.environ[ASKED]
    return [Call(**call) for call in asked["calls"]]


def _asked() -> dict[str, Any]:
    value = json.loads(os.environ.get(ASKED) or "{}")
    return value if isinstance(value, dict) else {}


def least_context(project: Path) -> int:
    """Tokens of the shortest prompt that a study of this project can have, with a reply."""
    files = [path for path in (project / "program.md", project / "train.py") if path.is_file()]
    ours = sum(count_tokens(path.read_text(encoding="utf-8", errors="replace")) for path in files)
    return int((ours + OTHER_TOKENS) / COUNT_RATIO) + LEAST_REPLY_TOKENS
