"""Baselines as they typically are: a plain ratio believes every moment's own.

A speculative run is compared with a baseline beside it, so that a machine that slows down as a whole cancels out. Where
another tenant takes memory bandwidth that is wrong: decoding token by token waits for memory and slows, a step verifies
several tokens and hardly does, and the ratio follows the neighbour. So each baseline is moved towards the typical one
by the part of its deviation that the runs beside it did not share (docs/decisions/0010-steady.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from advisor.types import Run, Trial

Floats = npt.NDArray[np.float64]

PRIOR_RUNS, PRIOR_LOG_SD = 10, 0.05  # until baselines varied more than this, runs are taken to vary with them
SWEEPS = 20  # of taking out the means of trials and of prompts in turn: enough where some trials were cut short


def steadied(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with steadied baselines."""
    baselines = [run for trial in trials for run in trial.baselines]
    if not baselines:
        return list(trials)
    typical_s = float(np.exp(np.median([np.log(run.token_s) for run in baselines])))
    shared = shared_part(trials)
    return [
        replace(trial, baselines=tuple(_moved(run, typical_s, shared) for run in trial.baselines)) for trial in trials
    ]


def shared_part(trials: Sequence[Trial]) -> float:
    """How much of a change of the target's own speed the runs beside it share, 0 .. 1: the slope of log(seconds a
    token) of the runs over that of their baselines; ridge towards 1.

    Both are taken about the mean of their trial and of their prompt: a prompt that is longer, or easier for the draft,
    is so in every trial and says nothing about the moment. One trial therefore says nothing at all.
    """
    cells = [(number, prompt) for number, trial in enumerate(trials) for prompt in trial.prompts]
    x = _residuals(cells, [run.token_s for trial in trials for run in trial.baselines])
    y = _residuals(cells, [run.token_s for trial in trials for run in trial.runs])
    prior = PRIOR_RUNS * PRIOR_LOG_SD**2
    return float(np.clip((prior + x @ y) / (prior + x @ x), 0.0, 1.0))


def _residuals(cells: Sequence[tuple[int, int]], seconds: Sequence[float]) -> Floats:
    left: Floats = np.log(np.asarray(seconds, float))
    groups = [np.unique(labels, return_inverse=True)[1] for labels in zip(*cells, strict=True)]
    for _ in range(SWEEPS):
        for group in groups:
            left = left - (np.bincount(group, left) / np.bincount(group))[group]
    return np.asarray(left)


def _moved(run: Run, typical_s: float, shared: float) -> Run:
    token_s = typical_s * (run.token_s / typical_s) ** shared
    return replace(run, decode_s=token_s * max(1, run.tokens - 1))
