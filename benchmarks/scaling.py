"""How the time of each stage grows: with the number of drafts, with k_max, with the prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from advisor.types import Model, Workload
from benchmarks.measure import ROLLOUT, Bench

DRAFT_COUNTS = (1, 2, 4, 8)
K_MAXES = (2, 4, 8, 16)
PROMPT_COUNTS = (1, 2, 4, 8)
ANSWER_TOKENS = 32
ROUNDS = 1


@dataclass(frozen=True)
class Growth:
    """Wall seconds of ``what`` at each size. ``exponent``: slope of log(seconds) over log(size), 1 is linear."""

    what: str
    size: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])


def measure(bench: Bench, drafts: Sequence[Model], workload: Workload) -> list[Growth]:
    """Everything a draft costs against the number of drafts; one replay and the target's curve against k_max; answers
    with a replay against the number of prompts."""
    transcripts = bench.transcripts(workload, prompts=2, max_tokens=ANSWER_TOKENS)
    bench.curve("target", drafts[0], transcripts, b_max=2, rounds=ROUNDS)  # warm: files read, threads started

    def take_in(count: int) -> None:
        for draft in drafts[:count]:
            bench.replay(draft, transcripts)
            bench.curve("draft", draft, transcripts, b_max=9, rounds=ROUNDS)

    def replay(k_max: int) -> None:
        bench.replay(drafts[0], transcripts, replace(ROLLOUT, length=k_max))

    def price(k_max: int) -> None:
        bench.curve("target", drafts[0], transcripts, b_max=k_max + 1, rounds=ROUNDS)

    def write(count: int) -> None:
        bench.replay(drafts[0], bench.transcripts(workload, prompts=count, max_tokens=ANSWER_TOKENS))

    counts = tuple(count for count in DRAFT_COUNTS if count <= len(drafts))
    return [
        _growth("replay and price the drafts", "drafts", counts, take_in),
        _growth("replay one draft", "k_max", K_MAXES, replay),
        _growth("measure the target's curve", "k_max", K_MAXES, price),
        _growth("write and replay the answers", "prompts", PROMPT_COUNTS, write),
    ]


def _growth(what: str, size: str, sizes: tuple[int, ...], work: Callable[[int], None]) -> Growth:
    return Growth(what, size, sizes, tuple(_wall_s(work, one) for one in sizes))


def _wall_s(work: Callable[[int], None], size: int) -> float:
    started = time.perf_counter()
    work(size)
    return time.perf_counter() - started
