"""The n-gram methods of llama-server: no model drafts, the text itself does.

A method is a class that is started once for a server and sees one request after the other, because three of the four
carry state from one to the next. One file a method; ``METHODS`` names them as ``--spec-type`` does. In a Config the
length of what is looked up is ``ngram_size`` and the longest draft is ``k``; ``draft`` is "" and p_min plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from advisor.ngram.map_k import NgramMapK
from advisor.ngram.map_k4v import NgramMapK4V
from advisor.ngram.mod import NgramMod
from advisor.ngram.simple import NgramSimple
from advisor.ngram.text import Text
from advisor.types import Config


class NgramMethod(Protocol):
    """``default``: the settings the server has by itself."""

    default: ClassVar[Config]

    def __init__(self, config: Config) -> None: ...

    def begin(self, text: Text) -> None:
        """A request's prompt is in memory. Of ``text.tokens`` only what is in memory may be drafted from."""

    def draft(self, in_memory: int) -> Sequence[int]:
        """What follows ``text.tokens[in_memory]``, the newest token, which is sampled but not in memory yet."""

    def accept(self, accepted: int) -> None:
        """How much of the last draft the target took. Called after every draft that was not empty."""


METHODS: dict[str, type[NgramMethod]] = {
    "ngram-simple": NgramSimple,
    "ngram-map-k": NgramMapK,
    "ngram-map-k4v": NgramMapK4V,
    "ngram-mod": NgramMod,
}
