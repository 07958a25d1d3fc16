"""What is private is found nowhere in a bundle; what may be private is asked about."""

from __future__ import annotations

import html
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_kernel.core.sanitize import Rule, readable
from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.history import read_state
from autoresearch_kernel.record.study import StudyError, open_folder
from autoresearch_kernel.share import build
from autoresearch_kernel.share.build import Made, make_bundle
from autoresearch_kernel.share.bundle import read_bundle
from autoresearch_kernel.share.check import check_bundle
from autoresearch_kernel.share.clean import KEYS, Cleaner, Doubt, doubts_in, rules_for, rules_for_workers, rules_of
from autoresearch_kernel.share.command import Unanswered, ignore_progress, share, share_study
from autoresearch_kernel.share.material import read_material
from autoresearch_kernel.show.study_words import busy_words
from autoresearch_kernel.study.across import note_workers
from autoresearch_kernel.system.slot import Slot
from autoresearch_kernel.system.speed import Load
from tests.conftest import PROJECT
from tests.shared_night import (
    ENVIRONMENT,
    HOST,
    KEY,
    LEAK,
    SECRET,
    TOKEN,
    USER,
    VALUE,
    WORDS,
    Night,
    alice,  # noqa: F401  (a fixture)
    make_night,
)

MADE_AT = "2027-01-15T09:00:00.000Z"


def files_of(made: Made) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(made.data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def bundle(night: Night, *removed: Doubt, has_prompts: bool = True) -> Made:
    rules = (*rules_for(night.study.project), *rules_of(removed))
    return make_bundle(read_material(night.study, has_prompts=has_prompts), rules, MADE_AT, ignore_progress)


def readings(data: bytes) -> Iterator[str]:
    """The text of a file, and what a page or JSON makes of its escapes."""
    text = data.decode()
    yield text
    yield html.unescape(html.unescape(text))
    yield re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)


def test_planted_names_and_keys_are_found_in_no_file(alice: Path) -> None:  # noqa: F811
    night = make_night(alice, leak=LEAK)
    doubts: list[Doubt] = []
    path, made = share_study(night.study, alice / "out.zip", decide=lambda found: doubts.extend(found) or found)
    assert path.read_bytes() == made.data
    texts = [(name, text) for name, data in files_of(made).items() for text in readings(data)]
    assert len(texts) > 60
    for what, word in WORDS.items():
        assert [name for name, text in texts if word.lower() in text.lower()] == [], what
    assert {doubt.word for doubt in doubts} >= {HOST}
    told = {part["what"]: part["count"] for part in made.removed}
    assert told.keys() >= {"user name", "home path", "key or token", "value of your environment"}
    assert all(count > 10 for what, count in told.items() if what == "key or token")


def test_the_same_words_are_found_in_the_study_itself(alice: Path) -> None:  # noqa: F811
    night = make_night(alice, leak=LEAK)
    kinds = {path.suffix for path in night.study.paths.folder.rglob("*") if path.is_file() and KEY in path.read_text()}
    assert kinds == {".jsonl", ".py", ".diff", ".json", ".ipynb"}


@pytest.mark.parametrize("folder", ["/tmp", "/var/folders/x9/abc_12/T", "/scratch/alice/tmp"])
def test_temporary_folders_of_this_program_are_removed(folder: str, tmp_path: Path) -> None:
    cleaner = Cleaner(rules_for(tmp_path, {}))
    cleaned = cleaner.text(f"--existing {folder}/arun-aq_id8yn/kernel/kernel.json, and arun-time")
    assert cleaned == "--existing temporary-folder/kernel/kernel.json, and arun-time"
    assert {"what": "temporary folder", "count": 1} in cleaner.removed()


