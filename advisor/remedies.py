"""Which builds crash on this host with extra buffer types, and engines started so that they survive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from advisor.engines.base import NO_LIMIT, Runner
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import Build

R = TypeVar("R", bound=Runner)
Start = Callable[[bool, Callable[[], None]], R]


class Remedies:
    """``fresh`` forgets what earlier studies found. No engine works when ``time_left_s()`` is 0. ``started``: every
    engine so far."""

    def __init__(
        self,
        store: Store,
        host: str,
        progress: Progress,
        *,
        fresh: bool,
        time_left_s: Callable[[], float] = lambda: NO_LIMIT,
    ) -> None:
        self._time_left_s = time_left_s
        self._store, self._host, self._progress, self._fresh = store, host, progress, fresh
        self._needed: set[str] = set()
        self.started: list[Runner] = []

    def first(self, start: Start[R]) -> R:
        """The first engine of a build, which an earlier study may have found to need the remedy here."""
        engine = self.new(start)
        if self._fresh or not self._store.recall(self._name(engine.build)):
            return engine
        self._needed.add(engine.build.key)
        return self.new(start)

    def new(self, start: Start[R]) -> R:
        """An engine that keeps what it finds out for those after it."""
        engine = start(True, lambda: self._remember(engine.build))
        if self.needed(engine):
            engine = start(False, lambda: None)
        engine.limit(self._time_left_s)
        self.started.append(engine)
        return engine

    def needed(self, engine: Runner) -> bool:
        return engine.build.key in self._needed

    def _remember(self, build: Build) -> None:
        if build.key in self._needed:
            return
        self._needed.add(build.key)
        self._store.remember(self._name(build), "1")
        self._progress.note("This host needs the repack remedy: models run without extra buffer types (--no-repack).")

    def _name(self, build: Build) -> str:
        return f"repack-off/{self._host}/{build.key}"
