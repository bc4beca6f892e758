"""A process that asks and must not replay: python -m tests.fleet.asking DATA_FOLDER SCHEDULER

It prints a digest of the traces, and what was noted, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from advisor.engines.simulated import SimulatedEngine
from advisor.types import Recommendation
from tests.machines import Machine, see_models


class NeverReplays(SimulatedEngine):
    def score(self, *arguments):
        raise AssertionError("replayed on the machine that asked")


def digest(found: Recommendation) -> str:
    return hashlib.sha256(repr(found.traces).encode()).hexdigest()


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        see_models(patch)
        machine = Machine(Path(sys.argv[1]), make=NeverReplays)
        found = machine.recommend(scheduler=sys.argv[2])
        print(json.dumps({"digest": digest(found), "notes": machine.notes}))
