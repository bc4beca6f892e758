"""A recommendation as the answers of one category alone would have it.

Few answers are of one category, so the pick of the whole stays unless they are enough to say otherwise: at least
ENOUGH_ANSWERS, and the 80 % interval of another setting is above that of the pick, or the pick's below 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from advisor.errors import OptionError
from advisor.predict.analytic import SOLE_ANSWER_SD
from advisor.predict.predictor import Z_80, Predictor
from advisor.ranking import answer, setting_of
from advisor.reasons.ground import Ground, correction
from advisor.types import Estimate, Recommendation

ENOUGH_ANSWERS = 4


def narrowed(rec: Recommendation, category: str) -> Recommendation:
    """The recommendation as the answers of one category alone would have it; see above for when its pick is another.
    Real runs correct it as they did the whole; they are not listed again, since they were chosen over all
    categories."""
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
    answers = answers_of(rec, category)
    scaled = _scaled(rec, category, answers)
    estimates = scaled
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
        walked = {estimate.config for estimate in estimates}
        estimates += [one for one in scaled if one.config not in walked]
    best = _pick(rec, estimates, answers)
    found = answer(estimates, rec.candidates)
    ranked = found.ranked
    if best is not None:
        ranked = (best, *(one for one in ranked if one.config != best.config))
    texts = tuple(text for text in rec.answers if text.category == category)
    return replace(
        rec,
        categories=(category,),
        estimates=ranked,
        verdict="do-not-speculate" if best is None else "speculate",
        sentence=f"For {category} alone: {_sentence(rec, best, ranked, answers) if ranked else found.sentence}",
        best=best,
        runner_up=next((one for one in ranked if best and one.config.proposer != best.config.proposer), None),
        traces=kept,
        trials=(),
        answers=texts if all(len(texts) == len(traces) for traces in kept.values()) else (),
    )


def answers_of(rec: Recommendation, category: str) -> int:
    """How many answers of this category there are, where they were not kept: as many as of each other one."""
    replayed = [sum(trace.category == category for trace in traces) for traces in rec.traces.values()]
    return max(replayed, default=0) or rec.measurement.prompts // max(1, len(rec.categories))


def counted_answers(count: int) -> str:
    return f"{count} answer" if count == 1 else f"{count} answers"


def _pick(rec: Recommendation, estimates: Sequence[Estimate], answers: int) -> Estimate | None:
    """What to speculate with in this category, None for the target alone."""
    own = next((one for one in estimates if rec.best is not None and one.config == rec.best.config), rec.best)
    surest = max(estimates, key=lambda one: one.speedup_low, default=None)
    if answers < ENOUGH_ANSWERS or surest is None:
        return own
    if surest.speedup_low > max(1.0, own.speedup_high if own is not None else 1.0):
        return surest
    return None if own is None or own.speedup_high < 1 else own


def _sentence(rec: Recommendation, best: Estimate | None, ranked: Sequence[Estimate], answers: int) -> str:
    shown = best or next((one for one in ranked if rec.best and one.config == rec.best.config), ranked[0])
    verdict = "Do not speculate" if best is None else "Speculate"
    figure = (
        f"{rec.label_of(shown.config)}, {setting_of(shown.config)}, gives {shown.speedup:.2f}x (80 % interval "
        f"{shown.speedup_low:.2f} to {shown.speedup_high:.2f}) on {counted_answers(answers)}"
    )
    stays = (best and best.config) == (rec.best and rec.best.config)
    return f"{verdict}: {figure}{f', {why_the_pick_stays(answers)}' if stays else ''}."


def why_the_pick_stays(answers: int) -> str:
    few = answers < ENOUGH_ANSWERS
    return "too few to choose otherwise than for all texts" if few else "by which no other choice is surely better"


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


def _scaled(rec: Recommendation, category: str, answers: int) -> list[Estimate]:
    """Without answers to walk over: the category's own figure, with the interval of the whole around it, wider by as
    much as so few answers differ from others."""
    widening_variance = SOLE_ANSWER_SD**2 / answers if answers else 0.0
    scaled = []
    for estimate in rec.estimates:
        if category in estimate.speedup_by_category:
            factor = estimate.speedup_by_category[category] / estimate.speedup
            rate = estimate.acceptance_by_category.get(category, estimate.acceptance_rate)
            one = _times(replace(estimate, acceptance_rate=rate), factor, rec.baseline.tokens_per_second)
            one = replace(one, analytic_speedup=estimate.analytic_speedup * factor)
            scaled.append(_widened(one, widening_variance))
    return scaled


def _widened(estimate: Estimate, variance: float) -> Estimate:
    """With this much more variance of log(speedup)."""
    below, above = (
        math.exp(math.hypot(math.log(ratio), Z_80 * math.sqrt(variance)))
        for ratio in (estimate.speedup / estimate.speedup_low, estimate.speedup_high / estimate.speedup)
    )
    return replace(estimate, speedup_low=estimate.speedup / below, speedup_high=estimate.speedup * above)
