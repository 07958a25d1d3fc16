"""Studies from start to end, with real notebooks, kernels and scorers, on a model that only counts."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import nbformat
import pytest

from autoresearch_kernel.agents.search import SearchAgent
from autoresearch_kernel.core.agent import NothingToPropose
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Context, Experiment, Progress, Proposal, Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study, StudyError, check_unchanged
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study.disk_space import forget_artefacts
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.steps import open_session
from tests.conftest import COUNTING_TRAIN, counting_study, git


class Scripted:
    """Proposes what it was given, one after the other; a mapping changes parameters, a text replaces the source."""

    name = "scripted"

    def __init__(self, *ideas: dict[str, float] | str) -> None:
        self.ideas = list(ideas)

    def propose(self, context: Context) -> Proposal:
        idea = self.ideas.pop(0)
        if isinstance(idea, str):
            return Proposal("Something else: a fault", idea, self.name)
        source = set_parameters(context.train_source, idea)
        words = ", ".join(f"{name} to {value}" for name, value in idea.items())
        return Proposal(f"Set {words}", source, self.name, changes=dict(idea))


def with_cell(code: str, source: str = COUNTING_TRAIN) -> str:
    """The counting train.py with one more cell before the last."""
    head, _, tail = source.rpartition("# %%\n")
    return f"{head}# %%\n{code}\n\n# %%\n{tail}"


FAULTS = {
    "hangs in C": ("import ctypes\n\nctypes.PyDLL(None).sleep(1000)", Status.TIMEOUT),
    "exits 0 early": ("raise SystemExit(0)", Status.CRASH),
    "is killed": ("import os\n\nos.kill(os.getpid(), 9)", Status.CRASH),
    "prints 300 MB": ("for _ in range(300):\n    print('x' * 999_999)", None),
    "raises": ("raise RuntimeError('a bad idea')", Status.CRASH),
}


def events_of(study: Study, kind: str) -> list[dict]:
    return [event for event in read_events(study.paths.history) if event["event"] == kind]


def test_every_training_of_a_study_computes_in_the_format_that_the_study_began_with(measured: Study) -> None:
    runs = replay(read_events(measured.paths.history)).experiments[0].runs
    assert [run.measured["dtype"] for run in runs] == [measured.facts["scoring"]["dtype"]] * 3


@pytest.mark.parametrize(
    ("variable", "began", "same", "other"),
    [
        ("AUTORESEARCH_DTYPE", {"dtype": "float32"}, "float32", "bfloat16"),
        ("AUTORESEARCH_DEVICE", {"device": "cuda"}, "cuda:1", "cpu"),
    ],
)
def test_a_study_does_not_go_on_in_another_format_or_on_another_device(
    variable: str, began: dict[str, str], same: str, other: str, project: Path, small_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("AUTORESEARCH_DTYPE", raising=False)
    scoring = {"device": "cpu", "dtype": "float32", "rows_per_batch": 64, "num_threads": 1} | began
    study = counting_study(project, small_corpus, scoring=scoring)
    monkeypatch.setenv(variable, same)
    check_unchanged(study)
    monkeypatch.setenv(variable, other)
    with pytest.raises(StudyError, match=f"began with {variable}=.* says {other}.* Unset {variable} to continue"):
        next(research(study, Scripted()))
    assert not study.paths.history.exists()


def test_ten_experiments_with_five_faults_leave_the_others_unharmed(measured: Study) -> None:
    study = measured
    before = git(study.project, "status", "--porcelain", "--branch")
    ideas: list[dict[str, float] | str] = [{"ALPHA": alpha} for alpha in (0.3, 3.0, 0.1, 5.0, 0.02)]
    for place, (code, _) in zip((1, 3, 5, 7, 9), FAULTS.values(), strict=True):
        ideas.insert(place, with_cell(code))
    assert [e.number for e in research(study, Scripted(*ideas), experiments=10)] == list(range(1, 11))
    done = replay(read_events(study.paths.history)).experiments  # with the baseline

    faults = dict(zip(FAULTS, (done[place + 1] for place in (1, 3, 5, 7, 9)), strict=True))
    for what, experiment in faults.items():
        expected = FAULTS[what][1]
        if expected is None:  # printing is no fault: it is scored like the others
            assert experiment.status in (Status.KEEP, Status.DISCARD), what
        else:
            assert experiment.status is expected, f"{what}: {experiment.reason}"
            assert experiment.val_bpb is None and experiment.reason, what
    others = [e for e in done if e not in faults.values()]
    assert all(e.status in (Status.KEEP, Status.DISCARD) and e.val_bpb is not None for e in others)
    _check_what_it_left(study, done, before)


def _check_what_it_left(study: Study, done: Sequence[Experiment], git_before: str) -> None:
    for experiment in done:
        path = study.experiment(experiment.number).notebook(0)
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert path.stat().st_size < 5_000_000
        tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
        assert tags[0] == "heading" and tags[-2:] == ["curve", "verdict"]
        assert f"**{experiment.status}**" in notebook.cells[-1].source
        assert f"{experiment.number:04d}" in notebook.cells[0].source
    rows = study.paths.results.read_text().splitlines()
    assert len(rows) == 1 + len(done) and rows[0].split("\t") == [
        "commit",
        "val_bpb",
        "memory_gb",
        "status",
        "description",
    ]
    assert study.paths.progress.read_bytes().startswith(b"\x89PNG")
    state = replay(read_events(study.paths.history))
    champion = state.incumbent
    assert champion is not None and champion.number > 0 and len(champion.scores) >= 3
    assert study.paths.best_train.read_text() == study.train_source(champion.number)
    assert state.finished == "10 experiments"
    # git: the person's checkout is as it was, the branch holds the keeps, every experiment has its ref
    assert git(study.project, "status", "--porcelain", "--branch") == git_before
    assert len(git(study.project, "for-each-ref", "refs/autoresearch/nov23").splitlines()) == len(done)
    assert git(study.project, "show", "autoresearch/nov23:train.py") == study.paths.best_train.read_text().strip()
    kept = sum(e.status is Status.KEEP for e in done)
    assert len(git(study.project, "log", "--format=%h", "main..autoresearch/nov23").splitlines()) == kept
    # no process of the study is left
    listed = subprocess.run(["pgrep", "-f", str(study.paths.folder)], capture_output=True, text=True).stdout
    assert not listed.strip()

    # models are kept where something needs them, those of discards while they take little room
    def models() -> set[str]:
        return {path.parents[1].name for path in study.paths.folder.glob("experiments/*/handover*/model.pkl")}

    assert models() == {f"{e.number:04d}" for e in done if e.scores}
    forget_artefacts(study, state, limit_bytes=0)
    assert models() == {"0000", f"{champion.number:04d}"}


def test_a_baseline_that_fails_stops_the_study_and_says_why(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus, source=with_cell("assert False, 'not yet'"))
    with pytest.raises(StudyError, match=r"The baseline did not train \(crash\): .*not yet.*experiments/0000"):
        next(iter(research(study, Scripted(), experiments=1)))
    assert not list(study.experiment(0).folder.glob("experiment-*.ipynb"))  # it stopped there


def test_a_changed_prepare_py_or_corpus_is_refused(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus)
    (project / "prepare.py").write_text((project / "prepare.py").read_text() + "\n# a new idea\n")
    with pytest.raises(StudyError, match=r"prepare\.py has changed since study 'nov23' began"):
        next(iter(research(study, Scripted(), experiments=1)))
    git(project, "checkout", "prepare.py")
    other = dataclasses.replace(study, facts=study.facts | {"corpus": study.facts["corpus"] | {"content_sha256": "0"}})
    with pytest.raises(StudyError, match="different corpora are never compared"):
        next(iter(research(other, Scripted(), experiments=1)))


def test_the_embedded_agent_finds_a_better_smoothing_without_git(measured: Study) -> None:
    subprocess.run(["rm", "-rf", str(measured.project / ".git")], check=True)
    said: list[Progress] = []
    started = time.monotonic()
    done = list(islice(research(measured, SearchAgent(seed=0), watch=said.append), 2))
    assert time.monotonic() - started < 200
    assert any("No git lineage" in progress.text for progress in said)
    assert {progress.phase for progress in said} >= {"proposing", "starting", "training", "scoring"}
    assert all(e.commit is None for e in done)
    state = replay(read_events(measured.paths.history))
    assert state.incumbent is not None and state.incumbent.number > 0
    assert state.incumbent.val_bpb < state.experiments[0].val_bpb - 0.01


class Exhausted:
    name = "exhausted"

    def propose(self, context: Context) -> Proposal:
        raise NothingToPropose("every value was tried")


def test_an_agent_without_ideas_ends_the_study_with_its_findings(measured: Study) -> None:
    said: list[Progress] = []
    assert not list(research(measured, Exhausted(), watch=said.append))
    assert any(progress.text == "every value was tried" for progress in said)
    finished = events_of(measured, "finished")
    assert [event["reason"] for event in finished] == ["nothing left to propose"]
    assert finished[0]["champion"] == 0 and finished[0]["baseline_bpb"] > 0


def test_files_that_no_longer_say_what_was_recorded_are_refused(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus)
    with open_session(study) as session:
        session.propose(Scripted())
    train = study.experiment(0).train
    train.write_text(train.read_text() + "# later\n")
    with pytest.raises(StudyError, match=r"is not the file that experiment 0000 was recorded with"):
        next(iter(research(study, Scripted(), experiments=1)))
    facts = study.facts | {"time_budget_seconds": 99.0}
    with pytest.raises(StudyError, match=r"study\.json is not what .*history\.jsonl says"):
        next(iter(research(dataclasses.replace(study, facts=facts), Scripted(), experiments=1)))
    study.paths.study.unlink()
    with pytest.raises(StudyError, match=r"belongs to a study whose study\.json is gone"):
        counting_study(project, small_corpus)


def test_half_a_surrogate_pair_in_a_reply_is_recorded_and_judged(measured: Study) -> None:
    class Odd(Scripted):
        def propose(self, context: Context) -> Proposal:
            return dataclasses.replace(super().propose(context), hypothesis="Smaller \ud83d counts")

    (odd,) = islice(research(measured, Odd({"ALPHA": 0.2})), 1)
    assert odd.hypothesis == "Smaller ? counts" and odd.status is Status.KEEP


def test_views_are_drawn_whatever_a_training_wrote_into_its_handover(measured: Study) -> None:
    lie = "import json\n\nfacts = json.loads(path.read_text()) | {'peak_memory_mb': 'a lot', 'num_steps': None}"
    where = "import os\nfrom pathlib import Path\n\npath = Path(os.environ['AUTORESEARCH_HANDOVER']) / 'handover.json'"
    worse = set_parameters(COUNTING_TRAIN, {"ALPHA": 5.0})
    liar = worse + f"\n# %%\n{where}\n{lie}\npath.write_text(json.dumps(facts))\n"
    (lied,) = islice(research(measured, Scripted(liar)), 1)
    assert lied.status in (Status.KEEP, Status.DISCARD)
    assert "## Verdict" in measured.experiment(1).notebook(0).read_text()
    assert not events_of(measured, "note")
