"""Commits and refs of train.py in git. They leave the user's files, index, HEAD and hooks unchanged.

Every experiment is a commit: its parent is the incumbent it was judged against, and its tree is the parent's with
another train.py. `refs/autoresearch/<study>/<number>` keeps it permanently, and the branch `autoresearch/<study>`
advances only when an experiment is kept. Recording an experiment again gives the same commit, because its date comes
from the history.

The history is authoritative. A problem with the branch alone, as when a user works on it, is stored in `branch_problem`
and does not affect the experiment. A problem that prevents a commit raises LineageError.
"""

from __future__ import annotations

import os
import time as clock
from pathlib import Path

from ..system.files import seconds_of
from ..system.processes import ProgramHung, run_program
from ..system.temporary import own_folder

AUTHOR = ("autoresearch", "autoresearch@localhost")
GIT_LIMIT_SECONDS = 120.0  # for one git command; with a big repository on a slow disk it takes seconds
STALE_LOCK_SECONDS = 2.0  # git holds the lock of a ref for milliseconds, so an older one was left by a crash

# No hooks, no signatures, and objects that survive a power cut as the history does.
SETTINGS = {
    "core.hooksPath": os.devnull,
    "commit.gpgSign": "false",
    "core.fsync": "loose-object,reference",
    "i18n.commitEncoding": "utf-8",
}


class LineageError(RuntimeError):
    """A commit or ref could not be written; the message says which, and what to do."""


