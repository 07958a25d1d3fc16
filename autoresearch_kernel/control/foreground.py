"""A study in this terminal: runs or finishes it here, or watches one that runs in the background, and prints.

Ctrl-C, SIGTERM and a closed terminal end what runs; what was recorded stays. Decisions are made in `study/`.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from ..agents.chat import Chat
from ..agents.command import CommandChat
from ..agents.options import chat_of
from ..agents.server import take_key
from ..core.agent import Agent
from ..core.format import count, duration
from ..core.state import StudyState, replay
from ..core.types import NO_SANDBOX, Experiment, Limits, Status
from ..record.history import events_so_far
from ..record.study import Study, StudyError, check_unchanged, open_study, study_exists
from ..run.local_cluster import LOCAL, cluster_at
from ..run.slurm_jobs import SlurmJobs
from ..sandbox.kinds import SANDBOX
from ..show.attribution_words import ALONE, attribution_lines
from ..show.cost import plan_words, spent_words, tool_words
from ..show.follow import follow
from ..show.plan import outlook_of, plan_lines
from ..show.study_words import advice, busy_words, findings, is_worth_promoting, machine_words
from ..show.terminal import Screen, say
from ..show.words import outcome_line
from ..study.notices import choose_notifier
from ..study.options import (
    StudyOptions,
    agent_of,
    limits_of,
    refuse_cluster,
    refuse_detached_workers,
    refuse_other_settings,
    slurm_jobs,
    supervisor_words,
)
from ..study.quiet import busy_moment
from ..study.server_start import require_server
from ..system.files import lock_holder
from ..system.locations import cache_dir
from ..system.shell import shell_command
from ..system.speed import measure_load
from .actions import check_machine, plan_of_attribution
from .shadows import shadowing_words
from .supervisor import start_detached, wait_until_held

PR_SET_DUMPABLE = 4  # of prctl(2)
NOTHING = StudyOptions()


def run(name: str, project: Path, asked: StudyOptions, is_detached: bool = False) -> None:
    """Start a study, or continue it, and print each decided experiment until it ends."""
    hide_key()
    choose_sandbox(project, bool(asked.unsafe))
    if words := shadowing_words(project):
        say(words)
    with _with_workers(name, project, asked, is_detached) as given:
        _run(name, project, given, is_detached, _where(asked))


@contextmanager
def _with_workers(
    name: str, project: Path, asked: StudyOptions, is_detached: bool = False, most_jobs: int | None = None
) -> Iterator[StudyOptions]:
    """The options, with the cluster of the workers that are started for this block where users ask for them."""
    jobs = slurm_jobs(asked, is_detached)
    if jobs is None and asked.cluster != LOCAL:
        yield asked
        return
    if jobs is None:
        refuse_detached_workers("cluster local", is_detached)
    _refuse_before_workers(name, project, asked, is_measurement=most_jobs is not None)
    with signals_as_ctrl_c(), _workers(name, jobs, most_jobs) as address:
        yield replace(asked, slurm=None, cluster=address)


def _refuse_before_workers(name: str, project: Path, asked: StudyOptions, is_measurement: bool) -> None:
    """Raise what would be refused later, before a worker is started or a job waits in a queue."""
    if not study_exists(name, project):
        refuse_cluster(asked, asked.clock, asked.value("slots"))
        return
    study = open_study(name, project)
    check_unchanged(study)
    refuse_other_settings(study, replace(asked, agent=None if is_measurement else study.agent))
    refuse_cluster(asked, study.clock, study.num_slots, name)
    if lock_holder(study.paths.lock) is not None:
        raise StudyError(f"Study {name!r} runs already: `{shell_command(f'status --name {name}')}` shows it.")


def _workers(name: str, jobs: SlurmJobs | None, most_jobs: int | None) -> AbstractContextManager[str]:
    """The address of a scheduler with workers: those of Slurm's jobs, else one on this machine."""
    if jobs is None:
        return cluster_at(LOCAL)
    from ..run.slurm import slurm_workers

    fewer = replace(jobs, count=min(jobs.count, most_jobs)) if most_jobs is not None else jobs
    return slurm_workers(fewer, cache_dir() / "slurm" / name, say)


def _run(name: str, project: Path, asked: StudyOptions, is_detached: bool, where: str) -> None:
    """`where`: the options that say where the trainings are made, as the user typed them."""
    from ..study.loop import research  # numpy

    study, is_new = _open_or_start(name, project, asked)
    state = _read(study)[0]
    limits = limits_of(state, asked)
    agent = agent_of(study, asked, limits)
    if (chat := chat_of(agent)) is not None:
        require_server(name, chat, project, say)
    if not is_new:
        say(f"Study {name}: continuing after {count(max(0, len(state.decided) - 1), 'experiment')}.")
    _print_plan(study, state, agent, limits, asked, is_detached)
    if is_detached:
        _print_if_busy(state.noise.worth)
        return _detach(study, asked)

    screen = Screen()
    with signals_as_ctrl_c():
        try:
            for experiment in research(
                study,
                agent,
                experiments=asked.experiments,
                hours=asked.hours,
                slot_hours=asked.slot_hours,
                approve=asked.approve,
                limits=limits,
                wait_for_quiet=asked.wait_for_quiet,
                duel=asked.duel,
                notify=asked.notify,
                watch=screen.watch,
                cluster=asked.cluster,
            ):
                screen.line(outcome_line(experiment))
        except KeyboardInterrupt:
            screen.clear()
            _print_findings(study, where)
            raise
    screen.clear()
    _print_findings(study, where)


