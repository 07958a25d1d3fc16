"""Errors of the steps in a notebook: each message says what to do, and is shown without a traceback.

StepError is a StudyError; Interrupted is a KeyboardInterrupt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import Plain
from ..record.study import StudyError
from ..study.steering import StopNow
from ..system.explain import explain
from ..system.files import StudyInUse

NOTHING_LOST = "Nothing that was recorded is lost; this cell goes on."


class StepError(StudyError):
    """A step that cannot be taken now; the message says which comes first."""


class Interrupted(Plain, KeyboardInterrupt):
    """The user interrupted the kernel during a step."""


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Raise what goes wrong in a step as an error whose message says what to do."""
    try:
        yield
    except StudyError:
        raise
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped by hand. {NOTHING_LOST}") from error
    except StopNow as stop:
        raise StepError(f"Stopped, as {stop} asked. {NOTHING_LOST}") from stop
    except StudyInUse as error:
        if error.pid == os.getpid():
            raise StepError(
                "This kernel holds the study itself: a loop over research() was left in the middle. Let it end, or "
                "restart the kernel; nothing that was recorded is lost."
            ) from error
        raise StepError(f"{error} This cell can be run again after that.") from error
    except (GeneratorExit, SystemExit):
        raise
    except BaseException as error:  # also a panic of a library in Rust, which is no Exception
        raise StepError(explain(error)) from error
