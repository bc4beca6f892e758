"""The target's own answers, written once per prompt and kept: the text every replay is judged against."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from advisor.engines.again import asked_again_once
from advisor.engines.base import NO_LIMIT, Runner
from advisor.errors import OutOfTime, WorkloadError
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import Model, Prompt, Run, Sampling, Transcript


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
    begun: Sequence[Transcript] = (),
    time_left_s: Callable[[], float] = lambda: NO_LIMIT,
    on_run: Callable[[Run], None] = lambda _run: None,
) -> tuple[Transcript, ...]:
    """One transcript a prompt, from the store where it has them. The engine must hold the target.

    ``begun``: shorter answers, which are gone on with. While ``time_left_s()`` lasts each prompt has an equal part of
    it; afterwards answers stay as short as they are, and prompts without one are left out. ``on_run`` is told how fast
    the target wrote. Raises WorkloadError when the target has nothing to say to any prompt.
    """
    progress.stage("the target writes its answers", len(prompts))
    shorter = {transcript.prompt: transcript for transcript in begun}
    written = []
    for number, prompt in enumerate(prompts):
        asked = prompt_digest(prompt)
        key = transcript_key(target, asked, prompt.category, sampling, max_tokens, context, engine.build.key)
        transcript = store.get("transcript", key, Transcript)
        if transcript is None or not _is_whole(transcript, max_tokens, context):
            within_s = time_left_s() / (len(prompts) - number)
            started = time.perf_counter()
            author = _Author(engine, sampling, context, within_s, on_run)
            transcript = author.write(prompt, max_tokens, transcript or shorter.get(asked))
            if transcript is not None:
                store.put("transcript", key, transcript, wall_s=time.perf_counter() - started)
        if transcript is not None:
            written.append(replace(transcript, prompt=asked))
        progress.step(prompt.category)
    useful = tuple(transcript for transcript in written if len(transcript.answer_tokens) > 1)
    if not useful and written and time_left_s() > 0:
        raise WorkloadError(
            "The target answered every prompt with nothing.",
            why="Acceptance is measured over its answers.",
            fix="Check its chat template, or give other prompts with --workload.",
        )
    if not useful:
        raise OutOfTime
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


@dataclass(frozen=True)
class _Author:
    """Writes one answer, within a time."""

    engine: Runner
    sampling: Sampling
    context: int
    within_s: float
    on_run: Callable[[Run], None]

    def write(self, prompt: Prompt, max_tokens: int, begun: Transcript | None) -> Transcript | None:
        """``begun`` or longer; None where there is no time for a token. A sampled answer is written from its beginning:
        its lots would be others."""
        if begun is not None and (begun.ended or len(begun.answer_tokens) >= max_tokens or self.within_s <= 0):
            return begun
        goes_on = begun is not None and self.sampling.temperature == 0
        first = begun.answer_tokens if begun is not None and goes_on else ()
        tokens = begun.prompt_tokens if begun else asked_again_once(lambda: self.engine.tokenize(prompt.messages))
        room = min(max_tokens, self.context - len(tokens)) - len(first)
        if room <= 0 or self.within_s <= 0:
            return begun
        try:
            with self.engine.within(self.within_s):
                run = asked_again_once(lambda: self.engine.answer((*tokens, *first), self.sampling, room))
        except OutOfTime:
            return begun
        self.on_run(run)
        answer = (*first, *run.answer_tokens)
        if begun is not None and len(answer) <= len(begun.answer_tokens):
            return begun
        text, ended = asked_again_once(lambda: self.engine.text(answer))
        if len(answer) == 1 and room > 1 and not ended:
            return begun  # time ended it, not the target
        return Transcript(prompt.category, tokens, answer, ended, text)


def _is_whole(transcript: Transcript, max_tokens: int, context: int) -> bool:
    """Not cut short by time."""
    room = min(max_tokens, context - len(transcript.prompt_tokens))
    return transcript.ended or len(transcript.answer_tokens) >= room


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()[:24]
