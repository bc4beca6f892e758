"""The answer before anything is measured, or even downloaded: which draft to get, and what it should give.

resolve -> fits? -> same tokens? -> prior -> recommend, for this machine or for one that is only named. Rows carry the
evidence "prior". Neither llama_cpp nor optuna is imported on this path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advisor.catalog.compatible import token_groups_incompatibility
from advisor.catalog.describe import describe, quants_of, repository_of
from advisor.catalog.load import Catalog
from advisor.catalog.local import contradictions, match_entry
from advisor.catalog.names import hosts_matching, resolve
from advisor.catalog.records import Entry, HostEntry, Repository
from advisor.cost.prior import Machine
from advisor.cost.step_law import step_law
from advisor.gguf import read_model
from advisor.predict.evidence import machine_of, probed_cpu, side_of, side_of_entry
from advisor.predict.prior import Z_80, Case, Posterior, PriorSpeedup, Side, predict, token_seconds
from advisor.prune import fits_alone, graphics_devices, judge
from advisor.recommend import Answer, answer
from advisor.tokenizer import header_incompatibility
from advisor.types import (
    Baseline,
    Build,
    Candidate,
    Config,
    CostCurve,
    Device,
    Estimate,
    Host,
    MeasurementNotes,
    Model,
    Placement,
    Recommendation,
    Rejected,
    Settings,
    WhatIf,
)

Floats = npt.NDArray[np.float64]

GB, GIB = 10**9, 1 << 30
KS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
P_MINS = (0.0, 0.5, 0.75, 0.9)
MODELS_AT_EVERY_LENGTH = 3
OTHER_TEMPERATURE = 0.8
DEFAULT_CATEGORY, DEFAULT_QUANT = "code", "Q4_K_M"
# Builds up to here compare the ids of BOS and EOS even where they are not added (llama.cpp pull request 22358).
LAST_BUILD_WITH_STRICT_MARKERS = 8924
# Repacked at load time since the end of 2024; llama.cpp no longer reads such files.
WITHDRAWN_QUANTS = frozenset({"Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"})
# A Mac lets the GPU use this share of its memory unless told otherwise (two thirds below 64 GB).
METAL_SHARE, SMALL_METAL_SHARE, SMALL_METAL_BYTES = 0.75, 2 / 3, 64 * GIB
FREE_SHARE = 0.95
MEASURED_SPREAD = 0.15  # the usual half-width of an 80 % interval once replay and a few runs are in
ASSUMED_RAM_BYTES = 64 * GIB  # beside a graphics card of which only the name is known
ASSUMED_RAM_BANDWIDTH = 60 * GB  # two channels of DDR5, where the RAM's own is not known


@dataclass(frozen=True)
class Outlook:
    """What is asked. ``k`` and ``p_min`` pin a setting; ``baseline_tps`` is what the target gives today; ``on_disk``:
    paths of files that are here, by catalogue id and quant."""

    target: Model
    target_entry: Entry | None
    host: Host
    host_entry: HostEntry | None
    build: Build
    settings: Settings
    k: int | None = None
    p_min: float | None = None
    baseline_tps: float | None = None
    categories: tuple[str, ...] = ()
    on_disk: Mapping[tuple[str, str], str] = field(default_factory=dict)


def catalogue_model(catalog: Catalog, entry: Entry, quant: str, repository: Repository | None = None) -> Model:
    """A model that need not be on disk. OptionError for a quant whose size cannot be told."""
    repository = repository or repository_of(entry, quant)
    model = describe(entry, quant, catalog.tokenizers[entry.tokenizer], repository=repository)
    return replace(model, hub=f"{repository.repo}:{quant}" if repository else "")


def named_target(text: str, catalog: Catalog, note: Callable[[str], None]) -> tuple[Model, Entry | None]:
    """A target by its file or its name, with its catalogue entry. OptionError, FileProblem."""
    path = Path(text).expanduser()
    if path.is_file():
        model = read_model(path)
        entry = match_entry(model, tuple(catalog.entries.values()), name_hint=path.stem)
        if entry is None:
            note(f"The catalogue does not know {model.name}: its family is taken for an unknown one.")
            return model, None
        for contradiction in contradictions(entry, model):
            note(f"{contradiction}; the file is right.")
        return model, entry
    named = resolve(text, catalog)
    quant = named.quant or DEFAULT_QUANT
    if named.quant is None:
        note(f"{text} names no quantization: {DEFAULT_QUANT} is taken. Append one, such as {named.entry.id}-q8.")
    return catalogue_model(catalog, named.entry, quant, named.repository), named.entry


def named_host(entry: HostEntry, memory_gib: int) -> Host:
    """A machine of the catalogue, idle."""
    total = memory_gib * GIB
    notes: tuple[str, ...] = (f"Named with --host, not probed: {entry.source}.",)
    ram = total
    devices: tuple[Device, ...] = ()
    if entry.backend != "cpu":
        devices = (Device(entry.backend, entry.name, "gpu", total, int(FREE_SHARE * total), entry.unified),)
        if entry.backend == "metal":
            lent = int((METAL_SHARE if total >= SMALL_METAL_BYTES else SMALL_METAL_SHARE) * memory_gib)
            notes += (
                f"macOS lends the GPU about {lent} GiB by default; a pair that needs more wants "
                "`sudo sysctl iogpu.wired_limit_mb=...` first.",
            )
        if not entry.unified:
            ram = ASSUMED_RAM_BYTES
            notes += (f"{ASSUMED_RAM_BYTES // GIB} GiB of RAM are assumed beside the card.",)
    return Host(
        fingerprint=f"catalogue:{entry.id}-{memory_gib}gb",
        os="",
        cpu=f"{entry.name}, {memory_gib} GiB",
        isa=(),
        cores_physical=0,
        cores_usable=0,
        ram_total_bytes=ram,
        ram_available_bytes=int(FREE_SHARE * ram),
        devices=devices,
        notes=notes,
    )


def foresee(asked: Outlook, catalog: Catalog, posterior: Posterior) -> Recommendation:
    """The whole answer. NothingFits when the target itself does not fit."""
    started = time.monotonic()
    placement = fits_alone(asked.target, asked.host, asked.settings.context)
    candidates, rejected = _candidates(asked, catalog)
    machines = _Machines(asked, catalog)
    forecast = _Forecast(asked, catalog, posterior, machines, placement)
    baseline = forecast.baseline()
    found = answer(forecast.estimates(candidates) if candidates else [], candidates)
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
        measurement=_notes(asked, machines, found, candidates, time.monotonic() - started),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        what_if=tuple(_what_ifs(asked, catalog, posterior, forecast, found.ranked, candidates)),
    )


# -- what could run --------------------------------------------------------------------------------------------------


def _candidates(asked: Outlook, catalog: Catalog) -> tuple[list[Candidate], list[Rejected]]:
    """Every published quant of every smaller model with the target's tokens; of the others those that look alike."""
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    for entry in catalog.entries.values():
        if entry is asked.target_entry or entry.parameters >= asked.target.parameters:
            continue
        difference = _difference(asked, catalog, entry)
        if difference is not None:
            if _looks_alike(asked, entry):
                rejected.append(Rejected(entry.name, "", "tokenizer", difference))
            continue
        for quant in quants_of(entry):
            if quant in WITHDRAWN_QUANTS:
                continue
            draft = replace(
                catalogue_model(catalog, entry, quant), path=asked.on_disk.get((entry.id, quant.upper()), "")
            )
            verdict = judge(
                asked.target,
                draft,
                asked.host,
                asked.settings.context,
                k_max=asked.k or asked.settings.k_max,
                difference_of=lambda target, draft: None,
            )
            if isinstance(verdict, Candidate):
                candidates.append(verdict)
            else:
                rejected.append(verdict)
    return candidates, rejected


