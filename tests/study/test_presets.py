"""Presets: the files agree with train.py, and `auto` follows the machine and the budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from autoresearch_kernel.source.parameters import read_parameters, set_parameters
from autoresearch_kernel.study.presets import (
    CPU_POINTS,
    REFERENCE_FLOPS,
    PresetError,
    choose_preset,
    measure_machine,
    read_preset,
)

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


def test_the_laptop_preset_is_the_tuned_point_for_a_minute() -> None:
    minute = next(point for point in CPU_POINTS if point.budget_seconds == 60)
    assert read_preset("laptop", PROJECT / "presets").parameters == minute.parameters


def test_auto_on_a_cpu_takes_the_tuned_point_of_the_budget() -> None:
    for point in CPU_POINTS:
        preset = choose_preset("auto", budget_seconds=point.budget_seconds, measured=machine())
        assert preset.parameters == point.parameters
        assert (preset.corpus, preset.sequence_length) == ("stdlib", point.sequence_length)


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
