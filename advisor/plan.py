"""How much to measure: a time becomes a number of prompts and a length of answers, for a first look and a thorough one.

A plan is what there is time for at the speed that was last seen. Its stages end at their share of the budget whatever
becomes of that speed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from advisor.budget import Budget
from advisor.engines.again import asked_again_once
from advisor.engines.base import Runner
from advisor.errors import EngineRefusal, OutOfTime, WorkloadError
from advisor.prune import CACHE_TYPES, fits_alone
from advisor.types import Candidate, Host, Model, Placement, Prompt, Run, Settings, Workload

CURVE_SHARE = 0.2
MIN_PROMPTS, GOOD_PROMPTS, MAX_PROMPTS = 4, 8, 24
MIN_TOKENS, FIRST_TOKENS, GOOD_TOKENS = 32, 48, 64
LENGTHS = tuple(base << shift for shift in range(16) for base in (32, 48))
TRIAL_PROMPTS = 4
TRIAL_TOKENS, TRIAL_S = 48, 4.0  # one or the other times steps well: acceptance is replayed over the whole answers
MORE_FOR_SLOW = 1.5  # times the share that answers are planned to take, where that makes few of them
PROBE_TOKENS = 12
PROBE_SHARE, LEAST_PROBE_S = 0.05, 1.0  # what seeing the speed may take, of the budget
WORTH_OTHER_THREADS = 0.05  # the usual number stays unless another one is this much faster
LEAST_TOKEN_S = 1e-5  # a target that ends its first answer at once shows no speed
LEAST_ANSWER = 16  # tokens of room that a prompt must leave in the context


@dataclass(frozen=True)
class Effort:
    """How much one pass through the stages may take.

    ``write``: the share of the budget that its answers are planned to take, of at most ``prompts`` prompts and
    ``tokens`` tokens; ``trial_prompts``: on how many a real run is; ``rolled_out``: how many are replayed with
    rollouts; ``timed_drafts``: of how many drafts, the most promising ones, decodes are timed. The others: of what is
    left when the effort begins, the share that is spent when a stage must have ended.
    """

    name: Literal["first", "thorough"]
    write: float
    prompts: int
    tokens: int
    trial_prompts: int
    rolled_out: int
    timed_drafts: int
    written: float
    replayed: float
    timed: float
    run: float


FIRST = Effort("first", 0.09, 6, FIRST_TOKENS, 1, 2, 4, written=0.22, replayed=0.5, timed=0.62, run=0.8)
THOROUGH = Effort(
    "thorough",
    0.2,
    MAX_PROMPTS,
    sys.maxsize,
    TRIAL_PROMPTS,
    MAX_PROMPTS,
    sys.maxsize,
    written=0.4,
    replayed=0.65,
    timed=0.75,
    run=1.0,
)


@dataclass(frozen=True)
class Question:
    """What is asked of this machine."""

    host: Host
    target: Model
    workload: Workload
    settings: Settings
    fresh: bool = False


@dataclass(frozen=True)
class Speed:
    """Of the target, as it was seen: seconds a token and a prompt, on so many ``threads``; ``load_s``: until it
    answered first."""

    token_s: float
    prompt_s: float
    threads: int
    load_s: float


@dataclass(frozen=True)
class Plan:
    """``prompts`` answers of at most ``max_tokens`` tokens; real runs write at most ``trial_tokens`` of the first
    ``trial_prompts`` of them.
    ``token_s`` is the target's time a token when the plan was made, on so many ``threads``; ``load_s``: until it
    answered first."""

    prompts: int
    max_tokens: int
    token_s: float
    threads: int
    load_s: float
    trial_tokens: int
    most_trial_prompts: int = TRIAL_PROMPTS

    @property
    def trial_prompts(self) -> int:
        return min(self.most_trial_prompts, self.prompts)


def with_one_target_placement(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with the target placed for the draft that leaves it least room: it is loaded once for all."""
    layers = [candidate.placement.target_gpu_layers for candidate in candidates]
    partial = [count for count in layers if count >= 0]
    least = min(partial) if partial else -1
    return [replace(c, placement=replace(c.placement, target_gpu_layers=least)) for c in candidates]


def target_place(candidates: Sequence[Candidate], target: Model, host: Host, context: int) -> Placement:
    """Where the target is loaded: the same for all candidates, and where it fits alone without any."""
    return candidates[0].placement if candidates else fits_alone(target, host, context, cache_types=CACHE_TYPES)


def room_for_two(candidates: Sequence[Candidate]) -> bool:
    """Whether the target fits twice beside each draft: once alone, once speculating, in two servers. Without a draft
    nobody has asked: they take turns."""
    uses = [use for candidate in candidates for use in candidate.memory]
    room = [use.available_bytes - use.needed_bytes - use.target.total_bytes - use.margin_bytes for use in uses]
    return bool(room) and min(room) >= 0


