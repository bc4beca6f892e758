"""Replay: one teacher-forced pass of a draft over the target's answers decides every k and n_min at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from advisor.engines.base import Engine, LoadOptions, RolloutOptions
from advisor.errors import AdvisorError, BudgetTooSmall, EngineError
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import Build, Candidate, Model, Placement, Trace, Transcript

P_MIN_GRID = (0.0, 0.4, 0.6, 0.75, 0.9)
ROWS_AT_ONCE = 64  # positions scored in one decode: 64 rows of logits are 39 MB for a vocabulary of 152k
SCORING_COPIES = 3  # logits as llama.cpp reserves them, as it hands them out, and numpy's copy
ROLLOUT_CHAINS = 8  # per answer: enough to know the mean length of a doomed draft, cheap enough to be always on


Outcome = list[tuple[Trace, float]] | AdvisorError
"""Of one draft: a trace an answer with the seconds it took, or why there is none."""


@dataclass(frozen=True)
class ReplayTask:
    """One draft over all answers, in a context of ``cells`` tokens.

    ``temperature``: of the answers, for the chances under rejection sampling where they know their probabilities.
    """

    draft: Model
    placement: Placement
    transcripts: tuple[Transcript, ...]
    rollout: RolloutOptions
    cells: int
    temperature: float = 0.0


Replayer = Callable[[Sequence[ReplayTask]], Iterator[tuple[int, Outcome]]]
"""(number of the task, its outcome), each as soon as it is there, in any order."""


Elsewhere = Callable[["ReplaysHere", Build, Callable[[], float]], Replayer]
"""(replays on this machine, its build, time_left_s) -> replays on any of several machines."""


class ReplaysHere:
    """Replays on this machine: ``at_once`` of them share ``threads``, each with an engine of its own.

    None begins after ``time_left_s()`` is spent, but the first always has its turn. Nothing may be timed meanwhile.
    """

    def __init__(
        self, start_engine: Callable[[], Engine], *, threads: int, at_once: int, time_left_s: Callable[[], float]
    ) -> None:
        self._start_engine, self._threads, self._at_once = start_engine, threads, at_once
        self._time_left_s = time_left_s

    def __call__(self, tasks: Sequence[ReplayTask]) -> Iterator[tuple[int, Outcome]]:
        from joblib import Parallel, delayed

        jobs = max(1, min(len(tasks), self._at_once))
        threads = max(1, self._threads // jobs)
        yield from Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")(
            delayed(self._one)(number, task, threads) for number, task in enumerate(tasks)
        )

    def _one(self, number: int, task: ReplayTask, threads: int) -> tuple[int, Outcome]:
        has_turn = number == 0 or self._time_left_s() > 0
        return number, replay(self._start_engine, task, threads) if has_turn else turn_missed()


def replay(start_engine: Callable[[], Engine], task: ReplayTask, threads: int) -> Outcome:
    """One draft over its answers, in an engine that is gone afterwards."""
    engine = start_engine()
    try:
        place, sequences = task.placement, task.rollout.chains + 1
        options = LoadOptions(
            task.cells, threads, place.draft_gpu_layers, sequences, outputs=ROWS_AT_ONCE, cache_type=place.cache_type
        )
        engine.open("draft", task.draft, options)
        scored = []
        for transcript in task.transcripts:
            started = time.perf_counter()
            trace = engine.score(transcript, task.rollout, "draft", task.temperature)
            scored.append((trace, time.perf_counter() - started))
        return scored
    except EngineError as error:
        return error
    finally:
        engine.shutdown()


def turn_missed() -> BudgetTooSmall:
    return BudgetTooSmall("The budget for replays was spent before its turn; give more --budget or fewer drafts.")


def replay_all(
    replayer: Replayer,
    store: Store,
    target: Model,
    candidates: Sequence[Candidate],
    transcripts: Sequence[Transcript],
    *,
    build_key: str,
    context: int,
    k_max: int,
    progress: Progress,
    temperature: float = 0.0,
) -> tuple[dict[str, tuple[Trace, ...]], dict[str, AdvisorError]]:
    """Traces by draft content hash, and the error of each draft that has none: its engine failed, or its turn never
    came. Traces found in the store need no engine. ``temperature`` as in ReplayTask."""
    progress.stage("replay the drafts over the answers", len(candidates))
    rollout = RolloutOptions(p_min=min(p for p in P_MIN_GRID if p > 0), length=k_max, chains=ROLLOUT_CHAINS)
    cells = context + rollout.chains * rollout.length  # the rollouts' own tokens need room beside the answer
    keys = {
        candidate.draft.content_hash: [
            trace_key(target, candidate.draft, transcript, rollout, build_key, temperature)
            for transcript in transcripts
        ]
        for candidate in candidates
    }
    traces: dict[str, tuple[Trace, ...]] = {}
    missing = []
    for candidate in candidates:
        found = [store.get("trace", key, Trace) for key in keys[candidate.draft.content_hash]]
        complete = [trace for trace in found if trace is not None]
        if len(complete) == len(found):
            traces[candidate.draft.content_hash] = tuple(complete)
            progress.step(candidate.draft.label)
        else:
            missing.append(candidate)
    tasks = [
        ReplayTask(candidate.draft, candidate.placement, tuple(transcripts), rollout, cells, temperature)
        for candidate in missing
    ]
    failures: dict[str, AdvisorError] = {}
    for number, outcome in replayer(tasks):
        candidate = missing[number]
        draft = candidate.draft.content_hash
        if isinstance(outcome, AdvisorError):
            failures[draft] = outcome
            progress.note(f"{candidate.draft.label} is left out: {outcome.what}")
        else:
            for key, (trace, seconds) in zip(keys[draft], outcome, strict=True):
                store.put("trace", key, trace, wall_s=seconds)
            traces[draft] = tuple(trace for trace, _ in outcome)
        progress.step(candidate.draft.label)
    asked = [candidate.draft.content_hash for candidate in candidates]
    return {draft: traces[draft] for draft in asked if draft in traces}, failures


def at_once(candidates: Sequence[Candidate], threads: int) -> int:
    """How many replays may run together: two threads each, and all of them beside the target in what memory is free."""
    if not candidates:
        return 1
    room = min(
        (use.available_bytes - use.margin_bytes - use.target.total_bytes)
        // (use.draft.total_bytes + SCORING_COPIES * ROWS_AT_ONCE * 4 * candidate.draft.vocabulary.size)
        for candidate in candidates
        for use in candidate.memory
    )
    return max(1, min(threads // 2, room))


def trace_key(
    target: Model,
    draft: Model,
    transcript: Transcript,
    rollout: RolloutOptions,
    build_key: str,
    temperature: float = 0.0,
) -> dict[str, object]:
    text = repr((transcript.prompt_tokens, transcript.answer_tokens)).encode()
    weights = repr((temperature, transcript.probability)).encode()
    return {
        **({"weights": hashlib.sha256(weights).hexdigest()[:24]} if transcript.probability else {}),
        "target": target.content_hash,
        "draft": draft.content_hash,
        "transcript": hashlib.sha256(text).hexdigest()[:24],
        "category": transcript.category,
        "rollout": vars(rollout),
        "build": build_key,
    }
