"""Catalogue entry, quant -> the Model that reading the file would give, and the file's size.

Weights are summed from the types that llama.cpp's mixes give each tensor (``assign.py``), or from fitted bits where a
publisher's recipe is not known (``dynamic.py``). Of 114 sizes in the catalogue that are known to the byte, 106 are met
within 0.01 %. A published size wins over the computed one where the two differ by more than its rounding.
Paths are empty and no token text is known: ``content_hash`` names the entry.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

from advisor.catalog import dynamic
from advisor.catalog.assign import Typed, typed_groups
from advisor.catalog.load import PublishedSize, published_size
from advisor.catalog.mixes import known, publisher_of
from advisor.catalog.records import Entry, Repository, Shape, TokenizerGroup
from advisor.catalog.shapes import TensorGroup, groups, recurrent_layers, sliding_layers
from advisor.errors import OptionError
from advisor.gguf.attention import SLIDING
from advisor.types import AttentionLayers, Model, VocabularyHeader

F32_BYTES = 4
TENSOR_ENTRY_BYTES = 64  # name, shape, type and offset of one tensor in a file's header
# Texts, scores and merges of one token in a file's header, from files whose size is known to the byte: by tokens, else
# by pre-tokenizer, else by kind of tokenizer.
VOCABULARY_BYTES_PER_TOKEN = {
    "gpt-oss": 64.6,
    "gemma4": 60.3,
    "gpt-4o": 41.1,
    "llama-bpe": 60.9,
    "qwen2": 39.0,
    "qwen35": 43.9,
    "refact": 35.0,
    "smollm": 35.9,
    "smaug-bpe": 60.9,
    "tekken": 60.0,
    "phi-4": 35.2,
    "olmo-2": 35.2,
    "llama": 24.8,
    "gpt2": 45.0,
}
AGREES = 0.001  # a difference below this comes from the header, whose size is only estimated


@dataclass(frozen=True)
class _Weights:
    """Bytes by where llama.cpp puts them. ``layer_active``: what one token reads of the layers."""

    by_type: dict[str, int]
    parameters: int
    tensors: int
    inputs: float
    input_rows: float
    tied: float
    output: float
    layers: float
    layer_active: float

    @property
    def total(self) -> float:
        return self.inputs + self.output + self.layers

    def scaled(self, factor: float) -> _Weights:
        by_type = {kind: round(size * factor) for kind, size in self.by_type.items()}
        parts = (self.inputs, self.input_rows, self.tied, self.output, self.layers, self.layer_active)
        return _Weights(by_type, self.parameters, self.tensors, *(factor * part for part in parts))


def describe(entry: Entry, quant: str, group: TokenizerGroup, *, repository: Repository | None = None) -> Model:
    """The Model of an entry in a quant.

    ``repository``: whose files; without it the first that publishes the quant, else llama.cpp's mix with an importance
    matrix. OptionError for a quant whose types are not known.
    """
    repository = repository or repository_of(entry, quant)
    weights = _published_weights(entry.shape, quant, group, repository)
    return _model(entry, quant.upper(), group, weights)


def file_size_bytes(entry: Entry, quant: str, group: TokenizerGroup, *, repository: Repository | None = None) -> int:
    """Bytes of the file (all parts together): as published to the byte, else weights and an estimate of the header."""
    repository = repository or repository_of(entry, quant)
    published = published_size_bytes(repository, quant) if repository else None
    if published and not published.rounding_bytes:
        return round(published.bytes)
    weights = _published_weights(entry.shape, quant, group, repository)
    return round(weights.total + _header_bytes(entry.shape, group, weights))


def computed_file_size_bytes(
    entry: Entry,
    quant: str,
    group: TokenizerGroup,
    *,
    repository: Repository | None = None,
    fitted: bool = True,
) -> int:
    """Bytes of the file from tensor types alone, whatever is published. OptionError as ``describe``.

    ``fitted`` False leaves out the fitted bits of recipes that are not published: the nearest mix alone.
    """
    weights = _computed_weights(entry.shape, quant, repository, fitted=fitted)
    return round(weights.total + _header_bytes(entry.shape, group, weights))


def published_size_bytes(repository: Repository, quant: str) -> PublishedSize | None:
    """The size a repository's source prints for a quant, with its rounding; None where it is not known."""
    for name, text in repository.sizes.items():
        if name.upper() == quant.upper():
            return published_size(text)
    return None


