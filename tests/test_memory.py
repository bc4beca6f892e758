"""Memory estimates: against llama.cpp's own log for a real model, and against sums done by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.errors import OptionError
from advisor.gguf import read_model, read_token_texts
from advisor.memory import ALL_LAYERS, kv_bytes, memory_use, offloadable_layers, split_use
from advisor.testing.gguf_files import F16, Tensor, Value, llama_tensors, llama_values, write
from advisor.types import Model
from chaos.logged_buffers import logs_of, mebibytes_in

pytestmark = pytest.mark.alone

MIB = 1 << 20

SETTINGS = [(512, 512, 1), (4096, 512, 5), (4096, 512, 512), (8192, 128, 17), (1000, 64, 1), (2048, 512, 512)]


@pytest.fixture(scope="session")
def logged(smollm2: Path) -> list[str]:
    return logs_of(smollm2, SETTINGS)


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
def test_estimates_agree_with_what_llama_cpp_logs(smollm2: Path, logged: list[str], setting: int) -> None:
    context, ubatch, outputs = SETTINGS[setting]
    log = logged[setting]
    use = memory_use(read_model(smollm2), context, n_ubatch=ubatch, outputs=outputs, role="target", on_gpu=False)
    weights, cache, compute = (mebibytes_in(log, name) for name in ("model", "KV", "compute"))
    assert (use.weights_bytes + use.kv_bytes) / MIB == pytest.approx(weights + cache, rel=0.02)
    assert use.kv_bytes / MIB == pytest.approx(cache, abs=0.01)
    # llama.cpp logs its output buffer before the first decode, with a single row.
    logged_total = weights + cache + compute + mebibytes_in(log, "output") * outputs
    assert use.total_bytes / MIB == pytest.approx(logged_total, rel=0.10)
    assert use.compute_bytes / MIB == pytest.approx(compute, rel=0.07)


Made = tuple[dict[str, Value], list[Tensor]]


def sliding_cohere(vocabulary: list[bytes]) -> Made:
    shapes = {"layers": 8, "embedding": 256, "feed_forward": 1024, "heads": 4, "kv_heads": 2}
    values = llama_values(architecture="cohere2", vocabulary=vocabulary, **shapes, attention__sliding_window=512)
    values |= {"cohere2.logit_scale": 1.0, "cohere2.attention.layer_norm_epsilon": 1e-5}
    tensors = llama_tensors(vocabulary=len(vocabulary), **shapes)
    return values, [tensor for tensor in tensors if "ffn_norm" not in tensor.name]


def recurrent_mamba(vocabulary: list[bytes]) -> Made:
    width, inner, state, groups, heads = 256, 512, 64, 2, 8
    convolution = inner + 2 * groups * state
    sizes = {"conv_kernel": 4, "inner_size": inner, "state_size": state, "group_count": groups, "time_step_rank": heads}
    values = llama_values(architecture="mamba2", vocabulary=vocabulary, layers=3, embedding=width)
    values = {key: value for key, value in values.items() if "head_count" not in key}
    values |= {f"mamba2.ssm.{key}": value for key, value in sizes.items()}
    tensors = [Tensor("token_embd.weight", (width, len(vocabulary)), F16), Tensor("output_norm.weight", (width,))]
    for layer in range(3):
        tensors += [
            Tensor(f"blk.{layer}.attn_norm.weight", (width,)),
            Tensor(f"blk.{layer}.ssm_in.weight", (width, inner + convolution + heads), F16),
            Tensor(f"blk.{layer}.ssm_conv1d.weight", (4, convolution)),
            Tensor(f"blk.{layer}.ssm_conv1d.bias", (convolution,)),
            Tensor(f"blk.{layer}.ssm_dt.bias", (heads,)),
            Tensor(f"blk.{layer}.ssm_a", (1, heads)),
            Tensor(f"blk.{layer}.ssm_d", (1, heads)),
            Tensor(f"blk.{layer}.ssm_norm.weight", (inner // groups, groups)),
            Tensor(f"blk.{layer}.ssm_out.weight", (inner, width), F16),
        ]
    return values, tensors


def latent_deepseek(vocabulary: list[bytes]) -> Made:
    width, hidden, heads, latent, rope, plain, value = 256, 1024, 4, 128, 32, 64, 64
    values = llama_values(
        architecture="deepseek2",
        vocabulary=vocabulary,
        layers=3,
        embedding=width,
        feed_forward=hidden,
        heads=heads,
        kv_heads=1,
        attention__q_lora_rank=64,
        attention__kv_lora_rank=latent,
        attention__key_length=latent + rope,
        attention__value_length=latent,
        attention__key_length_mla=plain + rope,
        attention__value_length_mla=value,
        rope__dimension_count=rope,
        leading_dense_block_count=3,
        expert_feed_forward_length=64,
        expert_count=4,
        expert_used_count=2,
        expert_shared_count=1,
        expert_weights_scale=1.0,
    )
    tensors = [Tensor("token_embd.weight", (width, len(vocabulary)), F16), Tensor("output_norm.weight", (width,))]
    for layer in range(3):
        tensors += [
            Tensor(f"blk.{layer}.attn_norm.weight", (width,)),
            Tensor(f"blk.{layer}.attn_q_a_norm.weight", (64,)),
            Tensor(f"blk.{layer}.attn_kv_a_norm.weight", (latent,)),
            Tensor(f"blk.{layer}.attn_q_a.weight", (width, 64), F16),
            Tensor(f"blk.{layer}.attn_q_b.weight", (64, heads * (plain + rope)), F16),
            Tensor(f"blk.{layer}.attn_kv_a_mqa.weight", (width, latent + rope), F16),
            Tensor(f"blk.{layer}.attn_k_b.weight", (plain, latent, heads), F16),
            Tensor(f"blk.{layer}.attn_v_b.weight", (latent, value, heads), F16),
            Tensor(f"blk.{layer}.attn_output.weight", (heads * value, width), F16),
            Tensor(f"blk.{layer}.ffn_norm.weight", (width,)),
            Tensor(f"blk.{layer}.ffn_gate.weight", (width, hidden), F16),
            Tensor(f"blk.{layer}.ffn_down.weight", (hidden, width), F16),
            Tensor(f"blk.{layer}.ffn_up.weight", (width, hidden), F16),
        ]
    return values, tensors


@pytest.mark.parametrize("make", [sliding_cohere, recurrent_mamba, latent_deepseek])
def test_other_kinds_of_caches_agree_with_what_llama_cpp_logs(
    tmp_path: Path, smollm2: Path, make: Callable[[list[bytes]], Made]
) -> None:
    values, tensors = make(read_token_texts(smollm2)[:1024])
    path = write(tmp_path / "m.gguf", values, tensors)
    model, settings = read_model(path), [(512, 512, 1), (4096, 512, 1), (8192, 128, 1)]
    for (context, ubatch, outputs), log in zip(settings, logs_of(path, settings), strict=True):
        use = memory_use(model, context, n_ubatch=ubatch, outputs=outputs, role="target", on_gpu=False)
        assert use.weights_bytes / MIB == pytest.approx(mebibytes_in(log, "model"), rel=0.02)
        assert use.kv_bytes / MIB == pytest.approx(mebibytes_in(log, "KV") + mebibytes_in(log, "RS"), abs=0.02)
        assert use.compute_bytes / MIB == pytest.approx(mebibytes_in(log, "compute"), rel=0.10)


def model_of(path: Path, *, layers: int = 4, tied: bool = True, **more: Value) -> Model:
    values = llama_values(layers=layers, **more)
    return read_model(write(path / "m.gguf", values, llama_tensors(layers=layers, tied=tied)))


def sliding_model(path: Path) -> Model:
    values = llama_values(architecture="gemma3", layers=6, attention__sliding_window=512)
    return read_model(write(path / "g.gguf", values, llama_tensors(layers=6)))


def test_a_cache_row_holds_the_keys_and_values_of_all_kv_heads(tmp_path: Path) -> None:
    row = 2 * 2 * 16 * 2  # K and V, 2 KV heads of 16, two bytes each
    assert kv_bytes(model_of(tmp_path), 1024) == 4 * 1024 * row


def test_cells_come_in_blocks_of_256(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    assert kv_bytes(model, 1) == kv_bytes(model, 256) < kv_bytes(model, 257) == kv_bytes(model, 512)


def test_quantized_caches_are_smaller_by_their_block_size(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    full = kv_bytes(model, 1024)
    assert kv_bytes(model, 1024, type_k="q8_0", type_v="q8_0") == full * 34 // 64
    assert kv_bytes(model, 1024, type_k="q4_0") == full // 2 + full // 2 * 18 // 64
    with pytest.raises(OptionError, match="q9"):
        kv_bytes(model, 1024, type_k="q9")


def test_sliding_layers_hold_the_window_and_one_micro_batch(tmp_path: Path) -> None:
    model = sliding_model(tmp_path)
    row = 2 * 2 * 16 * 2
    assert kv_bytes(model, 8192, n_ubatch=512) == row * (8192 + 5 * 1024)
    assert kv_bytes(model, 8192, n_ubatch=100) == row * (8192 + 5 * 768)
    assert kv_bytes(model, 512, n_ubatch=512) == row * 6 * 512


def test_latent_attention_stores_no_values(tmp_path: Path) -> None:
    latent = model_of(
        tmp_path,
        attention__head_count_kv=1,
        attention__key_length=40,
        attention__value_length=32,
        attention__key_length_mla=24,
        attention__value_length_mla=16,
    )
    assert kv_bytes(latent, 256) == 4 * 256 * 40 * 2


def test_recurrent_state_does_not_grow_with_the_context(tmp_path: Path) -> None:
    values = llama_values(architecture="mamba2", ssm__conv_kernel=4, ssm__inner_size=128, ssm__state_size=16)
    model = read_model(write(tmp_path / "m.gguf", values, llama_tensors()))
    assert kv_bytes(model, 256) == kv_bytes(model, 65536) == model.attention.recurrent_state_bytes > 0


def test_the_output_buffer_is_a_row_of_logits_for_every_position_asked_for(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    for outputs in (1, 5, 17):
        use = memory_use(model, 512, outputs=outputs, role="target", on_gpu=False)
        assert use.output_bytes == 4 * 32 * outputs
    assert memory_use(model, 512, outputs=17, role="draft", on_gpu=False).output_bytes == 4 * 32


@pytest.mark.parametrize("tied", [True, False])
def test_on_a_gpu_the_embedding_stays_behind_unless_it_is_the_output(tmp_path: Path, tied: bool) -> None:
    model = model_of(tmp_path, tied=tied)
    embedding = 64 * 32 * 2
    on_gpu = memory_use(model, 512, outputs=1, role="target", on_gpu=True)
    in_ram = memory_use(model, 512, outputs=1, role="target", on_gpu=False)
    assert in_ram.weights_bytes == model.weights_bytes
    assert on_gpu.weights_bytes == model.weights_bytes - (0 if tied else embedding)
    assert on_gpu.kv_bytes == in_ram.kv_bytes
    assert on_gpu.output_bytes == 0
    host = split_use(model, 512, gpu_layers=ALL_LAYERS, outputs=1, role="target").host
    assert (host.weights_bytes, host.kv_bytes) == (embedding, 0)


def test_layers_move_to_the_gpu_one_by_one_from_the_end(tmp_path: Path) -> None:
    model = model_of(tmp_path, tied=False)
    layer, cache = model.repeating_bytes // 4, kv_bytes(model, 512) // 4
    splits = [split_use(model, 512, gpu_layers=count, outputs=1, role="target") for count in range(6)]
    assert offloadable_layers(model) == 5
    assert [split.device.kv_bytes // cache for split in splits] == [0, 0, 1, 2, 3, 4]
    assert [(split.device.weights_bytes - model.output_bytes) // layer for split in splits[1:]] == [0, 1, 2, 3, 4]
    for split in splits:
        assert split.together.weights_bytes == model.weights_bytes
        assert split.together.kv_bytes == kv_bytes(model, 512)
    assert splits[5] == split_use(model, 512, gpu_layers=ALL_LAYERS, outputs=1, role="target")


def test_prediction_layers_take_no_cache(tmp_path: Path) -> None:
    values = llama_values(architecture="glm4moe", layers=4, nextn_predict_layers=1)
    model = read_model(write(tmp_path / "m.gguf", values, llama_tensors(layers=4)))
    assert kv_bytes(model, 256) == 3 * 256 * 2 * 2 * 16 * 2


def test_more_context_micro_batch_or_outputs_never_need_less(tmp_path: Path) -> None:
    for model in (model_of(tmp_path), sliding_model(tmp_path)):

        def total(context: int = 4096, ubatch: int = 512, outputs: int = 4, model: Model = model) -> int:
            use = memory_use(model, context, n_ubatch=ubatch, outputs=outputs, role="target", on_gpu=False)
            return use.total_bytes

        assert sorted(map(total, (256, 1024, 4096, 32768))) == list(map(total, (256, 1024, 4096, 32768)))
        assert total(ubatch=32) < total(ubatch=512) < total(ubatch=2048)
        assert total(outputs=1) < total(outputs=64)
