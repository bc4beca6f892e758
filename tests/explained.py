"""Recommendations to explain, measured on the simulated engine, whose truth is known.

simulated()         two models in two quantizations each, one rejected file, texts of the answers
corrected(slower)   the same, with real runs that are not the sum of their parts
pair(match)         one draft that agrees with probability ``match`` at every position
foreseen(...)       a prediction for a named model and machine
sweep()             the drafts of simulated(), every setting timed as a whole
true_speedup(...)   what a config really gives in a world, over prompts that no recommendation has seen
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from advisor import outlook
from advisor.catalog.load import load
from advisor.catalog.names import host_named
from advisor.cost.step_law import CURRENT
from advisor.engines.base import LoadOptions, RolloutOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.predict.belief import shipped
from advisor.predict.places import named_host
from advisor.predict.predictor import Predictor
from advisor.predict.question import Outlook, named_target
from advisor.ranking import answer
from advisor.testing.builders import MIB, make_candidate, make_measurement, make_model, make_recommendation
from advisor.types import (
    AnswerText,
    Baseline,
    Build,
    Config,
    CostCurve,
    Estimate,
    Message,
    Model,
    Recommendation,
    Sampling,
    Settings,
    Transcript,
    Trial,
)

K_MAX, MAX_TOKENS, TOKEN_S = 8, 120, 0.1
CATEGORIES = ("code", "chat", "math")
# t(b) grows by 6 % of a pass a token and steps up by 40 % from 6 to 7 tokens, where another kernel takes over.
TARGET_S = tuple(TOKEN_S * (1 + 0.06 * (b - 1) + (0.4 if b > 6 else 0.0)) for b in range(1, 30))
TARGET = make_model()


def _draft(name: str, quant: str, size: int) -> Model:
    parameters = int(float(name.split("-")[1].removesuffix("B")) * 1e9)
    return make_model(name, quant, weights_bytes=size * MIB, parameters=parameters)


SMALL_Q4, SMALL_Q8 = _draft("Small-0.5B", "Q4_0", 320), _draft("Small-0.5B", "Q8_0", 512)
LARGE_Q4, LARGE_Q8 = _draft("Large-1.5B", "Q4_0", 900), _draft("Large-1.5B", "Q8_0", 1500)
WORLD = World(
    target_s=TARGET_S,
    drafts={
        SMALL_Q4.content_hash: SimulatedDraft(0.005, {"": 0.55}, 0.0005),
        SMALL_Q8.content_hash: SimulatedDraft(0.008, {"": 0.65}, 0.0006),
        LARGE_Q4.content_hash: SimulatedDraft(0.012, {"": 0.80}, 0.0010),
        LARGE_Q8.content_hash: SimulatedDraft(0.022, {"": 0.84}, 0.0015),
    },
    answer_length=MAX_TOKENS,
)
DRAFTS = (SMALL_Q4, SMALL_Q8, LARGE_Q4, LARGE_Q8)


@functools.cache
def simulated() -> Recommendation:
    return measure(WORLD, DRAFTS, prompts=9, trials=(Config(LARGE_Q4.content_hash, 5),))


@functools.cache
def without_a_draft() -> Recommendation:
    """As simulated(), where an n-gram method was measured to be the best."""
    rec = simulated()
    settings = {"acceptance_rate": 0.55, "tokens_per_step": 3.2, "evidence": "measured"}
    measured = dataclasses.replace(rec.best, speedup=2.5, speedup_low=2.4, speedup_high=2.6, **settings)
    methods = [
        dataclasses.replace(
            measured, config=Config("", 8, method=method, ngram_size=4), speedup=speedup, speedup_low=speedup * 0.96
        )
        for method, speedup in (("ngram-mod", 2.5), ("ngram-simple", 1.2))
    ]
    found = answer([*rec.estimates, *methods], rec.candidates)
    return dataclasses.replace(
        rec, estimates=found.ranked, sentence=found.sentence, best=found.best, runner_up=found.runner_up
    )


@functools.cache
def corrected(slower: float) -> Recommendation:
    """As simulated(), with real runs that are slower than their parts, or faster."""
    return measure(WORLD, DRAFTS, prompts=9, trials=(Config(LARGE_Q4.content_hash, 5),), slower=slower)


@functools.cache
def pair(match: float, prompts: int = 12) -> Recommendation:
    return measure(pair_world(match), (SMALL_Q8,), prompts=prompts)


def pair_world(match: float) -> World:
    drafts = {SMALL_Q8.content_hash: SimulatedDraft(0.008, {"": match}, 0.0006)}
    return World(target_s=TARGET_S, drafts=drafts, answer_length=MAX_TOKENS)


@functools.cache
def foreseen(target: str = "qwen2.5-72b-q8", host: str = "m4-max-128gb", **asked: Any) -> Recommendation:
    """What is known before a file is there."""
    catalog = load()
    model, entry = named_target(target, catalog, lambda note: None)
    host_entry, memory_gib = host_named(host, catalog)
    machine = named_host(host_entry, memory_gib)
    build = Build("llama-server", "current")
    question = Outlook(model, entry, machine, host_entry, build, Settings(), **asked)
    return outlook.foresee(question, catalog, shipped())


@functools.cache
def sweep() -> Recommendation:
    """Twelve settings timed as wholes, each beside its baseline."""
    grid = tuple(Config(draft.content_hash, k) for draft in DRAFTS for k in (2, 4, 8))
    rec = measure(WORLD, DRAFTS, prompts=4, trials=grid)
    found = answer([_as_timed(trial) for trial in rec.trials], rec.candidates)
    return dataclasses.replace(
        rec,
        estimates=found.ranked,
        verdict=found.verdict,
        sentence=found.sentence,
        best=found.best,
        runner_up=found.runner_up,
        traces={},
        target_curve=CostCurve(0, (TOKEN_S,), {}),
        draft_curves={},
        answers=(),
    )


def _as_timed(trial: Trial) -> Estimate:
    steps, tokens = sum(run.steps for run in trial.runs), sum(run.tokens - 1 for run in trial.runs)
    plain_s, own_s = (sum(run.decode_s for run in runs) for runs in (trial.baselines, trial.runs))
    rate = sum(run.accepted for run in trial.runs) / sum(run.drafted for run in trial.runs)
    speedup = plain_s / own_s
    by_category = {
        CATEGORIES[prompt % len(CATEGORIES)]: plain.decode_s / run.decode_s
        for prompt, run, plain in zip(trial.prompts, trial.runs, trial.baselines, strict=True)
    }
    return Estimate(
        trial.config, rate, tokens / steps, speedup, speedup * 0.97, speedup * 1.03, speedup / TOKEN_S, "measured",
        speedup, speedup_by_category=by_category,
    )  # fmt: skip


def measure(
    world: World, drafts: Sequence[Model], *, prompts: int, trials: Sequence[Config] = (), slower: float = 1.0
) -> Recommendation:
    """Answers, replays, curves and real runs of the simulated engine, and the recommendation they give. Speculative
    runs take ``slower`` times what their decodes do: in the engine itself they are the sum of their parts."""
    engine = SimulatedEngine(world)
    transcripts = [_transcript(engine, number) for number in range(prompts)]
    rollout = RolloutOptions(p_min=0.4, length=K_MAX, chains=8)
    traces, curves = {}, {}
    target_curve = _curve(engine, "target")
    for draft in drafts:
        engine.open("draft", draft, LoadOptions(4096, 1))
        traces[draft.content_hash] = tuple(engine.score(transcript, rollout) for transcript in transcripts)
        curves[draft.content_hash] = _curve(engine, "draft")
    runs = tuple(_slowed(_trial(engine, config, drafts, transcripts), slower) for config in trials)
    predictor = Predictor(traces, target_curve, curves, CURRENT, k_max=K_MAX, max_tokens=MAX_TOKENS)
    candidates = tuple(make_candidate(draft, TARGET) for draft in drafts)
    found = answer(predictor.estimates(runs, 1 / TOKEN_S), candidates)
    return make_recommendation(
        target=TARGET,
        build=Build("simulated", "1"),
        settings=Settings(k_max=K_MAX, max_tokens=MAX_TOKENS),
        categories=CATEGORIES,
        baseline=Baseline(1 / TOKEN_S, TOKEN_S, "measured" if runs else "replay"),
        candidates=candidates,
        estimates=found.ranked,
        verdict=found.verdict,
        sentence=found.sentence,
        best=found.best,
        runner_up=found.runner_up,
        traces=traces,
        target_curve=target_curve,
        draft_curves=curves,
        trials=runs,
        measurement=make_measurement(prompts=prompts, answer_tokens=prompts * MAX_TOKENS, trials=len(runs)),
        answers=tuple(AnswerText(t.category, tuple(f" w{token}" for token in t.answer_tokens)) for t in transcripts),
    )


def true_speedup(world: World, config: Config, draft: Model, prompts: int = 400) -> float:
    engine = SimulatedEngine(world)
    engine.open("draft", draft, LoadOptions(4096, 1))
    plain_s = own_s = 0.0
    for number in range(1000, 1000 + prompts):
        prompt = engine.tokenize((Message("user", f"question {number}"),))
        plain_s += engine.answer(prompt, Sampling(), MAX_TOKENS).decode_s
        own_s += engine.speculate(prompt, config, Sampling(), MAX_TOKENS).decode_s
    return plain_s / own_s


def _transcript(engine: SimulatedEngine, number: int) -> Transcript:
    prompt = engine.tokenize((Message("user", f"question {number}"),))
    tokens = engine.answer(prompt, Sampling(), MAX_TOKENS).answer_tokens
    return Transcript(CATEGORIES[number % len(CATEGORIES)], prompt, tokens, ended=False)


def _curve(engine: SimulatedEngine, role) -> CostCurve:
    points = range(1, K_MAX + 2)
    rounds = engine.time_decodes(
        [("target", 1), *((role, b) for b in points)], (), 64, Sampling(), rounds=3, budget_s=1
    )
    return CostCurve(64, tuple(r[0] for r in rounds), {b: tuple(r[b] for r in rounds) for b in points})


def _slowed(trial: Trial, slower: float) -> Trial:
    runs = tuple(dataclasses.replace(run, decode_s=run.decode_s * slower) for run in trial.runs)
    return dataclasses.replace(trial, runs=runs)


def _trial(
    engine: SimulatedEngine, config: Config, drafts: Sequence[Model], transcripts: Sequence[Transcript]
) -> Trial:
    engine.open("draft", next(d for d in drafts if d.content_hash == config.draft), LoadOptions(4096, 1))
    prompts = tuple(range(4))
    asked = [transcripts[i].prompt_tokens for i in prompts]
    runs = tuple(engine.speculate(prompt, config, Sampling(), MAX_TOKENS) for prompt in asked)
    return Trial(config, prompts, runs, tuple(engine.answer(prompt, Sampling(), MAX_TOKENS) for prompt in asked))
