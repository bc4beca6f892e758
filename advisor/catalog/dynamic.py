"""Files whose recipe is not published: unsloth's ``UD-`` quants, bartowski's files of mixtures of experts and hybrids.

Their types per tensor are chosen by a tool that is not public, so they are modelled: the nearest mix of llama.cpp, plus
bits per weight for each class of tensors, fitted to published file sizes (``fit``). The fitted numbers describe sizes;
they do not say which tensor has which type. ``ends`` stands for a few whole layers kept at more bits, whatever the
number of layers: bits times layers.

The numbers are in ``dynamic.json``, written by scripts/fit_dynamic_sizes.py, with how well they do: on the sizes they
were fitted to, and on models that were left out of the fit.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from advisor.catalog.assign import Typed, role_of
from advisor.catalog.records import Shape
from advisor.catalog.shapes import TensorGroup

TABLE = Path(__file__).with_name("dynamic.json")

TensorClass = Literal["embedding", "tied", "output", "attention", "delta", "dense", "experts", "per_layer", "ends"]
CLASSES: tuple[TensorClass, ...] = (
    "embedding",
    "tied",
    "output",
    "attention",
    "delta",
    "dense",
    "experts",
    "per_layer",
    "ends",
)
# How far from its mix a class is expected to be, in bits per weight ("ends": bits times layers).
PRIOR_BITS: dict[TensorClass, float] = {
    "embedding": 3.0,
    "tied": 3.0,
    "output": 3.0,
    "attention": 0.7,
    "delta": 0.7,
    "dense": 0.2,
    "experts": 0.3,
    "per_layer": 2.0,
    "ends": 10.0,
}
NOISE = 0.006  # of a size: what a file has besides its weights, and what the classes do not tell apart
OUTLIER = 2.0  # noises; beyond, a row counts for less
ROUNDS = 12

BASES = {
    "UD-Q2_K_XL": "Q2_K",
    "UD-Q3_K_XL": "Q3_K_M",
    "UD-Q4_K_XL": "Q4_K_M",
    "UD-Q4_K_L": "Q4_K_M",
    "UD-Q5_K_XL": "Q5_K_M",
    "UD-Q6_K_XL": "Q6_K",
    "UD-Q6_K_S": "Q6_K",
    "UD-Q8_K_XL": "Q8_0",
    "UD-IQ4_NL_XL": "IQ4_NL",
    "UD-TQ1_0": "IQ1_S",
}


@dataclass(frozen=True)
class Observed:
    """A published size with the half-width of its rounding, and what the mix alone predicts for its weights."""

    elements: dict[TensorClass, float]
    mix_bytes: float
    size_bytes: float
    half_width_bytes: float


def base_quant(quant: str) -> str:
    """The mix of llama.cpp that a quant name is nearest to."""
    quant = quant.upper()
    return BASES.get(quant, quant.removeprefix("UD-"))


def recipe_key(repo: str, shape: Shape, quant: str) -> str:
    """The entry of the table for a file, "" where llama.cpp's own mixes are used."""
    owner, quant = repo.split("/")[0], quant.upper()
    moe, new = bool(shape.experts), shape.architecture.startswith(("qwen35", "gemma4"))
    if quant.startswith("UD-") or (quant == "MXFP4_MOE" and owner == "unsloth"):
        kind = ("new-moe" if new else "moe") if moe else shape.architecture if new else "dense"
        return f"unsloth {kind} {quant}"
    if owner == "bartowski" and quant not in ("BF16", "F16", "F32", "Q8_0"):
        if moe and shape.architecture != "gpt-oss":
            return f"bartowski moe {quant}"
        if shape.full_attention_interval:
            return f"bartowski hybrid {quant}"
    return ""


@functools.cache
def table() -> dict[str, dict[TensorClass, float]]:
    """Recipe key -> bits per weight above the mix, by class."""
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    recipes: dict[str, dict[TensorClass, float]] = content["extra_bits"]
    return recipes


def extra_bytes(shape: Shape, groups: Sequence[TensorGroup], extra: dict[TensorClass, float]) -> float:
    """What a recipe adds to its mix."""
    elements = elements_by_class(shape, groups)
    return sum(bits * elements[name] for name, bits in extra.items()) / 8


def elements_by_class(shape: Shape, groups: Sequence[TensorGroup]) -> dict[TensorClass, float]:
    """Weights of the quantized tensors; "ends" is those of a layer."""
    found: dict[TensorClass, float] = dict.fromkeys(CLASSES, 0.0)
    for group in groups:
        if role_of(group.suffix) == "unquantized":
            continue
        elements = group.elements * group.count
        found[class_of(shape, group.suffix)] += elements
        if group.layers:
            found["ends"] += elements / shape.layers
    return found


def class_of(shape: Shape, suffix: str) -> TensorClass:
    if suffix == "token_embd.weight":
        return "tied" if shape.tied_embeddings else "embedding"
    if suffix == "output.weight":
        return "output"
    if suffix.startswith("per_layer_token"):
        return "per_layer"
    if "_exps" in suffix:
        return "experts"
    if suffix.startswith("ffn"):
        return "dense"
    recurrent = suffix.startswith(("ssm_", "attn_qkv", "attn_gate"))
    return "delta" if recurrent and shape.full_attention_interval else "attention"


def mix_bytes(typed: Sequence[Typed]) -> int:
    return sum(one.tensor_bytes * one.count for one in typed)


def fit(rows: Sequence[Observed]) -> dict[TensorClass, float]:
    """Bits per weight above the mix that explain the published sizes best.

    Ridge regression towards the mix (``PRIOR_BITS``), each size weighted by its rounding; sizes that do not follow the
    others are weighted down, since a publisher's recipe changes over time.
    """
    trust = [1.0] * len(rows)
    bits: dict[TensorClass, float] = {}
    for _ in range(ROUNDS):
        bits = _ridge(rows, trust)
        misses = [abs(_residual(row, bits)) / _noise_bytes(row) for row in rows]
        trust = [min(1.0, (OUTLIER / miss) ** 2) if miss else 1.0 for miss in misses]
    return {name: round(value, 3) for name, value in bits.items() if abs(value) >= 0.0005}


def _noise_bytes(row: Observed) -> float:
    return NOISE * row.size_bytes + row.half_width_bytes / 1.7


def _residual(row: Observed, bits: dict[TensorClass, float]) -> float:
    explained = sum(value * row.elements[name] for name, value in bits.items()) / 8
    return row.size_bytes - row.mix_bytes - explained


def _ridge(rows: Sequence[Observed], trust: Sequence[float]) -> dict[TensorClass, float]:
    import numpy

    noise = numpy.array([_noise_bytes(row) / share**0.5 for row, share in zip(rows, trust, strict=True)])
    inputs = numpy.array([[row.elements[name] / 8 for name in CLASSES] for row in rows]) / noise[:, None]
    wanted = numpy.array([row.size_bytes - row.mix_bytes for row in rows]) / noise
    prior = numpy.diag([PRIOR_BITS[name] ** -2 for name in CLASSES])
    solved = numpy.linalg.solve(inputs.T @ inputs + prior, inputs.T @ wanted)
    return dict(zip(CLASSES, map(float, solved), strict=True))
