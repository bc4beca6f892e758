"""Load: searches without a pause while something happens to their workers every few seconds."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from advisor.errors import AdvisorError
from advisor.host.files import host_lock_path, timing_lock
from advisor.types import Recommendation
from chaos.crashes import orphans
from chaos.outcome import Outcome
from chaos.world import environment

FAULT_EVERY_S = 3.0
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGSTOP")  # the last one is a hang
WARM_UP_SHARE = 0.25  # until every library is imported and every pool has its size
GROWTH_GOAL = 0.05
LEAST_SEARCHES = 4  # after the warm-up, to tell whether memory grows
PATIENCE_S = 60.0  # beyond the time given, for a first answer
MIB = 1 << 20

Search = Callable[[Path], Recommendation]
"""A whole search with its store in that folder."""


@dataclass
class Disturber:
    """Sends a random signal to a random child of this process, about every ``every_s`` seconds, in its own thread."""

    rng: random.Random
    every_s: float
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._disturb, daemon=True)

    def __enter__(self) -> Disturber:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _disturb(self) -> None:
        while not self._over.wait(self.rng.uniform(0.5, 1.5) * self.every_s):
            children = psutil.Process().children(recursive=True)
            if children:
                name = self.rng.choice(SIGNALS)
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    os.kill(self.rng.choice(children).pid, signal.Signals[name])
                    self.sent[name] += 1


def load(
    folder: Path,
    search: Search,
    *,
    of: str = "simulated models",
    seconds: float,
    seed: int,
    every_s: float = FAULT_EVERY_S,
    thorough: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:
    """``search`` over and over for so long, half of the time from an empty store.

    ``of`` what, for the table. ``thorough``: long enough to tell whether memory grows, which must then be told.
    """
    rng = random.Random(seed)
    lost: list[str] = []
    ended: Counter[str] = Counter()
    resident: list[tuple[float, int]] = []
    started = clock()
    with Disturber(random.Random(seed), every_s) as disturber:
        while (at_s := clock() - started) < seconds + PATIENCE_S * (not ended["answered"]):
            if rng.random() < 0.5:
                shutil.rmtree(folder / "load", ignore_errors=True)
            (folder / "load").mkdir(exist_ok=True)
            try:
                search(folder / "load" / "data")
                ended["answered"] += 1
            except AdvisorError as error:
                ended[type(error).__name__] += 1
            except Exception as error:
                lost.append(f"after {at_s:.0f} s: {type(error).__name__}: {error}")
            resident.append((at_s, _resident_bytes()))
            lost += orphans()
    lost += _locks_left(folder)
    if not ended["answered"]:
        lost.append("no search was answered")
    if not disturber.sent:
        lost.append("no fault was sent")
    growth = _growth(resident, seconds)
    if growth is None and thorough:
        lost.append(f"{len(resident)} searches are too few to tell whether memory grows")
    if growth is not None and growth > GROWTH_GOAL:
        lost.append(f"the resident memory of the parent grew by {growth:.1%}")
    faults = ", ".join(f"{count} {name}" for name, count in sorted(disturber.sent.items()))
    ends = ", ".join(f"{count} {name}" for name, count in sorted(ended.items()))
    size = statistics.median(size for _, size in resident) / MIB
    grown = "growth not judged" if growth is None else f"{growth:+.1%}"
    note = f"{seconds / 60:.1f} min, {faults}; {ends}; parent {size:.0f} MiB, {grown}"
    yield Outcome(f"searches of {of} under random faults", ended.total(), tuple(lost), note)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _growth(resident: list[tuple[float, int]], seconds: float) -> float | None:
    """Median of the last quarter over that of the quarter after the warm-up, minus 1; None after too few searches."""
    settled = [size for at_s, size in resident if at_s >= WARM_UP_SHARE * seconds]
    if len(settled) < LEAST_SEARCHES:
        return None
    third = max(1, len(settled) // 3)
    return statistics.median(settled[-third:]) / statistics.median(settled[:third]) - 1


def _locks_left(folder: Path) -> Iterator[str]:
    with environment(ADVISOR_LOCK_DIR=str(folder / "load")):
        try:
            with timing_lock(host_lock_path(), timeout_s=0):
                pass
        except AdvisorError:
            yield "the timing lock is still held"
    for path in folder.rglob("*.lock"):
        if path.name.startswith("studies.journal"):
            yield f"{path.name} was left"
