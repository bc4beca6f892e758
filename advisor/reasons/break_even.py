"""Where a pairing stops paying: acceptance moved up and down, the same walk, the same prices.

The measured way keeps everything that was seen: the answers, where in them the draft fails, how confident it is, what
every decode costs. Only the share of positions at which draft and target agree is changed. The textbook way (Leviathan
et al. 2023, arXiv 2211.17192) knows one agreement and one cost ratio. Both are given, and the steps between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from advisor.acceptance.walk import NO_TOKEN, Walk, pooled, walk
from advisor.cost.step_law import StepLaw
from advisor.reasons.records import AcceptancePoint, BreakEven
from advisor.types import Config, Trace

Floats = npt.NDArray[np.float64]

TOKENS_PER_POINT = 5000  # of answers walked for one point of a curve: about 1 % of noise
AGREEMENT_STEP = 0.05  # "5 points more agreement"
SHARES = (-1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Prices:
    """What decodes cost in typical target passes: ``target[b]`` and ``draft[b]`` for b tokens, [0] unused."""

    target: Floats
    draft: Floats
    law: StepLaw

    def step_parts(self, walked: Walk) -> tuple[float, float, float]:
        """(drafting, verifying, re-evaluating) of all steps of a walk, in target passes."""
        target, draft = self.law.counts(walked.draft_calls, walked.verified, len(self.target) - 1)
        drafting = walked.draft_calls * float(self.draft[1])
        return drafting, float(target @ self.target), float(draft @ self.draft) - drafting

    def speedup(self, walked: Walk) -> float:
        return walked.tokens / sum(self.step_parts(walked))


def agreement(traces: Sequence[Trace]) -> float:
    """The share of answer positions at which draft and target agree. The first token of an answer is never drafted."""
    pairs = [pair for trace in traces for pair in list(zip(trace.proposal, trace.answer_tokens, strict=True))[1:]]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 0.0


def independent_speedup(k: int, step_passes: float, own_agreement: float) -> float:
    """Tokens a step, 1 + a + ... + a^k, over the cost of a step in target passes (Leviathan et al., theorem 3.8)."""
    return sum(own_agreement**i for i in range(k + 1)) / step_passes


def independent_break_even(k: int, step_passes: float) -> float | None:
    """The agreement a with 1 + a + ... + a^k = ``step_passes``, the cost of a step in target passes.

    With step_passes = k c + 1 this is the root of a^(k+1) - (k c + 1) a + k c = 0 below 1 (Leviathan et al. 2023,
    section 3.4). None where a step costs k + 1 passes or more; 0 where it costs no more than one.
    """
    if step_passes >= k + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if independent_speedup(k, step_passes, middle) < 1 else (low, middle)
    return (low + high) / 2


def textbook_steps(k: int, prices: Prices) -> BreakEven:
    """What the formula says, then with one measured price after the other. No answers are needed."""
    drafting = k * float(prices.draft[1])
    verifying, again = float(prices.target[k + 1]), float(prices.draft[k + 1]) if prices.law.reevaluates else 0.0
    return BreakEven(
        textbook=independent_break_even(k, drafting + 1),
        verification_priced=independent_break_even(k, drafting + verifying),
        reevaluation_priced=independent_break_even(k, drafting + verifying + again),
    )


class Shifted:
    """A draft whose agreement with the target is moved, everything else as replayed.

    ``share`` -0.3 turns three in ten agreements, chosen at random, into mismatches; +0.3 three in ten mismatches into
    agreements. A turned position takes the draft's confidence from a position of its new kind. Every share uses the
    same random numbers, so curves are smooth. ``correction`` is what real runs taught: measured / analytic.
    """

    def __init__(
        self, traces: Sequence[Trace], config: Config, prices: Prices, *, max_tokens: int, correction: float, seed: int
    ) -> None:
        self._traces, self._config, self._prices = traces, config, prices
        self._max_tokens, self._correction = max_tokens, correction
        self.agreement = agreement(traces)
        rng = np.random.default_rng(seed)
        length = max(1, sum(len(trace.answer_tokens) for trace in traces))
        draws = math.ceil(TOKENS_PER_POINT / length)
        donors = {kind: _confidences(traces, kind) for kind in (True, False)}
        self._numbers = [
            [_Numbers.draw(rng, len(trace.answer_tokens), donors) for trace in traces] for _ in range(draws)
        ]

    def at_share(self, share: float) -> AcceptancePoint:
        moved = self.agreement * (1 + share) if share < 0 else self.agreement + (1 - self.agreement) * share
        walks = [
            walk(_turned(trace, share, numbers), self._config, max_tokens=self._max_tokens)
            for draw in (self._numbers if share else self._numbers[:1])
            for trace, numbers in zip(self._traces, draw, strict=True)
        ]
        total = pooled(walks)
        rate = total.accepted / total.drafted if total.drafted else 0.0
        return AcceptancePoint(moved, rate, self._prices.speedup(total) * self._correction)

    def at(self, wanted: float) -> AcceptancePoint:
        """The config at this agreement, 0 to 1."""
        own = self.agreement
        if wanted <= own:
            return self.at_share(wanted / own - 1 if own > 0 else 0.0)
        return self.at_share((wanted - own) / (1 - own))

    def curve(self) -> tuple[AcceptancePoint, ...]:
        """From no agreement to full agreement; the measured point is among them, and those AGREEMENT_STEP beside it."""
        own = self.agreement
        grid = {own * (1 + share) if share < 0 else own + (1 - own) * share for share in SHARES}
        beside = {own + step for step in (-AGREEMENT_STEP, AGREEMENT_STEP) if 0 <= own + step <= 1}
        return tuple(self.at(wanted) for wanted in sorted(grid | beside))

    def break_even(self, curve: Sequence[AcceptancePoint]) -> AcceptancePoint | None:
        """The point of speedup 1 on a curve of this draft, refined; None where no point of it reaches 1."""
        above = next((i for i in range(len(curve)) if all(point.speedup >= 1 for point in curve[i:])), None)
        if above is None:
            return None
        if above == 0:
            return curve[0]
        low, high = curve[above - 1], curve[above]
        between = np.linspace(low.agreement, high.agreement, 7)[1:-1].tolist()
        return _crossing([low, *(self.at(wanted) for wanted in between), high])


def _crossing(points: Sequence[AcceptancePoint]) -> AcceptancePoint:
    """Where a parabola through points whose ends lie on either side of 1 crosses it (least squares, agreement as a
    function of speedup: it evens out the noise of single points)."""
    x, y = np.array([p.agreement for p in points]), np.array([p.speedup for p in points])
    degree = min(2, len(np.unique(y)) - 1)
    where = float(np.clip(np.polyval(np.polyfit(y - 1, x, degree), 0.0), x[0], x[-1]))
    rate = float(np.interp(where, x, [p.acceptance_rate for p in points]))
    return AcceptancePoint(where, rate, 1.0)


@dataclass(frozen=True)
class _Numbers:
    """Random numbers of one answer: ``turn`` decides which positions turn, ``confidence[kind]`` what they take."""

    turn: Floats
    confidence: dict[bool, Floats]

    @classmethod
    def draw(cls, rng: np.random.Generator, length: int, donors: dict[bool, Floats]) -> _Numbers:
        return cls(rng.random(length), {kind: rng.choice(pool, length) for kind, pool in donors.items() if len(pool)})


def _confidences(traces: Sequence[Trace], agrees: bool) -> Floats:
    return np.array(
        [
            p
            for trace in traces
            for p, a, b in zip(trace.probability, trace.proposal, trace.answer_tokens, strict=True)
            if (a == b) == agrees
        ]
    )


def _turned(trace: Trace, share: float, numbers: _Numbers) -> Trace:
    if not share:
        return trace
    to_agreement = share > 0
    turn = (numbers.turn < abs(share)).tolist()
    donated = numbers.confidence.get(to_agreement)
    proposal, probability = list(trace.proposal), list(trace.probability)
    for i, token in enumerate(trace.answer_tokens):
        if turn[i] and (proposal[i] == token) != to_agreement:
            proposal[i] = token if to_agreement else NO_TOKEN
            if donated is not None:
                probability[i] = float(donated[i])
    return replace(trace, proposal=tuple(proposal), probability=tuple(probability))
