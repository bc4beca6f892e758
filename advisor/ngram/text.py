"""A request's text as an n-gram method reads it, with what every step looks up computed once a token.

The text may be whole from the start (a replay) or grow as it is written (a run); the methods do not tell them apart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

MASK = (1 << 64) - 1


class Text:
    """``tokens``: the prompt, of ``prompt_size`` tokens, then the answer as far as it is known."""

    def __init__(self, prompt: Sequence[int], answer: Sequence[int] = ()) -> None:
        self.tokens: list[int] = [*prompt, *answer]
        self.prompt_size = len(prompt)
        self._ngrams: dict[int, Ngrams] = {}
        self._hashes: dict[tuple[int, int, int], list[int]] = {}

    def extend(self, tokens: Iterable[int]) -> None:
        """Tokens that were written since; what ``hashes`` and ``ngrams`` have returned grows with them."""
        for token in tokens:
            self.tokens.append(token)
            for (n, multiplier, buckets), hashes in self._hashes.items():
                if len(self.tokens) >= n:
                    hashes.append(_hash(self.tokens[-n:], multiplier) & (buckets - 1))
            for ngrams in self._ngrams.values():
                ngrams.grow()

    def hashes(self, n: int, multiplier: int, buckets: int) -> list[int]:
        """The bucket of the n-gram at every position: a linear congruential hash, ``buckets`` a power of two."""
        key = (n, multiplier, buckets)
        if key not in self._hashes:
            tokens = np.array(self.tokens, np.uint64)
            windows = max(0, len(tokens) - n + 1)
            found = np.zeros(windows, np.uint64)
            for offset in range(n):
                found = found * np.uint64(multiplier) + tokens[offset : offset + windows]  # wraps at 2**64 as it should
            self._hashes[key] = (found & np.uint64(buckets - 1)).tolist()
        return self._hashes[key]

    def ngrams(self, n: int) -> Ngrams:
        if n not in self._ngrams:
            self._ngrams[n] = Ngrams(self.tokens, n)
        return self._ngrams[n]


class Ngrams:
    """``ids[j]`` names the n-gram that begins at position j: equal n-grams, equal names."""

    def __init__(self, tokens: Sequence[int], n: int) -> None:
        self._tokens, self._n = tokens, n
        self._names: dict[tuple[int, ...], int] = {}
        self._places: list[list[int]] = []
        self.ids: list[int] = []
        self.grow()

    def grow(self) -> None:
        """Take in what was appended to the tokens."""
        for place in range(len(self.ids), len(self._tokens) - self._n + 1):
            name = self._names.setdefault(tuple(self._tokens[place : place + self._n]), len(self._names))
            if name == len(self._places):
                self._places.append([])
            self.ids.append(name)
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


def _hash(tokens: Iterable[int], multiplier: int) -> int:
    found = 0
    for token in tokens:
        found = (found * multiplier + token) & MASK
    return found
