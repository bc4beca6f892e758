"""Hold the predictions against real runs on the zoo, and print the tables.

    python scripts/validate.py replay     replayed acceptance against the real speculative loop
    python scripts/validate.py speedup    predicted (replay + curves) against measured speedup, interleaved
    python scripts/validate.py sweep      the demo's pick against an exhaustive sweep of the demo's drafts
    python scripts/validate.py baseline   the target's speed with and without a draft loaded beside it

Nothing is taken from the store: every number is measured now.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from advisor import pipeline
from advisor.acceptance.transcripts import spread, write_transcripts
from advisor.acceptance.walk import pooled, walk
from advisor.cost.curves import curve_points, measure_curve, merged, text_for_timing, typical_depth
from advisor.cost.step_law import CURRENT
from advisor.engines.base import LoadOptions, Role, RolloutOptions
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.gguf import read_model
from advisor.predict.predictor import Predictor
from advisor.progress import Silent
from advisor.search import speedup_of
from advisor.store import Store
from advisor.testing.zoo import DEMO_DRAFTS, DEMO_TARGET, Recipe, build, demo_models
from advisor.types import Config, CostCurve, Model, Run, Sampling, Settings, Trace, Transcript
from advisor.workload import builtin

THREADS = 2
PER_BASELINE = 4  # configs of a sweep that share a baseline run
CONTEXT = 1024
KS = (1, 2, 4, 8)
REPLAY_PROMPTS, REPLAY_TOKENS = 24, 64  # texts part at near-ties: many short answers, so that none weighs much
ROLES: tuple[Role, ...] = ("target", "draft")
ROLLOUT = RolloutOptions(p_min=0.4, length=16, chains=8)


def main(arguments: Sequence[str]) -> int:
    commands = {"replay": check_replay, "speedup": check_speedup, "sweep": check_sweep, "baseline": check_baseline}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(__doc__)
        return 2
    commands[arguments[0]]()
    return 0


def check_replay() -> None:
    target = read_model(build(Recipe(30, "F16")))
    drafts = [
        read_model(build(Recipe(layers, quant)))
        for layers, quant in ((29, "Q8_0"), (27, "Q4_K_M"), (24, "Q8_0"), (30, "Q2_K"))
    ]
    engine = LlamaCppPython()
    print(f"{'T':>4} {'draft':34} {'k':>2} {'tokens':>6} {'accepted':>17} {'steps':>17}   (replay / real loop)")
    for temperature in (0.0, 0.8):
        sampling = Sampling(temperature=temperature)
        transcripts = _transcripts(engine, target, sampling, prompts=REPLAY_PROMPTS, max_tokens=REPLAY_TOKENS)
        for draft in drafts:
            traces = _replay(engine, target, draft, transcripts)
            for k in KS:
                predicted = pooled([walk(trace, Config("", k), max_tokens=REPLAY_TOKENS) for trace in traces])
                runs = [engine.speculate(t.prompt_tokens, Config("", k), sampling, REPLAY_TOKENS) for t in transcripts]
                accepted, steps = sum(run.accepted for run in runs), sum(run.steps for run in runs)
                print(
                    f"{temperature:4} {draft.label:34} {k:2} {sum(run.tokens for run in runs):6} "
                    f"{predicted.accepted:6} {accepted:5} {_percent(predicted.accepted, accepted)} "
                    f"{predicted.steps:6} {steps:5} {_percent(predicted.steps, steps)}",
                    flush=True,
                )
                _TOTALS.setdefault(f"T = {temperature}", []).append(
                    (predicted.accepted, accepted, predicted.steps, steps)
                )
    for name, rows in _TOTALS.items():
        sums = np.array(rows).sum(axis=0)
        print(f"{name}: pooled accepted {_percent(*sums[:2])}, steps {_percent(*sums[2:])}")
    engine.shutdown()


_TOTALS: dict[str, list[tuple[int, int, int, int]]] = {}


def check_speedup() -> None:
    """Curves and runs are measured in the same minutes, pass by pass: what is tested is the prediction, not how much
    the machine changed between the two."""
    target = read_model(build(DEMO_TARGET))
    drafts = [
        read_model(build(Recipe(layers, quant)))
        for layers, quant in ((29, "Q8_0"), (29, "Q4_0"), (27, "Q5_0"), (24, "Q8_0"), (30, "Q8_0"))
    ]
    configs = [*(Config("", k) for k in KS[1:]), Config("", 8, p_min=0.75)]
    engine, sampling, max_tokens, passes = LlamaCppPython(), Sampling(), 64, 3
    transcripts = _transcripts(engine, target, sampling, prompts=passes, max_tokens=max_tokens)
    traces = {draft.content_hash: _replay(engine, target, draft, transcripts) for draft in drafts}
    curves: dict[tuple[Role, str], list[CostCurve]] = {}
    pairs: dict[tuple[str, Config], list[tuple[Run, Run]]] = {}
    for index, transcript in enumerate(transcripts):
        for draft in drafts:
            engine.open("draft", draft, LoadOptions(CONTEXT, THREADS, outputs=17))
            for role in ROLES:
                curves.setdefault((role, draft.content_hash), []).append(
                    _curve(engine, {"target": target, "draft": draft}, role, transcripts)
                )
            for config in configs:
                pair = _pair(engine, transcript, config, sampling, max_tokens, run_first=index % 2 == 1)
                pairs.setdefault((draft.content_hash, config), []).append(pair)
    predictor = Predictor(
        traces,
        merged([curve for (role, _), visits in curves.items() if role == "target" for curve in visits]),
        {draft: merged(visits) for (role, draft), visits in curves.items() if role == "draft"},
        CURRENT,
        k_max=max(KS),
        max_tokens=max_tokens,
    )
    errors = []
    print(f"{'draft':34} {'k':>2} {'p_min':>5} {'predicted':>9} {'measured':>9} {'error':>7}")
    for draft in drafts:
        for config in configs:
            predicted = predictor.analytics[replace(config, draft=draft.content_hash)].speedup
            measured = speedup_of(pairs[draft.content_hash, config])
            errors.append(abs(predicted / measured - 1))
            print(
                f"{draft.label:34} {config.k:2} {config.p_min:5} {predicted:9.3f} {measured:9.3f} "
                f"{predicted / measured - 1:+7.1%}"
            )
    print(
        f"{len(errors)} cells: median error {statistics.median(errors):.1%}, "
        f"90th percentile {float(np.quantile(errors, 0.9)):.1%}, largest {max(errors):.1%}"
    )
    engine.shutdown()


def _curve(
    engine: LlamaCppPython, models: dict[Role, Model], role: Role, transcripts: Sequence[Transcript]
) -> CostCurve:
    depth = typical_depth(transcripts)
    return measure_curve(
        engine,
        Store.in_memory(),
        models,
        role,
        host="here",
        loading={"threads": THREADS},
        points=curve_points(max(KS) + 1, coarse=False),
        depth=depth,
        text=text_for_timing(transcripts, depth + max(KS) + 1),
        sampling=Sampling(),
        rounds=2,
        budget_s=10,
    )


def check_sweep() -> None:
    """Every draft of the demo at every k and two p_min, then the best of them again beside the advisor's pick."""
    target_path, draft_paths = demo_models()
    request = pipeline.Request(target_path, draft_paths, builtin(), Settings(budget_s=240), fresh=True)
    recommendation = pipeline.recommend(request, Silent())
    print(recommendation.sentence, f"({recommendation.measurement.elapsed_s:.0f} s)", flush=True)
    engine, sampling, max_tokens = LlamaCppPython(), Sampling(), 40
    target = read_model(target_path)
    transcripts = _transcripts(engine, target, sampling, prompts=6, max_tokens=max_tokens)
    configs = [Config("", k, p_min) for k in (1, 2, 3, 4, 6, 8, 12, 16) for p_min in (0.0, 0.6)]
    measured: dict[tuple[Path, Config], float] = {}
    for path in draft_paths:
        engine.open("draft", read_model(path), LoadOptions(CONTEXT, THREADS, outputs=17))
        for some in (configs[i : i + PER_BASELINE] for i in range(0, len(configs), PER_BASELINE)):
            for config, speedup in _swept(engine, transcripts[:2], some, sampling, max_tokens).items():
                measured[path, config] = speedup
                print(f"{path.name:44} k={config.k:2} p_min={config.p_min} {speedup:.3f}", flush=True)
    print(f"{len(measured)} cells swept; the best were, before they are measured again:")
    finalists = sorted(measured, key=lambda cell: -measured[cell])[:5]
    if recommendation.best is None:
        print(f"The advisor says: do not speculate. The sweep's best read {measured[finalists[0]]:.3f}.")
        return
    pick = recommendation.best.config
    cell = (Path(recommendation.draft_of(pick).path), replace(pick, draft=""))
    finalists = [cell, *(other for other in finalists if other != cell)]
    again: dict[tuple[Path, Config], list[tuple[Run, Run]]] = {}
    for index, transcript in enumerate(transcripts):  # turn by turn: the winner of a noisy sweep looks too good
        for path, config in finalists:
            engine.open("draft", read_model(path), LoadOptions(CONTEXT, THREADS, outputs=17))
            pair = _pair(engine, transcript, config, sampling, max_tokens, run_first=index % 2 == 1)
            again.setdefault((path, config), []).append(pair)
    for path, config in finalists:
        name = "pick" if (path, config) == cell else "    "
        rate = _tokens_per_s(again[path, config])
        print(
            f"{name} {path.name:44} k={config.k:2} p_min={config.p_min} swept {measured.get((path, config), 0):.3f} "
            f"again {speedup_of(again[path, config]):.3f}, {rate:.2f} tok/s"
        )
    best = max(_tokens_per_s(pairs) for pairs in again.values())
    print(f"throughput of the pick over the best: {_tokens_per_s(again[cell]) / best:.1%}")
    engine.shutdown()


