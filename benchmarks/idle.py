"""How long a trainer waits between two experiments while a language model thinks, against a model of a given slowness.

    python benchmarks/idle.py [--think 20] [--budget 30] [--experiments 8]

A scripted server on loopback takes `think` seconds for each reply; the study is real, with the model that counts and
its loop stretched to the budget. Idle is the time between the end of a score and the beginning of the next dry run or
training: nothing trains, nothing scores. The seconds of the dry run itself are printed beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from autoresearch_kernel.agents.chat import Chat
from autoresearch_kernel.agents.llm import LLMAgent
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.study.loop import research
from autoresearch_kernel.system.files import seconds_of
from tests.conftest import COUNTING_TRAIN, PROJECT, counting_study
from tests.llm_server import ScriptedServer, reply

IDEA = """HYPOTHESIS: Flatter by 0.{value:03d} is better.
EXPECTED: a little less.
REFUTED BY: a little more.

<<<<<<< SEARCH
        return self.logits[idx]  # (B, T, vocab_size)
=======
        return self.logits[idx] * 0.{value:03d}  # (B, T, vocab_size)
>>>>>>> REPLACE
"""


def idle_seconds(events: Iterable[Mapping[str, Any]]) -> list[float]:
    """Of each experiment but the baseline and the first: from what ended the last one to its dry run or training."""
    idle, ended, number = [], None, 0
    for event in events:
        at = seconds_of(event["time"])
        if event["event"] in ("scored", "trained", "audited"):
            ended, number = at, event["experiment"]
        begins = event["event"] == "started" or (event["event"] == "dry_run" and event["ended"] is None)
        if begins and ended is not None:
            if event["experiment"] > max(1, number):
                idle.append(at - ended)
            ended = None
    return idle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--think", type=float, default=20.0, help="seconds for a reply")
    parser.add_argument("--budget", type=float, default=30.0, help="training seconds a run")
    parser.add_argument("--experiments", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="idle-") as folder:
        home, project = Path(folder) / "home", Path(folder) / "project"
        os.environ["AUTORESEARCH_HOME"] = str(home)
        command = [sys.executable, str(PROJECT / "prepare.py"), "--vocab-size", "512", "--sequence-length", "64"]
        subprocess.run([*command, "--home", str(home)], check=True, capture_output=True)
        project.mkdir()
        for name in ("prepare.py", "program.md"):
            shutil.copy(PROJECT / name, project)
        source = COUNTING_TRAIN.replace("TrainingClock(3600)", "TrainingClock()").replace(
            "clock.running() and clock.step < NUM_BATCHES", "clock.running()"
        )
        (project / "train.py").write_text(source)
        study = counting_study(
            project,
            home / "corpora" / "stdlib-v512-t64",
            source=source,
            time_budget_seconds=arguments.budget,
            startup_allowance_seconds=60.0,
        )
        asked = iter(range(1, 1000))
        with ScriptedServer(
            respond=lambda body: reply(IDEA.format(value=next(asked)), hang_seconds=arguments.think)
        ) as server:
            agent = LLMAgent(Chat("a model", base_url=server.base_url))
            night = research(study, agent, experiments=arguments.experiments)
            for experiment in islice(night, arguments.experiments + 1):  # not concluded
                print(f"{experiment.number:04d} {experiment.status}", flush=True)
        events = read_events(study.paths.history)
        idle = idle_seconds(events)
        dry = [event["seconds"] for event in events if event["event"] == "dry_run" and event["ended"] is not None]
        print(
            f"a reply takes {arguments.think:g} s, a run {arguments.budget:g} s: the trainer was idle for "
            f"{statistics.median(idle):.2f} s at the median of {len(idle)}, {max(idle):.2f} s at most; "
            f"a dry run took {statistics.median(dry):.2f} s"
        )


if __name__ == "__main__":
    main()
