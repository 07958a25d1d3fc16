"""The notebook of an experiment whose agent wrote all it can into it, in a real browser: nothing in it is live."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import nbformat

from autoresearch_kernel.run.notebook import read_notebook
from tests.hostile import HOSTILE, Counting, hostile_notebook, server  # noqa: F401  (a fixture)
from tests.journeys.conftest import FLAGS, browser_path

ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # nbconvert's pages ask for MathJax elsewhere

LINKS = "[href], [src]:not(script), [xlink\\:href]"
TARGET = "(node) => node.getAttribute('href') || node.getAttribute('src')"
TARGETS = f"nodes => nodes.map({TARGET})"
# The same of a document that is parsed and not shown, so that nothing in it can run or go elsewhere.
PARSED = (
    f"([html, links]) => [...new DOMParser().parseFromString(html, 'text/html').querySelectorAll(links)].map({TARGET})"
)


def visit(handler: type[Counting], address: str, page_html: str) -> tuple[list[str], list[str], list[str]]:
    """What a browser asked for beside the page, its dialogs, and the targets of links."""
    from playwright.sync_api import Dialog, Error, sync_playwright

    handler.page = page_html
    handler.asked.clear()
    dialogs: list[str] = []

    def close(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        with suppress(Error):  # the page sent the browser elsewhere, which closes its dialogs
            dialog.dismiss()

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser_path(), args=[*FLAGS, ONLY_HERE])
        page = chromium.new_page()
        links = page.evaluate(PARSED, [page_html, LINKS])
        page.on("dialog", close)
        try:
            page.goto(f"http://{address}/page", wait_until="domcontentloaded")
            page.wait_for_timeout(1_500)
        except Error:
            if not dialogs:  # a live page may go elsewhere while it loads
                raise
        if not dialogs:  # a page in a dialog may never answer
            links += page.locator(LINKS).evaluate_all(TARGETS)
        chromium.close()
    ours = ("#", "data:image/png;base64,")
    asked = [path for path in handler.asked if path not in ("/page", "/favicon.ico")]
    return asked, dialogs, [link for link in links if not (link or "").startswith(ours)]


def test_nothing_in_a_notebook_of_a_hostile_agent_is_live(
    tmp_path: Path,
    server: tuple[type[Counting], str],  # noqa: F811
) -> None:
    from nbconvert import HTMLExporter

    handler, address = server
    path = tmp_path / "experiment.ipynb"
    hostile_notebook(path, address)
    notebook = read_notebook(path)
    nbformat.validate(notebook)
    page_html, _ = HTMLExporter().from_notebook_node(notebook)
    assert page_html.count("alert(1)") > 3 * len(HOSTILE)  # as text
    assert visit(handler, address, page_html) == ([], [], [])
    naive = "".join(words.replace("SERVER", address) + "\n" for words in HOSTILE)
    asked, dialogs, links = visit(handler, address, f"<!doctype html><body>{naive}")
    assert asked and dialogs and links  # the same words where nothing makes them inert
