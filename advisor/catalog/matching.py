"""Which catalogue entry a model file is, and where the two differ.

A file is told by its header, not by its name: file names are the first thing people change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from advisor.catalog.local import LocalFile, Origin
from advisor.catalog.records import Entry
from advisor.errors import FileProblem, GGUFError
from advisor.gguf import read_model
from advisor.progress import Progress, Silent
from advisor.types import Model

_WORD = re.compile(r"\d+(?:\.\d+)*[a-z]*|[a-z]+")
_QUANT = re.compile(r"(?<![a-z0-9])(?:ud-)?(?:i?q\d(?:_[a-z0-9]+)*|mxfp4(?:_moe)?|bf16|fp?16|fp?32)(?![a-z0-9])")
# Words that tell nothing about which model a file is: formats, packagers, and what all chat models are called.
_NOISE = frozenset(["gguf", "hf", "meta", "model", "models", "instruct", "it", "chat", "unsloth", "imatrix"])
# A catalogue fact may be wrong, so a file of exactly the entry's name may differ from it in this many facts.
MAX_WRONG_FACTS = 2
# Converters pad a vocabulary to a round number, or do not: files of one Gemma 3 have 262144 or 262208 tokens.
MAX_PADDING_TOKENS = 128


@dataclass(frozen=True)
class LocalModel:
    """A readable model file. ``entry`` is the catalogue's, None when the catalogue has no such model. ``tuned``: the
    name in the header has words that the entry's has not: a tune of it, or the same model under a longer name."""

    model: Model
    entry: Entry | None
    quant: str
    origin: Origin
    tuned: bool = False


def match_local(
    files: Iterable[LocalFile], entries: Sequence[Entry], *, progress: Progress | None = None
) -> tuple[LocalModel, ...]:
    """The files that can be read, each with the catalogue entry it is by its header. The others are noted."""
    progress = progress or Silent()
    matched = []
    for file in files:
        try:
            model = read_model(file.path)
        except FileProblem as error:
            progress.note(_skipped(file, error))
            continue
        entry = match_entry(model, entries, name_hint=f"{file.name_hint} {file.path.stem}")
        tuned = entry is not None and bool(_words(model.name) - _words(entry.name) - _owner_words(entry))
        matched.append(LocalModel(model, entry, model.quant, file.origin, tuned))
    return tuple(matched)


def _skipped(file: LocalFile, error: FileProblem) -> str:
    why = error.why if isinstance(error, GGUFError) else ""
    return f"{file.path} ({file.origin}) was left out. {error.what} {why}".strip()


def match_entry(model: Model, entries: Sequence[Entry], *, name_hint: str = "") -> Entry | None:
    """The entry whose shape the header has. Of several, the one with the most similar name: the name in the header,
    or ``name_hint`` where that says nothing. None when no entry has the shape, unless one has exactly the name and all
    but a few facts: then the catalogue is what is wrong, and ``contradictions`` says how."""
    if model.draft_only:
        return None
    same = [entry for entry in entries if not _differences(entry, model, identifying=True)]
    same = [entry for entry in same if not _padding(entry, model)] or same
    if not same:
        same = [entry for entry in entries if _is_nearly(entry, model)]
    if len(same) < 2:
        return same[0] if same else None
    name = model.name if any(_words(model.name) & _words(entry.name) for entry in same) else name_hint

    def distance(entry: Entry) -> tuple[int, int]:
        return len(_words(name) ^ _words(entry.name)), len(_all_words(name) ^ _all_words(entry.name))

    return min(same, key=distance)


def _is_nearly(entry: Entry, model: Model) -> bool:
    if entry.shape.architecture != model.architecture:
        return False
    wrong = len(_differences(entry, model, identifying=True))
    return wrong <= MAX_WRONG_FACTS and _words(model.name) - _owner_words(entry) == _words(entry.name)


def _words(name: str) -> frozenset[str]:
    """The telling words of a name: "Qwen2.5-Coder 7B Instruct" -> qwen, 2.5, coder, 7b."""
    return _all_words(name) - _NOISE


