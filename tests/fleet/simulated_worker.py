"""A Dask worker with the simulated engine: python -m tests.fleet.simulated_worker SCHEDULER KIND

It prints "ready", and "replaying" when a replay begins. KIND is "sound"; "stuck", which never ends a replay; "poor",
which has one draft only; "other", which has another build; "failing", whose engine crashes.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from advisor.engines.simulated import SimulatedEngine
from advisor.errors import EngineCrash
from advisor.fleet.station import Station
from advisor.fleet.worker import serve
from tests.machines import MIDDLE, SMALL, WORLD_A, OtherBuild

NEVER = threading.Event()


class Stuck(SimulatedEngine):
    def score(self, *arguments):
        NEVER.wait()


class Failing(SimulatedEngine):
    def score(self, *arguments):
        raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")


ENGINES = {"stuck": Stuck, "failing": Failing, "other": OtherBuild}


class SimulatedStation(Station):
    def __init__(self, kind: str) -> None:
        drafts = [SMALL] if kind == "poor" else [SMALL, MIDDLE]
        files = {draft.content_hash: Path("elsewhere.gguf") for draft in drafts}
        super().__init__(lambda _buffers, _found: ENGINES.get(kind, SimulatedEngine)(WORLD_A), lambda: files)

    def replay(self, task, asked_by):
        print("replaying", flush=True)
        return super().replay(task, asked_by)


if __name__ == "__main__":
    serve(sys.argv[1], SimulatedStation(sys.argv[2]), ready=lambda _address: print("ready", flush=True))
