"""What a study has found, in words: a difference carries its error and is called clear only beyond twice of it."""

from __future__ import annotations

import pytest

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.history import read_events
from autoresearch_kernel.show.study_words import findings, gain_words, is_clear
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
    assert "val_bpb 1.4900 ± 0.0010 (mean of its 2 runs so far 1.5200" in words
    assert "the baseline's 1.5000 ± 0.0010; difference −0.0100 ± 0.0014 so far." in words
