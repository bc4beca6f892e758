"""What llama-server samples from, as numbers: the distribution before the draw, and verification by rejection.

    accept a drafted token x with probability min(1, p(x) / q(x)), else draw from max(0, p - q), normalized

p is the target's distribution, q the draft's (Leviathan et al. 2023, arXiv 2211.17192; llama.cpp's common/sampling.cpp,
``common_sampler_sample_and_accept_n_rejection``). The text is distributed as the target's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]
Distribution = dict[int, float]
"""Token -> probability, of those that can be drawn."""

DRAFT_TOP_K = 10  # the draft's own sampler in llama.cpp's common/speculative.cpp: top-k 10, then the temperature
STRIPES = 384  # parts of a row, to find its best quickly
SEED_OF_DRAFT = 0x85EBCA6B  # the draft draws from a stream of its own


def target_distribution(row: Row, sampling: Mapping[str, Any]) -> Distribution:
    """llama-server's default chain at a temperature above 0: top-k, top-p, min-p, temperature. ``row``: logits."""
    ids = _best(row, sampling["top_k"] or len(row))
    logits = row[ids].astype(np.float64)
    plain = _softmax(logits)
    kept = np.cumsum(plain) - plain < sampling["top_p"]
    if sampling["min_p"] > 0:
        kept &= logits >= logits[0] + np.log(sampling["min_p"])
    kept[0] = True
    return _named(ids[kept], _softmax(logits[kept] / sampling["temperature"]))


def draft_distribution(row: Row, temperature: float) -> Distribution:
    ids = _best(row, DRAFT_TOP_K)
    return _named(ids, _softmax(row[ids].astype(np.float64) / temperature))


def top_probability(row: Row) -> float:
    """The arg-max's probability under a softmax over the row's 10 best, T = 1: what llama.cpp compares p_min with."""
    return float(_softmax(row[_best(row, DRAFT_TOP_K)].astype(np.float64))[0])


def draw(distribution: Distribution, rng: np.random.Generator) -> int:
    tokens, weights = list(distribution), np.array(list(distribution.values()))
    return int(tokens[rng.choice(len(tokens), p=weights / weights.sum())])


def accepted_or_drawn(token: int, p: Distribution, q: Distribution, rng: np.random.Generator) -> int:
    """The drafted token where it is accepted, else one from what q leaves of p."""
    if rng.random() * q[token] < p.get(token, 0.0):
        return token
    left = {other: weight - q.get(other, 0.0) for other, weight in p.items() if weight > q.get(other, 0.0)}
    return draw(left or p, rng)


def _best(row: Row, count: int) -> npt.NDArray[np.intp]:
    """The ids of the largest logits, largest first."""
    ids = _not_far(row, count)
    count = min(count, len(ids))
    ids = ids[np.argpartition(row[ids], len(ids) - count)[len(ids) - count :]]
    return ids[np.argsort(-row[ids], kind="stable")]


def _not_far(row: Row, count: int) -> npt.NDArray[np.intp]:
    """The ids of few logits, the ``count`` largest among them: all that reach the ``count``-th largest maximum of the
    row's stripes. Maxima are found many times faster than an order."""
    height = len(row) // STRIPES
    if height < 2 or count > STRIPES:
        return np.arange(len(row))
    maxima = row[: height * STRIPES].reshape(height, STRIPES).max(axis=0)
    low = np.partition(maxima, STRIPES - count)[STRIPES - count]
    return np.flatnonzero(~(row < low))  # also whatever is not a number


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def _named(ids: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]) -> Distribution:
    return dict(zip(ids.tolist(), weights.tolist(), strict=True))
