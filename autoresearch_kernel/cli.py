"""The command line. `COMMANDS` is the table of all commands; `autoresearch --help` and the parser are made from it.

Each command's function turns arguments into one call and prints what that returns. Nothing is decided here. A function
imports what its command alone needs: all of it takes a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .control.checks import Check, as_json, table, worst
from .control.gpu_check.plan import DEVICES
from .core.attribution import LEAST_SEEDS, NUM_SEEDS
from .core.playback import USUAL_SPEED
from .core.rerun import FIRST_SEEDS, MOST_SEEDS
from .core.sanitize import readable
from .core.version import __version__
from .record.study import Study, StudyError, latest_study, open_study, study_names
from .source.encoding import decode_source
from .study.options import OPTIONS, Option, StudyOptions
from .system.explain import run_main
from .system.locations import PROJECT, project_root
from .system.places import require_cache
from .system.shell import shell_command
from .system.start import python_command

Arguments = argparse.Namespace
OF_A_MEASUREMENT = ("cluster", "slurm", "wait_for_quiet", "unsafe")  # options of `finish` and `attribute`
ON_A_WORKER = (
    "train on a worker of this Dask cluster, of the kind that the study began on: the address of its scheduler, or "
    "local for one that is started on this machine"
)
IN_A_JOB = "let Slurm start that worker: options of sbatch, as partition=gpu,gres=gpu:1,count=1"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0, 1 for an error that was explained, 130 for Ctrl-C."""
    return run_main(lambda: _act(argv))


