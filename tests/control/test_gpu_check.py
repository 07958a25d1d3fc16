"""The check of a GPU: all of it in small on a processor, and what it makes of facts that only GPUs have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from autoresearch_kernel.control.checks import Check
from autoresearch_kernel.control.gpu_check import attention, check, plan, report, training
from autoresearch_kernel.control.gpu_check.bench import Bench, variables
from autoresearch_kernel.control.gpu_check.report import Row
from autoresearch_kernel.core.types import RunOutcome, Status
from autoresearch_kernel.study.presets import Preset, read_preset
from autoresearch_kernel.system.locations import DEVICE, originals
from benchmarks import original

PROJECT = Path(__file__).parents[2]
PRESETS = PROJECT / "presets"
IN_SMALL = (  # the rows on a processor, in their order
    "device", "versions", "sandbox",
    "gpu corpus", "gpu compiled", "gpu eager", "gpu score", "gpu rescore", "gpu audit", "gpu float32", "gpu outside",
    "gpu efficient", "gpu cudnn", "gpu math", "gpu default", "gpu flash",
    "h100 corpus", "h100 compiled", "h100 eager", "h100 score", "h100 rescore", "h100 audit", "h100 float32",
    "h100 efficient", "h100 cudnn", "h100 math", "h100 default", "h100 flash",
)  # fmt: skip


# --- all of it, on this processor


@pytest.fixture(scope="module")
def in_small(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file of `autoresearch gpu-check --device cpu`, what it printed and how long it took."""
    folder = tmp_path_factory.mktemp("check")
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "gpu-check", "--device", "cpu", "--out", "found.json"]
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {
        "PYTHONPATH": path, "AUTORESEARCH_HOME": str(small_corpus.parents[1]), "USER": "alice-secretname",
        "AUTORESEARCH_DTYPE": "float32",
    }  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found | {"printed": done.stdout, "wall": time.monotonic() - started, "folder": folder}


def test_every_step_is_made_on_a_processor(in_small: dict[str, Any]) -> None:
    steps = {step["name"]: step for step in in_small["steps"]}
    assert tuple(steps) == IN_SMALL
    assert in_small["verdict"] == "ok" and in_small["is_complete"] and in_small["schema"] == 1
    skipped = {name for name, step in steps.items() if step["verdict"] == "skip"}
    assert skipped == {
        f"{preset} {way}" for preset in ("gpu", "h100") for way in ("compiled", "float32", "efficient", "cudnn")
    }
    assert all(steps[name]["found"].startswith("skipped: ") for name in skipped)


def test_the_figures_are_those_of_real_trainings_and_scores(in_small: dict[str, Any]) -> None:
    facts = {step["name"]: step["facts"] for step in in_small["steps"]}
    eager = facts["gpu eager"]
    tokens = eager["num_steps"] * eager["parameters"]["TOTAL_BATCH_SIZE"]
    assert eager["num_tokens"] == pytest.approx(tokens, abs=2 * eager["parameters"]["TOTAL_BATCH_SIZE"])
    assert eager["tokens_per_second"] == pytest.approx(eager["num_tokens"] / eager["training_seconds"], rel=1e-3)
    assert eager["device"] == "cpu" and eager["mfu_percent"] is None and eager["is_in_sandbox"]
    assert not facts["gpu outside"]["is_in_sandbox"] and facts["gpu outside"]["num_steps"] > 0
    assert 1.0 < facts["gpu score"]["val_bpb"] < 8.0 and facts["gpu score"]["model"] == "gpu eager"
    assert facts["gpu rescore"]["largest_difference_nats"] <= 1e-4
    assert facts["gpu audit"]["accepted"] and facts["gpu audit"]["num_cuts"] > 100
    assert 0 < facts["gpu math"]["output_error"] < 1e-4 and facts["gpu flash"]["gradient_error"] < 1e-4
    assert facts["h100 math"]["forward_ms"] < facts["h100 math"]["forward_backward_ms"]


