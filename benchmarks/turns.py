"""Configs run in turns over the same answers, so that a slow minute of the machine is nobody's fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advisor.engines.llama_server import BASELINE
from advisor.types import Config, Model, Recommendation, Run, Transcript
from benchmarks.measure import Bench, tokens_per_s

CHOOSING_TURNS, REPEATS = 3, 5

Drafts = Mapping[str, Model]
"""Drafts by content hash: a Config names its draft so."""


@dataclass(frozen=True)
class Ran:
    """What a config gave. ``by_turn``: tokens a second in each turn over the answers."""

    draft: str
    config: Config
    tokens_per_s: float
    by_turn: tuple[float, ...]


@dataclass(frozen=True)
class Contest:
    """``chosen``: all that took part, fastest first. ``again``: the first of them and those that are judged, by config,
    run anew."""

    chosen: tuple[Ran, ...]
    again: Mapping[Config, Ran]

    @property
    def best(self) -> Ran:
        return self.again[self.chosen[0].config]

    def regret(self, config: Config) -> float:
        """1 - throughput of one that is judged over that of the best; negative where it is faster."""
        return 1 - self.again[config].tokens_per_s / self.best.tokens_per_s


def pick_of(rec: Recommendation) -> Config:
    """BASELINE, the target alone, for "do not speculate"."""
    return rec.best.config if rec.best else BASELINE


def contest(
    bench: Bench,
    drafts: Drafts,
    entries: Sequence[Config],
    judged: Sequence[Config],
    transcripts: Sequence[Transcript],
    tokens: int,
) -> Contest:
    """Which of the entries is the best, then that one and the judged, run anew: the winner of a noisy comparison looks
    faster in it than it is."""
    chosen = sorted(
        in_turns(bench, drafts, entries, transcripts, tokens, CHOOSING_TURNS), key=lambda one: -one.tokens_per_s
    )
    finalists = tuple(dict.fromkeys((*judged, chosen[0].config)))
    again = in_turns(bench, drafts, finalists, transcripts, tokens, REPEATS)
    return Contest(tuple(chosen), {one.config: one for one in again})


def in_turns(
    bench: Bench,
    drafts: Drafts,
    entries: Sequence[Config],
    transcripts: Sequence[Transcript],
    tokens: int,
    turns: int = REPEATS,
) -> list[Ran]:
    """In the order of ``entries``. BASELINE is the target alone, beside whatever draft is loaded. Who begins rotates
    from turn to turn, so that nobody is always the first at an answer."""
    bench.open(None)  # the target may be the first to answer
    runs: dict[Config, list[list[Run]]] = {config: [] for config in entries}
    for turn in range(turns):
        for found in runs.values():
            found.append([])
        for one in transcripts:
            for place in range(len(entries)):
                config = entries[(place + turn) % len(entries)]
                runs[config][-1].append(_run(bench, drafts, config, one, tokens))
    return [
        Ran(
            _label(drafts, config),
            config,
            tokens_per_s([run for found in by_turn for run in found]),
            tuple(map(tokens_per_s, by_turn)),
        )
        for config, by_turn in runs.items()
    ]


def _run(bench: Bench, drafts: Drafts, config: Config, transcript: Transcript, tokens: int) -> Run:
    if config == BASELINE:
        return bench.answer(transcript, tokens)
    return bench.speculate(transcript, drafts.get(config.draft), config, tokens)


def _label(drafts: Drafts, config: Config) -> str:
    if config == BASELINE:
        return "target alone"
    return drafts[config.draft].label if config.draft else f"{config.method}, n = {config.ngram_size}"
