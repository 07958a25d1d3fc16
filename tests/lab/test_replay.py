"""A replay in the panel: what it shows is the fold of the history; its controls, by kernel and in a bare browser."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.lab.panel import panel as panel_module
from autoresearch_kernel.lab.panel.chart import history_data, table_data
from autoresearch_kernel.lab.panel.panel import Panel
from autoresearch_kernel.record.bundle import night_path
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.system.files import write_atomic
from tests.event_writer import Writer
from tests.journeys.conftest import FLAGS, browser_path
from tests.lab.panels import Recorder, shown_buttons, until
from tests.recorded_night import EVENTS, LAST, STUDY
from tests.recorded_night import FOLDER as NIGHT_FOLDER
from tests.show.test_playback import Hand, make_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(panel_module.__file__).parent
COUNT = itertools.count(1)


class NoStudies(Recorder):
    def study_names(self, project: Path) -> list[str]:
        return []


@pytest.fixture
def made() -> Iterator[list[Panel]]:
    panels: list[Panel] = []
    yield panels
    for one in panels:
        one.close()


@pytest.fixture
def panel(writer: Writer, tmp_path: Path, made: list[Panel]) -> Callable[[type[Recorder]], Panel]:
    """Makes a panel whose thread does not look, so that a test says when."""
    write_atomic(tmp_path / "studies" / "nov23" / "study.json", "{}")

    def make(control: type[Recorder] = Recorder) -> Panel:
        made.append(Panel(control(writer), tmp_path))
        made[-1].close()
        return made[-1]

    return make


def replayed(panel: Panel, **how: Any) -> Hand:
    """A replay of the example with a clock that the test moves."""
    panel.replay(str(NIGHT_FOLDER), **how)
    assert panel.playing is not None
    hand = Hand()
    playback = panel.playing.playback
    playback.pause()
    playback._clock = hand
    return hand


def ask(panel: Panel, what: str, value: Any = None) -> None:
    """What the browser sends."""
    panel.player.asked = json.dumps({"count": next(COUNT), "what": what, "value": value})


def data(panel: Panel) -> dict[str, Any]:
    found = json.loads(panel.player.data)
    assert isinstance(found, dict)
    return found


def test_at_twenty_random_moments_the_panel_shows_the_fold_of_the_history(
    panel: Callable[..., Panel], writer: Writer
) -> None:
    writer.open().baseline()
    made = panel()
    replayed(made)
    assert made.playing is not None
    playback, rng = made.playing.playback, random.Random(4)
    for moment in (rng.uniform(0, playback.timeline.seconds) for _ in range(20)):
        ask(made, "seek", moment)
        expected = replay(EVENTS[: playback.count])
        rows = made.experiments.numbers["rows"]
        assert [row["number"] for row in rows] == [e.number for e in expected.experiments]
        assert rows[:-1] == table_data(expected.experiments)["rows"][:-1]
        assert made.history.numbers == history_data(expected.experiments, expected.sigma)
        assert data(made)["experiment"] == expected.experiments[-1].number
        assert f"{data(made)['moment']:.1f}" == f"{moment:.1f}"


def test_a_panel_without_a_study_offers_the_night_that_comes_with_the_program(panel: Callable[..., Panel]) -> None:
    made = panel(NoStudies)
    assert shown_buttons(made) == ["Replay the example night"] and made.form.is_open
    assert "or watch a recorded night" in made.said.data
    made.example_button.click()
    until(lambda: made.playing is not None and not made.example_button.disabled)
    assert not made.form.is_open and made.player.layout.display == "" and shown_buttons(made) == []
    assert data(made)["name"] == STUDY.name
    ask(made, "end")
    assert made.playing is None and made.form.is_open and made.player.layout.display == "none"
    assert shown_buttons(made) == ["Replay the example night"]


def test_a_replay_begins_and_ends_where_the_study_was_shown(panel: Callable[..., Panel], writer: Writer) -> None:
    writer.open().baseline()
    made = panel()
    assert made.study is writer.study and "nov23" in made.said.data
    replayed(made)
    assert f"Replay of study {STUDY.name}" in made.said.data and "recorded 2026-12-01, nothing trains" in made.said.data
    assert made.hints.layout.display == "none" and made.picker.value is None
    for act in (made.pause, made.go_on, made.finish, made.promote, made.attribute):
        with pytest.raises(StudyError, match="This is a replay: nothing runs that could be steered"):
            act()
    assert made.control.asked == []
    for _ in range(2):  # the second one finds no replay, and leaves the study where it is
        made.end_replay()
        assert made.study is writer.study and "nov23" in made.said.data and made.hints.layout.display == ""
    replayed(made)
    made.picker.value = "nov23"
    assert made.playing is None and made.study is writer.study


def test_a_replay_ends_also_where_the_study_before_it_was_removed(panel: Callable[..., Panel], writer: Writer) -> None:
    writer.open().baseline()
    made = panel()
    replayed(made)
    made.control.studies = []
    ask(made, "end")
    assert made.playing is None and made.study is None and made.player.layout.display == "none"
    assert shown_buttons(made) == ["Replay the example night"]


def test_two_browsers_count_on_from_the_last_request(panel: Callable[..., Panel], writer: Writer) -> None:
    writer.open().baseline()
    made = panel()
    replayed(made)
    for count in (7, 5):  # the second browser has not heard of the first one's yet
        made.player.asked = json.dumps({"count": count, "what": "jump", "value": count})
    assert data(made)["count"] == 7 and data(made)["experiment"] == 5


def test_a_bundle_beside_the_project_stands_among_the_studies_and_is_replayed(
    panel: Callable[..., Panel], writer: Writer, tmp_path: Path
) -> None:
    writer.open().baseline()
    (tmp_path / "my-notebooks").mkdir()
    shutil.copy(night_path(), tmp_path / "my-notebooks" / "of-a-friend.zip")
    (tmp_path / "photos.zip").write_bytes(b"no zip at all")
    with zipfile.ZipFile(tmp_path / "thesis.zip", "w") as opened:
        opened.writestr("thesis/manifest.json", "{}")
    made = panel()
    assert [label for label, _ in made.picker.options] == ["nov23", "replay of-a-friend.zip"]
    made.picker.value = made.picker.options[1][1]
    until(lambda: made.playing is not None and not made.replay_button.disabled)
    assert made.playing is not None and made.playing.path.name == "of-a-friend.zip" and made.picker.value is None
    made.picker.value = "nov23"
    assert made.playing is None and made.study is writer.study


def test_the_controls_play_pause_jump_and_set_the_speed(panel: Callable[..., Panel], writer: Writer) -> None:
    writer.open().baseline()
    made = panel()
    hand = replayed(made, speed=10)
    ask(made, "seek", 0)
    ask(made, "play")
    hand.now += 3
    made.refresh()
    assert data(made)["is_playing"] and data(made)["moment"] == pytest.approx(30)
    ask(made, "speed", 300)
    hand.now += 1
    made.refresh()
    assert data(made)["moment"] == pytest.approx(330) and data(made)["speed"] == 300
    ask(made, "pause")
    ask(made, "jump", 7)
    assert not data(made)["is_playing"] and data(made)["experiment"] == 7
    ask(made, "step", -1)
    assert data(made)["experiment"] == 6
    ask(made, "jump", 700)
    assert "has no experiment 700" in made.notice.value
    for wrong in ("not json", json.dumps({"what": "jump", "value": "x"})):
        made.player.asked = wrong
        assert 'role="alert"' in made.notice.value
    ask(made, "seek", 1e9)
    assert data(made)["is_over"] and f"at its end: {LAST} experiments" in made.said.data


def test_a_quiz_asks_before_the_verdict_and_tells_at_the_end(panel: Callable[..., Panel], writer: Writer) -> None:
    writer.open().baseline()
    made = panel()
    hand = replayed(made, quiz=True)
    ask(made, "seek", 0)
    ask(made, "play")
    hand.now += 1e6
    made.refresh()
    question = data(made)["question"]
    assert question[0] == "0001 · TOKEN_SHIFT False → True" and question[-1].startswith("Keep, discard")
    assert [row["status"] for row in made.experiments.numbers["rows"]] == ["baseline", "deciding"]
    ask(made, "answer", "keep")
    assert data(made)["said"] == ["0001: you say keep, the rule says once more."]
    ask(made, "seek", 1e9)
    assert data(made)["is_over"] and data(made)["said"][0].startswith("You answered 1 of ")


def test_a_bundle_is_replayed_and_cleared_away(panel: Callable[..., Panel], writer: Writer, tmp_path: Path) -> None:
    writer.open().baseline()
    made = panel()
    made.replay(str(make_bundle(NIGHT_FOLDER, tmp_path / "night.zip")), experiment=12)
    assert made.playing is not None and made.study is not None
    folder = made.study.paths.folder
    assert folder.is_dir() and data(made)["experiment"] >= 12
    assert "Incumbent: 00" in repr(made.figure()) and "0011 " in repr(made.table())
    made.end_replay()
    assert not folder.exists()
    with pytest.raises(StudyError, match="There is no"):
        made.replay("nothing.zip")


# --- the browser's side

RENDER = """async ([source, data]) => {
    const module = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
    window.front = (await import(module)).default;
    const frame = document.createElement('div'), el = document.createElement('div');
    frame.className = 'ar-panel';
    frame.append(el);
    document.body.replaceChildren(frame);
    const values = {data, asked: ''}, heard = {};
    window.sent = [];
    window.model = {
        get: (name) => values[name],
        set: (name, value) => {
            values[name] = value;
            if (name === 'asked') window.sent.push(JSON.parse(value));
            (heard[`change:${name}`] || []).forEach((call) => call());
        },
        on: (name, call) => (heard[name] = [...(heard[name] || []), call]), off: () => {}, save_changes: () => {},
    };
    window.front.render({model: window.model, el});
}"""
PLAYING = {
    "name": "example", "moment": 120.0, "seconds": 2400.0, "when": "2 min of 40 min", "is_playing": True,
    "is_over": False,
    "speed": 60.0, "speeds": [1.0, 60.0, 300.0], "experiment": 4, "experiments": [0, 100], "is_quiz": True,
    "question": None, "said": [],
}  # fmt: skip
ASKING = PLAYING | {"is_playing": False, "question": ["0004 · <b>bold</b> <img src=x onerror=alert(1)>", "Keep?"]}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        page = chromium.new_page(viewport={"width": 900, "height": 500})
        page.add_style_tag(content=(FOLDER / "panel.css").read_text())
        yield page
        chromium.close()


def shown(page: Page, data: dict[str, Any]) -> None:
    page.evaluate(RENDER, [(FOLDER / "player.js").read_text(), json.dumps(data)])


def sent(page: Page) -> list[tuple[str, Any]]:
    return [(one["what"], one["value"]) for one in page.evaluate("window.sent")]


def test_buttons_and_keys_send_what_they_say(page: Page) -> None:
    shown(page, PLAYING)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Next ▶").click()
    page.get_by_label("Speed").select_option("300")
    page.get_by_label("Jump to experiment").fill("12")
    page.keyboard.press("Enter")
    page.locator(".ar-player").focus()
    for key in ("ArrowLeft", " ", "k"):
        page.keyboard.press(key)
    page.get_by_label("Quiz").click()
    page.get_by_role("button", name="End the replay").click()
    assert sent(page) == [
        ("pause", None), ("step", 1), ("speed", 300), ("jump", 12), ("step", -1), ("pause", None), ("quiz", False),
        ("end", None),
    ]  # fmt: skip


def test_the_same_experiment_can_be_asked_for_again(page: Page) -> None:
    """After a jump the night plays on, and Enter on the number that still stands there leads back."""
    shown(page, PLAYING)
    page.get_by_label("Jump to experiment").fill("12")
    page.keyboard.press("Enter")
    page.evaluate("data => window.model.set('data', data)", json.dumps(PLAYING | {"count": 1, "experiment": 14}))
    page.keyboard.press("Enter")
    page.locator(".ar-player").focus()
    assert sent(page) == [("jump", 12), ("jump", 12)]


def test_a_browser_counts_on_from_what_the_others_sent(page: Page) -> None:
    shown(page, PLAYING | {"count": 7})
    page.get_by_role("button", name="Pause").click()
    assert page.evaluate("window.sent")[0]["count"] == 8


def test_a_question_is_text_and_is_answered_by_button_and_by_key(page: Page) -> None:
    shown(page, ASKING)
    question = page.locator(".ar-question")
    assert (
        question.is_visible() and "<b>bold</b> <img" in question.inner_text() and not question.locator("img, b").count()
    )
    page.get_by_role("button", name="Once more (O)").click()
    page.locator(".ar-player").focus()
    page.keyboard.press("d")
    page.get_by_label("Jump to experiment").focus()
    page.keyboard.press("k")  # typed into a field, it is no answer
    assert sent(page) == [("answer", "confirm"), ("answer", "discard")]
    page.evaluate("data => window.model.set('data', data)", json.dumps(PLAYING | {"said": ["0004: you say keep."]}))
    page.get_by_label("Quiz").click()
    page.evaluate("data => window.model.set('data', data)", json.dumps(PLAYING | {"count": 1}))
    assert not page.get_by_label("Quiz").is_checked(), "what was said before the click does not undo it"
    page.evaluate(
        "data => window.model.set('data', data)", json.dumps(PLAYING | {"count": 9, "said": ["you say keep"]})
    )
    assert page.get_by_label("Quiz").is_checked()
    assert not question.is_visible() and "you say keep" in page.locator(".ar-outcome").inner_text()


@pytest.mark.parametrize("width", [340, 500, 1000])
def test_the_controls_fit_at_every_width(page: Page, width: int) -> None:
    shown(page, ASKING)
    page.evaluate("width => { document.querySelector('.ar-panel').style.width = `${width}px`; }", width)
    beyond = page.evaluate(
        """() => { const frame = document.querySelector('.ar-panel').getBoundingClientRect();
        const right = (node) => node.getBoundingClientRect().right;
        return [...document.querySelectorAll('.ar-player *')].filter((n) => right(n) > frame.right + 1)
            .map((n) => n.outerHTML.slice(0, 80)); }"""
    )
    assert beyond == []
    assert re.fullmatch(r"(Play|Pause)", page.locator(".ar-player-button").nth(1).inner_text())
