"""One experiment by hand: the same as the night's, whatever cell is run when, and errors that say what comes first."""

from __future__ import annotations

import doctest
import inspect
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import autoresearch_kernel
from autoresearch_kernel import SearchAgent, StudyError, research, start_study
from autoresearch_kernel.core.agent import AgentUnavailable
from autoresearch_kernel.core.types import Context, Evaluation, Experiment, Proposal, RunOutcome, Status
from autoresearch_kernel.lab.errors import StepError
from autoresearch_kernel.lab.opening import open_study
from autoresearch_kernel.lab.shown_study import BETWEEN, ShownStudy
from autoresearch_kernel.lab.study import InteractiveStudy
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.kernelspec import notebook_metadata
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import status_table
from autoresearch_kernel.study.steps import open_session
from tests.conftest import PROJECT, counting_study, git
from tests.pretended import Machine
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of

NOTEBOOK = PROJECT / "notebooks" / "step.ipynb"
HOSTILE = "<img src=x onerror=alert(1)> \x1b[31m<script>bad()</script>"


@pytest.fixture
def study(project: Path, small_corpus: Path, machine: Machine, no_pictures: None) -> InteractiveStudy:
    """Walked through by hand, with trainings that only pretend."""
    counting_study(project, small_corpus)
    return open_study("nov23", project)


def again(study: InteractiveStudy) -> InteractiveStudy:
    """The study as a kernel finds it that was started anew."""
    return open_study(study.name, study.project)


def told(study: Study) -> list[dict[str, Any]]:
    """The events of a study, but for who opened it when, and what is not the same in two studies."""
    own = ("seq", "time", "crc", "commit", "pid", "study", "provenance")
    events = [e for e in read_events(study.paths.history) if e["event"] not in ("opened", "stopped")]
    return [{name: value for name, value in event.items() if name not in own} for event in events]


def walk(study: InteractiveStudy) -> None:
    """One experiment, cell by cell."""
    study.run(study.propose())
    settle(study)


def settle(study: InteractiveStudy) -> Experiment:
    """Judge the experiment, with as many runs as the rule wants, and record it."""
    while study.judge().verdict == "confirm":
        study.run()
    return study.record()


# --- the same as the night


def test_walked_by_hand_a_study_is_event_for_event_what_the_night_makes_of_it(
    project: Path, small_corpus: Path, machine: Machine, no_pictures: None
) -> None:
    def score(job: ScoringJob) -> Evaluation:  # ALPHA matters little, so that wins are confirmed
        alpha, seed = map(float, job.artefact.read_text().split())
        return Evaluation(1.5 + alpha / 500 + (seed * 7919 % 13 - 6) * 2e-4, 0.001, 1000, 3000, 0.1)

    machine.score = score
    machine.machine_speed = lambda experiment, call: 0.4 if (experiment, call) == (2, 1) else 1.0
    night, hand = (counting_study(project, small_corpus, name) for name in ("night", "hand"))
    list(research(night, SearchAgent(), experiments=6))
    machine.trained.clear()
    study = open_study("hand", project)
    study.baseline()
    for _ in range(6):
        walk(study)
    mine, theirs = told(hand), told(night)
    assert mine == theirs[: len(mine)] and mine[-1]["event"] == "decided" and mine[-1]["experiment"] == 6
    decided = state_of(hand).decided
    assert any(len(e.runs) > 1 for e in decided[1:]), "no confirmation was walked through"
    assert decided[2].runs[0].interruptions, "no run was made again"
    assert git(project, "rev-parse", "refs/autoresearch/hand/0006:train.py") == git(
        project, "rev-parse", "refs/autoresearch/night/0006:train.py"
    )


def test_a_night_goes_on_from_a_step_and_a_step_from_a_night(study: InteractiveStudy, machine: Machine) -> None:
    study.baseline()
    study.run(study.propose())  # and the rest is the night's
    done = list(research(study, SearchAgent(), experiments=1))
    assert [e.number for e in done] == [1] and machine.trained.count((1, 0)) == 1
    walk(study)
    assert state_of(study).decided[-1].number == 2


