"""The tensors of a shape are those of the files llama.cpp's converters write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.catalog import load
from advisor.catalog.records import Shape
from advisor.catalog.shapes import groups, parameters, recurrent_layers, sliding_layers, tensors
from advisor.gguf.header import read_header

CATALOGUE = load.load()

# As Hugging Face prints them for the safetensors files ("total" of the safetensors index), text model only.
PUBLISHED_PARAMETERS = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.3-70b": 70_553_706_496,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "smollm2-135m": 134_515_008,
    "smollm3-3b": 3_075_098_624,
    "gpt-oss-20b": 20_914_757_184,
    "phi-4": 14_659_507_200,
    "mistral-7b-v0.3": 7_248_023_552,
}

DEEPSEEK_V3 = Shape(
    architecture="deepseek2",
    layers=61,
    embedding_length=7168,
    feed_forward_length=18432,
    heads=128,
    kv_heads=1,
    head_length=192,
    vocabulary_size=129280,
    context_length=163840,
    tied_embeddings=False,
    experts=256,
    experts_used=8,
    expert_feed_forward_length=2048,
    shared_expert_feed_forward_length=2048,
    leading_dense_layers=3,
    kv_lora_rank=512,
    q_lora_rank=1536,
    rope_length=64,
    value_length=128,
)
DEEPSEEK_V2_LITE = replace(
    DEEPSEEK_V3,
    layers=27,
    embedding_length=2048,
    feed_forward_length=10944,
    heads=16,
    vocabulary_size=102400,
    experts=64,
    experts_used=6,
    expert_feed_forward_length=1408,
    shared_expert_feed_forward_length=2 * 1408,
    leading_dense_layers=1,
    q_lora_rank=0,
)


def test_the_tensors_of_smollm2_are_those_of_the_real_file(smollm2: Path):
    real = {tensor.name: tensor.elements for tensor in read_header(smollm2).tensors}
    shape = CATALOGUE.entries["smollm2-135m"].shape
    assert {tensor.name: tensor.elements for tensor in tensors(shape)} == real


@pytest.mark.parametrize("name", [name for name in PUBLISHED_PARAMETERS if name in CATALOGUE.entries])
def test_parameters_are_those_the_makers_publish(name: str):
    # Converters add rotation factors, a few dozen numbers.
    assert parameters(CATALOGUE.entries[name].shape) == pytest.approx(PUBLISHED_PARAMETERS[name], abs=256)


def test_latent_attention_adds_up_to_deepseeks_parameters():
    # The model cards: 671B for V3, 15.7B for V2-Lite. Not counted: one bias an expert.
    assert parameters(DEEPSEEK_V3) == pytest.approx(671.026e9, rel=1e-5)
    assert parameters(DEEPSEEK_V2_LITE) == pytest.approx(15_706_484_224, abs=1)


def test_most_published_parameter_counts_are_checked():
    assert sum(name in CATALOGUE.entries for name in PUBLISHED_PARAMETERS) >= 12


def test_untied_files_store_the_vocabulary_twice():
    shape = CATALOGUE.entries["qwen2.5-0.5b"].shape
    extra = parameters(shape, untied=True) - parameters(shape)
    assert extra == shape.vocabulary_size * shape.embedding_length
    assert any(tensor.name == "output.weight" for tensor in tensors(shape, untied=True))


def test_a_hybrid_has_attention_in_every_fourth_layer():
    shape = CATALOGUE.entries["qwen3.5-0.8b"].shape
    with_keys = {tensor.layer for tensor in tensors(shape) if tensor.name.endswith("attn_k.weight")}
    assert with_keys == {layer for layer, recurs in enumerate(recurrent_layers(shape)) if not recurs}
    assert len(with_keys) == shape.layers // 4
    assert max(with_keys) == shape.layers - 1


def test_gemma_3_slides_in_five_of_six_layers():
    slides = sliding_layers(CATALOGUE.entries["gemma-3-27b"].shape)
    assert [layer for layer, slide in enumerate(slides) if not slide][:3] == [5, 11, 17]


@given(
    layers=st.integers(1, 24),
    kv_heads=st.sampled_from([1, 2, 4]),
    experts=st.sampled_from([0, 4, 16]),
    tied=st.booleans(),
    architecture=st.sampled_from(["llama", "qwen2", "qwen3", "gemma3", "olmo2", "phi3", "gpt-oss", "unheard-of"]),
)
def test_names_are_unique_and_add_up(layers: int, kv_heads: int, experts: int, tied: bool, architecture: str):
    shape = Shape(
        architecture=architecture,
        layers=layers,
        embedding_length=256,
        feed_forward_length=0 if experts else 512,
        heads=4,
        kv_heads=kv_heads,
        head_length=64,
        vocabulary_size=1000,
        context_length=4096,
        tied_embeddings=tied,
        experts=experts,
        experts_used=experts // 4,
        expert_feed_forward_length=128 if experts else 0,
    )
    all_tensors = tensors(shape)
    assert len({tensor.name for tensor in all_tensors}) == len(all_tensors)
    assert sum(tensor.elements for tensor in all_tensors) == parameters(shape)
    assert len(all_tensors) == sum(group.count for group in groups(shape))
    assert {tensor.layer for tensor in all_tensors} == {-1, *range(layers)}
