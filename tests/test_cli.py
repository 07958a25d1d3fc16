"""The command line as a person uses it: its errors, its tables, promote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import NO_LIMITS, Limits, Progress, Spent, Status
from autoresearch_kernel.record.commands import Inbox
from autoresearch_kernel.record.history import read_events, read_state
from autoresearch_kernel.record.study import study_names
from autoresearch_kernel.show.cost import cost_table, plan_words
from autoresearch_kernel.show.study_words import advice, findings
from autoresearch_kernel.show.terminal import Screen
from autoresearch_kernel.study.create import _promoted_from
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.options import StudyOptions, limits_of
from autoresearch_kernel.study.steps import open_session
from tests.conftest import counting_study, git
from tests.pretended import Machine
from tests.study.test_loop import Scripted


def test_help_names_every_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "autoresearch_kernel.cli", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("prepare", "run", "status", "promote", "lab", "kernel"):
        assert command in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status"], "There is no study in .*studies yet. Start one with `autoresearch run`"),
        (["status", "--name", "nov1"], r"There is no study 'nov1': .*study\.json is missing"),
        (["status", "--name", "../x"], "use letters, digits"),
        (["promote", "--name", "nov1"], "There is no study 'nov1'"),
        (["run", "--name", "a b"], "use letters, digits"),
        (["prepare", "--corpus", "files", "--files-folder", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_plain_line(
    project: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert re.search(message, said.replace("\n", " ")), said


@pytest.mark.parametrize("words", [["run", "--experiments", "0"], ["run", "--budget", "-3"], ["run", "--hours", "inf"]])
def test_numbers_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "is not possible: give" in capsys.readouterr().err


def test_status_continue_and_promote(
    project: Path,
    small_corpus: Path,
    capsys: pytest.CaptureFixture[str],
    machine: Machine,
) -> None:
    study = counting_study(project, small_corpus)
    assert main(["status"]) == 0
    assert "The baseline is not measured yet" in capsys.readouterr().out
    assert main(["promote"]) == 1
    assert "has no best train.py yet" in capsys.readouterr().err
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))

    assert main(["status"]) == 0
    table = capsys.readouterr().out
    assert "1 experiment, 1 kept" in table and "keep ●" in table and "No result yet: `autoresearch finish" in table
    assert max(len(line) for line in table.splitlines()[:5]) <= 80
    assert main(["status", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [e["status"] for e in facts["experiments"]] == ["keep", "keep"]

    assert main(["run", "--name", "nov23", "--budget", "30"]) == 1
    assert "began with --budget 2.0, not 30.0" in capsys.readouterr().err

    mine = project / "train.py"
    original = mine.read_text()
    mine.write_text(original + "\n# mine\n")
    assert main(["promote"]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    mine.write_text(original)
    assert main(["promote"]) == 0
    assert mine.read_text() == study.paths.best_train.read_text()
    assert git(project, "status", "--porcelain") == "M train.py"
    assert main(["promote"]) == 0
    assert "already the best" in capsys.readouterr().out
    # a promoted train.py is one of the study's own: a later best may replace it
    list(research(study, Scripted({"ALPHA": 0.05}), experiments=1))
    capsys.readouterr()
    assert main(["promote"]) == 0, capsys.readouterr().err
    assert mine.read_text() == study.paths.best_train.read_text() != original
    # a study that began with it has the same best train.py, and did not find it
    later = counting_study(project, small_corpus, "later", mine.read_text())
    later.paths.best_train.parent.mkdir()
    later.paths.best_train.write_text(mine.read_text())
    promoted_from = _promoted_from(project)
    assert study_names(project)[0] == "later" and promoted_from is not None and promoted_from.name == "nov23"


def test_a_study_that_kept_nothing_says_what_that_means_and_has_nothing_to_finish_or_promote(
    project: Path,
    small_corpus: Path,
    capsys: pytest.CaptureFixture[str],
    machine: Machine,
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, Scripted({"ALPHA": 3.0}), experiments=1))
    capsys.readouterr()
    assert main(["attach"]) == 0
    said = capsys.readouterr().out
    sigma = read_state(study.paths.history).sigma
    assert f"by more than the noise: repeated runs of the same code scatter by ±{sigma:.4f}." in said
    assert "To keep nothing is usual after 1 experiment of 2 s" in said and "promote" not in said
    assert "`autoresearch run --name nov23 --experiments 20`" in said
    assert "`autoresearch run --name nov23-6s --budget 6 --experiments 20`" in said
    assert "studies/nov23/best/train.py (the baseline)" in said

    before = read_events(study.paths.history)
    assert main(["finish", "--name", "nov23"]) == 0
    said = capsys.readouterr()
    assert (
        "has kept nothing besides its baseline yet: no change beat the baseline by more than the noise" in said.out
        and not said.err
    )

    study.paths.best_train.write_text("# a baseline that a preset has changed\n")
    mine = (project / "train.py").read_text()
    for words in (["promote"], ["promote", "--force"]):
        assert main(words) == 0
        assert "nothing to promote" in capsys.readouterr().out
    assert (project / "train.py").read_text() == mine and git(project, "status", "--porcelain") == ""
    assert read_events(study.paths.history) == before


def test_a_study_whose_experiments_all_failed_points_to_their_logs(
    project: Path,
    small_corpus: Path,
    machine: Machine,
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, Scripted({"ALPHA": 3.0}), experiments=1))
    state = read_state(study.paths.history)
    crashed = replace(state.experiments[1], status=Status.CRASH, val_bpb=None)
    state = replace(state, experiments=(state.experiments[0], crashed))
    assert findings(state, None).endswith(": of 1 experiment none ended with a score that counts.")
    assert advice(state).startswith("Every experiment failed. `autoresearch status --name nov23` says how;")


def test_run_begins_with_what_will_happen_and_who_else_uses_the_machine(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus, agent="search")
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "run", "--name", study.name, "--experiments", "5"]
    lines = []
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as running:
                assert running.stdout is not None
                for line in running.stdout:
                    lines.append(line)
                    if line.startswith("This machine is busy: "):
                        running.terminate()
        finally:
            busy.kill()
    assert any(line.startswith("What runs: 3 runs of the baseline (at most 8 where") for line in lines)
    assert any(line.startswith("How long: about ") for line in lines)
    assert any("studies/nov23/progress.png" in line for line in lines)
    (said,) = [line for line in lines if line.startswith("This machine is busy: ")]
    host = r"(?:, the host of this virtual machine \d+ %)?"
    taken = rf"other processes take \d+ % of \d+ % processor time \(.+ \(process \d+\) \d+ %{host}\)"
    assert re.match(f"This machine is busy: {taken}", said)


def test_a_study_that_is_refused_says_nothing_of_a_busy_machine(project: Path, small_corpus: Path) -> None:
    study = counting_study(project, small_corpus, agent="search")
    with (project / "prepare.py").open("a") as prepare:
        prepare.write("# another\n")
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "run", "--name", study.name, "--experiments", "5"]
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            said = subprocess.run(command, cwd=project, capture_output=True, text=True)
        finally:
            busy.kill()
    assert said.returncode == 1 and "prepare.py has changed" in said.stderr and "busy" not in said.stdout


def test_a_branch_left_by_a_deleted_study_is_refused_before_anything_is_measured(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(project, "branch", "autoresearch/nov23")
    assert main(["run", "--name", "nov23", "--experiments", "1"]) == 1
    said = capsys.readouterr()
    assert "git branch -D autoresearch/nov23" in said.err and "Preset" not in said.out


def test_options_of_others_are_passed_on_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, wanted in ((["lab", "--help"], "usage: autoresearch lab"), (["status", "--frobnicate"], "unrecognized")):
        with pytest.raises(SystemExit):
            main(words)
        said = capsys.readouterr()
        assert wanted in said.out + said.err


def test_a_hint_that_nobody_would_read_is_refused_and_not_sent(
    project: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = counting_study(project, small_corpus, agent="search")
    assert main(["hint", "leave the learning rates alone"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("autoresearch: The embedded optimiser does not read hints") and "Error" not in said
    assert not study.paths.commands.exists()


def test_hints_are_cleared_by_the_command_line(
    project: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = counting_study(project, small_corpus)
    assert main(["hint"]) == 1 and "nothing in the hint" in capsys.readouterr().err
    assert main(["hint", "--clear"]) == 0 and main(["hint", "--clear", "leave the rates alone"]) == 0
    sent = [(command.command, command.text) for command in Inbox(study.paths.commands).read()]
    assert sent == [("clear hints", ""), ("clear hints", ""), ("hint", "leave the rates alone")]
    assert capsys.readouterr().out.count("it holds when the study goes on") == 3


def test_a_second_run_of_the_same_study_names_the_first(project: Path, small_corpus: Path) -> None:
    from autoresearch_kernel.system.files import StudyInUse

    study = counting_study(project, small_corpus)
    with open_session(study), pytest.raises(StudyInUse, match="is being run by process"), open_session(study):
        pass


def test_what_waits_for_a_person_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    paused = Progress("paused", text="Paused: by you")
    for is_live, wanted in ((False, ["Look at review.py", "Paused: by you"]), (True, ["Look at review.py"])):
        screen = Screen()
        screen.live = is_live
        for progress in (Progress("reviewing", 1, text="Look at review.py"), paused, paused):
            screen.watch(progress)
        assert [line.split("\r\033[K")[-1] for line in capsys.readouterr().out.split("\n")[:-1]] == wanted


def test_what_the_agent_writes_stands_below_the_live_line_and_is_taken_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen()
    screen.live = True
    screen.watch(Progress("proposing", 3, writes="one\ntwo\nthree\n\x1b[31mfour"))
    drawn = capsys.readouterr().out
    assert drawn.startswith("\r\033[K0003 proposing")
    assert drawn.split("\n")[1:] == ["  the agent writes:", "  ┃ two", "  ┃ three", "  ┃ four"]
    screen.watch(Progress("proposing", 3))
    assert capsys.readouterr().out.startswith("\r\033[4A\033[J0003 proposing")
    screen.clear()
    assert capsys.readouterr().out == "\r\033[K"
    screen.live = False
    screen.watch(Progress("proposing", 3, writes="one"))
    assert capsys.readouterr().out == "", "a pipe gets no lines that change"


def test_the_live_line_says_what_each_slot_does(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.live = True
    screen.watch(Progress("training", 3, fraction=0.25, slot="core 0"))
    screen.watch(Progress("scoring", 4, fraction=0.5, slot="core 1"))  # too early to be drawn, but not forgotten
    screen.shown = 0.0
    screen.watch(Progress("training", 3, fraction=0.5, slot="core 0"))
    assert capsys.readouterr().out.endswith("core 0: 0003 training 50% · core 1: 0004 scoring 50%")
    screen.watch(Progress("auditing", 4, slot="core 1"))
    assert capsys.readouterr().out.endswith("core 1: 0004 auditing")
    screen.watch(Progress("", slot="core 1"))
    assert capsys.readouterr().out.endswith("core 0: 0003 training 50% · core 1: waits")


def test_what_the_agent_writes_meanwhile_leaves_the_live_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.live = True
    screen.watch(Progress("writing", writes="before anything is shown"))
    assert capsys.readouterr().out == ""
    screen.watch(Progress("paused", text="Paused: by you"))
    screen.watch(Progress("writing", writes="one"))
    assert capsys.readouterr().out.endswith("Paused: by you\n  the agent writes:\n  ┃ one")
    screen.watch(Progress("writing"))
    assert capsys.readouterr().out.endswith("\033[JPaused: by you")


def test_a_plan_says_what_the_model_may_spend() -> None:
    assert plan_words("gpt-5", "api.openai.com", (1.25, 10.0), Limits(max_cost=5.0)) == (
        "Model gpt-5 at api.openai.com, $1.25 in and $10 out for a million tokens; at most $5.00 in all."
    )
    unlimited = "Nothing limits what it may spend: add --max-tokens N"
    assert plan_words("m", "h", (1.25, 10.0), NO_LIMITS).splitlines()[1] == f"{unlimited} or --max-cost USD."
    assert plan_words("m", "h", None, NO_LIMITS).splitlines() == ["Model m at h, price not known.", f"{unlimited}."]
    assert len(plan_words("m", "h", (0.0, 0.0), NO_LIMITS).splitlines()) == 1


def test_the_table_of_costs_says_how_a_price_gets_known() -> None:
    for cost, is_said in ((None, True), (0.5, False)):
        state = replace(replay([]), spent_by_experiment={1: Spent(1, 5, 2, cost or 0.0, int(cost is None))})
        assert ("presets/prices.yaml" in cost_table(state)) is is_said


def test_a_limit_of_the_study_counts_where_the_command_has_none(
    project: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    study = counting_study(project, small_corpus, agent="llm", agent_options={"model": "mine", "prompt_tokens": 9000})
    with open_session(study) as session:
        session.limit(Limits(max_cost=3.0))
        assert limits_of(session.state, StudyOptions(max_tokens=10)) == Limits(10, 3.0)
        assert limits_of(session.state, StudyOptions(max_cost=4.0)) == Limits(None, 4.0)
    assert main(["run", "--name", "nov23"]) == 1
    said = capsys.readouterr()
    assert "the limit of $3.00 cannot be kept" in said.err and "Model mine" not in said.out


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_environment_with_the_key_is_hidden_from_other_processes() -> None:
    code = "import ctypes; from autoresearch_kernel.control.foreground import hide_environment as hide; hide(); "
    asked = code + "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "0\n"
