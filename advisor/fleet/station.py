"""A machine that replays drafts for others: what it is, which drafts it has, and one replay.

These functions run in a Dask worker. They know nothing about who asks, or about how work is spread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path

from advisor.acceptance.replay import ROWS_AT_ONCE, SCORING_COPIES, Outcome, ReplayTask, replay
from advisor.catalog.local import find_local
from advisor.engines import ENGINES, StartEngine
from advisor.engines.base import Engine
from advisor.errors import FileProblem, StoreError
from advisor.gguf import read_model
from advisor.host import look
from advisor.host.files import host_lock_path, timing_lock
from advisor.prune import shortage_alone
from advisor.types import Build, Host

LOCK_TIMEOUT_S = 2.0  # who asks may itself be waited for by what holds the lock here

Files = Callable[[], Mapping[str, Path]]
"""The model files that are here now, by content hash."""


@dataclass(frozen=True)
class Versions:
    """Of what replays: advisor and its engine."""

    advisor: str
    build: Build

    def __str__(self) -> str:
        return f"advisor {self.advisor} with {self.build.engine} {self.build.version}"

    def replay_alike(self, other: Versions) -> bool:
        """Whatever the digest of the libraries: another compiler's replay is acceptance all the same."""
        ours, theirs = self.build, other.build
        return (self.advisor, ours.engine, ours.version, ours.llama_cpp_build) == (
            other.advisor,
            theirs.engine,
            theirs.version,
            theirs.llama_cpp_build,
        )


@dataclass(frozen=True)
class Described:
    """What a station says about itself. ``drafts``: which of the wanted content hashes it has files of."""

    versions: Versions
    drafts: frozenset[str]


@dataclass(frozen=True)
class Declined:
    """Why a replay is one for another machine, as a sentence without its full stop."""

    why: str


@dataclass
class Station:
    """``start_engine`` opens models, ``files`` looks for them, ``look`` at this machine's memory. ``threads`` a replay;
    0: one a core."""

    start_engine: StartEngine
    files: Files
    threads: int = 0
    look: Callable[[], Host] = look
    _extra_buffers: bool = True

    def describe(self, wanted: frozenset[str]) -> Described:
        return Described(self._versions, wanted & self.files().keys())

    def replay(self, task: ReplayTask, asked: Versions) -> Outcome | Declined:
        """Declined where it would not be like the asker's own, and where this machine measures, lacks the file or the
        memory. It holds the lock of timings meanwhile, so that nothing is timed beside it."""
        if not self._versions.replay_alike(asked):
            return Declined(f"it has {self._versions}, asked for is {asked}")
        path = self.files().get(task.draft.content_hash)
        if path is None:
            return Declined(f"{task.draft.label} is not there")
        here = replace(task, draft=replace(task.draft, path=str(path), paths=(str(path),)))
        try:
            with timing_lock(host_lock_path(), timeout_s=LOCK_TIMEOUT_S):
                lacking = self._lacking(task)
                if lacking:
                    return Declined(f"{task.draft.label} {lacking}")
                return replay(self._engine, here, self.threads or os.cpu_count() or 1)
        except StoreError as error:
            return Declined(error.what.rstrip("."))

    def _lacking(self, task: ReplayTask) -> str:
        place = task.placement
        return shortage_alone(
            task.draft,
            self.look(),
            task.cells,
            gpu_layers=place.draft_gpu_layers,
            cache_type=place.cache_type,
            outputs=SCORING_COPIES * ROWS_AT_ONCE,
        )

    @cached_property
    def _versions(self) -> Versions:
        return Versions(advisor_version(), self._engine().build)

    def _engine(self) -> Engine:
        return self.start_engine(self._extra_buffers, self._switch_extra_buffers_off)

    def _switch_extra_buffers_off(self) -> None:
        """Found out once, known to every replay after it."""
        self._extra_buffers = False


class FilesByContent:
    """The files that ``find`` finds, by content hash. A file that has not changed is read once; what is no model is
    passed over."""

    def __init__(self, find: Callable[[], Iterable[Path]]) -> None:
        self._find = find
        self._hashes: dict[tuple[Path, int, int], str] = {}

    def __call__(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in self._find():
            try:
                status = path.stat()
                seen = (path, status.st_size, status.st_mtime_ns)
                if seen not in self._hashes:
                    self._hashes[seen] = read_model(path).content_hash
                found.setdefault(self._hashes[seen], path)
            except (FileProblem, OSError):
                continue
        return found


def station(models_dirs: tuple[Path, ...] = (), threads: int = 0) -> Station:
    """This machine, with the files in these folders and where programs keep their models."""

    def find() -> Iterable[Path]:
        return (file.path for file in find_local(models_dirs, home=Path.home(), platform=sys.platform))

    return Station(ENGINES["llama-cpp-python"], FilesByContent(find), threads)


_this: Station | None = None


def open_station(one: Station) -> None:
    """From now on this process replays as ``one``."""
    global _this
    _this = one


def describe_here(wanted: frozenset[str]) -> Described:
    return _here().describe(wanted)


def replay_here(task: ReplayTask, asked: Versions) -> Outcome | Declined:
    return _here().replay(task, asked)


def _here() -> Station:
    """Of a Dask worker that was not started by `advisor worker`: what is in the usual folders."""
    if _this is None:
        open_station(station())
    assert _this is not None
    return _this


def advisor_version() -> str:
    return metadata.version("draft-advisor")
