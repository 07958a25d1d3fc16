"""The last lines of what an agent writes: shown while it writes, as inert text, and gone with the proposal."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.agents.command import CommandChat
from autoresearch_kernel.agents.options import make_agent
from autoresearch_kernel.agents.server import keep_secret
from autoresearch_kernel.agents.tool_output import words_so_far
from autoresearch_kernel.agents.tools import Place, Tool, find_tool
from autoresearch_kernel.agents.writing import MOST_LINE_CHARS, MOST_LINES, Telling, last_lines
from autoresearch_kernel.core.types import Progress, RunOutcome
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.show.follow import look
from tests.conftest import PROJECT, counting_study, forget_views
from tests.control.running import prepare, running, until
from tests.fake_tool import FakeTool, step
from tests.pretended import Machine

SECRET = "canary-77d1c0ffee12"


def test_the_last_lines_end_with_the_last_whole_word() -> None:
    assert last_lines("") == last_lines("one") == ""
    assert last_lines("one tw") == "one"
    assert last_lines("one\n\n two\nthree\n") == "one\ntwo\nthree"
    many = last_lines("".join(f"line {i}\n" for i in range(100)))
    assert many.splitlines() == [f"line {i}" for i in range(100 - MOST_LINES, 100)]
    assert len(last_lines("word " * 10_000)) <= MOST_LINE_CHARS


def test_the_last_lines_are_inert_and_hold_no_secret() -> None:
    keep_secret(SECRET)
    hostile = f"\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202ereversed {SECRET} and more\r\nnext \x00line"
    for end in range(len(hostile) + 1):
        shown = last_lines(hostile[:end])
        assert all(c.isprintable() or c == "\n" for c in shown)
        assert "canary" not in shown, "not even its first half"
    assert "[key]" in last_lines(hostile)
    assert "canary" not in last_lines("x" * 7_990 + f" {SECRET} " + "y " * 3_000)


def test_a_listener_is_told_now_and_then() -> None:
    said: list[str] = []
    now = [0.0]
    telling = Telling(said.append, lambda: now[0])
    for i in range(9):
        telling.tell(lambda i=i: f"{i} ")  # type: ignore[misc]
        now[0] += 0.25
    assert said == ["0", "2", "4", "6", "8"]


def test_words_are_read_from_lines_of_json_once_they_are_whole() -> None:
    tool = Tool("t", "t", output="lines", reply=Place(at="text", when={"type": "text"}, take="all"))
    whole = b'{"type": "start"}\n{"type": "text", "text": "I think "}\n'
    assert words_so_far(tool, b'{"type": "te') == ""
    assert words_so_far(tool, whole + b'{"type": "text", "te') == "I think\n"
    assert words_so_far(tool, whole + b'{"type": "text", "text": "that"}\n') == "I think that\n"
    assert words_so_far(Tool("t", "t"), b"plain wor") == "plain wor"


def test_a_tool_is_heard_while_it_writes(tmp_path: Path) -> None:
    text = "".join(f"I think of line {i}.\n" for i in range(40))
    tool = FakeTool(tmp_path / "bin", [step("slow", text)])
    chat, said = CommandChat(find_tool(tool.line, PROJECT)), list[str]()
    chat.on_words = said.append
    chat.ask([{"role": "user", "content": "hello"}], 1000)
    assert any("I think of line" in words for words in said)
    assert all(len(words.splitlines()) <= MOST_LINES for words in said)


def test_people_see_what_the_agent_writes_until_the_proposal_is_there(
    project: Path, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_views(monkeypatch)
    reply = (
        "".join(f"Thought {i} about the smoothing.\n" for i in range(60))
        + "HYPOTHESIS: Less smoothing helps.\nEXPECTED: -0.1\nREFUTED BY: a rise\n\n"
        "<<<<<<< SEARCH\nALPHA = 1.0  # added to every count; 0.001..10.0 log\n=======\n"
        "ALPHA = 0.01  # added to every count; 0.001..10.0 log\n>>>>>>> REPLACE\n"
    )
    tool = FakeTool(tmp_path / "bin", [step("slow", reply)])
    options = {"prompt_tokens": 20_000, "reply_tokens": 4_000, "with": tool.line}
    study = counting_study(project, small_corpus, agent="command", agent_options=options)
    machine, when_it_is_there = prepare(Machine()), list[str]()
    try_it = machine.dry_run

    def dry_run(training: Training, listener: Listener) -> RunOutcome:
        when_it_is_there.append(look(study).agent_writes)
        return try_it(training, listener)

    machine.dry_run, heard = dry_run, list[Progress]()
    with running(study, machine, make_agent(study), experiments=1, watch=heard.append) as thread:
        seen = until(lambda: look(study).agent_writes)
        assert "about the smoothing." in seen and all(c.isprintable() or c == "\n" for c in seen)
        thread.join(120)
    assert [e["experiment"] for e in read_events(study.paths.history) if e["event"] == "proposed"] == [0, 1]
    assert when_it_is_there == [""] and look(study).agent_writes == ""
    writing = [place for place, progress in enumerate(heard) if "about the smoothing." in progress.writes]
    assert writing and {heard[place].phase for place in writing} == {"writing"}, "the terminal of `run` shows it, too"
    assert [progress.writes for progress in heard if progress.phase == "writing"][-1] == "", "and takes it away"