def _difference(asked: Outlook, catalog: Catalog, entry: Entry) -> str | None:
    """Why the target's build would refuse this model as a draft."""
    strict = 0 < asked.build.llama_cpp_build <= LAST_BUILD_WITH_STRICT_MARKERS
    group = catalog.tokenizers[entry.tokenizer]
    if asked.target_entry is not None:
        return token_groups_incompatibility(
            catalog.tokenizers[asked.target_entry.tokenizer],
            asked.target.vocabulary.size,
            group,
            entry.shape.vocabulary_size,
            compares_unused_markers=strict,
        )
    header = catalogue_model(catalog, entry, quants_of(entry)[0]).vocabulary if quants_of(entry) else None
    if header is None:
        return "no file of it is known"
    return header_incompatibility(asked.target.vocabulary, header, compares_unused_markers=strict) or (
        None if header.pre == asked.target.vocabulary.pre else "its tokens are not known to be the target's"
    )


def _looks_alike(asked: Outlook, entry: Entry) -> bool:
    """A vocabulary of about the same size, or the same kind of name: somebody would try it."""
    near = abs(entry.shape.vocabulary_size - asked.target.vocabulary.size) <= 1024
    return near and entry.shape.architecture.removesuffix("moe") == asked.target.architecture.removesuffix("moe")


