"""The speedup before anything is measured: an acceptance prior over a cost prior, and how far both can be trusted.

    log(speedup) = log(tokens per step) + log(t(1)) - log(E[T_step])

All coefficients of both halves are one vector with one normal posterior (advisor.predict.fit). A coefficient the
posterior does not know, such as the skill of an unseen family or the kernels of an unseen backend, keeps the spread
that was assumed for its kind, so an answer far from the evidence has a wide interval. Partial pooling is the same
rule: families are deviations from a common line, kernels from their backend.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advisor.acceptance.prior import Chain, ExpectedSteps, expected_steps
from advisor.cost.prior import (
    EXPERTS,
    EXPERTS_FIRST,
    MIXTURE,
    Load,
    Machine,
    Pass,
    coefficient_names,
    kernel_of,
    passes,
)
from advisor.cost.step_law import CURRENT, StepLaw
from advisor.errors import StoreError

Floats = npt.NDArray[np.float64]

DRAFT = "skill/draft/"
OTHER_HOST = "other "  # before the name of a machine that only a table has
SPREAD, PERSISTENCE = "chain/log_spread", "chain/persistence"
REFERENCE_DRAFT_PARAMETERS, REFERENCE_TARGET_PARAMETERS = 1.5e9, 14e9
STEP = 1e-3  # of the numerical derivatives
TRIED_K, TRIED_P_MIN, UNTRIED_SD = 16, 0.75, 0.06
LEAST_TRIED_BITS = 2.9  # a weight of a draft's layers: what the Q2_K files of the tables have
DECODE_SD = 0.10  # how far decode speeds of one machine and quantization differ between builds
UNTRIED_KERNEL_SD = 0.1  # a draft in a quantization that no measured draft had: files, kernels and skill may differ
CHECKPOINT_SD = 0.15  # copying the state of a recurrent target is not priced, and no table has such a pair
Z_80 = 1.2816

# Mean and standard deviation of a coefficient before any table is seen, by the longest matching beginning of its name.
# Skill and confidence are in logits, the rest in logarithms. Categories are against code and structured text: one
# published pair accepted .62 to .68 on code, .71 to .79 on math, .29 to .36 in chat.
ASSUMED: Mapping[str, tuple[float, float]] = {
    "skill": (2.5, 1.5),
    "skill/log_draft": (0.6, 0.4),
    "skill/log_draft_squared": (-0.05, 0.1),
    "skill/log_target": (-0.25, 0.25),
    "skill/draft_bits": (-1.5, 1.5),
    "skill/target_bits": (-1.0, 1.0),
    "skill/family/": (0.0, 0.5),
    "skill/text/": (0.0, 0.2),
    DRAFT: (0.0, 0.07),
    "skill/other_base": (-0.7, 0.5),
    "skill/few_bits": (-1.0, 1.0),
    "skill/temperature": (0.0, 0.35),
    "skill/category/": (-0.7, 0.7),
    "skill/category/code": (0.0, 0.2),
    "skill/category/extraction": (0.0, 0.4),
    "skill/category/math": (0.3, 0.4),
    "skill/category/summarise": (0.0, 0.7),
    "skill/category/chat": (-2.2, 0.6),
    "skill/category/prose": (-2.0, 0.7),
    "confidence": (1.5, 1.0),
    "confidence/log_draft": (0.3, 0.2),
    "confidence/draft_bits": (-1.0, 1.0),
    SPREAD: (0.86, 0.05),  # replayed answers of a real 135M model and its drafts, at every k and p_min
    PERSISTENCE: (0.385, 0.1),  # the same answers
    EXPERTS: (0.4, 0.5),
    EXPERTS_FIRST: (-1.0, 0.7),
    "efficiency/": (0.0, 0.15),
    "efficiency/host/": (0.0, 0.08),
    "efficiency/metal": (-0.3, 0.15),
    "efficiency/cuda": (-0.3, 0.15),
    "efficiency/rocm": (-0.4, 0.2),
    "efficiency/vulkan": (-0.4, 0.2),
    "efficiency/cpu": (-0.35, 0.2),
    "efficiency/kernel/": (0.0, 0.1),
    "efficiency/metal/": (0.0, 0.15),
    "efficiency/cuda/": (0.0, 0.1),
    "efficiency/rocm/": (0.0, 0.1),
    "efficiency/vulkan/": (0.0, 0.1),
    "efficiency/cpu/": (0.0, 0.1),
    # Unpacking few bits costs work, looking weights up in tables more; the bandwidth is not what limits such kernels.
    "efficiency/metal/IQ1": (-0.3, 0.25),
    "efficiency/metal/IQ2": (-0.3, 0.25),
    "efficiency/metal/IQ3": (-0.3, 0.25),
    "efficiency/cpu/Q2_K": (-0.2, 0.2),
    "efficiency/cpu/Q3_K": (-0.2, 0.2),
    "efficiency/cpu/IQ1": (-0.6, 0.3),
    "efficiency/cpu/IQ2": (-0.6, 0.3),
    "efficiency/cpu/IQ3": (-0.5, 0.3),
    "overhead/": (np.log(3e-4), 0.7),
    "layer/": (np.log(3e-5), 0.7),
    "layer/cpu": (np.log(1e-5), 0.7),
    MIXTURE: (0.7, 0.5),  # routing, and kernels for few rows of many matrices
    "row/metal": (-1.1, 0.4),
    "row/cuda": (-2.2, 0.4),
    "row/rocm": (-1.6, 0.5),
    "row/vulkan": (-1.6, 0.6),
    "row/cpu": (-0.9, 0.7),
    "row/kernel/": (0.0, 0.2),
    "row/metal/": (0.0, 0.3),
    "row/metal/F16": (-2.0, 0.7),
    "row/cuda/": (0.0, 0.3),
    "row/rocm/": (0.0, 0.3),
    "row/vulkan/": (0.0, 0.3),
    "row/cpu/": (0.0, 0.3),
    "row/host/": (0.0, 0.3),
    "row/run/": (0.0, 0.05),
}


def assumed(name: str) -> tuple[float, float]:
    """Mean and standard deviation of a coefficient that nothing is known of. KeyError for a name of no known kind."""
    if name in ASSUMED:
        return ASSUMED[name]
    kinds = [kind for kind in ASSUMED if kind.endswith("/") and name.startswith(kind)]
    if not kinds:
        raise KeyError(name)
    return ASSUMED[max(kinds, key=len)]


@dataclass(frozen=True)
class Side:
    """A model as the acceptance prior sees it. ``base``: the pre-trained model it was tuned from. ``name`` with its
    quantization, for what is particular to this file. ``layer_bits``: bits a weight without the tables of tokens.
    ``is_recurrent``: it has a state that cannot be rolled back token by token."""

    name: str
    family: str
    base: str
    parameters: float
    active_parameters: float
    bits_per_weight: float
    load: Load
    layer_bits: float = 16.0
    is_recurrent: bool = False

    @property
    def skill_parameters(self) -> float:
        """A mixture of experts is about as able as a dense model of the geometric mean of its two sizes."""
        return float(np.sqrt(self.parameters * self.active_parameters))


@dataclass(frozen=True)
class Case:
    """One pair on one machine. ``text`` names what was asked, "" for text not seen yet; ``baseline_s`` is t(1) where
    it is known; ``draft_machine`` is where the draft runs when that is elsewhere."""

    machine: Machine
    target: Side
    draft: Side
    category: str = "code"
    text: str = ""
    baseline_s: float | None = None
    draft_machine: Machine | None = None
    temperature: float = 0.0


def skill_terms(case: Case) -> dict[str, float]:
    """The draft's skill at guessing this target, as a sum of named coefficients (logits)."""
    size = float(np.log(case.draft.skill_parameters / REFERENCE_DRAFT_PARAMETERS))
    terms = {
        "skill": 1.0,
        "skill/log_draft": size,
        "skill/log_draft_squared": size**2,
        "skill/log_target": float(np.log(case.target.skill_parameters / REFERENCE_TARGET_PARAMETERS)),
        "skill/draft_bits": _lost(case.draft.bits_per_weight),
        "skill/target_bits": _lost(case.target.bits_per_weight),
        f"skill/family/{case.target.family}": 1.0,
        f"skill/text/{case.text}": 1.0,
        f"skill/category/{case.category}": 1.0,
    }
    if case.draft.base != case.target.base:
        terms["skill/other_base"] = 1.0
    if case.draft.layer_bits < LEAST_TRIED_BITS:
        terms["skill/few_bits"] = LEAST_TRIED_BITS - case.draft.layer_bits
    if case.draft.name:
        terms[f"{DRAFT}{case.draft.name}"] = 1.0
    if case.temperature > 0:
        terms["skill/temperature"] = case.temperature
    return terms