@pytest.mark.parametrize(
    "key",
    [
        "ya29." + "a1B2-" * 8, "Authorization: Basic dXNlcjpwYXNzd29yZA==", "AccountKey=" + "aB3/" * 10 + "==",
        "token: " + "0a1b2c3d" * 4,
        KEY, TOKEN, "ghp_" + "a1B2" * 9, "github_pat_" + "a1B2_" * 8, "AKIA" + "ABCD1234" * 2, "AIza" + "Sy1-" * 9,
        "xoxb-12345-abcdefghij", "glpat-" + "a1b2c3d4e5f6g7h8", "gsk_" + "a1" * 12, "npm_" + "a1B2" * 9,
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "Bearer abcdef0123456789", 'api_key = "abcd1234efgh"',
        "PASSWORD: s3cretphrase", "https://alice:opensesame@host/x",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\nZXk=\n-----END OPENSSH PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_a_key_is_known_by_its_form(key: str) -> None:
    cleaner = Cleaner(KEYS)
    cleaned = cleaner.text(f"before {key} after")
    secret = key.split()[-1].strip('"').split("alice:")[-1].split("@")[0] if "BEGIN" not in key else "b3BlbnNzaC1r"
    assert secret not in cleaned and "removed-key" in cleaned
    assert cleaned.startswith("before ") and cleaned.endswith(" after")
    assert cleaner.removed() == [{"what": "key or token", "count": 1}]
    assert cleaner.text(cleaned) == cleaned


@pytest.mark.parametrize("name", ["train.py", "prepare.py", "program.md", "docs/agents.md", "docs/presets.md"])
def test_code_and_prose_without_private_words_stay_as_they_are(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8").replace("sk-...", "")
    cleaner = Cleaner(rules_for(Path("/srv/nowhere"), {"LANG": "C", "PYTHON_VERSION": "3.12.1", "SHLVL": "1"}))
    assert cleaner.text(text) == text


def test_values_of_secret_variables_are_removed_and_those_of_a_system_are_not() -> None:
    environ = ENVIRONMENT | {"PATH": "/usr/local/bin:/usr/bin", "CUDA_VERSION": "12.4.1", "EDITOR_TOKEN": "short"}
    cleaner = Cleaner(rules_for(Path("/srv/nowhere"), environ))
    assert cleaner.text(f"{SECRET}, {VALUE}; /usr/local/bin 12.4.1 short") == (
        "removed-value, removed-value; /usr/local/bin 12.4.1 short"
    )


def test_doubts_name_the_word_its_kind_and_its_first_place(alice: Path) -> None:  # noqa: F811
    texts = [
        ("one", f"{HOST} and max@lab-of-alice.org, q@k.transpose(1), 10.20.30.40"),
        ("two", f"{HOST} Zk3vQ9xLm2Rt7yBn4cWp8sHd w5 3.11.4.1 {USER} Alice"),
    ]
    found = {doubt.word: doubt for doubt in doubts_in(texts, alice, {"USER": USER, "WIFI": "harbour view"})}
    assert found[HOST] == Doubt("host name, or a word like it", HOST, 2, "one")
    assert found["max@lab-of-alice.org"].what == "e-mail address"
    assert found["10.20.30.40"].what == "network address"
    assert found["Zk3vQ9xLm2Rt7yBn4cWp8sHd"] == Doubt("long random word, perhaps a key", "Zk3vQ9xLm2Rt7yBn4cWp8sHd", 1,
                                                        "two")  # fmt: skip
    assert USER not in found and "q@k.transpose" not in found
    cleaner = Cleaner(rules_of([found[HOST]]))
    assert cleaner.text(f"{HOST}, {HOST}2") == f"removed-value, {HOST}2"


def test_a_name_is_found_within_longer_words_and_not_within_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "cache_alice1 alice1-box ALICE1_RUNS malice1 alice12"
    cleaner = Cleaner(_rules_of_user("alice1", tmp_path, monkeypatch))
    assert cleaner.text(words) == "cache_user user-box user_RUNS malice1 alice12"
    cleaner = Cleaner(_rules_of_user("alice", tmp_path, monkeypatch))
    words = "cache_alice, alice-box, malice, the alice"
    assert cleaner.text(words) == words, "it may be a word of prose, so the user is asked"
    (doubt,) = doubts_in([("one", words)], tmp_path, {})
    assert (doubt.word, doubt.count) == ("alice", 1), "within a longer word it may be a name in the code"


def _rules_of_user(name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Rule, ...]:
    for variable in ("USER", "LOGNAME"):
        monkeypatch.setenv(variable, name)
    return rules_for(project, {})


def test_workers_of_a_cluster_get_numbers(tmp_path: Path) -> None:
    names = ["gpu1 #1", "gpu1 #2", "gpu10 (NVIDIA A100, 80 GB)", "tcp://10.0.0.5:40001 (again)", "a"]
    slots = {"event": "slots", "names": names, "machines": [{}] * 5, "kinds": ["", "", "NVIDIA A100, 80 GB", "", ""]}
    here = {"event": "slots", "names": ["slot 1", "slot 2"]}
    cleaner = Cleaner(rules_for_workers([here, slots]))
    words = "gpu1 #2, gpu10 (NVIDIA A100, 80 GB), tcp://10.0.0.5:40001, gpu100, slot 1, a; an A100, as gpu1"
    assert cleaner.text(words) == (
        "worker-1 #2, worker-2 (NVIDIA A100, 80 GB), worker-3, gpu100, slot 1, a; an A100, as worker-1"
    )
    certain = cleaner.rules
    assert not doubts_in([("one", words)], tmp_path, {}, certain=certain)
    (doubt,) = doubts_in([("one", "box.lab.example.edu:8000 is down")], tmp_path, {}, server="box.lab.example.edu:8000")
    assert (doubt.word, doubt.what) == ("box.lab.example.edu:8000", "server of the language model")
    assert not doubts_in([("one", "api.openai.com is down")], tmp_path, {}, server="api.openai.com")


@pytest.mark.parametrize("is_old", [False, True])
def test_workers_that_only_notes_name_get_numbers_too(alice: Path, is_old: bool) -> None:  # noqa: F811
    facts = {
        "device": "cpu", "device_name": "Intel(R) Xeon(R) CPU", "dtype": "float32", "memory_mb": 8192, "flops": 1e11,
        "versions": {"torch": "2.13.0"}, "sandbox": "bubblewrap",
    }  # fmt: skip
    kind = "Intel(R) Xeon(R) CPU, 8 GB, 50 GFLOP/s"
    slots = [
        Slot(0, "anna-ws #1", facts=facts), Slot(1, "gpu.lab.org (again)", facts=facts),
        Slot(2, f"ben-ws ({kind})", facts=facts | {"flops": 5e10}, machine=kind),
    ]  # fmt: skip
    night = make_night(alice)
    noted: list[dict[str, Any]] = []
    session: Any = SimpleNamespace(
        backend=SimpleNamespace(divide=lambda num: slots),
        note=lambda text, **facts: noted.append({"text": text} | facts),
    )
    note_workers(session, "tcp://10.0.0.1:8786")
    note = {"text": noted[0]["text"]} if is_old else noted[0]
    night.writer.append("note", **note)
    left_out = "The worker carl-ws has joined the cluster, and is left out. It has another version."
    night.writer.append("note", text=left_out)
    night.writer.append("worker_lost", experiment=4, run=0, phase="scoring", reason="The worker dora-ws is gone.")
    path, _ = share_study(night.study, alice / "out.zip", decide=list)
    with zipfile.ZipFile(path) as opened:
        texts = {name: opened.read(name).decode() for name in opened.namelist()}
    words = ("anna-ws", "gpu.lab.org", "ben-ws", "carl-ws", "dora-ws")
    assert [(name, word) for name, text in texts.items() for word in words if word in text] == []
    history = texts["nov23/history.jsonl"]
    assert "3 slots of a cluster: worker-1 #1, worker-2 (again). Each is Intel(R) Xeon(R) CPU with 8.0 GB" in history
    assert f"torch 2.13.0. worker-3 ({kind}). It is Intel(R)" in history
    assert "The worker worker-4 has joined" in history and "The worker worker-5 is gone" in history


RED, BOLD, RESET = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def test_a_word_that_escapes_part_or_hide_is_removed_as_well(alice: Path) -> None:  # noqa: F811
    mail, address = "max@lab-of-alice.org", "10.20.30.40"
    parted = [f"{word[:6]}{BOLD}{word[6:]}" for word in (HOST, KEY, SECRET, USER, mail, address)]
    leak = f"{RED}{HOST}{RESET} and {RED}{address}{RESET} at {' '.join(parted)} {RED}end{RESET}"
    found: list[Doubt] = []
    path, made = share_study(
        make_night(alice, leak=leak).study, alice / "out.zip", agree=bool,
        decide=lambda doubts: found.extend(doubts) or doubts,
    )  # fmt: skip
    assert path.is_file() and {doubt.word for doubt in found} >= {HOST, mail, address}
    words = (HOST, KEY[6:], SECRET, USER, mail, address)
    texts = [(name, readable(text)) for name, data in files_of(made).items() for text in readings(data)]
    assert [(name, word) for name, text in texts for word in words if word.lower() in text.lower()] == []


def test_escapes_that_hide_nothing_stay_as_they_are() -> None:
    cleaner = Cleaner(KEYS)
    text = f"{RED}red{RESET}\r\n{BOLD}key: {KEY}{RESET} {TOKEN}\n"
    assert cleaner.text(text) == f"{RED}red{RESET}\r\n{BOLD}key: removed-key{RESET} removed-key\n"
    assert cleaner.text(f"{KEY[:30]}{BOLD}{KEY[30:]}\n") == "removed-key\n"
    assert cleaner.removed() == [{"what": "key or token", "count": 3}]


def test_names_that_a_training_or_an_agent_chooses_are_sought_and_cleaned(alice: Path) -> None:  # noqa: F811
    night, mail = make_night(alice), "max@lab-of-alice.org"
    chosen = {"details": {"of": {f"idea of {HOST}": 1}}, "changes": {f"A {mail}": 2}}
    night.writer.append("refused", experiment=5, objection="dry run", why="x", hypothesis="y", parameters={mail: 1})
    night.decide(4, "crash", None)
    night.writer.append("proposed", experiment=5, hypothesis="z", agent="llm", parent=1, **chosen)
    night.writer.append("started", experiment=5, run=0, seed=1)
    night.writer.train(5, 0, **{f"figure of {HOST}": 1.0})
    found: list[Doubt] = []
    path, _ = share_study(night.study, alice / "out.zip", decide=lambda doubts: found.extend(doubts) or doubts)
    assert {doubt.word: doubt.count for doubt in found} == {HOST: 2, mail: 2}
    with zipfile.ZipFile(path) as opened:
        history = opened.read("nov23/history.jsonl").decode()
    assert HOST not in history and mail not in history and '"figure of removed-value": 1.0' in history


@pytest.mark.parametrize("name", ["agent", "keep", "proposed", "role"])
def test_a_user_may_have_a_word_of_the_record_as_a_name(
    alice: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    night = make_night(alice, leak=f"by {name}")
    night.writer.append("refused", experiment=5, objection="dry run", why=f"as {name} said", hypothesis="y")
    for variable in ("USER", "LOGNAME"):
        monkeypatch.setenv(variable, name)
    path, made = share_study(night.study, alice / "out.zip", agree=bool, decide=list)
    assert "user name, or a word like it" in {part["what"] for part in made.removed}
    assert [row.findings for row in check_bundle(read_bundle(path)) if row.findings] == []
    with zipfile.ZipFile(path) as opened:
        history = opened.read("nov23/history.jsonl").decode()
    shared, own = (map(json.loads, text.splitlines()) for text in (history, night.study.paths.history.read_text()))
    assert [(e["event"], e.keys() - {"chain"}) for e in shared] == [(e["event"], e.keys()) for e in own]
    assert f"by {name}" not in history and "by removed-value" in history


def test_a_bundle_whose_name_was_private_is_replaced_by_the_next_one(
    alice: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("USER", "LOGNAME"):
        monkeypatch.setenv(variable, "anna")
    night = make_night(alice)
    study = replace(night.study, name="anna", facts=night.study.facts | {"name": "anna"})
    for decide in (list, list, lambda doubts: [], lambda doubts: [], list):
        path, made = share_study(study, alice / "anna.zip", decide=decide)
        with zipfile.ZipFile(path) as opened:
            (top,) = {name.split("/")[0] for name in opened.namelist()}
        assert path.read_bytes() == made.data and top == ("removed-value" if decide is list else "anna")
    with pytest.raises(StudyError, match="is no bundle of nov23"):
        share_study(night.study, alice / "anna.zip", decide=list)


def test_a_bundle_that_could_not_be_checked_is_not_made(alice: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(build, "MOST_BYTES", 100_000)
    night = make_night(alice)
    with pytest.raises(StudyError, match=r"more than 0 MB is not read .*: add --no-prompts"):
        bundle(night)
    with pytest.raises(StudyError, match=r"so none was made\.$"):
        bundle(night, has_prompts=False)


def test_what_a_training_calls_its_figures_is_cleaned_too(alice: Path) -> None:  # noqa: F811
    night = make_night(alice)
    experiment = read_state(night.study.paths.history).experiments[0]
    curve = night.study.experiment(0).metrics(experiment.runs[0].index)
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text(json.dumps({"step": 1, "seconds": 0.1, "train_loss": 2.0, f"loss of {USER}": 1.0}) + "\n")
    found = files_of(bundle(night))
    (text,) = (data.decode() for name, data in found.items() if name.endswith("0000/handover/metrics.jsonl"))
    assert "train_loss" in text and USER not in text


def test_a_script_removes_all_doubts_and_without_a_terminal_they_are_named(
    alice: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    night = make_night(alice, leak=f"call {HOST}")
    with pytest.raises(Unanswered, match=f"may be private .*{HOST}.* add --yes"):
        share(night.study, alice / "a.zip", True, is_yes=False)
    assert not (alice / "a.zip").exists()
    share(night.study, alice / "a.zip", True, is_yes=True)
    said = capsys.readouterr().out
    assert "removed: host name, or a word like it" in said and "open index.html" in said
    assert "The study still runs" in said


def test_prompts_are_left_out_where_the_person_does_not_agree(alice: Path) -> None:  # noqa: F811
    night = make_night(alice)
    with_prompts, without = (bundle(night, has_prompts=agreed) for agreed in (True, False))
    marks = b"Prompt and reply", b"Propose. "
    assert all(mark in files_of(with_prompts)["nov23/experiments/0001/index.html"] for mark in marks)
    assert not any(mark in data for mark in marks for data in files_of(without).values())
    said = json.loads(files_of(without)["nov23/manifest.json"])
    assert said["prompts"] is False and said["running"] is True


def test_the_machine_s_processes_are_not_in_the_history(alice: Path) -> None:  # noqa: F811
    night = make_night(alice)
    load = Load((("python my_other_work.py", 3012, 0.87), ("(sd-pam)  x", 7, 0.3)), 2)
    busy = {"why": "a training is to begin", "cores": load.cores, "num_cores": 2, "who": load.words()}
    night.writer.append("busy", **busy)
    night.writer.append("note", text=busy_words(replay(night.writer.history.events).busy[-1], 0.1))
    night.writer.append("quiet_wait", **busy, seconds=60.0)
    later = busy | {"who": "later_work (process 99) 80 %"}
    night.writer.append("quiet_waited", **later, seconds=60.0)
    night.writer.append("note", text=f"Beside it ran {later['who']} until now.")
    night.writer.append("opened", pid=4321, boot_id="b00t-1d")
    files = files_of(bundle(night))
    history = files["nov23/history.jsonl"].decode()
    words = ("my_other_work", "sd-pam", "later_work", "process 3012", "4321", "b00t-1d")
    assert [(name, word) for name, data in files.items() for word in words if word in data.decode()] == []
    assert "other processes take 117 % of 200 % processor time. A training beside them" in history
    assert "Beside it ran  until now." in history


def test_a_train_py_that_cleaning_changes_has_its_new_hash_in_the_history(alice: Path) -> None:  # noqa: F811
    from autoresearch_kernel.share.manifest import file_facts

    night = make_night(alice, leak=LEAK)
    files = files_of(bundle(night))
    events = [json.loads(line) for line in files["nov23/history.jsonl"].decode().splitlines()]
    for event in events:
        if event["event"] == "proposed":
            source = files[f"nov23/experiments/{event['experiment']:04d}/train.py"]
            assert event["train_sha256"] == file_facts(source)["sha256"]


def test_a_train_py_that_was_edited_afterwards_is_not_given_a_fitting_hash(alice: Path) -> None:  # noqa: F811
    from autoresearch_kernel.share.manifest import file_facts

    night = make_night(alice)
    path = night.study.experiment(1).train
    path.write_text(path.read_text() + "# nicer\n")
    files = files_of(bundle(night))
    proposed = next(
        event for line in files["nov23/history.jsonl"].decode().splitlines()
        if (event := json.loads(line))["event"] == "proposed" and event["experiment"] == 1
    )  # fmt: skip
    assert proposed["train_sha256"] != file_facts(files["nov23/experiments/0001/train.py"])["sha256"]


def test_a_study_without_a_decision_is_nothing_to_share(alice: Path) -> None:  # noqa: F811
    from tests.event_writer import Writer

    writer = Writer(alice).open()
    with pytest.raises(StudyError, match="no decided experiment yet"):
        read_material(writer.study, has_prompts=True)
    writer.history.close()


def test_at_a_terminal_the_user_says_which_doubts_may_stay(tmp_path: Path) -> None:
    night = make_night(tmp_path, leak="max@lab-of-alice.org 10.20.30.40")
    terminal, its_end = os.openpty()
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "share", str(night.study.paths.folder), "--prompts"]
    for answer, kept, gone in (
        (b"2\n", "10.20.30.40", "max@lab-of-alice.org"), (b"\n", "removed-value", "10.20.30.40"), (b"q\n", "", "")
    ):  # fmt: skip
        out = tmp_path / f"{len(answer)}{answer[:1].decode().strip()}.zip"
        os.write(terminal, answer)
        done = subprocess.run(
            [*command, "--out", str(out)], stdin=its_end, capture_output=True, text=True, cwd=tmp_path
        )
        assert "   1  max@lab-of-alice.org   (e-mail address; " in done.stdout
        if answer == b"q\n":
            assert done.returncode == 1 and "No bundle was made" in done.stderr and not out.exists()
            continue
        assert done.returncode == 0, done.stderr
        with zipfile.ZipFile(out) as opened:
            history = opened.read("nov23/history.jsonl").decode()
        assert kept in history and gone not in history
    os.close(terminal)
    os.close(its_end)


def test_prompts_are_shared_only_with_the_user_s_agreement(tmp_path: Path) -> None:
    folder = make_night(tmp_path).study.paths.folder
    terminal, its_end = os.openpty()
    command = [sys.executable, "-m", "autoresearch_kernel.cli", "share", str(folder)]
    for answer, options, is_shared in (
        (b"y\n", [], True), (b"\n", [], False), (b"n\n", [], False), (b"", ["--yes"], False),
        (b"", ["--prompts"], True), (b"", ["--no-prompts"], False),
    ):  # fmt: skip
        out = tmp_path / "shared.zip"
        os.write(terminal, answer)
        done = subprocess.run(
            [*command, *options, "--out", str(out)], stdin=its_end, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert ("have prompts and replies of a language model" in done.stdout) == bool(answer)
        assert ("were left out; --prompts shares them too" in done.stdout) != is_shared
        with zipfile.ZipFile(out) as opened:
            assert ("nov23/experiments/0001/conversation.json" in opened.namelist()) == is_shared
    os.close(terminal)
    os.close(its_end)


def test_long_messages_are_cut_so_that_a_bundle_stays_small(alice: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(build, "ALL_MESSAGES_CHARACTERS", 100)
    files = files_of(bundle(make_night(alice, leak="word " * 100)))
    said = json.loads(files["nov23/experiments/0001/conversation.json"])
    assert [message["role"] for message in said] == ["user", "assistant"]
    assert said[0]["content"].startswith("Prop") and "characters more ...]" in said[0]["content"]
    assert len(said[0]["content"]) < 60
    assert said[0]["content"].split("\n")[1].encode() in files["nov23/experiments/0001/index.html"]


@pytest.mark.parametrize("limit", [1_000, 500])
def test_a_cut_message_says_how_long_it_was_also_when_its_bundle_is_shared_again(
    alice: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
) -> None:
    monkeypatch.setattr(build, "ALL_MESSAGES_CHARACTERS", 1_000)
    made, leak = tmp_path / "first.zip", "word " * 100
    made.write_bytes(bundle(make_night(alice, leak=leak)).data)
    with zipfile.ZipFile(made) as opened:
        opened.extractall(tmp_path)
    monkeypatch.setattr(build, "ALL_MESSAGES_CHARACTERS", limit)
    again = make_bundle(read_material(open_folder(tmp_path / "nov23"), has_prompts=True), (), MADE_AT, ignore_progress)
    asked = json.loads(files_of(again)["nov23/experiments/0001/conversation.json"])[0]["content"]
    kept, _, end = asked.partition("\n[... ")
    assert end.endswith(" characters more ...]") and len(kept) == limit // 20
    assert len(kept) + int(end.split(" ")[0]) == len(f"Propose. {leak}")


def test_the_page_shows_how_a_long_message_begins_and_ends_and_the_file_has_all_of_it(alice: Path) -> None:  # noqa: F811
    leak = f"{'word ' * 3_000}middle {'word ' * 3_000}"
    files = files_of(bundle(make_night(alice, leak=leak)))
    page, said = (files[f"nov23/experiments/0001/{name}"].decode() for name in ("index.html", "conversation.json"))
    assert "middle" in said and "middle" not in page.partition("Prompt and reply")[2]
    assert re.search(r"\[\.\.\. 18,\d\d\d characters more, which are in conversation\.json \.\.\.\]", page)
