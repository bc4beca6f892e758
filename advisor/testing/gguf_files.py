"""Small GGUF files written by hand, for tests: sound ones of any architecture, and the bytes to damage.

Written with struct, not with the reader's own code, so that a test of the reader compares two independent views.
Tensor data is a hole in the file (zeros that take no disk), so a file may have the shapes of a large model.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ALIGNMENT = 32
F32, F16, Q4_0, Q8_0, Q4_K, Q6_K = 0, 1, 2, 8, 12, 14
_BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210)}


Value = int | float | bool | str | bytes | Sequence[str] | Sequence[bytes] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int = F32

    @property
    def bytes(self) -> int:
        elements, size = _BLOCKS[self.kind]
        total = size
        for length in self.shape:
            total *= length
        return total // elements


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed_value(value: Value) -> bytes:
    """Type number and bytes of one metadata value. Whole numbers are unsigned, in arrays signed."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str | bytes):
        return struct.pack("<I", 8) + text(value)
    return struct.pack("<I", 9) + _array(value)


def _array(items: Sequence[str] | Sequence[bytes] | Sequence[int] | Sequence[float]) -> bytes:
    first = items[0] if items else ""
    if isinstance(first, str | bytes):
        return struct.pack("<IQ", 8, len(items)) + b"".join(text(item) for item in items)  # type: ignore[arg-type]
    if isinstance(first, bool):
        return struct.pack(f"<IQ{len(items)}?", 7, len(items), *items)
    code, number = ("i", 5) if isinstance(first, int) else ("f", 6)
    return struct.pack(f"<IQ{len(items)}{code}", number, len(items), *items)


def header_bytes(values: Mapping[str, Value], tensors: Iterable[Tensor] = (), *, version: int = 3) -> bytes:
    """Everything before the tensor data, padded."""
    tensors = tuple(tensors)
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(values))]
    parts += [text(key) + typed_value(value) for key, value in values.items()]
    offset = 0
    for tensor in tensors:
        parts.append(text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        parts.append(struct.pack("<IQ", tensor.kind, offset))
        offset += -(-tensor.bytes // ALIGNMENT) * ALIGNMENT
    raw = b"".join(parts)
    return raw + b"\0" * (-len(raw) % ALIGNMENT)


def write(path: Path, values: Mapping[str, Value], tensors: Iterable[Tensor] = (), *, data: bytes = b"") -> Path:
    """A whole file. ``data`` is written at the start of the tensor data, the rest is zeros."""
    tensors = tuple(tensors)
    with path.open("wb") as file:
        file.write(header_bytes(values, tensors))
        start = file.tell()
        file.write(data)
        file.truncate(start + sum(-(-tensor.bytes // ALIGNMENT) * ALIGNMENT for tensor in tensors))
    return path


def tokens(count: int) -> list[str]:
    """A vocabulary of distinct texts."""
    return [f"<{number}>" for number in range(count)]


def llama_values(
    *,
    architecture: str = "llama",
    layers: int = 2,
    embedding: int = 64,
    feed_forward: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    vocabulary: Sequence[str] | Sequence[bytes] | None = None,
    **more: Value,
) -> dict[str, Value]:
    """The metadata of a small model. ``more`` adds or replaces keys of the architecture, "__" standing for "."."""
    values: dict[str, Value] = {
        "general.architecture": architecture,
        "general.name": "Tiny",
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": 2048,
        f"{architecture}.embedding_length": embedding,
        f"{architecture}.feed_forward_length": feed_forward,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens(32) if vocabulary is None else vocabulary,
        "tokenizer.ggml.merges": ["< 0"],
    }
    values.update({f"{architecture}.{key.replace('__', '.')}": value for key, value in more.items()})
    return values


def llama_tensors(
    *,
    layers: int = 2,
    embedding: int = 64,
    feed_forward: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    head_size: int = 0,
    vocabulary: int = 32,
    kind: int = F16,
    tied: bool = True,
    experts: int = 0,
) -> list[Tensor]:
    """The tensors llama.cpp expects of a llama (or, with ``experts``, a mixture-of-experts llama) of these shapes."""
    head_size = head_size or embedding // heads
    listed = [Tensor("token_embd.weight", (embedding, vocabulary), kind), Tensor("output_norm.weight", (embedding,))]
    if not tied:
        listed.append(Tensor("output.weight", (embedding, vocabulary), kind))
    for layer in range(layers):
        prefix = f"blk.{layer}."
        listed += [
            Tensor(prefix + "attn_norm.weight", (embedding,)),
            Tensor(prefix + "attn_q.weight", (embedding, heads * head_size), kind),
            Tensor(prefix + "attn_k.weight", (embedding, kv_heads * head_size), kind),
            Tensor(prefix + "attn_v.weight", (embedding, kv_heads * head_size), kind),
            Tensor(prefix + "attn_output.weight", (heads * head_size, embedding), kind),
            Tensor(prefix + "ffn_norm.weight", (embedding,)),
        ]
        stack = (experts,) if experts else ()
        suffix = "_exps.weight" if experts else ".weight"
        if experts:
            listed.append(Tensor(prefix + "ffn_gate_inp.weight", (embedding, experts)))
        listed += [
            Tensor(prefix + "ffn_gate" + suffix, (embedding, feed_forward, *stack), kind),
            Tensor(prefix + "ffn_up" + suffix, (embedding, feed_forward, *stack), kind),
            Tensor(prefix + "ffn_down" + suffix, (feed_forward, embedding, *stack), kind),
        ]
    return listed