def confidence_terms(case: Case) -> dict[str, float]:
    """How sure the draft is of its tokens (logits): of the draft and the text, whatever the target is."""
    return {
        "confidence": 1.0,
        "confidence/log_draft": float(np.log(case.draft.skill_parameters / REFERENCE_DRAFT_PARAMETERS)),
        "confidence/draft_bits": _lost(case.draft.bits_per_weight),
        f"skill/text/{case.text}": 1.0,
        f"skill/category/{case.category}": 1.0,
    }


def _lost(bits_per_weight: float) -> float:
    """What quantization takes: halves with every bit, 1 at two bits a weight."""
    return float(2.0 ** -(bits_per_weight - 2))


@dataclass(frozen=True)
class Posterior:
    """Coefficients: ``mean``, shape (names,), and ``covariance``, (names, names). ``row_sd``: how far log(speedup) of
    one pair strays although all coefficients are right. ``provenance``: what each input was."""

    names: tuple[str, ...]
    mean: Floats
    covariance: Floats
    row_sd: float
    provenance: tuple[str, ...] = ()

    @functools.cached_property
    def draft_kernels(self) -> frozenset[str]:
        """Kernels that measured drafts had."""
        return frozenset(kernel_of(name.rpartition(" ")[2]) for name in self.names if name.startswith(DRAFT))

    def over(self, names: Iterable[str]) -> Posterior:
        """The same belief over these names: unknown ones as assumed, independent of the rest."""
        wanted = tuple(dict.fromkeys(names))
        place = {name: i for i, name in enumerate(self.names)}
        known = [name in place for name in wanted]
        mean = np.array([self.mean[place[n]] if k else assumed(n)[0] for n, k in zip(wanted, known, strict=True)])
        covariance = np.diag([0.0 if k else assumed(n)[1] ** 2 for n, k in zip(wanted, known, strict=True)])
        rows = [i for i, k in enumerate(known) if k]
        source = [place[wanted[i]] for i in rows]
        covariance[np.ix_(rows, rows)] = self.covariance[np.ix_(source, source)]
        return Posterior(wanted, mean, covariance, self.row_sd, self.provenance)