def open_lineage(project: Path, study: str, *, is_new: bool = False) -> tuple[Lineage | None, str]:
    """The lineage of `study` in the repository that contains `project`, or None and one sentence why there is none.

    Args:
        project: folder with train.py, the root of the repository or a folder in it.
        is_new: this study has no history yet, so a branch of its name belongs to another study.

    Raises LineageError when a new study would continue a branch that exists.
    """
    try:
        prefix = _git(project, "rev-parse", "--show-prefix")
        base = _git(project, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", otherwise="")
        is_ref_name = _git(project, "check-ref-format", f"refs/heads/autoresearch/{study}", otherwise="no") != "no"
        is_ignored = _git(project, "check-ignore", "--quiet", "train.py", otherwise="no") != "no"
        root_branch = _read_ref(project, "refs/heads/autoresearch")
    except FileNotFoundError:
        return None, "git is not installed"
    except LineageError as error:
        return None, f"{project} is not a git repository that can be used: {error}"
    if not base:
        return None, f"the git repository of {project} has no commit yet"
    if is_ignored:
        return None, f"{project / 'train.py'} is ignored by git"
    if not is_ref_name:
        return None, f"git does not accept {study!r} in the name of a branch"
    if root_branch:
        return None, "a branch called 'autoresearch' leaves no room for branches autoresearch/<study>; rename it"
    lineage = Lineage(project, study, f"{prefix}train.py", base)
    if is_new:
        lineage.check_name_is_free()
    return lineage, ""


class Lineage:
    """Commits and refs of one study. The object holds nothing that git does not hold."""

    def __init__(self, project: Path, study: str, train_path: str, base: str) -> None:
        self.project = project
        self.study = study
        self.train_path = train_path  # from the root of the repository
        self.base = base  # commit that experiments without a parent build on
        self.branch = f"refs/heads/autoresearch/{study}"
        self.branch_problem = ""  # why the branch is not at the last keep; "" when it is

    def ref(self, number: int) -> str:
        return f"refs/autoresearch/{self.study}/{number:04d}"

    def commit_of(self, number: int) -> str | None:
        """The commit of an experiment, None when it has none."""
        return _read_ref(self.project, self.ref(number))

    def commits(self) -> dict[int, str]:
        """Commit of every experiment that has a ref."""
        prefix = f"refs/autoresearch/{self.study}/"
        listed = _git(self.project, "for-each-ref", "--format=%(objectname) %(refname)", prefix)
        found = [line.partition(" ")[::2] for line in listed.splitlines()]
        return {int(name): commit for commit, ref in found if (name := ref.removeprefix(prefix)).isdigit()}

    def follow(self, commit: str, *, but_not_from: str | None = None) -> None:
        """Bring the branch to the last kept commit, if the study may move it and it is not at `but_not_from`."""
        if _read_ref(self.project, self.branch) != but_not_from or but_not_from is None:
            self._advance(commit, replaces=None)

    def check_name_is_free(self) -> None:
        """Raise LineageError when an earlier study of this name has left its branch."""
        name = f"autoresearch/{self.study}"
        if _read_ref(self.project, self.branch):
            raise LineageError(
                f"Branch {name} is left from an earlier study of this name. Keep it (git branch -m {name} "
                f"old-{self.study}), delete it (git branch -D {name}), or give the new study another --name."
            )

    def record(self, number: int, source: str, *, message: str, time: str, parent: str | None, keep: bool) -> str:
        """Commit the train.py of an experiment and return the commit's id. Recording it again changes nothing.

        Args:
            message: of the commit; the first line is its title.
            time: UTC ISO 8601, from the history.
            parent: commit of the incumbent; None for the baseline, which builds on HEAD.
            keep: advance the branch to it.

        Raises LineageError when the commit or its ref cannot be written.
        """
        known = self.commit_of(number)
        commit = self._commit(source, message, time, parent or self._first_base(known, time))
        if commit != known:
            self._update(self.ref(number), commit, known)
        if keep:
            self._advance(commit, replaces=known)
        return commit

    def _first_base(self, known: str | None, time: str) -> str:
        """The commit that the baseline was built on; a baseline that was recorded before a crash knows it.

        HEAD may have moved since. A recorded commit with another time belongs to a deleted study of the same name.
        """
        if known and _git(self.project, "show", "-s", "--format=%ct", known) == str(int(seconds_of(time))):
            return _git(self.project, "rev-parse", "--verify", f"{known}^")
        return self.base

    def _commit(self, source: str, message: str, time: str, parent: str) -> str:
        blob = _git(self.project, "hash-object", "-w", "--stdin", stdin=source)
        listed = _git(self.project, "ls-tree", "--full-tree", parent, "--", self.train_path)
        mode = listed.split(" ", 1)[0] if listed.startswith("100") else "100644"
        with own_folder() as folder:
            index = {"GIT_INDEX_FILE": str(folder / "index")}
            _git(self.project, "read-tree", parent, env=index)
            _git(self.project, "update-index", "--add", "--cacheinfo", f"{mode},{blob},{self.train_path}", env=index)
            tree = _git(self.project, "write-tree", env=index)
        date = f"{int(seconds_of(time))} +0000"
        name, email = AUTHOR
        identity = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", name), ("EMAIL", email), ("DATE", date))
        }
        return _git(self.project, "commit-tree", tree, "-p", parent, "-F", "-", stdin=message, env=identity)

    def _advance(self, commit: str, replaces: str | None) -> None:
        """Move the branch forward to a kept commit, unless it has commits of its own or is checked out."""
        tip = _read_ref(self.project, self.branch)
        self.branch_problem = ""
        if tip == commit:
            return
        name = f"autoresearch/{self.study}"
        is_own = tip in (replaces, *self.commits().values())  # also one that was kept and then refused by the audit
        if tip and not is_own and not self._leads_to(tip, commit):
            self.branch_problem = f"branch {name} has commits of its own and was left alone"
        elif folder := self._checked_out_in():
            self.branch_problem = f"branch {name} is checked out in {folder} and was left alone there"
        else:
            try:
                self._update(self.branch, commit, tip)
            except LineageError as error:
                self.branch_problem = str(error)

    def _leads_to(self, ancestor: str, commit: str) -> bool:
        return _git(self.project, "merge-base", "--is-ancestor", ancestor, commit, otherwise="no") != "no"

    def _checked_out_in(self) -> str:
        """The folder of a worktree that has the branch checked out; "" when there is none."""
        folder = ""
        for line in _git(self.project, "worktree", "list", "--porcelain").splitlines():
            key, _, value = line.partition(" ")
            if key == "worktree":
                folder = value
            elif key == "branch" and value == self.branch:
                return folder
        return ""

    def _update(self, ref: str, commit: str, old: str | None) -> None:
        """Compare and swap one ref. No other function changes a ref."""
        swap = ("update-ref", "-m", "autoresearch", ref, commit, old or "0" * len(commit))
        try:
            _git(self.project, *swap)
        except LineageError:
            if not self._remove_stale_lock(ref):
                raise
            _git(self.project, *swap)

    def _remove_stale_lock(self, ref: str) -> bool:
        """Remove the lock that a killed git left on one of our refs; False when there is none or it is in use."""
        path = self.project / _git(self.project, "rev-parse", "--git-path", f"{ref}.lock")
        try:
            before = path.stat()
            clock.sleep(STALE_LOCK_SECONDS)
            after = path.stat()
            if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
                return False
            path.unlink()
        except FileNotFoundError:
            return False
        return True


def _read_ref(project: Path, ref: str) -> str | None:
    return _git(project, "rev-parse", "--verify", "--quiet", ref, otherwise="") or None


def _git(
    project: Path, *arguments: str, stdin: str = "", env: dict[str, str] | None = None, otherwise: str | None = None
) -> str:
    """The output of one git command without its last newline. All calls of git go through this function.

    `otherwise` is returned when git answers "no" (exit status 1). Raises LineageError with git's own message, and
    FileNotFoundError when git is not installed.
    """
    settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
    try:
        done = run_program(
            ["git", *settings, *arguments],
            GIT_LIMIT_SECONDS,
            stdin=stdin.encode("utf-8", "surrogateescape"),
            cwd=project,
            env=_environment() | (env or {}),
        )
    except ProgramHung as error:
        raise LineageError(f"git {arguments[0]} in {project}: {error}") from error
    if done.returncode == 1 and otherwise is not None:
        return otherwise
    if done.returncode != 0:
        words = " ".join(done.stderr.decode(errors="replace").split()) or f"exit status {done.returncode}"
        raise LineageError(f"git {arguments[0]} in {project}: {words}")
    return done.stdout.decode(errors="replace").removesuffix("\n")


def _environment() -> dict[str, str]:
    """The environment for git: without variables that name another repository, without prompts or translations."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in ("GIT_EXEC_PATH", "GIT_SSL_CAINFO")}
    return kept | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
