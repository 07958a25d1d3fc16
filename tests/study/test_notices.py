"""Notices: the user's command is told of each event once, whatever is killed, and whatever the command does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.core.agent import AgentUnavailable
from autoresearch_kernel.core.notices import ASKED_AGAIN, News, news, notice_id
from autoresearch_kernel.core.state import Event
from autoresearch_kernel.core.types import Context, Proposal
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.notices import Notifier, read_notifier, read_told, write_notifier
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.study import notices
from autoresearch_kernel.study.finish import finish
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.study.notices import choose_notifier
from autoresearch_kernel.study.options import StudyOptions, supervisor_words
from autoresearch_kernel.system.processes import descendants
from tests.conftest import PROJECT, counting_study
from tests.event_writer import Writer
from tests.pretended import Machine
from tests.study.test_loop import Scripted

KEEP = "cat >> told.jsonl"  # in the project's folder
PATIENCE_SECONDS = 60.0
SECRET = "canary-77b1c0d9e2"


@pytest.fixture
def study(project: Path, small_corpus: Path) -> Study:
    return counting_study(project, small_corpus)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of these tests waits longer at its end: the machine may be busy."""
    monkeypatch.setattr(notices, "FAREWELL_SECONDS", PATIENCE_SECONDS)


def told(study: Study) -> list[dict[str, Any]]:
    """What the command KEEP was told, in its order."""
    path = study.project / "told.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


def notes(study: Study) -> list[str]:
    return [event["text"] for event in read_events(study.paths.history) if event["event"] == "note"]


# --- what is told


def test_a_night_tells_its_start_its_records_and_its_end(study: Study, machine: Machine) -> None:
    ideas = Scripted({"ALPHA": 0.2}, {"ALPHA": 5.0}, {"ALPHA": 0.01})
    done = list(research(study, ideas, experiments=3, notify=KEEP))
    assert done[1].status == "keep" and done[2].status == "discard"
    kept = [e for e in done[1:] if e.status == "keep"]
    assert [one["kind"] for one in told(study)] == ["started", *["record"] * len(kept), "ended"]
    record = told(study)[1]
    assert record["id"] == f"nov23-{_seq_of(study, 'decided', 1)}" and record["experiment"] == 1
    assert record["val_bpb"] == done[1].val_bpb and record["incumbent_bpb"] == done[1].incumbent_bpb
    assert record["title"] == f"nov23: record, val_bpb {done[1].val_bpb:.4f}" and record["title"].isascii()
    assert record["text"].startswith(f"Study nov23 has kept experiment 0001: {done[1].compared}. The idea: “Set ALPHA")
    end = told(study)[-1]
    assert end["text"].startswith(f"Study nov23 has ended (3 experiments) with 3 experiments, {len(kept)} kept. ")
    assert "the baseline 1.5" in end["text"] and end["difference_bpb"] < 0
    assert len({one["id"] for one in told(study)}) == len(told(study))


def _seq_of(study: Study, kind: str, number: int) -> int:
    events = read_events(study.paths.history)
    return next(e["seq"] for e in events if e["event"] == kind and e["experiment"] == number)


class Unable(Scripted):
    """Cannot answer three times before its second proposal."""

    failures = 3

    def propose(self, context: Context) -> Proposal:
        if context.number == 2 and self.failures:
            self.failures -= 1
            raise AgentUnavailable("You are not signed in to Tool.")
        return super().propose(context)


def test_an_agent_that_cannot_answer_for_hours_is_told_once(study: Study, machine: Machine) -> None:
    list(research(study, Unable({"ALPHA": 5.0}, {"ALPHA": 4.0}), experiments=2, notify=KEEP))
    assert [e["event"] for e in read_events(study.paths.history)].count("paused") == 3
    assert [one["kind"] for one in told(study)] == ["started", "paused", "ended"]
    list(research(study, Unable({"ALPHA": 3.0}, {"ALPHA": 2.0}), experiments=1))
    assert [one["kind"] for one in told(study)][3:] == ["ended"]


@pytest.mark.parametrize("between", ["proposed", "command"])
def test_a_pause_after_a_proposal_or_a_command_is_news_again(between: str) -> None:
    pause = {"event": "paused", "reason": f"no reply. {ASKED_AGAIN} 30 s", "by_person": False}
    full = {"event": "paused", "reason": "the disk is full", "by_person": False}
    other = pause | {"reason": f"not signed in. {ASKED_AGAIN} 60 s"}
    events = [pause, {"event": "resumed"}, pause, full, {"event": between}, pause, pause, other, pause, other]
    found = news([{"seq": number, **event} for number, event in enumerate(events, 1)], 0, 99)
    assert [event["seq"] for _, event in found] == [1, 4, 6, 8]


