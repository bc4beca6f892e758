"""The walk over a trace, against a token-by-token simulation written independently of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from advisor.acceptance.walk import pooled, walk
from advisor.types import Config, Trace


def trace_of(matches: list[bool], probability: list[float] | None = None, rollout=None) -> Trace:
    answer = tuple(range(100, 100 + len(matches)))
    return Trace(
        category="code",
        answer_tokens=answer,
        proposal=tuple(token if ok else 1 for token, ok in zip(answer, matches, strict=True)),
        probability=tuple(probability or [0.9] * len(matches)),
        rollout=rollout or {},
    )


def server(trace: Trace, k: int, p_min: float, n_min: int, max_tokens: int) -> dict[str, int]:
    """llama-server's loop, one token at a time, over what the trace knows."""
    answer, emitted = trace.answer_tokens, 1
    out = {"steps": 0, "drafted": 0, "accepted": 0, "draft_calls": 0}
    while emitted < len(answer):
        n_max = min(k, max_tokens - emitted - 1)
        draft: list[int] = []
        wrong_from: int | None = None
        while len(draft) < n_max:
            out["draft_calls"] += 1
            at = emitted + len(draft)
            if wrong_from is not None:
                chain = trace.rollout.get(wrong_from, (0.0,) * 64)  # past the end of the answer nothing is known
                token, p = -1, chain[at - wrong_from - 1]
            else:
                token, p = (trace.proposal[at], trace.probability[at]) if at < len(answer) else (-1, 0.0)
            if p < p_min:
                break
            draft.append(token)
            if wrong_from is None and (at >= len(answer) or token != answer[at]):
                wrong_from = at
        if len(draft) < n_min:
            draft = []
        accepted = 0
        while accepted < len(draft) and emitted + accepted < len(answer):
            if draft[accepted] != answer[emitted + accepted]:
                break
            ends_answer = emitted + accepted == len(answer) - 1
            if ends_answer and accepted + 1 < len(draft):
                break  # an end token that is not the last drafted one counts as the target's own
            accepted += 1
        out["steps"] += 1
        out["drafted"] += len(draft)
        out["accepted"] += accepted
        emitted += accepted + 1
    return out


@given(
    matches=st.lists(st.booleans(), min_size=2, max_size=60),
    k=st.integers(1, 16),
    extra=st.integers(0, 20),
    data=st.data(),
)
def test_the_walk_is_the_servers_loop(matches, k, extra, data):
    size = len(matches)
    confidence = data.draw(st.lists(st.sampled_from([0.2, 0.5, 0.7, 0.95]), min_size=size, max_size=size))
    p_min = data.draw(st.sampled_from([0.0, 0.4, 0.6, 0.9]))
    n_min = data.draw(st.integers(0, 3))
    chains = {
        i: tuple(data.draw(st.lists(st.sampled_from([0.3, 0.65, 0.95]), min_size=16, max_size=16)))
        for i, ok in enumerate(matches)
        if not ok
    }
    trace = trace_of(matches, confidence, chains)
    got = walk(trace, Config("d", k, p_min, n_min), max_tokens=size + extra)
    want = server(trace, k, p_min, n_min, size + extra)
    assert got.steps == want["steps"]
    assert got.accepted == want["accepted"]
    assert (got.drafted, got.draft_calls) == (want["drafted"], want["draft_calls"])


def test_a_perfect_draft_saves_k_of_every_k_plus_1_passes():
    got = walk(trace_of([True] * 101), Config("d", 4), max_tokens=1000)
    assert got.steps == 20
    assert got.tokens == 100
    assert got.accepted_per_position[:3] == [20, 20, 20]


def test_a_hopeless_draft_accepts_nothing_and_drafts_k_every_step():
    got = walk(trace_of([False] * 51), Config("d", 3), max_tokens=1000)
    assert (got.steps, got.accepted, got.drafted) == (50, 0, 150)
    assert got.verified == {3: 50}


def test_the_last_drafts_are_cut_to_the_tokens_that_remain():
    got = walk(trace_of([True] * 8), Config("d", 16), max_tokens=8)
    assert got.verified == {6: 1}
    assert got.steps == 1


def test_an_unseen_rollout_costs_what_the_seen_ones_cost_on_average():
    trace = trace_of([True, False, True, False, True, True], [0.9] * 6, {1: (0.9, 0.9, 0.1)})
    got = walk(trace, Config("d", 8, p_min=0.5), max_tokens=100)
    # steps at 1 (wrong at once, chain of 2 seen), at 2 (one right, then wrong: a chain of 2 assumed), at 4 (to the end)
    assert got.drafted == (1 + 2) + (1 + 1 + 2) + 2
    assert (got.steps, got.accepted) == (3, 0 + 1 + 2)


def test_pooling_adds_everything_up():
    one = walk(trace_of([True] * 20), Config("d", 2), max_tokens=20)
    two = walk(trace_of([False] * 20), Config("d", 2), max_tokens=20)
    both = pooled([one, two])
    assert both.steps == one.steps + two.steps
    assert both.tokens == 38
    assert sum(both.verified.values()) == both.steps
