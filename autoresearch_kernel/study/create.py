"""Creates a study: measures the machine, chooses a preset, has the corpus prepared and writes study.json.

It says what it does on the way, and runs no experiment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..agents.options import WITH_MODEL, model_chat, read_recording
from ..core.state import HistoryDamaged
from ..record.history import read_state
from ..record.paths import study_paths
from ..record.study import Study, StudyError, create_study, open_study, study_names
from ..system.locations import require_cache
from .options import StudyOptions, agent_options

if TYPE_CHECKING:
    from .presets import Preset


def _say(text: str) -> None:
    print(text, flush=True)


def start_study(name: str, project: Path, asked: StudyOptions, say: Callable[[str], None] = _say) -> Study:
    """Choose the preset for this machine and budget, prepare the corpus, write study.json.

    Raises StudyError for what does not go together, before anything is built.
    """
    from ..record.git import open_lineage
    from ..scoring.job import ScoringSettings
    from ..source.parameters import set_parameters
    from .presets import measure_machine

    agent = asked.value("agent")
    options = _checked_options(agent, project, asked)
    require_cache()
    open_lineage(project, name, is_new=True)  # a branch of that name is better refused now than after a minute
    recorded = _recorded(options["from"], project) if agent == "replay" else None
    source = recorded.train_source(0) if recorded else (project / "train.py").read_text(encoding="utf-8")
    budget = asked.budget or (recorded.time_budget_seconds if recorded else asked.value("budget"))
    say(f"Study {name}: measuring this machine ...")
    hardware = measure_machine(project, sys.executable)
    began_as = recorded or (_promoted_from(project, say) if asked.preset is None else None)
    preset = _preset(project, asked, began_as, is_recorded=recorded is not None, budget=budget, hardware=hardware)
    say(f"Preset {preset.name}: {preset.reason}")
    parameters = _known_parameters(source, preset, say)
    folder = asked.files_folder or (began_as.facts["asked"].get("files_folder") if began_as else None)
    sizes = preset.vocab_size, preset.sequence_length
    corpus_dir, heldout_dir = _build_corpus(project, asked.corpus or preset.corpus, *sizes, folder, say)
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
        scoring=vars(ScoringSettings.for_corpus(hardware["device"], hardware["dtype"], *reversed(sizes))),
        hardware=hardware,
        seed=(recorded.seed if recorded else asked.value("seed")) if asked.seed is None else asked.seed,
        asked={"preset": asked.preset, "files_folder": folder},
    )


def _checked_options(agent: str, project: Path, asked: StudyOptions) -> dict[str, Any]:
    """What study.json keeps of the agent, once its model is known to have a key, an address and a price."""
    options = agent_options(agent, asked, os.environ)
    if agent in WITH_MODEL:
        options["server"] = model_chat(project, options, asked.max_cost).host
    return options


def _recorded(name: str, project: Path) -> Study:
    """The study to replay. Raises StudyError when one of its proposals is gone."""
    read_recording(name, project)
    return open_study(name, project)


def _known_parameters(source: str, preset: Preset, say: Callable[[str], None]) -> dict[str, Any]:
    """The preset's values of the parameters that train.py has."""
    from ..source.parameters import read_parameters

    known = {name: value for name, value in preset.parameters.items() if name in read_parameters(source)}
    if len(known) < len(preset.parameters):
        say(f"  train.py has no {', '.join(sorted(set(preset.parameters) - set(known)))}; left out")
    return known


def _preset(
    project: Path, asked: StudyOptions, began_as: Study | None, *, is_recorded: bool, budget: float, hardware: Any
) -> Preset:
    from .presets import choose_preset

    if began_as is not None:
        return _preset_of(began_as, is_recorded)
    folder = project / "presets"
    return choose_preset(
        asked.value("preset"),
        budget_seconds=budget,
        measured=hardware,
        folder=folder if folder.is_dir() else None,
    )


def _promoted_from(project: Path, say: Callable[[str], None] = _say) -> Study | None:
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
            if _has_kept(study):
                return study
            began_with_it = began_with_it or study
        except (StudyError, HistoryDamaged, OSError) as error:
            say(f"  Study {name} is left out: {error}")
    return began_with_it


def _has_kept(study: Study) -> bool:
    """Whether its best train.py is not the one that it began with."""
    incumbent = read_state(study.paths.history).incumbent
    return incumbent is not None and incumbent.number > 0


def _preset_of(study: Study, is_recorded: bool) -> Preset:
    """For a train.py that another study made or began with: that study's corpus, and no parameters, which it has."""
    from .presets import Preset

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


def _build_corpus(
    project: Path,
    corpus: str,
    vocab_size: int,
    sequence_length: int,
    files_folder: str | None,
    say: Callable[[str], None],
) -> tuple[Path, Path]:
    """Training side and held-out side of a corpus, built by prepare.py in a process of its own (it needs torch)."""
    wanted: dict[str, Any] = {"corpus": corpus, "vocab_size": vocab_size, "sequence_length": sequence_length}
    if files_folder is not None:
        wanted["files_folder"] = files_folder
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
        raise StudyError(f"The corpus {corpus!r} was not prepared: {last}")
    return Path(folders["corpus_dir"]), Path(folders["heldout_dir"])
