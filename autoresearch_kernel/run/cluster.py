"""Trainings, scores and audits on the workers of a Dask cluster; `run/remote.py` is the side of the workers.

`cluster_backend` connects to a scheduler that exists, and starts no worker. Each slot of the cluster is a worker, or
one of as many as its resource `slot` says. What a worker sends back has SHA-256 hashes, and the arithmetic of a score
is made again here.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.errors import MachineFailed
from ..core.types import Audit, Evaluation, MachineHolder, RunOutcome
from ..record.paths import ExperimentPaths
from ..scoring.job import ScoringJob
from ..scoring.score import bits_per_byte
from ..system.files import write_atomic
from ..system.speed import Load
from ..system.untrusted_files import remove_tree
from . import received, remote
from .backend import Backend
from .connection import CONNECT_SECONDS, POLL_SECONDS, Connection, TaskForgotten, Tick, WorkerLost, sha256
from .newcomers import Newcomers
from .outcome import EndRun
from .place import NO_KINDS, IsOwn, Place
from .places import Places, mirror_of
from .remote import Order, Question, Seen, Trained
from .training import NO_LISTENER, Listener, Training

LOST_SECONDS = 60.0  # without an answer, after which a worker or a supervisor counts as lost
HASHED_BYTES_PER_SECOND = 1e8  # by a worker with a slow disk
LIMITS = ("limit_seconds", "batch_limit_seconds", "total_limit_seconds", "may_quote")  # of a ScoringJob, that travel

T = TypeVar("T")


@contextmanager
def cluster_backend(
    address: str,
    project: Path,
    *,
    is_own: IsOwn | None = None,
    known: Mapping[str, Mapping[str, Any]] = NO_KINDS,
    lost_seconds: float = LOST_SECONDS,
) -> Iterator[Backend]:
    """The slots of a cluster as a backend, until this block is left.

    Args:
        address: of the scheduler, as tcp://host:8786.
        project: the folder whose prepare.py the workers are measured with.
        is_own, known: the kinds of machine of a study that has begun, see `Places.find`.
        lost_seconds: without an answer, after which a worker counts as lost, or a supervisor for a worker.

    Raises ClusterRefused without Dask, without a scheduler or workers, and for workers that no study can have together.
    """
    connection = Connection(address, lost_seconds)
    try:
        connection.open()
        places = Places(connection)
        places.find(project, is_own, known)
        cluster = Cluster(connection, places)
        yield Backend(
            train=cluster.train,
            score=cluster.score,
            audit=cluster.audit,
            load=lambda: Load((), 1),  # the load of this machine says nothing about the workers
            duel=None,
            divide=places.divide,
            hold=lambda slots, *_: nullcontext(
                (None,) * len(slots)
            ),  # a training takes the lock of its worker's machine
            num_slots=len(places.all),
            joined=Newcomers(places, project).joined,
            worker=places.worker,
        )
    finally:
        connection.close()


class Cluster:
    """Trains, scores and audits on the place of the thread that calls."""

    def __init__(self, connection: Connection, places: Places) -> None:
        self.connection, self.places = connection, places

    def train(self, training: Training, listener: Listener = NO_LISTENER) -> RunOutcome:
        """Train on the worker of this thread's slot, as `run_training` does. Raises MachineFailed."""
        follower = Follower(self.connection, training, listener)
        with follower.ending(), self.places.taking(follower.wait) as place:
            follower.place = place
            order = self._order(place, training.token, training.project, follower.wait)
            corpus = self._corpus(place, training.corpus_dir, follower.wait)
            sent = replace(training, paths=ExperimentPaths(Path()), project=Path(), corpus_dir=Path())
            experiment = name_below(training.project, training.paths.folder)
            follower.make_room()
            follower.finish(self._work(place, remote.train, order, sent, experiment, corpus, hear=follower.hear))
        return follower.outcome()

    def score(self, job: ScoringJob, nll_path: Path | None = None) -> Evaluation:
        """Score a model on the worker of this thread's slot, as `scoring.score.score` does. Raises MachineFailed."""
        with self.places.taking(job.on_tick) as place:
            order, question = self._question(place, job)
            evaluation, nll = self._work(place, remote.score_model, order, question, hear=hears_answers(job))
        claimed = scores_of(nll, job.heldout.rows[:, 1:].shape, place)
        val_bpb, standard_error = bits_per_byte(claimed, job.heldout.num_bytes)
        if nll_path is not None:
            write_atomic(nll_path, nll)
        return replace(evaluation, val_bpb=val_bpb, standard_error=standard_error, nll_path=nll_path)

    def audit(
        self,
        job: ScoringJob,
        nll: np.ndarray,
        *,
        reference: np.ndarray | None = None,
        cuts_path: Path | None = None,
        **facts: Any,
    ) -> Audit:
        """Audit a claim on the worker of this thread's slot, as `scoring.audit.audit` does. Raises MachineFailed."""
        with self.places.taking(job.on_tick) as place:
            order, question = self._question(place, job)
            claim = self._send_array(place, nll, job.on_tick)
            incumbent = None if reference is None else self._send_array(place, reference, job.on_tick)
            arguments = order, question, claim, incumbent
            found, cuts = self._work(place, remote.audit_model, *arguments, hear=hears_answers(job), **facts)
        if cuts_path is not None and cuts:
            write_atomic(cuts_path, cuts)
        return found

    # --- what travels

    def _order(self, place: Place, token: str, project: Path, tick: Tick) -> Order:
        """What each task is told; the project's prepare.py is sent before it."""
        mirror = mirror_of(project)
        self.connection.send(place.address, {f"{mirror}/prepare.py": project / "prepare.py"}, tick)
        shared = place.shares_machine, self.places.num_on(place.host)
        return Order(place.process, token, mirror, self.connection.lost_seconds, *shared)

    def _corpus(self, place: Place, corpus_dir: Path, tick: Tick) -> str:
        """The folder of a corpus on the worker, where it is sent unless it is there."""
        files = {path.relative_to(corpus_dir).as_posix(): path for path in corpus_dir.rglob("*") if path.is_file()}
        digests = {name: sha256(path) for name, path in sorted(files.items())}
        num_bytes = sum(path.stat().st_size for path in files.values())
        limit = self.connection.lost_seconds + num_bytes / HASHED_BYTES_PER_SECOND
        copy = f"corpora/{sha256(json.dumps(digests).encode())[:16]}/{corpus_dir.name}"
        for is_sent in (False, True):
            arguments = corpus_dir.name, copy, digests
            found = self.connection.ask(place.address, received.find_corpus, *arguments, tick=tick, limit_seconds=limit)
            if found is not None:
                return str(found)
            if not is_sent:
                self.connection.send(place.address, {f"{copy}/{name}": path for name, path in files.items()}, tick)
        raise MachineFailed(f"The corpus {corpus_dir.name} did not arrive at the worker {place.name}.")

    def _question(self, place: Place, job: ScoringJob) -> tuple[Order, Question]:
        """What a worker has to know to score or audit a model; what it lacks of it is sent."""
        order = self._order(place, job.token or secrets.token_hex(16), job.project, job.on_tick)
        artefact = f"{order.project}/{name_below(job.project, job.artefact)}"
        self.connection.send(place.address, {artefact: job.artefact}, job.on_tick)
        arrays = job.heldout.rows, job.heldout.token_bytes
        rows, token_bytes = (self._send_array(place, array, job.on_tick) for array in arrays)
        limits = {name: getattr(job, name) for name in LIMITS}
        return order, Question(artefact, rows, token_bytes, job.settings, limits)

    def _send_array(self, place: Place, array: np.ndarray, tick: Tick) -> str:
        """The name of an array on the worker, where it is sent unless it is there."""
        buffer = io.BytesIO()
        np.save(buffer, array)
        name = f"arrays/{sha256(buffer.getvalue())}.npy"
        self.connection.send(place.address, {name: buffer.getvalue()}, tick)
        return name

    # --- tasks

    def _work(
        self,
        place: Place,
        function: Callable[..., T],
        order: Order,
        *arguments: Any,
        hear: Callable[[Seen], None],
        **facts: Any,
    ) -> T:
        """What a task of `remote` returns.

        `hear` gets what the task does about four times a second. An exception from it ends the task, and is raised once
        nothing of the task runs. Raises MachineFailed where the worker is lost.
        """
        connection, key = self.connection, f"{function.__name__}-{order.token}"
        task = connection.start(connection.submit(place.address, key, function, order, *arguments, **facts))
        watch = Watch(connection, place, order.token)
        try:
            while not concurrent.futures.wait([task], POLL_SECONDS).done:
                hear(watch.look())
            return task.result()
        except WorkerLost:
            task.cancel()
            place.leftovers.append(order.token)
            raise
        except TaskForgotten:
            self._end(place, order.token)
            raise
        except BaseException:
            if not task.done():
                task.cancel()
                self._end(place, order.token)
            raise

    def _end(self, place: Place, token: str) -> None:
        """End a task and wait until nothing of it runs, where its worker answers."""
        place.leftovers.append(token)
        try:
            limit = CONNECT_SECONDS + remote.END_SECONDS
            self.connection.ask(place.address, remote.end, [token], limit_seconds=limit)
            place.leftovers.remove(token)
        except MachineFailed:
            place.is_lost = True