def _act(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    arguments, others = parser.parse_known_args(argv)
    if others and not arguments.takes_others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    arguments.others = others
    return int(arguments.act(arguments) or 0)


def _new(arguments: Arguments) -> None:
    from .control.new import new_project

    print(new_project(arguments.folder))


def _adopt(arguments: Arguments) -> None:
    from .control.adopt import adopt_file

    print(adopt_file(arguments.path, arguments.out))


def _prepare(arguments: Arguments) -> int:
    """prepare.py in a process of its own: it needs torch, and its options are its own."""
    project = project_root()
    require_cache()
    command = python_command("autoresearch_kernel.corpora.command", *arguments.others)
    return subprocess.call(command, env=os.environ | {PROJECT: str(project)})


def _doctor(arguments: Arguments) -> int:
    from .control.doctor import examine, farewell

    if arguments.cluster:
        from .control.cluster_check import examine_cluster

        return int(_print_checks(examine_cluster(arguments.cluster, project_root()), arguments.json) == "fail")
    verdict = _print_checks(examine(project_root(), arguments.model, arguments.with_), arguments.json)
    if not arguments.json:
        print(f"\n{farewell(verdict)}")
    return int(verdict == "fail")


def _gpu_check(arguments: Arguments) -> int:
    from .control.gpu_check.command import gpu_check

    return gpu_check(arguments.device, arguments.out)


def _lab(arguments: Arguments) -> None:
    from .lab.jupyter import open_lab

    open_lab(project_root(), arguments.others)


def _lesson(arguments: Arguments) -> None:
    from .lab.lessons.command import open_lesson

    open_lesson(project_root(), arguments.number, arguments.others)


def _lessons(arguments: Arguments) -> int:
    from .lab.lessons.command import lessons

    return lessons(arguments.numbers, arguments.build, arguments.check, arguments.seconds)


def _new_class(arguments: Arguments) -> None:
    from .lab.lessons.class_folder import new_class

    print(new_class(arguments.folder, arguments.nbgrader))


def _kernel(arguments: Arguments) -> None:
    from .lab.jupyter import install_kernel

    print(install_kernel(arguments.sys_prefix))


def _run(arguments: Arguments) -> None:
    from .control.foreground import run

    name = arguments.name or datetime.now().strftime("%b%d").lower()
    run(name, project_root(), _asked(arguments, OPTIONS), arguments.detach)


def _finish(arguments: Arguments) -> None:
    from .control.foreground import finish

    finish(_named_study(arguments), _asked(arguments, OF_A_MEASUREMENT))


def _attribute(arguments: Arguments) -> None:
    from .control.foreground import attribute

    arguments.name = arguments.study or arguments.name
    attribute(_named_study(arguments), arguments.seeds, _asked(arguments, OF_A_MEASUREMENT))


def _status(arguments: Arguments) -> None:
    from .show.follow import look
    from .show.status import status_json, status_table

    now = look(_named_study(arguments))
    if arguments.json:
        print(json.dumps(status_json(now), indent=1))
    else:
        print(status_table(now, width=max(80, shutil.get_terminal_size().columns)))


def _attach(arguments: Arguments) -> None:
    from .control.foreground import attach

    attach(_named_study(arguments))


def _replay(arguments: Arguments) -> None:
    from .control.playback import replay

    replay(arguments.recording, arguments.speed, arguments.experiment, arguments.quiz)


def _cost(arguments: Arguments) -> None:
    from .show.cost import cost_json, cost_table
    from .show.follow import look

    now = look(_named_study(arguments))
    print(json.dumps(cost_json(now.state), indent=1) if arguments.json else cost_table(now.state))
    if now.damage:
        print(now.damage, file=sys.stderr)


def _compare(arguments: Arguments) -> None:
    from .control.compare import compare_studies, study_at
    from .show.contrast_words import contrast_json, contrast_table

    found = compare_studies(*(study_at(words, project_root()) for words in (arguments.first, arguments.second)))
    print(json.dumps(contrast_json(found), indent=1) if arguments.json else contrast_table(found))


def _verify(arguments: Arguments) -> int:
    named = str(arguments.file)
    if arguments.file is not None and not arguments.file.exists() and named in study_names(project_root()):
        arguments.name, arguments.file = named, None
    if arguments.file is not None:
        from .control.verify_bundle import verify_bundle

        return int(_print_checks(verify_bundle(arguments.file), arguments.json) == "fail")
    from .control.verify import verify

    return int(_print_checks(verify(_named_study(arguments)), arguments.json) == "fail")


def _rerun(arguments: Arguments) -> int:
    from .control.rerun import run

    return run(
        arguments.file,
        arguments.experiment,
        arguments.seeds,
        max(arguments.seeds, arguments.most_seeds),
        files_folder=arguments.files_folder,
        is_agreed=arguments.yes,
        unsafe=bool(arguments.unsafe),
    )


def _share(arguments: Arguments) -> None:
    from .share.command import share
    from .share.material import study_to_share

    if arguments.study and arguments.name and arguments.study != arguments.name:
        raise StudyError(f"Which study: {arguments.study} or {arguments.name}? Name one.")
    study = study_to_share(arguments.study) if arguments.study else _named_study(arguments)
    share(study, arguments.out, arguments.prompts, arguments.yes, arguments.pdf)


def _say(arguments: Arguments) -> None:
    """A command that the supervisor answers."""
    from .control import actions

    study = _named_study(arguments)
    print(f"{study.name}: {actions.say_to(study, arguments.command, getattr(arguments, 'text', ''))}.")


def _hint(arguments: Arguments) -> None:
    from .control import actions

    study = _named_study(arguments)
    print(f"{study.name}: {actions.hint(study, arguments.text, arguments.clear)}.")


def _stop(arguments: Arguments) -> None:
    from .control import actions

    study = _named_study(arguments)
    print(f"{study.name}: {actions.stop(study, arguments.now)}.", flush=True)
    if arguments.now:
        print("Stopped.")


def _approve(arguments: Arguments) -> None:
    from .control import actions

    study = _named_study(arguments)
    source = None if arguments.file is None else decode_source(arguments.file.read_bytes(), str(arguments.file))
    print(f"{study.name}: {actions.approve(study, source, arguments.text)}.")


def _ask(arguments: Arguments) -> int:
    from .control import verbs

    study = _named_study(arguments)
    answer = verbs.ask(study, arguments.part, tokens=arguments.tokens, timeout_seconds=arguments.timeout)
    return _print_answer(answer, arguments.json, str(answer.facts.get("prompt", "")))


def _propose(arguments: Arguments) -> int:
    from .control import verbs

    answer = verbs.propose(
        _named_study(arguments),
        decode_source(arguments.file.read_bytes(), str(arguments.file)),
        arguments.hypothesis,
        expected=arguments.expected,
        refutation=arguments.refuted_by,
        experiment=arguments.experiment,
        timeout_seconds=arguments.timeout,
    )
    return _print_answer(answer, arguments.json)


def _wait(arguments: Arguments) -> int:
    from .control import verbs

    answer = verbs.wait(_named_study(arguments), arguments.experiment, timeout_seconds=arguments.timeout)
    return _print_answer(answer, arguments.json)


def _print_answer(answer: Any, is_json: bool, text: str = "") -> int:
    """An answer of `verbs`: as JSON, or its text or message; one that is no success goes to standard error."""
    if is_json:
        print(json.dumps(answer.as_json(), indent=1))
    else:
        is_done = answer.exit_status == 0
        print(readable(text) or answer.message, end="" if text else "\n", file=sys.stdout if is_done else sys.stderr)
    return int(answer.exit_status)


def _skill(arguments: Arguments) -> None:
    from .control.skill import install_skill, skill_text

    if arguments.print:
        print(skill_text(), end="")
    else:
        print(install_skill(project_root(), arguments.agent, is_home=arguments.home, force=arguments.force))


def _mcp(arguments: Arguments) -> None:
    from .control.mcp_server import serve

    serve(arguments.name)


def _promote(arguments: Arguments) -> None:
    from .control import actions

    print(actions.promote(_named_study(arguments), arguments.force))


def _asked(arguments: Arguments, names: Iterable[str]) -> StudyOptions:
    return StudyOptions(**{name: getattr(arguments, name) for name in names})


def _named_study(arguments: Arguments) -> Study:
    project = project_root()
    left_out: list[str] = []
    study = open_study(arguments.name, project) if arguments.name else latest_study(project, left_out.append)
    for words in left_out:
        print(words, file=sys.stderr)
    if study is None:
        raise StudyError(f"There is no study in {project / 'studies'} yet. Start one with `{shell_command('run')}`.")
    return study


def _print_checks(checks: Iterable[Check], is_json: bool) -> str:
    """Each as it is found, or all of them as JSON; the worst verdict."""
    found = []
    for check in checks:
        found.append(check)
        if not is_json:
            print(table([check], is_coloured=sys.stdout.isatty()), flush=True)
    if is_json:
        print(json.dumps(as_json(found), indent=1))
    return worst(found)


@dataclass(frozen=True)
class Argument:
    """Of one command: what `argparse` takes."""

    names: tuple[str, ...]
    how: Mapping[str, Any]
    heading: str = ""  # in the command's help


@dataclass(frozen=True)
class Command:
    """One command of the program."""

    name: str
    act: Callable[[Arguments], int | None]
    help: str
    arguments: tuple[Argument, ...] = ()
    takes_others: bool = False  # options that it does not know are another program's


def _argument(*names: str, **how: Any) -> Argument:
    return Argument(names, how)


def _argument_of(option: Option) -> Argument:
    """An option of a study, for argparse."""
    is_float = option.kind is float and option.default is not None
    default = "" if option.default is None else f" (default {option.default:{'g' if is_float else ''}})"
    how: dict[str, Any] = {"dest": option.name, "help": option.help + default}
    if option.name == "approve":
        how["action"] = argparse.BooleanOptionalAction
    elif option.kind is bool:
        how |= {"action": "store_true", "default": None}
    elif option.choices:
        how["choices"] = tuple(option.choices)
    else:
        how |= {"type": lambda text: _parsed(option, text), "metavar": option.metavar}
    if option.alone is not None:
        how |= {"nargs": "?", "const": option.alone}
    return Argument((option.option,), how, "who proposes" if option.group == "who" else "")


def _of_a_measurement() -> tuple[Argument, ...]:
    helps = {"cluster": ON_A_WORKER, "slurm": IN_A_JOB}
    options = [replace(OPTIONS[name], help=helps.get(name, OPTIONS[name].help)) for name in OF_A_MEASUREMENT]
    return tuple(map(_argument_of, options))


def _parsed(option: Option, text: str) -> Any:
    try:
        value = option.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return str(Path(value).expanduser().resolve()) if option.name == "files_folder" else value


def _speed(text: str) -> float:
    """How fast a replay is, for argparse."""
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not possible: give a number above 0, as 60.")
    return speed


def _folder(text: str) -> str:
    """A path whose place does not depend on the working folder, for argparse."""
    return str(Path(text).expanduser().resolve())


def _seeds(text: str) -> int:
    """A number of seeds, for argparse."""
    if not text.isdecimal() or int(text) < LEAST_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not possible: give a whole number from {LEAST_SEEDS} on.")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="autoresearch",
        usage="autoresearch [--version] COMMAND ...",
        description="Overnight language-model research in notebooks: an agent edits train.py, val_bpb decides.",
        epilog=_table_of_commands(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"autoresearch {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True, help=argparse.SUPPRESS)
    for command in (command for group in COMMANDS.values() for command in group):
        added = commands.add_parser(command.name, description=command.help, prog=f"autoresearch {command.name}",
                                    add_help=command.name != "prepare")  # fmt: skip
        added.set_defaults(act=command.act, takes_others=command.takes_others)
        headings: dict[str, Any] = {"": added}
        for argument in command.arguments:
            if argument.heading not in headings:
                headings[argument.heading] = added.add_argument_group(argument.heading)
            headings[argument.heading].add_argument(*argument.names, **argument.how)
    return parser


def _table_of_commands() -> str:
    """As the help lists them, by what one wants to do."""
    lines = []
    for title, group in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {command.name:<10} {command.help}" for command in group)]
    return "\n".join([*lines, "", f"`{shell_command('COMMAND --help')}` lists the options of a command."]).lstrip("\n")


NAME = _argument("--name", help="of the study; default: the one touched last")
JSON = _argument("--json", action="store_true", help="for scripts")
TIMEOUT = _argument("--timeout", type=float, metavar="SECONDS", default=540.0,
                    help="to wait at most; the exit status is 7 then (default 540)")  # fmt: skip

COMMANDS: dict[str, tuple[Command, ...]] = {
    "Set up": (
        Command("new", _new, "make a folder with all that a study needs", (
            _argument("folder", type=Path, metavar="DIR", help="of the new project"),
        )),
        Command("adopt", _adopt, "make a train.py of the original autoresearch, or of a fork, one of this program's", (
            _argument("path", type=Path, metavar="PATH", help="a train.py, a notebook, or the folder of a checkout"),
            _argument("--out", type=Path, metavar="FILE", help="the new file (default train.adopted.py)"),
        )),
        Command("prepare", _prepare, "build a corpus: the options are prepare.py's", takes_others=True),
        Command("doctor", _doctor, "whether this machine is fit for a night, and what to do if not", (
            _argument("--model", metavar="NAME", help="that a study shall ask; default: $OPENAI_MODEL"),
            _argument("--with", dest="with_", nargs="?", const="all", metavar="TOOL", help="ask a command-line tool, "
                      "as claude or codex; without a name, list those that are installed"),
            _argument("--cluster", metavar="ADDRESS", help="train, score and audit on the workers of a Dask cluster "
                      "instead, or with `local` on one on this machine, about a minute and a half"), JSON,
        )),
        Command("gpu-check", _gpu_check, "measure a GPU in at most 8 minutes, and write a file to post", (
            _argument("--device", choices=DEVICES, default="auto", help="to check (default auto: the fastest one)"),
            _argument("--out", type=Path, metavar="FILE", default=Path("gpu-check.json"),
                      help="the file (default gpu-check.json)"),
        )),
        Command("kernel", _kernel, "install the Jupyter kernel `autoresearch`", (
            _argument("action", choices=("install",), help="install the kernelspec"),
            _argument("--sys-prefix", action="store_true", help="into this environment instead of your home"),
        )),
        Command("lab", _lab, "open JupyterLab in the project; other options are jupyter lab's own", takes_others=True),
    ),
    "Learn": (
        Command("lesson", _lesson, "open a lesson of the course in JupyterLab; other options are jupyter lab's own", (
            _argument("number", nargs="?", type=int, metavar="N", help="of the lesson, 1 to 6 (default: the next one)"),
        ), takes_others=True),
        Command("lessons", _lessons, "what you have solved; or execute the lessons, as a teacher does before a class", (
            _argument("numbers", nargs="*", type=int, metavar="N", help="the lessons to execute (default: all)"),
            _argument("--check", action="store_true", help="execute the lessons with their solutions"),
            _argument("--seconds", type=float, metavar="S", help="of each training while the lessons are executed"),
            _argument("--build", action="store_true", help="write the notebooks of a checkout from their sources"),
        )),
        Command("new-class", _new_class, "make a folder for a class: lessons for students and for the instructor", (
            _argument("folder", type=Path, metavar="DIR", help="a new folder"),
            _argument("--nbgrader", action="store_true", help="and a course of nbgrader, which grades the exercises"),
        )),
    ),
    "Research": (
        Command("run", _run, "start a study, or continue it where it stopped", (
            _argument("--name", help="of the study; default: today, as in nov23"),
            _argument("--detach", action="store_true", help="go on in the background, also when this terminal closes"),
            *map(_argument_of, OPTIONS.values()),
        )),
        Command("finish", _finish, "measure a study's result on the sealed test split", (
            NAME, *_of_a_measurement(),
        )),
        Command("attribute", _attribute, "which kept changes carry the gain: train without each, on fresh seeds", (
            _argument("study", nargs="?", metavar="NAME", help="the study; default: the one touched last"), NAME,
            _argument("--seeds", type=_seeds, metavar="N", help=f"of each change, at most (default {NUM_SEEDS})"),
            *_of_a_measurement(),
        )),
        Command("promote", _promote, "make a study's best train.py the project's train.py", (
            NAME, _argument("--force", action="store_true", help="also over a train.py that you have edited"),
        )),
    ),
    "Look": (
        Command("status", _status, "what a study has found so far", (NAME, JSON)),
        Command("attach", _attach, "watch a study that runs in the background; Ctrl-C leaves it running", (NAME,)),
        Command("replay", _replay, "play a recorded night again, from a study or a bundle; nothing trains", (
            _argument("recording", nargs="?", metavar="FILE|NAME", help="a bundle, the folder of a study, or its name; "
                      "default: the study touched last, else the example"),
            _argument("--speed", type=_speed, metavar="S", default=USUAL_SPEED,
                      help=f"times the study's own (default {USUAL_SPEED:g}: a minute a second)"),
            _argument("--experiment", type=int, metavar="N", help="with which to begin"),
            _argument("--quiz", action="store_true", help="stop before each verdict: keep, discard or once more?"),
        )),
        Command("cost", _cost, "what a study's model has used, experiment by experiment", (NAME, JSON)),
        Command("verify", _verify, "whether a study's record, or a shared bundle, is as it was recorded", (
            _argument("file", nargs="?", type=Path, metavar="FILE", help="a bundle: a zip, or its unpacked folder; "
                      "without it, a study of this project"),
            NAME, JSON,
        )),
        Command("rerun", _rerun, "train an experiment of a shared bundle again, and say whether its claim holds here", (
            _argument("file", type=Path, metavar="FILE", help="a bundle: a zip, or its unpacked folder"),
            _argument("--experiment", type=int, required=True, metavar="N", help="its number"),
            _argument("--seeds", type=int, default=FIRST_SEEDS, metavar="N",
                      help=f"trainings of each code before the first answer (default {FIRST_SEEDS})"),
            _argument("--most-seeds", type=int, default=MOST_SEEDS, metavar="N",
                      help=f"at most, while the answer is open (default {MOST_SEEDS})"),
            _argument("--files-folder", type=_folder, metavar="DIR",
                      help="your copy of the texts, where the corpus is a folder"),
            _argument("--yes", action="store_true", help="let the code of the bundle run without a question"),
            _argument_of(OPTIONS["unsafe"]),
        )),
        Command("share", _share, "make one file of a study, which others open, read and check without this program", (
            _argument("study", nargs="?", metavar="STUDY",
                      help="its name or its folder; default: the one touched last"),
            NAME,
            _argument("--out", type=Path, metavar="FILE", help="the file (default NAME.zip)"),
            _argument("--prompts", action=argparse.BooleanOptionalAction,
                      help="with or without the prompts and replies of its model; left out: it asks"),
            _argument("--pdf", action="store_true", help="its page as NAME.pdf, too; needs Chromium, Chrome or Edge"),
            _argument("--yes", action="store_true",
                      help="ask nothing: remove all that may be private, and leave prompts out without --prompts"),
        )),
        Command("compare", _compare, "two studies of one corpus and budget side by side, and whether they differ", (
            _argument("first", metavar="STUDY", help="a study, the folder of one, or a bundle"),
            _argument("second", metavar="STUDY", help="the other one"), JSON,
        )),
    ),
    "Steer": (
        Command("pause", _say, "begin nothing new once the present experiment is decided", (NAME,)),
        Command("resume", _say, "go on after a pause", (NAME,)),
        Command("stop", _stop, "end the study once the present experiment is decided", (
            NAME, _argument("--now", action="store_true", help="end what runs, too; it is resumed later"),
        )),
        Command("hint", _hint, "tell the agent something before its next proposal", (
            NAME,
            _argument("text", nargs="?", default="", help="what the agent should know"),
            _argument("--clear", action="store_true", help="take back the earlier hints"),
        )),
        Command("approve", _approve, "let train what waits for your approval", (
            NAME,
            _argument("file", nargs="?", type=Path, help="your train.py, instead of the one that waits"),
            _argument("--why", dest="text", default="", help="the idea in one sentence"),
        )),
        Command("reject", _say, "give back what waits for your approval; the agent reads why", (
            NAME, _argument("--why", dest="text", required=True, help="for the agent"),
        )),
    ),
    "Propose from outside": (
        Command("ask", _ask, "wait for your turn in a study with --agent human; print what a model would get", (
            NAME,
            _argument("--part", action="append", default=[], metavar="WORDS",
                      help="only parts whose heading has these words, as record; repeat it for more"),
            _argument("--tokens", type=int, metavar="N", default=24_000, help="of the prompt at most (default 24000)"),
            TIMEOUT, JSON,
        )),
        Command("propose", _propose, "hand in a train.py, and wait until it is taken or refused", (
            NAME,
            _argument("file", type=Path, metavar="FILE", help="the whole new train.py"),
            _argument("--hypothesis", required=True, help="one sentence that could turn out false"),
            _argument("--expected", default="", help="the effect on val_bpb, as \"-0.004, because ...\""),
            _argument("--refuted-by", default="", help="a result that would show that the hypothesis is wrong"),
            _argument("--experiment", type=int, metavar="N", help="the number that `ask` named; refused if it is past"),
            TIMEOUT, JSON,
        )),
        Command("wait", _wait, "wait for the verdict on what was proposed last", (
            NAME, _argument("--experiment", type=int, metavar="N", help="this one instead"), TIMEOUT, JSON,
        )),
        Command("skill", _skill, "teach a coding agent these three commands", (
            _argument("action", choices=("install",), nargs="?", default="install", help="write SKILL.md"),
            _argument("agent", nargs="?", metavar="AGENT", help="claude, codex, gemini ... of presets/skills.yaml; "
                      "default: the two folders that most agents read"),
            _argument("--home", action="store_true", help="for all projects, in your home"),
            _argument("--force", action="store_true", help="also over a skill that was edited"),
            _argument("--print", action="store_true", help="print it instead"),
        )),
        Command("mcp", _mcp, "serve a study to an agent as tools, by the Model Context Protocol on standard input", (
            NAME,
        )),
    ),
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
