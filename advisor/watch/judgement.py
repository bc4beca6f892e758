"""What a server does beside what was expected of it: whether speculation pays now, and what to do where it does not."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from advisor.types import Verdict
from advisor.watch.expectation import Expected
from advisor.watch.readings import FEW_TOKENS, Live, Slots

State = Literal[
    "waiting",  # no request has ended yet
    "too-few",  # too little was drafted to say
    "pays",
    "below-break-even",
    "not-drafting",  # tokens, but none was drafted
    "not-counted",  # a build without counters of drafts
    "not-compared",  # nothing to compare with
]
Pace = Literal["within", "below", "above"]
ALIKE = 0.1  # acceptance rates that may be those of one kind of text
ALONE = 1.2  # requests in a decode up to which a request has the server for itself


@dataclass(frozen=True)
class Judgement:
    """``below``: speculation makes this server slower, or does not happen where it should. ``pace`` is the speed beside
    the interval, None where the two cannot be compared. Sentences are for people; names in them are as they came."""

    state: State
    below: bool = False
    pace: Pace | None = None
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(
    live: Live | None, expected: Expected | None, *, verdict: Verdict | None = None, slots: Slots | None = None
) -> Judgement:
    """``verdict`` is that of the recommendation, None without one."""
    if live is None or live.tokens <= 0:
        return Judgement("waiting", warnings=_unspeculating(expected, slots), notes=_notes(live, slots))
    if expected is None:
        return Judgement("not-compared", warnings=_against(live, verdict), notes=_notes(live, slots))
    state, below, warnings = _state(live, expected, slots)
    pace = _pace(live, expected)
    return Judgement(
        state,
        below,
        pace,
        (*warnings, *_other_length(live, expected), *_too_slow(pace, live, expected, below)),
        _advice(live, expected) if below else (),
        _notes(live, slots),
    )


def _state(live: Live, expected: Expected, slots: Slots | None) -> tuple[State, bool, tuple[str, ...]]:
    if not live.counts_drafts:
        return ("not-counted", *_by_speed(live, expected))
    if live.few:
        return "too-few", False, _unspeculating(expected, slots)
    if not live.drafted:
        should = expected.always_drafts or bool(_unspeculating(expected, slots))
        return "not-drafting", should, (_nothing_drafted(live, expected, slots),)
    if said := _below(live, expected):
        return "below-break-even", True, (said,)
    return "pays", False, ()


def _below(live: Live, expected: Expected) -> str:
    """By acceptance, which neither short answers nor other load change; "" where it pays."""
    rate, limit = live.acceptance_rate, expected.break_even_acceptance
    if rate is not None and limit is not None:
        if rate >= limit:
            return ""
        return (
            f"Acceptance is {_percent(rate)}, below the break-even of {_percent(limit)}: "
            "without speculation this server would be faster now."
        )
    tokens, needed = live.tokens_per_step, expected.break_even_tokens_per_step
    if tokens is None or tokens >= needed:
        return ""
    return f"A step gives {tokens:.2f} tokens and costs as much as {needed:.2f} without speculation."


def _by_speed(live: Live, expected: Expected) -> tuple[bool, tuple[str, ...]]:
    speed = live.tokens_per_second
    if speed is None or not _is_comparable(live) or speed >= expected.baseline_tps:
        return False, ()
    return True, (
        f"It decodes {speed:.1f} tok/s, slower than the target alone when it was measured "
        f"({expected.baseline_tps:.1f} tok/s).",
    )


def _nothing_drafted(live: Live, expected: Expected, slots: Slots | None) -> str:
    if said := _unspeculating(expected, slots):
        return said[0]
    if expected.always_drafts:
        return (
            f"None of {live.tokens:.0f} tokens was drafted: the server was not told to speculate, or dropped the "
            "draft. Its log says why; most often --spec-type is missing or the vocabularies differ."
        )
    return f"None of {live.tokens:.0f} tokens was drafted: in this text {expected.label} finds nothing to propose."


def _unspeculating(expected: Expected | None, slots: Slots | None) -> tuple[str, ...]:
    if expected is None or slots is None or slots.speculates is not False:
        return ()
    return ("The server runs without speculation: start it with the command of the recommendation.",)


def _against(live: Live, verdict: Verdict | None) -> tuple[str, ...]:
    if verdict != "do-not-speculate" or not live.drafted:
        return ()
    return ("The recommendation is not to speculate, but this server does.",)


def _other_length(live: Live, expected: Expected) -> tuple[str, ...]:
    own, served = expected.config.k, len(live.accepted_per_position)
    if not expected.config.draft or served in (0, own):
        return ()
    return (f"The server drafts up to {served} tokens, the recommendation is about k = {own}: the two differ.",)


def _is_comparable(live: Live) -> bool:
    shared = live.at_once is not None and live.at_once > ALONE
    return not shared and not live.coarse and live.tokens >= FEW_TOKENS


def _pace(live: Live, expected: Expected) -> Pace | None:
    speed = live.tokens_per_second
    if speed is None or not _is_comparable(live):
        return None
    return "below" if speed < expected.low_tps else "above" if speed > expected.high_tps else "within"


def _too_slow(pace: Pace | None, live: Live, expected: Expected, below: bool) -> tuple[str, ...]:
    if pace != "below" or below or live.tokens_per_second is None:
        return ()
    rate = live.acceptance_rate
    accepted_less = rate is not None and rate < expected.acceptance_rate
    why = (
        f"less is accepted than expected ({_percent(rate or 0.0)}, not {_percent(expected.acceptance_rate)})"
        if accepted_less
        else "the machine is busier, the contexts are longer or the build is another than when it was measured"
    )
    return (
        f"It decodes {live.tokens_per_second:.1f} tok/s, below the {expected.low_tps:.1f} to {expected.high_tps:.1f} "
        f"expected: {why}.",
    )


# -- what to do --------------------------------------------------------------------------------------------------------


def _advice(live: Live, expected: Expected) -> tuple[str, ...]:
    if live.drafted == 0:
        return ()
    return (*_length_advice(live, expected), *_category_advice(live, expected), _workload_advice(expected))


def speedup_at(k: int, step_passes: float, by_position: tuple[float, ...]) -> float:
    """Of a draft cut to k tokens: what is accepted at the first k places, over what such a step costs."""
    return (1 + sum(by_position[:k])) / step_passes


def _length_advice(live: Live, expected: Expected) -> tuple[str, ...]:
    places, own = live.by_position, expected.config.k
    if not places or len(places) != own or not expected.lengths:
        return ("Lower the draft length k: the first tokens of a draft are the surest, and a shorter one costs less.",)
    shorter = [(speedup_at(one.k, one.step_passes, places), one.k) for one in expected.lengths if one.k < own]
    if not shorter:
        return (f"Try a draft length below k = {own}: none was among those measured.",)
    speedup, k = max(shorter)
    if speedup <= 1:
        best = f"the best is k = {k} at {speedup:.2f}x"
        return (f"No shorter draft pays at this acceptance either ({best}): serve such text without speculation.",)
    return (f"Lower the draft length: with what is accepted now, k = {k} is expected to give {speedup:.2f}x.",)


def _category_advice(live: Live, expected: Expected) -> tuple[str, ...]:
    rate = live.acceptance_rate
    if rate is None or len(expected.categories) < 2:
        return ()
    near = min(expected.categories, key=lambda one: abs(one.acceptance_rate - rate))
    if abs(near.acceptance_rate - rate) > ALIKE:
        return ()
    speedup = f", {near.speedup:.2f}x" if near.speedup is not None else ""
    return (
        f"It is like the measured category {near.name} ({_percent(near.acceptance_rate)}{speedup}): "
        f"{_command(expected, '--category', near.name)} picks for it.",
    )


def _workload_advice(expected: Expected) -> str:
    return f"Measure again with prompts of this kind: {_command(expected, '--workload', 'prompts.jsonl')}."


def _command(expected: Expected, *options: str) -> str:
    return f"`{shlex.join(('advisor', 'recommend', '--target', expected.target, *options))}`"


# -- what else there is to know ----------------------------------------------------------------------------------------


def _notes(live: Live | None, slots: Slots | None) -> tuple[str, ...]:
    said = []
    if live is not None and not live.counts_drafts:
        said.append(
            "This build does not count drafts: acceptance and tokens per step are missing, only the speed is known. "
            "Builds of llama.cpp from August 2026 on count them."
        )
    if live is not None and live.at_once is not None and live.at_once > ALONE:
        said.append(
            f"{live.at_once:.1f} requests share a decode: each one's speed is not that of the recommendation, "
            "which is for one at a time."
        )
    if slots is None:
        said.append("/slots is off: what is being answered shows when it ends.")
    return tuple(said)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
