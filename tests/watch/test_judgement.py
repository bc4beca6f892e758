"""What is expected of a server, and when speculation is said to pay."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.reasons import explain
from advisor.testing.builders import BASELINE_TPS, make_estimate, make_recommendation
from advisor.types import Config, Recommendation
from advisor.watch import Expected, Judgement, Live, Slots, expected, judge
from advisor.watch.expectation import price_of_a_drafted_token
from advisor.watch.readings import Counters
from tests.explained import pair, pair_world, simulated, true_speedup
from tests.watch.servers import Counting


def recommended(k: int = 4, **changes: Any) -> Recommendation:
    """A pick whose break-even is that of its step cost: 2.4 passes for (1 + 4 x 0.7) tokens."""
    rec = make_recommendation()
    draft = rec.candidates[0].draft
    fields = {"speedup": 3.8 / 2.4, "acceptance_rate": 0.7, "tokens_per_step": 3.8, **changes}
    best = make_estimate(draft, k=k, **fields)
    return dataclasses.replace(rec, estimates=(best, *rec.estimates[2:]), best=best, traces={}, draft_curves={})


def wanted(rec: Recommendation | None = None) -> Expected:
    found = expected(rec or recommended())
    assert found is not None
    return found


def live(steps: int = 100, accepted: tuple[int, ...] = (80, 70, 65, 60), **changes: Any) -> Live:
    """By default as expected: 2.75 of 4 accepted."""
    speed = changes.pop("tps", 30.0)
    state = dataclasses.replace(Counting(), **changes)
    before = Counters.of(state.metrics())
    return Live.between(before, Counters.of(state.answered(steps, accepted, token_s=1 / speed).metrics()), 10.0)


def judged(found: Live | None = None, rec: Recommendation | None = None, **options: Any) -> Judgement:
    return judge(found or live(), wanted(rec), **options)


# -- what is expected --------------------------------------------------------------------------------------------------


def test_break_even_is_the_one_that_explain_shows() -> None:
    rec = simulated()
    subject = explain(rec).subject
    assert subject is not None
    assert subject.break_even is not None
    found = wanted(rec)
    assert found.break_even_acceptance == subject.break_even.acceptance_rate
    assert found.break_even_from == "answers"


def test_a_pick_without_a_draft_does_not_take_the_break_even_of_the_best_draft() -> None:
    rec = simulated()
    method = make_estimate("", 1.5, 12, method="ngram-mod", acceptance_rate=0.8, tokens_per_step=3.0)
    found = wanted(dataclasses.replace(rec, best=method, estimates=(method, *rec.estimates)))
    assert found.break_even_from == "step-cost"
    assert found.break_even_acceptance == pytest.approx(0.8 * (3.0 / 1.5 - 1) / 2.0)
    assert "ngram-mod" in found.label


def test_without_answers_break_even_follows_from_the_cost_of_a_step() -> None:
    found = wanted()
    assert found.break_even_tokens_per_step == pytest.approx(2.4)
    assert found.break_even_acceptance == pytest.approx(1.4 / 4), "1 + 4 x acceptance = 2.4"
    assert found.break_even_from == "step-cost"


@given(st.floats(0.05, 1.0), st.floats(0.1, 8.0), st.floats(0.3, 4.0))
def test_at_the_price_of_a_drafted_token_nothing_is_won_or_lost(rate: float, drafted: float, speedup: float) -> None:
    """However much is drafted: tokens a step are then what the step costs."""
    estimate = make_estimate("d", speedup, acceptance_rate=rate, tokens_per_step=1 + rate * drafted)
    price = price_of_a_drafted_token(estimate)
    assert price is not None
    cost_of_a_drafted_token = (estimate.tokens_per_step / speedup - 1) / drafted
    for often in (0.1, 1.0, 3.0):
        speedup_there = (1 + price * often) / (1 + cost_of_a_drafted_token * often)
        assert speedup_there == pytest.approx(1.0) or (price == 0 and cost_of_a_drafted_token < 0)
    assert (price < rate) == (speedup > 1) or price == pytest.approx(rate)


@pytest.mark.parametrize("match", [0.35, 0.5, 0.65, 0.8, 0.95])
def test_the_fallback_agrees_with_the_truth_of_a_simulated_engine(match: float) -> None:
    """The price of a drafted token, taken at one acceptance, says at another whether the pairing wins."""
    rec = pair(0.8)
    one = next(e for e in rec.estimates if e.config.k == 4 and e.config.p_min == 0)
    price = price_of_a_drafted_token(one)
    assert price is not None
    config = Config(rec.candidates[0].draft.content_hash, 4)
    speedup = true_speedup(pair_world(match), config, rec.candidates[0].draft, prompts=100)
    rate = sum(match**i for i in range(1, 5)) / 4
    if abs(speedup - 1) > 0.05:
        assert (rate > price) == (speedup > 1)


def test_the_interval_of_the_speed_is_that_of_the_speedup() -> None:
    found = wanted()
    assert found.low_tps == pytest.approx(0.96 * found.tokens_per_second)
    assert found.high_tps == pytest.approx(1.04 * found.tokens_per_second)
    assert found.baseline_tps == BASELINE_TPS


def test_nothing_is_expected_of_a_recommendation_not_to_speculate() -> None:
    assert expected(make_recommendation("do-not-speculate")) is None


# -- judgement ---------------------------------------------------------------------------------------------------------


def test_a_server_that_does_what_is_expected_is_left_alone() -> None:
    found = judged(live(tps=wanted().tokens_per_second))
    assert (found.state, found.below, found.pace) == ("pays", False, "within")
    assert (found.warnings, found.advice) == ((), ())


def test_acceptance_below_break_even_is_a_warning_with_what_to_do() -> None:
    found = judged(live(accepted=(50, 20, 10, 5)))
    assert (found.state, found.below) == ("below-break-even", True)
    assert "21 %" in found.warnings[0]
    assert "35 %" in found.warnings[0]
    text = " ".join(found.advice)
    for part in ("No shorter draft", "--workload"):
        assert part in text


def test_just_above_and_just_below_break_even() -> None:
    assert judged(live(accepted=(61, 40, 25, 15))).below is False
    assert judged(live(accepted=(59, 40, 25, 15))).below is True


def test_a_shorter_draft_is_named_with_the_speedup_it_would_have() -> None:
    rec = recommended()
    short = make_estimate(rec.candidates[0].draft, 1.3, 2, acceptance_rate=0.8, tokens_per_step=2.6)
    rec = dataclasses.replace(rec, estimates=(*rec.estimates, short))
    found = judged(live(accepted=(80, 40, 5, 0)), rec)
    assert found.below
    # steps of k = 2 cost 2.6 / 1.3 = 2 passes, and give 1 + 0.8 + 0.4 tokens
    assert "k = 2 is expected to give 1.10x" in found.advice[0]
    nothing_helps = judged(live(accepted=(20, 10, 5, 0)), rec)
    assert "No shorter draft pays" in nothing_helps.advice[0]


def test_a_category_that_is_accepted_alike_is_named() -> None:
    rec = recommended(acceptance_by_category={"code": 0.9, "chat": 0.2}, speedup_by_category={"code": 1.7, "chat": 0.8})
    found = judged(live(accepted=(50, 20, 10, 5)), rec)
    assert any("chat (20 %, 0.80x)" in said and "--category chat" in said for said in found.advice)
    assert not any("--category" in said for said in judged(live(accepted=(5, 0, 0, 0)), rec).advice), "too far from it"


def test_commands_that_are_advised_can_be_pasted() -> None:
    rec = recommended()
    rec = dataclasses.replace(rec, target=dataclasses.replace(rec.target, path="/my models/a'b;c.gguf"))
    found = judged(live(accepted=(5, 0, 0, 0)), rec)
    assert any("--target '/my models/a'\"'\"'b;c.gguf'" in said for said in found.advice)


def test_few_tokens_are_not_judged() -> None:
    found = judged(live(steps=5, accepted=(0, 0, 0, 0)))
    assert (found.state, found.below) == ("too-few", False)


def test_a_draft_that_is_silently_not_used_is_below_break_even() -> None:
    found = judged(live(steps=500, accepted=()))
    assert (found.state, found.below) == ("not-drafting", True)
    assert "--spec-type" in found.warnings[0]


@pytest.mark.parametrize("changes", [{"p_min": 0.5}, {"method": "ngram-mod"}])
def test_a_method_that_need_not_draft_is_not_blamed_for_it(changes: dict[str, Any]) -> None:
    rec = recommended()
    draft = "" if "method" in changes else rec.candidates[0].draft
    best = make_estimate(draft, 1.5, 4, **changes)
    found = judged(live(steps=500, accepted=()), dataclasses.replace(rec, best=best))
    assert (found.state, found.below) == ("not-drafting", False)


def test_a_server_that_says_it_does_not_speculate_is_below_whatever_may_be_drafted() -> None:
    rec = recommended()
    best = make_estimate(rec.candidates[0].draft, 1.5, 4, p_min=0.6)
    found = judged(live(steps=500, accepted=()), dataclasses.replace(rec, best=best), slots=Slots(0, 0, False))
    assert (found.state, found.below) == ("not-drafting", True)


def test_a_server_without_speculation_is_told_apart_from_one_that_waits() -> None:
    found = judge(None, wanted(), slots=Slots(0, 0, False))
    assert found.state == "waiting"
    assert "without speculation" in found.warnings[0]
    assert judge(None, wanted(), slots=Slots(0, 0, True)).warnings == ()


def test_another_draft_length_than_recommended_is_said() -> None:
    found = judged(live(accepted=(90, 80)))
    assert any("up to 2 tokens" in said and "k = 4" in said for said in found.warnings)


def test_too_slow_though_it_accepts_enough() -> None:
    found = judged(live(tps=25.0, accepted=(90, 80, 70, 60)))
    assert (found.state, found.pace, found.below) == ("pays", "below", False)
    assert "busier" in found.warnings[0]
    accepts_less = judged(live(tps=25.0, accepted=(70, 60, 50, 30)))
    assert "less is accepted" in accepts_less.warnings[0]


def test_requests_side_by_side_are_not_compared_in_speed() -> None:
    found = judged(live(tps=10.0, busy_per_decode=3.0))
    assert (found.pace, found.warnings) == (None, ())
    assert any("3.0 requests share a decode" in said for said in found.notes)


@pytest.mark.parametrize(("tps", "below"), [(30.0, False), (15.0, True)])
def test_without_counters_of_drafts_the_speed_decides(tps: float, below: bool) -> None:
    found = judged(live(steps=500, accepted=(100,), tps=tps, counts_drafts=False))
    assert (found.state, found.below) == ("not-counted", below)
    assert any("does not count drafts" in said for said in found.notes)
    assert any("--workload" in said for said in found.advice) == below


def test_advised_against_and_done_all_the_same() -> None:
    found = judge(live(), None, verdict="do-not-speculate")
    assert (found.state, found.below) == ("not-compared", False)
    assert "not to speculate" in found.warnings[0]
    assert judge(live(accepted=()), None, verdict="do-not-speculate").warnings == ()
    assert judge(live(), None).warnings == ()


@given(st.integers(1, 2000), st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(1, 200))
def test_below_is_what_acceptance_says(steps: int, shares: list[float], tps: float) -> None:
    accepted = tuple(sorted((int(steps * share) for share in shares), reverse=True))
    found = live(steps, accepted, tps=tps)
    verdict, limit = judged(found), wanted().break_even_acceptance
    assert limit is not None
    enough = 4 * steps >= 100
    assert verdict.below == (enough and sum(accepted) / (4 * steps) < limit)
    assert bool(verdict.advice) == verdict.below
    if verdict.below:
        assert verdict.warnings
    lead = (found.tokens_per_step or 0.0) - wanted().break_even_tokens(found.drafted_per_step)
    assert abs(lead) < 1e-9 or (lead < 0) == (sum(accepted) / (4 * steps) < limit), "both rows of the table agree"
