"""A client of the package mcp, connected over standard input and output with `autoresearch mcp` as a real process."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from autoresearch_kernel.record.study import Study

Call = Callable[..., Awaitable[dict[str, Any]]]


class Refused(Exception):
    """A tool answered with an error; the message is its text."""


def server(study: Study, *words: str) -> Any:
    from mcp import StdioServerParameters

    command = ["-m", "autoresearch_kernel.cli", "mcp", *(words or ("--name", study.name))]
    return StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ), cwd=str(study.project))


@asynccontextmanager
async def session(study: Study, *words: str) -> AsyncIterator[Any]:
    from mcp import Client

    async with Client(server(study, *words)) as made:
        yield made


@asynccontextmanager
async def connected(study: Study, *words: str) -> AsyncIterator[Call]:
    """A function that calls a tool and returns what it answers. It raises Refused for an error."""
    async with session(study, *words) as made:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await made.call_tool(tool, arguments)
            if result.is_error:
                raise Refused(result.content[0].text)
            answer: dict[str, Any] = result.structured_content
            return answer

        yield call
