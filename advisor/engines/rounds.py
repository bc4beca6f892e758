"""How often a round of decodes is timed, whoever times it."""

from __future__ import annotations

import time
from collections.abc import Callable


def timed_rounds(
    time_round: Callable[[], list[float]], *, rounds: int, started: float, budget_s: float
) -> list[list[float]]:
    """At most ``rounds`` of them, at least one; none but the first begins when ``budget_s`` have passed since
    ``started``, a reading of ``time.perf_counter``."""
    measured: list[list[float]] = []
    while len(measured) < rounds and (not measured or time.perf_counter() - started < budget_s):
        measured.append(time_round())
    return measured
