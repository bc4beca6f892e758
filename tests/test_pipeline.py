"""The whole flow over the simulated engine, whose truth is known: does the advisor find it, keep it and say it?"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from advisor import pipeline
from advisor.acceptance.ngram import ngram_configs
from advisor.budget import Budget
from advisor.catalog.matching import LocalModel
from advisor.engines import StartRunner
from advisor.engines.simulated import Clock, SimulatedDraft, SimulatedEngine, World
from advisor.errors import (
    EngineCrash,
    EngineError,
    FileProblem,
    NothingFits,
    TargetFailure,
    WorkloadError,
)
from advisor.exporters import draftbench, llama_server
from advisor.grid import Grid
from advisor.ngram import METHODS
from advisor.options import PriorQuestion
from advisor.pipeline import Interrupted, Request, recommend
from advisor.progress import Progress, Silent
from advisor.reasons import explain
from advisor.report import json_document
from advisor.runs import RunMeasurer
from advisor.store import Store
from advisor.testing.builders import TARGET_S, make_candidate, make_gpu_host, make_host, make_model
from advisor.testing.surroundings import simulated_sources
from advisor.types import (
    Config,
    Message,
    Model,
    Placement,
    Prompt,
    Recommendation,
    Sampling,
    Settings,
    Transcript,
    Workload,
    from_json,
    to_json,
)
from advisor.user_catalog import user_catalog

GIB = 1024**3
TARGET = make_model("Target-14B", "Q8_0", weights_bytes=14 * GIB)
SMALL = make_model("Small-0.5B", "Q8_0", weights_bytes=GIB // 2)
MIDDLE = make_model("Middle-1.5B", "Q4_0", weights_bytes=GIB)
HUGE = make_model("Huge-13B", "Q8_0", weights_bytes=13 * GIB)
WORLD = World(
    target_s=TARGET_S,
    drafts={
        SMALL.content_hash: SimulatedDraft(token_s=0.006, row_s=0.0005, match={"": 0.65}),
        MIDDLE.content_hash: SimulatedDraft(token_s=0.012, row_s=0.0008, match={"": 0.85}),
        HUGE.content_hash: SimulatedDraft(token_s=0.095, row_s=0.002, match={"": 0.97}),
    },
)
WORKLOAD = Workload(
    "test",
    tuple(Prompt((Message("user", f"question {i}"),), ("code", "chat")[i % 2]) for i in range(12)),
    content_hash="w1",
)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model headers from records, a fixed machine, and no tokenizer files."""
    by_path = {Path(model.path): model for model in (TARGET, SMALL, MIDDLE, HUGE)}
    monkeypatch.setattr(pipeline, "read_model", lambda path: by_path[path])
    monkeypatch.setattr(pipeline, "probe", lambda *, store_dir, fresh=False: make_host())
    monkeypatch.setattr("advisor.prune.incompatibility", lambda target, draft: None)


def ask(
    world: World = WORLD,
    drafts: tuple[Model, ...] = (SMALL, MIDDLE, HUGE),
    engines: list[SimulatedEngine] | None = None,
    make: Callable[[World], SimulatedEngine] = SimulatedEngine,
    fresh: bool = False,
    workload: Workload = WORKLOAD,
    start_runner: StartRunner | None = None,
    temperature: float = 0.0,
    without_draft: bool = False,
    quick: bool = False,
    clock: Clock | None = None,
    others: Callable[[float], float] = lambda _now_s: 0.0,
    progress: Progress | None = None,
    **settings,
) -> Recommendation:
    """``clock``: what time passes on, where the world has any; ``others``: the cores that other programs take then."""
    clock = clock or Clock()

    def start(extra_buffers, on_remedy):
        engine = make(world)
        engine.clock = clock
        if engines is not None:
            engines.append(engine)
        return engine

    request = Request(
        Path(TARGET.path),
        tuple(Path(draft.path) for draft in drafts),
        workload,
        Settings(sampling=Sampling(temperature), **{"budget_s": 3600, "max_tokens": 100, **settings}),
        fresh,
        without_draft=without_draft,
        quick=quick,
    )
    budget = Budget(request.settings.budget_s, clock)
    sources = simulated_sources(clock, others)
    return recommend(request, progress or Silent(), start, start_runner, budget=budget, sources=sources)


def true_speedup(world: World, config: Config, max_tokens: int = 100) -> float:
    """What the config really gives: every prompt run in the simulated engine, without noise."""
    engine = SimulatedEngine(dataclasses.replace(world, noise=lambda _call: 1.0))
    if config.draft:
        engine.open("draft", next(m for m in (SMALL, MIDDLE, HUGE) if m.content_hash == config.draft), None)
    prompts = [engine.tokenize(prompt.messages) for prompt in WORKLOAD.prompts]
    settings = Settings()
    base = sum(engine.answer(prompt, settings.sampling, max_tokens).decode_s for prompt in prompts)
    return base / sum(engine.speculate(prompt, config, settings.sampling, max_tokens).decode_s for prompt in prompts)


