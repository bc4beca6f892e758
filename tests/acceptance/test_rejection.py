"""Rejection sampling: the walk against enumeration, both rules against real runs, also of the real server."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from advisor.acceptance.rejection import without_chances
from advisor.acceptance.replay import ROWS_AT_ONCE
from advisor.acceptance.transcripts import spread, write_transcripts
from advisor.acceptance.walk import DRAWS, DraftAcceptance, pooled, walk
from advisor.engines.base import NO_ROLLOUT, LoadOptions
from advisor.engines.find_server import PACKAGED, Program
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.llama_server import LlamaServer
from advisor.engines.sampling import accepted_or_drawn, draft_distribution, target_distribution
from advisor.gguf import read_model
from advisor.progress import Silent
from advisor.store import Store
from advisor.testing.zoo import Recipe, build
from advisor.types import Config, Sampling, Trace
from advisor.workload import builtin

pytestmark = pytest.mark.alone

SAMPLED = {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8, "seed": 1}


def expected_steps(chance: tuple[float, ...], k: int) -> float:
    """By enumeration: which tokens are accepted decides the steps; the first token is the prefill's."""
    total = 0.0
    for accepted in itertools.product((True, False), repeat=len(chance)):
        weight = np.prod([c if ok else 1 - c for c, ok in zip(chance, accepted, strict=True)])
        steps, at = 0, 1
        while at < len(chance):
            room = min(k, len(chance) - at - 1)
            run = next((i for i in range(room) if not accepted[at + i]), room)
            steps, at = steps + 1, at + run + 1
        total += weight * steps
    return total


def test_the_walk_under_rejection_has_the_expected_length():
    chance = (1.0, 0.9, 0.2, 0.7, 1.0, 0.5, 0.8, 0.95, 0.3)
    answer = tuple(range(100, 100 + len(chance)))
    trace = Trace("x", answer, (0,) * len(chance), (0.1,) * len(chance), chance=chance)
    many = [dataclasses.replace(trace, chance=tuple(np.roll(chance, i))) for i in range(len(chance))]
    for k in (1, 2, 4):
        config = Config("d", k, draft_sampling="probabilistic")
        walks = [walk(one, config, max_tokens=len(chance)) for one in many]
        wanted = sum(expected_steps(one.chance, k) for one in many)
        assert pooled(walks).steps / DRAWS == pytest.approx(wanted, rel=0.05)
    greedy = walk(trace, Config("d", 2), max_tokens=len(chance))
    assert greedy.accepted == 0, "the proposals decide where the target must sample the same"


def test_every_answer_has_lots_of_its_own():
    answer = tuple(range(40))
    trace = Trace("x", answer, (0,) * 40, (0.1,) * 40, chance=(0.5,) * 40)
    config = Config("d", 4, draft_sampling="probabilistic")
    one, other = DraftAcceptance([trace, trace], max_tokens=40).walks(config)
    assert (one.steps, one.accepted) != (other.steps, other.accepted)
    assert one == walk(trace, config, max_tokens=40, number=0)
    assert other == walk(trace, config, max_tokens=40, number=1)


def test_an_engine_without_the_rule_gets_traces_without_it():
    trace = Trace("x", (1, 2), (1, 3), (0.9, 0.8), chance=(0.9, 0.1))
    assert without_chances({"d": (trace,)}) == {"d": (dataclasses.replace(trace, chance=()),)}


def test_accepted_or_drawn_keeps_the_targets_distribution():
    p, q = {1: 0.5, 2: 0.3, 3: 0.2}, {1: 0.2, 2: 0.7, 4: 0.1}
    rng = np.random.default_rng(3)
    drafted = rng.choice([1, 2, 4], p=[0.2, 0.7, 0.1], size=20000)
    got = [accepted_or_drawn(int(token), p, q, rng) for token in drafted]
    for token, weight in p.items():
        assert got.count(token) / len(got) == pytest.approx(weight, abs=0.015)
    accepted = sum(a == b for a, b in zip(got, drafted, strict=True)) / len(got)
    assert accepted == pytest.approx(sum(min(p.get(t, 0), q.get(t, 0)) for t in (1, 2, 3, 4)), abs=0.015)


