"""The header of one GGUF file: metadata and tensor list.

The layout is that of ggml's ``docs/gguf.md``, little-endian, versions 2 and 3. The file is mapped and walked once;
arrays are remembered as spans and decoded only when they are short and numeric, so a vocabulary of 150k tokens costs
its length prefixes. Every count and length is compared with the bytes that are left before it is used: a damaged file
costs neither memory nor time. What llama.cpp would refuse is refused here too.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from advisor.errors import GGUFError
from advisor.gguf.cursor import SCALARS, U32, U64, Cursor, damaged, mapped
from advisor.gguf.ggml_types import TENSOR_TYPES, TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

# Far above any real model (largest seen: 65 keys, 2k tensors, a 64 kB template), far below what hurts.
MAX_KEYS = 65_536
MAX_TENSORS = 131_072
MAX_NAME_BYTES = 65_535
MAX_TENSOR_NAME_BYTES = 63
MAX_TEXT_BYTES = 16 << 20
MAX_DECODED_NUMBERS = 4096
MAX_DIMENSIONS = 4

# The smallest possible key (length, 1 byte, type, 1-byte value) and tensor (length, 1 byte, no dims, type, offset).
MIN_KEY_BYTES = 8 + 1 + 4 + 1
MIN_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8

HASHED_HEADER_BYTES = 64 << 20
SAMPLED_BLOCKS = 16
SAMPLED_BLOCK_BYTES = 4096

STRING, ARRAY = 8, 9

Scalar = int | float | bool | str


@dataclass(frozen=True)
class ArraySpan:
    """Where an array lies in the file. ``numbers`` holds its values when it is numeric and short."""

    element_type: int
    count: int
    start: int
    end: int
    numbers: tuple[int | float | bool, ...] | None = None


@dataclass(frozen=True)
class TensorInfo:
    name: str
    shape: tuple[int, ...]
    kind: TensorType
    bytes: int

    @property
    def elements(self) -> int:
        total = 1
        for length in self.shape:
            total *= length
        return total

    @property
    def row_bytes(self) -> int:
        return self.kind.row_bytes(self.shape[0]) if self.shape else self.kind.block_bytes


@dataclass(frozen=True)
class Header:
    """One file's metadata by key, its tensors in file order, and a digest of header, size and sampled data.

    ``places`` tells at which byte the value of a key begins, ``metadata_end`` where a missing one would have stood.
    """

    path: Path
    file_bytes: int
    values: dict[str, Scalar | ArraySpan]
    places: dict[str, int]
    metadata_end: int
    tensors: tuple[TensorInfo, ...]
    digest: bytes

    def wrong(self, key: str, why: str) -> GGUFError:
        """The error for a value that is there and impossible, or that is missing."""
        return damaged(self.path, why, offset=self.places.get(key, self.metadata_end), field=key)

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """A scalar as an integer. GGUFError when the key holds text or an array."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, str | ArraySpan) or not math.isfinite(value):
            raise self.wrong(key, f"{key} should be a number")
        return int(value)

    def per_layer(self, key: str, layers: int) -> tuple[int, ...] | None:
        """A key that may be one number for all layers or one number a layer. Longer arrays are cut."""
        value = self.values.get(key)
        if not isinstance(value, ArraySpan):
            one = self.integer(key)
            return None if one is None else (one,) * layers
        if value.numbers is None or len(value.numbers) < layers:
            raise self.wrong(key, f"{key} has {value.count} values for {layers} layers")
        if not all(map(math.isfinite, value.numbers[:layers])):
            raise self.wrong(key, f"{key} should hold numbers only")
        return tuple(int(number) for number in value.numbers[:layers])


def read_header(path: Path) -> Header:
    """The header of one file. FileProblem when it cannot be opened, GGUFError when it is not a sound GGUF file."""
    with mapped(path) as memory:
        cursor = Cursor(path, memory)
        _check_magic(cursor)
        tensor_count = _count(cursor, "tensor count", MAX_TENSORS, MIN_TENSOR_BYTES)
        key_count = _count(cursor, "key count", MAX_KEYS, MIN_KEY_BYTES)
        values, places = _read_values(cursor, key_count)
        metadata_end = cursor.at
        alignment = _alignment(cursor, values, places)
        tensors, data_start = _read_tensors(cursor, tensor_count, alignment)
        return Header(path, cursor.size, values, places, metadata_end, tensors, _digest(memory, data_start))


def _check_magic(cursor: Cursor) -> None:
    magic = cursor.memory[:4]
    if magic != MAGIC:
        raise cursor.error("this is not a GGUF file: it does not begin with 'GGUF'", "magic")
    cursor.at = 4
    version = cursor.unsigned(U32, "version")
    if version in VERSIONS:
        return
    if version and not version & 0xFFFF:
        raise cursor.error("the file is big-endian, made for another kind of machine", "version", 4)
    raise cursor.error(f"GGUF version {version} is not supported, only 2 and 3 are", "version", 4)


def _count(cursor: Cursor, field: str, limit: int, each_bytes: int) -> int:
    start = cursor.at
    count = cursor.unsigned(U64, field)
    if count > limit or count * each_bytes > cursor.size - cursor.at:
        raise cursor.error(f"a {field} of {count} is impossible in a file of {cursor.size} bytes", field, start)
    return count


