"""A study lived in the browser, from an empty folder to its end: each test goes on where the one before stopped."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from autoresearch_kernel.core.format import bpb
from autoresearch_kernel.core.state import StudyState, replay
from autoresearch_kernel.lab.jupyter import CONTROL
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import open_study
from autoresearch_kernel.show.words import head_and_rest, status_word

from ..ready import PACKAGES
from ..recorded_night import FOLDER, LAST, STUDY
from .conftest import Browser, Lab

CORPUS = PACKAGES  # of a study that begins in the panel
PANEL, FIGURE, TABLE = 0, 1, 2  # code cells of control.ipynb


def state_of(place: Path, name: str = "first") -> StudyState:
    path = open_study(name, place).paths.history
    return replay(read_events(path) if path.exists() else [])


def rows(browser: Browser) -> dict[int, list[str]]:
    """The table as it is on the screen: number -> its cells."""
    table = browser.page.locator(".ar-rows tbody tr")
    cells = table.evaluate_all("rows => rows.map(row => [...row.children].map(cell => cell.textContent))")
    return {int(row[0]): row[1:] for row in cells}


def said(browser: Browser) -> str:
    return browser.page.locator(".ar-panel [role=status]").first.inner_text()


def press(browser: Browser, name: str) -> None:
    browser.page.locator(".ar-panel").get_by_role("button", name=name, exact=True).click()


def same_as_the_record(browser: Browser, place: Path, name: str = "first") -> None:
    """The panel's table says what history.jsonl says, of every decided experiment; it may be a look behind."""

    def differences() -> list[str]:
        shown, found = rows(browser), []
        for e in state_of(place, name).decided:
            status = status_word(e)
            row = shown.get(e.number) or ["", "nothing", "", "", "", "", "nothing"]
            if row[1] != bpb(e.val_bpb) or not row[6].endswith(status):
                found.append(f"{e.number:04d}: {bpb(e.val_bpb)} {status} in the record, {row} on the screen")
        return found

    browser.until(lambda: not differences(), 15)


def test_from_an_empty_folder_to_a_running_study(lab: Lab, browser: Browser, place: Path) -> None:
    browser.open(lab, CONTROL)
    browser.run(PANEL)
    page = browser.page
    page.get_by_role("textbox", name="Name").fill("a b")
    page.keyboard.press("Tab")
    page.get_by_text("Letters, digits").wait_for()
    assert page.get_by_role("button", name="Start", exact=True).is_disabled()
    page.get_by_label("Agent").select_option(label="llm: a language model")
    page.get_by_text('os.environ["OPENAI_API_KEY"] = getpass.getpass()').wait_for()
    browser.shot("form")
    page.get_by_label("Agent").select_option(label="search: built in, no key needed")
    page.get_by_role("textbox", name="Name").fill("first")
    page.get_by_role("textbox", name="Seconds a run").fill("3 s")
    page.get_by_text("'3 s' is not possible: give seconds").wait_for()
    assert page.get_by_role("textbox", name="Name").input_value() == "first"
    page.get_by_role("textbox", name="Seconds a run").fill("3")
    page.get_by_role("textbox", name="Experiments").fill("40")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Start", exact=True).click()
    browser.until(lambda: "measuring the baseline" in said(browser), 120)
    assert open_study("first", place).time_budget_seconds == 3


def test_a_page_that_is_reloaded_shows_the_same_study(lab: Lab, browser: Browser, place: Path) -> None:
    browser.save()
    browser.page.reload()
    browser.await_kernel()
    browser.page.locator(".ar-panel").wait_for()
    browser.until(lambda: "first" in said(browser))
    before = said(browser), browser.page.locator(".ar-panel [role=progressbar]").count()
    browser.until(lambda: (said(browser), browser.page.locator(".ar-panel [role=progressbar]").count()) != before, 60)


