"""`autoresearch doctor --cluster ADDRESS`: whether the workers of a cluster do what a study needs of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..run.cluster import cluster_backend
from ..run.conformance import check_backend
from ..run.connection import ClusterRefused
from ..run.local_cluster import cluster_at
from ..scoring.job import ScoringSettings
from ..study.across import workers_words
from ..system.locations import cache_dir
from ..system.shell import shell_command
from .checks import Check


def examine_cluster(address: str, project: Path) -> Iterator[Check]:
    """The workers, and each check of a backend as it is made; about a minute and a half."""
    corpus = smallest_corpus(cache_dir())
    if corpus is None:
        remedy = f"`{shell_command('prepare')}` builds one in about a minute."
        yield Check("corpus", "fail", "there is none yet, and the checks train on one", remedy)
        return
    corpus_dir, heldout_dir = corpus
    meta = json.loads((corpus_dir / "meta.json").read_text(encoding="utf-8"))
    try:
        with cluster_at(address) as found_at, cluster_backend(found_at, project) as backend:
            slots = backend.divide(0)
            yield Check("cluster", "ok", workers_words(slots))
            facts = next(slot.facts for slot in slots if not slot.machine)  # of the most frequent kind
            sizes = meta["sequence_length"], meta["vocab_size"]
            settings = ScoringSettings.for_corpus(str(facts["device"]), str(facts["dtype"]), *sizes)
            for found in check_backend(backend, project, corpus_dir, heldout_dir, settings):
                passes = Check(found.check, "ok", f"{found.seconds:.0f} s")
                yield Check(found.check, "fail", found.problem) if found.problem else passes
    except ClusterRefused as refusal:
        yield Check("cluster", "fail", str(refusal))


def smallest_corpus(cache: Path) -> tuple[Path, Path] | None:
    """Both sides of the prepared corpus with the fewest training tokens; None where there is none."""
    found = [path.parent for path in (cache / "corpora").glob("*/meta.json")]
    whole = [folder for folder in found if (cache / "heldout" / folder.name / "val.npy").is_file()]
    chosen = min(whole, key=lambda folder: (folder / "train.bin").stat().st_size, default=None)
    return None if chosen is None else (chosen, cache / "heldout" / chosen.name)
