"""Creates a study: measures the machine, chooses a preset, has the corpus prepared and writes study.json.

It says what it does on the way, and runs no experiment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..agents.model import ModelClient
from ..agents.options import WITH_SERVER, model_chat, read_recording, tool_chat
from ..core.state import HistoryDamaged
from ..record.git import open_lineage
from ..record.history import read_state
from ..record.paths import study_paths
from ..record.study import Study, StudyError, create_study, open_study, study_names
from ..run.backend import on_first_slot
from ..run.notebook import check_source
from ..source.cell import SourceError
from ..source.encoding import decode_source
from ..source.gate import check_clock
from ..source.parameters import set_parameters
from ..system.environment import UTF8
from ..system.known_speed import remember_flops
from ..system.locations import PROJECT, below_home, cache_dir
from ..system.slot import TooManySlots
from ..system.start import python_command
from ..system.steady_clock import LEAST_RATE, MOST_RATE, is_possible
from .across import measure_worker
from .baseline import baseline_parameters, preset_named
from .options import (
    OptionRefused,
    StudyOptions,
    agent_options,
    began_with,
    refuse_cluster,
    refuse_duels,
    refuse_slots,
)
from .presets import Preset, choose_preset, fit_to_corpus, measure_machine
from .server_start import require_server

say_at_once = partial(print, flush=True)


def start_study(
    name: str,
    project: Path,
    asked: StudyOptions,
    say: Callable[[str], None] = say_at_once,
    *,
    measure: Callable[[Path, str], dict[str, Any]] = measure_machine,
    build: Callable[[Path, dict[str, Any], Callable[[str], None]], tuple[Path, Path]] | None = None,
) -> Study:
    """Choose the preset for this machine and budget, prepare the corpus, write study.json.

    Args:
        measure: what measures this machine.
        build: what builds the corpus; a process that runs prepare.py when left out.

    Raises StudyError for what does not go together, before anything is built.
    """
    from ..scoring.job import ScoringSettings  # numpy

    agent = asked.value("agent")
    options = agent_options(agent, asked, os.environ)
    refuse_slots(asked)
    refuse_cluster(asked, asked.clock, asked.value("slots"))
    num_slots = asked.value("slots")
    model = _model_of(agent, project, options, asked.max_cost)
    if agent == "replay":  # which has to have all its proposals
        read_recording(options["from"], project)
    open_lineage(project, name, is_new=True)  # a branch of that name is better refused now than after a minute
    recorded = open_study(options["from"], project) if agent == "replay" else None
    source = recorded.train_source(0) if recorded else _baseline_source(project)
    budget = asked.budget or (recorded.time_budget_seconds if recorded else asked.value("budget"))
    if model is not None:  # which has to answer, before anything is measured or built
        require_server(name, model, project, say)
    where = f"the workers of {asked.cluster}" if asked.cluster else "this machine"
    say(f"Study {name}: measuring {where} ...")
    hardware = measure_worker(asked.cluster, project) if asked.cluster else _measured(project, num_slots, measure)
    clock = _clock(asked, recorded, hardware["device"])
    refuse_duels(asked, clock)
    if (
        "flops" in hardware and num_slots == 1 and not asked.cluster
    ):  # the fastest of all measurements: beside other programs this one may be too slow
        hardware["flops"] = remember_flops(hardware, hardware["flops"])
    began_as, preset = _chosen_preset(project, asked, recorded, source, budget, hardware, say)
    say(f"Preset {preset.name}: {preset.reason}")
    if clock == "steady":
        least, most = budget / MOST_RATE, budget / LEAST_RATE
        say(f"Clock: seconds of this machine's normal speed; a training takes {least:g} to {most:g} s")
    wanted = _wanted_corpus(asked, preset, began_as)
    corpus_dir, heldout_dir = (build or build_corpus)(project, wanted, say)
    preset = _fit(preset, corpus_dir, say)
    parameters = baseline_parameters(source, preset, asked.value("start"), project / "presets", say)
    text_folder = wanted["files_folder"] and below_home(wanted["files_folder"])
    device, dtype = hardware["device"], hardware["dtype"]
    scoring = ScoringSettings.for_corpus(device, dtype, preset.sequence_length, preset.vocab_size, num_slots)
    if asked.cluster:
        scoring = replace(scoring, num_threads=hardware["num_threads"])
    return create_study(
        name,
        project=project,
        corpus_dir=corpus_dir,
        heldout_dir=heldout_dir,
        baseline_source=set_parameters(source, parameters),
        preset={"name": preset.name, "parameters": parameters, "reason": preset.reason},
        agent=agent,
        agent_options=options,
        time_budget_seconds=budget,
        scoring=vars(scoring),
        hardware=hardware,
        clock=clock,
        seed=(recorded.seed if recorded else asked.value("seed")) if asked.seed is None else asked.seed,
        asked={
            "preset": asked.preset,
            "start": asked.start,
            "files_folder": text_folder,
            "text_key": wanted["text_key"],
            "slots": asked.slots,
        },
    )


def _measured(project: Path, num_slots: int, measure: Callable[[Path, str], dict[str, Any]]) -> dict[str, Any]:
    """What is known of this machine, or of one slot of it. Raises OptionRefused where it has fewer than so many."""
    try:
        with on_first_slot(num_slots):
            hardware = measure(project, sys.executable)
    except TooManySlots as error:
        raise OptionRefused("slots", str(error)) from error
    if hardware["device"] == "cpu" and num_slots > 1:
        hardware["num_cores"] = max(1, hardware["num_cores"] // num_slots)
    return hardware


def _model_of(agent: str, project: Path, options: dict[str, Any], max_cost: float | None) -> ModelClient | None:
    """The model that the agent asks, None for an agent without one; `options` get what the record says of it."""
    if agent in WITH_SERVER:  # which has to have a key, an address and a price
        server = model_chat(project, options, max_cost)
        options["server"] = server.host
        return server
    if agent == "command":
        tool = tool_chat(project, options, max_cost)
        options |= tool.facts
        return tool
    return None


def _chosen_preset(
    project: Path,
    asked: StudyOptions,
    recorded: Study | None,
    source: str,
    budget: float,
    hardware: dict[str, Any],
    say: Callable[[str], None],
) -> tuple[Study | None, Preset]:
    """The study that this one begins as, if any, and the preset: that study's, or one for this machine and budget."""
    is_chosen = asked.preset is not None or asked.value("start") != "tuned"
    began_as = recorded or (None if is_chosen else _promoted_from(project, say))
    if began_as is not None:
        return began_as, _preset_of(began_as, is_recorded=began_as is recorded)
    chosen = asked.preset or preset_named(source)
    return None, choose_preset(chosen, budget_seconds=budget, measured=hardware, folder=project / "presets")


