"""Model files with one thing wrong, each with a name: made field by field from a small sound one.

The fields are written here with struct, not with the reader's own code. A mutation may also leave the file sound.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from advisor.testing.gguf_files import ALIGNMENT, F32, Tensor, Value, llama_tensors, llama_values, typed_value

Kind = Literal["magic", "number", "length", "text", "type", "value", "padding", "data"]

CUTS = 60
FLIPS = 120
NOT_UTF8 = b"\xff\xfe\xc0\x80\xed\xa0\x80"
EXTREMES = (0, 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
TYPES = (*range(14), 255, 2**31, 2**32 - 1)
TEXT, ARRAY = 8, 9
A_TEXT = "first"


@dataclass(frozen=True)
class Field:
    """Some bytes of a file and what they are."""

    name: str
    kind: Kind
    raw: bytes


@dataclass(frozen=True)
class Mutant:
    name: str
    content: bytes


def seeds() -> dict[str, bytes]:
    """Small sound files of a few architectures."""
    return {name: b"".join(field.raw for field in fields) for name, fields in _seed_fields().items()}


def fuzz_seeds() -> dict[str, bytes]:
    """As small as sound files can be: a fuzzer is quick with those."""
    small: dict[str, Any] = {"layers": 1, "embedding": 4, "feed_forward": 4, "heads": 1, "kv_heads": 1}
    found = {}
    for architecture in ("llama", "gemma3", "mamba2", "qwen3next", "deepseek2"):
        values = llama_values(architecture=architecture, vocabulary=["a", "b"], **small, attention__sliding_window=64)
        fields = _fields(values, llama_tensors(**small, vocabulary=2, kind=F32))
        found[architecture] = b"".join(field.raw for field in fields)
    return found


def mutants(seed: int = 1) -> Iterator[Mutant]:
    """The corpus: more than 300 files, the same for the same ``seed``, which places the cuts and flips."""
    rng = random.Random(seed)
    for name, fields in _seed_fields().items():
        for mutant in _of_fields(fields):
            yield replace(mutant, name=f"{name}: {mutant.name}")
    whole = seeds()["llama"]
    for length in sorted(rng.sample(range(len(whole)), CUTS)):
        yield Mutant(f"cut after {length} bytes", whole[:length])
    for index in range(FLIPS):
        yield Mutant(f"flipped {index}", _flipped(whole, rng))
    yield from _impossible_metadata()
    yield from _bombs()


def _seed_fields() -> dict[str, list[Field]]:
    small: dict[str, Any] = {"layers": 2, "embedding": 32, "feed_forward": 64}
    tensors = llama_tensors(**small, vocabulary=8)
    values = llama_values(vocabulary=[f"<{i}>" for i in range(8)], **small)
    experts = llama_values(vocabulary=["a", "b"], **small, expert_count=4, expert_used_count=2)
    sliding = llama_values(architecture="cohere2", vocabulary=["a", "b"], **small, attention__sliding_window=512)
    return {
        "llama": _fields(values, tensors),
        "experts": _fields(experts, llama_tensors(**small, vocabulary=2, experts=4)),
        "cohere2": _fields(sliding, llama_tensors(**small, vocabulary=2)),
    }


def _fields(values: Mapping[str, Value], tensors: list[Tensor]) -> list[Field]:
    counts = struct.pack("<QQ", len(tensors), len(values))
    fields = [
        Field("magic", "magic", b"GGUF"),
        Field("version", "type", struct.pack("<I", 3)),
        Field("tensor count", "length", counts[:8]),
        Field("key count", "length", counts[8:]),
    ]
    for key, value in values.items():
        fields += [*_text_fields(f"key {key}", key.encode()), *_value_fields(key, typed_value(value))]
    offset = 0
    for tensor in tensors:
        fields += _tensor_fields(tensor, offset)
        offset += -(-tensor.bytes // ALIGNMENT) * ALIGNMENT
    header_bytes = sum(len(field.raw) for field in fields)
    return [
        *fields,
        Field("padding", "padding", bytes(-header_bytes % ALIGNMENT)),
        Field("data", "data", bytes(offset)),
    ]


def _text_fields(name: str, raw: bytes) -> list[Field]:
    return [Field(f"length of {name}", "length", struct.pack("<Q", len(raw))), Field(name, "text", raw)]


def _value_fields(key: str, typed: bytes) -> list[Field]:
    kind = struct.unpack("<I", typed[:4])[0]
    fields = [Field(f"type of {key}", "type", typed[:4])]
    if kind == TEXT:
        return [*fields, *_text_fields(key, typed[12:])]
    if kind != ARRAY:
        return [*fields, Field(key, "value", typed[4:])]
    fields += [
        Field(f"element type of {key}", "type", typed[4:8]),
        Field(f"count of {key}", "length", typed[8:16]),
        Field(f"first of {key}", "length", typed[16:24]),
        Field(f"rest of {key}", "text", typed[24:]),
    ]
    return fields


def _tensor_fields(tensor: Tensor, offset: int) -> list[Field]:
    fields = [
        *_text_fields(f"tensor {tensor.name}", tensor.name.encode()),
        Field(f"dimensions of {tensor.name}", "type", struct.pack("<I", len(tensor.shape))),
    ]
    fields += [
        Field(f"length {axis} of {tensor.name}", "length", struct.pack("<Q", n)) for axis, n in enumerate(tensor.shape)
    ]
    kind = Field(f"type of {tensor.name}", "type", struct.pack("<I", tensor.kind))
    return [*fields, kind, Field(f"offset of {tensor.name}", "length", struct.pack("<Q", offset))]


def _of_fields(fields: list[Field]) -> Iterator[Mutant]:
    """Every field of the first layer's reach replaced in each way that suits its kind; later layers are alike."""
    for index, field in enumerate(fields):
        if "blk.1." in field.name:
            continue
        before = b"".join(one.raw for one in fields[:index])
        after = b"".join(one.raw for one in fields[index + 1 :])
        for what, raw in _replacements(field):
            if raw != field.raw:
                yield Mutant(f"{field.name} {what}", before + raw + after)


