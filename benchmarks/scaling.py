"""How the time of each stage grows: with the number of drafts, with k_max, with the prompts."""

from __future__ import annotations

import statistics
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
REPEATS = 3
LINEAR, FLAT = 1.1, 0.1  # exponents that are no more than noise above these


@dataclass(frozen=True)
class Growth:
    """Wall seconds of ``what`` at each size. ``exponent``: slope of log(seconds) over log(size), 1 is linear;
    ``goal``: what it may be at most."""

    what: str
    size: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    goal: float | None = None

    @property
    def exponent(self) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])


def measure(
    bench: Bench, drafts: Sequence[Model], workload: Workload, clock: Callable[[], float] = time.perf_counter
) -> list[Growth]:
    """Everything a draft costs against the number of drafts; one replay and the target's curve against k_max; answers
    with a replay against their tokens. The curve has k_max + 1 points, of ever more tokens: it has no goal."""
    texts = bench.transcripts(workload, prompts=max(PROMPT_COUNTS), max_tokens=ANSWER_TOKENS)
    few = texts[:2]
    tokens = [len(one.prompt_tokens) + len(one.answer_tokens) for one in texts]
    prompts_of = {sum(tokens[:count]): count for count in PROMPT_COUNTS}

    def take_in(count: int) -> None:
        for draft in drafts[:count]:
            bench.replay(draft, few)
            bench.curve("draft", draft, few, b_max=9, rounds=ROUNDS)

    def replay(k_max: int) -> None:
        bench.replay(drafts[0], few, replace(ROLLOUT, length=k_max))

    def price(k_max: int) -> None:
        bench.curve("target", drafts[0], few, b_max=k_max + 1, rounds=ROUNDS)

    def write(size: int) -> None:
        bench.replay(drafts[0], bench.transcripts(workload, prompts=prompts_of[size], max_tokens=ANSWER_TOKENS))

    counts = tuple(count for count in DRAFT_COUNTS if count <= len(drafts))
    return [
        _growth("replay and price the drafts", "drafts", counts, take_in, clock, LINEAR),
        _growth("replay one draft", "k_max", K_MAXES, replay, clock, FLAT),
        _growth("measure the target's curve", "k_max", K_MAXES, price, clock),
        _growth("write and replay the answers", "tokens", tuple(prompts_of), write, clock, LINEAR),
    ]


def _growth(
    what: str,
    size: str,
    sizes: tuple[int, ...],
    work: Callable[[int], None],
    clock: Callable[[], float],
    goal: float | None = None,
) -> Growth:
    """The median of several rounds over the sizes, after one that does not count: files are read, threads started."""
    work(sizes[0])
    rounds = [[_wall_s(work, one, clock) for one in sizes] for _ in range(REPEATS)]
    return Growth(what, size, sizes, tuple(map(statistics.median, zip(*rounds, strict=True))), goal)


def _wall_s(work: Callable[[int], None], size: int, clock: Callable[[], float]) -> float:
    started = clock()
    work(size)
    return clock() - started
