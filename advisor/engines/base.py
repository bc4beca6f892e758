"""What an engine must be able to do: the seam between this project and whatever runs models.

An engine holds at most one target and one draft. Models are loaded when the first question needs them, so that an
answer from stored measurements loads nothing. Every question may raise EngineCrash, EngineTimeout or EngineRefusal;
after a crash or a timeout the engine can be used again and loads its models by itself.

Time ends questions in two ways. ``within`` is for a question to keep: it looks at the clock between decodes, and gives
what it has, or OutOfTime where that is nothing. ``limit`` is for all questions together: what is still running when
nothing is left is stopped from outside, with OutOfTime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from advisor.types import PLAIN_CACHE, Build, Config, Message, Model, Placement, Run, Sampling, Trace, Transcript

Role = Literal["target", "draft"]
Waiting = Literal["as built", "asleep"]
NO_LIMIT = math.inf
Operation = tuple[Role | Literal["bare"], int]
BARE: Operation = ("bare", 1)  # a target pass without drafted tokens right after the draft's decodes, as a step has it

CHAIN: dict[Role, int] = {"target": 2, "draft": 4}  # an operation of one token is timed over this many in a row
LONGEST_CHAIN = max(CHAIN.values())


@dataclass(frozen=True)
class LoadOptions:
    """How a model is opened. ``gpu_layers`` -1 means all. ``sequences`` > 1 allows rollouts. ``outputs``: of how many
    tokens of one batch logits are wanted at once; memory is reserved for them. ``room_for_two``: a server may hold the
    target a second time, so that one that speculates and one that does not take turns without loading. ``cache_type``:
    of keys and values, as in Placement. ``waiting``: how threads wait for each other after each operation, as this
    build does by itself (most spin) or asleep (docs/decisions/0021-in-use.md)."""

    context: int
    threads: int
    gpu_layers: int = 0
    sequences: int = 1
    outputs: int = 1
    room_for_two: bool = True
    cache_type: str = PLAIN_CACHE
    waiting: Waiting = "as built"

    @classmethod
    def of_target(
        cls,
        place: Placement,
        context: int,
        threads: int,
        *,
        outputs: int,
        room_for_two: bool,
        waiting: Waiting = "as built",
    ) -> LoadOptions:
        """The target in its place."""
        return cls(
            context,
            threads,
            place.target_gpu_layers,
            outputs=outputs,
            room_for_two=room_for_two,
            cache_type=place.cache_type,
            waiting=waiting,
        )

    @classmethod
    def of_draft(
        cls,
        place: Placement,
        context: int,
        threads: int,
        *,
        sequences: int = 1,
        outputs: int = 1,
        waiting: Waiting = "as built",
    ) -> LoadOptions:
        """A draft in its place; it has the target's ``threads`` where it was given none of its own."""
        return cls(
            context,
            place.draft_threads or threads,
            place.draft_gpu_layers,
            sequences,
            outputs,
            cache_type=place.cache_type,
            waiting=waiting,
        )


@dataclass(frozen=True)
class RolloutOptions:
    """Which of the draft's own continuations a replay follows: from at most ``chains`` mismatches of probability
    at least ``p_min``, each at most ``length`` tokens."""

    p_min: float
    length: int
    chains: int


NO_ROLLOUT = RolloutOptions(1.0, 0, 0)


class TimeLimits:
    """``limit`` and ``within`` of a runner."""

    def __init__(self) -> None:
        self._time_left_s: Callable[[], float] = lambda: NO_LIMIT
        self._within_s = NO_LIMIT

    def limit(self, time_left_s: Callable[[], float]) -> None:
        self._time_left_s = time_left_s

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        before, self._within_s = self._within_s, seconds
        try:
            yield
        finally:
            self._within_s = before

    @property
    def _left_s(self) -> float:
        """What a question that begins now has."""
        return min(self._within_s, self._time_left_s())


class Runner(Protocol):
    """Answers prompts, alone or speculating, and times it, and single decodes. All that a server can do."""

    @property
    def build(self) -> Build: ...

    @property
    def repack_off(self) -> bool:
        """True when this engine had to switch extra buffer types off to survive on this host."""

    @property
    def rejection_sampling(self) -> bool:
        """Whether it can draft and verify by rejection sampling."""

    @property
    def sleeps(self) -> bool:
        """Whether this build's threads can wait for each other asleep. Asked when the target is open."""

    @property
    def used(self) -> bool:
        """True when anything was asked of a model: something new was measured."""

    def limit(self, time_left_s: Callable[[], float]) -> None:
        """From now on no question goes on when ``time_left_s()`` is 0."""

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """While this is open each question has so long."""

    def open(self, role: Role, model: Model, options: LoadOptions) -> None:
        """From now on this model has that role. It replaces the one before it. Models that are open at the same time
        wait alike."""

    def close(self, role: Role) -> None: ...

    def tokenize(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The target's chat template over the messages, as token ids."""

    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Run:
        """The target alone: a baseline run, shorter where time ends it."""

    def text(self, tokens: Sequence[int]) -> tuple[str, bool]:
        """The tokens as text, and whether the last one ends the answer."""

    def speculate(self, prompt: Sequence[int], config: Config, sampling: Sampling, max_tokens: int) -> Run:
        """A real speculative run of target and draft. Raises OutOfTime: a shorter one is not comparable."""

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
        """Seconds of each operation, one list a round: ``rounds`` of them, fewer where ``budget_s`` is spent before one
        begins, but one. Raises OutOfTime where that one does not end in time."""

    def shutdown(self) -> None: ...


class Engine(Runner, Protocol):
    """A runner that also looks inside: what a draft would have proposed."""

    def score(
        self,
        transcript: Transcript,
        rollout: RolloutOptions,
        role: Role = "draft",
        temperature: float = 0.0,
    ) -> Trace:
        """Replay the draft over a transcript, or let the target read it: what it would have chosen at each place. With
        a temperature, and a transcript that knows its probabilities, the chances under rejection sampling too. Raises
        OutOfTime."""

    def weigh(self, transcript: Transcript, sampling: Sampling) -> tuple[float, ...]:
        """The probability with which the target's sampling chooses each token of the answer. Raises OutOfTime."""
