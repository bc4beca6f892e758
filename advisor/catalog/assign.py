"""Tensors and a quant name -> the ggml type of each tensor: the table of ``mixes.py`` applied as llama.cpp does.

Around the table stand the rules that hold for all mixes: what is never quantized, the output matrix, rows that a
type's blocks do not divide, expert tensors that are published in MXFP4. Equal layers stay together (``Typed``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from advisor.catalog.mixes import (
    DEFAULT_PUBLISHER,
    LARGER,
    MIXES,
    REPACKED,
    Given,
    Mix,
    Publisher,
    Role,
    Where,
    mix_name,
)
from advisor.catalog.records import Shape
from advisor.catalog.shapes import TensorGroup
from advisor.gguf.ggml_types import TENSOR_TYPE_BY_NAME

FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
UNQUANTIZED = ("F32", "F16", "BF16")
SEVENTY_B_LAYERS = 80
SEVENTY_B_ARCHITECTURES = ("llama", "qwen2")


@dataclass(frozen=True)
class Typed:
    """``count`` tensors of a group that have one type."""

    group: TensorGroup
    kind: str
    layers: tuple[int, ...]
    count: int
    row_bytes: int
    tensor_bytes: int


@dataclass(frozen=True)
class _Asked:
    """What the rules look at besides the tensor."""

    mix: Mix
    publisher: Publisher
    larger: bool
    tied: bool
    chosen: bool
    imatrix: bool
    blocks: int
    gemma4: bool
    per_layer_embedding: bool
    gqa: int
    experts: int
    seventy_b: bool
    mxfp4_experts: bool

    def holds(self, given: Given) -> bool:
        match given:
            case "gqa":
                return self.gqa >= 4
            case "gqa or experts":
                return self.gqa >= 4 or self.experts >= 4
            case "imatrix":
                return self.imatrix
            case "no imatrix":
                return not self.imatrix
            case "8 experts":
                return self.experts == 8
            case "not 8 experts":
                return self.experts != 8
        return True


def typed_groups(
    shape: Shape,
    groups: tuple[TensorGroup, ...],
    quant: str,
    publisher: Publisher = DEFAULT_PUBLISHER,
    *,
    chosen: bool = False,
) -> tuple[Typed, ...]:
    """Every tensor with its type. KeyError for a quant that ``known`` does not know.

    ``chosen``: the publisher names the output matrix' type, so it falls back as other tensors do.
    """
    tied = not any(group.suffix == "output.weight" for group in groups)
    asked = _asked(shape, quant, publisher, tied, chosen)
    found: list[Typed] = []
    for group in groups:
        role = role_of(group.suffix)
        if role in ("embedding", "output"):
            found.append(_typed(group, _outer_kind(role, group, asked), group.layers))
        else:
            found += _split(group, role, asked, groups)
    return tuple(found)


def _asked(shape: Shape, quant: str, publisher: Publisher, tied: bool, chosen: bool) -> _Asked:
    seventy_b = shape.layers == SEVENTY_B_LAYERS and shape.architecture in SEVENTY_B_ARCHITECTURES
    return _Asked(
        mix=MIXES[mix_name(quant)],
        publisher=publisher,
        larger=quant.upper() in LARGER,
        tied=tied,
        chosen=chosen,
        blocks=shape.layers + shape.nextn_layers,
        gemma4=shape.architecture == "gemma4",
        per_layer_embedding=bool(shape.per_layer_embedding_length),
        imatrix=publisher.imatrix and quant.upper() not in REPACKED,
        gqa=shape.heads // shape.kv_heads,
        experts=shape.experts,
        seventy_b=seventy_b and shape.heads != shape.kv_heads and not MIXES[mix_name(quant)].low,
        mxfp4_experts=shape.architecture == "gpt-oss" or mix_name(quant) == "MXFP4_MOE",
    )


@functools.lru_cache(maxsize=256)
def role_of(suffix: str) -> Role:
    """A tensor's role by its name without the layer, as llama.cpp's tensor_get_category sees it."""
    if _never_quantized(suffix):
        return "unquantized"
    for mark, role in _ROLE_MARKS:
        if mark in suffix:
            return role
    return "other"


_ROLE_MARKS: tuple[tuple[str, Role], ...] = (
    ("token_embd.weight", "embedding"),
    ("attn_qkv.weight", "qkv"),
    ("attn_kv_b.weight", "v"),
    ("attn_v.weight", "v"),
    ("attn_k.weight", "k"),
    ("attn_q.weight", "q"),
    ("attn_output.weight", "o"),
    ("output.weight", "output"),
    ("ffn_up", "gate_up"),
    ("ffn_gate", "gate_up"),
    ("ffn_down", "down"),
)
_KEPT = ("_norm", "ffn_gate_inp", "ssm_conv1d", "rope_f", "attn_sinks", "post_ffw", "pre_ffw", "layer_output_scale")


def _never_quantized(suffix: str) -> bool:
    return not suffix.endswith(".weight") or any(mark in suffix for mark in _KEPT)


def _outer_kind(role: Role, group: TensorGroup, asked: _Asked) -> str:
    """The type of a token embedding or output matrix. A tied embedding is treated as the output matrix it also is."""
    mix, row = asked.mix, group.elements_per_row
    if mix.default in UNQUANTIZED:
        return mix.default
    if asked.larger and (role == "output" or asked.publisher.larger_embedding):
        return "Q8_0"
    own = _gemma4_embedding(group, asked)
    if own or (role == "embedding" and not asked.tied):
        return _fitting(own or mix.embedding or mix.default, row)
    if row % TENSOR_TYPE_BY_NAME[mix.default].block_elements and not asked.chosen:
        return "Q8_0"
    return _fitting(asked.publisher.output or mix.output, row)


def _gemma4_embedding(group: TensorGroup, asked: _Asked) -> str:
    """The type a publisher gives the embeddings of Gemma 4, "" where llama.cpp's rule holds."""
    default = asked.mix.default
    habit = asked.publisher.gemma4_embedding.get(default, "") if asked.gemma4 else ""
    if group.suffix == "token_embd.weight" and asked.per_layer_embedding:
        return ""
    return habit and (default if group.suffix == "token_embd.weight" else habit)


