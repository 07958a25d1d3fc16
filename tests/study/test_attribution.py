"""Attribution of a study: planted carriers and no-ops, cuts at every point, what is in the way, one real pair."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_kernel.cli import main
from autoresearch_kernel.control import actions
from autoresearch_kernel.control.verify import verify
from autoresearch_kernel.core.attribution import Effect, Part
from autoresearch_kernel.core.types import Context, Evaluation, Proposal, RunOutcome, Status
from autoresearch_kernel.lab.analysis.load import analyse
from autoresearch_kernel.record.commands import send
from autoresearch_kernel.record.study import Study, StudyError
from autoresearch_kernel.run.backend import using_backend
from autoresearch_kernel.run.training import Listener, Training
from autoresearch_kernel.scoring.job import ScoringJob
from autoresearch_kernel.show import plot_progress
from autoresearch_kernel.show.attribution_words import attribution_lines
from autoresearch_kernel.show.follow import look
from autoresearch_kernel.show.status import next_step, status_json, status_table
from autoresearch_kernel.study import across
from autoresearch_kernel.study.attribution import Outlook, attribute
from autoresearch_kernel.study.loop import research, settle
from autoresearch_kernel.study.steps import open_session
from tests.conftest import copy_of, counting_study, make_project, pretend_quiet
from tests.pretended import Machine, on_a_worker
from tests.study.test_loop import Scripted
from tests.study.test_night import events_of, state_of

SIGMA = 0.002
# Parameters far from each other, so that a merge can take each out; a level adds up what they are worth.
KNOBS = ("WIDE", "DEEP", "WARM", "COOL", "FAST")
WORTH = {"WIDE": -0.030, "DEEP": 0.0, "WARM": -0.025, "COOL": 0.0, "FAST": -0.020}  # bits per byte for each unit
LUCK = {"DEEP": -0.012, "COOL": -0.012}  # of all runs of that experiment, and of no later one
LINES = "\n".join(
    f"{name} = 0  # a knob\n\n# {name} is used below\nuse_{name.lower()} = {name} + 1\n" for name in KNOBS
)
SOURCE = f"""# %% tags=["parameters"]
SEED = 1  # fixed
ALPHA = 1.0

# %%
{LINES}
# %%
from prepare import TrainingClock, evaluate_bpb

clock = TrainingClock()
while clock.running():
    clock.report(train_loss=1.0)
val_bpb = evaluate_bpb(None, None, 16)
"""


def turned(name: str, value: int = 1) -> Callable[[str], str]:
    return lambda source: re.sub(rf"^{name} = \d+", f"{name} = {value}", source, flags=re.MULTILINE)


class Turns:
    """Proposes the incumbent with one knob turned after the other."""

    name = "turns"

    def __init__(self, *edits: Callable[[str], str]) -> None:
        self.edits = list(edits)

    def propose(self, context: Context) -> Proposal:
        edit = self.edits.pop(0)
        return Proposal(f"Turn knob {len(context.experiments)}.", edit(context.train_source), self.name)


def knobs_of(source: str) -> dict[str, int]:
    return {name: int(re.search(rf"^{name} = (\d+)", source, re.MULTILINE)[1]) for name in KNOBS}  # type: ignore[index]


@pytest.fixture
def planted(machine: Machine) -> Machine:
    return plant(machine)


def plant(machine: Machine) -> Machine:
    """Scores are the sum of what the knobs are worth, noise of the seed, and the luck of its own experiment."""

    def train(training: Training, listener: Listener) -> RunOutcome:
        outcome = machine.pretend_training(training, listener)
        if outcome.artefact is not None:
            outcome.artefact.write_text(json.dumps([training.source, training.seed]))
        return outcome

    def score(job: ScoringJob) -> Evaluation:
        source, seed = json.loads(job.artefact.read_text())
        folder = job.artefact.parents[1].name
        level = 1.5 + sum(WORTH[name] * value for name, value in knobs_of(source).items())
        number = int(folder) if folder.isdecimal() else 0
        lucky = KNOBS[number - 1] if 0 < number <= len(KNOBS) else ""
        noise = random.Random(seed).gauss(0, SIGMA)
        return Evaluation(level + noise + LUCK.get(lucky, 0.0), 0.001, 1000, 3000, 0.1)

    machine.train, machine.score = train, score
    return machine


def night(project: Path, corpus: Path, *edits: Callable[[str], str]) -> Study:
    study = counting_study(project, corpus, source=SOURCE)
    list(research(study, Turns(*edits), experiments=len(edits)))
    assert [e.status for e in state_of(study).decided] == [Status.KEEP] * (len(edits) + 1)
    return study


@pytest.fixture(scope="module")
def kept_project(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """Five changes were kept: 1, 3 and 5 carry gain, 2 and 4 had luck."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        pretend_quiet(monkeypatch)
        monkeypatch.setattr(plot_progress, "draw_progress", lambda *_, **__: None)
        folder = make_project(tmp_path_factory.mktemp("kept"), small_corpus, monkeypatch)
        monkeypatch.chdir(folder)
        with using_backend(plant(Machine()).backend):
            night(folder, small_corpus, *map(turned, KNOBS))
    return folder


