"""What the KV cache of a model needs, by the rules llama.cpp applies per architecture.

Source: ``load_hparams`` in src/llama-model.cpp, ``load_arch_hparams`` in src/models/*.cpp and ``create_memory``
(b11434). An architecture not named here has plain attention in every layer, which is also llama.cpp's default. Not
modelled: the compressed caches of deepseek4 (its layers are counted as sliding), the encoder side of t5, and layers
that share an indexer (each is counted with its own, a few per cent too much).
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor.gguf.header import ArraySpan, Header
from advisor.types import AttentionLayers

F32_BYTES = 4
EXAONE4_SLIDING_LAYERS = 64

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
# Recurrent layers are those without KV heads.
HYBRID_BY_KV_HEADS = frozenset(
    ["jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next"]
)
# Recurrent layers are all but every n-th; the value is the n of a file that does not say.
HYBRID_BY_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
NEMOTRON_HYBRID = frozenset({"nemotron_h", "nemotron_h_moe"})
PARALLEL_HYBRID = frozenset({"falcon-h1"})  # every layer has both attention and a recurrent state

INDEXER = frozenset({"deepseek32", "glm-dsa", "glm5-next", "hy_v4", "dots3note", "minimax-m3", "qwen4exp"})
GEMMA3N_KV_LAYERS = 20


@dataclass(frozen=True)
class SlidingRule:
    """Every ``period``-th layer is dense (0: none, None: the file must list the layers), the others slide.

    ``missing`` is the window of a file that names none; ``fixed`` replaces any window that is named.
    """

    period: int | None
    dense_first: bool = False
    missing: int = 0
    fixed: int = 0


SLIDING: dict[str, SlidingRule] = {
    "afmoe": SlidingRule(4),
    "cohere2": SlidingRule(4),
    "cohere2moe": SlidingRule(4, dense_first=True),
    "deepseek4": SlidingRule(0),
    "dots3note": SlidingRule(None),
    "exaone-moe": SlidingRule(4, missing=128),
    "exaone4": SlidingRule(4, missing=4096),
    "gemma2": SlidingRule(2, missing=4096),
    "gemma3": SlidingRule(6),
    "gemma3n": SlidingRule(5),
    "gemma4": SlidingRule(None),
    "gpt-oss": SlidingRule(2),
    "granite_swa": SlidingRule(None),
    "laguna": SlidingRule(4, dense_first=True),
    "lfm2": SlidingRule(0),
    "llama4": SlidingRule(4, missing=8192, fixed=8192),
    "maple": SlidingRule(None),
    "mellum": SlidingRule(4),
    "mimo2": SlidingRule(None),
    "muse-glimmer": SlidingRule(4),
    "olmo2": SlidingRule(4),
    "plamo3": SlidingRule(8),
    "smallthinker": SlidingRule(4, dense_first=True, fixed=4096),
    "spark2_5": SlidingRule(None),
    "step35": SlidingRule(None),
}


def read_attention(header: Header, architecture: str, blocks: int, nextn: int, embedding: int) -> AttentionLayers:
    """The attention of a model with ``blocks`` layers, the last ``nextn`` of which are prediction heads without KV."""
    key = f"{architecture}.attention."
    heads = header.per_layer(key + "head_count", blocks) or (0,) * blocks
    declared = header.per_layer(key + "head_count_kv", blocks) or heads
    if min(heads + declared) < 0:
        raise header.wrong(key + "head_count", "a layer has a negative number of heads")
    recurrent = _recurrent_layers(header, architecture, declared, blocks - nextn)
    kv_heads = _layers_with_kv(header, architecture, declared, recurrent, blocks - nextn)
    window, sliding = _sliding(header, architecture, recurrent, blocks - nextn)
    head_size = embedding // heads[0] if heads[0] else 0
    key_length = _size(header, key + "key_length", head_size) if heads[0] else 0
    value_length = _size(header, key + "value_length", head_size) if heads[0] else 0
    loops = max(1, _size(header, f"{architecture}.num_loops", 1)) if architecture == "nanbeige" else 1
    return AttentionLayers(
        kv_heads=kv_heads * loops,
        key_length=key_length,
        value_length=value_length,
        sliding_window=window,
        is_sliding=(sliding + (False,) * nextn) * loops if window else (),
        mla=bool(_size(header, key + "key_length_mla") and _size(header, key + "value_length_mla")),
        recurrent_state_bytes=sum(recurrent) * F32_BYTES * _state_elements(header, architecture, heads, embedding),
        sliding_key_length=_size(header, key + "key_length_swa"),
        sliding_value_length=_size(header, key + "value_length_swa"),
        indexer_key_length=_size(header, key + "indexer.key_length") if architecture in INDEXER else 0,
    )


def _size(header: Header, key: str, default: int = 0) -> int:
    value = header.integer(key)
    if value is None:
        return default
    if not 0 <= value < 1 << 31:
        raise header.wrong(key, f"a value of {value} is impossible")
    return value


def _recurrent_layers(header: Header, architecture: str, kv_heads: tuple[int, ...], layers: int) -> tuple[bool, ...]:
    if architecture in RECURRENT or architecture in PARALLEL_HYBRID:
        return (True,) * layers
    if architecture in HYBRID_BY_KV_HEADS:
        return tuple(kv_heads[layer] == 0 for layer in range(layers))
    if architecture in NEMOTRON_HYBRID:
        widths = _feed_forward(header, architecture, len(kv_heads))
        return tuple(kv_heads[layer] == 0 and widths[layer] == 0 for layer in range(layers))
    if architecture in HYBRID_BY_INTERVAL:
        listed = header.per_layer(f"{architecture}.attention.recurrent_layers", layers)
        if listed is not None:
            return tuple(bool(flag) for flag in listed)
        default = HYBRID_BY_INTERVAL[architecture]
        interval = max(1, _size(header, f"{architecture}.full_attention_interval", default))
        return tuple((layer + 1) % interval != 0 for layer in range(layers))
    return (False,) * layers


def _feed_forward(header: Header, architecture: str, layers: int) -> tuple[int, ...]:
    return header.per_layer(f"{architecture}.feed_forward_length", layers) or (0,) * layers


def _layers_with_kv(
    header: Header, architecture: str, declared: tuple[int, ...], recurrent: tuple[bool, ...], layers: int
) -> tuple[int, ...]:
    """KV heads a layer; 0 for recurrent layers, layers that reuse another's cache, and prediction heads."""
    blocks = len(declared)
    if architecture in RECURRENT:
        return (0,) * blocks
    kv = list(declared)
    if architecture not in PARALLEL_HYBRID:
        kv = [0 if layer < layers and recurrent[layer] else heads for layer, heads in enumerate(kv)]
    if architecture in NEMOTRON_HYBRID:
        widths = _feed_forward(header, architecture, blocks)
        kv = [0 if widths[layer] else heads for layer, heads in enumerate(kv)]
    own = layers
    if architecture == "gemma3n":
        own = GEMMA3N_KV_LAYERS
    elif architecture == "gemma4":
        own = max(0, blocks - _size(header, "gemma4.attention.shared_kv_layers"))
    return tuple(heads if layer < min(own, layers) else 0 for layer, heads in enumerate(kv))


