"""How the work of a fleet grows with its workers: simulated replays of many pairs, and the prior for many machines.

A replay on another machine takes none of this one's time, so a simulated one only waits: what is measured is how well
the waiting is shared out, and what handing out a replay costs. Foreseeing is arithmetic, and shares this machine's
cores.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.acceptance.replay import ReplaysHere, ReplayTask
from advisor.catalog.compatible import token_groups_incompatibility
from advisor.catalog.load import Catalog, load
from advisor.cost.step_law import CURRENT
from advisor.engines.base import RolloutOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.fleet.spread import SpreadReplays
from advisor.predict.belief import shipped
from advisor.predict.evidence import machine_of, side_of_entry
from advisor.predict.prior import predict
from advisor.predict.question import catalogue_model
from advisor.predict.terms import Case
from advisor.types import Model, Placement, Trace, Transcript

if TYPE_CHECKING:
    from distributed import Client

ROOT = Path(__file__).parent.parent
PAIRS, HOSTS, QUANT = 1000, 50, "Q8_0"
DRAFT_QUANTS = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
WORKERS, PRICING_WORKERS = (1, 2, 4, 8), (1, 2, 4)
REPLAY_S = 0.05  # a real one takes seconds
ANSWERS, TOKENS = 4, 64
KS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
ROLLOUT = RolloutOptions(0.4, 8, 4)


@dataclass(frozen=True)
class Spread:
    """``tasks`` of ``task_s`` seconds each over so many workers. ``digest``: of everything that came out."""

    workers: int
    tasks: int
    task_s: float
    wall_s: float
    digest: str

    @property
    def efficiency(self) -> float:
        """Of what the workers could have done in that time, the part that they did."""
        return self.tasks * self.task_s / (self.workers * self.wall_s)

    @property
    def handing_out_s(self) -> float:
        """Wall time a task beyond the workers' own."""
        return self.wall_s / self.tasks - self.task_s / self.workers


def replays(workers: Sequence[int], pairs: int, replay_s: float) -> list[Spread]:
    """Every pair replayed once, by the product's own spreading over workers in processes of their own."""
    tasks = [ReplayTask(draft, Placement(), _transcripts(), ROLLOUT, 256) for draft in simulated_drafts(pairs)]
    found = []
    for count in workers:
        with _cluster(count, "replay", str(pairs), str(replay_s)) as address:
            start = partial(SimulatedEngine, world(pairs))
            here = ReplaysHere(start, threads=1, at_once=1, time_left_s=_for_ever)
            spread = SpreadReplays(address, here, start().build, _for_ever, _fail)
            started = time.perf_counter()
            outcomes = dict(spread(tasks))
            wall_s = time.perf_counter() - started
        traces = [_traces(outcomes[number]) for number in range(len(tasks))]
        found.append(Spread(count, pairs, replay_s, wall_s, _digest(traces)))
    return found


def prices(workers: Sequence[int], pairs: int, hosts: int) -> list[Spread]:
    """Every pair of the catalogue foreseen on every machine, a task a machine. ``task_s`` is what it takes alone."""
    from distributed import Client

    found: list[Spread] = []
    for count in workers:
        with _cluster(count, "price") as address, Client(address, set_as_default=False) as client:
            _warm(client, pairs)
            started = time.perf_counter()
            futures = client.map(price_host, range(hosts), pairs=pairs, pure=False)
            best = client.gather(futures)
            wall_s = time.perf_counter() - started
        alone_s = found[0].task_s if found else wall_s / hosts * count
        found.append(Spread(count, hosts, alone_s, wall_s, _digest(best)))
    return found


def price_host(number: int, *, pairs: int) -> list[tuple[int, float]]:
    """(draft length, speedup) of the best setting of every pair on one machine of the catalogue."""
    catalog = load()
    machine = machine_of(catalog.hosts[number % len(catalog.hosts)])
    cases = [replace(case, machine=machine) for case in catalogue_cases(catalog, pairs)]
    found = predict(cases, shipped(), KS, 0.75, CURRENT, with_sd=False)
    at = found.speedup.argmax(axis=1)
    return [(KS[i], round(float(row[i]), 9)) for i, row in zip(at, found.speedup, strict=True)]


