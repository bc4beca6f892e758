"""The in-process loop and the step law against the real llama-server.

Two builds differ in their CPU kernels, so what is compared is the speedup over each build's own baseline. With forced
acceptance nothing about the text is left to chance: what remains is the step law and what decodes cost in the server.

Curves and runs take turns prompt by prompt: a shared machine changes by more within ten minutes than is judged here.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from advisor.cost.curves import merged, prices, reference
from advisor.cost.step_law import step_law
from advisor.engines.base import Role
from advisor.engines.llama_server import LlamaServer
from advisor.predict.steady import steadied
from advisor.search import speedup_of
from advisor.types import Config, CostCurve, Model, Sampling, Transcript, Trial
from benchmarks.measure import Bench, Pair
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


@dataclass(frozen=True)
class Loop:
    """Speedups of one config over the same answers: in this process and in the server, each over its own baseline."""

    config: Config
    in_process: float
    in_server: float

    @property
    def efficiency(self) -> float:
        return self.in_process / self.in_server


@dataclass(frozen=True)
class Forced:
    """``tokens_per_step`` as the server counted it."""

    rates: tuple[float, ...]
    tokens_per_step: float
    predicted: float
    measured: float


def loops(
    bench: Bench,
    served: Bench,
    draft: Model,
    configs: Sequence[Config],
    transcripts: Sequence[Transcript],
    max_tokens: int,
) -> Iterator[Loop]:
    """In-process runs and requests to the server take turns."""
    pairs: dict[tuple[Config, str], list[Pair]] = {}
    for one in transcripts:
        for config in configs:
            for name, engine in (("ours", bench), ("theirs", served)):
                baseline = engine.answer(one, max_tokens)
                run = engine.speculate(one, draft, config, max_tokens)
                pairs.setdefault((config, name), []).append((baseline, run))
    for config in configs:
        yield Loop(config, speedup_of(pairs[config, "ours"]), speedup_of(pairs[config, "theirs"]))


def forced(
    bench: Bench,
    server: LlamaServer,
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
            one = rates[(place + turn) % len(rates)]
            pairs[one].append(_forced_pair(server, draft, one, transcript, max_tokens, baseline_first=bool(turn % 2)))
    trials = steadied([Trial.of(Config(draft.content_hash, len(one)), found) for one, found in pairs.items()])
    step = _Step(merged(curves["target"]), merged(curves["draft"]), b_max, step_law(server.build).reevaluates)
    for one, trial in zip(rates, trials, strict=True):
        steps = sum(run.steps for run in trial.runs)
        drafted, accepted = (sum(getattr(run, name) for run in trial.runs) / steps for name in ("drafted", "accepted"))
        yield Forced(one, 1 + accepted, (1 + accepted) / step.passes(drafted), speedup_of(trial.pairs))


class _Step:
    """What a step takes in target passes, by the curves' median rounds."""

    def __init__(self, target: CostCurve, draft: CostCurve, b_max: int, reevaluates: bool) -> None:
        unit = reference([target], [draft])
        self._t = np.median(prices(target, "target", unit, b_max), axis=0)
        self._d = np.median(prices(draft, "draft", unit, b_max), axis=0)
        self._reevaluates = reevaluates

    def passes(self, drafted: float) -> float:
        """With ``drafted`` tokens on average."""
        b = np.arange(len(self._t))
        verified, again = (float(np.interp(drafted + 1, b, table)) for table in (self._t, self._d))
        return verified + drafted * float(self._d[1]) + self._reevaluates * again


def median_error(found: Sequence[Forced]) -> float:
    return statistics.median(abs(one.predicted / one.measured - 1) for one in found)


def _forced_pair(
    server: LlamaServer,
    draft: Model,
    rates: tuple[float, ...],
    transcript: Transcript,
    max_tokens: int,
    *,
    baseline_first: bool,
) -> Pair:
    prompt, config = transcript.prompt_tokens, Config(draft.content_hash, len(rates))
    if baseline_first:
        baseline = server.answer(prompt, GREEDY, max_tokens)
        return baseline, server.speculate_forced(prompt, config, rates, GREEDY, max_tokens)
    run = server.speculate_forced(prompt, config, rates, GREEDY, max_tokens)
    return server.answer(prompt, GREEDY, max_tokens), run
