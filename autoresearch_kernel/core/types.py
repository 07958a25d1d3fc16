"""The values that the rooms hand to each other: frozen, without I/O, importable everywhere.

A study is a series of experiments under one corpus, budget and rule. An experiment is one
proposal tried. A run is one training of it; a confirmation is a second run.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from .comparison import Comparison


class Status(StrEnum):
    """How an experiment ended. From artefacts and exit codes, never from notebook metadata.

    Example:
        >>> Status("keep") is Status.KEEP
        True
    """

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    TIMEOUT = "timeout"
    INVALID = "invalid"  # the source did not pass the gate; nothing ran
    REJECTED = "rejected"  # the audit refused the score
    INTERRUPTED = "interrupted"  # the supervisor went away while it ran; it runs once more


FAILED = frozenset({Status.CRASH, Status.TIMEOUT, Status.INVALID, Status.INTERRUPTED})  # there is no score


class Cause(StrEnum):
    """Why a training ended without saying anything about its code. It is made again under the same run index."""

    GONE = "gone"  # the supervisor went away; the only cause that the experiment itself may have brought about
    ASKED = "asked"  # a person stopped it
    SLEPT = "slept"  # the machine slept
    SLOW = "slow"  # the machine ran much slower than for the incumbent
    FAST = "fast"  # the machine ran much faster than for the incumbent
    OVERTIME = "overtime"  # it worked longer beyond its budget than the baseline does
    FULL_DISK = "full disk"
    NOT_STARTED = "not started"  # the sandbox, the kernel or the process that executes the notebook failed
    DIED = "died"  # what executes the notebook, or the worker, ended while the code ran, so the code may be why
    KILLED = "killed"  # by another process, such as a system short of memory


NO_OUTCOME = frozenset({Cause.NOT_STARTED, Cause.DIED})  # the machine failed, and the training said nothing
OF_THE_MACHINE = frozenset({Cause.KILLED, Cause.OVERTIME, Cause.SLOW, Cause.FAST})  # a busy machine may be behind these


@dataclass(frozen=True)
class Proposal:
    """One idea: what an agent submits. Its only act is the text of train.py.

    Example, an agent of one's own:
        >>> class Halver:
        ...     name = "halver"
        ...     def propose(self, context):
        ...         source = context.train_source.replace("MATRIX_LR = 0.04", "MATRIX_LR = 0.02")
        ...         return Proposal("Half the step may go further.", source, self.name)
    """

    hypothesis: str  # one sentence
    train_source: str  # the whole new train.py
    agent: str  # "search", "baseline", "llm", ...
    changes: dict[str, Any] = field(default_factory=dict)  # parameter -> new literal; empty for structural edits
    details: dict[str, Any] = field(default_factory=dict)  # small JSON only the agent reads (trial number, subjects)
    expected: str = ""  # the effect it should have, "" when the agent does not say
    refutation: str = ""  # what would show that it is wrong
    notes: str = ""  # the agent's notes.md, rewritten; "" when it stays as it is
    transcript: tuple[dict[str, str], ...] = ()  # role and content of each message, for proposal.json alone


class Objection(StrEnum):
    """Why a proposal is given back to its agent instead of being run."""

    GATE = "gate"  # it is no notebook that means what the file says
    REPEAT = "repeat"  # the same code was tried before
    DRY_RUN = "dry run"  # a few steps of it fail
    CONFLICT = "conflict"  # the incumbent changed meanwhile, in the same lines
    PERSON = "person"  # a user refuses it
    UNUSABLE = "unusable"  # the reply holds no edit that applies; there is no proposal


@dataclass(frozen=True)
class Refusal:
    """A proposal that was given back, and why."""

    experiment: int  # the number that it would have had
    objection: Objection
    why: str  # for the agent: a sentence, a traceback, a person's words
    hypothesis: str
    proposal: Proposal | None = None  # None for those of earlier experiments, and for an unusable reply
    parameters: Mapping[str, Any] = field(default_factory=dict)  # all literals of a refused move of the optimiser
    train_sha256: str = ""  # of the proposal; "" without one
    transcript: tuple[dict[str, str], ...] = ()  # of an unusable reply


@dataclass(frozen=True)
class Call:
    """One question to a language model and what it cost."""

    model: str
    tokens_in: int
    tokens_out: int  # reasoning included
    cost: float | None  # US dollars; None when the model's price is not known
    seconds: float
    estimated: bool = False  # the server did not count the tokens; they are counted from the text
    failed: str = ""  # why there is no usable reply; "" when there is one


@dataclass(frozen=True)
class Spent:
    """What a study's calls add up to."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0  # US dollars, of the calls whose price is known
    unpriced_calls: int = 0
    unread_calls: int = 0  # failed before a model read anything, as without a sign-in

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def counted_calls(self) -> int:
        """Those that count towards a limit of calls."""
        return self.calls - self.unread_calls

    @property
    def mean_cost(self) -> float | None:
        """US dollars, of the calls whose price is known; None while there is none."""
        num_known = self.calls - self.unread_calls - self.unpriced_calls
        return self.cost / num_known if num_known > 0 else None

    def __add__(self, other: Spent) -> Spent:
        return Spent(*map(operator.add, astuple(self), astuple(other)))

    def plus(self, call: Call) -> Spent:
        is_unread = bool(call.failed) and not (call.tokens_in or call.tokens_out)
        cost = call.cost or 0.0, int(call.cost is None)
        return self + Spent(1, call.tokens_in, call.tokens_out, *cost, int(is_unread))


