"""The recorded night that comes with the program, for tests that need a whole study."""

from __future__ import annotations

from autoresearch_kernel.core.state import replay
from autoresearch_kernel.record.bundle import night_path, unpacked_study
from autoresearch_kernel.record.history import read_events

BUNDLE = night_path()
STUDY = unpacked_study(BUNDLE)
FOLDER = STUDY.paths.folder
HISTORY = STUDY.paths.history
EVENTS = read_events(HISTORY)
STATE = replay(EVENTS)
DECIDED = STATE.decided
LAST = DECIDED[-1].number
