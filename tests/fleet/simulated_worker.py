"""A Dask worker with the simulated engine: python -m tests.fleet.simulated_worker SCHEDULER KIND

It prints "ready", and "replaying" when a replay begins. KIND is "sound"; "stuck", which never ends a replay; "poor",
which has the small draft only; "half", which has the other; "other", which has another build, and whose drafts agree
with other tokens; "failing", whose engine crashes; "small", which has hardly any memory; "mute", which never
says what it has.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path

from advisor.engines.simulated import SimulatedEngine
from advisor.errors import EngineCrash
from advisor.fleet.station import Station
from advisor.fleet.worker import serve
from advisor.testing.builders import make_host
from tests.machines import GIB, MIDDLE, SMALL, WORLD_A, OtherBuild

NEVER = threading.Event()


class Stuck(SimulatedEngine):
    def score(self, *arguments):
        NEVER.wait()


class Failing(SimulatedEngine):
    def score(self, *arguments):
        raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")


OTHERWISE = dataclasses.replace(
    WORLD_A, drafts={draft: dataclasses.replace(one, match={"": 0.2}) for draft, one in WORLD_A.drafts.items()}
)
ENGINES = {"stuck": Stuck, "failing": Failing, "other": OtherBuild}


class SimulatedStation(Station):
    def __init__(self, kind: str) -> None:
        drafts = {"poor": [SMALL], "half": [MIDDLE]}.get(kind, [SMALL, MIDDLE])
        files = {draft.content_hash: Path("elsewhere.gguf") for draft in drafts}
        self._kind = kind
        world = OTHERWISE if kind == "other" else WORLD_A
        available = GIB // 4 if kind == "small" else 24 * GIB
        super().__init__(
            lambda _buffers, _found: ENGINES.get(kind, SimulatedEngine)(world),
            lambda: files,
            look=lambda: make_host(ram_available_bytes=available),
        )

    def describe(self, wanted):
        if self._kind == "mute":
            NEVER.wait()
        return super().describe(wanted)

    def replay(self, task, asked):
        print("replaying", flush=True)
        return super().replay(task, asked)


if __name__ == "__main__":
    serve(sys.argv[1], SimulatedStation(sys.argv[2]), ready=lambda _address: print("ready", flush=True))
