"""Each part of the benchmarks on the real engine and the zoo, as Markdown lines."""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from advisor import pipeline
from advisor.acceptance.replay import P_MIN_GRID
from advisor.engines.find_server import PACKAGED, Program
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.llama_server import LlamaServer
from advisor.exporters import llama_server
from advisor.gguf import read_model
from advisor.predict.belief import shipped
from advisor.predict.evidence import probed_cpu
from advisor.progress import Silent
from advisor.testing.zoo import DEMO_DRAFTS, DEMO_TARGET, Recipe, base_model, build
from advisor.types import Config, Host, Model, Recommendation, Sampling, Settings, Transcript
from advisor.workload import builtin
from benchmarks import (
    acceptance,
    answer,
    busy,
    checkout,
    first,
    fleet,
    fleet_report,
    grid,
    ngram,
    report,
    rules,
    rungs,
    scaling,
    served,
    server_loop,
    shared_search,
    sweep,
    turns,
)
from benchmarks.measure import Bench
from benchmarks.served import ServedEngine

DOCS = checkout.ROOT / "docs"
IMAGES = DOCS / "images"
SAMPLED_SHARE = 0.15
FINAL_TOKENS = 256
SCREENS: tuple[tuple[int, int, tuple[float, ...]], ...] = ((32, 12, ()), (128, 4, (0.0, 0.6)))
QUICK, LONG_BUDGET, DEMO_BUDGET_S = "--quick", "5m", 210.0
ERROR_PASSES, ERROR_TOKENS = 8, 32
BRIEF_PROMPTS, FINAL_PROMPTS, DEMO_TOKENS, DEMO_FINALISTS = 2, 4, 32, 4
SHORT_TOKENS = 48
TEMPERATURES = (0.0, 0.8)
RULE_TEMPERATURES = (0.6, 1.0)
LOOP_K, LOOP_PROMPTS, LOOP_TOKENS = (2, 4, 8), 8, 48
SERVED_BUDGET_S = 420.0
BASELINE_PROMPTS, BASELINE_REPEATS = 4, 3


def time_to_answer(host: Host, seed: int) -> Iterator[str]:
    """The first answer against the sweep that it replaces: half of the sampled cells run before it, half after."""
    long = _long_answers(host.cores_usable)
    cells = sweep.grid(long.drafts, grid.SWEPT_K)
    chosen = sweep.sample(cells, SAMPLED_SHARE, seed)
    half = len(chosen) // 2
    baseline = long.time_cell(None)
    timed = [long.time_cell(one) for one in chosen[:half]]
    answered = long.answered
    timed += [long.time_cell(one) for one in chosen[half:]]
    yield from report.time_to_answer(answered, sweep.extrapolate(len(cells), timed, baseline.wall_s), seed)


def regret(host: Host, _seed: int) -> Iterator[str]:
    """The pick of the same first answer against the best of the sweep."""
    long = _long_answers(host.cores_usable)
    recommendation = long.answered.recommendation
    cells = sweep.grid(long.drafts, grid.SWEPT_K)
    screens = [sweep.Screen(long.transcripts, tokens, kept, p_mins) for tokens, kept, p_mins in SCREENS]
    bench = long.start(recommendation.settings.threads)
    yield "The pick is that of the first answer: `advisor recommend --quick`, as in the time to answer."
    yield ""
    yield from _against_sweep(recommendation, bench, long.drafts, cells, screens, long.transcripts, FINAL_TOKENS)


class _LongAnswers:
    """The target, its drafts and three long answers, as draftbench sweeps them, and what the command says of them."""

    def __init__(self, threads: int) -> None:
        self._target_path, self._draft_paths = grid.swept_models()
        self._target, self._threads = read_model(self._target_path), threads
        self.drafts = _by_hash(self._draft_paths)
        bench = self.start()
        self.transcripts = bench.transcripts(grid.long_answers(), prompts=3, max_tokens=FINAL_TOKENS)
        bench.engine.shutdown()  # no second model is open while something is timed

    def start(self, threads: int = 0) -> Bench:
        """0 ``threads``: as many as there are cores."""
        return Bench(LlamaCppPython(), self._target, context=grid.LONG_CONTEXT, threads=threads or self._threads)

    def time_cell(self, config: Config | None) -> sweep.Timed:
        """None: the target alone."""
        draft, k = (self.drafts[config.draft], config.k) if config else (None, 0)
        return _told(sweep.time_cell(self.start, draft, k, self.transcripts, grid.LONG_TOKENS))

    def question(self, *more: str) -> answer.Question:
        """``more``: words of the command line beside the limits."""
        limits = ("--context", str(grid.LONG_CONTEXT), "--max-tokens", str(grid.LONG_TOKENS))
        prompts = grid.long_answers_jsonl()
        return answer.Question(self._target_path, self._draft_paths, LONG_BUDGET, (*limits, *more), prompts)

    @functools.cached_property
    def answered(self) -> answer.Answered:
        return answer.recommend(self.question(QUICK))


