"""The analytic speedup against a closed form, and its interval against repeated experiments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.walk import DraftAcceptance
from advisor.cost.curves import reference
from advisor.cost.step_law import CURRENT, NO_DRAFT, StepLaw
from advisor.predict.analytic import AnalyticModel
from advisor.predict.correction import features
from advisor.types import Config, CostCurve, Trace, Transcript

LENGTH = 4000
LIMITS = {"context": 1000, "max_tokens": 1000}


def trace(rate: float, seed: int, length: int = LENGTH) -> Trace:
    rng = np.random.default_rng(seed)
    answer = tuple(range(100, 100 + length))
    match = rng.random(length) < rate
    return Trace(
        "code",
        answer,
        tuple(token if ok else 1 for token, ok in zip(answer, match, strict=True)),
        tuple(np.where(match, 0.9, 0.3).tolist()),
    )


def curve(of_b, anchor: float = 0.1, rounds: int = 5) -> CostCurve:
    return CostCurve(50, (anchor,) * rounds, {b: (of_b(b),) * rounds for b in range(1, 18)})


def model(traces, target, draft, law: StepLaw = CURRENT, seed: int = 0) -> AnalyticModel:
    unit = reference([target], [draft])
    acceptance = DraftAcceptance(traces, max_tokens=10**6)
    return AnalyticModel(acceptance, target, draft, law, unit, k_max=16, seed=seed)


@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("k", [1, 4, 8])
def test_with_constant_acceptance_and_free_verification_it_is_leviathans_formula(alpha, k):
    """arXiv 2211.17192, theorem 3.8: (1 - alpha^(k+1)) / ((1 - alpha) (k c + 1))."""
    c = 0.05
    predicted = model(
        [trace(alpha, seed) for seed in range(4)], curve(lambda b: 0.1), curve(lambda b: 0.1 * c), StepLaw(False)
    ).predict(Config("d", k))
    expected = (1 - alpha ** (k + 1)) / ((1 - alpha) * (k * c + 1))
    assert predicted.speedup == pytest.approx(expected, rel=0.03)


def test_the_step_law_charges_drafting_verifying_and_re_evaluating():
    target, draft = curve(lambda b: 0.1 + 0.01 * (b - 1)), curve(lambda b: 0.005 + 0.001 * (b - 1))
    hopeless = [trace(0.0, 1, 101)]
    speedup = model(hopeless, target, draft).predict(Config("d", 4)).speedup
    assert speedup == pytest.approx(0.1 / (4 * 0.005 + 0.14 + 0.009))


def test_p_min_that_stops_at_once_still_pays_for_the_attempt():
    target, draft = curve(lambda b: 0.1), curve(lambda b: 0.005)
    hopeless = [trace(0.0, 1, 101)]  # confidence 0.3 everywhere
    predicted = model(hopeless, target, draft).predict(Config("d", 8, p_min=0.6))
    assert predicted.walk.drafted == 0
    assert predicted.speedup == pytest.approx(0.1 / (0.1 + 0.005 + 0.005))


def test_a_step_that_drafts_nothing_pays_for_a_bare_pass_and_others_do_not():
    target, draft = curve(lambda b: 0.1), curve(lambda b: 0.005)
    slow = replace(draft, bare_s=(0.108, 0.110, 0.112))
    slow = replace(slow, anchor_s=slow.anchor_s[:3], rounds_s={b: s[:3] for b, s in slow.rounds_s.items()})
    hopeless = [trace(0.0, 1, 101)]
    stopped, stubborn = (model(hopeless, target, slow).predict(Config("d", 8, p)).speedup for p in (0.6, 0.0))
    assert stopped == pytest.approx(0.1 / (0.11 + 0.005 + 0.005))
    assert stubborn == pytest.approx(model(hopeless, target, draft).predict(Config("d", 8)).speedup, rel=1e-3)


def test_the_interval_covers_fresh_answers_of_the_same_kind():
    """80 % of new workloads of 8 answers land inside the interval predicted from another 8."""
    target, draft = curve(lambda b: 0.1), curve(lambda b: 0.01)
    config = Config("d", 4)
    rates = np.random.default_rng(3).uniform(0.4, 0.9, size=(60, 8))
    experiments = [
        model([trace(rate, 100 * i + j, 120) for j, rate in enumerate(row)], target, draft, seed=i).predict(config)
        for i, row in enumerate(rates)
    ]
    hits = [
        abs(np.log(one.speedup / other.speedup)) <= 1.2816 * np.hypot(one.log_sd, other.log_sd)
        for one, other in zip(experiments[::2], experiments[1::2], strict=True)
    ]
    assert 0.6 <= np.mean(hits) <= 0.97


def test_two_drafts_are_compared_on_the_same_drawn_answers():
    traces = [trace(rate, seed, 100) for seed, rate in enumerate((0.2, 0.5, 0.8, 0.95))]
    target, draft = curve(lambda b: 0.1), curve(lambda b: 0.01)
    one = model(traces, target, draft).predict(Config("d", 4))
    slightly_dearer = model(traces, target, curve(lambda b: 0.011)).predict(Config("d", 4))
    assert np.std(one.log_draws - slightly_dearer.log_draws) < 0.1 * one.log_sd


def test_an_ngram_method_pays_for_verified_rows_alone():
    """A copied text: 8 of 9 tokens are drafted, at the price of one decode of 9 tokens and no draft decode."""
    verse = tuple(range(100, 190))
    copies = [Transcript("copy", (1, 2, *verse, *range(5, 20)), verse, ended=False) for _ in range(3)]
    target = curve(lambda b: 0.1 + 0.002 * (b - 1))
    acceptance = NgramAcceptance(copies, **LIMITS)
    alone = AnalyticModel(acceptance, target, None, NO_DRAFT, reference([target], []), k_max=16, seed=0)
    predicted = alone.predict(Config("", 8, method="ngram-simple", ngram_size=3))
    walk = predicted.walks[0]
    seconds = sum(steps * (0.1 + 0.002 * n) for n, steps in walk.verified.items())
    assert walk.verified[8] >= 9
    assert predicted.speedup == pytest.approx(89 * 0.1 / seconds)
    assert (predicted.draft_cost, predicted.log_sd) == (0, pytest.approx(0, abs=1e-9))


def test_a_draft_and_an_ngram_method_are_compared_on_the_same_drawn_answers():
    """Answers that suit both: over the draws the two rise and fall together."""
    rng = np.random.default_rng(5)
    answers = [tuple(range(100, 100 + length)) for length in (20, 40, 80, 160)]
    copies = [Transcript("copy", (1, 2, *a[: len(a) // 2], *range(5, 20)), a, ended=False) for a in answers]
    traces = [trace(0.95 if len(a) > 50 else 0.3, int(rng.integers(99)), len(a)) for a in answers]
    target, draft = curve(lambda b: 0.1), curve(lambda b: 0.01)
    acceptance = NgramAcceptance(copies, **LIMITS)
    alone = AnalyticModel(acceptance, target, None, NO_DRAFT, reference([target], [draft]), k_max=16, seed=0)
    one = alone.predict(Config("", 8, method="ngram-simple", ngram_size=3))
    other = model(traces, target, draft).predict(Config("d", 4))
    assert np.corrcoef(one.log_draws, other.log_draws)[0, 1] > 0.5


def test_a_method_without_a_draft_has_a_place_among_the_drafts():
    target = curve(lambda b: 0.1)
    acceptance = NgramAcceptance([Transcript("copy", (1, 2, 3), (1, 2, 3, 1, 2, 3), ended=False)], **LIMITS)
    alone = AnalyticModel(acceptance, target, None, NO_DRAFT, reference([target], []), k_max=16, seed=0)
    assert np.isfinite(features(alone.predict(Config("", 4, method="ngram-mod", ngram_size=2)), [""])).all()
