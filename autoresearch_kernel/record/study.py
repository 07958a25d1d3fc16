"""What is fixed at the start of a study, and the check that it still holds: study.json.

It owns the facts that make results comparable. It never measures, trains or decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..core.duel import PRIOR_SPEED
from ..core.errors import Plain
from ..core.version import __version__
from ..system.corpus_command import corpus_command
from ..system.explain import explain
from ..system.files import ensure_folder, take_lock, utc_now, write_atomic
from ..system.locations import DEVICE, DTYPE, below_home, cache_dir
from ..system.shell import shell_command
from ..system.steady_clock import LEAST_RATE
from .paths import ExperimentPaths, StudyPaths, study_paths

REQUIRED: dict[str, type | tuple[type, ...]] = {  # what study.json has to hold, of which types
    "agent": str, "asked": dict, "corpus": dict, "corpus_dir": str, "hardware": dict, "heldout_dir": str,
    "scoring": dict, "seed": int, "sha256": dict, "time_budget_seconds": (int, float),
}  # fmt: skip
FIXED_FILES = ("prepare.py", "program.md")
SMALL_FILES = ("tokenizer.tiktoken", "token_bytes.npy")  # of the training side; looked at whenever a study goes on
CORPUS_FILES = (*SMALL_FILES, "train.bin", "dev.bin")
SHORT = 8  # digits of a hash that a person is shown
RECORDED_PACKAGES = ("torch", "numpy", "tiktoken", "papermill", "ipykernel")

# Seconds from the kernel's start to the clock's (imports, compilation), and from the clock's end to the artefact.
STARTUP_ALLOWANCE_SECONDS = 120.0
HANDOVER_ALLOWANCE_SECONDS = 60.0


class StudyError(Plain, RuntimeError):
    """A study that cannot be started or continued; the message says why and what to do.

    A notebook shows the message alone; with the environment variable AUTORESEARCH_DEBUG, the traceback.

    Example:
        >>> try:  # doctest: +SKIP
        ...     study = open_study("nov23")
        ... except StudyError:
        ...     study = start_study("nov23", budget=60)
    """


class Remedied(StudyError):
    """An error whose `remedy` in a terminal, which the message names, is another one `in_panel`, in a notebook."""

    def __init__(self, failed: str, *, remedy: str, in_panel: str) -> None:
        super().__init__(f"{failed} {remedy}")
        self.for_panel = f"{failed} {in_panel}"


class WouldOverwrite(Remedied):
    """Edits that a user made would be lost; the message says which, and how to go on all the same."""


@contextmanager
def explained(in_words: Callable[[BaseException], str] = explain) -> Iterator[None]:
    """Raise whatever goes wrong as an error that a notebook shows in one sentence, in the words of `in_words`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also a panic of a library in Rust, which is no Exception
        words = in_words(error)
        if isinstance(error, Plain) and words == str(error):
            raise
        raise StudyError(words) from error


@dataclass(frozen=True)
class Study:
    """One study: where its files are and what was fixed when it began.

    Example:
        >>> study = open_study("nov23")  # doctest: +SKIP
        >>> study.time_budget_seconds, study.facts["corpus"]["corpus"]  # doctest: +SKIP
        (60.0, 'stdlib')
        >>> study.experiment(7).notebook(0)  # the executed notebook of its first run  # doctest: +SKIP
    """

    name: str
    project: Path
    paths: StudyPaths
    facts: dict[str, Any]  # study.json

    @property
    def corpus_dir(self) -> Path:
        return _recorded_folder(self.facts["corpus_dir"], "corpora")

    @property
    def heldout_dir(self) -> Path:
        return _recorded_folder(self.facts["heldout_dir"], "heldout")

    @property
    def time_budget_seconds(self) -> float:
        return float(self.facts["time_budget_seconds"])

    @property
    def clock(self) -> str:
        """How the budget is counted, "wall" or "steady"; studies before version 0.10 know the wall clock alone."""
        return str(self.facts.get("clock") or "wall")

    @property
    def num_slots(self) -> int:
        """Into how many parts the machine is divided, which train at the same time."""
        return int(self.facts["asked"].get("slots") or 1)

    @property
    def longest_budget_seconds(self) -> float:
        """Seconds of the wall clock that the budget takes at most."""
        return self.time_budget_seconds * (1 / LEAST_RATE if self.clock == "steady" else 1.0)

    @property
    def agent(self) -> str:
        return str(self.facts["agent"])

    @property
    def seed(self) -> int:
        return int(self.facts["seed"])

    def experiment(self, number: int) -> ExperimentPaths:
        return self.paths.experiment(number)

    def train_source(self, number: int) -> str:
        return self.experiment(number).train.read_text(encoding="utf-8")


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def study_exists(name: str, project: Path) -> bool:
    return study_paths(name, project).study.is_file()


