"""Which command-line tool the agent `command` starts: its preset in presets/agents.yaml, or a command line of the user.

Reads and checks the file. It starts nothing and knows nothing of replies.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import Plain
from ..system.locations import originals

TOOLS = "presets/agents.yaml"
LIMIT_SECONDS = 1200.0  # of one question: models that think take up to twenty minutes for a long reply
LIMIT_MINUTES = 30.0  # of a pause at a usage limit without a stated reset
OUTPUTS = ("text", "json", "lines")
SHELL_ONLY = {"|", "||", "&&", ";", ">", ">>", "<", "&"}
# A key in a command line would be in study.json and in the list of processes.
_SECRET = re.compile(r"\b(?:sk|gsk|xai|ghp|hf|nvapi)[-_][A-Za-z0-9_-]{12,}|\bAIza[A-Za-z0-9_-]{20,}")


class ToolError(Plain, ValueError):
    """A tool that cannot be used as it is named or described; the message says what to change."""


@dataclass(frozen=True)
class Place:
    """Where the output of a tool says something: the values at a path, of objects with certain values.

    Args:
        at: keys with dots between them; * stands for every key. "" stands for nothing.
        when: values at paths that an object must have; "*" for any value.
        take: "last" or "all" of the objects.
        status: where an HTTP status is.
    """

    at: str = ""
    when: Mapping[str, Any] = field(default_factory=dict)
    take: str = "last"
    status: str = ""


@dataclass(frozen=True)
class Tool:
    """How one tool is asked and understood; presets/agents.yaml explains the fields."""

    name: str
    command: str
    arguments: tuple[str, ...] = ()
    title: str = ""
    model: tuple[str, ...] = ()
    needs_model: bool = False
    stdin: bool = True
    help: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    output: str = "text"
    reply: Place = field(default_factory=Place)
    failed: Place = field(default_factory=Place)
    tokens_in: tuple[str, ...] = ()
    tokens_out: tuple[str, ...] = ()
    cost: tuple[str, ...] = ()
    sign_in: str = ""
    sign_in_words: tuple[str, ...] = ()
    limit_words: tuple[str, ...] = ()
    limit_minutes: float = LIMIT_MINUTES
    limit_seconds: float = LIMIT_SECONDS
    file: Path | None = None  # in which it is described; None for a command line

    @property
    def called(self) -> str:
        """Its name for messages."""
        return self.title or self.name

    @property
    def has_model_within(self) -> bool:
        """Whether its arguments name a model in any question, and not only where one is asked for."""
        return any("{model}" in word for word in self.arguments)

    @property
    def takes_model(self) -> bool:
        return bool(self.model) or self.has_model_within


def find_tool(named: str, project: Path) -> Tool:
    """The preset of that name, or the command line that a user typed. Raises ToolError."""
    named = named.strip()
    presets = read_tools(project)
    if named in presets:
        return presets[named]
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise ToolError(f"--with {named!r} cannot be read as a command line: {error}. Close its quotes.") from error
    if not words:
        raise ToolError(f"--with needs the name of a tool ({', '.join(sorted(presets))}) or a command line.")
    if _SECRET.search(named):
        raise ToolError(
            "--with holds something that looks like a key, which study.json would keep. Leave it out, give the tool "
            f"its key in a variable, and list this variable under `keep` of an entry in {TOOLS}."
        )
    if found := sorted(SHELL_ONLY & set(words)):
        raise ToolError(
            f"--with {named!r} uses {found[0]!r}, which only a shell understands. Put the line into a script, and name "
            "the script."
        )
    return Tool(Path(words[0]).name, words[0], tuple(words[1:]))


def no_place_for(model: str, tool: Tool) -> str:
    """That a tool cannot be told which model is asked for, and what to do."""
    if tool.file is not None:
        return f"{tool.called} is told no model: leave --model {model} out, or add the field `model` to {tool.file}."
    line = shlex.join((tool.command, *tool.arguments))
    return (
        f"The command line of --with has no place for --model {model}: leave --model out, or write {{model}} where the "
        f'name belongs, as in `--with "{line} --model {{model}}"`.'
    )


def read_tools(project: Path) -> dict[str, Tool]:
    """The tools of the project's presets/agents.yaml by name, and those of this program that it does not describe."""
    own, shipped = project / TOOLS, originals() / TOOLS
    tools = _read(shipped, shipped.stat().st_mtime_ns) if shipped.is_file() else {}
    if own.is_file() and own.resolve() != shipped.resolve():
        tools = tools | _read(own, own.stat().st_mtime_ns)
    return tools


@cache
def _read(path: Path, changed_ns: int) -> dict[str, Tool]:
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ToolError(f"{path} cannot be read: {error}. Mend or remove the file.") from error
    if not isinstance(described, dict | None):
        raise ToolError(f"{path} holds {described!r:.80}. It needs entries `NAME: {{command: ..., arguments: [...]}}`.")
    return {str(name): _tool(path, str(name), entry) for name, entry in (described or {}).items()}


def _tool(path: Path, name: str, entry: Any) -> Tool:
    """One entry of the file. Raises ToolError naming the field that is wrong."""
    if not isinstance(entry, dict) or not isinstance(entry.get("command"), str):
        raise ToolError(f"{path}: {name} needs a field `command`, the program that is started.")
    kinds = {f.name: str(f.type) for f in fields(Tool) if f.name not in ("name", "file")}
    values: dict[str, Any] = {"name": name, "file": path}
    for key, value in entry.items():
        if key not in kinds:
            raise ToolError(f"{path}: {name} has a field {key!r}. Known are {', '.join(kinds)}.")
        try:
            values[key] = _value(kinds[key], value)
        except (TypeError, ValueError, re.error) as error:
            raise ToolError(f"{path}: {name}: the field {key} is {value!r:.80}: {error}.") from error
        if key.endswith("_words"):
            for pattern in values[key]:
                _check_pattern(path, name, pattern)
    for file in values.get("files", {}):
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise ToolError(f"{path}: {name}: the file {file!r} lies outside of the working folder. Name one in it.")
    if values.get("output", "text") not in OUTPUTS:
        raise ToolError(f"{path}: {name}: output is {values['output']!r}. Choose one of {', '.join(OUTPUTS)}.")
    return Tool(**values)


def _value(kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        if not isinstance(value, list):
            raise TypeError("it has to be a list")
        for item in value:
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                raise TypeError(f"{item!r:.80} is no text; put it in quotes")
        return tuple(map(str, value))
    if kind == "Place":
        if not isinstance(value, dict):
            raise TypeError("it has to have `at` and perhaps `when`")
        place = Place(**value)
        if not all(isinstance(text, str) for text in (place.at, place.status)) or place.take not in ("last", "all"):
            raise TypeError("`at` and `status` have to be text, and `take` has to be last or all")
        if not isinstance(place.when, dict):
            raise TypeError("`when` has to be paths with values")
        return place
    if kind.startswith("Mapping"):
        if not isinstance(value, dict):
            raise TypeError("it has to be names with values")
        if wrong := [item for item in value.values() if not isinstance(item, str | int | float)]:
            raise TypeError(f"{wrong[0]!r:.80} is no text; put it in quotes")
        return {str(key): str(item) for key, item in value.items()}
    if kind == "float":
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise TypeError("it has to be a number above 0")
        return float(value)
    if not isinstance(value, bool if kind == "bool" else str):
        raise TypeError("it has to be true or false" if kind == "bool" else "it has to be text")
    return value


def _check_pattern(path: Path, name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ToolError(f"{path}: {name}: {pattern!r} is no regular expression: {error}.") from error
