"""(Model, context, options) -> bytes, by component, in host memory and on a device.

Follows llama.cpp b11434. Weights and KV cache are exact sums from the header. The output buffer is one row of logits
for every position asked for. The compute buffer, llama.cpp's scratch space for the worst graph, has no closed form; the
estimate here is the largest set of tensors alive at once, found by comparing with the buffer sizes llama.cpp logs:

- SmolLM2-135M, 42 settings (context 512 .. 8192, micro-batch 64 .. 2048, outputs 1, 17 or all, flash attention on
  and off): compute buffer -2 % .. +6 %, weights + KV + compute -0.8 % .. +1.6 %.
- 11 artificial llama shapes without weights (width 1024 .. 3584, feed-forward 1 .. 8 widths, grouped heads, wide heads,
  16 and 128 experts), 462 settings: never more than 1.4 % below. With flash attention exact for common proportions;
  above by up to 38 % where feed-forward or experts are no wider than the model (total: 16 %).
- One small model each with sliding windows (cohere2), a recurrent state (mamba2) and latent attention (deepseek2),
  with flash attention: KV or state exact, compute buffer -6 % .. +9 %. Hybrids of both kinds of layers were not run.

These runs were made on the CPU with llama-cpp-python 0.3.36 (b11312); shares of a GPU follow the source, not a run.

Sliding layers are priced as llama-server allocates them, without ``--swa-full``. Not in the total: what llama-server
adds on its own (prompt cache, checkpoints).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from advisor.errors import OptionError
from advisor.gguf.ggml_types import TENSOR_TYPE_BY_NAME
from advisor.types import MemoryUse, Model

Role = Literal["target", "draft"]

CELL_PADDING = 256
F32_BYTES = 4
MASK_BYTES = 2  # the attention mask is F16 with flash attention, F32 without
RECURRENT_WIDTHS = 16  # floats alive for one token in a recurrent layer, in widths of the model: one mamba2 measured
ALL_LAYERS = -1
NOTHING = MemoryUse(0, 0, 0, 0)


@dataclass(frozen=True)
class SplitUse:
    """One model's bytes in host memory and on the device that its offloaded layers live on."""

    host: MemoryUse
    device: MemoryUse

    @property
    def together(self) -> MemoryUse:
        """Both, for a device that shares the host's memory."""
        return MemoryUse(
            self.host.weights_bytes + self.device.weights_bytes,
            self.host.kv_bytes + self.device.kv_bytes,
            self.host.compute_bytes + self.device.compute_bytes,
            self.host.output_bytes + self.device.output_bytes,
        )


def memory_use(
    model: Model,
    context: int,
    *,
    type_k: str = "f16",
    type_v: str = "f16",
    n_ubatch: int = 512,
    outputs: int,
    role: Role,
    on_gpu: bool,
) -> MemoryUse:
    """Bytes of one model: all of it in host memory, or (``on_gpu``) the device's share with every layer offloaded.

    ``outputs`` is the most positions of one decode whose logits are read: k + 1 for a target that verifies k tokens. A
    draft is asked for one at a time, whatever is given. OptionError for a cache type that llama.cpp does not have.
    """
    layers = ALL_LAYERS if on_gpu else 0
    split = split_use(
        model,
        context,
        gpu_layers=layers,
        type_k=type_k,
        type_v=type_v,
        n_ubatch=n_ubatch,
        outputs=outputs,
        role=role,
    )
    return split.device if on_gpu else split.host


def split_use(
    model: Model,
    context: int,
    *,
    gpu_layers: int,
    type_k: str = "f16",
    type_v: str = "f16",
    n_ubatch: int = 512,
    outputs: int,
    role: Role,
) -> SplitUse:
    """Bytes of one model with ``gpu_layers`` offloaded, counted as ``-ngl`` counts: the output layer first, then from
    the last layer down; -1 is all. The layers of a model are taken to be of equal size."""
    outputs = 1 if role == "draft" else max(1, outputs)
    ubatch = min(n_ubatch, _padded(context))
    everything = offloadable_layers(model)
    offloaded = everything if gpu_layers == ALL_LAYERS else min(gpu_layers, everything)
    first_offloaded = max(0, model.layers - max(0, offloaded - 1)) if offloaded else model.layers
    kv = kv_bytes_by_layer(model, context, type_k=type_k, type_v=type_v, n_ubatch=n_ubatch)
    device_weights = _device_weights(model, offloaded, model.layers - first_offloaded)
    # The tied output matrix exists twice: rows are looked up on the host, the product is computed on the device.
    host_weights = model.weights_bytes - device_weights + (model.tied_output_bytes if offloaded else 0)
    compute = compute_bytes(model, context, n_ubatch=ubatch, outputs=outputs)
    cut = first_offloaded * len(kv) // model.layers
    output = F32_BYTES * model.vocabulary.size * outputs
    if not offloaded:
        return SplitUse(MemoryUse(host_weights, sum(kv), compute, output), NOTHING)
    host_compute = compute if first_offloaded else _input_bytes(model, context, ubatch)
    return SplitUse(
        MemoryUse(host_weights, sum(kv[:cut]), host_compute, output),
        MemoryUse(device_weights, sum(kv[cut:]), compute, 0),
    )


