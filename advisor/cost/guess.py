"""What a decode of a draft should cost that was not timed: as its bytes say, beside those that were.

Small models take more time for a byte than large ones, and each kernel its own, so a guess is spread: it says that a
draft cannot win, or that it should be timed, not by how much.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from advisor.types import CostCurve, Model

SPREAD = (0.6, 1.0, 1.7)  # times the guess: quantizations of one size differ by as much
ROW_PRICES = (0.02, 0.08, 0.3)  # of a verified token, in target passes: from a large GPU to a CPU
SIZE_EXPONENT = 0.8  # of the time in the bytes: what a layer costs by itself does not shrink with its matrices


def guessed(
    draft: Model, target: Model, target_curve: CostCurve, timed: Iterable[tuple[Model, CostCurve]]
) -> CostCurve:
    """The curve of a draft from that of the draft nearest to it in bytes, else of the target. ``timed``: drafts with
    their curves."""
    nearest, curve = min(timed, key=lambda one: _apart(draft, one[0]), default=(target, target_curve))
    scale = (draft.active_weights_bytes / nearest.active_weights_bytes) ** SIZE_EXPONENT
    anchor_s = statistics.median_high(target_curve.anchor_s)
    points = {b: statistics.median_high(rounds) * scale for b, rounds in curve.rounds_s.items()}
    return CostCurve(
        depth=target_curve.depth,
        anchor_s=(anchor_s,) * len(SPREAD),
        rounds_s={b: tuple(factor * seconds for factor in SPREAD) for b, seconds in points.items()},
        guessed=True,
    )


def guessed_target(token_s: float, b_max: int) -> CostCurve:
    """The curve of a target of which only its time a token is known."""
    rows = {b: tuple(token_s * (1 + price * (b - 1)) for price in ROW_PRICES) for b in (1, b_max)}
    return CostCurve(0, (token_s,) * len(ROW_PRICES), rows, guessed=True)


def best_case(cost: float, k_max: int) -> float:
    """The speedup of a draft whose every token is accepted and whose decode takes ``cost`` passes of a target that
    verifies for nothing (Leviathan et al. 2023, arXiv 2211.17192, with an acceptance of 1)."""
    return max((k + 1) / (k * cost + 1) for k in range(1, k_max + 1))


def _apart(one: Model, other: Model) -> float:
    ratio = one.active_weights_bytes / other.active_weights_bytes
    return max(ratio, 1 / ratio)
