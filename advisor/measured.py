"""An estimate from real runs alone: of a cell of a sweep, and of what cannot be replayed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from advisor.predict.analytic import student_factor
from advisor.predict.predictor import Z_80
from advisor.search import speedup_of
from advisor.types import Estimate, Run, Trial

LEAST_SD = 0.02  # of log(speedup) over all prompts: two runs of one config never agree better
SOLE_PROMPT_SD = 0.25  # one prompt says nothing about others


def estimate_of(trial: Trial, categories: Sequence[str], baseline_tps: float) -> Estimate:
    """As it was measured; the interval is that of the mean over prompts (Student's t). ``categories`` of all."""
    pairs = trial.pairs
    logs = np.log([base.token_s / run.token_s for base, run in pairs])
    sd = SOLE_PROMPT_SD
    if len(logs) > 1:
        spread_sd = float(logs.std(ddof=1)) / math.sqrt(len(logs)) * student_factor(len(logs) - 1)
        sd = math.hypot(LEAST_SD, spread_sd)
    speedup, half = speedup_of(pairs), math.exp(Z_80 * sd)
    steps = sum(run.steps for run in trial.runs)
    groups: dict[str, list[int]] = {}
    for i in trial.prompts:
        groups.setdefault(categories[i], []).append(i)
    return Estimate(
        config=trial.config,
        acceptance_rate=_acceptance_rate(trial.runs),
        tokens_per_step=sum(run.tokens - 1 for run in trial.runs) / steps if steps else 1.0,
        speedup=speedup,
        speedup_low=speedup / half,
        speedup_high=speedup * half,
        tokens_per_second=baseline_tps * speedup,
        evidence="measured",
        analytic_speedup=speedup,
        acceptance_by_category={name: _acceptance_rate([trial.runs[i] for i in own]) for name, own in groups.items()},
        speedup_by_category={name: speedup_of([pairs[i] for i in own]) for name, own in groups.items()},
    )


def _acceptance_rate(runs: Sequence[Run]) -> float:
    drafted = sum(run.drafted for run in runs)
    return sum(run.accepted for run in runs) / drafted if drafted else 0.0
