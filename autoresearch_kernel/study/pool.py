"""Several slots, of one machine or a cluster, at work on one study: each has a thread that takes experiments along.

One lock, the baton (`baton.py`), guards the session, so the steps are the same as with one slot. The caller's thread
proposes, ends the waves and obeys users; `core/slots.py` says what comes next.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..core.agent import Agent, AgentUnavailable, NothingToPropose
from ..core.errors import MachineFailed
from ..core.next_step import Action, Step
from ..core.slots import is_for, next_for_slots, of_run
from ..core.state import StudyState
from ..core.types import Experiment, Progress
from ..core.waves import due, is_judged_alone, is_win, stack_to_propose, wave_to_stack, without_runs
from ..record.activity import Activity, write_activity
from ..record.study import StudyError
from ..run.backend import Joined
from ..system.machine_speed import usable_cores
from ..system.slot import Seat, Slot, TooManySlots
from .across import workers_words
from .baton import Baton, sharing
from .execute import execute
from .goal import Goal
from .proposals import NoUsableProposal
from .recovery import despite_full_disk
from .stack import next_stack, stacks_of
from .steering import Enough, StopAfter, StopNow
from .steps import Steps

END_SECONDS = 60.0  # for which a second Ctrl-C does not keep the slots from being ended, and that from being recorded
LOOK_EVERY_SECONDS = 0.1  # for commands and slots that have become free
ON_ANOTHER_SLOT = "an error on another slot"
OF_A_SLOT = ("phase", "purpose", "experiment", "run", "since")  # fields of Activity
SHARED = (
    "study", "history", "lineage", "heldout", "inbox", "watch", "sandbox", "versions", "sandboxed", "enough", "left",
    "ends_hopeless", "is_interactive", "hooks", "_last_read", "_running",
)  # fmt: skip
Key = tuple[int, int | None]  # an experiment, and one run of it, or None for all of it


@dataclass
class Lane(Steps):
    """The session as one slot has it: its own phase and backend, and all else shared with the `main` session."""

    main: Steps | None = None
    pool: Pool | None = None
    slot: Slot | None = None

    def __post_init__(self) -> None:
        assert self.main is not None
        self.steering, self.disk_space, self.quiet = self.main.steering, self.main.disk_space, self.main.quiet
        self.proposals, self.commits = self.main.proposals, self.main.commits

    @property
    def state(self) -> StudyState:
        assert self.main is not None
        return self.main.state

    def tell(self, progress: Progress) -> None:
        assert self.slot is not None
        super().tell(replace(progress, slot=self.slot.name))

    def _write_activity(self, activity: Activity) -> None:
        assert self.pool is not None and self.slot is not None
        self._activity = activity
        self.pool.show(self.slot, activity)


class Pool:
    """The slots of one session; `run` takes the study to its end. Made by `open_pool`."""

    def __init__(self, session: Steps, seats: Sequence[Seat]) -> None:
        self.session, self.seats = session, tuple(seats)
        self.kinds = Counter(seat.slot.machine for seat in seats)
        self.baton, self.changed = Baton(), threading.Event()
        self.backend = session.backend  # that gives nothing up
        self.busy: dict[Key, int] = {}  # what is in work, and on which slot
        self.threads: dict[int, threading.Thread] = {}  # by the index of a slot
        self.phases: dict[int, Activity] = {}  # of the slots that work
        self.failure: BaseException | None = None  # what ended the session, on whichever slot
        self.owner = threading.current_thread()  # the caller's
        self.is_ending = False  # nothing more is proposed
        self.goal: Goal | None = None
        self.joined = Joined()  # what has joined and is not recorded yet
        self.exhausted_at: tuple[int, int] | None = None  # decided and in work when the agent had no more ideas
        session.hooks.append(self.end_if_over)

    def run(self, agent: Agent, goal: Goal) -> Generator[Experiment, None, int]:
        """Yield each experiment as it is decided; returns the number of the champion, to be concluded."""
        champion: int | None = None
        self.goal = goal
        while champion is None:
            self.end_if_over()
            yield from self._news(goal)  # first, as a stop raises
            champion = despite_full_disk(self.session, lambda: self._advance(agent, goal), self._is_idle)
        yield from self._news(goal)  # what slots decided while the caller looked at another
        return champion

    def _news(self, goal: Goal) -> Iterator[Experiment]:
        """Experiments that were decided since the last call; slots go on while the caller has one."""
        for experiment in goal.news():
            with self.baton.free():
                yield experiment

    def _advance(self, agent: Agent, goal: Goal) -> int | None:
        """Give free slots work, or wait a moment; the number of the champion once the study can be concluded."""
        session = self.session
        self._welcome()
        session.steering.wait_while_paused()
        if session.steering.stopping:
            if self.busy:
                self._wait()
            else:
                session.steering.end_if_stopping()
            return None
        goal.look()
        session.purpose = "conclusion" if goal.why_ending else "experiment"
        has_baseline, in_work = session.state.incumbent is not None, len(session.state.in_work)
        self.is_ending = bool(goal.why_ending) or (has_baseline and bool(goal.reached(in_work)))
        step, free = self._next_step()
        if step is not None and step.action is Action.CONCLUDE:
            return step.experiment
        if step is not None and step.action is Action.DECIDE:
            self._decide(step)
        elif step is not None and step.action is Action.STACK:
            self._stack()
        elif step is not None and step.action is Action.PROPOSE:
            self._propose(agent, goal, free)
        elif step is not None and free is not None:
            self._begin(step, free)
        else:
            self._wait()
        return None

    def _next_step(self) -> tuple[Step | None, Seat | None]:
        """What comes next, and the free slot for it: of the kind of machine that the study began on, else of another.

        None for the slot where none is free, or where the step needs none.
        """
        of_kind = partial(next_for_slots, self.session.state, self.busy.keys(), len(self.seats), kinds=self.kinds)
        free = {seat.slot.machine: seat for seat in reversed(self.seats) if seat.slot.index not in self.threads}
        own = of_kind(machine="", is_ending=self.is_ending)
        is_exhausted = self.exhausted_at == (len(self.session.state.decided), len(self.busy))
        if own is not None and own.action is Action.PROPOSE and is_exhausted and not own.why:
            free.pop("", None)
        if own is not None and ("" in free or own.action in (Action.DECIDE, Action.STACK, Action.CONCLUDE)):
            return own, free.get("")
        for machine, seat in free.items():
            step = of_kind(machine=machine, is_ending=self.is_ending) if machine else None
            if step is not None and not (is_exhausted and step.action is Action.PROPOSE):
                return step, seat
        return own, None

    def _stack(self) -> None:
        """Record which experiments of a wave are promising, and which of their changes are tried together."""
        session, state = self.session, self.session.state
        wave = wave_to_stack(state, self.busy.keys(), len(self.seats))
        assert wave is not None and state.incumbent is not None, "the step says that a wave is complete"
        candidates, stacks = [e.number for e in wave.candidates], stacks_of(session.study, state, wave)
        facts = {"wave_end": wave.end, "num_runs": len(state.incumbent.on("").runs)}
        session.history.append(
            "stacking", incumbent=state.incumbent.number, candidates=candidates, stacks=stacks, **facts
        )
        if candidates:
            how = _how_tried(candidates, stacks, is_judged_alone(wave.candidates[0], session.state, is_ending=False))
            session.note(f"A wave is tried. Promising, the best first: {_names(candidates)}. {how}")

    def _decide(self, step: Step) -> None:
        """Decide at once, but for what beats the incumbent: that waits for the others of its wave."""
        state = self.session.state
        experiment, incumbent = state.experiments[step.experiment], state.incumbent
        if is_win(step) and incumbent is not None and experiment.beat != incumbent.number:
            self._record_win(experiment)
        else:
            execute(self.session, step)

    def _propose(self, agent: Agent, goal: Goal, free: Seat | None) -> None:
        """Ask for the next proposal for a free slot; a stack of the last wave comes first.

        Without a free slot, let the agent think ahead. A dry run has the free slot.
        """
        session, state = self.session, self.session.state
        is_exhausted = self.exhausted_at == (len(state.decided), len(self.busy))
        is_stack_due = bool(stack_to_propose(state)) and not (free is not None and free.slot.machine)
        if free is None or (is_exhausted and not is_stack_due):
            if not is_exhausted and not is_stack_due:  # a stack needs no agent
                session.proposals.think_ahead(agent)
            self._wait()
            return
        may_come_first = self._has_no_answer or not session.proposals.is_asked
        stack = next_stack(session.study, state) if is_stack_due and may_come_first else None
        before, session.backend = session.backend, sharing(self.backend, self.baton, free)
        try:
            with self._question_aside() if stack is not None else nullcontext():
                execute(session, Step(Action.PROPOSE, len(state.experiments)), stack or agent)
        except (StopAfter, Enough):
            return  # what is in work comes to its end first
        except StudyError as error:  # of a dry run
            if not self._give_up(free.slot.machine, error):
                raise
        except NothingToPropose as end:
            if stack is not None:
                session.history.append("stack_refused", merged=stack.proposal.details["merged"])
            else:
                self._end_of_ideas(end, goal)
        finally:
            session.backend = before

    @property
    def _has_no_answer(self) -> bool:
        """Whether the agent was asked ahead and could not answer, which a stack need not wait for."""
        asked = self.session.proposals.question
        if asked is None or not asked.is_done or asked.said:  # what it has said is still to be recorded
            return False
        return isinstance(asked.failure, AgentUnavailable | NothingToPropose)

    @contextmanager
    def _question_aside(self) -> Iterator[None]:
        """Within this block a stack is proposed; a question that has no answer is for the number after it then."""
        proposals = self.session.proposals
        as_it_was = {name: getattr(proposals, name) for name in ("question", "ask_again_at", "num_failed_ahead")}
        proposals.question = None
        try:
            yield
        finally:
            if (asked := as_it_was["question"]) is not None:
                state = self.session.state
                asked.context = replace(asked.context, experiments=state.decided, in_work=state.in_work)
            for name, value in as_it_was.items():
                setattr(proposals, name, value)

    def _end_of_ideas(self, end: NothingToPropose, goal: Goal) -> None:
        """The study ends, but not while something is in work after which there may be ideas again."""
        state = self.session.state
        if self.busy and not isinstance(end, NoUsableProposal):
            self.exhausted_at = len(state.decided), len(self.busy)
            return
        self.session.note(str(end))
        goal.why_ending = end.reason

    def _begin(self, step: Step, seat: Seat) -> None:
        """Start a thread that takes a step, and those after it, on a slot."""
        key = self._key(step)
        self.busy[key] = seat.slot.index
        thread = threading.Thread(target=self._work, args=(step, key, seat), name=seat.slot.name, daemon=True)
        self.threads[seat.slot.index] = thread
        thread.start()
        while key[1] is not None and key in self.busy and self._is_unrecorded(*key):
            self._wait()  # so that the runs of one experiment are recorded in their order

    def _is_unrecorded(self, number: int, run: int | None) -> bool:
        return run is not None and run >= len(self.session.state.experiments[number].runs)

    def _key(self, step: Step) -> Key:
        """What a step keeps others from: one run of the baseline or of a decided experiment, else the experiment."""
        is_one_run = step.experiment == 0 or self.session.state.experiments[step.experiment].status is not None
        return step.experiment, step.run if is_one_run else None

    def _work(self, step: Step, key: Key, seat: Seat) -> None:
        with self.baton.held():
            try:
                lane = self._lane(seat)
                is_mine = partial(self._is_on, seat.slot.index)
                despite_full_disk(lane, lambda: self._take(lane, step, key), is_mine)
            except StopAfter:  # before a training; the others come to their decisions
                pass
            except StudyError as error:
                if not self._give_up(seat.slot.machine, error):
                    self.failure = self.failure or error
            except BaseException as error:  # raised in the thread of the caller
                self.failure = self.failure or error
            finally:
                self.busy = {other: index for other, index in self.busy.items() if index != seat.slot.index}
                self.phases.pop(seat.slot.index, None)
                self.threads.pop(seat.slot.index, None)
                self._write_activity()
                self.changed.set()

    def _give_up(self, machine: str, error: StudyError) -> bool:
        """Go on without a kind of machine that failed again and again; what it had in work is done by others.

        False where the error is not the machine's, or where it is the kind that the study began on.
        """
        if not machine or not isinstance(error.__cause__, MachineFailed):
            return False
        if machine not in self.kinds:  # another slot of this kind has said so
            return True
        self._use(tuple(seat for seat in self.seats if seat.slot.machine != machine))
        self.session.note(f"The study goes on without {machine}: {error.__cause__}")
        return True

    def _lane(self, seat: Seat) -> Lane:
        shared = {name: getattr(self.session, name) for name in SHARED}
        backend = sharing(self.backend, self.baton, seat)
        own: dict[str, Any] = {"backend": backend, "slot_name": seat.slot.name, "slot": seat.slot}
        own |= {"purpose": self.session.purpose, "machine": seat.slot.machine}
        return Lane(**shared, **own, main=self.session, pool=self)

    def _take(self, lane: Lane, step: Step, key: Key) -> None:
        """Take a run to its score, or an experiment to its decision, or to where it waits for the rest of its wave."""
        number, run = key
        if run is not None:
            self._take_run(lane, step, number, run)
            return
        while (experiment := lane.state.experiments[number]).status is None:
            due_now = due(experiment, without_runs(lane.state, self.busy.keys()), self.is_ending)
            if due_now is None or not self._is_mine(lane, due_now):
                return
            if due_now.experiment != number:
                self._rerun(lane, due_now)
            elif is_win(due_now):
                self._record_win(experiment)
            else:
                execute(lane, due_now)

    def _is_mine(self, lane: Lane, step: Step) -> bool:
        """Whether the slot's kind of machine can take a step; a decision needs none."""
        return step.action is Action.DECIDE or is_for(step, lane.state, lane.machine, self.kinds.keys())

    def _take_run(self, lane: Lane, step: Step, number: int, run: int) -> None:
        runs = lane.state.experiments[number].runs
        is_begun = run < len(runs) and step.action is not Action.AUDIT
        next_one = of_run(lane.state.experiments[number], run) if is_begun else step
        while next_one is not None:
            execute(lane, next_one)
            next_one = of_run(lane.state.experiments[number], run)

    def _rerun(self, lane: Lane, step: Step) -> None:
        """Take a run of the incumbent that an experiment waits for; or wait while another slot is at it."""
        assert lane.slot is not None
        mine = lane.slot.index
        while any(number == step.experiment and index != mine for (number, _), index in self.busy.items()):
            lane.tick()
            lane.clock.sleep(LOOK_EVERY_SECONDS)
            if not any(number == step.experiment for number, _ in self.busy):
                return  # it may be all that was due
        self.busy[step.experiment, step.run] = mine
        self._take_run(lane, step, step.experiment, step.run)
        del self.busy[step.experiment, step.run]

    def _is_on(self, slot: int, number: int, run: int) -> bool:
        """Whether a slot has a run in work."""
        return slot in (self.busy.get((number, run)), self.busy.get((number, None)))

    def _is_idle(self, number: int, run: int) -> bool:
        """Whether no slot has a run in work."""
        return (number, run) not in self.busy and (number, None) not in self.busy

    def _record_win(self, experiment: Experiment) -> None:
        """Record that an experiment has beaten the incumbent, and waits for what else is in work."""
        incumbent = self.session.state.incumbent
        if incumbent is None or experiment.beat == incumbent.number:
            return
        self.session.history.append("beat", experiment=experiment.number, incumbent=incumbent.number)
        if len(self.busy) > 1:
            words = f"Experiment {experiment.number:04d} beats {incumbent.number:04d}, and waits for what is in work."
            self.session.watch(Progress("note", text=words))

    # --- slots

    def _welcome(self) -> None:
        """Give machines that have joined meanwhile slots of their own; a full disk loses none of them."""
        if self.backend.joined is not None and self.joined == Joined():
            self.joined = self.backend.joined(self.kinds.keys())
        if self.joined.slots:
            new = [replace(self.seats[0], slot=slot, lock=None) for slot in self.joined.slots]
            self.record_slots([*self.seats, *new])
            self.session.note(f"Joined: {workers_words(self.joined.slots)}")
            self._use((*self.seats, *new))
            self.joined = replace(self.joined, slots=())
        if self.joined.words:
            self.session.note(self.joined.words)
        self.joined = Joined()

    def _use(self, seats: tuple[Seat, ...]) -> None:
        """Go on with these slots; what is left of a limit in slot hours is shared by all of them."""
        self.seats, self.kinds = seats, Counter(seat.slot.machine for seat in seats)
        if self.goal is not None:
            self.goal.share_slot_hours(len(seats))

    def record_slots(self, seats: Sequence[Seat]) -> None:
        """Record what slots there are; of slots on other machines what these are."""
        slots = [seat.slot for seat in seats]
        facts: dict[str, Any] = {"machines": [dict(slot.facts) for slot in slots]} if slots[0].facts else {}
        facts |= {"kinds": [slot.machine for slot in slots]} if facts else {}
        self.session.history.append("slots", names=[slot.name for slot in slots], **facts)

    def _wait(self) -> None:
        """Let others work for a moment, and obey users."""
        with self.baton.free():
            self.changed.wait(LOOK_EVERY_SECONDS)
        self.changed.clear()
        self.session.tick()

    def show(self, slot: Slot, activity: Activity) -> None:
        """Write what a slot does now."""
        self.phases[slot.index] = activity
        self._write_activity()

    def _write_activity(self) -> None:
        known = self.session._activity or next(iter(self.phases.values()), None)
        if known is not None and self.session.history.is_in_place:  # else another study may have its name by now
            write_activity(self.session.study.paths.activity, self.arranged(known))

    def arranged(self, own: Activity) -> Activity:
        """What stands in activity.json: the oldest experiment in work stands for the study, unless users must act."""
        head = own
        if self.phases and own.phase not in ("reviewing", "paused"):
            oldest = min(self.phases.values(), key=lambda known: known.experiment)
            head = replace(oldest, writes=own.writes, experiments_left=own.experiments_left)
        return replace(head, slots=self.rows())

    def rows(self) -> tuple[dict[str, Any], ...]:
        """What each slot does, for activity.json; `phase` is "" for one that waits."""
        rows = []
        for seat in self.seats:
            known = self.phases.get(seat.slot.index)
            doing = {name: getattr(known, name) for name in OF_A_SLOT} if known else {"phase": ""}
            rows.append({"slot": seat.slot.name} | doing)
        return tuple(rows)

    # --- its end

    def end_if_over(self) -> None:
        """Raise what has ended the session; on a slot that is StopNow, when it has ended elsewhere."""
        stop = self.failure
        if stop is None:
            return
        if threading.current_thread() is self.owner:
            raise stop
        raise StopNow(str(stop) if isinstance(stop, StopNow) else "" if _is_by_hand(stop) else ON_ANOTHER_SLOT)

    def close(self, why: BaseException) -> None:
        """End what the slots do, and wait for it, for a while also where the user presses Ctrl-C again."""
        self.failure = self.failure or why
        deadline = time.monotonic() + END_SECONDS
        for thread in list(self.threads.values()):
            with self.baton.free():
                while thread.is_alive():
                    try:
                        thread.join()
                    except KeyboardInterrupt:
                        if time.monotonic() > deadline:
                            raise


