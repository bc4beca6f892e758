"""A machine that replays drafts for others: what it is, which drafts it has, and one replay.

These functions run in a Dask worker. They know nothing about who asks, or about how work is spread.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from advisor.acceptance.replay import Outcome, ReplayTask, replay
from advisor.catalog.local import find_local
from advisor.engines import ENGINES, StartEngine
from advisor.engines.base import Engine
from advisor.errors import FileProblem
from advisor.gguf import read_model
from advisor.host.files import host_lock_path, timing_lock
from advisor.types import Build

LOCK_TIMEOUT_S = 3 * 3600.0

Files = Callable[[], Mapping[str, Path]]
"""The model files that are here now, by content hash."""


@dataclass(frozen=True)
class Described:
    """What a station says about itself. ``drafts``: which of the wanted content hashes it has files of."""

    advisor: str
    build: Build
    drafts: frozenset[str]


@dataclass
class Station:
    """``start_engine`` opens models, ``files`` looks for them. ``threads`` a replay; 0: one a core."""

    start_engine: StartEngine
    files: Files
    threads: int = 0
    _extra_buffers: bool = True

    def describe(self, wanted: frozenset[str]) -> Described:
        return Described(advisor_version(), self._engine().build, wanted & self.files().keys())

    def replay(self, task: ReplayTask, asked_by: str) -> Outcome | None:
        """None where the draft's file is not here. While it runs nothing is timed on this machine: what times holds the
        lock, as does whoever ``asked_by`` this machine."""
        path = self.files().get(task.draft.content_hash)
        if path is None:
            return None
        here = replace(task, draft=replace(task.draft, path=str(path), paths=(str(path),)))
        lock = nullcontext() if asked_by == machine() else timing_lock(host_lock_path(), timeout_s=LOCK_TIMEOUT_S)
        with lock:
            return replay(self._engine, here, self.threads or os.cpu_count() or 1)

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


def replay_here(task: ReplayTask, asked_by: str) -> Outcome | None:
    return _here().replay(task, asked_by)


def _here() -> Station:
    """Of a Dask worker that was not started by `advisor worker`: what is in the usual folders."""
    if _this is None:
        open_station(station())
    assert _this is not None
    return _this


def advisor_version() -> str:
    return metadata.version("draft-advisor")


def machine() -> str:
    """Tells machines apart, not processes."""
    return socket.gethostname()
