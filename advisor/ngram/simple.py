"""ngram-simple: copy what followed the last occurrence of the newest n tokens. It keeps no state.

Source: llama.cpp b11434, common/ngram-map.cpp. A copy shorter than n is not drafted, so k below n never speculates;
``--spec-ngram-simple-min-hits`` exists and is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from advisor.ngram.text import Ngrams, Text
from advisor.types import Config


class NgramSimple:
    default: ClassVar[Config] = Config("", 48, method="ngram-simple", ngram_size=12)

    def __init__(self, config: Config) -> None:
        self._n, self._k = config.ngram_size, config.k

    def begin(self, text: Text) -> None:
        self._tokens: list[int] = text.tokens
        self._ngrams: Ngrams = text.ngrams(self._n)

    def draft(self, in_memory: int) -> Sequence[int]:
        if in_memory <= self._n + self._k + 1:
            return ()
        match = self._ngrams.latest(in_memory - self._n + 1, in_memory - self._n - 1)
        copied = min(self._k, in_memory - match - self._n)
        if match == 0 or copied < self._n:
            return ()
        return self._tokens[match + self._n : match + self._n + copied]

    def accept(self, accepted: int) -> None:
        """Nothing is learned."""
