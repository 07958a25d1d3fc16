"""autoresearch: overnight language-model research in Jupyter notebooks.

    from autoresearch_kernel import open_study, research
    for experiment in research(open_study("nov23", project_root()), agent, experiments=10):
        ...

Importing this package imports neither torch nor ipykernel nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from .record.experiment import Context, Evaluation, Experiment, Proposal, Run, RunOutcome, Status
from .record.paths import project_root, study_paths
from .record.study import Study, create_study, open_study

if TYPE_CHECKING:
    from .loop import research
    from .session import Session, open_session

__version__ = metadata.version("autoresearch-kernel")

__all__ = [
    "Context",
    "Evaluation",
    "Experiment",
    "Proposal",
    "Run",
    "RunOutcome",
    "Session",
    "Status",
    "Study",
    "create_study",
    "open_session",
    "open_study",
    "project_root",
    "research",
    "study_paths",
]


def __getattr__(name: str) -> Any:
    # The loop reaches numpy and the rooms; it is loaded when it is asked for.
    home = {"research": ".loop", "Session": ".session", "open_session": ".session"}.get(name)
    if home is not None:
        return getattr(import_module(home, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
