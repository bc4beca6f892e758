"""The pick in a long context: against a simulated truth, and on real models whose caches are really filled."""

from __future__ import annotations

import dataclasses
import time

import pytest

from advisor import depth
from advisor.acceptance.transcripts import spread, write_transcripts
from advisor.cost.step_law import CURRENT
from advisor.engines.base import NO_ROLLOUT, LoadOptions, RolloutOptions
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.simulated import SimulatedEngine, World
from advisor.errors import EngineCrash
from advisor.gguf import read_model
from advisor.ngram import METHODS
from advisor.progress import Silent
from advisor.store import Store
from advisor.study import Study
from advisor.testing.builders import make_candidate, make_estimate, make_trial
from advisor.testing.zoo import Recipe, build
from advisor.types import (
    AtDepth,
    Config,
    Message,
    Placement,
    Prompt,
    Recommendation,
    Settings,
    Trace,
    from_json,
    to_json,
)
from advisor.workload import builtin
from tests.test_pipeline import MIDDLE, SMALL, WORKLOAD, WORLD, ask_server, models
from tests.test_pipeline import ask as ask_about

__all__ = ["models"]

ASKED = dataclasses.replace(
    WORKLOAD,
    prompts=tuple(Prompt((Message("user", f"question {i}"),), ("code", "chat")[i % 2]) for i in range(10, 26)),
)
READ = len(b"question 10")
DEEP = dataclasses.replace(
    WORLD,
    read=READ,
    depth_s=8e-6,
    drafts={name: dataclasses.replace(one, depth_s=2e-6) for name, one in WORLD.drafts.items()},
)
FADING = dataclasses.replace(
    WORLD, read=READ, drafts={name: dataclasses.replace(one, fade=6e-5) for name, one in WORLD.drafts.items()}
)


def ask(world, **options) -> Recommendation:
    return ask_about(world, **{"workload": ASKED, **options})


def truth(world: World, config: Config, context: int) -> tuple[float, float]:
    """(speedup, acceptance) over the prompts of ASKED, each after so many other tokens."""
    engine = SimulatedEngine(world)
    if config.draft:
        engine.open("draft", next(one for one in (SMALL, MIDDLE) if one.content_hash == config.draft), None)
    sampling = Settings().sampling
    prompts = [(*range(context), *engine.tokenize(prompt.messages)) for prompt in ASKED.prompts]
    alone = [engine.answer(prompt, sampling, 100) for prompt in prompts]
    runs = [engine.speculate(prompt, config, sampling, 100) for prompt in prompts]
    speedup = sum(run.decode_s for run in alone) / sum(run.decode_s for run in runs)
    return speedup, sum(run.accepted for run in runs) / sum(run.drafted for run in runs)


def test_decodes_that_slow_down_with_depth_are_seen(models):
    found = ask(DEEP)
    there = found.at_depth
    assert there.depth > 3500
    assert there.timed_depth == there.depth
    assert there.answers == depth.ANSWERS
    speedup, _ = truth(DEEP, found.best.config, there.depth)
    assert there.speedup_low <= speedup <= there.speedup_high
    assert there.tokens_per_second == pytest.approx(there.speedup / (0.1 + 8e-6 * there.depth), rel=0.01)
    assert f"With {there.depth:,} tokens in the context: {there.speedup:.2f}x" in found.sentence
    assert any("read again" in note for note in found.measurement.notes)
    assert from_json(Recommendation, to_json(found)).at_depth == there


def test_without_answers_at_depth_the_ratio_of_costs_is_exact(models):
    """One transcript of three is too few to read again: acceptance is assumed."""
    few = dataclasses.replace(ASKED, prompts=ASKED.prompts[:3])
    found = ask(DEEP, workload=few)
    there = found.at_depth
    assert there.answers == 0
    expected = truth(DEEP, found.best.config, there.depth)[0] / truth(DEEP, found.best.config, 32)[0]
    assert there.speedup / found.best.speedup == pytest.approx(expected, rel=0.05)
    assert any("taken to be that of short contexts" in note for note in found.measurement.notes)


