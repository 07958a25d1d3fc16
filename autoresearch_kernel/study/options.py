"""The options of a study, each declared once: type, help, choices, bounds, and what it goes with.

The arguments of `autoresearch run`, the fields of the panel's form, the keywords of `start_study`, the command that
starts a supervisor and the refusal of what is wrong are made from `OPTIONS`. This module starts and builds nothing.

    StudyError
      SettingsRefused    values that cannot be, by the option's name
      OptionRefused      options that do not go together
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..agents.options import WITH_MODEL, WITH_SERVER, make_agent
from ..core.agent import Agent
from ..core.duel import DuelMode
from ..core.state import StudyState
from ..core.types import Limits
from ..record.study import Study, StudyError
from ..run.slurm_jobs import SlurmJobs, read_jobs

AGENT_CHOICES = {
    "search": "built in, no key needed",
    "llm": "a language model",
    "hybrid": "both, in turns",
    "command": "a coding agent of yours",
    "replay": "another study once more",
    "human": "you",
}
CORPUS_CHOICES = {
    "packages": "built in, 90 MB",
    "stdlib": "built in, 8 MB",
    "tinystories": "a download",
    "climbmix": "for a GPU, a download",
    "files": "a folder of yours",
}
CLOCK_CHOICES = {
    "wall": "as they pass",
    "steady": "at this machine's normal speed, 0.7 to 1.5 as many as pass",
}
PRESETS = ("auto", "laptop", "gpu", "h100", "none")
START_CHOICES = {"tuned": "train.py as it is", "plain": "a plain GPT to improve"}
QUIET_MINUTES = 30.0  # that a study waits for a quieter machine, where the user asks for it and names no number
NOT_REPLAY = tuple(agent for agent in AGENT_CHOICES if agent != "replay")


class SettingsRefused(StudyError):
    """Values with which no study can run; `problems` says of each option, by its name, what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{name}: {words}" for name, words in problems.items()))
        self.problems = dict(problems)


class OptionRefused(StudyError):
    """Options that do not go together; `option` is the name of the one to change."""

    def __init__(self, option: str, words: str) -> None:
        super().__init__(words)
        self.option = option


@dataclass(frozen=True)
class Option:
    """One option of a study; its name is the field's in `StudyOptions`."""

    kind: type[str] | type[int] | type[float] | type[bool]
    help: str
    group: Literal["how", "who"] = "how"  # heading in the help of `run`, and column of the form
    default: Any = None  # what None means
    name: str = ""
    flag: str = ""  # on the command line, where it is not the name
    metavar: str | None = None
    unit: str = ""  # what to give, for messages
    above: float = 0  # numbers have to be greater than this ...
    most: float = math.inf  # ... and at most this
    choices: Mapping[str, str] = field(default_factory=dict)  # each with a few words
    goes_with: tuple[str, tuple[str, ...]] | None = None  # another option and those of its values that use this one
    why_not: str = ""  # why the other values of that option do not use it
    is_fixed: bool = False  # a study keeps what it began with; otherwise each supervisor is told anew
    is_kept: bool = False  # a file of the study holds it, so no supervisor is told
    label: str = ""  # in the panel's form; without one the form has no such field
    placeholder: str = ""  # what an empty field of the form means
    in_form: str = ""  # what the form begins with
    alone: Any = None  # on the command line: what the option means without a value; None where it needs one

    def wrong(self, value: Any) -> str:
        """Why the option cannot have this value; "" when it can."""
        if self.choices:
            return "" if value in self.choices else f"There is no {value!r}. Choose one of {', '.join(self.choices)}."
        kinds = {float: (int, float), str: (str, Path)}.get(self.kind, (self.kind,))
        is_kind = isinstance(value, kinds) and (self.kind is bool or not isinstance(value, bool))
        if is_kind and (self.kind in (str, bool) or (self.above < value <= self.most and value < math.inf)):
            return ""
        return f"{value!r} is not possible: give {self._wanted()}, or leave it out."

    def _wanted(self) -> str:
        if self.kind in (str, bool):
            return self.unit or "True or False"
        number = "a whole number" if self.kind is int else "a number"
        bounds = f"above {self.above:g}" if self.above >= 0 else f"from {self.above + 1:g} on"
        bounds += f", at most {self.most:g}" if self.most < math.inf else ""
        return f"{self.unit}, {number} {bounds}" if self.unit else f"{number} {bounds}"

    def parse(self, text: str) -> Any:
        """The value that a user typed. Raises ValueError saying what is wrong with it."""
        value: Any = text.strip()
        if self.kind in (int, float):
            with suppress(ValueError):
                value = self.kind(value.replace(",", ".") if self.kind is float else value)
        if wrong := self.wrong(value):
            raise ValueError(wrong)
        return value

    @property
    def option(self) -> str:
        """As it is typed on the command line."""
        return f"--{self.flag or self.name.replace('_', '-')}"