def test_a_kernel_that_is_restarted_takes_nothing_from_the_study(lab: Lab, browser: Browser, place: Path) -> None:
    browser.until(lambda: state_of(place).incumbent is not None, 120)
    holder = holder_of(place)
    browser.restart_kernel()
    browser.page.get_by_text("The kernel was restarted: run this cell again.").wait_for()
    assert not browser.cell(PANEL).locator(".jp-OutputArea button:visible").count(), "buttons that do nothing"
    assert browser.cell(PANEL).get_by_text("Control panel of study first:").is_visible()
    browser.shot("restarted")
    browser.run(PANEL)
    browser.until(lambda: "first" in said(browser))
    assert holder_of(place) == holder
    assert not browser.cell(PANEL).get_by_text("Control panel of study first:").is_visible()
    same_as_the_record(browser, place)


def test_a_lab_that_is_restarted_takes_nothing_from_the_study(lab: Lab, browser: Browser, place: Path) -> None:
    holder = holder_of(place)
    lab.stop()
    num_complaints = len(browser.complaints)
    lab.start()
    browser.open(lab, CONTROL)
    del browser.complaints[num_complaints:]  # of a server that was not there
    browser.run(PANEL)
    assert holder_of(place) == holder, "the supervisor went away with the server"
    browser.until(lambda: len(state_of(place).decided) >= 3, 180)
    same_as_the_record(browser, place)
    browser.shot("three-decided")


def holder_of(place: Path) -> Any:
    from autoresearch_kernel.system.files import lock_holder

    holder = lock_holder(open_study("first", place).paths.lock)
    assert holder is not None, "no process runs the study"
    return holder["pid"]


def test_a_click_shows_an_experiment_in_full(lab: Lab, browser: Browser, place: Path) -> None:
    browser.page.locator('.ar-rows tr[data-number="1"]').click()
    side = browser.page.locator(".ar-side")
    browser.until(lambda: "0001 ·" in side.inner_text())
    assert re.search(r"^-\w+ = ", side.inner_text(), re.MULTILINE), side.inner_text()
    browser.page.keyboard.press("End")
    browser.page.keyboard.press("Enter")
    browser.until(lambda: "0000 ·" in side.inner_text())
    assert browser.page.locator(".ar-rows tr[aria-selected=true]").get_attribute("data-number") == "0"
    side.get_by_text("experiment.ipynb", exact=True).click()
    browser.page.get_by_role("tab", name="experiment.ipynb").wait_for()
    browser.page.get_by_role("tab", name="control.ipynb").click()
    filter_button = browser.page.get_by_role("button", name="Kept", exact=False).first
    filter_button.click()
    kept = {e.number for e in state_of(place).decided if e.status == "keep" and e.number > 0}
    assert set(rows(browser)) == kept and filter_button.inner_text() == f"Kept {len(kept)}"
    browser.page.get_by_role("button", name="All", exact=False).first.click()
    press(browser, "Show what runs")


def test_pause_resume_and_stop(lab: Lab, browser: Browser, place: Path) -> None:
    press(browser, "Pause")
    browser.until(lambda: state_of(place).is_paused_by_person, 60)
    browser.until(lambda: "Paused by" in said(browser))
    browser.shot("paused")
    hint = browser.page.locator(".ar-panel").get_by_role("textbox", name="Hint")
    assert hint.is_disabled() and "does not read hints" in (hint.get_attribute("placeholder") or "")
    press(browser, "Resume")
    browser.until(lambda: not state_of(place).paused)
    browser.page.locator(".ar-panel").get_by_role("button", name="Pause", exact=True).wait_for()
    press(browser, "Stop now")
    browser.until(lambda: bool(state_of(place).stopped), 60)
    browser.until(lambda: "Stopped" in said(browser), 60)
    press(browser, "Continue")
    browser.until(lambda: not state_of(place).stopped, 60)
    press(browser, "Stop after this")
    browser.until(lambda: bool(state_of(place).stopped), 90)
    same_as_the_record(browser, place)


