"""The analytic speedup of a config: counts of decodes from the replayed answers, prices from the measured curves.

    speedup = sum over answers of (tokens * t(1)) / sum over answers of (c * d(1) + t(n + 1) + d(n + 1), every step)

n-gram methods have no draft: every d is 0.

This is the exact finite form of tokens per step * t(1) / E[T_step] for the walked answers; no acceptance rate is
assumed constant or independent (compare Leviathan et al. 2023, arXiv 2211.17192, eq. 1).
Uncertainty: answers are drawn again with replacement (bootstrap over prompts), curves over their rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.acceptance.walk import Acceptance, Walk, pooled
from advisor.cost.curves import Reference, bare_prices, prices
from advisor.cost.step_law import StepLaw
from advisor.types import Config, CostCurve

Floats = npt.NDArray[np.float64]

REPLICATES = 200
SOLE_ANSWER_SD = 0.25  # spread of log(speedup) between answers, seen over the built-in prompts


@dataclass(frozen=True)
class Analytic:
    """One config's prediction before any speculative run.

    ``walks`` and ``by_prompt`` (speedups) have one entry an answer, ``walk`` is their sum. ``log_draws`` are bootstrap
    draws of log(speedup), shape (REPLICATES,); draw r of two configs uses the same answers and target rounds, so
    their difference is a paired one. ``draft_cost`` is d(1) / t(1), 0 without a draft.
    """

    config: Config
    walks: tuple[Walk, ...]
    walk: Walk
    speedup: float
    by_prompt: tuple[float, ...]
    log_draws: Floats
    draft_cost: float

    @property
    def log_sd(self) -> float:
        return float(np.std(self.log_draws))

    @property
    def acceptance_rate(self) -> float:
        return acceptance_rate(self.walk)


def acceptance_rate(walk: Walk) -> float:
    """accepted / drafted, 0 where nothing was drafted."""
    return walk.accepted / walk.drafted if walk.drafted else 0.0


class AnalyticModel:
    """Predictions for every config of one draft, or of the methods that need none (no ``draft_curve``: the law makes
    no draft decodes). ``acceptance`` and the curves are those of one target."""

    def __init__(
        self,
        acceptance: Acceptance,
        target_curve: CostCurve,
        draft_curve: CostCurve | None,
        law: StepLaw,
        unit: Reference,
        *,
        k_max: int,
        seed: int,
    ) -> None:
        self._acceptance, self._law = acceptance, law
        self._cut: dict[int, Acceptance] = {}
        self._b_max = k_max + 1
        rng = np.random.default_rng(seed)
        answers = len(acceptance.categories)
        # Drawn in this order so that models of several drafts share answers and target rounds draw by draw.
        self._weights = rng.multinomial(answers, np.full(answers, 1 / answers), size=REPLICATES)
        self._standard = rng.standard_normal(REPLICATES)
        self._target = _Price(prices(target_curve, "target", unit, self._b_max), rng)
        drafting = np.zeros((1, self._b_max + 1))
        if draft_curve is not None:
            drafting = prices(draft_curve, "draft", unit, self._b_max)
        self._drafting = _Price(drafting, rng)
        if draft_curve is not None:
            bare = _Price(bare_prices(draft_curve)[:, None], rng)
            self._target.middle[1], self._target.drawn[:, 1] = bare.middle[0], bare.drawn[:, 0]

    def speedups_over(self, config: Config, max_tokens: int) -> tuple[float, ...]:
        """By answer, over the first ``max_tokens`` tokens of each: what a run as short has to be compared with."""
        if max_tokens not in self._cut:
            self._cut[max_tokens] = self._acceptance.cut(max_tokens)
        walks = self._cut[max_tokens].walks(config)
        target, draft = self._decodes(walks)
        seconds = target @ self._target.middle + draft @ self._drafting.middle
        return tuple((np.array([walk.tokens for walk in walks], float) / seconds).tolist())

    def _decodes(self, walks: Sequence[Walk]) -> tuple[Floats, Floats]:
        """How often target and draft decode n tokens at once, shape (answers, b_max + 1) each."""
        counts = [self._law.counts(walk.draft_calls, walk.verified, self._b_max) for walk in walks]
        return np.vstack([count for count, _ in counts]), np.vstack([count for _, count in counts])

    def predict(self, config: Config) -> Analytic:
        walks = self._acceptance.walks(config)
        target, draft = self._decodes(walks)
        tokens = np.array([walk.tokens for walk in walks], float)
        seconds = target @ self._target.middle + draft @ self._drafting.middle
        again = np.einsum("rp,pb,rb->r", self._weights, target, self._target.drawn)
        again += np.einsum("rp,pb,rb->r", self._weights, draft, self._drafting.drawn)
        drawn = (self._weights @ tokens) / again
        return Analytic(
            config=config,
            walks=tuple(walks),
            walk=pooled(walks),
            speedup=float(tokens.sum() / seconds.sum()),
            by_prompt=tuple((tokens / seconds).tolist()),
            log_draws=self._widened(np.log(drawn)),
            draft_cost=float(self._drafting.middle[1]),
        )

    def _widened(self, log_draws: Floats) -> Floats:
        """Draws spread to what so few answers justify: n / (n - 1) for the variance, Student's t for the quantile.

        One answer says nothing about others; SOLE_ANSWER_SD stands in.
        """
        n = len(self._acceptance.categories)
        if n < 2:
            return np.asarray(log_draws.mean() + SOLE_ANSWER_SD * self._standard)
        middle = log_draws.mean()
        return np.asarray(middle + (log_draws - middle) * np.sqrt(n / (n - 1)) * student_factor(n - 1))


def student_factor(freedom: int) -> float:
    """t_0.9(freedom) / z_0.9 by the Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5), within 3 % from 2 up."""
    z = 1.2816
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return (z + first / freedom + second / freedom**2 + third / freedom**3) / z


class _Price:
    """A curve in target passes: ``middle``, shape (b_max + 1,), and bootstrap ``drawn``, (REPLICATES, b_max + 1)."""

    def __init__(self, table: Floats, rng: np.random.Generator) -> None:
        self.middle: Floats = np.median(table, axis=0)
        picks = rng.integers(0, len(table), size=(REPLICATES, len(table)))
        self.drawn: Floats = np.median(table[picks], axis=1)
