"""An engine whose truth is known: the same interface, no model, no waiting.

Which proposals match, how confident the draft is and what every decode costs are functions of a ``World``, so a test
can compare what the advisor concluded with what is so. Time is arithmetic: nothing sleeps, a ``Clock`` that engines
share says how late it would be.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from advisor.engines.base import BARE, NO_LIMIT, LoadOptions, Operation, Role, RolloutOptions, TimeLimits
from advisor.errors import EngineCrash, OutOfTime
from advisor.ngram import METHODS
from advisor.ngram.proposer import NgramProposer
from advisor.types import Build, Config, Message, Model, Run, Sampling, Trace, Transcript

END_TOKEN = 2
WRONG_TOKEN = 3


@dataclass(frozen=True)
class SimulatedDraft:
    """``match``: probability that the draft agrees, by category ("" = any other). ``token_s``: seconds of d(1);
    ``depth_s``: what each token in the context adds to a decode; ``fade``: of the match it takes away;
    ``chance``: that a token is accepted under rejection sampling; ``beside_s``: what a decode takes longer on a GPU,
    and ``per_thread_s`` for each thread."""

    token_s: float
    match: dict[str, float]
    row_s: float = 0.0
    crashes: bool = False
    depth_s: float = 0.0
    fade: float = 0.0
    chance: float = 0.5
    beside_s: float = 0.0
    per_thread_s: float = 0.0


@dataclass(frozen=True)
class World:
    """The truth. ``target_s[b]`` is t(b) in seconds (the last entry goes on linearly); ``noise(call)`` multiplies the
    time of the n-th timed call: drift, outliers and stalls are functions of that count. Answers repeat themselves after
    ``answer_period`` tokens, 0 = never. Where a draft agrees follows from the last ``read`` tokens of the prompt.
    ``depth_s``: what each token in the context adds to a decode of the target; ``prefill_s``: seconds a prompt token.
    ``bare``: how many times as long a target pass takes that verifies nothing, between the decodes of a draft.
    ``load_s``: seconds that opening a model takes; ``score_s``: of replaying a token. ``slowed(now_s)``: how many times
    as long everything takes at that time because of other programs, where threads spin; no more than
    ``slowed_asleep`` times where they wait asleep.
    """

    target_s: tuple[float, ...]
    drafts: dict[str, SimulatedDraft]
    overhead_s: float = 0.0
    answer_length: int = 120
    answer_period: int = 0
    read: int = 64
    depth_s: float = 0.0
    prefill_s: float = 0.0
    bare: float = 1.0
    noise: Callable[[int], float] = field(default=lambda _call: 1.0)
    load_s: float = 0.0
    score_s: float = 0.0
    slowed: Callable[[float], float] = field(default=lambda _now_s: 1.0)
    slowed_asleep: float = 2.0

    def verify_s(self, b: int) -> float:
        if b <= len(self.target_s):
            return self.target_s[b - 1]
        slope = self.target_s[-1] - self.target_s[-2]
        return self.target_s[-1] + slope * (b - len(self.target_s))


@dataclass
class Clock:
    """What time it would be, in seconds."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class _Tally:
    """What happened over one simulated answer, ``emitted`` tokens of which are written."""

    def __init__(self, k: int) -> None:
        self.emitted, self.steps, self.drafted, self.accepted, self.seconds = 1, 0, 0, 0, 0.0
        self._per_position = [0] * k

    def add_step(self, drafted: int, agreed: int, seconds: float) -> None:
        self.steps += 1
        self.drafted += drafted
        self.accepted += agreed
        self.seconds += seconds
        self.emitted += agreed + 1
        for position in range(agreed):
            self._per_position[position] += 1

    def run(self, answer: tuple[int, ...], decode_s: float, prefill_s: float) -> Run:
        return Run(
            tokens=len(answer),
            decode_s=decode_s,
            prefill_s=prefill_s,
            steps=self.steps,
            drafted=self.drafted,
            accepted=self.accepted,
            accepted_per_position=tuple(self._per_position),
            answer_tokens=answer,
        )


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


