"""What a study has found, in words: a difference carries its error and is called clear only beyond twice of it."""

from __future__ import annotations

import re

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.core.types import Busy
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.show.study_words import advice, busy_words, findings, gain_words, is_clear, machine_words
from tests.event_writer import Writer


@pytest.mark.parametrize(
    ("difference", "error", "words"),
    [
        (-0.0084, 0.0196, "no clear difference: −0.0084 ± 0.0196"),
        (0.0084, 0.0196, "no clear difference: +0.0084 ± 0.0196"),
        (-0.0124, 0.0030, "difference −0.0124 ± 0.0030"),
        (-0.0060, 0.0030, "difference −0.0060 ± 0.0030"),
        (-0.0124, None, "difference −0.0124, its error is not known"),
        (0.0, 0.0, "no clear difference: +0.0000 ± 0.0000"),
    ],
)
def test_a_difference_is_clear_from_twice_its_error_on(difference: float, error: float | None, words: str) -> None:
    assert gain_words(difference, error) == words
    assert is_clear(difference, error) == (words.startswith("difference") and error is not None)


def test_a_finding_shows_the_numbers_that_were_compared_and_their_difference(writer: Writer) -> None:
    """Each score is ± 0.0010, so the difference is ± 0.0014."""
    writer.open().baseline().settle(1, "keep", 1.49)
    writer.run(1, 1.55, run=1)  # a later run: another figure
    words = findings(replay(read_events(writer.study.paths.history)), None)
    compared = "val_bpb 1.4900 ± 0.0010, the baseline's 1.5000 ± 0.0010; difference −0.0100 ± 0.0014"
    assert f"{compared}, as each was decided. The mean of its 2 runs so far: 1.5200 ± 0.0014." in words


def test_commands_name_a_study_as_its_folder_does(writer: Writer) -> None:
    writer.open().baseline().settle(1)
    assert "run --name dec1 --exp" in (words := advice(replay(writer.history.events), "dec1")) and "nov23" not in words
    words = advice(replay(writer.history.events), "dec1", " --cluster tcp://gpu1:8786")
    assert "run --name dec1 --cluster tcp://gpu1:8786 --experiments 20` tries more ideas" in words
    assert re.search(r"run --name dec1-\d+s --cluster tcp://gpu1:8786 --budget \d+ --experiments 20` starts", words)
    writer.settle(2, "keep", 1.49)
    finished = {"champion": 2, "champion_bpb": 1.49, "baseline_bpb": 1.5, "difference_standard_error": 0.001}
    for name, shown in (("dec1", "dec1"), ("", "nov23")):
        assert f"finish --name {shown}`" in findings(replay(writer.history.events), finished, name=name)


@pytest.mark.parametrize(
    ("cores", "worth", "words"),
    [
        (0.5, 0.2, "is worse, by about 0.058 bits per byte, and differs"),  # 0.2 ln(2 / 1.5)
        (4.0, 0.2, "is worse, by about 0.14 bits per byte, and differs"),  # 0.2 ln 2: half is left
        (4.0, None, "is worse and differs more from run to run."),
    ],
)
def test_a_busy_machine_is_told_with_what_it_is_worth(cores: float, worth: float | None, words: str) -> None:
    assert words in busy_words(Busy("", "", cores, 2, "make (process 7) 90 %"), worth)


def test_a_machine_on_which_no_runs_are_alike_is_called_unsteady(writer: Writer) -> None:
    writer.open().propose(0, "Baseline: train.py with the preset none")
    for run in range(8):
        writer.run(0, 1.5, run, tokens_per_second=28_000.0 * 1.5**run)
    writer.decide(0, "keep", 1.5)
    assert "small differences cannot be judged on it" in machine_words(replay(read_events(writer.study.paths.history)))
