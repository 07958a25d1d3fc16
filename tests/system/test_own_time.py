"""Which processes get the signal to stop, and how often; tests/run/test_duel.py has real ones."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from autoresearch_kernel.system import own_time


def test_each_process_is_stopped_twice_also_those_that_begin_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = iter([[5], [5, 6], [5, 6], []])
    sent: Counter[tuple[int, int]] = Counter()
    monkeypatch.setattr(own_time, "descendants", lambda pid: next(listed))
    monkeypatch.setattr(own_time.os, "kill", lambda pid, signum: sent.update([(pid, signum)]))
    own_time.stop_below(1)
    assert sent == {(5, signal.SIGSTOP): 3, (6, signal.SIGSTOP): 2}
    sent.clear()
    monkeypatch.setattr(own_time, "descendants", lambda pid: [])
    own_time.stop_below(1)
    assert not sent