def test_what_waits_for_approval_is_refused_edited_and_approved(lab: Lab, browser: Browser, place: Path) -> None:
    browser.cell(PANEL).locator(".cm-content").first.click()
    browser.page.keyboard.press("Control+End")
    browser.page.keyboard.type("\nlab.go_on(experiments=2, approve=True)")
    browser.run(PANEL)
    number = len(state_of(place).experiments)
    restore_panel_cell(browser)
    panel = browser.page.locator(".ar-panel")
    await_proposal(browser, place)
    browser.shot("approval")
    panel.get_by_placeholder(re.compile("why not")).fill("")
    press(browser, "Refuse, because ...")
    panel.get_by_text("Say why: the agent reads it").wait_for()
    first = state_of(place).review
    panel.get_by_placeholder(re.compile("why not")).fill("not today")
    press(browser, "Refuse, because ...")
    browser.until(lambda: any(r.why == "not today" for r in state_of(place).refusals), 30)
    browser.until(lambda: state_of(place).review not in (None, first), 60)
    await_proposal(browser, place)
    panel.get_by_text("Edit train.py before it trains").click()
    source = panel.locator("textarea")
    source.fill(source.input_value().replace("# # A model that counts", "# # A model that I changed"))
    panel.get_by_placeholder(re.compile("why not")).fill("a title of my own")
    press(browser, "Approve")
    browser.until(lambda: len(state_of(place).decided) > number, 90)
    mine = state_of(place).experiments[number]
    assert mine.hypothesis == "a title of my own" and "edited" in mine.agent
    assert "A model that I changed" in open_study("first", place).experiment(number).train.read_text()
    await_proposal(browser, place)
    press(browser, "Approve")
    browser.until(lambda: state_of(place).finished is not None, 180)
    browser.until(lambda: "finished" in said(browser))
    same_as_the_record(browser, place)
    browser.shot("finished")


def await_proposal(browser: Browser, place: Path) -> None:
    """Until the panel shows the proposal that waits; a busy machine may run the incumbent again before it asks."""
    try:
        browser.until(lambda: waits_on_screen(browser, place), 240)
    except AssertionError as late:
        last = open_study("first", place).paths.history.read_text(encoding="utf-8").splitlines()[-6:]
        shown = browser.page.locator(".ar-panel").inner_text()
        raise AssertionError(f"{late}\nThe panel shows:\n{shown}\nThe record ends with:\n" + "\n".join(last)) from late


def waits_on_screen(browser: Browser, place: Path) -> bool:
    """Whether the panel shows the very proposal that waits in the record (the beginning of a long hypothesis)."""
    review, form = state_of(place).review, browser.page.locator(".ar-panel .ar-review")
    return review is not None and head_and_rest(review.hypothesis)[0] in form.inner_text()


def restore_panel_cell(browser: Browser) -> None:
    """The notebook's own words again, with the panel of this study."""
    browser.replace(PANEL, "from autoresearch_kernel import panel\n\nlab = panel()\nlab")
    browser.run(PANEL)


def test_the_panel_fits_the_cell_at_every_width_and_in_both_themes(lab: Lab, browser: Browser, place: Path) -> None:
    """At 416 and 500 pixels, too: what 833 and 1000 are at a zoom of 200 %."""
    shutil.copytree(FOLDER, place / "studies" / STUDY.name)
    panel, before = browser.page.locator(".ar-panel"), browser.page.viewport_size
    browser.until(lambda: STUDY.name in panel.locator("select").first.inner_text(), 30)
    panel.locator("select").first.select_option(STUDY.name)
    browser.until(lambda: len(rows(browser)) == LAST + 1, 30)
    browser.page.locator(f'.ar-rows tr[data-number="{LAST}"]').click()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        choose_theme(browser, theme)
        assert browser.page.evaluate(PALE) == []
        for width, columns in ((416, 1), (500, 1), (779, 1), (780, 2), (833, 2), (1000, 2), (1600, 2)):
            set_cell_width(browser, width)
            history, card = (panel.locator(part).bounding_box() for part in (".ar-canvas >> nth=0", ".ar-side"))
            assert history and card and (2 if card["x"] > history["x"] + history["width"] else 1) == columns, width
            assert panel.evaluate(OVERFLOWS) == [], width
            assert (
                panel.locator(".ar-label").count() >= 2
                and "incumbent" in panel.locator(".ar-legend >> nth=0").inner_text()
            )
            if width == 833:
                browser.shot(f"cell-833-{theme.split()[1].lower()}")
    press(browser, "New study ...")
    set_cell_width(browser, 340)
    browser.page.get_by_role("combobox", name="Agent").select_option(label="hybrid: both, in turns")
    panel.get_by_role("textbox", name="At most, $").wait_for()
    assert panel.evaluate(OVERFLOWS) == []
    assert panel.evaluate(CUT_WORDS) == []
    browser.shot("form-340")
    press(browser, "Cancel")
    assert before is not None
    browser.page.set_viewport_size(before)
    panel.locator("select").first.select_option("first")
    browser.until(lambda: "first" in said(browser), 30)


