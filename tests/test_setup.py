"""The set-up files agree with each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import autoresearch_kernel
from autoresearch_kernel.cli import COMMANDS, make_parser
from autoresearch_kernel.record.study import study_versions

PROJECT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch"}


def requirements() -> dict[str, str]:
    """Package -> version specifier of pyproject.toml, with the extra of corpora that are downloaded."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["corpora"]
    return dict(re.fullmatch(r"([\w.-]+)(.*)", line).groups() for line in lines)  # type: ignore[union-attr]


def test_conda_environment_lists_the_same_packages() -> None:
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    conda = [line for line in environment if isinstance(line, str)]
    pip = next(line["pip"] for line in environment if isinstance(line, dict))
    listed = set(conda) | set(pip)
    expected = {CONDA_NAMES.get(name, name) + version for name, version in requirements().items()}
    python = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert listed == expected | {"pip", f"python{python}"}


@pytest.mark.parametrize("tool", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]])
def test_the_code_passes(tool: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *tool], cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_version_stands_in_one_place() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "autoresearch_kernel.core.version.__version__"
    }
    newest = re.search(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (
        newest is not None and newest[1] == autoresearch_kernel.__version__ == study_versions()["autoresearch-kernel"]
    )


PAGES = [PROJECT / "README.md", *sorted(PROJECT.glob("docs/*.md")), *sorted(PROJECT.glob("notebooks/*.ipynb"))]
CODE = re.compile(r"`[^`\n]*`|^    .*$", re.MULTILINE)


def code_of(page: Path) -> list[str]:
    """What a page shows as code: in backticks, and in indented lines."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return CODE.findall(text)


def wrong_commands(code: str) -> list[str]:
    """Commands and options of `autoresearch` in a piece of code that there are not."""
    known = {command.name: command for group in COMMANDS.values() for command in group}
    wrong = []
    for name, rest in re.findall(r"\bautoresearch ([a-z][\w-]*)([^\n|;&#`]*)", code):
        if name not in known:
            wrong.append(name)
        elif not known[name].takes_others:
            options = {option for argument in known[name].arguments for option in argument.names} | {"--help"}
            options |= {f"--no-{option[2:]}" for option in options}
            wrong += [f"{name} {option}" for option in re.findall(r"(?<!\S)--[a-z-]+", rest) if option not in options]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_commands_options_and_targets_that_exist(page: Path) -> None:
    code = code_of(page)
    assert [wrong for piece in code for wrong in wrong_commands(piece)] == []
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {name for piece in code for name in re.findall(r"(?:^|`|    |&& )make ([a-z]+)", piece)}
    assert named <= targets


def test_a_command_that_does_not_exist_is_found() -> None:
    assert wrong_commands("    autoresearch runs --hours 8") == ["runs"]
    assert wrong_commands("`autoresearch run --budgte 8`") == ["run --budgte"]
    assert wrong_commands("`autoresearch run --no-approve --hours 8 --detach`; autoresearch lab --port 9") == []


def test_the_help_groups_every_command() -> None:
    words = make_parser().format_help()
    for title, group in COMMANDS.items():
        listed = words.partition(f"{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in listed] == [command.name for command in group]


def test_links_of_the_readme_and_docs_lead_somewhere() -> None:
    for page in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"), PROJECT / "benchmarks" / "README.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
