"""What does a learner need in a lesson? Checks of answers, predictions, progress, recorded results.

The first code cell of each lesson imports these five names; docs/course-format.md describes how a lesson is written.
"""

from .answers import check, predict
from .data import lesson_seconds, recorded
from .learned import progress

__all__ = ["check", "lesson_seconds", "predict", "progress", "recorded"]
