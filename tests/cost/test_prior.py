"""The price of a decode before anything is measured, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.cost.prior import (
    EXPERTS,
    EXPERTS_FIRST,
    VECTOR_ROWS,
    Load,
    Machine,
    coefficient_names,
    kernel_of,
    load_of,
    passes,
)
from advisor.testing.builders import make_model

GB = 10**9
METAL = Machine("metal", 400 * GB, "example")
DENSE = Load(read_bytes=8.0 * GB, active_parameters=7.5 * GB, layers=32, kernel="Q8_0")
MIXTURE = Load(2.0 * GB, 3.3 * GB, 48, "Q4_K", experts=(128, 8), routed_bytes=1.2 * GB)


def seconds(load: Load, machine: Machine = METAL, b_max: int = 64, **coefficients: float) -> np.ndarray:
    """t(1) .. t(b_max); coefficients are 0 unless named (with "__" for "/")."""
    index = {name: i for i, name in enumerate(sorted(coefficient_names(machine, load)))}
    values = np.zeros(len(index))
    for name, value in coefficients.items():
        values[index[name.replace("__", "/")]] = value
    return passes([(machine, load)], index).seconds(values, b_max)[0]


def test_one_token_costs_overhead_layers_and_reading():
    t = seconds(
        DENSE,
        overhead__metal=np.log(2e-4),
        layer__metal=np.log(3e-5),
        efficiency__metal=np.log(0.8),
        efficiency__kernel__Q8_0=np.log(0.95),
    )
    assert t[0] == pytest.approx(2e-4 + 32 * 3e-5 + 8 / (400 * 0.8 * 0.95))


def test_every_further_row_costs_the_same_up_to_the_vector_kernels_limit():
    t = seconds(DENSE, row__metal=np.log(0.3), row__host__example=np.log(1.1))
    one_row = 0.3 * 1.1 * 7.5 / 400
    assert np.diff(t[:9]) == pytest.approx([one_row] * 8)
    assert t[9:] == pytest.approx(t[0] + 8 * one_row), "matrix kernels take many rows for one price"


@pytest.mark.parametrize("backend", sorted(VECTOR_ROWS))
def test_every_backend_has_a_plateau(backend):
    t = seconds(DENSE, Machine(backend, 100 * GB))
    limit = VECTOR_ROWS[backend]
    assert t[limit] > t[limit - 1]
    assert t[limit + 1 :] == pytest.approx(t[limit])


def test_half_the_bandwidth_reads_in_twice_the_time():
    fixed = {"overhead__metal": -60.0, "layer__metal": -60.0}
    slow = seconds(DENSE, Machine("metal", 200 * GB, "example"), **fixed)
    assert slow == pytest.approx(2 * seconds(DENSE, **fixed))


def test_a_row_of_one_model_only_touches_that_model():
    here, other = (
        Load(DENSE.read_bytes, DENSE.active_parameters, DENSE.layers, DENSE.kernel, run=run) for run in ("a", "b")
    )
    index = {name: i for i, name in enumerate(sorted(coefficient_names(METAL, here) | coefficient_names(METAL, other)))}
    values = np.zeros(len(index))
    values[index["row/run/a"]] = np.log(2)
    t = passes([(METAL, here), (METAL, other)], index).seconds(values, 3)
    assert t[0, 0] == pytest.approx(t[1, 0])
    assert t[0, 2] - t[0, 0] == pytest.approx(2 * (t[1, 2] - t[1, 0]))


# -- mixtures of experts ---------------------------------------------------------------------------------------------

FREE = {"overhead__metal": -60.0, "layer__metal": -60.0, "row__metal": -60.0, "cost__experts_first": -60.0}


def test_a_single_token_reads_its_own_experts_only():
    assert seconds(MIXTURE, **FREE)[0] == pytest.approx(2.0 / 400)


def test_neighbours_that_share_nothing_read_what_arxiv_2505_19645_says():
    t = seconds(MIXTURE, **FREE, cost__experts_shared=50.0)  # the power is 1
    for b in (2, 4, 16):
        active = 128 * (1 - (1 - 8 / 128) ** b)
        assert t[b - 1] == pytest.approx((0.8 + 1.2 * active / 8) / 400)


def test_neighbours_that_share_all_experts_read_nothing_more():
    assert seconds(MIXTURE, **FREE, cost__experts_shared=-50.0) == pytest.approx(2.0 / 400)


def test_leaving_the_kernel_for_one_token_costs_once():
    """What several tokens at once add to reading the routed experts, however many they are."""
    plain = seconds(MIXTURE, **FREE, cost__experts_shared=-50.0)
    more = seconds(MIXTURE, **{**FREE, "cost__experts_first": np.log(0.4)}, cost__experts_shared=-50.0)
    assert more[0] == pytest.approx(plain[0])
    assert (more - plain)[1:] == pytest.approx(0.4 * 1.2 / 400)


@given(shared=st.floats(-5, 5))
def test_many_tokens_never_read_more_than_all_experts(shared):
    t = seconds(MIXTURE, b_max=400, **FREE, cost__experts_shared=shared)
    assert (np.diff(t) >= -1e-15).all()
    assert t[-1] <= (0.8 + 1.2 * 128 / 8) / 400 * (1 + 1e-9)


def test_a_dense_model_has_no_experts_to_read():
    assert seconds(DENSE, **FREE, cost__experts_shared=3.0) == pytest.approx(8 / 400)


def test_models_priced_together_cost_what_they_cost_alone():
    index = {
        name: i for i, name in enumerate(sorted(coefficient_names(METAL, DENSE) | coefficient_names(METAL, MIXTURE)))
    }
    together = passes([(METAL, DENSE), (METAL, MIXTURE)], index).seconds(np.full(len(index), -0.5), 12)
    for row, load in zip(together, (DENSE, MIXTURE), strict=True):
        names = {name.replace("/", "__"): -0.5 for name in coefficient_names(METAL, load)}
        assert row == pytest.approx(seconds(load, b_max=12, **names))


def test_the_names_of_coefficients_say_what_they_are_particular_to():
    names = coefficient_names(METAL, DENSE)
    assert {"efficiency/metal", "efficiency/kernel/Q8_0", "row/metal/Q8_0", "row/host/example"} <= names
    assert {EXPERTS, EXPERTS_FIRST} <= names
    assert not any("cuda" in name for name in names)
    assert not any(name.startswith("row/run/") for name in names), "only the target of a pair has a run"
    to_come = Load(DENSE.read_bytes, DENSE.active_parameters, DENSE.layers, DENSE.kernel, run="")
    assert coefficient_names(METAL, to_come) - names == {"row/run/"}


# -- what a model moves ----------------------------------------------------------------------------------------------


def test_a_dense_model_with_its_own_output_matrix_does_not_read_its_input_table():
    model = make_model(
        weights_bytes=10 * GB, active_weights_bytes=9 * GB, token_embedding_bytes=1 * GB, parameters=10 * GB, layers=48
    )
    load = load_of(model)
    assert load.read_bytes == 9 * GB
    assert load.active_parameters == pytest.approx(10 * GB)
    assert (load.routed_bytes, load.experts, load.layers, load.kernel) == (0, (0, 0), 48, "Q8_0")


def test_a_tied_table_is_read_as_the_output_matrix():
    model = make_model(
        weights_bytes=10 * GB,
        active_weights_bytes=10 * GB,
        token_embedding_bytes=GB,
        tied_output_bytes=GB,
        parameters=9 * GB,
    )
    load = load_of(model)
    assert (load.read_bytes, load.active_parameters, load.routed_bytes) == (10 * GB, 9 * GB, 0)


@pytest.mark.parametrize("tied", [False, True])
def test_a_mixture_reads_its_share_of_the_experts(tied):
    """16 GB of experts of which one in 16 is used, 2 GB of other weights, a table of 1 GB."""
    table = {"token_embedding_bytes": GB, "tied_output_bytes": GB if tied else 0}
    read = 2 * GB + GB + (GB if tied else 0)
    model = make_model(
        weights_bytes=19 * GB,
        active_weights_bytes=read,
        parameters=30 * GB,
        experts=(128, 8),
        quant="Q4_K_M",
        layers=49,
        nextn_layers=1,
        embedding_length=2048,
        expert_feed_forward_length=768,
        **table,
    )
    load = load_of(model)
    assert load.routed_bytes == pytest.approx(GB)
    assert load.read_bytes == read
    unread = 0 if tied else model.vocabulary.size * 2048
    assert load.active_parameters == pytest.approx(30 * GB - unread - 48 * 120 * 3 * 2048 * 768)
    assert load.experts == (128, 8)


def test_all_experts_used_is_a_dense_model():
    load = load_of(make_model(experts=(4, 4), token_embedding_bytes=0))
    assert load.routed_bytes == 0


@pytest.mark.parametrize(
    ("quant", "kernel"),
    [
        ("Q8_0", "Q8_0"),
        ("q4_k_m", "Q4_K"),
        ("Q4_K_S", "Q4_K"),
        ("UD-Q4_K_XL", "Q4_K"),
        ("Q5_K_S", "Q5_K"),
        ("Q5_K_M", "Q5_K"),
        ("Q6_K", "Q6_K"),
        ("Q6_K_L", "Q6_K"),
        ("UD-Q6_K_XL", "Q6_K"),
        ("UD-Q8_K_XL", "Q8_0"),
        ("Q2_K_L", "Q2_K"),
        ("Q3_K_XL", "Q3_K"),
        ("Q4_0", "Q4_0"),
        ("Q4_1", "Q4_1"),
        ("Q5_0", "Q5_0"),
        ("Q4_0_4_4", "Q4_0"),
        ("Q4_0_8_8", "Q4_0"),
        ("IQ4_XS", "IQ4"),
        ("IQ4_NL", "IQ4"),
        ("UD-IQ2_XXS", "IQ2"),
        ("TQ1_0", "TQ1"),
        ("F16", "F16"),
        ("FP16", "F16"),
        ("BF16", "F16"),
        ("F32", "F32"),
        ("FP32", "F32"),
        ("MXFP4_MOE", "MXFP4"),
        ("MXFP4", "MXFP4"),
        ("NVFP4", "NVFP4"),
    ],
)
def test_the_kernel_of_a_quantization(quant, kernel):
    assert kernel_of(quant) == kernel


@given(st.text(max_size=12))
def test_any_name_has_some_kernel(text):
    assert isinstance(kernel_of(text), str)
