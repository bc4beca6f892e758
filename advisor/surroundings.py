"""Whether this machine is in use while it is measured, what is done about that, and what is to be said of it.

Counting needs no quiet. For timings it is waited for a while, then they are made with what helps beside other programs:
threads that wait for each other asleep, fewer of them where a build cannot (docs/decisions/0021-in-use.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from advisor.budget import Budget
from advisor.host import power
from advisor.host.load import Load, LoadMeter, Look, between, describe, is_contended
from advisor.progress import Progress
from advisor.types import Contention

QUIET_SHARE = 0.1  # of the budget, at most, is waited for quiet
WINDOW_S = 1.0  # over which it is looked whether a machine is quiet: shorter ones see a burst, or miss one
LITTLE = 0.25  # of a core: who takes less shares one with us
WHAT_TO_DO = "Speeds are those beside them; the same command measures again when the machine is idle."
HOT = "The processor slowed itself down because it was too hot: let it cool down and measure again."


@dataclass(frozen=True)
class Sources:
    """Where it is looked."""

    meter: LoadMeter
    power_remarks: Callable[[], tuple[str, ...]] = power.remarks
    throttle_count: Callable[[], int | None] = power.throttle_count
    sleep: Callable[[float], None] = time.sleep


def this_machine() -> Sources:
    return Sources(LoadMeter())


def nobody_else() -> Sources:
    """Of an engine that does not compute here: nothing on this machine disturbs it."""
    return Sources(_Nobody(), lambda: (), lambda: None)


class _Nobody(LoadMeter):
    """Its looks are a second apart, so that nobody waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def look(self, *, programs: bool = True) -> Look:
        self._looks += 1
        return Look(self._looks * WINDOW_S, {}, 1, {}, {}, {} if programs else None)


class Surroundings:
    """``is_busy()`` after something was done says whether others took part of the processors meanwhile."""

    def __init__(self, budget: Budget, progress: Progress, sources: Sources | None = None) -> None:
        self._budget, self._progress = budget, progress
        self._sources = sources or this_machine()
        self._last = self._sources.meter.look()
        self._throttled = self._sources.throttle_count()
        self._seen: Load | None = None
        self._timed: list[Load] = []
        self._waited_s = 0.0

    def is_busy(self) -> bool:
        """Since this was asked last, or for a moment where that was just now."""
        return is_contended(self._since())

    def wait_for_quiet(self) -> bool:
        """Whether the machine is quiet, now or within what may be waited. It is said who is waited for."""
        load = self._since()
        while is_contended(load):
            left_s = min(QUIET_SHARE * self._budget.total_s - self._waited_s, self._budget.left_s)
            if left_s < WINDOW_S or not load.others_cores:  # a quota stays, and so does a full hypervisor
                return False
            if not self._waited_s:
                said = f"This machine is in use: {describe(load)}. Waiting {left_s:.0f} s at most for quiet."
                self._progress.note(said)
            self._sources.sleep(WINDOW_S)
            self._waited_s += WINDOW_S
            load = self._since()
        return True

    def begin_timing(self) -> None:
        """What follows, until ``end_timing``, is timed."""
        self._last = self._sources.meter.look()

    def end_timing(self) -> bool:
        """Whether others disturbed what was timed; it is kept for ``said``."""
        load = self._since(least_s=0.0)
        if load.wall_s:
            self._timed.append(load)
        return is_contended(load)

    def threads(self, wanted: int, *, can_sleep: bool) -> int:
        """On how many threads to time beside what was seen last: one that spins while another program has its core
        holds up all of them."""
        if can_sleep or self._seen is None or not is_contended(self._seen):
            return wanted
        taken = math.ceil(self._seen.others_cores + self._seen.stolen_cores - LITTLE)
        return max(1, min(wanted, self._seen.cores - taken))

    def said(self, *, asleep: bool, threads: int) -> Contention | None:
        """Of everything that was timed; None where nothing was."""
        if not self._timed:
            return None
        wall_s = sum(load.wall_s for load in self._timed)

        def mean(value: Callable[[Load], float]) -> float:
            return sum(value(load) * load.wall_s for load in self._timed) / wall_s

        busiest = max(self._timed, key=lambda load: load.others_cores)
        load = Load(
            wall_s=wall_s,
            cores=busiest.cores,
            others_cores=mean(lambda one: one.others_cores),
            stolen_cores=mean(lambda one: one.stolen_cores),
            throttled_share=mean(lambda one: one.throttled_share),
            programs=busiest.programs,
            own_cores=mean(lambda one: one.own_cores),
        )
        count = self._sources.throttle_count()
        is_hot = count is not None and self._throttled is not None and count > self._throttled
        return Contention(
            cores=load.cores,
            others_cores=load.others_cores,
            stolen_cores=load.stolen_cores,
            throttled_share=load.throttled_share,
            programs=tuple(program.name for program in load.programs),
            waited_s=self._waited_s,
            asleep=asleep,
            threads=threads,
            own_cores=load.own_cores,
            sentence=f"This machine was in use: {describe(load)}. {WHAT_TO_DO}" if is_contended(load) else "",
            power=(*self._sources.power_remarks(), *([HOT] if is_hot else [])),
        )

    def _since(self, least_s: float = WINDOW_S / 2) -> Load:
        look = self._sources.meter.look()
        load = between(self._last, look)
        if load.wall_s < least_s:
            self._sources.sleep(least_s - load.wall_s)
            look = self._sources.meter.look()
            load = between(self._last, look)
        self._last, self._seen = look, load
        return load
