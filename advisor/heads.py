"""Prediction heads: in the target's own file (MTP, "nextn" layers) or in a file beside it (EAGLE-3).

A head reads the target's hidden state, which a replay of texts does not have, and past its first token it reads its
own. So nothing is predicted: its draft lengths are run for real, up from a short one while they gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from advisor.errors import EngineError, OutOfTime, TargetFailure
from advisor.progress import Progress
from advisor.runs import RunMeasurer
from advisor.search import speedup_of
from advisor.types import Candidate, Config, Model, Rejected, Trial

OWN, BESIDE = "draft-mtp", "draft-eagle3"
METHODS = frozenset({OWN, BESIDE})
FIRST, LONGER = 2, (3, 4, 6, 8, 12, 16)
NEEDS_SERVER = (
    "The target has a prediction head of its own (MTP), which llama-server can draft with: --engine llama-server "
    "runs it."
)
NOT_IN_TIME = "Of the prediction head {} nothing was run: the budget had no time for it. Give more --budget."
NOT_LOOKED_AT = "What becomes of a prediction head in a long context was not measured."


@dataclass(frozen=True)
class Head:
    """``candidate``: of the file beside the target, None for the target's own."""

    candidate: Candidate | None = None

    @property
    def name(self) -> str:
        return self.candidate.draft.name if self.candidate else OWN

    @property
    def quant(self) -> str:
        return self.candidate.draft.quant if self.candidate else ""

    def config(self, k: int) -> Config:
        if self.candidate is None:
            return Config("", k, method=OWN)
        return Config(self.candidate.draft.content_hash, k, method=BESIDE)


def heads_of(target: Model, beside: Sequence[Candidate]) -> list[Head]:
    """The target's own, then those in files of their own."""
    return [*([Head()] if target.nextn_layers else []), *(Head(candidate) for candidate in beside)]


@dataclass(frozen=True)
class Outcome:
    """Which heads failed, and what is to be said of those that were not run."""

    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]


def run_heads(
    heads: Sequence[Head],
    measure: RunMeasurer,
    *,
    prompts: int,
    k_max: int,
    trial_s: float,
    time_left_s: Callable[[], float],
    on_trial: Callable[[Trial], None],
    progress: Progress,
) -> Outcome:
    """Real runs of draft lengths of each head: FIRST, then longer ones while each gains on the one before; where the
    first of those does not, a single token.

    They take at most half of ``time_left_s()``; one takes ``trial_s``, and none where it is stored. ``on_trial`` sees
    each as it ends. Raises TargetFailure.
    """
    least_left_s = time_left_s() / 2

    def gain(head: Head, k: int) -> float:
        """The speedup at k; 0 where there is no time to know."""
        config = head.config(k)
        stored = all(measure.is_stored(config, index) for index in range(prompts))
        if not stored and time_left_s() - trial_s < least_left_s:
            return 0.0
        trial = Trial.of(config, [measure(config, index) for index in range(prompts)])
        on_trial(trial)
        progress.step(f"{head.name} k={k}")
        return speedup_of(trial.pairs)

    rejected, notes = [], []
    for head in heads:
        try:
            if not _climb(partial(gain, head), k_max):
                notes.append(NOT_IN_TIME.format(head.name))
        except TargetFailure:
            raise
        except OutOfTime:
            notes.append(NOT_IN_TIME.format(head.name))
        except EngineError as error:
            rejected.append(Rejected(head.name, head.quant, "engine", error.line))
    return Outcome(tuple(rejected), tuple(notes))


def _climb(gain: Callable[[int], float], k_max: int) -> float:
    """The best gain that was seen, 0 where there was none to see."""
    best = first = gain(min(FIRST, k_max))
    for k in (length for length in LONGER if length <= k_max):
        longer = gain(k)
        if longer <= best:
            break
        best = longer
    return max(best, gain(1)) if best == first and k_max > 1 else best
