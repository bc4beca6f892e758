"""llama-server's speculative loop, inside the worker process: something proposes, the target verifies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from advisor.engines.llama_session import Context, Rows, TargetSampler
from advisor.engines.sampling import (
    SEED_OF_DRAFT,
    Distribution,
    accepted_or_drawn,
    draft_distribution,
    draw,
    target_distribution,
    top_probability,
)


class Proposer(Protocol):
    """Where drafted tokens come from. ``native_s``: seconds inside llama.cpp since it was last set to 0."""

    native_s: float

    def begin(self, prompt: list[int]) -> None:
        """A new request; the target has its prompt in memory."""

    def propose(self, tokens: list[int], n_max: int) -> list[int]:
        """At most ``n_max`` tokens to follow ``tokens``, the answer so far."""

    def verified(self, batch: list[int], emitted: list[int], n_past: int) -> None:
        """The target has decoded ``batch``, its newest token and the proposals, and wrote ``emitted``; of what is in
        memory the first ``n_past`` tokens stay."""


class DraftModel:
    """draft-simple: greedy, stopping below ``p_min``; what was verified is decoded again in one batch."""

    def __init__(self, context: Context, *, p_min: float, n_min: int) -> None:
        self.context, self._p_min, self._n_min = context, p_min, n_min

    @property
    def native_s(self) -> float:
        return self.context.native_s

    @native_s.setter
    def native_s(self, seconds: float) -> None:
        self.context.native_s = seconds

    def begin(self, prompt: list[int]) -> None:
        self.context.clear()
        self.context.prefill(prompt)

    def propose(self, tokens: list[int], n_max: int) -> list[int]:
        kept = self.context.n_past
        proposals: list[int] = []
        token = tokens[-1]
        while len(proposals) < n_max:
            self.context.decode([token], outputs=1)
            following = self._next(self.context.rows(1))
            if following is None:
                break
            token = following
            proposals.append(token)
        self.context.truncate(kept)
        return proposals if len(proposals) >= self._n_min else []

    def verified(self, batch: list[int], emitted: list[int], n_past: int) -> None:
        self.context.decode(batch, outputs=1)
        self.context.truncate(n_past)

    def _next(self, row: Rows) -> int | None:
        """The token to draft, None where the draft is not sure enough."""
        unsure = self._p_min > 0 and top_probability(row[0]) < self._p_min
        return None if unsure else int(row[0].argmax())


class SampledDraft(DraftModel):
    """draft-simple with ``--spec-draft-sampling probabilistic``: it draws what it drafts; verified by rejection."""

    def __init__(self, context: Context, sampling: dict[str, Any], *, p_min: float, n_min: int) -> None:
        super().__init__(context, p_min=p_min, n_min=n_min)
        self._sampling = sampling
        self._drafting = np.random.default_rng(sampling["seed"] ^ SEED_OF_DRAFT)
        self._verifying = np.random.default_rng(sampling["seed"])
        self._drawn_from: list[Distribution] = []

    def propose(self, tokens: list[int], n_max: int) -> list[int]:
        self._drawn_from = []
        return super().propose(tokens, n_max)

    def verify(self, target: Context, proposals: Sequence[int]) -> list[int]:
        """The accepted proposals and one more token, drawn as the target would."""
        rows = target.rows(len(proposals) + 1)
        emitted: list[int] = []
        for index, proposal in enumerate(proposals):
            p = target_distribution(rows[index], self._sampling)
            emitted.append(accepted_or_drawn(proposal, p, self._drawn_from[index], self._verifying))
            if emitted[-1] != proposal:
                return emitted
        emitted.append(draw(target_distribution(rows[len(proposals)], self._sampling), self._verifying))
        return emitted

    def _next(self, row: Rows) -> int | None:
        q = draft_distribution(row[0], self._sampling["temperature"])
        if max(q.values()) < self._p_min:
            return None
        self._drawn_from.append(q)
        return draw(q, self._drafting)


def speculate(
    target: Context, proposer: Proposer, prompt: list[int], k: int, sampling: dict[str, Any], max_tokens: int
) -> dict[str, Any]:
    """llama.cpp's loop as llama-server runs it with one slot."""
    sampler = TargetSampler(target, sampling)
    started = time.perf_counter()
    target.clear()
    target.prefill(prompt)
    proposer.begin(prompt)
    tokens = [sampler.sample(target.rows(1), 0)]
    per_position = [0] * k
    steps = drafted = accepted = 0
    first = time.perf_counter()
    target.native_s = proposer.native_s = 0.0
    while len(tokens) < max_tokens and not target.is_end(tokens[-1]):
        n_max = min(k, target.options.context - target.n_past - 2, max_tokens - len(tokens) - 1)
        proposals = proposer.propose(tokens, n_max) if n_max > 0 else []
        kept = target.n_past
        batch = [tokens[-1], *proposals]
        target.decode(batch, outputs=len(batch))
        if isinstance(proposer, SampledDraft) and proposals:
            emitted = proposer.verify(target, proposals)
        else:
            emitted = _verify(target, sampler, proposals)
        target.truncate(kept + len(emitted))
        proposer.verified(batch, emitted, kept + len(emitted))
        steps += 1
        drafted += len(proposals)
        accepted += len(emitted) - 1
        for position in range(len(emitted) - 1):
            per_position[position] += 1
        tokens.extend(_until_end(target, emitted))
    done = time.perf_counter()
    sampler.close()
    return {
        "tokens": len(tokens),
        "decode_s": done - first,
        "prefill_s": first - started,
        "steps": steps,
        "drafted": drafted,
        "accepted": accepted,
        "accepted_per_position": per_position,
        "native_s": target.native_s + proposer.native_s,
        "answer_tokens": tokens,
    }


def _verify(target: Context, sampler: TargetSampler, proposals: Sequence[int]) -> list[int]:
    """Sample and match: the accepted proposals and one more token of the target's own."""
    rows: Rows = target.rows(len(proposals) + 1)
    emitted: list[int] = []
    for index, proposal in enumerate(proposals):
        emitted.append(sampler.sample(rows, index))
        is_last = index + 1 == len(proposals)
        if emitted[-1] != proposal or (target.is_end(emitted[-1]) and not is_last):
            return emitted
    emitted.append(sampler.sample(rows, len(proposals)))
    return emitted


def _until_end(target: Context, tokens: list[int]) -> list[int]:
    for count, token in enumerate(tokens, start=1):
        if target.is_end(token):
            return tokens[:count]
    return tokens
