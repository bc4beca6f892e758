"""ngram-map-k: copy what followed an earlier occurrence of the newest n tokens, found through a hash table.

Source: llama.cpp b11434, common/ngram-map.cpp. What differs from ngram-simple:

- the table keeps the first position that took a bucket: in the prompt its last occurrence, in the answer its first; an
  n-gram whose bucket another one holds is never found again, and the last n + m + 1 positions of the prompt never are
- a key never drafts more than was accepted of its last draft, so one complete miss silences it
- keys, buckets and the position they were filled up to belong to the server's slot and live on into the next request.
  They are only cleaned when that request's prompt is shorter than the text before; otherwise they now name positions
  of another text, and positions below the last one filled are not entered again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from advisor.ngram.text import Ngrams, Text
from advisor.types import Config

MULTIPLIER, BUCKETS = 2654435761, 1 << 18


@dataclass
class Value:
    """A continuation of a key. ``limit``: drafts are no longer than this; 0 = never again."""

    place: int
    limit: int
    count: int = 0


@dataclass
class Key:
    """An n-gram that was met again, first matched at ``place``. ngram-map-k has one value a key, k4v up to four."""

    place: int
    hits: int = 0
    counted_to: int = 0
    values: list[Value] = field(default_factory=list)


class NgramMapK:
    default: ClassVar[Config] = Config("", 48, method="ngram-map-k", ngram_size=12)

    def __init__(self, config: Config) -> None:
        self._n, self._k = config.ngram_size, config.k
        self._buckets: dict[int, int] = {}
        self._filled_to = 0
        self._keys: list[Key] = []
        self._prompt_size = 0
        self._looked_to = 0
        self._drafted: Value | None = None
        self._unnamed: list[Key] = []

    def begin(self, text: Text) -> None:
        if text.prompt_size < self._looked_to:
            self._clean(text.prompt_size)
        self._prompt_size = self._looked_to = text.prompt_size
        self._tokens: list[int] = text.tokens
        self._ngrams: Ngrams = text.ngrams(self._n)
        self._hashes = text.hashes(self._n, MULTIPLIER, BUCKETS)
        self._key_of: dict[int, Key] = {}
        self._unnamed = self._keys
        self._name_keys()

    def draft(self, in_memory: int) -> Sequence[int]:
        self._drafted = None
        if in_memory < 2 * self._n + self._k:
            return ()
        self._looked_to = in_memory
        self._name_keys()
        start, last = in_memory - self._n + 1, in_memory - self._n - self._k - 1
        match = self._find(start, last)
        self._fill(last)
        if match == 0:
            return ()
        self._drafted = self._choose(self._key(start, match), match)
        length = min(self._k, self._drafted.limit) if self._drafted else 0
        return self._tokens[match + self._n : match + self._n + length]

    def accept(self, accepted: int) -> None:
        if self._drafted is not None:
            self._drafted.limit = accepted

    def _choose(self, key: Key, match: int) -> Value | None:
        """Which of the key's values is drafted; what is copied is always what follows ``match``."""
        if not key.values:
            key.values.append(Value(match + self._n, self._k))
        return key.values[0]

    def _outlives(self, key: Key, below: int) -> bool:
        """Whether a key survives the cleaning of every position from ``below`` on."""
        return key.place < below

    def _clean(self, prompt_size: int) -> None:
        below = self._prompt_size if self._prompt_size <= prompt_size else max(0, prompt_size - self._n - self._k)
        self._buckets = {bucket: place for bucket, place in self._buckets.items() if place < below}
        self._filled_to = max(0, below - 1)
        self._keys = [key for key in self._keys if self._outlives(key, below)]

    def _find(self, start: int, last: int) -> int:
        """The table's answer, else the newest of the positions that are not in the table yet; 0 where there is none."""
        place = self._buckets.get(self._hashes[start], 0)
        if 0 < place < last and self._ngrams.ids[place] == self._ngrams.ids[start]:
            return place
        in_prompt = self._ngrams.latest(start, self._prompt_size - self._n - self._k - 1, above=self._filled_to)
        return in_prompt or self._ngrams.latest(start, last, above=max(self._prompt_size, self._filled_to))

    def _fill(self, last: int) -> None:
        """Enter what is new, newest first: a bucket that is taken stays as it is."""
        for place in range(self._prompt_size - self._n - self._k - 1, self._filled_to, -1):
            self._buckets.setdefault(self._hashes[place], place)
        for place in range(last, max(self._prompt_size, self._filled_to), -1):
            self._buckets.setdefault(self._hashes[place], place)
        self._filled_to = max(last, self._filled_to)

    def _name_keys(self) -> None:
        """Give the keys of earlier requests the n-gram that now is at their place, once the text reaches so far."""
        known = len(self._ngrams.ids)
        for key in self._unnamed:
            if key.place < known:
                self._key_of.setdefault(self._ngrams.ids[key.place], key)
        self._unnamed = [key for key in self._unnamed if key.place >= known]

    def _key(self, start: int, match: int) -> Key:
        name = self._ngrams.ids[start]
        if name not in self._key_of:
            self._key_of[name] = Key(match)
            self._keys.append(self._key_of[name])
        return self._key_of[name]
