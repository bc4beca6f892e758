"""Acceptance before anything is measured: what a step does when only the draft's skill is known.

The text is a chain of tokens, easy and hard ones in stretches. Token i has an ease z_i, standard normal, with
autocorrelation ``persistence`` from token to token. Where the ease is z

    the draft's confidence          q(z) = logistic(confidence + spread * z)       of the draft alone
    it agrees with the target       m(z) = logistic(agreement + spread * z)        of the pair, at temperature 0
    the target samples its arg-max  1 - T + T * m(z)                               for 0 <= T <= 1

A step drafts while q >= p_min, at most k tokens; it accepts while the drafts agree; the next step begins behind the
first token that was not accepted, which is a hard one. So survival by position has rising hazards, the first position
is harder the longer the drafts are, and p_min moves both counts: two numbers of a pair give a curve over k for every
p_min. The ease is cut into ``BINS`` equally likely bins and the chain of step starts is solved for its stationary
distribution; nothing is simulated. Until May 2026 llama.cpp drafted the first token below p_min too
(``keeps_unsure``; pull request 22506 ended it). Source: own model; its numbers are fitted (advisor.predict.fit), and
predict.evaluate prints how well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS = 16
SOLVE_ROUNDS = 7  # squarings of the start-to-start matrix: 2**7 steps forget any start, at a persistence of .97 too


@dataclass(frozen=True)
class Chain:
    """What all texts share. ``spread`` > 0, 0 <= ``persistence`` < 1."""

    spread: float
    persistence: float


@dataclass(frozen=True)
class ExpectedSteps:
    """Means over steps. ``accepted``: drafted tokens accepted, shape (cases, ks). ``drafted[..., n]``: the share of
    steps that draft n tokens, ``refused[..., n]``: the share whose draft is refused behind n accepted tokens, both of
    shape (cases, ks, k_max + 1)."""

    ks: tuple[int, ...]
    accepted: Floats
    drafted: Floats
    refused: Floats
    keeps_unsure: bool = False

    @property
    def tokens_per_step(self) -> Floats:
        return 1 + self.accepted

    @property
    def acceptance_rate(self) -> Floats:
        """accepted / drafted, shape (cases, ks); 0 where nothing is drafted."""
        drafted = self.drafted @ np.arange(self.drafted.shape[-1])
        return np.divide(self.accepted, drafted, out=np.zeros_like(drafted), where=drafted > 0)

    def draft_calls(self) -> Floats:
        """Single-token draft decodes a step, shape (cases, ks): one more than drafted where p_min refused a token."""
        calls = np.arange(self.drafted.shape[-1]) + (0 if self.keeps_unsure else 1)
        return np.stack([self.drafted[:, i] @ np.minimum(calls, k) for i, k in enumerate(self.ks)], axis=1)


def expected_steps(
    agreement: Floats,
    confidence: Floats,
    chain: Chain,
    ks: tuple[int, ...],
    p_min: float,
    *,
    temperature: float = 0.0,
    keeps_unsure: bool = False,
) -> ExpectedSteps:
    """One case for each entry of ``agreement`` and ``confidence`` (logits), shape (cases,). ``keeps_unsure``: the first
    token below p_min is drafted too."""
    agrees = _logistic(np.asarray(agreement, float)[:, None] + chain.spread * _bin_middles())
    heat = min(max(temperature, 0.0), 1.0)
    agrees = agrees * (1 - heat + heat * agrees)
    confident = _confident(np.asarray(confidence, float), chain.spread, p_min)
    accepts = agrees if keeps_unsure else agrees * confident
    moves = _transitions(chain.persistence)
    starts = _start_distributions(accepts, confident * agrees, moves, ks)
    return _expectations(starts, accepts, confident, moves, ks, keeps_unsure=keeps_unsure)


def _expectations(
    starts: Floats, accepts: Floats, confident: Floats, moves: Floats, ks: tuple[int, ...], *, keeps_unsure: bool
) -> ExpectedSteps:
    """``starts``: ease at the first drafted position, shape (cases, ks, BINS)."""
    accepts, confident = accepts[:, None, :], confident[:, None, :]
    drafts = np.ones_like(confident) if keeps_unsure else confident
    goes_on = accepts * confident if keeps_unsure else accepts
    alive, drafting = starts, starts
    limits = np.array(ks)
    accepted = np.zeros(starts.shape[:2])
    drafted = np.zeros((*starts.shape[:2], max(ks) + 1))
    refused = np.zeros_like(drafted)
    before = np.ones(starts.shape[:2])
    for position in range(1, max(ks) + 1):
        within = position <= limits
        accepted += np.where(within, (alive * accepts).sum(-1), 0)
        refused[..., position - 1] = np.where(within, (alive * (drafts - accepts)).sum(-1), 0)
        reached = np.where(within, (drafting * drafts).sum(-1), 0)
        drafted[..., position - 1] += np.where(within, before - reached, 0)
        drafted[:, limits == position, position] += reached[:, limits == position]
        before = reached
        alive, drafting = (alive * goes_on) @ moves, (drafting * confident) @ moves
    return ExpectedSteps(ks, accepted, drafted, refused, keeps_unsure)


def _start_distributions(accepts: Floats, goes_on: Floats, moves: Floats, ks: tuple[int, ...]) -> Floats:
    """Stationary ease at the first position of a step, for every k: shape (cases, ks, BINS).

    A step of a accepted tokens ends at position a + 1, whose token is the target's own: it was refused, or it is the
    bonus behind a draft that ended (at k, or where the draft was unsure).
    """
    cases = len(accepts)
    survive = goes_on[:, :, None] * moves
    end = (1 - accepts)[:, :, None] * moves + (accepts - goes_on)[:, :, None] * (moves @ moves)
    reach = np.broadcast_to(np.eye(BINS), (cases, BINS, BINS))
    ended = np.zeros((cases, BINS, BINS))
    by_k = np.empty((cases, len(ks), BINS, BINS))
    for position in range(1, max(ks) + 1):
        ended = ended + reach @ end
        reach = reach @ survive
        if position in ks:
            by_k[:, ks.index(position)] = ended + reach @ moves
    for _ in range(SOLVE_ROUNDS):
        by_k = by_k @ by_k
    starts = by_k.mean(axis=2)
    return np.asarray(starts / starts.sum(-1, keepdims=True))


def _transitions(persistence: float) -> Floats:
    """P(next bin | bin) of an autoregressive normal chain between equally likely bins, shape (BINS, BINS)."""
    from scipy.special import ndtr, ndtri

    edges = ndtri(np.arange(BINS + 1) / BINS)
    noise = float(np.sqrt(1 - persistence**2))
    cumulative = ndtr((edges[None, :] - persistence * _bin_middles()[:, None]) / noise)
    moves = np.diff(cumulative, axis=1)
    return np.asarray(moves / moves.sum(axis=1, keepdims=True))


def _confident(confidence: Floats, spread: float, p_min: float) -> Floats:
    """The share of each bin where the confidence reaches p_min, shape (cases, BINS)."""
    from scipy.special import ndtr

    if p_min <= 0:
        return np.ones((len(confidence), BINS))
    if p_min >= 1:
        return np.zeros((len(confidence), BINS))
    below = ndtr((np.log(p_min / (1 - p_min)) - confidence) / spread)[:, None]
    return np.asarray(np.clip((np.arange(BINS) + 1) - below * BINS, 0, 1))


def _bin_middles() -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(BINS) + 0.5) / BINS))


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
