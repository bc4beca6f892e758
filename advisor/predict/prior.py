"""The speedup before anything is measured: an acceptance prior over a cost prior, and how far both can be trusted.

    log(speedup) = log(tokens per step) + log(t(1)) - log(E[T_step])

All coefficients of both halves are one vector with one normal posterior (advisor.predict.fit). A coefficient the
posterior does not know, such as the skill of an unseen family or the kernels of an unseen backend, keeps the spread
that was assumed for its kind, so an answer far from the evidence has a wide interval. Partial pooling is the same
rule: families are deviations from a common line, kernels from their backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.acceptance.prior import Chain, ExpectedSteps, expected_steps
from advisor.cost.prior import EXPERTS, EXPERTS_FIRST, Machine, Pass, coefficient_names, passes
from advisor.cost.step_law import CURRENT, StepLaw
from advisor.predict.belief import PERSISTENCE, SPREAD, Posterior
from advisor.predict.terms import Case, Side, confidence_terms, skill_terms

Floats = npt.NDArray[np.float64]

STEP = 1e-3  # of the numerical derivatives
TRIED_K, TRIED_P_MIN, UNTRIED_SD = 16, 0.75, 0.06
DECODE_SD = 0.10  # how far decode speeds of one machine and quantization differ between builds
UNTRIED_KERNEL_SD = 0.1  # a draft in a quantization that no measured draft had: files, kernels and skill may differ
CHECKPOINT_SD = 0.15  # copying the state of a recurrent target is not priced, and no table has such a pair
Z_80 = 1.2816


class Design:
    """Cases of one step law and temperature as matrices over the coefficients: many pairs are priced at once."""

    def __init__(self, cases: Sequence[Case], law: StepLaw, names: Sequence[str] = ()) -> None:
        self._law = law
        self._temperature = cases[0].temperature if cases else 0.0
        skills, confidences = [skill_terms(case) for case in cases], [confidence_terms(case) for case in cases]
        targets = [(case.machine, case.target.load) for case in cases]
        drafts = [(case.draft_machine or case.machine, case.draft.load) for case in cases]
        costs = {name for side in (targets, drafts) for one in side for name in coefficient_names(*one)}
        in_text = {name for terms in (*skills, *confidences) for name in terms}
        self.names = tuple(sorted({SPREAD, PERSISTENCE, EXPERTS, EXPERTS_FIRST, *names, *costs, *in_text}))
        self.index = {name: i for i, name in enumerate(self.names)}
        self.target: Pass = passes(targets, self.index)
        self.draft: Pass = passes(drafts, self.index)
        self._skill, self._confidence = self._matrix(skills), self._matrix(confidences)
        self._baseline_s = np.array([np.nan if case.baseline_s is None else case.baseline_s for case in cases])
        self._restores = np.array([case.target.is_recurrent for case in cases], float)
        self._shares_machine = np.array([case.draft_machine in (None, case.machine) for case in cases], bool)
        self._chain = [self.index[name] for name in (SPREAD, PERSISTENCE)]
        self._cost = sorted(self.index[name] for name in costs)

    def _matrix(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        matrix = np.zeros((len(rows), len(self.names)))
        for row, terms in enumerate(rows):
            for name, value in terms.items():
                matrix[row, self.index[name]] = value
        return matrix

    def steps(self, values: Floats, ks: tuple[int, ...], p_min: float) -> ExpectedSteps:
        return self._steps_at(values, self._skill @ values, self._confidence @ values, ks, p_min)

    def _steps_at(
        self,
        values: Floats,
        agreement: Floats,
        confidence: Floats,
        ks: tuple[int, ...],
        p_min: float,
    ) -> ExpectedSteps:
        spread, persistence = (float(values[i]) for i in self._chain)
        chain = Chain(float(np.exp(spread)), float(np.tanh(persistence)))
        return expected_steps(
            agreement,
            confidence,
            chain,
            ks,
            p_min,
            temperature=self._temperature,
            keeps_unsure=self._law.keeps_unsure,
        )

    def target_s(self, values: Floats, b_max: int) -> Floats:
        """t(b), shape (cases, b_max). A known baseline replaces t(1); what more rows add stays as priced."""
        seconds = self.target.seconds(values, b_max)
        shift = np.where(np.isnan(self._baseline_s), 0.0, self._baseline_s - seconds[:, 0])
        return np.asarray(seconds + shift[:, None])

    def draft_s(self, values: Floats, b_max: int) -> Floats:
        """d(b), shape (cases, b_max). Where a baseline is known the machine's speed is the same for both models."""
        seconds = self.draft.seconds(values, b_max)
        own = self.target.seconds(values, 1)[:, 0]
        known = self._shares_machine & ~np.isnan(self._baseline_s)
        return np.asarray(seconds * np.where(known, self._baseline_s / own, 1.0)[:, None])

    def log_speedup(self, values: Floats, steps: ExpectedSteps) -> Floats:
        """Shape (cases, ks)."""
        b_max = max(steps.ks) + 2
        target, draft = self.target_s(values, b_max), self.draft_s(values, b_max)
        verified = np.pad(steps.drafted, ((0, 0), (0, 0), (0, 1)))
        # A refused draft restores a recurrent target and decodes again what was accepted and the token behind it, which
        # gives one token more (llama.cpp tools/server/server-context.cpp).
        again = self._restores[:, None, None] * steps.refused
        verified[..., 1:] += again
        tokens = steps.tokens_per_step + again.sum(-1)
        step_s = np.einsum("ckn,cn->ck", verified, target) + steps.draft_calls() * draft[:, :1]
        if self._law.reevaluates:
            step_s += np.einsum("ckn,cn->ck", verified, draft)
        return np.asarray(np.log(tokens * target[:, :1] / step_s))

    def gradient(self, values: Floats, ks: tuple[int, ...], p_min: float) -> tuple[Floats, Floats]:
        """Derivatives of log(speedup) and of the acceptance rate, both of shape (cases, ks, names)."""
        steps = self.steps(values, ks, p_min)
        here, rate = self.log_speedup(values, steps), steps.acceptance_rate
        speed = np.zeros((*here.shape, len(values)))
        rates = np.zeros_like(speed)
        for column in (*self._chain, *self._cost):
            moved, other = values.copy(), steps
            moved[column] += STEP
            if column in self._chain:
                other = self.steps(moved, ks, p_min)
                rates[..., column] = (other.acceptance_rate - rate) / STEP
            speed[..., column] = (self.log_speedup(moved, other) - here) / STEP
        agreement, confidence = self._skill @ values, self._confidence @ values
        for terms, shift in ((self._skill, (STEP, 0.0)), (self._confidence, (0.0, STEP))):
            other = self._steps_at(values, agreement + shift[0], confidence + shift[1], ks, p_min)
            by_speed = (self.log_speedup(values, other) - here) / STEP
            speed += by_speed[..., None] * terms[:, None, :]
            rates += ((other.acceptance_rate - rate) / STEP)[..., None] * terms[:, None, :]
        return speed, rates


