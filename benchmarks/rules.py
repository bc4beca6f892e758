"""Both ways to verify a draft: acceptance as replayed, against real runs in this process and in the server.

Sampled text is another one in every run, so only rates can agree, and they do as far as so many tokens allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from advisor.acceptance.rejection import weighed
from advisor.acceptance.walk import DraftAcceptance, pooled
from advisor.engines.base import NO_ROLLOUT, Runner
from advisor.engines.llama_server import LlamaServer
from advisor.store import Store
from advisor.types import Config, DraftSampling, Model, Run, Transcript, Workload
from benchmarks.measure import SCORED_AT_ONCE, Bench

RULES: tuple[DraftSampling, ...] = ("greedy", "probabilistic")
K, PROMPTS, TOKENS, SEEDS = 4, 8, 48, (1, 2)


@dataclass(frozen=True)
class Judged:
    """accepted / drafted of one draft under one rule; ``drafted``: tokens in the server's runs."""

    temperature: float
    draft: str
    rule: DraftSampling
    replayed: float
    in_process: float
    served: float
    drafted: int


def judge(
    bench: Bench,
    server: LlamaServer,
    drafts: Sequence[Model],
    workload: Workload,
    *,
    prompts: int = PROMPTS,
    tokens: int = TOKENS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Judged]:
    """One row a (draft, rule), at the bench's temperature, over as many seeds for the answers as for the runs."""
    texts: list[Transcript] = []
    for seed in seeds:
        sampling = replace(bench.sampling, seed=seed)
        seeded = replace(bench, sampling=sampling)
        written = seeded.transcripts(workload, prompts=prompts, max_tokens=tokens)
        texts += weighed(bench.engine, Store.in_memory(), bench.target, written, sampling)
    server.open("target", bench.target, bench.options())
    for draft in drafts:
        bench.engine.open("draft", draft, bench.options(outputs=SCORED_AT_ONCE))
        traces = [bench.engine.score(text, NO_ROLLOUT, "draft", bench.sampling.temperature) for text in texts]
        acceptance = DraftAcceptance(traces, max_tokens=tokens)
        server.open("draft", draft, bench.options())
        for rule in RULES:
            config = Config(draft.content_hash, K, draft_sampling=rule)
            told = pooled(acceptance.walks(config))
            bench.open(draft)
            asked = [(text, seed) for text in texts[:prompts] for seed in seeds]
            here, there = (_rate(_runs(runner, bench, config, asked, tokens)) for runner in (bench.engine, server))
            yield Judged(bench.sampling.temperature, draft.label, rule, told.accepted / told.drafted, here[0], *there)


def _runs(
    runner: Runner, bench: Bench, config: Config, asked: Sequence[tuple[Transcript, int]], tokens: int
) -> list[Run]:
    return [
        runner.speculate(text.prompt_tokens, config, replace(bench.sampling, seed=seed), tokens) for text, seed in asked
    ]


def _rate(runs: Sequence[Run]) -> tuple[float, int]:
    drafted = sum(run.drafted for run in runs)
    return sum(run.accepted for run in runs) / drafted, drafted