def _clock(asked: StudyOptions, recorded: Study | None, device: str) -> str:
    """The clock that counts the budget: a steady one where that is possible, unless the user asks for something else.

    A replay has the clock of its recording, unless duels or slots need the wall clock.

    Raises OptionRefused where a user asks for a steady clock that cannot be had.
    """
    # Duels need the wall clock, and a steady clock would stop the trainings on other slots.
    needs_wall = asked.duel in ("always", "auto") or asked.value("slots") > 1 or bool(asked.cluster)
    usual = "wall" if needs_wall else recorded.clock if recorded else "steady"
    clock = "wall" if asked.cluster else asked.clock or usual
    if clock == "wall" or (device == "cpu" and is_possible()):
        return clock
    if asked.clock:
        words = (
            "--clock steady is not possible here: it needs Linux, a training on the processors, and a system that "
            "shows the processes of others. Leave it out, for the wall clock."
        )
        raise OptionRefused("clock", words)
    return "wall"


def _wanted_corpus(asked: StudyOptions, preset: Preset, began_as: Study | None) -> dict[str, Any]:
    """The arguments of `prepare.prepare`; own text as asked for, or as in the study that this one begins as."""
    corpus = asked.corpus or ("files" if asked.files_folder else preset.corpus)
    earlier = began_with(began_as) if began_as and corpus == "files" and not asked.files_folder else {}
    if asked.text_key and corpus != "files":
        raise OptionRefused("text_key", f"--text-key is for --corpus files, not for {corpus}. Leave it out.")
    return {
        "corpus": corpus,
        "vocab_size": preset.vocab_size,
        "sequence_length": preset.sequence_length,
        "files_folder": asked.files_folder or earlier.get("files_folder"),
        "text_key": asked.text_key or earlier.get("text_key"),
    }


