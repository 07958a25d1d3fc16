"""The panel as its kernel sees it: what it shows of the record, what an update costs, and what stays of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from autoresearch_kernel.core.types import Call, Proposal, Result
from autoresearch_kernel.lab.panel.chart import found
from autoresearch_kernel.lab.panel.elements import FOLLOW
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.lab.panel.view import NO_MORE_BEATS, in_python
from autoresearch_kernel.lab.pictures import with_result
from autoresearch_kernel.show.status import doing, next_step, standing, status_table
from autoresearch_kernel.study.proposal_files import save_proposal
from autoresearch_kernel.system.files import lock_holder, study_in_use, write_atomic
from tests.event_writer import Writer
from tests.lab.panels import HOSTILE, Recorder, shown_buttons, until

PROJECT = Path(__file__).parents[2]


def test_a_study_in_the_making_shows_what_runs_and_how_far(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().propose(1, "Set ALPHA to 0.5.")
    writer.start(1)
    writer.curve(1, upto=0.4)
    made = panel()
    assert "training 0001" in made.said.data
    assert 'role="progressbar"' in made.gauge.value and "28.1 k tokens/s" in made.gauge.value
    assert shown_buttons(made) == ["Pause", "Stop after this", "Stop now"]
    assert len(made.card.curve.numbers["mine"]) == 80 and len(made.card.curve.numbers["theirs"]) == 200
    assert made.card.curve.numbers["theirs_label"] == "0000"
    assert "0001 · Set ALPHA to 0.5" in made.card.head.value
    assert [row["status"] for row in made.experiments.numbers["rows"]] == ["baseline", "training"]


def test_a_study_that_waits_for_another_training_says_for_whose(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().propose(1)
    writer.start(1)
    writer.append("waiting", study="<b>dec1", pid=4711, since="2027-01-15T08:00:00Z")
    made = panel()
    assert "waiting for the machine to train 0001" in made.said.data
    assert "study &lt;b&gt;dec1, process 4711" in made.said.data and "since 2027-01-15 08:00 UTC" in made.said.data
    assert "waits for the machine" in made.gauge.value and "progressbar" not in made.gauge.value
    assert [row["status"] for row in made.experiments.numbers["rows"]] == ["baseline", "waiting"]


def test_the_numbers_shown_are_those_of_the_history(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().settle(1, "keep", 1.4931)
    writer.settle(2, "discard", 1.5017)
    made = panel()
    points = {point["number"]: point for point in made.history.numbers["points"]}
    assert {n: (p["val_bpb"], p["mark"]) for n, p in points.items()} == {
        0: (1.5, "keep"),
        1: (1.4931, "keep"),
        2: (1.5017, "discard"),
    }
    rows = made.experiments.numbers["rows"]
    assert rows[1]["delta"] == pytest.approx(-0.0069) and rows[1]["sigmas"] == pytest.approx(-3.45)
    assert rows[1]["delta_error"] == pytest.approx(0.001 * 2**0.5)
    assert rows[2]["near"] and not rows[1]["near"]


def test_each_state_has_its_next_act(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    writer.append("paused", reason="by ann@here", by_person=True)
    made = panel()
    assert shown_buttons(made)[0] == "Resume" and "Paused by ann@here" in made.said.data
    writer.append("resumed", reason="asked to go on")
    writer.append("finished", reason="1 experiment", champion=1, baseline_bpb=1.5, champion_bpb=1.49,
                  difference_bpb=-0.01, difference_standard_error=0.001, baseline_test_bpb=None,
                  champion_test_bpb=None, machine_speed=1.0)  # fmt: skip
    writer.history.close()
    made.refresh()
    assert shown_buttons(made) == ["Continue", "Finish", "Attribute", "Promote the incumbent"]
    assert "nov23  ○ finished" in made.said.data and "Finished" in made.said.data
    assert status_table(made.now).startswith("nov23  ○ finished")
    assert standing(made.now) and next_step(made.now).startswith(standing(made.now))


@pytest.mark.parametrize(
    ("reason", "who", "button"),
    [
        ("by ann@here", {}, "Pause"),  # the words do not say it
        ("ann@here wants it", {"by_person": True}, "Resume"),
        ("by its nature, a full disk waits for space", {"by_person": False}, "Pause"),
    ],
)
def test_a_pause_is_a_persons_by_its_record_and_not_by_its_words(
    writer: Writer, panel: Callable[[], Panel], reason: str, who: dict[str, bool], button: str
) -> None:
    writer.open().baseline()
    writer.append("paused", reason=reason, **who)
    made = panel()
    assert shown_buttons(made)[0] == button
    assert ("resume --name nov23" in next_step(made.now)) == (button == "Resume")


def test_a_supervisor_that_is_gone_is_said_with_what_to_press(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().propose(1)
    writer.start(1)
    writer.history.close()
    made = panel()
    assert "The supervisor is gone since" in made.said.data
    assert shown_buttons(made) == ["Continue"]


def test_a_click_shows_an_experiment_and_stays_there_while_others_run(
    writer: Writer, panel: Callable[[], Panel]
) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    writer.curve(1)
    write_atomic(writer.study.experiment(1).diff, "--- a\n+++ b\n@@ -1 +1 @@\n-ALPHA = 1.0\n+ALPHA = 0.5\n")
    transcript = {"role": "user", "content": "the prompt"}, {"role": "assistant", "content": "the reply"}
    save_proposal(writer.study.experiment(1), Proposal("Halve it", "", "llm", transcript=transcript), 0)
    made = panel()
    made.experiments.selected = 1  # what a click in the browser sets
    assert made.history.selected == 1 and made.card.follow_button.layout.display == ""
    writer.propose(2)
    writer.start(2)
    made.refresh()
    assert "0001 ·" in made.card.head.value and len(made.card.curve.numbers["mine"]) == 200
    for words in ("+ALPHA = 0.5", "the prompt", "the reply", "all seconds accounted for"):
        assert words in made.card.body.value
    made.card.follow_button.click()
    assert made.experiments.selected == FOLLOW and "0002 ·" in made.card.head.value


def test_where_nothing_runs_no_button_offers_to_show_it(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    writer.append("finished", reason="1 experiment", champion=1, baseline_bpb=1.5, champion_bpb=1.49,
                  difference_bpb=-0.01, difference_standard_error=0.001, machine_speed=1.0)  # fmt: skip
    writer.history.close()
    made = panel()
    made.select(0)
    assert "0000 ·" in made.card.head.value and made.card.follow_button.layout.display == "none"


def test_the_panel_names_buttons_and_methods_and_no_shell_commands(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().settle(1, "keep", 1.49)
    writer.append("finished", reason="1 experiment", champion=1, baseline_bpb=1.5, champion_bpb=1.49,
                  difference_bpb=-0.01, difference_standard_error=0.001, machine_speed=1.0)  # fmt: skip
    made = panel()
    assert "`lab.finish()`" in found(made.now) and "autoresearch" not in found(made.now)
    words = in_python(study_in_use(writer.study.paths.lock, lock_holder(writer.study.paths.lock)))
    assert "`lab.stop()`" in words and "autoresearch " not in words


def test_what_an_agent_or_a_training_wrote_is_text(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline().propose(1, HOSTILE)
    writer.run(1, 1.51)
    writer.decide(1, "discard", 1.51, reason=HOSTILE)
    write_atomic(writer.study.experiment(1).diff, f"+{HOSTILE}\n")
    transcript = ({"role": "<b>", "content": "<script>x"},)
    save_proposal(writer.study.experiment(1), Proposal("Halve it", "", "llm", transcript=transcript), 0)
    writer.append("notes", text=HOSTILE, decided=1)
    write_atomic(writer.study.paths.supervisor_log, HOSTILE)
    made = panel()
    made.select(1)
    for name in ("notes", "log", "settings"):
        made.folds[name].value = True
        assert made.fold.value
        assert "<img" not in made.fold.value and "<script" not in made.fold.value
    for words in (made.card.head.value, made.card.body.value, made.said.data, made.gauge.value):
        assert "<img" not in words and "<script" not in words


def test_one_part_is_unfolded_at_a_time(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    made = panel()
    made.folds["settings"].value = True
    assert "100 s a run" in made.fold.value
    made.folds["cost"].value = True
    assert "No model was asked" in made.fold.value and not made.folds["settings"].value
    writer.append("called", experiment=1, **asdict(Call("tiny", 100, 50, 0.01, 0.0)))
    writer.propose(1)
    made.refresh()
    assert "in work" in made.fold.value
    writer.run(1, 1.51)
    writer.decide(1, "discard", 1.51)
    made.refresh()
    assert "in work" not in made.fold.value and "discard" in made.fold.value
    made.folds["cost"].value = False
    assert made.fold.value == ""


def test_making_a_panel_again_ends_the_thread_of_the_one_before(writer: Writer, tmp_path: Path) -> None:
    writer.open().baseline()
    first = Panel(Recorder(writer), tmp_path)
    second = Panel(Recorder(writer), tmp_path)
    assert first._ended.is_set() and not second._ended.is_set()
    second.close()


def test_a_panel_tells_the_browser_that_its_kernel_lives_until_it_is_closed(writer: Writer, tmp_path: Path) -> None:
    writer.open().baseline()
    made = Panel(Recorder(writer), tmp_path)
    until(lambda: made.said.beat > 0)
    before = made.said.beat
    until(lambda: made.said.beat > before, 10)
    made.close()
    until(lambda: made.said.beat == NO_MORE_BEATS)


def test_the_thread_shows_what_happens_and_outlives_a_damaged_history(writer: Writer, tmp_path: Path) -> None:
    writer.open().baseline()
    made = Panel(Recorder(writer), tmp_path)
    try:
        writer.settle(1, "keep", 1.49)
        until(lambda: len(made.experiments.numbers["rows"]) == 2)
        whole = writer.study.paths.history.read_bytes()
        writer.study.paths.history.write_bytes(whole.replace(b"keep", b"kep", 1))
        until(lambda: "Restore" in made.notice.value and "HistoryDamaged" not in made.notice.value)
        writer.study.paths.history.write_bytes(whole)
        writer.settle(2)
        until(lambda: len(made.experiments.numbers["rows"]) == 3)
    finally:
        made.close()


def test_what_the_agent_writes_is_shown_as_text_until_it_is_done(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    writer.say("proposing", 1, writes=f"I think\n{HOSTILE}")
    made = panel()
    assert "The agent writes:" in made.writes.value and "I think\n&lt;img" in made.writes.value
    assert "<img" not in made.writes.value and "<script" not in made.writes.value
    writer.say("dry run", 1)
    made.refresh()
    assert made.writes.value == ""


RESULT = Result(1, 1.502, 1.483, -0.0191, 0.0021, -0.0198, 0.0019, -0.0226, 3, 3, 1)


def test_a_finish_is_offered_when_it_makes_sense_and_its_result_stands_first(
    writer: Writer, panel: Callable[[], Panel]
) -> None:
    writer.open().baseline()
    writer.history.close()
    made = panel()
    assert shown_buttons(made) == ["Continue"], "nothing was kept"
    writer.open().settle(1, "keep", 1.49)
    made.refresh()
    assert "Finish" not in shown_buttons(made), "it runs"
    writer.purpose = "result"
    writer.append("finishing", champion=1)
    for number, run in ((0, 3), (1, 1)):
        writer.run(number, 1.5, run)
    writer.start(0, run=4)
    writer.curve(0, upto=0.4, run=4)
    made.refresh()
    assert "finishing, fresh run 3 of 6 (0000)" in made.said.data and "progressbar" in made.gauge.value
    assert doing(made.now) in status_table(made.now).splitlines()[0] and made.result.value == ""
    writer.append("stopped", reason="asked by ann@here")
    writer.history.close()
    made.refresh()
    assert shown_buttons(made) == ["Go on finishing", "Continue", "Attribute", "Promote the incumbent"]
    assert [button.button_style for button in made.acts.children] == ["primary", "", "", ""]
    assert "finish --name nov23` goes on measuring the result." in next_step(made.now)
    writer.open().append("result", **vars(RESULT))
    writer.history.close()
    made.refresh()
    assert shown_buttons(made) == ["Continue", "Attribute", "Promote the incumbent"], "it has its result"
    assert made.go_on_button.button_style == "primary"
    assert "test bpb 1.5020 → 1.4830, −0.0191 ± 0.0021" in made.result.value
    root = list(made.root.children)
    assert root.index(made.result) < root.index(made.gauge) < root.index(made.live)
    lines = status_table(made.now).splitlines()
    assert lines[2].startswith("Result: test bpb 1.5020") and sum("Result:" in line for line in lines) == 1
    assert "Incumbent: 0001" in "\n".join(lines)
    assert repr(made.figure()).startswith("nov23: Result: test bpb 1.5020 → 1.4830")
    assert repr(made.table()).startswith("Result: test bpb") and "test bpb" in made.table()._repr_html_()
    assert with_result("nov23", made.now.state) == "nov23 · result: test bpb 1.5020 → 1.4830, −0.0191 ± 0.0021"


def test_a_thousand_experiments_cost_an_update_less_than_150_ms(writer: Writer, panel: Callable[[], Panel]) -> None:
    """Kernel time of a look with a new decision, measured in CPU seconds of this thread; median of five."""
    writer.open().baseline()
    writer.says_what_it_does = False
    for number in range(1, 1000):
        writer.clock += 60
        writer.settle(number, "keep" if number % 40 == 0 else "discard", 1.5 - number / 1e5 + (number % 7) / 1e3)
    writer.says_what_it_does = True
    made = panel()
    quiet, costs = [], []
    for number in range(1000, 1005):
        writer.settle(number)
        began = time.thread_time()
        made.refresh()
        costs.append(time.thread_time() - began)
        began = time.thread_time()
        made.refresh()
        quiet.append(time.thread_time() - began)
    assert len(made.experiments.numbers["rows"]) == 1005
    assert statistics.median(costs) < 0.150 and statistics.median(quiet) < 0.015, (costs, quiet)


def test_its_picture_and_its_table_are_of_the_study_it_shows(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    made = panel()
    assert repr(made.figure()).startswith("nov23: ") and made.figure()._repr_png_().startswith(b"\x89PNG")
    assert "0000" in repr(made.table(last=20)) and ">0</td>" in made.table()._repr_html_()


def test_the_notebook_runs_from_top_to_bottom_before_there_is_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prepare.py").write_text("class TrainingClock: ...\n")
    (tmp_path / "train.py").write_text("")
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(PROJECT / "notebooks" / "control.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [o.data for cell in notebook.cells for o in cell.get("outputs", [])]
    assert len(shown) == 4 and "application/vnd.jupyter.widget-view+json" in shown[0]
    assert shown[0]["text/plain"] == "" and shown[1]["text/plain"].startswith("Control panel without a study yet")
    for exporter in (HTMLExporter(), MarkdownExporter()):
        page, _ = exporter.from_notebook_node(notebook)
        assert page.count("Control panel without a study yet") == 1
    assert "Control panel without a study yet" in shown[1]["text/html"] and "<img" not in shown[1]["text/html"]
    assert shown[2]["text/plain"].startswith("No study yet") and "image/png" in shown[2]
    assert "No experiment yet" in shown[3]["text/html"]


def test_what_stands_for_the_panel_is_a_sentence_and_a_small_picture(
    writer: Writer, panel: Callable[[], Panel]
) -> None:
    writer.open().baseline()
    writer.says_what_it_does = False
    for number in range(1, 300):
        writer.clock += 60
        writer.settle(number, "keep" if number % 10 == 0 else "discard", 1.5 - number / 1e4 + number % 7 / 1e3)
    writer.says_what_it_does = True
    made = panel()
    sentence = "Control panel of study nov23: 299 experiments, 29 kept, as of "
    assert repr(made).startswith(sentence) and "run the cell to see it live" in repr(made)
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/plain", "text/html"}
    assert bundle["text/plain"].startswith(sentence) and sentence in bundle["text/html"]
    assert '<img src="data:image/png;base64,' in bundle["text/html"] and len(bundle["text/html"]) < 150_000
    assert f"ar-still-{made._key}" in bundle["text/html"] and f"ar-live-{made._key}" in made.root._dom_classes


def test_an_exported_panel_is_its_sentence_and_picture(writer: Writer, panel: Callable[[], Panel]) -> None:
    writer.open().baseline()
    outputs = [nbformat.v4.new_output("display_data", data) for data in panel()._outputs()]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("lab", outputs=outputs)])
    for exporter in (HTMLExporter(), MarkdownExporter()):
        page, _ = exporter.from_notebook_node(notebook)
        assert page.count("Control panel of study nov23: 0 experiments, 0 kept") == 1
        assert "data:image/png;base64," in page and "VBox(" not in page
    assert "<style" not in page and "display: none" not in page, "a reader of Markdown would show it"