@functools.cache
def _long_answers(threads: int) -> _LongAnswers:
    """One for the time and the regret: both are judged of one answer where both are measured."""
    return _LongAnswers(threads)


def busy_machine(host: Host, _seed: int) -> Iterator[str]:
    """The demo's question beside processes that spin, then its picks once they are gone."""
    target, drafts = grid.swept_models()
    question, rows = answer.Question(target, drafts, f"{DEMO_BUDGET_S:g}s"), []
    for processes in busy.SPINNING:
        rows.append(busy.ask_beside(processes, question))
        _tell(f"{processes} spinning: {rows[-1].ended.wall_s:.1f} s")
    bench = Bench(LlamaCppPython(), read_model(target), threads=host.cores_usable)
    texts = bench.transcripts(builtin(), prompts=FINAL_PROMPTS, max_tokens=SHORT_TOKENS)
    ran = turns.in_turns(bench, _by_hash(drafts), busy.picks(rows), texts, SHORT_TOKENS)
    bench.engine.shutdown()
    yield from report.busy_machine(rows, ran, DEMO_BUDGET_S, len(drafts))


def first_answer(host: Host, _seed: int) -> Iterator[str]:
    """The first answer and the answer of an older commit, in turns, then the picks of both."""
    if not checkout.has(checkout.ROOT, first.OLD):
        yield f"Not measured: this repository has no commit {first.OLD} to compare with (a shallow clone has none)."
        return
    long, rounds = _long_answers(host.cores_usable), []
    with checkout.worktree(checkout.ROOT, first.OLD) as old:
        for _ in range(first.ROUNDS):
            new = answer.recommend(long.question(QUICK))
            rounds.append(first.Round(new, answer.recommend(long.question(), old)))
            _tell(f"first answer: {new.wall_s:.1f} s; {first.OLD}: {rounds[-1].old.wall_s:.1f} s")
    bench, picks, judged = long.start(), first.picks(rounds), first.new_picks(rounds)
    found = turns.contest(bench, long.drafts, picks, judged, long.transcripts, FINAL_TOKENS)
    bench.engine.shutdown()
    yield from report.first_answer(rounds, found, FINAL_TOKENS)


def prediction_errors(host: Host, _seed: int) -> Iterator[str]:
    target, drafts = grid.compared_models()
    bench = Bench(LlamaCppPython(), read_model(target), threads=host.cores_usable)
    models = [read_model(path) for path in drafts]
    workload = builtin()
    truth = rungs.measure(
        bench,
        models,
        rungs.CONFIGS,
        workload,
        passes=ERROR_PASSES,
        max_tokens=ERROR_TOKENS,
        answers=len(workload.prompts),
    )
    bench.engine.shutdown()
    yield from report.errors(
        rungs.rungs(truth, machine=probed_cpu(host), posterior=shipped()), rungs.cells(truth), rungs.noise(truth)
    )


def real_server(host: Host, _seed: int) -> Iterator[str]:
    """The in-process loop, and the cost model under forced acceptance, against the real server."""
    target_path, drafts = grid.compared_models()
    target, draft, engine = read_model(target_path), read_model(drafts[0]), ServedEngine()
    bench = Bench(LlamaCppPython(), target, threads=host.cores_usable)
    beside = Bench(engine, target, threads=host.cores_usable)
    transcripts = bench.transcripts(builtin(), prompts=LOOP_PROMPTS, max_tokens=LOOP_TOKENS)
    configs = [Config(draft.content_hash, k) for k in LOOP_K]
    bench.open(draft)
    beside.open(draft)
    yield f"The server: {engine.build.engine} {engine.build.version}."
    yield ""
    yield from report.loops(list(server_loop.loops(bench, beside, draft, configs, transcripts, LOOP_TOKENS)))
    bench.engine.shutdown()
    yield ""
    rates = server_loop.FORCED_RATES
    found = list(server_loop.forced(beside, engine.server, draft, rates, transcripts, LOOP_TOKENS))
    engine.shutdown()
    yield from report.forced(found)


