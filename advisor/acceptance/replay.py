"""Replay: one teacher-forced pass of a draft over the target's answers decides every k and n_min at once."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from advisor.engines.base import NO_LIMIT, NO_ROLLOUT, Engine, LoadOptions, RolloutOptions
from advisor.errors import AdvisorError, EngineError, OutOfTime
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import Build, Candidate, Model, Placement, Trace, Transcript

P_MIN_GRID = (0.0, 0.4, 0.6, 0.75, 0.9)
ROWS_AT_ONCE = 64  # positions scored in one decode: 64 rows of logits are 39 MB for a vocabulary of 152k
SCORING_COPIES = 3  # logits as llama.cpp reserves them, as it hands them out, and numpy's copy
ROLLOUT_CHAINS = 8  # per answer: enough to know the mean length of a doomed draft, cheap enough to be always on


Outcome = list[tuple[Trace, float]] | AdvisorError
"""Of one draft: traces of the answers, or of the first ones in time, each with the seconds it took; or why none."""


@dataclass(frozen=True)
class ReplayTask:
    """One draft over all answers, in a context of ``cells`` tokens.

    ``temperature``: of the answers, for the chances under rejection sampling where they know their probabilities.
    ``rolled_out``: of how many answers rollouts are followed, which take as long as the rest.
    """

    draft: Model
    placement: Placement
    transcripts: tuple[Transcript, ...]
    rollout: RolloutOptions
    cells: int
    temperature: float = 0.0
    rolled_out: int = sys.maxsize


Replayer = Callable[[Sequence[ReplayTask]], Iterator[tuple[int, Outcome]]]
"""(number of the task, its outcome), each as soon as it is there, in any order."""


Elsewhere = Callable[["ReplaysHere", Build, Callable[[], float]], Replayer]
"""(replays on this machine, its build, time_left_s) -> replays on any of several machines."""


class ReplaysHere:
    """Replays on this machine: ``at_once`` of them share ``threads``, each with an engine of its own.

    Every draft has its turn, and an equal part of ``time_left_s()`` for what is left of them. Nothing may be timed
    meanwhile. Threads wait asleep, which costs a replay little and makes it bearable beside other programs.
    """

    def __init__(
        self,
        start_engine: Callable[[], Engine],
        *,
        threads: int,
        at_once: int,
        time_left_s: Callable[[], float],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._start_engine, self._threads, self._at_once = start_engine, threads, at_once
        self._time_left_s, self._clock = time_left_s, clock
        self._own = threading.local()
        self._engines: list[Engine] = []

    def __call__(self, tasks: Sequence[ReplayTask]) -> Iterator[tuple[int, Outcome]]:
        from joblib import Parallel, delayed

        jobs = max(1, min(len(tasks), self._at_once))
        threads = max(1, self._threads // jobs)
        try:
            yield from Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")(
                delayed(self._one)(number, task, threads, -(-(len(tasks) - number) // jobs))
                for number, task in enumerate(tasks)
            )
        finally:
            for engine in self._engines:
                engine.shutdown()

    def _one(self, number: int, task: ReplayTask, threads: int, turns: int) -> tuple[int, Outcome]:
        """``turns``: how many of them the time that is left must do for."""
        return number, replay_with(self._engine(), task, threads, self._time_left_s() / turns, self._clock)

    def _engine(self) -> Engine:
        """Of this thread: it is opened anew for each draft, without another process."""
        if not hasattr(self._own, "engine"):
            self._own.engine = self._start_engine()
            self._engines.append(self._own.engine)
        engine: Engine = self._own.engine
        return engine


def replay(start_engine: Callable[[], Engine], task: ReplayTask, threads: int) -> Outcome:
    """One draft over its answers, in an engine that is gone afterwards."""
    engine = start_engine()
    try:
        return replay_with(engine, task, threads)
    finally:
        engine.shutdown()


def replay_with(
    engine: Engine,
    task: ReplayTask,
    threads: int,
    within_s: float = NO_LIMIT,
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """One draft over its answers: over the first in any case, over others while ``within_s`` lasts."""
    place, sequences = task.placement, task.rollout.chains + 1
    options = LoadOptions(
        task.cells,
        threads,
        place.draft_gpu_layers,
        sequences,
        outputs=ROWS_AT_ONCE,
        cache_type=place.cache_type,
        waiting="asleep",
    )
    began, scored = clock(), list[tuple[Trace, float]]()
    try:
        engine.open("draft", task.draft, options)
        for number, transcript in enumerate(task.transcripts):
            started = clock()
            left_s = within_s - (started - began)
            if scored and left_s <= 0:
                break
            rollout = task.rollout if number < task.rolled_out else NO_ROLLOUT
            with engine.within(left_s if scored else NO_LIMIT):
                trace = engine.score(transcript, rollout, "draft", task.temperature)
            scored.append((trace, clock() - started))
    except OutOfTime as late:
        return scored or late
    except EngineError as error:
        return error
    return scored


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
    rolled_out: int = sys.maxsize,
) -> tuple[dict[str, tuple[Trace, ...]], dict[str, AdvisorError]]:
    """Traces by draft content hash, of the first answers where there was no time for all, and the error of each draft
    whose engine failed. One whose turn never came is in neither. ``candidates`` have their turns in this order. Traces
    found in the store need no engine. ``temperature`` and ``rolled_out`` as in ReplayTask."""
    progress.stage("replay the drafts over the answers", len(candidates))
    rollout = RolloutOptions(p_min=min(p for p in P_MIN_GRID if p > 0), length=k_max, chains=ROLLOUT_CHAINS)
    cells = context + rollout.chains * rollout.length  # the rollouts' own tokens need room beside the answer
    keys = {
        candidate.draft.content_hash: [
            trace_key(
                target,
                candidate.draft,
                transcript,
                rollout if number < rolled_out else NO_ROLLOUT,
                build_key,
                temperature,
            )
            for number, transcript in enumerate(transcripts)
        ]
        for candidate in candidates
    }
    traces: dict[str, tuple[Trace, ...]] = {}
    missing = []
    for candidate in candidates:
        found = [store.get("trace", key, Trace) for key in keys[candidate.draft.content_hash]]
        complete = [trace for trace in found if trace is not None]
        if found and len(complete) == len(found):
            traces[candidate.draft.content_hash] = tuple(complete)
            progress.step(candidate.draft.label)
        else:
            missing.append(candidate)
    tasks = [
        ReplayTask(candidate.draft, candidate.placement, tuple(transcripts), rollout, cells, temperature, rolled_out)
        for candidate in missing
    ]
    failures: dict[str, AdvisorError] = {}
    for number, outcome in replayer(tasks):
        candidate = missing[number]
        draft = candidate.draft.content_hash
        if isinstance(outcome, OutOfTime):
            continue
        if isinstance(outcome, AdvisorError):
            failures[draft] = outcome
            progress.note(f"{candidate.draft.label} is left out: {outcome.what}")
        else:
            for key, (trace, seconds) in zip(keys[draft], outcome, strict=False):  # the first ones, in time
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
