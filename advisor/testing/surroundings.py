"""A machine beside which other programs run when a test says so, watched without a wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from advisor.engines.simulated import Clock
from advisor.host.load import Core, LoadMeter, Look, Process
from advisor.surroundings import Sources

CORES = 2
OTHER = 4711
STEPS = 100  # in which what another program takes is summed up between two looks


@dataclass
class SimulatedMeter(LoadMeter):
    """``others(now_s)``: cores that a program called "compiler" takes at that time of ``clock``; nothing else runs."""

    clock: Clock
    others: Callable[[float], float]
    _at_s: float = field(default=0.0, init=False)
    _taken_s: float = field(default=0.0, init=False)

    def look(self, *, programs: bool = True) -> Look:
        now_s = self.clock()
        step_s = (now_s - self._at_s) / STEPS
        self._taken_s += step_s * sum(self.others(self._at_s + (i + 0.5) * step_s) for i in range(STEPS))
        self._at_s = now_s
        return Look(
            at_s=now_s,
            cores={number: Core(self._taken_s / CORES, 0.0) for number in range(CORES)},
            usable_cores=CORES,
            throttled_s={},
            own={},
            others={OTHER: Process(OTHER, 1, "compiler", self._taken_s)},
        )


def simulated_sources(clock: Clock, others: Callable[[float], float] = lambda _now_s: 0.0) -> Sources:
    """Waiting moves the clock and nothing else."""

    def sleep(seconds: float) -> None:
        clock.now_s += seconds

    return Sources(SimulatedMeter(clock, others), lambda: (), lambda: None, sleep)