# --- the order


def test_each_step_that_comes_too_early_says_what_comes_first(study: InteractiveStudy) -> None:
    for step in (study.propose, study.run, study.judge, study.record):
        with pytest.raises(StepError, match=r"`study\.baseline\(\)` measures the baseline"):
            step()
    study.baseline()
    with pytest.raises(StepError, match=r"Nothing is proposed yet: `study\.propose\(\)` asks for an idea"):
        study.run()
    for step in (study.judge, study.record):
        with pytest.raises(StepError, match=r"nothing to (judge|record) yet: `study\.propose\(\)`"):
            step()
    study.propose()
    for step in (study.judge, study.record):
        with pytest.raises(StepError, match=r"nothing to (judge|record) yet: `study\.run\(idea\)` trains"):
            step()
    study.run()
    with pytest.raises(StepError, match=r"nothing to record yet: `study\.judge\(\)` scores run 1 of 0001"):
        study.record()
    with pytest.raises(StepError, match=r"0001 is not finished: `study\.judge\(\)`.*Another idea comes after"):
        study.propose(anew=True)
    with pytest.raises(StepError, match="1 is no decided experiment of nov23"):
        study.view(1)
    settle(study)
    assert study.view(1).number == 1


def test_while_the_rule_wants_one_more_run_nothing_is_recorded(study: InteractiveStudy, machine: Machine) -> None:
    study.baseline()
    study.run(study.propose(Scripted({"ALPHA": 0.95})))
    verdict = study.judge()
    assert verdict.verdict == "confirm" and "fresh seed" in verdict.reason
    with pytest.raises(StepError, match=r"one more run of 0001 .*: `study\.run\(\)` and `study\.judge\(\)` once more"):
        study.record()
    assert study.judge().verdict == "confirm" and machine.trained.count((1, 1)) == 0
    assert study.run().run.index == 1
    with pytest.raises(StepError, match=r"scores run 2 of 0001"):
        study.record()
    assert study.judge().verdict in ("keep", "discard")
    assert len(study.record().scores) == 2


# --- cells run again


def test_every_cell_may_be_run_again_also_in_a_new_kernel(study: InteractiveStudy, machine: Machine) -> None:
    assert study.baseline().val_bpb == again(study).baseline().val_bpb
    idea = study.propose()
    assert again(study).propose().proposal == idea.proposal
    changed = idea.change(ALPHA=5.0)  # worse, so one run decides
    study.run(changed)
    once = list(machine.trained)
    assert "judge()" in again(study).run(changed).next
    assert again(study).propose().train_source == changed.train_source  # what is tried now, as it was changed
    scored = study.judge()
    assert again(study).run(changed).run.index == 0
    assert again(study).judge().evaluation == scored.evaluation
    decided = study.record()
    assert (again(study).record(), again(study).judge().verdict) == (decided, str(decided.status))
    assert "is decided" in again(study).run(changed).next
    assert machine.trained == once and len(events_of(study, "decided")) == 2
    assert again(study).propose().number == 2


def test_another_idea_is_another_one_and_the_first_is_kept_as_refused(study: InteractiveStudy) -> None:
    study.baseline()
    first = study.propose()
    second = study.propose(anew=True)
    assert second.train_source != first.train_source and study.propose().train_source == second.train_source
    assert [e["why"] for e in events_of(study, "refused")] == ["another idea was asked for"]
    assert study.experiment(1).refused(1).is_file()


def test_a_kernel_that_dies_while_it_trains_leaves_a_run_to_make_again(
    study: InteractiveStudy, machine: Machine
) -> None:
    study.baseline()
    idea = study.propose()
    machine.during = lambda experiment: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match=r"Stopped by hand\. Nothing that was recorded is lost"):
        study.run(idea)
    assert state_of(study).stopped == BETWEEN and "trains run 1 of 0001" in repr(study)
    machine.during = lambda experiment: None
    assert again(study).run(idea).status is None
    settle(study)
    second = study.propose()
    with open_session(study) as session:  # a kernel that was killed says nothing
        session.propose(Scripted({"ALPHA": 3.0}))
        session.history.append("started", experiment=2, run=0, seed=1)
    with pytest.raises(StepError, match="0002 is not finished"):
        again(study).run(second.change(ALPHA=4.0))
    assert again(study).run().status is None and "the supervisor went away" in str(events_of(study, "note"))


