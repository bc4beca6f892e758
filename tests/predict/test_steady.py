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
    assert shared_part(raw) == pytest.approx(1)
    assert max(errors(steadied(raw))) == pytest.approx(max(errors(raw)), abs=1e-9) == pytest.approx(0, abs=1e-9)


def test_one_trial_cannot_tell_a_prompt_from_a_moment_and_moves_nothing():
    raw = trials(regimes(3), slope=0.0)[:1]
    (steady,) = steadied(raw)
    for before, after in zip(raw[0].baselines, steady.baselines, strict=True):
        assert after.decode_s == pytest.approx(before.decode_s)


@pytest.mark.parametrize("longer", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("easier", [-0.3, 0.0, 0.3])
def test_prompts_that_are_longer_or_easier_in_every_trial_are_not_taken_for_moments(longer, easier):
    """The machine as a whole is 20 % slower for half the trials: every ratio is right as it is."""
    raw = []
    for number, config in enumerate(CONFIGS * 3):
        slow = 1.2 if number % 2 else 1.0
        base_s = [0.05 * slow * (1 + longer * prompt) for prompt in range(4)]
        run_s = [s / TRUE[config.k] * (1 - easier * prompt / 3) for prompt, s in enumerate(base_s)]
        raw.append(
            Trial.of(config, [(Run(64, 63 * b, 0), Run(64, 63 * r, 0)) for b, r in zip(base_s, run_s, strict=True)])
        )
    raw[1] = Trial.of(raw[1].config, raw[1].pairs[:2], pruned=True)
    before, after = ([speedup_of(trial.pairs) for trial in some] for some in (raw, steadied(raw)))
    assert after == pytest.approx(before, rel=0.02)


def test_nothing_measured_is_nothing_moved():
    assert steadied([]) == []
