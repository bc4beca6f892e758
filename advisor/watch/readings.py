"""Counters of a llama-server, the difference of two readings, and restarts.

A server adds the counters of a request when it ends, so what is being answered is not in them. It counts the steps
that drafted something; all steps follow from the tokens: each token comes from a step or was accepted. The first token
of an answer is counted too though reading the prompt gave it, so tokens per step come out a little low where answers
are short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from advisor.server_metrics import (
    ACCEPTED,
    BUSY_PER_DECODE,
    DECODE_S,
    DECODES,
    DEFERRED,
    DRAFTED,
    DRAFTS,
    PER_POSITION,
    PROCESSING,
    TOKENS,
    Metrics,
    accepted_per_position,
    fraction_grain,
    grain,
)

ENOUGH_DRAFTED = 400  # drafted tokens of which the share accepted is known to about 5 points
FEW_DRAFTED = 100  # with fewer there is no judgement
ENOUGH_TOKENS = 1000  # where nothing is drafted, or nothing is known about it
FEW_TOKENS = 100
SURE_GRAINS = 20  # a difference is this many times what its ends may be off
MOST_READINGS = 1000


@dataclass(frozen=True)
class Counters:
    """Totals since the server started. ``drafts`` (steps that drafted), ``drafted`` and ``accepted`` are None where the
    build does not count them. ``busy`` is the number of requests in each decode, summed up over ``decodes``."""

    tokens: float = 0.0
    decode_s: float = 0.0
    drafts: float | None = None
    drafted: float | None = None
    accepted: float | None = None
    per_position: tuple[float, ...] = ()
    decodes: float = 0.0
    busy: float = 0.0

    @classmethod
    def of(cls, metrics: Metrics) -> Counters:
        """ValueError when these are not the counters of a llama-server."""
        if TOKENS not in metrics or DECODE_S not in metrics:
            raise ValueError(f"no {TOKENS if TOKENS not in metrics else DECODE_S}")
        places = accepted_per_position(metrics)
        for name in (TOKENS, DECODE_S, DRAFTS, DRAFTED, ACCEPTED, DECODES, BUSY_PER_DECODE):
            if not 0 <= metrics.get(name, 0.0) < math.inf:
                raise ValueError(f"{name} {metrics[name]}")
        for i, count in enumerate(places):
            if not 0 <= count < math.inf:
                raise ValueError(f"{PER_POSITION.format(i)} {count}")
        decodes = metrics.get(DECODES, 0.0)
        return cls(
            tokens=metrics[TOKENS],
            decode_s=metrics[DECODE_S],
            drafts=metrics.get(DRAFTS),
            drafted=metrics.get(DRAFTED),
            accepted=_whole(metrics.get(ACCEPTED), places),
            per_position=places,
            decodes=decodes,
            busy=decodes * metrics.get(BUSY_PER_DECODE, 0.0),
        )

    def continues(self, before: Counters) -> bool:
        """Whether this can be the same server later: no counter went down, no other draft length."""
        pairs = [
            (before.tokens, self.tokens),
            (before.decode_s, self.decode_s),
            (before.decodes, self.decodes),
            (before.drafts, self.drafts),
            (before.drafted, self.drafted),
            (before.accepted, self.accepted),
        ]
        if any((old is None) != (new is None) for old, new in pairs):
            return False
        if any((old or 0) - grain(old or 0) > (new or 0) for old, new in pairs):
            return False
        places = zip(before.per_position, self.per_position, strict=False)
        return len(before.per_position) in (0, len(self.per_position)) and all(old <= new for old, new in places)


def _whole(accepted: float | None, places: tuple[float, ...]) -> float | None:
    """Large counters are printed rounded, those of the places are not: where they agree the sum is the exact one."""
    total = sum(places)
    return total if accepted is not None and abs(total - accepted) <= grain(accepted) else accepted


@dataclass(frozen=True)
class Slots:
    """What ``/slots`` says: requests that are being answered, tokens of them so far, whether any slot speculates."""

    running: int
    tokens: int
    speculates: bool | None = None

    @classmethod
    def of(cls, listing: object) -> Slots | None:
        """None for what is not the list of a llama-server."""
        if not isinstance(listing, list) or not listing or not all(isinstance(slot, dict) for slot in listing):
            return None
        running = [slot for slot in listing if slot.get("is_processing") is True]
        said = [slot["speculative"] for slot in listing if isinstance(slot.get("speculative"), bool)]
        return cls(len(running), sum(_tokens_so_far(slot) for slot in running), any(said) if said else None)


def _tokens_so_far(slot: Mapping[str, Any]) -> int:
    """Newer builds make a list of it."""
    state = slot.get("next_token")
    if isinstance(state, list):
        state = state[0] if state else None
    count = state.get("n_decoded") if isinstance(state, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0


@dataclass(frozen=True)
class Reading:
    """One look at a server. ``at_s`` is on the watcher's clock; ``waiting`` requests have no slot yet. ``slots`` is
    None where the server does not tell."""

    at_s: float
    counters: Counters
    waiting: int = 0
    processing: int = 0
    slots: Slots | None = None

    @classmethod
    def of(cls, metrics: Metrics, slots: Slots | None, at_s: float) -> Reading:
        """ValueError when the samples are not those of a llama-server."""
        waiting, processing = (_count(metrics.get(name, 0.0)) for name in (DEFERRED, PROCESSING))
        return cls(at_s, Counters.of(metrics), waiting, processing, slots)


def _count(value: float) -> int:
    return int(value) if 0 <= value < math.inf else 0


@dataclass(frozen=True)
class Live:
    """What a span of counters says. None where nothing was counted, or the build does not count it.

    ``tokens_per_second`` is each request's own speed of decoding; ``at_once`` how many requests shared a decode.
    ``by_position[i]``: share of the steps that drafted whose token i was accepted. ``few``: too little, or printed too
    coarsely, to judge the acceptance; ``coarse``: of the speed. ``whole``: since the server started.
    """

    seconds: float
    tokens: float
    decode_s: float
    drafts: float | None
    drafted: float | None
    accepted: float | None
    accepted_per_position: tuple[float, ...]
    at_once: float | None
    few: bool
    coarse: bool
    whole: bool

    @classmethod
    def between(cls, before: Counters, after: Counters, seconds: float, *, whole: bool = False) -> Live:
        tokens = after.tokens - before.tokens
        drafted = _minus(after.drafted, before.drafted)
        return cls(
            seconds=seconds,
            tokens=tokens,
            decode_s=after.decode_s - before.decode_s,
            drafts=_minus(after.drafts, before.drafts),
            drafted=drafted,
            accepted=_minus(after.accepted, before.accepted),
            accepted_per_position=_places(before.per_position, after.per_position),
            at_once=_at_once(before, after),
            few=_few(drafted, after.drafted, tokens, after.tokens),
            coarse=tokens < SURE_GRAINS * grain(after.tokens)
            or after.decode_s - before.decode_s < SURE_GRAINS * fraction_grain(after.decode_s),
            whole=whole,
        )

    @property
    def counts_drafts(self) -> bool:
        return self.drafted is not None and self.accepted is not None

    @property
    def acceptance_rate(self) -> float | None:
        """accepted / drafted, what llama-server prints."""
        if not self.drafted or self.accepted is None:
            return None
        return min(1.0, self.accepted / self.drafted)

    @property
    def steps(self) -> float | None:
        """All of them, those that drafted nothing included."""
        if self.accepted is None or self.tokens <= 0:
            return None
        return max(self.tokens - self.accepted, self.drafts or 0.0) or None

    @property
    def tokens_per_step(self) -> float | None:
        return self.tokens / self.steps if self.steps else None

    @property
    def drafted_per_step(self) -> float | None:
        return self.drafted / self.steps if self.steps and self.drafted is not None else None

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.decode_s if self.tokens > 0 and self.decode_s > 0 else None

    @property
    def by_position(self) -> tuple[float, ...]:
        if not self.drafts:
            return ()
        return tuple(min(1.0, count / self.drafts) for count in self.accepted_per_position)


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None else after - (before or 0.0)


def _at_once(before: Counters, after: Counters) -> float | None:
    """None where it drowns in the rounding of the average that the server prints over all its decodes."""
    decodes = after.decodes - before.decodes
    average = after.busy / after.decodes if after.decodes else 0.0
    if decodes < max(SURE_GRAINS, SURE_GRAINS * after.decodes * fraction_grain(average)):
        return None
    return max(1.0, (after.busy - before.busy) / decodes)


def _places(before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, ...]:
    earlier = before or (0.0,) * len(after)
    return tuple(new - old for old, new in zip(earlier, after, strict=True))


def _few(drafted: float | None, total: float | None, tokens: float, all_tokens: float) -> bool:
    if not drafted or total is None:  # fewer tokens than a step of the counter may hide a draft
        return tokens < max(FEW_TOKENS, SURE_GRAINS * grain(all_tokens), grain(total or 0.0))
    return drafted < max(FEW_DRAFTED, SURE_GRAINS * grain(total))


@dataclass(frozen=True)
class History:
    """Readings of one server since it was first seen, or since it started again. ``restarts`` were seen."""

    readings: tuple[Reading, ...] = ()
    restarts: int = 0

    def add(self, reading: Reading) -> History:
        """With this reading. After a restart the server counts from zero, so all it says is new."""
        if not self.readings:
            return replace(self, readings=(reading,))
        last = self.readings[-1]
        if not reading.counters.continues(last.counters):
            return History((Reading(last.at_s, Counters()), reading), self.restarts + 1)
        if reading.counters == last.counters and len(self.readings) > 1:
            return replace(self, readings=(*self.readings[:-1], reading))
        readings = (*self.readings, reading)
        start = _start_of_window(readings)
        return replace(self, readings=readings[max(start, len(readings) - MOST_READINGS) :])

    @property
    def last(self) -> Reading | None:
        return self.readings[-1] if self.readings else None

    @property
    def lately(self) -> Live | None:
        """The shortest span up to now that says enough, else all that was seen. None before the second reading."""
        if len(self.readings) < 2:
            return None
        first, last = self.readings[_start_of_window(self.readings)], self.readings[-1]
        return Live.between(first.counters, last.counters, last.at_s - first.at_s)

    @property
    def since_start(self) -> Live | None:
        """All that the server has counted since it started. Nothing is known of how long that was."""
        if self.last is None:
            return None
        return Live.between(Counters(), self.last.counters, 0.0, whole=True)


def _start_of_window(readings: tuple[Reading, ...]) -> int:
    """The latest reading with enough between it and the last one, 0 where no span has enough."""
    last = readings[-1].counters
    return next(
        (i for i in range(len(readings) - 2, 0, -1) if _is_enough(Live.between(readings[i].counters, last, 0.0), last)),
        0,
    )


def _is_enough(live: Live, last: Counters) -> bool:
    if live.drafted:
        return live.drafted >= max(ENOUGH_DRAFTED, SURE_GRAINS * grain(last.drafted or 0.0))
    return live.tokens >= max(ENOUGH_TOKENS, SURE_GRAINS * grain(last.tokens))
