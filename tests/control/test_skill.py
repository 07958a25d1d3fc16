"""The skill: one short file in the common format, installed where agents read it, true to the program."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from autoresearch_kernel.cli import COMMANDS, main
from autoresearch_kernel.control.skill import read_places, skill_text
from autoresearch_kernel.control.verbs import EXITS
from tests.conftest import PROJECT
from tests.test_docs import code_of, wrong_commands

MOST_LINES = 60


def test_the_skill_is_short_and_in_the_common_format() -> None:
    text = skill_text()
    assert len(text.splitlines()) <= MOST_LINES and max(map(len, text.splitlines()[4:])) <= 120
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert set(facts) == {"name", "description"} and facts["name"] == "autoresearch"
    assert 0 < len(facts["description"]) <= 1024 and body.startswith("\n# ")
    assert "`autoresearch ask --name NAME > FILE`" in body, "shell tools of agents show a part of so long a text"


def test_the_skill_names_commands_options_and_exit_statuses_that_exist() -> None:
    text = skill_text()
    assert [wrong for code in code_of(text) for wrong in wrong_commands(code)] == []
    for verb in ("ask", "propose FILE", "wait"):
        assert f"`autoresearch {verb}" in text
    stated = set(map(int, re.findall(r"^\| (\d+) \|", text, re.MULTILINE)))
    assert stated == set(EXITS.values()) | {1, 2}
    reference = (PROJECT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert all(f"| {status} |" in reference for status in stated)


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ([], [".claude/skills", ".agents/skills"]),
        (["claude"], [".claude/skills"]),
        (["codex"], [".agents/skills"]),
        (["gemini"], [".gemini/skills"]),
    ],
)
def test_it_is_installed_where_the_agent_reads_it(
    project: Path, words: list[str], files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skill", "install", *words]) == 0
    written = sorted(path for path in project.rglob("SKILL.md"))
    assert written == sorted(project / folder / "autoresearch" / "SKILL.md" for folder in files)
    assert all(path.read_text(encoding="utf-8") == skill_text() for path in written)
    said = capsys.readouterr().out
    assert all(str(path) in said for path in written)
    assert main(["skill", "install", *words]) == 0, "a second time changes nothing"


def test_it_is_installed_for_all_projects_and_printed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert main(["skill", "install", "claude", "--home"]) == 0
    assert (tmp_path / "home" / ".claude" / "skills" / "autoresearch" / "SKILL.md").is_file()
    capsys.readouterr()
    assert main(["skill", "--print"]) == 0
    assert capsys.readouterr().out == skill_text()
    assert not list(project.rglob("SKILL.md"))


def test_a_skill_that_was_edited_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["skill", "install"])
    mine = project / ".claude" / "skills" / "autoresearch" / "SKILL.md"
    mine.write_text("mine")
    assert main(["skill", "install"]) == 1
    assert "Use --force to replace it" in capsys.readouterr().err and mine.read_text() == "mine"
    assert main(["skill", "install", "--force"]) == 0 and mine.read_text() == skill_text()


def test_folders_can_be_corrected_in_the_project(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "presets").mkdir()
    own = project / "presets" / "skills.yaml"
    own.write_text("mine: {title: My agent, project: my/skills, home: ~/my}\n")
    assert main(["skill", "install", "mine"]) == 0
    assert (project / "my" / "skills" / "autoresearch" / "SKILL.md").is_file()
    assert main(["skill", "install", "claude"]) == 1
    assert "presets/skills.yaml describes no agent 'claude'" in capsys.readouterr().err
    for wrong, said in (("- a list", "has no entries"), ("mine: {title: x}", "mine needs a field `project`")):
        own.write_text(wrong)
        assert main(["skill", "install"]) == 1 and said in capsys.readouterr().err


def test_the_shipped_folders_are_complete(tmp_path: Path) -> None:
    places = read_places(PROJECT)
    assert {"claude", "codex", "gemini", "opencode", "copilot"} <= set(places)
    assert [name for name, place in places.items() if place.usual] == ["claude", "agents"]
    assert all(not Path(p.project).is_absolute() and p.home.startswith("~/") for p in places.values())
    shutil.copytree(PROJECT / "presets", tmp_path / "presets")
    assert read_places(tmp_path) == places


def test_the_help_has_the_verbs_in_the_order_of_their_use() -> None:
    assert [command.name for command in COMMANDS["Propose from outside"]] == ["ask", "propose", "wait", "skill", "mcp"]
