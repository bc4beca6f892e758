"""A profile of real models predicts another machine's real runs.

That machine is this one with half of its threads: costs differ, acceptance must not.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import advisor
from advisor.profiles.make import profile_of
from advisor.profiles.record import dumps
from advisor.store import Store
from advisor.testing.zoo import Recipe, build

PROMPTS = ("Count from one to twenty.", "Write a haiku about rain.", "What is 12 times 12?", "List five colours.")
BOUND = 0.10  # the replay rung's error in nine cases of ten


def test_acceptance_of_real_models_travels(tmp_path: Path):
    workload = tmp_path / "prompts.txt"
    workload.write_text("\n".join(PROMPTS))
    asked = {
        "target": build(Recipe(60, "F16")),
        "drafts": [build(Recipe(29, "Q4_0"))],
        "workload": workload,
        "max_tokens": 32,
    }
    here = advisor.recommend(**asked, budget_seconds=25, threads=2, store=tmp_path / "a")
    with Store.in_memory() as store:
        profile = profile_of(here, "test", with_texts=False, store=store, imported=lambda _digest: None)
    path = tmp_path / "profile.json"
    path.write_bytes(dumps(profile))
    there = advisor.recommend(**asked, budget_seconds=90, threads=1, store=tmp_path / "b", profile=path)
    assert there.origin.profile == profile.digest
    assert there.traces == profile.traces
    analytic = {one.config: one.analytic_speedup for one in there.estimates}
    errors = [
        statistics.mean(base.token_s / run.token_s for base, run in trial.pairs) / analytic[trial.config] - 1
        for trial in there.trials
    ]
    assert errors, there.measurement
    assert statistics.median(abs(error) for error in errors) <= BOUND, errors