def test_a_night_is_played_again_and_asks_before_each_verdict(lab: Lab, browser: Browser, place: Path) -> None:
    panel, before = browser.page.locator(".ar-panel"), browser.page.viewport_size
    panel.locator("select").first.select_option(STUDY.name)
    browser.until(lambda: len(rows(browser)) == LAST + 1, 30)
    press(browser, "Replay")
    player, question = panel.locator(".ar-player"), panel.locator(".ar-question")
    player.get_by_role("button", name="Pause").wait_for()
    player.get_by_label("Speed").select_option("300")
    player.get_by_label("Quiz").click()
    question.get_by_text("Keep, discard, or train it once more").wait_for()  # where the night stops until an answer
    number = int(question.locator("p").first.inner_text()[:4])
    browser.until(lambda: max(rows(browser)) == number, 30)
    browser.until(lambda: rows(browser)[number][6].strip() == "◐ deciding", 30)  # the verdict is not told
    player.focus()
    browser.page.keyboard.press("d")
    panel.get_by_text(f"{number:04d}: you say discard, the rule says").wait_for()
    question.get_by_text("Keep, discard, or train it once more").wait_for()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        choose_theme(browser, theme)
        for width in (416, 1000):
            set_cell_width(browser, width)
            assert panel.evaluate(OVERFLOWS) == [], width
            browser.shot(f"quiz-{width}-{theme.split()[1].lower()}")
    press(browser, "End the replay")
    browser.until(lambda: not player.is_visible() and len(rows(browser)) == LAST + 1, 30)
    assert before is not None
    browser.page.set_viewport_size(before)
    panel.locator("select").first.select_option("first")
    browser.until(lambda: "first" in said(browser), 30)


def test_keys_lead_between_the_filter_and_the_table(lab: Lab, browser: Browser, place: Path) -> None:
    """In JupyterLab, whose own keys are arrows and Escape, too."""
    page = browser.page
    focused = "() => document.activeElement.dataset.number ?? document.activeElement.type"
    page.get_by_role("searchbox", name="Filter by words").click()
    page.keyboard.type("baseline")
    assert list(rows(browser)) == [0]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "0"
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "search"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "search" and len(rows(browser)) > 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == str(max(rows(browser)) - 1)
    browser.shot("focus")


def choose_theme(browser: Browser, name: str) -> None:
    browser.choose("Settings", "Theme", name)
    browser.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)


def set_cell_width(browser: Browser, width: int) -> None:
    """Make the window so wide that the panel's output has `width` pixels."""
    page, cell = browser.page, browser.page.locator(".jp-OutputArea-output:has(.ar-panel)").first

    def is_as_wide() -> bool:
        shown, size = cell.evaluate("cell => cell.clientWidth"), page.viewport_size
        assert size is not None
        if shown != width:
            page.set_viewport_size({"width": size["width"] + width - shown, "height": size["height"]})
        return bool(shown == width)

    browser.until(is_as_wide, 20)
    page.wait_for_timeout(300)


