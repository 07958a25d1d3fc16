"""autoresearch: overnight language-model research in Jupyter notebooks.

    from autoresearch_kernel import SearchAgent, research, start_study
    study = start_study("nov23", budget=60)
    for experiment in research(study, SearchAgent(), experiments=10):  # a night is a loop that you own
        print(experiment.number, experiment.status, experiment.val_bpb)
    study.figure()

and one experiment by hand, in a notebook:

    idea = study.propose()
    study.run(idea); study.judge(); study.record()

Importing this package imports neither torch nor ipykernel nor matplotlib.
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and any(word.split(".")[0] == __name__ for word in sys.orig_argv):
    # `python -m` puts the working folder first, where a random.py of the user would hide Python's own.
    from .system.start import put_last

    put_last(sys.path[0])

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core.types import Context, Evaluation, Experiment, Proposal, Run, RunOutcome, Status
from .record.paths import study_paths
from .record.study import Study, StudyError, create_study
from .system.locations import project_root

if TYPE_CHECKING:
    from .agents.search import SearchAgent
    from .lab.analysis.contrast import compare_studies
    from .lab.analysis.load import analyse, open_example
    from .lab.opening import open_study, start_study
    from .lab.panel.panel import panel
    from .lab.study import InteractiveStudy
    from .study.loop import research
    from .study.steps import Steps, open_session

from .core.version import __version__ as __version__

__all__ = [
    "Context",
    "Evaluation",
    "Experiment",
    "InteractiveStudy",
    "Proposal",
    "Run",
    "RunOutcome",
    "SearchAgent",
    "Status",
    "Steps",
    "Study",
    "StudyError",
    "analyse",
    "compare_studies",
    "create_study",
    "open_example",
    "open_session",
    "open_study",
    "panel",
    "project_root",
    "research",
    "start_study",
    "study_paths",
]


_HOMES = {
    "InteractiveStudy": ".lab.study",
    "SearchAgent": ".agents.search",
    "Steps": ".study.steps",
    "analyse": ".lab.analysis.load",
    "compare_studies": ".lab.analysis.contrast",
    "open_example": ".lab.analysis.load",
    "open_session": ".study.steps",
    "open_study": ".lab.opening",
    "panel": ".lab.panel.panel",
    "research": ".study.loop",
    "start_study": ".lab.opening",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the loop reaches numpy and the rooms.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