def best_of_all(world: World, k_max: int = 16) -> float:
    return max(
        true_speedup(world, Config(draft, k, p_min))
        for draft in world.drafts
        for k in range(1, k_max + 1)
        for p_min in (0.0, 0.6, 0.75)
    )


def test_the_pick_is_within_2_percent_of_the_best_there_is(models):
    found = ask()
    assert found.verdict == "speculate"
    assert true_speedup(WORLD, found.best.config) >= 0.98 * best_of_all(WORLD)
    assert found.best.speedup_low <= true_speedup(WORLD, found.best.config) <= found.best.speedup_high
    assert found.runner_up.config.draft != found.best.config.draft


def test_predictions_are_the_truth_when_nothing_is_noisy(models):
    found = ask()
    for estimate in found.estimates[::37]:
        if estimate.config.p_min == 0:
            assert estimate.analytic_speedup == pytest.approx(true_speedup(WORLD, estimate.config), rel=0.01)


REPEATING = dataclasses.replace(WORLD, answer_period=25)
SCHEMA = json.loads((resources.files("advisor") / "schema" / "recommendation.schema.json").read_text())


def test_a_method_without_a_draft_is_picked_run_and_written_down_where_answers_repeat(models):
    found = ask(REPEATING)
    assert found.best.config.method in METHODS
    assert found.best.evidence == "measured"
    assert true_speedup(REPEATING, found.best.config) >= 0.95 * max(
        true_speedup(REPEATING, config) for config in ngram_configs(16)
    )
    assert found.best.speedup_low <= true_speedup(REPEATING, found.best.config) <= found.best.speedup_high
    assert found.runner_up.config.proposer != found.best.config.proposer
    command = llama_server.command(found)
    assert command[command.index("--spec-type") + 1] == found.best.config.method
    assert "-md" not in command
    document = json_document.document(found, command=command)
    jsonschema.validate(document, SCHEMA)
    assert document["recommendation"]["draft"] is None
    assert document["recommendation"]["ngram_size"] == found.best.config.ngram_size


def test_what_a_method_without_a_draft_gave_is_taken_up_again_from_the_store(models):
    first = ask(REPEATING)
    second = ask(REPEATING)
    assert second.measurement.from_store
    assert second.estimates == first.estimates


def test_an_interrupted_search_asks_an_ngram_method_its_earlier_prompts_again(models):
    """Its tables must hold what they held in an unbroken search."""
    asked: list[tuple[int, ...]] = []

    class Recording(SimulatedEngine):
        def speculate(self, prompt, config, *rest):
            asked.append(tuple(prompt))
            return super().speculate(prompt, config, *rest)

    engine = Recording(REPEATING)
    prompts = [engine.tokenize(prompt.messages) for prompt in WORKLOAD.prompts[:3]]
    transcripts = [Transcript("code", prompt, (1, 2), ended=False) for prompt in prompts]
    config = Config("", 8, method="ngram-mod", ngram_size=4)

    def session(store: Store) -> RunMeasurer:
        limits = {"context": 4096, "threads": 2, "max_tokens": 100, "place": Placement()}
        sampling = Settings().sampling
        return RunMeasurer(engine, store, TARGET, [make_candidate(SMALL)], transcripts, sampling, host="h", **limits)

    first, store = session(Store.in_memory()), Store.in_memory()
    unbroken = [first(config, index)[1].drafted for index in range(3)]
    assert asked == prompts
    broken = [session(store)(config, index)[1].drafted for index in range(2)]
    asked.clear()
    broken.append(session(store)(config, 2)[1].drafted)
    assert asked == prompts
    assert broken == unbroken


SERVER = dataclasses.replace(  # another build: rows cost more, the larger draft much more
    WORLD,
    target_s=tuple(0.05 * (1 + 0.06 * (b - 1)) for b in range(1, 30)),
    drafts={
        SMALL.content_hash: SimulatedDraft(token_s=0.004, match={"": 0.65}),
        MIDDLE.content_hash: SimulatedDraft(token_s=0.03, match={"": 0.85}),
        HUGE.content_hash: SimulatedDraft(token_s=0.05, match={"": 0.97}),
    },
)


