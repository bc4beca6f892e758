"""What a search gains from being shared: simulated machines of one class, each waiting as long as a real run takes."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from advisor.cost.step_law import CURRENT
from advisor.engines.base import LoadOptions, RolloutOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.predict.predictor import Predictor
from advisor.progress import Silent
from advisor.ranking import merit
from advisor.search import SearchResult, search
from advisor.shared_study import Sharing
from advisor.types import Config, CostCurve, Model, Run, Sampling, Transcript, Trial
from benchmarks.fleet import simulated_drafts

MACHINES = (1, 2, 3)
DRAFTS, PROMPTS, TOKENS, K_MAX = 8, 4, 96, 8
PAIR_S = 0.25  # one prompt with and without the draft; a real pair takes many times as long
NOISE = 0.03
OFF = 0.08  # how far what a draft costs is from what was measured of it, at most


@dataclass(frozen=True)
class Shared:
    """``ran``: how many configs each machine ran itself. ``speedup``: what the picks really give, the least of them."""

    machines: int
    wall_s: float
    ran: tuple[int, ...]
    speedup: float


def measure(machines: Sequence[int] = MACHINES, pair_s: float = PAIR_S) -> list[Shared]:
    return [_together(count, pair_s) for count in machines]


def _together(machines: int, pair_s: float) -> Shared:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(machines) as threads:
        address = f"sqlite:///{Path(folder) / 'search.sqlite3'}"
        _searched(address, 0, 0.0, left_s=lambda: -1.0)  # the tables are there before the clock starts
        started = time.perf_counter()
        jobs = [threads.submit(_searched, address, number, pair_s) for number in range(machines)]
        results = [job.result() for job in jobs]
        wall_s = time.perf_counter() - started
    return Shared(machines, wall_s, tuple(own for _, own, _ in results), min(real for _, _, real in results))


def _searched(
    address: str, number: int, pair_s: float, left_s: Callable[[], float] = lambda: 1e9
) -> tuple[SearchResult, int, float]:
    """The result, how many configs this machine ran, and what its pick really gives."""
    drafts = simulated_drafts(DRAFTS)
    engine, own = SimulatedEngine(_world(drafts, off=OFF)), list[Config]()
    noise = random.Random(number)
    transcripts = _transcripts(engine)
    predictor = _predictor(drafts, transcripts)

    def run(config: Config, prompt: int) -> tuple[Run, Run]:
        time.sleep(pair_s)
        return _pair(engine, drafts, config, transcripts[prompt], noise)

    def pick(trials: Sequence[Trial]) -> Config:
        return max(predictor.estimates(trials, 1.0), key=merit).config

    result = search(
        predictor,
        run,
        pick,
        journal=None,
        study_name="shared",
        proposers=[draft.content_hash for draft in drafts],
        k_max=K_MAX,
        prompts=PROMPTS,
        trial_s=PROMPTS * pair_s,
        time_left_s=left_s,
        progress=Silent(),
        on_trial=lambda trial: own.append(trial.config),
        shared=Sharing(address, str(number)),
    )
    pairs = [_pair(engine, drafts, pick(result.trials), one, None) for one in transcripts]
    real = sum(base.decode_s for base, _ in pairs) / sum(run.decode_s for _, run in pairs)
    return result, len(own), real


def _pair(
    engine: SimulatedEngine, drafts: Sequence[Model], config: Config, text: Transcript, noise: random.Random | None
) -> tuple[Run, Run]:
    engine.open("draft", next(one for one in drafts if one.content_hash == config.draft), LoadOptions(1024, 1))
    base = engine.answer(text.prompt_tokens, Sampling(), TOKENS)
    run = engine.speculate(text.prompt_tokens, config, Sampling(), TOKENS)
    if noise is None:
        return base, run
    slower = [1 + noise.gauss(0, NOISE) for _ in range(2)]
    return replace(base, decode_s=base.decode_s * slower[0]), replace(run, decode_s=run.decode_s * slower[1])


def _world(drafts: Sequence[Model], off: float = 0.0) -> World:
    """Near equals: the larger agree more and cost more. ``off``: what really costs more or less than was measured."""
    errors = random.Random(7)
    return World(
        tuple(0.1 * (1 + 0.03 * (b - 1)) for b in range(1, K_MAX + 3)),
        {
            draft.content_hash: SimulatedDraft(
                0.004 * (number + 1) * (1 + off * errors.uniform(-1, 1)), {"": 0.6 + 0.045 * number}
            )
            for number, draft in enumerate(drafts)
        },
    )


def _transcripts(engine: SimulatedEngine) -> list[Transcript]:
    prompts = [(number, number + 1) for number in range(PROMPTS)]
    return [Transcript("code", one, engine.answer(one, Sampling(), TOKENS).answer_tokens, False) for one in prompts]


def _predictor(drafts: Sequence[Model], transcripts: Sequence[Transcript]) -> Predictor:
    engine = SimulatedEngine(_world(drafts))
    traces, curves = {}, {}
    for draft in drafts:
        engine.open("draft", draft, LoadOptions(1024, 1))
        traces[draft.content_hash] = tuple(engine.score(one, RolloutOptions(0.4, K_MAX, 8)) for one in transcripts)
        curves[draft.content_hash] = _curve(partial(_draft_s, engine, draft))
    target = _curve(engine.world.verify_s)
    return Predictor(traces, target, curves, CURRENT, k_max=K_MAX, max_tokens=TOKENS)


def _draft_s(engine: SimulatedEngine, draft: Model, b: int) -> float:
    truth = engine.world.drafts[draft.content_hash]
    return truth.token_s + truth.row_s * (b - 1)


def _curve(seconds: Callable[[int], float]) -> CostCurve:
    return CostCurve(64, (0.1, 0.1), {b: (seconds(b),) * 2 for b in range(1, K_MAX + 2)})
