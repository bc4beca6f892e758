"""Acceptance under rejection sampling, from the same replay: what both models gave the tokens of the answer.

A drafted token x ~ q is accepted with probability min(1, p(x) / q(x)), and the text stays the target's. So of a token
that the target did write, P(it was drafted and accepted) = min(1, q(x) / p(x)), whatever came before: the probabilities
of the written tokens decide every draft length, as agreement does under sample-and-match. Its mean over texts is the
familiar sum of min(p, q) (Leviathan et al. 2023, arXiv 2211.17192, corollary 3.6).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from advisor.engines.base import Engine
from advisor.store import Store
from advisor.types import Model, Sampling, Trace, Transcript


@dataclass(frozen=True)
class Weights:
    """The probability with which the target's sampling chose each token of an answer."""

    chosen: tuple[float, ...]


def weighed(
    engine: Engine, store: Store, target: Model, transcripts: Sequence[Transcript], sampling: Sampling
) -> tuple[Transcript, ...]:
    """The transcripts with the probability of each token, from one pass of the target over each. ``engine`` holds the
    target."""
    found = []
    for transcript in transcripts:
        text = repr((transcript.prompt_tokens, transcript.answer_tokens)).encode()
        key = {
            "target": target.content_hash,
            "transcript": hashlib.sha256(text).hexdigest()[:24],
            "sampling": vars(sampling),
            "build": engine.build.key,
        }
        weights = store.get("weights", key, Weights)
        if weights is None:
            started = time.perf_counter()
            weights = Weights(engine.weigh(transcript, sampling))
            store.put("weights", key, weights, wall_s=time.perf_counter() - started)
        found.append(replace(transcript, probability=weights.chosen))
    return tuple(found)


def without_chances(traces: Mapping[str, tuple[Trace, ...]]) -> dict[str, tuple[Trace, ...]]:
    """The traces of each draft for an engine that cannot verify by rejection sampling."""
    return {draft: tuple(replace(trace, chance=()) for trace in own) for draft, own in traces.items()}