def create_study(
    name: str,
    *,
    project: Path,
    corpus_dir: Path,
    heldout_dir: Path,
    baseline_source: str,
    preset: dict[str, Any],
    agent: str,
    time_budget_seconds: float,
    scoring: dict[str, Any],
    hardware: dict[str, Any],
    seed: int = 0,
    asked: dict[str, Any] | None = None,
    agent_options: dict[str, Any] | None = None,
    clock: str = "wall",
    startup_allowance_seconds: float = STARTUP_ALLOWANCE_SECONDS,
    handover_allowance_seconds: float = HANDOVER_ALLOWANCE_SECONDS,
) -> Study:
    """Write study.json and the baseline's train.py. Raises StudyError when the study exists.

    `start_study` calls this once it has measured the machine and prepared a corpus. `asked` are settings that a person
    named, kept so that naming others later can be refused. The budget is counted
    by the "wall" `clock`, or by the "steady" one.

    Example:
        >>> study = create_study(  # doctest: +SKIP
        ...     "mine", project=project_root(), corpus_dir=corpus, heldout_dir=heldout,
        ...     baseline_source=Path("train.py").read_text(), agent="search", time_budget_seconds=60,
        ...     preset={"name": "none", "parameters": {}, "reason": "my own"},
        ...     scoring={"device": "cpu", "dtype": "float32", "rows_per_batch": 8, "num_threads": 2},
        ...     hardware={"device": "cpu", "device_name": "my laptop"},
        ... )
    """
    _refuse_existing(study_paths(name, project), name)
    if not time_budget_seconds > 0:
        raise StudyError(f"A budget of {time_budget_seconds} seconds cannot train anything. Give a positive number.")
    corpus = json.loads((corpus_dir / "meta.json").read_text(encoding="utf-8"))
    facts = {
        "name": name,
        "corpus": _below_home(corpus),
        "corpus_dir": below_home(str(corpus_dir)),
        "heldout_dir": below_home(str(heldout_dir)),
        "time_budget_seconds": time_budget_seconds,
        **({} if clock == "wall" else {"clock": clock}),
        "startup_allowance_seconds": startup_allowance_seconds,
        "handover_allowance_seconds": handover_allowance_seconds,
        "preset": preset,
        "agent": agent,
        "agent_options": agent_options or {},
        "duel_prior_speed": PRIOR_SPEED,
        "seed": seed,
        "asked": asked or {},
        "scoring": scoring,
        "hardware": hardware,
        "corpus_files": corpus_hashes(corpus_dir),
    }
    return _write_study(name, project, facts, baseline_source)