def ask_server(servers: list[SimulatedEngine], world: World = SERVER, **settings) -> Recommendation:
    """The engine of this process only replays."""

    class Replays(SimulatedEngine):
        def answer(self, *arguments):
            raise AssertionError("the server answers")

        speculate = answer

        def time_decodes(self, *arguments, **limits):
            raise AssertionError("the server's decodes are what counts")

    def start_server(extra_buffers, on_remedy):
        servers.append(SimulatedEngine(world))
        return servers[-1]

    return ask(make=Replays, start_runner=start_server, **settings)


def test_costs_and_runs_are_the_servers_where_one_is_asked_for(models):
    found = ask_server([])
    assert found.best.config.draft == SMALL.content_hash  # the measurements of this process would pick another
    assert ask(fresh=True).best.config.draft == MIDDLE.content_hash
    assert found.best.evidence == "measured"
    assert true_speedup(SERVER, found.best.config) >= 0.97 * best_of_all(SERVER)
    assert found.best.speedup_low <= true_speedup(SERVER, found.best.config) <= found.best.speedup_high
    assert found.baseline.token_s == pytest.approx(0.05)
    assert any("Acceptance was replayed with" in note for note in found.measurement.notes)


def test_a_server_on_a_gpu_is_asked_what_its_decodes_cost(models, monkeypatch):
    monkeypatch.setattr(pipeline, "probe", lambda *, store_dir, fresh=False: make_gpu_host())
    found = ask_server([])
    assert found.candidates[0].placement.target_gpu_layers != 0
    assert found.best.config.draft == SMALL.content_hash
    assert true_speedup(SERVER, found.best.config) >= 0.97 * best_of_all(SERVER)
    assert found.best.speedup_low <= true_speedup(SERVER, found.best.config) <= found.best.speedup_high


def test_intervals_around_a_servers_costs_hold_for_settings_that_did_not_run(models):
    """Its kernels switch at 9 rows, and the loop costs what no decode shows."""
    jagged = dataclasses.replace(
        SERVER, target_s=tuple(s * (1.3 if b > 8 else 1) for b, s in enumerate(SERVER.target_s, 1)), overhead_s=0.002
    )
    found = ask_server([], jagged)
    some = [one for one in found.estimates if one.config.p_min in (0, 0.6) and one.config.draft != HUGE.content_hash]
    inside = [one.speedup_low <= true_speedup(jagged, one.config) <= one.speedup_high for one in some]
    assert sum(inside) >= 0.8 * len(inside) >= 20


def test_a_second_question_to_a_server_is_answered_from_the_store(models):
    first, servers = ask_server([]), []
    second = ask_server(servers)
    assert second.measurement.from_store
    assert not any(server.used for server in servers)
    assert second.estimates == first.estimates


def test_a_draft_that_only_the_server_cannot_run_is_left_out(models):
    crashing = dataclasses.replace(
        SERVER, drafts={**SERVER.drafts, SMALL.content_hash: SimulatedDraft(0.004, {"": 0.65}, crashes=True)}
    )
    found = ask_server([], crashing)
    assert [one.draft for one in found.rejected if one.reason == "engine"] == [SMALL.name]
    assert SMALL.content_hash not in {one.config.draft for one in found.estimates}


def sweep(world: World = WORLD, make: Callable[[World], SimulatedEngine] = SimulatedEngine, **grid) -> Recommendation:
    request = Request(
        Path(TARGET.path), tuple(Path(d.path) for d in (SMALL, MIDDLE, HUGE)), WORKLOAD, Settings(max_tokens=100)
    )
    cells = Grid(**{"ks": (2, 4), "prompts": 12, **grid})
    return pipeline.sweep(request, cells, Silent(), lambda extra_buffers, on_remedy: make(world))


def test_runs_of_an_ngram_method_are_kept_with_the_prompts_before_them(models):
    """Another order is another history: what was measured after other prompts does not answer."""
    engine, store = SimulatedEngine(REPEATING), Store.in_memory()
    prompts = [engine.tokenize(prompt.messages) for prompt in WORKLOAD.prompts[:3]]
    texts = [Transcript("code", prompt, (1, 2), ended=False) for prompt in prompts]
    config = Config("", 8, method="ngram-mod", ngram_size=4)

    def stored(order: list[Transcript], index: int) -> bool:
        limits = {"context": 4096, "threads": 2, "max_tokens": 100, "place": Placement()}
        sampling = Settings().sampling
        measurer = RunMeasurer(engine, store, TARGET, [make_candidate(SMALL)], order, sampling, host="h", **limits)
        known = measurer.is_stored(config, index)
        measurer(config, index)
        return known

    assert [stored(texts, i) for i in range(3)] == [False] * 3
    assert [stored(texts, i) for i in range(3)] == [True] * 3
    assert [stored(texts[::-1], i) for i in range(3)] == [False] * 3


