from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.core.state import HistoryDamaged, replay
from autoresearch_kernel.core.types import Cause, Experiment, Run, Status
from autoresearch_kernel.record import history as history_module
from autoresearch_kernel.record.history import History, read_events
from autoresearch_kernel.record.results import write_results
from autoresearch_kernel.record.study import StudyError
from autoresearch_kernel.system.files import StudyInUse

NUM_KILLS = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nov23" / "history.jsonl"


def write_notes(path: Path, count: int) -> list[dict]:
    with History.open(path) as history:
        return [history.append("note", text=f"number {n}") for n in range(count)]


# --- one record a line


def test_a_record_comes_back_as_it_was_returned(path: Path):
    with History.open(path, clock=lambda: "2026-11-23T02:14:00.000Z") as history:
        first = history.append("proposed", experiment=0, hypothesis="σ → ½", changes={"LR": 0.1}, shape=(2, 3))
        history.append("note")
        assert list(history.events) == read_events(path)
    assert (
        read_events(path)[0]
        == first
        == {
            "seq": 1,
            "time": "2026-11-23T02:14:00.000Z",
            "event": "proposed",
            "experiment": 0,
            "hypothesis": "σ → ½",
            "changes": {"LR": 0.1},
            "shape": [2, 3],
        }
    )


def test_the_crc_is_that_of_the_line_without_it(path: Path):
    write_notes(path, 1)
    line = path.read_text().rstrip("\n")
    crc = json.loads(line)["crc"]
    without = line.replace(f', "crc": "{crc}"', "")
    assert crc == f"{zlib.crc32(without.encode()):08x}"


def test_a_study_goes_on_where_it_stopped(path: Path):
    write_notes(path, 2)
    write_notes(path, 1)
    assert [event["seq"] for event in read_events(path)] == [1, 2, 3]


def test_values_that_json_does_not_know(path: Path):
    numpy = pytest.importorskip("numpy")
    with History.open(path) as history:
        record = history.append(
            "note",
            at=Path("/tmp"),
            loss=math.nan,
            best=-math.inf,
            n=numpy.int64(3),
            x=numpy.float32(0.5),
            status=Status.KEEP,
        )
        assert (record["at"], record["loss"], record["best"]) == ("/tmp", None, None)
        assert (record["n"], record["x"], record["status"]) == (3, 0.5, "keep")
        with pytest.raises(TypeError, match="object"):
            history.append("note", thing=object())
    assert read_events(path) == [record]


def test_a_model_may_reply_with_half_a_surrogate_pair(path: Path):
    with History.open(path) as history:
        record = history.append("note", text="\ud83d and \u2028 and \n and \0")
    assert read_events(path) == [record]
    assert path.read_bytes().count(b"\n") == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text().filter(lambda k: k not in ("seq", "time", "event", "crc")),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: st.lists(inner),
                max_leaves=5,
            ),
        )
    )
)
def test_any_json_survives(tmp_path_factory: pytest.TempPathFactory, records: list[dict]):
    path = tmp_path_factory.mktemp("any") / "history.jsonl"
    with History.open(path) as history:
        written = [history.append("note", **record) for record in records]
    assert read_events(path) == written


def test_every_text_is_recorded_without_what_tells_who_the_user_is(path: Path):
    with History.open(path, clean=lambda text: text.replace("/home/alice", "~")) as history:
        record = history.append(
            "refused", why="see /home/alice/x", reason="/home/alice", text="/home/alice", ended=None
        )
    assert [record[name] for name in ("why", "reason", "text", "ended")] == ["see ~/x", "~", "~", None]


def test_names_of_the_history_cannot_be_taken(path: Path):
    with History.open(path) as history, pytest.raises(ValueError, match="seq, crc"):
        history.append("note", seq=1, crc="")


def test_a_closed_history_says_so(path: Path):
    with History.open(path) as history:
        pass
    history.close()
    with pytest.raises(ValueError, match="closed"):
        history.append("note")


# --- one writer


def test_a_second_writer_is_told_who_the_first_is(path: Path):
    with History.open(path), pytest.raises(StudyInUse, match=f"process {os.getpid()} on "):
        History.open(path)
    History.open(path).close()