@dataclass(frozen=True)
class Limits:
    """What a study's calls may add up to in all; None for no limit."""

    max_tokens: int | None = None  # in and out
    max_cost: float | None = None  # US dollars
    max_calls: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class RunOutcome:
    """What one training left behind. `artefact` is None exactly when `status` is not None.

    Example:
        >>> with open_session(study) as session:  # doctest: +SKIP
        ...     outcome = session.train(session.state.unfinished, run=0)
        >>> outcome.status, outcome.measured["num_steps"]  # doctest: +SKIP
        (None, 233)
    """

    status: Status | None  # None: trained, ready to be scored; else crash, timeout or invalid
    reason: str  # one line for people; "" when it trained
    artefact: Path | None  # the pickled model
    notebook: Path | None  # executed, whatever happened; None when the gate refused the source
    measured: dict[str, Any] = field(default_factory=dict)  # see `run/engine.py`: what the supervisor measured


@dataclass(frozen=True)
class Evaluation:
    """A score on the fixed validation rows, computed outside the training process.

    Example:
        >>> Evaluation(1.4312, 0.0021, num_tokens=131_047, num_bytes=412_371, evaluation_seconds=3.2).val_bpb
        1.4312
    """

    val_bpb: float  # bits per byte, lower is better
    standard_error: float  # bits per byte, over rows
    num_tokens: int  # scored targets
    num_bytes: int  # raw bytes of those targets
    evaluation_seconds: float
    nll_path: Path | None = None  # per-token negative log-likelihood in nats, float32 .npy (rows, T)
    slowest_batch_seconds: float | None = None  # the first one with the model's loading
    answer_seconds: float | None = None  # from the model's loading to its last answer


@dataclass(frozen=True)
class Audit:
    """What a second process, which saw no targets, says of a claim: see `scoring/audit.py`."""

    accepted: bool
    correction_bpb: float  # estimated truth minus claim, bits per byte; to be added to the claim
    standard_error: float  # of the correction, bits per byte
    num_cuts: int  # places that were looked at, one a row
    num_mismatches: int  # of these, where the model said something else
    reason: str  # why it is refused, one line; "" when it is accepted
    seconds: float


@dataclass(frozen=True)
class Run:
    """One training of an experiment, as the history remembers it.

    Example:
        >>> Run(index=1, seed=101, val_bpb=1.4312).val_bpb  # index 1: the confirmation
        1.4312
    """

    index: int  # 0 is the first run, 1 a confirmation
    seed: int
    status: Status | None = None  # None: trained
    reason: str = ""
    val_bpb: float | None = None  # what counts: the claim, corrected by its audit; None when that refused it
    standard_error: float | None = None
    claimed_bpb: float | None = None  # what the scorer said, before the audit
    audit: Audit | None = None  # None where none was made: a discard needs none
    measured: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1  # trainings begun under this index that no user asked to stop: 2 after the supervisor went away
    interruptions: tuple[str, ...] = ()  # why earlier trainings under this index did not count, for people
    causes: tuple[Cause, ...] = ()  # and in one word each, the latest one's included
    num_decided: int = 0  # experiments decided when it began: for a re-run of the incumbent, its place in time
    sandbox: str | None = None  # in which it trained and was scored, "none" without one; None where it was not recorded
    provenance: str = ""  # digest of all that the score depends on, see `record/provenance.py`; "" without a score
    duel: tuple[int, int] | None = None  # experiment and run that it took turns with; None for a run alone
    slot: str = ""  # name of the slot it trained on, where there is more than one
    machine: str = ""  # the kind of machine it trained on; "" for the kind that the study began on

    @property
    def slow(self) -> bool:
        """A training under this index was voided because the machine ran much slower than before."""
        return Cause.SLOW in self.causes