def _open_or_start(name: str, project: Path, asked: StudyOptions) -> tuple[Study, bool]:
    """The study, and whether it is new."""
    from ..study.create import start_study

    if not study_exists(name, project):
        return start_study(name, project, asked), True
    study = open_study(name, project)
    refuse_other_settings(study, asked)
    return study, False


def finish(study: Study, asked: StudyOptions) -> None:
    """Measure a study's result on its test split, or print the one that is measured already.

    Args:
        asked: whether without a sandbox, how long to wait for a quiet machine, and on which cluster.
    """
    from ..study.finish import NothingToMeasure, Outlook
    from ..study.finish import finish as measure

    known = _read(study)[0].result
    if known is None:
        hide_key()
        choose_sandbox(study.project, bool(asked.unsafe))
        try:
            outlook = Outlook.of(study)
        except NothingToMeasure as nothing:
            say(nothing)
            return
        say(
            f"The result of study {study.name}: experiment {outlook.champion:04d} and the baseline on fresh seeds, "
            f"scored on the sealed test split.\n{count(outlook.num_trainings, 'training')} of "
            f"{study.time_budget_seconds:g} s, about {duration(outlook.seconds)}; Ctrl-C loses nothing."
        )
    screen = Screen()
    with signals_as_ctrl_c(), _with_a_worker(study, asked if known is None else NOTHING) as given:
        result = measure(study, screen.watch, wait_for_quiet=given.wait_for_quiet, cluster=given.cluster)
    screen.clear()
    if result is None:
        say(f"There is no result yet; `{shell_command(f'finish --name {study.name}{_where(asked)}')}` goes on.")
        return
    if known is not None:
        say(f"Study {study.name} is finished: its test split was opened for this champion, and is not again.")
    _print_findings(study, _where(asked))


def attribute(study: Study, seeds: int | None, asked: StudyOptions) -> None:
    """Take each kept change out of a study's champion on fresh seeds, or print what that found before; see `finish`."""
    from ..study.attribution import Outlook
    from ..study.attribution import attribute as measure

    outlook = Outlook.of(study, seeds)
    known = _read(study)[0].attribution
    is_known = known is not None and known.is_done(seeds)
    if not is_known:
        hide_key()
        choose_sandbox(study.project, bool(asked.unsafe))
        say(f"{plan_of_attribution(study, outlook)} Ctrl-C loses nothing.")
    screen = Screen()
    with signals_as_ctrl_c(), _with_a_worker(study, NOTHING if is_known else asked) as given:
        found = measure(study, seeds, screen.watch, wait_for_quiet=given.wait_for_quiet, cluster=given.cluster)
    screen.clear()
    say("\n".join(attribution_lines(_read(study)[0])))
    if found is None:
        say(f"`{shell_command(f'attribute {study.name}{_where(asked)}')}` goes on.")
        return
    say(ALONE)


def _with_a_worker(study: Study, asked: StudyOptions) -> AbstractContextManager[StudyOptions]:
    """As `_with_workers`, for trainings that are made one after the other."""
    return _with_workers(study.name, study.project, asked, most_jobs=1)


def _where(asked: StudyOptions) -> str:
    """The options that say where the trainings are made, as a user types them."""
    given = {name: getattr(asked, name) for name in ("cluster", "slurm")}
    return "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value)


def attach(study: Study) -> None:
    """Print what a study does until it ends. Ctrl-C leaves it running."""
    wait_until_held(study, 5.0)  # it may be starting this very moment
    screen = Screen()
    try:
        for seen in follow(study):
            if isinstance(seen, Experiment):
                screen.line(outcome_line(seen))
            else:
                screen.watch(seen)
            if screen.is_gone:
                return
    except KeyboardInterrupt:
        screen.clear()
        say(f"Detached. The study goes on; `{shell_command(f'stop --name {study.name}')}` ends it.")
        return
    screen.clear()
    _print_findings(study)


def hide_key() -> None:
    """Take the model's key out of the environment before anything is started, so that nothing inherits it."""
    if take_key():
        hide_environment()


