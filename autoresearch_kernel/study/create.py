"""A study begins: the machine is measured, a preset chosen, the corpus prepared, study.json written.

It turns what a person asked for into a study and says what it does on the way. It runs no experiment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..agents.options import WITH_MODEL, AgentOptions, agent_options, model_chat, read_recording, refuse_unused
from ..record.history import read_state
from ..record.paths import study_paths
from ..record.study import Study, StudyError, create_study, open_study, study_names

if TYPE_CHECKING:
    from .presets import Preset

CORPORA = ("stdlib", "tinystories", "climbmix", "files")
PRESETS = ("auto", "laptop", "gpu", "h100")
DEFAULT_BUDGET_SECONDS = 300.0  # the original's five minutes


@dataclass(frozen=True)
class Settings:
    """What a person asked of a study; None where it is left to us."""

    budget: float | None = None  # training seconds a run
    corpus: str | None = None
    files_folder: str | None = None  # of the corpus `files`
    preset: str | None = None
    agent: str | None = None
    seed: int | None = None
    options: AgentOptions = field(default_factory=AgentOptions)


def _say(text: str) -> None:
    print(text, flush=True)


def start_study(name: str, project: Path, asked: Settings, say: Callable[[str], None] = _say) -> Study:
    """Choose the preset for this machine and budget, prepare the corpus, write study.json.

    Raises StudyError for what does not go together, before anything is built.
    """
    from ..record.git import open_lineage
    from ..scoring.job import ScoringSettings
    from ..source.parameters import read_parameters, set_parameters
    from .presets import choose_preset, measure_machine

    agent = asked.agent or "search"
    options = agent_options(agent, asked.options, os.environ)
    _refuse_preset(agent, asked)
    if agent in WITH_MODEL:
        options["server"] = model_chat(project, options, asked.options.max_cost).host
    open_lineage(project, name, is_new=True)  # a branch of that name is better refused now than after a minute
    recorded = open_study(options["from"], project) if agent == "replay" else None
    if recorded:
        read_recording(recorded.name, project)  # whether all of it is there
    source = recorded.train_source(0) if recorded else (project / "train.py").read_text(encoding="utf-8")
    files_folder: str | None = asked.files_folder
    budget = asked.budget or (recorded.time_budget_seconds if recorded else DEFAULT_BUDGET_SECONDS)
    say(f"Study {name}: measuring this machine ...")
    hardware = measure_machine(project, sys.executable)
    source_of = recorded or (_promoted_from(project) if asked.preset is None else None)
    if source_of is not None:
        preset = _preset_of(source_of, is_recorded=recorded is not None)
        files_folder = files_folder or source_of.facts["asked"].get("files_folder")
    else:
        preset = choose_preset(asked.preset or "auto", budget_seconds=budget, measured=hardware)
    say(f"Preset {preset.name}: {preset.reason}")
    folded = {name: value for name, value in preset.parameters.items() if name in read_parameters(source)}
    if len(folded) < len(preset.parameters):
        say(f"  train.py has no {', '.join(sorted(set(preset.parameters) - set(folded)))}; left out")
    corpus = asked.corpus or preset.corpus
    corpus_dir, heldout_dir = _build_corpus(
        project, corpus, preset.vocab_size, preset.sequence_length, files_folder, say
    )
    scoring = ScoringSettings.for_corpus(
        hardware["device"], hardware["dtype"], preset.sequence_length, preset.vocab_size
    )
    return create_study(
        name,
        project=project,
        corpus_dir=corpus_dir,
        heldout_dir=heldout_dir,
        baseline_source=set_parameters(source, folded),
        preset={"name": preset.name, "parameters": folded, "reason": preset.reason},
        agent=agent,
        agent_options=options,
        time_budget_seconds=budget,
        scoring=vars(scoring),
        hardware=hardware,
        seed=(recorded.seed if recorded else 0) if asked.seed is None else asked.seed,
        asked={
            "preset": asked.preset,
            "files_folder": files_folder,
        },
    )


def _promoted_from(project: Path) -> Study | None:
    """The study whose best train.py the project's is, one that found it before one that began with it; None without."""
    current = (project / "train.py").read_bytes()
    bests = {name: study_paths(name, project).best_train for name in study_names(project)}
    same = [
        open_study(name, project) for name, best in bests.items() if best.is_file() and best.read_bytes() == current
    ]
    return next((study for study in same if _has_kept(study)), same[0] if same else None)


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


def refuse_other_settings(study: Study, asked: Settings) -> None:
    """A study keeps what it began with; saying otherwise is an error rather than ignored."""
    if asked.agent in (None, study.agent):
        refuse_unused(study.agent, asked.options)
        _refuse_preset(study.agent, asked)
    began_with = {
        "budget": study.time_budget_seconds,
        "corpus": study.facts["corpus"]["corpus"],
        "files_folder": study.facts["asked"].get("files_folder"),
        "preset": study.facts["asked"].get("preset") or "auto",
        "agent": study.agent,
        "seed": study.seed,
    }
    options = study.facts.get("agent_options") or {}
    began_with |= {"share": options.get("share"), "from": options.get("from")}
    for option, value in began_with.items():
        wanted = asked.options.recording if option == "from" else getattr(asked, option, None)
        wanted = asked.options.share if option == "share" else wanted
        if wanted is not None and wanted != value:
            raise StudyError(
                f"Study {study.name!r} began with --{option.replace('_', '-')} {value}, not {wanted}. "
                "Leave the option out to continue it, or start another study with --name."
            )


def _refuse_preset(agent: str, asked: Settings) -> None:
    if agent == "replay" and asked.preset is not None:
        raise StudyError("--preset is not for --agent replay: it begins as the recorded study did. Leave it out.")


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
