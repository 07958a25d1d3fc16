"""Which folders, names and values of this user and machine must not get into what others read."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.sanitize import Private
from .environment import is_inherited, is_secret
from .locations import home_folder

LEAST_VALUE = 6  # characters of the value of an environment variable that can be told from words of code
_OWN_VARIABLES = ("AUTORESEARCH_", "OPENAI_MODEL", "PYTHON", "PYTEST_")  # whose values a study may record
_LIKE_A_NUMBER = re.compile(r"[\W\d_]*")  # versions, sizes, switches
_RANDOM = re.compile(r"(?=.*[A-Za-z])(?=.*\d)[\w.+=-]{10,}")  # a value that code and prose do not contain by chance


@dataclass(frozen=True)
class EnvironmentValue:
    """One line of the value of an environment variable."""

    name: str
    value: str
    is_certain: bool  # it is a secret, or no word of code or prose; otherwise it may stand in a text by chance


def private_to(project: Path) -> Private:
    """What is private on this machine, for a study of `project`."""
    names = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER")]
    homes = [str(home_folder() or "")]
    with suppress(KeyError):  # a user without an entry, as in a container
        entry = pwd.getpwuid(os.getuid())
        names.append(entry.pw_name)
        homes.append(entry.pw_dir)
    host = os.uname().nodename
    return Private(
        project=_spellings([str(project)]),
        homes=_spellings(homes),
        names=tuple(dict.fromkeys(filter(None, names))),
        hosts=tuple(dict.fromkeys(filter(None, (host, host.partition(".")[0])))),
    )


def full_name() -> str:
    """The name of this user as the system knows it, such as `Alice Example`; "" where it knows none."""
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0].strip()
    return ""


def environment_values(environ: Mapping[str, str]) -> Iterator[EnvironmentValue]:
    """The values of a user's own environment variables, without those that say nothing about a person."""
    for name, text in sorted(environ.items()):
        if is_inherited(name) or name.startswith(_OWN_VARIABLES):
            continue
        for line in map(str.strip, text.splitlines()):
            if len(line) >= LEAST_VALUE and not (_LIKE_A_NUMBER.fullmatch(line) and not is_secret(name)):
                is_certain = is_secret(name) or _RANDOM.fullmatch(line) is not None
                yield EnvironmentValue(name, line, is_certain)


def _spellings(folders: list[str]) -> tuple[str, ...]:
    """The folders and what their links lead to; without the root and what is no path."""
    found = [path for folder in folders if folder for path in (os.path.abspath(folder), os.path.realpath(folder))]
    return tuple(dict.fromkeys(path for path in found if path.count("/") > 1 or len(path) > 4))
