"""The vocabulary of a model file: its header with the defaults llama.cpp fills in, and its token texts on demand.

The defaults follow ``llama_vocab::impl::load`` (src/llama-vocab.cpp, b11434): when a file does not say whether BOS and
EOS are added or which ids they have, the tokenizer model decides, and for BPE the pre-tokenizer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from advisor.gguf.cursor import mapped
from advisor.gguf.header import STRING, ArraySpan, Header, read_header
from advisor.gguf.parts import first_part
from advisor.types import VocabularyHeader

TOKENS = "tokenizer.ggml.tokens"

NO_VOCABULARY = frozenset({"no_vocab", "none"})


@dataclass(frozen=True)
class _Defaults:
    bos_id: int | None
    eos_id: int | None
    add_bos: bool
    add_eos: bool


_BPE = _Defaults(11, 11, False, False)
_NOTHING = _Defaults(None, None, False, False)
_DEFAULTS = {
    "llama": _Defaults(1, 2, True, False),
    "bert": _Defaults(101, None, True, False),
    "gpt2": _BPE,
    "hybriddna": _BPE,
    "whitespace": _BPE,
    "t5": _Defaults(None, 1, False, True),
    "plamo2": _Defaults(1, 2, False, False),
    "gemma4": _NOTHING,
    "rwkv": _NOTHING,
    "test": _NOTHING,
}
_BPE_MODELS = frozenset({"gpt2", "hybriddna", "whitespace", "gemma4"})
_PRE_THAT_ADDS_BOS = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"}
    | {"tekken", "chameleon"}
)
_PRE_WITHOUT_BOS = frozenset({"chatglm-bpe", "glm4", "glm5"})


def read_vocabulary(header: Header, *, required: bool) -> VocabularyHeader:
    """The effective vocabulary header. GGUFError when a ``required`` vocabulary is missing or empty."""
    model = header.text("tokenizer.ggml.model") or ""
    pre = "gemma4" if model == "gemma4" else header.text("tokenizer.ggml.pre") or ""
    if not model or model in NO_VOCABULARY:
        if required:
            raise header.wrong("tokenizer.ggml.model", "the file holds no vocabulary")
        return VocabularyHeader(model or "none", pre, 0, None, None, False, False)
    size = _token_count(header)
    defaults = _defaults_of(model, pre)
    add_bos = _flag(header, "tokenizer.ggml.add_bos_token", defaults.add_bos)
    return VocabularyHeader(
        model=model,
        pre=pre,
        size=size,
        bos_id=_special_id(header, "tokenizer.ggml.bos_token_id", defaults.bos_id, size),
        eos_id=_special_id(header, "tokenizer.ggml.eos_token_id", defaults.eos_id, size),
        add_bos=add_bos or (model in _BPE_MODELS and pre == "gemma4"),  # llama.cpp overrules Gemma 4 files here
        add_eos=_flag(header, "tokenizer.ggml.add_eos_token", defaults.add_eos),
    )


def _defaults_of(model: str, pre: str) -> _Defaults:
    defaults = _DEFAULTS.get(model, _NOTHING)
    if model not in _BPE_MODELS:
        return defaults
    bos_id = None if pre in _PRE_WITHOUT_BOS else defaults.bos_id
    return _Defaults(bos_id, defaults.eos_id, pre in _PRE_THAT_ADDS_BOS, defaults.add_eos)


def _token_count(header: Header) -> int:
    span = header.values.get(TOKENS)
    if not isinstance(span, ArraySpan) or span.element_type != STRING:
        raise header.wrong(TOKENS, "the list of tokens is missing")
    if span.count == 0:
        raise header.wrong(TOKENS, "the vocabulary has no tokens")
    return span.count


def _flag(header: Header, key: str, default: bool) -> bool:
    value = header.integer(key)
    return default if value is None else bool(value)


def _special_id(header: Header, key: str, default: int | None, size: int) -> int | None:
    """An id outside the vocabulary counts as absent, first the default, then the file's own."""
    value = header.integer(key)
    if value is not None and 0 <= value < size:
        return value
    return default if default is not None and default < size else None


@dataclass(frozen=True)
class TokenTable:
    """The token list as it lies in the file: ``count`` strings, each after its 8-byte length, in ``raw``."""

    count: int
    raw: bytes

    def texts(self) -> list[bytes]:
        texts, at, read, raw = [], 0, struct.Struct("<Q").unpack_from, self.raw
        for _ in range(self.count):
            start = at + 8
            at = start + read(raw, at)[0]
            texts.append(raw[start:at])
        return texts


def read_token_table(path: Path) -> TokenTable:
    """The token list of a model, undecoded. ``path`` may be any part of a split file."""
    header = read_header(first_part(path))
    span = header.values.get(TOKENS)
    if not isinstance(span, ArraySpan) or span.element_type != STRING:
        raise header.wrong(TOKENS, "the list of tokens is missing")
    with mapped(header.path) as memory:
        return TokenTable(span.count, memory[span.start : span.end])


def read_token_texts(path: Path) -> list[bytes]:
    """Every token's text by id, as the bytes in the file."""
    return read_token_table(path).texts()
