"""`kill -9` of the supervisor, the runner, the kernel and both scorers of a real study, at random moments.

The study is real but for its train.py, which counts instead of training. Whoever is killed, the study goes on: by
itself when a child was killed, by being started again when the supervisor was.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from autoresearch_kernel.core.agent import NothingToPropose
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Context, Proposal, Status
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.study import open_study, study_exists
from autoresearch_kernel.source.parameters import set_parameters
from autoresearch_kernel.study import loop
from tests.conftest import COUNTING_TRAIN, PROJECT, counting_study, git

from . import check
from .operations import Log, log_acknowledged
from .stub import NAME

NUM_IN_BASELINE = 2  # kills before the baseline is decided
PEACE_EVERY = 6  # kills; after as many an experiment is let through
SEED = 7  # of who is killed and when
VICTIMS = {  # what their command lines hold
    "runner": b"autoresearch_kernel.run.runner",
    "kernel": b"kernel.json",
    "scorer": b"\0claim\0",
    "auditor": b"\0audit\0",
}
APPEAR_LIMIT_SECONDS = 60.0  # until a process of a kind is there: a training, a score and a start-up at most
GONE_LIMIT_SECONDS = 8.0  # until nothing of a study without supervisor is left
BASELINE_LIMIT_SECONDS = 120.0  # for three runs
END_LIMIT_SECONDS = 180.0  # for a study that was told to end: a few runs of the champion
TRAIN = COUNTING_TRAIN.replace("TrainingClock(3600)", "TrainingClock()")  # its share of the budget is the real one
# What a supervisor says whose baseline lost a process: in its training, or before that had begun.
ENDS_OF_A_BASELINE = ("The baseline did not train", "This is not the experiment's fault")
LATEST_SECONDS = 1.5  # into the life of a process at which it is killed


# --- the study, in a process of its own


class Endless:
    """Smooths a little more or a little less, until it finds the file that tells it to stop."""

    name = "endless"

    def __init__(self, stop: Path) -> None:
        self.stop = stop

    def propose(self, context: Context) -> Proposal:
        if self.stop.exists():
            raise NothingToPropose("enough")
        number = context.number
        alpha = round(0.9**number + 0.01 * (number % 3), 6)
        source = set_parameters(context.train_source, {"ALPHA": alpha})
        return Proposal(f"ALPHA to {alpha}", source, self.name, changes={"ALPHA": alpha})


def supervise(folder: Path, corpus: Path, num_slots: int) -> None:
    """Start or continue the study; what `python -c` calls."""
    log_acknowledged(Log(folder / f"log-{time.time_ns()}"))
    project = folder / "project"
    study = (
        open_study(NAME, project)
        if study_exists(NAME, project)
        else counting_study(
            project,
            corpus,
            NAME,
            TRAIN,
            agent="endless",
            time_budget_seconds=5.0,
            startup_allowance_seconds=30.0,
            handover_allowance_seconds=10.0,
            asked={"slots": num_slots},
        )
    )
    for _ in loop.research(study, Endless(folder / "stop")):
        pass


# --- who kills


class Killer:
    """Keeps a study going and kills what belongs to it."""

    def __init__(self, folder: Path, corpus: Path, num_slots: int) -> None:
        self.folder, self.corpus, self.num_slots = folder, corpus, num_slots
        self.project = folder / "project"
        self.random = random.Random(SEED)
        self.problems: list[str] = []
        self.harmed: set[int] = set()  # experiments whose runner, kernel or scorers were killed
        self.interrupted: set[int] = set()  # those that lost their supervisor
        self.slowest_seconds = 0.0  # until all was gone after the supervisor
        self._make_project()
        self.supervisor = self._start()

    def _make_project(self) -> None:
        self.project.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        for name in ("prepare.py", "program.md"):
            shutil.copy(PROJECT / name, self.project)
        (self.project / "train.py").write_text(TRAIN)
        (self.project / ".gitignore").write_text("studies/\n__pycache__/\n")
        git(self.project, "init", "-q", "-b", "main", "--template=")
        git(self.project, "add", "-A")
        git(self.project, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "start")

    def _start(self) -> subprocess.Popen[bytes]:
        code = (
            f"import sys; sys.path.insert(0, {str(PROJECT)!r})\nfrom pathlib import Path\n"
            "from tests.faults.kills import supervise\n"
            f"supervise(Path({str(self.folder)!r}), Path({str(self.corpus)!r}), {self.num_slots})"
        )
        with open(self.folder / "output", "ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=self.project,
                env=os.environ | {"AUTORESEARCH_HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self, victim: str) -> None:
        """Kill one process of that kind, some time into its life, and see that the study bears it."""
        pid = self._await(victim)
        if pid is None:
            return
        time.sleep(self.random.uniform(0, LATEST_SECONDS))
        in_work = self._in_work() | self._experiments_of(pid)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it was done sooner; the next one, then
            return self.kill(victim)
        if victim != "supervisor":
            self.harmed |= in_work
            return None
        self.interrupted |= in_work
        self.supervisor.wait()
        self._see_all_gone()
        logs = sorted(self.folder.glob("log-*"))
        self.problems += [f"after a kill of the supervisor: {p}" for p in check.after_fault(self.project, logs)]
        self.supervisor = self._start()
        return None

    def _await(self, victim: str) -> int | None:
        """A process of that kind, once there is one; the supervisor, once it has one of some kind."""
        deadline = time.monotonic() + APPEAR_LIMIT_SECONDS
        wanted = VICTIMS.get(victim) or self.random.choice([*VICTIMS.values()])
        while time.monotonic() < deadline:
            if self.supervisor.poll() is not None:
                self._restart()
            for pid, command in self._processes():
                if wanted in command:
                    return pid if victim in VICTIMS else self.supervisor.pid
            time.sleep(0.01)
        self.problems.append(f"no {victim} for {APPEAR_LIMIT_SECONDS:.0f} s: the study does not go on. {self._tail()}")
        return None

    def _restart(self) -> None:
        """A supervisor that ended by itself: right only while the baseline, whose run was killed, is not decided."""
        if self._decided() or not any(words in self._tail() for words in ENDS_OF_A_BASELINE):
            self.problems.append(f"the supervisor ended by itself ({self.supervisor.returncode}): {self._tail()}")
        self.supervisor = self._start()

    def await_baseline(self) -> None:
        """Let the baseline be decided: a supervisor ends when a child of the baseline's was killed."""
        deadline = time.monotonic() + BASELINE_LIMIT_SECONDS
        while not self._decided():
            if self.supervisor.poll() is not None:
                self._restart()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no baseline within {BASELINE_LIMIT_SECONDS:.0f} s. {self._tail()}")
            time.sleep(0.05)

    def await_score(self) -> None:
        """Leave the study in peace until one more experiment is accepted or discarded: it must still be able to."""
        deadline = time.monotonic() + APPEAR_LIMIT_SECONDS
        before = self._num_scored()
        while self._num_scored() == before:
            if self.supervisor.poll() is not None:
                self._restart()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no experiment was scored within {APPEAR_LIMIT_SECONDS:.0f} s. {self._tail()}")
            time.sleep(0.05)

    def finish(self) -> None:
        """Let the study end, and look at all that it left."""
        (self.folder / "stop").touch()
        try:
            self.supervisor.wait(timeout=END_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.problems.append(f"the study did not end within {END_LIMIT_SECONDS:.0f} s. {self._tail()}")
            return
        if self.supervisor.returncode:
            self.problems.append(f"the study ended with {self.supervisor.returncode}: {self._tail()}")
            return
        self._see_all_gone()
        study = open_study(NAME, self.project)
        self.problems += check.consistent(study, sorted(self.folder.glob("log-*")))
        experiments = replay(read_events(study.paths.history)).experiments
        for experiment in experiments:
            self.problems += self._unearned(experiment.number, experiment.status, experiment.val_bpb)
        counted = Counter(str(experiment.status) for experiment in experiments)
        print(
            f"\n{len(experiments)} experiments ended as {dict(counted)}; "
            f"after a supervisor's death all was gone within {self.slowest_seconds:.1f} s",
            flush=True,
        )

    def _unearned(self, number: int, status: Status | None, val_bpb: float | None) -> Iterator[str]:
        """A failure that no kill caused, or a score of none."""
        accepted = status in (Status.KEEP, Status.DISCARD)
        causes = {Status.CRASH: self.harmed, Status.INTERRUPTED: self.interrupted}
        causes |= {Status.REJECTED: self.harmed}  # an audit whose process ended twice
        if not accepted and number not in causes.get(status or Status.INVALID, set()):
            yield f"experiment {number} ended as {status} although none of its processes was killed"
        if accepted != (val_bpb is not None):
            yield f"experiment {number} is {status} with the score {val_bpb}"

    def close(self) -> None:
        """Leave nothing running."""
        if self.supervisor.poll() is None:
            self.supervisor.kill()
            self.supervisor.wait()
        for pid, _ in self._processes():
            os.kill(pid, signal.SIGKILL)

    def _processes(self) -> Iterator[tuple[int, bytes]]:
        """Every process that knows of the study, its supervisor not counted."""
        mark = os.fsencode(self.folder)
        for entry in Path("/proc").glob("[0-9]*"):
            pid = int(entry.name)
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:  # it ended while we looked, or is another user's
                continue
            if pid not in (os.getpid(), self.supervisor.pid) and (mark in command or mark in environment):
                yield pid, command

    def _see_all_gone(self) -> None:
        began = time.monotonic()
        while left := list(self._processes()):
            if time.monotonic() - began > GONE_LIMIT_SECONDS:
                words = "; ".join(map(_described, left))
                self.problems.append(f"still there {GONE_LIMIT_SECONDS:.0f} s after their supervisor: {words}")
                return
            time.sleep(0.02)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)

    def _history(self) -> list[dict[str, object]]:
        path = self.project / "studies" / NAME / "history.jsonl"
        return read_events(path) if path.exists() else []

    def _in_work(self) -> set[int]:
        """The experiment that was taken up last; with several slots all that are not decided."""
        events = self._history()
        started = [int(str(event["experiment"])) for event in events if event["event"] in ("proposed", "started")]
        decided = {event["experiment"] for event in events if event["event"] == "decided"}
        return {*started[-1:], *(number for number in started if number not in decided)} or {0}

    @staticmethod
    def _experiments_of(pid: int) -> set[int]:
        """The experiment whose folder a process was told; it may be a decided one, which runs again."""
        try:
            told = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return set()
        return {int(number) for number in re.findall(rb"/experiments/(\d{4})/", told)}

    def _num_scored(self) -> int:
        return len([e for e in self._history() if e["event"] == "decided" and e["val_bpb"] is not None])

    def _decided(self) -> bool:
        return any(event["event"] == "decided" for event in self._history())

    def _tail(self) -> str:
        return (self.folder / "output").read_bytes()[-600:].decode(errors="replace").strip()


