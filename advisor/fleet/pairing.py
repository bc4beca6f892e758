"""The one pairing that is best where it must serve every machine of a fleet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advisor.types import Config, Estimate

ALONE = 1.0  # the speedup of the target alone, which always competes


@dataclass(frozen=True)
class Shared:
    """``on`` has its estimate on each machine, in order. ``score``: mean of log(lower end of the speedup), weighted by
    how many machines there are of a kind; ``own_score``: the same where each machine runs its own best, or the target
    alone where that is better."""

    config: Config
    on: tuple[Estimate, ...]
    score: float
    own_score: float


def best_shared(machines: Sequence[Mapping[Config, Estimate]], counts: Sequence[int]) -> Shared | None:
    """The config with the best geometric mean of the lower ends: what helps every machine surely. Only configs that
    every machine can run compete. None where nothing beats the target alone."""
    common = set.intersection(*(set(one) for one in machines)) if machines else set()
    scores = {config: _mean_log([one[config].speedup_low for one in machines], counts) for config in common}
    if not scores:
        return None
    best = max(scores, key=lambda config: (scores[config], -config.k, config.draft, -config.p_min))
    if scores[best] <= math.log(ALONE):
        return None
    own = [max(ALONE, *(estimate.speedup_low for estimate in one.values())) for one in machines]
    return Shared(best, tuple(one[best] for one in machines), scores[best], _mean_log(own, counts))


def _mean_log(speedups: Sequence[float], counts: Sequence[int]) -> float:
    logs = (count * math.log(one) for one, count in zip(speedups, counts, strict=True))
    return math.fsum(logs) / sum(counts)
