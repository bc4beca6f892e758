"""What each machine of a fleet should run: from profiles where costs were measured on it, else from the prior."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from advisor import outlook
from advisor.catalog.load import Catalog
from advisor.catalog.matching import match_entry
from advisor.cost.step_law import step_law
from advisor.errors import NothingFits
from advisor.fleet.inventory import Place
from advisor.fleet.pairing import Shared, best_shared
from advisor.predict.belief import Posterior
from advisor.predict.drafts import judge_draft, nothing_to_try
from advisor.predict.predictor import Predictor
from advisor.predict.question import Outlook
from advisor.profiles.merge import same_sampling
from advisor.profiles.record import MeasuredCost, Profile
from advisor.ranking import Answer, answer
from advisor.types import Baseline, Build, Candidate, Config, Estimate, Model, Trace


@dataclass(frozen=True)
class Row:
    """One kind of machine. ``answer`` is None where the target does not run there, for the reason ``why_not``.

    ``estimates``: every setting that was priced. ``profile``: the digest of the one that this machine's costs are from,
    "" where they are foreseen; ``build``: what they were measured with.
    """

    place: Place
    answer: Answer | None
    baseline: Baseline | None
    candidates: tuple[Candidate, ...]
    estimates: dict[Config, Estimate]
    profile: str = ""
    build: Build | None = None
    why_not: str = ""


@dataclass(frozen=True)
class FleetAnswer:
    """``shared`` serves the machines that can run the target; None where nothing beats the target alone on them."""

    target: Model
    rows: tuple[Row, ...]
    shared: Shared | None

    @property
    def able(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.answer is not None)

    def draft_of(self, config: Config) -> Model:
        """KeyError for a config that no machine can run."""
        drafts = (candidate.draft for row in self.rows for candidate in row.candidates)
        found = next((draft for draft in drafts if draft.content_hash == config.draft), None)
        if found is None:
            raise KeyError(config.draft)
        return found


def answer_fleet(
    places: Sequence[Place], asked: Outlook, catalog: Catalog, posterior: Posterior, profiles: Iterable[Profile]
) -> FleetAnswer:
    """``asked`` is the question, whatever its host."""
    kept = [one for one in profiles if _is_about(one, asked, catalog)]
    rows = tuple(
        _row(place, replace(asked, host=place.host, host_entry=place.entry), catalog, posterior, kept)
        for place in places
    )
    able = [row for row in rows if row.answer is not None]
    shared = best_shared([row.estimates for row in able], [row.place.count for row in able])
    return FleetAnswer(asked.target, rows, shared)


def _row(place: Place, asked: Outlook, catalog: Catalog, posterior: Posterior, profiles: Sequence[Profile]) -> Row:
    found = _measured_on(place, asked.build, profiles)
    if found is not None:
        asked = replace(asked, baseline_tps=1 / found[1].token_s)
    try:
        foreseen = outlook.foresee(asked, catalog, posterior)
    except NothingFits as error:
        return Row(place, None, None, (), {}, why_not=error.line)
    estimates = {one.config: one for one in outlook.at_every_setting(asked, catalog, posterior, foreseen)}
    if found is None:
        own = Answer(foreseen.verdict, foreseen.sentence, foreseen.estimates, foreseen.best, foreseen.runner_up)
        return Row(place, own, foreseen.baseline, foreseen.candidates, estimates)
    measured, added = _from_profile(*found, asked, foreseen.candidates, catalog)
    replayed = {config.draft for config in measured}
    others = [one for one in foreseen.estimates if one.config.draft not in replayed]
    candidates = (*foreseen.candidates, *added)
    own = answer([*measured.values(), *others], candidates, nothing=nothing_to_try(foreseen.rejected))
    estimates = {config: one for config, one in estimates.items() if config.draft not in replayed} | measured
    return Row(place, own, foreseen.baseline, candidates, estimates, found[0].digest, found[1].build)


def _measured_on(place: Place, build: Build, profiles: Sequence[Profile]) -> tuple[Profile, MeasuredCost] | None:
    """The costs of this machine with the build that was asked for, or with the newest, where none was. Of several the
    first: profiles come newest first."""
    costs = [(one, cost) for one in profiles for cost in one.costs if cost.host.fingerprint == place.host.fingerprint]
    if build.llama_cpp_build:
        costs = [one for one in costs if one[1].build.llama_cpp_build == build.llama_cpp_build]
    return max(costs, key=lambda one: one[1].build.llama_cpp_build, default=None)


def _from_profile(
    profile: Profile, cost: MeasuredCost, asked: Outlook, candidates: Sequence[Candidate], catalog: Catalog
) -> tuple[dict[Config, Estimate], list[Candidate]]:
    """Its drafts at every setting, under the names that the catalogue has for them, and those that it has not."""
    drafts = {one.content_hash: one for one in profile.drafts if one.content_hash in cost.draft_curves}
    predictor = Predictor(
        {draft: _asked_traces(profile.traces[draft], asked.categories) for draft in drafts},
        cost.target_curve,
        {draft: cost.draft_curves[draft] for draft in drafts},
        step_law(cost.build),
        k_max=min(profile.origin.k_max, asked.settings.k_max),
        max_tokens=profile.origin.max_tokens,
    )
    known = {(one.draft.name, one.draft.quant): one for one in candidates}
    names, added = {}, []
    for digest, draft in drafts.items():
        entry = match_entry(draft, tuple(catalog.entries.values()))
        candidate = known.get((entry.name, draft.quant)) if entry is not None else None
        if candidate is None:
            judged = judge_draft(asked, draft)
            if not isinstance(judged, Candidate):
                continue
            candidate = judged
            added.append(judged)
        names[digest] = candidate.draft.content_hash
    estimates = predictor.estimates([], 1 / cost.token_s)
    renamed = (
        replace(one, config=replace(one.config, draft=names[one.config.draft]))
        for one in estimates
        if one.config.draft in names
    )
    return {one.config: one for one in renamed}, added


def _is_about(profile: Profile, asked: Outlook, catalog: Catalog) -> bool:
    """Whether it is of the target that was asked for, by its file or by the catalogue, of the sampling and of the
    categories."""
    if not same_sampling(profile.origin.sampling, asked.settings.sampling):
        return False
    if not all(_asked_traces(traces, asked.categories) for traces in profile.traces.values()):
        return False
    if profile.target.content_hash == asked.target.content_hash:
        return True
    entry = match_entry(profile.target, tuple(catalog.entries.values()))
    return entry is not None and entry is asked.target_entry and profile.target.quant == asked.target.quant


def _asked_traces(traces: Sequence[Trace], categories: Sequence[str]) -> tuple[Trace, ...]:
    """Over the answers of these categories; over all where none was asked for."""
    return tuple(trace for trace in traces if not categories or trace.category in categories)