def _swept(
    engine: LlamaCppPython,
    transcripts: Sequence[Transcript],
    configs: Sequence[Config],
    sampling: Sampling,
    max_tokens: int,
) -> dict[Config, float]:
    """A few configs prompt by prompt beside one baseline: coarser than pairs; the best are measured again as pairs."""
    pairs: dict[Config, list[tuple[Run, Run]]] = {}
    for transcript in transcripts:
        base = engine.answer(transcript.prompt_tokens, sampling, max_tokens)
        for config in configs:
            run = engine.speculate(transcript.prompt_tokens, config, sampling, max_tokens)
            pairs.setdefault(config, []).append((base, run))
    return {config: speedup_of(runs) for config, runs in pairs.items()}


def _tokens_per_s(pairs: Sequence[tuple[Run, Run]]) -> float:
    return sum(run.tokens - 1 for _, run in pairs) / sum(run.decode_s for _, run in pairs)


def check_baseline() -> None:
    target, draft = read_model(build(DEMO_TARGET)), read_model(build(DEMO_DRAFTS[0]))
    engine, sampling = LlamaCppPython(), Sampling()
    transcripts = _transcripts(engine, target, sampling, prompts=4, max_tokens=64)
    ratios = []
    for transcript in transcripts * 3:
        alone = engine.answer(transcript.prompt_tokens, sampling, 64)
        engine.open("draft", draft, LoadOptions(CONTEXT, THREADS, outputs=17))
        beside = engine.answer(transcript.prompt_tokens, sampling, 64)
        engine.close("draft")
        ratios.append(beside.decode_s / alone.decode_s)
    print(f"time with a draft loaded over time without: median {statistics.median(ratios):.3f}, all {sorted(ratios)}")
    engine.shutdown()


