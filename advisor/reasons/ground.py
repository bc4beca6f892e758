"""What every reason stands on: the step law, the prices of decodes, the cap on answers, the speed of times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advisor.cost.curves import Reference, bare_prices, prices, reference
from advisor.cost.step_law import StepLaw, step_law
from advisor.reasons.break_even import Prices
from advisor.types import CostCurve, Estimate, Recommendation

ROUNDING = 1e-9


@dataclass(frozen=True)
class Ground:
    """What every reason stands on. ``unit`` is None where no curve was measured; ``token_s`` is a target pass at the
    speed of the baseline, so that all times of the report are those of one machine speed. ``corrected``: real runs
    have a say in the estimates."""

    law: StepLaw
    unit: Reference | None
    max_tokens: int
    b_max: int
    prices: dict[str, Prices]
    measured: bool
    token_s: float
    corrected: bool

    @classmethod
    def of(cls, rec: Recommendation) -> Ground:
        law = step_law(rec.build)
        curves = {draft: curve for draft, curve in rec.draft_curves.items() if usable(curve)}
        lengths = [len(trace.answer_tokens) for traces in rec.traces.values() for trace in traces]
        longest = max(lengths, default=rec.settings.max_tokens)
        b_max = rec.settings.k_max + 1
        measured, token_s = any(rec.traces.values()), rec.baseline.token_s
        corrected = bool(rec.trials) or any(abs(correction(estimate) - 1) > ROUNDING for estimate in rec.estimates)
        if not usable(rec.target_curve) or not curves:
            return cls(law, None, longest, b_max, {}, measured, token_s, corrected)
        unit = reference([rec.target_curve], list(curves.values()))
        target = np.median(prices(rec.target_curve, "target", unit, b_max), axis=0)
        table = {}
        for draft, curve in curves.items():
            beside = np.array([target[0], np.median(bare_prices(curve)), *target[2:]])
            table[draft] = Prices(beside, np.median(prices(curve, "draft", unit, b_max), axis=0), law)
        return cls(law, unit, longest, b_max, table, measured, token_s, corrected)


def usable(curve: CostCurve) -> bool:
    return 1 in curve.rounds_s and bool(curve.anchor_s) and min(curve.anchor_s) > 0


def correction(estimate: Estimate) -> float:
    """What real runs taught about this config: believed / analytic."""
    return estimate.speedup / estimate.analytic_speedup if estimate.analytic_speedup > 0 else 1.0
