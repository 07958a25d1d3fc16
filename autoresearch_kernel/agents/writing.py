"""The last lines of what an agent writes while it writes, as inert text for people who watch.

Nothing here is used as a reply. A line may hold anything: control characters and secrets are taken out, and the word
that is being written is left out, because half of a secret is not recognised as one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ..core.types import ignore
from .server import redact
from .untrusted_text import clean_output

EVERY_SECONDS = 0.5
MOST_LINES, MOST_LINE_CHARS = 6, 240
LOOKED_AT = 8_000  # characters at the end of what was written
_TO_LAST_BLANK = re.compile(r".*\s", re.DOTALL)


def last_lines(text: str) -> str:
    """The last lines of `text` without its last word, at most MOST_LINES of MOST_LINE_CHARS; "" where there is none."""
    tail = text[-LOOKED_AT:]
    if len(text) > LOOKED_AT:
        tail = re.sub(r"^\S*", "", tail)  # a word that was cut
    whole = _TO_LAST_BLANK.match(tail)
    if whole is None:
        return ""
    lines = [line.strip() for line in clean_output(redact(whole[0]), LOOKED_AT).splitlines()]
    return "\n".join(line[-MOST_LINE_CHARS:] for line in [line for line in lines if line][-MOST_LINES:])


class Telling:
    """Tells a listener the last lines of a growing text, at most every EVERY_SECONDS."""

    def __init__(self, listen: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.listen, self.clock = listen, clock
        self._again_at = clock()

    def tell(self, text: Callable[[], str]) -> None:
        """Call `text` for what was written so far, if it is time and there is a listener."""
        if self.listen is ignore or self.clock() < self._again_at:
            return
        self._again_at = self.clock() + EVERY_SECONDS
        self.listen(last_lines(text()))
