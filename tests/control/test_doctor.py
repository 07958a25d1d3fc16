"""What the doctor finds on a machine that is well, and what it says of one that is not; and whether a record stands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control import doctor, shadows
from autoresearch_kernel.control.checks import Check, as_json, table, worst
from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.record.provenance import provenance
from autoresearch_kernel.record.study import Study
from autoresearch_kernel.run.kernelspec import install_kernelspec
from autoresearch_kernel.sandbox.kinds import SANDBOX, probe
from autoresearch_kernel.sandbox.probe import SandboxReport
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.processes import program_of, python_program
from autoresearch_kernel.system.speed import Load, Steadiness, busiest
from tests.conftest import counting_study
from tests.study.test_loop import Scripted

FACTS = {"device": "cpu", "device_name": "a test machine", "dtype": "float32", "num_threads": 2, "instructions": "AVX2"}
PARTS = ("content", "tokenizer", "heldout")
NAMES = [
    "versions", "disk", "corpus", "copies", "git", "files", "jupyter", "sandbox", "machine", "device", "threads",
    "kernel", "agents", "steady",
]  # fmt: skip


def test_the_doctor_looks_at_everything_in_real_processes_and_leaves_nothing(project: Path, small_corpus: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))  # short, for socket paths
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "doctor", "--json"]
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=project, env=os.environ | {"TMPDIR": str(scratch)}, capture_output=True, text=True, check=False
    )
    assert time.monotonic() - started < 60
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    checks = {check["name"]: check for check in said["checks"]}
    assert list(checks) == NAMES
    assert said["verdict"] in ("ok", "warn") and not [c for c in said["checks"] if c["verdict"] == "fail"]
    assert checks["sandbox"]["facts"]["name"] == probe().name and "no network" in checks["sandbox"]["found"]
    assert "hashes agree" in checks["corpus"]["found"] and small_corpus.name in checks["corpus"]["found"]
    assert checks["kernel"]["facts"]["kernel_start_seconds"] < checks["kernel"]["facts"]["total_seconds"]
    assert checks["steady"]["facts"]["flops"] > 1e8 and checks["steady"]["facts"]["spread"] > 0
    assert checks["threads"]["facts"]["torch"] >= 1
    assert not (project / "studies").exists()
    scratch.rmdir()  # which is empty


def test_a_number_format_that_is_refused_is_the_device_s_matter(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DTYPE", "float16")
    *_, last = doctor.examine(project)
    assert (last.name, last.verdict, last.remedy) == ("device", "fail", "")
    assert last.found == "AUTORESEARCH_DTYPE is 'float16': use float32 or bfloat16, or unset it."


def test_a_device_that_is_refused_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cuda:77")
    *_, last = doctor.examine(project)
    assert (last.name, last.verdict, last.remedy) == ("device", "fail", "")
    assert last.found == "AUTORESEARCH_DEVICE is 'cuda:77', which torch does not find here: use cpu, or unset it."


@pytest.mark.parametrize(("asked", "verdict"), [("", "warn"), ("cpu", "ok")])
def test_a_gpu_driver_on_a_machine_that_trains_on_its_processor_is_a_remark(
    asked: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", asked)
    monkeypatch.setattr("autoresearch_kernel.system.machine.has_gpu", lambda: True)
    check = doctor.device({"device": "cpu", "device_name": "a processor", "dtype": "float32"})
    assert check.verdict == verdict and ("AUTORESEARCH_DEVICE=cpu" in check.remedy) is (verdict == "warn")


def slices(*flops: float, others: Any = (), cores: int = 2, stolen: float = 0.0, device: str = "cpu") -> Steadiness:
    return Steadiness(flops, Load(others, cores, stolen), device)


def test_a_steady_machine_and_a_busy_one_are_told_apart_in_bits_per_byte() -> None:
    calm = doctor.steady(slices(99e9, 101e9, 99e9, 101e9))
    worth = "worth 0.0027 bits per byte at most in runs of 20 s"
    assert calm.verdict == "ok" and calm.found == f"steady: ±1.2 % at 100 GFLOP/s, {worth}"
    gpu = doctor.steady(slices(99e9, 101e9, 99e9, 101e9, device="cuda"))
    assert gpu.found.endswith("worth 0.0005 bits per byte at most in runs of 300 s")
    busy = doctor.steady(slices(60e9, 100e9, 60e9, 100e9, others=(("python", 3012, 0.87),)))
    assert busy.verdict == "warn"
    assert busy.found.startswith("busy: ±28.9 % at 80 GFLOP/s, worth 0.0664 bits per byte")
    assert "of 200 % others took: python (process 3012) 87 %" in busy.found and "end what is named" in busy.remedy
    shared = doctor.steady(slices(1e12, 1.4e12, 1e12, stolen=0.5))
    assert "the host of this virtual machine 50 %" in shared.found
    assert doctor.steady(slices(1e12, 1e12, others=(("cc1", 7, 0.3),))).verdict == "warn"  # it slows the next run


def test_a_load_names_the_busiest_others_and_is_low_below_a_tenth_of_all_cores() -> None:
    assert Load((("python", 7, 0.15),), 2).is_low  # 0.15 of 2 cores
    load = Load((("python", 3012, 0.87), ("cc1", 7, 0.5), ("ld", 8, 0.2), ("as", 9, 0.1)), 2, stolen=0.3)
    taken = (
        "python (process 3012) 87 %, cc1 (process 7) 50 %, ld (process 8) 20 %, the host of this virtual machine 30 %"
    )
    assert not load.is_low and load.words() == taken


def test_the_load_names_a_neighbour_and_neither_itself_nor_its_own_children() -> None:
    burn = "while True: pass"
    look = (
        "import json, subprocess, sys, time; from autoresearch_kernel.system.speed import measure_load\n"
        f"child = subprocess.Popen([sys.executable, '-c', '{burn}'])\n"
        "found = {pid: name for name, pid, _ in measure_load().others}\n"
        "child.kill(); print(json.dumps([child.pid, found]))"
    )
    with subprocess.Popen([sys.executable, "-c", burn]) as neighbour:
        try:
            said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
        finally:
            neighbour.kill()
    own, found = json.loads(said)
    assert found[str(neighbour.pid)] == "python -c" and not {str(own), str(os.getpid())} & set(found)


def test_the_busiest_others_are_named_and_we_are_not_among_them() -> None:
    before = {1: ("init", 5.0), 2: ("python", 1.0), 3: ("cc1", 2.0)}
    after = {1: ("init", 5.0), 2: ("python", 9.0), 3: ("cc1", 4.0), 4: ("ld", 3.0)}
    assert busiest(before, after, 4.0, {2}) == (("ld", 4, 0.75), ("cc1", 3, 0.5))


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("python train.py --fast", "python train.py"),
        ("/opt/bin/python3.12 -X dev -u /home/ann/project/train.py -m x", "python train.py"),
        ("python -Wignore -m pytest -n 2", "python -m pytest"),
        ("python -c pass", "python -c"),
        ("python", ""),
        ("python -m", "python -m "),
        ("", ""),
    ],
)
def test_a_python_is_named_by_its_script_or_module(line: str, program: str) -> None:
    assert python_program(line.split()) == program


def test_others_are_named_by_what_they_run(tmp_path: Path) -> None:
    """One that is a Python by its script; measure_load does not see its own children, so they are named here."""
    (tmp_path / "burn.py").write_text("print(flush=True); input()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(tmp_path / "burn.py")], **pipes) as neighbour:
        assert neighbour.stdout is not None and neighbour.stdout.readline()  # a process that begins has no words yet
        named = program_of(neighbour.pid, "python3.12"), program_of(neighbour.pid, "cc1")
        neighbour.kill()
    assert named == ("python burn.py", "cc1")
    assert program_of(neighbour.pid, "python3.12") == "python3.12", "it has ended"


@pytest.mark.parametrize(
    ("torch_threads", "env", "cores", "verdict", "words"),
    [
        (2, {}, 2, "ok", "2 for 2 cores; OMP_NUM_THREADS is not set, GOMP_SPINCOUNT=1000"),
        (8, {}, 2, "warn", "they wait for each other"),
        (1, {"OMP_NUM_THREADS": "1"}, 16, "warn", "most cores stand idle"),
        (1, {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}, 2, "ok", "OMP_NUM_THREADS=1, GOMP_SPINCOUNT=0"),
    ],
)
def test_threads_are_set_against_the_cores_that_may_be_used(
    torch_threads: int, env: dict[str, str], cores: int, verdict: str, words: str
) -> None:
    check = doctor.threads(FACTS | {"num_threads": torch_threads}, env, cores)
    assert check.verdict == verdict and words in check.found


def test_where_no_sandbox_can_be_had_the_doctor_fails_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.delenv(SANDBOX, raising=False)
    none = SandboxReport("none", (), (("bubblewrap", "bwrap is not installed", "Install bubblewrap."),))
    check = doctor.sandboxed(none)
    assert check.verdict == "fail" and "bwrap is not installed" in check.found
    assert check.remedy == "Install bubblewrap. --unsafe runs without, and marks every result untrusted."
    assert doctor.kernel(project, none).verdict == "fail"  # nothing runs outside to find out
    half = SandboxReport("landlock", ("no network",), (("a GPU", "CUDA does not start", "Install bubblewrap."),))
    check = doctor.sandboxed(half)
    assert (check.verdict, check.remedy) == ("warn", "Install bubblewrap.") and "Not: a GPU" in check.found
    monkeypatch.setenv(SANDBOX, "none")
    assert doctor.sandboxed(none).verdict == "fail"


def test_a_corpus_whose_bytes_changed_is_found_and_none_is_a_remark(small_corpus: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (none,) = doctor.corpora(cache)
    assert none.verdict == "warn" and "`autoresearch prepare` builds" in none.remedy
    for side in ("corpora", "heldout"):  # other tests may have made another corpus beside this one
        shutil.copytree(small_corpus.parents[1] / side / small_corpus.name, cache / side / small_corpus.name)
    (whole,) = doctor.corpora(cache)
    assert whole.verdict == "ok"
    other = shutil.copytree(whole.facts["folder"], cache / "corpora" / "another")
    (other / "meta.json").write_text("{")
    broken, still_whole = doctor.corpora(cache)
    assert broken.verdict == "fail" and "another/meta.json cannot be used" in broken.found
    assert still_whole.verdict == "ok"
    shutil.rmtree(other)
    rows = cache / "heldout" / small_corpus.name / "test.npy"
    changed = np.load(rows)
    changed[0, 1] ^= 1
    np.save(rows, changed)
    (cache / "corpora" / small_corpus.name / "tokenizer.tiktoken").write_bytes(b"")
    (broken,) = doctor.corpora(cache)
    assert broken.verdict == "fail" and "tokenizer, held-out rows are not those it was made with" in broken.found
    assert "prepare --corpus stdlib --vocab-size 512 --sequence-length 64 --rebuild" in broken.remedy


def test_coding_agents_on_path_are_listed_and_not_started(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    none = doctor.agents(project)
    assert none.verdict == "ok" and none.found.startswith("none of claude, codex,") and none.facts["installed"] == []
    for name in ("codex", "ollama"):
        (folder / name).write_text(f"#!/bin/sh\n: > {tmp_path}/started\n")
        (folder / name).chmod(0o755)
    found = doctor.agents(project)
    assert found.verdict == "ok" and "on PATH: codex, ollama; " in found.found and "doctor --with codex`" in found.found
    assert not (tmp_path / "started").exists()
    (project / "presets").mkdir(exist_ok=True)
    (project / "presets" / "agents.yaml").write_text("- mine")
    assert doctor.agents(project).verdict == "warn"


def test_git_and_disk_are_remarks_until_nothing_would_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.git(project).verdict == "ok"
    (project / ".git").rename(project / "git")
    assert doctor.git(project).verdict == "warn" and "no lineage" in doctor.git(project).found
    for free, verdict in ((5e9, "ok"), (1e9, "warn"), (1e6, "fail")):
        monkeypatch.setattr(doctor, "free_bytes", lambda folder, free=free: free)
        assert doctor.disk(project).verdict == verdict


def test_a_table_has_a_line_a_check_and_the_remedy_below() -> None:
    checks = [Check("sandbox", "ok", "bubblewrap"), Check("git", "warn", "git is not installed", "Install git.")]
    assert table(checks, width=80).splitlines() == [
        "✓ sandbox         bubblewrap",
        "! git             git is not installed",
        "                  → Install git.",
    ]
    assert worst(checks) == "warn" and as_json(checks)["checks"][1]["remedy"] == "Install git."
    assert max(map(len, table([Check("x", "fail", "word " * 60)], width=80).splitlines())) <= 80


# --- verify, and what a study refuses to go on with


def verdicts(study: Study) -> dict[str, str]:
    return {check.name: check.verdict for check in verify(study)}


def test_a_record_stands_until_something_that_it_rests_on_changes(
    measured: Study, small_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(verdicts(measured).values()) == {"ok"}
    assert main(["verify"]) == 0
    assert "each of 3 belongs to what stands here" in capsys.readouterr().out

    train = measured.experiment(0).train
    kept = train.read_text()
    train.write_text(kept + "# later\n")
    assert [n for n, v in verdicts(measured).items() if v != "ok"] == ["train.py", "scores"]
    train.write_text(kept)
    prepare = measured.project / "prepare.py"
    prepare.write_text(prepare.read_text() + "# later\n")
    assert [n for n, v in verdicts(measured).items() if v != "ok"] == ["prepare.py", "scores"]
    assert main(["verify", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    changed, scores = [check for check in said["checks"] if check["verdict"] == "fail"]
    assert scores["found"].startswith("3 of 3 not: ")
    assert changed["facts"]["recorded"][:8] in changed["found"] and changed["facts"]["found"][:8] in changed["found"]


def test_every_score_is_bound_to_its_own_code_and_settings(measured: Study) -> None:
    events = read_events(measured.paths.history)
    (digest,) = {event["provenance"] for event in events if event["event"] == "scored"}  # three runs of one train.py
    assert len(digest) == 64 and {run.provenance for run in replay(events).experiments[0].runs} == {digest}
    lines = measured.paths.history.read_text().replace(digest, digest[::-1])
    assert digest != digest[::-1]
    from autoresearch_kernel.record.history import History

    measured.paths.history.unlink()
    with History.open(measured.paths.history) as history:
        for event in map(json.loads, lines.splitlines()):
            history.append(
                event["event"], **{k: v for k, v in event.items() if k not in ("event", "seq", "time", "crc")}
            )
    (scores,) = [check for check in verify(measured) if check.name == "scores"]
    assert scores.verdict == "fail" and "3 of 3 not: 0000, run 1; 0000, run 2; 0000, run 3" in scores.found


def test_a_digest_is_the_same_for_the_same_work_and_another_for_any_part_of_it(
    project: Path, small_corpus: Path
) -> None:
    one, same = (counting_study(project, small_corpus, name=name) for name in ("one", "same"))
    versions = {"torch": "2.0", "system": "Linux 6.1"}
    digest = provenance(one.facts, versions, "ab")
    assert provenance(same.facts, versions | {"system": "Linux 6.2"}, "ab") == digest
    corpus, hashes = one.facts["corpus"], one.facts["sha256"]
    others = [
        provenance(one.facts, versions, "cd"),
        provenance(one.facts, versions | {"torch": "2.1"}, "ab"),
        provenance(one.facts | {"time_budget_seconds": 3.0}, versions, "ab"),
        provenance(one.facts | {"sha256": hashes | {"prepare.py": "0"}}, versions, "ab"),
        provenance(one.facts | {"corpus_files": one.facts["corpus_files"] | {"train.bin": "0"}}, versions, "ab"),
        *(provenance(one.facts | {"corpus": corpus | {f"{name}_sha256": "0"}}, versions, "ab") for name in PARTS),
    ]
    assert len({digest, *others}) == 1 + len(others) == 9


@pytest.mark.parametrize("file", ["val.npy", "test.npy", "token_bytes.npy"])
def test_a_study_stops_when_the_bytes_it_is_scored_on_have_changed(
    project: Path, small_corpus: Path, tmp_path: Path, file: str
) -> None:
    home = shutil.copytree(small_corpus.parents[1], tmp_path / "home")
    corpus = home / "corpora" / small_corpus.name
    study = counting_study(project, corpus)
    path = corpus / file if file == "token_bytes.npy" else home / "heldout" / corpus.name / file
    array = np.load(path)
    array.flat[-1] += 1
    np.save(path, array)
    with pytest.raises(Exception, match=r"no longer hold what they held \(\w{8} then, \w{8} now\).*prepare.*--rebuild"):
        next(iter(research(study, Scripted(), experiments=1)))


def test_files_that_hide_a_module_of_python_are_named(project: Path) -> None:
    assert shadows.shadowing_words(project) == ""
    for name in ("random.py", "numpy.py", "mine.py", "test.py", "email/__init__.py", "calendar/notes.txt"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()
    words = shadows.shadowing_words(project)
    assert words.startswith(f"email, numpy.py, random.py in {project} hide modules") and words.endswith("rename them.")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no kernel autoresearch yet"),
        (
            '{"argv": ["/old/python", "-m", "autoresearch_kernel", "-f", "{connection_file}"]}',
            "starts /old/python",
        ),
        ('{"argv": 3}', "comes first and starts nothing"),
        ("{", "cannot be read"),
    ],
)
def test_another_kernel_of_this_name_is_named(
    content: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels" / "autoresearch"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "kernel.json").write_text(content)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    if content is None:
        monkeypatch.setattr("jupyter_client.kernelspec.KernelSpecManager.find_kernel_specs", lambda self: {})
    check = shadows.jupyter()
    assert found in check.found and check.verdict == ("ok" if content is None else "warn")
    assert content is None or str(folder) in check.remedy


def test_this_environment_s_kernel_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_kernelspec(tmp_path)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    assert shadows.jupyter().verdict == "ok"