def test_readers_need_no_lock(path: Path):
    with History.open(path) as history:
        history.append("note")
        assert len(read_events(path)) == 1


def test_a_line_from_elsewhere_stops_the_writer(path: Path):
    with History.open(path) as history:
        history.append("note")
        with path.open("a") as other:
            other.write("me too\n")
        with pytest.raises(HistoryDamaged, match="something else changed it"):
            history.append("note")


@pytest.mark.parametrize("name", [None, "dec1"])
def test_a_study_that_is_removed_or_moved_while_it_runs_is_written_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
):
    monkeypatch.setattr(history_module, "LOOK_EVERY_SECONDS", 0.0)
    with History.open(path) as history:
        history.look()
        if name is None:
            shutil.rmtree(path.parent)
        else:
            path.parent.rename(path.parent.with_name(name))
        for _ in range(2):
            for attempt in (history.look, history.check_in_place, lambda: history.append("note")):
                with pytest.raises(StudyError, match=f"^{path.parent} was removed or moved while this process ran"):
                    attempt()
            with History.open(path) as another:  # of the same name
                another.append("note")
        assert len(read_events(path)) == 2


# --- damage


@pytest.mark.parametrize("left", [1, 20, 40, 60])
def test_torn_last_line_is_forgiven(path: Path, left: int):
    kept = write_notes(path, 3)[:2]
    whole = path.read_bytes()
    torn = whole[: whole.index(b"\n", whole.index(b"\n") + 1) + 1 + left]
    path.write_bytes(torn)
    assert read_events(path) == kept
    assert path.read_bytes() == torn, "reading must not change the file"
    with History.open(path) as history:
        assert history.trimmed_bytes == left
        assert list(history.events) == kept
        history.append("note", text="after")
    assert [event["seq"] for event in read_events(path)] == [1, 2, 3]


def test_a_missing_last_newline_is_given_back(path: Path):
    written = write_notes(path, 2)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert read_events(path) == written
    with History.open(path) as history:
        assert history.trimmed_bytes == 0
        history.append("note")
    assert len(read_events(path)) == 3