def test_between_two_steps_a_study_is_stopped_and_held_by_nobody(study: InteractiveStudy) -> None:
    study.baseline()
    study.propose()
    now = look(study)
    assert (now.phase, now.holder) == ("stopped", None)
    assert "by hand, between two steps" in status_table(now)
    assert "between two steps" in repr(study) and "study.run(idea)" in repr(study)


def test_a_study_that_somebody_else_runs_says_so_in_plain_words(study: InteractiveStudy) -> None:
    study.baseline()
    holding = "import sys, time; from pathlib import Path; from autoresearch_kernel.system.files import take_lock; "
    holding += "take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", holding, study.paths.lock], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with pytest.raises(StepError, match=rf"being run by process {other.pid} .*`autoresearch stop --name nov23`"):
            study.propose()
        other.kill()
    nights = research(study, SearchAgent(), experiments=1)
    next(nights)
    with pytest.raises(StepError, match=r"This kernel holds the study itself: a loop over research"):
        study.propose()
    nights.close()
    assert study.propose().number == 2


def test_a_stop_that_a_person_asks_for_ends_the_cell_and_loses_nothing(
    study: InteractiveStudy, machine: Machine
) -> None:
    study.baseline()
    idea = study.propose()
    machine.during = lambda experiment: send(study.paths.commands, "stop now") and None
    with pytest.raises(StepError, match=r"Stopped, as .* asked\. Nothing that was recorded is lost"):
        study.run(idea)
    machine.during = lambda experiment: None
    assert study.run(idea).status is None


def test_an_agent_that_cannot_answer_is_not_waited_for_in_a_cell(study: InteractiveStudy) -> None:
    class Down(Scripted):
        def propose(self, context: Context) -> Proposal:
            raise AgentUnavailable("HTTP 503 from the model's server")

    class Broken(Scripted):
        def propose(self, context: Context) -> Proposal:
            raise KeyError("a fault of its own")

    study.baseline()
    with pytest.raises(StepError, match=r"cannot answer: HTTP 503 .*`study\.propose\(\)` asks again"):
        study.propose(Down())
    with pytest.raises(StepError, match=r"The agent 'scripted' failed: KeyError"):
        study.propose(Broken())
    assert study.propose().number == 1


# --- edits


def test_an_edit_says_what_it_cannot_do(study: InteractiveStudy) -> None:
    study.baseline()
    idea = study.propose()
    with pytest.raises(StepError, match=r"no parameter ALHPA\. Did you mean ALPHA\?"):
        idea.change(ALHPA=2.0)
    with pytest.raises(StepError, match=r"cannot become 'much'; it needs a float"):
        idea.change(ALPHA="much")
    with pytest.raises(
        StepError, match=r"no text 'clock = TrainingClock\(360\)'\. The line most like it is \d+: 'clock"
    ):
        idea.edit("clock = TrainingClock(360)", "")
    with pytest.raises(StepError, match=r"stands 5 times in train\.py, in lines 17, 27, 32\. Give more"):
        idea.edit("vocab_size", "vocabulary")
    edited = idea.edit("counts.log()", "(counts + 1).log()", hypothesis="Count once more")
    assert edited.hypothesis == "Count once more" and "+        self.logits" in edited.diff
    assert idea.edit("counts.log()", "(counts + 1).log()").edit("(counts + 1)", "(counts + 2)").hypothesis == (
        f"{idea.hypothesis} (edited by hand)"
    )


