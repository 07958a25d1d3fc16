from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from autoresearch_kernel.record.git import Lineage, LineageError, open_lineage

TIME = "2026-11-23T02:14:07.251Z"
BRANCH = "refs/heads/autoresearch/nov23"


def git(folder: Path, *arguments: str) -> str:
    """As a person would: with their name, their hooks, their index."""
    who = {f"GIT_{role}_{what}": "person@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=os.environ | who, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@pytest.fixture(autouse=True)
def nobody_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No user.name and no settings from this machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "train.py").write_text("DEPTH = 4\n")
    (folder / "prepare.py").write_text("# fixed\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "start")
    return folder


def opened(project: Path, **options: bool) -> Lineage:
    lineage, why_not = open_lineage(project, "nov23", **options)
    assert lineage is not None, why_not
    return lineage


def record(lineage: Lineage, number: int, source: str, parent: str | None, keep: bool) -> str:
    return lineage.record(number, source, message=f"{number:04d} · idea", time=TIME, parent=parent, keep=keep)


def everything(folder: Path) -> dict[str, bytes]:
    """What a person sees and what they have staged: files, HEAD and index."""
    files = {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts
    }
    return files | {name: (folder / ".git" / name).read_bytes() for name in ("HEAD", "index")}


def test_every_experiment_is_a_commit_and_the_branch_advances_on_a_keep_alone(project: Path):
    lineage = opened(project)
    baseline = record(lineage, 0, "DEPTH = 4\n", None, keep=True)
    worse = record(lineage, 1, "DEPTH = 5\n", baseline, keep=False)
    assert git(project, "rev-parse", BRANCH) == baseline
    better = record(lineage, 2, "DEPTH = 6\n", baseline, keep=True)
    assert git(project, "rev-parse", BRANCH) == better
    assert git(project, "rev-parse", f"{worse}^") == git(project, "rev-parse", f"{better}^") == baseline
    assert git(project, "rev-parse", f"{baseline}^") == git(project, "rev-parse", "main")
    assert git(project, "show", f"{worse}:train.py") == "DEPTH = 5"
    assert git(project, "show", f"{worse}:prepare.py") == "# fixed"
    refs = git(project, "for-each-ref", "--format=%(refname) %(objectname)", "refs/autoresearch").splitlines()
    assert refs == [f"refs/autoresearch/nov23/{n:04d} {c}" for n, c in enumerate((baseline, worse, better))]
    assert lineage.branch_problem == ""
    assert git(project, "fsck", "--strict") == ""


def test_a_commit_says_who_when_and_what(project: Path):
    commit = opened(project).record(0, "", message="0000 · σ\n\nkeep: first", time=TIME, parent=None, keep=True)
    assert git(project, "log", "-1", "--format=%an <%ae> %cn %at %ct %B", commit).startswith(
        "autoresearch <autoresearch@localhost> autoresearch 1795400047 1795400047 0000 · σ\n\nkeep: first"
    )


def test_recording_twice_is_one_commit(project: Path):
    first = record(opened(project), 0, "a = 1\n", None, keep=True)
    second = record(opened(project), 1, "a = 2\n", first, keep=True)
    count = git(project, "count-objects")
    assert record(opened(project), 1, "a = 2\n", first, keep=True) == second
    assert git(project, "count-objects") == count
    assert git(project, "rev-parse", BRANCH) == second


def test_a_crash_between_ref_and_branch_is_made_good(project: Path):
    baseline = record(opened(project), 0, "a = 1\n", None, keep=True)
    commit = record(opened(project), 1, "a = 2\n", baseline, keep=False)
    assert record(opened(project), 1, "a = 2\n", baseline, keep=True) == commit
    assert git(project, "rev-parse", BRANCH) == commit


def test_a_baseline_recorded_again_is_the_same_though_head_has_moved(project: Path):
    commit = record(opened(project, is_new=True), 0, "a = 1\n", None, keep=True)
    git(project, "commit", "--quiet", "--allow-empty", "-m", "the person goes on")
    assert record(opened(project), 0, "a = 1\n", None, keep=True) == commit


def test_the_ref_of_a_deleted_study_of_the_same_name_does_not_decide_what_a_new_one_builds_on(project: Path):
    record(opened(project, is_new=True), 0, "a = 1\n", None, keep=True)
    git(project, "branch", "-D", "autoresearch/nov23")
    (project / "prepare.py").write_text("# another corpus\n")
    git(project, "commit", "--quiet", "-am", "later")
    later = "2026-11-24T00:00:00.000Z"
    lineage = opened(project, is_new=True)
    commit = lineage.record(0, "a = 1\n", message="0000 · idea", time=later, parent=None, keep=True)
    assert git(project, "rev-parse", f"{commit}^") == git(project, "rev-parse", "main")
    assert git(project, "show", f"{commit}:prepare.py") == "# another corpus"


def test_an_experiment_judged_anew_replaces_its_own_commit(project: Path):
    lineage = opened(project)
    baseline = record(lineage, 0, "a = 1\n", None, keep=True)
    record(lineage, 1, "a = 2\n", baseline, keep=True)
    again = lineage.record(1, "a = 2\n", message="other words", time=TIME, parent=baseline, keep=True)
    assert git(project, "rev-parse", BRANCH) == lineage.commit_of(1) == again
    assert lineage.branch_problem == ""


def test_files_index_head_and_hooks_of_the_person_are_untouched(project: Path):
    (project / "train.py").write_text("half an idea\n")
    (project / "notes.txt").write_text("staged\n")
    git(project, "add", "notes.txt")
    (project / "untracked.txt").write_text("mine\n")
    for hook in ("reference-transaction", "pre-commit", "commit-msg", "post-commit"):
        path = project / ".git" / "hooks" / hook
        path.write_text("#!/bin/sh\necho called >> hooked\nexit 1\n")
        path.chmod(0o755)
    before = everything(project)
    lineage = opened(project)
    baseline = record(lineage, 0, "a = 1\n", None, keep=True)
    record(lineage, 1, "a = 2\n", baseline, keep=False)
    assert everything(project) == before
    assert not (project / "hooked").exists()
    assert "notes.txt" not in git(project, "ls-tree", "--name-only", baseline).split()


def test_a_locked_index_is_no_obstacle(project: Path):
    (project / ".git" / "index.lock").touch()
    assert record(opened(project), 0, "a = 1\n", None, keep=True)


def test_train_py_in_a_subfolder_of_the_repository(project: Path):
    folder = project / "research" / "räum"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("DEPTH = 1\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "moved")
    commit = record(opened(folder), 0, "DEPTH = 2\n", None, keep=True)
    assert (
        git(project, "diff", "--stat=200", "-z", "--name-only", "main", commit).rstrip("\0") == "research/räum/train.py"
    )


def test_a_train_py_that_was_never_committed_is_added(project: Path):
    git(project, "rm", "--quiet", "--cached", "train.py")
    git(project, "commit", "--quiet", "-m", "without")
    commit = record(opened(project), 0, "DEPTH = 2\n", None, keep=True)
    assert git(project, "show", f"{commit}:train.py") == "DEPTH = 2"


def test_an_executable_train_py_stays_one(project: Path):
    git(project, "update-index", "--chmod=+x", "train.py")
    git(project, "commit", "--quiet", "-m", "executable")
    commit = record(opened(project), 0, "DEPTH = 2\n", None, keep=True)
    assert git(project, "ls-tree", commit, "train.py").startswith("100755")


def test_a_detached_head(project: Path):
    git(project, "checkout", "--quiet", "--detach")
    commit = record(opened(project), 0, "a = 1\n", None, keep=True)
    assert git(project, "rev-parse", BRANCH) == commit
    assert git(project, "rev-parse", "HEAD") == git(project, "rev-parse", "main")


def test_a_worktree_of_a_bare_repository(project: Path, tmp_path: Path):
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "bare.git")
    git(tmp_path / "bare.git", "worktree", "add", "--quiet", str(tmp_path / "work"), "-b", "topic")
    commit = record(opened(tmp_path / "work"), 0, "a = 1\n", None, keep=True)
    assert git(tmp_path / "bare.git", "rev-parse", BRANCH, "refs/autoresearch/nov23/0000").split() == [commit, commit]


def test_settings_of_the_person_change_nothing(project: Path, monkeypatch: pytest.MonkeyPatch):
    plain = record(opened(project), 0, "a = 'σ'\n", None, keep=False)
    for setting in (
        "commit.gpgSign=true",
        "gpg.program=/bin/false",
        "core.autocrlf=true",
        "i18n.commitEncoding=latin1",
    ):
        git(project, "config", *setting.split("=", 1))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert record(opened(project), 0, "a = 'σ'\n", None, keep=False) == plain


def test_without_a_repository_it_says_why(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch):
    lineage, why_not = open_lineage(tmp_path, "nov23")
    assert lineage is None and "is not a git repository" in why_not and "\n" not in why_not
    git(tmp_path, "init", "--quiet", "empty")
    assert open_lineage(tmp_path / "empty", "nov23") == (
        None,
        f"the git repository of {tmp_path / 'empty'} has no commit yet",
    )
    assert "does not accept 'a..b'" in open_lineage(project, "a..b")[1]
    git(project, "branch", "autoresearch")
    assert "a branch called 'autoresearch'" in open_lineage(project, "nov23")[1]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert open_lineage(project, "nov23") == (None, "git is not installed")


def test_a_project_that_its_repository_ignores_is_not_committed_there(project: Path):
    (project / "vendored").mkdir()
    (project / "vendored" / "train.py").write_text("DEPTH = 1\n")
    (project / ".gitignore").write_text("vendored/\n")
    assert open_lineage(project / "vendored", "nov23") == (
        None,
        f"{project / 'vendored' / 'train.py'} is ignored by git",
    )


def test_a_new_study_does_not_take_over_a_branch(project: Path):
    git(project, "branch", "autoresearch/nov23")
    with pytest.raises(LineageError, match="git branch -m autoresearch/nov23 old-nov23"):
        open_lineage(project, "nov23", is_new=True)
    git(project, "branch", "-m", "autoresearch/nov23", "old-nov23")
    assert open_lineage(project, "nov23", is_new=True)[0] is not None


def test_a_branch_that_is_checked_out_is_left_alone_and_catches_up(project: Path):
    lineage = opened(project)
    baseline = record(lineage, 0, "a = 1\n", None, keep=True)
    git(project, "checkout", "--quiet", "autoresearch/nov23")
    first = record(lineage, 1, "a = 2\n", baseline, keep=True)
    assert git(project, "rev-parse", "HEAD") == baseline
    assert git(project, "status", "--porcelain") == ""
    assert "is checked out in" in lineage.branch_problem
    git(project, "checkout", "--quiet", "main")
    second = record(lineage, 2, "a = 3\n", first, keep=True)
    assert git(project, "rev-parse", BRANCH) == second
    assert lineage.branch_problem == ""


def test_a_branch_with_commits_of_its_own_is_left_alone(project: Path):
    lineage = opened(project)
    baseline = record(lineage, 0, "a = 1\n", None, keep=True)
    git(project, "checkout", "--quiet", "autoresearch/nov23")
    git(project, "commit", "--quiet", "--allow-empty", "-m", "mine")
    git(project, "checkout", "--quiet", "main")
    mine = git(project, "rev-parse", BRANCH)
    commit = record(lineage, 1, "a = 2\n", baseline, keep=True)
    assert git(project, "rev-parse", BRANCH) == mine
    assert lineage.commit_of(1) == commit
    assert "commits of its own" in lineage.branch_problem


def test_the_branch_goes_back_from_a_kept_commit_that_was_refused_later(project: Path):
    lineage = opened(project)
    baseline = record(lineage, 0, "DEPTH = 4\n", None, keep=True)
    refused = record(lineage, 1, "DEPTH = 5\n", baseline, keep=True)
    assert git(project, "rev-parse", BRANCH) == refused
    lineage.follow(baseline)
    assert git(project, "rev-parse", BRANCH) == baseline and lineage.branch_problem == ""
    better = record(lineage, 2, "DEPTH = 6\n", baseline, keep=True)
    assert git(project, "rev-parse", BRANCH) == better and lineage.branch_problem == ""


def test_a_lock_left_by_a_killed_git_is_removed(project: Path):
    lineage = opened(project)
    lock = project / ".git" / "refs" / "autoresearch" / "nov23" / "0000.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    record(lineage, 0, "a = 1\n", None, keep=True)
    assert lineage.commit_of(0) and not lock.exists()


def test_an_unknown_parent_is_an_error_in_gits_words(project: Path):
    with pytest.raises(LineageError, match="git ls-tree in"):
        record(opened(project), 1, "a = 1\n", "0123456789" * 4, keep=False)


def test_a_repository_with_sha256_names(tmp_path: Path):
    folder = tmp_path / "long"
    folder.mkdir()
    git(folder, "init", "--quiet", "--object-format=sha256")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "start")
    commit = record(opened(folder), 0, "a = 1\n", None, keep=True)
    assert len(commit) == 64 and git(folder, "rev-parse", BRANCH) == commit
