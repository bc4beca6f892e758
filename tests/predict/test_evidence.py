"""Reading tables of speeds: what becomes evidence, what is left out, what is refused and how."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.catalog.load import Catalog, load
from advisor.cost.step_law import CURRENT, OLD
from advisor.errors import FileProblem
from advisor.predict.evidence import Evidence
from advisor.predict.reading import read_evidence

GIB = 2**30
TABLE: dict[str, Any] = {
    "timestamp": "2026-02-06T06:22:52+00:00",
    "name": "qwen25-7b",
    "hardware": "m4max-128gb",
    "backend": "llamacpp",
    "model_family": "Qwen2.5",
    "settings": {"max_tokens": 1024, "temperature": 0.0},
    "results": [
        {"target": "7B Q8_0", "draft": None, "mean_tps": 50.0, "acceptance_rate": None},
        {"target": "7B Q8_0", "draft": "0.5B Q8_0", "mean_tps": 90.0, "acceptance_rate": 0.71},
        {"target": "7B Q8_0", "draft": "1.5B Q4_K_M", "mean_tps": 40.0, "acceptance_rate": 0.8},
        {"target": "7B FP16", "draft": None, "mean_tps": 33.0, "acceptance_rate": None},
        {"target": "7B FP16", "draft": "0.5B FP16", "mean_tps": 99.0, "acceptance_rate": 0.7},
    ],
}
DECODE_HEAD = "device,bandwidth_gbs,model,quant,size_gib,pp512_tps,tg128_tps,source\n"
VERIFY_HEAD = "source,device,backend,model,quant,ctx,n_rows,step_ms,ratio_to_1,origin_unit\n"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def written(folder: Path, content: Any, name: str = "table.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def changed(result: int | None = None, **fields: Any) -> dict[str, Any]:
    """The table with other fields, at the top or in one result. A field that is Ellipsis is taken out."""
    table = json.loads(json.dumps(TABLE))
    place = table if result is None else table["results"][result]
    for name, value in fields.items():
        place.pop(name, None)
        if value is not ...:
            place[name] = value
    return table


def read(folder: Path, content: Any, catalog: Catalog, name: str = "table.json") -> Evidence:
    return read_evidence([written(folder, content, name)], catalog)


# -- draftbench ------------------------------------------------------------------------------------------------------


def test_a_table_becomes_pairs_beside_their_baselines(tmp_path, catalog):
    found = read(tmp_path, TABLE, catalog)
    assert [(p.target, p.draft, p.speedup, p.acceptance_rate) for p in found.pairs] == [
        ("Qwen2.5 7B Q8_0", "0.5B Q8_0", pytest.approx(1.8), 0.71),
        ("Qwen2.5 7B Q8_0", "1.5B Q4_K_M", pytest.approx(0.8), 0.8),
        ("Qwen2.5 7B FP16", "0.5B FP16", pytest.approx(3.0), 0.7),
    ]
    assert [row.token_s for row in found.decodes] == pytest.approx([1 / 50, 1 / 33])
    assert all(row.is_baseline for row in found.decodes)
    assert [p.case.baseline_s for p in found.pairs] == pytest.approx([1 / 50, 1 / 50, 1 / 33])
    assert not found.notes


def test_a_pair_knows_its_models_and_its_machine(tmp_path, catalog):
    case = read(tmp_path, TABLE, catalog).pairs[0].case
    assert (case.machine.backend, case.machine.bandwidth_bytes_per_s) == ("metal", 546e9)
    assert case.target.parameters == pytest.approx(7.6e9, rel=0.02)
    assert case.draft.parameters == pytest.approx(0.494e9, rel=0.02)
    assert case.target.bits_per_weight == pytest.approx(8.5, abs=0.1)
    assert case.target.load.read_bytes < 7.6e9 * 8.5 / 8, "a row of the input table is read, not the table"
    assert (case.target.family, case.draft.family) == ("Qwen2.5", "Qwen2.5")
    assert case.target.base == case.draft.base, "models of one family are of one base"


def test_targets_of_one_table_have_texts_of_their_own(tmp_path, catalog):
    """The answers of two quantizations differ, and so does how hard they are to guess."""
    pairs = read(tmp_path, TABLE, catalog).pairs
    assert pairs[0].case.text == pairs[1].case.text != pairs[2].case.text
    assert all(p.case.text for p in pairs)


def test_a_table_of_an_old_build_ran_with_the_old_defaults(tmp_path, catalog):
    """Before May 2026 llama.cpp drafted up to 16 tokens above a confidence of 0.75 and did not re-evaluate."""
    pair = read(tmp_path, TABLE, catalog).pairs[0]
    assert (pair.k, pair.p_min, pair.law) == (16, 0.75, OLD)


def test_a_table_of_a_newer_build_ran_with_its_defaults(tmp_path, catalog):
    pair = read(tmp_path, changed(timestamp="2026-09-01T00:00:00"), catalog).pairs[0]
    assert (pair.k, pair.p_min, pair.law) == (3, 0.0, CURRENT)


def test_settings_that_are_written_down_count(tmp_path, catalog):
    pair = read(tmp_path, changed(settings={"draft_max": 5, "draft_p_min": 0.4}), catalog).pairs[0]
    assert (pair.k, pair.p_min) == (5, 0.4)


def test_the_origin_names_every_file_and_what_it_gave(tmp_path, catalog):
    paths = [written(tmp_path, TABLE, "one.json"), written(tmp_path, changed(hardware="m3-ultra-256gb"), "two.json")]
    found = read_evidence(paths, catalog)
    assert len(found.provenance) == 2
    assert "one.json" in found.provenance[0]
    assert "3 pairs" in found.provenance[0]
    assert "2 baselines" in found.provenance[0]
    assert "2026-02-06" in found.provenance[0]
    assert "two.json" in found.provenance[1]
    assert len(found.pairs) == 6
    assert str(tmp_path) not in " ".join(found.provenance), "a folder of this machine is nobody's business"


def test_pairs_without_a_baseline_are_told_and_left_out(tmp_path, catalog):
    table = json.loads(json.dumps(TABLE))
    del table["results"][3]
    found = read(tmp_path, table, catalog)
    assert {p.target for p in found.pairs} == {"Qwen2.5 7B Q8_0"}
    assert any("table.json" in note and "4" in note and "baseline" in note for note in found.notes)


def test_a_model_nobody_knows_is_told_and_left_out(tmp_path, catalog):
    found = read(tmp_path, changed(1, draft="0.7B Q8_0"), catalog)
    assert [p.draft for p in found.pairs] == ["1.5B Q4_K_M", "0.5B FP16"]
    assert any("table.json" in note for note in found.notes)


def test_all_quants_of_a_size_are_taken_from_one_uploader(tmp_path, catalog):
    """Qwen's own small files store a separate output matrix and are larger; one bench uses one set of files."""
    drafts = ("Q8_0", "Q4_K_M", "Q3_K_M")
    table = changed(
        results=[
            TABLE["results"][0],
            *({"target": "7B Q8_0", "draft": f"0.5B {q}", "mean_tps": 80.0, "acceptance_rate": 0.7} for q in drafts),
        ]
    )
    by_quant = {p.draft: p.case.draft.load.read_bytes / 2**20 for p in read(tmp_path, table, catalog).pairs}
    assert by_quant["0.5B Q8_0"] == pytest.approx(506, rel=0.03)
    assert by_quant["0.5B Q4_K_M"] == pytest.approx(379, rel=0.03)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ("{", "table.json"),
        ("", "table.json"),
        ("[]", "table.json"),
        ('{"schema": "something else"}', "results"),
        (changed(results=...), "results"),
        (changed(results={"target": "7B Q8_0"}), "results"),
        (changed(results=["7B Q8_0"]), "results"),
        (changed(hardware=...), "hardware"),
        (changed(hardware=""), "hardware"),
        (changed(hardware="toaster-9000"), "toaster"),
        (changed(model_family=...), "model_family"),
        (changed(model_family=7), "model_family"),
        (changed(1, mean_tps="fast"), "fast"),
        (changed(1, mean_tps=...), "mean_tps"),
        (changed(1, target=...), "target"),
        (changed(1, acceptance_rate="most"), "most"),
        (changed(settings={"draft_max": "many"}), "table.json"),
        (changed(settings=[1]), "table.json"),
        (changed(1, draft=5), "table.json"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_name_and_what_is_wrong(tmp_path, catalog, content, missing):
    with pytest.raises(FileProblem) as caught:
        read(tmp_path, content, catalog)
    assert "table.json" in str(caught.value)
    assert missing in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path, catalog):
    with pytest.raises(FileProblem, match=re.escape("nowhere.json")):
        read_evidence([tmp_path / "nowhere.json"], catalog)
    binary = tmp_path / "model.json"
    binary.write_bytes(b"GGUF\xff\xfe\x00")
    with pytest.raises(FileProblem, match=re.escape("model.json")):
        read_evidence([binary], catalog)