def _read_values(cursor: Cursor, count: int) -> tuple[dict[str, Scalar | ArraySpan], dict[str, int]]:
    """The values, and where each begins."""
    values: dict[str, Scalar | ArraySpan] = {}
    places: dict[str, int] = {}
    for index in range(count):
        key = _name(cursor, f"key {index}", MAX_NAME_BYTES)
        if key in values:
            raise cursor.error("the key appears twice", key)
        places[key] = cursor.at
        values[key] = _read_value(cursor, key)
    return values, places


def _name(cursor: Cursor, field: str, limit: int) -> str:
    start = cursor.at
    raw = cursor.raw_text(field, limit)
    if not raw:
        raise cursor.error("a name is empty", field, start)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise cursor.error("a name is not UTF-8 text", field, start) from None


def _read_value(cursor: Cursor, key: str) -> Scalar | ArraySpan:
    start = cursor.at
    kind = cursor.unsigned(U32, key)
    if kind == STRING:
        return cursor.raw_text(key, MAX_TEXT_BYTES).decode("utf-8", "replace")
    if kind == ARRAY:
        return _read_array(cursor, key)
    if kind not in SCALARS:
        raise cursor.error(f"value type {kind} does not exist", key, start)
    return cursor.number(SCALARS[kind], key)


def _read_array(cursor: Cursor, key: str) -> ArraySpan:
    start = cursor.at
    kind = cursor.unsigned(U32, key)
    count = cursor.unsigned(U64, key)
    first = cursor.at
    if kind == STRING:
        cursor.skip_strings(count, key)
        return ArraySpan(kind, count, first, cursor.at)
    if kind not in SCALARS:
        raise cursor.error(f"array element type {kind} does not exist", key, start)
    layout = SCALARS[kind]
    cursor.need(layout.size * count, key)
    cursor.at += layout.size * count
    numbers = None
    if count <= MAX_DECODED_NUMBERS:
        numbers = struct.unpack_from(f"<{count}{layout.format[1:]}", cursor.memory, first)
    return ArraySpan(kind, count, first, cursor.at, numbers)


def _alignment(cursor: Cursor, values: dict[str, Scalar | ArraySpan], places: dict[str, int]) -> int:
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.error("the alignment is not a power of two", "general.alignment", places["general.alignment"])
    return alignment


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
    """The tensor list and where the data begins. Tensors must follow each other without gap or overlap."""
    tensors: list[TensorInfo] = []
    names: set[str] = set()
    offset = 0
    for index in range(count):
        tensor, start = _read_tensor(cursor, index)
        if tensor.name in names:
            raise cursor.error("the tensor appears twice", tensor.name)
        if start != offset:
            raise cursor.error(f"the tensor's data starts at {start}, expected {offset}", tensor.name, cursor.at - 8)
        names.add(tensor.name)
        tensors.append(tensor)
        offset += _padded(tensor.bytes, alignment)
    data_start = _padded(cursor.at, alignment)
    _check_data_present(cursor, tensors, data_start, alignment)
    return tuple(tensors), data_start


def _read_tensor(cursor: Cursor, index: int) -> tuple[TensorInfo, int]:
    name = _name(cursor, f"tensor {index}", MAX_TENSOR_NAME_BYTES)
    dimensions = cursor.unsigned(U32, name)
    if dimensions > MAX_DIMENSIONS:
        raise cursor.error(f"the tensor has {dimensions} dimensions, at most 4 exist", name, cursor.at - 4)
    shape = tuple(cursor.unsigned(U64, name) for _ in range(dimensions))
    type_at = cursor.at
    number = cursor.unsigned(U32, name)
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise cursor.error(f"tensor type {number} is unknown", name, type_at)
    row = shape[0] if shape else 1
    if row % kind.block_elements:
        raise cursor.error(f"rows of {row} elements cannot be stored as {kind.name}", name, type_at)
    size = kind.row_bytes(row)
    for length in shape[1:]:
        size *= length
    if size > cursor.size:
        raise cursor.error(f"the tensor needs {size} bytes, the whole file has {cursor.size}", name, type_at)
    return TensorInfo(name, shape, kind, size), cursor.unsigned(U64, name)


def _check_data_present(cursor: Cursor, tensors: list[TensorInfo], data_start: int, alignment: int) -> None:
    offset = data_start
    for tensor in tensors:
        if offset + tensor.bytes > cursor.size:
            missing = offset + tensor.bytes - cursor.size
            place = min(offset, cursor.size)
            raise cursor.error(f"the tensor's data ends {missing} bytes after the file", tensor.name, place)
        offset += _padded(tensor.bytes, alignment)


def _padded(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment


def _digest(memory: mmap.mmap, data_start: int) -> bytes:
    """Tells two files apart without reading them: header, size, and blocks at fixed relative offsets of the data."""
    size = len(memory)
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    with memoryview(memory) as view:
        digest.update(view[: min(data_start, HASHED_HEADER_BYTES)])
        span = max(0, size - data_start - SAMPLED_BLOCK_BYTES)
        for index in range(SAMPLED_BLOCKS):
            start = data_start + span * index // (SAMPLED_BLOCKS - 1)
            digest.update(view[start : start + SAMPLED_BLOCK_BYTES])
    return digest.digest()
