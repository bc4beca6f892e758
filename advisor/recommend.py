"""The answer: rank by the lower end of the interval, break ties towards less memory, and say no when that is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advisor.types import Candidate, Estimate, Verdict

TIE = 0.01  # lower ends within 1 % are a tie: the machine's own noise is larger


@dataclass(frozen=True)
class Answer:
    verdict: Verdict
    sentence: str
    ranked: tuple[Estimate, ...]
    best: Estimate | None
    runner_up: Estimate | None


def answer(estimates: Sequence[Estimate], candidates: Sequence[Candidate]) -> Answer:
    """Rank and decide. ``best`` is None when the verdict is no; ``runner_up`` is the best of another draft."""
    by_draft = {candidate.draft.content_hash: candidate for candidate in candidates}
    ranked = rank(estimates, {draft: candidate.memory_bytes for draft, candidate in by_draft.items()})
    if not ranked:
        return Answer("do-not-speculate", "Do not speculate: no draft can run beside this target.", (), None, None)
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


def rank(estimates: Sequence[Estimate], memory_bytes: Mapping[str, int]) -> tuple[Estimate, ...]:
    """Best first. Among those within TIE of the best lower end the one with the least memory leads; among equal
    memory the one measured, then the higher lower end."""
    ordered = sorted(estimates, key=lambda e: -e.speedup_low)
    if not ordered:
        return ()
    floor = ordered[0].speedup_low * (1 - TIE)
    tied = [e for e in ordered if e.speedup_low >= floor]
    tied.sort(key=lambda e: (memory_bytes[e.config.draft], e.evidence != "measured", -e.speedup_low))
    return (*tied, *(e for e in ordered if e.speedup_low < floor))


def _evidence(estimate: Estimate) -> str:
    if estimate.evidence == "measured":
        return "measured here"
    return "predicted from replayed answers and measured costs" if estimate.evidence == "replay" else "from the prior"
