"""How sure the answer is, where the doubt comes from, and which single measurement would remove most of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from advisor.acceptance.walk import DraftAcceptance
from advisor.cost.curves import Reference
from advisor.predict.analytic import AnalyticModel, student_factor
from advisor.predict.predictor import Z_80, Predictor
from advisor.reasons.ground import Ground
from advisor.reasons.records import DraftReasons, Source, Sureness
from advisor.reasons.steps import trial_of
from advisor.types import CostCurve, Estimate, Recommendation, Trial
from advisor.workload import BUILTIN_NAME

Floats = npt.NDArray[np.float64]

RUN_NOISE_SD = 0.02  # of log(speedup), one more real run of one config (docs/decisions/0003-correction.md)


def how_sure(rec: Recommendation, ground: Ground, drafts: Sequence[DraftReasons]) -> Sureness | None:
    if not drafts:
        return None
    best = drafts[0].best
    sd = _log_sd(best)
    gain = NormalDist().cdf(math.log(best.speedup) / sd) if sd > 0 else float(best.speedup > 1)
    sources = _sources(rec, ground, best)
    return Sureness(gain, _lead_chance(rec, ground, drafts), sources, _advice(rec, best, sources), _command(rec, best))


def _log_sd(estimate: Estimate) -> float:
    if not 0 < estimate.speedup_low < estimate.speedup_high:
        return 0.0
    return math.log(estimate.speedup_high / estimate.speedup_low) / (2 * Z_80)


def _lead_chance(rec: Recommendation, ground: Ground, drafts: Sequence[DraftReasons]) -> float | None:
    """From paired draws: both drafts over the same answers and target rounds, or from real runs of both."""
    if len(drafts) < 2:
        return None
    pair = (drafts[0].best.config, drafts[1].best.config)
    if ground.unit is None:
        return _lead_in_runs(*(trial_of(config, rec.trials) for config in pair))
    trials = [
        trial for trial in rec.trials if max(trial.prompts, default=0) < len(rec.traces.get(trial.config.draft, ()))
    ]
    wanted = {config.draft for config in pair} | {trial.config.draft for trial in trials}
    curves = {
        draft: rec.draft_curves[draft] for draft in sorted(wanted & ground.prices.keys()) if rec.traces.get(draft)
    }
    if not all(config.draft in curves for config in pair):
        return None
    predictor = Predictor(
        rec.traces, rec.target_curve, curves, ground.law, k_max=rec.settings.k_max, max_tokens=ground.max_tokens
    )
    belief = predictor.believe(trials)
    if not all(config in belief.configs for config in pair):
        return None
    first, second = (belief.configs.index(config) for config in pair)
    sd = float(belief.log_sd_of_difference(first)[second])
    lead = math.log(drafts[0].best.speedup / drafts[1].best.speedup)
    return NormalDist().cdf(lead / sd) if sd > 0 else float(lead > 0)


def _lead_in_runs(first: Trial | None, second: Trial | None) -> float | None:
    """From the prompts that both settings answered. None with fewer than two."""
    own, other = _log_speedups(first), _log_speedups(second)
    leads = np.array([own[prompt] - other[prompt] for prompt in own.keys() & other.keys()])
    if len(leads) < 2:
        return None
    lead = float(leads.mean())
    sd = float(leads.std(ddof=1)) / math.sqrt(len(leads)) * student_factor(len(leads) - 1)
    return NormalDist().cdf(lead / sd) if sd > 0 else float(lead > 0)


def _log_speedups(trial: Trial | None) -> dict[int, float]:
    """By prompt."""
    if trial is None:
        return {}
    return {
        prompt: math.log(plain.token_s / run.token_s)
        for prompt, run, plain in zip(trial.prompts, trial.runs, trial.baselines, strict=True)
    }


def _sources(rec: Recommendation, ground: Ground, best: Estimate) -> tuple[Source, ...]:
    """The variance of log(speedup) by source: what is gone when a source is frozen at its median is its part."""
    draft = best.config.draft
    traces, table = rec.traces.get(draft, ()), ground.prices.get(draft)
    if not traces or table is None or ground.unit is None:
        return ()
    frozen_target, frozen_draft = _frozen(table.target, ground.unit), _frozen(table.draft, ground.unit)
    frozen_draft = replace(frozen_draft, bare_s=(float(table.target[1]) * ground.unit.anchor_s,))

    def variance(target: CostCurve, own: CostCurve) -> float:
        model = AnalyticModel(
            DraftAcceptance(traces, max_tokens=ground.max_tokens),
            target,
            own,
            ground.law,
            ground.unit or Reference(1.0, {"target": 0.0, "draft": 0.0}),
            k_max=rec.settings.k_max,
            seed=0,
        )
        return model.predict(best.config).log_sd ** 2

    everything = variance(rec.target_curve, rec.draft_curves[draft])
    answers = variance(frozen_target, frozen_draft)
    target = max(0.0, everything - variance(frozen_target, rec.draft_curves[draft]))
    own = max(0.0, everything - variance(rec.target_curve, frozen_draft))
    total = max(_log_sd(best) ** 2, everything)
    model_error = total - everything
    after_run = model_error * RUN_NOISE_SD**2 / (model_error + RUN_NOISE_SD**2) if model_error > 0 else 0.0
    found = [
        ("the answers", answers, "twice as many prompts", answers / 2),
        ("t(b), the target's costs", target, "twice as many rounds of the target's decodes", target / 2),
        ("d(b), the draft's costs", own, "twice as many rounds of the draft's decodes", own / 2),
        ("the model of a step", model_error, "one more real run of this setting", model_error - after_run),
    ]
    parts = sum(part for _, part, _, _ in found) or 1.0
    return tuple(
        Source(name, part / parts, remedy, *_interval(best.speedup, max(0.0, total - gone)))
        for name, part, remedy, gone in sorted(found, key=lambda one: -one[3])
    )


def _command(rec: Recommendation, best: Estimate) -> tuple[str, ...]:
    """A larger budget means more prompts, rounds and real runs. () where the files or the prompts are not known."""
    draft = rec.draft_of(best.config)
    knows_prompts = rec.workload == BUILTIN_NAME or best.evidence == "prior"
    if not (rec.target.path and draft.path and knows_prompts) or rec.target.is_recurrent:
        return ()
    minutes = math.ceil(2 * rec.settings.budget_s / 60)
    heat = rec.settings.sampling.temperature
    return (
        *("advisor", "recommend", "--target", rec.target.path, "--draft", draft.path),
        *("--context", str(rec.settings.context), "--budget", f"{minutes}m"),
        *(("--temperature", f"{heat:g}") if heat else ()),
    )


def _frozen(table: Floats, unit: Reference) -> CostCurve:
    """A curve of one round that prices exactly as ``table`` does."""
    return CostCurve(0, (unit.anchor_s,), {b: (float(table[b]) * unit.anchor_s,) for b in range(1, len(table))})


def _interval(speedup: float, variance: float) -> tuple[float, float]:
    half = math.exp(Z_80 * math.sqrt(variance))
    return speedup / half, speedup * half


def _advice(rec: Recommendation, best: Estimate, sources: Sequence[Source]) -> str:
    now = f"{best.speedup_low:.2f} to {best.speedup_high:.2f}"
    if best.evidence == "prior" and rec.target.is_recurrent:
        return f"Nothing was measured here, and this version cannot measure such a target: {now} is a prediction."
    if best.evidence == "prior":
        return f"Nothing was measured here. Measuring this pairing would narrow {now} most."
    if not sources:
        return f"Whole runs alone do not say which measurement would narrow {now} most; more of them would."
    first = sources[0]
    remedy = first.remedy[0].upper() + first.remedy[1:]
    return f"{remedy} would narrow {now} most, to about {first.low:.2f} to {first.high:.2f}."
