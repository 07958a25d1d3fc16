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


def test_makefile_and_readme_name_commands_that_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    readme = (PROJECT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", readme)) <= targets
    commands = set(
        re.findall(r"autoresearch ([a-z]+)\b", "\n".join(re.findall(r"`[^`]*`|^    .*$", readme, re.MULTILINE)))
    )
    for command in commands:
        result = subprocess.run(
            [sys.executable, "-m", "autoresearch_kernel.cli", command, "--help"], cwd=PROJECT, capture_output=True
        )
        assert result.returncode == 0, command


def test_links_of_the_readme_and_docs_lead_somewhere() -> None:
    for page in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"), PROJECT / "benchmarks" / "README.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
