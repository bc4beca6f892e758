"""Prediction error at each rung of evidence: prior, replay, and after a few real runs.

Curves and runs are measured in the same minutes, pass by pass over the prompts: what is judged is the prediction, not
how much the machine changed between the two. After n real runs the other configs are judged, never the ones that ran;
which n ran is drawn at random, many times.

An error is of the same answers, predicted and run. An interval is of others: it says what a user's next prompts will
give, which differ from those that were replayed. So intervals are judged on answers that were not predicted from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from advisor.catalog.load import load
from advisor.cost.curves import merged
from advisor.cost.prior import Machine
from advisor.cost.step_law import CURRENT
from advisor.engines.base import Role
from advisor.predict.belief import Posterior
from advisor.predict.evidence import side_of
from advisor.predict.predictor import Z_80, Predictor
from advisor.predict.prior import predict
from advisor.predict.steady import steadied
from advisor.predict.terms import Case
from advisor.search import speedup_of
from advisor.types import Config, CostCurve, Model, Trace, Transcript, Trial, Workload
from benchmarks.measure import Bench, Floats, Pair, median_of_noise

ROLES: tuple[Role, ...] = ("target", "draft")
CONFIGS = (Config("", 2), Config("", 4), Config("", 8), Config("", 8, p_min=0.75))
RUN_COUNTS = (2, 4, 8)
DRAWS, DRAWS_OF_ANSWERS = 40, 20
ROUNDS = 1


@dataclass(frozen=True)
class Cell:
    """One (draft, config): what was predicted at the replay rung and what was measured."""

    draft: str
    config: Config
    predicted: float
    measured: float


@dataclass(frozen=True)
class Rung:
    """Errors are |predicted / measured - 1|; ``cover`` is the share of measured speedups in the 80 % interval,
    ``cover_of_others`` that of speedups over answers that were not predicted from, None where it is not judged."""

    name: str
    cells: int
    median: float
    p90: float
    cover: float
    cover_of_others: float | None = None


@dataclass(frozen=True)
class Truth:
    """Everything measured for one grid. Keys are configs with the draft's content hash. ``traces`` are of all answers,
    ``pairs`` of the first ones."""

    target: Model
    drafts: tuple[Model, ...]
    transcripts: tuple[Transcript, ...]
    max_tokens: int
    target_curve: CostCurve
    draft_curves: Mapping[str, CostCurve]
    traces: Mapping[str, Sequence[Trace]]
    pairs: Mapping[Config, Sequence[Pair]]

    @functools.cached_property
    def steady_trials(self) -> list[Trial]:
        """Baselines are steadied as the advisor steadies them: a neighbour of the machine is no error."""
        return steadied([self.trial(config) for config in self.pairs])

    @functools.cached_property
    def speedups(self) -> dict[Config, float]:
        return {one.config: speedup_of(one.pairs) for one in self.steady_trials}

    @property
    def passes(self) -> int:
        return min(map(len, self.pairs.values()))

    def predictor(self, answers: Sequence[int] | None = None) -> Predictor:
        """From replays of these answers; None: of those that were run."""
        chosen = range(self.passes) if answers is None else answers
        traces = {draft: [found[i] for i in chosen] for draft, found in self.traces.items()}
        k_max = max(config.k for config in self.pairs)
        return Predictor(traces, self.target_curve, self.draft_curves, CURRENT, k_max=k_max, max_tokens=self.max_tokens)

    def trial(self, config: Config) -> Trial:
        pairs = self.pairs[config]
        return Trial(config, tuple(range(len(pairs))), tuple(p[1] for p in pairs), tuple(p[0] for p in pairs))


def measure(
    bench: Bench,
    drafts: Sequence[Model],
    configs: Sequence[Config],
    workload: Workload,
    *,
    passes: int,
    max_tokens: int,
    answers: int = 0,
) -> Truth:
    """``passes`` prompts, and as many visits to each curve and to each (draft, config); ``answers`` in all are replayed
    where that is more."""
    transcripts = bench.transcripts(workload, prompts=max(passes, answers), max_tokens=max_tokens)
    traces = {draft.content_hash: bench.replay(draft, transcripts) for draft in drafts}
    b_max = max(config.k for config in configs) + 1
    curves: dict[tuple[Role, str], list[CostCurve]] = {}
    pairs: dict[Config, list[Pair]] = {}
    for transcript in transcripts[:passes]:
        for draft in drafts:
            for role in ROLES:
                curve = bench.curve(role, draft, transcripts[:passes], b_max=b_max, rounds=ROUNDS)
                curves.setdefault((role, draft.content_hash), []).append(curve)
            own = [replace(config, draft=draft.content_hash) for config in configs]
            for config, pair in bench.bracketed(transcript, draft, own, max_tokens).items():
                pairs.setdefault(config, []).append(pair)
    return Truth(
        bench.target,
        tuple(drafts),
        transcripts,
        max_tokens,
        merged([curve for (role, _), visits in curves.items() if role == "target" for curve in visits]),
        {draft: merged(visits) for (role, draft), visits in curves.items() if role == "draft"},
        traces,
        pairs,
    )


def cells(truth: Truth) -> list[Cell]:
    predictor, names = truth.predictor(), {draft.content_hash: draft.label for draft in truth.drafts}
    return [
        Cell(names[config.draft], config, predictor.analytics[config].speedup, measured)
        for config, measured in truth.speedups.items()
    ]


def noise(truth: Truth) -> float:
    """The median error that a perfect prediction would show at most."""
    analytics = truth.predictor().analytics

    def off(trial: Trial) -> Floats:
        predicted = analytics[trial.config].by_prompt
        pairs = zip(trial.pairs, predicted, strict=True)
        return np.asarray(np.log([base.token_s / run.token_s / one for (base, run), one in pairs]))

    return median_of_noise(map(off, truth.steady_trials))


def rungs(truth: Truth, *, machine: Machine | None, posterior: Posterior | None, seed: int = 0) -> list[Rung]:
    """One row a rung. Without ``machine`` and ``posterior`` the prior's is left out."""
    found = [_prior_rung(truth, machine, posterior)] if machine is not None and posterior is not None else []
    found.append(replace(_after(truth, [()], "replay"), cover_of_others=_cover_of_others(truth, seed)))
    rng = np.random.default_rng(seed)
    configs = list(truth.pairs)
    for count in RUN_COUNTS:
        if count < len(configs):
            drawn = [tuple(configs[i] for i in rng.permutation(len(configs))[:count]) for _ in range(DRAWS)]
            found.append(_after(truth, drawn, f"after {count} real runs"))
    return found


