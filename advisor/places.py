"""Other places for the pick's draft: beside the GPU instead of on it, with fewer threads. Run after the search.

The target stays where it is, so every run has the same baseline. A place is taken where the pick gains more there, over
the same prompts, than the machine's own noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from advisor.errors import EngineError, OutOfTime, TargetFailure
from advisor.predict.steady import steadied
from advisor.prune import draft_in_ram
from advisor.runs import RunMeasurer
from advisor.search import speedup_of
from advisor.types import Candidate, Host, Model, Trial

WORTH_ANOTHER_PLACE = 0.02


@dataclass(frozen=True)
class Moved:
    """The candidate in its better place, with the runs that show it."""

    candidate: Candidate
    trial: Trial


def alternatives(
    target: Model, candidate: Candidate, host: Host, context: int, *, k_max: int, threads: int
) -> list[Candidate]:
    """Where else the draft could be: in RAM where it is on a GPU of its own memory, on half the threads where it is
    computed by them."""
    place, found = candidate.placement, []
    if (beside := draft_in_ram(target, candidate, host, context, k_max=k_max)) is not None:
        found.append(beside)
    if place.draft_gpu_layers == 0 and threads > 1:
        found.append(replace(candidate, placement=replace(place, draft_threads=threads // 2)))
    return found


def better_place(
    there: Trial,
    others: Sequence[Candidate],
    measurer: Callable[[Candidate], RunMeasurer],
    *,
    trial_s: float,
    time_left_s: Callable[[], float],
) -> Moved | None:
    """The best of the other places, None where none is worth it. ``there``: the pick's runs where it is.

    A place that was not tried before is, where ``time_left_s()`` has room for the ``trial_s`` that it takes; one in
    which the engine fails is none.
    """
    best: Moved | None = None
    for candidate in others:
        measure = measurer(candidate)
        is_known = all(measure.is_stored(there.config, prompt) for prompt in there.prompts)
        if not is_known and time_left_s() < trial_s:
            continue
        try:
            trial = Trial.of(there.config, [measure(there.config, prompt) for prompt in there.prompts])
        except TargetFailure:
            raise
        except (EngineError, OutOfTime):
            continue
        before, after = (speedup_of(one.pairs) for one in steadied([best.trial if best else there, trial]))
        if after > before * (1 + WORTH_ANOTHER_PLACE):
            best = Moved(candidate, trial)
    return best