def _replacements(field: Field) -> Iterator[tuple[str, bytes]]:
    if field.kind == "length":
        value = struct.unpack("<Q", field.raw)[0]
        for number in (*EXTREMES, value + 1, max(0, value - 1), value + ALIGNMENT):
            yield f"= {number}", struct.pack("<Q", number)
    elif field.kind == "type":
        for number in TYPES:
            yield f"= {number}", struct.pack("<I", number)
    elif field.kind == "text" and field.raw:
        yield "is not UTF-8", (NOT_UTF8 * (len(field.raw) // len(NOT_UTF8) + 1))[: len(field.raw)]
        yield "is all zeros", bytes(len(field.raw))
    elif field.kind in ("magic", "value"):
        yield "is all ones", b"\xff" * len(field.raw)
        yield "is all zeros", bytes(len(field.raw))
    elif field.raw:
        yield "is missing", b""


def _flipped(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(content)


def _impossible_metadata() -> Iterator[Mutant]:
    """Files whose bytes are in order and whose facts are not."""
    arrays: dict[str, Value] = {
        "of the wrong length": [1],
        "negative": [-1, -1],
        "huge": [2**31 - 1, 2**31 - 1],
        "of fractions": [math.nan, math.inf],
        "of texts": ["a", "b"],
        "empty": [],
    }
    scalars: dict[str, Value] = {
        "zero": 0,
        "huge": 2**32 - 1,
        "a text": "x",
        "not a number": math.nan,
        "infinite": math.inf,
        "below zero": -1.0,
        "true": True,
    }
    keys = (
        *("block_count", "context_length", "embedding_length", "feed_forward_length", "expert_count"),
        *("expert_used_count", "attention.head_count", "attention.head_count_kv", "attention.key_length"),
        *("attention.value_length", "nextn_predict_layers"),
    )
    for key in keys:
        for what, value in {**scalars, **arrays}.items():
            yield _with(f"{key} {what}", {f"llama.{key}": value})
    changes: dict[str, dict[str, Value]] = {
        "no tokens": {"tokenizer.ggml.tokens": []},
        "tokens that are numbers": {"tokenizer.ggml.tokens": [1, 2]},
        "tokens that are not UTF-8": {"tokenizer.ggml.tokens": [NOT_UTF8, b"\x00"]},
        "no vocabulary": {"tokenizer.ggml.model": "none"},
        "bos beyond the vocabulary": {"tokenizer.ggml.bos_token_id": 2**32 - 1},
        "bos that is a text": {"tokenizer.ggml.bos_token_id": A_TEXT},
        "alignment of 3": {"general.alignment": 3},
        "alignment of 2 GiB": {"general.alignment": 2**31},
        "architecture unknown": {"general.architecture": "\N{SNOWMAN}"},
        "architecture very long": {"general.architecture": "a" * 60_000},
        "part of more parts than there are": {"split.count": 65535, "split.no": 65535, "split.tensors.count": -1.0},
        "name of control characters": {"general.name": "\x1b[2J\x00\r\n"},
        "an adapter": {"general.type": "adapter"},
        "an encoder": {"general.architecture": "clip"},
    }
    for what, change in changes.items():
        yield _with(what, change)


def _with(what: str, change: Mapping[str, Value]) -> Mutant:
    small: dict[str, Any] = {"layers": 2, "embedding": 32, "feed_forward": 64}
    values = {**llama_values(vocabulary=[f"<{i}>" for i in range(8)], **small), **change}
    fields = _fields(values, llama_tensors(**small, vocabulary=8))
    return Mutant(what, b"".join(field.raw for field in fields))


def _bombs() -> Iterator[Mutant]:
    """Small files that promise, or really hold, a great many things."""

    def keyed(count: int, body: bytes, tensors: int = 0) -> bytes:
        return b"GGUF" + struct.pack("<IQQ", 3, tensors, count) + body

    def key(name: bytes, kind: int) -> bytes:
        return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind)

    nested = struct.pack("<IQ", ARRAY, 1) * 100_000
    yield Mutant("arrays in arrays, 100000 deep", keyed(1, key(b"a", ARRAY) + nested))
    million_texts = struct.pack("<IQ", TEXT, 1_000_000) + bytes(8_000_000)
    yield Mutant("a million empty tokens", keyed(1, key(b"tokenizer.ggml.tokens", ARRAY) + million_texts))
    many_keys = b"".join(key(f"k{i}".encode(), 0) + b"\0" for i in range(65_000))
    yield Mutant("65000 keys", keyed(65_000, many_keys))
    yield Mutant("one key 65000 times", keyed(65_000, (key(b"k", 0) + b"\0") * 65_000))
    big_text = struct.pack("<Q", 16 << 20) + b"A" * (16 << 20)
    yield Mutant("a text of 16 MiB", keyed(1, key(b"tokenizer.chat_template", TEXT) + big_text))
    yield Mutant("sixteen texts of 1 MiB", keyed(16, b"".join(_text_value(i) for i in range(16))))
    numbers = struct.pack("<IQ", 4, 4_000_000) + bytes(16_000_000)
    yield Mutant("four million numbers", keyed(1, key(b"llama.attention.head_count", ARRAY) + numbers))
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack("<IIQ", 0, 0, 0)
    yield Mutant("one tensor 100000 times", keyed(0, tensor * 100_000, tensors=100_000))
    scalars = b"".join(struct.pack("<Q", 6) + b"%06d" % i + struct.pack("<IIQ", 0, 0, 32 * i) for i in range(100_000))
    yield Mutant("100000 tensors of one number", keyed(0, scalars + bytes(3_200_000), tensors=100_000))


def _text_value(index: int) -> bytes:
    name = f"k{index}".encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<IQ", TEXT, 1 << 20) + b"A" * (1 << 20)