def _baseline_source(project: Path) -> str:
    """The project's train.py. Raises StudyError when it cannot train in a study, instead of after a whole training."""
    try:
        source = decode_source((project / "train.py").read_bytes())
        check_source(source)
        check_clock(source)
    except SourceError as error:
        raise StudyError(f"No study can begin with {project / 'train.py'}: {error}") from error
    return source


def _fit(preset: Preset, corpus_dir: Path, say: Callable[[str], None]) -> Preset:
    """The preset as it suits the corpus that was built; a line where that changes it."""
    corpus = json.loads((corpus_dir / "meta.json").read_text(encoding="utf-8"))
    fitted = fit_to_corpus(preset, corpus["num_train_tokens"])
    if fitted.reason != preset.reason:
        say(f"  {fitted.reason.removeprefix(preset.reason).lstrip('; ')}")
    return fitted


def _promoted_from(project: Path, say: Callable[[str], None] = say_at_once) -> Study | None:
    """The study whose best train.py the project's is, one that found it before one that began with it; None without.

    A study that cannot be read is named in a note and left out.
    """
    current = (project / "train.py").read_bytes()
    began_with_it = None
    for name in study_names(project):
        best = study_paths(name, project).best_train
        try:
            if not best.is_file() or best.read_bytes() != current:
                continue
            study = open_study(name, project)
            incumbent = read_state(study.paths.history).incumbent
            if incumbent is not None and incumbent.number > 0:  # its best is not the one that it began with
                return study
            began_with_it = began_with_it or study
        except (StudyError, HistoryDamaged, OSError) as error:
            say(f"  Study {name} is left out: {error}")
    return began_with_it


def _preset_of(study: Study, is_recorded: bool) -> Preset:
    """For a train.py that another study made or began with: that study's corpus, and no parameters, which it has."""
    corpus = study.facts["corpus"]
    sizes = corpus["vocab_size"], corpus["sequence_length"]
    if is_recorded:
        return Preset(f"recorded in {study.name}", {}, corpus["corpus"], *sizes, f"it begins as study {study.name} did")
    reason = f"train.py is the best of study {study.name} and stays as it is"
    return Preset(f"promoted from {study.name}", {}, corpus["corpus"], *sizes, reason)


PREPARE = """
import json, sys
from autoresearch_kernel.system.explain import run_main
def main():
    import prepare
    folder = prepare.prepare(**json.loads(sys.argv[1]))
    print(json.dumps({"corpus_dir": str(folder), "heldout_dir": str(prepare.heldout_dir(folder))}))
sys.exit(run_main(main, "prepare.py"))
"""


def build_corpus(project: Path, wanted: dict[str, Any], say: Callable[[str], None]) -> tuple[Path, Path]:
    """Training side and held-out side of a corpus, built by prepare.py in a process of its own (it needs torch).

    `wanted` are arguments of `prepare.prepare`. Raises StudyError with the last words of the process.
    """
    command, last = python_command("-c", PREPARE, json.dumps(wanted)), "it said nothing"
    folders, error = None, ""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=project,
        env=os.environ | UTF8 | {PROJECT: str(project), "AUTORESEARCH_HOME": str(cache_dir())},
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                folders = json.loads(line)
            elif error or line.startswith("prepare.py: "):  # and its further lines
                error += line
            elif line.strip():
                say(line.rstrip("\n"))
                last = line.strip()
    if child.returncode != 0 or folders is None:
        raise StudyError(f"The corpus {wanted['corpus']!r} was not prepared: {error.strip() or last}")
    return Path(folders["corpus_dir"]), Path(folders["heldout_dir"])
