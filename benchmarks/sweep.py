"""The exhaustive sweep that `advisor recommend` replaces, as draftbench runs it: start, baseline, then each pair.

The whole grid at full length takes hours. Its time is extrapolated from a random sample of its cells, each run in full;
its winner is found by running every cell briefly and the best of them again, beside the advisor's pick.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from advisor.types import Config, Model, Run, Transcript
from benchmarks.measure import Bench, tokens_per_s

FINALISTS = 4
REPEATS = 5

Drafts = Mapping[str, Model]
"""Drafts by content hash: a cell of the sweep is a Config, which names its draft so."""


@dataclass(frozen=True)
class Timed:
    """Wall time and tokens of one cell at full length, the loading of its models included."""

    draft: str
    k: int
    wall_s: float
    tokens: int


@dataclass(frozen=True)
class SweepTime:
    """``whole_s`` is the extrapolation to ``cells`` cells and one baseline, ``error_s`` its standard error."""

    cells: int
    sampled: tuple[Timed, ...]
    baseline_s: float
    whole_s: float
    error_s: float


@dataclass(frozen=True)
class Finalist:
    draft: str
    config: Config
    is_pick: bool
    tokens_per_s: float


def grid(drafts: Drafts, ks: Sequence[int]) -> list[Config]:
    return [Config(draft, k) for draft in drafts for k in ks]


def sample(cells: Sequence[Config], share: float, seed: int) -> list[Config]:
    """At least this share of the cells, drawn at random without replacement."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(cells), size=math.ceil(share * len(cells)), replace=False)
    return [cells[i] for i in chosen]


def time_cell(
    start: Callable[[], Bench], draft: Model | None, k: int, transcripts: Sequence[Transcript], tokens: int
) -> Timed:
    """One cell in a fresh engine; without a draft it is the baseline."""
    started = time.perf_counter()
    bench = start()
    bench.open(draft)
    runs = [
        bench.answer(one, tokens) if draft is None else bench.speculate(one, draft, Config("", k), tokens)
        for one in transcripts
    ]
    bench.engine.shutdown()
    wall_s = time.perf_counter() - started
    return Timed(draft.label if draft else "target alone", k, wall_s, sum(run.tokens for run in runs))


def extrapolate(cells: int, sampled: Sequence[Timed], baseline_s: float) -> SweepTime:
    """The mean of the sample times the number of cells; the sample is a known share of the population."""
    walls = np.array([one.wall_s for one in sampled])
    left = math.sqrt(1 - len(walls) / cells)  # finite population
    error_s = cells * left * float(walls.std(ddof=1)) / math.sqrt(len(walls)) if len(walls) > 1 else math.inf
    return SweepTime(cells, tuple(sampled), baseline_s, baseline_s + cells * float(walls.mean()), error_s)


def brief_sweep(
    bench: Bench, drafts: Drafts, cells: Sequence[Config], transcripts: Sequence[Transcript], tokens: int
) -> dict[Config, float]:
    """Tokens a second of every cell over short answers: coarse, to find those that may be best."""
    return {
        cell: tokens_per_s([bench.speculate(one, drafts[cell.draft], cell, tokens) for one in transcripts])
        for cell in cells
    }


def finals(
    bench: Bench,
    drafts: Drafts,
    brief: Mapping[Config, float],
    pick: Config,
    transcripts: Sequence[Transcript],
    tokens: int,
) -> list[Finalist]:
    """The pick and the best of the brief sweep, run again turn by turn: the winner of a noisy sweep looks too good.

    The order within a turn rotates, so that no finalist always follows the same one.
    """
    entries = list(dict.fromkeys([pick, *sorted(brief, key=lambda cell: -brief[cell])[:FINALISTS]]))
    runs: dict[Config, list[Run]] = {config: [] for config in entries}
    for turn in range(REPEATS):
        for one in transcripts:
            for place in range(len(entries)):
                config = entries[(place + turn) % len(entries)]
                runs[config].append(bench.speculate(one, drafts.get(config.draft), config, tokens))
    return [Finalist(_label(drafts, config), config, config == pick, tokens_per_s(runs[config])) for config in entries]


def _label(drafts: Drafts, config: Config) -> str:
    return drafts[config.draft].label if config.draft else f"{config.method}, n = {config.ngram_size}"


def regret(found: Sequence[Finalist]) -> float:
    """1 - throughput of the pick over that of the sweep's best; negative where the pick is faster than all others."""
    pick = next(one.tokens_per_s for one in found if one.is_pick)
    others = [one.tokens_per_s for one in found if not one.is_pick]
    return 1 - pick / max(others) if others else 0.0
