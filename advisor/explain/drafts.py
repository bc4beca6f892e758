"""The reasons of each draft: draft lengths, break-even, the step, acceptance by position and category, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from advisor.acceptance.walk import Walk, pooled, walk
from advisor.cost.curves import prices
from advisor.explain.break_even import Prices, Shifted, agreement, independent_speedup, textbook_steps
from advisor.explain.ground import Ground, correction, usable
from advisor.explain.reasons import (
    AcceptancePoint,
    BreakEven,
    CategoryPoint,
    CostPoint,
    DraftReasons,
    Jump,
    LengthPoint,
    Position,
    Step,
)
from advisor.types import Config, CostCurve, Estimate, Model, Recommendation, Trace, Trial

FLAT = 0.02  # settings within 2 % of the best are as good: the machine's own noise is no smaller
FEW_STEPS = 10  # a hazard seen over fewer steps is not shown
JUMP_PASSES, JUMP_FACTOR = 0.15, 3.0  # a kernel step: this much of a pass, this many times the usual increase


def draft_reasons(rec: Recommendation, ground: Ground) -> tuple[DraftReasons, ...]:
    by_hash = {candidate.draft.content_hash: candidate for candidate in rec.candidates}
    ordered = [rec.best, *rec.estimates] if rec.best is not None else list(rec.estimates)
    best: dict[str, Estimate] = {}
    for estimate in ordered:
        if estimate.config.draft in by_hash:
            best.setdefault(estimate.config.draft, estimate)
    reasons = [_draft(rec, ground, by_hash[draft].draft, estimate) for draft, estimate in best.items()]
    return tuple(replace(one, verdict=_why_not(rec, one, reasons[0])) for one in reasons)


def _draft(rec: Recommendation, ground: Ground, draft: Model, best: Estimate) -> DraftReasons:
    traces = rec.traces.get(draft.content_hash, ())
    table = ground.prices.get(draft.content_hash)
    lengths = _lengths(rec.estimates, best.config)
    own = agreement(traces) if traces else None
    curve, break_even = _acceptance(traces, best, table, ground)
    curve_s = rec.draft_curves.get(draft.content_hash)
    return DraftReasons(
        draft=draft,
        best=best,
        lengths=lengths,
        flat=_flat(lengths, best),
        agreement=own,
        break_even=break_even,
        curve=curve,
        textbook_curve=_textbook_curve(best.config.k, table) if curve and table else (),
        step=_step(rec, ground, best, traces, table),
        positions=_positions(traces, rec.settings.k_max, ground.max_tokens),
        categories=_categories(traces, best, rec.settings.k_max, ground.max_tokens),
        cost=cost_points(curve_s, "draft", ground) if curve_s else (),
        verdict="",
    )


def _lengths(estimates: Iterable[Estimate], best: Config) -> tuple[LengthPoint, ...]:
    alike = [e for e in estimates if replace(e.config, k=best.k) == best]
    return tuple(
        LengthPoint(
            e.config.k, e.speedup, e.speedup_low, e.speedup_high, e.acceptance_rate, e.tokens_per_step, e.evidence
        )
        for e in sorted(alike, key=lambda e: e.config.k)
    )


def _flat(lengths: Sequence[LengthPoint], best: Estimate) -> tuple[int, ...]:
    """The draft lengths within FLAT of the best setting's speedup."""
    return tuple(point.k for point in lengths if point.speedup >= best.speedup * (1 - FLAT))


def _acceptance(
    traces: Sequence[Trace], best: Estimate, table: Prices | None, ground: Ground
) -> tuple[tuple[AcceptancePoint, ...], BreakEven | None]:
    if table is None or best.config.k + 1 > ground.b_max:
        return (), None
    formula = textbook_steps(best.config.k, table)
    if not traces:
        return (), formula
    shifted = Shifted(traces, best.config, table, max_tokens=ground.max_tokens, correction=correction(best), seed=0)
    curve = shifted.curve()
    point = shifted.break_even(curve)
    if point is None:
        return curve, formula
    return curve, replace(formula, measured=point.agreement, acceptance_rate=point.acceptance_rate)


def _textbook_curve(k: int, table: Prices) -> tuple[tuple[float, float], ...]:
    """(agreement, speedup) by the formula alone."""
    step_passes = k * float(table.draft[1]) + 1
    return tuple((i / 20, independent_speedup(k, step_passes, i / 20)) for i in range(21))


