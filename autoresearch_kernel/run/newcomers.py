"""Workers that join a cluster while a study runs: each becomes a slot, or goes on in the place of a lost worker."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path

from ..system.explain import explain
from .backend import Joined
from .place import Place
from .places import Places


class Newcomers:
    """Looks for workers that no slot has, and takes them in one by one. Its methods are called by one thread."""

    def __init__(self, places: Places, project: Path) -> None:
        self.places, self.project = places, project
        self._seen: set[str] = set()  # addresses of workers that were looked at, as long as the scheduler lists them
        self._address = self._name = ""  # of the worker that is measured now
        self._measuring: Future[list[Place]] | None = None

    def joined(self, kinds: Collection[str]) -> Joined:
        """New slots whose worker is measured by now, or why a worker is left out. The call takes no time.

        `kinds` are the kinds of machine whose slots are in use.
        """
        if self._measuring is None:
            self._look()
            return Joined()
        if not self._measuring.done():
            return Joined()
        measuring, self._measuring = self._measuring, None
        try:
            joined = self.places.add(measuring.result(), kinds)
        except Exception as why:  # one more worker is no reason to end a study
            if self._address not in self.places.connection.workers:  # it has left again
                return Joined()
            return Joined(words=f"The worker {self._name} has joined the cluster, and is left out. {explain(why)}")
        if joined is None:  # it is looked at again
            self._seen.difference_update(place.address for place in measuring.result())
        return joined or Joined()

    def _look(self) -> None:
        """Begin to measure a worker that has joined."""
        listed = list(self.places.connection.workers)
        self._seen.intersection_update(listed)
        known = self._seen | {place.address for place in self.places.all}
        address = next((address for address in listed if address not in known), None)
        if address is None or self.places.is_losing_one:
            return
        self._seen.add(address)
        self._address, self._name = address, self.places.connection.name(address)
        measuring = self._measuring = Future[list[Place]]()

        def measure() -> None:
            try:
                measuring.set_result(self.places.measured(address, self.project))
            except Exception as why:
                measuring.set_exception(why)

        # A daemon, so that a worker that does not answer keeps no process from its end.
        threading.Thread(target=measure, name="newcomers", daemon=True).start()
