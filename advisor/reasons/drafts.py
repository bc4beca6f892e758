"""The reasons of each draft: draft lengths, break-even, costs, and why it is the pick or is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from advisor.cost.curves import prices
from advisor.reasons.break_even import Prices, Shifted, agreement, independent_speedup, textbook_steps
from advisor.reasons.ground import Ground, correction, usable
from advisor.reasons.labels import suffixes
from advisor.reasons.positions import categories, replayed_positions, run_positions
from advisor.reasons.records import (
    AcceptancePoint,
    BreakEven,
    CostPoint,
    DraftReasons,
    Jump,
    LengthPoint,
)
from advisor.reasons.steps import priced_step, timed_step, trial_of
from advisor.types import Config, CostCurve, Estimate, Model, Recommendation, Trace

FLAT = 0.02  # settings within 2 % of the best are as good: the machine's own noise is no smaller
JUMP_PASSES, JUMP_FACTOR = 0.15, 3.0  # a step of the curve: this much of a pass, this many times the usual increase


def draft_reasons(rec: Recommendation, ground: Ground) -> tuple[DraftReasons, ...]:
    by_hash = {candidate.draft.content_hash: candidate for candidate in rec.candidates}
    ordered = [rec.best, *rec.estimates] if rec.best is not None else list(rec.estimates)
    best: dict[str, Estimate] = {}
    for estimate in ordered:
        if estimate.config.draft in by_hash:
            best.setdefault(estimate.config.draft, estimate)
    suffix = suffixes([by_hash[draft].draft for draft in best])
    memory_bytes = {draft: candidate.memory_bytes for draft, candidate in by_hash.items()}
    reasons = [_draft(rec, ground, by_hash[draft].draft, suffix[draft], one) for draft, one in best.items()]
    return tuple(replace(one, verdict=_why_not(rec, one, reasons[0], memory_bytes)) for one in reasons)


def _draft(rec: Recommendation, ground: Ground, draft: Model, suffix: str, best: Estimate) -> DraftReasons:
    traces = rec.traces.get(draft.content_hash, ())
    table = ground.prices.get(draft.content_hash)
    lengths = _lengths(_at_every_length(rec), best.config)
    own = agreement(traces) if traces else None
    curve, break_even = _acceptance(traces, best, table, ground)
    curve_s = rec.draft_curves.get(draft.content_hash)
    replayed = replayed_positions(traces, rec.settings.k_max, ground.max_tokens)
    return DraftReasons(
        draft=draft,
        label=draft.label + suffix,
        row=draft.name + suffix,
        best=best,
        lengths=lengths,
        flat=_flat(lengths, best),
        agreement=own,
        break_even=break_even,
        curve=curve,
        textbook_curve=_textbook_curve(best.config.k, table, curve) if table else (),
        step=priced_step(best, traces, table, ground) or timed_step(best, rec.trials, ground.token_s),
        positions=replayed or run_positions(trial_of(best.config, rec.trials)),
        positions_in="answers" if replayed else "runs",
        categories=categories(traces, best, rec.settings.k_max, ground.max_tokens),
        cost=cost_points(curve_s, "draft", ground) if curve_s else (),
        verdict="",
    )


def _at_every_length(rec: Recommendation) -> list[Estimate]:
    """What is ranked, and what a prediction says of lengths beside it."""
    return [*rec.estimates, *(one.estimate for one in rec.what_if if one.settings == rec.settings)]


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


def _textbook_curve(k: int, table: Prices, curve: Sequence[AcceptancePoint]) -> tuple[tuple[float, float], ...]:
    """(agreement, speedup) by the formula alone, at the agreements of the curve."""
    step_passes = k * float(table.draft[1]) + 1
    return tuple((point.agreement, independent_speedup(k, step_passes, point.agreement)) for point in curve)


def cost_points(curve: CostCurve, role: Literal["target", "draft"], ground: Ground) -> tuple[CostPoint, ...]:
    if ground.unit is None or not usable(curve):
        return ()
    seconds = prices(curve, role, ground.unit, ground.b_max) * ground.token_s
    return tuple(
        CostPoint(
            b, float(np.median(seconds[:, b])), float(seconds[:, b].min()), float(seconds[:, b].max()), len(rounds_s)
        )
        for b, rounds_s in sorted(curve.rounds_s.items())
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


def _why_not(rec: Recommendation, one: DraftReasons, first: DraftReasons, memory_bytes: Mapping[str, int]) -> str:
    """Why this draft is the pick, or is not."""
    if one is first:
        if rec.best is None:
            return "the nearest to winning"
        return "the pick" if rec.best.config == one.best.config else "the best draft; the pick needs none"
    if one.best.evidence == "prior" and first.best.evidence != "prior":
        return "no time was left to measure it"
    if one.best.speedup_low > first.best.speedup_low:
        more = memory_bytes[one.draft.content_hash] > memory_bytes[first.draft.content_hash]
        return f"a tie within the noise, and it {'needs more memory' if more else 'was not run'}"
    if one.best.speedup > first.best.speedup:
        return f"its interval reaches lower, to {one.best.speedup_low:.2f}x"
    if one.step is None or first.step is None:
        return "expected to be slower"
    tokens = one.step.tokens - first.step.tokens
    cost_ms = round(1e3 * (one.step.total_s - first.step.total_s))
    return (
        f"{1e3 * one.step.token_s:.1f} ms a token, not {1e3 * first.step.token_s:.1f}: "
        f"{abs(tokens):.2f} {'more' if tokens > 0 else 'fewer'} tokens a step, "
        + (f"{abs(cost_ms)} ms {'longer' if cost_ms > 0 else 'shorter'} steps" if cost_ms else "steps just as long")
    )
