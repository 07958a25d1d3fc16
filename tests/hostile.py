"""What an agent may write into a notebook to harm its reader, and a server that counts what a browser asks for."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import pytest

from autoresearch_kernel.core.types import Experiment, Run, Status
from autoresearch_kernel.run.notebook import build_notebook, heading_markdown, set_verdict, write_notebook
from autoresearch_kernel.run.outputs import make_plain
from autoresearch_kernel.show import words
from tests.nights import STUDY

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src='http://SERVER/frame'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='http://SERVER/object'></object>",
    "<embed src='http://SERVER/embed'>",
    "<link rel=stylesheet href='http://SERVER/style.css'>",
    "<style>@import 'http://SERVER/style.css'; body { background: url(http://SERVER/b) }</style>",
    "<meta http-equiv=refresh content='0; url=http://SERVER/refresh'>",
    "<form action='http://SERVER/form'><input autofocus onfocus=alert(1)></form>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1) src='http://SERVER/v'></video>",
    "<a href='javascript:alert(1)'>x</a>",
    "<base href='http://SERVER/'>",
    "<!-- --><script>alert(1)</script>",
    "<!--><img src='http://SERVER/comment'>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<div\nonclick=alert(1)\n>x",
    "</code></pre><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=http://SERVER/entity&#62;",
    "![beacon](http://SERVER/image.png)",
    "![beacon][b]\n\n[b]: http://SERVER/reference.png",
    "![a](attachment:a.png) ![d](data:image/svg+xml;base64,PHN2Zz4=)",
    "[x](javascript:alert(1)) [y](data:text/html,<script>alert(1)</script>) [z](vbscript:x) [f](file:///etc/passwd)",
    "[x](&#106;avascript:alert(1)) [y](java\nscript:alert(1)) [z](\x01javascript:alert(1))",
    "[ref] and [text][ref]\n\n[ref]: javascript:alert(1) 'title'",
    "<javascript:alert(1)> <http://SERVER/auto> http://SERVER/bare HTTPS://SERVER/x www.SERVER.example a@b.example",
    "footnote[^1]\n\n[^1]: <img src=http://SERVER/foot>",
    "$\\href{javascript:alert(1)}{x}$ \\(\\url{http://SERVER/}\\) \\[\\require{html}\\class{a}{b}\\]",
    "$$\\style{background:url(http://SERVER/tex)}{x}$$ \\begin{equation}\\cssId{a}{b}\\end{equation}",
    "```mermaid\ngraph TD; A-->B; click A 'javascript:alert(1)'\n```",
    "~~~ mermaid\ngraph TD\n~~~",
    "```{=html}\n<script>alert(1)</script>\n```",
    "````\n```\n<script>alert(1)</script>\n````",
    "| a | `b|<script>alert(1)</script>` |\n|---|---|\n| `x | <img src=http://SERVER/table> ` |",
    "`<script>alert(1)</script>` ``a`b <img src=http://SERVER/code>`` \\`<script>alert(1)</script>\\`",
    "> quoted\n> <script>alert(1)</script>\n\n    <script>alert(1)</script>",
    "# <img src=http://SERVER/heading>\n<script>alert(1)</script>\n===",
    "- item\n\n  <script>alert(1)</script>\n- ![x](http://SERVER/list)",
    "{% include 'http://SERVER/' %} {{ constructor }} %%html\n<script>alert(1)</script>",
    "\u202e<script>alert(1)</script>\x00<\x00script>",
    "```\nopen <script>alert(1)</script>",
)
OUTPUTS = {
    "text/html": "<script>fetch('http://SERVER/html'); alert(1)</script><img src='http://SERVER/html.png'>",
    "text/markdown": "<img src='http://SERVER/markdown.png'> [x](javascript:alert(1))",
    "text/latex": "$\\href{javascript:alert(1)}{x}$",
    "application/javascript": "fetch('http://SERVER/js'); alert(1)",
    "image/svg+xml": "<svg onload='alert(1)'><image href='http://SERVER/svg.png'/></svg>",
    "image/png": '"><script>alert(1)</script>',
    "application/vnd.jupyter.widget-view+json": "{}",
    "application/pdf": "JVBERi0=",
    "text/vnd.mermaid": "graph TD; click A 'javascript:alert(1)'",
}
FACTS: dict[str, Any] = STUDY | {
    "corpus": {**STUDY["corpus"], "content_sha256": "0" * 64},  # type: ignore[dict-item]
    "scoring": {"dtype": "bf16", "device": "cuda"},
}


def hostile_notebook(path: Path, server: str) -> None:
    """An executed notebook; whatever an agent and its training may write into it is hostile."""
    hostile = [words.replace("SERVER", server) for words in HOSTILE]
    cells = ["# %% [markdown] tags=[\"x' onload='alert(1)\"]\n" + _commented(words) for words in hostile]
    cells += [f'# %% [raw] raw_mimetype="text/html"\n{_commented(words)}' for words in hostile]
    code = '# %% tags=["parameters", "a\\" onmouseover=\\"alert(1)"]\nSEED = 1\n\n# %%\nprint(SEED)\n\n'
    all_words = "\n".join(hostile)
    experiment = Experiment(
        1, all_words, all_words, 0, details={"seeds": all_words}, expected=all_words, refutation=all_words,
        status=Status.CRASH, reason=all_words, runs=(Run(0, 1, Status.CRASH, all_words),),
    )  # fmt: skip
    heading = heading_markdown(
        words.title(experiment),
        status_line=words.status_line(experiment, FACTS),
        hypothesis=words.argument(experiment),
        diff="".join(f"+{line}\n" for line in all_words.split("\n")),
    )
    notebook = build_notebook(code + "\n\n".join(cells), heading=heading)
    ran = next(cell for cell in notebook.cells if cell.source == "print(SEED)")
    for kind, data in OUTPUTS.items():
        message = {"msg_type": "display_data", "content": {"data": {kind: data.replace("SERVER", server)}}}
        assert make_plain(message)
        ran.outputs.append(nbformat.v4.new_output("display_data", **message["content"]))
    ran.outputs.append(
        nbformat.v4.new_output("stream", name="stdout", text="\x1b]8;;javascript:alert(1)\x07" + all_words)
    )
    ran.outputs.append(nbformat.v4.new_output("error", ename="<b>", evalue=all_words, traceback=hostile))
    write_notebook(notebook, path)
    set_verdict(
        path, heading=heading, curve_text=all_words, verdict=words.verdict(experiment, experiment.runs[0], FACTS)
    )


def _commented(text: str) -> str:
    return "\n".join(f"# {line}" for line in re.split("[\r\n]", text.replace("\0", "")))


class Counting(http.server.SimpleHTTPRequestHandler):
    """Serves one page, and remembers everything that is asked for."""

    page = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Counting], str]]:
    handler = type("Page", (Counting,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler, f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()
