"""A profile of real models predicts another machine's real runs.

That machine is this one with half of its threads: costs differ, acceptance must not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import advisor
from advisor.engines.base import LoadOptions
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.profiles.make import profile_of
from advisor.profiles.record import dumps
from advisor.runs import RunMeasurer
from advisor.search import speedup_of
from advisor.store import Store
from advisor.testing.zoo import Recipe, build
from advisor.types import Config, Placement, Recommendation, Run, Transcript
from advisor.workload import read_workload

pytestmark = pytest.mark.alone

PROMPTS = ("Count from one to twenty.", "Write a haiku about rain.", "What is 12 times 12?", "List five colours.")
TOKENS, THREADS_HERE, THREADS_THERE = 32, 2, 1
LENGTHS = (2, 4)
BOUND = 0.15  # the replay rung's error in nine cases of ten is 0.10; here are two cases, each run once


def test_acceptance_of_real_models_travels(tmp_path: Path):
    workload = tmp_path / "prompts.txt"
    workload.write_text("\n".join(PROMPTS))
    asked = {
        "target": build(Recipe(60, "F16")),
        "drafts": [build(Recipe(29, "Q4_0"))],
        "workload": workload,
        "max_tokens": TOKENS,
    }
    here = advisor.recommend(**asked, budget_seconds=30, threads=THREADS_HERE, store=tmp_path / "a")
    with Store.in_memory() as store:
        profile = profile_of(here, "test", with_texts=False, store=store, imported=lambda _digest: None)
    path = tmp_path / "profile.json"
    path.write_bytes(dumps(profile))
    there = advisor.recommend(**asked, budget_seconds=40, threads=THREADS_THERE, store=tmp_path / "b", profile=path)
    assert there.origin.profile == profile.digest
    assert there.traces == profile.traces
    analytic = {one.config: one.analytic_speedup for one in there.estimates}
    for config in (Config(here.candidates[0].draft.content_hash, k) for k in LENGTHS):
        assert analytic[config] == pytest.approx(really(there, config, workload), rel=BOUND)


def really(rec: Recommendation, config: Config, workload: Path) -> float:
    """The speedup of real runs there, each beside its own baseline."""
    engine = LlamaCppPython(extra_buffers=not rec.measurement.repack_off)
    try:
        engine.open("target", rec.target, LoadOptions(4096, THREADS_THERE, outputs=max(LENGTHS) + 1))
        prompts = [engine.tokenize(prompt.messages) for prompt in read_workload(workload).prompts]
        texts = [Transcript("", tokens, (), ended=False) for tokens in prompts]
        limits = {"host": "there", "context": 4096, "threads": THREADS_THERE, "max_tokens": TOKENS}
        with Store.in_memory() as store:
            measure = RunMeasurer(
                engine, store, rec.target, rec.candidates, texts, rec.settings.sampling, place=Placement(), **limits
            )
            pairs: list[tuple[Run, Run]] = [measure(config, prompt) for prompt in range(len(texts))]
        return speedup_of(pairs)
    finally:
        engine.shutdown()