def repository_of(entry: Entry, quant: str) -> Repository | None:
    """The first repository that publishes a quant: one whose size is known before one known only to exist."""
    for names in ("sizes", "quants"):
        for repository in entry.repositories:
            if any(name.upper() == quant.upper() for name in getattr(repository, names)):
                return repository
    return None


def quants_of(entry: Entry) -> tuple[str, ...]:
    """All quants published for an entry whose types are known, smallest file first."""
    found = {name for one in entry.repositories for name in (*one.sizes, *one.quants) if is_known(name)}
    return tuple(sorted(found, key=lambda name: (_sort_bytes(entry, name), name)))


def is_known(quant: str) -> bool:
    """Whether the types behind a quant name are known or fitted."""
    return known(dynamic.base_quant(quant))


def attention_of(shape: Shape) -> AttentionLayers:
    """What the KV cache needs: as advisor.gguf reads it from the header of such a model's file."""
    sliding = sliding_layers(shape) if shape.architecture in SLIDING else ()
    recurrent = recurrent_layers(shape)
    heads = tuple(_kv_heads(shape, layer, recurrent, sliding) for layer in range(shape.layers))
    latent, head = shape.kv_lora_rank, shape.global_head_length or shape.head_length
    own_sliding_head = shape.head_length if sliding and shape.global_head_length else 0
    no_kv, no_slide = (0,) * shape.nextn_layers, (False,) * shape.nextn_layers
    return AttentionLayers(
        kv_heads=heads + no_kv,
        key_length=latent + shape.rope_length if latent else head,
        value_length=latent or head,
        sliding_window=shape.sliding_window if sliding else 0,
        is_sliding=sliding + no_slide if sliding else (),
        mla=bool(latent),
        recurrent_state_bytes=F32_BYTES * sum(recurrent) * _state_elements(shape),
        sliding_key_length=own_sliding_head,
        sliding_value_length=own_sliding_head,
    )


def _kv_heads(shape: Shape, layer: int, recurrent: tuple[bool, ...], sliding: tuple[bool, ...]) -> int:
    if recurrent[layer] or layer >= shape.layers - shape.shared_kv_layers:
        return 0
    slides = bool(sliding) and sliding[layer]
    return shape.kv_heads if slides or not shape.global_kv_heads else shape.global_kv_heads


def _state_elements(shape: Shape) -> int:
    """One recurrent layer's state for one sequence: the convolution's window and the state matrix."""
    channels = shape.ssm_inner_size + 2 * shape.ssm_group_count * shape.ssm_state_size
    return max(0, shape.ssm_conv_kernel - 1) * channels + shape.ssm_state_size * shape.ssm_inner_size


def _sort_bytes(entry: Entry, quant: str) -> float:
    repository = repository_of(entry, quant)
    published = published_size_bytes(repository, quant) if repository else None
    computed = _computed_weights(entry.shape, quant, repository).total
    return published.bytes if published and abs(published.bytes - computed) > published.rounding_bytes else computed


def _published_weights(shape: Shape, quant: str, group: TokenizerGroup, repository: Repository | None) -> _Weights:
    """The computed weights, scaled to what is published where that contradicts them."""
    weights = _computed_weights(shape, quant, repository)
    published = published_size_bytes(repository, quant) if repository else None
    if published is None:
        return weights
    header = _header_bytes(shape, group, weights)
    computed = weights.total + header
    nearest = min(max(computed, published.bytes - published.rounding_bytes), published.bytes + published.rounding_bytes)
    if abs(nearest / computed - 1) < AGREES:
        return weights
    return weights.scaled((nearest - header) / weights.total)


def _computed_weights(shape: Shape, quant: str, repository: Repository | None, *, fitted: bool = True) -> _Weights:
    if not is_known(quant):
        raise OptionError(
            f"The size of a {quant} file cannot be computed.",
            why="Which types llama.cpp gives the tensors in it is not in the catalogue.",
            fix="Choose another quant, for example Q4_K_M or Q8_0, or give the path of a file.",
        )
    repo, untied = (repository.repo, repository.untied) if repository else ("", False)
    return _weights(shape, quant.upper(), repo, untied, fitted)


@functools.lru_cache(maxsize=4096)
def _weights(shape: Shape, quant: str, repo: str, untied: bool, fitted: bool) -> _Weights:
    """Weights from tensor types. UD names without a repository are taken to be unsloth's."""
    tensors = groups(shape, untied=untied)
    chosen = quant.startswith("UD-")
    mix = dynamic.base_quant(quant) if chosen else quant
    weights = _summed(shape, typed_groups(shape, tensors, mix, publisher_of(repo), chosen=chosen))
    recipe = dynamic.recipe_key(repo or ("unsloth/" if chosen else ""), shape, quant)
    extra = dynamic.table().get(recipe) if fitted else None
    return _with_extra(shape, tensors, weights, extra) if extra else weights


