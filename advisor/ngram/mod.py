"""ngram-mod: a table from the hash of n tokens to the token after them, asked again with every drafted token.

Source: llama.cpp b11434, common/ngram-mod.cpp and common/speculative.cpp. The table does not compare the n tokens, so
two n-grams in one bucket are taken for each other; it is one for all slots and requests. It is emptied when more than a
quarter is in use as a request begins, and after five drafts in a row of which less than a quarter was accepted (of
their length before the cut to what is left of the answer). New text is entered when more than 32 tokens follow the
position last entered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from advisor.ngram.text import Text
from advisor.types import Config

MULTIPLIER, BUCKETS = 6364136223846793005, 1 << 22
FULL, CHUNK = 0.25, 32
LOW, LOW_STREAK = 0.25, 5


class NgramMod:
    default: ClassVar[Config] = Config("", 64, n_min=48, method="ngram-mod", ngram_size=24)

    def __init__(self, config: Config) -> None:
        self._n, self._k, self._n_min = config.ngram_size, config.k, config.n_min
        self._oldest_weight = pow(MULTIPLIER, self._n, BUCKETS)
        self._table: dict[int, int] = {}
        self._entered_to = 0
        self._drafted = 0
        self._low_streak = 0

    def begin(self, text: Text) -> None:
        self._tokens: list[int] = text.tokens
        self._hashes = text.hashes(self._n, MULTIPLIER, BUCKETS)
        self._entered_to = self._drafted = 0
        if text.prompt_size < self._n:
            return
        self._enter(text.prompt_size)
        if len(self._table) > FULL * BUCKETS:
            self._table.clear()

    def draft(self, in_memory: int) -> Sequence[int]:
        self._drafted = 0
        if in_memory < self._n:
            return ()
        if self._entered_to + CHUNK < in_memory:
            self._enter(in_memory)
        start = in_memory - self._n + 1
        window, bucket = self._tokens[start : in_memory + 1], self._hashes[start]
        for drafted in range(self._k):
            token = self._table.get(bucket)
            if token is None:
                if drafted < self._n_min:
                    return ()
                break
            bucket = (bucket * MULTIPLIER + token - window[drafted] * self._oldest_weight) % BUCKETS
            window.append(token)
        self._drafted = len(window) - self._n
        return window[self._n :]

    def accept(self, accepted: int) -> None:
        if accepted >= LOW * self._drafted:
            self._low_streak = 0
            return
        self._low_streak += 1
        if self._low_streak >= LOW_STREAK:
            self._table.clear()
            self._low_streak = self._entered_to = 0

    def _enter(self, in_memory: int) -> None:
        """Every n-gram that a token of the first ``in_memory`` follows; a later one takes the bucket."""
        first, end = self._entered_to, in_memory - self._n
        self._table.update(zip(self._hashes[first:end], self._tokens[first + self._n : end + self._n], strict=True))
        self._entered_to = end
