"""Replay: one teacher-forced pass of a draft over the target's answers decides every k and n_min at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from advisor.engines.base import Engine, LoadOptions, RolloutOptions
from advisor.errors import AdvisorError, BudgetTooSmall, EngineError
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import Candidate, Model, Trace, Transcript

P_MIN_GRID = (0.0, 0.4, 0.6, 0.75, 0.9)
ROWS_AT_ONCE = 64  # positions scored in one decode: 64 rows of logits are 39 MB for a vocabulary of 152k
SCORING_COPIES = 3  # logits as llama.cpp reserves them, as it hands them out, and numpy's copy
ROLLOUT_CHAINS = 8  # per answer: enough to know the mean length of a doomed draft, cheap enough to be always on


def replay_all(
    start_engine: Callable[[], Engine],
    store: Store,
    target: Model,
    candidates: Sequence[Candidate],
    transcripts: Sequence[Transcript],
    *,
    build_key: str,
    context: int,
    k_max: int,
    threads: int,
    at_once: int,
    time_left_s: Callable[[], float],
    progress: Progress,
    temperature: float = 0.0,
) -> tuple[dict[str, tuple[Trace, ...]], dict[str, AdvisorError]]:
    """Traces by draft content hash, and the error of each draft that has none: its engine failed, or its turn came
    after ``time_left_s()`` was spent (the first always has its turn).

    ``temperature``: of the answers, for the chances under rejection sampling where they know their probabilities.
    ``start_engine()`` gives an engine of its own to each replay; ``at_once`` of them share ``threads``.
    Traces found in the store need no engine. Nothing may be timed while this runs.
    """
    from joblib import Parallel, delayed

    progress.stage("replay the drafts over the answers", len(candidates))
    rollout = RolloutOptions(p_min=min(p for p in P_MIN_GRID if p > 0), length=k_max, chains=ROLLOUT_CHAINS)
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
    jobs = max(1, min(len(missing), at_once))
    outcomes = Parallel(n_jobs=jobs, backend="threading", return_as="generator")(
        delayed(_replay_one)(
            start_engine, candidate, transcripts, rollout, temperature, context, max(1, threads // jobs), left_s
        )
        for candidate, left_s in zip(missing, [lambda: 1.0, *[time_left_s] * len(missing)], strict=False)
    )
    failures: dict[str, AdvisorError] = {}
    for candidate, outcome in zip(missing, outcomes, strict=True):
        draft = candidate.draft.content_hash
        if isinstance(outcome, AdvisorError):
            failures[draft] = outcome
            progress.note(f"{candidate.draft.label} is left out: {outcome.what}")
        else:
            for key, (trace, seconds) in zip(keys[draft], outcome, strict=True):
                store.put("trace", key, trace, wall_s=seconds)
            traces[draft] = tuple(trace for trace, _ in outcome)
        progress.step(candidate.draft.label)
    return traces, failures


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


def _replay_one(
    start_engine: Callable[[], Engine],
    candidate: Candidate,
    transcripts: Sequence[Transcript],
    rollout: RolloutOptions,
    temperature: float,
    context: int,
    threads: int,
    time_left_s: Callable[[], float],
) -> list[tuple[Trace, float]] | AdvisorError:
    if time_left_s() <= 0:
        return BudgetTooSmall("The budget for replays was spent before its turn; give more --budget or fewer drafts.")
    engine = start_engine()
    try:
        cells = context + rollout.chains * rollout.length  # the rollouts' own tokens need room beside the answer
        place, sequences = candidate.placement, rollout.chains + 1
        options = LoadOptions(
            cells, threads, place.draft_gpu_layers, sequences, outputs=ROWS_AT_ONCE, cache_type=place.cache_type
        )
        engine.open("draft", candidate.draft, options)
        scored = []
        for transcript in transcripts:
            started = time.perf_counter()
            trace = engine.score(transcript, rollout, "draft", temperature)
            scored.append((trace, time.perf_counter() - started))
        return scored
    except EngineError as error:
        return error
    finally:
        engine.shutdown()