def _step(
    rec: Recommendation, ground: Ground, best: Estimate, traces: Sequence[Trace], table: Prices | None
) -> Step | None:
    if table is None or ground.unit is None or not traces:
        return None
    walked = _walked(traces, best.config, ground.max_tokens)
    if not walked.steps:
        return None
    parts_s = [ground.token_s * part / walked.steps for part in table.step_parts(walked)]
    tokens = walked.tokens / walked.steps
    measured_s = _measured_step_s(rec.trials, best.config, ground.token_s)
    rest_s = measured_s - sum(parts_s) if measured_s is not None else None
    return Step(parts_s[0], parts_s[1], parts_s[2], rest_s, tokens, tokens * ground.token_s)


def _measured_step_s(trials: Iterable[Trial], config: Config, token_s: float) -> float | None:
    """Seconds of a step in the real runs, at the speed at which the target's own token takes ``token_s``."""
    trial = next((one for one in trials if one.config == config and one.runs), None)
    steps = sum(run.steps for run in trial.runs) if trial else 0
    if trial is None or not steps:
        return None
    plain_s = sum(run.decode_s for run in trial.baselines) / sum(max(1, run.tokens - 1) for run in trial.baselines)
    return sum(run.decode_s for run in trial.runs) / steps * token_s / plain_s


def _walked(traces: Iterable[Trace], config: Config, max_tokens: int) -> Walk:
    return pooled([walk(trace, config, max_tokens=max_tokens) for trace in traces])


def _positions(traces: Sequence[Trace], k_max: int, max_tokens: int) -> tuple[Position, ...]:
    """By position, over drafts of full length: what the draft's confidence would have stopped is seen as well."""
    if not traces:
        return ()
    walked = _walked(traces, Config("", k_max), max_tokens)
    points: list[Position] = []
    before = 1.0
    for position in range(1, k_max + 1):
        steps = sum(count for n, count in walked.verified.items() if n >= position)
        if not steps:
            break
        survival = min(before, walked.accepted_per_position[position - 1] / steps)
        reached = before * steps
        points.append(Position(position, survival, survival / before if reached >= FEW_STEPS else None, steps))
        before = survival
        if not survival:
            break
    return tuple(points)


def _categories(traces: Sequence[Trace], best: Estimate, k_max: int, max_tokens: int) -> tuple[CategoryPoint, ...]:
    points = []
    for name, speedup in best.speedup_by_category.items():
        own = [trace for trace in traces if trace.category == name]
        rate = best.acceptance_by_category.get(name, math.nan)
        points.append(CategoryPoint(name, len(own), rate, speedup, _positions(own, k_max, max_tokens)))
    return tuple(sorted(points, key=lambda point: -point.speedup))


def cost_points(curve: CostCurve, role: Literal["target", "draft"], ground: Ground) -> tuple[CostPoint, ...]:
    if ground.unit is None or not usable(curve):
        return ()
    seconds = prices(curve, role, ground.unit, ground.b_max) * ground.token_s
    return tuple(
        CostPoint(b, float(np.median(seconds[:, b])), float(seconds[:, b].min()), float(seconds[:, b].max()))
        for b in sorted(curve.rounds_s)
        if b <= ground.b_max
    )


def jumps(ground: Ground) -> tuple[Jump, ...]:
    """Where t(b) steps up by much more than it usually does."""
    if not ground.prices:
        return ()
    increases = np.diff(next(iter(ground.prices.values())).target[1:])
    usual = float(np.median(increases))
    return tuple(
        Jump(b, float(more))
        for b, more in enumerate(increases, start=2)
        if more > max(JUMP_PASSES, JUMP_FACTOR * usual)
    )


def _why_not(rec: Recommendation, one: DraftReasons, first: DraftReasons) -> str:
    """Why this draft is the pick, or is not."""
    if one is first:
        return "the pick" if rec.best is not None else "the nearest to winning"
    if one.step is None or first.step is None:
        return "expected to be slower" if one.best.speedup <= first.best.speedup else "its interval reaches lower"
    if one.best.speedup_low > first.best.speedup_low:
        return "a tie within the noise, and it needs more memory"
    tokens = one.step.tokens - first.step.tokens
    cost_ms = 1e3 * (one.step.total_s - first.step.total_s)
    said = [
        f"{abs(tokens):.2f} {'more' if tokens > 0 else 'fewer'} tokens a step",
        f"{abs(cost_ms):.0f} ms {'longer' if cost_ms > 0 else 'shorter'} steps",
    ]
    if one.best.speedup > first.best.speedup:
        said.append("an interval that reaches lower")
    return ", ".join(said)