def offloadable_layers(model: Model) -> int:
    """llama.cpp's "offloaded n/n layers": the layers and the output."""
    return model.layers + 1


def kv_bytes(model: Model, context: int, *, type_k: str = "f16", type_v: str = "f16", n_ubatch: int = 512) -> int:
    return sum(kv_bytes_by_layer(model, context, type_k=type_k, type_v=type_v, n_ubatch=n_ubatch))


def kv_bytes_by_layer(
    model: Model, context: int, *, type_k: str = "f16", type_v: str = "f16", n_ubatch: int = 512
) -> tuple[int, ...]:
    """Bytes of the cache of one sequence by layer (llama_kv_cache, llama_kv_cache_iswa, llama_memory_recurrent).

    A cell holds a K row and, without MLA, a V row of all KV heads. Sliding layers hold window + micro-batch cells.
    The recurrent state is spread over the layers without KV.
    """
    attention = model.attention
    cells = _padded(context)
    sliding_cells = _padded(min(cells, attention.sliding_window + n_ubatch))
    sizes = []
    for layer, heads in enumerate(attention.kv_heads):
        sliding = bool(attention.is_sliding) and attention.is_sliding[layer]
        key, value = _head_sizes(model, sliding)
        row = _row_bytes(type_k, key * heads) + (0 if attention.mla else _row_bytes(type_v, value * heads))
        if heads and attention.indexer_key_length:
            row += _row_bytes(type_k, attention.indexer_key_length)
        sizes.append(row * (sliding_cells if sliding else cells))
    return _with_recurrent_state(tuple(sizes), attention.recurrent_state_bytes)


def _head_sizes(model: Model, sliding: bool) -> tuple[int, int]:
    attention = model.attention
    if not sliding:
        return attention.key_length, attention.value_length
    return (
        attention.sliding_key_length or attention.key_length,
        attention.sliding_value_length or attention.value_length,
    )


def _with_recurrent_state(sizes: tuple[int, ...], state_bytes: int) -> tuple[int, ...]:
    if not state_bytes:
        return sizes
    holders = [layer for layer, size in enumerate(sizes) if not size] or list(range(len(sizes)))
    share, rest = divmod(state_bytes, len(holders))
    added = dict.fromkeys(holders, share)
    added[holders[0]] += rest
    return tuple(size + added.get(layer, 0) for layer, size in enumerate(sizes))


def _row_bytes(cache_type: str, elements: int) -> int:
    kind = TENSOR_TYPE_BY_NAME.get(cache_type.upper())
    if kind is None:
        raise OptionError(
            f"The KV cache type {cache_type!r} does not exist.",
            fix="Use f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl.",
        )
    return -(-elements // kind.block_elements) * kind.block_bytes


def compute_bytes(
    model: Model, context: int, *, n_ubatch: int = 512, outputs: int = 1, flash_attention: bool = True
) -> int:
    """An estimate of llama.cpp's compute buffer; how good it is stands at the top of this module.

    The largest of three moments of a decode of ``n_ubatch`` tokens: inside a feed-forward block, inside attention
    (both while the mask is alive), and at the logits.
    """
    width = model.embedding_length
    queries = model.heads * model.attention.key_length or width
    keys = max(model.attention.kv_heads, default=0) * model.attention.key_length
    feed_forward = max(
        3 * model.feed_forward_length + 3 * width + queries,
        _expert_floats(model, queries),
    )
    attention = 3 * width + 2 * queries + 2 * keys
    recurrent = RECURRENT_WIDTHS * width if model.is_recurrent else 0
    cells = _padded(context)
    if not flash_attention:
        attention += model.heads * cells
    mask = _mask_bytes(model, cells, n_ubatch) * (1 if flash_attention else 2)
    layers = mask + F32_BYTES * n_ubatch * max(feed_forward, attention, recurrent)
    logits = F32_BYTES * (min(outputs, n_ubatch) * model.vocabulary.size + 4 * n_ubatch * width)
    return max(layers, logits)


def _expert_floats(model: Model, queries: int) -> int:
    """Floats alive for one token in a mixture of experts: up to the activation, or where the experts are added up."""
    _, used = model.experts
    width, hidden = model.embedding_length, used * model.expert_feed_forward_length
    return max(3 * hidden + 3 * width + queries, 2 * used * width + hidden + 3 * width) if used else 0


def _mask_bytes(model: Model, cells: int, n_ubatch: int) -> int:
    if not any(model.attention.kv_heads):
        return 0
    window = model.attention.sliding_window
    sliding_cells = _padded(min(cells, window + n_ubatch)) if window else 0
    return MASK_BYTES * n_ubatch * (cells + sliding_cells)


def _input_bytes(model: Model, context: int, n_ubatch: int) -> int:
    """Scratch on the host when all layers are offloaded: the embedded tokens and the mask, before they are copied."""
    return F32_BYTES * n_ubatch * model.embedding_length + _mask_bytes(model, _padded(context), n_ubatch)


def _device_weights(model: Model, offloaded: int, layers: int) -> int:
    if not offloaded:
        return 0
    repeating = model.repeating_bytes * layers // model.layers
    return repeating + model.output_bytes + model.tied_output_bytes


def _padded(cells: int) -> int:
    return -(-cells // CELL_PADDING) * CELL_PADDING