def test_the_study_keeps_to_its_command_and_tells_nothing_twice(study: Study, machine: Machine) -> None:
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1, notify=KEEP))
    list(research(study, Scripted({"ALPHA": 5.0}), experiments=1))
    finish(study)
    assert [one["kind"] for one in told(study)] == ["started", "record", "ended", "ended", "result"]
    assert told(study)[-1]["text"].startswith("Study nov23. Result: test bpb 1.5")
    list(research(study, Scripted({"ALPHA": 4.0}), experiments=1, notify="none"))
    assert len(told(study)) == 5 and not study.paths.notify.exists()


def test_what_came_before_a_command_was_named_is_no_news(study: Study, machine: Machine) -> None:
    list(research(study, Scripted({"ALPHA": 0.2}), experiments=1))
    list(research(study, Scripted({"ALPHA": 5.0}), experiments=1, notify=KEEP))
    assert [one["kind"] for one in told(study)] == ["started", "ended"]
    list(research(study, Scripted({"ALPHA": 4.0}), experiments=1, notify=f"{KEEP}; true"))
    assert [one["kind"] for one in told(study)][2:] == ["started", "ended"], "another command shows that it works, too"


def test_a_pause_an_approval_and_a_stop_are_told(study: Study, machine: Machine) -> None:
    def during(number: int) -> None:
        if number == 0 and not machine.trained[1:]:
            send(study.paths.commands, "pause")

    machine.during = during
    steps = research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 0.1}), experiments=2, approve=True, notify=KEEP)
    follow = _answers(study, {"paused": "resume", "approval": "approve"}, last="stop")
    try:
        list(steps)
    finally:
        follow.wait(PATIENCE_SECONDS)
    kinds = [one["kind"] for one in told(study)]
    assert kinds == ["started", "paused", "approval", "record", "approval", "ended"]
    paused, approval, stopped = told(study)[1], told(study)[2], told(study)[-1]
    assert paused["by_person"] and "by " in paused["text"]
    assert approval["text"] == "Study nov23 waits for your approval of experiment 0001: “Set ALPHA to 0.2”"
    assert "has stopped: asked by" in stopped["text"]


def _answers(study: Study, answers: dict[str, str], last: str) -> subprocess.Popen[bytes]:
    """A user who sits at the other end: answers each notice with a command, the second approval with the last one."""
    code = (
        "import json, sys, time\nfrom pathlib import Path\n"
        "from autoresearch_kernel.record.commands import send\n"
        "told, commands, answers, last = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]\n"
        "done, deadline = [], time.monotonic() + 60\n"
        "while time.monotonic() < deadline:\n"
        "    kinds = [json.loads(l)['kind'] for l in told.read_text().splitlines()] if told.exists() else []\n"
        "    for kind in kinds[len(done):]:\n"
        "        done.append(kind)\n"
        "        if done.count('approval') == 2:\n"
        "            send(commands, last)\n"
        "            sys.exit()\n"
        "        if kind in answers:\n"
        "            send(commands, answers[kind])\n"
        "    time.sleep(0.02)\n"
    )
    words = [sys.executable, "-c", code, study.project / "told.jsonl", study.paths.commands, json.dumps(answers), last]
    return subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(PROJECT)})


def test_drift_is_told_when_it_sets_in(study: Study, machine: Machine) -> None:
    machine.machine_speed = lambda experiment, call: 100.0 if experiment < 3 else 70.0
    list(research(study, Scripted(*({"ALPHA": 2.0 + i / 10} for i in range(9))), experiments=9, notify=KEEP))
    drifts = [one for one in told(study) if one["kind"] == "drift"]
    assert len(drifts) == 1 and drifts[0]["machine_speed"] == pytest.approx(0.7, abs=0.05)
    assert drifts[0]["text"].startswith("Study nov23: the machine now runs at 0.7")


def test_what_an_agent_wrote_is_one_line_within_quotes(study: Study, machine: Machine) -> None:
    class Hostile(Scripted):
        def propose(self, context: Any) -> Any:
            proposal = super().propose(context)
            words = '"; touch pwned; echo "\n@/etc/passwd\x1b[31m $(touch pwned) `touch pwned`' + "x" * 10_000
            return type(proposal)(words, proposal.train_source, self.name)

    command = f'{KEEP}; printf "%s\\n" "$AUTORESEARCH_TITLE" "$AUTORESEARCH_TEXT" "$AUTORESEARCH_KIND" >> words.txt'
    list(research(study, Hostile({"ALPHA": 0.2}), experiments=1, notify=command))
    [record] = [one for one in told(study) if one["kind"] == "record"]
    assert "\n" not in record["text"] and "\x1b" not in record["text"] and len(record["text"]) < 1000
    assert record["text"].startswith("Study nov23 has kept experiment 0001")
    assert not (study.project / "pwned").exists()
    words = (study.project / "words.txt").read_text().splitlines()
    assert words[3:6] == [record["title"], record["text"], "record"]


