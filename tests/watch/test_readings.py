"""Counters, their differences, and restarts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.server_metrics import fraction_grain, grain, samples
from advisor.watch.readings import Counters, History, Live, Reading, Slots
from tests.watch.servers import Counting

REQUESTS = st.lists(
    st.tuples(st.integers(1, 400), st.lists(st.floats(0, 1), min_size=3, max_size=3)).map(
        lambda drawn: (drawn[0], _falling(drawn[0], drawn[1]))
    ),
    min_size=1,
    max_size=30,
)


def _falling(steps: int, shares: list[float]) -> tuple[int, ...]:
    """Accepted at each place: never more than at the place before."""
    counts, left = [], float(steps)
    for share in shares:
        left *= share
        counts.append(int(left))
    return tuple(counts)


def serve(requests: list[tuple[int, tuple[int, ...]]], start: Counting | None = None) -> list[Counting]:
    states = [start or Counting()]
    for steps, accepted in requests:
        states.append(states[-1].answered(steps, accepted))
    return states


def history(states: list[Counting]) -> History:
    watched = History()
    for i, state in enumerate(states):
        watched = watched.add(Reading.of(state.metrics(), None, float(i)))
    return watched


# -- facts -------------------------------------------------------------------------------------------------------------


def test_the_facts_of_one_request() -> None:
    live = history(serve([(100, (80, 60, 40))])).lately
    assert live is not None
    assert live.acceptance_rate == pytest.approx(180 / 300)
    assert live.tokens_per_step == pytest.approx(2.8)
    assert live.tokens_per_second == pytest.approx(20.0)
    assert live.by_position == pytest.approx((0.8, 0.6, 0.4))
    assert live.at_once == 1.0
    assert not live.few


def test_only_what_is_new_counts() -> None:
    before = Counting().answered(1000, (0, 0, 0))
    live = history(serve([(100, (100, 100, 100))], before)).lately
    assert live is not None
    assert live.acceptance_rate == 1.0
    since_start = history(serve([(100, (100, 100, 100))], before)).since_start
    assert since_start is not None
    assert since_start.acceptance_rate == pytest.approx(300 / 3300)
    assert since_start.whole


def test_steps_without_a_draft_count_as_steps() -> None:
    """As where an n-gram method finds nothing: a step, one token."""
    live = history([Counting(), Counting().answered(50, ()).answered(50, (50,))]).lately
    assert live is not None
    assert live.tokens_per_step == pytest.approx(150 / 100)
    assert live.acceptance_rate == 1.0


@pytest.mark.parametrize("state", [Counting(), Counting().answered(500, ())])
def test_a_server_that_drafts_nothing_has_no_acceptance(state: Counting) -> None:
    live = history([Counting(), state]).lately
    assert live is not None
    assert live.acceptance_rate is None
    assert live.by_position == ()


def test_a_build_that_does_not_count_drafts_still_has_a_speed() -> None:
    live = history([Counting(counts_drafts=False), Counting(counts_drafts=False).answered(300, (100,))]).lately
    assert live is not None
    assert not live.counts_drafts
    assert (live.acceptance_rate, live.tokens_per_step) == (None, None)
    assert live.tokens_per_second == pytest.approx(20.0)


def test_requests_that_share_a_decode_are_seen() -> None:
    busy = Counting(busy_per_decode=3.0).answered(500, (100,))
    live = history([Counting(busy_per_decode=3.0), busy]).lately
    assert live is not None
    assert live.at_once == pytest.approx(3.0)


@given(REQUESTS)
def test_every_fact_is_a_possible_one(requests: list[tuple[int, tuple[int, ...]]]) -> None:
    watched = history(serve(requests))
    for live in (watched.lately, watched.since_start):
        assert live is not None
        assert live.acceptance_rate is None or 0 <= live.acceptance_rate <= 1
        assert live.tokens_per_step is None or 1 <= live.tokens_per_step <= 4
        assert all(0 <= share <= 1 for share in live.by_position)
        assert list(live.by_position) == sorted(live.by_position, reverse=True)
        assert sum(live.accepted_per_position) == live.accepted


@given(REQUESTS)
def test_what_is_shown_lately_is_part_of_what_was_seen(requests: list[tuple[int, tuple[int, ...]]]) -> None:
    states = serve(requests)
    live = history(states).lately
    assert live is not None
    spans = [Live.between(_counters(state), _counters(states[-1]), 0.0) for state in states]
    assert (live.drafted, live.accepted, live.tokens) in [(s.drafted, s.accepted, s.tokens) for s in spans]
    assert live.drafted is not None
    assert live.drafted >= min(400, states[-1].drafted), "enough to say something, or all there is"


def _counters(state: Counting) -> Counters:
    return Counters.of(state.metrics())


def test_a_change_of_the_workload_shows_soon() -> None:
    states = serve([(50, (45, 40, 35))] * 40 + [(50, (5, 0, 0))] * 4)
    live = history(states).lately
    assert live is not None
    assert live.acceptance_rate == pytest.approx(5 / 150), "old requests are left out as soon as new ones say enough"
    assert len(history(states).readings) <= 5, "and forgotten"


def test_an_idle_server_keeps_its_last_figures() -> None:
    states = serve([(50, (45, 40, 35))] * 5)
    live, later = history(states).lately, history([*states, *[states[-1]] * 500])
    assert live is not None
    assert later.lately == replace(live, seconds=503.0)
    assert len(later.readings) < 10


# -- restarts ----------------------------------------------------------------------------------------------------------


@given(REQUESTS, REQUESTS)
def test_after_a_restart_only_the_new_server_counts(
    old: list[tuple[int, tuple[int, ...]]], new: list[tuple[int, tuple[int, ...]]]
) -> None:
    before, after = serve(old)[-1], serve(new)[-1]
    watched = history([before, after])
    fewer = after.tokens < before.tokens
    assert watched.restarts in ({1} if fewer else {0, 1}), "more of everything can be the same server"
    if watched.restarts:
        assert watched.lately is not None
        assert watched.lately.tokens == after.tokens
        assert watched.lately.accepted == sum(after.per_position)


@given(REQUESTS)
def test_a_server_that_only_goes_on_was_not_restarted(requests: list[tuple[int, tuple[int, ...]]]) -> None:
    assert history(serve(requests, Counting(tokens=10**7, drafted=10**7, drafts=10**6))).restarts == 0


def test_another_draft_length_is_another_server() -> None:
    watched = history([Counting().answered(100, (50, 40)), Counting().answered(500, (400, 300, 200, 100))])
    assert watched.restarts == 1


def test_a_restarted_server_with_nothing_answered_yet() -> None:
    watched = history([Counting().answered(100, (50, 40)), Counting()])
    assert watched.restarts == 1
    assert watched.lately is not None
    assert watched.lately.tokens == 0
    assert history([Counting().answered(100, (50, 40)), Counting(), Counting().answered(200, (9, 9))]).restarts == 1


# -- numbers as they are printed ---------------------------------------------------------------------------------------


@given(st.integers(0, 10**12))
def test_a_printed_counter_is_off_by_no_more_than_its_grain(count: int) -> None:
    printed = samples(f"x {float(count):.6g}")["x"]
    assert abs(printed - count) <= grain(printed) / 2 or grain(printed) == 0 == printed - count


@given(st.floats(1e-3, 1e9))
def test_printed_seconds_are_off_by_no_more_than_their_grain(seconds: float) -> None:
    printed = samples(f"x {seconds:.6g}")["x"]
    assert abs(printed - seconds) <= fraction_grain(printed) * 0.5001


def test_a_speed_is_coarse_where_the_seconds_of_a_long_uptime_are_printed_too_roughly() -> None:
    """At 150,000 s they move in whole seconds."""
    old = Counting(tokens=10**6, decode_s=150_000.0)
    assert history([old, old.answered(50, (40,), token_s=0.1)]).lately.coarse
    assert not history([Counting(), Counting().answered(50, (40,), token_s=0.1)]).lately.coarse


def test_how_many_requests_share_a_decode_is_not_said_where_it_drowns_in_rounding() -> None:
    old = Counting(tokens=10**6, decode_s=5e4, decodes=5_000_000)
    assert history([old, old.answered(400, (300,))]).lately.at_once is None
    assert history([Counting(), Counting().answered(400, (300,))]).lately.at_once == pytest.approx(1, abs=0.05)


def test_large_counters_are_not_judged_before_their_difference_is_sure() -> None:
    """At 50 million a counter moves in steps of 100."""
    old = Counting(tokens=10**8, decode_s=5e6, drafts=10**7, drafted=5 * 10**7, per_position=(10**7, 10**7, 10**7))
    soon = history([old, old.answered(100, (90, 80, 70))]).lately
    assert soon is not None
    assert soon.few
    later = history(serve([(100, (90, 80, 70))] * 100, old)).lately
    assert later is not None
    assert not later.few
    assert later.acceptance_rate == pytest.approx(0.8, abs=0.05)


def test_the_accepted_tokens_of_a_large_counter_are_those_of_its_places() -> None:
    metrics = Counting(per_position=(7654321, 1234567)).metrics()
    assert Counters.of(metrics).accepted == 7654321 + 1234567


# -- what is not a reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "vllm:generation_tokens_total 5",
        "llamacpp:tokens_predicted_total 5",
        "llamacpp:tokens_predicted_total nan\nllamacpp:tokens_predicted_seconds_total 1",
        "llamacpp:tokens_predicted_total -1\nllamacpp:tokens_predicted_seconds_total 1",
        "llamacpp:tokens_predicted_total 5\nllamacpp:tokens_predicted_seconds_total inf",
    ],
)
def test_other_servers_and_impossible_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="llamacpp:"):
        Reading.of(samples(text), None, 0.0)


@given(
    st.dictionaries(
        st.sampled_from([line.split(" ")[0] for line in Counting().answered(9, (5, 2)).text().splitlines() if line]),
        st.floats(allow_nan=True, allow_infinity=True),
    )
)
def test_any_numbers_make_a_reading_or_are_refused(metrics: dict[str, float]) -> None:
    try:
        reading = Reading.of(metrics, None, 0.0)
    except ValueError:
        return
    assert math.isfinite(reading.counters.tokens)
    watched = History().add(Reading(0.0, Counters())).add(reading).add(reading)
    assert watched.since_start is not None


# -- slots -------------------------------------------------------------------------------------------------------------


def test_slots_say_what_is_being_answered() -> None:
    listing = [
        {"id": 0, "speculative": True, "is_processing": True, "next_token": [{"n_decoded": 12}]},
        {"id": 1, "speculative": True, "is_processing": True, "next_token": {"n_decoded": 30}},
        {"id": 2, "speculative": True, "is_processing": False, "next_token": [{"n_decoded": 500}]},
    ]
    assert Slots.of(listing) == Slots(2, 42, True)


def test_a_server_without_speculation_says_so_in_its_slots() -> None:
    assert Slots.of([{"id": 0, "speculative": False, "is_processing": False}]) == Slots(0, 0, False)
    assert Slots.of([{"id": 0}]) == Slots(0, 0, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["is_processing", "next_token", "n_decoded"]), inner)
    ),
)


@given(JSON)
def test_whatever_stands_at_slots_is_read_or_left(listing: object) -> None:
    found = Slots.of(listing)
    assert found is None or found.running >= 0