# What reaches beyond the panel, or is cut where nothing scrolls: the diff and the table scroll within themselves.
OVERFLOWS = """panel => {
    const edge = panel.getBoundingClientRect(), found = [];
    for (const node of panel.querySelectorAll('*')) {
        const box = node.getBoundingClientRect();
        if (!box.width || node.closest('pre, .ar-rows table')) continue;
        const name = `${node.tagName} ${node.className.baseVal ?? node.className} ${node.textContent.slice(0, 30)}`;
        if (box.right > edge.right + 1 || box.left < edge.left - 1) found.push(`beyond: ${name}`);
        const isCut = ['auto', 'scroll', 'hidden'].includes(getComputedStyle(node).overflowX);
        if (isCut && node.clientWidth && node.scrollWidth > node.clientWidth + 1) found.push(`cut: ${name}`);
    }
    return found;
}"""
# Words of the form that are wider than their place.
CUT_WORDS = """panel => {
    const pen = document.createElement('canvas').getContext('2d');
    return [...panel.querySelectorAll('.ar-form label, .ar-form input, .ar-form select')].flatMap((node) => {
        const box = node.getBoundingClientRect(), style = getComputedStyle(node);
        if (!box.width || node.type === 'checkbox') return [];
        pen.font = style.font;
        const written = node.tagName === 'LABEL' ? node.textContent : node.value || node.placeholder;
        const words = node.options ? [...node.options].map((option) => option.text) : [written];
        const arrow = node.options ? 20 : parseFloat(style.paddingRight);
        const room = node.clientWidth - parseFloat(style.paddingLeft) - arrow;
        return words.filter((text) => pen.measureText(text).width > room + 0.5);
    });
}"""
# Marks and words of the drawings that hardly stand out from what is behind them: contrast below 3 and 4.
PALE = """() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (let one = node; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const found = [];
    for (const node of document.querySelectorAll('.ar-chart text, .ar-chart .ar-mark, .ar-legend span, .ar-rows td')) {
        const style = getComputedStyle(node), isMark = node.matches('.ar-mark'), isWord = node.matches('text');
        const drawn = isWord || style.stroke === 'none' ? style.fill : style.stroke;
        const colour = isWord || isMark ? drawn : style.color;
        if (!/^rgb/.test(colour)) continue;
        const [high, low] = [light(colour), light(behind(node.closest('.ar-rows tr') || node))].sort((a, b) => b - a);
        const contrast = (high + 0.05) / (low + 0.05), least = isMark ? 3 : 4;
        if (contrast < least) found.push(`${node.textContent || node.dataset.mark}: ${contrast}`);
    }
    return [...new Set(found)];
}"""


def test_what_stays_is_a_picture_and_a_table_without_a_kernel(lab: Lab, browser: Browser, place: Path) -> None:
    browser.run(FIGURE)
    browser.run(TABLE)
    browser.save()
    saved = place / CONTROL
    browser.until(lambda: "image/png" in saved.read_text(), 30)
    cells = [cell for cell in json.loads(saved.read_text())["cells"] if cell["cell_type"] == "code"]
    assert "image/png" in cells[FIGURE]["outputs"][0]["data"]
    num_complaints = len(browser.complaints)
    lab.stop()  # no kernel, no supervisor: only the files
    browser.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 60_000; }")  # a minute later
    browser.cell(PANEL).get_by_text("The kernel does not answer.").wait_for()
    assert not browser.page.locator(".ar-panel button:visible").count()
    lab.start()
    browser.page.goto(f"{lab.url}/lab/tree/{CONTROL}?reset")
    del browser.complaints[num_complaints:]
    panel = browser.cell(PANEL)
    panel.get_by_text("Control panel of study first:").wait_for()
    assert panel.locator("img").is_visible() and not panel.get_by_text("model not found").is_visible()
    picture = browser.cell(FIGURE).locator("img").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 500
    assert bpb(state_of(place).decided[0].val_bpb) in browser.cell(TABLE).inner_text()
    browser.shot("reopened")


def test_the_browser_has_nothing_to_complain_of(browser: Browser) -> None:
    assert not browser.complaints
