"""One transcript as an n-gram method reads it, with what every step looks up computed once for the whole text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from advisor.types import Transcript


class Text:
    """``tokens``: the prompt, then the answer. ``prompt_size``: how many of them are the prompt."""

    def __init__(self, transcript: Transcript) -> None:
        self.tokens: list[int] = [*transcript.prompt_tokens, *transcript.answer_tokens]
        self.prompt_size = len(transcript.prompt_tokens)
        self._ngrams: dict[int, Ngrams] = {}

    def hashes(self, n: int, multiplier: int, buckets: int) -> list[int]:
        """The bucket of the n-gram at every position: a linear congruential hash, ``buckets`` a power of two."""
        tokens = np.array(self.tokens, np.uint64)
        windows = max(0, len(tokens) - n + 1)
        found = np.zeros(windows, np.uint64)
        for offset in range(n):
            found = found * np.uint64(multiplier) + tokens[offset : offset + windows]  # wraps at 2**64 as it should
        buckets_of: list[int] = (found & np.uint64(buckets - 1)).tolist()
        return buckets_of

    def ngrams(self, n: int) -> Ngrams:
        if n not in self._ngrams:
            self._ngrams[n] = Ngrams(self.tokens, n)
        return self._ngrams[n]


class Ngrams:
    """``ids[j]`` names the n-gram that begins at position j: equal n-grams, equal names."""

    def __init__(self, tokens: Sequence[int], n: int) -> None:
        names: dict[tuple[int, ...], int] = {}
        windows = len(tokens) - n + 1
        self.ids = [names.setdefault(tuple(tokens[j : j + n]), len(names)) for j in range(windows)]
        self._places: list[list[int]] = [[] for _ in names]
        for place, name in enumerate(self.ids):
            self._places[name].append(place)

    def latest(self, start: int, upto: int, *, above: int = 0) -> int:
        """The last position in above + 1 .. ``upto`` with the n-gram of position ``start``; 0 where there is none.

        llama.cpp marks "no match" with position 0, so a match at the very first token does not count.
        """
        places = self._places[self.ids[start]]
        found = bisect_right(places, upto)
        return places[found - 1] if found and places[found - 1] > above else 0

    def between(self, start: int, first: int, last: int) -> list[int]:
        """All positions in ``first`` .. ``last`` with the n-gram of position ``start``."""
        places = self._places[self.ids[start]]
        return places[bisect_left(places, first) : bisect_right(places, last)]
