"""What every engine owes to the rest of the project, as tests to subclass.

    class TestMine(EngineConformance):          # RunnerConformance for one that only answers and speculates
        def new(self):
            return MyEngine()

        def models(self):
            return target, draft                # advisor.types.Model; read_model(path) makes one of a file

Every test starts an engine of its own and shuts it down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.walk import pooled, walk
from advisor.engines.base import NO_LIMIT, Engine, LoadOptions, RolloutOptions, Runner
from advisor.errors import OutOfTime
from advisor.ngram import METHODS
from advisor.types import Config, Message, Model, Run, Sampling, Transcript
from advisor.workload import builtin

GREEDY = Sampling()
CONTEXT, THREADS, MAX_TOKENS = 512, 2, 48
K_MAX = 8
ROLLOUT = RolloutOptions(p_min=0.4, length=K_MAX, chains=8)
PROMPTS = 4
COPIED = (
    "Repeat this list, word for word: red, orange, yellow, green, blue, indigo, violet, red, orange, yellow, green."
)
SHARE_OF_EQUAL_TEXTS = 0.5  # near-ties flip with the shape of a batch: a text that parted says nothing about a replay


class RunnerConformance:
    """For an engine that answers prompts, alone and speculating. ``methods`` are the n-gram methods it can run."""

    methods: Sequence[str] = tuple(METHODS)

    def new(self) -> Runner:
        """An engine with nothing loaded."""
        raise NotImplementedError

    def models(self) -> tuple[Model, Model]:
        """A target and a draft with its vocabulary."""
        raise NotImplementedError

    @contextmanager
    def opened(self, *, with_draft: bool = True) -> Iterator[Runner]:
        runner = self.new()
        try:
            self._open(runner, with_draft=with_draft)
            yield runner
        finally:
            runner.shutdown()

    def _open(self, runner: Runner, *, with_draft: bool) -> None:
        target, draft = self.models()
        runner.open("target", target, LoadOptions(CONTEXT, THREADS, outputs=K_MAX + 1))
        if with_draft:
            options = LoadOptions(CONTEXT, THREADS, sequences=ROLLOUT.chains + 1, outputs=32)
            runner.open("draft", draft, options)

    def config(self, k: int, p_min: float = 0.0) -> Config:
        return Config(self.models()[1].content_hash, k, p_min)

    def test_nothing_is_used_until_something_is_asked(self) -> None:
        with self.opened() as runner:
            assert not runner.used
            runner.answer(_tokens(runner, "Hello."), GREEDY, 8)
            assert runner.used

    def test_a_build_names_itself_and_its_engine_always_alike(self) -> None:
        with self.opened() as one, self.opened() as other:
            assert one.build.engine
            assert one.build == other.build
            assert one.build.llama_cpp_build >= 0

    def test_a_prompt_is_tokens_that_depend_on_it_alone(self) -> None:
        with self.opened() as runner:
            one, again, other = (_tokens(runner, text) for text in ("Say hello.", "Say hello.", "Count to nine."))
            assert one == again != other
            assert all(isinstance(token, int) and token >= 0 for token in one)
            text, _ended = runner.text(one)
            assert isinstance(text, str)
            assert text

    def test_a_baseline_run_counts_and_times_what_it_answers(self) -> None:
        with self.opened() as runner:
            run = runner.answer(_tokens(runner, "Name three animals."), GREEDY, MAX_TOKENS)
            assert run.tokens == len(run.answer_tokens)
            assert 1 < run.tokens <= MAX_TOKENS
            assert run.decode_s > 0
            assert run.prefill_s >= 0
            assert (run.drafted, run.accepted) == (0, 0)
            assert runner.answer(_tokens(runner, "Name three animals."), GREEDY, 8).tokens <= 8

    def test_greedy_answers_repeat(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Name three animals.")
            one, again = (runner.answer(prompt, GREEDY, MAX_TOKENS) for _ in range(2))
            assert one.answer_tokens == again.answer_tokens

    def test_time_ends_an_answer_and_a_run_and_the_engine_goes_on(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Write a short story about a lighthouse.")
            whole = runner.answer(prompt, GREEDY, MAX_TOKENS)
            with suppress(OutOfTime), runner.within(whole.prefill_s + whole.decode_s / 4):
                assert runner.answer(prompt, GREEDY, MAX_TOKENS).tokens < whole.tokens
            with runner.within(1e-6):
                assert _is_late(lambda: runner.speculate(prompt, self.config(4), GREEDY, MAX_TOKENS))
            assert runner.answer(prompt, GREEDY, 8).answer_tokens == whole.answer_tokens[:8]

    def test_nothing_is_asked_when_no_time_is_left_at_all(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Name three animals.")
            runner.limit(lambda: 0.0)
            assert _is_late(lambda: runner.answer(prompt, GREEDY, MAX_TOKENS))
            runner.limit(lambda: NO_LIMIT)
            assert runner.answer(prompt, GREEDY, 8).tokens

    def test_it_says_whether_its_threads_can_wait_asleep_and_answers_alike(self) -> None:
        with self.opened(with_draft=False) as runner:
            prompt = _tokens(runner, "Name three animals.")
            before = runner.answer(prompt, GREEDY, 8).answer_tokens
            assert runner.sleeps in (True, False)
            target, _ = self.models()
            runner.open("target", target, LoadOptions(CONTEXT, THREADS, outputs=K_MAX + 1, waiting="asleep"))
            assert runner.answer(prompt, GREEDY, 8).answer_tokens == before

    def test_a_seed_decides_a_sampled_answer(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Name three animals.")
            hot = [runner.answer(prompt, Sampling(temperature=1.0, seed=seed), MAX_TOKENS) for seed in (1, 1)]
            assert hot[0].answer_tokens == hot[1].answer_tokens

    def test_a_speculative_run_begins_as_the_baseline_and_its_counts_add_up(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Write a short story about a lighthouse.")
            baseline = runner.answer(prompt, GREEDY, MAX_TOKENS)
            for k in (1, 4, K_MAX):
                run = runner.speculate(prompt, self.config(k), GREEDY, MAX_TOKENS)
                assert run.answer_tokens[0] == baseline.answer_tokens[0]
                assert run.drafted > 0, "a run that drafts nothing must not pass for a speculative one"
                self._check_counts(run, k)

    def test_p_min_ends_drafts_early(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Write a short story about a lighthouse.")
            bold, careful = (
                runner.speculate(prompt, self.config(K_MAX, p_min), GREEDY, MAX_TOKENS) for p_min in (0.0, 0.9)
            )
            self._check_counts(careful, K_MAX)
            assert careful.drafted / max(1, careful.steps) <= bold.drafted / max(1, bold.steps)

    def test_an_ngram_method_needs_no_draft(self) -> None:
        for method in self.methods:
            with self.opened(with_draft=False) as runner:
                config = Config("", 6, method=method, ngram_size=3)
                self._check_counts(runner.speculate(_tokens(runner, COPIED), config, GREEDY, MAX_TOKENS), config.k)

    def test_models_can_be_closed_and_opened_again(self) -> None:
        with self.opened() as runner:
            prompt = _tokens(runner, "Hello.")
            before = runner.answer(prompt, GREEDY, 8).answer_tokens
            runner.close("draft")
            runner.close("draft")
            assert runner.answer(prompt, GREEDY, 8).answer_tokens == before
            self._open(runner, with_draft=True)
            assert runner.speculate(prompt, self.config(2), GREEDY, 8).answer_tokens[0] == before[0]

    def test_shutting_down_twice_is_no_error(self) -> None:
        with self.opened() as runner:
            runner.answer(_tokens(runner, "Hello."), GREEDY, 8)
            runner.shutdown()

    def _check_counts(self, run: Run, k: int) -> None:
        assert run.tokens == len(run.answer_tokens) <= MAX_TOKENS
        assert run.decode_s > 0
        assert 0 <= run.accepted <= run.drafted <= k * run.steps
        # 1: behind an accepted end token nothing follows
        assert run.steps + run.accepted + 1 - run.tokens in (0, 1)
        assert len(run.accepted_per_position) in (0, k), "unknown, or one count a position"
        if run.accepted_per_position:
            assert sum(run.accepted_per_position) == run.accepted
            assert list(run.accepted_per_position) == sorted(run.accepted_per_position, reverse=True)


class EngineConformance(RunnerConformance):
    """For an engine that also replays drafts and times decodes.

    ``acceptance_error`` is how far pooled replayed counts may be from those of the real loop.
    """

    acceptance_error = 0.06

    def new(self) -> Engine:
        raise NotImplementedError

    @contextmanager
    def opened(self, *, with_draft: bool = True) -> Iterator[Engine]:
        engine = self.new()
        try:
            self._open(engine, with_draft=with_draft)
            yield engine
        finally:
            engine.shutdown()

    def test_a_replay_says_something_about_every_token(self) -> None:
        with self.opened() as engine:
            (transcript,) = _transcripts(engine, GREEDY, 1)
            trace = engine.score(transcript, ROLLOUT)
            length = len(transcript.answer_tokens)
            assert trace.answer_tokens == transcript.answer_tokens
            assert trace.category == transcript.category
            assert len(trace.proposal) == len(trace.probability) == length
            assert all(0 <= probability <= 1 for probability in trace.probability)
            for place, chain in trace.rollout.items():
                assert trace.proposal[place] != transcript.answer_tokens[place], "what agrees needs no rollout"
                assert trace.probability[place] >= ROLLOUT.p_min
                assert all(0 <= probability <= 1 for probability in chain)

    def test_a_replay_says_what_the_real_loop_does(self) -> None:
        for temperature in (0.0, 0.8):
            sampling = Sampling(temperature=temperature)
            with self.opened() as engine:
                transcripts = _transcripts(engine, sampling, PROMPTS)
                traces = [engine.score(transcript, ROLLOUT) for transcript in transcripts]
                predicted, real = [], []
                configs = [self.config(2), self.config(K_MAX, 0.6)]
                for config in configs:
                    for transcript, trace in zip(transcripts, traces, strict=True):
                        run = engine.speculate(transcript.prompt_tokens, config, sampling, MAX_TOKENS)
                        if run.answer_tokens == transcript.answer_tokens:
                            predicted.append(walk(trace, config, max_tokens=MAX_TOKENS))
                            real.append(run)
            assert len(real) >= SHARE_OF_EQUAL_TEXTS * len(transcripts) * len(configs), "most texts should be the same"
            expected = pooled(predicted)
            error = self.acceptance_error
            _check_near(expected.accepted, sum(run.accepted for run in real), error)
            _check_near(expected.steps, sum(run.steps for run in real), error)
            _check_near(expected.drafted, sum(run.drafted for run in real), 2 * error)

    def test_an_ngram_method_runs_as_its_replay_says(self) -> None:
        """Two requests, one after the other: what the first one filled the tables with counts in the second."""
        for method in self.methods:
            config = Config("", 6, method=method, ngram_size=3)
            with self.opened(with_draft=False) as engine:
                asked = [_tokens(engine, text) for text in (COPIED, f"Once more. {COPIED}")]
                runs = [engine.speculate(prompt, config, GREEDY, MAX_TOKENS) for prompt in asked]
                again = engine.speculate(asked[0], config, GREEDY, MAX_TOKENS)
            answers = [
                Transcript("copy", p, run.answer_tokens, ended=False) for p, run in zip(asked, runs, strict=True)
            ]
            told = NgramAcceptance(answers, context=CONTEXT, max_tokens=MAX_TOKENS).walks(config)
            counted = [(run.steps, run.drafted, run.accepted) for run in runs]
            assert counted == [(one.steps, one.drafted, one.accepted) for one in told], method
            assert again.drafted == runs[0].drafted, f"{method} drafts a prompt that was answered from memory"

    def test_timing_gives_a_round_of_positive_seconds_for_each_operation(self) -> None:
        with self.opened() as engine:
            rounds = engine.time_decodes(
                [("target", 1), ("draft", 1), ("target", 3), ("draft", 3)],
                list(range(100, 200)),
                40,
                GREEDY,
                rounds=2,
                budget_s=30.0,
            )
            assert len(rounds) == 2
            assert all(len(one) == 4 and min(one) > 0 for one in rounds)


def _is_late(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except OutOfTime:
        return True
    return False


def _tokens(runner: Runner, text: str) -> tuple[int, ...]:
    return runner.tokenize([Message("user", text)])


def _transcripts(engine: Engine, sampling: Sampling, count: int) -> list[Transcript]:
    written = []
    for prompt in builtin().prompts[:count]:
        tokens = engine.tokenize(prompt.messages)
        run = engine.answer(tokens, sampling, MAX_TOKENS)
        text, ended = engine.text(run.answer_tokens)
        written.append(Transcript(prompt.category, tokens, run.answer_tokens, ended, text))
    return written


def _check_near(expected: float, found: float, share: float) -> None:
    assert abs(expected - found) <= share * found, f"replayed {expected:g}, in the real loop {found:g}"
