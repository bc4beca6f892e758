"""Acceptance by position in the draft and by category of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from advisor.acceptance.walk import DraftAcceptance, Walk, pooled
from advisor.reasons.records import CategoryPoint, Position
from advisor.types import Config, Estimate, Trace, Trial

FEW_STEPS = 10  # a hazard seen over fewer steps is not shown


def walked_over(traces: Sequence[Trace], config: Config, max_tokens: int) -> Walk:
    return pooled(DraftAcceptance(traces, max_tokens=max_tokens).walks(config))


def replayed_positions(traces: Sequence[Trace], k_max: int, max_tokens: int) -> tuple[Position, ...]:
    """By position, over drafts of full length: what the draft's confidence would have stopped is seen as well."""
    if not traces:
        return ()
    walked = walked_over(traces, Config("", k_max), max_tokens)
    long_enough = [sum(count for n, count in walked.verified.items() if n >= i) for i in range(1, k_max + 1)]
    return _positions(walked.accepted_per_position, long_enough)


def run_positions(trial: Trial | None) -> tuple[Position, ...]:
    """By position, in real runs: what p_min or the end of an answer cut off counts as not accepted."""
    if trial is None:
        return ()
    steps = sum(run.steps for run in trial.runs)
    accepted = [
        sum(run.accepted_per_position[i] for run in trial.runs if i < len(run.accepted_per_position))
        for i in range(trial.config.k)
    ]
    return _positions(accepted, [steps] * len(accepted)) if any(accepted) else ()


def _positions(accepted: Sequence[int], steps_at: Sequence[int]) -> tuple[Position, ...]:
    points: list[Position] = []
    before = 1.0
    for position, steps in enumerate(steps_at, start=1):
        if not steps:
            break
        survival = min(before, accepted[position - 1] / steps)
        reached = before * steps
        points.append(Position(position, survival, survival / before if reached >= FEW_STEPS else None, steps))
        before = survival
        if not survival:
            break
    return tuple(points)


def categories(traces: Sequence[Trace], best: Estimate, k_max: int, max_tokens: int) -> tuple[CategoryPoint, ...]:
    points = []
    for name, speedup in best.speedup_by_category.items():
        own = [trace for trace in traces if trace.category == name]
        rate = best.acceptance_by_category.get(name, math.nan)
        points.append(CategoryPoint(name, len(own), rate, speedup, replayed_positions(own, k_max, max_tokens)))
    return tuple(sorted(points, key=lambda point: -point.speedup))
