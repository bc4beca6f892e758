"""What the n-gram methods of llama-server would have drafted of the target's own answers: no model is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from advisor.acceptance.walk import Walk
from advisor.ngram import METHODS, NgramMethod
from advisor.ngram.text import Text
from advisor.types import Config, Transcript

DRAFT_LENGTHS = (4, 7, 12, 16, 24, 32, 48, 64)  # 7: the last before kernels switch at 9 rows
SIZES = {"ngram-simple": (3, 5, 8, 12), "ngram-map-k": (3, 5, 8, 12), "ngram-map-k4v": (3, 5, 8, 12)}
MOD_SIZES = (12, 16, 24)  # below 16 the server warns of poor drafts, which the replay would show
MOD_LEAST = (0.0, 0.75)  # of k: any draft, and the share the server has by itself


class NgramAcceptance:
    """What n-gram methods would have drafted of these answers, requested in this order from one server of one slot.

    ``context`` and ``max_tokens`` are the server's; both shorten the last drafts.
    """

    def __init__(self, transcripts: Sequence[Transcript], *, context: int, max_tokens: int) -> None:
        self._transcripts = transcripts
        self._texts = [Text(t.prompt_tokens, t.answer_tokens) for t in transcripts]
        self._context, self._max_tokens = context, max_tokens
        self.categories = tuple(transcript.category for transcript in transcripts)

    def cut(self, max_tokens: int) -> NgramAcceptance:
        """The same answers, each requested with this limit."""
        shorter = [replace(one, answer_tokens=one.answer_tokens[:max_tokens]) for one in self._transcripts]
        return NgramAcceptance(shorter, context=self._context, max_tokens=max_tokens)

    def walks(self, config: Config) -> list[Walk]:
        """One walk an answer."""
        method = METHODS[config.method](config)
        return [
            walk_request(text, method, config.k, context=self._context, max_tokens=self._max_tokens)
            for text in self._texts
        ]


def walk_request(text: Text, method: NgramMethod, k: int, *, context: int, max_tokens: int) -> Walk:
    """One request as the server answers it. ``method`` brings what it kept of the requests before."""
    method.begin(text)
    emitted, length = 1, len(text.tokens) - text.prompt_size
    result = Walk(tokens=max(0, length - 1), accepted_per_position=[0] * k)
    while emitted < length:
        in_memory = text.prompt_size + emitted - 1
        room = min(context - in_memory - 2, max_tokens - emitted - 1)
        draft = method.draft(in_memory)[:room] if room > 0 else ()
        agreed = _agreed(draft, text.tokens, in_memory + 1)
        accepted = result.add_step(len(draft), agreed, left=length - emitted)
        if draft:
            method.accept(accepted)
        emitted += accepted + 1
    return result


def ngram_configs(k_max: int) -> tuple[Config, ...]:
    """The settings worth trying, with drafts of ``k_max`` tokens at most."""
    lengths = [k for k in DRAFT_LENGTHS if k <= k_max]
    found = [
        Config("", k, method=method, ngram_size=size)
        for method, sizes in SIZES.items()
        for size in sizes
        for k in lengths
        if k >= size or method != "ngram-simple"  # shorter copies are never drafted there
    ]
    found += [
        Config("", k, n_min=round(least * k), method="ngram-mod", ngram_size=size)
        for size in MOD_SIZES
        for k in lengths
        for least in MOD_LEAST
    ]
    return tuple(found)


def _agreed(draft: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many drafted tokens are the text's own from position ``start`` on."""
    for count, token in enumerate(draft):
        if start + count >= len(tokens) or tokens[start + count] != token:
            return count
    return len(draft)