# -- where it would run ----------------------------------------------------------------------------------------------


class _Machines:
    """Bandwidth and backend of each device of the host."""

    def __init__(self, asked: Outlook, catalog: Catalog) -> None:
        self.notes: list[str] = []
        self._cpu_is_assumed = False
        gpus = graphics_devices(asked.host)
        self._gpu = self._of_gpu(asked, gpus[0], catalog) if gpus else None
        self._cpu = self._of_cpu(asked)
        self._layers = asked.target.layers + 1

    def _of_cpu(self, asked: Outlook) -> Machine:
        if asked.host_entry is not None and asked.host_entry.backend == "cpu":
            return machine_of(asked.host_entry)
        known = probed_cpu(asked.host)
        self._cpu_is_assumed = known is None
        return known or Machine("cpu", ASSUMED_RAM_BANDWIDTH)

    def _from_ram(self) -> Machine:
        if self._cpu_is_assumed:
            self.notes.append(
                f"The bandwidth of the RAM is assumed: {ASSUMED_RAM_BANDWIDTH / GB:.0f} GB/s. What does not fit on the "
                "card depends on it."
            )
        return self._cpu

    def _of_gpu(self, asked: Outlook, device: Device, catalog: Catalog) -> Machine | None:
        if asked.host_entry is not None:
            return machine_of(asked.host_entry)
        known = hosts_matching(device.description, catalog, device.memory_total_bytes / GIB)
        if known is not None:
            return machine_of(known)
        self.notes.append(f"The catalogue does not know {device.description}: its speed is taken for that of the RAM.")
        return None

    def of_target(self, placement: Placement) -> Machine:
        """With layers on both sides: the two bandwidths in the proportion of the layers."""
        layers = placement.target_gpu_layers
        if layers == 0 or self._gpu is None:
            return self._from_ram()
        if layers < 0 or layers >= self._layers:
            return self._gpu
        share = layers / self._layers
        on_gpu = share / self._gpu.bandwidth_bytes_per_s
        on_cpu = (1 - share) / self._from_ram().bandwidth_bytes_per_s
        slower = self._gpu if on_gpu > on_cpu else self._cpu  # where most of the time goes, kernels matter most
        return Machine(slower.backend, 1 / (on_gpu + on_cpu))

    def of_draft(self, placement: Placement) -> Machine:
        return self._gpu if placement.draft_gpu_layers != 0 and self._gpu is not None else self._from_ram()


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
        self, asked: Outlook, catalog: Catalog, posterior: Posterior, machines: _Machines, alone: Placement
    ) -> None:
        self._asked, self._posterior, self._machines = asked, posterior, machines
        self._target, self._alone = _target_side(asked, catalog), machines.of_target(alone)
        self._catalog = catalog
        self._entries = {entry.name: entry for entry in catalog.entries.values()}
        self._law = step_law(asked.build)
        self._categories = asked.categories or (DEFAULT_CATEGORY,)
        self._token_s: dict[Machine, float] = {}

    def baseline(self) -> Baseline:
        tps = self._asked.baseline_tps
        token_s = 1 / tps if tps else self._seconds(self._alone)
        return Baseline(1 / token_s, token_s, "prior")

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
        tps = self._asked.baseline_tps
        entry = self._entries[candidate.draft.name]
        return Case(
            machine=machine,
            target=self._target,
            draft=side_of_entry(self._catalog, entry, candidate.draft),
            category=category,
            baseline_s=1 / tps / self._slowdown(candidate) if tps else None,
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
        heat = 0.0 if settings.sampling.temperature == OTHER_TEMPERATURE else OTHER_TEMPERATURE
        for changed in (
            replace(settings, sampling=replace(settings.sampling, temperature=heat)),
            replace(settings, context=settings.context // 2),
        ):
            again = replace(asked, settings=changed, k=best.config.k, p_min=best.config.p_min)
            yield from _asked_again(again, by_draft[best.config.draft].draft, catalog, posterior)


def _asked_again(asked: Outlook, draft: Model, catalog: Catalog, posterior: Posterior) -> Iterator[WhatIf]:
    """One draft under the settings of ``asked``; nothing where it does not fit under them."""
    alone = fits_alone(asked.target, asked.host, asked.settings.context)
    candidate = judge(
        asked.target,
        draft,
        asked.host,
        asked.settings.context,
        k_max=asked.k or asked.settings.k_max,
        difference_of=lambda target, draft: None,
    )
    if isinstance(candidate, Candidate):
        forecast = _Forecast(asked, catalog, posterior, _Machines(asked, catalog), alone)
        yield from (WhatIf(asked.settings, estimate) for estimate in forecast.estimates([candidate]))


def _notes(
    asked: Outlook, machines: _Machines, found: Answer, candidates: Sequence[Candidate], elapsed_s: float
) -> MeasurementNotes:
    text = " and ".join(asked.categories) or "code and structured text"
    heat = asked.settings.sampling.temperature
    others = "" if asked.categories else "; other text differs, chat accepts far less: --category chat"
    notes = [f"For {text}, at temperature {heat:g}, at a short context{others}."]
    if asked.target.attention.recurrent_state_bytes:
        notes.append(
            "The target is recurrent or hybrid: a refused draft costs it a second pass, which is not priced here. Take "
            "the speedups for upper bounds; this version cannot measure such a target."
        )
    return MeasurementNotes(
        prompts=0,
        answer_tokens=0,
        trials=0,
        anchor_drift=0.0,
        stop_reason="a prediction from published tables; nothing was run",
        elapsed_s=elapsed_s,
        from_store=False,
        repack_off=False,
        notes=(*notes, *dict.fromkeys(machines.notes), *_next_step(asked, found, candidates)),
    )


def _gain(spread: float) -> str:
    """What a measurement does to an interval of this half-width."""
    now = f"+-{100 * spread:.0f} % now"
    if spread > MEASURED_SPREAD:
        return f"it narrows the interval ({now}) to some +-{100 * MEASURED_SPREAD:.0f} %"
    return f"it says whether this machine is as foreseen ({now})"


def _next_step(asked: Outlook, found: Answer, candidates: Sequence[Candidate]) -> list[str]:
    """What measuring would cost and gain."""
    if not found.ranked or asked.target.attention.recurrent_state_bytes:
        return []
    best = found.ranked[0]
    draft = next(one.draft for one in candidates if one.draft.content_hash == best.config.draft)
    missing = [model for model in (asked.target, draft) if not model.path]
    size_gib = sum(model.weights_bytes for model in missing) / GIB
    spread = (best.speedup_high / best.speedup_low) ** 0.5 - 1
    where = " on that machine" if asked.host_entry is not None else ""
    download = f"a download of {size_gib:.1f} GiB and " if missing else ""
    steps = [f"Measuring{where} costs {download}about five minutes; {_gain(spread)}."]
    steps += [_source(model) for model in missing]
    paths = [model.path or f"{role}.gguf" for model, role in ((asked.target, "TARGET"), (draft, "DRAFT"))]
    return [*steps, f"Measure: advisor recommend --target {paths[0]} --draft {paths[1]}"]


def _source(model: Model) -> str:
    if model.hub:
        return f"Pull it: advisor pull {model.hub}"
    return f"No repository is known to publish {model.label}: quantize it yourself."
