"""How much to measure: a budget becomes a number of prompts and a length of answers.

The shares are of the whole budget. What the early stages do not use goes to real runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from advisor.engines.again import asked_again_once
from advisor.engines.base import Runner
from advisor.errors import BudgetTooSmall, EngineRefusal, WorkloadError
from advisor.prune import CACHE_TYPES, fits_alone
from advisor.types import Candidate, Host, Model, Placement, Prompt, Run, Settings, Workload

TRANSCRIPT_SHARE = 0.2
CURVE_SHARE = 0.2
MIN_PROMPTS, GOOD_PROMPTS, MAX_PROMPTS = 4, 8, 24
MIN_TOKENS, GOOD_TOKENS = 32, 64
LENGTHS = tuple(base << shift for shift in range(16) for base in (32, 48))
TRIAL_PROMPTS = 4
TRIAL_TOKENS, TRIAL_S = 96, 5.0  # one or the other times steps well: acceptance is replayed over the whole answers
PROBE_TOKENS = 12
WORTH_OTHER_THREADS = 0.05  # the usual number stays unless another one is this much faster
LEAST_ANSWER = 16  # tokens of room that a prompt must leave in the context
LEAST_BUDGET_S = 5.0  # loading two models and one answer takes longer than this on any machine


@dataclass(frozen=True)
class Question:
    """What is asked of this machine."""

    host: Host
    target: Model
    workload: Workload
    settings: Settings
    fresh: bool = False


def with_one_target_placement(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with the target placed for the draft that leaves it least room: it is loaded once for all."""
    layers = [candidate.placement.target_gpu_layers for candidate in candidates]
    partial = [count for count in layers if count >= 0]
    least = min(partial) if partial else -1
    return [replace(c, placement=replace(c.placement, target_gpu_layers=least)) for c in candidates]


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

    @property
    def trial_prompts(self) -> int:
        return min(TRIAL_PROMPTS, self.prompts)

    @property
    def trial_tokens(self) -> int:
        return min(self.max_tokens, max(TRIAL_TOKENS, int(TRIAL_S / self.token_s)))


def check_budget(budget_s: float) -> None:
    if budget_s < LEAST_BUDGET_S:
        raise BudgetTooSmall(
            f"A budget of {budget_s:g} s is too small for one run.",
            why="Loading the target and one short answer alone take longer.",
            fix="Give at least --budget 1m; 5m is a good start.",
        )


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


def make_plan(
    engine: Runner,
    prompts: Sequence[Prompt],
    settings: Settings,
    threads: Sequence[int],
    open_target: Callable[[int], None],
    written: tuple[int, int] | None = None,
) -> Plan:
    """Check the prompts, time a few tokens of the target with each number of threads, and divide the budget.

    ``open_target(count)`` makes the engine hold it on so many threads; the engine is left with the best number.
    ``written``: so many answers of at most so many tokens are there already, and cost nothing.
    Raises WorkloadError for a prompt that leaves no room for an answer, BudgetTooSmall when the shortest useful answers
    do not fit.
    """
    started = time.perf_counter()
    usual, *others = threads
    open_target(usual)
    tokenized = [fitting(engine, prompt, number, settings.context) for number, prompt in enumerate(prompts, start=1)]
    load_s = time.perf_counter() - started

    def probe(count: int) -> Run:
        open_target(count)
        # the first pass reads the file from disk
        asked_again_once(lambda: engine.answer(tokenized[0], settings.sampling, PROBE_TOKENS))
        return asked_again_once(lambda: engine.answer(tokenized[0], settings.sampling, PROBE_TOKENS))

    found = {count: probe(count) for count in (usual, *others)}
    best = min(others, key=lambda count: found[count].token_s, default=usual)
    if found[best].token_s > found[usual].token_s * (1 - WORTH_OTHER_THREADS):
        best = usual
    open_target(best)
    chosen = found[best]
    if written is not None:
        return Plan(*written, chosen.token_s, best, load_s)
    plan = divide(settings, len(prompts), chosen.token_s, prompt_s=chosen.prefill_s, load_s=load_s)
    return replace(plan, threads=best)


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


def divide(settings: Settings, available_prompts: int, token_s: float, *, prompt_s: float, load_s: float) -> Plan:
    """The plan for a target that needs ``token_s`` a token and ``prompt_s`` a prompt.

    Answers are shortened, down to GOOD_TOKENS, before there are fewer than GOOD_PROMPTS of them: prompts differ more
    from each other than the end of an answer from its middle.
    """
    share_s = settings.budget_s * TRANSCRIPT_SHARE
    least = min(MIN_PROMPTS, available_prompts)
    longest = int((share_s / least - prompt_s) / token_s)
    shortest = min(MIN_TOKENS, settings.max_tokens)
    if longest < shortest:
        needed_s = 1.2 * least * (prompt_s + shortest * token_s) / TRANSCRIPT_SHARE + load_s
        raise BudgetTooSmall(
            f"A budget of {settings.budget_s:.0f} s is too small for this target on this machine.",
            why=f"It makes {1 / token_s:.1f} tokens a second; {least} answers of {shortest} tokens are the least that "
            f"says anything about acceptance, and {100 * TRANSCRIPT_SHARE:.0f} % of the budget are for writing them: "
            "replays, costs and real runs need the rest.",
            fix=f"Give at least --budget {needed_s / 60 + 0.5:.0f}m.",
        )
    wanted = int((share_s / min(GOOD_PROMPTS, available_prompts) - prompt_s) / token_s)
    max_tokens = min(settings.max_tokens, _step_down(min(longest, max(wanted, GOOD_TOKENS))))
    answer_s = prompt_s + max_tokens * token_s
    prompts = max(least, min(MAX_PROMPTS, available_prompts, int(share_s / answer_s)))
    return Plan(prompts, max_tokens, token_s, settings.threads, load_s)