def thread_counts(host: Host, settings: Settings) -> tuple[int, ...]:
    """Which numbers of threads to try, the usual one first: as many as there are cores without hyper-threads (what
    llama.cpp does by itself), then all that may be used."""
    if settings.threads:
        return (settings.threads,)
    return tuple(dict.fromkeys((min(host.cores_physical, host.cores_usable) or 1, host.cores_usable)))


def see_speed(
    engine: Runner,
    prompts: Sequence[Prompt],
    settings: Settings,
    threads: Sequence[int],
    open_target: Callable[[int], None],
    budget: Budget,
) -> Speed:
    """Check the prompts and time a few tokens of the target with each number of threads.

    ``open_target(count)`` makes the engine hold it on so many threads; the engine is left with the best number.
    Raises WorkloadError for a prompt that leaves no room for an answer.
    """
    usual, *others = threads
    began_s = budget.elapsed_s
    open_target(usual)
    first = fitting(engine, prompts[0], 1, settings.context)
    load_s = budget.elapsed_s - began_s
    _check(engine, prompts, settings.context, budget)

    def probe(count: int) -> Run:
        open_target(count)
        within_s = max(budget.left_s * PROBE_SHARE, LEAST_PROBE_S)
        with suppress(OutOfTime), engine.within(within_s):
            run = asked_again_once(lambda: engine.answer(first, settings.sampling, PROBE_TOKENS))
            if run.tokens > 1 or run.prefill_s < within_s / 2:
                return run
        return asked_again_once(lambda: engine.answer(first, settings.sampling, 2))  # so slow that two must do

    found = {count: probe(count) for count in (usual, *others)}
    best = min(others, key=lambda count: found[count].token_s, default=usual)
    if found[best].token_s > found[usual].token_s * (1 - WORTH_OTHER_THREADS):
        best = usual
    open_target(best)
    return Speed(max(found[best].token_s, LEAST_TOKEN_S), found[best].prefill_s, best, load_s)


def _check(engine: Runner, prompts: Sequence[Prompt], context: int, budget: Budget) -> None:
    """All of them, where that is quick; the others are looked at when they are asked."""
    until_s = budget.elapsed_s + PROBE_SHARE * budget.total_s
    for number, prompt in enumerate(prompts[1:], start=2):
        if budget.elapsed_s > until_s:
            return
        fitting(engine, prompt, number, context)


def make_plan(effort: Effort, speed: Speed, settings: Settings, available_prompts: int, token_s: float) -> Plan:
    """What the answers of this effort can be at ``token_s`` a token. ``speed`` is that of the beginning, which sets how
    long real runs are: so they can be compared all along.

    Answers are shortened, down to GOOD_TOKENS, before there are fewer than GOOD_PROMPTS of them: prompts differ more
    from each other than the end of an answer from its middle. Where there is no time for MIN_PROMPTS short ones there
    are fewer of them.
    """
    good_s = GOOD_PROMPTS * (speed.prompt_s + GOOD_TOKENS * token_s)
    share_s = settings.budget_s * min(max(effort.write, good_s / settings.budget_s), MORE_FOR_SLOW * effort.write)
    available = min(available_prompts, effort.prompts)
    most_tokens = min(settings.max_tokens, effort.tokens)
    shortest = min(MIN_TOKENS, most_tokens)
    least = max(1, min(MIN_PROMPTS, available, int(share_s / (speed.prompt_s + shortest * token_s))))
    longest = int((share_s / least - speed.prompt_s) / token_s)
    wanted = int((share_s / min(GOOD_PROMPTS, available) - speed.prompt_s) / token_s)
    max_tokens = min(most_tokens, _step_down(max(shortest, min(longest, max(wanted, GOOD_TOKENS)))))
    answer_s = speed.prompt_s + max_tokens * token_s
    prompts = max(least, min(MAX_PROMPTS, available, int(share_s / answer_s)))
    trial_tokens = min(max_tokens, _step_down(max(TRIAL_TOKENS, int(TRIAL_S / speed.token_s))))
    return Plan(prompts, max_tokens, token_s, speed.threads, speed.load_s, trial_tokens, effort.trial_prompts)


def _step_down(tokens: int) -> int:
    """The next round number at or below, so that nearly equal plans share their transcripts."""
    return max((step for step in LENGTHS if step <= tokens), default=tokens)


def fitting(engine: Runner, prompt: Prompt, number: int, context: int) -> tuple[int, ...]:
    """The prompt as tokens. WorkloadError when it does not go through the template, or leaves no room for an answer."""
    try:
        tokens = asked_again_once(lambda: engine.tokenize(prompt.messages))
    except EngineRefusal as error:
        raise WorkloadError(
            f"Prompt {number} of the workload does not go through the target's chat template.",
            why=error.what,
            fix="Some templates refuse a system message or two messages of one role in a row: rewrite the prompt.",
        ) from None
    if len(tokens) + LEAST_ANSWER > context:
        raise WorkloadError(
            f"Prompt {number} of the workload does not fit: it has {len(tokens)} tokens, the context has {context}.",
            fix="Raise --context or shorten the prompt.",
        )
    return tokens
