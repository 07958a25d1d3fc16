"""Two studies side by side: two program.md's, agents or models on the same corpus with the same budget.

Reads only. Refuses what cannot be compared, in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.contrast import Contrast, Side, contrast, found_on_test, found_on_validation
from ..core.types import FAILED, Experiment, Status
from ..core.waves import STACK
from ..record.bundle import unpacked_study
from ..record.history import read_state
from ..record.study import SHORT, Study, StudyError, open_folder, open_study, sha256
from ..system.shell import shell_command

SAME_CORPUS = ("content_sha256", "tokenizer_sha256", "heldout_sha256", "sequence_length")
NO_SETTINGS = ("from", "tool", "tool_version", "server")  # of agent_options: named by other rows, or no setting


def compare_studies(first: Study, second: Study) -> Contrast:
    """Compare two studies. Raises StudyError where their scores cannot be compared."""
    if first.paths.folder.resolve() == second.paths.folder.resolve():
        raise StudyError(f"Study {first.name!r} cannot be compared with itself. Name two studies.")
    _refuse_other_terms(first, second)
    return contrast(_side(first), _side(second))


def study_at(words: str, project: Path) -> Study:
    """A study by its name, or by the path of its folder, which may be of another project, or of a bundle."""
    folder = Path(words).expanduser()
    if folder.suffix == ".zip" and folder.is_file():
        return unpacked_study(folder)
    if len(folder.parts) == 1 and not (folder / "study.json").is_file():
        return open_study(words, project)
    return open_folder(folder)


def _refuse_other_terms(first: Study, second: Study) -> None:
    for what, values, why in _terms(first, second):
        if values[0] != values[1]:
            names = f"Studies {first.name!r} and {second.name!r}"
            raise StudyError(f"{names} cannot be compared: {what} {' and '.join(values)}, {why}.")


def _terms(first: Study, second: Study) -> Iterator[tuple[str, list[str], str]]:
    """What has to be equal: what it is, its value in both studies, and why."""
    corpora = [study.facts["corpus"] for study in (first, second)]
    is_same = all(corpora[0].get(key) == corpora[1].get(key) for key in SAME_CORPUS)
    named = ["" if is_same else _corpus_words(corpus, other) for corpus, other in (corpora, corpora[::-1])]
    yield "their corpora are", named, "and scores on different corpora are never compared"
    budgets = [f"{study.time_budget_seconds:g} s" for study in (first, second)]
    yield "a run trains for", budgets, "and a longer training has a better score"
    clocks = [study.clock for study in (first, second)]
    yield "their budgets are counted by the clocks", clocks, "so their trainings are not equally long"
    hashes = [str((study.facts.get("sha256") or {}).get("prepare.py") or "")[:SHORT] for study in (first, second)]
    yield "their prepare.py differ,", hashes, "and prepare.py fixes how a model is trained and scored"


def _corpus_words(corpus: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """A corpus by what tells it from the other one."""
    sizes = f"{corpus.get('corpus')} (vocabulary {corpus.get('vocab_size')}, rows of {corpus.get('sequence_length')}"
    if all(corpus.get(key) == other.get(key) for key in ("corpus", "vocab_size", "sequence_length")):
        return f"{sizes}, fingerprint {sha256(repr([corpus.get(key) for key in SAME_CORPUS]))[:SHORT]})"
    return f"{sizes})"


def _side(study: Study) -> Side:
    state = read_state(study.paths.history)
    tried = [e for e in state.decided if e.number > 0]
    champion = state.incumbent
    if champion is None:
        raise StudyError(
            f"Study {study.name!r} has no baseline yet, so there is nothing to compare. "
            f"`{shell_command(f'run --name {study.name}')}` goes on with it."
        )
    return Side(
        study.name,
        champion.number,
        len(tried),
        sum(e.status is Status.KEEP for e in tried),
        sum(e.status in FAILED for e in tried),
        state.spent,
        state.experiments[0].train_sha256,
        found_on_test(state),
        found_on_validation(state),
        _settings(study, tried),
        _program(study),
    )


def _settings(study: Study, tried: Sequence[Experiment]) -> dict[str, str]:
    """What a user or a machine may have set otherwise in another study, by its name, in a few words each.

    The agent, its model and its tool are those that proposed: a user may continue a study with others.
    """
    facts, asked = study.facts, study.facts.get("asked") or {}
    options = {k: v for k, v in (facts.get("agent_options") or {}).items() if k not in NO_SETTINGS}
    found = {"agent": study.agent} | options
    found |= {name: (facts.get("agent_options") or {}).get(name) for name in ("tool_version", "server")}
    used = {"agent": [e.agent for e in tried if e.agent != STACK]}
    used |= {name: [str(e.details[name]) for e in tried if e.details.get(name)] for name in ("model", "tool_version")}
    found |= {name: ", then ".join(dict.fromkeys(values)) for name, values in used.items() if values}
    found |= {"program.md": _short(_program_sha256(study)), "start": asked.get("start"), "seed": study.seed}
    preset = facts.get("preset") or {}
    found |= {"preset": preset.get("name")} | dict(preset.get("parameters") or {})
    hardware = facts.get("hardware") or {}
    found |= {name: hardware.get(name) for name in ("device", "device_name", "num_cores", "memory_mb")}
    found |= {f"scoring {name}": value for name, value in (facts.get("scoring") or {}).items()}
    found |= {f"version of {name}": value for name, value in (facts.get("versions") or {}).items()}
    return {name: str(value) for name, value in found.items() if value is not None}


def _short(digest: str) -> str | None:
    return digest[:SHORT] or None


def _program(study: Study) -> str | None:
    """program.md as the agent last got it; the project's, where that is still the one that the study began with."""
    if study.paths.program.is_file():
        return study.paths.program.read_text(encoding="utf-8", errors="replace")
    now = study.project / "program.md"
    if now.is_file() and sha256(now.read_bytes()) == (study.facts.get("sha256") or {}).get("program.md"):
        return now.read_text(encoding="utf-8", errors="replace")
    return None


def _program_sha256(study: Study) -> str:
    """Of program.md as the agent last got it; as the study began where the text is not kept."""
    text = _program(study)
    if text is not None:
        return sha256(text)
    return str((study.facts.get("sha256") or {}).get("program.md") or "")
