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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .record.experiment import Context, Evaluation, Experiment, Proposal, Run, RunOutcome, Status
from .record.paths import project_root, study_paths
from .record.study import Study, StudyError, create_study

if TYPE_CHECKING:
    from .by_hand import ByHand, open_study, start_study
    from .control import panel
    from .looking_back import analyse, open_example
    from .loop import research
    from .propose.search import SearchAgent
    from .session import Session, open_session

__version__ = "0.6.0"
__all__ = [
    "ByHand",
    "Context",
    "Evaluation",
    "Experiment",
    "Proposal",
    "Run",
    "RunOutcome",
    "SearchAgent",
    "Session",
    "Status",
    "Study",
    "StudyError",
    "analyse",
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
    "ByHand": ".by_hand",
    "SearchAgent": ".propose.search",
    "Session": ".session",
    "analyse": ".looking_back",
    "open_example": ".looking_back",
    "open_session": ".session",
    "open_study": ".by_hand",
    "panel": ".control",
    "research": ".loop",
    "start_study": ".by_hand",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the loop reaches numpy and the rooms.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