NO_SANDBOX = "none"  # the name of a sandbox that is not there: what --unsafe asks for


def is_trusted(run: Run) -> bool:
    """Whether nothing speaks against a run's figures: code that trains or is scored without a sandbox may write any."""
    return run.sandbox != NO_SANDBOX


def scores_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """val_bpb of each run that has one, in their order."""
    return tuple(run.val_bpb for run in runs if run.val_bpb is not None)


@dataclass(frozen=True)
class Experiment:
    """One proposal tried, folded from the history. `status` is None until it is decided.

    Example:
        >>> Experiment(7, "Half the step", "search", 3, val_bpb=1.25, incumbent_bpb=1.5).delta_bpb  # negative is better
        -0.25
    """

    number: int  # 0 is the baseline
    hypothesis: str
    agent: str
    parent: int | None  # the incumbent it was derived from; None for the baseline
    changes: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    expected: str = ""
    refutation: str = ""
    fingerprint: str = ""  # of its train.py, see `agents/reply.py`; "" in records older than that
    code_size: int | None = None  # of its train.py, the same; None where it is not known
    spent: Spent = Spent()  # what proposing it cost
    runs: tuple[Run, ...] = ()
    num_left_out: int = 0  # runs on other kinds of machine than those of `runs`, where `on` made this
    status: Status | None = None
    val_bpb: float | None = None  # the mean that the decision was made on; None without a score, never 0
    standard_error: float | None = None  # of that mean
    reason: str = ""  # the rule's words, or the failure's
    incumbent_bpb: float | None = None  # what it had to beat: the incumbent's mean at the speed of that time
    incumbent_standard_error: float | None = None  # of that mean
    sigma: float | None = None  # run-to-run standard deviation as it was estimated at that time
    degrees_of_freedom: int | None = None  # behind sigma; None where the record does not say
    difference_error: float | None = None  # standard error of the difference, where a duel is behind it; else None
    train_sha256: str = ""
    commit: str | None = None  # git commit of its train.py, None without git
    decided_before: int | None = None  # experiments decided when it was proposed; None for all before it
    beat: int | None = None  # the experiment that it beat by the rule while others were in work; None for none
    proposed_at: str = ""  # UTC ISO 8601
    decided_at: str = ""
    place: int = 0  # of its decision among all of the study, from 1 on; 0 for one that is not decided, and in a table

    @property
    def order(self) -> tuple[int, str, int]:
        """What sorts experiments by their decisions; the wall clock may have been set meanwhile."""
        return self.place, self.decided_at, self.number

    @property
    def machine(self) -> str:
        """The kind of machine that its scores are of, without a score that of its last run; "" for the study's own."""
        scored = (run for run in self.runs if run.val_bpb is not None)
        run = next(scored, self.runs[-1] if self.runs else None)
        return run.machine if run is not None else ""

    def on(self, machine: str) -> Experiment:
        """The experiment with its runs on one kind of machine alone: scores of two kinds are never compared."""
        runs = tuple(run for run in self.runs if run.machine == machine)
        left_out = len(self.runs) - len(runs)
        return self if not left_out else replace(self, runs=runs, num_left_out=self.num_left_out + left_out)

    def scores_on(self, machine: str) -> tuple[float, ...]:
        """val_bpb of each run on one kind of machine that has one, oldest first."""
        return scores_of(self.on(machine).runs)

    @property
    def next_run(self) -> int:
        """The index that a new run gets."""
        return len(self.runs) + self.num_left_out

    @property
    def scores(self) -> tuple[float, ...]:
        """val_bpb of each run on its own kind of machine that has one, oldest first; later re-runs included."""
        return self.scores_on(self.machine)

    @property
    def judged_runs(self) -> tuple[Run, ...]:
        """The scored runs that the decision was made on, without those that were made later."""
        return tuple(run for run in self.runs if run.val_bpb is not None and run.num_decided <= self.number)

    @property
    def awaiting_audit(self) -> tuple[Run, ...]:
        """The scored runs of a kept experiment, made after it was decided, that are still to be audited."""
        if self.number == 0 or self.status is not Status.KEEP:
            return ()
        late = (run for run in self.runs if run.num_decided > self.number)
        return tuple(run for run in late if run.val_bpb is not None and run.audit is None)

    @property
    def audited(self) -> Experiment:
        """The experiment without the runs that await their audit: nothing is compared with these yet."""
        if not (waiting := self.awaiting_audit):
            return self
        runs = tuple(run for run in self.runs if all(run is not one for one in waiting))
        return replace(self, runs=runs, num_left_out=self.num_left_out + len(waiting))

    @property
    def mean_bpb(self) -> float | None:
        """Mean of all its runs so far, those after the decision included; None without a scored run."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else None

    @property
    def mean_standard_error(self) -> float | None:
        """Of `mean_bpb`; None while sigma was not known."""
        return self.sigma / math.sqrt(len(self.scores)) if self.sigma is not None and self.scores else None

    @property
    def claimed_bpb(self) -> float | None:
        """Mean of what the scorer said, before any audit; for a rejected experiment all there is. None without any."""
        claims = [run.val_bpb if run.claimed_bpb is None else run.claimed_bpb for run in self.runs]
        known = [claim for claim in claims if claim is not None]
        return sum(known) / len(known) if known else None

    @property
    def correction_bpb(self) -> float:
        """By how much audits corrected the mean of its claims; 0 where each claim was true."""
        found = [run.audit.correction_bpb for run in self.runs if run.audit is not None and run.audit.accepted]
        return sum(found) / len(found) if found else 0.0

    @property
    def failed_run(self) -> int | None:
        """Index of the last run that failed or whose score the audit refused; None when there is none."""
        return next((run.index for run in reversed(self.runs) if run.status in FAILED | {Status.REJECTED}), None)

    @property
    def refusal(self) -> Run | None:
        """The run whose score the audit refused; None when it refused none."""
        return next((run for run in self.runs if run.status is Status.REJECTED), None)

    @property
    def compared(self) -> Comparison | None:
        """What its decision rests on: its score and its incumbent's, as they were then; None without both."""
        if self.val_bpb is None or self.incumbent_bpb is None:
            return None
        if self.difference_error is not None:  # the scores of a duel share the machine, so their errors are not theirs
            mine, theirs, error = self.val_bpb, self.incumbent_bpb, self.difference_error
            return Comparison(mine, theirs, sigma=error, known_error=error)
        errors = self.standard_error, self.incumbent_standard_error
        return Comparison(
            self.val_bpb, self.incumbent_bpb, *errors, self.sigma, degrees_of_freedom=self.degrees_of_freedom
        )

    def against(self, other: Experiment) -> Comparison | None:
        """The scores of both as each was decided; None where one has none."""
        if self.val_bpb is None or other.val_bpb is None:
            return None
        errors = self.standard_error, other.standard_error
        return Comparison(self.val_bpb, other.val_bpb, *errors, self.sigma, degrees_of_freedom=self.degrees_of_freedom)

    def so_far_against(self, other: Experiment, sigma: float | None) -> Comparison | None:
        """The means of both over all runs so far, with the present sigma; None where one has no scored run."""
        if self.mean_bpb is None or other.mean_bpb is None:
            return None
        mine, theirs = (sigma / math.sqrt(len(e.scores)) if sigma is not None else None for e in (self, other))
        return Comparison(self.mean_bpb, other.mean_bpb, mine, theirs, sigma)

    @property
    def delta_bpb(self) -> float | None:
        """Difference to the incumbent, as it was at the decision; negative is better."""
        if self.val_bpb is None or self.incumbent_bpb is None:
            return None
        return self.val_bpb - self.incumbent_bpb

    @property
    def delta_standard_error(self) -> float | None:
        """Of `delta_bpb`; None where the error of one of the two scores is not known."""
        return None if (compared := self.compared) is None else compared.error


