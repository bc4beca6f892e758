"""The exhaustive sweep that `advisor recommend` replaces, as draftbench runs it: start, baseline, then each pair.

The whole grid at full length takes hours. Its time is extrapolated from a random sample of its cells, each run in full;
its winner is found by running every cell briefly, the better ones longer and with p_min too, the best of them in turns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from advisor.engines.llama_server import BASELINE
from advisor.types import Config, Model, Run, Transcript
from benchmarks.measure import Bench, tokens_per_s
from benchmarks.turns import Drafts, Ran, contest


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
class Screen:
    """Cells run over so many ``tokens`` of these answers, with each of ``p_mins`` (as they are where it is empty); as
    many as ``kept`` go on."""

    texts: Sequence[Transcript]
    tokens: int
    kept: int
    p_mins: tuple[float, ...] = ()

    def cells(self, left: Sequence[Config]) -> list[Config]:
        return [replace(cell, p_min=p_min) for cell in left for p_min in self.p_mins] if self.p_mins else list(left)


@dataclass(frozen=True)
class Finals:
    """``chosen``: what the sweep found, fastest first. ``pick`` and ``best``: run again turn by turn; ``best`` is what
    was fastest of the chosen. ``alone``: tokens a second of the target in the same turns."""

    chosen: tuple[Ran, ...]
    pick: Ran
    best: Ran
    alone: float

    @property
    def regret(self) -> float:
        """1 - throughput of the pick over that of the sweep's best; negative where the pick is faster."""
        return 1 - self.pick.tokens_per_s / self.best.tokens_per_s

    @property
    def kept_by_turn(self) -> list[float]:
        """Throughput of the pick over that of the sweep's best, turn by turn."""
        return [pick / best for pick, best in zip(self.pick.by_turn, self.best.by_turn, strict=True)]


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


def screened(bench: Bench, drafts: Drafts, cells: Sequence[Config], screens: Sequence[Screen]) -> list[Config]:
    """The cells that are still among the best after every screen, fastest first. All of them run over one answer before
    any runs over the next, so that a slow minute of the machine is nobody's fault."""
    left = list(cells)
    for screen in screens:
        runs: dict[Config, list[Run]] = {cell: [] for cell in screen.cells(left)}
        for one in screen.texts:
            for cell, found in runs.items():
                found.append(bench.speculate(one, drafts[cell.draft], cell, screen.tokens))
        left = sorted(runs, key=lambda cell: -tokens_per_s(runs[cell]))[: screen.kept]
    return left


def finals(
    bench: Bench,
    drafts: Drafts,
    finalists: Sequence[Config],
    pick: Config,
    transcripts: Sequence[Transcript],
    tokens: int,
) -> Finals:
    """Which of the finalists is the sweep's best, then that one against the pick, and the target alone."""
    found = contest(bench, drafts, finalists, (pick, BASELINE), transcripts, tokens)
    return Finals(found.chosen, found.again[pick], found.best, found.again[BASELINE].tokens_per_s)
