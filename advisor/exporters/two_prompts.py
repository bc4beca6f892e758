"""What a few prompts may show of a recommendation that holds for many.

A recommendation is about the mean over its texts; a few prompts differ from that by as much as prompts differ among
each other. So a figure of n prompts is expected within

    centre +- t * sqrt(doubt^2 + spread^2 / n)

where ``doubt`` is that of the recommendation, ``spread`` the standard deviation between prompts and t Student's
quantile for 95 %: with 80 %, one check in five of a server as it should be would fail. The centre is that of the kinds
of text that are asked, where the recommendation tells them apart. The doubt of the speed is in its 80 % interval.
Acceptance has no interval in a recommendation: its doubt is spread / sqrt(prompts measured), and where nothing was
measured the one that would explain the doubt of the speed, which rises with tokens per step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from advisor.acceptance.walk import DraftAcceptance
from advisor.predict.analytic import SOLE_ANSWER_SD, AnalyticModel, acceptance_rate
from advisor.predict.predictor import Z_80
from advisor.reasons.ground import Ground
from advisor.types import Estimate, Prompt, Recommendation

Place = Literal["inside", "below", "above"]
SURE = 0.95
ENOUGH = 4  # figures of single prompts, or of kinds of text, from which a spread is taken
RULE_ACCEPTANCE_SD = 0.15  # between the built-in prompts 0.07 to 0.17, over the drafts of the demo
LEAST_DRIFT = 0.05  # of a machine, between the measurement and now
SAYS_NOTHING = 0.8  # width of an interval of acceptance that no server would fall out of


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def place(self, value: float) -> Place:
        return "below" if value < self.low else "above" if value > self.high else "inside"


@dataclass(frozen=True)
class Spread:
    """Standard deviations between prompts: of accepted / drafted, and of log(speed). ``figures``: of how many they are,
    0 for a rule. ``source``: where they are from, for people."""

    acceptance_sd: float
    log_speed_sd: float
    figures: int
    source: str


@dataclass(frozen=True)
class Expected:
    """What is expected of these prompts with 95 %. ``acceptance`` is None where prompts differ so much in it that these
    say nothing, as with n-gram methods, which find much to copy in one text and nothing in another."""

    acceptance_rate: float
    acceptance: Interval | None
    tokens_per_second: Interval
    spread: Spread


def expected(rec: Recommendation, best: Estimate, prompts: Sequence[Prompt]) -> Expected:
    """``best`` is the pick of the recommendation; at least one prompt."""
    spread = spread_of(rec, best)
    rate, half = _acceptance_of(best, prompts), _half_width_of_acceptance(rec, best, prompts, spread)
    interval = Interval(max(0.0, rate - half), min(1.0, rate + half))
    judged = interval if interval.high - interval.low < SAYS_NOTHING else None
    return Expected(rate, judged, _speed(rec, best, prompts, spread), spread)


def _half_width_of_acceptance(rec: Recommendation, best: Estimate, prompts: Sequence[Prompt], spread: Spread) -> float:
    seen = spread.figures or rec.measurement.prompts
    if best.evidence == "prior" or seen == 0:
        doubt = _acceptance_for(best) * _log_doubt(best)
    else:
        doubt = spread.acceptance_sd / math.sqrt(seen)
    return _quantile(spread) * math.sqrt(doubt**2 + spread.acceptance_sd**2 / len(prompts))


def _speed(rec: Recommendation, best: Estimate, prompts: Sequence[Prompt], spread: Spread) -> Interval:
    drift = max(rec.measurement.anchor_drift, LEAST_DRIFT)
    log_sd = math.sqrt(_log_doubt(best) ** 2 + drift**2 + spread.log_speed_sd**2 / len(prompts))
    factor = math.exp(_quantile(spread) * log_sd)
    speed = rec.baseline.tokens_per_second * _speedup_of(best, prompts)
    return Interval(speed / factor, speed * factor)


def spread_of(rec: Recommendation, best: Estimate) -> Spread:
    """From the replayed answers; else from the figures by kind of text; else by a rule."""
    return _of_answers(rec, best) or _of_categories(best) or _by_rule()


def _of_answers(rec: Recommendation, best: Estimate) -> Spread | None:
    draft, ground = best.config.draft, Ground.of(rec)
    traces, curve = rec.traces.get(draft, ()), rec.draft_curves.get(draft)
    if len(traces) < ENOUGH or curve is None or ground.unit is None or draft not in ground.prices:
        return None
    found = AnalyticModel(
        DraftAcceptance(traces, max_tokens=ground.max_tokens),
        rec.target_curve,
        curve,
        ground.law,
        ground.unit,
        k_max=rec.settings.k_max,
        seed=0,
    ).predict(best.config)
    rates = [acceptance_rate(walk) for walk in found.walks if walk.drafted]
    return _spread(rates, found.by_prompt, f"{len(traces)} replayed answers")


def _of_categories(best: Estimate) -> Spread | None:
    rates, speedups = best.acceptance_by_category, best.speedup_by_category
    return _spread(list(rates.values()), list(speedups.values()), f"{len(speedups)} kinds of text")


def _by_rule() -> Spread:
    return Spread(RULE_ACCEPTANCE_SD, SOLE_ANSWER_SD, 0, "the built-in prompts, by a rule")


def _spread(rates: Sequence[float], speedups: Sequence[float], source: str) -> Spread | None:
    """None where there are too few figures to tell."""
    logs = [math.log(speedup) for speedup in speedups if speedup > 0]
    figures = min(len(rates), len(logs))
    return Spread(statistics.stdev(rates), statistics.stdev(logs), figures, source) if figures >= ENOUGH else None


def _log_doubt(best: Estimate) -> float:
    """The standard deviation of log(speed) that its 80 % interval stands for."""
    return math.log(best.speedup_high / best.speedup_low) / (2 * Z_80)


def _acceptance_for(best: Estimate) -> float:
    """How much acceptance must change for log(speed) to change by one: tokens per step are 1 + acceptance * drafted."""
    gained = best.tokens_per_step - 1
    return best.acceptance_rate * best.tokens_per_step / gained if gained > 0 else 0.0


def _acceptance_of(best: Estimate, prompts: Sequence[Prompt]) -> float:
    known = best.acceptance_by_category
    asked = [known[prompt.category] for prompt in prompts if prompt.category in known]
    return statistics.fmean(asked) if asked and len(asked) == len(prompts) else best.acceptance_rate


def _speedup_of(best: Estimate, prompts: Sequence[Prompt]) -> float:
    """Times add up, rates do not: the harmonic mean."""
    known = best.speedup_by_category
    asked = [known[prompt.category] for prompt in prompts if known.get(prompt.category, 0) > 0]
    return statistics.harmonic_mean(asked) if asked and len(asked) == len(prompts) else best.speedup


def _quantile(spread: Spread) -> float:
    if not spread.figures:
        return statistics.NormalDist().inv_cdf((1 + SURE) / 2)
    from scipy.stats import t  # lazily: it takes half a second

    return float(t.ppf((1 + SURE) / 2, spread.figures - 1))
