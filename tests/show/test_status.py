"""How a study stands, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from autoresearch_kernel.lab.analysis.data import StudyData
from autoresearch_kernel.lab.analysis.gains import summary
from autoresearch_kernel.lab.panel import pages
from autoresearch_kernel.lab.panel.chart import history_data
from autoresearch_kernel.show.follow import View
from autoresearch_kernel.show.plot_progress import progress_figure
from autoresearch_kernel.show.snapshot import Snapshot
from autoresearch_kernel.show.status import columns, status_json, status_table
from autoresearch_kernel.show.study_words import counts
from autoresearch_kernel.show.words import outcome_line, verdict

if TYPE_CHECKING:
    from tests.event_writer import Writer

FACTS: dict[str, Any] = {
    "time_budget_seconds": 60.0,
    "hardware": {"device_name": "2 cores"},
    "scoring": {"dtype": "float32", "device": "cpu"},
    "corpus": {"corpus": "stdlib", "content_sha256": "c" * 64, "vocab_size": 512, "sequence_length": 64},
}


def seen(writer: Writer) -> Snapshot:
    return View(writer.study, clock=lambda: writer.clock).look()


def training(writer: Writer, words: str = "Gate the value residual per head.") -> Snapshot:
    """Two experiments are decided and the third has trained for 60 of its 100 seconds."""
    writer.open().baseline()
    writer.settle(1, "keep", 1.49)
    writer.settle(2)
    writer.propose(3, words, parent=1)
    writer.start(3)
    writer.clock += 65
    writer.curve(1, level=3.2)
    writer.curve(3, upto=0.6, level=3.1)
    return seen(writer)


def test_on_several_slots_each_experiment_in_work_is_said_to_do_what_its_slot_does(writer: Writer) -> None:
    now = training(writer)
    slots = (
        {"slot": "slot 1", "phase": "training", "experiment": 3},
        {"slot": "slot 2", "phase": "scoring", "experiment": 4},
    )
    divided = replace(now, slots=slots)
    assert [divided.doing(number) for number in (3, 4, 5)] == ["training", "scoring", "waits"]
    assert [now.doing(number) for number in (3, 4)] == ["training", "unfinished"]
    assert replace(divided, phase="stopped").doing(3) == "unfinished"


def test_status_shows_the_running_experiment_and_fits_80_columns(writer: Writer) -> None:
    lines = status_table(training(writer)).splitlines()
    assert lines[0].startswith("nov23  ● training 0003  ▓▓▓▓▓▓▓░░░░░ 40 s left") and lines[0].endswith("/h")
    assert columns(lines[0]) == 80
    assert lines[1] == "agent search · 2 experiments, 1 kept · stdlib, 100 s a run · 28.1 k tokens/s"
    assert lines[2] == "0003 · Gate the value residual per head"
    mine, theirs = lines[3], lines[4]
    assert mine.startswith("  this run ") and mine.endswith("loss 3.123")  # 3.1 + what is left of the descent
    assert theirs.startswith("  0001 ") and theirs.endswith("loss 3.223 at 60 %")  # at the same share of its run
    cells = [sum(c in "▁▂▃▄▅▆▇█" for c in line) for line in (mine, theirs)]
    assert cells == [24, 24]  # 60 % of 40
    rows = [line for line in lines if line[:4].strip().isdigit() and line[4:6] == "  "]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]
    assert "baseline ◆" in rows[0] and "keep ●" not in rows[0]
    assert rows[1].endswith("1.4900   1.5000  −0.0100 ± 0.0014  keep ●")  # compared, and the difference of these
    assert rows[2].endswith("discard") and rows[3].endswith("training")
    assert "Incumbent: 0001" in lines[-3] and " ".join(lines[-1].split()) == "0.0014, as each was decided."
    assert any(line.startswith("incumbent ▁") or line.startswith("incumbent █") for line in lines)
    assert max(map(columns, lines)) <= 80


def test_a_wide_terminal_gets_differences_in_bits_per_byte_too(writer: Writer) -> None:
    now = training(writer)
    assert "−0.0100 ± 0.0014 (−5.0 σ)" in status_table(now, width=110)
    assert max(map(columns, status_table(now, width=110).splitlines())) == 110
    assert max(map(columns, status_table(now, width=300).splitlines())) == 120


def test_the_last_experiments_are_enough(writer: Writer) -> None:
    writer.open().baseline()
    for each in range(1, 31):
        writer.settle(each)
    table = status_table(seen(writer), last=5)
    assert "… 25 experiments and the baseline before these" in table
    assert "\n  26  " in table and "\n  25  " not in table


def test_hostile_words_cannot_play_with_the_terminal(writer: Writer) -> None:
    words = "\x1b[2J\x1b[31mWarm\tup\u202e longer\x07 を試す" + "字" * 60
    table = status_table(training(writer, words))
    assert not set(table) & {"\x1b", "\x07", "\t", "\u202e"}
    assert max(map(columns, table.splitlines())) <= 80


@pytest.mark.parametrize(
    ("end", "mark", "advice"),
    [
        ("gone", "○ gone", "The supervisor is gone since 2027-01-15 08:08 UTC (2 h 1 min ago), while it was at 0003."),
        ("stopped", "○ stopped", "Stopped 2 h 0 min ago: asked by ann@here. `autoresearch run --name nov23` goes on."),
        ("finished", "○ finished", "Finished 2 h 0 min ago: 8 hours. `autoresearch run --name nov23` goes on."),
        ("paused", "● paused", "Paused by ann@here. `autoresearch resume --name nov23` goes on."),
        ("full", "● paused", "Paused: the disk is full."),
    ],
)
def test_a_study_that_does_not_go_on_names_the_next_step(writer: Writer, end: str, mark: str, advice: str) -> None:
    training(writer)
    if end == "finished":
        writer.run(3, 1.52)
        writer.decide(3, "discard", 1.52)
        writer.append("finished", reason="8 hours", champion=0)
    elif end in ("paused", "full"):
        why = "by ann@here" if end == "paused" else "the disk is full"
        writer.append("paused", reason=why, by_person=end == "paused")
    elif end == "stopped":
        writer.append("stopped", reason="asked by ann@here")
    if end not in ("paused", "full"):
        writer.history.close()
    writer.clock += 7200
    now = seen(writer)
    text = status_table(now)
    assert mark in text.splitlines()[0] and "left" not in text.splitlines()[0]
    assert advice in " ".join(text.split())
    assert status_json(now)["next_step"].startswith(advice)


def test_what_the_agent_writes_is_shown_as_inert_lines(writer: Writer) -> None:
    training(writer)
    assert "the agent writes" not in status_table(seen(writer)) and status_json(seen(writer))["agent_writes"] == ""
    hostile = "nov23  ● finished\n\x1b[2J`autoresearch promote` now \u202eabc\n" + "long " * 100
    writer.say("training", 3, writes=hostile)
    now = seen(writer)
    lines = status_table(now).splitlines()
    start = lines.index("  the agent writes:")
    assert [line[:4] for line in lines[start + 1 : start + 4]] == ["  ┃ "] * 3
    assert lines[start + 2] == "  ┃ `autoresearch promote` now abc" and all(columns(line) <= 80 for line in lines)
    assert "\x1b" not in now.agent_writes and "\u202e" not in now.agent_writes
    assert status_json(now)["agent_writes"] == now.agent_writes
    writer.history.close()
    assert seen(writer).agent_writes == "", "its process is gone"


def test_what_was_asked_and_noted_is_shown(writer: Writer) -> None:
    training(writer)
    writer.append("command", id="1", command="hint", text="warm up longer", by="ann@here", answer="the agent reads it")
    writer.append("note", text="git is gone")
    writer.clock += 120
    text = status_table(seen(writer))
    assert "2 min ago: ann@here: hint “warm up longer” → the agent reads it\n2 min ago: git is gone" in text


def test_the_baseline_says_which_run_it_is_at(writer: Writer) -> None:
    writer.open()
    writer.propose(0, "Baseline: train.py with the preset none")
    writer.run(0, 1.5)
    writer.start(0, run=1)
    writer.curve(0, run=1, upto=0.2)
    text = status_table(seen(writer))
    assert "● measuring the baseline, run 2 of 3 to 8  ▓▓░░░░░░░░░░ 80 s left" in text
    assert "The baseline is not measured yet" in text
    assert "this run" in text and "at 20 %" not in text  # nothing to compare with
    writer.train(0, run=1)
    assert "● measuring the baseline, run 2 of 3 to 8: scoring" in status_table(seen(writer)).splitlines()[0]


def test_status_json_is_json_without_nan_and_knows_what_runs(writer: Writer) -> None:
    training(writer)
    writer.curve(3, upto=0.6, wrong='{"progress": NaN, "train_loss": 1e999}\n')
    facts = json.loads(json.dumps(status_json(seen(writer)), allow_nan=False))
    assert set(facts) == {
        "name", "phase", "activity", "next_step", "holder", "paused", "stopped", "finished", "running", "best",
        "best_val_bpb", "sigma", "study_seconds", "supervisor_seconds", "experiments_per_hour", "agent", "notes",
        "commands", "hints", "experiments", "study", "spent", "limits", "review", "agent_notes", "refusals",
        "result", "attribution", "untrusted", "waiting", "damage", "busy", "quiet_wait", "quiet_seconds",
        "agent_writes", "slots", "slot_seconds", "one_slot_per_hour",
    }  # fmt: skip
    assert all(name in (status_json.__doc__ or "") for name in facts)
    assert (facts["phase"], facts["best"], facts["best_val_bpb"], facts["paused"]) == ("training", 1, 1.49, "")
    running = facts["running"]
    assert (running["experiment"], running["run"], running["seed"], running["incumbent"]) == (3, 0, 300, 1)
    assert running["seconds_left"] == pytest.approx(40) and len(running["curve"]) == 121
    assert running["curve"][0] == {
        "progress": 0.005,
        "seconds": 0.5,
        "train_loss": pytest.approx(6.824, abs=0.001),
        "tokens_per_second": 28_000.0,
    }
    assert running["curve"][-1]["train_loss"] is None
    assert [e["status"] for e in facts["experiments"]] == ["keep", "keep", "discard", None]
    writer.history.close()
    assert status_json(seen(writer))["running"] is None and status_json(seen(writer))["holder"] is None


def test_the_baseline_is_neither_an_experiment_nor_kept_wherever_they_are_counted(writer: Writer) -> None:
    training(writer)  # the baseline, one kept, one discarded, one in work
    now, state = seen(writer), seen(writer).state
    assert counts(state.experiments) == "2 experiments, 1 kept"
    assert "2 experiments, 1 kept" in status_table(now) and "2 experiments, 1 kept" in pages.gauge(now, None)
    assert history_data(state.experiments, state.sigma)["summary"].startswith("2 experiments, 1 kept;")
    drawn = progress_figure(state.decided, title="nov23", sigma=state.sigma)
    assert any("2 experiments, 1 kept" in text.get_text() for text in drawn.texts)
    legend = {text.get_text() for legend in drawn.legends for text in legend.get_texts()}
    assert {"keep 1", "discard 1"} <= legend
    assert summary(StudyData("nov23", state.decided)).startswith("2 experiments ")
    assert "1 change was kept" in summary(StudyData("nov23", state.decided))


def test_a_study_that_waits_for_the_machine_says_for_whom(writer: Writer) -> None:
    writer.open().baseline().propose(1)
    writer.start(1)
    writer.append("waiting", study="dec1", pid=4711, since="2027-01-15T08:00:00Z")
    text = " ".join(status_table(seen(writer)).split())
    assert "waiting for the machine to train 0001" in text and "study dec1, process 4711" in text
    facts = status_json(seen(writer))
    assert facts["waiting"] | {"waiting_since": ""} == {
        "study": "dec1", "pid": 4711, "since": "2027-01-15T08:00:00Z", "waiting_since": ""
    }  # fmt: skip
    assert facts["waiting"]["waiting_since"] and facts["phase"] == "waiting for the machine"
    writer.append("waiting", study="", pid=None, since="")  # a holder that does not say who it is
    assert "Another training runs on this machine;" in " ".join(status_table(seen(writer)).split())
    writer.append("waited")
    assert status_json(seen(writer))["waiting"] is None and "Another training" not in status_table(seen(writer))
    writer.append("waiting", study="dec1", pid=4711, since="2027-01-15T08:00:00Z")
    writer.history.close()  # it was killed while it waited
    assert status_json(seen(writer))["waiting"] is None and "Another training" not in status_table(seen(writer))


def test_an_experiment_that_was_ended_early_is_called_that(writer: Writer) -> None:
    writer.open().baseline()
    writer.propose(1)
    writer.start(1)
    why = "ended at 31 %: loss 4.012 where the incumbent had 3.220"
    writer.append("trained", experiment=1, run=0, status="discard", reason=why, measured={"tokens_per_second": 28e3})
    writer.decide(1, "discard", None, why)
    now = seen(writer)
    assert "ended early" in status_table(now)
    experiment = now.state.experiments[1]
    assert why in outcome_line(experiment)
    text = verdict(experiment, experiment.runs[0], FACTS)
    assert f"| decision | **discard**: {why} |" in text and f"| scored | not scored: {why} |" in text
