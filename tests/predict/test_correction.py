"""What real runs teach, on cases where the lesson is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from advisor.predict.correction import DRAFT_SD, OWN_SD, SHARED_SD, Correction, Observation
from advisor.predict.predictor import Predictor, k_grid
from advisor.types import Config, Run, Trace, Trial
from tests.predict.test_analytic import CURRENT, curve, trace

HERE = (np.log(0.1), np.log(4), 0.7, 0.0, 1.0, 0.0)
NEAR = (np.log(0.1), np.log(5), 0.7, 0.0, 1.0, 0.0)
TWIN = (np.log(0.1), np.log(4), 0.7, 0.0, 0.0, 1.0)  # the same in all but that it is another draft
OTHER_SETTING = (np.log(0.1), np.log(16), 0.3, 0.9, 1.0, 0.0)  # of the same draft
WHOLE_SD = np.sqrt(SHARED_SD**2 + DRAFT_SD**2 + OWN_SD**2)
FAR = (np.log(0.4), np.log(16), 0.3, 0.9, 0.0, 1.0)


def test_without_runs_the_analytic_value_stands_with_the_rungs_own_error():
    mean, covariance = Correction([], 2).at([HERE, FAR])
    assert mean.tolist() == [0, 0]
    assert np.sqrt(np.diag(covariance)).tolist() == pytest.approx([WHOLE_SD] * 2)


def test_one_run_moves_its_neighbours_most_and_never_the_whole_way():
    mean, covariance = Correction([Observation(HERE, -0.06, 0.01)], 2).at([HERE, NEAR, TWIN, FAR])
    assert -0.06 < mean[0] < mean[1] < mean[2] < mean[3] < 0
    sd = np.sqrt(np.diag(covariance))
    assert sd[0] < sd[1] < sd[2] < sd[3] < WHOLE_SD


def test_a_run_tells_more_of_the_same_draft_than_of_another():
    """What a draft's own decode costs is in every setting of it."""
    mean, _ = Correction([Observation(HERE, -0.06, 0.01)], 2).at([OTHER_SETTING, FAR])
    assert mean[0] < 1.5 * mean[1] < 0


def test_a_noisy_run_teaches_less_than_a_clean_one():
    clean, _ = Correction([Observation(HERE, 0.06, 0.01)], 2).at([HERE])
    noisy, _ = Correction([Observation(HERE, 0.06, 0.08)], 2).at([HERE])
    assert 0 < noisy[0] < clean[0]


def predictor() -> Predictor:
    traces = [dataclasses.replace(trace(rate, seed, 120), category=c) for seed, (rate, c) in enumerate(RATES)]
    target, draft = curve(lambda b: 0.1 + 0.004 * (b - 1)), curve(lambda b: 0.01 + 0.001 * (b - 1))
    return Predictor({"d": traces}, target, {"d": draft}, CURRENT, k_max=16, max_tokens=120)


RATES = ((0.9, "code"), (0.85, "code"), (0.3, "chat"), (0.4, "chat"))


def trial(p: Predictor, config: Config, factor: float) -> Trial:
    """A real run that is ``factor`` times as fast as predicted, on every prompt."""
    base = Run(tokens=120, decode_s=11.9, prefill_s=0)
    runs = tuple(Run(120, 11.9 / (speedup * factor), 0) for speedup in p.analytics[config].by_prompt)
    return Trial(config, tuple(range(len(runs))), runs, (base,) * len(runs))


def test_a_run_slower_than_predicted_lowers_every_estimate_and_is_marked():
    p, config = predictor(), Config("d", 4)
    before = {e.config: e for e in p.estimates([], 10.0)}
    after = {e.config: e for e in p.estimates([trial(p, config, 0.93)], 10.0)}
    assert all(after[c].speedup < before[c].speedup for c in before)
    assert 0.93 * before[config].speedup < after[config].speedup < before[config].speedup
    assert after[config].evidence == "measured"
    assert after[Config("d", 16)].evidence == "replay"
    assert (
        after[config].speedup_high / after[config].speedup_low
        < before[config].speedup_high / before[config].speedup_low
    )


def test_a_run_shorter_than_the_answers_is_compared_with_their_beginning():
    """Drafts that agree with the first 40 tokens of an answer and with none after: a run of 40 is fast, and right."""
    good, bad = trace(0.95, 1, 120), trace(0.05, 2, 120)
    turned = dataclasses.replace(
        good,
        proposal=good.proposal[:40] + bad.proposal[40:],
        answer_tokens=good.answer_tokens[:40] + bad.answer_tokens[40:],
    )
    target, draft = curve(lambda b: 0.1 + 0.004 * (b - 1)), curve(lambda b: 0.01 + 0.001 * (b - 1))

    def over(traces: list[Trace], max_tokens: int) -> Predictor:
        return Predictor({"d": traces}, target, {"d": draft}, CURRENT, k_max=16, max_tokens=max_tokens)

    whole, config = over([turned] * 3, 120), Config("d", 4)
    beginning = dataclasses.replace(
        turned,
        proposal=turned.proposal[:40],
        answer_tokens=turned.answer_tokens[:40],
        probability=good.probability[:40],
    )
    fast = over([beginning] * 3, 40).analytics[config]
    assert fast.speedup > 1.5 * whole.analytics[config].speedup
    base = Run(tokens=40, decode_s=3.9, prefill_s=0)
    runs = tuple(Run(40, 3.9 / speedup, 0) for speedup in fast.by_prompt)
    seen = {e.config: e for e in whole.estimates([Trial(config, (0, 1, 2), runs, (base,) * 3)], 10.0)}
    assert seen[config].speedup == pytest.approx(whole.analytics[config].speedup)


def test_categories_are_reported_apart():
    estimate = next(e for e in predictor().estimates([], 10.0) if e.config == Config("d", 4))
    assert estimate.acceptance_by_category["code"] > 2 * estimate.acceptance_by_category["chat"]
    assert estimate.speedup_by_category["code"] > estimate.speedup > estimate.speedup_by_category["chat"]
    assert estimate.tokens_per_second == pytest.approx(10 * estimate.speedup)


def test_every_short_draft_length_is_a_candidate():
    assert k_grid(16) == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
    assert k_grid(3) == (1, 2, 3)
    assert k_grid(9)[-1] == 9
