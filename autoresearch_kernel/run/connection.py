"""A connection to the scheduler of a Dask cluster: asks its workers, gives them tasks, and sends them files.

The client lives in an event loop of its own, because a question to a worker that is frozen must not block whoever asks.
Whatever the network, the scheduler or a worker does wrong becomes MachineFailed.

    StudyError
      ClusterRefused    no cluster that a study can use; the message says why

    MachineFailed
      WorkerLost        a worker does not answer, or is gone
      TaskForgotten     the scheduler has forgotten a task
      NoAnswer          a task has not ended in the time that it was given
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import io
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import MachineFailed
from ..record.study import StudyError
from ..scoring.scorer_process import ScoringFailed
from ..system.explain import explain
from . import received

CONNECT_SECONDS = 15.0  # to find the scheduler, and to hear from a worker that was lost
LIST_SECONDS = 1.0  # between two looks at the scheduler's list of workers
POLL_SECONDS = 0.25  # between two questions what a task does, and two calls of `tick`
CHUNK_BYTES = 8 * 2**20  # of a file that is sent: each part has to arrive within `lost_seconds`
SLOT = "slot"  # the resource of a worker that says how many trainings it makes at the same time

T = TypeVar("T")
Tick = Callable[[], None] | None  # called while something is waited for; its exception ends the wait


class ClusterRefused(StudyError):
    """There is no cluster that a study can use; the message says why and what to do."""


class WorkerLost(MachineFailed):
    """A worker has not answered for a while, or the scheduler lists it no more."""


class TaskForgotten(MachineFailed):
    """The scheduler has forgotten a task, which may still work."""


class NoAnswer(MachineFailed):
    """What was waited for has not come in the time that it was given."""


class Connection:
    """A connection to one scheduler. Its methods may be called by several threads."""

    def __init__(self, address: str, lost_seconds: float) -> None:
        """`lost_seconds`: without an answer, after which a question is given up."""
        self.address, self.lost_seconds = address, lost_seconds
        self.workers: dict[str, dict[str, Any]] = {}  # as the scheduler lists them, by address
        self.heard = time.monotonic()  # when it listed them last
        self._client: Any = None  # a distributed.Client
        self._connecting = asyncio.Lock()
        self._sending: set[tuple[str, str]] = set()  # address and name of each file that is sent now
        self._lock = threading.Lock()  # of `_sending`
        self._listing: concurrent.futures.Future[None] | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True).start()

    def open(self) -> None:
        """Connect to a scheduler that has workers. Raises ClusterRefused."""
        require_dask()
        try:
            self.list_workers()
        except MachineFailed as failure:
            raise ClusterRefused(f"{failure} `dask scheduler` starts one.") from failure
        if not self.workers:
            raise ClusterRefused(
                f"The scheduler at {self.address} has no workers. `dask worker {self.address} --nthreads 1` starts one."
            )
        self._listing = self.start(self._list_forever())

    def close(self) -> None:
        """End the connection. Tasks that still run end by themselves, since no supervisor asks for them any more."""
        if self._listing is not None:
            self._listing.cancel()
        with suppress(Exception):  # of a client whose scheduler may be gone
            self.start(self._close()).result(CONNECT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.close()

    # --- workers

    def list_workers(self, tick: Tick = None) -> None:
        """Ask the scheduler which workers it has now."""
        self.wait(self.start(self._list()), tick, CONNECT_SECONDS + 5.0)

    def name(self, address: str) -> str:
        """The name that a worker was given, else its machine and port."""
        name = str((self.workers.get(address) or {}).get("name") or address)
        return address.partition("://")[2] if name == address else name

    def num_slots(self, address: str) -> int:
        """How many trainings a worker makes at the same time: as many as it declares and has threads for, else one."""
        info = self.workers.get(address)
        return 0 if info is None else max(1, min(int(info["resources"].get(SLOT, 1)), int(info["nthreads"])))

    def has_resource(self, address: str) -> bool:
        """Whether a worker declares its slots."""
        return SLOT in (self.workers.get(address) or {"resources": ()})["resources"]

    async def _list(self) -> None:
        client = await self._running()
        try:
            async with asyncio.timeout(self.lost_seconds):
                found = await client.scheduler.identity(n_workers=-1)
        except (TimeoutError, OSError) as error:
            raise MachineFailed(f"The scheduler at {self.address} does not answer.") from error
        self.workers, self.heard = dict(found["workers"]), time.monotonic()

    async def _list_forever(self) -> None:
        while True:
            with suppress(MachineFailed):  # whoever waits for a worker notices by `heard`
                await self._list()
            await asyncio.sleep(LIST_SECONDS)

    async def _running(self) -> Any:
        """The client; a new one where the scheduler was gone for so long that the last one has given up."""
        import distributed

        async with self._connecting:
            if self._client is None or self._client.status in ("closed", "closing"):
                how = {"asynchronous": True, "set_as_default": False, "timeout": CONNECT_SECONDS}
                try:
                    self._client = await distributed.Client(self.address, **how)
                except (OSError, TimeoutError, ValueError) as error:
                    self._client = None
                    raise MachineFailed(f"No scheduler answers at {self.address}.") from error
        if self._client.status != "running":
            raise MachineFailed(f"The scheduler at {self.address} does not answer.")
        return self._client

    # --- questions, which a worker answers at once, also while a task works

    def start(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine in the loop of the client."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def wait(self, future: concurrent.futures.Future[T], tick: Tick = None, limit_seconds: float | None = None) -> T:
        """The result of a coroutine. Raises NoAnswer after `limit_seconds`."""
        deadline = time.monotonic() + limit_seconds if limit_seconds is not None else None
        try:
            while not concurrent.futures.wait([future], POLL_SECONDS).done:
                if tick is not None:
                    tick()
                if deadline is not None and time.monotonic() > deadline:
                    raise NoAnswer(f"The cluster at {self.address} did not answer within {limit_seconds:.0f} s.")
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def ask(
        self,
        address: str,
        function: Callable[..., Any],
        *arguments: Any,
        tick: Tick = None,
        limit_seconds: float | None = None,
    ) -> Any:
        """What a function answers on a worker, by its address.

        Raises WorkerLost without an answer within `limit_seconds`, or within `lost_seconds` for None, and MachineFailed
        as the function does.
        """
        asked = self.answer_of(address, function, *arguments, limit_seconds=limit_seconds)
        return self.wait(self.start(asked), tick)

    def ask_all(self, addresses: Sequence[str], function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """The answers of several workers, by address; an exception is an answer, too. Raises MachineFailed."""
        return self.wait(self.start(self._answers(addresses, function, *arguments)))

    async def answer_of(
        self, address: str, function: Callable[..., Any], *arguments: Any, limit_seconds: float | None = None
    ) -> Any:
        """`ask` as a coroutine."""
        if address not in self.workers:  # to which the scheduler would try to connect for half a minute
            raise WorkerLost(f"The worker {self.name(address)} is gone.")
        answer = (await self._answers([address], function, *arguments, limit_seconds=limit_seconds)).get(address)
        if isinstance(answer, MachineFailed):
            raise answer
        if isinstance(answer, Exception):
            raise WorkerLost(f"The worker {self.name(address)} does not answer: {explain(answer)}") from answer
        return answer

    async def _answers(
        self,
        addresses: Sequence[str],
        function: Callable[..., Any],
        *arguments: Any,
        limit_seconds: float | None = None,
    ) -> dict[str, Any]:
        client, limit = await self._running(), limit_seconds or self.lost_seconds
        try:
            async with asyncio.timeout(limit):
                return dict(await client.run(function, *arguments, workers=list(addresses), on_error="return"))
        except (TimeoutError, OSError) as error:
            names = ", ".join(map(self.name, addresses))
            raise WorkerLost(f"{names} did not answer within {limit:.0f} s.") from error

    # --- tasks

    async def submit(self, address: str, key: str, function: Callable[..., T], *arguments: Any, **facts: Any) -> T:
        """What a task returns that works on one worker, where Dask neither moves nor repeats it.

        Raises ScoringFailed as the task does, TaskForgotten when the scheduler was gone, MachineFailed for all else.
        """
        client = await self._running()
        future = client.submit(
            function,
            *arguments,
            **facts,
            key=f"autoresearch-{key}-{secrets.token_hex(4)}",
            workers=[address],
            allow_other_workers=False,
            retries=0,
            pure=False,
            **({"resources": {SLOT: 1}} if self.has_resource(address) else {}),
        )
        try:
            answer: T = await future
            return answer
        except (MachineFailed, ScoringFailed):
            raise
        except concurrent.futures.CancelledError as error:
            raise TaskForgotten(f"The scheduler at {self.address} was gone, and forgot its tasks.") from error
        except Exception as error:
            raise MachineFailed(f"The worker {self.name(address)} failed: {explain(error)}") from error
        finally:
            future.release()

    # --- files

    def send(self, address: str, files: Mapping[str, bytes | Path], tick: Tick = None) -> None:
        """Send a worker those files that it does not have, by their names below `received.root`.

        A file that another thread sends to this worker is waited for, and not sent a second time.
        """
        digests = {name: sha256(data) for name, data in files.items()}
        for name in self.ask(address, received.missing, digests, tick=tick):
            with self._alone(address, name, tick):
                if self.ask(address, received.missing, {name: digests[name]}, tick=tick):
                    self._transfer(address, name, files[name], digests[name], tick)

    @contextmanager
    def _alone(self, address: str, name: str, tick: Tick) -> Iterator[None]:
        """Within this block no other thread sends this file to this worker."""
        file = address, name
        while True:
            with self._lock:
                if file not in self._sending:
                    self._sending.add(file)
                    break
            if tick is not None:
                tick()
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            with self._lock:
                self._sending.remove(file)

    def _transfer(self, address: str, name: str, data: bytes | Path, digest: str, tick: Tick) -> None:
        """Send a worker one file in parts."""
        size, transfer = len(data) if isinstance(data, bytes) else data.stat().st_size, secrets.token_hex(4)
        with io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb") as file:
            for offset in range(0, max(1, size), CHUNK_BYTES):
                part = file.read(CHUNK_BYTES)
                self.ask(address, received.put, name, offset, part, size, digest, transfer, tick=tick)


def require_dask() -> None:
    """Raise ClusterRefused where Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise ClusterRefused(
            "--cluster needs Dask. `make setup EXTRAS=cluster` installs it in a checkout, elsewhere "
            '`pip install "autoresearch-kernel[cluster]"`; here and on each machine of the cluster.'
        ) from error


def sha256(data: bytes | Path) -> str:
    """Of bytes or of a file; a file that has not changed since is read once."""
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else received.sha256_of(data)
