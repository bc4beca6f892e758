"""The first answer of this version against the only answer of an older one, both as commands of their own."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.types import Config
from benchmarks.answer import Answered
from benchmarks.turns import pick_of

OLD = "7f94bcb"  # the last commit that had one answer, at its end
ROUNDS = 3


@dataclass(frozen=True)
class Round:
    """``new``: of `advisor recommend --quick`. ``old``: of the older commit, asked right after it."""

    new: Answered
    old: Answered

    @property
    def ratio(self) -> float:
        return self.new.wall_s / self.old.wall_s


def ratio(rounds: Sequence[Round]) -> float:
    """The median time to the first answer over the median whole time of the older commit."""
    return statistics.median(one.new.wall_s for one in rounds) / statistics.median(one.old.wall_s for one in rounds)


def new_picks(rounds: Sequence[Round]) -> list[Config]:
    """Each once."""
    return list(dict.fromkeys(pick_of(one.new.recommendation) for one in rounds))


def picks(rounds: Sequence[Round]) -> list[Config]:
    """The new ones and the old ones, each once."""
    return list(dict.fromkeys((*new_picks(rounds), *(pick_of(one.old.recommendation) for one in rounds))))