@pytest.mark.parametrize("unwritten", [slice(0, None), slice(0, 30), slice(40, 60)])
def test_blocks_that_a_power_cut_left_unwritten_are_forgiven(path: Path, unwritten: slice):
    write_notes(path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    last = bytearray(lines[1])
    last[unwritten] = bytes(len(last[unwritten]))
    path.write_bytes(lines[0] + last)
    assert len(read_events(path)) == 1
    assert write_notes(path, 1)[0]["seq"] == 2


def test_inner_damage_is_loud(path: Path):
    write_notes(path, 5)
    path.write_bytes(path.read_bytes().replace(b"number 2", b"number 7"))
    before = path.read_bytes()
    for attempt in (read_events, History.open):
        with pytest.raises(HistoryDamaged, match=r"history.jsonl, line 3 of 5: its CRC .* head -n 2 ") as caught:
            attempt(path)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    path.write_bytes(b"".join(before.splitlines(keepends=True)[:2]))
    write_notes(path, 1)  # a refused history is not left locked


def test_every_flipped_bit_is_loud(path: Path):
    write_notes(path, 3)
    good = path.read_bytes()
    for position in range(len(good)):
        for bit in (0, 5):  # 5 makes a NUL of a space
            flipped = bytearray(good)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(HistoryDamaged):
                read_events(path)


@pytest.mark.parametrize(
    ("rearrange", "problem"),
    [
        (lambda a, b, c: a + c, "record 3 where 2 should be"),
        (lambda a, b, c: a + b + b + c, "record 2 where 3 should be"),
        (lambda a, b, c: b + a + c, "record 2 where 1 should be"),
        (lambda a, b, c: a + b"\n" + b + c, "no CRC"),
        (lambda a, b, c: a + b.replace(b'"crc"', b'"src"') + c, "no CRC"),
    ],
)
def test_lines_missing_doubled_or_moved_are_loud(path: Path, rearrange, problem: str):
    write_notes(path, 3)
    path.write_bytes(rearrange(*path.read_bytes().splitlines(keepends=True)))
    with pytest.raises(HistoryDamaged, match=problem):
        read_events(path)


def test_a_line_with_a_right_crc_that_is_no_record_is_loud(path: Path):
    path.parent.mkdir()
    for body in (b"[1]", b"{}", b'{"seq": "1"}'):
        path.write_bytes(body[:-1] + b', "crc": "%08x"}\n' % zlib.crc32(body[:-1] + b"}"))
        with pytest.raises(HistoryDamaged):
            read_events(path)


# --- writes that fail

LIMITED_WRITER = """
import resource, signal, sys
from autoresearch_kernel.record.history import History
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with History.open(sys.argv[1]) as history:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        while True:
            print(history.append("note", text="x" * 60)["seq"])
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(history.append("note", text=str(error))["seq"])
"""


def test_a_short_write_is_taken_back_and_the_next_one_works(path: Path):
    done = subprocess.run([sys.executable, "-c", LIMITED_WRITER, str(path)], capture_output=True, text=True, check=True)
    events = read_events(path)
    assert [event["seq"] for event in events] == [int(word) for word in done.stdout.split()]
    assert "File too large" in events[-1]["text"]


FULL_DISK_WRITER = """
import errno, sys
from pathlib import Path
from autoresearch_kernel.record.history import History
folder = Path(sys.argv[1])
filler = folder / "filler"
with History.open(folder / "history.jsonl") as history:
    history.append("note", text="before")
    try:
        filler.write_bytes(bytes(2**20))
    except OSError:
        pass
    acknowledged = 1
    try:
        while True:
            history.append("note", text="x" * 500)
            acknowledged += 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EIO)
    filler.unlink()
    history.append("note", text="after")
print(full, acknowledged)
print((folder / "history.jsonl").read_bytes().decode())
"""


def test_a_full_disk_loses_nothing_and_recovers(path: Path):
    """In a file system of 64 KB of its own, where the kernel lets us make one."""
    path.parent.mkdir()
    mount = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no unprivileged mounts here")
    done = subprocess.run(
        [*unshare, "sh", "-c", mount, "sh", str(path.parent), sys.executable, FULL_DISK_WRITER],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    facts, _, content = done.stdout.partition("\n")
    full, acknowledged = facts.split()
    assert full == "True"
    path.write_text(content.removesuffix("\n"))
    texts = [event["text"] for event in read_events(path)]
    assert texts[0] == "before" and texts[-1] == "after" and len(texts) == int(acknowledged) + 1


def test_an_interrupt_within_an_append_leaves_whole_records(path: Path):
    """Ctrl-C at any moment: what was not returned is not there twice, and the next append still fits."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    acknowledged: list[dict] = []
    before = signal.signal(signal.SIGALRM, interrupt)
    rng = random.Random(0)
    try:
        with History.open(path) as history:
            for _ in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-3))
                    while True:
                        acknowledged.append(history.append("note", n=len(acknowledged)))
                except KeyboardInterrupt:
                    acknowledged = list(history.events)
                    assert acknowledged == read_events(path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert read_events(path) == acknowledged


def fork_writer(path: Path) -> tuple[int, int]:
    """Pid of a child that appends until it is killed, and a pipe that tells the number of each acknowledged record."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        with History.open(path) as history:
            while True:
                record = history.append("note", text="x" * (len(history.events) * 37 % 3000))
                os.write(writer, b"%d\n" % record["seq"])
    finally:
        os._exit(1)


def test_no_kill_loses_an_acknowledged_record(path: Path):
    rng = random.Random(1)
    acknowledged = 0
    for _ in range(NUM_KILLS):
        pid, pipe = fork_writer(path)
        told = os.read(pipe, 1)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(pipe, "rb") as rest:
            told += rest.read()
        acknowledged = int(told.split()[-1])
        assert len(read_events(path)) >= acknowledged
    with History.open(path) as history:
        assert [event["seq"] for event in history.events] == list(range(1, len(history.events) + 1))
    assert acknowledged > NUM_KILLS


# --- what the events mean


class Study:
    """Events of a study, as the loop writes them."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.add("study_started", study={"name": "nov23"})

    def add(self, event: str, **fields: object) -> Study:
        seq = len(self.events) + 1
        self.events.append({"seq": seq, "time": f"2026-11-23T02:00:{seq % 60:02d}Z", "event": event, **fields})
        return self

    def propose(self, number: int, hypothesis: str = "An idea.", parent: int | None = 0) -> Study:
        agent = "baseline" if number == 0 else "search"
        return self.add("proposed", experiment=number, hypothesis=hypothesis, agent=agent, parent=parent,
                        changes={"LR": 0.1}, details={"trial": 3}, train_sha256="f" * 64)  # fmt: skip

    def train(self, number: int, run: int, status: str | None = None, reason: str = "") -> Study:
        self.add("started", experiment=number, run=run, seed=number * 10 + run)
        measured = {"num_steps": 7, "peak_memory_mb": 1536.0 + run}
        return self.add("trained", experiment=number, run=run, status=status, reason=reason, measured=measured)

    def score(self, number: int, run: int, val_bpb: float) -> Study:
        return self.add("scored", experiment=number, run=run, val_bpb=val_bpb, standard_error=0.002, num_tokens=100,
                        num_bytes=300, evaluation_seconds=1.5)  # fmt: skip

    def decide(self, number: int, status: str, val_bpb: float | None, **fields: object) -> Study:
        return self.add("decided", experiment=number, status=status, val_bpb=val_bpb, reason="the rule", **fields)

    def baseline(self) -> Study:
        self.propose(0, "Baseline.", None)
        for run, val_bpb in enumerate((1.44, 1.45, 1.46)):
            self.train(0, run).score(0, run, val_bpb)
        return self.decide(0, "keep", 1.45, standard_error=0.006, sigma=0.01, commit="a" * 40)

    @property
    def state(self):
        return replay(self.events)


def test_an_empty_history_is_an_empty_study():
    state = replay([])
    assert (state.study, state.experiments, state.incumbent, state.incumbent_bpb, state.sigma) == (
        {},
        (),
        None,
        None,
        None,
    )


def test_a_baseline_is_folded_from_its_events():
    state = Study().baseline().state
    (baseline,) = state.experiments
    assert state.study == {"name": "nov23"}
    assert state.incumbent == baseline
    assert state.incumbent_bpb == pytest.approx(1.45)
    assert state.sigma == pytest.approx(0.01)
    assert state.unfinished is None and state.finished is None and state.num_events == 12
    assert (baseline.status, baseline.val_bpb, baseline.commit) == (Status.KEEP, 1.45, "a" * 40)
    assert baseline.runs[2] == Run(
        index=2,
        seed=2,
        val_bpb=1.46,
        standard_error=0.002,
        measured={
            "num_steps": 7,
            "peak_memory_mb": 1538.0,
            "scored": {"num_tokens": 100, "num_bytes": 300},
            "scoring_seconds": 1.5,
        },
    )
    assert (baseline.proposed_at, baseline.decided_at) == ("2026-11-23T02:00:02Z", "2026-11-23T02:00:12Z")


def test_an_unfinished_experiment_says_where_to_resume():
    study = Study().baseline().propose(1)
    assert study.state.unfinished == study.state.experiments[1]
    assert study.state.unfinished.runs == ()
    study.add("started", experiment=1, run=0, seed=5)
    assert study.state.unfinished.runs == (Run(0, 5, Status.INTERRUPTED, num_decided=1),)
    study.add("interrupted", experiment=1, run=0, reason="power cut")
    assert study.state.unfinished.runs == (
        Run(0, 5, Status.INTERRUPTED, "power cut", causes=(Cause.GONE,), num_decided=1),
    )
    study.train(1, 0)
    (run,) = study.state.unfinished.runs
    assert (run.status, run.reason, run.val_bpb, run.attempts) == (None, "", None, 2)
    assert run.interruptions == ("power cut",)
    study.score(1, 0, 1.42)
    assert study.state.unfinished.scores == (1.42,)
    study.add("started", experiment=1, run=1, seed=6)
    assert [r.status for r in study.state.unfinished.runs] == [None, Status.INTERRUPTED]
    study.train(1, 1).score(1, 1, 1.43).decide(1, "keep", 1.425)
    state = study.state
    assert state.unfinished is None
    assert state.incumbent.number == 1
    assert state.incumbent_bpb == pytest.approx(1.425)


def test_failures_have_no_score():
    study = Study().baseline()
    study.propose(1).train(1, 0, "timeout", "too slow").decide(1, "timeout", None)
    study.propose(2).train(2, 0).add("scored", experiment=2, run=0, status="crash", reason="scoring: NaN").decide(
        2, "crash", None
    )
    _, slow, bad = study.state.experiments
    assert (slow.status, slow.val_bpb, slow.runs[0].reason) == (Status.TIMEOUT, None, "too slow")
    assert (bad.status, bad.runs[0].status, bad.runs[0].reason) == (Status.CRASH, Status.CRASH, "scoring: NaN")
    assert study.state.incumbent.number == 0
    assert len(study.state.decided) == 3


def test_what_a_challenger_has_to_beat_counts_the_incumbents_later_runs():
    study = Study().baseline().train(0, 3).score(0, 3, 1.49)
    state = study.state
    assert state.incumbent_bpb == state.incumbent.mean_bpb == pytest.approx(1.46)
    assert state.incumbent.mean_standard_error == pytest.approx(0.01 / 2)
    assert state.incumbent.val_bpb == pytest.approx(1.45), "the three runs that it was decided on"
    assert state.unfinished is None
    squares = sum((x - 1.46) ** 2 for x in (1.44, 1.45, 1.46, 1.49))
    assert state.sigma == pytest.approx(math.sqrt(squares / 3))


def test_a_keep_that_is_taken_back_gives_way_to_the_one_before():
    study = Study().baseline().propose(1).train(1, 0).score(1, 0, 1.3).decide(1, "keep", 1.3)
    assert study.state.incumbent.number == 1
    study.decide(1, "rejected", None)
    assert study.state.incumbent.number == 0
    assert study.state.sigma == pytest.approx(0.01), "a refused score says nothing about noise"


def test_a_finished_study_may_go_on():
    study = Study().baseline().add("finished", reason="8 hours are over")
    assert study.state.finished == "8 hours are over"
    assert study.propose(1).state.finished is None


def test_unknown_events_are_counted_and_ignored():
    study = Study().add("lesson", page=3).baseline()
    assert study.state.num_events == 13


@pytest.mark.parametrize(
    "event",
    [
        {"event": "proposed", "experiment": 2, "hypothesis": "", "agent": "", "parent": None},
        {"event": "trained", "experiment": 0, "run": 7, "status": None},
        {"event": "trained", "experiment": 5, "run": 0, "status": None},
        {"event": "decided", "experiment": 0, "status": "marvellous"},
        {"event": "started", "experiment": 0},
    ],
)
def test_an_event_out_of_place_is_loud(event: dict):
    study = Study().baseline()
    study.add(**event)
    with pytest.raises(
        HistoryDamaged, match=f"Record 13 \\({event['event']} of experiment {event['experiment']}\\)"
    ) as found:
        study.state  # noqa: B018
    assert "Error" not in str(found.value)


def test_ten_thousand_events_replay_at_once(path: Path):
    """A study that goes on asks for its state several times an experiment."""
    study = Study().baseline()
    for number in range(1, 2000):
        study.propose(number).train(number, 0).score(number, 0, 1.5).decide(number, "discard", 1.5)
    state = study.state
    assert len(state.experiments) == 2000
    assert state.num_events == len(study.events) == 12 + 1999 * 5


# --- results.tsv


def test_results_have_the_originals_five_columns(tmp_path: Path):
    study = Study().baseline()
    study.propose(1, "Try\ta wider\nmodel.").train(1, 0, "crash", "out of memory").decide(1, "crash", None)
    study.propose(2)
    write_results(tmp_path / "results.tsv", study.state.experiments)
    assert (tmp_path / "results.tsv").read_text() == (
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
        "aaaaaaa\t1.450000\t1.5\tkeep\tBaseline.\n"
        "fffffff\t\t1.5\tcrash\tTry a wider model.\n"
    )


def test_a_crash_has_no_made_up_number(tmp_path: Path):
    write_results(
        tmp_path / "results.tsv", [Experiment(1, "Idea.", "search", 0, status=Status.CRASH, train_sha256="0" * 64)]
    )
    assert (tmp_path / "results.tsv").read_text().splitlines()[1] == "0000000\t\t\tcrash\tIdea."
