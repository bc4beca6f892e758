"""Baselines moved towards the typical one by what the runs beside them did not share."""

from __future__ import annotations

import numpy as np
import pytest

from advisor.predict.steady import shared_part, steadied
from advisor.search import speedup_of
from advisor.types import Config, Run, Trial

CONFIGS = [Config("d", k) for k in (2, 4, 8, 12)]
TRUE = {2: 1.2, 4: 1.4, 8: 1.1, 12: 0.9}


def trials(regimes: np.ndarray, slope: float) -> list[Trial]:
    """One trial a config; pair i meets a moment that makes the target ``regimes[i]`` times slower, and a run
    ``regimes[i] ** slope`` times."""
    moments = iter(regimes)
    made = []
    for config in CONFIGS:
        pairs = []
        for _ in range(4):
            slow = next(moments)
            run_s = 63 * 0.05 / TRUE[config.k] * slow**slope
            pairs.append((Run(64, 63 * 0.05 * slow, 0), Run(64, run_s, 0)))
        made.append(Trial.of(config, pairs))
    return made


def errors(some: list[Trial]) -> list[float]:
    return [abs(np.log(speedup_of(trial.pairs) / TRUE[trial.config.k])) for trial in some]


def regimes(seed: int) -> np.ndarray:
    """Tens of seconds of one speed, then of another."""
    return np.repeat(np.random.default_rng(seed).choice([0.88, 1.12], 6), 3)[:16]


@pytest.mark.parametrize("seed", range(5))
def test_a_neighbour_that_slows_the_target_alone_does_not_move_the_speedup(seed):
    raw = trials(regimes(seed), slope=-0.3)
    steady = steadied(raw)
    level = np.mean([np.log(speedup_of(t.pairs) / TRUE[t.config.k]) for t in steady])  # what is typical is a choice
    apart = [np.log(speedup_of(t.pairs) / TRUE[t.config.k]) - level for t in steady]
    raw_level = np.mean([np.log(speedup_of(t.pairs) / TRUE[t.config.k]) for t in raw])
    raw_apart = [np.log(speedup_of(t.pairs) / TRUE[t.config.k]) - raw_level for t in raw]
    assert np.std(apart) < 0.5 * np.std(raw_apart)


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_slows_down_as_a_whole_cancels_as_before(seed):
    raw = trials(regimes(seed), slope=1.0)
    assert shared_part(raw, {}) == pytest.approx(1)
    assert max(errors(steadied(raw))) == pytest.approx(max(errors(raw)), abs=1e-9) == pytest.approx(0, abs=1e-9)


def test_one_quiet_trial_moves_nothing():
    raw = trials(np.full(16, 1.0) + np.linspace(0, 0.004, 16), slope=0.0)[:1]
    (steady,) = steadied(raw)
    for before, after in zip(raw[0].baselines, steady.baselines, strict=True):
        assert after.decode_s == pytest.approx(before.decode_s, rel=0.002)


def test_an_easy_prompt_is_not_taken_for_a_quiet_moment():
    """Prompts that are easy for the draft: runs differ, baselines do not, and expectation knows why."""
    ease = (1.5, 0.7, 1.2, 0.8)
    slow = (1.1, 0.9, 1.05, 0.95)
    pairs = [(Run(64, 63 * 0.05 * s, 0), Run(64, 63 * 0.05 / e * s, 0)) for e, s in zip(ease, slow, strict=True)]
    trial = Trial.of(CONFIGS[0], pairs)
    assert shared_part([trial] * 5, {CONFIGS[0]: ease}) == pytest.approx(1)


def test_nothing_measured_is_nothing_moved():
    assert steadied([]) == []
