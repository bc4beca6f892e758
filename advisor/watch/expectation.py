"""What a recommendation says the counters of its server should be, and where speculation stops to pay.

Break-even is an acceptance rate, accepted / drafted. Where answers were replayed it is that of the explanation: the
same walk with agreement moved. Else it follows from the estimate. A step costs tokens_per_step / speedup passes of the
target: that many tokens a step are needed to be as fast as the target alone. Taking one pass of it for the step that
would have been there anyway, and the rest to grow with what is drafted, each drafted token costs

    x = (tokens_per_step / speedup - 1) / (drafted per step)      drafted per step = (tokens_per_step - 1) / acceptance

passes, and an accepted one saves a pass. So it pays where acceptance is above x, however often something is drafted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from advisor.ranking import setting_of
from advisor.reasons import explain
from advisor.types import Config, Estimate, Evidence, Recommendation

FILE_TO_NAME = "TARGET.gguf"  # of a target that was only named: prompts need its file
BreakEvenFrom = Literal["answers", "step-cost"]


@dataclass(frozen=True)
class Shorter:
    """The same pairing at a draft length: ``step_passes`` is what its step costs, in passes of the target."""

    k: int
    step_passes: float


@dataclass(frozen=True)
class Category:
    name: str
    acceptance_rate: float
    speedup: float | None


@dataclass(frozen=True)
class Expected:
    """The pick of a recommendation as numbers to compare with. ``low_tps`` .. ``high_tps`` is the 80 % interval of its
    speed. ``break_even_acceptance`` is None where nothing says what it is. ``break_even_tokens_per_step`` is
    what a step costs, in passes of the target. ``lengths`` go from short to the own one, () where length alone does not
    decide the cost."""

    config: Config
    label: str
    evidence: Evidence
    target: str
    acceptance_rate: float
    tokens_per_step: float
    tokens_per_second: float
    low_tps: float
    high_tps: float
    baseline_tps: float
    break_even_acceptance: float | None
    break_even_tokens_per_step: float
    break_even_from: BreakEvenFrom
    lengths: tuple[Shorter, ...] = ()
    categories: tuple[Category, ...] = ()

    def break_even_tokens(self, drafted_per_step: float | None) -> float:
        """What a step must give that drafts so many tokens: one, and the price of each. Of the recommended step where
        that is not known."""
        if drafted_per_step is None or self.break_even_acceptance is None:
            return self.break_even_tokens_per_step
        return 1 + self.break_even_acceptance * drafted_per_step

    @property
    def always_drafts(self) -> bool:
        """Whether every step drafts something."""
        return self.config.draft != "" and self.config.p_min == 0 and self.config.n_min == 0


def expected(rec: Recommendation) -> Expected | None:
    """None where the recommendation is not to speculate."""
    best = rec.best
    if best is None or rec.verdict != "speculate":
        return None
    replayed = _replayed_break_even(rec, best)
    return Expected(
        config=best.config,
        label=f"{rec.label_of(best.config)}, {setting_of(best.config)}",
        evidence=best.evidence,
        target=rec.target.path or FILE_TO_NAME,
        acceptance_rate=best.acceptance_rate,
        tokens_per_step=best.tokens_per_step,
        tokens_per_second=best.tokens_per_second,
        low_tps=best.tokens_per_second * best.speedup_low / best.speedup,
        high_tps=best.tokens_per_second * best.speedup_high / best.speedup,
        baseline_tps=rec.baseline.tokens_per_second,
        break_even_acceptance=replayed if replayed is not None else price_of_a_drafted_token(best),
        break_even_tokens_per_step=step_passes(best),
        break_even_from="answers" if replayed is not None else "step-cost",
        lengths=_lengths(rec, best),
        categories=_categories(best),
    )


def step_passes(estimate: Estimate) -> float:
    """What a step costs, in passes of the target."""
    return estimate.tokens_per_step / estimate.speedup


def price_of_a_drafted_token(estimate: Estimate) -> float | None:
    """In passes of the target: the acceptance at which speculation costs what it saves. None where nothing is
    accepted."""
    saved = estimate.tokens_per_step - 1
    if saved <= 0 or estimate.acceptance_rate <= 0:
        return None
    return max(0.0, estimate.acceptance_rate * (step_passes(estimate) - 1) / saved)


def _replayed_break_even(rec: Recommendation, best: Estimate) -> float | None:
    subject = explain(rec).subject
    if subject is None or subject.best.config != best.config or subject.break_even is None:
        return None
    return subject.break_even.acceptance_rate


def _lengths(rec: Recommendation, best: Estimate) -> tuple[Shorter, ...]:
    """Only for drafts of a fixed length is a step's cost that of its length."""
    if not best.config.draft or best.config.p_min > 0:
        return ()
    alike = [e for e in rec.estimates if replace(e.config, k=best.config.k) == best.config]
    known = {e.config.k: Shorter(e.config.k, step_passes(e)) for e in (*alike, best) if e.config.k <= best.config.k}
    return tuple(known[k] for k in sorted(known))


def _categories(best: Estimate) -> tuple[Category, ...]:
    return tuple(
        Category(name, rate, best.speedup_by_category.get(name)) for name, rate in best.acceptance_by_category.items()
    )
