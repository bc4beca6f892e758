"""A worker of a simulated fleet: python -m benchmarks.fleet_worker SCHEDULER replay PAIRS SECONDS | price

A replay takes so many seconds of waiting, as one on another machine does.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from advisor.acceptance.replay import Outcome, ReplayTask
from advisor.engines.simulated import SimulatedEngine
from advisor.fleet.station import Declined, Station, Versions
from advisor.fleet.worker import serve
from advisor.testing.builders import make_host
from benchmarks.fleet import world


class WaitingStation(Station):
    """Replays at once, and answers when the time is over that a replay takes."""

    def __init__(self, pairs: int, replay_s: float) -> None:
        truth = world(pairs)
        files = dict.fromkeys(truth.drafts, Path("elsewhere.gguf"))
        roomy = make_host(ram_available_bytes=1 << 50)
        super().__init__(lambda _buffers, _found: SimulatedEngine(truth), lambda: files, threads=1, look=lambda: roomy)
        self._replay_s = replay_s

    def replay(self, task: ReplayTask, asked: Versions) -> Outcome | Declined:
        until = time.perf_counter() + self._replay_s
        outcome = super().replay(task, asked)
        time.sleep(max(0.0, until - time.perf_counter()))
        return outcome


if __name__ == "__main__":
    scheduler, kind, *numbers = sys.argv[1:]
    pairs, replay_s = (int(numbers[0]), float(numbers[1])) if kind == "replay" else (1, 0.0)
    serve(scheduler, WaitingStation(pairs, replay_s), ready=lambda address: print(f"ready {address}", flush=True))
