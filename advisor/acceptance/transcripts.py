"""The target's own answers, written once per prompt and kept: the text every replay is judged against."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from advisor.engines.again import asked_again_once
from advisor.engines.base import Runner
from advisor.errors import WorkloadError
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import Model, Prompt, Sampling, Transcript


def spread(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The prompts reordered so that every prefix holds the categories as evenly as it can; order within one is kept."""
    queues: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        queues.setdefault(prompt.category, []).append(prompt)
    ordered: list[Prompt] = []
    while any(queues.values()):
        ordered.extend(queue.pop(0) for queue in queues.values() if queue)
    return tuple(ordered)


def write_transcripts(
    engine: Runner,
    store: Store,
    target: Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    context: int,
    max_tokens: int,
    progress: Progress,
) -> tuple[Transcript, ...]:
    """One transcript a prompt, from the store where it has them. The engine must hold the target.

    Raises WorkloadError when the target has nothing to say to any prompt.
    """
    progress.stage("the target writes its answers", len(prompts))
    written = []
    for prompt in prompts:
        asked = prompt_digest(prompt)
        key = transcript_key(target, asked, prompt.category, sampling, max_tokens, context, engine.build.key)
        transcript = store.get("transcript", key, Transcript)
        if transcript is None:
            started = time.perf_counter()
            transcript = _write(engine, prompt, sampling, context, max_tokens)
            store.put("transcript", key, transcript, wall_s=time.perf_counter() - started)
        written.append(replace(transcript, prompt=asked))
        progress.step(prompt.category)
    useful = tuple(transcript for transcript in written if len(transcript.answer_tokens) > 1)
    if not useful:
        raise WorkloadError(
            "The target answered every prompt with nothing.",
            why="Acceptance is measured over its answers.",
            fix="Check its chat template, or give other prompts with --workload.",
        )
    return useful


def transcript_key(
    target: Model, prompt: str, category: str, sampling: Sampling, max_tokens: int, context: int, build_key: str
) -> dict[str, object]:
    """``prompt`` is its digest."""
    return {
        "target": target.content_hash,
        "prompt": prompt,
        "category": category,
        "sampling": vars(sampling),
        "max_tokens": max_tokens,
        "context": context,
        "build": build_key,
    }


def prompt_digest(prompt: Prompt) -> str:
    """The same for the same messages, whatever they are called."""
    return _digest((message.role, message.content) for message in prompt.messages)


def answer_digest(transcript: Transcript) -> str:
    return _digest(transcript.answer_tokens)


def _write(engine: Runner, prompt: Prompt, sampling: Sampling, context: int, max_tokens: int) -> Transcript:
    tokens = asked_again_once(lambda: engine.tokenize(prompt.messages))
    run = asked_again_once(lambda: engine.answer(tokens, sampling, min(max_tokens, context - len(tokens))))
    text, ended = asked_again_once(lambda: engine.text(run.answer_tokens))
    return Transcript(prompt.category, tokens, run.answer_tokens, ended, text)


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()[:24]
