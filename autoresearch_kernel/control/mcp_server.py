"""A server of the Model Context Protocol on standard input and output, for an agent that drives one study.

Standard output carries the protocol alone. The package `mcp` is an extra; this module is its home.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..core.version import __version__
from ..record.study import StudyError
from .tool_functions import PREFIX, STUDY, TOOLS

INSTRUCTIONS = (
    "These tools drive one study of autoresearch, in which every idea is one edit of train.py that trains for a fixed "
    "time, and val_bpb (bits per byte, lower is better) decides. In a study with the agent `human` you propose: call "
    "`ask`, think of one experiment, call `propose`, then `wait` until the state is no longer `working`, and begin "
    "again. When a state is `paused`, `ended` or `not running`, tell the person what the message says and stop. In "
    "other studies you can look, hint, pause, resume and stop."
)


def serve(name: str | None) -> None:
    """Serve the tools until the client closes standard input; `name` is the study, by default the one touched last.

    The study is opened at each call. While there is none, the answer says so, and the server goes on: a client starts
    it once, perhaps before the study.
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ModuleNotFoundError as error:
        raise StudyError(
            "The MCP server needs the package mcp, version 2 or later, which is an extra: "
            "pip install 'autoresearch-kernel[mcp]'"
        ) from error
    if name:
        STUDY.set(name)
    server = MCPServer("autoresearch", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    for tool in TOOLS:
        server.add_tool(_told(tool), name=tool.__name__.removeprefix(PREFIX))
    server.run("stdio")


def _told(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool, with errors as the kind whose message the client gets."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    async def called(**arguments: Any) -> Any:
        try:
            return await tool(**arguments)
        except StudyError as error:
            raise ToolError(str(error)) from error

    return called