class Watch:
    """Asks a worker what its task does, without waiting for the answer."""

    def __init__(self, connection: Connection, place: Place, token: str) -> None:
        self.connection, self.place, self.token = connection, place, token
        self.num_points = 0  # of the curve, that have arrived
        self.answered = time.monotonic()
        self.has_worked = False
        self.asked: concurrent.futures.Future[Seen] | None = None
        self.last = Seen()

    def look(self) -> Seen:
        """What the task does as far as it is known; what is new of it is returned once. Raises WorkerLost."""
        new = None
        if self.asked is not None and self.asked.done():
            new, self.asked = _answer(self.asked), None
        if new is not None:
            self.last, self.answered = new, time.monotonic()
            self.num_points += len(new.points)
            self.has_worked = self.has_worked or new.is_working
        if self.asked is None:
            known = self.token, self.num_points, self.last.num_chars
            self.asked = self.connection.start(self.connection.answer_of(self.place.address, remote.look, *known))
        if new is None:
            self._raise_if_lost()
            return replace(self.last, points=(), output="")
        return new

    def _raise_if_lost(self) -> None:
        connection, now, name = self.connection, time.monotonic(), f"The worker {self.place.name}"
        is_listed = now - connection.heard < connection.lost_seconds
        # Code of an experiment can end or freeze its worker, but not the scheduler.
        if is_listed and self.place.address not in connection.workers:
            raise WorkerLost(f"{name} is gone.", may_be_the_code=self.has_worked)
        if now - self.answered > connection.lost_seconds:
            why = "" if is_listed else f", nor has the scheduler at {connection.address}"
            words = f"{name} has not answered for {now - self.answered:.0f} s{why}."
            raise WorkerLost(words, may_be_the_code=self.has_worked and is_listed)


