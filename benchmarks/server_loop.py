"""The in-process loop and the cost model against the real llama-server (package xllamacpp).

Two builds differ in their CPU kernels, so what is compared is the speedup over each build's own baseline. With forced
acceptance nothing about the text is left to chance: what remains is the step law and the curves.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from advisor.cost.curves import prices, reference
from advisor.cost.step_law import CURRENT
from advisor.types import Config, CostCurve, Model, Transcript
from benchmarks.measure import Bench, tokens_per_s
from benchmarks.real_server import Answer, RealServer, Setup

# How often each place of the draft is accepted: short and long drafts, good and bad ones.
FORCED_RATES: tuple[tuple[float, ...], ...] = (
    (0.9,),
    (0.5,),
    (0.8, 0.6),
    (0.9, 0.8, 0.7, 0.6),
    (0.6, 0.4, 0.2, 0.1),
    (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6),
    (0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.08, 0.06),
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
    bench: Bench, draft: Model, configs: Sequence[Config], transcripts: Sequence[Transcript], max_tokens: int
) -> Iterator[Loop]:
    """In-process runs and requests to the servers take turns, prompt by prompt."""
    with ExitStack() as stack:
        alone = stack.enter_context(RealServer(_setup(bench)))
        for config in configs:
            base, fast, server_base, server_fast = [], [], [], []
            with RealServer(_setup(bench, config, draft.path)) as server:
                for one in transcripts:
                    base.append(bench.answer(one, max_tokens))
                    server_base.append(alone.answer(one.prompt_tokens, max_tokens))
                    fast.append(bench.speculate(one, draft, config, max_tokens))
                    server_fast.append(server.answer(one.prompt_tokens, max_tokens))
            in_process = tokens_per_s(fast) / tokens_per_s(base)
            yield Loop(config, in_process, _rate(server_fast) / _rate(server_base))


def forced(
    bench: Bench,
    draft: Model,
    curves: tuple[CostCurve, CostCurve],
    rates: Sequence[tuple[float, ...]],
    transcripts: Sequence[Transcript],
    max_tokens: int,
) -> Iterator[Forced]:
    """``curves``: t(b) and d(b) as this process measures them."""
    with RealServer(_setup(bench)) as alone:
        for one in rates:
            base: list[Answer] = []
            fast: list[Answer] = []
            with RealServer(_setup(bench, Config("", len(one)), draft.path, one)) as server:
                for transcript in transcripts:
                    base.append(alone.answer(transcript.prompt_tokens, max_tokens))
                    fast.append(server.answer(transcript.prompt_tokens, max_tokens))
            steps = sum(answer.speculated for answer in fast)
            per_step = 1 + sum(answer.accepted for answer in fast) / steps
            predicted = per_step / _step_passes(curves, len(one))
            yield Forced(one, per_step, predicted, _rate(fast) / _rate(base))


def median_error(found: Sequence[Forced]) -> float:
    return statistics.median(abs(one.predicted / one.measured - 1) for one in found)


def _step_passes(curves: tuple[CostCurve, CostCurve], k: int) -> float:
    """The price of a step that drafts k tokens, in target passes."""
    target, draft = curves
    unit = reference([target], [draft])
    verify = np.median(prices(target, "target", unit, k + 1), axis=0)
    drafting = np.median(prices(draft, "draft", unit, k + 1), axis=0)
    step: Mapping[int, int] = {k: 1}
    target_counts, draft_counts = CURRENT.counts(k, step, k + 1)
    return float(target_counts @ verify + draft_counts @ drafting)


def _setup(bench: Bench, config: Config | None = None, draft: str = "", rates: tuple[float, ...] = ()) -> Setup:
    model, context, threads = bench.target.path, bench.context, bench.threads
    if config is None:
        return Setup(model, context=context, threads=threads)
    return Setup(model, config, context, threads, draft, rates)


def _rate(answers: Sequence[Answer]) -> float:
    return sum(len(answer.answer_tokens) - 1 for answer in answers) / sum(answer.decode_s for answer in answers)