def posterior_from_json(text: str) -> Posterior:
    """StoreError when the text is not a fit of this version."""
    try:
        content = json.loads(text)
        names = tuple(content["coefficients"])
        mean = np.array([content["coefficients"][name] for name in names], float)
        lower = [np.array(row, float) for row in content["covariance"]]
        covariance = np.zeros((len(names), len(names)))
        for i, row in enumerate(lower):
            covariance[i, : i + 1] = row
        covariance = covariance + np.tril(covariance, -1).T
        return Posterior(names, mean, covariance, float(content["row_sd"]), tuple(content["provenance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            "The fitted priors cannot be read.", why=f"{error!r}", fix="Fit them again: advisor fit-priors."
        ) from None


def posterior_to_json(posterior: Posterior) -> str:
    """A small file: coefficients by name, the lower half of their covariance, where every input came from."""

    def digits(value: float) -> float:
        return float(f"{value:.5g}")

    lines = ["{", f'  "row_sd": {digits(posterior.row_sd)},', '  "provenance": [']
    lines.append(",\n".join(f"    {json.dumps(one)}" for one in posterior.provenance))
    lines += ["  ],", '  "coefficients": {']
    pairs = zip(posterior.names, posterior.mean.tolist(), strict=True)
    lines.append(",\n".join(f"    {json.dumps(name)}: {digits(value)}" for name, value in pairs))
    lines += ["  },", '  "covariance": [']
    rows = (json.dumps([digits(v) for v in row[: i + 1]]) for i, row in enumerate(posterior.covariance.tolist()))
    lines.append(",\n".join(f"    {row}" for row in rows))
    return "\n".join([*lines, "  ]", "}", ""])


@functools.cache
def shipped() -> Posterior:
    """The posterior that comes with this version."""
    text = resources.files("advisor.predict").joinpath("priors.json").read_text(encoding="utf-8")
    return posterior_from_json(text)


def user_path(data_dir: Path) -> Path:
    """Where `advisor fit-priors` puts what it learnt."""
    return data_dir / "priors.json"


def current(data_dir: Path) -> Posterior:
    """The user's own fit where there is one, else the shipped posterior. StoreError naming a file that is damaged, or
    whose coefficients belong to another version of the model."""
    path = user_path(data_dir)
    try:
        posterior = posterior_from_json(path.read_text(encoding="utf-8"))
        for name in posterior.names:
            assumed(name)
        return posterior
    except FileNotFoundError:
        return shipped()
    except (StoreError, OSError, ValueError, LookupError) as error:
        why = error.why if isinstance(error, StoreError) else f"{error!r}"
        raise StoreError(
            f"{path} cannot be read.", why=why, fix="Fit it again with `advisor fit-priors`, or delete it."
        ) from None


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
