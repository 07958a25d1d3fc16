"""How notebooks show an error whose message says what to do: that message, without a traceback."""

from __future__ import annotations

import os
import re

RED, END_OF_COLOUR = "\x1b[31m", "\x1b[0m"
OPTION = re.compile(r"(`[^`]*`)|(?<![\w/.-])--([a-z][a-z-]*)")  # of the command line, outside of a command in backticks


def with_arguments(words: str) -> str:
    """A message that names options of the command line, for Python: `--max-cost` becomes the argument max_cost."""
    words = words.replace("with --name", "with another name").replace("another --name", "another name")
    return OPTION.sub(lambda found: found[1] or _argument(found[2]), words)


def _argument(option: str) -> str:
    """The name of an option in Python, where `with` is a word of the language."""
    return "with_" if option == "with" else option.replace("-", "_")


def is_debugging() -> bool:
    """Whether errors are shown with their traceback."""
    return bool(os.environ.get("AUTORESEARCH_DEBUG"))


class Plain:
    """Mix-in for an exception whose message is written for users."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message, or the traceback with AUTORESEARCH_DEBUG, as on the command line."""
        assert isinstance(self, BaseException)
        if is_debugging():
            import traceback

            return traceback.format_exception(self)
        return [f"{RED}{self}{END_OF_COLOUR}"]


class MachineFailed(Plain, RuntimeError):
    """A training or a scoring could not start or be watched, which says nothing about the experiment's code.

    `may_be_the_code`: the code had begun to run, so a second failure of this kind counts as the experiment's own.
    """

    def __init__(self, message: str, may_be_the_code: bool = False) -> None:
        super().__init__(message)
        self.may_be_the_code = may_be_the_code