def test_the_file_names_no_user_and_no_folder(in_small: dict[str, Any]) -> None:
    text = json.dumps({key: value for key, value in in_small.items() if key not in ("printed", "folder")})
    assert "alice-secretname" not in text and str(Path.home()) + "/" not in text and str(PROJECT) not in text
    assert in_small["hardware"]["num_cores"] == os.cpu_count() and in_small["versions"]["torch"] == torch.__version__
    assert len(in_small["program"]["train_sha256"]) == 64


def test_the_table_has_each_training_and_each_backend(in_small: dict[str, Any]) -> None:
    table = in_small["printed"].partition("tokens/s  MFU")[2]
    for row in ("gpu eager", "gpu outside", "h100 eager", "gpu math", "h100 flash"):
        assert f"\n{row}  " in table
    assert "20 steps passed, 8 were skipped, 0 failed." in table and "found.json has all of it" in table
    assert [path.name for path in in_small["folder"].iterdir()] == ["found.json"]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    from autoresearch_kernel.cli import main

    started = time.monotonic()
    assert main(["gpu-check", "--device", "cpu", "--out", str(tmp_path / "none" / "found.json")]) == 1
    assert time.monotonic() - started < 5


def test_a_device_that_torch_does_not_find_is_one_failed_row() -> None:
    facts: dict[str, Any] = {}
    (row,) = check.run_check("xpu", lambda words: None, facts)
    assert row.check.found == "AUTORESEARCH_DEVICE is 'xpu', which torch does not find here: use cpu, or unset it."
    assert facts == {} and DEVICE not in os.environ


# --- sizes


def facts_of(memory_gb: float, flops: float, device: str = "cuda") -> dict[str, Any]:
    return {"device": device, "memory_mb": memory_gb * 1024, "flops": flops}


def preset(name: str) -> Preset:
    return read_preset(name, PRESETS)


def test_a_large_fast_gpu_trains_the_presets_as_they_are() -> None:
    for name in plan.PRESETS:
        sizes = plan.sizes_for(preset(name), facts_of(80, 3e14))
        assert sizes.reduced == "" and dict(sizes.parameters) == preset(name).parameters


def test_a_gpu_with_little_memory_gets_fewer_rows_by_name() -> None:
    sizes = plan.sizes_for(preset("h100"), facts_of(8, 1e14))
    assert sizes.reduced == "DEVICE_BATCH_SIZE 8 instead of 128: 8 GB of memory"
    assert sizes.parameters["TOTAL_BATCH_SIZE"] == preset("h100").parameters["TOTAL_BATCH_SIZE"]
    logits_mb = 4 * 8 * sizes.sequence_length * sizes.vocab_size / 2**20
    assert logits_mb <= 8 * 1024 / 10


def test_a_slow_device_gets_smaller_steps_by_name() -> None:
    sizes = plan.sizes_for(preset("h100"), facts_of(16, 2e12, "mps"))
    # 8 blocks of (4 * 512 + 2 * 4 * 512) * 512 weights and a head of 8192 * 512: 29.4 M, times 6 * 524288 at 2 TFLOP/s
    assert sizes.reduced == (
        "TOTAL_BATCH_SIZE 65536 instead of 524288: a step would take 46 s; "
        "DEVICE_BATCH_SIZE 16 instead of 128: 16 GB of memory"
    )
    slowest = plan.sizes_for(preset("h100"), facts_of(16, 1.0)).parameters
    assert slowest["TOTAL_BATCH_SIZE"] == 2048 and slowest["DEVICE_BATCH_SIZE"] == 1


@pytest.mark.parametrize(
    ("device", "is_rocm", "skipped"),
    [
        ("cuda", False, set()),
        ("cuda", True, {"cudnn"}),
        ("cpu", False, {"efficient", "cudnn"}),
        ("mps", False, {"flash", "efficient", "cudnn"}),
    ],
)
def test_backends_that_a_device_does_not_have_are_skipped_by_name(
    device: str, is_rocm: bool, skipped: set[str]
) -> None:
    rows = plan.backends_of(device, is_rocm)
    assert {row["backend"] for row in rows if row["skipped"]} == skipped
    assert len(rows) == 5