def _below_home(value: Any) -> Any:
    """A value of JSON in whose texts the user's home is ~: a shared record does not tell the name of its user."""
    if isinstance(value, dict):
        return {name: _below_home(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_below_home(part) for part in value]
    return below_home(value) if isinstance(value, str) else value


def _recorded_folder(recorded: str, kind: str) -> Path:
    """A folder of a corpus as study.json names it; in the present cache where the home that it lay in is another."""
    folder = Path(os.path.expanduser(recorded))
    if recorded.startswith("~") and not folder.exists() and (cache_dir() / kind / folder.name).exists():
        return cache_dir() / kind / folder.name
    return folder


def _refuse_existing(paths: StudyPaths, name: str) -> None:
    if paths.study.exists():
        raise StudyError(
            f"{paths.study} exists. Continue it with `{shell_command(f'run --name {name}')}` or take another name."
        )
    if paths.history.exists():
        raise StudyError(
            f"{paths.history} belongs to a study whose study.json is gone, and another must not be mixed into it. "
            f"Restore study.json, or move {paths.folder} away."
        )


def _write_study(name: str, project: Path, facts: dict[str, Any], baseline_source: str) -> Study:
    """Write study.json with the hashes of what must not change; of two that start a study at once, one writes it."""
    paths = study_paths(name, project)
    sources = {"train.py": sha256(baseline_source), "project train.py": sha256((project / "train.py").read_bytes())}
    facts |= {"created_at": utc_now(), "versions": study_versions(), "sha256": _fixed_hashes(project) | sources}
    ensure_folder(paths.folder)
    lock = take_lock(paths.lock)
    try:
        if paths.study.exists():
            raise StudyError(f"{paths.study} was created this very moment by another process; run the command again.")
        write_atomic(paths.experiment(0).train, baseline_source)
        write_atomic(paths.study, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    finally:
        os.close(lock)
    return Study(name, project, paths, facts)


def open_study(name: str, project: Path) -> Study:
    """Read study.json. Raises StudyError when there is none or it cannot be read."""
    paths = study_paths(name, project)
    if not paths.study.is_file():
        raise Remedied(
            f"There is no study {name!r}: {paths.study} is missing.",
            remedy=f"Start it with `{shell_command(f'run --name {name}')}`.",
            in_panel=f"Choose another one, or start it with `lab.start({name!r})`.",
        )
    try:
        facts = json.loads(paths.study.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(
            f"{paths.study} is not readable as JSON ({error}). Restore it, or start a new study."
        ) from error
    facts = facts if isinstance(facts, dict) else {}
    if missing := [key for key, kind in REQUIRED.items() if not isinstance(facts.get(key), kind)]:
        raise StudyError(f"{paths.study} lacks {', '.join(missing)}. Restore it, or start a new study.")
    return Study(name, project, paths, facts)


def open_folder(folder: Path) -> Study:
    """A study anywhere, for reading alone. Raises StudyError."""
    paths = StudyPaths(folder.resolve())
    try:
        facts = json.loads(paths.study.read_text(encoding="utf-8"))
        return Study(str(facts["name"]), folder.resolve().parent.parent, paths, facts)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StudyError(f"{paths.study} cannot be read ({error}). Restore it from a copy.") from error


def check_unchanged(study: Study) -> None:
    """Refuse to go on when what the scores depend on is no longer what it was.

    Raises StudyError naming the file that changed, or the corpus that is not the same any more, with both hashes;
    or the device or number format that the environment names and the study did not begin with.
    """
    _check_machine(study)
    _fixed_hashes(study.project)  # a program.md that is missing is an error at the start
    check_prepare_py(study)
    check_corpus(study)


def check_prepare_py(study: Study) -> None:
    """Raises StudyError, naming the file, when prepare.py has changed: each training and each scorer reads it anew."""
    file = "prepare.py"
    digest = _fixed_hash(study.project, file)
    if digest != (known := study.facts["sha256"][file]):
        raise StudyError(
            f"{study.project / file} has changed since study {study.name!r} began ({known[:SHORT]} then, "
            f"{digest[:SHORT]} now), so new scores would not compare with old ones. Restore it "
            f"(git checkout {file}) or start a new study with another --name."
        )


def _check_machine(study: Study) -> None:
    """Refuse another device or number format than the study's, named by the environment."""
    scoring = study.facts["scoring"]
    for variable, began in ((DEVICE, scoring["device"]), (DTYPE, scoring["dtype"])):
        named = os.environ.get(variable) or began
        if named.partition(":")[0] != began:  # cuda:1 is as good as cuda
            raise StudyError(
                f"Study {study.name!r} began with {variable}={began}, and the environment says {named}, so new scores "
                f"would not compare with old ones. Unset {variable} to continue the study, or start a new one with "
                "another --name."
            )


def check_corpus(study: Study) -> None:
    """Raise StudyError when the study's corpus is gone or is not the same any more, in name or in content."""
    meta_path = study.corpus_dir / "meta.json"
    if not meta_path.is_file():
        raise StudyError(
            f"The corpus of study {study.name!r} is gone: {meta_path}. Prepare it again: {prepare_command(study)}."
        )
    meta = json.loads(meta_path.read_text(encoding="utf-8"))
    for key in ("content_sha256", "tokenizer_sha256", "heldout_sha256", "sequence_length"):
        if meta.get(key) != study.facts["corpus"].get(key):
            raise StudyError(
                f"{study.corpus_dir} holds another corpus than study {study.name!r} began with ({key} differs); "
                "results on different corpora are never compared. Start a new study with another --name."
            )
    for what, then, now in changed_contents(study, SMALL_FILES):
        raise StudyError(
            f"{what} of study {study.name!r} no longer hold what they held ({then[:SHORT]} then, {now[:SHORT]} now): "
            f"a score on them would mean nothing. Build the corpus again: {prepare_command(study)}."
        )


def changed_contents(study: Study, files: tuple[str, ...] = CORPUS_FILES) -> Iterator[tuple[str, str, str]]:
    """What of a corpus is not what the study began with, by its bytes: path, hash then and hash now ("gone")."""
    then, now = study.facts["corpus"]["heldout_sha256"], heldout_sha256(study.heldout_dir)
    if then != now:
        yield f"The rows in {study.heldout_dir}", then, now
    found, known = corpus_hashes(study.corpus_dir, files), study.facts.get("corpus_files") or {}
    for file in files:
        if file in known and known[file] != found.get(file):
            yield f"The bytes of {study.corpus_dir / file}", known[file], found.get(file, "gone")


def corpus_hashes(corpus_dir: Path, files: tuple[str, ...] = CORPUS_FILES) -> dict[str, str]:
    """SHA-256 of what training and scoring read of a corpus; a file that is not there is left out."""
    found = {}
    for file in files:
        if (corpus_dir / file).is_file():
            with open(corpus_dir / file, "rb") as opened:
                found[file] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def heldout_sha256(heldout_dir: Path) -> str:
    """Of the validation and test rows, as prepare.py computes it; "gone" when a file is."""
    import numpy as np

    digest = hashlib.sha256()
    for split in ("val", "test"):
        try:
            digest.update(np.ascontiguousarray(np.load(heldout_dir / f"{split}.npy")).data)
        except (OSError, ValueError):
            return "gone"
    return digest.hexdigest()


def prepare_command(study: Study) -> str:
    """What builds the study's corpus again."""
    return corpus_command(study.corpus_dir, study.facts["corpus"])


def _fixed_hashes(project: Path) -> dict[str, str]:
    return {file: _fixed_hash(project, file) for file in FIXED_FILES}


def _fixed_hash(project: Path, file: str) -> str:
    try:
        return sha256((project / file).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        new = shell_command("new DIR")
        raise StudyError(f"{project / file} is missing. `{new}` makes a folder that has it.") from None


@lru_cache(maxsize=1)
def study_versions() -> dict[str, str]:
    """Of Python, the system and the packages whose numbers end up in results; a missing package is left out.

    Ours is the one that runs: what was installed in a checkout knows only the version of that day.
    """
    system = f"{platform.system()} {platform.release()}"
    versions = {"python": platform.python_version(), "system": system, "autoresearch-kernel": __version__}
    return versions | versions_of(RECORDED_PACKAGES)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Of those packages that are installed."""
    from importlib import metadata  # a fifth of the package's import time, for one call a study

    versions = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def latest_study(project: Path, say: Callable[[str], None] = lambda words: None) -> Study | None:
    """The study touched last whose study.json can be read; None where there is no study.

    `say` gets a sentence for each one that was touched later and cannot be read. Raises StudyError when none can be.
    """
    failure: StudyError | None = None
    for name in study_names(project):
        try:
            study = open_study(name, project)
        except StudyError as error:
            say(f"Study {name} is left out: {error}")
            failure = failure or error
        else:
            return study
    if failure is not None:
        raise failure
    return None


def study_names(project: Path) -> list[str]:
    """Studies of this project, the one touched last first."""
    touched = {}
    for path in (project / "studies").glob("*/study.json"):
        with suppress(ValueError):  # a folder that no study can be named as
            study_paths(path.parent.name, project)
            touched[path.parent.name] = _touched_at(path.with_name("history.jsonl")) or _touched_at(path)
    return sorted(touched, key=lambda name: touched[name], reverse=True)


def _touched_at(path: Path) -> float:
    """Unix time of the last change; 0 where that cannot be known."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