def hide_environment() -> None:
    """On Linux, keep the user's other processes from reading /proc/PID/environ, where the key stands for good.

    Root can read it still. Debuggers and core dumps are shut out as well.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def choose_sandbox(project: Path, unsafe: bool) -> None:
    """Refuse to go on without a sandbox, or with --unsafe do without: in what is started from here on, too."""
    if unsafe:
        os.environ[SANDBOX] = NO_SANDBOX
        say("No sandbox: code that an agent wrote can reach all that you can. Its results are marked untrusted.")
    elif os.environ.get(SANDBOX) == NO_SANDBOX:
        raise StudyError(
            f"{SANDBOX} is {NO_SANDBOX!r}, which renounces the sandbox. Unset it, or say --unsafe to go on without one."
        )
    check_machine(project, unsafe)


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM and a terminal that closes end a study as Ctrl-C does: what runs is ended, and that is recorded."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # started with nohup
    signals = (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(signum, signal.default_int_handler) for signum in signals]
    try:
        yield
    finally:
        for signum, handler in zip(signals, before, strict=True):
            signal.signal(signum, handler)


def _detach(study: Study, asked: StudyOptions) -> None:
    choose_notifier(study, asked.notify)
    pid = start_detached(study, supervisor_words(asked))
    say(
        f"Process {pid} runs the study in the background; you may close this terminal.\n"
        f"  {shell_command(f'status --name {study.name}')}   what it does now\n"
        f"  {shell_command(f'attach --name {study.name}')}   watch it\n"
        f"  {shell_command(f'stop   --name {study.name}')}   end it; also pause, resume, hint"
    )


def _print_if_busy(worth: float) -> None:
    """Takes a second. In the foreground the study itself says it."""
    if not (load := measure_load()).is_low:
        say(busy_words(busy_moment(load), worth))


def _print_plan(
    study: Study, state: StudyState, agent: Agent, limits: Limits, asked: StudyOptions, is_detached: bool
) -> None:
    """What will run, how long that takes and what will be there."""
    corpus, chat = study.facts["corpus"], chat_of(agent)
    if isinstance(chat, CommandChat):
        say(tool_words(chat.who, bool(chat.tool.cost), limits))
    elif isinstance(chat, Chat):
        price_in, price_out = (chat.prices.cost(chat.model, *counts) for counts in ((10**6, 0), (0, 10**6)))
        price = None if price_in is None or price_out is None else (price_in, price_out)
        say(plan_words(chat.model, chat.host, price, limits))
    say(
        f"Corpus {corpus['corpus']}: {corpus['num_train_tokens'] / 1e6:.2f} M training tokens, vocabulary "
        f"{corpus['vocab_size']}."
    )
    until = f"`{shell_command(f'stop --name {study.name}')}`" if is_detached else "you press Ctrl-C"
    waits = ["your approval" if asked.approve or state.approve or study.agent == "human" else ""]
    waits += ["the model's answers" if chat is not None else ""]
    is_on_cluster = asked.cluster is not None
    limits_asked = asked.experiments, asked.hours, asked.slot_hours
    outlook = outlook_of(study, state, *limits_asked, is_on_cluster=is_on_cluster)
    lines = plan_lines(outlook, until, _short(study.paths.folder), " and ".join(filter(None, waits)))
    say("\n".join(lines))


def _read(study: Study) -> tuple[StudyState, dict[str, object] | None]:
    """The study as its history tells it, and the last `finished` event."""
    events = events_so_far(study.paths.history)
    finished = next((event for event in reversed(events) if event["event"] == "finished"), None)
    return replay(events), finished


def _print_findings(study: Study, where: str = "") -> None:
    """What a run left, and how much better it is; `where` are options of the command that continues it."""
    state, finished = _read(study)
    decided = [e for e in state.experiments if e.status is not None]
    kept = sum(e.status is Status.KEEP for e in decided[1:])
    folder = study.paths.folder / "experiments"
    notebooks = sorted(folder.glob("*/experiment*.ipynb"))
    finish = shell_command(f"finish --name {study.name}{where}")
    say(f"\n{findings(state, finished, finish, study.name)}")
    for line in attribution_lines(state):
        say(f"  {line}")
    if words := machine_words(state):
        say(f"  {words}")
    say(f"  {count(max(0, len(decided) - 1), 'experiment')}, {kept} kept.")
    say(f"  notebooks     {_short(folder)}/*/experiment.ipynb ({len(notebooks)} executed)")
    has_better = state.incumbent is not None and state.incumbent.number > 0
    for label, path, remark in (
        ("progress", study.paths.progress, ""),
        ("results", study.paths.results, ""),
        ("best train.py", study.paths.best_train, "" if has_better else " (the baseline)"),
    ):
        say(f"  {label:<13} {_short(path)}{remark}")
    if spent := spent_words(state.spent, state.limits):
        say(f"  {'model':<13} {spent}")
    if words := advice(state, study.name, where):
        say(words)
        return
    promotes = ""
    if is_worth_promoting(state, finished):
        promotes = f"; `{shell_command(f'promote --name {study.name}')}` makes the best train.py yours"
    say(f"`{shell_command(f'run --name {study.name}{where}')}` continues{promotes}.")


def _short(path: Path) -> str:
    """Relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