# --- what fails, and what goes on


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    facts = {"device": "cpu", "dtype": "float32", "memory_mb": 8192, "flops": 1e11}
    found = Bench(originals(), tmp_path, facts, plan.seconds_for("cpu"), 480.0, lambda words: None)
    for name in plan.PRESETS:
        found.sizes[name] = plan.sizes_for(preset(name), facts)
    return found


def test_a_step_that_raises_is_a_row_and_ends_no_other(bench: Bench) -> None:
    def broken(bench: Bench) -> list[Check]:
        raise ZeroDivisionError("a driver of 2031")

    (row,) = check._guarded(bench, check.Step("odd", 0.0, broken))
    assert row.check.verdict == "fail" and "ZeroDivisionError" in row.check.found and row.check.remedy
    assert report.verdict([row]) == "fail"


def test_a_step_for_which_no_time_is_left_is_skipped_with_the_reason(bench: Bench) -> None:
    bench.limit_seconds = 10.0
    (row,) = check._guarded(bench, check.Step("gpu compiled", 75.0, lambda bench: pytest.fail("it was made")))
    assert row.check.verdict == "skip" and "10 s, and it needs 75 s" in row.check.found
    assert report.verdict([row]) == "ok"


def test_what_depends_on_a_failed_step_is_skipped_by_name(bench: Bench) -> None:
    assert training.train(bench, "gpu", "eager").found.endswith("see the row `gpu corpus`")
    bench.corpora["gpu"] = (bench.folder, bench.folder)
    assert training.train(bench, "gpu", "eager").found.endswith("see the row `sandbox`")
    (row,) = check._score(bench, "gpu", "audit")
    assert row.found == "skipped: no training of this preset handed over a model"


def test_eager_follows_at_once_where_the_compiled_training_failed(bench: Bench) -> None:
    bench.facts["device"], bench.has_sandbox = "cuda", True
    names = [step.name for step in check.steps(bench)]  # no step is made, so there never is a model
    ways = [name.removeprefix("gpu ") for name in names if name.startswith("gpu ")]
    assert ways[:5] == ["corpus", "compiled", "eager", "outside", "score"] and ways[-1] == "attention"
    assert "h100 outside" not in names


def pretend_training(bench: Bench, monkeypatch: pytest.MonkeyPatch, outcomes: list[RunOutcome]) -> list[Any]:
    asked = []

    def run(training: Any, listener: Any) -> RunOutcome:
        asked.append((training, os.environ[training_module.EAGER]))
        return outcomes.pop(0)

    training_module = training
    monkeypatch.setattr(training, "run_training", run)
    bench.has_sandbox, bench.corpora["h100"] = True, (bench.folder, bench.folder)
    return asked


def test_a_batch_is_halved_by_name_after_torch_ran_out_of_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.facts |= {"device": "cuda", "memory_mb": 81920, "flops": 3e14}
    bench.sizes["h100"] = plan.sizes_for(preset("h100"), bench.facts)
    full = RunOutcome(Status.CRASH, "OutOfMemoryError: CUDA out of memory", None, None)
    measured = {"tokens_per_second": 1e6, "device": "cuda:0", "num_steps": 9, "peak_memory_mb": 7e4, "dev_bpb": 1.5}
    asked = pretend_training(bench, monkeypatch, [full, full, RunOutcome(None, "", bench.folder, None, measured)])
    found = training.train(bench, "h100", "compiled")
    assert found.verdict == "ok" and "DEVICE_BATCH_SIZE 32 instead of 64: torch ran out of memory" in found.found
    assert [eager for _, eager in asked] == ["0", "0", "0"] and training.EAGER not in os.environ
    assert "DEVICE_BATCH_SIZE = 32 " in asked[-1][0].source and bench.models["h100"].name == "h100 compiled"
    assert bench.sizes["h100"].parameters["DEVICE_BATCH_SIZE"] == 32


