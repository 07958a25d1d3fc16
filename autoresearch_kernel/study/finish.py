"""The result of a study: baseline and champion on fresh seeds, scored on the sealed test split and nowhere else.

The scores that a champion was chosen by are a little too good, as the best of many always is. Three seeds that chose
nothing, on rows that decided nothing, say what is left. The trainings alternate, so that a machine that drifts drifts
for both. Runs of the champion that were made after the last decision, as a study's end makes them, count as fresh.

Each step is recorded before the next begins, and the same command goes on where it was cut off: nothing is trained or
scored twice. It decides nothing: what is measured here chooses no champion.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..core.contrast import judged_difference
from ..core.decide import NUM_FRESH_RUNS, mean
from ..core.drift import at_present_speed
from ..core.next_step import of_decided
from ..core.state import StudyState
from ..core.types import Experiment, Result, Run, Status, ignore, scores_of
from ..record.history import read_state
from ..record.study import Remedied, Study, StudyError, check_unchanged
from ..run.backend import Backend
from ..show.plan import TYPICAL_OVERHEAD_SECONDS, overhead_seconds
from ..system.shell import shell_command
from .across import note_workers, on_cluster
from .execute import execute, one_more_run
from .final_test import open_test_split
from .loop import ended_on_record
from .recovery import despite_full_disk, resume
from .session import Watch
from .steps import Steps, open_session

NO_KEEP = "no change beat the baseline by more than the noise between runs, which is usual in a short study"
NUM_SEEDS = NUM_FRESH_RUNS  # fresh runs of each
MOST_LATE_RUNS = 5  # of one experiment; where so many differ in speed, the machine wanders, and all of them count
MOST_FAILURES = 2  # trainings of one experiment that may fail in one call before it ends without a result


class NothingToMeasure(Remedied):
    """The study has kept nothing besides its baseline, so it has no result yet: that is no failure."""


@dataclass(frozen=True)
class Outlook:
    """What is still to be done for a result."""

    champion: int
    num_trainings: int
    seconds: float  # roughly

    @staticmethod
    def of(study: Study) -> Outlook:
        """Raises StudyError where there is nothing to finish."""
        state = read_state(study.paths.history)
        champion = champion_of(state, study.name)
        have = _counts(study, state, champion.number).values()
        missing = sum(max(0, NUM_SEEDS - count) for count in have)
        measured = overhead_seconds(champion.runs, study.time_budget_seconds)
        overhead = TYPICAL_OVERHEAD_SECONDS if measured is None else measured
        return Outlook(
            champion.number, missing, missing * (study.time_budget_seconds + overhead) + NUM_SEEDS * overhead
        )


def finish(
    study: Study,
    watch: Watch = ignore,
    backend: Backend | None = None,
    wait_for_quiet: float | None = None,
    cluster: str | None = None,
) -> Result | None:
    """The result of the study's champion; measured the first time, read from the record from then on.

    Args:
        wait_for_quiet: minutes in all that it may wait before trainings while other processes keep the machine busy.
        cluster: address of the scheduler of a Dask cluster; one of its workers trains, of the kind that the study began
            on.

    None when a user stopped it; the same call goes on. Raises NothingToMeasure when there is no champion besides the
    baseline, StudyError when a model of either fails again and again or when the audit refuses one on the test rows,
    StudyInUse when another process runs the study.
    """
    state = read_state(study.paths.history)
    champion_of(state, study.name)
    if state.result is not None:
        return state.result
    check_unchanged(study)
    with (
        on_cluster(study, cluster, backend) as chosen,
        open_session(study, watch, chosen) as session,
        ended_on_record(session),
    ):
        note_workers(session, cluster)
        session.quiet.allow(wait_for_quiet)
        session.quiet.look("the result is measured")
        despite_full_disk(session, lambda: resume(session))
        return despite_full_disk(session, lambda: _measure(session))
    return None  # a user stopped it


def champion_of(state: StudyState, name: str) -> Experiment:
    """Whose result it is. Raises NothingToMeasure when nothing has beaten the baseline, StudyError without one."""
    champion = state.incumbent
    if champion is None or champion.number == 0:
        lacking = "has no baseline yet" if champion is None else f"has kept nothing besides its baseline yet: {NO_KEEP}"
        raise (Remedied if champion is None else NothingToMeasure)(
            f"Study {name!r} {lacking}. So there is no result to measure and its test split stays sealed.",
            remedy=f"`{shell_command(f'run --name {name}')}` goes on with the study.",
            in_panel="Press Continue or run `lab.go_on()` to go on with the study.",
        )
    return champion


def _measure(session: Steps) -> Result:
    """Train what is missing, look at the scores, then open the test split."""
    study = session.study
    champion = champion_of(session.state, study.name).number
    if session.state.result is not None:
        return session.state.result
    session.history.append("finishing", champion=champion)
    session.purpose = "result"
    failures: Counter[int] = Counter()
    while (number := training_due(_counts(study, session.state, champion))) is not None:
        session.steering.check()
        _one_step(session, number, failures)
    while step := of_decided(session.state.experiments[champion]):  # audits of the fresh runs
        execute(session, step)
    if session.state.experiments[champion].status is not Status.KEEP:  # refused, so another experiment is the champion
        return _measure(session)
    pair = [(number, _usable(study, session.state, number)[-NUM_SEEDS:]) for number in (0, champion)]
    open_test_split(session, champion, [(number, run.index) for number, runs in pair for run in runs])
    result = result_of(session.state, champion, *(runs for _, runs in pair))
    for number, _ in pair:  # first, so that no cut leaves a result whose notebooks are not drawn
        session.show(session.state.experiments[number])
    session.history.append("result", **asdict(result))
    return result


def fresh_runs(experiment: Experiment, state: StudyState) -> list[Run]:
    """Scored runs that were begun after the last decision, at the machine's present speed, oldest first.

    Without those that trained beside others on several slots: the runs of `finish` train alone.
    """
    scored = [run for run in experiment.runs if run.val_bpb is not None and not run.slot]
    # With several slots, experiments before the champion may be undecided still, which its own number counts.
    late = [run for run in scored if run.num_decided >= max(len(state.decided), experiment.number + 1)]
    if len(late) >= MOST_LATE_RUNS:
        return late
    return [run for run in at_present_speed(experiment.runs, state.noise.like_speed) if run in late]


def _usable(study: Study, state: StudyState, number: int) -> list[Run]:
    """Fresh runs that were tested already or whose models are still there to be tested."""
    tested = {(t.experiment, t.run) for t in state.tested}
    paths = study.experiment(number)
    runs = fresh_runs(state.experiments[number], state)
    return [run for run in runs if (number, run.index) in tested or paths.artefact(run.index).exists()]


def _counts(study: Study, state: StudyState, champion: int) -> dict[int, int]:
    return {number: len(_usable(study, state, number)) for number in (0, champion)}


def training_due(counts: dict[int, int]) -> int | None:
    """Which experiment trains next, by the fresh runs that each has; None when nothing is missing. A pure function.

    The one that has fewer, the first named where they have as many: so they take turns.
    """
    fewest = min(counts, key=lambda number: counts[number])
    return fewest if counts[fewest] < NUM_SEEDS else None


def num_failed(experiment: Experiment, state: StudyState) -> int:
    """How many trainings of it on fresh seeds failed, in all calls: code that fails on bad seeds chooses among them."""
    late = [run for run in experiment.runs if run.num_decided >= max(len(state.decided), experiment.number + 1)]
    return sum(run.status not in (None, Status.INTERRUPTED) for run in late)


def _one_step(session: Steps, number: int, failures: Counter[int]) -> None:
    """Do what the experiment's last run lacks, or make one more."""
    execute(session, one_more_run(session, number))
    run = session.state.experiments[number].runs[-1]
    if run.status in (None, Status.INTERRUPTED):
        return
    failures[number] += 1
    if failures[number] > MOST_FAILURES:
        raise StudyError(
            f"Experiment {number:04d} failed on {failures[number]} fresh seeds, last with {run.status}: {run.reason}. "
            f"So there is no result; see {session.study.experiment(number).notebook(run.index)}. "
            f"`{shell_command(f'finish --name {session.study.name}')}` tries again."
        )