@dataclass(frozen=True)
class PriorSpeedup:
    """One p_min, arrays of shape (cases, ks). ``log_sd``: standard deviation of log(speedup), zeros where not asked."""

    ks: tuple[int, ...]
    speedup: Floats
    log_sd: Floats
    acceptance_rate: Floats
    tokens_per_step: Floats


def predict(
    cases: Sequence[Case],
    posterior: Posterior,
    ks: tuple[int, ...],
    p_min: float,
    law: StepLaw,
    *,
    with_sd: bool = True,
) -> PriorSpeedup:
    """All cases at every k of ``ks`` (ascending). Without the spread it is some ten times as fast."""
    design = Design(cases, law)
    belief = posterior.over(design.names)
    steps = design.steps(belief.mean, ks, p_min)
    log_speedup = design.log_speedup(belief.mean, steps)
    log_sd = np.zeros_like(log_speedup)
    if with_sd:
        slopes, _ = design.gradient(belief.mean, ks, p_min)
        variance = np.einsum("ckn,ckn->ck", slopes @ belief.covariance, slopes)
        untried = np.hypot(_untried_sd(ks, p_min), _untried_pair_sd(cases, posterior)[:, None])
        log_sd = np.sqrt(variance + belief.row_sd**2 + untried**2)
    return PriorSpeedup(ks, np.exp(log_speedup), log_sd, steps.acceptance_rate, steps.tokens_per_step)


def _untried_sd(ks: tuple[int, ...], p_min: float) -> Floats:
    """How far the model itself may be off at settings that no table has: they all ran at one k and p_min."""
    tried = np.array([k == TRIED_K and p_min == TRIED_P_MIN for k in ks])
    return np.where(tried, 0.0, UNTRIED_SD)


def _untried_pair_sd(cases: Sequence[Case], posterior: Posterior) -> Floats:
    """How far the model itself may be off for kinds of pairs that no table has, shape (cases,)."""
    restored = [CHECKPOINT_SD if case.target.is_recurrent else 0.0 for case in cases]
    tried = [case.draft.load.kernel in posterior.draft_kernels for case in cases]
    return np.hypot(restored, np.where(tried, 0.0, UNTRIED_KERNEL_SD))


def token_seconds(machine: Machine, side: Side, posterior: Posterior) -> float:
    """t(1) of a model by itself."""
    design = Design([Case(machine, side, side)], CURRENT)
    return float(design.target_s(posterior.over(design.names).mean, 1)[0, 0])


def token_log_sd(machine: Machine, side: Side, posterior: Posterior) -> float:
    """Standard deviation of log(t(1))."""
    design = Design([Case(machine, side, side)], CURRENT)
    belief = posterior.over(design.names)

    def log_seconds(values: Floats) -> float:
        return float(np.log(design.target_s(values, 1)[0, 0]))

    here = log_seconds(belief.mean)
    steps = STEP * np.eye(len(belief.mean))
    slopes = np.array([(log_seconds(belief.mean + step) - here) / STEP for step in steps])
    return float(np.sqrt(slopes @ belief.covariance @ slopes + DECODE_SD**2))
