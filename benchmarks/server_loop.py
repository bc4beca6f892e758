"""The in-process loop and the step law against the real llama-server.

Two builds differ in their CPU kernels, so what is compared is the speedup over each build's own baseline. With forced
acceptance nothing about the text is left to chance: what remains is the step law and what decodes cost in the server.

Curves and runs take turns prompt by prompt: a shared machine changes by more within ten minutes than is judged here.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from advisor.cost.curves import merged, prices, reference
from advisor.cost.step_law import StepLaw, step_law
from advisor.engines.base import Role
from advisor.predict.steady import steadied
from advisor.search import speedup_of
from advisor.types import Build, Config, CostCurve, Model, Run, Sampling, Transcript, Trial
from benchmarks.measure import Bench, Floats, Pair, median_of_noise
from benchmarks.rungs import ROLES

GREEDY = Sampling()
CURVE_ROUNDS = 2  # a prompt

# How often each place of a draft is accepted: short and long drafts, good and bad ones.
FORCED_RATES: tuple[tuple[float, ...], ...] = (
    (0.9,),
    (0.5,),
    (0.8, 0.6, 0.5),
    (0.9, 0.8, 0.7, 0.6),
    (0.6, 0.4, 0.2, 0.1),
    (0.9, 0.8, 0.7, 0.6, 0.5, 0.4),
    (0.6, 0.4, 0.3, 0.2, 0.1, 0.1),
    (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6),
)


class ForcedServer(Protocol):
    """A server that accepts drafts as often as it is told to (LlamaServer)."""

    @property
    def build(self) -> Build: ...
    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Run: ...
    def speculate_forced(
        self, prompt: Sequence[int], config: Config, rates: Sequence[float], sampling: Sampling, max_tokens: int
    ) -> Run: ...


@dataclass(frozen=True)
class Loop:
    """Speedups of one config over the same answers: in this process and in the server, each over its own baseline.
    ``error``: standard error of log(efficiency), from how much it differs between the answers."""

    config: Config
    in_process: float
    in_server: float
    error: float

    @property
    def efficiency(self) -> float:
        return self.in_process / self.in_server


@dataclass(frozen=True)
class Forced:
    """``tokens_per_step`` as the server counted it. ``off``: log(measured / predicted) answer by answer."""

    rates: tuple[float, ...]
    tokens_per_step: float
    predicted: float
    measured: float
    off: Floats


def loops(
    bench: Bench,
    served: Bench,
    draft: Model,
    configs: Sequence[Config],
    transcripts: Sequence[Transcript],
    max_tokens: int,
) -> Iterator[Loop]:
    """Config by config, for which the server starts anew. In-process runs and requests to the server take turns; who
    begins, and whether the baseline does, changes from answer to answer. Baselines are steadied as the advisor does."""
    ours: dict[Config, list[Pair]] = {config: [] for config in configs}
    theirs: dict[Config, list[Pair]] = {config: [] for config in configs}
    for config in configs:
        for turn, one in enumerate(transcripts):
            for engine, pairs in ((bench, ours), (served, theirs))[:: -1 if turn % 2 else 1]:
                answer = partial(engine.answer, one, max_tokens)
                speculate = partial(engine.speculate, one, draft, config, max_tokens)
                pairs[config].append(_pair(answer, speculate, baseline_first=turn % 4 < 2))
    sides = ([Trial.of(config, found) for config, found in side.items()] for side in (ours, theirs))
    for here, there in zip(*map(steadied, sides), strict=True):
        by_answer = zip(here.pairs, there.pairs, strict=True)
        off = np.log([speedup_of([mine]) / speedup_of([its]) for mine, its in by_answer])
        error = float(off.std(ddof=1)) / math.sqrt(len(off))
        yield Loop(here.config, speedup_of(here.pairs), speedup_of(there.pairs), error)


def forced(
    bench: Bench,
    server: ForcedServer,
    draft: Model,
    rates: Sequence[tuple[float, ...]],
    transcripts: Sequence[Transcript],
    max_tokens: int,
) -> Iterator[Forced]:
    """``bench`` times decodes in this server."""
    curves: dict[Role, list[CostCurve]] = {role: [] for role in ROLES}
    pairs: dict[tuple[float, ...], list[Pair]] = {one: [] for one in rates}
    b_max = max(map(len, rates)) + 1
    for turn, transcript in enumerate(transcripts):
        for role in ROLES:
            curves[role].append(bench.curve(role, draft, transcripts, b_max=b_max, rounds=CURVE_ROUNDS))
        for place in range(len(rates)):
            one, prompt = rates[(place + turn) % len(rates)], transcript.prompt_tokens
            config = Config(draft.content_hash, len(one))
            answer = partial(server.answer, prompt, GREEDY, max_tokens)
            speculate = partial(server.speculate_forced, prompt, config, one, GREEDY, max_tokens)
            pairs[one].append(_pair(answer, speculate, baseline_first=bool(turn % 2)))
    trials = steadied([Trial.of(Config(draft.content_hash, len(one)), found) for one, found in pairs.items()])
    costs = _Costs(merged(curves["target"]), merged(curves["draft"]), b_max, step_law(server.build))
    for one, trial in zip(rates, trials, strict=True):
        off = [math.log(speedup_of([(base, run)]) / costs.speedup(len(one), [run])) for base, run in trial.pairs]
        yield Forced(
            one,
            1 + sum(run.accepted for run in trial.runs) / sum(run.steps for run in trial.runs),
            costs.speedup(len(one), trial.runs),
            speedup_of(trial.pairs),
            np.array(off),
        )


class _Costs:
    """What the steps of runs cost in target passes by the step law and the curves' median rounds."""

    def __init__(self, target: CostCurve, draft: CostCurve, b_max: int, law: StepLaw) -> None:
        unit = reference([target], [draft])
        self._t = np.median(prices(target, "target", unit, b_max), axis=0)
        self._d = np.median(prices(draft, "draft", unit, b_max), axis=0)
        self._b_max, self._law = b_max, law

    def speedup(self, k: int, runs: Sequence[Run]) -> float:
        """Of runs that accepted what they did. Drafts have k tokens but where an answer ends."""
        counts = [self._counts(k, run) for run in runs]
        passes = sum(float(target @ self._t + draft @ self._d) for target, draft in counts)
        return sum(run.steps + run.accepted for run in runs) / passes

    def _counts(self, k: int, run: Run) -> tuple[Floats, Floats]:
        whole, rest = divmod(run.drafted, k)
        verified = Counter({k: whole})
        verified[rest] += bool(rest)
        verified[0] += run.steps - verified.total()
        return self._law.counts(run.drafted, verified, self._b_max)


def median_error(found: Sequence[Forced]) -> float:
    return statistics.median(abs(one.predicted / one.measured - 1) for one in found)


def noise(found: Sequence[Forced]) -> float:
    """The median error that a perfect prediction would show at most."""
    return median_of_noise(one.off for one in found)


def _pair(answer: Callable[[], Run], speculate: Callable[[], Run], *, baseline_first: bool) -> Pair:
    if baseline_first:
        baseline = answer()
        return baseline, speculate()
    run = speculate()
    return answer(), run