def test_a_sandbox_that_hides_the_gpu_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.facts["device"] = "cuda"
    measured = {"tokens_per_second": 1e3, "device": "cpu", "num_steps": 9, "peak_memory_mb": 7e4, "dev_bpb": 1.5}
    asked = pretend_training(bench, monkeypatch, [RunOutcome(None, "", bench.folder, None, measured)])
    found = training.train(bench, "h100", "eager")
    assert found.verdict == "fail" and "it trained on cpu, not on cuda" in found.found
    assert asked[0][1] == "1"


def test_a_training_of_a_study_is_not_disturbed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = RunOutcome(Status.INTERRUPTED, "a training of study nov23 uses this device", None, None)
    pretend_training(bench, monkeypatch, [outcome])
    found = training.train(bench, "h100", "eager")
    assert found.verdict == "fail" and "study nov23" in found.found and found.remedy.startswith("Wait until")


EAGER_IN_SANDBOX = """# %% tags=["parameters"]
SEED = 1  # fixed

# %%
import json
import os
from pathlib import Path

import torch

assert os.environ["TORCH_COMPILE_DISABLE"] == "1" and torch.compile(torch.sin)(torch.zeros(1)) == 0
assert not torch._dynamo.utils.counters["frames"]
folder = Path(os.environ["AUTORESEARCH_HANDOVER"])
(folder / "model.pkl").write_bytes(b"-")
(folder / "handover.json").write_text(json.dumps({"num_steps": 1, "device": "cpu"}))
"""


def test_a_training_in_the_sandbox_does_not_compile_when_it_is_called_eager(
    bench: Bench, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "set_parameters", lambda source, values: EAGER_IN_SANDBOX)
    bench.has_sandbox, bench.corpora["gpu"] = True, (small_corpus, small_corpus)
    found = training.train(bench, "gpu", "eager")
    assert found.verdict == "ok" and found.facts["num_steps"] == 1, found


# --- attention


def test_a_backend_that_ends_its_process_costs_no_other_backend(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"forward_ms": 1.0, "forward_backward_ms": 3.0, "forward_backward_spread_ms": 0.1, "forward_tflops": 1.0}
    good = {**times, "output_error": 1e-5, "gradient_error": 1e-5}
    answers = [
        ([{"backend": "math", **good}], "CUDA error: an illegal memory access was encountered"),
        ([{"backend": "flash", **good, "gradient_error": 0.5}], ""),
    ]
    asked: list[list[str]] = []

    def ask(project: Any, mode: str, request: str) -> Any:
        asked.append(json.loads(request)["backends"])
        return answers.pop(0)

    monkeypatch.setattr(attention, "_ask", ask)
    rows = {row.name: row for row in attention.compare_backends(bench, "gpu")}
    assert asked == [["math", "default", "flash"], ["flash"]]
    assert rows["gpu math"].verdict == "ok"
    assert rows["gpu default"].verdict == "fail" and "illegal memory access" in rows["gpu default"].found
    assert rows["gpu flash"].verdict == "fail" and "5.0e-01" in rows["gpu flash"].found


def test_a_backend_that_torch_refuses_is_skipped_with_its_reason(bench: Bench) -> None:
    request = {"shape": [2, 2, 16, 16], "dtype": "float32", "seconds": 0.01, "backends": ["cudnn", "math"]}
    with variables(**{DEVICE: "cpu"}):
        answers, _ = attention._ask(originals(), "attention", json.dumps(request))
    assert "No viable backend" in answers[0]["skipped"] and answers[1]["output_error"] < 1e-5
    row = attention._row("gpu cudnn", answers[0], (2, 2, 16, 16), "float32")
    assert row.verdict == "skip" and "No viable backend" in row.found