def _split(group: TensorGroup, role: Role, asked: _Asked, groups: tuple[TensorGroup, ...]) -> Iterator[Typed]:
    """A group by type: most roles have one, some differ by layer."""
    if role == "unquantized":
        yield _typed(group, "F32", group.layers)
        return
    if group.suffix == "per_layer_model_proj.weight":
        yield _typed(group, asked.mix.default if asked.mix.default in UNQUANTIZED else "BF16", group.layers)
        return
    if asked.mxfp4_experts and "_exps." in group.suffix:
        yield _typed(group, "MXFP4", group.layers)
        return
    rest = group.layers
    for step in asked.mix.roles.get(role, ()):
        if not asked.holds(step.given):
            continue
        here = rest
        if step.where != "all":
            here = _layers_where(step.where, rest, _positions(group, role, asked, groups))
        if here:
            yield _typed(group, _final(step.kind, role, asked, group.elements_per_row), here)
        if here == rest:
            return
        taken = set(here)
        rest = tuple(layer for layer in rest if layer not in taken)
    yield _typed(group, _final(asked.mix.default, role, asked, group.elements_per_row), rest)


@dataclass(frozen=True)
class _Positions:
    """Where a tensor stands among those of its role: the number of each layer's, of how many."""

    number: dict[int, int]
    total: int


def _positions(group: TensorGroup, role: Role, asked: _Asked, groups: tuple[TensorGroup, ...]) -> _Positions:
    if role == "v":
        return _v_positions(groups)
    if role == "down" and asked.mix.low and asked.experts:
        return _Positions(_down_numbers(groups, group.suffix), asked.blocks)
    return _Positions({layer: layer for layer in group.layers}, asked.blocks)


@functools.lru_cache(maxsize=512)
def _v_positions(groups: tuple[TensorGroup, ...]) -> _Positions:
    """Value matrices are numbered in order of layers; fused ones add to the total only."""
    layers = sorted(layer for group in groups if role_of(group.suffix) == "v" for layer in group.layers)
    fused = sum(len(group.layers) for group in groups if role_of(group.suffix) == "qkv")
    return _Positions({layer: number for number, layer in enumerate(layers)}, len(layers) + fused)


def _down_numbers(groups: tuple[TensorGroup, ...], suffix: str) -> dict[int, int]:
    """The low mixes count down projections one by one: a layer with a shared expert has two."""
    ordered = sorted(
        (layer, group.suffix) for group in groups if role_of(group.suffix) == "down" for layer in group.layers
    )
    return {layer: number for number, (layer, name) in enumerate(ordered) if name == suffix}


_IS_WHERE: dict[Where, Callable[[int, int], bool]] = {
    "all": lambda number, total: True,
    "eighth": lambda number, total: number < total // 8,
    "sixteenth": lambda number, total: number < total // 16,
    "first2": lambda number, total: number < 2,
    "first4": lambda number, total: number < 4,
    "middle": lambda number, total: total // 8 <= number < 7 * total // 8,
    "more": lambda number, total: number < total // 8 or number >= 7 * total // 8 or (number - total // 8) % 3 == 2,
}


def _layers_where(where: Where, layers: tuple[int, ...], positions: _Positions) -> tuple[int, ...]:
    holds, total, number = _IS_WHERE[where], positions.total, positions.number
    return tuple(layer for layer in layers if holds(number[layer], total))


def _final(kind: str, role: Role, asked: _Asked, row: int) -> str:
    if asked.seventy_b and role == "v" and kind in ("Q3_K", "Q4_K"):
        kind = "Q5_K"
    return _fitting(kind, row)


def _fitting(kind: str, row: int) -> str:
    """The type a row can have: another when the row does not divide into the type's blocks."""
    if row % TENSOR_TYPE_BY_NAME[kind].block_elements:
        kind = FALLBACKS.get(kind, kind)
    return "F16" if row % TENSOR_TYPE_BY_NAME[kind].block_elements else kind


def _typed(group: TensorGroup, kind: str, layers: tuple[int, ...]) -> Typed:
    row_bytes = TENSOR_TYPE_BY_NAME[kind].row_bytes(group.elements_per_row)
    tensor_bytes = row_bytes * (group.elements // group.elements_per_row)
    return Typed(group, kind, layers, len(layers) or 1, row_bytes, tensor_bytes)
