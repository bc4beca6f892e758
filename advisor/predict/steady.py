"""Baselines as they typically are: a plain ratio believes every moment's own.

A speculative run is compared with a baseline beside it, so that a machine that slows down as a whole cancels out. Where
another tenant takes memory bandwidth that is wrong: decoding token by token waits for memory and slows, a step verifies
several tokens and hardly does, and the ratio follows the neighbour. So each baseline is moved towards the typical one
by the part of its deviation that the runs beside it did not share (docs/decisions/0010-steady.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from advisor.types import Config, Run, Trial

PRIOR_RUNS, PRIOR_LOG_SD = 10, 0.05  # until baselines varied more than this, runs are taken to vary with them


def steadied(trials: Sequence[Trial], expected: Mapping[Config, Sequence[float]] | None = None) -> list[Trial]:
    """The trials with steadied baselines. ``expected``: speedups by prompt: an easy prompt is no good moment."""
    baselines = [run for trial in trials for run in trial.baselines]
    if not baselines:
        return list(trials)
    typical_s = float(np.exp(np.median([np.log(run.token_s) for run in baselines])))
    shared = shared_part(trials, expected or {})
    return [
        replace(trial, baselines=tuple(_moved(run, typical_s, shared) for run in trial.baselines)) for trial in trials
    ]


def shared_part(trials: Sequence[Trial], expected: Mapping[Config, Sequence[float]]) -> float:
    """How much of a change of the target's own speed the runs beside it share, 0 .. 1: the slope of log(seconds a
    token) of the runs over that of their baselines, each trial about its own mean; ridge towards 1."""
    sum_xy = sum_xx = PRIOR_RUNS * PRIOR_LOG_SD**2
    for trial in trials:
        x = np.log([run.token_s for run in trial.baselines])
        ease = [expected[trial.config][i] for i in trial.prompts] if trial.config in expected else [1.0] * len(x)
        y = np.log([run.token_s for run in trial.runs]) + np.log(ease)
        sum_xy += float((x - x.mean()) @ (y - y.mean()))
        sum_xx += float((x - x.mean()) @ (x - x.mean()))
    return float(np.clip(sum_xy / sum_xx, 0.0, 1.0))


def _moved(run: Run, typical_s: float, shared: float) -> Run:
    token_s = typical_s * (run.token_s / typical_s) ** shared
    return replace(run, decode_s=token_s * max(1, run.tokens - 1))