def test_the_error_of_attention_is_that_of_a_calculation_by_hand() -> None:
    code = """
import torch, prepare
from autoresearch_kernel.control.gpu_check.in_torch import reference_of, relative_error
q = torch.zeros(1, 1, 2, 2)
v = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
y, *_ = reference_of((q, q, v), torch.ones(1, 1, 2, 2))
assert y.tolist() == [[[[1.0, 2.0], [2.0, 4.0]]]], y  # equal weights: the mean of what came before
assert relative_error(torch.tensor([1.0, 4.2]), torch.tensor([1.0, 4.0])) - 0.05 < 1e-6
"""
    command = [sys.executable, str(PROJECT / "autoresearch_kernel" / "system" / "start.py"), "-c", code]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- the file and the original


def test_what_is_posted_has_the_names_of_files_and_no_number_that_json_lacks() -> None:
    facts = {"output": 'File "/opt/people/alice/venv/lib/torch/x.py", line 3', "share": float("nan"), "shape": (1, 2)}
    row = Row(Check("gpu eager", "fail", "see /data/alice/cache/model.pkl: 3 tokens/s", "", facts), 1.0)
    found = report.document([row], {}, is_complete=False, total_seconds=1.0)
    text = json.dumps(found, allow_nan=False)
    assert "alice" not in text and "model.pkl: 3 tokens/s" in text and ".../x.py" in text
    assert found["verdict"] == "fail" and found["steps"][0]["facts"]["share"] is None and not found["is_complete"]


def test_speeds_of_one_preset_are_compared() -> None:
    rows = [
        Row(Check(f"gpu {way}", "ok", "", facts={"tokens_per_second": speed, "is_compiled": way != "eager"}), 1.0)
        for way, speed in (("compiled", 300.0), ("eager", 200.0), ("outside", 310.0))
    ]
    words = list(report._comparisons({row.check.name: row.check for row in rows}))
    assert words == [
        "gpu compiled: 1.50 times as many tokens/s as not compiled",
        "gpu compiled: 0.97 times as many tokens/s as outside the sandbox",
    ]


ORIGINAL = """import torch
from kernels import get_kernel
import prepare
fa3 = get_kernel("somebody/flash-attention-3").flash_attn_interface
q = torch.randn(1, 8, 2, 4)
y = fa3.flash_attn_func(q, q, q, causal=True, window_size=(2, 0))
assert torch.allclose(y[:, :1], q[:, :1], atol=1e-6)  # the first token sees itself alone
print("step 1")
print("---")
print("val_bpb:          0.997900")
print("training_seconds: 300.1")
print("total_tokens_M:   499.6")
print("mfu_percent:      39.80")
"""


def test_a_checkout_of_the_original_runs_with_attention_of_pytorch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prepare.py").write_text("")
    (tmp_path / "train.py").write_text(ORIGINAL)
    facts = {"tokens_per_second": 1.7e6, "mfu_percent": 41.5}
    steps = [
        {"name": original.ROW, "facts": facts},
        {"name": "h100 score", "facts": {"model": original.ROW, "val_bpb": 1.2}},
    ]
    (tmp_path / "check.json").write_text(json.dumps({"steps": steps}))
    assert original.main([str(tmp_path), "--check", str(tmp_path / "check.json")]) == 0
    printed = capsys.readouterr().out
    assert "| tokens/s | 1,700,000 | 1,664,778 |" in printed and "| MFU, % | 41.5 | 39.8 |" in printed


def test_what_is_no_checkout_or_no_check_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert original.main([str(tmp_path)]) == 1
    assert "train.py is missing: name the folder of a checkout" in capsys.readouterr().err
    (tmp_path / "prepare.py").write_text("")
    (tmp_path / "train.py").write_text("raise SystemExit('no CUDA here')")
    assert original.main([str(tmp_path)]) == 1
    assert "exit status 1: no CUDA here" in capsys.readouterr().err
    (tmp_path / "check.json").write_text("{}")
    assert original.main([str(tmp_path), "--check", str(tmp_path / "check.json")]) == 1
    assert "is no file of `autoresearch gpu-check`" in capsys.readouterr().err