@dataclass(frozen=True)
class SealedScore:
    """One model's score on the sealed test split."""

    experiment: int
    run: int
    champion: int  # for whose result it was made
    test_bpb: float | None  # bits per byte, corrected by the audit; None when that refused it
    reason: str = ""  # the audit's, for refusing it


@dataclass(frozen=True)
class Result:
    """What a study found: champion less baseline in bits per byte, negative is better. Errors are over seeds."""

    champion: int
    baseline_test_bpb: float  # mean over runs
    champion_test_bpb: float
    test_difference: float
    test_standard_error: float
    val_difference: float  # of the same models on validation rows
    val_standard_error: float
    judged_difference: float  # of the scores that the champion was chosen by
    num_baseline_runs: int
    num_champion_runs: int
    num_looks: int  # champions that the test split was opened for in this study, this one included
    judged_standard_error: float | None = None  # of judged_difference; None where a decision has none
    baseline_val_bpb: float | None = None  # the means that val_difference is of; None in records without them
    champion_val_bpb: float | None = None
    num_failed_runs: int = 0  # of the champion on fresh seeds: they have no score, and are in no mean


class Archive:
    """What a study keeps of each experiment, read when it is asked for; this one keeps nothing."""

    def source(self, number: int) -> str:
        """Its train.py; "" when that is gone."""
        return ""

    def diff(self, number: int) -> str:
        """Its train.py against its parent's, unified."""
        return ""

    def curve(self, number: int) -> list[dict[str, Any]]:
        """Points of its first run: progress 0..1, seconds, train_loss, tokens_per_second."""
        return []

    def output(self, number: int, run: int) -> str:
        """The last lines that a run printed and the traceback with which it failed, as it wrote them."""
        return ""