def _summed(shape: Shape, typed: tuple[Typed, ...]) -> _Weights:
    by_type: Counter[str] = Counter()
    inputs = input_rows = output = layers = active = 0.0
    parameters = tensors = embedding = 0
    separate = False
    for one in typed:
        size = one.tensor_bytes * one.count
        by_type[one.kind] += size
        parameters += one.group.elements * one.count
        tensors += one.count
        if one.layers:
            layers += size
            active += _active_bytes(shape, one)
        elif "token_embd." in one.group.suffix:
            inputs += size
            input_rows += one.row_bytes
            embedding += size if one.group.suffix == "token_embd.weight" else 0
        else:
            output += size
            separate = separate or one.group.suffix == "output.weight"
    tied = 0.0 if separate else float(embedding)
    return _Weights(dict(by_type.most_common()), parameters, tensors, inputs, input_rows, tied, output, layers, active)


def _active_bytes(shape: Shape, one: Typed) -> float:
    """What one token reads: of the experts those it is routed to, nothing of the prediction heads."""
    share = shape.experts_used / shape.experts if "_exps." in one.group.suffix else 1.0
    return share * one.tensor_bytes * sum(layer < shape.layers for layer in one.layers)


def _with_extra(
    shape: Shape, tensors: tuple[TensorGroup, ...], weights: _Weights, extra: dict[dynamic.TensorClass, float]
) -> _Weights:
    """The mix' weights with a fitted recipe's bits on top; the types are the mix', each in proportion."""
    elements = dynamic.elements_by_class(shape, tensors)
    more = {name: bits * elements[name] / 8 for name, bits in extra.items()}
    tied = more.get("tied", 0.0) + more.get("embedding", 0.0)
    inputs = weights.inputs + tied + more.get("per_layer", 0.0)
    output = weights.output + more.get("output", 0.0)
    layers = weights.layers + sum(
        size for name, size in more.items() if name not in ("tied", "embedding", "per_layer", "output")
    )
    total = inputs + output + layers
    return _Weights(
        by_type={kind: round(size * total / weights.total) for kind, size in weights.by_type.items()},
        parameters=weights.parameters,
        tensors=weights.tensors,
        inputs=inputs,
        input_rows=weights.input_rows * inputs / weights.inputs,
        tied=weights.tied + tied if weights.tied else 0.0,
        output=output,
        layers=layers,
        layer_active=weights.layer_active * layers / weights.layers,
    )


def _header_bytes(shape: Shape, group: TokenizerGroup, weights: _Weights) -> float:
    table = VOCABULARY_BYTES_PER_TOKEN
    per_token = next((table[key] for key in (group.tokens, group.pre, group.model) if key in table), table["gpt2"])
    return shape.vocabulary_size * per_token + weights.tensors * TENSOR_ENTRY_BYTES


def _model(entry: Entry, quant: str, group: TokenizerGroup, weights: _Weights) -> Model:
    shape = entry.shape
    inputs, output, layers = round(weights.inputs), round(weights.output), round(weights.layers)
    active = weights.layer_active + weights.output + weights.tied + weights.input_rows
    return Model(
        name=entry.name,
        path="",
        paths=(),
        architecture=shape.architecture,
        quant=quant,
        parameters=weights.parameters,
        weights_bytes=inputs + output + layers,
        active_weights_bytes=round(active),
        weights_bytes_by_type=weights.by_type,
        token_embedding_bytes=inputs,
        output_bytes=output,
        repeating_bytes=layers,
        layers=shape.layers + shape.nextn_layers,
        embedding_length=shape.embedding_length,
        feed_forward_length=max(shape.feed_forward_length, shape.shared_kv_feed_forward_length),
        context_length=shape.context_length,
        heads=shape.heads,
        attention=attention_of(shape),
        vocabulary=VocabularyHeader(
            model=group.model,
            pre=group.pre,
            size=shape.vocabulary_size,
            bos_id=group.bos_id,
            eos_id=group.eos_id,
            add_bos=group.add_bos,
            add_eos=group.add_eos,
        ),
        experts=(shape.experts, shape.experts_used),
        has_chat_template=True,
        content_hash=f"catalogue:{entry.id}:{quant}",
        nextn_layers=shape.nextn_layers,
        tied_output_bytes=round(weights.tied),
        expert_feed_forward_length=shape.expert_feed_forward_length,
    )
