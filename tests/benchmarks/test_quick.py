"""The benchmarks in seconds, on the simulated engine, whose truth is known: do they measure what they say?"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.testing.builders import TARGET_S, make_model
from advisor.types import Config, Message, Prompt, Workload
from benchmarks import rungs, scaling, sweep
from benchmarks.measure import Bench

TARGET = make_model("Target-14B")
GOOD, FAIR, POOR = (make_model(name, weights_bytes=2**29) for name in ("Good-1B", "Fair-1B", "Poor-1B"))
WORLD = World(
    target_s=TARGET_S,
    drafts={
        GOOD.content_hash: SimulatedDraft(token_s=0.008, row_s=0.0005, match={"": 0.85}),
        FAIR.content_hash: SimulatedDraft(token_s=0.008, row_s=0.0005, match={"": 0.65}),
        POOR.content_hash: SimulatedDraft(token_s=0.02, row_s=0.0005, match={"": 0.2}),
    },
)
DRAFTS = (GOOD, FAIR, POOR)
BY_HASH = {draft.content_hash: draft for draft in DRAFTS}
WORKLOAD = Workload("test", tuple(Prompt((Message("user", f"question {i}"),)) for i in range(8)), "w")
CONFIGS = (Config("", 2), Config("", 4), Config("", 8), Config("", 8, 0.75))


def bench(world: World = WORLD) -> Bench:
    return Bench(SimulatedEngine(world), TARGET)


def truth(world: World = WORLD) -> rungs.Truth:
    return rungs.measure(bench(world), DRAFTS, CONFIGS, WORKLOAD, passes=4, max_tokens=96)


def test_in_a_quiet_world_the_replay_rung_is_right():
    errors = [abs(cell.predicted / cell.measured - 1) for cell in rungs.cells(truth()) if cell.config.p_min == 0]
    assert len(errors) == 9
    assert max(errors) < 0.01


def test_rungs_judge_only_what_did_not_run():
    found = {rung.name: rung for rung in rungs.rungs(truth(), machine=None, posterior=None)}
    assert list(found) == ["replay", "after 2 real runs", "after 4 real runs", "after 8 real runs"]
    assert all(rung.cells == 12 for rung in found.values())
    assert found["replay"].median < 0.02
    assert found["replay"].cover > 0.7


def test_what_measuring_alone_gets_wrong_is_told_apart():
    """Runs of one prompt that vary by 10 %, and nothing else that is unknown."""
    rng = np.random.default_rng(0)

    class Unsteady(SimulatedEngine):
        def speculate(self, *arguments):
            run = super().speculate(*arguments)
            return dataclasses.replace(run, decode_s=run.decode_s * math.exp(0.1 * rng.standard_normal()))

    quiet, unsteady = (
        rungs.noise(rungs.measure(Bench(make(WORLD), TARGET), DRAFTS, CONFIGS[:3], WORKLOAD, passes=6, max_tokens=96))
        for make in (SimulatedEngine, Unsteady)
    )
    assert quiet < 0.002
    assert unsteady == pytest.approx(0.6745 * 0.1 / math.sqrt(6), rel=0.25)


def test_real_runs_teach_an_error_that_all_configs_share():
    """A loop that costs 8 % more than its decodes: the curves cannot know, the runs can."""

    class Slower(SimulatedEngine):
        def speculate(self, *arguments):
            run = super().speculate(*arguments)
            return dataclasses.replace(run, decode_s=1.08 * run.decode_s)

    one = rungs.measure(Bench(Slower(WORLD), TARGET), DRAFTS, CONFIGS, WORKLOAD, passes=4, max_tokens=96)
    found = {rung.name: rung for rung in rungs.rungs(one, machine=None, posterior=None)}
    assert found["replay"].median > 0.05
    assert found["after 8 real runs"].median < 0.03


def test_a_bracket_in_which_the_machine_changed_is_measured_again():
    one = bench(dataclasses.replace(WORLD, noise=lambda call: 3.0 if call == 3 else 1.0))
    transcript = one.transcripts(WORKLOAD, prompts=1, max_tokens=64)[0]
    config = Config(GOOD.content_hash, 4)
    quiet = bench().bracketed(transcript, GOOD, [config], 64)
    assert one.bracketed(transcript, GOOD, [config], 64) == quiet
    assert one.engine.runs == 2


def test_the_sweep_is_extrapolated_from_its_sample():
    cells = sweep.grid(BY_HASH, (1, 2, 4, 8))
    assert len(cells) == 12
    chosen = sweep.sample(cells, 0.3, seed=1)
    assert len(chosen) == len(set(chosen)) == 4
    timed = [sweep.Timed("d", 1, wall_s, 100) for wall_s in (10.0, 12.0, 14.0)]
    whole = sweep.extrapolate(30, timed, baseline_s=20.0)
    assert whole.whole_s == pytest.approx(20 + 30 * 12)
    assert whole.error_s == pytest.approx(30 * (0.9**0.5) * 2 / 3**0.5)


def test_the_finals_find_the_regret_of_a_bad_pick():
    one = bench()
    transcripts = one.transcripts(WORKLOAD, prompts=2, max_tokens=64)
    screens = [sweep.Screen(transcripts, 32, 5), sweep.Screen(transcripts, 64, 2)]
    left = sweep.screened(one, BY_HASH, sweep.grid(BY_HASH, (2, 4, 8)), screens)
    assert [cell.draft for cell in left] == [GOOD.content_hash] * 2
    own = sweep.finals(one, BY_HASH, left, left[0], transcripts, 64)
    assert own.regret == 0
    assert own.best.config == left[0]
    poor = sweep.finals(one, BY_HASH, left, Config(POOR.content_hash, 8), transcripts, 64)
    assert poor.regret > 0.3
    assert (poor.pick.draft, poor.best.config) == (POOR.label, left[0])


def test_the_winner_of_the_sweep_is_judged_by_runs_that_did_not_choose_it():
    """Two equal cells on a noisy machine: what is called best is no faster than the other when run again."""
    rng = np.random.default_rng(5)
    texts = bench().transcripts(WORKLOAD, prompts=2, max_tokens=64)
    regrets = []
    for _ in range(40):
        noisy = bench(dataclasses.replace(WORLD, noise=lambda _call: float(rng.normal(1, 0.1))))
        cells = [Config(GOOD.content_hash, 4), Config(GOOD.content_hash, 4, ngram_min_hits=2)]
        regrets.append(sweep.finals(noisy, BY_HASH, cells, cells[0], texts, 64).regret)
    assert abs(float(np.mean(regrets))) < 0.01


def test_a_cell_is_timed_with_its_start():
    started: list[Bench] = []

    def start() -> Bench:
        started.append(bench())
        return started[-1]

    transcripts = bench().transcripts(WORKLOAD, prompts=2, max_tokens=32)
    timed = sweep.time_cell(start, GOOD, 4, transcripts, 32)
    assert (timed.draft, timed.k, timed.tokens, len(started)) == (GOOD.label, 4, 64, 1)
    alone = sweep.time_cell(start, None, 0, transcripts, 32)
    assert (alone.draft, alone.tokens, len(started)) == ("target alone", 64, 2)


def test_growth_is_measured_at_every_size():
    found = scaling.measure(bench(), DRAFTS, WORKLOAD)
    assert [growth.sizes for growth in found] == [(1, 2), (2, 4, 8, 16), (2, 4, 8, 16), (1, 2, 4, 8)]
    assert scaling.Growth("x", "n", (1, 2, 4), (3.0, 6.0, 12.0)).exponent == pytest.approx(1)
