"""A described model is the Model that reading the file gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest

from advisor.catalog import describe as module
from advisor.catalog import load
from advisor.catalog.describe import attention_of, describe, quants_of
from advisor.catalog.records import Entry, Shape, TokenizerGroup
from advisor.gguf import read_model
from advisor.memory import kv_bytes, split_use
from advisor.testing.zoo import Recipe, build
from advisor.types import Model
from tests.catalog import artificial
from tests.catalog.test_shapes import DEEPSEEK_V3

CATALOGUE = load.load()
KIB = 1024

TINY = Shape(
    architecture="llama",
    layers=6,
    embedding_length=256,
    feed_forward_length=512,
    heads=4,
    kv_heads=2,
    head_length=64,
    vocabulary_size=96,
    context_length=2048,
    tied_embeddings=False,
)
MIXTURE = replace(TINY, experts=8, experts_used=2, expert_feed_forward_length=128)
HYBRID = replace(
    TINY,
    architecture="qwen35",
    layers=8,
    full_attention_interval=4,
    ssm_conv_kernel=4,
    ssm_inner_size=256,
    ssm_state_size=64,
    ssm_group_count=2,
    ssm_time_step_rank=4,
)
SHAPES = {
    "llama": TINY,
    "tied": replace(TINY, architecture="qwen2", tied_embeddings=True),
    "qwen3": replace(TINY, architecture="qwen3", head_length=128),
    "qwen3moe": replace(MIXTURE, architecture="qwen3moe"),
    "gpt-oss": replace(MIXTURE, architecture="gpt-oss", sliding_window=128, sliding_period=2),
    "gemma2": replace(TINY, architecture="gemma2", tied_embeddings=True, sliding_window=128, sliding_period=2),
    "gemma3": replace(TINY, architecture="gemma3", tied_embeddings=True, sliding_window=128, sliding_period=6),
    "gemma4": replace(
        TINY,
        architecture="gemma4",
        tied_embeddings=True,
        sliding_window=128,
        sliding_period=3,
        global_head_length=128,
        shared_kv_layers=2,
        shared_kv_feed_forward_length=1024,
        per_layer_embedding_length=32,
    ),
    "gemma4, keys as values": replace(
        TINY,
        architecture="gemma4",
        tied_embeddings=True,
        sliding_window=128,
        sliding_period=3,
        global_head_length=128,
        global_kv_heads=1,
    ),
    "deepseek2": replace(
        MIXTURE,
        architecture="deepseek2",
        kv_heads=1,
        head_length=96,
        rope_length=32,
        value_length=64,
        kv_lora_rank=64,
        q_lora_rank=128,
        leading_dense_layers=1,
        shared_expert_feed_forward_length=128,
    ),
    "qwen35": HYBRID,
    "qwen35 with a prediction head": replace(HYBRID, nextn_layers=1),
    "olmo2": replace(TINY, architecture="olmo2"),
    "phi3": replace(TINY, architecture="phi3"),
}


def group_of(entry: Entry) -> TokenizerGroup:
    return CATALOGUE.tokenizers[entry.tokenizer]


def described(name: str, quant: str) -> Model:
    entry = CATALOGUE.entries[name]
    return describe(entry, quant, group_of(entry))


@pytest.mark.parametrize("name", SHAPES)
def test_a_described_model_is_what_reading_its_file_gives(name: str, tmp_path: Path):
    shape = SHAPES[name]
    group = TokenizerGroup("own", "gpt2", "qwen2", True, False, "own", "here", bos_id=1, eos_id=2)
    entry = Entry("tiny", "artificial", "", "", 0, "own", shape, "here")
    real = read_model(artificial.write(shape, tmp_path / "tiny.gguf"))
    if shape.architecture == "gpt-oss":  # real files hold MXFP4 experts, the artificial one cannot
        shared = {"weights_bytes": 0, "active_weights_bytes": 0, "repeating_bytes": 0, "weights_bytes_by_type": {}}
    else:
        shared = {}
    ours = describe(entry, "F16", group)
    own = {"path": "", "paths": (), "content_hash": "", "quant": "F16", **shared}
    assert replace(ours, **own) == replace(real, **own)
    assert ours.content_hash == "catalogue:tiny:F16"


@pytest.mark.parametrize("quant", ["Q2_K", "Q4_0", "Q4_K_M", "Q6_K", "Q8_0"])
def test_memory_of_smollm2_is_that_of_the_real_file(quant: str):
    real = read_model(build(Recipe(30, quant)))
    entry = CATALOGUE.entries["smollm2-135m"]
    ours = describe(replace(entry, repositories=()), quant, group_of(entry))
    for layers in (0, 12, -1):
        got, wanted = (
            split_use(model, 4096, gpu_layers=layers, outputs=5, role="target").together for model in (ours, real)
        )
        assert got.kv_bytes == wanted.kv_bytes
        assert got.compute_bytes == wanted.compute_bytes
        assert got.output_bytes == wanted.output_bytes
        assert got.weights_bytes == pytest.approx(wanted.weights_bytes, rel=0.005)
    assert ours.active_weights_bytes == pytest.approx(real.active_weights_bytes, rel=0.005)


@pytest.mark.parametrize(
    ("name", "kib_per_token"),
    [
        ("llama-3.1-8b", 128),
        ("llama-3.3-70b", 320),
        ("qwen2.5-0.5b", 12),
        ("qwen2.5-72b", 320),
        ("qwen3-8b", 144),
        ("qwen3-30b-a3b", 96),
        ("smollm2-135m", 22.5),
    ],
)
def test_known_sizes_of_the_kv_cache(name: str, kib_per_token: float):
    model = described(name, "Q4_K_M")
    assert kv_bytes(model, 8192) == 8192 * kib_per_token * KIB


def test_sliding_layers_stop_growing():
    # gemma-3-27b: 10 of 62 layers see everything, 16 KV heads of 128, window 1024 + 512 of the micro-batch.
    model = described("gemma-3-27b", "Q4_0")
    cell = 2 * 2 * 16 * 128
    assert kv_bytes(model, 32768) == cell * (10 * 32768 + 52 * 1536)


def test_a_hybrid_keeps_a_state_that_no_context_changes():
    # qwen3.5-27b: 48 layers with 48 x 128 x 128 state and a window of 3 over 10240 channels, 16 with 4 KV heads of 256.
    model = described("qwen3.5-27b", "Q4_K_M")
    state = 48 * 4 * (48 * 128 * 128 + 3 * (6144 + 2 * 16 * 128))
    assert model.attention.recurrent_state_bytes == state
    assert kv_bytes(model, 4096) == state + 16 * 4096 * 2 * 2 * 4 * 256


def test_latent_attention_keeps_one_row_a_token():
    # DeepSeek-V3: 61 layers, a latent of 512 and 64 rotated elements, no values.
    attention = attention_of(DEEPSEEK_V3)
    model = replace(described("qwen3-30b-a3b", "Q4_0"), attention=attention, layers=61)
    assert kv_bytes(model, 4096) == 4096 * 61 * (512 + 64) * 2


def test_a_mixture_reads_few_of_its_bytes():
    # qwen3-30b-a3b: 3.35 of 30.5 billion weights a token, one of them the embedding row.
    model = described("qwen3-30b-a3b", "Q8_0")
    assert model.experts == (128, 8)
    assert 0.09 < model.active_weights_bytes / model.weights_bytes < 0.11


def test_parts_add_up_for_every_pair():
    for entry in CATALOGUE.entries.values():
        for quant in quants_of(entry):
            model = describe(entry, quant, group_of(entry))
            parts = model.token_embedding_bytes + model.output_bytes + model.repeating_bytes
            assert parts == model.weights_bytes, model.label
            assert sum(model.weights_bytes_by_type.values()) == pytest.approx(parts, abs=20), model.label
            assert 0 < model.active_weights_bytes <= model.weights_bytes + model.tied_output_bytes, model.label
            assert len(model.attention.kv_heads) == model.layers, model.label
            assert bool(model.tied_output_bytes) <= entry.shape.tied_embeddings, model.label


def test_names_say_where_a_model_comes_from():
    model = described("llama-3.2-1b", "q4_k_m")
    assert model.label == f"{CATALOGUE.entries['llama-3.2-1b'].name} Q4_K_M"
    assert (model.path, model.paths) == ("", ())
    assert model.content_hash == "catalogue:llama-3.2-1b:Q4_K_M"
    assert model.vocabulary.size == 128256


def test_a_file_that_names_no_sliding_layers_has_none():
    assert attention_of(replace(TINY, sliding_window=4096)).sliding_window == 0


@pytest.mark.alone
def test_sixty_models_take_no_noticeable_time():
    pairs = [(entry, quant) for entry in CATALOGUE.entries.values() for quant in quants_of(entry)][::10][:60]
    times = []
    for _ in range(3):
        module._weights.cache_clear()
        start = perf_counter()
        for entry, quant in pairs:
            describe(entry, quant, group_of(entry))
        times.append(perf_counter() - start)
    assert len(pairs) == 60
    assert min(times) < 1.0  # about 0.02 s; the bound is for busy machines