def test_an_edit_that_is_no_notebook_or_no_news_is_refused_before_anything_is_recorded(
    study: InteractiveStudy, machine: Machine
) -> None:
    study.baseline()
    idea = study.propose()
    before = len(events_of(study, "proposed")), list(machine.trained)
    saved = study.experiment(1).proposal.read_text()
    with pytest.raises(StepError, match=r"cannot run as a notebook\. train\.py, line \d+: .*Mend the edit"):
        study.run(idea.edit("counts.log()", "counts.log("))
    with pytest.raises(StepError, match=r"tried before: it is the code of the incumbent, 0000\. Change something"):
        study.run(idea.change(ALPHA=1.0, NUM_BATCHES=20))
    assert (len(events_of(study, "proposed")), machine.trained) == before
    assert study.experiment(1).proposal.read_text() == saved


def test_an_edited_idea_is_recorded_as_what_it_is(study: InteractiveStudy) -> None:
    study.baseline()
    idea = study.propose().change(ALPHA=0.5, NUM_BATCHES=20)
    study.run(idea)
    experiment = state_of(study).experiments[1]
    assert (experiment.agent, experiment.changes, experiment.expected) == ("search, edited", {"ALPHA": 0.5}, "")
    assert experiment.hypothesis == "ALPHA 1 → 0.5, by hand" and "parameters" not in experiment.details
    assert study.train_source(1) == idea.train_source
    settle(study)
    assert study.propose().number == 2  # the search reads the record as before


def test_an_idea_for_what_is_no_longer_the_best_is_not_run(study: InteractiveStudy) -> None:
    study.baseline()
    old = study.propose()
    study.run(old.change(ALPHA=0.1, NUM_BATCHES=20))
    with pytest.raises(StepError, match=r"0001 is not finished.*This idea can be run after its decision"):
        study.run(old)
    assert settle(study).status is Status.KEEP
    with pytest.raises(StepError, match=r"0001 was kept since this idea was made for 0000"):
        study.run(old)


def test_in_a_study_where_people_approve_going_on_is_the_approval(study: InteractiveStudy) -> None:
    with open_session(study) as session:
        session.require_approval(True)
    study.baseline()
    walk(study)
    assert [e.number for e in state_of(study).decided] == [0, 1]


# --- a training that fails


def test_a_crash_is_judged_and_recorded_as_one(study: InteractiveStudy, machine: Machine) -> None:
    study.baseline()
    crashed = RunOutcome(Status.CRASH, "RuntimeError: a bad idea", None, None, {"total_seconds": 1.0})
    machine.train = lambda training, listener: crashed
    outcome = study.run(study.propose())
    assert (outcome.status, outcome.reason) == (Status.CRASH, "RuntimeError: a bad idea")
    assert "a bad idea" in outcome._repr_html_() and "record()" in outcome.next
    verdict = study.judge()
    assert (verdict.verdict, verdict.evaluation, verdict.delta_bpb) == ("crash", None, None)
    with pytest.raises(StudyError, match=r"nll\.npy is not there: the run was not scored"):
        verdict.nats()
    assert study.record().status is Status.CRASH


# --- with a real kernel, scorer and views


def test_the_judge_can_be_checked_with_pencil_and_paper(measured: Study) -> None:
    study = open_study(measured.name, measured.project)
    outcome = study.run(study.propose().change(ALPHA=0.05))
    assert outcome.notebook.is_file() and outcome.curve.png.startswith(b"\x89PNG")
    verdict = study.judge()
    assert verdict.evaluation is not None
    by_hand = verdict.nats().sum(dtype=float) / math.log(2) / verdict.evaluation.num_bytes
    assert by_hand == pytest.approx(verdict.val_bpb, abs=1e-6) and verdict.nats().ndim == 2
    while verdict.verdict == "confirm":
        study.run()
        verdict = study.judge()
    experiment = study.record()
    text = nbformat.read(outcome.notebook, 4).cells[-1].source
    assert f"**{experiment.status}**" in text and study.paths.results.read_text().count("\n") == 3
    assert git(study.project, "rev-parse", "refs/autoresearch/nov23/0001") == experiment.commit
    html = experiment._repr_html_()
    assert "studies/nov23/experiments/0001/experiment.ipynb" in html and str(study.project) not in html
    saved = study.figure().save(study.project / "figure.png")
    assert saved.read_bytes() == study.figure()._repr_png_()
    assert "0001" in repr(study.table()) and "0000" not in repr(study.table(last=1))
    assert "<table" in study.table()._repr_html_() and "data:image/png" in study._repr_html_()


