"""All parts of a model file -> Model."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from advisor.errors import GGUFError
from advisor.gguf.attention import read_attention
from advisor.gguf.cursor import damaged
from advisor.gguf.ggml_types import FILE_TYPES
from advisor.gguf.header import Header, TensorInfo, read_header
from advisor.gguf.parts import all_parts, model_stem
from advisor.gguf.vocabulary import read_vocabulary
from advisor.types import Model

TENSOR_COUNT_OFFSET = 8  # after the magic and the version
MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS

DRAFT_ONLY_ARCHITECTURES = frozenset({"eagle3", "dflash", "gemma4-assistant"})
NOT_LANGUAGE_MODELS = {
    "clip": "an image or audio encoder (mmproj)",
    "wavtokenizer-dec": "a speech decoder",
    "t5encoder": "an encoder without a decoder",
}
NOT_MODELS = {"adapter": "a LoRA adapter", "imatrix": "an importance matrix", "mmproj": "an image encoder (mmproj)"}

# llama.cpp's input-layer tensors: they stay in host memory and only the rows of the tokens at hand are read.
INPUT_TENSORS = re.compile(
    r"token_embd\.|per_layer_token_embd\.|position_embd\.|token_types\.|mtp\.(centroids|token_ordering)"
)
LAYER_OF = re.compile(r"blk\.(\d+)\.")
# Routed experts: stacked as "ffn_up_exps", or one by one as "ffn_up.3" in files from before 2024.
EXPERT_TENSOR = re.compile(r"_(ch)?exps\.|\.ffn_(gate|up|down)\.\d+\.")


def read_model(path: Path) -> Model:
    """The model a file belongs to. ``path`` may be any part of a split file.

    FileProblem when a file cannot be opened; GGUFError when it is damaged, incomplete, or not a language model.
    """
    headers = tuple(read_header(part) for part in all_parts(path))
    header = headers[0]
    tensors = tuple(tensor for one in headers for tensor in one.tensors)
    architecture = _architecture(header)
    _check_parts(headers, tensors)
    _check_has_weights(header, tensors)
    return _Facts(headers, architecture, tensors).model()


def _architecture(header: Header) -> str:
    kind = header.text("general.type") or "model"
    if kind in NOT_MODELS:
        raise _not_a_model(header, NOT_MODELS[kind], "general.type")
    architecture = header.text("general.architecture")
    if not architecture:
        raise header.wrong("general.architecture", "the architecture is not named")
    if architecture in NOT_LANGUAGE_MODELS:
        raise _not_a_model(header, NOT_LANGUAGE_MODELS[architecture], "general.architecture")
    if header.integer(f"{architecture}.attention.causal") == 0:
        raise _not_a_model(header, "an embedding model", f"{architecture}.attention.causal")
    return architecture


def _not_a_model(header: Header, what: str, field: str) -> GGUFError:
    return GGUFError(
        f"The file {header.path.name} is not a language model.",
        why=f"It is {what} and writes no text.",
        fix="Give the model's own GGUF file.",
        offset=header.places.get(field, header.metadata_end),
        field=field,
    )


def _check_parts(headers: Sequence[Header], tensors: Sequence[TensorInfo]) -> None:
    first = headers[0]
    declared = first.integer("split.count") or 1
    if declared != len(headers):
        raise first.wrong("split.count", f"the file says it is one of {declared} parts, its name says {len(headers)}")
    for number, header in enumerate(headers):
        if len(headers) > 1 and header.integer("split.no") != number:
            raise header.wrong("split.no", f"the file is not part {number + 1} as its name says")
    expected = first.integer("split.tensors.count")
    if len(headers) > 1 and expected is not None and expected != len(tensors):
        raise first.wrong("split.tensors.count", f"the parts hold {len(tensors)} tensors together, expected {expected}")
    repeated = [name for name, times in Counter(tensor.name for tensor in tensors).items() if times > 1]
    if repeated:
        raise damaged(first.path, "a tensor appears in two parts", offset=first.metadata_end, field=repeated[0])


def _check_has_weights(header: Header, tensors: Sequence[TensorInfo]) -> None:
    if not tensors:
        raise GGUFError(
            f"The file {header.path.name} holds no weights.",
            why="It has metadata and a vocabulary only (a vocab-only file, made for tokenizer tests).",
            fix="Give the model's own GGUF file.",
            offset=TENSOR_COUNT_OFFSET,
            field="tensor count",
        )


class _Facts:
    """One model's headers while its facts are gathered."""

    def __init__(self, headers: Sequence[Header], architecture: str, tensors: Sequence[TensorInfo]) -> None:
        self.headers, self.header = headers, headers[0]
        self.architecture, self.tensors = architecture, tensors
        self.by_name = {tensor.name: tensor for tensor in tensors}
        self.blocks = self.required("block_count", MAX_LAYERS)
        self.embedding = self.required("embedding_length", 1 << 24)
        self.nextn = self.optional("nextn_predict_layers")
        if self.nextn > self.blocks:
            raise self.header.wrong(f"{architecture}.nextn_predict_layers", "more prediction layers than layers")
        self.layers = self.blocks - self.nextn

    def required(self, name: str, limit: int) -> int:
        key = f"{self.architecture}.{name}"
        value = self.header.integer(key)
        if value is None or not 0 < value <= limit:
            raise self.header.wrong(key, f"{key} is {'missing' if value is None else value}")
        return value

    def optional(self, name: str) -> int:
        return max(0, self.header.integer(f"{self.architecture}.{name}") or 0)

    def model(self) -> Model:
        header, tensors = self.header, self.tensors
        draft_only = self.draft_only()
        by_type: Counter[str] = Counter()
        for tensor in tensors:
            by_type[tensor.kind.name] += tensor.bytes
        inputs = sum(tensor.bytes for tensor in tensors if INPUT_TENSORS.match(tensor.name))
        repeating = sum(tensor.bytes for tensor in tensors if LAYER_OF.match(tensor.name))
        total = sum(by_type.values())
        return Model(
            name=(header.text("general.name") or "").strip() or model_stem(header.path),
            path=str(header.path),
            paths=tuple(str(one.path) for one in self.headers),
            architecture=self.architecture,
            quant=self.quant(),
            parameters=sum(tensor.elements for tensor in tensors),
            weights_bytes=total,
            active_weights_bytes=self.active_bytes(),
            weights_bytes_by_type=dict(by_type.most_common()),
            token_embedding_bytes=inputs,
            output_bytes=total - inputs - repeating,
            repeating_bytes=repeating,
            layers=self.blocks,
            embedding_length=self.embedding,
            feed_forward_length=self.widest("feed_forward_length"),
            context_length=self.required("context_length", 1 << 40),
            heads=self.widest("attention.head_count"),
            attention=read_attention(header, self.architecture, self.blocks, self.nextn, self.embedding),
            vocabulary=read_vocabulary(header, required=not draft_only),
            experts=(self.optional("expert_count"), max(self.experts_used())),
            has_chat_template=bool(header.text("tokenizer.chat_template")),
            content_hash=self.content_hash(),
            draft_only=draft_only,
            nextn_layers=self.nextn,
            tied_output_bytes=self.tied_output_bytes(),
            expert_feed_forward_length=self.expert_width(),
        )

    def draft_only(self) -> str:
        """What kind of speculation this file is a part for, "" for a model that stands alone."""
        if self.architecture in DRAFT_ONLY_ARCHITECTURES:
            return self.architecture
        # A sidecar holds the prediction layers of a model whose own layers are elsewhere.
        if self.nextn and (self.layers == 0 or not any(name.startswith("blk.0.") for name in self.by_name)):
            return "mtp"
        return ""

    def widest(self, name: str) -> int:
        """A hyper-parameter that may vary by layer, at its largest; 0 when absent."""
        widths = self.header.per_layer(f"{self.architecture}.{name}", self.blocks)
        return max(widths) if widths else 0

    def experts_used(self) -> tuple[int, ...]:
        return self.header.per_layer(f"{self.architecture}.expert_used_count", self.blocks) or (0,) * self.blocks

    def expert_width(self) -> int:
        if not self.optional("expert_count"):
            return 0
        return self.widest("expert_feed_forward_length") or self.widest("feed_forward_length")

    def tied_output_bytes(self) -> int:
        """Without an output matrix of its own a model uses its token embedding, as a whole, for every token."""
        embedding = self.by_name.get("token_embd.weight")
        return embedding.bytes if embedding and "output.weight" not in self.by_name else 0

    def active_bytes(self) -> int:
        """Bytes one token reads: all but the experts it is not routed to, unread table rows, prediction layers."""
        experts, used = self.optional("expert_count"), self.experts_used()
        total = float(self.tied_output_bytes())
        for tensor in self.tensors:
            match = LAYER_OF.match(tensor.name)
            layer = int(match[1]) if match else -1
            if layer >= self.layers:
                continue
            if match and experts and layer < len(used) and EXPERT_TENSOR.search(tensor.name):
                total += tensor.bytes * min(used[layer], experts) / experts
            elif INPUT_TENSORS.match(tensor.name):
                total += tensor.row_bytes
            else:
                total += tensor.bytes
        return round(total)

    def quant(self) -> str:
        """The declared file type when it fits the type that holds most bytes of the layers, else that type."""
        bytes_by_type: Counter[str] = Counter()
        for tensor in self.tensors:
            if LAYER_OF.match(tensor.name):
                bytes_by_type[tensor.kind.name] += tensor.bytes
        for tensor in () if bytes_by_type else self.tensors:
            bytes_by_type[tensor.kind.name] += tensor.bytes
        dominating = bytes_by_type.most_common(1)[0][0]
        declared = self.header.values.get("general.file_type")
        name, fitting = FILE_TYPES.get(declared if isinstance(declared, int) else -1, ("", frozenset[str]()))
        return name if dominating in fitting else dominating

    def content_hash(self) -> str:
        return hashlib.sha256(b"".join(header.digest for header in self.headers)).hexdigest()
