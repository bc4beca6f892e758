"""A model file as read from its header: what a user sees of it, and what happens to a damaged one."""

from __future__ import annotations

import contextlib
import math
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.errors import FileProblem, GGUFError
from advisor.gguf import read_model, read_token_texts
from advisor.gguf.ggml_types import FILE_TYPES, TENSOR_TYPES
from advisor.testing.gguf_files import (
    F16,
    F32,
    Q4_0,
    Q4_K,
    Q6_K,
    Q8_0,
    Tensor,
    Value,
    header_bytes,
    llama_tensors,
    llama_values,
    tokens,
    typed_value,
    write,
)


def tiny(path: Path, **more: Value) -> Path:
    return write(path, llama_values(**more), llama_tensors())


# -- what is read ----------------------------------------------------------------------------------------------------


def test_the_real_model_is_described_as_it_is(smollm2: Path) -> None:
    model = read_model(smollm2)
    assert model.architecture == "llama"
    assert model.quant == "Q4_1"
    assert model.parameters == 134_515_008
    assert (model.layers, model.embedding_length, model.feed_forward_length, model.heads) == (30, 576, 1536, 9)
    assert model.attention.kv_heads == (3,) * 30
    assert (model.attention.key_length, model.attention.value_length) == (64, 64)
    assert (model.vocabulary.size, model.vocabulary.pre) == (49152, "smollm")
    assert model.has_chat_template
    assert model.tied_output_bytes == 49152 * 576 // 32 * 34
    header_and_padding = smollm2.stat().st_size - model.weights_bytes
    assert 0 < header_and_padding < 4 << 20
    assert read_token_texts(smollm2)[:3] == [b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>"]


def test_sizes_agree_with_the_gguf_package(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = write(tmp_path / "m.gguf", llama_values(), llama_tensors(kind=Q8_0, tied=False))
    stock = gguf.GGUFReader(path)
    model = read_model(path)
    assert model.weights_bytes == sum(int(tensor.n_bytes) for tensor in stock.tensors)
    assert model.parameters == sum(int(tensor.n_elements) for tensor in stock.tensors)


def test_a_file_of_the_stock_writer_is_read(tmp_path: Path) -> None:
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    path = tmp_path / "stock.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Stock")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length([64])
    writer.add_head_count(4)
    writer.add_head_count_kv([2])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "é"])
    writer.add_tensor("token_embd.weight", numpy.zeros((4, 32), dtype=numpy.float32))
    writer.add_tensor("blk.0.attn_q.weight", numpy.zeros((32, 32), dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = read_model(path)
    assert (model.name, model.feed_forward_length, model.weights_bytes) == ("Stock", 64, 4 * 4 * 32 + 2 * 32 * 32)
    assert (model.attention.kv_heads, model.attention.key_length) == ((2,), 8)
    assert read_token_texts(path)[3] == "é".encode()


def test_the_type_table_agrees_with_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    computed_only = {gguf.GGMLQuantizationType.Q8_1}  # never in a file; the package has its former size
    for kind in set(gguf.GGMLQuantizationType) - computed_only:
        ours = TENSOR_TYPES[int(kind)]
        assert (ours.name, ours.block_elements, ours.block_bytes) == (kind.name, *gguf.GGML_QUANT_SIZES[kind])
    for kind in set(gguf.LlamaFileType) - {gguf.LlamaFileType.GUESSED}:
        assert FILE_TYPES[int(kind)][0] == kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")


@pytest.mark.alone
def test_a_large_vocabulary_opens_fast_and_small(tmp_path: Path) -> None:
    values = llama_values(vocabulary=tokens(152_000))
    values["tokenizer.ggml.merges"] = [f"{number} {number}" for number in range(150_000)]
    path = write(tmp_path / "m.gguf", values, llama_tensors(vocabulary=152_000))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert read_model(path).vocabulary.size == 152_000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2
    tracemalloc.start()
    read_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def test_without_a_name_the_file_name_serves(tmp_path: Path) -> None:
    values = llama_values()
    del values["general.name"]
    assert read_model(write(tmp_path / "some-model.gguf", values, llama_tensors())).name == "some-model"


def test_text_that_is_not_utf8_is_shown_with_replacements(tmp_path: Path) -> None:
    values = {**llama_values(), "general.name": b"caf\xe9"}
    assert read_model(write(tmp_path / "m.gguf", values, llama_tensors())).name == "caf\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("file_type", "kind", "expected"),
    [
        (15, Q4_K, "Q4_K_M"),
        (14, Q4_K, "Q4_K_S"),
        (15, Q8_0, "Q8_0"),
        (1, F16, "F16"),
        (None, Q4_0, "Q4_0"),
        (99, Q6_K, "Q6_K"),
    ],
)
def test_quant_is_what_the_bytes_say(tmp_path: Path, file_type: int | None, kind: int, expected: str) -> None:
    shapes = {"embedding": 256, "feed_forward": 512}
    values = llama_values(**shapes)
    if file_type is not None:
        values["general.file_type"] = file_type
    assert read_model(write(tmp_path / "m.gguf", values, llama_tensors(**shapes, kind=kind))).quant == expected


def test_the_three_parts_of_the_weights_add_up(tmp_path: Path) -> None:
    for tied in (True, False):
        model = read_model(write(tmp_path / "m.gguf", llama_values(), llama_tensors(tied=tied)))
        assert model.token_embedding_bytes + model.output_bytes + model.repeating_bytes == model.weights_bytes
        assert model.token_embedding_bytes == 64 * 32 * 2
        assert bool(model.tied_output_bytes) is tied


def test_one_row_of_an_embedding_is_read_unless_it_is_also_the_output(tmp_path: Path) -> None:
    row = 64 * 2
    tied = read_model(write(tmp_path / "a.gguf", llama_values(), llama_tensors(tied=True)))
    own = read_model(write(tmp_path / "b.gguf", llama_values(), llama_tensors(tied=False)))
    assert tied.active_weights_bytes == tied.weights_bytes + row
    assert own.active_weights_bytes == own.weights_bytes - 64 * 32 * 2 + row


def test_a_token_reads_only_the_experts_it_is_routed_to(tmp_path: Path) -> None:
    values = llama_values(expert_count=8, expert_used_count=2, expert_feed_forward_length=128)
    model = read_model(write(tmp_path / "m.gguf", values, llama_tensors(experts=8)))
    experts = 2 * 3 * 64 * 128 * 8 * 2
    assert model.experts == (8, 2)
    assert model.expert_feed_forward_length == 128
    assert model.weights_bytes - (model.active_weights_bytes - 64 * 2) == experts * 6 // 8


def test_the_hash_follows_the_content_not_the_name(tmp_path: Path) -> None:
    path = tiny(tmp_path / "a.gguf")
    renamed = Path(shutil.copy(path, tmp_path / "b.gguf"))
    other_weights = write(tmp_path / "c.gguf", llama_values(), llama_tensors(), data=b"\1")
    other_header = tiny(tmp_path / "d.gguf", rope__freq_base=5.0)
    hashes = [read_model(one).content_hash for one in (path, renamed, other_weights, other_header)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


# -- attention -------------------------------------------------------------------------------------------------------


def attention_of(path: Path, architecture: str, layers: int, **more: Value):  # type: ignore[no-untyped-def]
    values = llama_values(architecture=architecture, layers=layers, **more)
    return read_model(write(path / "m.gguf", values, llama_tensors(layers=layers))).attention


@pytest.mark.parametrize(
    ("architecture", "window", "more", "expected_window", "dense_layers"),
    [
        ("gemma2", None, {}, 4096, {1, 3, 5, 7}),
        ("gemma3", 512, {}, 512, {5}),
        ("gemma3", None, {}, 0, set()),
        ("gpt-oss", 128, {}, 128, {1, 3, 5, 7}),
        ("cohere2", 4096, {}, 4096, {3, 7}),
        ("cohere2", 4096, {"attention__sliding_window_pattern": 2}, 4096, {1, 3, 5, 7}),
        ("cohere2", 4096, {"attention__sliding_window_pattern": [True] * 7 + [False]}, 4096, {7}),
        ("cohere2moe", 4096, {}, 4096, {0, 4}),
        ("llama4", None, {}, 8192, {3, 7}),
        ("llama4", 0, {}, 0, set()),
        ("smallthinker", 1, {}, 4096, {0, 4}),
        ("exaone4", 4096, {}, 0, set()),
        ("phi3", 2047, {}, 0, set()),
        ("llama", 4096, {}, 0, set()),
    ],
)
def test_sliding_layers_follow_the_rule_of_the_architecture(
    tmp_path: Path,
    architecture: str,
    window: int | None,
    more: dict[str, Value],
    expected_window: int,
    dense_layers: set[int],
) -> None:
    written: dict[str, Value] = {} if window is None else {"attention__sliding_window": window}
    attention = attention_of(tmp_path, architecture, 8, **written, **more)
    assert attention.sliding_window == expected_window
    if expected_window:
        assert {layer for layer in range(8) if not attention.is_sliding[layer]} == dense_layers
    else:
        assert attention.is_sliding == ()


def test_gemma4_has_smaller_heads_in_sliding_layers_and_shares_caches(tmp_path: Path) -> None:
    attention = attention_of(
        tmp_path,
        "gemma4",
        4,
        attention__sliding_window=512,
        attention__sliding_window_pattern=[True, True, False, True],
        attention__shared_kv_layers=1,
        attention__key_length=512,
        attention__key_length_swa=256,
    )
    assert attention.kv_heads == (2, 2, 2, 0)
    assert (attention.key_length, attention.sliding_key_length) == (512, 256)


def test_latent_attention_is_what_names_its_uncompressed_heads(tmp_path: Path) -> None:
    sizes: dict[str, Value] = {"attention__kv_lora_rank": 32, "attention__key_length": 40, "kv_heads": 1}
    old = attention_of(tmp_path, "deepseek2", 2, **sizes)
    new = attention_of(tmp_path, "deepseek2", 2, **sizes, attention__key_length_mla=24, attention__value_length_mla=16)
    assert (old.mla, new.mla) == (False, True)
    assert (new.kv_heads, new.key_length) == ((1, 1), 40)


def test_hybrid_models_keep_a_state_instead_of_a_cache(tmp_path: Path) -> None:
    ssm: dict[str, Value] = {
        "ssm__conv_kernel": 4,
        "ssm__inner_size": 128,
        "ssm__state_size": 16,
        "ssm__group_count": 2,
    }
    one_layer = 4 * (3 * (128 + 2 * 2 * 16) + 16 * 128)
    interval = attention_of(tmp_path, "qwen35", 8, full_attention_interval=4, **ssm)
    assert interval.kv_heads == (0, 0, 0, 2, 0, 0, 0, 2)
    assert interval.recurrent_state_bytes == 6 * one_layer
    by_heads = attention_of(tmp_path, "granitehybrid", 3, **{**ssm, "attention__head_count_kv": [0, 2, 0]})
    assert by_heads.kv_heads == (0, 2, 0)
    assert by_heads.recurrent_state_bytes == 2 * one_layer
    pure = attention_of(tmp_path, "mamba2", 3, **ssm)
    assert (sum(pure.kv_heads), pure.recurrent_state_bytes) == (0, 3 * one_layer)


def test_rwkv_state(tmp_path: Path) -> None:
    assert attention_of(tmp_path, "rwkv6", 2, wkv__head_size=64).recurrent_state_bytes == 2 * 4 * 64 * (2 + 64)


def test_prediction_layers_hold_no_cache_and_are_not_read(tmp_path: Path) -> None:
    values = llama_values(architecture="glm4moe", layers=3, nextn_predict_layers=1)
    model = read_model(write(tmp_path / "m.gguf", values, llama_tensors(layers=3)))
    assert model.attention.kv_heads == (2, 2, 0)
    assert model.nextn_layers == 1
    assert model.active_weights_bytes == model.weights_bytes - model.repeating_bytes // 3 + 64 * 2
    assert not model.draft_only


@pytest.mark.parametrize("architecture", ["eagle3", "dflash", "gemma4-assistant"])
def test_parts_for_other_kinds_of_speculation_are_recognised(tmp_path: Path, architecture: str) -> None:
    more: dict[str, Value] = {"attention__sliding_window": 512, "attention__sliding_window_pattern": [True, False]}
    values = llama_values(architecture=architecture, **more)
    for key in [key for key in values if key.startswith("tokenizer.")]:
        del values[key]
    assert read_model(write(tmp_path / "m.gguf", values, llama_tensors())).draft_only == architecture


def test_a_sidecar_of_prediction_layers_is_recognised(tmp_path: Path) -> None:
    values = llama_values(architecture="glm4moe", layers=3, nextn_predict_layers=1)
    tensors = [one for one in llama_tensors(layers=3) if not one.name.startswith(("blk.0.", "blk.1."))]
    assert read_model(write(tmp_path / "m.gguf", values, tensors)).draft_only == "mtp"


# -- the vocabulary header -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "pre", "expected"),
    [
        ("llama", "", (1, 2, True, False)),
        ("gpt2", "smollm", (11, 11, False, False)),
        ("gpt2", "llama-bpe", (11, 11, True, False)),
        ("gpt2", "tekken", (11, 11, True, False)),
        ("gpt2", "glm4", (None, 11, False, False)),
        ("gemma4", "", (None, None, True, False)),
        ("t5", "", (None, 1, False, True)),
        ("bert", "", (None, None, True, False)),  # 101 lies outside the 32 tokens of this file
        ("rwkv", "", (None, None, False, False)),
    ],
)
def test_what_a_file_does_not_say_is_filled_in_as_llama_cpp_does(
    tmp_path: Path, model: str, pre: str, expected: tuple[int | None, int | None, bool, bool]
) -> None:
    values = {**llama_values(), "tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre}
    found = read_model(write(tmp_path / "m.gguf", values, llama_tensors())).vocabulary
    assert (found.bos_id, found.eos_id, found.add_bos, found.add_eos) == expected


def test_what_a_file_says_wins_if_it_is_possible(tmp_path: Path) -> None:
    said = {
        **llama_values(),
        "tokenizer.ggml.bos_token_id": 3,
        "tokenizer.ggml.eos_token_id": 999,
        "tokenizer.ggml.add_bos_token": True,
    }
    found = read_model(write(tmp_path / "m.gguf", said, llama_tensors())).vocabulary
    assert (found.bos_id, found.eos_id, found.add_bos, found.add_eos) == (3, 11, True, False)


# -- split files -----------------------------------------------------------------------------------------------------


def split(directory: Path, count: int = 3) -> list[Path]:
    tensors = llama_tensors()
    each = math.ceil(len(tensors) / count)
    paths = []
    for number in range(count):
        shared: dict[str, Value] = {
            "split.no": number,
            "split.count": count,
            "split.tensors.count": len(tensors),
        }
        values = {**llama_values(), **shared} if number == 0 else shared
        path = directory / f"tiny-{number + 1:05d}-of-{count:05d}.gguf"
        paths.append(write(path, values, tensors[number * each : (number + 1) * each]))
    return paths


def test_a_split_file_is_one_model_whichever_part_is_given(tmp_path: Path) -> None:
    whole = read_model(tiny(tmp_path / "whole.gguf"))
    parts = split(tmp_path)
    models = [read_model(part) for part in parts]
    assert models[0] == models[1] == models[2]
    assert models[0].weights_bytes == whole.weights_bytes
    assert models[0].paths == tuple(map(str, parts))
    assert read_token_texts(parts[2]) == [text.encode() for text in tokens(32)]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].unlink()
    with pytest.raises(GGUFError, match=r"tiny-00002-of-00003\.gguf") as caught:
        read_model(parts[0])
    assert caught.value.field == "tiny-00002-of-00003.gguf"


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    parts = split(tmp_path)
    shutil.copy(parts[1], parts[2])
    with pytest.raises(GGUFError, match="not part 3"):
        read_model(parts[0])
    with pytest.raises(GGUFError, match="one of 3 parts"):
        read_model(parts[0].rename(tmp_path / "renamed.gguf"))


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"general.architecture": "clip"}, "general.architecture"),
        ({"general.type": "adapter"}, "general.type"),
        ({"llama.attention.causal": False}, "llama.attention.causal"),
        ({"general.architecture": ""}, "general.architecture"),
        ({"tokenizer.ggml.tokens": []}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.model": "none"}, "tokenizer.ggml.model"),
        ({"llama.block_count": 0}, "llama.block_count"),
        ({"llama.block_count": 100_000}, "llama.block_count"),
        ({"llama.block_count": "two"}, "llama.block_count"),
        ({"llama.embedding_length": float("nan")}, "llama.embedding_length"),
        ({"llama.attention.head_count_kv": [2]}, "llama.attention.head_count_kv"),
        ({"llama.attention.head_count": [4.0, float("nan")]}, "llama.attention.head_count"),
        ({"llama.expert_used_count": [float("inf"), 1.0]}, "llama.expert_used_count"),
        ({"llama.attention.head_count_kv": [2, -1]}, "llama.attention.head_count"),
        ({"llama.nextn_predict_layers": 5}, "llama.nextn_predict_layers"),
        ({"general.alignment": 24}, "general.alignment"),
        ({"general.alignment": 0}, "general.alignment"),
        ({"split.count": 4}, "split.count"),
    ],
)
def test_impossible_metadata_is_refused_with_its_key(tmp_path: Path, change: dict[str, Value], field: str) -> None:
    path = write(tmp_path / "m.gguf", {**llama_values(), **change}, llama_tensors())
    with pytest.raises(GGUFError) as caught:
        read_model(path)
    assert caught.value.field == field
    key = path.read_bytes().index(f"{field}".encode())
    assert 0 <= caught.value.offset - key <= 64, "where its value begins"


