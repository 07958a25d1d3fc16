"""The embedded agent, on real train.py texts and made-up records."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from autoresearch_kernel.agents.search import SearchAgent, SearchError, in_use, known_values, observations_of
from autoresearch_kernel.agents.search_model import Axis, Move, Observation, fit_model, open_limits, targets
from autoresearch_kernel.core.agent import Agent
from autoresearch_kernel.core.types import Context, Experiment, Proposal, Run, Status
from autoresearch_kernel.source.cell import SourceError
from autoresearch_kernel.source.compare import structure
from autoresearch_kernel.source.parameters import read_parameters, set_parameters

PROJECT = Path(__file__).parents[2]
SIGMA = 0.003
SOURCE = """# %% tags=["parameters"]
SEED = 1  # fixed
MATRIX_LR = 0.04  # step of the matrices; 0.005..0.2 log
HEAD_LR = 0.01  # step of the head; 0.001..0.1 log
BATCH_TOKENS = 2**12  # tokens a step; 2**10..2**15
DEPTH = 4  # layers; 1..8
WARMDOWN = 0.5  # share of the budget; 0.2..0.9 step 0.05
MOMENTUM = 0.95  # 0.8..0.99
HEAD_DIM = 32  # {16, 32, 64}
ACTIVATION = "relu2"  # {relu2, gelu, silu}
QK_NORM = True  # whether queries and keys are normalised

