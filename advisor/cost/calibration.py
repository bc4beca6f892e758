"""What a step costs in a server, which only answers: curves of another origin, scaled by its own short runs.

    T_step(n) / t(1) = 1 + a * (t(n + 1) - 1) + b * (n * d(1) + r * d(n + 1))

t and d are in target passes, r is 1 where the draft decodes the verified tokens again, else 0. Their shape comes from
decodes timed in this process, where the server computes on the same CPU; kernels switch at the same lengths there, but
cost what that build makes of them. Elsewhere it is a line expected from the sizes of the files. ``a`` and ``b`` (one a
draft) are fitted to runs of the server at two draft lengths, each in units of the baseline beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.cost.curves import prices, reference
from advisor.types import CostCurve, Model, Trial

Floats = npt.NDArray[np.float64]

LENGTHS = (2, 8)
RUN_SD = 0.02  # of a step's time over its baseline: a few prompts at one length
ROW = 0.05  # what one more verified token adds to a pass, until something is known
LEAST_PASS = 0.02  # no pass is cheaper: launches, sampling, the loop
MEASURED_SPREAD = (0.4, 0.4)  # how far ``a`` and ``b`` may be from 1, where the shape was timed
EXPECTED_SPREAD = (4.0, 1.0)  # and where it is a guess


@dataclass(frozen=True)
class Costs:
    """A target's curve and those of its drafts, by content hash. ``spread`` as in MEASURED_SPREAD."""

    target: CostCurve
    drafts: Mapping[str, CostCurve]
    spread: tuple[float, float] = MEASURED_SPREAD


def expected(target: Model, drafts: Sequence[Model], token_s: float, depth: int, b_max: int) -> Costs:
    """By size alone, before anything has run: a pass is the reading of the weights, a row adds little."""
    anchor = (token_s,)
    shares = {draft.content_hash: draft.active_weights_bytes / target.active_weights_bytes for draft in drafts}
    return Costs(
        CostCurve(depth, anchor, {1: anchor, b_max: (token_s * (1 + ROW * (b_max - 1)),)}, fitted=True),
        {
            draft: CostCurve(depth, anchor, dict.fromkeys((1, b_max), (token_s * max(LEAST_PASS, share),)), fitted=True)
            for draft, share in shares.items()
        },
        EXPECTED_SPREAD,
    )


def fit(trials: Sequence[Trial], before: Costs, *, reevaluates: bool) -> Costs:
    """``before`` scaled to what these runs took: least squares, with scales of 1 as the prior. Drafts that did not run
    are scaled as the others are in the median."""
    unit = reference([before.target], list(before.drafts.values()))
    b_max = max(before.target.rounds_s)
    target = prices(before.target, "target", unit, b_max)
    drafts = {draft: prices(curve, "draft", unit, b_max) for draft, curve in before.drafts.items()}
    ran = sorted({trial.config.draft for trial in trials})
    column = {draft: index for index, draft in enumerate(ran, start=1)}
    rows, wanted = [], []
    for trial in trials:
        steps = sum(run.steps for run in trial.runs)
        n = sum(run.drafted for run in trial.runs) / steps
        passes = sum(run.decode_s for run in trial.runs) / steps / token_s([trial])
        own = drafts[trial.config.draft]
        row = np.zeros(len(ran) + 1)
        row[0] = _at(target, n + 1) - 1
        row[column[trial.config.draft]] = n * _at(own, 1) + reevaluates * _at(own, n + 1)
        rows.append(row / (RUN_SD * passes))
        wanted.append((passes - 1) / (RUN_SD * passes))
    spread = np.array([before.spread[0], *[before.spread[1]] * len(ran)])
    rows += list(np.eye(len(spread)) / spread[:, None])
    wanted += list(1 / spread)
    scales = _not_negative(np.array(rows), np.array(wanted))
    found = dict(zip(ran, scales[1:].tolist(), strict=True))
    others = statistics.median(found.values()) if found else 1.0
    seconds = token_s(trials)
    return Costs(
        _as_curve(before.target, 1 + scales[0] * (target - 1), seconds),
        {
            draft: _as_curve(before.drafts[draft], table * found.get(draft, others), seconds)
            for draft, table in drafts.items()
        },
        before.spread,
    )


def step_passes(costs: Costs, draft: str, n: float, *, reevaluates: bool) -> float:
    """What a step with n drafted tokens takes, in target passes."""
    unit = reference([costs.target], list(costs.drafts.values()))
    b_max = max(costs.target.rounds_s)
    own = prices(costs.drafts[draft], "draft", unit, b_max)
    verifying = _at(prices(costs.target, "target", unit, b_max), n + 1)
    return verifying + n * _at(own, 1) + reevaluates * _at(own, n + 1)


def token_s(trials: Sequence[Trial]) -> float:
    """The target's seconds a token over the baselines of these trials."""
    runs = [run for trial in trials for run in trial.baselines]
    return sum(run.decode_s for run in runs) / sum(run.tokens - 1 for run in runs)


def _at(table: Floats, b: float) -> float:
    """The median round's price of a decode of b tokens; b may lie between two."""
    return float(np.interp(b, np.arange(table.shape[1]), np.median(table, axis=0)))


def _as_curve(shape: CostCurve, table: Floats, seconds: float) -> CostCurve:
    """Prices in target passes as seconds of a target that needs ``seconds`` a token."""
    rounds = {b: tuple((table[:, b] * seconds).tolist()) for b in range(1, table.shape[1])}
    return CostCurve(shape.depth, (seconds,) * len(table), rounds, fitted=True)


def _not_negative(rows: Floats, wanted: Floats) -> Floats:
    """Least squares; what would come out below 0 is 0 and the rest is solved again."""
    kept = np.ones(rows.shape[1], bool)
    while True:
        solved = np.zeros(rows.shape[1])
        solved[kept] = np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0]
        if (solved >= 0).all():
            return solved
        kept &= solved >= 0