def _how_tried(candidates: Sequence[int], stacks: Sequence[Sequence[int]], is_best_alone: bool) -> str:
    """How the promising experiments of a wave are tried further, the best first, in a sentence."""
    how = [f"{candidates[0]:04d} runs again by itself"] if is_best_alone else []
    if stacks and len(stacks[-1]) > 1:
        how.append(f"{_names(stacks[-1])} are tried together")
    elif stacks:
        how.append(f"{_names(stacks[-1])} is tried on the present incumbent")
    return f"{', and '.join(how) or 'No change of them can be tried on the present incumbent'}."


def _names(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:04d}" for number in numbers)


def _is_by_hand(stop: BaseException) -> bool:
    return isinstance(stop, KeyboardInterrupt | GeneratorExit)


@contextmanager
def open_pool(session: Steps, num_slots: int) -> Iterator[Pool]:
    """The machine divided into slots, which work until this block is left. Raises StudyError where it cannot be."""
    backend = session.backend
    try:
        slots = backend.divide(num_slots)
    except TooManySlots as error:
        raise StudyError(str(error)) from error
    with backend.hold(slots, session.wait_for_machine, lambda seconds: session.tick(), session.study.name) as locks:
        if session.state.waiting is not None:
            session.history.append("waited")
        cores = usable_cores()
        seats = [Seat(slot, lock, cores, len(slots)) for slot, lock in zip(slots, locks, strict=True)]
        pool = Pool(session, seats)
        pool.record_slots(seats)
        session.arranged, as_it_was = pool.arranged, session.arranged
        session.backend = sharing(backend, pool.baton)
        try:
            with pool.baton.held():
                try:
                    yield pool
                except BaseException as why:
                    pool.close(why)
                    raise
        finally:
            session.backend, session.arranged = backend, as_it_was
            session.hooks.remove(pool.end_if_over)