def _sliding(
    header: Header, architecture: str, recurrent: tuple[bool, ...], layers: int
) -> tuple[int, tuple[bool, ...]]:
    """(window, which layers slide); window 0 when none does."""
    rule = SLIDING.get(architecture)
    key = f"{architecture}.attention.sliding_window"
    if rule is None or (architecture == "exaone4" and layers != EXAONE4_SLIDING_LAYERS):
        return 0, ()
    written = header.integer(key)
    window = rule.missing if written is None else _size(header, key) and (rule.fixed or _size(header, key))
    if not window:
        return 0, ()
    return window, _pattern(header, key + "_pattern", rule, recurrent, layers, architecture)


def _pattern(
    header: Header, key: str, rule: SlidingRule, recurrent: tuple[bool, ...], layers: int, architecture: str
) -> tuple[bool, ...]:
    if architecture == "lfm2":
        return tuple(not state for state in recurrent)
    if isinstance(header.values.get(key), ArraySpan):
        listed = header.per_layer(key, layers) or ()
        return tuple(bool(flag) for flag in listed)
    if rule.period is None:
        raise header.wrong(key, "the list of sliding-window layers is missing")
    period = _size(header, key, rule.period)
    if period == 0:
        return (True,) * layers
    dense = 0 if rule.dense_first else period - 1
    return tuple(layer % period != dense for layer in range(layers))


def _state_elements(header: Header, architecture: str, heads: tuple[int, ...], embedding: int) -> int:
    """Elements of one recurrent layer's state for one sequence: llama.cpp's n_embd_r + n_embd_s."""

    def read(name: str) -> int:
        return _size(header, f"{architecture}.{name}")

    if wkv := read("wkv.head_size"):
        return embedding * (_size(header, f"{architecture}.token_shift_count", 2) + wkv)
    kernel, inner, state = read("ssm.conv_kernel"), read("ssm.inner_size"), read("ssm.state_size")
    if cache := read("shortconv.l_cache"):
        return embedding * (cache - 1) + state * inner
    if kda := read("kda.head_dim"):
        taps = kernel - 1 if kernel else 3
        return heads[0] * kda * (3 * taps + kda)
    convolution = max(0, kernel - 1) * (inner + 2 * read("ssm.group_count") * state)
    if architecture == "minimax-01" and heads[0]:
        head = _size(header, "minimax-01.attention.key_length", embedding // heads[0])
        return convolution + head * head * heads[0]
    return convolution + state * inner