def served_acceptance(host: Host, _seed: int) -> Iterator[str]:
    """Replayed acceptance against what the real server counts."""
    target, drafts = grid.replayed_models()
    bench = Bench(ServedEngine(), read_model(target), threads=host.cores_usable)
    rows = []
    for row in acceptance.compare(bench, [read_model(path) for path in drafts], builtin()):
        rows.append(row)
        _tell(f"{row.draft}, k = {row.k}: {row.every.replayed_accepted} / {row.every.accepted} accepted")
    bench.engine.shutdown()
    yield from report.compared(rows)


def served_recommendation(host: Host, _seed: int) -> Iterator[str]:
    """A recommendation through the server: its intervals and its command line."""
    target_path, draft_paths = grid.swept_models()
    settings = Settings(budget_s=SERVED_BUDGET_S)
    rec = pipeline.recommend(
        pipeline.Request(target_path, draft_paths, builtin(), settings, fresh=True, server=""), Silent()
    )
    bench = Bench(ServedEngine(), read_model(target_path), context=settings.context, threads=host.cores_usable)
    transcripts = bench.transcripts(builtin(), prompts=FINAL_PROMPTS, max_tokens=SHORT_TOKENS)
    found = []
    for one in served.check(bench, rec, _by_hash(draft_paths), transcripts, SHORT_TOKENS):
        found.append(one)
        _tell(f"{one.label}: {one.estimate.speedup:.2f}x predicted, {one.measured:.2f}x measured")
    bench.engine.shutdown()
    drafted = served.drafted_by(llama_server.command(rec), transcripts[0].prompt_tokens, SHORT_TOKENS)
    yield from report.served(rec, found, drafted)


def growth(host: Host, _seed: int) -> Iterator[str]:
    target, drafts = grid.swept_models()
    bench = Bench(LlamaCppPython(), read_model(target), threads=host.cores_usable)
    found = scaling.measure(bench, [read_model(path) for path in drafts], builtin())
    bench.engine.shutdown()
    image = IMAGES / "benchmark-scaling.png"
    report.plot(found, image)
    yield from report.growth(found)
    yield f"![growth of the stages](images/{image.name})"


def replay(host: Host, _seed: int) -> Iterator[str]:
    """Replayed acceptance against the real loop, greedy and sampled."""
    target, drafts = grid.replayed_models()
    for temperature in TEMPERATURES:
        bench = Bench(
            LlamaCppPython(),
            read_model(target),
            threads=host.cores_usable,
            sampling=Sampling(temperature=temperature),
        )
        rows = []
        for row in acceptance.compare(bench, [read_model(path) for path in drafts], builtin()):
            rows.append(row)
            counts = f"{row.every.replayed_accepted} / {row.every.accepted}"
            _tell(f"T = {temperature:g}, {row.draft}, k = {row.k}: {counts} accepted")
        bench.engine.shutdown()
        yield from report.compared(rows)


def rules_of_verification(host: Host, _seed: int) -> Iterator[str]:
    """Sample-and-match and rejection sampling, replayed and real."""
    target, rows = read_model(build(Recipe(30, "Q8_0"))), []
    drafts = [read_model(build(Recipe(layers, "Q8_0"))) for layers in (27, 24)]
    server = LlamaServer(Program(PACKAGED, "packaged"), extra_buffers=False)
    for temperature in RULE_TEMPERATURES:
        bench = Bench(LlamaCppPython(), target, threads=host.cores_usable, sampling=Sampling(temperature=temperature))
        for row in rules.judge(bench, server, drafts, builtin()):
            rows.append(row)
            _tell(f"T = {row.temperature:g}, {row.draft}, {row.rule}: {row.replayed:.3f} / {row.served:.3f} accepted")
        bench.engine.shutdown()
    server.shutdown()
    yield from report.judged(rows)


def demo_sweep(_host: Host, _seed: int) -> Iterator[str]:
    """The demo's pick against every draft of the demo at every length, with p_min and without."""
    target_path, draft_paths = grid.swept_models()
    request = pipeline.Request(target_path, draft_paths, builtin(), Settings(budget_s=DEMO_BUDGET_S), fresh=True)
    recommendation = pipeline.recommend(request, Silent())
    drafts = _by_hash(draft_paths)
    bench = Bench(LlamaCppPython(), read_model(target_path))
    texts = bench.transcripts(builtin(), prompts=FINAL_PROMPTS, max_tokens=SHORT_TOKENS)
    cells = [
        Config(draft, k, p_min) for draft in drafts for k in grid.SWEPT_K for p_min in (P_MIN_GRID[0], P_MIN_GRID[2])
    ]
    screens = [sweep.Screen(texts[:BRIEF_PROMPTS], DEMO_TOKENS, DEMO_FINALISTS)]
    yield from _against_sweep(recommendation, bench, drafts, cells, screens, texts, SHORT_TOKENS)


