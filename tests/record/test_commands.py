from __future__ import annotations

import json
import multiprocessing
import threading
import time
import zlib
from pathlib import Path

import pytest

from autoresearch_kernel.record.commands import TEXT_LIMIT, Inbox, send, wait_for_answer
from autoresearch_kernel.record.history import CRC_MARK, History, read_events


def test_commands_arrive_once_in_order_and_say_who_sent_them(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = Inbox(path)
    assert inbox.read() == []
    first, second = send(path, "pause"), send(path, "hint", "try a\nsmaller vocabulary →")
    assert inbox.read() == [first, second]
    assert inbox.read() == []
    third = send(path, "stop now")
    assert inbox.read() == [third]
    assert "@" in third.by and len({first.id, second.id, third.id}) == 3


def test_what_nobody_would_understand_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no command 'halt'\. Known are pause, resume, stop"):
        send(tmp_path / "commands.jsonl", "halt")
    with pytest.raises(ValueError, match="too long"):
        send(tmp_path / "commands.jsonl", "hint", "x" * (TEXT_LIMIT + 1))
    assert not (tmp_path / "commands.jsonl").exists()


def test_commands_arrive_after_the_file_was_removed_or_emptied(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = Inbox(path)
    send(path, "hint", "a long hint " * 20)
    assert len(inbox.read()) == 1
    path.unlink()
    assert inbox.read() == []
    second = send(path, "pause")
    assert inbox.read() == [second]
    path.write_text("")
    assert inbox.read() == []
    assert [send(path, "resume")] == inbox.read()


def test_a_torn_line_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    send(path, "pause")
    with path.open("ab") as file:
        file.write(b'{"id": "x", "command": "sto')
    last = send(path, "resume")
    path.open("ab").write(b"[]\n\xff\n")
    assert [c.command for c in Inbox(path).read()] == ["pause", "resume"]
    assert Inbox(path).read()[-1] == last


def _send_many(path: Path) -> None:
    for _ in range(50):
        send(path, "hint", "y" * 500)


def test_several_people_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    people = [multiprocessing.Process(target=_send_many, args=(path,)) for _ in range(3)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len({c.id for c in Inbox(path).read()}) == 150


def test_an_answer_is_what_the_history_says(tmp_path: Path) -> None:
    command = send(tmp_path / "commands.jsonl", "pause")
    with History.open(tmp_path / "history.jsonl") as history:
        history.append("note", text="nothing yet")
        assert wait_for_answer(history.path, command, 0.2) is None
        history.append("command", id=command.id, command="pause", text="", by=command.by, answer="pauses now")
        assert wait_for_answer(history.path, command, 0.2) == "pauses now"


def test_waiting_for_an_answer_parses_only_what_was_added(tmp_path: Path) -> None:
    """A long history is parsed once, not ten times a second."""
    path = tmp_path / "history.jsonl"
    append_many(path, 20_000)
    began = time.process_time()
    read_events(path)
    once = time.process_time() - began
    sent = send(tmp_path / "commands.jsonl", "pause")
    began = time.process_time()
    assert wait_for_answer(path, sent, 1.5) is None
    assert time.process_time() - began < 3 * once + 0.1


def test_an_answer_that_is_there_already_or_comes_later_is_found(tmp_path: Path) -> None:
    path, sent = tmp_path / "history.jsonl", send(tmp_path / "commands.jsonl", "pause")
    assert wait_for_answer(path, sent, 0.0) is None, "there is no history yet"
    with History.open(path) as history:
        history.append("opened")
        late = threading.Timer(0.3, lambda: history.append("command", id=sent.id, command="pause", answer="it pauses"))
        late.start()
        assert wait_for_answer(path, sent, 5.0) == "it pauses"
        assert wait_for_answer(path, sent, 0.0) == "it pauses"


def append_many(path: Path, number: int) -> None:
    """So many records, as fast as a file can be written: no sync after each."""
    facts = {"time": "2026-11-23T02:14:07.251Z", "event": "note", "text": "x" * 200}
    bodies = [json.dumps({"seq": seq, **facts}).encode() for seq in range(1, number + 1)]
    path.write_bytes(b"".join(body[:-1] + CRC_MARK + b"%08x" % zlib.crc32(body) + b'"}\n' for body in bodies))
