"""Prediction heads inside the target's own file (MTP, "nextn" layers): llama-server's draft-mtp.

A head reads the target's hidden state, which a replay of texts does not have, and past its first token it reads its
own. So nothing is predicted: its draft lengths are run for real, up from a short one while they gain.
"""

from __future__ import annotations

from collections.abc import Callable

from advisor.progress import Progress
from advisor.runs import RunMeasurer
from advisor.search import speedup_of
from advisor.types import Config, Trial

METHOD = "draft-mtp"
FIRST, LONGER = 2, (3, 4, 6, 8, 12, 16)
NEEDS_SERVER = (
    "The target has a prediction head of its own (MTP), which llama-server can draft with: --engine llama-server "
    "runs it."
)
NOT_IN_TIME = "The target's own prediction head (MTP) was not run: the budget had no time for it. Give more --budget."
NOT_LOOKED_AT = "What becomes of the target's prediction head in a long context was not measured."


def config_of(k: int) -> Config:
    return Config("", k, method=METHOD)


def run_heads(
    measure: RunMeasurer,
    *,
    prompts: int,
    k_max: int,
    trial_s: float,
    time_left_s: Callable[[], float],
    on_trial: Callable[[Trial], None],
    progress: Progress,
) -> None:
    """Real runs of draft lengths: FIRST, then longer ones while each gains on the one before; where the first of those
    does not, a single token.

    They take at most half of ``time_left_s()``; one takes ``trial_s``, and none where it is stored. ``on_trial`` sees
    each as it ends. Raises EngineError.
    """
    least_left_s = time_left_s() / 2

    def gain(k: int) -> float:
        """The speedup at k; 0 where there is no time to know."""
        config = config_of(k)
        stored = all(measure.is_stored(config, index) for index in range(prompts))
        if not stored and time_left_s() - trial_s < least_left_s:
            return 0.0
        trial = Trial.of(config, [measure(config, index) for index in range(prompts)])
        on_trial(trial)
        progress.step(f"{METHOD} k={k}")
        return speedup_of(trial.pairs)

    best = first = gain(min(FIRST, k_max))
    for k in (length for length in LONGER if length <= k_max):
        longer = gain(k)
        if longer <= best:
            break
        best = longer
    if best == first and k_max > 1:
        gain(1)
