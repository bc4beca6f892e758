"""The chain of step starts against a walk over a long random text, and against what must hold in the limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from advisor.acceptance import prior
from advisor.acceptance.prior import ExpectedSteps

TOKENS = 400_000
KS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Texts:
    """``overconfidence``: how much more sure the draft is, in logits, than it should be."""

    spread: float
    persistence: float
    overconfidence: float


TYPICAL = Texts(spread=2.7, persistence=0.6, overconfidence=0.3)


@dataclass(frozen=True)
class Walked:
    """Means over the steps of one text."""

    accepted: float
    drafted: float
    draft_calls: float


def expected_steps(skill: np.ndarray, texts: Texts, ks: tuple[int, ...], p_min: float, **options) -> ExpectedSteps:
    """``skill``: the draft's confidence where the ease is 0, in logits."""
    chain = prior.Chain(texts.spread, texts.persistence)
    return prior.expected_steps(skill - texts.overconfidence, skill, chain, ks, p_min, **options)


class Text:
    """The story of the docstring without bins: ease is a continuous autoregressive normal."""

    def __init__(self, skill: float, chain: Texts, p_min: float, temperature: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shocks = rng.standard_normal(TOKENS) * np.sqrt(1 - chain.persistence**2)
        shocks[0] = rng.standard_normal()
        ease = lfilter([1.0], [1.0, -chain.persistence], shocks)
        confidence = 1 / (1 + np.exp(-(skill + chain.spread * ease)))
        same_top = 1 / (1 + np.exp(-(skill - chain.overconfidence + chain.spread * ease)))
        agreement = same_top * (1 - temperature + temperature * same_top)
        confident = confidence >= p_min
        agrees = rng.random(TOKENS) < agreement
        self._agreed = runs(agrees)
        self._proposed = runs(confident)
        self._good = runs(confident & agrees)

    def walk(self, k: int, *, keeps_unsure: bool = False) -> Walked:
        i, accepted, drafted, calls, steps = 0, 0, 0, 0, 0
        while i + k + 1 < TOKENS:
            sure = self._proposed[i]
            length = min(sure + 1 if keeps_unsure else sure, k)
            agreed = min(self._agreed[i], length)
            steps, accepted, drafted = steps + 1, accepted + agreed, drafted + length
            calls += length if length == k or keeps_unsure else length + 1
            i += agreed + 1
        return Walked(accepted / steps, drafted / steps, calls / steps)


def runs(good: np.ndarray) -> list[int]:
    """How many true values in a row begin at each place."""
    false_at = np.append(np.flatnonzero(~good), len(good))
    places = np.arange(len(good))
    return (false_at[np.searchsorted(false_at, places)] - places).tolist()


def mean_drafted(steps: ExpectedSteps) -> np.ndarray:
    return steps.drafted @ np.arange(steps.drafted.shape[-1])


def one(skill: float, chain: Texts = TYPICAL, ks=KS, p_min: float = 0.0, temperature: float = 0.0) -> ExpectedSteps:
    return expected_steps(np.array([skill]), chain, ks, p_min, temperature=temperature)


STORIES = [
    (2.5, Texts(2.7, 0.8, 0.3), 0.0, 0.0),
    (2.5, Texts(2.7, 0.8, 0.3), 0.75, 0.0),
    (0.5, Texts(2.0, 0.5, 0.5), 0.5, 0.0),
    (1.0, Texts(1.0, 0.9, 0.0), 0.3, 0.0),
    (3.5, Texts(4.0, 0.6, 1.0), 0.9, 0.0),
    (2.0, Texts(2.7, 0.7, 0.3), 0.0, 1.0),
    (2.0, Texts(2.7, 0.7, 0.3), 0.6, 0.5),
    (-1.0, Texts(2.0, 0.3, 0.2), 0.0, 0.0),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda s: f"skill{s[0]}-spread{s[1].spread}-pmin{s[2]}-T{s[3]}")
def test_expected_steps_are_those_of_a_long_random_text(story):
    skill, chain, p_min, temperature = story
    text = Text(skill, chain, p_min, temperature, seed=1)
    steps = one(skill, chain, KS, p_min, temperature)
    for i, k in enumerate(KS):
        seen = text.walk(k)
        assert steps.tokens_per_step[0, i] == pytest.approx(1 + seen.accepted, rel=0.025), k
        assert mean_drafted(steps)[0, i] == pytest.approx(seen.drafted, rel=0.03, abs=0.01), k
        assert steps.draft_calls()[0, i] == pytest.approx(seen.draft_calls, rel=0.03), k
        assert steps.acceptance_rate[0, i] == pytest.approx(seen.accepted / seen.drafted, abs=0.02), k


@pytest.mark.parametrize("p_min", [0.0, 0.75, 0.95])
def test_a_build_that_keeps_the_unsure_token_drafts_and_may_accept_it(p_min):
    """llama.cpp of early 2026 appends a token and then compares its probability with p_min; so no draft is empty."""
    skill, chain = 1.5, Texts(2.0, 0.6, 0.3)
    text = Text(skill, chain, p_min, 0.0, seed=3)
    steps = expected_steps(np.array([skill]), chain, KS, p_min, keeps_unsure=True)
    for i, k in enumerate(KS):
        seen = text.walk(k, keeps_unsure=True)
        assert steps.tokens_per_step[0, i] == pytest.approx(1 + seen.accepted, rel=0.02), k
        assert mean_drafted(steps)[0, i] == pytest.approx(seen.drafted, rel=0.02), k
        assert steps.draft_calls()[0, i] == pytest.approx(seen.draft_calls, rel=0.02), k
    assert steps.drafted[0, :, 0] == pytest.approx(0)
    assert steps.drafted.sum(-1) == pytest.approx(1)


def test_without_p_min_there_is_no_unsure_token_to_keep():
    kept, thrown = (expected_steps(np.array([1.0]), TYPICAL, KS, 0.0, keeps_unsure=keeps) for keeps in (True, False))
    assert kept.accepted == pytest.approx(thrown.accepted)
    assert kept.drafted == pytest.approx(thrown.drafted)
    assert kept.draft_calls() == pytest.approx(np.array([KS]))


def test_the_length_of_drafts_is_spread_as_in_a_long_random_text():
    skill, chain, p_min, k = 1.5, Texts(2.7, 0.7, 0.3), 0.7, 6
    text = Text(skill, chain, p_min, 0.0, seed=2)
    i, counts = 0, np.zeros(k + 1)
    while i + k + 1 < TOKENS:
        counts[min(text._proposed[i], k)] += 1
        i += min(text._good[i], k) + 1
    assert one(skill, chain, (k,), p_min).drafted[0, 0] == pytest.approx(counts / counts.sum(), abs=0.015)


@pytest.mark.parametrize("agreement", [0.2, 0.6, 0.9])
def test_without_easy_and_hard_stretches_it_is_the_geometric_series(agreement):
    """One agreement a at every position: (1 - a**(k + 1)) / (1 - a) tokens a step (arXiv 2211.17192)."""
    skill = np.log(agreement / (1 - agreement))
    steps = one(skill, Texts(spread=1e-9, persistence=0.0, overconfidence=0.0))
    expected = [(1 - agreement ** (k + 1)) / (1 - agreement) for k in KS]
    assert steps.tokens_per_step[0] == pytest.approx(expected)
    assert steps.acceptance_rate[0] == pytest.approx((np.array(expected) - 1) / np.array(KS))


def test_overconfidence_lowers_agreement_and_leaves_confidence_alone():
    agreement = 1 / (1 + np.exp(-(1.0 - 0.4)))
    steps = one(1.0, Texts(spread=1e-9, persistence=0.0, overconfidence=0.4), (2,), p_min=0.7)
    assert steps.drafted[0, 0] == pytest.approx([0, 0, 1])  # logistic(1.0) = .73 passes, although agreement is .65
    assert steps.accepted[0, 0] == pytest.approx(agreement + agreement**2)


def test_a_perfect_draft_is_accepted_whole():
    assert one(60.0).accepted[0] == pytest.approx(KS)
    assert one(60.0, p_min=0.9, temperature=1.0).accepted[0] == pytest.approx(KS)


def test_a_hopeless_draft_is_never_accepted():
    assert one(-60.0).accepted[0] == pytest.approx(0)
    assert mean_drafted(one(-60.0))[0] == pytest.approx(KS)


def test_p_min_of_one_drafts_nothing_but_pays_for_the_attempt():
    steps = one(3.0, p_min=1.0)
    assert steps.drafted[0, :, 0] == pytest.approx(1)
    assert steps.acceptance_rate[0] == pytest.approx(0)
    assert steps.draft_calls()[0] == pytest.approx(1)


@pytest.mark.parametrize("skill", [-1.0, 1.0, 3.0])
def test_with_one_drafted_token_the_rate_is_the_share_of_agreeing_tokens(skill):
    """Without persistence a step begins at any token: the rate is the mean of m(z) over a standard normal."""
    ease, weight = np.polynomial.hermite_e.hermegauss(80)
    agreement = 1 / (1 + np.exp(-(skill - TYPICAL.overconfidence + TYPICAL.spread * ease)))
    expected = (weight * agreement).sum() / weight.sum()
    steps = one(skill, Texts(TYPICAL.spread, 0.0, TYPICAL.overconfidence), (1,))
    assert steps.acceptance_rate[0, 0] == pytest.approx(expected, abs=0.005)


def test_survivors_are_in_easy_stretches():
    """The geometric series of the first position's rate expects fewer accepted tokens than there are."""
    stretches, mixed = one(2.5, Texts(2.7, 0.9, 0.3)), one(2.5, Texts(2.7, 0.0, 0.3))
    geometric = [sum(stretches.accepted[0, 0] ** n for n in range(1, k + 1)) for k in KS]
    assert (np.diff(stretches.accepted[0] / geometric) > 0).all()
    assert stretches.accepted[0, -1] > 1.15 * geometric[-1]
    assert mixed.accepted[0] == pytest.approx([sum(mixed.accepted[0, 0] ** n for n in range(1, k + 1)) for k in KS])


@given(
    skill=st.floats(-6, 8),
    spread=st.floats(0.1, 5),
    persistence=st.floats(0, 0.97),
    overconfidence=st.floats(-1, 2),
    p_min=st.floats(0, 1),
    temperature=st.floats(0, 1),
)
def test_whatever_the_numbers_shares_are_shares(skill, spread, persistence, overconfidence, p_min, temperature):
    steps = one(skill, Texts(spread, persistence, overconfidence), (1, 3, 8), p_min, temperature)
    assert steps.drafted.sum(-1) == pytest.approx(1)
    assert (steps.drafted >= -1e-9).all()
    assert (steps.accepted >= 0).all()
    assert (steps.accepted <= mean_drafted(steps) + 1e-9).all(), "only drafted tokens are accepted"
    assert (np.diff(steps.accepted, axis=1) >= -1e-9).all(), "a longer draft loses nothing"
    calls, lengths = steps.draft_calls(), mean_drafted(steps)
    assert ((calls >= lengths - 1e-9) & (calls <= lengths + 1 + 1e-9) & (calls <= np.array([1, 3, 8]) + 1e-9)).all()
    for i, k in enumerate((1, 3, 8)):
        assert steps.drafted[0, i, k + 1 :] == pytest.approx(0), "no draft is longer than k"


@given(skill=st.floats(-4, 6), more=st.floats(0.05, 3), p_min=st.sampled_from([0.0, 0.5, 0.75]), hot=st.floats(0, 1))
def test_more_skill_is_more_accepted(skill, more, p_min, hot):
    low, high = one(skill, p_min=p_min, temperature=hot), one(skill + more, p_min=p_min, temperature=hot)
    assert (high.accepted >= low.accepted - 1e-9).all()


@given(skill=st.floats(-2, 5), p_min=st.floats(0, 0.9), cool=st.floats(0, 1), warmer=st.floats(0, 1))
def test_a_higher_temperature_is_never_accepted_more(skill, p_min, cool, warmer):
    cool, warmer = sorted((cool, warmer))
    assert (
        one(skill, p_min=p_min, temperature=warmer).accepted
        <= one(skill, p_min=p_min, temperature=cool).accepted + 1e-9
    ).all()


def test_p_min_drops_the_worse_drafts():
    careless, careful = one(2.0, p_min=0.0), one(2.0, p_min=0.75)
    assert (careful.acceptance_rate > careless.acceptance_rate)[0].all()
    assert (careful.tokens_per_step < careless.tokens_per_step)[0].all()


def test_cases_do_not_touch_each_other():
    together = expected_steps(np.array([0.0, 2.0, 4.0]), TYPICAL, (2, 8), 0.6)
    for i, skill in enumerate((0.0, 2.0, 4.0)):
        assert together.accepted[i] == pytest.approx(one(skill, ks=(2, 8), p_min=0.6).accepted[0])
        assert together.drafted[i] == pytest.approx(one(skill, ks=(2, 8), p_min=0.6).drafted[0])


@pytest.mark.parametrize("persistence", [0.0, 0.9, 0.96])
def test_steps_are_counted_where_the_chain_has_settled(persistence):
    """Without a limit on k a step ends at every disagreement and nowhere else: 1 / (their share) tokens a step."""
    k, skill, chain = 400, 0.5, Texts(1.5, persistence, 0.0)
    ease, weight = np.polynomial.hermite_e.hermegauss(80)
    disagreement = (weight / (1 + np.exp(skill + 1.5 * ease))).sum() / weight.sum()
    assert one(skill, chain, (k,)).tokens_per_step[0, 0] == pytest.approx(1 / disagreement, rel=0.02)


def test_a_k_among_others_is_the_same_as_alone():
    for k in (1, 4, 8):
        steps = one(2.0, ks=(k,), p_min=0.6)
        among = one(2.0, p_min=0.6)
        assert among.accepted[0, KS.index(k)] == pytest.approx(steps.accepted[0, 0])
        assert among.drafted[0, KS.index(k), : k + 1] == pytest.approx(steps.drafted[0, 0])


@pytest.mark.parametrize("keeps_unsure", [False, True])
@pytest.mark.parametrize("p_min", [0.0, 0.75])
def test_a_draft_is_refused_behind_what_was_accepted(p_min, keeps_unsure):
    """Survival adds up: behind n accepted tokens a step was refused, ended, or went on."""
    steps = expected_steps(np.array([1.5]), TYPICAL, KS, p_min, keeps_unsure=keeps_unsure)
    whole = 1 - steps.refused.sum(-1)
    assert (steps.refused >= 0).all()
    assert (whole > 0).all()
    assert steps.refused[0, KS.index(1), 0] == pytest.approx(
        mean_drafted(steps)[0, KS.index(1)] - steps.accepted[0, KS.index(1)]
    )
    lost = steps.refused @ np.arange(steps.refused.shape[-1])
    assert (lost <= steps.accepted).all()