def _against_sweep(
    recommendation: Recommendation,
    bench: Bench,
    drafts: turns.Drafts,
    cells: Sequence[Config],
    screens: Sequence[sweep.Screen],
    texts: Sequence[Transcript],
    tokens: int,
) -> Iterator[str]:
    """The pick against the best of ``cells``, over so many ``tokens`` of ``texts``. The bench is shut down."""
    if recommendation.best is None:
        bench.engine.shutdown()
        yield f"The advisor said: {recommendation.sentence}"
        return
    left = sweep.screened(bench, drafts, cells, screens)
    found = sweep.finals(bench, drafts, left, recommendation.best.config, texts, tokens)
    bench.engine.shutdown()
    yield from report.regret_of(found, recommendation, screens, len(cells), tokens)


def ngram_methods(host: Host, _seed: int) -> Iterator[str]:
    yield from report.ngram(ngram.compare(base_model(), threads=host.cores_usable))


def baseline(_host: Host, _seed: int) -> Iterator[str]:
    """The target's own speed with and without a draft loaded beside it."""
    bench, draft = Bench(LlamaCppPython(), read_model(build(DEMO_TARGET))), read_model(build(DEMO_DRAFTS[0]))
    transcripts = bench.transcripts(builtin(), prompts=BASELINE_PROMPTS, max_tokens=ERROR_TOKENS)
    ratios = []
    for transcript in transcripts * BASELINE_REPEATS:
        bench.open(None)
        alone = bench.answer(transcript, ERROR_TOKENS)
        bench.open(draft)
        ratios.append(bench.answer(transcript, ERROR_TOKENS).decode_s / alone.decode_s)
    bench.engine.shutdown()
    yield (
        f"Time with a draft loaded over time without: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f} over {len(ratios)} pairs."
    )


def many_machines(host: Host, _seed: int) -> Iterator[str]:
    """A simulated fleet; writes the figures of docs/fleet.md and draws docs/images/fleet.svg."""
    replays = fleet.replays(fleet.WORKERS, fleet.PAIRS, fleet.REPLAY_S)
    prices = fleet.prices(fleet.PRICING_WORKERS, fleet.PAIRS, fleet.HOSTS)
    fleet_report.picture(replays, prices, IMAGES / "fleet.svg")
    figures = list(fleet_report.lines(host, replays, prices, shared_search.measure()))
    fleet_report.write(DOCS / "fleet.md", "\n".join(figures))
    yield from figures


def _by_hash(paths: Sequence[Path]) -> dict[str, Model]:
    models = [read_model(path) for path in paths]
    return {model.content_hash: model for model in models}


def _told(timed: sweep.Timed) -> sweep.Timed:
    _tell(f"{timed.draft}, k = {timed.k}: {timed.wall_s:.1f} s, {timed.tokens} tokens")
    return timed


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


Part = Callable[[Host, int], Iterator[str]]
DOCUMENTED: dict[str, tuple[str, Part]] = {
    "answer": ("Time to answer", time_to_answer),
    "regret": ("Regret", regret),
    "busy": ("An answer on a machine that is in use", busy_machine),
    "first": ("Time to the first answer", first_answer),
    "errors": ("Prediction error at each rung", prediction_errors),
    "server": ("The loop and the cost model against the real llama-server", real_server),
    "scaling": ("Scaling", growth),
}
CHECKS: dict[str, tuple[str, Part]] = {
    "replay": ("Replayed acceptance against the real loop", replay),
    "served-acceptance": ("Replayed acceptance against the real server", served_acceptance),
    "served": ("A recommendation through the real server", served_recommendation),
    "ngram": ("Replayed n-gram methods against the real server", ngram_methods),
    "rules": ("Both ways to verify a draft against real runs", rules_of_verification),
    "demo": ("The demo's pick against an exhaustive sweep", demo_sweep),
    "fleet": ("A simulated fleet: 1000 pairs, 50 machines", many_machines),
    "baseline": ("The target beside an idle draft", baseline),
}
