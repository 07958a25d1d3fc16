"""Markdown of an agent: whatever it is, a viewer shows text, headings, lists, emphasis and code, and nothing live."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoresearch_kernel.core.markdown import fenced, inert, inert_markdown
from tests.hostile import HOSTILE

TAGS = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "blockquote", "em", "strong", "code", "pre", "span",
        "div", "hr", "br", "a", "del", "dl", "dt", "dd"}  # fmt: skip
ATTRIBUTES = {"id", "class", "start"}


class Live(HTMLParser):
    """Collects all that is more than text in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        ours = ("href", "#")  # the anchor that nbconvert gives to a heading
        wrong = [(k, v) for k, v in attributes if k not in ATTRIBUTES and (k, (v or "")[:1]) != ours]
        if tag not in TAGS or wrong:
            self.found.append(f"<{tag} {wrong}>")

    def handle_comment(self, data: str) -> None:
        self.found.append(data)

    def handle_decl(self, decl: str) -> None:
        self.found.append(decl)


def live_parts(markdown: str) -> list[str]:
    """What nbconvert, which passes HTML on, makes of it besides text."""
    from nbconvert.filters.markdown_mistune import InvalidNotebook, markdown2html_mistune

    page = Live()
    try:
        html = markdown2html_mistune(markdown)
    except InvalidNotebook as error:  # it cannot be converted at all
        return [str(error)]
    page.feed(html)
    page.close()
    shown = re.sub(r"<(code|pre)\b.*?</\1>", "", html, flags=re.DOTALL)
    shown = re.sub(r' (?:id|href)="[^"]*"', "", shown)  # where nbconvert repeats a heading, and no viewer has formulas
    formulas = re.findall(r"\\\(|\\\[|\$\$?", shown)
    return page.found + formulas + re.findall("mermaid.initialize", html)


def test_the_measure_sees_what_is_live() -> None:
    assert sum(bool(live_parts(hostile)) for hostile in HOSTILE) > 30


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_viewer_makes_anything_live_of_it(hostile: str) -> None:
    assert live_parts(inert_markdown(hostile)) == []
    assert live_parts(inert(hostile)) == []
    assert live_parts("\n".join(f"> {line}" for line in inert_markdown(hostile).split("\n"))) == []


pieces = st.sampled_from([*"`~<>&[]()!\\$|#*_-:;@ \t\n\r\x1b\u2028", "```", "$$", "\\(", "    ", "\n\n", "- ", "> ",
                          "<script>",
                          "http://x.y", "www.x.y", "```mermaid", "|-|-|\n", "&lt;", "\\begin{a}", "x"])  # fmt: skip


@example("#`$")
@given(st.lists(pieces | st.text(max_size=5), max_size=40).map("".join))
def test_nor_of_any_text(text: str) -> None:
    written = inert_markdown(text)
    assert live_parts(written) == [] and live_parts(inert(text)) == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", written)
    outside, is_open = [], ""
    for line in written.split("\n"):  # the same by rule, without any viewer
        if is_open:
            is_open = "" if line == is_open else is_open
        elif fence := re.match("```+", line):
            is_open = fence[0]
        else:
            outside.append(line)
    assert not is_open
    rest = re.sub(r"</?code>|&(?:amp|lt|#\d+);", "", "\n".join(outside))
    assert not re.search(r"[&<\[\]\\$`|@]|://|www\.", rest, re.IGNORECASE)


def test_what_a_reader_needs_stays() -> None:
    text = "# Why\n\nA **wider** model, `x[0] < 3`:\n\n- one\n    - two\n\n```python\nif a < b: c[0] = '$'\n```\n> so"
    assert inert_markdown(text) == (
        "# Why\n\nA **wider** model, <code>x&#91;0&#93; &lt; 3</code>:\n\n- one\n    - two\n\n\n"
        "```python\nif a < b: c[0] = '$'\n```\n\n> so"
    )
    assert inert("d_model 4 -> 8 (a & b)") == "d_model 4 -> 8 (a &amp; b)"
    assert fenced(["a ````", "b"], "mermaid") == ["`````", "a ````", "b", "`````"]


def test_a_long_text_takes_no_time() -> None:
    for part in ("`", "` `` ", "$", "x", "~~~\n", "[", "\\"):
        assert inert_markdown(part * (200_000 // len(part)))
