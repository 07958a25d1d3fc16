"""Presets: the files agree with train.py, and `auto` follows the machine and the budget."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.source.parameters import read_parameters, set_parameters
from autoresearch_kernel.study.by_hand import parameters_by_hand, shipped_parameters
from autoresearch_kernel.study.preset_points import CPU_POINTS, dropout_for, interpolated, sizes_for
from autoresearch_kernel.study.presets import (
    REFERENCE_FLOPS,
    PresetError,
    choose_preset,
    fit_to_corpus,
    measure_machine,
    read_preset,
)
from autoresearch_kernel.system.known_speed import known_flops, remember_flops

PROJECT = Path(__file__).parents[2]


def machine(flops: float = REFERENCE_FLOPS, device: str = "cpu", memory_mb: int = 16_000) -> dict[str, Any]:
    return {"device": device, "device_name": "a machine", "flops": flops, "memory_mb": memory_mb, "num_cores": 2}


@pytest.mark.parametrize("name", ["laptop", "gpu", "h100"])
def test_a_preset_file_names_only_parameters_of_train_py_within_their_ranges(name: str) -> None:
    source = (PROJECT / "train.py").read_text()
    preset = read_preset(name, PROJECT / "presets")
    parameters = read_parameters(source)
    for key, value in preset.parameters.items():
        parameter = parameters[key]
        if parameter.choices:
            assert value in parameter.choices, key
        else:
            assert parameter.low <= value <= parameter.high, key
    changed = read_parameters(set_parameters(source, preset.parameters))
    assert {key: changed[key].value for key in preset.parameters} == preset.parameters


def test_the_h100_preset_has_the_sizes_of_the_original() -> None:
    preset = read_preset("h100", PROJECT / "presets")
    sizes = preset.parameters
    assert (sizes["DEPTH"], sizes["MODEL_DIM"], sizes["TOTAL_BATCH_SIZE"]) == (8, 512, 2**19)
    assert (preset.corpus, preset.vocab_size, preset.sequence_length) == ("climbmix", 8192, 2048)


def test_the_laptop_preset_and_train_py_have_the_sizes_of_the_point_for_a_minute() -> None:
    minute = dict(sizes_for(60).parameters)
    assert read_preset("laptop", PROJECT / "presets").parameters == minute
    values = {name: p.value for name, p in read_parameters((PROJECT / "train.py").read_text()).items()}
    assert {name: values[name] for name in shipped_parameters()} == shipped_parameters()


def test_auto_on_a_cpu_takes_the_tuned_point_of_the_budget() -> None:
    for point in CPU_POINTS:
        preset = choose_preset("auto", budget_seconds=point.seconds, measured=machine())
        sizes = preset.parameters
        assert (sizes["DEPTH"], sizes["MODEL_DIM"]) == (point.depth, point.width)
        assert (sizes["TOTAL_BATCH_SIZE"], sizes["MATRIX_LR"]) == (point.batch_tokens, point.matrix_lr)
        assert (preset.corpus, preset.sequence_length) == ("packages", 256)


SECONDS = [10 * 500 ** (i / 400) for i in range(401)]  # 10 to 5,000, evenly in their logarithm


def capacity(parameters: Mapping[str, Any]) -> int:
    """Parameters inside the blocks: attention and MLP."""
    width = parameters["MODEL_DIM"]
    return int(parameters["DEPTH"] * (4 + 2 * parameters["MLP_RATIO"]) * width * width)


def test_more_seconds_never_give_a_smaller_model_or_less_computing() -> None:
    found = [sizes_for(seconds) for seconds in SECONDS]
    capacities = [capacity(sizes.parameters) for sizes in found]
    batches = [sizes.parameters["TOTAL_BATCH_SIZE"] for sizes in found]
    computing = [interpolated(s).tokens_per_second * s * capacity(sizes_for(s).parameters) for s in (10, 30, 60, 150)]
    assert capacities == sorted(capacities) and len(set(capacities)) > len(CPU_POINTS) - 2
    assert batches == sorted(batches)
    assert computing == sorted(computing)
    tokens = [sizes_for(seconds).num_tokens for seconds in (10, 30, 60, 150, 300, 900)]
    assert tokens == sorted(tokens)


def test_between_two_points_lie_sizes_between_theirs() -> None:
    """At the geometric mean of 900 and 3000 s: depth 5, and 192 * sqrt(320 / 192) = 247.9, of which 256 is nearest."""
    middle = interpolated((900 * 3000) ** 0.5)
    assert middle.depth == pytest.approx(5)
    assert middle.width == pytest.approx((192 * 320) ** 0.5)
    assert middle.batch_tokens == pytest.approx((2048 * 4096) ** 0.5)
    assert sizes_for((900 * 3000) ** 0.5).parameters["MODEL_DIM"] == 256
    assert sizes_for((30 * 60) ** 0.5).parameters == sizes_for(30).parameters


@pytest.mark.parametrize(("seconds", "end"), [(0.001, 10), (3, 10), (5000, 5000), (1e9, 5000)])
def test_beyond_the_ends_of_the_table_its_ends_count(seconds: float, end: float) -> None:
    assert sizes_for(seconds).parameters == sizes_for(end).parameters


@pytest.mark.parametrize("seconds", [10, 47, 95, 200, 777, 2000, 4999])
def test_each_interpolated_size_is_one_that_train_py_allows(seconds: float) -> None:
    known = read_parameters((PROJECT / "train.py").read_text())
    for name, value in sizes_for(seconds).parameters.items():
        parameter = known[name]
        allowed = value in parameter.choices if parameter.choices else parameter.low <= value <= parameter.high
        assert allowed, f"{name} = {value}"


def test_dropout_begins_where_a_text_repeats_and_grows_with_each_doubling() -> None:
    corpus = 2_000_000
    assert dropout_for(2_400_000, corpus) == 0.0
    assert dropout_for(2 * 2_500_000, corpus) == 0.2  # two times 1.25 epochs: one doubling after the first 0.1
    assert dropout_for(4 * 2_500_000, corpus) == dropout_for(1e9, corpus) == 0.3


def test_a_preset_is_fitted_to_the_corpus_that_it_trains_on() -> None:
    preset = choose_preset("auto", budget_seconds=3000, measured=machine())
    small, large = fit_to_corpus(preset, 2_356_246), fit_to_corpus(preset, 20_000_000)
    assert small.parameters["DROPOUT"] > 0.1 and "2.5 epochs" in small.reason
    assert large.parameters["DROPOUT"] == 0.0
    assert {**small.parameters, "DROPOUT": 0.0} == large.parameters
    laptop = read_preset("laptop", PROJECT / "presets")
    assert fit_to_corpus(laptop, 1000) == laptop  # chosen by name: as the file says


def test_the_preset_none_keeps_the_sizes_of_train_py() -> None:
    preset = choose_preset("none", budget_seconds=60, measured=machine())
    assert (preset.parameters, preset.corpus, preset.vocab_size) == ({}, "packages", 2048)


def by_hand(seconds: float, name: str = "auto", **own: Any) -> dict[str, Any]:
    values = {key: p.value for key, p in read_parameters((PROJECT / "train.py").read_text()).items()} | own
    facts = {"device": "cpu", "device_name": "a machine", "dtype": "float32", "num_threads": 2, "num_cores": 2}
    changed = parameters_by_hand(
        name,
        values,
        project=PROJECT,
        machine=facts,
        budget_seconds=seconds,
        corpus_tokens=2_356_246,
        say=lambda _: None,
    )
    return values | changed


@pytest.fixture
def known_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    remember_flops({"device_name": "a machine", "dtype": "float32", "num_threads": 2}, REFERENCE_FLOPS)


@pytest.mark.usefixtures("known_machine")
@pytest.mark.parametrize("seconds", [10, 60, 150, 300, 900])
def test_by_hand_has_the_sizes_of_a_study_with_the_same_budget(seconds: float) -> None:
    of_study = fit_to_corpus(choose_preset("auto", budget_seconds=seconds, measured=machine()), 2_356_246).parameters
    found = by_hand(seconds)
    assert {name: found[name] for name in of_study} == of_study


@pytest.mark.usefixtures("known_machine")
def test_by_hand_a_size_that_its_user_changed_stays() -> None:
    found = by_hand(900, MODEL_DIM=256, NUM_HEADS=4)
    assert (found["DEPTH"], found["MODEL_DIM"], found["NUM_HEADS"]) == (4, 256, 4)
    assert by_hand(900, "none")["DEPTH"] == 1
    with pytest.raises(PresetError, match="no preset 'mainframe'"):
        by_hand(300, "mainframe")


def test_the_fastest_speed_of_a_machine_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    one = {"device_name": "one", "dtype": "float32", "num_threads": 2}
    assert known_flops(one) is None
    assert [remember_flops(one, flops) for flops in (1e9, 3e9, 2e9)] == [1e9, 3e9, 3e9]
    assert known_flops(one | {"dtype": "bfloat16"}) is None
    (tmp_path / "speed.json").write_text("{torn")
    assert known_flops(one) is None
    assert remember_flops(one, 2e9) == 2e9


def test_a_machine_of_five_times_the_speed_gets_the_sizes_of_five_times_the_budget() -> None:
    fast = choose_preset("auto", budget_seconds=60, measured=machine(5 * REFERENCE_FLOPS))
    slow = choose_preset("auto", budget_seconds=300, measured=machine())
    assert fast.parameters == slow.parameters
    assert "5.00 times" in fast.reason


def test_auto_on_a_large_gpu_takes_the_h100_preset() -> None:
    measured = machine(4e14, "cuda", 81_000)
    preset = choose_preset("auto", budget_seconds=300, measured=measured, folder=PROJECT / "presets")
    assert preset.parameters["DEPTH"] == 8


def test_auto_on_a_small_gpu_takes_fewer_rows_at_a_time_and_the_same_step() -> None:
    folder = PROJECT / "presets"
    large = choose_preset("auto", budget_seconds=300, measured=machine(1e14, "cuda", 24_000), folder=folder).parameters
    small = choose_preset("auto", budget_seconds=300, measured=machine(3e13, "cuda", 6_000), folder=folder).parameters
    assert small["DEVICE_BATCH_SIZE"] < large["DEVICE_BATCH_SIZE"]
    assert small["TOTAL_BATCH_SIZE"] == large["TOTAL_BATCH_SIZE"]


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(PresetError, match=r"no preset 'mainframe'.*auto, laptop, gpu, h100"):
        choose_preset("mainframe", budget_seconds=60, measured=None)


def test_a_damaged_preset_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text("DEPTH: 2\n")
    with pytest.raises(PresetError, match=r"gpu\.yaml is not a preset .*sequence_length"):
        read_preset("gpu", tmp_path)


def test_a_preset_that_leaves_the_tokens_of_a_step_to_train_py_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text("corpus: climbmix\nvocab_size: 8192\nsequence_length: 1024\nDEPTH: 2\n")
    preset = choose_preset("auto", budget_seconds=300, measured=machine(3e13, "cuda", 6_000), folder=tmp_path)
    assert preset.parameters == {"DEPTH": 2, "DEVICE_BATCH_SIZE": 16}


@pytest.mark.parametrize("size", ["vocab_size: 8k", "sequence_length: 0", "TOTAL_BATCH_SIZE: 64k"])
def test_a_size_that_is_no_number_is_named_with_its_file(tmp_path: Path, size: str) -> None:
    sizes = {"corpus": "climbmix", "vocab_size": "8192", "sequence_length": "1024", "TOTAL_BATCH_SIZE": "65536"}
    sizes |= dict([size.split(": ")])
    (tmp_path / "gpu.yaml").write_text("".join(f"{name}: {value}\n" for name, value in sizes.items()))
    with pytest.raises(PresetError, match=rf"presets/gpu\.yaml: {size.split(':')[0]} is .*: write a whole number"):
        read_preset("gpu", tmp_path)


def test_this_machine_is_measured_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cpu")
    monkeypatch.setenv("AUTORESEARCH_DTYPE", "float32")
    measured = measure_machine(PROJECT, sys.executable)
    assert measured["device"] == "cpu"
    assert measured["dtype"] == "float32"
    assert measured["flops"] > 1e8
    assert measured["memory_mb"] > 100


def test_a_number_format_that_there_is_not_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DTYPE", "float16")
    with pytest.raises(PresetError, match=r"^This machine could not be measured: AUTORESEARCH_DTYPE is 'float16'"):
        measure_machine(PROJECT, sys.executable)


def test_a_python_that_cannot_measure_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # it may name the project
    with pytest.raises(PresetError, match="could not be measured"):
        measure_machine(tmp_path, sys.executable)  # no prepare.py there