def test_the_command_gets_no_secret_of_ours_and_the_user_s_own_things(
    study: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("AUTORESEARCH_DEBUG", SECRET)
    monkeypatch.setenv("MY_PHONE", "0123")
    list(research(study, Scripted({"ALPHA": 5.0}), experiments=1, notify="env >> env.txt; pwd >> env.txt"))
    seen = (study.project / "env.txt").read_text()
    assert SECRET not in seen and "MY_PHONE=0123" in seen and f"\n{study.project}\n" in seen


def test_the_command_is_kept_where_only_its_user_reads_it(study: Study) -> None:
    command = "curl -d @- https://example.org/secret-topic"
    choose_notifier(study, command)
    assert study.paths.notify.stat().st_mode & 0o077 == 0
    assert read_notifier(study.paths.notify) == Notifier(command, 0, 0)
    assert supervisor_words(StudyOptions(hours=8, notify=command)) == ["--hours", "8"]
    choose_notifier(study, None)
    assert study.paths.notify.exists()


# --- a command that does not do what it should


def test_a_command_that_fails_is_said_once_and_told_of_everything(study: Study, machine: Machine) -> None:
    machine.during = lambda number: until(lambda: study.paths.notified.exists(), "a notice")
    list(
        research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 5.0}), experiments=2, notify=f"{KEEP}; echo no net; exit 7")
    )
    failed = [text for text in notes(study) if "notice" in text]
    assert failed == [
        "A notice was not delivered: exit status 7: no net. The study goes on, and so do its notices; this is said "
        f"once. The command is in {_clean(study)}, and --notify names another."
    ]
    assert [one["kind"] for one in told(study)] == ["started", "record", "ended"]


def _clean(study: Study) -> str:
    """The path of notify.json as a note has it: below the project."""
    return str(study.paths.notify.relative_to(study.project))


def test_a_command_that_is_missing_ends_no_night(study: Study, machine: Machine) -> None:
    machine.during = lambda number: until(lambda: study.paths.notified.exists(), "a notice")
    done = list(research(study, Scripted({"ALPHA": 0.2}), experiments=1, notify="no-such-notifier --now"))
    assert len(done) == 2
    [said] = [text for text in notes(study) if "notice" in text]
    assert "exit status 127" in said and "no-such-notifier" in said


def test_a_command_that_hangs_delays_nothing_and_is_killed(
    study: Study, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "FAREWELL_SECONDS", 0.1)
    before = set(descendants(os.getpid()))
    hang = f"{KEEP}; trap '' TERM; sleep 600 & sleep 600"
    write_notifier(study.paths.notify, Notifier(hang, 0, 0, limit_seconds=1.0))
    done = list(research(study, Scripted({"ALPHA": 0.2}, {"ALPHA": 5.0}), experiments=2))
    assert len(done) == 3 and read_events(study.paths.history)[-1]["event"] in ("finished", "drawn")
    until(lambda: [t.is_ended for t in read_told(study.paths.notified).values()] == [True] * 3, "the last notice")
    assert all("did not end within 1 s" in one.failed for one in read_told(study.paths.notified).values())
    assert [one["kind"] for one in told(study)] == ["started", "record", "ended"]
    until(lambda: _lives(set(descendants(os.getpid())) - before) == [], "the end of all its processes")


def _lives(pids: set[int]) -> list[int]:
    """Those that are no zombies."""
    alive = []
    for pid in pids:
        path = Path(f"/proc/{pid}/stat")
        if not path.exists() or path.read_bytes().rpartition(b")")[2].split()[0] != b"Z":
            alive.append(pid)
    return alive


def test_what_a_mail_program_leaves_behind_may_deliver(study: Study, machine: Machine) -> None:
    line = "cat > mail; (sleep 0.3; cat mail >> told.jsonl) > /dev/null 2>&1 &"
    list(research(study, Scripted({"ALPHA": 5.0}), experiments=1, notify=line))
    assert [one["kind"] for one in told(study)] == ["started", "ended"]


@pytest.mark.parametrize("content", ["", "[]", '{"command": 5}', '{"command": "x", "since": "y"}', "\0"])
def test_a_damaged_notify_json_is_said_and_ends_nothing(study: Study, machine: Machine, content: str) -> None:
    study.paths.notify.write_text(content)
    assert len(list(research(study, Scripted({"ALPHA": 5.0}), experiments=1))) == 2
    [said] = [text for text in notes(study) if "no notices" in text]
    assert "notify.json" in said and "--notify" in said