def test_where_a_baseline_ends_the_server_an_ngram_method_is_asked_everything_again(models):
    asked: list[int] = []

    class Recording(SimulatedEngine):
        def speculate(self, prompt, config, *rest):
            asked.append(prompts.index(tuple(prompt)))
            return super().speculate(prompt, config, *rest)

    engine = Recording(REPEATING)
    prompts = [engine.tokenize(prompt.messages) for prompt in WORKLOAD.prompts[:3]]
    texts = [Transcript("code", prompt, (1, 2), ended=False) for prompt in prompts]
    limits = {"context": 4096, "threads": 2, "max_tokens": 100, "place": Placement(), "forgets": True}
    measurer = RunMeasurer(
        engine, Store.in_memory(), TARGET, [make_candidate(SMALL)], texts, Settings().sampling, host="h", **limits
    )
    for index in range(3):
        measurer(Config("", 8, method="ngram-mod", ngram_size=4), index)
    assert asked in ([0, 0, 1, 0, 1, 2], [0, 1, 0, 1, 2])  # the second run comes before its baseline


def test_a_sweep_measures_every_cell_and_recommends_the_best(models):
    found = sweep(ks=(2, 4, 8), p_mins=(0.0, 0.6))
    assert len(found.estimates) == len(found.trials) == 2 * 3 * 2  # the largest draft does not fit
    for estimate in found.estimates:
        assert estimate.evidence == "measured"
        assert estimate.speedup == pytest.approx(true_speedup(WORLD, estimate.config), rel=1e-6)
    assert found.best.speedup_low == max(one.speedup_low for one in found.estimates)
    assert found.baseline.tokens_per_second == pytest.approx(10)
    assert from_json(Recommendation, to_json(found)) == found


def test_an_interrupted_sweep_goes_on_where_it_stopped(models):
    runs: list[Config] = []

    class Stopping(SimulatedEngine):
        def speculate(self, prompt, config, *rest):
            runs.append(config)
            if len(runs) == 30:
                raise KeyboardInterrupt
            return super().speculate(prompt, config, *rest)

    with pytest.raises(Interrupted) as stopped:
        sweep(make=Stopping)
    assert len(stopped.value.recommendation.trials) == 2
    assert stopped.value.recommendation.measurement.stop_reason == "interrupted"
    again: list[Config] = []

    class Counting(SimulatedEngine):
        def speculate(self, prompt, config, *rest):
            again.append(config)
            return super().speculate(prompt, config, *rest)

    found = sweep(make=Counting)
    assert len(again) == 2 * 2 * 12 - 29
    assert found.measurement.stop_reason == "every cell was run"


def test_a_draft_that_fails_in_a_sweep_is_left_out(models):
    crashing = dataclasses.replace(
        WORLD, drafts={**WORLD.drafts, SMALL.content_hash: SimulatedDraft(0.006, {"": 0.65}, crashes=True)}
    )
    found = sweep(crashing)
    assert [one.draft for one in found.rejected if one.reason == "engine"] == [SMALL.name]
    assert {trial.config.draft for trial in found.trials} == {MIDDLE.content_hash}


def test_a_target_that_fails_in_a_sweep_is_no_drafts_fault(models):
    class Fails(SimulatedEngine):
        def answer(self, *arguments):
            if self.runs:
                raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")
            return super().answer(*arguments)

    with pytest.raises(TargetFailure):
        sweep(make=Fails)


def test_prompts_that_the_target_answers_with_nothing_are_left_out_of_a_sweep(models):
    class Laconic(SimulatedEngine):
        def _answer_tokens(self, prompt, sampling, max_tokens):
            whole = super()._answer_tokens(prompt, sampling, max_tokens)
            return whole[:1] if sum(prompt) % 2 else whole

    found = sweep(make=Laconic)
    assert 0 < found.measurement.prompts < 12
    assert len(found.trials) == 4


@pytest.mark.parametrize(("free_gib", "room"), [(200, True), (24, False)])
def test_a_server_holds_the_target_twice_only_where_that_fits(models, monkeypatch, free_gib, room):
    host = make_host(ram_total_bytes=free_gib * GIB, ram_available_bytes=free_gib * GIB)
    monkeypatch.setattr(pipeline, "probe", lambda *, store_dir, fresh=False: host)
    opened: list[bool] = []

    class Opening(SimulatedEngine):
        def open(self, role, model, options):
            if role == "target":
                opened.append(options.room_for_two)
            super().open(role, model, options)

    sweep(make=Opening)
    assert set(opened) == {room}
    opened.clear()
    ask(drafts=(SMALL,), start_runner=lambda extra_buffers, on_remedy: Opening(SERVER))
    assert set(opened) == {room}