def _option(kind: type[Any], help: str, **others: Any) -> Any:
    return field(default=None, metadata={"option": Option(kind, help, **others)})


_OF_MODELS: Any = {"group": "who", "goes_with": ("agent", WITH_MODEL)}


@dataclass(frozen=True)
class StudyOptions:
    """What a user asked of a study; None where it is left to the program, or to what the study began with."""

    budget: float | None = _option(
        float, "training seconds a run", unit="seconds", metavar="SECONDS", default=300.0, is_fixed=True,
        label="Seconds a run", in_form="60",
    )  # fmt: skip
    hours: float | None = _option(
        float, "propose nothing after H hours", unit="hours", metavar="H",
        label="Hours", placeholder="no end", in_form="8",
    )  # fmt: skip
    slot_hours: float | None = _option(
        float, "propose nothing after H hours of all slots together", unit="hours", metavar="H"
    )
    experiments: int | None = _option(
        int, "stop after N more experiments", metavar="N", label="Experiments", placeholder="no limit"
    )
    corpus: str | None = _option(
        str, "default: the preset's, packages without a GPU", choices=CORPUS_CHOICES, is_fixed=True,
        label="Corpus", placeholder="as the preset says",
    )  # fmt: skip
    files_folder: str | None = _option(
        str, "with --corpus files: the folder with your texts, or one file", unit="a folder", metavar="DIR",
        is_fixed=True, goes_with=("corpus", ("files",)), label="Folder", placeholder="with your texts",
    )  # fmt: skip
    text_key: str | None = _option(
        str, "with --corpus files: the key of JSON lines, or Parquet column, with the text; default: text",
        unit="a key", metavar="KEY", is_fixed=True, goes_with=("corpus", ("files",)),
    )  # fmt: skip
    preset: str | None = _option(
        str, "sizes of the baseline; auto measures this machine, none keeps train.py's",
        choices=dict.fromkeys(PRESETS, ""), default="auto", is_fixed=True, goes_with=("agent", NOT_REPLAY),
        why_not="it begins as the recorded study did", label="Preset", placeholder="auto",
    )  # fmt: skip
    start: str | None = _option(
        str, "tuned: train.py as it is; plain: a plain GPT, which published ideas improve", choices=START_CHOICES,
        default="tuned", is_fixed=True, goes_with=("agent", NOT_REPLAY), why_not="it begins as the recorded study did",
        label="Start", placeholder="tuned",
    )  # fmt: skip
    seed: int | None = _option(int, "of the study", above=-1, default=0, is_fixed=True)
    clock: str | None = _option(
        str, "how the seconds of the budget are counted; default: steady on the processors of Linux, else wall",
        choices=CLOCK_CHOICES, is_fixed=True,
    )  # fmt: skip
    slots: int | None = _option(
        int, "trainings at the same time, each with a GPU or a share of the processors of its own", metavar="N",
        default=1, is_fixed=True,
    )  # fmt: skip
    cluster: str | None = _option(
        str, "train on all workers of a Dask cluster at the same time: the address of its scheduler, as "
        "tcp://host:8786; local starts one worker on this machine, to try it", metavar="ADDRESS",
        unit="the address of a Dask scheduler",
    )  # fmt: skip
    slurm: str | None = _option(
        str, "let Slurm start the workers: options of sbatch and how many jobs, as partition=gpu,gres=gpu:1,count=8",
        metavar="JOBS", unit="options of sbatch with a count, as partition=gpu,gres=gpu:1,count=8",
    )  # fmt: skip
    wait_for_quiet: float | None = _option(
        float, "before a training, wait while other processes keep the machine busy, MINUTES in all at most; "
        f"without a number {QUIET_MINUTES:g}", unit="minutes", metavar="MINUTES", alone=QUIET_MINUTES,
        label="Wait for quiet", placeholder="minutes; empty: no wait",
    )  # fmt: skip
    duel: DuelMode | None = _option(  # noqa: RUF009
        str, "train a confirmation in turns with the incumbent, so that both meet the same machine; auto: where the "
        "machine's speed wanders; default: never; the study keeps to it until another is named",
        choices={"auto": "where it pays", "always": "every confirmation", "never": "none"},
    )  # fmt: skip
    notify: str | None = _option(
        str, "run COMMAND, with the news as JSON on standard input, when a record is set, the study pauses or ends, "
        "the machine drifts or your approval is wanted; the study keeps to it; none: no more notices",
        unit="a command", metavar="COMMAND", is_kept=True, label="Notify", placeholder="a command; empty: no notices",
    )  # fmt: skip
    unsafe: bool | None = _option(
        bool, "run without a sandbox, where there is none to be had: every result is marked untrusted"
    )
    agent: str | None = _option(
        str, "who proposes; search is the embedded optimiser", group="who", choices=AGENT_CHOICES, default="search",
        is_fixed=True, label="Agent",
    )  # fmt: skip
    with_: str | None = _option(
        str, "with --agent command: claude, codex, gemini or another name in presets/agents.yaml, or a command line",
        flag="with", metavar="TOOL", unit="a name in presets/agents.yaml or a command line", group="who",
        goes_with=("agent", ("command",)), label="Tool", placeholder="claude, codex, ... or a command line",
    )  # fmt: skip
    model: str | None = _option(
        str, "the model, by its server's or tool's name for it; default with llm and hybrid: $OPENAI_MODEL",
        unit="the name by which its server knows it", label="Model", placeholder="its server's name for it",
        **_OF_MODELS,
    )  # fmt: skip
    share: float | None = _option(
        float, "with --agent hybrid: of experiments that are the model's", unit="a share", most=1, default=0.3,
        is_fixed=True, group="who", goes_with=("agent", ("hybrid",)),
    )  # fmt: skip
    recording: str | None = _option(
        str, "with --agent replay: whose proposals", flag="from", metavar="STUDY", unit="the name of a study",
        is_fixed=True, group="who", goes_with=("agent", ("replay",)),
        label="From study", placeholder="name of the study to repeat",
    )  # fmt: skip
    max_tokens: int | None = _option(
        int, "end the study before its model has used more, in and out", metavar="N", **_OF_MODELS
    )
    max_cost: float | None = _option(
        float, "end the study before its model has cost more", metavar="USD", unit="US dollars",
        label="At most, $", placeholder="no limit", **_OF_MODELS,
    )  # fmt: skip
    max_calls: int | None = _option(
        int, "end the study after N calls of its model", metavar="N", label="Calls", placeholder="no limit",
        **_OF_MODELS,
    )  # fmt: skip
    prompt_tokens: int | None = _option(
        int, "at most, of a prompt to the model", metavar="N", default=32_000, **_OF_MODELS
    )
    reply_tokens: int | None = _option(
        int, "at most, of a reply of the model, its thoughts included", above=255, metavar="N", default=16_000,
        **_OF_MODELS,
    )  # fmt: skip
    approve: bool | None = _option(
        bool, "train nothing that you have not approved; the study keeps to it until --no-approve", group="who",
        label="I approve each change before it trains",
    )  # fmt: skip

    def value(self, name: str) -> Any:
        """What was asked, or else the default."""
        asked = getattr(self, name)
        return OPTIONS[name].default if asked is None else asked


