"""What a model that a benchmark trained scores on the validation rows of its corpus."""

from __future__ import annotations

from pathlib import Path

from autoresearch_kernel.core.types import RunOutcome
from autoresearch_kernel.scoring.job import HeldOut, ScoringJob, ScoringSettings
from autoresearch_kernel.scoring.score import score

PROJECT = Path(__file__).resolve().parents[1]


def val_bpb(outcome: RunOutcome, corpus: Path) -> float:
    """Bits per byte of the model of a training, by a scorer on the processors; `corpus` is its folder in the cache."""
    assert outcome.artefact is not None, "it was trained"
    heldout = HeldOut.load(corpus, corpus.parents[1] / "heldout" / corpus.name, "val")
    settings = ScoringSettings.for_corpus("cpu", "float32", heldout.rows.shape[1] - 1, len(heldout.token_bytes))
    return score(ScoringJob(outcome.artefact, heldout, settings, PROJECT)).val_bpb
