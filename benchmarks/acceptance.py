"""Replayed acceptance against the real speculative loop: the same answers, the same k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from advisor.acceptance.walk import pooled, walk
from advisor.types import Config, Model, Workload
from benchmarks.measure import Bench

KS = (1, 2, 4, 8)
# Texts may part at near-ties: many short answers, so that none weighs much.
PROMPTS, ANSWER_TOKENS = 10, 64


@dataclass(frozen=True)
class Compared:
    """Counts of all answers together; ``alike``: how many of them were the same text in both."""

    temperature: float
    draft: str
    k: int
    tokens: int
    replayed_accepted: int
    accepted: int
    replayed_steps: int
    steps: int
    answers: int
    alike: int


def compare(
    bench: Bench, drafts: Sequence[Model], workload: Workload, *, prompts: int = PROMPTS, tokens: int = ANSWER_TOKENS
) -> Iterator[Compared]:
    """One row a (draft, k), at the bench's sampling."""
    transcripts = bench.transcripts(workload, prompts=prompts, max_tokens=tokens)
    for draft in drafts:
        traces = bench.replay(draft, transcripts)
        for k in KS:
            told = pooled([walk(trace, Config("", k), max_tokens=tokens) for trace in traces])
            runs = [bench.speculate(transcript, draft, Config("", k), tokens) for transcript in transcripts]
            yield Compared(
                bench.sampling.temperature,
                draft.label,
                k,
                sum(run.tokens for run in runs),
                told.accepted,
                sum(run.accepted for run in runs),
                told.steps,
                sum(run.steps for run in runs),
                len(runs),
                sum(run.answer_tokens == one.answer_tokens for run, one in zip(runs, transcripts, strict=True)),
            )


def off(rows: Sequence[Compared]) -> tuple[float, float]:
    """How far the replay is off over all rows together: (accepted, steps), as shares."""
    accepted = sum(row.replayed_accepted for row in rows) / sum(row.accepted for row in rows) - 1
    steps = sum(row.replayed_steps for row in rows) / sum(row.steps for row in rows) - 1
    return accepted, steps
