"""Shape -> the tensors of its GGUF file: names, row lengths, sizes, layers. Nothing about their types.

Follows llama.cpp's converters (conversion/*.py) and ``load_arch_tensors`` in src/models/*.cpp (b11312). An architecture
differs from plain llama by the marks of its ``Layout``; one that is not listed is laid out like llama. Layers that hold
the same tensors are kept together as a ``TensorGroup``, so that a model of 126 layers costs no more than one of 16.

``Shape.layers`` counts the layers that write text; ``nextn_layers`` (prediction heads some files keep) come on top.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from advisor.catalog.records import Shape


@dataclass(frozen=True)
class TensorShape:
    """One tensor: ``elements`` in rows of ``elements_per_row``. ``layer`` is -1 outside the layers."""

    name: str
    elements_per_row: int
    elements: int
    layer: int


@dataclass(frozen=True)
class TensorGroup:
    """The same tensor in each of ``layers``, or once outside them (``layers`` empty: ``suffix`` is the whole name)."""

    suffix: str
    elements_per_row: int
    elements: int
    layers: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return len(self.layers) or 1


@dataclass(frozen=True)
class Layout:
    """How an architecture's layer differs from llama's.

    ``qk_norm``: one norm for all heads ("head") or over the whole projection ("width"). ``norms``: of a layer's input
    ("pre"), of its results ("post"), of both. ``fused``: query, key and value in one tensor, gate and up in one.
    ``sinks``: learnt attention sinks. ``hybrid``: all but every n-th layer are gated delta nets; attention and the
    shared expert are gated.
    """

    qkv_bias: bool = False
    output_bias: bool = False
    fused: bool = False
    qk_norm: Literal["", "head", "width"] = ""
    norms: Literal["pre", "post", "both"] = "pre"
    sinks: bool = False
    expert_bias: bool = False
    hybrid: bool = False
    gemma4: bool = False


LAYOUTS: dict[str, Layout] = {
    "deepseek2": Layout(),
    "gemma2": Layout(norms="both"),
    "gemma3": Layout(norms="both", qk_norm="head"),
    "gemma4": Layout(norms="both", qk_norm="head", gemma4=True),
    "gpt-oss": Layout(qkv_bias=True, output_bias=True, sinks=True, expert_bias=True),
    "granite": Layout(),
    "llama": Layout(),
    "olmo2": Layout(norms="post", qk_norm="width"),
    "phi3": Layout(fused=True),
    "qwen2": Layout(qkv_bias=True),
    "qwen3": Layout(qk_norm="head"),
    "qwen35": Layout(qk_norm="head", hybrid=True),
    "qwen35moe": Layout(qk_norm="head", hybrid=True),
    "qwen3moe": Layout(qk_norm="head"),
    "smollm3": Layout(),
}

LLAMA_3_VOCABULARY = 128256
LLAMA_3_CONTEXT = 8192
PHI_LONGROPE_CONTEXT = 131072
PHI_ROTARY_SHARE = 0.75


def tensors(shape: Shape, *, untied: bool = False) -> tuple[TensorShape, ...]:
    """Every tensor of a model. ``untied``: the file stores an output matrix although the model ties it."""
    found = []
    for group in groups(shape, untied=untied):
        if not group.layers:
            found.append(TensorShape(group.suffix, group.elements_per_row, group.elements, -1))
        for layer in group.layers:
            name = f"blk.{layer}.{group.suffix}"
            found.append(TensorShape(name, group.elements_per_row, group.elements, layer))
    return tuple(found)


def parameters(shape: Shape, *, untied: bool = False) -> int:
    """All weights of the file."""
    return sum(group.elements * group.count for group in groups(shape, untied=untied))


@functools.lru_cache(maxsize=512)
def groups(shape: Shape, *, untied: bool = False) -> tuple[TensorGroup, ...]:
    """The tensors of a model, equal layers together."""
    found = list(_outside(shape, untied))
    for alike in _layers_alike(shape):
        found += _layer(shape, alike)
    found += _prediction_heads(shape)
    return tuple(found)


def sliding_layers(shape: Shape) -> tuple[bool, ...]:
    """Which layers slide, () when none does. ``sliding_period`` n: every n-th layer does not; 0: all slide."""
    if not shape.sliding_window:
        return ()
    period = shape.sliding_period
    return tuple(not period or layer % period != period - 1 for layer in range(shape.layers))


def recurrent_layers(shape: Shape) -> tuple[bool, ...]:
    """Which layers keep a recurrent state instead of keys and values."""
    interval = shape.full_attention_interval
    return tuple(bool(interval) and (layer + 1) % interval != 0 for layer in range(shape.layers))


def _outside(shape: Shape, untied: bool) -> Iterator[TensorGroup]:
    width, vocabulary = shape.embedding_length, shape.vocabulary_size
    yield TensorGroup("token_embd.weight", width, width * vocabulary)
    yield TensorGroup("output_norm.weight", width, width)
    if untied or not shape.tied_embeddings:
        yield TensorGroup("output.weight", width, width * vocabulary)
    if per_layer := shape.per_layer_embedding_length:
        all_layers = per_layer * shape.layers
        yield TensorGroup("per_layer_token_embd.weight", all_layers, all_layers * vocabulary)
        yield TensorGroup("per_layer_model_proj.weight", width, width * all_layers)
        yield TensorGroup("per_layer_proj_norm.weight", per_layer, per_layer)
    for name, factors in _rope_factors(shape):
        yield TensorGroup(name, factors, factors)


def _rope_factors(shape: Shape) -> Iterator[tuple[str, int]]:
    """Stored rotation factors: Llama 3.1's and its tunes', Phi-4-mini's, Gemma 4's."""
    if shape.architecture == "llama":
        if shape.vocabulary_size == LLAMA_3_VOCABULARY and shape.context_length > LLAMA_3_CONTEXT:
            yield "rope_freqs.weight", shape.head_length // 2
    elif shape.architecture == "phi3" and shape.context_length >= PHI_LONGROPE_CONTEXT:
        for name in ("rope_factors_long.weight", "rope_factors_short.weight"):
            yield name, int(shape.head_length * PHI_ROTARY_SHARE) // 2
    elif shape.architecture == "gemma4":
        yield "rope_freqs.weight", (shape.global_head_length or shape.head_length) // 2


@dataclass(frozen=True)
class _Alike:
    """Layers with the same tensors."""

    layers: tuple[int, ...]
    recurrent: bool
    slides: bool
    own_kv: bool
    dense: bool


def _layers_alike(shape: Shape) -> Iterator[_Alike]:
    recurrent, sliding = recurrent_layers(shape), sliding_layers(shape) or (False,) * shape.layers
    kinds: dict[tuple[bool, bool, bool, bool], list[int]] = {}
    for layer in range(shape.layers):
        own_kv = layer < shape.layers - shape.shared_kv_layers
        dense = not shape.experts or layer < shape.leading_dense_layers
        kinds.setdefault((recurrent[layer], sliding[layer], own_kv, dense), []).append(layer)
    for (recurs, slides, own_kv, dense), layers in kinds.items():
        yield _Alike(tuple(layers), recurs, slides, own_kv, dense)


def _layer(shape: Shape, alike: _Alike) -> Iterator[TensorGroup]:
    layout = LAYOUTS.get(shape.architecture, Layout())

    def group(suffix: str, row: int, rows: int = 1) -> TensorGroup:
        return TensorGroup(suffix, row, row * rows, alike.layers)

    yield from (group(name, shape.embedding_length) for name in _norm_names(layout))
    if alike.recurrent:
        yield from (group(*one) for one in _delta_net(shape))
    elif shape.kv_lora_rank:
        yield from (group(*one) for one in _latent_attention(shape))
    else:
        yield from (group(*one) for one in _attention(shape, layout, alike))
    if layout.gemma4:
        yield from (group(*one) for one in _gemma4_extras(shape))
    if alike.dense or layout.gemma4:
        yield from (group(*one) for one in _feed_forward(shape, layout, alike))
    if not alike.dense:
        yield from (group(*one) for one in _experts(shape, layout))


Tensor = tuple[str, int, int]  # suffix, elements in a row, rows


def _norm_names(layout: Layout) -> tuple[str, ...]:
    if layout.hybrid or layout.sinks:
        return ("attn_norm.weight", "post_attention_norm.weight")
    before = ("attn_norm.weight", "ffn_norm.weight")
    after = ("post_attention_norm.weight", "post_ffw_norm.weight")
    return {"pre": before, "post": after, "both": before + after}[layout.norms]


def _attention(shape: Shape, layout: Layout, alike: _Alike) -> Iterator[Tensor]:
    width = shape.embedding_length
    everywhere = alike.slides or not shape.global_head_length
    head = shape.head_length if everywhere else shape.global_head_length
    kv_heads = shape.kv_heads if alike.slides or not shape.global_kv_heads else shape.global_kv_heads
    queries, keys = shape.heads * head, kv_heads * head
    if layout.fused:
        yield "attn_qkv.weight", width, queries + 2 * keys
    else:
        yield "attn_q.weight", width, queries * (2 if layout.hybrid else 1)
        if alike.own_kv:
            yield "attn_k.weight", width, keys
            # Layers with KV heads of their own number take their values from the keys.
            if alike.slides or not shape.global_kv_heads:
                yield "attn_v.weight", width, keys
    yield "attn_output.weight", queries, width
    if layout.qkv_bias:
        yield from (("attn_q.bias", queries, 1), ("attn_k.bias", keys, 1), ("attn_v.bias", keys, 1))
    if layout.output_bias:
        yield "attn_output.bias", width, 1
    if layout.qk_norm:
        yield "attn_q_norm.weight", head if layout.qk_norm == "head" else queries, 1
        if alike.own_kv:
            yield "attn_k_norm.weight", head if layout.qk_norm == "head" else keys, 1
    if layout.sinks:
        yield "attn_sinks.weight", shape.heads, 1


def _latent_attention(shape: Shape) -> Iterator[Tensor]:
    """Keys and values of all heads are computed from one compressed row (DeepSeek's MLA)."""
    width, latent, queries = shape.embedding_length, shape.kv_lora_rank, shape.heads * shape.head_length
    if shape.q_lora_rank:
        yield "attn_q_a.weight", width, shape.q_lora_rank
        yield "attn_q_a_norm.weight", shape.q_lora_rank, 1
        yield "attn_q_b.weight", shape.q_lora_rank, queries
    else:
        yield "attn_q.weight", width, queries
    yield "attn_kv_a_mqa.weight", width, latent + shape.rope_length
    yield "attn_kv_a_norm.weight", latent, 1
    yield "attn_k_b.weight", shape.head_length - shape.rope_length, latent * shape.heads
    yield "attn_v_b.weight", latent, shape.value_length * shape.heads
    yield "attn_output.weight", shape.heads * shape.value_length, width


def _delta_net(shape: Shape) -> Iterator[Tensor]:
    width, values = shape.embedding_length, shape.ssm_inner_size
    keys = shape.ssm_group_count * shape.ssm_state_size
    yield "attn_qkv.weight", width, 2 * keys + values
    yield "attn_gate.weight", width, values
    yield "ssm_conv1d.weight", shape.ssm_conv_kernel, 2 * keys + values
    yield "ssm_dt.bias", shape.ssm_time_step_rank, 1
    yield "ssm_a", shape.ssm_time_step_rank, 1
    yield "ssm_beta.weight", width, shape.ssm_time_step_rank
    yield "ssm_alpha.weight", width, shape.ssm_time_step_rank
    yield "ssm_norm.weight", shape.ssm_state_size, 1
    yield "ssm_out.weight", values, width


def _gemma4_extras(shape: Shape) -> Iterator[Tensor]:
    width = shape.embedding_length
    yield "layer_output_scale.weight", 1, 1
    if per_layer := shape.per_layer_embedding_length:
        yield "inp_gate.weight", width, per_layer
        yield "proj.weight", per_layer, width
        yield "post_norm.weight", width, 1
    if shape.experts:
        yield "ffn_gate_inp.scale", width, 1
        yield from ((f"{name}.weight", width, 1) for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"))


def _feed_forward(shape: Shape, layout: Layout, alike: _Alike) -> Iterator[Tensor]:
    width, hidden = shape.embedding_length, shape.feed_forward_length
    if shape.shared_kv_feed_forward_length and not alike.own_kv:
        hidden = shape.shared_kv_feed_forward_length
    if layout.fused:
        yield "ffn_up.weight", width, 2 * hidden
    else:
        yield "ffn_gate.weight", width, hidden
        yield "ffn_up.weight", width, hidden
    yield "ffn_down.weight", hidden, width


def _experts(shape: Shape, layout: Layout) -> Iterator[Tensor]:
    width, hidden, experts = shape.embedding_length, shape.expert_feed_forward_length, shape.experts
    yield "ffn_gate_inp.weight", width, experts
    if layout.gemma4:
        yield "ffn_gate_up_exps.weight", width, 2 * hidden * experts
        yield "ffn_down_exps.scale", experts, 1
    else:
        yield "ffn_gate_exps.weight", width, hidden * experts
        yield "ffn_up_exps.weight", width, hidden * experts
    yield "ffn_down_exps.weight", hidden, width * experts
    if shared := shape.shared_expert_feed_forward_length:
        if layout.hybrid:
            yield "ffn_gate_inp_shexp.weight", width, 1
        yield "ffn_gate_shexp.weight", width, shared
        yield "ffn_up_shexp.weight", width, shared
        yield "ffn_down_shexp.weight", shared, width
    if layout.expert_bias:
        yield "ffn_gate_inp.bias", experts, 1
        yield "ffn_gate_exps.bias", hidden, experts
        yield "ffn_up_exps.bias", hidden, experts
        yield "ffn_down_exps.bias", width, experts


def _prediction_heads(shape: Shape) -> Iterator[TensorGroup]:
    """A layer with full attention for each, and what joins the last hidden state with the next token."""
    if not shape.nextn_layers:
        return
    layers = tuple(range(shape.layers, shape.layers + shape.nextn_layers))
    yield from _layer(shape, _Alike(layers, recurrent=False, slides=False, own_kv=True, dense=not shape.experts))
    width = shape.embedding_length
    yield TensorGroup("nextn.eh_proj.weight", 2 * width, 2 * width * width, layers)
    for name in ("enorm", "hnorm", "shared_head_norm"):
        yield TensorGroup(f"nextn.{name}.weight", width, width, layers)
