"""The answer: of what is sure to help the fastest, ties broken towards less memory, and no when that is true.

What is predicted before anything was replayed is ranked by the lower end of its interval instead: there the intervals
say how much is known of a draft. After replays they say how much the answers differ from each other, which is true of
every pairing and no reason to prefer one (docs/decisions/0020-ranking.md).

A method without a draft needs neither memory nor a download: it is taken where its speedup is within the interval of
the best draft (docs/decisions/0009-methods.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from advisor.types import Candidate, Config, Estimate, Model, Verdict

NO_DRAFT_RUNS = "no draft can run beside this target"
WORTH_IT = 1.05  # a speedup that can at best be less than this is none to hope for
TIE = 0.01  # 1 % is a tie: the machine's own noise is larger


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
    nothing: str = NO_DRAFT_RUNS,
    tried: Callable[[Model], bool] = lambda draft: True,
    guessed: Collection[str] = (),
) -> Answer:
    """Rank and decide. ``best`` is None when the verdict is no; ``runner_up`` is the best of another draft or method.

    ``nothing``: why, where there is no estimate; ``tried``: whether a prediction for this draft rests on measurements;
    ``guessed``: drafts whose decodes were not timed.
    """
    by_draft = {candidate.draft.content_hash: candidate for candidate in candidates}
    ranked = rank(estimates, by_draft, tried)
    if not ranked:
        return Answer("do-not-speculate", f"Do not speculate: {nothing}.", (), None, None)
    best = ranked[0]
    runner_up = next((other for other in ranked if other.config.proposer != best.config.proposer), None)
    if best.speedup_low <= 1.0:
        return Answer("do-not-speculate", _refusal(ranked, by_draft, guessed), ranked, None, None)
    sentence = f"Speculate with {_words(best, by_draft)}, {_evidence(best, guessed)}."
    return Answer("speculate", sentence, ranked, best, runner_up)


def likeliest(estimates: Sequence[Estimate]) -> Estimate | None:
    """Of estimates none of which is sure to help the one that most likely does, None where none is expected to."""
    best = max(estimates, key=_deviations_above_one, default=None)
    return best if best is not None and best.speedup > 1 and best.speedup_high >= WORTH_IT else None


def _refusal(ranked: Sequence[Estimate], by_draft: Mapping[str, Candidate], guessed: Collection[str]) -> str:
    """It is one thing that nothing helps, another that nothing is sure to."""
    may_help = likeliest(ranked)
    if may_help is None:
        return f"Do not speculate: the best that was found should give {_words(ranked[0], by_draft)}."
    words = f"{_words(may_help, by_draft)}, {_evidence(may_help, guessed)}"
    return f"Do not speculate yet: nothing is sure to help. What most likely would is {words}."


def _words(estimate: Estimate, by_draft: Mapping[str, Candidate]) -> str:
    config = estimate.config
    label = by_draft[config.draft].draft.label if config.draft else config.method
    interval = f"{estimate.speedup:.2f}x (80 % interval {estimate.speedup_low:.2f} to {estimate.speedup_high:.2f})"
    return f"{label}, {setting_of(config)}: {interval}"


def setting_of(config: Config) -> str:
    """The numbers of a config that matter to its method: "k = 8, p_min = 0.6", "n = 12, n_min = 6, k = 16"."""
    parts = [lookup_of(config)] if config.ngram_size else []
    parts.append(f"k = {config.k}")
    parts += [f"n_min = {config.n_min}"] if config.n_min and not config.ngram_size else []
    parts += [f"p_min = {config.p_min:g}"] if config.p_min else []
    parts += ["rejection sampling"] if config.draft_sampling == "probabilistic" else []
    return ", ".join(parts)


def lookup_of(config: Config) -> str:
    """What is particular to an n-gram method: "n = 12, n_min = 6"."""
    return f"n = {config.ngram_size}" + (f", n_min = {config.n_min}" if config.n_min else "")


def rank(
    estimates: Sequence[Estimate],
    by_draft: Mapping[str, Candidate],
    tried: Callable[[Model], bool] = lambda draft: True,
) -> tuple[Estimate, ...]:
    """Best first: those that are sure to help before others, and by ``merit``. Among those within TIE of the best a
    draft that was ``tried`` leads, then one that is on disk, then the least memory; among equal memory the one that was
    measured, then the better one. A method without a draft that is sure to help and whose speedup is in the interval of
    the best draft comes before it.

    Predictions of which none should help are in the order of how likely they help: by the lower end the draft that
    changes least would lead.
    """
    ordered = sorted(estimates, key=merit, reverse=True)
    if not ordered:
        return ()
    if ordered[0].speedup_low <= 1 and all(e.evidence == "prior" for e in ordered):
        return tuple(sorted(ordered, key=lambda e: -_deviations_above_one(e)))
    is_sure, best = merit(ordered[0])
    floor = (is_sure, best * (1 - TIE))
    tied = [e for e in ordered if merit(e) >= floor]

    def order(e: Estimate) -> tuple[bool, bool, int, bool, float]:
        if not e.config.draft:
            return False, False, 0, e.evidence != "measured", -merit(e)[1]
        candidate = by_draft[e.config.draft]
        draft = candidate.draft
        return not tried(draft), not draft.path, candidate.memory_bytes, e.evidence != "measured", -merit(e)[1]

    ranked = [*sorted(tied, key=order), *(e for e in ordered if merit(e) < floor)]
    free = next((e for e in ranked if not e.config.draft), None)
    if free is not None and max(1.0, ranked[0].speedup_low) < free.speedup and free.speedup_low > 1:
        ranked.remove(free)
        ranked.insert(0, free)
    return tuple(ranked)


def merit(estimate: Estimate) -> tuple[bool, float]:
    """(whether it is sure to help, what it is ranked by)."""
    by_itself = estimate.speedup_low if estimate.evidence == "prior" else estimate.speedup
    return estimate.speedup_low > 1, by_itself


def _deviations_above_one(estimate: Estimate) -> float:
    """A speedup that is known exactly counts as one whose interval is a hair wide."""
    width = max(estimate.speedup_high / estimate.speedup_low, 1 + 1e-9)
    return math.log(estimate.speedup) / math.log(width)


def _evidence(estimate: Estimate, guessed: Collection[str]) -> str:
    if estimate.evidence == "measured":
        return "measured here"
    if estimate.evidence == "prior":
        return "from the prior"
    costs = "costs guessed from its size" if estimate.config.draft in guessed else "measured costs"
    return f"predicted from replayed answers and {costs}"
