"""The same question while other processes spin, and what its picks are worth once none does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from advisor.types import Config
from benchmarks.answer import Answered, Ended, Question, ask
from benchmarks.turns import pick_of

SPINNING = (0, 1, 2)
# It ends by itself where a killed benchmark cannot end it.
SPIN = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@dataclass(frozen=True)
class Beside:
    """How the command ended beside so many processes that spun."""

    spinning: int
    ended: Ended

    @property
    def pick(self) -> Config | None:
        """None where the command failed."""
        return pick_of(self.ended.recommendation) if isinstance(self.ended, Answered) else None

    @property
    def replayed(self) -> int | None:
        """Drafts of which more is known than the prior; None where the command failed."""
        if not isinstance(self.ended, Answered):
            return None
        estimates = self.ended.recommendation.estimates
        return len({one.config.draft for one in estimates if one.config.draft and one.evidence != "prior"})


@contextlib.contextmanager
def spinning(processes: int) -> Iterator[list[int]]:
    """Processes that do nothing, as fast as they can, until the end of the block. Gives their process ids."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(processes):
            started.append(subprocess.Popen([sys.executable, "-c", SPIN]))
        yield [one.pid for one in started]
    finally:
        for one in started:
            one.kill()
        for one in started:
            one.wait()


def ask_beside(processes: int, question: Question) -> Beside:
    with spinning(processes):
        return Beside(processes, ask(question))


def picks(rows: Sequence[Beside]) -> list[Config]:
    """Each once, in the order of the rows."""
    return list(dict.fromkeys(row.pick for row in rows if row.pick is not None))


def shares(rows: Sequence[Beside], tokens_per_s: Mapping[Config, float]) -> list[float | None]:
    """Of each row, the throughput of its pick over that of the first row's; None where one of the two failed."""
    quiet = rows[0].pick
    return [
        tokens_per_s[row.pick] / tokens_per_s[quiet] if row.pick is not None and quiet is not None else None
        for row in rows
    ]
