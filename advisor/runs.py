"""Real runs: one prompt answered by target and draft together, right beside the same prompt by the target alone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.engines.base import NO_LIMIT, LoadOptions, Runner, Waiting
from advisor.errors import EngineError, EngineRefusal, OutOfTime, TargetFailure
from advisor.ngram import METHODS
from advisor.store import Store
from advisor.types import Candidate, Config, Model, Placement, Run, Sampling, Transcript

NOTHING_SEEN: tuple[Config | None, int] = (None, 0)


@dataclass(frozen=True)
class Pair:
    """A baseline run and a speculative run, interleaved."""

    baseline: Run
    run: Run


class RunMeasurer:
    """Measures (config, prompt) pairs and keeps them. The engine must hold the target.

    Which of the two runs comes first alternates from prompt to prompt, so that a steady drift cancels. ``place``: the
    target's, the same for all candidates. ``forgets``: a
    baseline ends the server that speculates, and what an n-gram method has seen with it.
    """

    def __init__(
        self,
        engine: Runner,
        store: Store,
        target: Model,
        candidates: Sequence[Candidate],
        transcripts: Sequence[Transcript],
        sampling: Sampling,
        *,
        host: str,
        context: int,
        threads: int,
        max_tokens: int,
        place: Placement,
        forgets: bool = False,
        waiting: Waiting = "as built",
        time_left_s: Callable[[], float] = lambda: NO_LIMIT,
    ) -> None:
        self._engine, self._store, self._target = engine, store, target
        self._candidates = {candidate.draft.content_hash: candidate for candidate in candidates}
        self._seen, self._forgets = NOTHING_SEEN, forgets
        self._transcripts, self._sampling = transcripts, sampling
        self._host, self._context, self._threads, self._max_tokens = host, context, threads, max_tokens
        self._place, self._waiting, self._time_left_s = place, waiting, time_left_s

    def __call__(self, config: Config, prompt: int) -> tuple[Run, Run]:
        """(baseline, speculative run). Raises EngineError: EngineRefusal when speculation silently did not happen,
        TargetFailure when the target alone fails. OutOfTime where ``time_left_s()`` ends before both have."""
        key = self._key(config, prompt)
        pair = self._store.get("run", key, Pair)
        if pair is None:
            started = time.perf_counter()
            pair = self._measure(config, prompt)
            self._store.put("run", key, pair, wall_s=time.perf_counter() - started)
        return pair.baseline, pair.run

    def is_stored(self, config: Config, prompt: int) -> bool:
        return self._store.get("run", self._key(config, prompt), Pair) is not None

    def _measure(self, config: Config, prompt: int) -> Pair:
        if prompt % 2 == 1:
            run = self._run(config, prompt)
            return Pair(self._answer(prompt), run)
        baseline = self._answer(prompt)
        return Pair(baseline, self._run(config, prompt))

    def _run(self, config: Config, prompt: int) -> Run:
        self._open(config)
        if config.method in METHODS:  # they remember earlier requests: those that this engine has not seen come first
            last, asked = self._seen
            for earlier in range(asked if last == config and asked <= prompt else 0, prompt):
                self._speculate(config, earlier)
        run = self._speculate(config, prompt)
        self._seen = (config, prompt + 1)
        return run

    def _open(self, config: Config) -> None:
        if not config.draft:
            self._engine.close("draft")
            return
        candidate = self._candidates[config.draft]
        options = LoadOptions.of_draft(candidate.placement, self._context, self._threads, waiting=self._waiting)
        self._engine.open("draft", candidate.draft, options)

    def _answer(self, prompt: int) -> Run:
        """Asked again once after a failure: the engine starts anew."""
        if self._forgets:
            self._seen = NOTHING_SEEN
        try:
            return self._whole_answer(prompt)
        except EngineError:
            self._seen = NOTHING_SEEN
            self._engine.close("draft")  # what remains is the target
        try:
            return self._whole_answer(prompt)
        except EngineError as error:
            raise TargetFailure(
                f"The target alone failed: {error.what}",
                why=error.why,
                fix="What was measured is stored; the same command goes on from there. A smaller --context may help.",
            ) from error

    def _whole_answer(self, prompt: int) -> Run:
        transcript, room = self._transcripts[prompt], self._room(prompt)
        with self._engine.within(self._time_left_s()):
            run = self._engine.answer(transcript.prompt_tokens, self._sampling, room)
        if run.tokens < room and not self._engine.text(run.answer_tokens)[1]:
            raise OutOfTime  # time ended it, not the target
        return run

    def _speculate(self, config: Config, prompt: int) -> Run:
        tokens = self._transcripts[prompt].prompt_tokens
        with self._engine.within(self._time_left_s()):
            run = self._engine.speculate(tokens, config, self._sampling, self._room(prompt))
        may_be_empty = config.p_min > 0 or config.method in METHODS
        if run.tokens < 2 or (run.drafted == 0 and not may_be_empty and run.tokens > 2):
            raise EngineRefusal("The engine ran without speculating: no token was drafted.")
        return run

    def _room(self, prompt: int) -> int:
        """How long the answer may be: what the plan allows, and what the context holds after the prompt."""
        return min(self._max_tokens, self._context - len(self._transcripts[prompt].prompt_tokens))

    def _placement(self, config: Config) -> dict[str, object]:
        if config.draft:
            return vars(self._candidates[config.draft].placement)
        return {name: [vars(self._place)[name]] for name in ("target_gpu_layers", "cache_type")}

    def _key(self, config: Config, prompt: int) -> dict[str, object]:
        earlier = [list(one.prompt_tokens) for one in self._transcripts[:prompt]] if config.method in METHODS else []
        return {
            **({"earlier": hashlib.sha256(repr(earlier).encode()).hexdigest()[:24]} if earlier else {}),
            "host": self._host,
            "build": self._engine.build.key,
            "repack_off": self._engine.repack_off,
            "target": self._target.content_hash,
            "config": vars(config),
            "prompt": list(self._transcripts[prompt].prompt_tokens),
            "sampling": vars(self._sampling),
            "threads": self._threads,
            **({"waiting": self._waiting} if self._waiting != "as built" else {}),
            "placement": self._placement(config),
            "context": self._context,
            "max_tokens": self._max_tokens,
        }