def test_a_sweep_is_written_as_draftbench_writes_it(models):
    tables = draftbench.documents(sweep(p_mins=(0.0, 0.6)))
    assert [*tables] == [2, 4]
    for k, table in tables.items():
        assert table["settings"]["draft_max"] == k
        alone, *pairs = table["results"]
        assert alone["draft"] is None
        assert alone["mean_tps"] == 10.0
        assert [row["draft"] for row in pairs] == ["0.5B Q8_0", "1.1B Q4_0"]
        for row, draft in zip(pairs, (SMALL, MIDDLE), strict=True):
            speedup = true_speedup(WORLD, Config(draft.content_hash, k))
            assert row["mean_tps"] == pytest.approx(10 * speedup, rel=0.01)
            assert 0 < row["acceptance_rate"] <= 1


def test_it_says_no_when_nothing_helps_and_runs_nothing_for_it(models):
    slow = dataclasses.replace(WORLD, target_s=tuple(0.1 * b for b in range(1, 30)))
    engines: list[SimulatedEngine] = []
    found = ask(slow, engines=engines)
    assert found.verdict == "do-not-speculate"
    assert found.best is None
    assert found.trials == ()
    assert found.measurement.stop_reason == "no pairing can reach the speed of the target alone"


def test_a_second_identical_question_is_answered_from_the_store(models):
    first = ask()
    engines: list[SimulatedEngine] = []
    second = ask(engines=engines)
    assert second.measurement.from_store
    assert not any(engine.used for engine in engines)
    assert second.estimates == first.estimates
    assert second.best == first.best


def test_fresh_measures_again(models):
    ask()
    assert not ask(fresh=True).measurement.from_store


def test_another_draft_reuses_what_was_measured_of_the_others(models):
    ask(drafts=(SMALL,))
    scored: list[str] = []

    class Counting(SimulatedEngine):
        def score(self, *arguments):
            scored.append(self._loaded["draft"].name)
            return super().score(*arguments)

    found = ask(drafts=(SMALL, MIDDLE), make=Counting)
    assert set(scored) == {"Middle-1.5B"}
    assert {candidate.draft.name for candidate in found.candidates} == {"Small-0.5B", "Middle-1.5B"}
    assert true_speedup(WORLD, found.best.config) >= 0.98 * best_of_all(WORLD)


class StopsAfter(SimulatedEngine):
    """Ctrl-C during the n-th speculative run."""

    after = 2

    def speculate(self, *arguments):
        if self.runs == self.after:
            raise KeyboardInterrupt
        return super().speculate(*arguments)


def test_ctrl_c_gives_the_best_so_far_and_the_next_call_goes_on(models):
    with pytest.raises(Interrupted) as stopped:
        ask(make=StopsAfter)
    assert stopped.value.recommendation.verdict == "speculate"
    assert stopped.value.recommendation.measurement.stop_reason == "interrupted"
    engines: list[SimulatedEngine] = []
    found = ask(engines=engines)
    whole: list[SimulatedEngine] = []
    again = ask(engines=whole, fresh=True)
    assert found.best.config == again.best.config
    assert sum(e.runs for e in engines) == sum(e.runs for e in whole) - StopsAfter.after


def test_ctrl_c_before_anything_is_known_has_no_recommendation(models):
    class StopsAtOnce(SimulatedEngine):
        def answer(self, *arguments):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        ask(make=StopsAtOnce)
    assert stopped.value.recommendation is None


def test_a_draft_that_crashes_is_left_out_with_its_reason(models):
    drafts = {**WORLD.drafts, MIDDLE.content_hash: dataclasses.replace(WORLD.drafts[MIDDLE.content_hash], crashes=True)}
    found = ask(dataclasses.replace(WORLD, drafts=drafts))
    assert found.verdict == "speculate"
    assert "SIGSEGV" in next(r for r in found.rejected if r.draft == "Middle-1.5B").detail
    assert all(candidate.draft.name != "Middle-1.5B" for candidate in found.candidates)


def test_a_draft_that_crashes_only_in_real_runs_is_left_out_too(models):
    class CrashesInRuns(SimulatedEngine):
        def speculate(self, prompt, config, *rest):
            if config.draft == MIDDLE.content_hash:
                from advisor.errors import EngineCrash

                raise EngineCrash("The engine process died (SIGABRT) during 'speculate'.", signal_name="SIGABRT")
            return super().speculate(prompt, config, *rest)

    found = ask(make=CrashesInRuns)
    assert found.best.config.draft == SMALL.content_hash
    assert [r.draft for r in found.rejected if r.reason == "engine"] == ["Middle-1.5B"]