def _all_words(name: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_QUANT.sub(" ", name.lower())))


def _owner_words(entry: Entry) -> frozenset[str]:
    return _words(entry.hf_repo.partition("/")[0]) - _words(entry.name)


@dataclass(frozen=True)
class _Difference:
    what: str
    catalogue: object
    file: object


def contradictions(entry: Entry, model: Model) -> list[str]:
    """What the catalogue says differently from the header, each in words. The header is right."""
    return [
        f"the catalogue says {one.catalogue} {one.what} for {entry.name}, the file {one.file}"
        for one in _differences(entry, model, identifying=False)
    ]


def remarks(entry: Entry, model: Model) -> list[str]:
    """What is different in the file without contradicting the catalogue, each in words."""
    padding = _padding(entry, model)
    if not padding:
        return []
    more = "more" if padding > 0 else "fewer"
    return [f"the file has {abs(padding)} padding tokens {more} than the catalogue says, which does not matter"]


def _padding(entry: Entry, model: Model) -> int:
    """Tokens that the file has more than the catalogue says; 0 where the difference is too large for padding."""
    more = model.vocabulary.size - entry.shape.vocabulary_size
    return more if abs(more) <= MAX_PADDING_TOKENS and model.vocabulary.size > MAX_PADDING_TOKENS else 0


def _differences(entry: Entry, model: Model, *, identifying: bool) -> list[_Difference]:
    facts = list(_identifying_facts(entry, model))
    if not identifying:
        facts += _other_facts(entry, model)
    return [_Difference(what, catalogue[0], file) for what, file, catalogue in facts if file not in catalogue]


# What is compared: its words, the file's value, and the values the catalogue allows, the best known first.
_Fact = tuple[str, object, tuple[object, ...]]


def _identifying_facts(entry: Entry, model: Model) -> Iterator[_Fact]:
    shape = entry.shape
    yield "layers", model.layers - model.nextn_layers, (shape.layers,)
    yield "as the architecture", model.architecture, (shape.architecture,)
    yield "as the embedding length", model.embedding_length, (shape.embedding_length,)
    yield "heads", model.heads, (shape.heads,)
    padded = shape.vocabulary_size + _padding(entry, model)
    yield "tokens in the vocabulary", model.vocabulary.size, (shape.vocabulary_size, padded)
    yield "experts", model.experts[0], (shape.experts,)
    if shape.experts:
        yield "as the width of an expert", model.expert_feed_forward_length, (shape.expert_feed_forward_length,)
    else:
        # Layers that reuse another's cache are twice as wide in some models; the file says its widest.
        widths = (shape.feed_forward_length, *_nonzero(2 * shape.feed_forward_length * bool(shape.shared_kv_layers)))
        yield "as the feed-forward length", model.feed_forward_length, widths
    for kv_heads in sorted(set(model.attention.kv_heads) - {0}) if not model.attention.mla else ():
        yield "KV heads", kv_heads, (shape.kv_heads, *_nonzero(shape.global_kv_heads))


def _other_facts(entry: Entry, model: Model) -> Iterator[_Fact]:
    shape, attention = entry.shape, model.attention
    yield "as the context length", model.context_length, (shape.context_length,)
    if shape.experts:
        yield "experts used for a token", model.experts[1], (shape.experts_used,)
    if not attention.mla and any(attention.kv_heads):
        lengths = (shape.head_length, *_nonzero(shape.global_head_length))
        for length in sorted({attention.key_length, attention.sliding_key_length} - {0}):
            yield "as the length of a head", length, lengths
    if attention.sliding_window and shape.sliding_window:
        yield "as the sliding window", attention.sliding_window, (shape.sliding_window,)
    if model.tied_output_bytes and not shape.tied_embeddings:
        yield "as the output matrix", "shares the token embedding", ("a matrix of its own",)


def _nonzero(value: int) -> tuple[int, ...]:
    return (value,) if value else ()
