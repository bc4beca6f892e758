"""Walk over a replayed answer as llama-server's draft-simple would, for any k, p_min and n_min. No model is run.

The walk is exact where the trace sees everything: with p_min = 0, and for every accepted token. How many tokens are
drafted after a confident mismatch comes from the trace's rollouts; where a mismatch has none, the mean of the others
stands in, and that of other answers where an answer has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from advisor.types import Config, Trace

DRAWS, LOTS = 8, 20240
NO_TOKEN = -1  # a proposal that no answer contains


@dataclass
class Walk:
    """What happened over one answer. ``verified[n]`` counts steps with n drafted tokens; ``draft_calls`` counts the
    draft's single-token decodes; ``tokens`` excludes the first one, which comes from the prefill."""

    tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    draft_calls: float = 0.0
    verified: dict[int, int] = field(default_factory=dict)
    accepted_per_position: list[int] = field(default_factory=list)

    def add_step(self, drafted: int, agreed: int, *, left: int, draft_calls: float = 0.0) -> int:
        """Count a step of which the first ``agreed`` drafted tokens are the target's own, with ``left`` tokens of the
        answer to come. Returns how many count as accepted."""
        ends_early = agreed == left and agreed < drafted
        accepted = agreed - 1 if ends_early else agreed  # an end token is accepted only as the last drafted one
        self.steps += 1
        self.drafted += drafted
        self.accepted += accepted
        self.draft_calls += draft_calls
        self.verified[drafted] = self.verified.get(drafted, 0) + 1
        for position in range(accepted):
            self.accepted_per_position[position] += 1
        return accepted


def walk(trace: Trace, config: Config, *, max_tokens: int, number: int = 0) -> Walk:
    """One answer under one config. ``max_tokens`` is the server's cap on the answer: it shortens the last drafts.

    Under rejection sampling it is what several draws of lots gave together; ``number``: of the answer, for its lots.
    """
    walkers = [Walker(one, config.p_min) for one in _under_rule(trace, config, number)]
    return pooled([one.walk(config.k, config.n_min, max_tokens=max_tokens) for one in walkers])


def drawn(trace: Trace, times: int, number: int) -> list[Trace]:
    """The trace as rejection sampling may go: a draft that proposes the answer's token where the lot says accepted.

    Such a draft is never unsure: how sure one is along what it draws is not replayed. The lots of
    answer ``number`` are the same for every k and every draft, so that differences between them are theirs.
    """
    lots = np.random.default_rng((LOTS, number)).random((times, len(trace.chance)))
    sure = (1.0,) * len(trace.chance)
    return [
        replace(
            trace,
            proposal=tuple(
                token if lot < chance else NO_TOKEN
                for token, lot, chance in zip(trace.answer_tokens, row, trace.chance, strict=True)
            ),
            probability=sure,
            rollout={},
            chance=(),
        )
        for row in lots.tolist()
    ]


def _under_rule(trace: Trace, config: Config, number: int) -> list[Trace]:
    by_rejection = config.draft_sampling == "probabilistic" and trace.chance
    return drawn(trace, DRAWS, number) if by_rejection else [trace]


class Walker:
    """A trace prepared for one p_min, so that every k and n_min after that is cheap. ``usual_chain``: how many tokens
    are drafted after a confident mismatch where the trace has no rollout."""

    def __init__(self, trace: Trace, p_min: float, usual_chain: float = 0.0) -> None:
        self._length = len(trace.answer_tokens)
        confident = [p >= p_min for p in trace.probability]
        agrees = [a == b for a, b in zip(trace.proposal, trace.answer_tokens, strict=True)]
        self._confident = confident
        self._run = _run_lengths([c and a for c, a in zip(confident, agrees, strict=True)])
        self._chain = {point: _leading(chain, p_min) for point, chain in trace.rollout.items()}
        self._mean_chain = sum(self._chain.values()) / len(self._chain) if self._chain else usual_chain
        self._draws_all = p_min <= 0

    def walk(self, k: int, n_min: int, *, max_tokens: int) -> Walk:
        result = Walk(tokens=max(0, self._length - 1), accepted_per_position=[0] * k)
        emitted = 1  # the prefill's token
        while emitted < self._length:
            room = min(k, max_tokens - emitted - 1)
            drafted, calls = self._draft(emitted, room) if room > 0 else (0, 0)
            if drafted < n_min:
                drafted = 0
            agreed = min(self._run[emitted], drafted)
            accepted = result.add_step(drafted, agreed, left=self._length - emitted, draft_calls=calls)
            emitted += accepted + 1
        return result

    def _draft(self, start: int, room: int) -> tuple[int, int]:
        """(tokens drafted, draft decodes) of one step that begins at answer position ``start``."""
        agreed = min(self._run[start], room)
        stop = start + agreed
        if agreed == room or self._draws_all:
            return room, room
        if stop >= self._length or not self._confident[stop]:
            return agreed, agreed + 1
        extra = self._chain.get(stop)
        drafted = min(room, agreed + 1 + (round(self._mean_chain) if extra is None else extra))
        return drafted, min(room, drafted + 1)