def _described(process: tuple[int, bytes]) -> str:
    """A process in a few words: its pid, its parent's, its state, and the two ends of its command line."""
    pid, command = process
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        stat = ["gone"]
    words = command.replace(b"\0", b" ").decode(errors="replace")
    return f"{pid} ({' '.join(stat)}) {words[:80]} ... {words[-120:]}"


def make_corpus(home: Path) -> Path:
    sizes = ["--vocab-size", "512", "--sequence-length", "64"]
    command = [sys.executable, str(PROJECT / "prepare.py"), "--corpus", "stdlib", *sizes]
    subprocess.run([*command, "--home", str(home)], check=True, capture_output=True)
    return home / "corpora" / "stdlib-v512-t64"


def campaign(folder: Path, num_kills: int, corpus: Path | None, num_slots: int = 1) -> list[str]:
    """Kill that many processes of one study, each kind as often as the others; what did not hold."""
    folder.mkdir(parents=True)
    killer = Killer(folder, corpus or make_corpus(folder / "corpus"), num_slots)
    victims = [victim for _ in range(num_kills) for victim in ("supervisor", *VICTIMS)][:num_kills]
    killer.random.shuffle(victims)
    try:
        for n, victim in enumerate(victims):
            if n == NUM_IN_BASELINE:
                killer.await_baseline()
            elif n % PEACE_EVERY == PEACE_EVERY - 1:
                killer.await_score()
            killer.kill(victim)
        killer.await_baseline()
        killer.finish()
    except Exception as error:
        killer.problems.append(f"the kills ended with {type(error).__name__}: {error}")
    finally:
        killer.close()
    return killer.problems
