"""Which folders and names of this user and machine must not get into a notebook, a record or a prompt."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

from ..core.sanitize import Private
from .locations import home_folder


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


def _spellings(folders: list[str]) -> tuple[str, ...]:
    """The folders and what their links lead to; without the root and what is no path."""
    found = [path for folder in folders if folder for path in (os.path.abspath(folder), os.path.realpath(folder))]
    return tuple(dict.fromkeys(path for path in found if path.count("/") > 1 or len(path) > 4))
