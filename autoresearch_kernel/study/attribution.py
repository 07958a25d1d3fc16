"""Attribution: the champion trains without each of its kept changes, on fresh seeds, and says which of them count.

The order of the trainings and what they say is in `core/attribution.py`; `trials.py` makes one of them. Each step is
recorded before the next begins, so the same command goes on where it was cut off. Nothing is decided or promoted: the
study's experiments, its incumbent and its sigma stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ..core.attribution import (
    MOST_FAILURES,
    NUM_SEEDS,
    Attribution,
    Due,
    Effect,
    Obstacle,
    due,
    effects,
    num_controls,
)
from ..core.state import StudyState
from ..core.types import Experiment, Proposal, ignore
from ..record.history import read_state
from ..record.study import Remedied, Study, StudyError, check_unchanged, sha256
from ..run.backend import Backend
from ..show.attribution_words import attribution_words
from ..show.plan import TYPICAL_OVERHEAD_SECONDS, overhead_seconds
from ..show.words import idea
from ..source.compare import fingerprint
from ..source.diff import diff, rebase
from ..system.files import write_atomic
from ..system.shell import shell_command
from .across import note_workers, on_cluster
from .dry_run import dry_run
from .execute import despite_machine
from .finish import NO_KEEP
from .loop import ended_on_record
from .recovery import despite_full_disk, resume
from .session import Watch
from .steps import Steps, open_session
from .trials import close_cut_off, forget_models, score_trial, train_trial

BESIDE_THE_CHANGE = "this is the code of the study with one kept change taken out, for its attribution"


@dataclass(frozen=True)
class Outlook:
    """What an attribution takes at most, before it starts or goes on."""

    champion: int
    num_changes: int
    num_seeds: int
    num_trainings: int  # at most: what is clear earlier stops earlier
    seconds: float  # roughly, for all of these

    @staticmethod
    def of(study: Study, num_seeds: int | None = None) -> Outlook:
        """Raises StudyError where nothing was kept."""
        state = read_state(study.paths.history)
        champion = _champion(state, study.name)
        known = state.attribution
        seeds = num_seeds or (known.num_seeds if known else NUM_SEEDS)
        most, done = seeds * (len(lineage(state, champion)) + num_controls(len(lineage(state, champion)))), 0
        if known is not None and known.num_seeds == seeds:
            most, done = known.most_trainings, known.num_trained
        measured = overhead_seconds(champion.runs, study.time_budget_seconds)
        each = study.time_budget_seconds + (TYPICAL_OVERHEAD_SECONDS if measured is None else measured)
        left = 0 if known is not None and known.is_done(num_seeds) else max(0, most - done)
        return Outlook(champion.number, len(lineage(state, champion)), seeds, left, left * each)


def attribute(
    study: Study,
    num_seeds: int | None = None,
    watch: Watch = ignore,
    backend: Backend | None = None,
    wait_for_quiet: float | None = None,
    cluster: str | None = None,
) -> tuple[Effect, ...] | None:
    """What each kept change of the champion is worth; measured the first time, read from the record from then on.

    Args:
        num_seeds: of each change, at most; as many as the attribution began with, else NUM_SEEDS. More seeds than
            before measure further.
        wait_for_quiet: minutes in all that it may wait before trainings while other processes keep the machine busy.
        cluster: address of the scheduler of a Dask cluster; one of its workers trains, of the kind that the study began
            on.

    None when a user stopped it; the same call goes on. Raises StudyError when nothing was kept, when the champion's own
    code fails again and again, or when the machine does; StudyInUse when another process runs the study.
    """
    state = read_state(study.paths.history)
    _champion(state, study.name)
    known = state.attribution
    if known is not None and known.is_done(num_seeds):
        return effects(known, state.noise)
    check_unchanged(study)
    with (
        on_cluster(study, cluster, backend) as chosen,
        open_session(study, watch, chosen) as session,
        ended_on_record(session),
    ):
        note_workers(session, cluster)
        session.quiet.allow(wait_for_quiet)
        session.quiet.look("kept changes are taken out")
        despite_full_disk(session, lambda: resume(session))
        return despite_full_disk(session, lambda: _attribute(session, num_seeds))
    return None  # a user stopped it


def _champion(state: StudyState, name: str) -> Experiment:
    champion = state.incumbent
    if champion is None or champion.number == 0:
        lacking = "has no baseline yet" if champion is None else f"has kept nothing besides its baseline yet: {NO_KEEP}"
        raise Remedied(
            f"Study {name!r} {lacking}. So there is no kept change to take out.",
            remedy=f"`{shell_command(f'run --name {name}')}` goes on with the study.",
            in_panel="Press Continue or run `lab.go_on()` to go on with the study.",
        )
    return champion


def lineage(state: StudyState, champion: Experiment) -> tuple[int, ...]:
    """The experiments whose changes are in the champion, itself included, oldest first; the baseline is none."""

    def upwards() -> Iterator[int]:
        number: int | None = champion.number
        while number:
            yield number
            number = state.experiments[number].parent

    return tuple(upwards())[::-1]


def _attribute(session: Steps, num_seeds: int | None) -> tuple[Effect, ...]:
    """Make the variants, then train what is due until every change is settled."""
    champion = _champion(session.state, session.study.name)
    _begin(session, champion, num_seeds)
    session.purpose = "attribution"
    close_cut_off(session)
    while unprepared := _present(session).unprepared:
        session.steering.check()
        _prepare(session, champion, unprepared[0])
    num_failed = len(_present(session).variant(None).failures)  # in earlier calls, after which a user mended something
    while (step := due(_present(session), session.state.noise)) is not None:
        session.steering.check()
        _one_step(session, champion, step, num_failed)
    forget_models(session, champion)
    found = effects(_present(session), session.state.noise)
    session.history.append(
        "attribution", what="ended", champion=champion.number, effects=[asdict(effect) for effect in found]
    )
    session.note(attribution_words(_present(session), found))
    return found


def _present(session: Steps) -> Attribution:
    attribution = session.state.attribution
    assert attribution is not None, "it has begun"
    return attribution


def _begin(session: Steps, champion: Experiment, num_seeds: int | None) -> None:
    known = session.state.attribution
    wanted = num_seeds or (known.num_seeds if known else NUM_SEEDS)
    if known is None or known.is_ended or known.num_seeds != wanted:
        session.history.append(
            "attribution",
            what="begun",
            champion=champion.number,
            changes=lineage(session.state, champion),
            num_seeds=wanted,
        )


def _prepare(session: Steps, champion: Experiment, without: int | None) -> None:
    """Make the code of one variant and record it, or why it cannot be."""
    source = session.source(champion)
    code, obstacle, why = _code(session, champion, without)
    paths = session.study.experiment(champion.number).without(without)
    if code is not None:
        write_atomic(paths.train, code)
        write_atomic(paths.diff, diff(source, code))
    if code is not None and obstacle is None and (failure := _dry_run(session, champion, code)):
        obstacle, why = Obstacle.DRY_RUN, failure.splitlines()[0]
    session.history.append(
        "attribution",
        what="variant",
        champion=champion.number,
        without=without,
        train_sha256=sha256(code) if code is not None else "",
        obstacle=obstacle,
        why=why,
        files=session.hashes(paths.train, paths.diff),
    )


def _code(session: Steps, champion: Experiment, without: int | None) -> tuple[str | None, Obstacle | None, str]:
    """The champion's code without one change, by a three-way merge; what is in the way, and why."""
    source = session.source(champion)
    if without is None:
        return source, None, ""
    kept = session.state.experiments[without]
    assert kept.parent is not None, "the baseline is no change"
    before = session.source(session.state.experiments[kept.parent])
    code = rebase(session.source(kept), before, source)
    if code is None:
        return None, Obstacle.CONFLICT, "later changes rest on the same lines"
    if fingerprint(code) == fingerprint(source):
        return code, Obstacle.SAME, "a later change has replaced it: without it the champion's code means the same"
    return code, None, ""


def _dry_run(session: Steps, champion: Experiment, code: str) -> str:
    """What fails in the first steps; "" when nothing does, or when the study has trained this code before."""
    if any(e.train_sha256 == sha256(code) and e.scores for e in session.state.experiments):
        return ""
    proposal = Proposal(BESIDE_THE_CHANGE, code, "attribution")
    return despite_machine(session, lambda _: dry_run(session, session.disk_space, proposal, champion.number))


def _one_step(session: Steps, champion: Experiment, step: Due, num_failed: int) -> None:
    """Train or score, and again where the machine failed; raise where the champion's own code fails.

    Args:
        num_failed: failures of the champion's code in earlier calls, which do not count in this one.
    """
    do = score_trial if step.is_score else train_trial
    despite_machine(session, lambda _: do(session, champion, step))
    failures = _present(session).variant(None).failures[num_failed:]
    if len(failures) > MOST_FAILURES:
        raise StudyError(
            f"The champion {champion.number:04d}, {idea(champion)}, failed on {len(failures)} fresh seeds, last with "
            f"{failures[-1].status}: {failures[-1].reason}. So nothing can be compared with it; see "
            f"{session.study.experiment(champion.number).without(None).notebook(failures[-1].index)}."
        )
