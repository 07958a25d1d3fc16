"""Scores the model of a preset twice, audits it and scores it in float32: do the answers agree in this format?"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...sandbox.kinds import scorer_options
from ...scoring.audit import MISMATCH_NATS, audit
from ...scoring.job import HeldOut, ScoringJob, ScoringSettings
from ...scoring.score import score
from ..checks import Check
from .bench import Bench, failed, skipped
from .plan import FORMAT_BPB, REPEAT_NATS

WAYS = ("score", "rescore", "audit", "float32")


def score_model(bench: Bench, preset: str, way: str) -> Check:
    """One row: `way` is one of WAYS."""
    name = f"{preset} {way}"
    if preset not in bench.models:
        return skipped(name, "no training of this preset handed over a model")
    if way != "score" and preset not in bench.scores:
        return skipped(name, f"the row `{preset} score` has no score to compare with")
    if way == "float32" and bench.facts["dtype"] == "float32":
        return skipped(name, "this device trains and scores in float32 already")
    bench.say(f"{name}: {bench.models[preset].name}")
    return {"score": _score, "rescore": _rescore, "audit": _audit, "float32": _float32}[way](bench, preset, name)


def _job(bench: Bench, preset: str) -> ScoringJob:
    corpus, heldout = bench.corpora[preset]
    sizes, facts = bench.sizes[preset], bench.facts
    settings = ScoringSettings.for_corpus(bench.device, facts["dtype"], sizes.sequence_length, sizes.vocab_size)
    artefact, rows = bench.models[preset].artefact, HeldOut.load(corpus, heldout, "val")
    options = scorer_options(bench.project) if bench.has_sandbox else {}
    return ScoringJob(artefact, rows, settings, bench.project, **options)


def _nats_file(bench: Bench, preset: str, way: str = "score") -> Path:
    return bench.folder / f"{preset}-{way}.npy"


def _score(bench: Bench, preset: str, name: str) -> Check:
    found = score(_job(bench, preset), _nats_file(bench, preset))
    bench.scores[preset] = found
    words = (
        f"val_bpb {found.val_bpb:.4f} ± {found.standard_error:.4f} of {bench.models[preset].name}, in "
        f"{bench.facts['dtype']}; {found.num_tokens:,} tokens in {found.evaluation_seconds:.1f} s"
    )
    facts = {
        "val_bpb": found.val_bpb, "standard_error": found.standard_error, "num_tokens": found.num_tokens,
        "evaluation_seconds": found.evaluation_seconds, "dtype": bench.facts["dtype"],
        "model": bench.models[preset].name,
    }  # fmt: skip
    return Check(name, "ok", words, facts=facts)


def _rescore(bench: Bench, preset: str, name: str) -> Check:
    """A second scorer with the same settings."""
    path, dtype = _nats_file(bench, preset, "rescore"), bench.facts["dtype"]
    found = score(_job(bench, preset), path)
    nats = float(np.abs(np.load(path).astype(np.float64) - np.load(_nats_file(bench, preset))).max())
    difference = found.val_bpb - bench.scores[preset].val_bpb
    words = (
        f"a second scorer differs by {difference:+.6f} bits per byte, and by {nats:.1e} nats at most for one token; "
        f"{REPEAT_NATS[dtype]:g} allowed in {dtype}"
    )
    facts = {"difference_bpb": difference, "largest_difference_nats": nats, "tolerance_nats": REPEAT_NATS[dtype]}
    if not nats <= REPEAT_NATS[dtype]:
        remedy = "Scores of this device do not repeat: post the file, and do not trust small differences."
        return Check(name, "fail", words, remedy, facts)
    return Check(name, "ok", words, facts=facts)


def _audit(bench: Bench, preset: str, name: str) -> Check:
    """The audit of the first score, as a study makes it."""
    nll, cuts_path = np.load(_nats_file(bench, preset)), _nats_file(bench, preset, "cuts")
    claim_seconds = bench.scores[preset].evaluation_seconds
    found = audit(_job(bench, preset), nll, claim_seconds=claim_seconds, cuts_path=cuts_path)
    facts: dict[str, Any] = {
        "accepted": found.accepted, "num_cuts": found.num_cuts, "num_mismatches": found.num_mismatches,
        "correction_bpb": found.correction_bpb, "standard_error": found.standard_error, "tolerance_nats": MISMATCH_NATS,
    }  # fmt: skip
    if not cuts_path.exists():
        return failed(name, found.reason, **facts)
    cuts = np.load(cuts_path)
    nats = float(np.abs(cuts["blind"] - cuts["claimed"]).max())
    facts["largest_difference_nats"] = nats if math.isfinite(nats) else None
    words = (
        f"{found.num_mismatches} of {found.num_cuts} places differ by more than {MISMATCH_NATS:g} nats, {nats:.1e} at "
        f"most; correction {found.correction_bpb:+.6f} ± {found.standard_error:.6f} bits per byte"
    )
    if not found.accepted:
        remedy = "A study on this device would refuse honest models: post the file."
        return Check(name, "fail", f"refused: {words}", remedy, facts)
    return Check(name, "ok", f"accepted: {words}", facts=facts)


def _float32(bench: Bench, preset: str, name: str) -> Check:
    """The same rows in float32: what the number format of scoring is worth."""
    job = _job(bench, preset)
    found = score(replace(job, settings=replace(job.settings, dtype="float32")))
    difference = bench.scores[preset].val_bpb - found.val_bpb
    dtype = bench.facts["dtype"]
    words = f"val_bpb {found.val_bpb:.4f}; {dtype} differs by {difference:+.5f}, {FORMAT_BPB:g} allowed"
    facts = {"val_bpb": found.val_bpb, "difference_bpb": difference, "tolerance_bpb": FORMAT_BPB}
    if not abs(difference) <= FORMAT_BPB:
        return Check(name, "fail", words, "Scores in this format cannot be compared with others: post the file.", facts)
    return Check(name, "ok", words, facts=facts)
