"""A process that searches with others: python -m tests.fleet.searching DATA_FOLDER DATABASE

It prints "ready", begins at the first line of its input, and prints what it ran and what it picked as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest

from tests.machines import WORLD_A, Machine, see_models

NOISY = dataclasses.replace(WORLD_A, noise=lambda call: 1 + 0.06 * math.sin(2.3 * call))  # so that more is run

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        see_models(patch)
        print("ready", flush=True)
        sys.stdin.readline()
        machine = Machine(Path(sys.argv[1]), NOISY)
        found = machine.recommend(shared_search=sys.argv[2])
        others = sum("run by other machines" in note for note in found.measurement.notes)
        ran = sum(engine.runs for engine in machine.engines)
        trials = [[one.config.draft or one.config.method, one.config.k, one.config.p_min] for one in found.trials]
        best = found.best.config
        print(json.dumps({"ran": ran, "trials": trials, "others": others, "best": [best.draft, best.k, best.p_min]}))