@pytest.mark.parametrize(
    "missing", ["general.architecture", "llama.block_count", "llama.context_length", "llama.embedding_length"]
)
def test_missing_metadata_is_refused_with_its_key(tmp_path: Path, missing: str) -> None:
    values = llama_values()
    del values[missing]
    with pytest.raises(GGUFError) as caught:
        read_model(write(tmp_path / "m.gguf", values, llama_tensors()))
    assert caught.value.field == missing
    first_tensor = (tmp_path / "m.gguf").read_bytes().index(b"token_embd.weight") - 8
    assert caught.value.offset == first_tensor, "where the metadata ends without it"


def test_a_vocabulary_without_weights_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="vocab-only"):
        read_model(write(tmp_path / "m.gguf", llama_values()))


def test_a_file_that_is_not_there_is_a_file_problem(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.gguf", tmp_path):
        with pytest.raises(FileProblem):
            read_model(path)


SOUND = header_bytes(llama_values(), llama_tensors())
DATA_BYTES = sum(-(-tensor.bytes // 32) * 32 for tensor in llama_tensors())
HUGE = struct.pack("<Q", 1 << 62)


def after(marker: bytes, offset: int, replacement: bytes) -> bytes:
    """SOUND with ``replacement`` written ``offset`` bytes after the first ``marker``."""
    at = SOUND.index(marker) + len(marker) + offset
    return SOUND[:at] + replacement + SOUND[at + len(replacement) :]


DAMAGED = {
    "empty": (b"", "magic"),
    "not a model": (b"<!DOCTYPE html><html>" * 100, "magic"),
    "zip": (b"PK\3\4" + SOUND[4:], "magic"),
    "three bytes": (b"GGU", "magic"),
    "magic only": (b"GGUF", "version"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + SOUND[8:], "version"),
    "version 0": (b"GGUF" + struct.pack("<I", 0) + SOUND[8:], "version"),
    "version 4": (b"GGUF" + struct.pack("<I", 4) + SOUND[8:], "version"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + SOUND[8:], "version"),
    "tensor count": (SOUND[:8] + HUGE + SOUND[16:], "tensor count"),
    "negative tensor count": (SOUND[:8] + b"\xff" * 8 + SOUND[16:], "tensor count"),
    "key count": (SOUND[:16] + HUGE + SOUND[24:], "key count"),
    "more tensors than there are": (SOUND[:8] + struct.pack("<Q", 500) + SOUND[16:], "tensor 20"),
    "first key endless": (SOUND[:24] + HUGE + SOUND[32:], "key 0"),
    "first key empty": (SOUND[:24] + bytes(8) + SOUND[32:], "key 0"),
    "key not UTF-8": (SOUND.replace(b"general.name", b"general.\xff\xfe\xfdx"), "key 1"),
    "key twice": (
        header_bytes({**llama_values(), "llama.block_counx": 2}, llama_tensors()).replace(b"counx", b"count"),
        "llama.block_count",
    ),
    "value type": (after(b"general.name", 0, struct.pack("<I", 13)), "general.name"),
    "value type of 4 billion": (after(b"general.name", 0, b"\xff" * 4), "general.name"),
    "string endless": (after(b"general.name", 4, HUGE), "general.name"),
    "string beyond the file": (after(b"general.name", 4, struct.pack("<Q", 1 << 23)), "general.name"),
    "array element type": (after(b"ggml.tokens", 4, struct.pack("<I", 77)), "tokenizer.ggml.tokens"),
    "array of arrays": (after(b"ggml.tokens", 4, struct.pack("<I", 9)), "tokenizer.ggml.tokens"),
    "array count": (after(b"ggml.tokens", 8, HUGE), "tokenizer.ggml.tokens"),
    "array count just too large": (after(b"ggml.tokens", 8, struct.pack("<Q", 4000)), None),
    "string in array endless": (after(b"ggml.tokens", 16, HUGE), "tokenizer.ggml.tokens[0]"),
    "last string in array endless": (after(b"<30>", 0, HUGE), "tokenizer.ggml.tokens[31]"),
    "tensor name endless": (
        SOUND.replace(struct.pack("<Q", 17) + b"token_embd.weight", HUGE + b"token_embd.weight"),
        "tensor 0",
    ),
    "tensor name too long": (
        SOUND.replace(struct.pack("<Q", 17) + b"token_embd.weight", struct.pack("<Q", 64) + b"token_embd.weight"),
        "tensor 0",
    ),
    "tensor name not UTF-8": (
        SOUND.replace(b"token_embd.weight", b"token_embd\xff\xff\xff\xff\xff\xff\xff"),
        "tensor 0",
    ),
    "tensor twice": (SOUND.replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight"), "blk.0.ffn_up.weight"),
    "tensor of 5 dimensions": (after(b"token_embd.weight", 0, struct.pack("<I", 5)), "token_embd.weight"),
    "tensor type": (after(b"token_embd.weight", 20, struct.pack("<I", 99)), "token_embd.weight"),
    "removed tensor type": (after(b"token_embd.weight", 20, struct.pack("<I", 4)), "token_embd.weight"),
    "tensor rows not whole blocks": (after(b"token_embd.weight", 20, struct.pack("<I", Q4_K)), "token_embd.weight"),
    "tensor of an exabyte": (after(b"token_embd.weight", 12, struct.pack("<Q", 1 << 60)), "token_embd.weight"),
    "tensor too large for the file": (after(b"token_embd.weight", 12, struct.pack("<Q", 1 << 12)), "token_embd.weight"),
    "first tensor displaced": (after(b"token_embd.weight", 24, struct.pack("<Q", 32)), "token_embd.weight"),
    "tensors overlap": (after(b"output_norm.weight", 16, struct.pack("<Q", 0)), "output_norm.weight"),
    "tensor far outside": (after(b"output_norm.weight", 16, HUGE), "output_norm.weight"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_quickly_with_offset_and_field(tmp_path: Path, name: str) -> None:
    content, field = DAMAGED[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(content + bytes(DATA_BYTES if len(content) > 100 else 0))
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(GGUFError) as caught:
        read_model(path)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    error = caught.value
    assert error.field if field is None else error.field == field
    assert 0 <= error.offset <= path.stat().st_size
    assert error.why
    assert error.fix
    assert seconds < 1
    assert peak < 20 << 20


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    whole = SOUND + bytes(DATA_BYTES)
    cuts = [*range(0, len(SOUND), 7), *range(len(SOUND), len(whole), 5000), len(whole) - 1]
    for length in cuts:
        path.write_bytes(whole[:length])
        with pytest.raises(GGUFError) as caught:
            read_model(path)
        assert caught.value.offset <= length


@pytest.mark.alone
def test_an_absurd_number_of_empty_strings_is_not_walked(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    count = 9_000_000
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 8, count)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + 8 * count)  # a hole: no disk is used
    begun = time.perf_counter()
    with pytest.raises(GGUFError, match="implausible"):
        read_model(path)
    assert time.perf_counter() - begun < 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_a_model_or_a_file_problem(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    content = bytearray(SOUND + bytes(DATA_BYTES))
    for position, value in flips:
        content[position] = value
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with contextlib.suppress(GGUFError):
        assert read_model(path).weights_bytes > 0


def test_values_of_every_scalar_type_are_passed_over(tmp_path: Path) -> None:
    kinds = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    extra = b"".join(
        struct.pack("<Q", 2) + f"k{chr(97 + kind)}".encode() + struct.pack("<I" + code, kind, 1)
        for kind, code in kinds.items()
    )
    values = llama_values()
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values) + len(kinds))
    body = b"".join(struct.pack("<Q", len(key)) + key.encode() + typed_value(value) for key, value in values.items())
    tensor = Tensor("token_embd.weight", (64, 32), F32)
    listed = struct.pack("<Q", 17) + b"token_embd.weight" + struct.pack("<IQQIQ", 2, 64, 32, F32, 0)
    raw = head + extra + body + listed
    path = tmp_path / "m.gguf"
    path.write_bytes(raw + bytes(-len(raw) % 32) + bytes(tensor.bytes))
    assert read_model(path).weights_bytes == 64 * 32 * 4
