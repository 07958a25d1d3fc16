"""A real JupyterLab and a real Chromium: what people do is done here, and what they see is read there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoresearch_kernel.control.supervisor import end
from autoresearch_kernel.record.study import open_study, study_names
from autoresearch_kernel.system.files import lock_holder

from ..conftest import COUNTING_TRAIN, PROJECT, QUIET, git, make_project
from ..ready import add

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# What Chromium says of things that no page of ours did.
# The last is ipywidgets' word on a saved view whose kernel is gone: the cell below it is what stays.
NOT_OURS = ("favicon", "ResizeObserver loop", "widget model not found")
OTHER_EXTENSIONS = ("@jupyter/nbgrader",)  # which most users do not have, so no picture should show them
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR")
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight exist, so that they can be counted
}
RAN, EMPTY = re.compile(r"\[\d+\]"), re.compile(r"\[\s*\]")  # prompts of a cell
LOOK_EVERY_MS = 50  # while something is waited for
MENU_MS = 10_000  # until an entry of a menu is there
MUST = "AUTORESEARCH_JOURNEYS"  # set to `must` where a missing browser is a failure and no reason to skip


def browser_path() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        words = f"No {BROWSERS[0]} on PATH. Debian and Ubuntu: apt install chromium."
        pytest.fail(words) if os.environ.get(MUST) == "must" else pytest.skip(words)
    return str(found)


class Lab:
    """A JupyterLab of a project, on a port of its own."""

    def __init__(self, project: Path, folder: Path, *, is_quiet: bool = True) -> None:
        """`is_quiet`: its processes take the machine for a quiet one."""
        self.project, self.folder, self.is_quiet = project, folder, is_quiet
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "autoresearch_kernel.cli", "lab", "--no-browser", "--ip=127.0.0.1",
            f"--port={self.port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
            "--ServerApp.disable_check_xsrf=True",
        ]  # fmt: skip
        settings = {name: str(self.folder / name) for name in FOLDERS}
        ours = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}  # no model
        if self.is_quiet:
            ours["PYTHONPATH"] = os.pathsep.join(filter(None, [QUIET, ours.get("PYTHONPATH")]))
        for file, content in SETTINGS.items():
            path = self.folder / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / f"{file}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        pages = self.folder / "JUPYTER_CONFIG_DIR" / "labconfig" / "page_config.json"
        pages.parent.mkdir(parents=True, exist_ok=True)
        pages.write_text(json.dumps({"disabledExtensions": dict.fromkeys(OTHER_EXTENSIONS, True)}))
        with open(self.folder / "lab.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.project, env=ours | settings, stdout=log, stderr=log, start_new_session=True
            )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None and time.monotonic() < deadline, (
                    self.folder / "lab.log"
                ).read_text()[-3000:]
                time.sleep(0.2)

    def stop(self) -> None:
        """As Ctrl-C twice in its terminal would: kernels end with it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


