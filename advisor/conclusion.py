"""What a recommendation says beside its estimates: the target's own speed, how it moved, and what to know."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from advisor.errors import EngineError
from advisor.types import (
    PLAIN_CACHE,
    Baseline,
    Build,
    Candidate,
    CostCurve,
    Estimate,
    Model,
    Placement,
    Rejected,
    Trial,
    pooled_token_s,
)

GIB = 1 << 30
NO_TURN = "no time was left to replay it: give more --budget, or fewer drafts"


def baseline(trials: Sequence[Trial], target_curve: CostCurve) -> Baseline:
    """From the baselines of real runs, else from the anchors of the curve."""
    if any(trial.runs for trial in trials):
        seconds = token_s(trials)
        return Baseline(1 / seconds, seconds, "measured")
    seconds = statistics.median(target_curve.anchor_s)
    return Baseline(1 / seconds, seconds, "replay")


def token_s(trials: Sequence[Trial]) -> float:
    """The target's seconds a token over the baselines of these trials."""
    return pooled_token_s([run for trial in trials for run in trial.baselines])


def drift_over(trials: Sequence[Trial]) -> float:
    """How far the target's answers to the first prompt moved: slowest over fastest, minus 1."""
    speeds = [trial.baselines[0].token_s for trial in trials if trial.baselines]
    return max(speeds) / min(speeds) - 1 if speeds else 0.0


def memory_notes(trials: Sequence[Trial], candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Which pairs took more memory than was estimated for them, margin included."""
    peaks: dict[str, int] = {}
    for trial in trials:
        seen = max((run.peak_bytes for run in trial.runs), default=0)
        peaks[trial.config.draft] = max(seen, peaks.get(trial.config.draft, 0))
    said = []
    for candidate in candidates:
        peak = peaks.get(candidate.draft.content_hash, 0)
        needed = sum(use.needed_bytes for use in candidate.memory)
        margin = sum(use.margin_bytes for use in candidate.memory)
        if peak > needed + margin:
            said.append(
                f"With {candidate.draft.label} the engine held {peak / GIB:.2f} GiB, more than the estimate of "
                f"{needed / GIB:.2f} GiB and its margin of {margin / GIB:.2f} GiB."
            )
    return tuple(said)


def guessed_costs(target_curve: CostCurve, draft_curves: Mapping[str, CostCurve], drafts: Sequence[Model]) -> list[str]:
    """Of whom no decode was timed."""
    if target_curve.guessed:
        return ["No decode was timed: costs are guessed from the target's own speed and from the size of each draft."]
    names = [one.label for one in drafts if one.content_hash in draft_curves and draft_curves[one.content_hash].guessed]
    return [f"What decodes cost was guessed from the size, not timed, of {', '.join(names)}."] if names else []


def without_a_turn(candidates: Sequence[Candidate]) -> list[Rejected]:
    """Drafts that nothing was measured of."""
    return [Rejected(one.draft.name, one.draft.quant, "budget", NO_TURN) for one in candidates]


def shared_notes(others: int, trials: int) -> tuple[str, ...]:
    """Where some of the real runs are those of other machines in a shared search."""
    if not others:
        return ()
    return (f"{others} of {trials} pairings that were run for real were run by other machines of this class.",)


def notes(
    best: Estimate | None,
    trials: Sequence[Trial],
    replayed_by: Build | None,
    served_by: Build | None,
    *,
    timed_here: bool = False,
) -> tuple[str, ...]:
    """What a reader should know about these numbers. ``replayed_by``: None where nothing was replayed; ``served_by``:
    the server that ran, None without one; ``timed_here``: decodes were timed by who replayed all the same."""
    said = []
    if best is not None and best.config.p_min > 0 and best.evidence == "replay":
        said.append(
            "With p_min, how many tokens are drafted after a first wrong one is estimated from a few continuations."
        )
    pairs = [pair for trial in trials for pair in trial.pairs]
    apart = sum(run.answer_tokens != base.answer_tokens for base, run in pairs)
    if apart:
        said.append(
            f"{apart} of {len(pairs)} speculative answers are not word for word the target's own: where two tokens "
            "are nearly tied, a larger batch can tip the choice. llama.cpp does not promise identical text."
        )
    if replayed_by is None or served_by is None:
        return tuple(said)
    if timed_here:
        said.append(
            f"Acceptance was replayed and decodes were timed with {_named(replayed_by)}, because {_named(served_by)} "
            "does not go on from a context it holds; answers and real runs are those of the server."
        )
    else:
        said.append(
            f"Acceptance was replayed with {_named(replayed_by)}; answers, costs and real runs are those of "
            f"{_named(served_by)}."
        )
    return tuple(said)


def cache_note(place: Placement) -> tuple[str, ...]:
    """Where the cache had to be quantized: what that is, and what it was not compared with."""
    if place.cache_type == PLAIN_CACHE:
        return ()
    return (
        f"Keys and values are kept as {place.cache_type}, target and draft: as {PLAIN_CACHE} no pair fits in memory at "
        "this context. All was measured so; the text can differ a little from that of a plain cache.",
    )


def reasons(rejected: Sequence[Rejected]) -> str:
    """Why each left the race, a line each, as an error lists them."""
    return "\n".join(f"  {one.draft} {one.quant}: {one.detail}" for one in rejected)


def not_weighed(error: EngineError) -> tuple[str, ...]:
    """Why rejection sampling does not compete though it was to be predicted."""
    return (f"Rejection sampling was not predicted: the target could not weigh its answers. {error.what}",)


def rules(ranked: Sequence[Estimate]) -> tuple[str, ...]:
    """What the two ways to verify a draft promise, where both were predicted. ``ranked``: best first."""
    drafting = sorted((one for one in ranked if one.config.draft), key=lambda one: -one.speedup_low)
    matched, rejected = (
        next((one for one in drafting if one.config.draft_sampling == rule), None)
        for rule in ("greedy", "probabilistic")
    )
    if matched is None or rejected is None:
        return ()
    accepted = [f"{100 * one.acceptance_rate:.0f} % accepted" for one in (matched, rejected)]
    return (
        f"Two ways to verify a draft at this temperature: at best {matched.speedup:.2f}x where the likeliest token is "
        f"drafted and the target must sample the same ({accepted[0]}), {rejected.speedup:.2f}x where the draft is "
        f"sampled and verified by rejection sampling ({accepted[1]}).",
    )


def _named(build: Build) -> str:
    return f"{build.engine} {build.version}"
