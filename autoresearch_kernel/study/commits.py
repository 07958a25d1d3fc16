"""Git commits of a study's experiments: one for each decided train.py, made again where git has lost it."""

from __future__ import annotations

from ..core.sanitize import readable
from ..core.types import Experiment, Progress, Status
from ..record.git import Lineage, LineageError
from ..show.words import title
from .session import Session


class Commits:
    """The commits of one session; nothing happens where the project is no git repository."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def make(
        self, experiment: Experiment, status: Status, reason: str, parent: Experiment | None, is_tip: bool = True
    ) -> str | None:
        """Commit an experiment's train.py on its parent's commit; None without git, or where git cannot be written."""
        session = self.session
        if session.lineage is None:
            return None
        try:
            commit = session.lineage.record(
                experiment.number,
                session.source(experiment),
                message=readable(f"{title(experiment)}\n\n{status}: {reason}"),
                time=experiment.proposed_at,
                parent=self._of_parent(parent),
                keep=is_tip and status is Status.KEEP,
            )
        except (LineageError, OSError) as error:  # the history and the study's folder hold the code as well
            session.note(f"Experiment {experiment.number:04d} has no commit: {error}")
            return None
        if session.lineage.branch_problem:
            session.note(f"Experiment {experiment.number:04d}: {session.lineage.branch_problem}.")
        return commit

    def _of_parent(self, parent: Experiment | None) -> str | None:
        """The commit to build on; it is made now when git could not be written while the parent was decided."""
        if parent is None or parent.commit is not None:
            return parent.commit if parent else None
        assert parent.status is not None
        before = None if parent.parent is None else self.session.state.experiments[parent.parent]
        commit = self.make(parent, parent.status, parent.reason, before)
        if commit is not None:
            self.session.history.append("committed", experiment=parent.number, commit=commit)
        return commit

    def reconcile(self) -> None:
        """Make git agree with the history, which is the truth: refs that are missing or moved, commits never made."""
        if self.session.lineage is not None:
            try:
                self._reconcile(self.session.lineage)
            except (LineageError, FileNotFoundError) as error:
                self.session.note(f"Git could not be brought to what the history says: {error}")

    def _reconcile(self, lineage: Lineage) -> None:
        session, state = self.session, self.session.state
        commits, mended = lineage.commits(), []
        for experiment in state.decided:
            if experiment.commit is None or commits.get(experiment.number) != experiment.commit:
                assert experiment.status is not None
                parent = None if experiment.parent is None else session.state.experiments[experiment.parent]
                commit = self.make(experiment, experiment.status, experiment.reason, parent, is_tip=False)
                if commit is not None and commit != experiment.commit:
                    session.history.append("committed", experiment=experiment.number, commit=commit)
                mended += [f"{experiment.number:04d}"] if commit else []
        last = session.state.incumbent
        if last is not None and last.commit:
            # Kept, and cut off before it was recorded.
            ahead = next((commits[e.number] for e in state.in_work if e.number in commits), None)
            lineage.follow(last.commit, but_not_from=ahead)
            if lineage.branch_problem:
                session.watch(Progress("note", text=f"{lineage.branch_problem}."))
        if mended:
            session.note(f"Commits that git had lost, or never had, were made again: {', '.join(mended)}.")
