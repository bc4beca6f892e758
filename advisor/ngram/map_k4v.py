"""ngram-map-k4v: ngram-map-k that counts up to four continuations of a key and drafts only behind a dominant one.

Source: llama.cpp b11434, common/ngram-map.cpp. The count of the leading continuation must be at least twice that of all
others together. The newest match is counted again at every look. What is copied follows the match, not the leading
continuation; only the limit on its length is the leader's.
"""

from __future__ import annotations

from typing import ClassVar

from advisor.ngram.map_k import Key, NgramMapK, Value
from advisor.types import Config

MAX_VALUES, MAX_COUNT, DOMINANCE = 4, 16380, 2


class NgramMapK4V(NgramMapK):
    default: ClassVar[Config] = Config("", 48, method="ngram-map-k4v", ngram_size=12)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._min_hits = config.ngram_min_hits

    def _choose(self, key: Key, match: int) -> Value | None:
        key.hits = min(key.hits + 1, MAX_COUNT)
        if key.hits < self._min_hits:
            return None
        for place in self._ngrams.between(match, key.counted_to, match):
            self._count(key, place + self._n)
        key.counted_to = match
        leader = max(key.values, key=lambda value: value.count)
        others = sum(value.count for value in key.values) - leader.count
        return leader if leader.count >= DOMINANCE * others else None

    def _count(self, key: Key, place: int) -> None:
        seen = self._tokens[place : place + self._k]
        for value in key.values:
            if self._tokens[value.place : value.place + self._k] == seen:
                value.count = min(value.count + 1, MAX_COUNT)
                return
        if len(key.values) < MAX_VALUES:
            key.values.append(Value(place, self._k, count=1))

    def _outlives(self, key: Key, below: int) -> bool:
        key.values = [value for value in key.values if value.place < below]
        return key.place < below and bool(key.values)