def _transcripts(
    engine: LlamaCppPython, target: Model, sampling: Sampling, *, prompts: int, max_tokens: int
) -> tuple[Transcript, ...]:
    engine.close("draft")
    engine.open("target", target, LoadOptions(CONTEXT, THREADS, outputs=17))
    return write_transcripts(
        engine,
        Store.in_memory(),
        target,
        spread(builtin().prompts)[:prompts],
        sampling,
        context=CONTEXT,
        max_tokens=max_tokens,
        progress=Silent(),
    )


def _replay(engine: LlamaCppPython, target: Model, draft: Model, transcripts: Sequence[Transcript]) -> list[Trace]:
    """Traces of a draft; afterwards the engine holds it as it is deployed, one sequence."""
    engine.open("draft", draft, LoadOptions(CONTEXT, THREADS, sequences=ROLLOUT.chains + 1, outputs=64))
    traces = [engine.score(transcript, ROLLOUT) for transcript in transcripts]
    engine.open("target", target, LoadOptions(CONTEXT, THREADS, outputs=17))
    engine.open("draft", draft, LoadOptions(CONTEXT, THREADS, outputs=17))
    return traces


def _pair(
    engine: LlamaCppPython,
    transcript: Transcript,
    config: Config,
    sampling: Sampling,
    max_tokens: int,
    *,
    run_first: bool,
) -> tuple[Run, Run]:
    """(baseline, speculative run), one right after the other."""
    early = engine.speculate(transcript.prompt_tokens, config, sampling, max_tokens) if run_first else None
    base = engine.answer(transcript.prompt_tokens, sampling, max_tokens)
    return base, early or engine.speculate(transcript.prompt_tokens, config, sampling, max_tokens)


def _percent(predicted: float, measured: float) -> str:
    return f"{predicted / measured - 1:+.1%}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