def catalogue_cases(catalog: Catalog, pairs: int) -> list[Case]:
    """Pairs of catalogue models with the same tokens, drawn at random but always the same; machines to be filled in."""
    machine = machine_of(catalog.hosts[0])
    able = [entry for entry in catalog.entries.values() if entry.repositories]
    both = [
        (target, draft, quant)
        for target in able
        for draft in able
        for quant in DRAFT_QUANTS
        if draft.parameters < target.parameters
        and token_groups_incompatibility(
            catalog.tokenizers[target.tokenizer],
            target.shape.vocabulary_size,
            catalog.tokenizers[draft.tokenizer],
            draft.shape.vocabulary_size,
            compares_unused_markers=False,
        )
        is None
    ]
    chosen = random.Random(1).sample(both, pairs)
    models: dict[tuple[str, str], Model] = {}

    def side(entry: Any, quant: str) -> Any:
        key = (entry.id, quant)
        models.setdefault(key, catalogue_model(catalog, entry, quant))
        return side_of_entry(catalog, entry, models[key])

    return [Case(machine, side(target, QUANT), side(draft, quant)) for target, draft, quant in chosen]


def world(pairs: int) -> World:
    """A target and so many drafts, each as able as its number says."""
    drafts = {
        draft.content_hash: SimulatedDraft(0.01, {"": 0.5 + 0.45 * number / pairs})
        for number, draft in enumerate(simulated_drafts(pairs))
    }
    return World((0.1, 0.11), drafts)


def simulated_drafts(pairs: int) -> list[Model]:
    """Models that are only records: nothing opens them."""
    catalog = load()
    model = catalogue_model(catalog, next(iter(catalog.entries.values())), QUANT)
    return [replace(model, content_hash=hashlib.sha256(str(number).encode()).hexdigest()) for number in range(pairs)]


@contextmanager
def _cluster(workers: int, *work: str) -> Iterator[str]:
    """The address of a scheduler on loopback with workers in processes of their own."""
    with ExitStack() as stack:
        scheduler = _started(
            stack, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"
        )
        address = _word_after(scheduler, "Scheduler at:")
        started = [_started(stack, "-m", "benchmarks.fleet_worker", address, *work) for _ in range(workers)]
        for worker in started:
            _word_after(worker, "ready")
        yield address


def _started(stack: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    locks = stack.enter_context(tempfile.TemporaryDirectory())  # each process is on a machine of its own
    process = subprocess.Popen(
        [sys.executable, "-u", *arguments],
        cwd=ROOT,
        env={**os.environ, "ADVISOR_LOCK_DIR": locks},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def end() -> None:
        process.kill()
        process.communicate()

    stack.callback(end)
    return process


def _word_after(process: subprocess.Popen[str], mark: str) -> str:
    seen = []
    for line in process.stdout or ():
        seen.append(line)
        if mark in line:
            return line.split(mark)[1].strip()
    raise RuntimeError("".join(seen))


def _warm(client: Client, pairs: int) -> None:
    """Every worker has imported and read what it needs before the clock starts."""
    client.run(price_host, 0, pairs=pairs)


def _transcripts() -> tuple[Transcript, ...]:
    texts = (tuple(range(100 + 7 * number, 100 + 7 * number + TOKENS)) for number in range(ANSWERS))
    return tuple(Transcript("code", (number,), text, ended=False) for number, text in enumerate(texts))


def _traces(outcome: object) -> list[Trace]:
    if not isinstance(outcome, list):
        raise RuntimeError(f"A replay failed: {outcome}")
    return [trace for trace, _ in outcome]


def _digest(found: object) -> str:
    return hashlib.sha256(repr(found).encode()).hexdigest()[:12]


def _for_ever() -> float:
    return 1e9


def _fail(text: str) -> None:
    raise RuntimeError(text)
