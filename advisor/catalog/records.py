"""What a catalogue file may say, as types. models_catalog/schema/*.json is generated from them.

One YAML file holds one ``Family``. ``tokenizers.yaml`` holds ``Tokenizers``, ``hosts.yaml`` holds ``Hosts``. Numbers
are in the units of their field names; every entry names the source of its facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Backend = Literal["metal", "cuda", "rocm", "vulkan", "cpu"]


@dataclass(frozen=True)
class Shape:
    """The hyper-parameters that decide tensor sizes and KV cache, in GGUF's words.

    ``head_length`` is the size of one K and V head. ``expert_feed_forward_length`` is the width of one routed expert,
    ``shared_expert_feed_forward_length`` of the expert that every token uses; ``feed_forward_length`` is that of dense
    layers (0: none). ``full_attention_interval``: in a hybrid every n-th layer has attention, the others a recurrent
    state described by the ``ssm_*`` fields. ``sliding_period``: every n-th layer does not slide, the others do (0: all
    slide). ``global_*``: heads of the layers that do not slide, where they differ; such layers with KV heads of their
    own number have no V matrix. ``shared_kv_layers``: the last ones, which reuse the KV of earlier layers, and
    ``shared_kv_feed_forward_length`` their ``feed_forward_length``, where it differs. ``per_layer_embedding_length``:
    width of one layer's own token embedding. ``layers`` counts without ``nextn_layers``, which predict further tokens.
    """

    architecture: str
    layers: int
    embedding_length: int
    feed_forward_length: int
    heads: int
    kv_heads: int
    head_length: int
    vocabulary_size: int
    context_length: int
    tied_embeddings: bool
    sliding_window: int = 0
    sliding_period: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward_length: int = 0
    shared_expert_feed_forward_length: int = 0
    leading_dense_layers: int = 0
    full_attention_interval: int = 0
    ssm_conv_kernel: int = 0
    ssm_inner_size: int = 0
    ssm_state_size: int = 0
    ssm_group_count: int = 0
    ssm_time_step_rank: int = 0
    global_head_length: int = 0
    global_kv_heads: int = 0
    shared_kv_layers: int = 0
    nextn_layers: int = 0
    per_layer_embedding_length: int = 0
    shared_kv_feed_forward_length: int = 0
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    rope_length: int = 0
    value_length: int = 0


@dataclass(frozen=True)
class Repository:
    """GGUF files published together; the first of an entry is the one to prefer.

    ``file`` is a pattern with {quant}. ``sizes`` are as published: quant -> "4.7 GiB", "468.6 MiB", "4.68 GB" or
    "4683073632 B". ``quants``: files known to exist whose size is not known. ``untied``: these files store an output
    matrix of their own although the model ties it to the embedding. File names hold quants as in ``sizes``, in lower
    case with ``lower_case_quants``, or as ``spelled`` says. ``parts``: how many files a quant is split into, where that
    is known and more than one. ``own_mix``: quants whose tensors have other types than llama.cpp, or the
    known recipe of the publisher, gives them: their sizes are not those of the shape.
    """

    repo: str
    file: str
    sizes: dict[str, str] = field(default_factory=dict)
    quants: tuple[str, ...] = ()
    lower_case_quants: bool = False
    untied: bool = False
    spelled: dict[str, str] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    own_mix: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Entry:
    """One model of a family. ``id`` is what people type, lower case ("qwen2.5-72b"); ``name`` is the upstream name.

    ``parameters`` counts all weights, prediction heads aside. ``tokenizer`` names a group of tokenizers.yaml. ``base``
    is what the model was tuned from, an id or else an upstream name, "" for itself. ``traps`` are sentences for people.
    ``source`` says where the facts were read.
    """

    id: str
    name: str
    hf_repo: str
    licence: str
    parameters: int
    tokenizer: str
    shape: Shape
    source: str
    repositories: tuple[Repository, ...] = ()
    aliases: tuple[str, ...] = ()
    base: str = ""
    traps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """``name`` as people write it ("Qwen2.5")."""

    name: str
    models: tuple[Entry, ...]
    traps: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizerGroup:
    """Models whose GGUF vocabularies have the same header facts. ``model`` is ``tokenizer.ggml.model``, ``pre`` is
    ``tokenizer.ggml.pre``. Groups with the same ``tokens`` have the same token texts up to the smaller size."""

    id: str
    model: str
    pre: str
    add_bos: bool
    add_eos: bool
    tokens: str
    source: str
    bos_id: int | None = None
    eos_id: int | None = None
    traps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokenizers:
    groups: tuple[TokenizerGroup, ...]


@dataclass(frozen=True)
class HostEntry:
    """A machine, or a graphics card in one. Its names are ``id`` and ``id-<memory>gb`` for each of ``memory_gib``.

    ``memory_gib`` is that of the device that runs the models; ``bandwidth_gb_per_s`` its published peak (10**9 bytes).
    ``unified``: the device shares the host's memory. ``matches`` are parts of the name a driver reports.
    """

    id: str
    name: str
    backend: Backend
    memory_gib: tuple[int, ...]
    bandwidth_gb_per_s: float
    unified: bool
    source: str
    matches: tuple[str, ...] = ()
    other_backends: tuple[Backend, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.id}-{memory}gb" for memory in self.memory_gib)


@dataclass(frozen=True)
class Hosts:
    hosts: tuple[HostEntry, ...]
