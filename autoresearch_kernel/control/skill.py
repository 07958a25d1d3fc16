"""Installs the skill that teaches a coding agent to propose experiments in its own conversation.

`SKILL.md` beside this module is the skill; `presets/skills.yaml` says where agents read skills.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..record.study import StudyError
from ..system.files import write_atomic
from ..system.locations import originals
from ..system.shell import shell_command

SKILLS = "presets/skills.yaml"
NAME = "autoresearch"  # of the skill, and of its folder
_COMMAND = re.compile(r"(^ {4}|`)autoresearch (?=[a-z])", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where one agent reads skills."""

    title: str
    project: str  # folder of skills in a project
    home: str  # and in the user's home
    read_by: tuple[str, ...] = ()  # other agents that read the same folders
    usual: bool = False  # it gets the skill when no agent is named

    @property
    def readers(self) -> str:
        return ", ".join((self.title, *self.read_by))


def skill_text(is_elsewhere: bool = False) -> str:
    """SKILL.md, with the command as this installation is started: from the working folder, or from anywhere."""
    text = Path(__file__).with_name("SKILL.md").read_text(encoding="utf-8")
    program = shell_command("", is_elsewhere).strip()
    return _COMMAND.sub(lambda found: f"{found[1]}{program} ", text)


def install_skill(project: Path, agent: str | None, *, is_home: bool = False, force: bool = False) -> str:
    """Write the skill to where `agent` reads it, or all usual agents; what was done, in a line for each file.

    A file that differs from this version's skill is left alone without `force`. Raises StudyError for that, and for an
    agent that presets/skills.yaml does not describe.
    """
    places = read_places(project)
    if agent is not None and agent not in places:
        raise StudyError(f"{SKILLS} describes no agent {agent!r}. It describes {', '.join(places)}; add yours there.")
    chosen = [places[agent]] if agent is not None else [place for place in places.values() if place.usual]
    targets = {_target(project, place, is_home): place for place in chosen}
    text = skill_text(is_elsewhere=is_home)
    if not force and (edited := [target for target in targets if _differs(target, text)]):
        raise StudyError(
            f"{edited[0]} differs from the skill of this version and would be overwritten. Use --force to replace it."
        )
    return "\n".join(_installed(targets, text))


def _installed(targets: Mapping[Path, Place], text: str) -> Iterator[str]:
    for target, place in targets.items():
        write_atomic(target, text)
        yield f"{target} is installed, for {place.readers}."
    yield "Begin a new conversation there and ask for experiments, as in: run ten experiments on this project."


def _target(project: Path, place: Place, is_home: bool) -> Path:
    folder = Path(os.path.expanduser(place.home)) if is_home else project / place.project
    return folder / NAME / "SKILL.md"


def _differs(target: Path, text: str) -> bool:
    return target.is_file() and target.read_text(encoding="utf-8", errors="replace") != text


def read_places(project: Path) -> dict[str, Place]:
    """Where agents read skills, by the agent's name: the project's own file first, else the one of this program."""
    own = project / SKILLS
    path = own if own.is_file() else originals() / SKILLS
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{path} cannot be read: {error}. Mend or remove the file.") from error
    if not isinstance(described, dict):
        raise StudyError(f"{path} has no entries `NAME: {{title: ..., project: ..., home: ...}}`. Mend or remove it.")
    return {str(name): _place(path, str(name), entry) for name, entry in described.items()}


def _place(path: Path, name: str, entry: Any) -> Place:
    fields = entry if isinstance(entry, dict) else {}
    for key in ("title", "project", "home"):
        if not isinstance(fields.get(key), str):
            raise StudyError(f"{path}: {name} needs a field `{key}` with text.")
    read_by = fields.get("read_by") or []
    if not isinstance(read_by, list):
        raise StudyError(f"{path}: {name}: the field `read_by` has to be a list of names.")
    return Place(
        fields["title"], fields["project"], fields["home"], tuple(map(str, read_by)), fields.get("usual") is True
    )
