"""A process that searches with others: python -m tests.fleet.searching DATA_FOLDER DATABASE

It prints "ready", begins at the first line of its input, and prints what it ran and what it picked as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.machines import Machine, see_models

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        see_models(patch)
        print("ready", flush=True)
        sys.stdin.readline()
        machine = Machine(Path(sys.argv[1]))
        found = machine.recommend(shared_search=sys.argv[2])
        others = sum("run by other machines" in note for note in found.measurement.notes)
        ran = sum(engine.runs for engine in machine.engines)
        trials = [[one.config.draft or one.config.method, one.config.k, one.config.p_min] for one in found.trials]
        best = found.best.config
        print(json.dumps({"ran": ran, "trials": trials, "others": others, "best": [best.draft, best.k, best.p_min]}))
