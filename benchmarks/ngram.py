"""Replayed n-gram methods against the real llama-server: the same requests, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.walk import pooled
from advisor.engines.base import LoadOptions
from advisor.engines.find_server import find_server
from advisor.engines.llama_server import LlamaServer
from advisor.gguf import read_model
from advisor.ngram import METHODS
from advisor.types import Config, Message, Run, Sampling, Transcript

ANSWER_TOKENS, CONTEXT = 160, 2048
CONFIGS = tuple(
    config
    for name, method in METHODS.items()
    for config in (
        method.default,
        Config("", 8, method=name, ngram_size=4),
        Config("", 16, n_min=4 if name == "ngram-mod" else 0, method=name, ngram_size=8),
    )
)

_LIST = """apples, 4 crates, 12 kg each, shelf A3
pears, 2 crates, 14 kg each, shelf A4
plums, 7 crates, 9 kg each, shelf B1
cherries, 3 crates, 6 kg each, shelf B2
apricots, 5 crates, 8 kg each, shelf B3"""
_CODE = """def total(items):
    result = 0
    for item in items:
        result += item.price * item.count
    return result


def average(items):
    result = 0
    for item in items:
        result += item.price
    return result / len(items)"""
_LETTER = """Dear customer, your order has left our warehouse this morning. It will reach you within three working days.
If it does not, write to us and we will send it again. If it arrives damaged, write to us and we will send it again."""
PROMPTS = tuple(
    f"{ask}\n\n{text}{again}"
    for text in (_LIST, _CODE, _LETTER)
    for ask, again in (
        ("Repeat the following text exactly, word for word:", ""),
        ("Copy this text twice, without any change:", f"\n\nThe text once more:\n\n{text}"),
    )
)


@dataclass(frozen=True)
class Compared:
    """Counts of all requests together, (replayed, real)."""

    config: Config
    tokens: int
    drafted: tuple[int, int]
    accepted: tuple[int, int]
    steps: tuple[int, int]


def compare(
    model: Path,
    configs: Iterable[Config] = CONFIGS,
    prompts: Sequence[str] = PROMPTS,
    *,
    max_tokens: int = ANSWER_TOKENS,
    threads: int = 2,
) -> Iterator[Compared]:
    """One row a config, each on a server of its own. The replay reads the answers that very server gave."""
    server = LlamaServer(find_server())
    server.open("target", read_model(model), LoadOptions(CONTEXT, threads))
    try:
        asked = [server.tokenize([Message("user", prompt)]) for prompt in prompts]
        for config in configs:
            runs = [server.speculate(prompt, config, Sampling(), max_tokens) for prompt in asked]
            told = pooled(_replayed(asked, runs, max_tokens).walks(config))
            yield Compared(
                config,
                told.tokens,
                (told.drafted, sum(run.drafted for run in runs)),
                (told.accepted, sum(run.accepted for run in runs)),
                (told.steps, sum(run.steps for run in runs)),
            )
    finally:
        server.shutdown()


def off(rows: Sequence[Compared]) -> dict[str, float]:
    """How far the replay is off over all rows together, as shares by name of what is counted."""
    return {
        "drafted": _share([row.drafted for row in rows]),
        "accepted": _share([row.accepted for row in rows]),
        "steps": _share([row.steps for row in rows]),
    }


def _replayed(asked: Sequence[tuple[int, ...]], runs: Sequence[Run], max_tokens: int) -> NgramAcceptance:
    answers = [
        Transcript("copy", prompt, run.answer_tokens, ended=False) for prompt, run in zip(asked, runs, strict=True)
    ]
    return NgramAcceptance(answers, context=CONTEXT, max_tokens=max_tokens)


def _share(pairs: Sequence[tuple[int, int]]) -> float:
    return sum(told for told, _ in pairs) / sum(real for _, real in pairs) - 1