class Acceptance(Protocol):
    """The target's answers, and what would have been drafted of them under a config. ``categories``: of each answer."""

    categories: tuple[str, ...]

    def walks(self, config: Config) -> Sequence[Walk]:
        """One walk an answer."""

    def cut(self, max_tokens: int) -> Acceptance:
        """The same with answers of ``max_tokens`` tokens at most, as a shorter run writes them."""


class DraftAcceptance:
    """The answers with the traces of one draft. Walkers are kept by p_min and rule."""

    def __init__(self, traces: Sequence[Trace], *, max_tokens: int) -> None:
        self._traces, self._max_tokens = traces, max_tokens
        self._walkers: dict[tuple[float, str], list[list[Walker]]] = {}
        self.categories = tuple(trace.category for trace in traces)

    def cut(self, max_tokens: int) -> DraftAcceptance:
        return DraftAcceptance([_cut(trace, max_tokens) for trace in self._traces], max_tokens=max_tokens)

    def walks(self, config: Config) -> list[Walk]:
        rule = (config.p_min, config.draft_sampling)
        if rule not in self._walkers:
            usual = usual_chain(self._traces, config.p_min)
            self._walkers[rule] = [
                [Walker(one, config.p_min, usual) for one in _under_rule(trace, config, number)]
                for number, trace in enumerate(self._traces)
            ]
        return [
            pooled([one.walk(config.k, config.n_min, max_tokens=self._max_tokens) for one in walkers])
            for walkers in self._walkers[rule]
        ]


def usual_chain(traces: Sequence[Trace], p_min: float) -> float:
    """The mean over all rollouts; 0 without any."""
    lengths = [_leading(chain, p_min) for trace in traces for chain in trace.rollout.values()]
    return sum(lengths) / len(lengths) if lengths else 0.0


def _cut(trace: Trace, tokens: int) -> Trace:
    return replace(
        trace,
        answer_tokens=trace.answer_tokens[:tokens],
        proposal=trace.proposal[:tokens],
        probability=trace.probability[:tokens],
        rollout={point: chain for point, chain in trace.rollout.items() if point < tokens},
        chance=trace.chance[:tokens],
    )


def pooled(walks: Sequence[Walk]) -> Walk:
    """The sums over several answers."""
    total = Walk(accepted_per_position=[0] * max((len(w.accepted_per_position) for w in walks), default=0))
    for one in walks:
        total.tokens += one.tokens
        total.steps += one.steps
        total.drafted += one.drafted
        total.accepted += one.accepted
        total.draft_calls += one.draft_calls
        for n, count in one.verified.items():
            total.verified[n] = total.verified.get(n, 0) + count
        for position, count in enumerate(one.accepted_per_position):
            total.accepted_per_position[position] += count
    return total


def _run_lengths(good: Sequence[bool]) -> list[int]:
    """For each position, how many consecutive true values start there (one more entry than ``good``, 0 at the end)."""
    runs = [0] * (len(good) + 1)
    for i in range(len(good) - 1, -1, -1):
        runs[i] = runs[i + 1] + 1 if good[i] else 0
    return runs


def _leading(chain: Sequence[float], p_min: float) -> int:
    for count, probability in enumerate(chain):
        if probability < p_min:
            return count
    return len(chain)