OPTIONS: dict[str, Option] = {f.name: replace(f.metadata["option"], name=f.name) for f in fields(StudyOptions)}
# Keywords of `start_study`: what a study is, and what its agent needs; how long it goes on is another matter.
OF_A_NEW_STUDY = tuple(name for name, option in OPTIONS.items() if option.is_fixed or option.goes_with)


def options_of(given: Mapping[str, Any], known: Iterable[str] = tuple(OPTIONS)) -> StudyOptions:
    """What a user asked for by name. Raises StudyError for a name that is not among the `known`."""
    if unknown := sorted(set(given) - set(known)):
        raise StudyError(f"There is no setting {unknown[0]!r}. Known are {', '.join(sorted(known))}.")
    return StudyOptions(**given)


def wrong_values(given: Mapping[str, Any]) -> dict[str, str]:
    """Which options have a value that they cannot have, and why, by name; nothing else is looked at."""
    named = {name: value for name, value in given.items() if name in OPTIONS and value is not None}
    return {name: wrong for name, value in named.items() if (wrong := OPTIONS[name].wrong(value))}


def refuse_unused(asked: StudyOptions, agent: str) -> None:
    """Raise OptionRefused for options that the agent, or the corpus that is asked for, would ignore."""
    chosen = {"agent": agent, "corpus": asked.corpus}
    given = [option for name, option in OPTIONS.items() if option.goes_with and getattr(asked, name) is not None]
    for first in given:
        assert first.goes_with is not None
        other, values = first.goes_with
        value = chosen[other]
        if value is None or value in values:
            continue
        if first.why_not:
            words = f"{first.option} is not for {OPTIONS[other].option} {value}: {first.why_not}. Leave it out."
            raise OptionRefused(other, words)
        names = [option.option for option in given if option.goes_with == first.goes_with]
        verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
        raise OptionRefused(
            other,
            f"{' and '.join(names)} {verb} for {OPTIONS[other].option} {' or '.join(values)}, not for {value}. Leave "
            f"{them} out, or choose another {other} for a new study.",
        )


