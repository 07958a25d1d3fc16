"""The command line: `autoresearch prepare | run | finish | status | attach | pause | ... | verify | doctor | lab`.

It turns words into calls, shows progress and prints plain errors. It decides nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agents.options import AGENTS, AgentOptions, chat_of, make_agent
from .core.types import NO_SANDBOX, Experiment, Limits, Status
from .core.version import __version__
from .record.paths import MY_NOTEBOOKS
from .record.study import Study, StudyError, open_study, study_exists, study_names
from .show.terminal import Screen
from .study.create import CORPORA, PRESETS
from .system.locations import project_root
from .system.shell import shell_command

if TYPE_CHECKING:
    from .control.checks import Check
    from .core.agent import Agent
    from .core.state import StudyState
    from .study.create import Settings

CONTROL = f"{MY_NOTEBOOKS}/control.ipynb"  # what `autoresearch lab` opens
PR_SET_DUMPABLE = 4  # of prctl(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0, 1 for an error that was explained, 130 for Ctrl-C."""
    parser = _parser()
    arguments, others = parser.parse_known_args(argv)
    if others and not hasattr(arguments, "others"):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    arguments.others = others
    try:
        return int(arguments.command(arguments) or 0)
    except KeyboardInterrupt:
        print("\nStopped. Nothing that was recorded is lost.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone
        return 1
    except (StudyError, ValueError, RuntimeError, OSError) as error:
        if os.environ.get("AUTORESEARCH_DEBUG"):
            raise
        print(f"autoresearch: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoresearch",
        description="Overnight language-model research in notebooks: an agent edits train.py, val_bpb decides.",
    )
    parser.add_argument("--version", action="version", version=f"autoresearch {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    prepare = commands.add_parser("prepare", add_help=False, help="build a corpus: the options are prepare.py's")
    prepare.set_defaults(command=_prepare, others=())

    run = commands.add_parser("run", help="start a study, or continue it where it stopped")
    run.add_argument("--name", help="of the study; default: today, as in nov23")
    run.add_argument("--experiments", type=_positive_int, metavar="N", help="stop after N more experiments")
    run.add_argument("--hours", type=_positive_float, metavar="H", help="propose nothing after H hours")
    run.add_argument("--budget", type=_positive_float, metavar="SECONDS", help="training seconds a run (default 300)")
    run.add_argument("--corpus", choices=CORPORA, help="default: the preset's, stdlib without a GPU")
    run.add_argument(
        "--files-folder", type=_absolute, metavar="DIR", help="with --corpus files: the folder with your texts"
    )
    run.add_argument("--preset", choices=PRESETS, help="sizes of the baseline; auto (default) measures this machine")
    run.add_argument("--seed", type=_natural, help="of the study (default 0)")
    run.add_argument("--detach", action="store_true", help="go on in the background, also when this terminal closes")
    _may_be_unsafe(run)
    who = run.add_argument_group("who proposes")
    who.add_argument("--agent", choices=AGENTS, help="who proposes; search (default) is the embedded optimiser")
    who.add_argument(
        "--model", help="with --agent llm or hybrid: the model, by its server's name for it; default: $OPENAI_MODEL"
    )
    who.add_argument("--share", type=_share, help="with --agent hybrid: of experiments that are the model's (0.3)")
    who.add_argument("--from", dest="recording", metavar="STUDY", help="with --agent replay: whose proposals")
    who.add_argument(
        "--max-tokens", type=_positive_int, metavar="N", help="end the study before its model has used more, in and out"
    )
    who.add_argument(
        "--max-cost", type=_positive_float, metavar="USD", help="end the study before its model has cost more"
    )
    who.add_argument(
        "--prompt-tokens", type=_positive_int, metavar="N", help="at most, of a question to the model (32000)"
    )
    who.add_argument(
        "--approve",
        action=argparse.BooleanOptionalAction,
        help="train nothing that you have not approved; the study keeps to it until --no-approve",
    )
    run.set_defaults(command=_run)

    status = commands.add_parser("status", help="what a study has found so far")
    status.add_argument("--name", help="of the study; default: the one touched last")
    status.add_argument("--json", action="store_true", help="for scripts")
    status.set_defaults(command=_status)

    for name, wish, words in (
        ("attach", _attach, "watch a study that runs in the background; Ctrl-C leaves it running"),
        ("pause", _ask("pause"), "begin nothing new once the present experiment is decided"),
        ("resume", _ask("resume"), "go on after a pause"),
        ("stop", _stop, "end the study once the present experiment is decided"),
        ("hint", _ask("hint"), "say something to the agent"),
        ("approve", _approve, "let train what waits for you, as it lies on the study's desk"),
        ("reject", _ask("reject"), "give back what waits for you; the agent reads why"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--name", help="of the study; default: the one touched last")
        command.set_defaults(command=wish)
        if name == "stop":
            command.add_argument("--now", action="store_true", help="end what runs, too; it is taken up again later")
        if name == "approve":
            command.add_argument("file", nargs="?", type=Path, help="your train.py, instead of the desk's")
            command.add_argument("--why", dest="text", default="", help="the idea in one sentence")
        if name == "reject":
            command.add_argument("--why", dest="text", required=True, help="for the agent")
        if name == "hint":
            command.add_argument("text", help="what the agent should know before its next proposal")

    cost = commands.add_parser("cost", help="what a study's model has used, experiment by experiment")
    cost.add_argument("--name", help="of the study; default: the one touched last")
    cost.add_argument("--json", action="store_true", help="for scripts")
    cost.set_defaults(command=_cost)

    finish = commands.add_parser("finish", help="measure a study's result on the sealed test split")
    finish.add_argument("--name", help="of the study; default: the one touched last")
    _may_be_unsafe(finish)
    finish.set_defaults(command=_finish)

    verify = commands.add_parser("verify", help="whether a study's record, code and corpus still belong together")
    verify.add_argument("--name", help="of the study; default: the one touched last")
    verify.add_argument("--json", action="store_true", help="for scripts")
    verify.set_defaults(command=_verify)

    doctor = commands.add_parser("doctor", help="whether this machine is fit for a night, and what to do if not")
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.set_defaults(command=_doctor)

    promote = commands.add_parser("promote", help="make a study's best train.py the project's train.py")
    promote.add_argument("--name", help="of the study; default: the one touched last")
    promote.add_argument("--force", action="store_true", help="also over a train.py that you have edited")
    promote.set_defaults(command=_promote)

    lab = commands.add_parser("lab", help="open JupyterLab in the project; other options are jupyter lab's own")
    lab.set_defaults(command=_lab, others=())

    kernel = commands.add_parser("kernel", help="the Jupyter kernel of the project")
    kernel_commands = kernel.add_subparsers(metavar="command", required=True)
    install = kernel_commands.add_parser("install", help="install the kernelspec `autoresearch`")
    install.add_argument("--sys-prefix", action="store_true", help="into this environment instead of your home")
    install.set_defaults(command=_kernel_install)
    return parser


def _may_be_unsafe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--unsafe",
        action="store_true",
        help="run without a sandbox, where there is none to be had: every result is marked untrusted",
    )


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below zero")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return value


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


# --- prepare


def _prepare(arguments: argparse.Namespace) -> int:
    """prepare.py in a process of its own: it needs torch, and its options are its own."""
    return subprocess.call([sys.executable, str(project_root() / "prepare.py"), *arguments.others])


# --- run


def _run(arguments: argparse.Namespace) -> None:
    from .core.format import count
    from .show.words import outcome_line
    from .study.create import refuse_other_settings, start_study
    from .study.loop import research

    _hide_key()
    _choose_sandbox(arguments.unsafe)
    project, asked = project_root(), _settings(arguments)
    name = arguments.name or datetime.now().strftime("%b%d").lower()
    is_new = not study_exists(name, project)
    if is_new:
        _say_if_busy()
        study = start_study(name, project, asked)
    else:
        study = open_study(name, project)
        refuse_other_settings(study, asked)
        _say_if_busy()
    state = _read(study)[0]
    limits = _limits(state, asked.options)
    agent = make_agent(study, replace(asked.options, max_cost=limits.max_cost))
    if not is_new:
        print(f"Study {name}: continuing after {count(max(0, len(state.decided) - 1), 'experiment')}.")
    _print_plan(study, state, agent, limits, arguments)
    if arguments.detach:
        return _detach(study, arguments)
    screen = Screen()
    with _signals_as_ctrl_c():
        try:
            for experiment in research(
                study,
                agent,
                experiments=arguments.experiments,
                hours=arguments.hours,
                approve=arguments.approve,
                limits=limits,
                watch=screen.watch,
            ):
                screen.line(outcome_line(experiment))
        except KeyboardInterrupt:
            screen.clear()
            _print_findings(study)
            raise
    screen.clear()
    _print_findings(study)


def _finish(arguments: argparse.Namespace) -> None:
    from .core.format import count, duration
    from .study.finish import NothingToMeasure, Outlook, finish

    study = _named_study(arguments)
    known = _read(study)[0].result
    if known is None:
        _hide_key()
        _choose_sandbox(arguments.unsafe)
        try:
            outlook = Outlook.of(study)
        except NothingToMeasure as nothing:
            print(nothing)
            return
        print(
            f"The result of study {study.name}: experiment {outlook.champion:04d} and the baseline on fresh seeds, "
            f"scored on the sealed test split.\n{count(outlook.num_trainings, 'training')} of "
            f"{study.time_budget_seconds:g} s, about {duration(outlook.seconds)}; Ctrl-C loses nothing.",
            flush=True,
        )
    screen = Screen()
    with _signals_as_ctrl_c():
        result = finish(study, screen.watch)
    screen.clear()
    if result is None:
        print(f"There is no result yet; `{shell_command(f'finish --name {study.name}')}` goes on.")
        return
    if known is not None:
        print(f"Study {study.name} is finished: its test split was opened for this champion, and is not again.")
    _print_findings(study)


def _hide_key() -> None:
    """First, so that nothing that is started here inherits it."""
    from .agents.chat import read_key

    if read_key():
        _hide_environment()


def _choose_sandbox(unsafe: bool) -> None:
    """Refuse to go on without a sandbox, or with --unsafe do without: in what is started from here on, too."""
    from .control.actions import need_sandbox
    from .sandbox.kinds import SANDBOX

    if unsafe:
        os.environ[SANDBOX] = NO_SANDBOX
        print("No sandbox: code that an agent wrote can reach all that you can. Its results are marked untrusted.")
    elif os.environ.get(SANDBOX) == NO_SANDBOX:
        raise StudyError(
            f"{SANDBOX} is {NO_SANDBOX!r}, which renounces the sandbox. Unset it, or say --unsafe to go on without one."
        )
    need_sandbox(unsafe)


def _hide_environment() -> None:
    """On Linux, keep the user's other processes from reading /proc/PID/environ, where the key stands for good.

    Root can read it still. Debuggers and core dumps are shut out as well.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limits(state: StudyState, asked: AgentOptions) -> Limits:
    """What the study may spend: what this command says, else what it has."""
    return Limits(asked.max_tokens or state.limits.max_tokens, asked.max_cost or state.limits.max_cost)


def _settings(arguments: argparse.Namespace) -> Settings:
    from .study.create import Settings

    names = ("budget", "corpus", "files_folder", "preset", "agent", "seed")
    of_agent = ("model", "share", "prompt_tokens", "recording", "max_tokens", "max_cost")
    options = AgentOptions(**{name: getattr(arguments, name) for name in of_agent})
    return Settings(**{name: getattr(arguments, name) for name in names}, options=options)


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM and a terminal that closes end a study as Ctrl-C does: what runs is ended, and that is recorded."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # started with nohup
    signals = (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(signum, signal.default_int_handler) for signum in signals]
    try:
        yield
    finally:
        for signum, handler in zip(signals, before, strict=True):
            signal.signal(signum, handler)


def _detach(study: Study, arguments: argparse.Namespace) -> None:
    from .control.actions import Plan
    from .control.supervisor import start_detached

    options = _settings(arguments).options
    plan = Plan(arguments.experiments, arguments.hours, arguments.approve, arguments.unsafe, options)
    pid = start_detached(study, plan.words())
    print(
        f"Process {pid} runs the study in the background; you may close this terminal.\n"
        f"  {shell_command(f'status --name {study.name}')}   what it does now\n"
        f"  {shell_command(f'attach --name {study.name}')}   watch it\n"
        f"  {shell_command(f'stop   --name {study.name}')}   end it; also pause, resume, hint"
    )


def _say_if_busy() -> None:
    """Takes a second. A study on a busy machine starts all the same."""
    from .system.speed import busy_words, look_around

    if words := busy_words(look_around()):
        print(words, flush=True)


def _print_plan(study: Study, state: StudyState, agent: Agent, limits: Limits, arguments: argparse.Namespace) -> None:
    """What will run, how long that takes and what will be there."""
    from .show.cost import plan_words
    from .show.plan import outlook_of, plan_lines

    corpus, chat = study.facts["corpus"], chat_of(agent)
    if chat is not None:
        price_in, price_out = (chat.prices.cost(chat.model, *counts) for counts in ((10**6, 0), (0, 10**6)))
        price = None if price_in is None or price_out is None else (price_in, price_out)
        print(plan_words(chat.model, chat.host, price, limits))
    print(
        f"Corpus {corpus['corpus']}: {corpus['num_train_tokens'] / 1e6:.2f} M training tokens, vocabulary "
        f"{corpus['vocab_size']}."
    )
    until = f"`{shell_command(f'stop --name {study.name}')}`" if arguments.detach else "you press Ctrl-C"
    waits = ["your approval" if arguments.approve or state.approve or study.agent == "human" else ""]
    waits += ["the model's answers" if chat is not None else ""]
    outlook = outlook_of(study, state, arguments.experiments, arguments.hours)
    lines = plan_lines(outlook, until, _short(study.paths.folder), " and ".join(filter(None, waits)))
    print("\n".join(lines), flush=True)


def _read(study: Study) -> tuple[StudyState, dict[str, Any] | None]:
    """The study as its history tells it, and the last `finished` event."""
    from .record.history import events_so_far, replay

    events = events_so_far(study.paths.history)
    finished = next((event for event in reversed(events) if event["event"] == "finished"), None)
    return replay(events), finished


def _print_findings(study: Study) -> None:
    """The last words of a run: what it left and how much better it is."""
    from .core.format import count
    from .show.cost import spent_words
    from .show.study_words import advice, findings, is_worth_promoting

    state, finished = _read(study)
    decided = [e for e in state.experiments if e.status is not None]
    notebooks = sorted((study.paths.folder / "experiments").glob("*/experiment*.ipynb"))
    print(f"\n{findings(state, finished)}")
    print(
        f"  {count(max(0, len(decided) - 1), 'experiment')}, {sum(e.status is Status.KEEP for e in decided[1:])} kept."
    )
    print(
        f"  notebooks     {_short(study.paths.folder / 'experiments')}/*/experiment.ipynb ({len(notebooks)} executed)"
    )
    has_better = state.incumbent is not None and state.incumbent.number > 0
    for label, path, remark in (
        ("progress", study.paths.progress, ""),
        ("results", study.paths.results, ""),
        ("best train.py", study.paths.best_train, "" if has_better else " (the baseline)"),
    ):
        print(f"  {label:<13} {_short(path)}{remark}")
    if spent := spent_words(state.spent, state.limits):
        print(f"  {'model':<13} {spent}")
    if words := advice(state):
        print(words)
        return
    promotes = ""
    if is_worth_promoting(state, finished):
        promotes = f"; `{shell_command(f'promote --name {study.name}')}` makes the best train.py yours"
    print(f"`{shell_command(f'run --name {study.name}')}` continues{promotes}.")


def _short(path: Path) -> str:
    """Relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# --- status, promote


def _named_study(arguments: argparse.Namespace) -> Study:
    project = project_root()
    names = study_names(project)
    if arguments.name is None and not names:
        raise StudyError(f"There is no study in {project / 'studies'} yet. Start one with `{shell_command('run')}`.")
    return open_study(arguments.name or names[0], project)


def _status(arguments: argparse.Namespace) -> None:
    from .show.follow import look
    from .show.status import status_json, status_table

    now = look(_named_study(arguments))
    if arguments.json:
        print(json.dumps(status_json(now), indent=1))
    else:
        print(status_table(now, width=max(80, shutil.get_terminal_size().columns)))


def _attach(arguments: argparse.Namespace) -> None:
    from .control.supervisor import wait_until_held
    from .show.follow import follow
    from .show.words import outcome_line

    study = _named_study(arguments)
    wait_until_held(study, 5.0)  # it may be starting this very moment
    screen = Screen()
    try:
        for seen in follow(study):
            if isinstance(seen, Experiment):
                screen.line(outcome_line(seen))
            else:
                screen.watch(seen)
    except KeyboardInterrupt:
        screen.clear()
        print(f"Detached. The study goes on; `{shell_command(f'stop --name {study.name}')}` ends it.")
        return
    screen.clear()
    _print_findings(study)


def _ask(command: str) -> Callable[[argparse.Namespace], None]:
    """A command that the supervisor answers."""

    def wish(arguments: argparse.Namespace) -> None:
        from .control.actions import say_to

        study = _named_study(arguments)
        print(f"{study.name}: {say_to(study, command, getattr(arguments, 'text', ''))}.")

    return wish


def _approve(arguments: argparse.Namespace) -> None:
    from .control.actions import approve

    study = _named_study(arguments)
    source = None if arguments.file is None else arguments.file.read_text(encoding="utf-8")
    print(f"{study.name}: {approve(study, source, arguments.text)}.")


def _cost(arguments: argparse.Namespace) -> None:
    from .show.cost import cost_json, cost_table

    study = _named_study(arguments)
    state = _read(study)[0]
    print(json.dumps(cost_json(state), indent=1) if arguments.json else cost_table(state))


def _stop(arguments: argparse.Namespace) -> None:
    from .control.actions import stop

    study = _named_study(arguments)
    print(f"{study.name}: {stop(study, arguments.now)}.", flush=True)
    if arguments.now:
        print("Stopped.")


def _verify(arguments: argparse.Namespace) -> int:
    from .control.verify import verify

    verdict = _print_checks(verify(_named_study(arguments)), arguments.json)
    return int(verdict == "fail")


def _doctor(arguments: argparse.Namespace) -> int:
    from .control.doctor import examine, farewell

    verdict = _print_checks(examine(project_root()), arguments.json)
    if not arguments.json:
        print(f"\n{farewell(verdict)}")
    return int(verdict == "fail")


def _print_checks(checks: Iterable[Check], is_json: bool) -> str:
    """Each as it is found, or all of them as JSON; the worst verdict."""
    from .control.checks import as_json, table, worst

    found = []
    for check in checks:
        found.append(check)
        if not is_json:
            print(table([check], is_coloured=sys.stdout.isatty()), flush=True)
    if is_json:
        print(json.dumps(as_json(found), indent=1))
    return worst(found)


def _promote(arguments: argparse.Namespace) -> None:
    from .control.actions import promote

    print(promote(_named_study(arguments), arguments.force))


# --- lab, kernel


def _lab(arguments: argparse.Namespace) -> None:
    from .lab.working_copies import protect_originals, update_copies
    from .run.kernelspec import install_kernelspec

    install_kernelspec(prefix=Path(sys.prefix))
    protect_originals(Path(sys.prefix))
    for words in update_copies(project_root()):
        print(words, flush=True)
    _offer_train_as_a_notebook()
    os.execv(sys.executable, lab_command(project_root(), arguments.others))


def lab_command(project: Path, options: Sequence[str]) -> list[str]:
    """JupyterLab in the project, at the control panel unless `options`, which are jupyter lab's, name another place."""
    from .run.kernelspec import KERNEL_NAME

    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={project}"]
    command.append(f"--MultiKernelManager.default_kernel_name={KERNEL_NAME}")
    asked = any("default_url" in word or Path(word).exists() for word in options)
    if (project / CONTROL).is_file() and not asked:
        command.append(f"--LabApp.default_url=/lab/tree/{CONTROL}")
    if os.name == "posix" and os.geteuid() == 0:
        command.append("--allow-root")  # in a container root is all there is, and jupyter would only say no
    return [*command, *options]


def _offer_train_as_a_notebook() -> None:
    """A workspace of Lab's in which train.py is open as a notebook: /lab/workspaces/train.

    Lab has no address for a file in a viewer of choice, and to make it the default would open every .py file so.
    """
    from jupyterlab.commands import get_workspaces_dir
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    widget = "notebook:train.py"
    dock = {"type": "tab-area", "currentIndex": 0, "widgets": [widget]}
    layout = {"layout-restorer:data": {"main": {"dock": dock, "current": widget}}}
    opened = {widget: {"data": {"path": "train.py", "factory": "Jupytext Notebook"}}}
    workspace = {"data": layout | opened, "metadata": {"id": "train"}}
    WorkspacesManager(get_workspaces_dir()).save("train", json.dumps(workspace))


def _kernel_install(arguments: argparse.Namespace) -> None:
    from .lab.working_copies import protect_originals
    from .run.kernelspec import install_kernelspec

    where = install_kernelspec(prefix=Path(sys.prefix) if arguments.sys_prefix else None)
    if arguments.sys_prefix:
        protect_originals(Path(sys.prefix))
    print(f"Kernel `autoresearch` installed in {where}. `jupyter kernelspec list` shows it.")


if __name__ == "__main__":
    sys.exit(main())
