"""The set-up files agree with each other."""

from __future__ import annotations

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
    newest = re.search(r"^## (\d\S*)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (
        newest is not None and newest[1] == autoresearch_kernel.__version__ == study_versions()["autoresearch-kernel"]
    )


def test_the_help_groups_every_command() -> None:
    words = make_parser().format_help()
    for title, group in COMMANDS.items():
        listed = words.partition(f"{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in listed] == [command.name for command in group]
