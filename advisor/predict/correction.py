"""What real runs teach: a Gaussian process on log(measured / analytic), so that each run corrects its neighbours.

With no run the correction is 0 with the replay rung's own error as its spread. With a few it moves towards what was
seen, most for configs like the ones that ran. The kernel is fixed, not fitted: with under a dozen runs a fitted one
would chase noise. Its scales are the errors seen when replay predictions were compared with real runs (see
docs/decisions/0003-correction.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.predict.analytic import Analytic
from advisor.types import Trial

Floats = npt.NDArray[np.float64]

SHARED_SD = 0.025  # an error common to every config of this target on this host
DRAFT_SD = 0.03  # an error common to every setting of a draft, or of a method: its d(1) is in all of them
OWN_SD = 0.025  # an error that differs between drafts and settings
IN_USE_SD = 0.03  # of each of these more, beside one or two programs that take a core (docs/decisions/0021-in-use.md)
SOLE_RUN_SD = 0.2  # a single run may have been stalled, and none beside it says so
FLOOR_NOISE_SD = 0.01  # two runs of one config never agree better than this
LENGTH_SCALES = (1.0, 0.7, 0.3, 0.3)  # of log draft cost, log k, acceptance rate, p_min
OTHER_DRAFT = 1.0  # and of being another draft: two drafts alike in all four still share only exp(-1) of OWN_SD
ANY, NONE = 1e6, 0.2  # length scales of what does not matter, and of what shares nothing, in the error of a draft
CHEAPEST_DRAFT = 0.003  # of a target pass: where a method without a draft stands on the scale of log draft cost


@dataclass(frozen=True)
class Observation:
    """One real run beside its baseline: log(measured / analytic over the same prompts) and its standard error."""

    features: tuple[float, ...]
    log_ratio: float
    noise_sd: float


def features(analytic: Analytic, proposers: Sequence[str]) -> tuple[float, ...]:
    """Where a config stands: log draft cost, log k, acceptance rate, p_min, a coordinate for each of ``proposers``."""
    config = analytic.config
    which = (float(proposer == config.proposer) for proposer in proposers)
    cost = max(analytic.draft_cost, CHEAPEST_DRAFT)
    return (float(np.log(cost)), float(np.log(config.k)), analytic.acceptance_rate, config.p_min, *which)


def observe(by_prompt: Sequence[float], trial: Trial, where: tuple[float, ...]) -> Observation:
    """Compare a trial with its prediction, prompt by prompt: the same prompts on both sides. ``by_prompt``: predicted
    speedups over answers as long as those of the trial; ``where``: features."""
    pairs = zip(trial.baselines, trial.runs, strict=True)
    measured = np.array([base.token_s / run.token_s for base, run in pairs])
    expected = np.array([by_prompt[i] for i in trial.prompts])
    weights = np.array([max(1, run.tokens - 1) for run in trial.runs], float)
    weights /= weights.sum()
    logs = np.log(measured / expected)
    middle = float(weights @ logs)
    spread = float(np.sqrt(weights @ (logs - middle) ** 2)) if len(logs) > 1 else SOLE_RUN_SD
    return Observation(where, middle, float(np.hypot(FLOOR_NOISE_SD, spread / np.sqrt(len(logs)))))


class Correction:
    """Posterior of the log correction given observations. ``proposers``: how many coordinates of them features have.
    ``doubt_sd``: how much more of each kind of error there is where decodes were timed on a machine in use."""

    def __init__(self, observations: Sequence[Observation], proposers: int, doubt_sd: float = 0.0) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel

        shared, of_draft, own = (sd**2 + doubt_sd**2 for sd in (SHARED_SD, DRAFT_SD, OWN_SD))
        kernel = (
            ConstantKernel(shared)
            + ConstantKernel(of_draft) * RBF((*[ANY] * len(LENGTH_SCALES), *[NONE] * proposers))
            + ConstantKernel(own) * RBF((*LENGTH_SCALES, *[OTHER_DRAFT] * proposers))
        )
        noise = np.array([o.noise_sd**2 for o in observations]) if observations else 1e-10
        self._process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        if observations:
            self._process.fit([o.features for o in observations], [o.log_ratio for o in observations])

    def at(self, points: Sequence[tuple[float, ...]]) -> tuple[Floats, Floats]:
        """Mean, shape (points,), and covariance, shape (points, points), of the log correction."""
        mean, covariance = self._process.predict(np.array(points), return_cov=True)
        return np.asarray(mean), np.asarray(covariance)
