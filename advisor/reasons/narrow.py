"""A recommendation as the answers of one category alone would have it."""

from __future__ import annotations

from dataclasses import replace

from advisor.errors import OptionError
from advisor.predict.predictor import Predictor
from advisor.ranking import answer
from advisor.reasons.ground import Ground, correction
from advisor.types import Estimate, Recommendation


def narrowed(rec: Recommendation, category: str) -> Recommendation:
    """The recommendation as the answers of one category alone would have it. Real runs correct it as they did the
    whole; they are not listed again, since they were chosen over all categories."""
    known = tuple(dict.fromkeys((*rec.categories, *(c for e in rec.estimates for c in e.speedup_by_category))))
    if category not in known:
        named = ", ".join(known) or "none"
        raise OptionError(f"--category: there is no category {category!r}.", fix=f"This recommendation has: {named}.")
    if not _tells(rec, category):
        if rec.categories == (category,):
            return rec
        raise OptionError(
            f"--category: this prediction is for {', '.join(rec.categories)} together.",
            fix=f"Ask for it alone: advisor recommend --category {category}.",
        )
    ground = Ground.of(rec)
    kept = {
        draft: tuple(trace for trace in traces if trace.category == category) for draft, traces in rec.traces.items()
    }
    estimates = _scaled(rec, category)
    if ground.unit is not None and any(kept.values()):
        drafts = {draft: curve for draft, curve in rec.draft_curves.items() if kept.get(draft)}
        predictor = Predictor(
            kept, rec.target_curve, drafts, ground.law, k_max=rec.settings.k_max, max_tokens=ground.max_tokens
        )
        factors = {estimate.config: correction(estimate) for estimate in rec.estimates}
        estimates = [
            _times(estimate, factors[estimate.config], rec.baseline.tokens_per_second)
            for estimate in predictor.estimates([], rec.baseline.tokens_per_second)
            if estimate.config in factors
        ]
        estimates += [one for one in _scaled(rec, category) if one.config.needs_no_draft]
    found = answer(estimates, rec.candidates)
    texts = tuple(text for text in rec.answers if text.category == category)
    return replace(
        rec,
        categories=(category,),
        estimates=found.ranked,
        verdict=found.verdict,
        sentence=f"For {category} alone: {found.sentence}",
        best=found.best,
        runner_up=found.runner_up,
        traces=kept,
        trials=(),
        answers=texts if all(len(texts) == len(traces) for traces in kept.values()) else (),
    )


def _tells(rec: Recommendation, category: str) -> bool:
    """Whether anything in the record is of this category alone: answers, or a figure."""
    return any(rec.traces.values()) or any(category in one.speedup_by_category for one in rec.estimates)


def _times(estimate: Estimate, factor: float, baseline_tps: float) -> Estimate:
    speedup = estimate.speedup * factor
    return replace(
        estimate,
        speedup=speedup,
        speedup_low=estimate.speedup_low * factor,
        speedup_high=estimate.speedup_high * factor,
        tokens_per_second=baseline_tps * speedup,
        speedup_by_category={name: value * factor for name, value in estimate.speedup_by_category.items()},
    )


def _scaled(rec: Recommendation, category: str) -> list[Estimate]:
    """Without answers to walk over: the category's own figure, with the interval of the whole around it."""
    scaled = []
    for estimate in rec.estimates:
        if category in estimate.speedup_by_category:
            factor = estimate.speedup_by_category[category] / estimate.speedup
            rate = estimate.acceptance_by_category.get(category, estimate.acceptance_rate)
            one = _times(replace(estimate, acceptance_rate=rate), factor, rec.baseline.tokens_per_second)
            scaled.append(replace(one, analytic_speedup=estimate.analytic_speedup * factor))
    return scaled