def result_of(state: StudyState, champion: int, baseline_runs: Sequence[Run], champion_runs: Sequence[Run]) -> Result:
    """The figures, from tested runs. Standard errors are over seeds. A pure function."""
    by_key = {(t.experiment, t.run): t.test_bpb for t in state.tested}
    of_baseline = [bpb for run in baseline_runs if (bpb := by_key[0, run.index]) is not None]
    of_champion = [bpb for run in champion_runs if (bpb := by_key[champion, run.index]) is not None]
    val = scores_of(baseline_runs), scores_of(champion_runs)
    judged, judged_error = judged_difference(state, champion)
    return Result(
        champion=champion,
        baseline_test_bpb=mean(of_baseline),
        champion_test_bpb=mean(of_champion),
        test_difference=mean(of_champion) - mean(of_baseline),
        test_standard_error=standard_error(of_baseline, of_champion),
        val_difference=mean(val[1]) - mean(val[0]),
        val_standard_error=standard_error(*val),
        judged_difference=judged,
        num_baseline_runs=len(of_baseline),
        num_champion_runs=len(of_champion),
        num_looks=len({t.champion for t in state.tested}),
        judged_standard_error=judged_error,
        baseline_val_bpb=mean(val[0]),
        champion_val_bpb=mean(val[1]),
        num_failed_runs=num_failed(state.experiments[champion], state),
    )


def standard_error(*groups: Sequence[float]) -> float:
    """Of the difference of two means, from the spread within each group."""
    return math.sqrt(sum(statistics.variance(group) / len(group) for group in groups))
