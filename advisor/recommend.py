"""The answer: rank by the lower end of the interval, break ties towards less memory, and say no when that is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from advisor.types import Candidate, Estimate, Model, Verdict

TIE = 0.01  # lower ends within 1 % are a tie: the machine's own noise is larger


@dataclass(frozen=True)
class Answer:
    verdict: Verdict
    sentence: str
    ranked: tuple[Estimate, ...]
    best: Estimate | None
    runner_up: Estimate | None


def answer(
    estimates: Sequence[Estimate],
    candidates: Sequence[Candidate],
    *,
    nothing: str = "no draft can run beside this target",
    tried: Callable[[Model], bool] = lambda draft: True,
) -> Answer:
    """Rank and decide. ``best`` is None when the verdict is no; ``runner_up`` is the best of another draft.

    ``nothing``: why, where there is no estimate; ``tried``: whether a prediction for this draft rests on measurements.
    """
    by_draft = {candidate.draft.content_hash: candidate for candidate in candidates}
    ranked = rank(estimates, by_draft, tried)
    if not ranked:
        return Answer("do-not-speculate", f"Do not speculate: {nothing}.", (), None, None)
    best = ranked[0]
    runner_up = next((other for other in ranked if other.config.draft != best.config.draft), None)
    label = by_draft[best.config.draft].draft.label
    interval = f"{best.speedup:.2f}x (80 % interval {best.speedup_low:.2f} to {best.speedup_high:.2f})"
    setting = f"k = {best.config.k}" + (f", p_min = {best.config.p_min:g}" if best.config.p_min else "")
    if best.speedup_low <= 1.0:
        sentence = f"Do not speculate: the best pairing, {label} at {setting}, should give {interval}."
        return Answer("do-not-speculate", sentence, ranked, None, None)
    sentence = f"Speculate with {label}, {setting}: {interval}, {_evidence(best)}."
    return Answer("speculate", sentence, ranked, best, runner_up)


def rank(
    estimates: Sequence[Estimate],
    by_draft: Mapping[str, Candidate],
    tried: Callable[[Model], bool] = lambda draft: True,
) -> tuple[Estimate, ...]:
    """Best first. Among those within TIE of the best lower end a draft that was ``tried`` leads, then one that is on
    disk, then the least memory; among equal memory the one measured, then the higher lower end.

    Predictions of which none should help are in the order of how likely they help: by the lower end the draft that
    changes least would lead.
    """
    ordered = sorted(estimates, key=lambda e: -e.speedup_low)
    if not ordered:
        return ()
    if ordered[0].speedup_low <= 1 and all(e.evidence == "prior" for e in ordered):
        return tuple(sorted(ordered, key=lambda e: -_deviations_above_one(e)))
    floor = ordered[0].speedup_low * (1 - TIE)
    tied = [e for e in ordered if e.speedup_low >= floor]

    def order(e: Estimate) -> tuple[bool, bool, int, bool, float]:
        candidate = by_draft[e.config.draft]
        draft = candidate.draft
        return not tried(draft), not draft.path, candidate.memory_bytes, e.evidence != "measured", -e.speedup_low

    return (*sorted(tied, key=order), *(e for e in ordered if e.speedup_low < floor))


def _deviations_above_one(estimate: Estimate) -> float:
    return math.log(estimate.speedup) / math.log(estimate.speedup_high / estimate.speedup_low)


def _evidence(estimate: Estimate) -> str:
    if estimate.evidence == "measured":
        return "measured here"
    return "predicted from replayed answers and measured costs" if estimate.evidence == "replay" else "from the prior"
