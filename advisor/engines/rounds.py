"""How often a round of decodes is timed, whoever times it."""

from __future__ import annotations

import time
from collections.abc import Callable


def timed_rounds(
    time_round: Callable[[], list[float]],
    *,
    rounds: int,
    started: float,
    budget_s: float,
    late: type[Exception],
) -> list[list[float]]:
    """At most ``rounds`` of them, at least one; none but the first begins when ``budget_s`` have passed since
    ``started``, a reading of ``time.perf_counter``. One in whose midst ``late`` is raised does not count; the first
    raises it."""
    measured: list[list[float]] = []
    while len(measured) < rounds and (not measured or time.perf_counter() - started < budget_s):
        try:
            measured.append(time_round())
        except late:
            if not measured:
                raise
            break
    return measured
