"""Replayed acceptance against the real speculative loop: the same answers, the same k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

from advisor.acceptance.walk import Walk, walk
from advisor.types import Config, Model, Run, Workload
from benchmarks.measure import Bench

KS = (1, 2, 4, 8)
# Texts may part at near-ties: many short answers, so that none weighs much.
PROMPTS, ANSWER_TOKENS = 24, 48


@dataclass(frozen=True)
class Counts:
    """Over some answers: what the replay said and what the real loop did."""

    answers: int
    replayed_accepted: int
    accepted: int
    replayed_steps: int
    steps: int


@dataclass(frozen=True)
class Compared:
    """``every``: all answers; ``alike``: those whose text was the same in both, of which alone the replay speaks."""

    temperature: float
    draft: str
    k: int
    tokens: int
    every: Counts
    alike: Counts


def compare(
    bench: Bench, drafts: Sequence[Model], workload: Workload, *, prompts: int = PROMPTS, tokens: int = ANSWER_TOKENS
) -> Iterator[Compared]:
    """One row a (draft, k), at the bench's sampling."""
    transcripts = bench.transcripts(workload, prompts=prompts, max_tokens=tokens)
    for draft in drafts:
        traces = bench.replay(draft, transcripts)
        for k in KS:
            told = [walk(trace, Config("", k), max_tokens=tokens) for trace in traces]
            runs = [bench.speculate(transcript, draft, Config("", k), tokens) for transcript in transcripts]
            alike = [run.answer_tokens == one.answer_tokens for run, one in zip(runs, transcripts, strict=True)]
            yield Compared(
                bench.sampling.temperature,
                draft.label,
                k,
                sum(run.tokens for run in runs),
                _counts(told, runs),
                _counts(list(compress(told, alike)), list(compress(runs, alike))),
            )


def off(counts: Sequence[Counts]) -> tuple[float, float]:
    """How far the replay is off over all of them together: (accepted, steps), as shares."""
    accepted = sum(one.replayed_accepted for one in counts) / sum(one.accepted for one in counts) - 1
    steps = sum(one.replayed_steps for one in counts) / sum(one.steps for one in counts) - 1
    return accepted, steps


def _counts(told: Sequence[Walk], runs: Sequence[Run]) -> Counts:
    return Counts(
        len(runs),
        sum(one.accepted for one in told),
        sum(run.accepted for run in runs),
        sum(one.steps for one in told),
        sum(run.steps for run in runs),
    )
