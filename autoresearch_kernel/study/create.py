"""Creates a study: measures the machine, chooses a preset, has the corpus prepared and writes study.json.

It says what it does on the way, and runs no experiment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..agents.options import WITH_MODEL, model_chat, read_recording
from ..core.state import HistoryDamaged
from ..record.git import open_lineage
from ..record.history import read_state
from ..record.paths import study_paths
from ..record.study import Study, StudyError, create_study, open_study, study_names
from ..source.parameters import read_parameters, set_parameters
from ..system.locations import require_cache
from .options import StudyOptions, agent_options
from .presets import Preset, choose_preset, measure_machine

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
    if agent in WITH_MODEL:  # which has to have a key, an address and a price
        options["server"] = model_chat(project, options, asked.max_cost).host
    if agent == "replay":  # which has to have all its proposals
        read_recording(options["from"], project)
    require_cache()
    open_lineage(project, name, is_new=True)  # a branch of that name is better refused now than after a minute
    recorded = open_study(options["from"], project) if agent == "replay" else None
    source = recorded.train_source(0) if recorded else (project / "train.py").read_text(encoding="utf-8")
    budget = asked.budget or (recorded.time_budget_seconds if recorded else asked.value("budget"))
    say(f"Study {name}: measuring this machine ...")
    hardware = measure(project, sys.executable)
    began_as = recorded or (_promoted_from(project, say) if asked.preset is None else None)
    if began_as is None:
        folder = project / "presets"
        preset = choose_preset(asked.value("preset"), budget_seconds=budget, measured=hardware, folder=folder)
    else:
        preset = _preset_of(began_as, is_recorded=began_as is recorded)
    say(f"Preset {preset.name}: {preset.reason}")
    parameters = _known_parameters(source, preset, say)
    files_folder = asked.files_folder or (began_as.facts["asked"].get("files_folder") if began_as else None)
    wanted = {
        "corpus": asked.corpus or preset.corpus,
        "vocab_size": preset.vocab_size,
        "sequence_length": preset.sequence_length,
        "files_folder": files_folder,
    }
    corpus_dir, heldout_dir = (build or _build_corpus)(project, wanted, say)
    device, dtype = hardware["device"], hardware["dtype"]
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
        scoring=vars(ScoringSettings.for_corpus(device, dtype, preset.sequence_length, preset.vocab_size)),
        hardware=hardware,
        seed=(recorded.seed if recorded else asked.value("seed")) if asked.seed is None else asked.seed,
        asked={"preset": asked.preset, "files_folder": files_folder},
    )


def _known_parameters(source: str, preset: Preset, say: Callable[[str], None]) -> dict[str, Any]:
    """The preset's values of the parameters that train.py has."""
    known = {name: value for name, value in preset.parameters.items() if name in read_parameters(source)}
    if len(known) < len(preset.parameters):
        say(f"  train.py has no {', '.join(sorted(set(preset.parameters) - set(known)))}; left out")
    return known


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
import json, sys, prepare
try:
    folder = prepare.prepare(**json.loads(sys.argv[1]))
except prepare.PrepareError as error:
    sys.exit(f"prepare.py: {error}")
except KeyboardInterrupt:
    sys.exit(130)
print(json.dumps({"corpus_dir": str(folder), "heldout_dir": str(prepare.heldout_dir(folder))}))
"""


def _build_corpus(project: Path, wanted: dict[str, Any], say: Callable[[str], None]) -> tuple[Path, Path]:
    """Training side and held-out side of a corpus, built by prepare.py in a process of its own (it needs torch)."""
    command = [sys.executable, "-c", PREPARE, json.dumps(wanted)]
    folders, last = None, "it said nothing"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=project
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                folders = json.loads(line)
            elif line.strip():
                last = line.strip()
                say(line.rstrip("\n"))
    if child.returncode != 0 or folders is None:
        raise StudyError(f"The corpus {wanted['corpus']!r} was not prepared: {last}")
    return Path(folders["corpus_dir"]), Path(folders["heldout_dir"])