class SimulatedEngine(TimeLimits):
    """``elapsed_s`` adds up the simulated seconds of everything that was timed; they pass on ``clock`` as well."""

    repack_off = False
    rejection_sampling = True
    sleeps = True

    def __init__(self, world: World, clock: Clock | None = None) -> None:
        super().__init__()
        self.world = world
        self.clock = clock or Clock()
        self.elapsed_s = 0.0
        self.runs = 0
        self.used = False
        self._timed_calls = 0
        self._loaded: dict[Role, Model] = {}
        self._options: dict[Role, LoadOptions] = {}
        self._ngram: NgramProposer | None = None
        self._asked: list[tuple[int, ...]] = []

    @property
    def build(self) -> Build:
        return Build("simulated", "1")

    def open(self, role: Role, model: Model, options: LoadOptions) -> None:
        if self._loaded.get(role) is not model:
            self._spend(self.world.load_s)
        self._loaded[role] = model
        self._options[role] = options

    def close(self, role: Role) -> None:
        self._loaded.pop(role, None)

    def shutdown(self) -> None:
        self._loaded.clear()

    def tokenize(self, messages: Sequence[Message]) -> tuple[int, ...]:
        self.used = True
        return tuple(10 + b for b in "\n".join(message.content for message in messages).encode()[:64])

    def text(self, tokens: Sequence[int]) -> tuple[str, bool]:
        return " ".join(str(token) for token in tokens), bool(tokens) and tokens[-1] == END_TOKEN

    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Run:
        tokens = self._answer_tokens(prompt, sampling, max_tokens)
        per_token_s = self.world.verify_s(1) + self.world.overhead_s
        per_token_s += self.world.depth_s * len(prompt)
        prefill_s = self.world.prefill_s * len(prompt)
        self._spend(prefill_s)
        left_s = self._left_s - prefill_s * self._slowed()
        in_time = max(0.0, left_s) / (per_token_s * self._slowed()) if per_token_s else NO_LIMIT
        tokens = tokens if in_time >= len(tokens) else tokens[: 1 + int(in_time)]
        decode_s = self._timed((len(tokens) - 1) * per_token_s)
        return Run(tokens=len(tokens), decode_s=decode_s, prefill_s=prefill_s, answer_tokens=tokens)

    def weigh(self, transcript: Transcript, sampling: Sampling) -> tuple[float, ...]:
        return (0.5,) * len(transcript.answer_tokens)

    def score(
        self,
        transcript: Transcript,
        rollout: RolloutOptions,
        role: Role = "draft",
        temperature: float = 0.0,
    ) -> Trace:
        answer = transcript.answer_tokens
        self._spend(self.world.score_s * (len(transcript.prompt_tokens) + len(answer)))
        if role == "target":
            return Trace(transcript.category, answer, answer, (1.0,) * len(answer))
        match, probability = self._beliefs(transcript.prompt_tokens, len(answer))
        chains = {
            i: self._chain(transcript.prompt_tokens, i, rollout.length)
            for i in range(len(answer))
            if not match[i] and probability[i] >= rollout.p_min
        }
        return Trace(
            category=transcript.category,
            answer_tokens=answer,
            proposal=tuple(token if ok else WRONG_TOKEN for token, ok in zip(answer, match, strict=True)),
            probability=tuple(probability),
            rollout=chains,
            chance=(self._truth().chance,) * len(answer) if temperature > 0 and transcript.probability else (),
        )

    def time_decodes(
        self,
        operations: Sequence[Operation],
        tokens: Sequence[int],
        depth: int,
        sampling: Sampling,
        *,
        rounds: int,
        budget_s: float,
    ) -> list[list[float]]:
        begun, measured = self.clock(), list[list[float]]()
        while len(measured) < rounds and (not measured or self.clock() - begun < budget_s):
            self._spend(0.0, self.clock() - begun)
            measured.append([self._timed(self._operation_s(*one, depth)) for one in operations])
        return measured

    def speculate(self, prompt: Sequence[int], config: Config, sampling: Sampling, max_tokens: int) -> Run:
        self._spend(self.world.prefill_s * len(prompt))
        self.runs += 1
        answer = self._answer_tokens(prompt, sampling, max_tokens)
        if config.method in METHODS:
            return self._speculate_ngram(prompt, config, answer, max_tokens)
        match, probability = self._beliefs(prompt, len(answer))
        if config.draft_sampling == "probabilistic" and sampling.temperature > 0:
            coins = np.random.default_rng(_seed("coins", self._loaded["draft"].content_hash, tuple(prompt), config))
            match = (coins.random(len(answer)) < self._truth().chance).tolist()
        tally = _Tally(config.k)
        while (emitted := tally.emitted) < len(answer):
            room = min(config.k, max_tokens - emitted - 1)
            proposals: list[bool] = []
            calls = 0
            wrong_at: int | None = None
            while len(proposals) < room:
                at = emitted + len(proposals)
                if wrong_at is not None:
                    chain = self._chain(prompt, wrong_at, config.k)
                    ok, confidence = False, chain[at - wrong_at - 1]
                elif at < len(answer):
                    ok, confidence = match[at], probability[at]
                else:
                    ok, confidence = False, 0.0
                calls += 1
                if confidence < config.p_min:
                    break
                proposals.append(ok)
                if not ok and wrong_at is None:
                    wrong_at = at
            if len(proposals) < config.n_min:
                proposals = []
            agreed = proposals.index(False) if False in proposals else len(proposals)
            rows, depth = len(proposals) + 1, len(prompt)
            seconds = calls * self._operation_s("draft", 1, depth) + self._operation_s("draft", rows, depth)
            seconds += self._operation_s(*(("target", rows) if proposals else BARE), depth) + self.world.overhead_s
            tally.add_step(len(proposals), agreed, seconds)
        return tally.run(answer, self._whole(tally.seconds), self.world.prefill_s * len(prompt))

    def _speculate_ngram(self, prompt: Sequence[int], config: Config, answer: tuple[int, ...], max_tokens: int) -> Run:
        if self._ngram is None or not self._ngram.serves(config, prompt):
            self._ngram = NgramProposer(config)
        self._ngram.begin(prompt)
        tally = _Tally(config.k)
        while (emitted := tally.emitted) < len(answer):
            room = min(config.k, max_tokens - emitted - 1)
            proposals = self._ngram.propose(answer[:emitted], room) if room > 0 else []
            pairs = zip(proposals, answer[emitted:], strict=False)
            agreed = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
            batch, written = [answer[emitted - 1], *proposals], [*proposals[:agreed], END_TOKEN]
            self._ngram.verified(batch, written, len(prompt) + emitted + agreed)
            seconds = self._operation_s("target", len(batch), len(prompt)) + self.world.overhead_s
            tally.add_step(len(proposals), agreed, seconds)
        return tally.run(answer, self._whole(tally.seconds), self.world.prefill_s * len(prompt))

    def _operation_s(self, role: Role | Literal["bare"], b: int, depth: int) -> float:
        if role != "draft":
            return (self.world.verify_s(b) + self.world.depth_s * depth) * (self.world.bare if role == "bare" else 1.0)
        truth = self._truth()
        options = self._options.get("draft")
        placed_s = 0.0
        if options is not None:
            placed_s = truth.beside_s * (options.gpu_layers != 0) + truth.per_thread_s * options.threads
        return truth.token_s + truth.row_s * (b - 1) + truth.depth_s * depth + placed_s

    def _truth(self) -> SimulatedDraft:
        truth = self.world.drafts[self._loaded["draft"].content_hash]
        if truth.crashes:
            raise EngineCrash("The engine process died (SIGSEGV).", signal_name="SIGSEGV")
        return truth

    def _timed(self, seconds: float) -> float:
        self.used = True
        seconds *= self.world.noise(self._timed_calls) * self._slowed()
        self._timed_calls += 1
        self.elapsed_s += seconds
        self.clock.now_s += seconds
        return seconds

    def _whole(self, seconds: float) -> float:
        """As _timed, of what cannot be cut short."""
        if seconds * self._slowed() > self._left_s:
            self._spend(seconds)
        return self._timed(seconds)

    def _spend(self, seconds: float, so_far_s: float = 0.0) -> None:
        """Time that nobody measures, ``so_far_s`` into a question. Raises OutOfTime where there is less of it."""
        seconds *= self._slowed()
        left_s = min(self._within_s - so_far_s, self._time_left_s())
        self.clock.now_s += min(seconds, max(0.0, left_s))
        if left_s <= 0 or seconds > left_s:
            raise OutOfTime

    def _slowed(self) -> float:
        factor = self.world.slowed(self.clock())
        is_asleep = any(options.waiting == "asleep" for options in self._options.values() if options)
        return min(factor, self.world.slowed_asleep) if is_asleep else factor

    def _answer_tokens(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> tuple[int, ...]:
        """A prompt that ends with the beginning of an answer is gone on with."""
        prompt = tuple(prompt)
        for asked in self._asked:
            begun = prompt[len(asked) :]
            whole = self._whole_answer(asked, sampling)
            if prompt[: len(asked)] == asked and begun == whole[: len(begun)]:
                return whole[len(begun) :][:max_tokens]
        self._asked.append(prompt)
        return self._whole_answer(prompt, sampling)[:max_tokens]

    def _whole_answer(self, prompt: tuple[int, ...], sampling: Sampling) -> tuple[int, ...]:
        rng = np.random.default_rng(_seed("answer", prompt, sampling))
        length = self.world.answer_length
        text = [int(token) for token in rng.integers(100, 1000, self.world.answer_period or length)]
        return tuple((text * (length // len(text) + 1))[:length])

    def _beliefs(self, prompt: Sequence[int], length: int) -> tuple[list[bool], list[float]]:
        """Matches and confidences along the answer: a confident draft is right more often, as real ones are."""
        truth = self._truth()
        read = tuple(prompt[-self.world.read :])
        rng = np.random.default_rng(_seed("match", self._loaded["draft"].content_hash, read))
        rate = truth.match.get("", next(iter(truth.match.values()))) - truth.fade * len(prompt)
        match = rng.random(length) < rate
        confidence = np.where(match, rng.beta(6, 2, length), rng.beta(2, 3, length))
        return match.tolist(), confidence.tolist()

    def _chain(self, prompt: Sequence[int], point: int, length: int) -> tuple[float, ...]:
        rng = np.random.default_rng(_seed("chain", self._loaded["draft"].content_hash, tuple(prompt), point))
        return tuple(rng.beta(2, 2, max(64, length))[:length].tolist())