def test_a_target_that_fails_once_in_a_real_run_is_asked_again(models):
    calls: list[int] = []

    class FailsOnce(SimulatedEngine):
        def answer(self, *arguments):
            if self.runs and not calls:
                calls.append(1)
                raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")
            return super().answer(*arguments)

    found = ask(make=FailsOnce)
    assert calls
    assert found.rejected == ask().rejected
    assert found.best.config == ask().best.config


def test_a_target_that_keeps_failing_is_no_drafts_fault(models):
    class Fails(SimulatedEngine):
        def answer(self, *arguments):
            if self.runs:
                raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")
            return super().answer(*arguments)

    with pytest.raises(TargetFailure) as error:
        ask(make=Fails)
    assert "The target alone failed" in error.value.what
    assert "goes on from there" in error.value.fix


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(lambda call: 1 + 0.0005 * call, id="drift"),
        pytest.param(lambda call: 3.0 if call % 17 == 5 else 1.0, id="outliers"),
        pytest.param(lambda call: 25.0 if call == 60 else 1.0, id="one stall"),
        pytest.param(lambda call: 1 + 0.05 * ((call * 7919) % 13 - 6) / 6, id="jitter"),
    ],
)
def test_noise_does_not_change_the_pick_much_and_the_interval_holds(models, noise):
    found = ask(dataclasses.replace(WORLD, noise=noise))
    truth = true_speedup(WORLD, found.best.config)
    assert truth >= 0.95 * best_of_all(WORLD)
    assert found.best.speedup_low * 0.97 <= truth <= found.best.speedup_high * 1.03


@pytest.mark.parametrize("stalled", ["speculate", "answer"])
def test_a_stall_in_a_real_run_does_not_change_the_pick_much_and_the_interval_holds(models, stalled):
    """A speculative run, or a baseline beside one, takes ten times as long."""

    class Stalls(SimulatedEngine):
        over = False

        def speculate(self, *arguments):
            return self._once("speculate", super().speculate(*arguments))

        def answer(self, *arguments):
            return self._once("answer", super().answer(*arguments)) if self.runs else super().answer(*arguments)

        def _once(self, what, run):
            if what != stalled or self.over:
                return run
            self.over = True
            return dataclasses.replace(run, decode_s=10 * run.decode_s)

    engines = []
    found = ask(make=Stalls, engines=engines)
    assert any(engine.over for engine in engines)
    truth = true_speedup(WORLD, found.best.config)
    assert truth >= 0.95 * best_of_all(WORLD)
    assert found.best.speedup_low * 0.97 <= truth <= found.best.speedup_high * 1.03


def test_how_far_the_target_moved_meanwhile_is_told(models):
    class SlowerInTheEnd(SimulatedEngine):
        """Once real runs have begun, of which the first disappoint: there are more."""

        def speculate(self, *arguments):
            run = super().speculate(*arguments)
            return dataclasses.replace(run, decode_s=1.4 * run.decode_s) if self.runs <= 4 else run

        def _timed(self, seconds):
            return super()._timed(seconds * (1.3 if self.runs > 4 else 1.0))

    assert ask().measurement.anchor_drift == pytest.approx(0, abs=0.001)
    moved = ask(make=SlowerInTheEnd, fresh=True)
    assert moved.measurement.trials > 1
    assert moved.measurement.anchor_drift == pytest.approx(0.3, abs=0.01)
    drifting = dataclasses.replace(WORLD, noise=lambda call: 1.0 if call < 100 else 1.2)
    assert ask(drifting, fresh=True).measurement.anchor_drift == pytest.approx(0.2, abs=0.05)


def test_every_draft_failing_is_a_failure_not_an_answer(models):
    drafts = {name: dataclasses.replace(draft, crashes=True) for name, draft in WORLD.drafts.items()}
    with pytest.raises(EngineError, match="failed with every draft") as caught:
        ask(dataclasses.replace(WORLD, drafts=drafts))
    assert caught.value.exit_code == 3


def test_a_draft_that_failed_once_can_come_back(models):
    drafts = {**WORLD.drafts, SMALL.content_hash: dataclasses.replace(WORLD.drafts[SMALL.content_hash], crashes=True)}
    ask(dataclasses.replace(WORLD, drafts=drafts))
    found = ask()
    assert {candidate.draft.name for candidate in found.candidates} >= {"Small-0.5B", "Middle-1.5B"}


def test_a_copy_of_a_draft_is_considered_once(models, monkeypatch):
    known = pipeline.read_model
    copy = Path("/elsewhere/copy.gguf")
    twin = dataclasses.replace(SMALL, path=str(copy))
    monkeypatch.setattr(pipeline, "read_model", lambda path: twin if path == copy else known(path))
    found = ask(drafts=(SMALL, twin))
    assert [(r.draft, r.reason) for r in found.rejected] == [("Small-0.5B", "duplicate")]