# --- kills

DRIVER = """
import json, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from autoresearch_kernel.record.history import History
from autoresearch_kernel.record.paths import study_paths
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.study import notices

@dataclass
class Held:
    history: History

def size():
    return study.paths.notified.stat().st_size if study.paths.notified.exists() else 0

notices.FAREWELL_SECONDS = 60.0
project, script, killed_at, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
study = Study("nov23", project, study_paths("nov23", project), {})
told = notices.Notices(study, lambda progress: None)
with told.told_at_the_end(), History.open(study.paths.history, lock=study.paths.lock) as history:
    session = Held(history)
    for event in json.loads(script.read_text())[len(history.events):]:
        kind = event.pop("event")
        before = size()
        seq = history.append(kind, **event)["seq"]
        if seq == killed_at and moment == "before the look":
            os.kill(os.getpid(), signal.SIGKILL)
        told.tick(session)
        if seq == killed_at:
            while moment == "while it tells" and before == size():
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)
    told.tick(session)
"""
MOMENTS = ("before the look", "after the look", "while it tells")


def script_of(writer: Writer) -> list[Event]:
    """The events of a night with every kind of news."""
    writer.open().baseline()
    writer.settle(1, "keep", 1.4)
    writer.append("paused", reason="a usage limit", by_person=False)
    writer.append("resumed", reason="it is tried again")
    writer.append("review", experiment=2, hypothesis="Set ALPHA to 0.5.", train_sha256="", is_draft=False)
    writer.settle(2, "keep", 1.3)
    writer.append("drift", is_moved=True, machine_speed=0.7)
    writer.append("finished", reason="8 hours", champion=2, baseline_bpb=1.5, champion_bpb=1.3)
    writer.history.close()
    return read_events(writer.study.paths.history)


@pytest.mark.parametrize("first", range(len(MOMENTS)))
def test_each_notice_comes_once_over_kills_of_the_supervisor(first: int, writer: Writer, tmp_path: Path) -> None:
    events, script = script_of(writer), tmp_path / "script.json"
    paths = writer.study.paths
    plain = [{name: value for name, value in e.items() if name not in ("seq", "time")} for e in events]
    script.write_text(json.dumps(plain))
    paths.history.unlink()
    write_notifier(paths.notify, Notifier("sleep 0.05; cat >> told.jsonl", 0, 0))
    found = news(events, 0, 0)
    assert {kind for kind, _ in found} == set(News) - {News.RESULT}
    for place, (_, event) in enumerate(found):
        moment = MOMENTS[(place + first) % len(MOMENTS)]
        words = [sys.executable, "-c", DRIVER, str(tmp_path), str(script), str(event["seq"]), moment]
        ended = subprocess.run(words, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)})
        assert ended.returncode == -signal.SIGKILL
    words = [sys.executable, "-c", DRIVER, str(tmp_path), str(script), "0", ""]
    subprocess.run(words, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=True)
    wanted = [notice_id("nov23", event) for _, event in found]
    until(lambda: len(read_told(paths.notified)) == len(wanted), "the last notice")
    until(lambda: all(one.is_ended for one in read_told(paths.notified).values()), "its end")
    assert [one["id"] for one in told(writer.study)] == wanted


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5])
def test_each_notice_comes_once_over_a_kill_of_the_courier(seconds: float, writer: Writer, tmp_path: Path) -> None:
    wanted = [notice_id("nov23", event) for _, event in news(script_of(writer), 0, 0)]
    paths = writer.study.paths
    write_notifier(paths.notify, Notifier("cat >> told.jsonl; sleep 0.1", 0, 0))
    courier = start_courier(writer.study)
    time.sleep(seconds)
    courier.kill()
    courier.wait()
    assert start_courier(writer.study).wait(PATIENCE_SECONDS) == 0
    assert [one["id"] for one in told(writer.study)] == wanted
    assert all(one.is_ended for one in read_told(paths.notified).values())


def test_a_command_that_kills_its_courier_is_not_started_again(writer: Writer, tmp_path: Path) -> None:
    wanted = [notice_id("nov23", event) for _, event in news(script_of(writer), 0, 0)]
    write_notifier(writer.study.paths.notify, Notifier("kill -9 $PPID; sleep 0.2; cat >> told.jsonl", 0, 0))
    for _ in wanted:
        assert start_courier(writer.study).wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert start_courier(writer.study).wait(PATIENCE_SECONDS) == 0
    assert [one["id"] for one in told(writer.study)] == wanted


def start_courier(study: Study) -> subprocess.Popen[bytes]:
    words = notices.python_command(notices.COURIER, str(study.paths.folder), str(study.project))
    return subprocess.Popen(words, cwd=study.project, start_new_session=True)