@pytest.fixture
def kept(
    kept_project: Path, tmp_path: Path, small_corpus: Path, planted: Machine, monkeypatch: pytest.MonkeyPatch
) -> Study:
    """The study of that project in a copy of it."""
    return copy_of(kept_project, tmp_path, small_corpus, monkeypatch)


def named(effects: tuple[Effect, ...] | None) -> dict[int, Part]:
    assert effects is not None
    return {effect.change: effect.part for effect in effects}


def test_planted_no_ops_are_named_and_no_carrier_is(kept: Study, planted: Machine) -> None:
    before = state_of(kept)
    found = attribute(kept)
    assert named(found) == {1: Part.CARRIES, 2: Part.LUCK, 3: Part.CARRIES, 4: Part.LUCK, 5: Part.CARRIES}
    for effect, name in zip(found or (), KNOBS, strict=True):
        assert effect.gain == pytest.approx(-WORTH[name], abs=4 * SIGMA)
        assert effect.low is not None and effect.high is not None and effect.low < effect.gain < effect.high
    after = state_of(kept)
    assert (after.experiments, after.incumbent, after.sigma) == (before.experiments, before.incumbent, before.sigma)
    assert {check.verdict for check in verify(kept)} == {"ok"}
    assert look(kept).phase == "finished"
    seeds = [e["seed"] for e in events_of(kept, "attribution") if e["what"] == "started"]
    assert len(seeds) == len(set(seeds)) and not set(seeds) & {r.seed for e in after.experiments for r in e.runs}
    assert not list(kept.paths.folder.glob("experiments/*/without-*/handover*/model.pkl")), "they are not needed"