class Browser:
    """One page, with what its console says."""

    def __init__(self, page: Page, shots: Path) -> None:
        self.page, self.shots = page, shots
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self._hear)
        # An experiment's notebook that is still open is drawn anew when the experiment runs again.
        question = page.locator(".jp-Dialog", has_text="has changed on disk")
        page.add_locator_handler(question, lambda dialog: dialog.get_by_role("button", name="Revert").click())

    def _hear(self, message: Any) -> None:
        if message.type == "error" and not any(words in message.text for words in NOT_OURS):
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def open(self, lab: Lab, path: str) -> None:
        """Open a notebook and wait for its kernel."""
        self.page.goto(f"{lab.url}/lab/tree/{path}?reset")
        self.await_kernel()

    def await_kernel(self) -> None:
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=30_000)
        self.page.wait_for_timeout(1_500)

    def restart_kernel(self) -> None:
        """Through the menu; the server has answered that it is done before anything is run."""
        self.choose("Kernel", "Restart Kernel…")
        with self.page.expect_response(lambda response: response.url.split("?")[0].endswith("/restart")):
            self.page.get_by_role("button", name="Confirm Kernel Restart").click()
        self.await_kernel()

    def choose(self, menu: str, *entries: str) -> None:
        """Choose the last entry of a menu; open the menu again where a dialog of Lab has closed it meanwhile."""
        from playwright.sync_api import TimeoutError as TooLate

        opened = self.page.locator(".lm-Menu")
        for is_last_try in (False, False, True):
            self.page.get_by_role("menuitem", name=menu, exact=True).click()
            try:
                for entry in entries[:-1]:
                    opened.get_by_text(entry, exact=True).hover(timeout=MENU_MS)
                opened.get_by_text(entries[-1], exact=True).click(timeout=MENU_MS)
                return
            except TooLate:
                if is_last_try:
                    raise
                for _ in range(opened.count()):  # a submenu and its menu close one by one
                    self.page.keyboard.press("Escape")

    def cell(self, number: int) -> Locator:
        """The code cell of that number, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def run(self, number: int) -> None:
        """Run one code cell and wait until it has ended; press the keys again when nothing happened, as one does.

        Lab that has not found its kernel yet empties the cell and its prompt, and runs nothing.
        """
        cell = self.cell(number)
        for _ in range(6):
            before = self._prompt(number)
            cell.scroll_into_view_if_needed()
            cell.locator(".cm-content").first.click()
            self.page.keyboard.press("Control+Enter")
            try:
                self.until(lambda before=before: self._has_begun(number, before), 6)
                break
            except AssertionError:
                continue
        self.until(lambda: RAN.search(self._prompt(number)) is not None, 180)

    def _has_begun(self, number: int, before: str) -> bool:
        now = self._prompt(number)
        return now != before and EMPTY.search(now) is None

    def replace(self, number: int, code: str) -> None:
        """Write other code into a cell."""
        self.cell(number).locator(".cm-content").first.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def _prompt(self, number: int) -> str:
        return self.cell(number).locator(".jp-InputPrompt").first.inner_text()

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"It did not happen within {seconds:g} s; see {self.shots}")
            self.page.wait_for_timeout(LOOK_EVERY_MS)

    def save(self) -> None:
        """Ctrl+S, and wait until the tab says that nothing is unsaved."""
        self.page.keyboard.press("Control+s")
        self.until(lambda: self.page.locator(".lm-DockPanel-tabBar .lm-mod-current.jp-mod-dirty").count() == 0, 20)

    def shot(self, name: str) -> None:
        self.page.screenshot(path=self.shots / f"{name}.png")


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    small_corpus: Path,
    patch: pytest.MonkeyPatch,
) -> Path:
    """A project with the notebooks, committed, and a model that counts or the TRAIN_SOURCE of the module.

    The CORPUS of the module is there: tests/test_main_job.py begins a study without one.
    """
    if (corpus := getattr(request.module, "CORPUS", None)) is not None:
        add(tmp_path_factory, small_corpus.parents[1], corpus)
    source = getattr(request.module, "TRAIN_SOURCE", COUNTING_TRAIN)
    folder = make_project(tmp_path_factory.mktemp("journey"), small_corpus, patch, source)
    shutil.copytree(PROJECT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("jupytext.toml", ".gitignore"):
        shutil.copy(PROJECT / name, folder)
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "the notebooks")
    return folder


@pytest.fixture(scope="module")
def lab(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    browser_path()
    server = Lab(place, tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()
    for name in study_names(place):  # what a failed journey left
        study = open_study(name, place)
        if lock_holder(study.paths.lock) is not None:
            end(study)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    shots = Path(os.environ.get("AUTORESEARCH_SHOTS") or tmp_path_factory.mktemp("shots"))
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        page = chromium.new_page(viewport={"width": 1440, "height": 1200})
        page.set_default_timeout(60_000)
        yield Browser(page, shots)
        chromium.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A picture of every failure."""
    report = yield
    page = getattr(item, "funcargs", {}).get("browser")
    if call.excinfo is not None and isinstance(page, Browser):
        page.shot(f"failed-{item.name}")
    return report
