"""README and docs name only files, sections, commands, options, targets, modules and variables that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

import autoresearch_kernel
from autoresearch_kernel.cli import COMMANDS, make_parser

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "autoresearch_kernel"
README, REFERENCE = PROJECT / "README.md", PROJECT / "docs" / "reference.md"
DOCS = [README, *sorted(PROJECT.glob("docs/**/*.md")), PROJECT / "benchmarks" / "README.md"]
PAGES = [*DOCS, *sorted(PROJECT.glob("notebooks/**/*.ipynb"))]

MOST_README_WORDS = 1700
NAMES = {command.name for group in COMMANDS.values() for command in group}
OF_JUPYTER = {"lab", "lesson"}  # commands whose other options are another program's
OF_A_STUDY = ("studies/", "experiments/", "review/", "best/", "py:")  # paths that a study has, and a checkout does not
WRITTEN_BY_TESTS = "<!-- What follows is written by the tests"  # in trust.md
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def text_of(page: Path) -> str:
    """A page without what tests write into it; of a notebook its Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text.partition(WRITTEN_BY_TESTS)[0]


def code_of(text: str) -> list[str]:
    """What a text shows as code: lines of fenced and indented blocks, and what is in backticks."""
    fenced = [line for block in FENCE.findall(text) for line in block.splitlines()]
    text = FENCE.sub("", text)
    indented = re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    spans = SPAN.findall(re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE))
    return [*fenced, *indented, *(" ".join(span.split()) for span in spans)]


# --- commands


@cache
def help_of(*command: str) -> str:
    """What `autoresearch COMMAND --help` prints."""
    if command == ("prepare",):  # a program of its own, which needs torch
        words = [sys.executable, "prepare.py", "--help"]
        return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        make_parser().parse_args([*command, "--help"])
    return printed.getvalue()


def options(name: str) -> set[str]:
    command = ("kernel", "install") if name == "kernel" else (name,)
    return set(re.findall(r"--[a-z][a-z-]*", help_of(*command)))


def wrong_commands(code: str) -> list[str]:
    """Commands of `autoresearch`, and their options, that do not exist."""
    wrong = []
    for name, rest in re.findall(r"(?<![\w/.-])(?:\S*/)?autoresearch ([a-z][\w-]*)([^|;&#`]*)", code):
        if name not in NAMES:
            wrong.append(name)
        elif name not in OF_JUPYTER:
            named = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)
            wrong += [f"{name} {option}" for option in named if option not in options(name)]
    return wrong


def targets() -> set[str]:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) - {"setup-test"}  # which others need


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_commands_and_options_that_exist(page: Path) -> None:
    assert [wrong for code in code_of(text_of(page)) for wrong in wrong_commands(code)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_targets_of_make_that_exist(page: Path) -> None:
    assert {name for code in code_of(text_of(page)) for name in re.findall(r"^make ([a-z-]+)", code)} <= targets()


def test_a_wrong_command_is_found() -> None:
    assert wrong_commands("autoresearch runs --hours 8") == ["runs"]
    assert wrong_commands(".venv/bin/autoresearch run --budgte 8") == ["run --budgte"]
    assert wrong_commands("autoresearch run --no-approve --hours 8 --detach; autoresearch lab --port 9") == []


def test_the_reference_has_every_command_option_and_target_and_no_other() -> None:
    reference = code_of(text_of(REFERENCE))
    assert {name for code in reference for name in re.findall(r"^autoresearch ([a-z-]+)", code)} == NAMES
    known = set().union(*map(options, NAMES))
    assert {option for code in reference for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", code)} == known
    assert {name for code in reference for name in re.findall(r"^make ([a-z-]+)", code)} == targets()


# --- files, modules, sections, variables


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(text_of(page)):
        path, _, anchor = link.partition("#")
        if not link.startswith("http"):
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                dead.append(link)
    assert dead == []


def absent_files(code: str) -> list[str]:
    """Python files below a folder that are neither of the project nor of the package."""
    named = re.findall(r"[\w./:-]+/[\w.-]+\.py\b", code)
    known = [path for path in named if not path.startswith(("/", *OF_A_STUDY)) and not Path(path).stem.isupper()]
    return [path for path in known if not (PROJECT / path).is_file() and not (PACKAGE / path).is_file()]


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_a_page_names_modules_that_exist(page: Path) -> None:
    assert [path for code in code_of(text_of(page)) for path in absent_files(code)] == []


def test_an_absent_module_is_found() -> None:
    assert absent_files("autoresearch_kernel/judge/child.py and core/decide.py") == [
        "autoresearch_kernel/judge/child.py"
    ]
    assert absent_files("studies/nov23/best/train.py, scripts/set_up.py") == []


def test_environment_variables_exist() -> None:
    sources = [
        PROJECT / "prepare.py",
        *PACKAGE.rglob("*.py"),
        *PROJECT.glob("scripts/*.py"),
        *PROJECT.glob("tests/trust/*.py"),
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    named = {name for page in DOCS for name in re.findall(r"\b(?:AUTORESEARCH|OPENAI)_[A-Z_]+\b", text_of(page))}
    assert {name for name in named if name not in code} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_imports_exists(page: Path) -> None:
    lines = [line for code in code_of(text_of(page)) for line in code.splitlines()]
    named = {name for line in lines for name in re.findall(r"^from autoresearch_kernel import ([\w, ]+)$", line)}
    assert {part.strip() for name in named for part in name.split(",")} <= set(autoresearch_kernel.__all__)


# --- the words


def test_getting_started_lists_each_extra_with_its_command() -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (PROJECT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|.*(?:EXTRAS=\1|make test).*", page, re.MULTILINE)) == set(extras)


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(re.findall(r"\S+", README.read_text(encoding="utf-8"))) <= MOST_README_WORDS


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_sentences_name_the_actor(page: Path) -> None:
    assert re.findall(r"\b(?:no|some)body\b", text_of(page), re.IGNORECASE) == []
