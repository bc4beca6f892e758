"""Which decodes a speculative step is made of. It differs between llama.cpp builds, so it is an object.

For n drafted tokens with c single-token draft decodes (c = n, or n + 1 when p_min stopped the draft):

    T_step = c * d(1) + t(n + 1) + [d(n + 1)]

The bracket is the draft's re-evaluation of the verified tokens (llama.cpp common/speculative.cpp, ``process`` of
draft-simple). Sampling is part of t and d as they are measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.dialect import dialect_of
from advisor.types import Build

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StepLaw:
    """``keeps_unsure``: the first token below p_min is drafted too, so c = n always (llama.cpp before pull request
    22506)."""

    reevaluates: bool
    keeps_unsure: bool = False

    def counts(self, draft_calls: float, verified: Mapping[int, int], b_max: int) -> tuple[Floats, Floats]:
        """How often each decode of b tokens runs: (target, draft), both of shape (b_max + 1,).

        ``draft_calls`` counts the single-token draft decodes, ``verified[n]`` the steps that verified n drafted tokens.
        """
        target, draft = np.zeros(b_max + 1), np.zeros(b_max + 1)
        draft[1] += draft_calls
        for n, steps in verified.items():
            target[n + 1] += steps
            if self.reevaluates:
                draft[n + 1] += steps
        return target, draft


CURRENT, OLD = StepLaw(reevaluates=True), StepLaw(reevaluates=False, keeps_unsure=True)
NO_DRAFT = StepLaw(reevaluates=False)  # n-gram methods: T_step = t(n + 1), their look-ups take microseconds
# The in-process loop of this project always runs the current law, whatever llama.cpp build it links.
STEP_LAWS: dict[str, StepLaw] = {"llama-cpp-python": CURRENT, "simulated": CURRENT}


def step_law(build: Build) -> StepLaw:
    """The law of an engine, or of the llama.cpp build it is; a build that is not known is taken for a current one."""
    if build.engine in STEP_LAWS:
        return STEP_LAWS[build.engine]
    return CURRENT if dialect_of(build.llama_cpp_build).reevaluates else OLD
