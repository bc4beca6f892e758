"""What a step costs in a server, which only answers: a + b * k, fitted to its own short runs at two draft lengths.

    T_step(n) / t(1) = 1 + n * row + (n + r) * d        r = 1 where the draft decodes the verified tokens again, else 0

``row`` is what one more verified token adds to a pass of the target, ``d`` one pass of the draft, both in target
passes: a = 1 + r * d, b = row + d. A line through two lengths does not see kernels that switch between them; the real
runs of the search do. The target's t(1) comes from the baseline runs beside each run.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.types import CostCurve, Model, Trial

Floats = npt.NDArray[np.float64]

LENGTHS = (2, 8)
RUN_SD = 0.02  # of a step's time over its baseline, two prompts at one length
ROW, ROW_SD = 0.05, 0.2
DRAFT_SD = 1.0  # of a draft's pass, as a share of what its size makes one expect
LEAST_PASS = 0.02  # no pass is cheaper: launches, sampling, the loop


@dataclass(frozen=True)
class Costs:
    """``row`` and ``drafts`` (by content hash) in target passes."""

    row: float
    drafts: Mapping[str, float]

    def curves(self, token_s: float, depth: int, b_max: int) -> tuple[CostCurve, dict[str, CostCurve]]:
        """As curves of a target that needs ``token_s`` a token: straight lines up to b_max tokens."""
        anchor = (token_s,)
        target = CostCurve(depth, anchor, {1: anchor, b_max: (token_s * (1 + self.row * (b_max - 1)),)}, fitted=True)
        flat = {
            draft: CostCurve(depth, anchor, dict.fromkeys((1, b_max), (token_s * passes,)), fitted=True)
            for draft, passes in self.drafts.items()
        }
        return target, flat


def expected(target: Model, drafts: Sequence[Model]) -> Costs:
    """By size alone, before anything has run: a pass is the reading of the weights."""
    sizes = {draft.content_hash: draft.active_weights_bytes / target.active_weights_bytes for draft in drafts}
    return Costs(ROW, {draft: max(LEAST_PASS, share) for draft, share in sizes.items()})


def fit(trials: Sequence[Trial], before: Costs, *, reevaluates: bool) -> Costs:
    """``before`` corrected by what these runs took: least squares with ``before`` as the prior. Drafts that did not run
    keep their share of the size, scaled as the others turned out to be."""
    ran = sorted({trial.config.draft for trial in trials})
    column = {draft: index for index, draft in enumerate(ran, start=1)}
    width = len(ran) + 1
    rows, wanted = [], []
    for trial in trials:
        steps = sum(run.steps for run in trial.runs)
        n = sum(run.drafted for run in trial.runs) / steps
        passes = sum(run.decode_s for run in trial.runs) / steps / token_s([trial])
        row = np.zeros(width)
        row[0], row[column[trial.config.draft]] = n, n + reevaluates
        rows.append(row / (RUN_SD * passes))
        wanted.append((passes - 1) / (RUN_SD * passes))
    prior = np.array([before.row, *(before.drafts[draft] for draft in ran)])
    spread = np.array([ROW_SD, *(DRAFT_SD * before.drafts[draft] for draft in ran)])
    rows += list(np.eye(width) / spread[:, None])
    wanted += list(prior / spread)
    solved = _not_negative(np.array(rows), np.array(wanted))
    found = dict(zip(ran, np.maximum(solved[1:], LEAST_PASS / 2).tolist(), strict=True))
    scale = statistics.median(found[draft] / before.drafts[draft] for draft in ran) if ran else 1.0
    drafts = {draft: found.get(draft, passes * scale) for draft, passes in before.drafts.items()}
    return Costs(float(solved[0]), drafts)


def _not_negative(rows: Floats, wanted: Floats) -> Floats:
    """Least squares; what would come out below 0 is 0 and the rest is solved again."""
    kept = np.ones(rows.shape[1], bool)
    while True:
        solved = np.zeros(rows.shape[1])
        solved[kept] = np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0]
        if (solved >= 0).all():
            return solved
        kept &= solved >= 0


def token_s(trials: Sequence[Trial]) -> float:
    """The target's seconds a token over the baselines of these trials."""
    runs = [run for trial in trials for run in trial.baselines]
    return sum(run.decode_s for run in runs) / sum(run.tokens - 1 for run in runs)
