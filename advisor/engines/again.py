"""A question that only the target can answer, asked once more when its engine died over it.

Every draft leans on the target's answers: one kill from outside (memory, a person) must not end the search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from advisor.errors import EngineCrash, EngineTimeout, TargetFailure

R = TypeVar("R")


def asked_again_once(ask: Callable[[], R]) -> R:
    """What ``ask`` returns. Raises TargetFailure when the engine dies or hangs over it twice."""
    try:
        return ask()
    except (EngineCrash, EngineTimeout):
        pass  # the engine starts anew
    try:
        return ask()
    except (EngineCrash, EngineTimeout) as error:
        raise TargetFailure(
            f"The target alone failed twice: {error.what}",
            why=error.why,
            fix="What was measured is stored; the same command goes on from there. A smaller --context may help.",
        ) from error
