"""How notebooks show an error whose message says what to do: that message, without a traceback."""

from __future__ import annotations

import os
import re

RED, END_OF_COLOUR = "\x1b[31m", "\x1b[0m"
OPTION = re.compile(r"(`[^`]*`)|(?<![\w/.-])--([a-z][a-z-]*)")  # of the command line, outside of a command in backticks


def with_arguments(words: str) -> str:
    """A message that names options of the command line, for Python: `--max-cost` becomes the argument max_cost."""
    words = words.replace("with --name", "with another name").replace("another --name", "another name")
    return OPTION.sub(lambda found: found[1] or found[2].replace("-", "_"), words)


class Plain:
    """Mix-in for an exception whose message is written for users."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message, or the traceback with AUTORESEARCH_DEBUG, as on the command line."""
        assert isinstance(self, BaseException)
        if os.environ.get("AUTORESEARCH_DEBUG"):
            import traceback

            return traceback.format_exception(self)
        return [f"{RED}{self}{END_OF_COLOUR}"]
