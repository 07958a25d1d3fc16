"""Checks a command-line tool before anything trains: it is there, it knows the flags of its preset, and it answers."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.format import duration
from .causes import ServerCause
from .command import CommandChat
from .failures import Failure
from .model import Reply
from .server_check import ServerCheck
from .tools import TOOLS, Tool, read_tools

ANSWER_SECONDS = 180.0  # until it says OK; a tool that starts on a busy machine takes up to a minute
QUESTION = "Answer with the one word OK."
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")


def check_tool(chat: CommandChat) -> ServerCheck:
    """Whether the tool of a study can be used; it is asked one short question."""
    if wrong := wrong_with(chat):
        return ServerCheck(wrong, ServerCause.REQUEST)
    before, chat.limit_seconds = chat.limit_seconds, min(ANSWER_SECONDS, chat.limit_seconds)
    try:
        answer = chat.ask_once(QUESTION)
        if isinstance(answer, Reply):
            return ServerCheck(_answers(chat, answer), call=answer.call)
        call = answer.call if answer.call is not None and answer.call.tokens_in else None
        # What no wording explains is refused now: it would fail in each of the night's questions.
        cause = ServerCause.REQUEST if answer.cause is ServerCause.SERVER else answer.cause
        return ServerCheck(_fails(chat, answer), cause, call)
    finally:
        chat.limit_seconds = before


def _answers(chat: CommandChat, reply: Reply) -> str:
    call, version = reply.call, f" {chat.version}" if chat.version else ""
    about = "about " if call.estimated else ""
    return (
        f"{chat.tool.called}{version} answers ({about}{call.tokens_in} + {call.tokens_out} tokens). It is your own "
        "program with your own sign-in, so each proposal counts towards your usage limits there."
    )


def _fails(chat: CommandChat, failure: Failure) -> str:
    """What failed and the next step; no field of the preset sets how long this question may take."""
    if failure.cause is not ServerCause.SLOW:
        return chat.failure_words(failure)
    limit = duration(chat.limit_seconds)
    return (
        f"No reply from {chat.who} to one short question in {limit}: {failure.why}. Start {chat.tool.command} in a "
        "terminal and ask it something, to see what it waits for."
    )


def wrong_with(chat: CommandChat) -> str:
    """Why the tool cannot be used, without asking it anything; "" when it can."""
    tool = chat.tool
    if chat.program() is None:
        is_preset = tool.file is not None
        known = "" if is_preset else f" The presets are {', '.join(sorted(read_tools(chat.project or Path())))}."
        return (
            f"There is no program {tool.command!r} on PATH. Install {tool.called}, or name another tool with "
            f"--with.{known}"
        )
    if tool.has_model_within and not chat.asked_model:
        return f"{tool.called} needs --model NAME, which takes the place of {{model}} in its command line."
    if tool.needs_model and not chat.asked_model:
        return f"{tool.called} needs --model NAME, one of those that `{tool.command} list` shows."
    if missing := missing_flags(chat):
        flag, where = missing[0], f"{tool.file}, line {line_of(tool, missing[0])}" if tool.file else TOOLS
        version = f" {chat.version}" if chat.version else ""
        return (
            f"{tool.called}{version} does not know the flag {flag}, says its `{' '.join((tool.command, *tool.help))}`. "
            f"Change {where}, or install another version."
        )
    return ""


def missing_flags(chat: CommandChat) -> list[str]:
    """Flags of the preset that the help of the installed tool does not list; empty where it prints no help."""
    tool = chat.tool
    told = chat.told(tool.help) if tool.help else ""
    words = (word.split("=")[0] for word in (*tool.arguments, *(tool.model if chat.asked_model else ())))
    flags = dict.fromkeys(word for word in words if _FLAG.fullmatch(word) and word not in tool.unlisted)
    return [flag for flag in flags if told and not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", told)]


def line_of(tool: Tool, word: str) -> int:
    """The line of the file that describes a tool on which a word stands; that of the tool's name when none does."""
    assert tool.file is not None
    lines = tool.file.read_text(encoding="utf-8").splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"{tool.name}:")), 0)
    for i, line in enumerate(lines[start + 1 :], start + 1):
        if line and not line[0].isspace() and not line.startswith("#"):
            break
        if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", line):
            return i + 1
    return start + 1


def installed(project: Path) -> list[CommandChat]:
    """The tools of presets/agents.yaml whose program is on PATH; a chat of each, which has asked nothing."""
    chats = (CommandChat(tool, project=project) for tool in read_tools(project).values())
    return [chat for chat in chats if chat.program() is not None]