def test_a_folder_that_cannot_be_written_costs_the_memory_not_the_answer(models, data_directory):
    data_directory.parent.mkdir(parents=True, exist_ok=True)
    data_directory.write_text("a file where the folder should be")
    assert ask().verdict == "speculate"


def test_a_recurrent_target_is_refused_before_anything_runs(models, monkeypatch):
    state = dataclasses.replace(TARGET.attention, recurrent_state_bytes=1000)
    monkeypatch.setattr(pipeline, "read_model", lambda path: dataclasses.replace(TARGET, attention=state))
    with pytest.raises(FileProblem, match="recurrent"):
        ask()


def test_a_prompt_longer_than_the_context_names_its_number(models):
    class Verbose(SimulatedEngine):
        def tokenize(self, messages):
            return tuple(range(10, 10 + 5000))

    with pytest.raises(WorkloadError, match="Prompt 1 of the workload does not fit"):
        ask(make=Verbose)


def test_nothing_fits_names_every_draft(models, monkeypatch):
    giant = make_model("Giant-30B-A3B", "Q8_0", weights_bytes=30 * GIB, active_weights_bytes=3 * GIB)
    monkeypatch.setattr(pipeline, "read_model", lambda path: TARGET if path == Path(TARGET.path) else giant)
    with pytest.raises(NothingFits, match=r"Giant-30B-A3B Q8_0: .*GiB"):
        ask(drafts=(giant,))


def test_without_a_draft_methods_that_need_none_compete_alone(models):
    found = ask(REPEATING, drafts=(), without_draft=True)
    assert found.candidates == ()
    assert found.verdict == "speculate"
    assert found.best.config.method in METHODS
    assert found.best.evidence == "measured"
    assert true_speedup(REPEATING, found.best.config) >= 0.95 * max(
        true_speedup(REPEATING, config) for config in ngram_configs(16)
    )
    assert "--spec-type" in llama_server.command(found)
    document = json_document.document(found, command=llama_server.command(found))
    jsonschema.validate(document, SCHEMA)
    assert document["candidates"][0]["memory_bytes"] > TARGET.weights_bytes
    again = ask(REPEATING, drafts=(), without_draft=True)
    assert again.measurement.from_store
    assert again.best == found.best


def test_where_nothing_repeats_the_answer_without_a_draft_is_no(models):
    found = ask(drafts=(), without_draft=True)
    assert found.verdict == "do-not-speculate"
    assert found.sentence.startswith("Do not speculate: no draft can run beside this target, and methods that need")


def test_drafts_that_cannot_run_leave_the_others_and_their_reasons(models, monkeypatch):
    giant = make_model("Giant-30B-A3B", "Q8_0", weights_bytes=30 * GIB, active_weights_bytes=3 * GIB)
    monkeypatch.setattr(pipeline, "read_model", lambda path: TARGET if path == Path(TARGET.path) else giant)
    found = ask(REPEATING, drafts=(giant,), without_draft=True)
    assert found.best.config.method in METHODS
    assert [one.reason for one in found.rejected] == ["memory"]


def test_a_draft_only_file_cannot_be_a_target(models, monkeypatch):
    eagle = dataclasses.replace(TARGET, draft_only="EAGLE-3 head")
    monkeypatch.setattr(pipeline, "read_model", lambda path: eagle)
    with pytest.raises(FileProblem, match="EAGLE-3 head"):
        ask()


def test_an_unreadable_draft_is_rejected_and_the_rest_go_on(models, monkeypatch):
    known = pipeline.read_model

    def read(path: Path) -> Model:
        if path == Path(SMALL.path):
            raise FileProblem("small.gguf is truncated.", why="It ends at byte 12.")
        return known(path)

    monkeypatch.setattr(pipeline, "read_model", read)
    found = ask()
    assert any(r.reason == "unreadable" and "byte 12" in r.detail for r in found.rejected)
    assert found.verdict == "speculate"


def test_a_recommendation_survives_json(models):
    found = ask()
    assert from_json(Recommendation, to_json(found)) == found


def test_answers_that_differ_from_the_targets_own_are_counted(models):
    class Tipped(SimulatedEngine):
        def speculate(self, *arguments):
            run = super().speculate(*arguments)
            other = (*run.answer_tokens[:-1], run.answer_tokens[-1] + 1) if self.runs == 1 else run.answer_tokens
            return dataclasses.replace(run, answer_tokens=other)

    found = ask(make=Tipped)
    runs = sum(len(trial.runs) for trial in found.trials)
    assert any(note.startswith(f"1 of {runs} speculative answers") for note in found.measurement.notes)
    assert not any("word for word" in note for note in ask(fresh=True).measurement.notes)