def _answer(asked: concurrent.futures.Future[Seen]) -> Seen | None:
    """What a worker answered; None for no answer, after which it is asked again until it counts as lost."""
    try:
        return asked.result()
    except (MachineFailed, concurrent.futures.CancelledError):
        return None


class Follower:
    """Passes what a training does on a worker to the callbacks of its listener, and keeps the files that come back."""

    def __init__(self, connection: Connection, training: Training, listener: Listener) -> None:
        self.connection, self.training, self.listener = connection, training, listener
        self.paths, self.run = training.paths, training.run
        self.place: Place | None = None
        self.ended: EndRun | None = None  # by a callback
        self.num_points = self.num_chars = 0  # of the curve and of the output, that were passed on
        self.told: MachineHolder | None = None  # whose training `on_wait` was told of
        self.trained: Trained | None = None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """An EndRun from a callback becomes the outcome."""
        try:
            yield
        except EndRun as why:
            self.ended = why

    def wait(self) -> None:
        """Call `on_tick` before the training has begun."""
        if self.listener.on_tick is not None:
            self.listener.on_tick(0.0)

    def make_room(self) -> None:
        """Make a new folder for the hand-over, with the curve that views read while the training goes on."""
        remove_tree(self.paths.handover(self.run))
        self.paths.handover(self.run).mkdir(parents=True)

    def hear(self, seen: Seen) -> None:
        """Call the callbacks; the first EndRun of one of them ends the training on the worker, which then returns."""
        if self.ended is not None:
            return
        with self.ending():
            self._tell(seen)
        if self.ended is not None:
            assert self.place is not None
            arguments = self.training.token, str(self.ended.status), self.ended.reason
            self.connection.ask(self.place.address, remote.end_run, *arguments)

    def _tell(self, seen: Seen) -> None:
        listener = self.listener
        if seen.holder not in (None, self.told) and not seen.is_working and listener.on_wait is not None:
            self.told = seen.holder
            listener.on_wait(seen.holder)
        if self.told is not None and seen.is_working and listener.on_spawn is not None:
            self.told = None
            listener.on_spawn(os.getpid())  # the runner itself is a process of another machine
        if listener.on_tick is not None:
            listener.on_tick(seen.seconds)
        self.num_chars = seen.num_chars
        if listener.on_output is not None and seen.output:
            listener.on_output(seen.output)
        if seen.points:
            with open(self.paths.metrics(self.run), "a", encoding="utf-8") as curve:
                curve.writelines(json.dumps(point) + "\n" for point in seen.points)
        for point in seen.points:
            self.num_points += 1
            if listener.on_metrics is not None:
                listener.on_metrics(point)

    def finish(self, trained: Trained) -> None:
        """Pass on the rest of the curve, and write the files that came back into the study's own folder.

        Raises MachineFailed for files that are damaged or were not asked for.
        """
        assert self.place is not None
        known = {*self.paths.trained(self.run), self.paths.runner_log(self.run)}
        files = {self.paths.folder / file.name: file for file in trained.files}
        for path, file in files.items():
            if path not in known or not file.is_whole:
                raise MachineFailed(f"{file.name} came back damaged from the worker {self.place.name}.")
        if trained.outcome.artefact is not None and self.paths.artefact(self.run) not in files:
            raise MachineFailed(f"The worker {self.place.name} sent no model back.")
        if self.ended is None:
            with self.ending():
                self._tell(trained.seen.after(self.num_points, self.num_chars))
        self.make_room()
        for path, file in files.items():
            write_atomic(path, file.data)
        self.trained = trained

    def outcome(self) -> RunOutcome:
        """The outcome, with paths of this machine."""
        if self.trained is None:
            assert self.ended is not None
            return RunOutcome(self.ended.status, self.ended.reason, None, None)
        outcome = self.trained.outcome
        artefact = None if outcome.artefact is None else self.paths.artefact(self.run)
        notebook = None if outcome.notebook is None else self.paths.notebook(self.run)
        outcome = replace(outcome, artefact=artefact, notebook=notebook)
        if self.ended is None:
            return outcome
        return replace(outcome, status=self.ended.status, reason=self.ended.reason, artefact=None)


def name_below(project: Path, path: Path) -> str:
    """The name of a file or folder in the mirror of a project."""
    found, top = path.resolve(), project.resolve()
    if found.is_relative_to(top):
        return found.relative_to(top).as_posix()
    return f"elsewhere/{hashlib.sha256(str(found.parent).encode()).hexdigest()[:16]}/{found.name}"


def hears_answers(job: ScoringJob) -> Callable[[Seen], None]:
    """Passes what a scorer does on a worker to the callbacks of its job."""
    told = 0.0

    def hear(seen: Seen) -> None:
        nonlocal told
        if job.on_tick is not None:
            job.on_tick()
        if job.on_progress is not None and seen.fraction != told:
            told = seen.fraction
            job.on_progress(told)

    return hear


def scores_of(data: bytes, shape: tuple[int, ...], place: Place) -> np.ndarray:
    """Nats per target, float32 (N, T), from an .npy that came back. Raises MachineFailed when it is anything else."""
    try:
        array = np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise MachineFailed(f"The scores came back damaged from the worker {place.name}.") from error
    if array.shape != shape or array.dtype != np.float32:
        raise MachineFailed(f"The worker {place.name} sent {array.shape} scores back, where {shape} were wanted.")
    return array
