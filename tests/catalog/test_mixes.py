"""The types we expect are the types llama.cpp's quantizer chooses, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.catalog import load
from advisor.catalog.assign import typed_groups
from advisor.catalog.mixes import LARGER, MIXES, PUBLISHERS, Publisher, known, publisher_of
from advisor.catalog.records import Shape
from advisor.catalog.shapes import groups
from advisor.gguf.ggml_types import TENSOR_TYPE_BY_NAME
from advisor.gguf.header import read_header
from advisor.testing.zoo import Recipe, build
from tests.catalog import artificial

CATALOGUE = load.load()
NO_IMATRIX = Publisher(imatrix=False)

DENSE = Shape(
    architecture="llama",
    layers=20,
    embedding_length=256,
    feed_forward_length=512,
    heads=4,
    kv_heads=1,
    head_length=64,
    vocabulary_size=96,
    context_length=256,
    tied_embeddings=False,
)
EXPERTS = replace(
    DENSE,
    architecture="qwen3moe",
    feed_forward_length=0,
    experts=16,
    experts_used=2,
    expert_feed_forward_length=256,
)
SHARED_EXPERTS = replace(
    EXPERTS,
    architecture="qwen35moe",
    shared_expert_feed_forward_length=256,
    full_attention_interval=4,
    ssm_conv_kernel=4,
    ssm_inner_size=256,
    ssm_state_size=64,
    ssm_group_count=2,
    ssm_time_step_rank=4,
)
ARTIFICIAL = {
    "grouped heads": DENSE,
    "70B": replace(DENSE, layers=80, feed_forward_length=256, vocabulary_size=32),
    "tied, no groups": replace(DENSE, architecture="qwen2", kv_heads=4, tied_embeddings=True),
    "sliding, norms": replace(DENSE, architecture="gemma3", tied_embeddings=True, sliding_window=64, sliding_period=6),
    "rows of 320": replace(DENSE, embedding_length=320, heads=5, tied_embeddings=True),
    "experts": EXPERTS,
    "8 experts": replace(EXPERTS, experts=8),
    "shared experts": SHARED_EXPERTS,
}
ALL_QUANTS = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1", "Q5_K_S"]
ALL_QUANTS += ["Q5_K_M", "Q6_K", "Q8_0", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL", "TQ1_0", "TQ2_0", "F16", "BF16"]
# Fused matrices follow an older rule than the quantizer's in other mixes: see mixes.py.
LOW_QUANTS = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"]
IMPORTANCE_QUANTS = [*LOW_QUANTS, "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL", "Q2_K_S", "Q4_0", "Q5_0"]
FEW_QUANTS = ["Q2_K", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "IQ3_M", "IQ4_XS"]
SMOLLM2_QUANTS = ["Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_NL"]


def expected(shape: Shape, quant: str, publisher: Publisher = NO_IMATRIX, *, untied: bool = False) -> dict[str, str]:
    """Tensor name -> type, by our rules."""
    types = {}
    for one in typed_groups(shape, groups(shape, untied=untied), quant, publisher):
        for layer in one.layers or (-1,):
            types[one.group.suffix if layer < 0 else f"blk.{layer}.{one.group.suffix}"] = one.kind
    return types


def chosen(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.kind.name for tensor in read_header(path).tensors}


@pytest.fixture(scope="session")
def unquantized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artificial")
    return {name: artificial.write(shape, folder / f"{name}.gguf") for name, shape in ARTIFICIAL.items()}


@pytest.mark.parametrize("quant", SMOLLM2_QUANTS)
def test_every_tensor_of_smollm2_has_the_type_llama_cpp_gives_it(quant: str):
    assert expected(CATALOGUE.entries["smollm2-135m"].shape, quant) == chosen(build(Recipe(30, quant)))


@pytest.mark.parametrize("quant", ALL_QUANTS)
def test_every_mix_that_needs_no_importance_matrix(quant: str, unquantized: dict[str, Path], tmp_path: Path):
    made = artificial.quantize(unquantized["grouped heads"], tmp_path / "made.gguf", quant)
    assert expected(DENSE, quant) == chosen(made)


@pytest.mark.parametrize("quant", FEW_QUANTS)
@pytest.mark.parametrize("name", [name for name in ARTIFICIAL if name not in ("grouped heads", "shared experts")])
def test_special_cases(name: str, quant: str, unquantized: dict[str, Path], tmp_path: Path):
    made = artificial.quantize(unquantized[name], tmp_path / "made.gguf", quant)
    assert expected(ARTIFICIAL[name], quant) == chosen(made)


@pytest.mark.parametrize("quant", IMPORTANCE_QUANTS)
def test_every_mix_with_an_importance_matrix(quant: str, unquantized: dict[str, Path], tmp_path: Path):
    made = artificial.quantize(unquantized["grouped heads"], tmp_path / "made.gguf", quant, importance_of=DENSE)
    assert expected(DENSE, quant, Publisher()) == chosen(made)


@pytest.mark.parametrize("quant", ["IQ1_S", "IQ2_M"])
@pytest.mark.parametrize("name", ["experts", "8 experts", "tied, no groups", "rows of 320", "shared experts"])
def test_special_cases_with_an_importance_matrix(name: str, quant: str, unquantized: dict[str, Path], tmp_path: Path):
    shape = ARTIFICIAL[name]
    made = artificial.quantize(unquantized[name], tmp_path / "made.gguf", quant, importance_of=shape)
    assert expected(shape, quant, Publisher()) == chosen(made)


def test_experts_in_mxfp4(unquantized: dict[str, Path], tmp_path: Path):
    made = artificial.quantize(unquantized["experts"], tmp_path / "made.gguf", "MXFP4_MOE")
    assert expected(EXPERTS, "MXFP4_MOE") == chosen(made)


def test_an_importance_matrix_lifts_the_first_down_projections_of_q4_0():
    plain, imatrix = expected(DENSE, "Q4_0"), expected(DENSE, "Q4_0", Publisher())
    changed = {name for name in plain if plain[name] != imatrix[name]}
    assert changed == {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}
    assert {imatrix[name] for name in changed} == {"Q4_1"}


@pytest.mark.parametrize("quant", sorted(LARGER))
def test_larger_variants_change_embedding_and_output_only(quant: str):
    base, larger = expected(DENSE, LARGER[quant]), expected(DENSE, quant)
    changed = {name: larger[name] for name in base if base[name] != larger[name]}
    assert changed == {"token_embd.weight": "Q8_0", "output.weight": "Q8_0"}


def test_repacked_files_are_q4_0_made_without_an_importance_matrix():
    assert expected(DENSE, "Q4_0_4_8", Publisher()) == expected(DENSE, "Q4_0", NO_IMATRIX)


def test_an_output_matrix_of_its_own_leaves_the_embedding_to_the_mix():
    tied = replace(DENSE, tied_embeddings=True)
    assert expected(tied, "Q4_K_M")["token_embd.weight"] == "Q6_K"
    assert expected(tied, "Q4_K_M", untied=True)["token_embd.weight"] == "Q4_K"
    assert expected(tied, "Q4_K_M", untied=True)["output.weight"] == "Q6_K"


def test_gpt_oss_keeps_its_experts_in_mxfp4_whatever_the_quant():
    shape = CATALOGUE.entries["gpt-oss-20b"].shape
    for quant in ("F16", "Q8_0", "Q4_K_M", "Q2_K"):
        types = expected(shape, quant)
        assert types["blk.0.ffn_up_exps.weight"] == "MXFP4", quant
        assert types["blk.0.ffn_up_exps.bias"] == "F32", quant


@pytest.mark.parametrize("quant", sorted(MIXES))
@pytest.mark.parametrize("entry", ["smollm2-135m", "gemma-3-270m", "qwen2.5-0.5b", "qwen3.5-0.8b", "gpt-oss-20b"])
def test_every_row_divides_into_the_blocks_of_its_type(entry: str, quant: str):
    shape = CATALOGUE.entries[entry].shape
    for one in typed_groups(shape, groups(shape), quant):
        assert one.group.elements_per_row % TENSOR_TYPE_BY_NAME[one.kind].block_elements == 0, one
        assert one.row_bytes * (one.group.elements // one.group.elements_per_row) == one.tensor_bytes


def test_no_tensor_is_lost_or_counted_twice():
    for entry in CATALOGUE.entries.values():
        for quant in ("Q3_K_M", "Q4_K_M", "IQ2_M"):
            counted: Counter[str] = Counter()
            for one in typed_groups(entry.shape, groups(entry.shape), quant):
                counted[one.group.suffix] += one.count
            wanted: Counter[str] = Counter()
            for group in groups(entry.shape):
                wanted[group.suffix] += group.count
            assert counted == wanted, (entry.id, quant)


def test_what_is_known():
    assert known("q4_k_m")
    assert known("Q4_0_8_8")
    assert not known("Q9_K")


def test_publishers_are_told_by_the_owner_of_a_repository():
    assert publisher_of("unsloth/Qwen3-8B-GGUF") is PUBLISHERS["unsloth"]
    assert publisher_of("nobody/Qwen3-8B-GGUF").imatrix
    assert publisher_of("ggml-org/gemma-3-4b-it-qat-GGUF").output == "Q8_0"