# -- named targets that are on disk ----------------------------------------------------------------------------------


def on_disk(
    monkeypatch: pytest.MonkeyPatch, ram_bytes: int = 64 * GIB, **attention: int
) -> tuple[tuple[Path, tuple[Path, ...]] | None, str]:
    """What is found of a 7B and a 0.5B on disk, and what was said; the 7B has this attention."""
    catalog = user_catalog()
    large, small = (catalog.entries[f"qwen2.5-{size}"] for size in ("7b", "0.5b"))
    target = dataclasses.replace(TARGET, attention=dataclasses.replace(TARGET.attention, **attention))
    models = (LocalModel(target, large, "Q8_0", "LM Studio"), LocalModel(SMALL, small, "Q8_0", "LM Studio"))
    monkeypatch.setattr(pipeline, "_models_on_disk", lambda catalog, models_dirs: models)
    host = make_host(ram_available_bytes=ram_bytes)
    monkeypatch.setattr(pipeline, "probe", lambda *, store_dir, fresh=False: host)
    notes: list[str] = []
    return pipeline.find_on_disk(PriorQuestion("qwen2.5-7b-q8"), 4096, notes.append), " ".join(notes)


def test_a_named_target_that_is_here_is_found_with_its_drafts(monkeypatch):
    found, said = on_disk(monkeypatch)
    assert found == (Path(TARGET.path), (Path(SMALL.path),))
    assert said == ""


def test_a_recurrent_target_that_is_here_is_predicted_and_that_is_said(monkeypatch):
    found, said = on_disk(monkeypatch, recurrent_state_bytes=1000)
    assert found is None
    assert "recurrent" in said
    assert "predicted" in said


def test_a_target_that_is_here_but_does_not_fit_is_not_measured(monkeypatch):
    found, said = on_disk(monkeypatch, ram_bytes=GIB)
    assert found is None
    assert "does not fit" in said


SAMPLED_WELL = dataclasses.replace(
    WORLD, drafts={name: dataclasses.replace(one, chance=0.95) for name, one in WORLD.drafts.items()}
)


def test_what_was_measured_counts_however_little_time_is_left(models):
    noisy = dataclasses.replace(WORLD, noise=lambda call: 1 + 0.02 * math.sin(call))
    first, engines = ask(noisy), []
    again = ask(noisy, engines=engines, budget_s=30)
    assert again.measurement.from_store
    assert not any(engine.used for engine in engines)
    assert again.target_curve == first.target_curve
    assert again.estimates == first.estimates


def test_rejection_sampling_is_recommended_where_it_accepts_more(models):
    found = ask(SAMPLED_WELL, temperature=0.8)
    assert found.best.config.draft_sampling == "probabilistic"
    assert found.best.evidence == "measured"
    command = llama_server.command(found)
    assert command[command.index("--spec-draft-sampling") + 1] == "probabilistic"
    assert any(note.startswith("Two ways to verify") for note in found.measurement.notes)
    document = json_document.document(found, command=command)
    jsonschema.validate(document, SCHEMA)
    assert document["recommendation"]["draft_sampling"] == "probabilistic"
    assert "rejection sampling" in found.sentence
    reasons = explain(found)
    assert reasons.subject.best.config == found.best.config
    assert 0 < reasons.subject.break_even.measured < 1


def test_rejection_sampling_that_accepts_less_is_not(models):
    found = ask(temperature=0.8)  # a chance of one half a token, below every draft's agreement
    assert found.best.config.draft_sampling == "greedy"
    assert {one.config.draft_sampling for one in found.estimates} == {"greedy", "probabilistic"}


def test_at_temperature_0_there_is_one_rule(models):
    assert {one.config.draft_sampling for one in ask().estimates} == {"greedy"}


def test_answers_that_cannot_be_weighed_leave_one_rule_and_a_note(models):
    class Unweighable(SimulatedEngine):
        def weigh(self, transcript, sampling):
            raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")

    found = ask(SAMPLED_WELL, temperature=0.8, make=Unweighable)
    assert {one.config.draft_sampling for one in found.estimates} == {"greedy"}
    assert any("could not weigh its answers" in note and "SIGKILL" in note for note in found.measurement.notes)


def test_a_server_that_has_only_one_rule_is_asked_for_that_alone(models):
    class Older(SimulatedEngine):
        rejection_sampling = False

    found = ask(SAMPLED_WELL, temperature=0.8, start_runner=lambda extra_buffers, on_remedy: Older(SAMPLED_WELL))
    assert {one.config.draft_sampling for one in found.estimates} == {"greedy"}