# --- what a notebook shows


def test_what_an_agent_wrote_is_text(study: InteractiveStudy) -> None:
    class Hostile(Scripted):
        def propose(self, context: Context) -> Proposal:
            source = context.train_source.replace("ALPHA = 1.0", "ALPHA = 0.5").replace(
                "# # A model that counts", f"# {HOSTILE}".replace("\x1b", "")
            )
            return Proposal(HOSTILE, source, "<b>agent</b>", expected=HOSTILE, refutation=HOSTILE)

    study.baseline()
    idea = study.propose(Hostile())
    shown = [idea, idea.diff, study.run(idea), study.judge(), settle(study), study.table(), study]
    for value in shown:
        html = value._repr_html_()
        assert "<script" not in html and "<img src=x" not in html and "<b>agent" not in html, type(value)
        assert "\x1b" not in repr(value), type(value)
    assert "&lt;script&gt;" in shown[0]._repr_html_() and "&lt;script&gt;" in shown[1]._repr_html_()


def test_an_error_in_a_cell_is_its_sentence_and_no_traceback(measured: Study) -> None:
    from nbclient import NotebookClient

    cells = [
        "from autoresearch_kernel import open_study\nstudy = open_study()\nstudy.record()",
        "study.propose().change(ALHPA=1.0)",
        "open_study('nothing')",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=notebook_metadata()
    )
    NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(measured.project)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs if output.output_type == "error"]
    assert ["\n".join(error.traceback) for error in outputs] == [
        "\x1b[31mThere is nothing to record yet: `study.propose()` asks for an idea.\x1b[0m",
        "\x1b[31mtrain.py has no parameter ALHPA. Did you mean ALPHA?\x1b[0m",
        f"\x1b[31m{outputs[2].evalue}\x1b[0m",
    ]
    assert "There is no study 'nothing'" in outputs[2].evalue


# --- opening and starting


def test_a_study_is_opened_by_name_or_as_the_one_touched_last(project: Path, small_corpus: Path) -> None:
    with pytest.raises(StudyError, match=r"There is no study in .* yet\. Start one: `study = start_study\("):
        open_study()
    counting_study(project, small_corpus, "first")
    counting_study(project, small_corpus, "second")
    assert (open_study("first").name, open_study(project=str(project)).name) == ("first", "second")
    assert isinstance(open_study("first", project), Study)


def test_the_cell_that_starts_a_study_continues_it_and_refuses_other_settings(
    project: Path, small_corpus: Path
) -> None:
    counting_study(project, small_corpus, "lesson")
    assert start_study("lesson", budget=2).name == start_study("lesson").name == "lesson"
    with pytest.raises(StudyError, match=r"'lesson' began with budget 2.0, not 9\. .* another name\."):
        start_study("lesson", budget=9)


# --- help


@pytest.mark.parametrize("name", autoresearch_kernel.__all__)
def test_help_of_a_public_name_holds_an_example(name: str) -> None:
    value = getattr(autoresearch_kernel, name)
    text = inspect.getdoc(value) or ""
    assert re.search(rf">>> |^    .*{name}\(", text, re.MULTILINE), name
    known = vars(autoresearch_kernel) | {name: value}
    test = doctest.DocTestParser().get_doctest(text, known, name, None, None)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


STEPS = vars(ShownStudy) | vars(InteractiveStudy)


@pytest.mark.parametrize("name", [name for name in STEPS if not name.startswith("_") and callable(STEPS[name])])
def test_help_of_a_step_holds_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(InteractiveStudy, name)) or ""), name


# --- the notebook


def test_the_step_notebook_is_committed_without_outputs_and_reads_as_a_lesson() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= 10 for cell in code)
    assert code[0].metadata.get("tags") == ["parameters"]
    assert notebook.metadata.kernelspec.name == "autoresearch" and str(PROJECT) not in NOTEBOOK.read_text()
