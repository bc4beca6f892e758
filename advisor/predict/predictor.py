"""Every config of every surviving draft and of the methods without one, predicted; each real run corrects the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.acceptance.ngram import NgramAcceptance, ngram_configs
from advisor.acceptance.replay import P_MIN_GRID
from advisor.acceptance.walk import DraftAcceptance, pooled
from advisor.cost.curves import reference
from advisor.cost.step_law import NO_DRAFT, StepLaw
from advisor.ngram import METHODS
from advisor.predict.analytic import Analytic, AnalyticModel, acceptance_rate
from advisor.predict.correction import DRAFT_SD, OWN_SD, Correction, features, observe
from advisor.predict.steady import steadied
from advisor.types import Config, CostCurve, Estimate, Trace, Trial

Floats = npt.NDArray[np.float64]

Z_80 = 1.2816  # half-width of an 80 % interval in standard deviations


def k_grid(k_max: int) -> tuple[int, ...]:
    """Every draft length up to 8, then every second: near the optimum the curve is flat, kernels switch below 9."""
    return tuple(k for k in range(1, k_max + 1) if k <= 8 or k % 2 == 0 or k == k_max)


@dataclass(frozen=True)
class Belief:
    """What is believed of all configs together: the mean of log(speedup), shape (configs,), bootstrap draws around
    it, shape (configs, replicates), and the covariance of the correction, shape (configs, configs)."""

    configs: tuple[Config, ...]
    log_mean: Floats
    log_draws: Floats
    correction_covariance: Floats
    measured: frozenset[Config]

    def log_sd(self) -> Floats:
        """Standard deviation of log(speedup), shape (configs,)."""
        return np.asarray(np.sqrt(np.diag(self.correction_covariance).clip(0) + self.log_draws.var(axis=1)))

    def log_sd_of_difference(self, index: int) -> Floats:
        """Standard deviation of log(speedup of each) - log(speedup of config ``index``), shape (configs,)."""
        variance = np.diag(self.correction_covariance)
        correction = variance + variance[index] - 2 * self.correction_covariance[index]
        paired = (self.log_draws - self.log_draws[index]).var(axis=1)
        return np.asarray(np.sqrt(correction.clip(0) + paired))


class Predictor:
    """``curves`` and ``traces`` are keyed by the draft's content hash; a draft needs both. ``ngram``: the answers as
    the methods without a draft see them, None where those do not compete. ``doubt_sd`` as in Correction.
    ``guessed``: drafts whose curve is, and "" where the target's is."""

    def __init__(
        self,
        traces: Mapping[str, Sequence[Trace]],
        target_curve: CostCurve,
        draft_curves: Mapping[str, CostCurve],
        law: StepLaw,
        *,
        k_max: int,
        max_tokens: int,
        ngram: NgramAcceptance | None = None,
        doubt_sd: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.analytics: dict[Config, Analytic] = {}
        curves = {"": target_curve, **draft_curves}
        self.guessed = frozenset(draft for draft, curve in curves.items() if curve.guessed)
        self._models: dict[str, AnalyticModel] = {}
        self._doubt_sd = doubt_sd
        self._categories: tuple[str, ...] = ()
        unit = reference([target_curve], list(draft_curves.values()))
        for draft, curve in draft_curves.items():
            acceptance = DraftAcceptance(traces[draft], max_tokens=max_tokens)
            self._categories = max(self._categories, acceptance.categories, key=len)
            model = AnalyticModel(acceptance, target_curve, curve, law, unit, k_max=k_max, seed=seed)
            self._models[draft] = model
            for k in k_grid(k_max):
                for p_min in P_MIN_GRID:
                    config = Config(draft, k, p_min)
                    self.analytics[config] = model.predict(config)
                if all(trace.chance for trace in traces[draft]):
                    sampled = Config(draft, k, draft_sampling="probabilistic")
                    self.analytics[sampled] = model.predict(sampled)
        if ngram is not None:
            self._categories = ngram.categories
            model = AnalyticModel(ngram, target_curve, None, NO_DRAFT, unit, k_max=k_max, seed=seed)
            self._models |= dict.fromkeys(METHODS, model)
            found = [model.predict(config) for config in ngram_configs(k_max)]
            self.analytics |= {one.config: one for one in found if one.walk.drafted}  # the others never do anything

    def able_to_win(self) -> list[str]:
        """Drafts one of whose settings may be faster than the best one of all, the most promising first: where the
        upper end of the difference, over the same answers, is above 0."""
        configs, log_mean, log_draws = self._priced()
        leader = int(np.argmax(log_mean))
        paired = (log_draws - log_draws[leader]).var(axis=1)
        upper = log_mean - log_mean[leader] + Z_80 * np.sqrt(paired + 2 * (DRAFT_SD**2 + OWN_SD**2 + self._doubt_sd**2))
        best: dict[str, float] = {}
        for config, value in zip(configs, upper.tolist(), strict=True):
            if config.draft:
                best[config.draft] = max(value, best.get(config.draft, -np.inf))
        return sorted((draft for draft, value in best.items() if value >= 0), key=lambda draft: -best[draft])

    def _priced(self) -> tuple[tuple[Config, ...], Floats, Floats]:
        """Every config, the logarithm of its speedup, and bootstrap draws of that."""
        analytics = self.analytics.values()
        log_mean = np.log([analytic.speedup for analytic in analytics])
        return tuple(self.analytics), log_mean, np.vstack([analytic.log_draws for analytic in analytics])

    def forget(self, proposer: str) -> None:
        """Drop a draft, or a method, whose engine failed."""
        self.analytics = {config: a for config, a in self.analytics.items() if config.proposer != proposer}

    def believe(self, trials: Iterable[Trial]) -> Belief:
        """The belief after these real runs. Raises ValueError when no config is left."""
        known = [trial for trial in trials if trial.config in self.analytics and trial.runs]
        measured = {trial.config: trial for trial in steadied(known)}
        configs, log_mean, log_draws = self._priced()
        proposers = sorted({config.proposer for config in self.analytics})
        where = {config: features(analytic, proposers) for config, analytic in self.analytics.items()}
        seen = [observe(self._expected(trial), trial, where[config]) for config, trial in measured.items()]
        mean, covariance = Correction(seen, len(proposers), self._doubt_sd).at(list(where.values()))
        return Belief(
            configs=configs,
            log_mean=log_mean + mean,
            log_draws=log_draws,
            correction_covariance=covariance,
            measured=frozenset(measured),
        )

    def _expected(self, trial: Trial) -> Sequence[float]:
        """Speedups by prompt over answers as long as the trial's: real runs are shorter than what was replayed. A
        prompt whose answer was not replayed in time is expected to be like the others."""
        analytic = self.analytics[trial.config]
        written = max(run.tokens for run in trial.baselines)
        replayed = [i for i in trial.prompts if i < len(analytic.walks)]
        by_prompt: Sequence[float] = analytic.by_prompt
        if any(analytic.walks[i].tokens >= written for i in replayed):
            by_prompt = self._models[trial.config.proposer].speedups_over(trial.config, written)
        missing = 1 + max(trial.prompts) - len(by_prompt)
        return [*by_prompt, *[analytic.speedup] * missing]

    def estimates(self, trials: Iterable[Trial], baseline_tps: float) -> list[Estimate]:
        """One estimate a config, in no particular order."""
        if not self.analytics:
            return []
        belief = self.believe(trials)
        beliefs = zip(belief.configs, belief.log_mean.tolist(), belief.log_sd().tolist(), strict=True)
        return [
            self._estimate(self.analytics[config], log_mean, log_sd, config in belief.measured, baseline_tps)
            for config, log_mean, log_sd in beliefs
        ]

    def _estimate(
        self, analytic: Analytic, log_mean: float, log_sd: float, is_measured: bool, baseline_tps: float
    ) -> Estimate:
        speedup, half_width = float(np.exp(log_mean)), float(np.exp(Z_80 * log_sd))
        factor = speedup / analytic.speedup
        walk = analytic.walk
        return Estimate(
            config=analytic.config,
            acceptance_rate=analytic.acceptance_rate,
            tokens_per_step=walk.tokens / walk.steps if walk.steps else 1.0,
            speedup=speedup,
            speedup_low=speedup / half_width,
            speedup_high=speedup * half_width,
            tokens_per_second=baseline_tps * speedup,
            evidence="measured" if is_measured else "replay",
            analytic_speedup=analytic.speedup,
            acceptance_by_category=self._by_category(
                len(analytic.walks), lambda chosen: acceptance_rate(pooled([analytic.walks[i] for i in chosen]))
            ),
            speedup_by_category=self._by_category(
                len(analytic.walks), lambda chosen: factor * _harmonic_mean([analytic.by_prompt[i] for i in chosen])
            ),
        )

    def _by_category(self, answers: int, of: Callable[[list[int]], float]) -> dict[str, float]:
        """Of the first ``answers`` answers."""
        groups: dict[str, list[int]] = {}
        for index, category in enumerate(self._categories[:answers]):
            groups.setdefault(category, []).append(index)
        return {category: of(chosen) for category, chosen in groups.items()}


def _harmonic_mean(speedups: Sequence[float]) -> float:
    """The speedup of answers of equal length, one after the other: times add up, rates do not."""
    return len(speedups) / sum(1 / speedup for speedup in speedups)