def refuse_duels(asked: StudyOptions, clock: str) -> None:
    """Raise OptionRefused where each confirmation is to be a duel, in a study that has none because of its clock."""
    if asked.duel == "always" and clock == "steady":
        words = "--duel always is for studies with --clock wall, not with steady. Leave it out, or begin a new study."
        raise OptionRefused("duel", words)


def refuse_slots(asked: StudyOptions) -> None:
    """Raise OptionRefused for what needs the whole machine, in a study whose machine is divided."""
    if asked.value("slots") == 1:
        return
    if asked.clock == "steady":
        words = "--clock steady stops what else trains, so it is not for --slots above 1. Leave it out, or --slots."
        raise OptionRefused("clock", words)
    if asked.duel in ("always", "auto"):
        words = "A duel needs the whole machine, so --duel is not for --slots above 1. Leave it out, or --slots."
        raise OptionRefused("duel", words)
    if asked.agent == "human":
        words = (
            "--agent human prepares one train.py at a time, so it is not for --slots above 1. Leave one of them out."
        )
        raise OptionRefused("slots", words)


def refuse_cluster(asked: StudyOptions, clock: str | None, num_slots: int, study: str = "") -> None:
    """Raise OptionRefused for what a cluster of workers cannot do.

    Args:
        clock, num_slots: those that are asked for, or those that the study began with.
        study: the name of a study that has begun; "" for a new one.
    """
    option = "slurm" if asked.slurm else "cluster"
    if not getattr(asked, option):
        return
    if study and (clock == "steady" or num_slots > 1):
        began, why = (
            ("clock steady", "counts on this machine")
            if clock == "steady"
            else (f"slots {num_slots}", "divides this machine")
        )
        words = f"Study {study!r} began with --{began}, which {why}, so it goes on without --{option} only."
        raise OptionRefused(option, f"{words} Leave --{option} out.")
    if clock == "steady":
        words = f"--clock steady counts on this machine, so it is not for --{option}. Leave one of them out."
        raise OptionRefused("clock", words)
    if asked.duel in ("always", "auto"):
        words = (
            f"A duel needs one machine for both of its sides, so --duel is not for --{option}. Leave one of them out."
        )
        raise OptionRefused("duel", words)
    if num_slots > 1:
        words = f"--slots divides this machine, and a cluster has its own slots. Leave --slots or --{option} out."
        raise OptionRefused("slots", words)
    if asked.agent == "human":
        words = f"--agent human prepares one train.py at a time, so it is not for --{option}. Leave one of them out."
        raise OptionRefused(option, words)


def slurm_jobs(asked: StudyOptions, is_detached: bool) -> SlurmJobs | None:
    """The jobs that a user asks of Slurm; None for none. Raises OptionRefused before anything is submitted."""
    if asked.slurm is None:
        return None
    if asked.cluster is not None:
        words = "--slurm starts workers, and --cluster names others. Leave one of them out."
        raise OptionRefused("slurm", words)
    refuse_detached_workers("slurm", is_detached)
    try:
        return read_jobs(asked.slurm)
    except ValueError as error:
        raise OptionRefused("slurm", f"--slurm {asked.slurm}: {error}") from error