def ignore(said: object) -> None:
    """Default of a callback: does nothing."""


@dataclass(frozen=True)
class Context:
    """All that an agent may read before it proposes.

    Example, in the `propose` of an agent:
        >>> tried = [e.hypothesis for e in context.experiments]  # doctest: +SKIP
        >>> source = context.train_source.replace("x.square()", "x")  # doctest: +SKIP
    """

    program: str  # program.md
    train_source: str  # the incumbent's train.py
    incumbent: Experiment
    experiments: tuple[Experiment, ...]  # decided ones, oldest first, the baseline included
    sigma: float | None
    study: dict[str, Any]  # study.json: corpus, budget, hardware, versions
    seed: int  # for the agent's own choices
    machine_speed: float = 1.0  # of the machine now, relative to the study's start; see `core/drift.py`
    hints: tuple[str, ...] = ()  # what people said to the agent, oldest first
    in_work: tuple[Experiment, ...] = ()  # proposed and not decided, their results unknown, oldest first
    refused: tuple[Refusal, ...] = ()  # what was answered to this very question and given back, oldest first
    refusals: tuple[Refusal, ...] = ()  # what people refused before, oldest first
    notes: str = ""  # the agent's own notes.md, as it or a person left it
    notes_at: int = 0  # experiments decided, the baseline not counted, when the agent last rewrote its notes
    archive: Archive = field(default_factory=Archive)
    spent: Spent = Spent()
    limits: Limits = NO_LIMITS
    prepare_source: str = ""  # prepare.py; "" where it is not known
    experiments_left: int | None = None  # until the study ends, the one that is asked for included; None for no limit
    seconds_left: float | None = None  # until nothing more is proposed; None for no limit
    on_call: Callable[[Call], None] = ignore  # keeps the accounts; an agent tells it of every call, from any thread
    on_wait: Callable[[str], None] = ignore  # hears why an agent takes its time; raises when the study no longer waits
    on_send: Callable[[Call], None] = ignore  # hears what a call may cost before it is sent
    on_words: Callable[[str], None] = ignore  # hears the last lines of what a model writes, while it writes

    @property
    def number(self) -> int:
        """Of the experiment that is asked for."""
        return len(self.experiments) + len(self.in_work)


@dataclass(frozen=True)
class MachineHolder:
    """Whose training has this machine, as its lock file says; "" and None for what it does not say."""

    study: str = ""
    pid: int | None = None
    since: str = ""  # UTC ISO 8601


@dataclass(frozen=True)
class Busy:
    """A moment at which other processes kept the machine busy."""

    time: str  # UTC ISO 8601
    why: str  # the supervisor looked
    cores: float  # that the others took
    num_cores: int
    who: str  # the busiest of them, in words


@dataclass(frozen=True)
class Progress:
    """What is happening now, for people who watch."""

    # "proposing", "starting", "training", "scoring", "auditing", "deciding", "paused", "quiet"; "note" for a sentence,
    # and "writing" when only `writes` is new
    phase: str
    experiment: int = 0
    run: int = 0
    hypothesis: str = ""
    fraction: float = 0.0  # of the phase, 0..1
    metrics: Mapping[str, Any] = field(default_factory=dict)  # the last point of the curve
    text: str = ""  # of a note, a pause or a wait for a quieter machine
    writes: str = ""  # the last lines of what the agent writes now
    slot: str = ""  # its name, where there is more than one
