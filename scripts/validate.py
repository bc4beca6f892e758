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
CONTEXT = 1024
KS = (1, 2, 4, 8)
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
        transcripts = _transcripts(engine, target, sampling, prompts=6, max_tokens=96)
        for draft in drafts:
            traces = _replay(engine, target, draft, transcripts)
            for k in KS:
                predicted = pooled([walk(trace, Config("", k), max_tokens=96) for trace in traces])
                runs = [engine.speculate(t.prompt_tokens, Config("", k), sampling, 96) for t in transcripts]
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
        for layers, quant in ((29, "Q8_0"), (29, "Q4_0"), (27, "Q4_K_M"), (24, "Q8_0"), (30, "Q8_0"))
    ]
    configs = [*(Config("", k) for k in KS), Config("", 8, p_min=0.75)]
    engine, sampling, max_tokens, passes = LlamaCppPython(), Sampling(), 64, 4
    transcripts = _transcripts(engine, target, sampling, prompts=passes, max_tokens=max_tokens)
    traces = {draft.content_hash: _replay(engine, target, draft, transcripts) for draft in drafts}
    curves: dict[tuple[Role, str], list[CostCurve]] = {}
    pairs: dict[tuple[str, Config], list[tuple[Run, Run]]] = {}
    for index, transcript in enumerate(transcripts):
        for draft in drafts:
            engine.open("draft", draft, LoadOptions(CONTEXT, THREADS))
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
        threads=THREADS,
        points=curve_points(max(KS) + 1, coarse=False),
        depth=depth,
        text=text_for_timing(transcripts, depth + max(KS) + 1),
        sampling=Sampling(),
        rounds=2,
        budget_s=10,
    )


def check_sweep() -> None:
    target_path, draft_paths = demo_models()
    settings = Settings(budget_s=240, max_tokens=128)
    request = pipeline.Request(target_path, draft_paths, builtin(), settings, fresh=True)
    recommendation = pipeline.recommend(request, Silent())
    print(recommendation.sentence, f"({recommendation.measurement.elapsed_s:.0f} s)", flush=True)
    engine, sampling, max_tokens = LlamaCppPython(), Sampling(), 64
    target = read_model(target_path)
    transcripts = _transcripts(engine, target, sampling, prompts=4, max_tokens=max_tokens)
    ks, p_mins = (1, 2, 3, 4, 6, 8, 12, 16), (0.0, 0.6)
    grid = [(build(recipe), k, p_min) for recipe in DEMO_DRAFTS for k in ks for p_min in p_mins]
    measured: dict[tuple[Path, int, float], float] = {}
    for path, k, p_min in grid:
        engine.open("draft", read_model(path), LoadOptions(CONTEXT, THREADS))
        measured[path, k, p_min] = _measured_speedup(engine, transcripts, Config("", k, p_min), sampling, max_tokens)
        print(f"{path.name:44} k={k:2} p_min={p_min} {measured[path, k, p_min]:.3f}", flush=True)
    best = max(measured, key=lambda cell: measured[cell])
    if recommendation.verdict == "do-not-speculate" or recommendation.best is None:
        print(f"advisor: do not speculate; sweep's best {measured[best]:.3f}")
        return
    pick = recommendation.best.config
    pick_path = Path(recommendation.draft_of(pick).path)
    finalists = {"pick": (pick_path, pick.k, pick.p_min), "sweep's best": best}
    again: dict[str, list[float]] = {name: [] for name in finalists}
    for _ in range(3):  # re-measured turn by turn: the winner of a noisy sweep looks better than it is
        for name, (path, k, p_min) in finalists.items():
            engine.open("draft", read_model(path), LoadOptions(CONTEXT, THREADS))
            config = Config("", k, p_min)
            again[name].append(_measured_speedup(engine, transcripts, config, sampling, max_tokens))
    for name, cell in finalists.items():
        print(f"{name}: {cell[0].name} k={cell[1]} p_min={cell[2]}: {statistics.median(again[name]):.3f} {again[name]}")
    ratio = statistics.median(again["pick"]) / statistics.median(again["sweep's best"])
    print(f"throughput of the pick over the sweep's best: {ratio:.1%}")
    engine.shutdown()


def check_baseline() -> None:
    target, draft = read_model(build(DEMO_TARGET)), read_model(build(DEMO_DRAFTS[0]))
    engine, sampling = LlamaCppPython(), Sampling()
    transcripts = _transcripts(engine, target, sampling, prompts=4, max_tokens=64)
    ratios = []
    for transcript in transcripts * 3:
        alone = engine.answer(transcript.prompt_tokens, sampling, 64)
        engine.open("draft", draft, LoadOptions(CONTEXT, THREADS))
        beside = engine.answer(transcript.prompt_tokens, sampling, 64)
        engine.close("draft")
        ratios.append(beside.decode_s / alone.decode_s)
    print(f"time with a draft loaded over time without: median {statistics.median(ratios):.3f}, all {sorted(ratios)}")
    engine.shutdown()


def _transcripts(
    engine: LlamaCppPython, target: Model, sampling: Sampling, *, prompts: int, max_tokens: int
) -> tuple[Transcript, ...]:
    engine.close("draft")
    engine.open("target", target, LoadOptions(CONTEXT, THREADS))
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
    engine.open("draft", draft, LoadOptions(CONTEXT, THREADS, sequences=ROLLOUT.chains + 1))
    traces = [engine.score(transcript, ROLLOUT) for transcript in transcripts]
    engine.open("target", target, LoadOptions(CONTEXT, THREADS))
    engine.open("draft", draft, LoadOptions(CONTEXT, THREADS))
    return traces


def _measured_speedup(
    engine: LlamaCppPython,
    transcripts: Sequence[Transcript],
    config: Config,
    sampling: Sampling,
    max_tokens: int,
) -> float:
    """Baseline and config turn by turn over the prompts, order alternating; pooled seconds a token."""
    return speedup_of(
        [
            _pair(engine, transcript, config, sampling, max_tokens, run_first=index % 2 == 1)
            for index, transcript in enumerate(transcripts)
        ]
    )


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