def refuse_detached_workers(option: str, is_detached: bool) -> None:
    """Raise OptionRefused for a command in the background whose workers end with the command that starts them."""
    if is_detached:
        words = (
            f"The workers of --{option} end with the command that starts them, so it is not for --detach. Leave "
            "--detach out, and start the command in `tmux` or with `nohup`, which keep it when the terminal closes."
        )
        raise OptionRefused(option.partition(" ")[0], words)


def agent_options(agent: str, asked: StudyOptions, environment: Mapping[str, str]) -> dict[str, Any]:
    """What study.json keeps of an agent. Raises OptionRefused for what does not go together or is missing."""
    refuse_unused(asked, agent)
    sizes = {name: asked.value(name) for name in ("prompt_tokens", "reply_tokens")}
    if agent == "command":
        if not asked.with_:
            words = "--agent command needs --with TOOL: claude, codex, a name in presets/agents.yaml, or a command."
            raise OptionRefused("with_", words)
        return {"with": asked.with_, "model": asked.model} | sizes
    if agent in WITH_SERVER:
        model = asked.model or environment.get("OPENAI_MODEL")
        if not model:
            words = f"--agent {agent} needs --model NAME: the name by which its server knows it."
            raise OptionRefused("model", words)
        return {"model": model} | sizes | ({"share": asked.value("share")} if agent == "hybrid" else {})
    if agent == "replay" and asked.recording is None:
        words = "--agent replay needs --from STUDY: the study whose proposals are made once more."
        raise OptionRefused("recording", words)
    return {"from": asked.recording} if asked.recording else {}


def began_with(study: Study) -> dict[str, Any]:
    """What a study keeps, by the option's name."""
    options, folder = study.facts.get("agent_options") or {}, study.facts["asked"].get("files_folder")
    return {
        "budget": study.time_budget_seconds,
        "corpus": study.facts["corpus"]["corpus"],
        "files_folder": os.path.expanduser(folder) if folder else None,
        "text_key": study.facts["asked"].get("text_key"),
        "preset": study.facts["asked"].get("preset") or "auto",
        "start": study.facts["asked"].get("start") or "tuned",
        "seed": study.seed,
        "clock": study.clock,
        "slots": study.num_slots,
        "agent": study.agent,
        "share": options.get("share"),
        "recording": options.get("from"),
    }


def refuse_other_settings(study: Study, asked: StudyOptions) -> None:
    """Raise OptionRefused where a user names another value than the study began with."""
    if asked.agent in (None, study.agent):
        refuse_unused(asked, study.agent)
    refuse_duels(asked, study.clock)
    refuse_cluster(asked, study.clock, study.num_slots, study.name)
    refuse_slots(replace(asked, slots=study.num_slots))
    for name, value in began_with(study).items():
        wanted = getattr(asked, name)
        if wanted is not None and wanted != value:
            raise OptionRefused(
                name,
                f"Study {study.name!r} began with {OPTIONS[name].option} {value}, not {wanted}. "
                "Leave the option out to continue it, or start another study with --name.",
            )


def supervisor_words(asked: StudyOptions) -> list[str]:
    """As options of `autoresearch run`, for a study that exists: what it does not keep itself."""
    words = []
    for name, option in OPTIONS.items():
        value = getattr(asked, name)
        if value is None or option.is_fixed or option.is_kept:
            continue
        if option.kind is not bool:
            words += [option.option, str(value)]
        elif value:
            words.append(option.option)
        elif name == "approve":
            words.append("--no-approve")
    return words


def limits_of(state: StudyState, asked: StudyOptions) -> Limits:
    """What the study may spend: what is asked now, else what it has."""
    known = state.limits
    return Limits(
        asked.max_tokens or known.max_tokens, asked.max_cost or known.max_cost, asked.max_calls or known.max_calls
    )


def agent_of(study: Study, asked: StudyOptions, limits: Limits) -> Agent:
    """The study's agent, with the model and the sizes of prompt and reply that are asked for."""
    sizes = {"prompt_tokens": asked.prompt_tokens, "reply_tokens": asked.reply_tokens}
    return make_agent(study, model=asked.model, with_=asked.with_, max_cost=limits.max_cost, **sizes)
