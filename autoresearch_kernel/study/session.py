"""A study held open for writing: what its steps and helpers share, and nothing that they do.

`steps.py` builds the helpers and has the five steps of an experiment; `loop.py` executes them in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.drift import normal_speed
from ..core.duel import DuelMode
from ..core.sanitize import readable
from ..core.state import StudyState, replay
from ..core.types import Context, Experiment, Limits, MachineHolder, Progress, ignore
from ..record.activity import Activity, write_activity
from ..record.commands import Inbox
from ..record.file_hashes import file_hashes
from ..record.git import Lineage
from ..record.history import History
from ..record.provenance import provenance, same_versions
from ..record.study import Study, StudyError, sha256, study_versions
from ..run.backend import LOCAL, Backend
from ..run.training import Listener, Training
from ..scoring.job import HeldOut, ScoringJob, ScoringSettings
from ..show.study_words import waiting_words
from ..source.encoding import with_newlines
from ..system.clock import Clock
from ..system.files import write_atomic
from ..system.processes import is_alive, remember
from .context import context_of, read_notes

Watch = Callable[[Progress], None]
PHASES = frozenset(
    {"proposing", "dry run", "reviewing", "waiting", "quiet", "training", "scoring", "auditing", "deciding", "paused"}
)


def _as_it_is(activity: Activity) -> Activity:
    return activity


@dataclass
class Session:
    """What is held while a study is open: its record, its backend and clock, its watcher."""

    study: Study
    history: History
    lineage: Lineage | None
    heldout: HeldOut
    inbox: Inbox
    watch: Watch = ignore
    backend: Backend = LOCAL
    sandbox: str = ""  # that trainings and scorers run in on this machine, "none" without one
    versions: Mapping[str, str] = field(default_factory=study_versions)  # that the event `opened` says
    sandboxed: Callable[[], dict[str, Any]] = dict  # `wrap` and `guard` of each ScoringJob
    enough: Callable[[], str] = lambda: ""  # why nothing more is to be proposed; "" while something is
    # Experiments and seconds until then, after so many experiments that are in work; None where there is no limit.
    left: Callable[[int], tuple[int | None, float | None]] = lambda in_work: (None, None)
    arranged: Callable[[Activity], Activity] = _as_it_is  # of several slots, what activity.json says
    ends_hopeless: bool = True  # a first run that cannot win is ended early
    is_interactive: bool = False  # a user takes each step, and approves a proposal by going on with it
    hooks: list[Callable[[], None]] = field(default_factory=list)  # run at each tick
    purpose: str = "experiment"  # of the present step, for activity.json
    why: str = ""  # of a training of a decided experiment
    slot_name: str = ""  # of the slot that this session's trainings have, where there is more than one
    machine: str = ""  # the kind of machine of that slot; "" for the kind that the study began on
    slept_before: float = 0.0  # seconds that the machine had slept when the present training began
    _last_read: dict[str, str] = field(default_factory=dict)  # files of the project, by name
    _running: list[tuple[int, str]] = field(default_factory=list)  # pid and token of each process in `running.json`
    _known: StudyState | None = None
    _shown: tuple[str, int, int] | None = None  # phase, experiment and run of activity.json
    _activity: Activity | None = None  # as it was written last
    _interrupted: tuple[str, int, int] | None = None  # what was shown when the training began to wait for the machine

    @property
    def clock(self) -> Clock:
        """The time that this session goes by."""
        return self.backend.clock

    @property
    def state(self) -> StudyState:
        events = self.history.events
        if self._known is None or self._known.num_events != len(events):
            self._known = replay(events)
        return self._known

    def tick(self) -> None:
        """Run the hooks: obey commands, record what an agent said. Long steps call it several times a second.

        Raises StopNow when a user wants the study to end at once, StudyError when it was removed.
        """
        for hook in self.hooks:
            hook()

    def tell(self, progress: Progress) -> None:
        """Tell the watcher, and write activity.json when the phase has changed."""
        phase = "training" if progress.phase == "starting" else progress.phase
        if phase in PHASES:
            self._show((phase, progress.experiment, progress.run))
        self.watch(progress)

    @contextmanager
    def telling(self, progress: Progress) -> Iterator[None]:
        """Tell of a phase, and within this block alone; afterwards the phase before it goes on."""
        before = self._shown
        self.tell(progress)
        try:
            yield
        finally:
            self._show(before)

    def _show(self, phase: tuple[str, int, int] | None) -> None:
        if phase is not None and phase != self._shown:
            self._shown = phase
            name, experiment, run = phase
            since, writes = self.clock.utc_now(), self._activity.writes if self._activity is not None else ""
            left = self.left(len(self.state.in_work))
            activity = Activity(name, self.purpose, experiment, run, self.why, since, os.getpid(), writes, *left)
            self._write_activity(activity)

    def show_writing(self, words: str) -> None:
        """Show the last lines of what the agent writes, "" for none, beside what goes on anyway."""
        if self._activity is not None and words != self._activity.writes:
            self._write_activity(replace(self._activity, writes=words))
            self.watch(Progress("writing", writes=words))

    def _write_activity(self, activity: Activity) -> None:
        self._activity = activity
        if self.history.is_in_place:  # else another study may have its name by now
            write_activity(self.study.paths.activity, self.arranged(activity))

    def note(self, text: str, **facts: Any) -> None:
        """Record something that a user should know, with facts about it, and show it."""
        self.history.append("note", text=text, **facts)
        self.watch(Progress("note", text=text))

    def hashes(self, *paths: Path) -> dict[str, str]:
        """What an event says in its field `files` of files that are complete."""
        return file_hashes(self.study.paths.folder, paths)

    def limit(self, limits: Limits) -> None:
        """What the study may spend on language models from now on; a limit of None stays as it was."""
        given = {name: value for name, value in asdict(limits).items() if value is not None}
        if asdict(self.state.limits) | given != asdict(self.state.limits):
            self.history.append("limits", **asdict(self.state.limits) | given)

    def require_approval(self, is_needed: bool | None) -> None:
        """Whether a user approves each proposal before it trains; None leaves that as it was."""
        if is_needed is not None and is_needed != self.state.approve:
            self.history.append("approval", is_needed=is_needed)

    def choose_duels(self, mode: DuelMode | None) -> None:
        """When confirmations are duels from now on; None leaves that as it was."""
        if mode is not None and mode != self.state.duels:
            self.history.append("duels", mode=mode)

    def wait_for_machine(self, holder: MachineHolder) -> None:
        """Record whose training this one waits for, so that every view can say it."""
        self.history.append("waiting", **asdict(holder))
        if self._shown is not None and self._shown[0] != "waiting":
            self._interrupted = self._shown
            self._show(("waiting", *self._shown[1:]))
        self.watch(Progress("note", text=waiting_words(holder)))

    def remember(self, pid: int, token: str) -> None:
        """Write down a process that runs code of an agent, beside those that do already, for the next supervisor."""
        self.history.check_in_place()
        self._running[:] = [run for run in self._running if is_alive(run[0])]
        remember(self.study.paths.running, pid, token, self._running)
        self._running.append((pid, token))

    def forget(self, *tokens: str | None) -> None:
        """The processes with these tokens have ended."""
        self._running[:] = [run for run in self._running if run[1] not in tokens and is_alive(run[0])]
        if not self.history.is_in_place:  # another study may have its name by now
            return
        if self._running:
            remember(self.study.paths.running, *self._running[0], self._running[1:])
        else:
            self.study.paths.running.unlink(missing_ok=True)

    def begun(self, pid: int, token: str) -> None:
        """A training has the machine and runs as process `pid`; what happened while it waited is not its own."""
        self.remember(pid, token)
        self.slept_before = self.clock.slept_seconds()
        if self.state.waiting is not None:
            self.history.append("waited")
            self._show(self._interrupted)

    def training(self, number: int, **own: Any) -> Training:
        """A training for experiment `number` on the study's corpus, within its limits; `own` says the rest."""
        study, facts = self.study, self.study.facts
        common = {
            "paths": study.experiment(number),
            "corpus_dir": study.corpus_dir,
            "project": study.project,
            "time_budget_seconds": study.time_budget_seconds,
            "clock": study.clock,
            "normal_speed": normal_speed(self.state.experiments),
            "startup_allowance_seconds": facts["startup_allowance_seconds"],
            "handover_allowance_seconds": facts["handover_allowance_seconds"],
            "study": study.name,
            "dtype": facts["scoring"]["dtype"],
        }
        return Training(**common | own)

    def listener(self, token: str, **own: Any) -> Listener:
        """Records that a training waits for the machine or has it; `own` are the other callbacks."""
        return Listener(on_spawn=lambda pid: self.begun(pid, token), on_wait=self.wait_for_machine, **own)

    def scoring_job(self, artefact: Path, heldout: HeldOut, **own: Any) -> ScoringJob:
        """A model to be scored or audited in the sandbox with the study's settings; `own` says the rest."""
        settings, project = ScoringSettings(**self.study.facts["scoring"]), self.study.project
        return ScoringJob(artefact, heldout, settings, project, on_tick=self.tick, **self.sandboxed(), **own)

    def source(self, experiment: Experiment) -> str:
        """The train.py of an experiment, as it was recorded. Raises StudyError when the file says something else."""
        path = self.study.experiment(experiment.number).train
        source = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        if sha256(source) != experiment.train_sha256:
            commit = experiment.commit or f"refs/autoresearch/{self.study.name}/{experiment.number:04d}"
            raise StudyError(
                f"{path} is not the file that experiment {experiment.number:04d} was recorded with. Restore it: "
                f"git show {commit}:./train.py > {path}"
            )
        return with_newlines(source)  # versions before 0.12 recorded the line ends that an agent wrote

    def used_sandbox(self, *, is_next: bool = False) -> str:
        """In which this session has worked last, or in which its next training runs as far as is known."""
        return self.sandbox if self.backend.worker is None else str(self.backend.worker(is_next)["sandbox"])

    def made_with(self, experiment: Experiment) -> dict[str, Any]:
        """What is recorded with the last score, one of this experiment: its sandbox and provenance.

        `versions` are recorded where they are not those of the session, as on a worker of another kind.
        """
        versions = self.versions if self.backend.worker is None else self.backend.worker(False)["packages"]
        digest = provenance(self.study.facts, versions, experiment.train_sha256)
        facts: dict[str, Any] = {"sandbox": self.used_sandbox(), "provenance": digest}
        return facts if same_versions(versions, self.versions) else facts | {"versions": dict(versions)}

    def context(self) -> Context:
        """All that an agent may read now."""
        state = self.state
        assert state.incumbent is not None, "an agent is asked only once the baseline is decided"
        return context_of(
            self.study,
            state,
            train_source=self.source(state.incumbent),
            program=self._program(),
            prepare_source=self._project_file("prepare.py"),
            notes=read_notes(self.study, state),
            left=self.left(len(state.in_work)),
        )

    def new_notes(self) -> str:
        """notes.md where a user or an agent has written it anew since the history has it; "" otherwise."""
        notes = readable(read_notes(self.study, self.state))
        return "" if notes.strip() == self.state.notes.strip() else notes

    def _program(self) -> str:
        """program.md, of which the study keeps a copy: two studies are compared by it, too."""
        before, now = self._last_read.get("program.md"), self._project_file("program.md")
        kept = self.study.paths.program
        if now and now != before and not (kept.is_file() and kept.read_text("utf-8", "replace") == now):
            write_atomic(kept, now)
        return now

    def _project_file(self, name: str) -> str:
        """A file that a user may be saving at this moment: then as it was the last time."""
        with suppress(OSError):
            self._last_read[name] = (self.study.project / name).read_text(encoding="utf-8", errors="replace")
        return self._last_read.get(name, "")