ODD = (
    st.none()
    | st.booleans()
    | st.integers(-2, 99)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.just([])
    | st.just({})
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(
        ["hardware", "model_family", "settings", "results", "timestamp", "target", "draft", "mean_tps"]
    ),
    value=ODD,
)
def test_an_odd_value_anywhere_is_evidence_or_a_file_problem(tmp_path, catalog, place, value):
    table = changed(1, **{place: value}) if place in ("target", "draft", "mean_tps") else changed(**{place: value})
    refused = ""
    try:
        found = read(tmp_path, table, catalog)
    except FileProblem as problem:
        refused = str(problem)
    assert "table.json" in (refused or found.provenance[0])


def test_the_temperature_of_a_table_counts(tmp_path, catalog):
    pair = read(tmp_path, changed(settings={"temperature": 0.7}), catalog).pairs[0]
    assert pair.case.temperature == 0.7


@pytest.mark.parametrize("speed", [-90.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_never_evidence(tmp_path, catalog, speed):
    try:
        found = read(tmp_path, changed(1, mean_tps=speed), catalog)
    except FileProblem:
        return
    assert all(np.isfinite(p.speedup) and p.speedup > 0 for p in found.pairs)


@pytest.mark.parametrize("rate", [None, 0, 0.0])
def test_a_draft_that_never_ran_is_told_and_left_out(tmp_path, catalog, rate):
    """A server that drops the draft answers at the baseline's speed and prints no acceptance."""
    found = read(tmp_path, changed(1, acceptance_rate=rate, mean_tps=50.2), catalog)
    assert "0.5B Q8_0" not in [p.draft for p in found.pairs]
    assert any("result 2" in note and "acceptance" in note for note in found.notes)


def test_a_table_of_another_runtime_is_refused(tmp_path, catalog):
    with pytest.raises(FileProblem, match="mlx") as caught:
        read(tmp_path, changed(backend="mlx"), catalog)
    assert "table.json" in str(caught.value)


# -- tables in CSV ---------------------------------------------------------------------------------------------------


def test_decode_speeds(tmp_path, catalog):
    lines = "RTX 4090 24GB,1008,Llama-3-8B,Q4_K_M,4.58,6898.71,127.74,https://github.com/some/benchmark README\n"
    found = read(tmp_path, DECODE_HEAD + lines, catalog, "speeds.csv")
    row = found.decodes[0]
    assert (row.machine.backend, row.machine.bandwidth_bytes_per_s) == ("cuda", 1008e9)
    assert (row.load.read_bytes, row.load.kernel) == (pytest.approx(4.58 * GIB), "Q4_K")
    assert row.load.active_parameters == 8e9
    assert row.token_s == pytest.approx(1 / 127.74)
    assert not row.is_baseline
    assert "speeds.csv" in found.provenance[0]
    assert "some/benchmark" in found.provenance[0]


@pytest.mark.parametrize(
    ("device", "backend"),
    [
        ("Apple M2 Ultra 76-core", "metal"),
        ("RTX 4090 24GB", "cuda"),
        ("Tesla V100 16GB", "cuda"),
        ("RTX 2080 Ti 11GB (Vulkan)", "vulkan"),
        ("Strix Halo (Ryzen AI Max+ 395)", "vulkan"),
        ("RX 7900 XTX 24GB", "rocm"),
        ("Core i7-8700 (dual-ch DDR4-2666)", "cpu"),
    ],
)
def test_the_backend_of_a_device(tmp_path, catalog, device, backend):
    found = read(tmp_path, DECODE_HEAD + f'"{device}",400,Llama-3-8B,Q8_0,7.95,1,40,x\n', catalog, "speeds.csv")
    assert [row.machine.backend for row in found.decodes] == [backend]


def test_other_runtimes_and_unknown_sizes_are_left_out_and_counted(tmp_path, catalog):
    lines = (
        "RTX 4090 24GB,1008,Llama-3-8B,Q8_0,7.95,1,100,x\n"
        "Apple M3 Ultra 256GB (MLX),819,Llama-3-8B,Q8_0,7.95,1,80,x\n"
        "RTX 4090 24GB,1008,Llama-3-8B,Q8_0,,1,100,x\n"
        "RTX 4090 24GB,1008,Qwen3-30B-A3B (MoE),Q8_0,30,1,100,x\n"
        "Abacus,1,Llama-3-8B,Q8_0,7.95,1,1,x\n"
    )
    found = read(tmp_path, DECODE_HEAD + lines, catalog, "speeds.csv")
    assert [row.load.experts for row in found.decodes] == [(0, 0), (128, 8)]
    assert "2 decode speeds of 5 rows" in found.provenance[0]


def test_verify_costs(tmp_path, catalog):
    lines = (
        "x,DGX Spark (GB10),cuda,Qwen2.5-Coder-7B,Q8_0,512,1,30,1.0,ms\n"  # a ratio to itself says nothing
        "x,DGX Spark (GB10),cuda,Qwen2.5-Coder-7B,Q8_0,512,4,33,1.121,ms\n"
        "x,RX 7900 XTX,hip,llama 8B,Q2_K_M,512,8,30,3.049,ms\n"
        "x,Apple M3 Ultra,mlx,Qwen3-8B,mxfp4,512,2,30,2.196,ms\n"
        "x,(CUDA full offload),ik_llama cuda,GLM-4.5-Air 106B.A12B (MoE),IQ1_KT,512,2,30,3.0,ms\n"
        "x,80-thread CPU experts + CUDA,exps=CPU,Qwen3-235B-A22B (MoE),Q4_K_XL,512,2,30,1.3,ms\n"
        "x,DGX Spark (GB10),cuda,gpt-oss-20b (MoE),MXFP4,512,8,31,2.552,ms\n"
    )
    found = read(tmp_path, VERIFY_HEAD + lines, catalog, "rows.csv")
    assert [(v.machine.backend, v.load.kernel, v.rows, v.ratio) for v in found.verifies] == [
        ("cuda", "Q8_0", 4, 1.121),
        ("rocm", "Q2_K", 8, 3.049),
        ("cuda", "MXFP4", 8, 2.552),
    ]
    mixture = found.verifies[2].load
    assert mixture.experts == (32, 4)
    assert 0 < mixture.routed_bytes < mixture.read_bytes < 20.9e9 / 2
    assert "3 verify costs of 7 rows" in found.provenance[0]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "columns"),
        ("device,quant\nRTX 4090,Q8_0\n", "device, quant"),
        (DECODE_HEAD + "RTX 4090 24GB,1008,Llama-3-8B,Q8_0,7.95,1,fast,x\n", "fast"),
        (DECODE_HEAD + "RTX 4090 24GB,1008\n", "table.csv"),
        (DECODE_HEAD + "RTX 4090 24GB,1008,Llama-3-8B,Q8_0,7.95,1,0,x\n", "table.csv"),
        (VERIFY_HEAD + "x,RTX 4090,cuda,llama 8B,Q8_0,512,some,1,1.2,ms\n", "some"),
    ],
)
def test_a_csv_of_another_kind_is_refused_with_its_name_and_what_is_wrong(tmp_path, catalog, content, wrong):
    with pytest.raises(FileProblem) as caught:
        read(tmp_path, content, catalog, "table.csv")
    assert "table.csv" in str(caught.value)
    assert wrong in str(caught.value)