def test_the_chain_cuts_as_documented():
    row = np.log(np.array([0.5, 0.3, 0.1, 0.06, 0.04], np.float32))
    assert list(target_distribution(row, {**SAMPLED, "top_k": 2, "top_p": 1.0, "min_p": 0.0})) == [0, 1]
    assert list(target_distribution(row, {**SAMPLED, "top_p": 0.8, "min_p": 0.0})) == [0, 1]
    assert list(target_distribution(row, {**SAMPLED, "top_p": 0.81, "min_p": 0.0})) == [0, 1, 2]
    assert list(target_distribution(row, {**SAMPLED, "top_p": 1.0, "min_p": 0.11})) == [0, 1, 2, 3]
    hot = target_distribution(row, {**SAMPLED, "top_k": 2, "top_p": 1.0, "min_p": 0.0, "temperature": 2.0})
    assert hot[0] / hot[1] == pytest.approx((0.5 / 0.3) ** 0.5)
    assert sum(draft_distribution(row, 0.7).values()) == pytest.approx(1)


PROMPTS, TOKENS, K = 8, 40, 3
NOISE = 0.12  # other text in every run: what so few tokens leave open; python -m benchmarks rules takes more
CONTEXT = 512


@pytest.fixture(scope="module")
def pair():
    """A real pair whose answers were sampled, weighed and replayed."""
    target, draft = read_model(build(Recipe(30, "Q8_0"))), read_model(build(Recipe(29, "Q8_0")))
    sampling = Sampling(temperature=0.8)
    engine = LlamaCppPython()
    engine.open("target", target, LoadOptions(CONTEXT, 2, outputs=ROWS_AT_ONCE))
    engine.open("draft", draft, LoadOptions(CONTEXT, 2, outputs=ROWS_AT_ONCE))
    transcripts = write_transcripts(
        engine, Store.in_memory(), target, spread(builtin().prompts)[:PROMPTS], sampling,
        context=CONTEXT, max_tokens=TOKENS, progress=Silent(),
    )  # fmt: skip
    weighed = [dataclasses.replace(one, probability=engine.weigh(one, sampling)) for one in transcripts]
    traces = [engine.score(one, NO_ROLLOUT, "draft", sampling.temperature) for one in weighed]
    yield engine, target, draft, sampling, weighed, traces
    engine.shutdown()


def predicted(traces, config: Config) -> float:
    total = pooled([walk(trace, config, max_tokens=TOKENS) for trace in traces])
    return total.accepted / total.drafted


def real(runner, weighed, config: Config, sampling: Sampling) -> float:
    runs = [runner.speculate(one.prompt_tokens, config, sampling, TOKENS) for one in weighed]
    return sum(run.accepted for run in runs) / sum(run.drafted for run in runs)


def test_sampled_tokens_have_the_probability_that_the_chain_gives_them(pair):
    _, _, _, _, weighed, traces = pair
    chosen = np.concatenate([one.probability for one in weighed])
    assert (chosen > 0).mean() > 0.97  # what was sampled can be sampled, but for near-ties at the cuts
    assert 0.4 < chosen.mean() < 0.95
    assert all(len(trace.chance) == len(trace.answer_tokens) for trace in traces)


def test_both_rules_in_this_process(pair):
    engine, _, draft, sampling, weighed, traces = pair
    configs = [Config(draft.content_hash, K), Config(draft.content_hash, K, draft_sampling="probabilistic")]
    for config in configs:
        assert predicted(traces, config) == pytest.approx(real(engine, weighed, config, sampling), abs=NOISE)


def test_both_rules_in_the_real_server(pair):
    _, target, draft, sampling, weighed, traces = pair
    server = LlamaServer(Program(PACKAGED, "packaged"), extra_buffers=False)
    server.open("target", target, LoadOptions(CONTEXT, 2))
    server.open("draft", draft, LoadOptions(CONTEXT, 2))
    assert server.rejection_sampling
    try:
        for rule in ("greedy", "probabilistic"):
            config = Config(draft.content_hash, K, draft_sampling=rule)
            assert predicted(traces, config) == pytest.approx(real(server, weighed, config, sampling), abs=NOISE)
    finally:
        server.shutdown()
