"""The n-gram methods of llama-server, replayed over the target's own answers: no model drafts, none is run.

A method is a class that is started once for a server and sees one request after the other, because three of the four
carry state from one to the next. One file a method; ``METHODS`` names them as ``--spec-type`` does. In a Config the
length of what is looked up is ``ngram_size`` and the longest draft is ``k``; ``draft`` is "" and p_min plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from advisor.acceptance.ngram.map_k import NgramMapK
from advisor.acceptance.ngram.map_k4v import NgramMapK4V
from advisor.acceptance.ngram.mod import NgramMod
from advisor.acceptance.ngram.simple import NgramSimple
from advisor.acceptance.ngram.text import Text
from advisor.acceptance.walk import Walk
from advisor.types import Config, Transcript


class NgramMethod(Protocol):
    """``flags``: fields of Config by their llama-server option. ``default``: the settings the server has by itself."""

    flags: ClassVar[dict[str, str]]
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

DRAFT_LENGTHS = (4, 7, 12, 16, 24, 32, 48, 64)  # 7: the last before kernels switch at 9 rows
SIZES = {"ngram-simple": (3, 5, 8, 12), "ngram-map-k": (3, 5, 8, 12), "ngram-map-k4v": (3, 5, 8, 12)}
MOD_SIZES = (12, 16, 24)  # below 16 the server warns of poor drafts, which the replay would show
MOD_LEAST = (0.0, 0.75)  # of k: any draft, and the share the server has by itself


class NgramAcceptance:
    """What n-gram methods would have drafted of these answers, requested in this order from one server of one slot.

    ``context`` and ``max_tokens`` are the server's; both shorten the last drafts.
    """

    def __init__(self, transcripts: Sequence[Transcript], *, context: int, max_tokens: int) -> None:
        self._texts = [Text(transcript) for transcript in transcripts]
        self._context, self._max_tokens = context, max_tokens
        self.answers = len(transcripts)

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


def ngram_flags(config: Config) -> dict[str, str]:
    """The options with which llama-server (b9464 and later) runs this config, by name, in order."""
    flags = METHODS[config.method].flags
    return {"--spec-type": config.method, **{flag: str(getattr(config, field)) for field, flag in flags.items()}}


def _agreed(draft: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many drafted tokens are the text's own from position ``start`` on."""
    for count, token in enumerate(draft):
        if start + count >= len(tokens) or tokens[start + count] != token:
            return count
    return len(draft)