# %%
print(MATRIX_LR)
"""
BASELINE = Experiment(
    0, "The baseline.", "baseline", None, runs=(Run(0, 0, val_bpb=1.5),), status=Status.KEEP, val_bpb=1.5, sigma=SIGMA
)


def context(
    experiments: tuple[Experiment, ...] = (BASELINE,),
    source: str = SOURCE,
    incumbent: Experiment = BASELINE,
    **study: Any,
) -> Context:
    return Context("", source, incumbent, experiments, SIGMA, study, seed=0)


def tried(number: int, proposal: Proposal, val_bpb: float | None, parent: Experiment = BASELINE) -> Experiment:
    """The record of a proposal, through JSON as the history stores it; kept when it beat its parent."""
    assert parent.val_bpb is not None
    status = Status.CRASH if val_bpb is None else Status.KEEP if val_bpb < parent.val_bpb else Status.DISCARD
    return Experiment(
        number=number,
        hypothesis=proposal.hypothesis,
        agent=proposal.agent,
        parent=parent.number,
        changes=json.loads(json.dumps(proposal.changes)),
        details=json.loads(json.dumps(proposal.details)),
        runs=(Run(0, number, val_bpb=val_bpb),),
        status=status,
        val_bpb=val_bpb,
        incumbent_bpb=parent.val_bpb,
        sigma=SIGMA,
    )


def observation(name: str, before: Any, after: Any, delta: float | None, number: int = 1) -> Observation:
    return Observation(number, {name: (before, after)}, delta)


def axes(source: str = SOURCE) -> dict[str, Axis]:
    return {name: Axis(p) for name, p in read_parameters(source).items() if p.tunable}


def test_search_is_an_agent() -> None:
    assert isinstance(SearchAgent(), Agent)
    assert SearchAgent().name == "search"


def test_a_proposal_is_the_incumbents_source_with_one_to_three_literals_changed_and_a_sentence() -> None:
    for seed in range(20):
        proposal = SearchAgent(seed).propose(context(time_budget_seconds=60.0))
        assert 1 <= len(proposal.changes) <= 3
        assert proposal.train_source == set_parameters(SOURCE, proposal.changes) != SOURCE
        assert proposal.hypothesis.endswith(".") and "\n" not in proposal.hypothesis
        for name, value in proposal.changes.items():
            old, new = read_parameters(SOURCE)[name], read_parameters(proposal.train_source)[name]
            assert new.value == value != old.value
            assert name in proposal.hypothesis
            assert (" on" if value is True else " off" if value is False else new.text) in proposal.hypothesis
            assert proposal.details["previous"][name] == old.value
        json.dumps(proposal.details)


def test_the_first_look_at_a_parameter_is_moderate() -> None:
    for seed in range(40):
        for name, value in SearchAgent(seed).propose(context()).changes.items():
            position = axes()[name].position(value)
            assert not axes()[name].ordered or abs(position or 0) <= 1.45, (name, value)


def test_literals_are_what_a_person_would_write() -> None:
    for seed in range(40):
        for name, value in SearchAgent(seed).propose(context()).changes.items():
            if name in ("MATRIX_LR", "HEAD_LR"):
                assert value == float(f"{value:.2g}")
            if name == "WARMDOWN":
                assert round(value / 0.05, 6) == round(value / 0.05)
            if name == "BATCH_TOKENS":
                assert value in (2**11, 2**13)


def test_the_same_history_and_seed_give_the_same_proposal() -> None:
    first = SearchAgent(3).propose(context())
    history = (BASELINE, tried(1, first, 1.51))
    again = [SearchAgent(3).propose(context(history)) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].train_source != first.train_source
    assert len({SearchAgent(seed).propose(context()).train_source for seed in range(8)}) > 3


def test_no_configuration_is_tried_twice_and_the_end_of_the_space_is_one_clear_error() -> None:
    source = '# %% tags=["parameters"]\nA = 2  # {1, 2, 3}\nB = True  # whether\n'
    history, sources = [BASELINE], {source}
    with pytest.raises(SearchError, match="tried every value near the incumbent"):
        for number in range(1, 20):
            proposal = SearchAgent().propose(context(tuple(history), source))
            assert proposal.train_source not in sources
            sources.add(proposal.train_source)
            history.append(tried(number, proposal, None if number == 2 else 1.51))
    assert len(sources) >= 4


def test_nothing_to_tune_is_one_clear_error() -> None:
    with pytest.raises(SearchError, match=r"No parameter of train\.py may be tuned"):
        SearchAgent().propose(context(source='# %% tags=["parameters"]\nSEED = 1\nNAME = "x"\n'))
    with pytest.raises(SourceError, match="no parameters cell"):
        SearchAgent().propose(context(source="DEPTH = 4\n"))


def test_untried_parameters_come_before_ones_that_did_nothing() -> None:
    covered = []
    for seed in range(4):
        history, moved = [BASELINE], set[str]()
        for number in range(1, 16):
            proposal = SearchAgent(seed).propose(context(tuple(history)))
            moved |= set(proposal.changes)
            history.append(tried(number, proposal, 1.5005))
        covered.append(len(moved))
    assert np.mean(covered) >= 8  # of nine


def test_a_kept_change_is_followed_by_another_step_the_same_way() -> None:
    moved = Counter[str]()
    source = set_parameters(SOURCE, {"MATRIX_LR": 0.06})
    values = {n: p.value for n, p in read_parameters(source).items() if p.tunable}
    details = {"parameters": values, "previous": {"MATRIX_LR": 0.04}}
    step = Proposal("", source, "search", {"MATRIX_LR": 0.06}, details)
    kept = tried(1, step, 1.46)
    for seed in range(20):
        proposal = SearchAgent(seed).propose(context((BASELINE, kept), source, kept))
        if "MATRIX_LR" in proposal.changes:
            moved["up" if proposal.changes["MATRIX_LR"] > 0.06 else "down"] += 1
            if list(proposal.changes) == ["MATRIX_LR"]:
                assert "was kept in 0001 (1.4600 against 1.5000: −0.0400 (−13.3 σ))" in proposal.hypothesis
    assert moved["up"] >= 14 and moved["down"] == 0


def test_a_step_that_hurt_is_followed_by_the_other_way() -> None:
    posterior = fit_model(axes(), [observation("MATRIX_LR", 0.04, 0.06, +0.02)], SIGMA)
    slope = posterior.mean[posterior.columns[("MATRIX_LR", "slope")]]
    assert slope > 2 * SIGMA
    assert abs(posterior.mean[posterior.columns[("HEAD_LR", "slope")]]) < 1e-9


def test_the_posterior_finds_the_valley_of_a_parabola() -> None:
    axis = axes()["MATRIX_LR"]
    at = [-1.0, 1.0, 2.0, -0.5, 1.5]
    observations = [
        observation("MATRIX_LR", 0.04, 0.04 * 1.5**z, 0.01 * ((z - 1.2) ** 2 - 1.2**2), number)
        for number, z in enumerate(at)
    ]
    posterior = fit_model({"MATRIX_LR": axis}, observations, 0.0005)
    slope, bend = posterior.mean
    assert -slope / (2 * bend) == pytest.approx(1.2, abs=0.15)


def test_a_value_that_failed_bounds_later_looks_half_way() -> None:
    axis = axes()["MATRIX_LR"]
    failed = [observation("MATRIX_LR", 0.04, 0.04 * 1.5**2, None)]
    assert open_limits(axis, failed)[1] == pytest.approx(1.0)
    assert max(targets(axis, failed)) <= 1.0
    assert min(targets(axis, failed)) <= -1.5


def test_values_are_drawn_uniformly_from_the_window_of_a_move() -> None:
    rate, depth = axes()["MATRIX_LR"], axes()["DEPTH"]
    move = Move(rate, 0.5, 1.5)  # 0.049 to 0.0735, logarithmic
    drawn = [SearchAgent().draw([move], seed)["MATRIX_LR"] for seed in range(400)]
    assert 0.048 <= min(drawn) < 0.052 and 0.070 < max(drawn) <= 0.074
    assert np.mean(np.log(drawn)) == pytest.approx(np.log(0.04 * 1.5), abs=0.02)
    chosen = Move(depth, 0.0, 0.0, choice=depth.parameter.value)
    assert SearchAgent().draw([chosen], 0) == {}, "what would change nothing is not drawn"


def test_an_experiment_that_crashed_is_an_observation_without_a_difference() -> None:
    crashed = tried(1, SearchAgent(2).propose(context()), None)
    scored = tried(2, SearchAgent(3).propose(context((BASELINE, crashed))), 1.51)
    now = context((BASELINE, crashed, scored))
    seen = observations_of(now.experiments, known_values(now))
    assert [o.delta_bpb for o in seen] == [None, pytest.approx(scored.delta_bpb)]


def test_the_record_is_understood_after_the_incumbent_changed_twice() -> None:
    agent, source, incumbent, history = SearchAgent(5), SOURCE, BASELINE, [BASELINE]
    for number in range(1, 13):
        proposal = agent.propose(context(tuple(history), source, incumbent))
        score = (incumbent.val_bpb or 0) + (-0.01 if number % 4 == 0 else 0.004)
        history.append(tried(number, proposal, score, incumbent))
        if history[-1].status is Status.KEEP:
            incumbent, source = history[-1], proposal.train_source
    assert incumbent.number == 12
    assert agent.propose(context(tuple(history), source, incumbent)).changes


def test_an_edit_by_another_agent_does_not_confuse_the_search() -> None:
    """After a structural keep without literals, earlier observations count and configurations may be tried again."""
    source = SOURCE + "print(2)\n"
    history = [BASELINE, tried(1, SearchAgent().propose(context()), 1.51)]
    other = tried(2, Proposal("Print more.", source, "llm"), 1.49)
    proposal = SearchAgent().propose(context((*history, other), source, other))
    assert proposal.train_source.endswith("print(2)\n")
    assert structure(source) != structure(SOURCE)
    assert structure(SOURCE) == structure(set_parameters(SOURCE, {"DEPTH": 5}).replace("# layers", "#  tiers"))


def test_what_is_known_of_the_literals_counts_after_a_model_changed_the_structure() -> None:
    worse = [
        tried(n, Proposal("h", edited, "search", {"MATRIX_LR": value}, details_of(edited, MATRIX_LR=0.04)), 1.52)
        for n, value in enumerate((0.06, 0.09), 1)
        for edited in [set_parameters(SOURCE, {"MATRIX_LR": value})]
    ]
    changed = SOURCE.replace("print(MATRIX_LR)", "print(2 * MATRIX_LR)")
    kept = tried(3, Proposal("Twice the step", changed, "llm", details={"model": "m"}), 1.48)
    now = context((BASELINE, *worse, kept), changed, kept)
    observations = observations_of(now.experiments, known_values(now))
    assert [o.moved for o in observations] == [{"MATRIX_LR": (0.04, 0.06)}, {"MATRIX_LR": (0.04, 0.09)}]
    for seed in range(10):
        assert SearchAgent(seed).propose(now).changes.get("MATRIX_LR", 0.0) <= 0.04


def details_of(source: str, **previous: Any) -> dict[str, Any]:
    parameters = {name: p.value for name, p in read_parameters(source).items() if p.tunable}
    return {"parameters": parameters, "previous": previous, "structure": structure(source)}


def test_a_sequence_longer_than_the_corpus_is_not_proposed() -> None:
    source = '# %% tags=["parameters"]\nSEQUENCE_LENGTH = 256  # tokens in a row; {64, 128, 256, 512}\n'
    for seed in range(10):
        proposal = SearchAgent(seed).propose(context(source=source, corpus={"sequence_length": 256}))
        assert proposal.changes["SEQUENCE_LENGTH"] < 256


def test_the_real_train_file_is_searched_for_a_night() -> None:
    rng = np.random.default_rng(0)
    source = (PROJECT / "train.py").read_text(encoding="utf-8")
    agent, incumbent, history, sources = SearchAgent(0), BASELINE, [BASELINE], {source}
    for number in range(1, 31):
        proposal = agent.propose(context(tuple(history), source, incumbent))
        compile(proposal.train_source, "train.py", "exec")
        assert proposal.train_source not in sources
        sources.add(proposal.train_source)
        score = None if number % 7 == 0 else (incumbent.val_bpb or 0) + rng.normal(0.003, 0.005)
        history.append(tried(number, proposal, score, incumbent))
        if history[-1].status is Status.KEEP:
            incumbent, source = history[-1], proposal.train_source


def test_numpy_is_not_imported_before_a_proposal() -> None:
    code = "import sys, autoresearch_kernel.agents.search; print('numpy' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert shown.stdout.split() == ["False"]


def test_a_proposal_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    SearchAgent().propose(context())
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def landscape() -> ModuleType:
    spec = importlib.util.spec_from_file_location("landscape", PROJECT / "benchmarks" / "search.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["landscape"] = module
    spec.loader.exec_module(module)
    return module


def test_it_finds_more_than_random_search_and_single_random_steps(landscape: ModuleType) -> None:
    """True gains after 30 noisy experiments, averaged over landscapes; benchmarks/search.py has the whole table."""
    gain = {
        name: np.mean([landscape.one((name, seed, 30, SIGMA))[-1][0] for seed in range(4)])
        for name in ("search", "local", "random")
    }
    assert gain["search"] > 1.15 * gain["local"]
    assert gain["search"] > 4 * gain["random"]


def test_a_switch_that_is_off_is_tried_before_one_that_is_on() -> None:
    source = SOURCE.replace("HEAD_DIM = 32", "IDEA = False  # off\nUSED = True  # on\nHEAD_DIM = 32")
    first = [SearchAgent(seed).propose(context(source=source)) for seed in range(60)]
    moved = {name: sum(name in proposal.changes for proposal in first) for name in ("IDEA", "USED")}
    assert moved["IDEA"] > 2 * moved["USED"]


def test_numbers_of_a_part_that_is_switched_off_stay_as_they_are() -> None:
    plain = {"MUON": False, "NGRAM_ROWS": 0, "TOKEN_SHIFT": False}
    real = (PROJECT / "train.py").read_text(encoding="utf-8")

    def moved(source: str) -> Counter[str]:
        return Counter(n for seed in range(20) for n in SearchAgent(seed).propose(context(source=source)).changes)

    off, on = moved(set_parameters(real, plain)), moved(real)
    idle = {"MUON_MOMENTUM", "NGRAM_LR"}
    assert not idle & off.keys() and "MUON_MOMENTUM" in on and "MUON" in off


@pytest.mark.parametrize(
    ("line", "others"),
    [
        ("LOGIT_CAP = None  # {None, 15.0, 30.0}", {15.0, 30.0}),
        ("LOGIT_CAP = 15.0  # {None, 15.0, 30.0}", {None, 30.0}),
        ("WINDOW = 256  # {None, 128, 256}", {None, 128}),
        ("SEQUENCE_LENGTH = 256  # {None, 128, 256}", {None, 128}),
    ],
)
def test_a_choice_may_be_none(line: str, others: set[Any]) -> None:
    source = f'# %% tags=["parameters"]\n{line}\n'
    history, moved, name = [BASELINE], set(), line.split()[0]
    for number in (1, 2):
        proposal = SearchAgent().propose(context(tuple(history), source, corpus={"sequence_length": 256}))
        assert name in proposal.hypothesis
        moved.add(read_parameters(proposal.train_source)[name].value)
        history.append(tried(number, proposal, 1.51))
    assert moved == others
    with pytest.raises(SearchError, match="tried every value"):
        SearchAgent().propose(context(tuple(history), source))


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({"USE_MUON": True, "USE_ROPE": False, "USE_BIAS": False, "MAX_X": 0, "MAX_Y": 3}, set()),
        ({"MUON": False, "MUON_NESTEROV": False, "MUON_LR": 0.1}, {"MUON_LR"}),
        ({"MUON": True, "MUON_NESTEROV": False, "MUON_LR": 0.1}, set()),
        ({"HEAD_BIAS": False, "HEAD_LR": 0.1, "MUON_NESTEROV": False, "MUON_LR": 0.1}, set()),
        ({"NGRAM_ROWS": 0, "NGRAM_LR": 0.1, "NGRAM_TIED": True}, {"NGRAM_LR"}),
    ],
)
def test_a_switch_stays_in_use_and_a_generic_word_names_no_part(values: dict[str, Any], idle: set[str]) -> None:
    lines = (f"{name} = {value}" + ("  # 0..9" if value == 0 else "") for name, value in values.items())
    found = axes("\n".join(['# %% tags=["parameters"]', *lines, ""]))
    assert found.keys() - in_use(found).keys() == idle
