"""What two prompts may show, against simulated checks of a server that is as it should be, and by hand."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pytest

from advisor.acceptance.walk import walk
from advisor.exporters.two_prompts import RULE_ACCEPTANCE_SD, Interval, expected, spread_of
from advisor.predict.analytic import SOLE_ANSWER_SD
from advisor.testing.builders import make_estimate, make_measurement, make_recommendation, make_trace
from advisor.types import Prompt, Recommendation

CODE, CHAT, OTHER = Prompt((), "code"), Prompt((), "chat"), Prompt((), "other")
NO_CATEGORIES = {"speedup_by_category": {}, "acceptance_by_category": {}}


def sure(**changes: object) -> Recommendation:
    """A recommendation that knows its mean exactly, of a machine that did not drift."""
    rec = make_recommendation(measurement=make_measurement(anchor_drift=0.0), traces={})
    fields = {"speedup_low": 1.42 - 1e-9, "speedup_high": 1.42 + 1e-9, **NO_CATEGORIES, **changes}
    return dataclasses.replace(rec, best=make_estimate(rec.candidates[0].draft, 1.42, 4, **fields))


def test_by_rule_the_interval_is_that_of_the_mean_of_two() -> None:
    rec = sure()
    found = expected(rec, rec.best, (OTHER, OTHER))
    half = 1.96 * RULE_ACCEPTANCE_SD * math.sqrt(1 / 2 + 1 / 12)  # 12 prompts were measured
    assert found.acceptance.low == pytest.approx(0.7 - half, abs=1e-3)
    assert found.acceptance.high == pytest.approx(0.7 + half, abs=1e-3)
    factor = math.exp(1.96 * math.sqrt(SOLE_ANSWER_SD**2 / 2 + 0.05**2))
    assert found.tokens_per_second.low == pytest.approx(20 * 1.42 / factor, rel=1e-3)
    assert found.tokens_per_second.high == pytest.approx(20 * 1.42 * factor, rel=1e-3)
    assert "rule" in found.spread.source


def test_two_prompts_may_show_more_than_the_interval_of_the_mean_and_less_than_one() -> None:
    rec = make_recommendation()
    one, two = (expected(rec, rec.best, (OTHER,) * count) for count in (1, 2))
    low, high = rec.best.speedup_low * 20, rec.best.speedup_high * 20
    assert one.tokens_per_second.low < two.tokens_per_second.low < low
    assert high < two.tokens_per_second.high < one.tokens_per_second.high
    assert one.acceptance.low < two.acceptance.low


@pytest.mark.parametrize("evidence", ["prior", "replay", "measured"])
def test_a_doubtful_recommendation_is_expected_less_sharply(evidence: str) -> None:
    """Acceptance that was measured is known, whatever the costs are."""
    sharp, vague = (sure(speedup_low=1.42 / by, speedup_high=1.42 * by, evidence=evidence) for by in (1.001, 1.3))
    inner, outer = (expected(rec, rec.best, (OTHER, OTHER)) for rec in (sharp, vague))
    assert outer.tokens_per_second.high > inner.tokens_per_second.high
    assert (outer.acceptance.low < inner.acceptance.low) is (evidence == "prior")


def test_a_machine_that_drifted_may_be_slower_now() -> None:
    steady = sure()
    drifted = dataclasses.replace(steady, measurement=make_measurement(anchor_drift=0.4))
    speeds = [expected(rec, rec.best, (OTHER, OTHER)).tokens_per_second for rec in (steady, drifted)]
    assert speeds[1].low < speeds[0].low


def test_the_centre_is_that_of_the_kinds_of_text_that_are_asked() -> None:
    rec = sure(
        speedup_by_category={"code": 2.0, "chat": 1.0}, acceptance_by_category={"code": 0.8, "chat": 0.4}
    )  # too few kinds for a spread

    def centre(*prompts: Prompt) -> tuple[float, float]:
        found = expected(rec, rec.best, prompts)
        speeds = found.tokens_per_second
        return (found.acceptance.low + found.acceptance.high) / 2, math.sqrt(speeds.low * speeds.high) / 20

    assert centre(CHAT, CHAT) == pytest.approx((0.4, 1.0))
    assert centre(CODE, CHAT) == pytest.approx((0.6, 4 / 3))
    assert centre(CODE, OTHER) == pytest.approx((0.7, 1.42))


def test_acceptance_is_never_expected_outside_zero_to_one() -> None:
    rec = sure(acceptance_rate=0.98)
    assert expected(rec, rec.best, (OTHER,)).acceptance.high == 1.0
    rec = sure(acceptance_rate=0.05)
    assert expected(rec, rec.best, (OTHER,)).acceptance.low == 0.0


HITS = ((True,) * 9, (True, False) * 5, (False,) * 8, (True, True, False) * 3, (True, True, True, False) * 3)


def replayed() -> Recommendation:
    rec = make_recommendation()
    traces = {draft: tuple(make_trace("code", hits) for hits in HITS) for draft in rec.traces}
    return dataclasses.replace(rec, traces=traces)


def test_the_spread_is_that_of_the_replayed_answers() -> None:
    rec = replayed()
    config = rec.best.config
    walks = [walk(trace, config, max_tokens=12) for trace in rec.traces[config.draft]]
    found = spread_of(rec, rec.best)
    rates = [one.accepted / one.drafted for one in walks if one.drafted]
    assert found.acceptance_sd == pytest.approx(statistics.stdev(rates))
    assert found.figures == len(rates)
    assert found.log_speed_sd > 0
    assert "5 replayed answers" in found.source


def test_without_answers_the_kinds_of_text_say_how_texts_differ() -> None:
    kinds = ("a", "b", "c", "d")
    rates = dict(zip(kinds, (0.5, 0.6, 0.7, 0.9), strict=True))
    rec = sure(acceptance_by_category=rates, speedup_by_category={kind: 1 + rate for kind, rate in rates.items()})
    found = spread_of(rec, rec.best)
    assert found.acceptance_sd == pytest.approx(statistics.stdev(rates.values()))
    assert found.figures == 4
    assert "4 kinds of text" in found.source


def test_of_a_server_as_it_should_be_19_checks_in_20_pass_and_of_another_hardly_any() -> None:
    """Prompts are drawn around a known mean; the recommendation is made from ten of them, the check asks two more."""
    rng = np.random.default_rng(0)
    rate, sd, kinds = 0.6, 0.12, tuple("abcdefghij")
    inside = {0.0: 0, -0.4: 0}
    for _ in range(400):
        seen = rng.normal(rate, sd, len(kinds)).clip(0.02, 0.98)
        mean = float(seen.mean())
        rec = sure(
            acceptance_rate=mean,
            acceptance_by_category=dict(zip(kinds, seen.tolist(), strict=True)),
            speedup_by_category=dict(zip(kinds, (1 + seen).tolist(), strict=True)),
        )
        interval = expected(rec, rec.best, (OTHER, OTHER)).acceptance
        for shift in inside:
            shown = float(rng.normal(rate + shift, sd, 2).clip(0, 1).mean())
            inside[shift] += interval.place(shown) == "inside"
    assert 0.9 <= inside[0.0] / 400 <= 0.99
    assert inside[-0.4] / 400 < 0.15


def test_a_value_is_placed() -> None:
    assert [Interval(1.0, 2.0).place(value) for value in (0.5, 1.0, 2.0, 2.5)] == ["below", "inside", "inside", "above"]
