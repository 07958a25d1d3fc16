"""Where the project and the cache lie, and the environment variables that this program and prepare.py share.

FileNotFoundError
  NoProject           no folder with prepare.py and train.py
    ForeignProject    such a folder, whose prepare.py is another program's
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..core.errors import Plain
from .shell import shell_command

OWN_PREPARE = re.compile(r"^class TrainingClock\b", re.MULTILINE)  # defined by our prepare.py, and used by our train.py


class NoProject(Plain, FileNotFoundError):
    """There is no project where one is needed; the message says how to make one."""


class ForeignProject(NoProject):
    """A prepare.py that is not this program's, such as that of the original autoresearch."""


class NoHome(Plain, OSError):
    """No variable and no entry of the system says where corpora and locks are kept."""


def project_root(folder: str | Path | None = None) -> Path:
    """The folder with our prepare.py and train.py: `folder`, or the working folder, or the nearest one above it.

    Example:
        >>> (project_root() / "prepare.py").is_file()
        True

    Raises NoProject when there is none, ForeignProject when its prepare.py is another program's. Nothing is executed.
    """
    here = Path.cwd() if folder is None else Path(folder).resolve()
    for candidate in (here, *here.parents) if folder is None else (here,):
        if (candidate / "prepare.py").is_file() and (candidate / "train.py").is_file():
            return _own(candidate)
    checkout = originals()
    own = f", or change to {checkout}, the checkout of this program" if (checkout / "prepare.py").is_file() else ""
    own = "" if checkout.name == PACKAGED else own
    raise NoProject(
        f"There is no prepare.py and train.py in {here}{'' if folder else ' or above it'}. "
        f"`{shell_command('new DIR')}` makes a folder that has all that is needed{own}."
    )


def _own(project: Path) -> Path:
    if not OWN_PREPARE.search((project / "prepare.py").read_text(encoding="utf-8", errors="replace")):
        raise ForeignProject(
            f"{project / 'prepare.py'} is not this program's (the original autoresearch has one of the same name), so "
            f"nothing of it was run: `{shell_command('new DIR')}` makes a folder in which this program works. There "
            f"`{shell_command('adopt PATH')}` converts this train.py, and program.md can be taken over as it is. "
            '`analyse("results.tsv")` in a notebook there reads results of the original, too.'
        )
    return project


PACKAGED = "project"  # folder of the installed package with what `autoresearch new` copies; see setup.py


def originals() -> Path:
    """Where prepare.py, train.py, program.md, presets/, notebooks/ and docs/nights lie as they come with this program.

    That is in the package where it was installed from a wheel, and the checkout where it is used from one.
    """
    package = Path(__file__).resolve().parents[1]
    return package / PACKAGED if (package / PACKAGED).is_dir() else package.parent


def home_folder() -> Path | None:
    """This user's home; None for a user without one, as in a container that runs under a bare number."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def below_home(path: str) -> str:
    """A path, or words with paths, where this user's home is ~; `os.path.expanduser` undoes it for a path.

    Only a path that begins with the home is changed, not one that has the home's name further on.
    """
    home = home_folder()
    if home is None or home == home.parent:
        return path
    names = sorted({str(home), os.path.realpath(home)}, key=len, reverse=True)  # a home may be a link
    return re.sub(rf"(?<![\w.~-])(?:{'|'.join(map(re.escape, names))})/", "~/", path)


def cache_dir() -> Path:
    """Where corpora live: $AUTORESEARCH_HOME, else ~/.cache/autoresearch (as in the original), without links."""
    if named := os.environ.get("AUTORESEARCH_HOME"):
        return Path(os.path.expanduser(named)).resolve()
    home = home_folder()
    if home is None:
        raise NoHome(
            "This user has no home folder: HOME is not set, and the system knows no user with the number "
            f"{os.getuid()}. Set AUTORESEARCH_HOME to a folder for corpora and locks."
        )
    return (home / ".cache" / "autoresearch").resolve()


DEVICE = "AUTORESEARCH_DEVICE"  # read by prepare.py: what to train on, "cpu" or "cuda:1"
DTYPE = "AUTORESEARCH_DTYPE"  # read by prepare.py: the number format of autocast, "float32" or "bfloat16"
PROJECT = "AUTORESEARCH_PROJECT"  # read by children: the folder of prepare.py
RUN_TOKEN = "AUTORESEARCH_RUN_TOKEN"  # every process of one run carries it in its environment
SANDBOX_PARENT = "AUTORESEARCH_SANDBOX_PARENT"  # set inside a sandbox: the pid by which its process knows its parent