def test_a_draft_that_guesses_worse_with_depth_is_seen(models):
    found = ask(FADING)
    speedup, acceptance = truth(FADING, found.best.config, found.at_depth.depth)
    assert found.best.acceptance_rate - found.at_depth.acceptance_rate > 0.1
    assert found.at_depth.acceptance_rate == pytest.approx(acceptance, abs=0.08)
    assert found.at_depth.speedup_low <= speedup <= found.at_depth.speedup_high
    assert found.at_depth.speedup_high < found.best.speedup_low


def test_where_the_budget_fills_only_a_part_the_line_is_followed(models):
    slow = dataclasses.replace(DEEP, prefill_s=0.5)
    found = ask(slow)
    there = found.at_depth
    assert 500 < there.timed_depth < 2000 < there.depth
    speedup, _ = truth(DEEP, found.best.config, there.depth)
    assert there.speedup_low <= speedup <= there.speedup_high
    assert any("straight line" in note for note in found.measurement.notes)


def test_where_it_fills_nothing_worth_it_that_is_said(models):
    found = ask(dataclasses.replace(DEEP, prefill_s=12.0))
    assert found.at_depth is None
    assert depth.TOO_LITTLE_TIME in found.measurement.notes
    assert "in the context" not in found.sentence


def test_a_context_hardly_longer_than_what_is_measured_is_not_looked_at(models):
    found = ask(DEEP, context=400)
    assert found.at_depth is None
    assert depth.TOO_LITTLE_TIME not in found.measurement.notes


def test_the_first_run_may_take_what_is_kept_for_the_look(models, monkeypatch):
    """What was never seen to work need not be looked at in a long context."""
    one_run = 1.05
    left_s = lambda study, _share: lambda: one_run * study._trial_s(study._plan.trial_prompts)  # noqa: E731
    monkeypatch.setattr(Study, "_until", left_s)
    found = ask(DEEP)
    assert found.best.evidence == "measured"
    assert found.best.config in {trial.config for trial in found.trials}


def test_where_a_whole_run_does_not_fit_one_prompt_shows_the_pick_at_work(models, monkeypatch):
    monkeypatch.setattr(Study, "_until", lambda study, _share: lambda: 1.05 * study._trial_s(1))
    found = ask(DEEP)
    assert [len(trial.prompts) for trial in found.trials] == [1]
    assert found.best.evidence == "measured"
    assert ask(DEEP).trials == found.trials


def test_asked_again_it_comes_from_the_store(models):
    first, second = ask(DEEP), ask(DEEP)
    assert second.measurement.from_store
    assert second.at_depth == first.at_depth


def test_an_ngram_method_is_looked_at_too(models):
    found = ask(dataclasses.replace(DEEP, answer_period=25))
    assert found.best.config.method in METHODS
    assert found.at_depth.speedup > 1


def test_a_servers_pick_is_timed_in_the_server(models):
    found = ask_server([])
    assert found.at_depth.speedup == pytest.approx(found.best.speedup, rel=0.06)  # nothing slows down with depth there
    assert found.at_depth.timed_depth > 3000


def test_sampled_answers_are_not_read_at_depth(models):
    """They were drawn in a short context: what the target would draw in a long one is not known."""
    found = ask(FADING, temperature=0.8)
    assert found.at_depth.answers == 0
    assert found.at_depth.acceptance_rate == found.best.acceptance_rate
    assert any("taken to be that of short contexts" in note for note in found.measurement.notes)


def test_a_draft_elsewhere_is_timed_anew(models):
    class Counts(SimulatedEngine):
        timed = 0

        def time_decodes(self, operations, *rest, **limits):
            self.timed += any(role == "draft" for role, _ in operations)
            return super().time_decodes(operations, *rest, **limits)

    engine, store = Counts(DEEP), Store.in_memory()
    target, settings = dataclasses.replace(SMALL, content_hash="t"), Settings(context=4096, k_max=4, threads=2)
    transcripts = write_transcripts(
        engine, store, target, ASKED.prompts, settings.sampling, context=4096, max_tokens=48, progress=Silent()
    )
    ground = depth.Ground("h", target, Placement(), transcripts, settings, 48)
    best, candidate = make_estimate(SMALL, 1.5, 4, evidence="measured"), make_candidate(SMALL, target)
    elsewhere = dataclasses.replace(candidate, placement=Placement(draft_threads=1))
    engine.open("draft", SMALL, LoadOptions(4096, 2))
    traces = tuple(engine.score(one, RolloutOptions(0.4, 4, 4)) for one in transcripts)
    timed = []
    for one in (candidate, candidate, elsewhere):
        asked = {"reads": True, "trials": [make_trial(best, prompts=2)], "allowance_s": 1000, "name": "n"}
        pick = depth.Pick(best, one, traces, CURRENT)
        assert depth.look(pick, ground, engine, engine, store, **asked, progress=Silent()).found is not None
        timed.append(engine.timed)
    assert timed[0] == timed[1] < timed[2]