def test_it_says_what_it_will_take_and_takes_no_more(
    kept: Study, planted: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.trained.clear()
    outlook = Outlook.of(kept, 3)
    assert (outlook.champion, outlook.num_changes, outlook.num_trainings) == (5, 5, 3 * (5 + 2))
    assert main(["attribute", "nov23", "--seeds", "3"]) == 0
    said = capsys.readouterr().out
    assert "experiment 0005 trains without each of its 5 kept changes, on up to 3 fresh seeds" in said
    assert "at most about 21 trainings of 2 s" in said and "0001, 0003 and 0005 carry gain" in said
    assert len(planted.trained) <= outlook.num_trainings
    num_events = len(events_of(kept, "attribution"))
    assert main(["attribute"]) == 0
    assert "0001, 0003 and 0005 carry gain" in capsys.readouterr().out
    assert len(events_of(kept, "attribution")) == num_events, "a second call reads what the first one found"


def test_every_view_tells_it(kept: Study, planted: Machine) -> None:
    assert "`autoresearch attribute nov23` trains without each of them" in analyse(kept).attribution().words
    attribute(kept, 4)
    lines = attribution_lines(state_of(kept))
    assert lines[0].startswith("Without one kept change at a time, 0005 trained on up to 4 fresh seeds: 0001, 0003")
    assert re.search(
        r"0001 carries gain: val_bpb 1\.4\d+ without it, 1\.4\d+ with it: \+0\.0\d+ ± 0\.0\d+ \(95 %", lines[1]
    )
    table = status_table(look(kept))
    assert "0001, 0003 and 0005 carry gain" in " ".join(table.split())
    told = status_json(look(kept))["attribution"]
    assert told["champion"] == 5 and told["is_ended"] and len(told["effects"]) == 5
    finding = analyse(kept).attribution().beside
    assert finding is not None and [row["number"] for row in finding.rows] == [1, 2, 3, 4, 5]
    assert finding.rows[0]["part"] == "carries" and finding.draw is not None and finding.draw() is not None
    assert "Taken out one by one, they gain" in finding.words and "<table" in finding._repr_html_()


def test_wherever_it_is_cut_off_the_same_call_goes_on_and_finds_the_same(
    kept: Study, planted: Machine, tmp_path: Path
) -> None:
    """Cut off in each training and before each score; each is made once more at most."""
    copy = shutil.copytree(kept.paths.folder, tmp_path / "copy")
    undisturbed = attribute(kept, 2)
    shutil.rmtree(kept.paths.folder)
    shutil.copytree(copy, kept.paths.folder)
    cuts = {"left": 0}

    def cut(*_: object) -> None:
        cuts["left"] -= 1
        if cuts["left"] == 0:
            raise KeyboardInterrupt

    score = planted.score

    def score_or_cut(job: ScoringJob) -> Evaluation:
        cut()
        return score(job)

    planted.during, planted.score = cut, score_or_cut
    result, num_cut = None, 0
    while result is None:
        cuts["left"] = 2  # one step further than the last time
        try:
            result = attribute(kept, 2)
        except KeyboardInterrupt:
            num_cut += 1
    events = events_of(kept, "attribution")
    for what in ("trained", "scored"):
        keys = [(e["without"], e["run"]) for e in events if e["what"] == what]
        assert len(keys) == len(set(keys)) and keys
    assert result == undisturbed and num_cut > 15
    assert [e["what"] for e in events].count("begun") == 1
    assert {check.verdict for check in verify(kept)} == {"ok"}


def test_a_supervisor_that_was_killed_leaves_a_training_that_is_made_again(kept: Study, planted: Machine) -> None:
    """What kill -9 leaves: a record `started` and nothing after it."""
    with pytest.raises(KeyboardInterrupt):
        planted.during = interrupt
        attribute(kept, 2)
    planted.during = lambda number: None
    lines = kept.paths.history.read_bytes().splitlines(keepends=True)
    started = max(n for n, line in enumerate(lines) if b'"what": "started"' in line)
    kept.paths.history.write_bytes(b"".join(lines[: started + 1]))
    assert "`autoresearch attribute nov23` goes on" in next_step(look(kept))
    found = attribute(kept, 2)
    assert named(found)[1] is Part.CARRIES
    cut_off = [e for e in events_of(kept, "attribution") if e["what"] == "interrupted"]
    assert [(e["cause"], e["run"]) for e in cut_off] == [("gone", 0)]


def void(value: object) -> None:
    """For a lambda that returns nothing."""


def interrupt(number: int) -> None:
    raise KeyboardInterrupt


def test_a_worker_of_a_cluster_makes_its_trainings_where_users_name_one(
    kept: Study, planted: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_here = len(planted.trained)
    worker = plant(Machine())
    monkeypatch.setattr(across, "cluster_backend", on_a_worker(worker))
    assert main(["attribute", kept.name, "--cluster", "tcp://10.0.0.1:8786"]) == 0
    assert set(named(attribute(kept))) == {1, 2, 3, 4, 5}
    assert len(planted.trained) == num_here and worker.trained
    assert any("1 slot of a cluster: alpha." in event["text"] for event in events_of(kept, "note"))


def test_a_stop_ends_it_and_the_same_command_goes_on(
    kept: Study, planted: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.during = lambda number: void(send(kept.paths.commands, "stop", ""))
    assert main(["attribute", "--seeds", "2"]) == 0
    assert "`autoresearch attribute nov23` goes on" in capsys.readouterr().out
    assert look(kept).phase == "stopped" and not (state_of(kept).attribution or pytest.fail()).is_ended
    planted.during = lambda number: None
    assert named(attribute(kept))[1] is Part.CARRIES, "with the seeds that it began with"


def test_later_changes_on_the_same_lines_and_changes_that_were_undone_are_named(
    project: Path, small_corpus: Path, planted: Machine
) -> None:
    """Knob WIDE is turned twice; DEEP is turned on by luck and off again with a gain of its own."""
    both = turned("DEEP", 0), turned("FAST")
    study = night(
        project,
        small_corpus,
        turned("WIDE"),
        turned("DEEP"),
        turned("WIDE", 2),
        lambda source: both[1](both[0](source)),
    )
    found = attribute(study, 3)
    assert named(found) == {1: Part.TANGLED, 2: Part.REPLACED, 3: Part.CARRIES, 4: Part.CARRIES}
    first, second, *_ = found or ()
    assert first.why == "later changes rest on the same lines" and "later change has replaced it" in second.why
    assert "0001 cannot be taken out alone" in attribution_lines(state_of(study))[0]


def test_a_variant_whose_first_steps_fail_cannot_be_taken_out(kept: Study, planted: Machine) -> None:
    def dry_run(training: Training, listener: Listener) -> RunOutcome:
        fails = knobs_of(training.source)["WARM"] == 0
        if fails:
            return RunOutcome(Status.CRASH, "NameError: warm", None, None)
        return RunOutcome(None, "", training.paths.artefact(0), None)

    planted.dry_run = dry_run
    found = attribute(kept, 2)
    assert named(found)[3] is Part.TANGLED and (found or ())[2].why == "crash: NameError: warm"


def test_where_nothing_was_kept_there_is_nothing_to_take_out(
    project: Path, small_corpus: Path, machine: Machine
) -> None:
    study = counting_study(project, small_corpus)
    list(research(study, Scripted({"ALPHA": 3.0}), experiments=1))
    with pytest.raises(StudyError, match=r"has kept nothing besides its baseline yet.* no kept change to take out"):
        attribute(study)
    assert not events_of(study, "attribution")


def test_a_champion_that_fails_on_every_seed_is_no_attribution(kept: Study, planted: Machine) -> None:
    planted.train = lambda training, listener: RunOutcome(Status.CRASH, "RuntimeError: no", None, None)
    with pytest.raises(
        StudyError, match=r"champion 0005, .*failed on 3 fresh seeds, last with crash: RuntimeError: no"
    ):
        attribute(kept)


def test_after_a_champion_that_failed_the_same_call_goes_on_once_the_cause_is_mended(
    kept: Study, planted: Machine
) -> None:
    train = planted.train
    planted.train = lambda training, listener: RunOutcome(Status.CRASH, "OutOfMemoryError: no", None, None)
    with pytest.raises(StudyError, match="failed on 3 fresh seeds"):
        attribute(kept, 2)
    planted.train = train
    assert named(attribute(kept, 2))[1] is Part.CARRIES


def test_the_button_starts_it_in_the_background_and_says_what_is_known(kept: Study, planted: Machine) -> None:
    attribute(kept, 2)
    assert "0001, 0003 and 0005 carry gain" in actions.attribute(kept), "no process is started for it"


def test_a_study_that_goes_on_keeps_what_was_found_of_its_former_champion(kept: Study, planted: Machine) -> None:
    attribute(kept, 2)
    list(research(kept, Turns(turned("FAST", 3)), experiments=1))
    state = state_of(kept)
    assert state.incumbent is not None and state.incumbent.number == 6
    assert state.attribution is None and [a.champion for a in state.attributions] == [5]
    assert named(attribute(kept, 2))[5] is Part.TANGLED, "the new change rests on it"


def test_real_trainings_tell_what_a_change_is_worth(measured: Study, no_pictures: None) -> None:
    with open_session(measured) as session:
        session.propose(Scripted({"ALPHA": 0.05}))
        assert settle(session).status is Status.KEEP
    found = attribute(measured, 2)
    (effect,) = found or ()
    assert effect.part is Part.CARRIES and effect.gain is not None and effect.gain > 0.05
    folder = measured.experiment(1).without(1).folder
    assert (folder / "experiment.ipynb").is_file() and "ALPHA = 1.0" in (folder / "train.py").read_text()
    assert {check.verdict for check in verify(measured)} == {"ok"}
