"""The Python text of what a user has: a script, a notebook, or a script that was exported from one."""

from __future__ import annotations

import json
import re

from ..cell import SourceError
from ..syntax import parsed
from .draft import Finding

_EXPORTED = re.compile(r"^# In\[[ \d]*\]:\s*$", re.MULTILINE)  # how nbconvert marks cells
_MAGIC = re.compile(r"^(\s*)([!%].*)$")
_WRITES_TRAIN = re.compile(r"%%writefile\s+(?:-a\s+)?\S*train\S*\.py\s*\n")
_OTHER_CELL = re.compile(r"%%(?!time\b|timeit\b|capture\b|prun\b)\w+")  # its body is no Python of this notebook
MAGIC_WORDS = "left as a comment: a training runs no shell commands and no magics"


def python_text(text: str, is_notebook: bool = False) -> tuple[str, list[Finding]]:
    """The source with line ends `\\n` and cells marked by `# %%`, and the magics that became comments.

    Raises SourceError for a notebook that cannot be read.
    """
    text = _of_notebook(text) if is_notebook else text
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = _EXPORTED.sub("# %%", text).rstrip("\n") + "\n"
    if parsed(text) is not None:
        return text, []
    lines, found = text.split("\n"), []
    for number, line in enumerate(lines, 1):
        if magic := _MAGIC.match(line):
            lines[number - 1] = f"{magic[1]}pass  # {magic[2]}" if magic[1] else f"# {magic[2].replace('%%', '')}"
            found.append(Finding(number, line.strip(), MAGIC_WORDS))
    without = "\n".join(lines)
    return (without, found) if parsed(without) is not None else (text, [])


def _of_notebook(text: str) -> str:
    try:
        cells = [(str(cell["cell_type"]), "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"The notebook cannot be read ({error}). Export it as Python and adopt that file.") from error
    for _, source in cells:
        if writes := _WRITES_TRAIN.match(source.lstrip()):
            return source.lstrip()[writes.end() :]
    return "\n\n".join(filter(None, (_cell(kind, source) for kind, source in cells)))


def _cell(kind: str, source: str) -> str:
    """As percent text; a cell that is no Python of this notebook becomes a comment."""
    if not source.strip():
        return ""
    if kind == "code" and not _OTHER_CELL.match(source.lstrip()):
        return f"# %%\n{source}"
    commented = "\n".join(f"# {line.replace('%%', '')}".rstrip() for line in source.split("\n"))
    return f"# %% [markdown]\n{commented}"
