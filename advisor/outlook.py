"""The answer before anything is measured, or even downloaded: which draft to get, and what it should give.

resolve -> fits? -> same tokens? -> prior -> recommend, for this machine or for one that is only named. Rows carry the
evidence "prior". Neither llama_cpp nor optuna is imported on this path.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advisor.catalog.load import Catalog
from advisor.catalog.matching import match_entry
from advisor.cost.prior import Machine, kernel_of
from advisor.cost.step_law import step_law
from advisor.predict.belief import Posterior
from advisor.predict.drafts import drafts_for, judge_draft, nothing_to_try, place_alone
from advisor.predict.evidence import side_of, side_of_entry
from advisor.predict.places import Machines
from advisor.predict.prior import Z_80, PriorSpeedup, predict, token_log_sd, token_seconds
from advisor.predict.question import Outlook
from advisor.predict.remarks import (
    baseline_remarks,
    measured_baseline_s,
    measured_here,
    measured_remarks,
    model_remarks,
)
from advisor.predict.terms import Case, Side
from advisor.ranking import Answer, answer
from advisor.types import (
    Baseline,
    Candidate,
    Config,
    CostCurve,
    Estimate,
    MeasurementNotes,
    Model,
    Placement,
    Recommendation,
    WhatIf,
)

Floats = npt.NDArray[np.float64]

GIB = 1 << 30
KS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
P_MINS = (0.0, 0.5, 0.75, 0.9)
MODELS_AT_EVERY_LENGTH = 3
DEFAULT_CATEGORY = "code"
MEASURED_SPREAD = 0.15  # the usual half-width of an 80 % interval once replay and a few runs are in


def foresee(asked: Outlook, catalog: Catalog, posterior: Posterior) -> Recommendation:
    """The whole answer. NothingFits when the target itself does not fit."""
    started = time.monotonic()
    placement = place_alone(asked, catalog)
    candidates, rejected = drafts_for(asked, catalog) if asked.given is None else (list(asked.given), [])
    machines = Machines(asked.host, asked.host_entry, asked.target, catalog)
    forecast = _Forecast(asked, catalog, posterior, machines, placement)
    baseline = forecast.baseline()
    found = answer(
        forecast.estimates(candidates) if candidates else [],
        candidates,
        nothing=nothing_to_try(rejected),
        tried=lambda draft: kernel_of(draft.quant) in posterior.draft_kernels,
    )
    return Recommendation(
        host=asked.host,
        build=asked.build,
        target=asked.target,
        settings=asked.settings,
        workload="none: nothing was run",
        categories=asked.categories or (DEFAULT_CATEGORY,),
        baseline=baseline,
        candidates=tuple(candidates),
        estimates=found.ranked,
        rejected=tuple(rejected),
        verdict=found.verdict,
        sentence=found.sentence,
        best=found.best,
        runner_up=found.runner_up,
        traces={},
        target_curve=CostCurve(0, (baseline.token_s,), {}),
        draft_curves={},
        trials=(),
        measurement=_notes(
            asked,
            (*machines.notes, *forecast.remarks(found.ranked, candidates)),
            found,
            candidates,
            time.monotonic() - started,
        ),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        what_if=tuple(_what_ifs(asked, catalog, posterior, forecast, found.ranked, candidates)),
    )


def at_every_setting(
    asked: Outlook, catalog: Catalog, posterior: Posterior, foreseen: Recommendation
) -> list[Estimate]:
    """Every candidate of an answer at every setting, each with the spread of that candidate's best setting. NothingFits
    as ``foresee``."""
    machines = Machines(asked.host, asked.host_entry, asked.target, catalog)
    forecast = _Forecast(asked, catalog, posterior, machines, place_alone(asked, catalog))
    return forecast.at_every_setting(foreseen.candidates, foreseen.estimates) if foreseen.candidates else []


# -- what it would give ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Guess:
    """One candidate at one setting, over all categories."""

    k: int
    p_min: float
    speedup: float
    acceptance_rate: float
    tokens_per_step: float


class _Forecast:
    """Prices every candidate with the prior."""

    def __init__(
        self, asked: Outlook, catalog: Catalog, posterior: Posterior, machines: Machines, alone: Placement
    ) -> None:
        self._asked, self._posterior, self._machines = asked, posterior, machines
        self._target, self._alone = _target_side(asked, catalog), machines.of_target(alone)
        self._catalog = catalog
        self._entries = {entry.name: entry for entry in catalog.entries.values()}
        self._law = step_law(asked.build)
        self._categories = asked.categories or (DEFAULT_CATEGORY,)
        self._token_s: dict[Machine, float] = {}
        self._measured = measured_here(asked.measured, self._target, self._alone)
        given_s = 1 / asked.baseline_tps if asked.baseline_tps else None
        self._known_s = given_s or measured_baseline_s(self._measured)

    def baseline(self) -> Baseline:
        token_s = self._known_s or self._seconds(self._alone)
        return Baseline(1 / token_s, token_s, "prior")

    def remarks(self, estimates: Sequence[Estimate], candidates: Sequence[Candidate]) -> Iterator[str]:
        """What a reader must know beside these estimates."""
        log_sd = token_log_sd(self._alone, self._target, self._posterior)
        measured_s = measured_baseline_s(self._measured)
        yield from baseline_remarks(self._asked, self._seconds(self._alone), log_sd, measured_s)
        drafts = {one.draft.content_hash: one.draft for one in candidates}
        names = {digest: self._side(draft).name for digest, draft in drafts.items()}
        yield from measured_remarks(self._measured, estimates, names)
        leading = drafts[estimates[0].config.draft] if estimates else None
        yield from model_remarks(self._asked, self._catalog, leading)

    def _side(self, draft: Model) -> Side:
        entry = self._entries.get(draft.name)
        if entry is None and draft.path:
            entry = match_entry(draft, tuple(self._catalog.entries.values()), name_hint=Path(draft.path).stem)
        return side_of_entry(self._catalog, entry, draft) if entry else side_of(draft, "", "")

    def estimates(self, candidates: Sequence[Candidate]) -> list[Estimate]:
        """Every candidate at the setting that should be best for it."""
        guesses = self._best_guesses(candidates)
        spreads = self._spreads(candidates, guesses)
        tps = self.baseline().tokens_per_second
        return [
            _estimate(candidate, guess, log_sd, tps)
            for candidate, guess, log_sd in zip(candidates, guesses, spreads, strict=True)
        ]

    def lengths(self, candidate: Candidate, p_min: float) -> list[Estimate]:
        """One candidate at every draft length."""
        found = self._predict([candidate], self._ks(), p_min, with_sd=True)
        speedup = _over_categories(1 / found.speedup, 1) ** -1 * self._slowdown(candidate)
        rate, tokens, log_sd = (
            _over_categories(values, 1) for values in (found.acceptance_rate, found.tokens_per_step, found.log_sd)
        )
        tps = self.baseline().tokens_per_second
        return [
            _estimate(
                candidate,
                _Guess(k, p_min, float(speedup[0, at]), float(rate[0, at]), float(tokens[0, at])),
                float(log_sd[0, at]),
                tps,
            )
            for at, k in enumerate(found.ks)
        ]

    def at_every_setting(self, candidates: Sequence[Candidate], best: Sequence[Estimate]) -> list[Estimate]:
        """``best`` has an estimate of every candidate."""
        spread = {one.config.draft: float(np.log(one.speedup_high / one.speedup_low)) / 2 / Z_80 for one in best}
        tps, ks, found = self.baseline().tokens_per_second, self._ks(), []
        for p_min in self._p_mins():
            priced = self._predict(candidates, ks, p_min, with_sd=False)
            speedup = _over_categories(1 / priced.speedup, len(candidates)) ** -1
            rate = _over_categories(priced.acceptance_rate, len(candidates))
            tokens = _over_categories(priced.tokens_per_step, len(candidates))
            for i, candidate in enumerate(candidates):
                log_sd, slowdown = spread[candidate.draft.content_hash], self._slowdown(candidate)
                for at, k in enumerate(ks):
                    given = float(speedup[i, at]) * slowdown
                    guess = _Guess(k, p_min, given, float(rate[i, at]), float(tokens[i, at]))
                    found.append(_estimate(candidate, guess, log_sd, tps))
        return found

    def _best_guesses(self, candidates: Sequence[Candidate]) -> list[_Guess]:
        best: list[_Guess | None] = [None] * len(candidates)
        ks = self._ks()
        for p_min in self._p_mins():
            found = self._predict(candidates, ks, p_min, with_sd=False)
            speedup = _over_categories(1 / found.speedup, len(candidates)) ** -1
            rate = _over_categories(found.acceptance_rate, len(candidates))
            tokens = _over_categories(found.tokens_per_step, len(candidates))
            for i, candidate in enumerate(candidates):
                at = int(speedup[i].argmax())
                value = float(speedup[i, at]) * self._slowdown(candidate)
                known = best[i]
                if known is None or value > known.speedup:
                    best[i] = _Guess(ks[at], p_min, value, float(rate[i, at]), float(tokens[i, at]))
        return [guess for guess in best if guess is not None]

    def _spreads(self, candidates: Sequence[Candidate], guesses: Sequence[_Guess]) -> list[float]:
        """log_sd of every guess; candidates of one p_min are priced together."""
        spreads = [0.0] * len(candidates)
        for p_min in {guess.p_min for guess in guesses}:
            those = [i for i, guess in enumerate(guesses) if guess.p_min == p_min]
            ks = tuple(sorted({guesses[i].k for i in those}))
            found = self._predict([candidates[i] for i in those], ks, p_min, with_sd=True)
            log_sd = _over_categories(found.log_sd, len(those))
            for row, i in enumerate(those):
                spreads[i] = float(log_sd[row, ks.index(guesses[i].k)])
        return spreads

    def _predict(
        self, candidates: Sequence[Candidate], ks: tuple[int, ...], p_min: float, *, with_sd: bool
    ) -> PriorSpeedup:
        cases = [self._case(candidate, category) for category in self._categories for candidate in candidates]
        return predict(cases, self._posterior, ks, p_min, self._law, with_sd=with_sd)

    def _case(self, candidate: Candidate, category: str) -> Case:
        machine = self._machines.of_target(candidate.placement)
        return Case(
            machine=machine,
            target=self._target,
            draft=self._side(candidate.draft),
            category=category,
            baseline_s=self._known_s / self._slowdown(candidate) if self._known_s else None,
            draft_machine=self._machines.of_draft(candidate.placement),
            temperature=self._asked.settings.sampling.temperature,
        )

    def _slowdown(self, candidate: Candidate) -> float:
        """t(1) alone over t(1) beside this draft: below 1 where the draft pushes layers of the target off the GPU."""
        beside = self._machines.of_target(candidate.placement)
        return 1.0 if beside == self._alone else self._seconds(self._alone) / self._seconds(beside)

    def _seconds(self, machine: Machine) -> float:
        if machine not in self._token_s:
            self._token_s[machine] = token_seconds(machine, self._target, self._posterior)
        return self._token_s[machine]

    def _ks(self) -> tuple[int, ...]:
        if self._asked.k is not None:
            return (self._asked.k,)
        return tuple(k for k in KS if k <= self._asked.settings.k_max)

    def _p_mins(self) -> tuple[float, ...]:
        return P_MINS if self._asked.p_min is None else (self._asked.p_min,)


def _target_side(asked: Outlook, catalog: Catalog) -> Side:
    entry = asked.target_entry
    side = side_of_entry(catalog, entry, asked.target) if entry else side_of(asked.target, "", "")
    return replace(side, load=replace(side.load, run=""))


def _over_categories(values: Floats, candidates: int) -> Floats:
    """Means over categories: (categories * candidates, ks) -> (candidates, ks)."""
    return np.asarray(values.reshape(-1, candidates, values.shape[1]).mean(axis=0))


def _estimate(candidate: Candidate, guess: _Guess, log_sd: float, baseline_tps: float) -> Estimate:
    half_width = float(np.exp(Z_80 * log_sd))
    return Estimate(
        config=Config(candidate.draft.content_hash, guess.k, guess.p_min),
        acceptance_rate=guess.acceptance_rate,
        tokens_per_step=guess.tokens_per_step,
        speedup=guess.speedup,
        speedup_low=guess.speedup / half_width,
        speedup_high=guess.speedup * half_width,
        tokens_per_second=baseline_tps * guess.speedup,
        evidence="prior",
        analytic_speedup=guess.speedup,
    )


# -- what else it says ----------------------------------------------------------------------------------------------


def _what_ifs(
    asked: Outlook,
    catalog: Catalog,
    posterior: Posterior,
    forecast: _Forecast,
    ranked: Sequence[Estimate],
    candidates: Sequence[Candidate],
) -> Iterator[WhatIf]:
    """The best draft of each of the best models at every draft length; the very best one under other settings."""
    by_draft = {one.draft.content_hash: one for one in candidates}
    best_of_models: dict[str, Estimate] = {}
    for estimate in ranked:
        best_of_models.setdefault(by_draft[estimate.config.draft].draft.name, estimate)
    for estimate in list(best_of_models.values())[:MODELS_AT_EVERY_LENGTH]:
        for other in forecast.lengths(by_draft[estimate.config.draft], estimate.config.p_min):
            if other.config != estimate.config:
                yield WhatIf(asked.settings, other)
    if ranked:
        best, settings = ranked[0], asked.settings
        heat = settings.sampling.other_temperature
        for changed in (
            replace(settings, sampling=replace(settings.sampling, temperature=heat)),
            replace(settings, context=settings.context // 2),
        ):
            again = replace(asked, settings=changed, k=best.config.k, p_min=best.config.p_min)
            yield from _asked_again(again, by_draft[best.config.draft].draft, catalog, posterior)


def _asked_again(asked: Outlook, draft: Model, catalog: Catalog, posterior: Posterior) -> Iterator[WhatIf]:
    """One draft under the settings of ``asked``; nothing where it does not fit under them."""
    candidate = judge_draft(asked, draft)
    if isinstance(candidate, Candidate):
        machines = Machines(asked.host, asked.host_entry, asked.target, catalog)
        forecast = _Forecast(asked, catalog, posterior, machines, place_alone(asked, catalog))
        yield from (WhatIf(asked.settings, estimate) for estimate in forecast.estimates([candidate]))


def _notes(
    asked: Outlook, remarks: Sequence[str], found: Answer, candidates: Sequence[Candidate], elapsed_s: float
) -> MeasurementNotes:
    text = " and ".join(asked.categories) or "code and structured text"
    heat = asked.settings.sampling.temperature
    others = "" if asked.categories else "; other text differs, chat accepts far less: --category chat"
    notes = [f"For {text}, at temperature {heat:g}, at a short context{others}."]
    return MeasurementNotes(
        prompts=0,
        answer_tokens=0,
        trials=0,
        anchor_drift=0.0,
        stop_reason="a prediction from published tables; nothing was run",
        elapsed_s=elapsed_s,
        from_store=False,
        repack_off=False,
        notes=(*notes, *dict.fromkeys(remarks), *_next_step(asked, found, candidates)),
    )


def _gain(spread: float) -> str:
    """What a measurement does to an interval of this half-width."""
    now = f"+-{100 * spread:.0f} % now"
    if spread > MEASURED_SPREAD:
        return f"it narrows the interval ({now}) to some +-{100 * MEASURED_SPREAD:.0f} %"
    return f"it says whether this machine is as foreseen ({now})"


def _next_step(asked: Outlook, found: Answer, candidates: Sequence[Candidate]) -> list[str]:
    """What measuring would cost and gain."""
    if not found.ranked or asked.target.is_recurrent:
        return []
    best = found.ranked[0]
    draft = next(one.draft for one in candidates if one.draft.content_hash == best.config.draft)
    missing = [model for model in (asked.target, draft) if model.hub and not model.path]
    size_gib = sum(model.weights_bytes for model in missing) / GIB
    spread = (best.speedup_high / best.speedup_low) ** 0.5 - 1
    where = " on that machine" if asked.host_entry is not None else ""
    download = f"a download of {size_gib:.1f} GiB and " if missing else ""
    steps = [f"Measuring{where} costs {download}about five minutes; {_gain(spread)}."]
    steps += [f"Pull it: advisor pull {model.hub}" for model in missing]
    paths = [model.path or f"{role}.gguf" for model, role in ((asked.target, "TARGET"), (draft, "DRAFT"))]
    return [*steps, f"Measure: advisor recommend --target {paths[0]} --draft {paths[1]}"]
