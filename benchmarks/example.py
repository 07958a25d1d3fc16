"""Makes docs/example from a recorded study: what people look at before they have a study of their own.

python benchmarks/example.py studies/example [--to docs/example]

It keeps the records, the diffs and curves thinned to 60 points; of train.py the baseline's and the best. What belongs
to the machine is taken out of the records, which are then encoded anew, so that their checksums hold.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoresearch_kernel.core.decide import best
from autoresearch_kernel.core.state import Event, replay
from autoresearch_kernel.record.curves import read_curve
from autoresearch_kernel.record.history import _encode, read_events
from autoresearch_kernel.record.paths import ExperimentPaths, StudyPaths

CURVE_POINTS = 60
COMMON_NAMES = {"root", "user", "localhost"}  # of users and hosts, which are words of a diff as well
REPLACED = {"host": "example", "boot_id": "example", "pid": 1}  # of whoever ran the study
CORPUS_PATH = re.compile(r"/[^\s\"']*/(?=(?:corpora|heldout)/)")
ANY_PATH = re.compile(r"(?<![\w.])/(?:[\w.~+-]+/)+")


def without_machine(value: Any, names: Sequence[str], key: str = "") -> Any:
    """The same value without paths, host and process ids; `names` are words that must not remain."""
    if isinstance(value, Mapping):
        return {k: without_machine(v, names, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_machine(v, names, key) for v in value]
    if key in REPLACED and value is not None:
        return REPLACED[key]
    if key == "system" and isinstance(value, str):
        return value.split()[0]
    return scrubbed(value, names) if isinstance(value, str) and key != "split_pattern" else value


def scrubbed(text: str, names: Sequence[str]) -> str:
    text = ANY_PATH.sub("", CORPUS_PATH.sub("cache/", text).replace("cache/", "\0")).replace("\0", "cache/")
    for name in names:
        text = re.sub(rf"\b{re.escape(name)}\b", "example", text)
    return text


def write_example(source: StudyPaths, target: StudyPaths, names: Sequence[str]) -> int:
    """Write the whole example and return its size in bytes."""
    events = [without_machine(event, names) for event in read_events(source.history)]
    facts = without_machine(json.loads(source.study.read_text(encoding="utf-8")), names)
    shutil.rmtree(target.folder, ignore_errors=True)
    target.folder.mkdir(parents=True)
    target.study.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    target.history.write_bytes(b"".join(_encode(event)[0] for event in events))
    state = replay(read_events(target.history))
    champion = best(state.experiments)
    whole = {0, champion.number if champion else 0}
    for experiment in state.experiments:
        copy_experiment(source.experiment(experiment.number), target.experiment(experiment.number), names)
        if experiment.number in whole:
            shutil.copyfile(source.experiment(experiment.number).train, target.experiment(experiment.number).train)
    return sum(path.stat().st_size for path in target.folder.rglob("*") if path.is_file())


def copy_experiment(source: ExperimentPaths, target: ExperimentPaths, names: Sequence[str]) -> None:
    """Its diff and the curve of its first run."""
    curve = thinned(read_curve(source.metrics(0)))
    target.handover(0).mkdir(parents=True)
    target.diff.write_text(scrubbed(source.diff.read_text(encoding="utf-8"), names) if source.diff.exists() else "")
    if curve:
        target.metrics(0).write_text("".join(json.dumps(rounded(point)) + "\n" for point in curve))


def thinned(points: Sequence[dict[str, Any]], most: int = CURVE_POINTS) -> list[dict[str, Any]]:
    """At most so many points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def rounded(point: Mapping[str, Any]) -> Event:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in point.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study, as studies/example")
    parser.add_argument("--to", type=Path, default=Path("docs/example"))
    arguments = parser.parse_args()
    source = StudyPaths(arguments.study)
    names = {Path.home().name, *(str(event.get("host") or "") for event in read_events(source.history))}
    size = write_example(source, StudyPaths(arguments.to), sorted(n for n in names - COMMON_NAMES if len(n) > 2))
    print(f"{arguments.to}: {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
