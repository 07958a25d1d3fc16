"""The pages of a bundle in a real browser, from the disk, without a network: whole, readable, and nothing is live."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Status
from autoresearch_kernel.record.bundle import night_path
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.share import command
from autoresearch_kernel.share import pdf as pdf_module
from autoresearch_kernel.share.bundle import read_bundle
from autoresearch_kernel.share.command import share, share_study
from autoresearch_kernel.share.figures import read_page
from autoresearch_kernel.show.svg import ticks
from autoresearch_kernel.show.svg_curve import curve_svg
from autoresearch_kernel.show.svg_progress import progress_svg
from tests.hostile import HOSTILE
from tests.journeys.conftest import FLAGS, browser_path
from tests.nights import night
from tests.shared_night import make_night

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {"wide": (1280, 900), "phone": (390, 800)}


def unpacked(parent: Path, **settings: Any) -> Path:
    made = make_night(parent / "project", **settings)
    path, _ = share_study(made.study, parent / "nov23.zip", decide=list)
    made.writer.history.close()
    with zipfile.ZipFile(path) as opened:
        opened.extractall(parent)
    return parent / "nov23"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("hostile"), hostile=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page of the disk in a window without a network; `complaints` is what the browser said of it."""

    def __init__(self, browser: Browser, path: Path, size: tuple[int, int] = SIZES["wide"], dark: bool = False) -> None:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, offline=True, color_scheme="dark" if dark else "light"
        )
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss())[1])
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def shot(self, name: str) -> None:
        if folder := os.environ.get("AUTORESEARCH_SHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def pages(bundle: Path) -> list[Path]:
    return [bundle / "index.html", *sorted(bundle.glob("experiments/*/index.html"))]


@pytest.fixture(scope="module")
def attributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first recorded night, unpacked."""
    folder = tmp_path_factory.mktemp("attributed")
    shutil.unpack_archive(night_path(), folder)
    (bundle,) = folder.iterdir()
    assert "What carries the gain" in (bundle / "index.html").read_text(encoding="utf-8")
    return bundle


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_each_page_opens_from_the_disk_and_fits_the_screen(
    plain: Path, attributed: Path, chromium: Browser, size: str, dark: bool
) -> None:
    """Also one with the table of an attribution."""
    for path in [plain / "index.html", plain / "experiments" / "0001" / "index.html", attributed / "index.html"]:
        visit = Visit(chromium, path, SIZES[size], dark)
        assert visit.complaints == [] and visit.asked == [path.as_uri()]
        wide = visit.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= SIZES[size][0], f"{path} is {wide} pixels wide"
        assert visit.page.locator("h1").count() == 1
        visit.shot(f"{path.parent.name}-{size}-{'dark' if dark else 'light'}")


def test_the_table_sorts_and_filters(plain: Path, chromium: Browser) -> None:
    page = Visit(chromium, plain / "index.html").page
    rows = page.locator("#experiments tbody tr:visible")
    first = page.locator("#experiments tbody tr:visible td:first-child")
    assert first.all_inner_texts() == ["0000", "0001", "0002", "0003", "0004"]
    page.get_by_role("button", name="val_bpb").click()
    assert first.all_inner_texts() == ["0001", "0002", "0000", "0003", "0004"]  # what has no score comes last
    page.get_by_role("button", name="val_bpb").click()
    assert first.all_inner_texts() == ["0000", "0002", "0001", "0003", "0004"]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("val_bpb")
    page.get_by_label("Status").select_option("crash")
    assert rows.count() == 1 and page.get_by_role("status").first.inner_text() == "1 of 5 shown"
    page.get_by_label("Status").select_option("")
    page.get_by_label("Show rows with").fill("baseline")
    assert first.all_inner_texts() == ["0000"]


def test_the_table_and_the_texts_are_there_without_javascript(plain: Path, chromium: Browser) -> None:
    page = chromium.new_context(java_script_enabled=False, offline=True).new_page()
    page.goto((plain / "index.html").as_uri())
    assert page.locator("#experiments tbody tr:visible").count() == 5
    assert not page.locator("#filter").is_visible()
    assert "needs JavaScript" in page.locator("noscript").inner_text()


def test_a_mark_and_a_row_lead_to_the_page_of_the_experiment_and_back(plain: Path, chromium: Browser) -> None:
    page = Visit(chromium, plain / "index.html").page
    page.locator("svg.broad a").last.click()
    assert page.url.endswith("/experiments/0001/index.html")
    page.get_by_role("link", name="← nov23").click()
    page.locator("#experiments").get_by_role("link", name="0003").click()
    assert page.locator("h1").inner_text().startswith("0003")
    assert "cell 2 raised" in page.locator("header").inner_text()


def test_everything_can_be_reached_by_keys_and_is_named_for_readers(plain: Path, chromium: Browser) -> None:
    page = Visit(chromium, plain / "index.html").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator("html[lang=en]").count() == 1 and page.locator("main").count() == 1
    nameless = "nodes => nodes.filter((node) => !node.getAttribute('aria-label') && !node.textContent.trim()).length"
    assert page.locator("a, button, svg[role=img], [role=region]").evaluate_all(nameless) == 0
    assert page.locator("table#experiments th:not([scope])").count() == 0
    assert page.locator("img:not([alt])").count() == 0


def test_nothing_that_a_hostile_agent_wrote_is_live(hostile: Path, chromium: Browser) -> None:
    for path in pages(hostile):
        visit = Visit(chromium, path)
        visit.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        visit.page.wait_for_timeout(200)
        assert visit.complaints == [] and visit.asked == [path.as_uri()]
        links = visit.page.locator("[href], [src], [srcset], [xlink\\:href]").evaluate_all(
            "nodes => nodes.map((node) => node.getAttribute('href') || node.getAttribute('src') || '?')"
        )
        inside = re.compile(r"#[\w-]*|data:image/png;base64,[\w+/=]+|(\.\./)*[\w./-]+")
        assert [link for link in links if not inside.fullmatch(link)] == []
        visit.page.context.close()
    page = (hostile / "experiments" / "0001" / "index.html").read_text()
    assert page.count("alert(1)") > len(HOSTILE) / 2  # as text


class Elements(HTMLParser):
    """Counts elements and finds attributes that run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.live: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script" and dict(attributes).get("type") != "application/json"
        if tag in ("iframe", "object", "embed", "link", "base", "form", "video", "audio", "image"):
            self.live.append(tag)
        self.live += [name for name, value in attributes if name.startswith("on") or "javascript:" in (value or "")]


def test_a_page_has_no_element_beside_our_own(hostile: Path) -> None:
    for path in pages(hostile):
        elements = Elements()
        elements.feed(path.read_text())
        assert elements.live == [] and elements.scripts <= 2
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', path.read_text())
        assert policy is not None and "default-src 'none'" in policy[1] and "unsafe-eval" not in policy[1]


def test_the_figures_of_the_page_are_marked(plain: Path) -> None:
    figures = dict(read_page((plain / "index.html").read_text()).figures)
    state = read_state(plain / "history.jsonl")
    assert (figures["experiments"], figures["kept"]) == ("3", "1")
    assert figures["baseline-bpb"] == "1.5000" and figures["champion-bpb"] == "1.4600"
    assert [figures[f"bpb-{e.number}"] for e in state.experiments if e.val_bpb] == ["1.5000", "1.4600", "1.4900"]
    assert figures["status-3"] == "crash" and figures["difference-2"] == "\u22120.0100"


# --- pictures


def test_each_experiment_has_one_mark_in_the_picture() -> None:
    experiments, incumbent = night(60)
    svg = progress_svg(experiments, sigma=0.002, width=900, height=400, words="a night", target=lambda n: f"#{n}")
    targets = re.findall(r'href="#(\d+)"', svg)
    assert sorted(map(int, targets)) == [e.number for e in experiments]
    assert svg.count('class="failed"') == sum(e.status is Status.CRASH for e in experiments) > 0
    assert f">{incumbent.val_bpb:.4f}</text>" in svg
    places = [float(y) for y in re.findall(r' c?y="([\d.]+)"', svg)]
    assert min(places) >= 0 and max(places) <= 400


def test_better_scores_stand_lower_in_the_picture() -> None:
    experiments, _ = night(200)
    svg = progress_svg(experiments, sigma=0.002, width=900, height=400, words="a night")
    drawn = re.findall(r'cy="([\d.]+)" r="5" class="keep"', svg)
    kept = [e.val_bpb for e in experiments if e.status is Status.KEEP and e.parent is not None]
    assert len(drawn) == len(kept) > 1
    by_place = sorted(zip(map(float, drawn), kept, strict=True))
    assert [score for _, score in by_place] == sorted(kept, reverse=True)


def test_a_picture_without_any_score_says_so() -> None:
    assert "No experiment has a score yet" in progress_svg((), sigma=None, width=300, height=200, words="")
    assert curve_svg([], label="run 1") == ""


def test_a_curve_s_picture_holds_both_runs_and_hostile_points_are_left_out() -> None:
    curve = [{"seconds": i, "train_loss": 3 + 5 / (1 + i)} for i in range(300)]
    svg = curve_svg([*curve, {"seconds": 301, "train_loss": "<script>"}], curve[:150], label="a<b", other_label="c")
    assert svg.count("<polyline") == 2 and "a&lt;b" in svg and "script" not in svg
    assert max(len(points.split()) for points in re.findall(r'points="([^"]*)"', svg)) <= 302


def test_ticks_are_round_and_few() -> None:
    assert list(ticks(0, 100)) == [0, 20, 40, 60, 80, 100]
    assert [round(tick, 6) for tick in ticks(1.4213, 1.4987, 4)] == [1.44, 1.46, 1.48]
    assert list(ticks(1, 1)) == []


def test_what_carries_the_gain_stands_on_the_page_once_it_was_measured(tmp_path: Path) -> None:
    made = make_night(tmp_path / "project")
    champion = next(e for e in reversed(replay(made.writer.history.events).experiments) if e.status == "keep")
    changes = [e.number for e in replay(made.writer.history.events).experiments if e.status == "keep" and e.number]
    made.writer.append("attribution", what="begun", champion=champion.number, changes=changes, num_seeds=2)
    for number in changes:
        made.writer.append(
            "attribution", what="variant", champion=champion.number, without=number, train_sha256=None,
            obstacle="conflict",
        )  # fmt: skip
    path, _ = share_study(made.study, tmp_path / "nov23.zip", decide=list)
    made.writer.history.close()
    page = read_bundle(path).text("index.html") or ""
    assert (
        '<h2 id="attribution">What carries the gain</h2>' in page and '<a href="#attribution">Attribution</a>' in page
    )
    assert "cannot be taken out alone" in page


def test_a_pdf_is_printed_from_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    browser_path()  # or the test is skipped
    made = make_night(tmp_path / "project")
    share(made.study, tmp_path / "night.zip", True, is_yes=True, has_pdf=True)
    made.writer.history.close()
    pdf = (tmp_path / "night.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and len(pdf) > 20_000 and "night.pdf: its first page" in capsys.readouterr().out
    assert b"file://" not in pdf and pdf.count(b"/Dest") > 0, "links within the page stay, those to folders do not"


def test_an_earlier_pdf_is_replaced_whatever_the_bundle_beside_it_is_called(tmp_path: Path) -> None:
    browser_path()  # or the test is skipped
    made = make_night(tmp_path / "project")
    for _ in range(2):
        share(made.study, tmp_path / "report.bundle", True, is_yes=True, has_pdf=True)
    (tmp_path / "report.bundle").unlink()
    share(made.study, tmp_path / "report.bundle", True, is_yes=True, has_pdf=True)
    made.writer.history.close()
    assert pdf_module.is_page_of(tmp_path / "report.pdf", {"nov23"})
    assert not pdf_module.is_page_of(tmp_path / "report.pdf", {"nov24"})


@pytest.mark.parametrize(
    "content",
    [
        b"my thesis", b"%PDF-1.7\n1 0 obj\n<</Title (My thesis)>>\n", b"",
        b"%PDF-1.7\n1 0 obj\n<</Title <FEFF006E006F>/Creator (nov23 \xb7 autoresearch)>>\n",
        b"%PDF-1.7\n1 0 obj\n<</Title (nov24 \xb7 autoresearch)>>\n", b"a zip /Title (nov23 \xb7 autoresearch)",
    ],
)  # fmt: skip
def test_another_pdf_is_not_overwritten_also_beside_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(command, "require_browser", lambda: None)
    made, pdf = make_night(tmp_path / "project"), tmp_path / "night.pdf"
    path, _ = share_study(made.study, tmp_path / "night.zip", decide=list)
    before = path.read_bytes()
    pdf.write_bytes(content)
    with pytest.raises(StudyError, match=r"night\.pdf exists and is no page of nov23 as PDF\. Move it away, or"):
        share(made.study, path, True, is_yes=True, has_pdf=True)
    made.writer.history.close()
    assert pdf.read_bytes() == content and path.read_bytes() == before


def test_one_file_cannot_be_the_bundle_and_its_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "require_browser", lambda: None)
    made = make_night(tmp_path / "project")
    with pytest.raises(StudyError, match=r"x\.pdf cannot be the bundle and its PDF at once"):
        share(made.study, tmp_path / "x.pdf", True, is_yes=True, has_pdf=True)
    made.writer.history.close()


@pytest.mark.parametrize(
    "title",
    [
        b"(nov23 \xb7 autoresearch)", b"(nov\\0623 \\267 autoresearch)", b"(\\n\\o\\v23 \xb7 autoresearch)",
        b"<FEFF" + "nov23 · autoresearch".encode("utf-16-be").hex().encode() + b">",
    ],
)  # fmt: skip
def test_the_title_of_a_pdf_is_read_in_both_its_forms(tmp_path: Path, title: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<</Title " + title + b"\n/Producer (Skia/PDF)>>\n")
    assert pdf_module.is_page_of(tmp_path / "a.pdf", {"nov23"}) and not pdf_module.is_page_of(tmp_path, {"nov23"})


def test_without_a_browser_no_bundle_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module.shutil, "which", lambda name: None)
    made = make_night(tmp_path / "project")
    with pytest.raises(StudyError, match=r"needs Chromium, Chrome or Edge, and none was found.*Print index\.html"):
        share(made.study, tmp_path / "night.zip", True, is_yes=True, has_pdf=True)
    made.writer.history.close()
    assert not (tmp_path / "night.zip").exists()
