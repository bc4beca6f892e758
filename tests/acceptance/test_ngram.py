"""The n-gram methods against a slow second writing of them, and what a user of each would notice."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.acceptance.ngram import NgramAcceptance, ngram_configs
from advisor.acceptance.walk import pooled
from advisor.ngram import METHODS, map_k, mod
from advisor.types import Config, Transcript, from_json, to_json
from tests.acceptance.ngram_reference import serve

ROOMY = {"context": 10**6, "max_tokens": 10**6}
VERSE = tuple(range(100, 140))


def transcript(prompt, answer) -> Transcript:
    return Transcript("copy", tuple(prompt), tuple(answer), ended=True)


def config(method: str, size: int, k: int, **changes) -> Config:
    return Config("", k, method=method, ngram_size=size, **changes)


def walks(one: Config, *transcripts: Transcript, **limits):
    return NgramAcceptance(transcripts, **{**ROOMY, **limits}).walks(one)


@st.composite
def requests(draw):
    """Requests of few different tokens, often with a stretch repeated, one after the other."""

    def text(low: int, high: int) -> list[int]:
        some = draw(st.lists(st.integers(1, 4), min_size=low, max_size=high))
        return some + some[: draw(st.integers(0, len(some)))]

    return [transcript(text(1, 40), text(2, 40)) for _ in range(draw(st.integers(1, 4)))]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=400, deadline=None)
@given(
    served=requests(),
    size=st.integers(1, 4),
    k=st.integers(1, 7),
    n_min=st.integers(0, 4),
    min_hits=st.integers(1, 3),
    limits=st.tuples(st.integers(60, 170), st.integers(80, 90)),
    buckets=st.sampled_from([4, 64, 1 << 18]),
)
def test_a_walk_is_the_servers_loop_through_all_requests(method, served, size, k, n_min, min_hits, limits, buckets):
    one = config(method, size, k, n_min=n_min if method == "ngram-mod" else 0, ngram_min_hits=min_hits)
    context, max_tokens = limits
    with mock.patch.object(map_k, "BUCKETS", buckets), mock.patch.object(mod, "BUCKETS", buckets):
        got = walks(one, *served, context=context, max_tokens=max_tokens)
    want = serve(one, served, context=context, max_tokens=max_tokens, buckets=buckets)
    for walk, steps, asked in zip(got, want, served, strict=True):
        assert (walk.steps, walk.drafted) == (len(steps), sum(drafted for drafted, _ in steps))
        assert walk.accepted == sum(accepted for _, accepted in steps)
        assert walk.verified == {n: sum(d == n for d, _ in steps) for n in {d for d, _ in steps}}
        assert 0 <= walk.accepted <= walk.drafted <= k * walk.steps
        assert walk.tokens == len(asked.answer_tokens) - 1
        assert walk.steps + walk.accepted - walk.tokens in (0, 1)  # 1: behind an accepted end token nothing follows
        assert walk.draft_calls == 0
        assert sum(walk.accepted_per_position) == walk.accepted


def test_a_copied_text_is_drafted_k_at_a_time():
    one = transcript([1, 2, 3, *VERSE, 4, 5, 6, 7, 8, 9], VERSE)
    (walk,) = walks(config("ngram-simple", 4, 8), one)
    assert walk.verified[8] == 4  # 36 tokens are left when the first four were written one by one
    assert walk.accepted == walk.drafted
    assert walk.steps + walk.accepted == len(VERSE) - 1


@pytest.mark.parametrize("method", ["ngram-simple", "ngram-map-k", "ngram-map-k4v"])
def test_nothing_is_drafted_from_the_text_of_another_request(method):
    first, second = transcript(range(1, 60), VERSE), transcript(range(200, 260), VERSE)
    assert [walk.drafted for walk in walks(config(method, 3, 8), first, second)] == [0, 0]


def test_ngram_mod_drafts_what_an_earlier_request_wrote():
    first, second = transcript(range(1, 60), [*VERSE, *range(900, 940)]), transcript(range(200, 260), VERSE)
    alone, (_, after) = walks(config("ngram-mod", 4, 8), second), walks(config("ngram-mod", 4, 8), first, second)
    assert alone[0].drafted == 0
    assert after.accepted > 20


def test_ngram_simple_gives_the_same_for_a_request_in_any_order():
    some = [transcript([1, 2, *VERSE[i:], 3, 4], VERSE[i:] * 2) for i in (0, 5, 10)]
    one = config("ngram-simple", 3, 6)
    assert walks(one, *some) == walks(one, *some[::-1])[::-1]


def test_a_key_of_ngram_map_k_that_failed_once_drafts_no_more():
    """Each time the three tokens come back, something else follows."""
    key = (7, 8, 9)
    answer = [token for i in range(8) for token in (*key, *range(100 + 20 * i, 120 + 20 * i))]
    prompt = [1, 2, *key, *range(50, 75)]
    assert walks(config("ngram-map-k", 3, 6), transcript(prompt, answer))[0].verified[6] == 1
    assert walks(config("ngram-simple", 3, 6), transcript(prompt, answer))[0].verified[6] == 8


def test_ngram_map_k4v_drafts_only_behind_a_dominant_continuation():
    key, usual, other = (7, 8, 9), tuple(range(100, 110)), tuple(range(200, 210))
    even = [1, 2, *key, *usual, *key, *other, *range(50, 75)]
    dominant = [1, 2, *key, *other, *key, *usual, *key, *usual, *range(50, 75)]
    answer = [3, *key, *range(300, 320)]
    assert walks(config("ngram-map-k4v", 3, 6), transcript(even, answer))[0].drafted == 0
    assert walks(config("ngram-map-k4v", 3, 6), transcript(dominant, answer))[0].drafted == 6
    assert walks(config("ngram-map-k", 3, 6), transcript(even, answer))[0].drafted == 6


def test_ngram_mod_with_a_least_length_does_not_draft_less():
    prompt, answer = [*VERSE[:20], 1, 2, 3, 4, 5], VERSE[:20]
    assert walks(config("ngram-mod", 4, 64, n_min=48), transcript(prompt, answer))[0].drafted == 0
    assert walks(config("ngram-mod", 4, 64), transcript(prompt, answer))[0].accepted > 10


def test_the_last_drafts_fit_into_the_answer_and_the_context():
    one = transcript([1, 2, 3, *VERSE, 4, 5, 6, 7, 8, 9], VERSE)
    free = walks(config("ngram-simple", 4, 32), one)[0]
    by_answer = walks(config("ngram-simple", 4, 32), one, max_tokens=len(VERSE))[0]
    by_context = walks(config("ngram-simple", 4, 32), one, context=len(one.prompt_tokens) + len(VERSE))[0]
    assert max(free.verified) == 32
    assert by_answer.accepted == by_answer.drafted
    assert by_answer.verified == by_context.verified


def test_the_settings_to_try_can_all_speculate():
    text = transcript([1, 2, *VERSE, *VERSE, *range(500, 600)], VERSE * 2)
    configs = ngram_configs(16)
    assert {one.method for one in configs} == set(METHODS)
    assert len(set(configs)) == len(configs) < 80
    assert max(one.k for one in configs) == 16
    assert all(pooled(walks(one, text)).drafted > 0 for one in configs)


def test_configs_saved_before_there_were_ngram_methods_still_load():
    saved = '{"draft": "d", "k": 4, "p_min": 0.0, "n_min": 0, "method": "draft-simple"}'
    assert from_json(Config, saved) == Config("d", 4)
    one = config("ngram-mod", 16, 32, n_min=8)
    assert from_json(Config, to_json(one)) == one
