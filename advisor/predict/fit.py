"""Fit the priors: one non-linear least squares over all evidence, with the assumed spreads as its first guess.

Residuals, each over its noise: log of decode seconds, log of verify ratios, log of speedups, acceptance rates. The
posterior is the normal one at the optimum: mean, and the inverse of the residuals' curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from advisor.cost.prior import EXPERTS, EXPERTS_FIRST, coefficient_names, passes
from advisor.errors import FileProblem
from advisor.predict.belief import OTHER_HOST, Posterior, assumed
from advisor.predict.evidence import DecodeRow, Evidence, PairRow
from advisor.predict.prior import DECODE_SD, Design

Floats = npt.NDArray[np.float64]

BASELINE_SD = 0.03  # of one build
VERIFY_SD = 0.12
SPEEDUP_SD, ACCEPTANCE_SD = 0.03, 0.05
STEP = 1e-4
PASSING = ("skill/text/", "row/run/", f"efficiency/host/{OTHER_HOST}", f"row/host/{OTHER_HOST}")
UNMOVED = 0.02  # of the assumed spread
EARLIER_ROWS = 20


def fit(evidence: Evidence, *, start: Posterior | None = None) -> Posterior:
    """``start``: a posterior to go on from, whose evidence must not be given again. FileProblem without any row."""
    from scipy.optimize import least_squares

    if not (evidence.decodes or evidence.verifies or evidence.pairs):
        raise FileProblem("There is nothing to fit the priors on.", fix="Give draftbench results with pairs in them.")
    problem = _Problem(evidence, start)
    found = least_squares(
        problem.residuals, problem.mean, jac=problem.jacobian, method="trf", max_nfev=60, x_scale="jac"
    )
    slopes = problem.jacobian(found.x)
    covariance = np.asarray(np.linalg.inv(slopes.T @ slopes), np.float64)
    strays = problem.speedup_residuals(found.x)
    row_sd = _row_sd(strays, start)
    earlier = start.provenance if start else ()
    return Posterior(problem.names, found.x, covariance, row_sd, (*earlier, *evidence.provenance))


def _row_sd(strays: Floats, start: Posterior | None) -> float:
    """The earlier value counts as much as EARLIER_ROWS rows."""
    first = start.row_sd if start else SPEEDUP_SD
    return float(np.sqrt((EARLIER_ROWS * first**2 + np.sum(strays**2)) / (EARLIER_ROWS + strays.size)))


class _Problem:
    """``names`` are all coefficients that any row touches; the first guess is a normal with ``mean``."""

    def __init__(self, evidence: Evidence, start: Posterior | None) -> None:
        self._groups = _grouped(evidence.pairs)
        designs = [Design([pair.case for pair in pairs], pairs[0].law) for pairs in self._groups]
        names = {
            EXPERTS,
            EXPERTS_FIRST,
            *(start.names if start else ()),
            *(name for design in designs for name in design.names),
        }
        loads = [(row.machine, row.load) for row in evidence.decodes]
        loads += [(row.machine, row.load) for row in evidence.verifies]
        names.update(name for one in loads for name in coefficient_names(*one))
        self.names = tuple(sorted(names))
        self._designs = [Design([pair.case for pair in pairs], pairs[0].law, self.names) for pairs in self._groups]
        index = {name: i for i, name in enumerate(self.names)}
        self._decodes, self._verifies = evidence.decodes, evidence.verifies
        self._decode_pass = passes([(row.machine, row.load) for row in evidence.decodes], index)
        self._verify_pass = passes([(row.machine, row.load) for row in evidence.verifies], index)
        first = (start or Posterior((), np.zeros(0), np.zeros((0, 0)), 0.0)).over(self.names)
        self.mean = first.mean
        self._whitening = np.linalg.cholesky(np.linalg.inv(first.covariance)).T

    def residuals(self, values: Floats) -> Floats:
        parts = [self._whitening @ (values - self.mean), self._cost_residuals(values)]
        for design, pairs in zip(self._designs, self._groups, strict=True):
            parts += self._pair_residuals(design, pairs, values)
        return np.concatenate(parts)

    def jacobian(self, values: Floats) -> Floats:
        parts = [self._whitening, self._cost_slopes(values)]
        for design, pairs in zip(self._designs, self._groups, strict=True):
            first = pairs[0]
            speed, rates = design.gradient(values, (first.k,), first.p_min)
            seen = np.array([pair.acceptance_rate is not None for pair in pairs], float)
            parts += [speed[:, 0] / _speedup_sd(pairs)[:, None], seen[:, None] * rates[:, 0] / ACCEPTANCE_SD]
        return np.concatenate(parts)

    def speedup_residuals(self, values: Floats) -> Floats:
        """log(predicted / measured) of all pairs."""
        parts = [
            self._pair_residuals(design, pairs, values)[0] * SPEEDUP_SD  # with noise of its own a row counts less
            for design, pairs in zip(self._designs, self._groups, strict=True)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _pair_residuals(self, design: Design, pairs: Sequence[PairRow], values: Floats) -> list[Floats]:
        first = pairs[0]
        steps = design.steps(values, (first.k,), first.p_min)
        log_speedup = design.log_speedup(values, steps)[:, 0]
        measured = np.log([pair.speedup for pair in pairs])
        rate = steps.acceptance_rate[:, 0]
        seen = np.array(
            [r if pair.acceptance_rate is None else pair.acceptance_rate for pair, r in zip(pairs, rate, strict=True)]
        )
        return [(log_speedup - measured) / _speedup_sd(pairs), (rate - seen) / ACCEPTANCE_SD]

    def _cost_residuals(self, values: Floats) -> Floats:
        parts = [np.zeros(0)]
        if self._decodes:
            seconds = np.log(self._decode_pass.seconds(values, 1)[:, 0])
            measured = np.log([row.token_s for row in self._decodes])
            parts.append((seconds - measured) / np.array([_decode_sd(row) for row in self._decodes]))
        if self._verifies:
            rows = np.array([row.rows for row in self._verifies])
            seconds = self._verify_pass.seconds(values, int(rows.max()))
            ratio = np.log(seconds[np.arange(len(rows)), rows - 1] / seconds[:, 0])
            parts.append((ratio - np.log([row.ratio for row in self._verifies])) / VERIFY_SD)
        return np.concatenate(parts)

    def _cost_slopes(self, values: Floats) -> Floats:
        here = self._cost_residuals(values)
        slopes = np.zeros((len(here), len(values)))
        for column, name in enumerate(self.names):
            if not name.startswith(("skill", "confidence", "chain")):
                moved = values.copy()
                moved[column] += STEP
                slopes[:, column] = (self._cost_residuals(moved) - here) / STEP
        return slopes


def _speedup_sd(pairs: Sequence[PairRow]) -> Floats:
    return np.hypot(SPEEDUP_SD, [pair.noise_sd for pair in pairs])


def _decode_sd(row: DecodeRow) -> float:
    return BASELINE_SD if row.is_baseline else DECODE_SD


def _grouped(pairs: Sequence[PairRow]) -> list[list[PairRow]]:
    """Pairs that ran with the same settings together."""
    groups: dict[tuple[object, ...], list[PairRow]] = {}
    for pair in pairs:
        groups.setdefault((pair.k, pair.p_min, pair.law, pair.case.temperature), []).append(pair)
    return list(groups.values())


def compact(posterior: Posterior) -> Posterior:
    """Without what says nothing of a case to come: single texts and runs, machines that nobody can ask for, and
    coefficients that no row has moved."""
    deviations = np.sqrt(np.diag(posterior.covariance))
    pairs = zip(posterior.names, posterior.mean, deviations, strict=True)
    keep = [i for i, (name, mean, sd) in enumerate(pairs) if not name.startswith(PASSING) and _moved(name, mean, sd)]
    return replace(
        posterior,
        names=tuple(posterior.names[i] for i in keep),
        mean=posterior.mean[keep],
        covariance=posterior.covariance[np.ix_(keep, keep)],
    )


def _moved(name: str, mean: float, sd: float) -> bool:
    first, spread = assumed(name)
    return abs(mean - first) > UNMOVED * spread or sd < (1 - UNMOVED) * spread