def test_an_engine_that_fails_there_leaves_the_answer(models):
    class Fails(SimulatedEngine):
        def time_decodes(self, operations, tokens, depth, *rest, **limits):
            if depth > 1000:
                raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")
            return super().time_decodes(operations, tokens, depth, *rest, **limits)

    found = ask(DEEP, make=Fails)
    assert found.verdict == "speculate"
    assert found.at_depth is None
    assert any("SIGKILL" in note for note in found.measurement.notes)


@pytest.fixture(scope="module")
def real():
    """A target, a draft, and answers to short prompts."""
    engine = LlamaCppPython()
    target, draft = read_model(build(Recipe(30, "Q8_0"))), read_model(build(Recipe(24, "Q8_0")))
    engine.open("target", target, LoadOptions(2048, 2, outputs=17))
    transcripts = write_transcripts(
        engine, Store.in_memory(), target, spread(builtin().prompts)[:6], Settings().sampling,
        context=2048, max_tokens=24, progress=Silent(),
    )  # fmt: skip
    yield engine, target, draft, transcripts
    engine.shutdown()


@pytest.mark.alone
def test_real_caches_are_filled_once_and_reading_goes_on_from_them(real):
    engine, _, _, transcripts = real
    filler = sum((one.prompt_tokens + one.answer_tokens for one in transcripts[2:]), ())[:384]
    there = dataclasses.replace(transcripts[0], prompt_tokens=(*filler, *transcripts[0].prompt_tokens))

    def read() -> tuple[float, Trace]:
        started = time.perf_counter()
        trace = engine.score(there, NO_ROLLOUT, "target")
        return time.perf_counter() - started, trace

    whole_s, whole = read()
    engine.time_decodes([("target", 1)], (*filler, *filler[:8]), len(filler), Settings().sampling, rounds=1, budget_s=1)
    rest_s, rest = read()
    assert rest_s < 0.7 * whole_s
    same = [a == b for a, b in zip(rest.proposal, whole.proposal, strict=True)]
    assert sum(same) >= len(same) - 2  # near-ties may tip with the shape of the batches
    assert sum(a == b for a, b in zip(rest.proposal, rest.answer_tokens, strict=True)) > len(same) / 2


@pytest.mark.alone
def test_real_models_at_depth(real):
    engine, target, draft, transcripts = real
    engine.open("draft", draft, LoadOptions(2048 + 64, 2, sequences=5, outputs=64))
    traces = tuple(engine.score(one, RolloutOptions(0.4, 4, 4)) for one in transcripts)
    best = make_estimate(draft, 1.5, 4, evidence="measured")
    ground = depth.Ground("h", target, Placement(), transcripts, Settings(context=1024, k_max=4, threads=2), 24)
    pick = depth.Pick(best, make_candidate(draft, target), traces, CURRENT)
    trial = make_trial(best, prompts=2)
    store = Store.in_memory()

    def look(allowance_s: float) -> AtDepth | None:
        asked = {"reads": True, "trials": [trial], "allowance_s": allowance_s, "name": "n", "progress": Silent()}
        return depth.look(pick, ground, engine, engine, store, **asked).found

    found = look(1000)
    assert found.depth == found.timed_depth == ground.wanted > 700
    assert found.answers == 3
    assert 0.3 < found.speedup / best.speedup < 2
    assert 0.2 < found.acceptance_rate < 1
    again = look(1)
    assert again == found
