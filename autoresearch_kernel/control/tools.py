"""Are the command-line tools of the agent `command` there, and do they answer? For `autoresearch doctor --with`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..agents.command import CommandChat
from ..agents.command_check import check_tool, installed, line_of, missing_flags
from ..agents.options import tool_chat
from ..agents.tools import ToolError, read_tools
from ..record.study import StudyError
from ..system.shell import shell_command
from .checks import Check


def tools(project: Path, named: str, model: str | None = None) -> Iterator[Check]:
    """Whether the tool `named` answers one short question; of "all", which are installed. That asks them nothing."""
    try:
        if named != "all":
            yield _answers(tool_chat(project, {"with": named, "model": model}, None))
            return
        found = installed(project)
    except (StudyError, ToolError) as error:
        yield Check("tool", "fail", str(error))
        return
    yield from map(_is_installed, found)
    if not found:
        names = ", ".join(read_tools(project))
        yield Check("tool", "warn", f"none of {names} is on PATH", "Install one, or use another --agent.")


def _answers(chat: CommandChat) -> Check:
    check = check_tool(chat)
    level: Literal["ok", "warn", "fail"] = "ok" if check.cause is None else "fail" if check.refuses else "warn"
    return Check("tool", level, check.words.rstrip("."), facts={**chat.facts, "cause": check.cause})


def _is_installed(chat: CommandChat) -> Check:
    """Of a preset whose program is there: its version, and the flags that this version does not know."""
    facts, who = dict(chat.facts), f"{chat.who} {chat.version}".rstrip()
    if missing := missing_flags(chat):
        remedy = f"Change line {line_of(chat.tool, missing[0])} of {chat.tool.file}, or install another version."
        return Check("tool", "warn", f"{who} does not know {', '.join(missing)}", remedy, facts)
    ask = f"`{shell_command(f'doctor --with {chat.tool.name}')}` asks it one question."
    return Check("tool", "ok", f"{who} is installed", ask, facts)