def _after(truth: Truth, drawn: Sequence[Sequence[Config]], name: str) -> Rung:
    """The configs that did not run, after each of the draws ran."""
    predictor, measured = truth.predictor(), truth.speedups
    errors: list[float] = []
    inside: list[bool] = []
    for ran in drawn:
        belief = predictor.believe([truth.trial(config) for config in ran])
        told = dict(zip(belief.configs, zip(belief.log_mean, belief.log_sd(), strict=True), strict=True))
        for config in measured.keys() - set(ran):
            error = told[config][0] - math.log(measured[config])
            errors.append(abs(math.expm1(error)))
            inside.append(bool(abs(error) <= Z_80 * told[config][1]))
    return _rung(name, len(measured), errors, inside)


def _cover_of_others(truth: Truth, seed: int) -> float | None:
    """Predicted from as many answers as were run, drawn at random, and judged by all others: by their replay, times
    what real runs of a config gave over the replay of what ran, because runs of all of them would take hours."""
    predicted, numbers = truth.predictor().analytics, range(len(truth.transcripts))
    if len(numbers) <= truth.passes:
        return None
    rng, inside = np.random.default_rng(seed), list[bool]()
    for _ in range(DRAWS_OF_ANSWERS):
        drawn = rng.permutation(len(numbers))
        belief = truth.predictor(drawn[: truth.passes].tolist()).believe([])
        others = truth.predictor(drawn[truth.passes :].tolist()).analytics
        for config, log_mean, log_sd in zip(belief.configs, belief.log_mean, belief.log_sd(), strict=True):
            if config in truth.speedups:
                speedup = others[config].speedup * truth.speedups[config] / predicted[config].speedup
                inside.append(bool(abs(log_mean - math.log(speedup)) <= Z_80 * log_sd))
    return float(np.mean(inside))


def _prior_rung(truth: Truth, machine: Machine, posterior: Posterior) -> Rung:
    """What is said before anything ran, but for the target's own speed: the machine's noise is not the prior's."""
    baseline_s = float(np.median(truth.target_curve.anchor_s))
    family, base = _family(truth.target)
    drafts = {draft.content_hash: draft for draft in truth.drafts}
    errors, inside = [], []
    for config, measured in truth.speedups.items():
        case = Case(
            machine,
            side_of(truth.target, family, base),
            side_of(drafts[config.draft], family, base),
            category="mixed",
            baseline_s=baseline_s,
        )
        told = predict([case], posterior, (config.k,), config.p_min, CURRENT)
        error = math.log(float(told.speedup[0, 0]) / measured)
        errors.append(abs(math.expm1(error)))
        inside.append(abs(error) <= Z_80 * float(told.log_sd[0, 0]))
    return _rung("prior", len(errors), errors, inside)


def _family(model: Model) -> tuple[str, str]:
    """The catalogue's names for the zoo's own family."""
    catalog = load(None)
    entry = catalog.entries["smollm2-135m"]
    name = catalog.family_of[entry.id]
    return (name, name) if model.architecture == entry.shape.architecture else ("", "")


def _rung(name: str, count: int, errors: Sequence[float], inside: Sequence[bool]) -> Rung:
    median, p90 = np.quantile(errors, [0.5, 0.9])
    return Rung(name, count, float(median), float(p90), float(np.mean(inside)))
