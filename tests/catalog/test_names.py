"""What people type finds the model and the machine they mean, or says what is near."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.catalog.load import load
from advisor.catalog.names import (
    file_names,
    host_named,
    host_names,
    hosts_matching,
    list_models,
    quant_named,
    repository_for,
    resolve,
)
from advisor.errors import OptionError

CATALOG = load()
FILES = [
    (entry, repository, quant)
    for entry in CATALOG.entries.values()
    for repository in entry.repositories
    for quant in (*repository.sizes, *repository.quants)
]


@pytest.mark.parametrize(
    ("text", "entry", "quant", "repository"),
    [
        ("qwen2.5-72b-q8", "qwen2.5-72b", "Q8_0", None),
        ("qwen2.5-72b-q4_k_m", "qwen2.5-72b", "Q4_K_M", None),
        ("qwen2.5-72b", "qwen2.5-72b", None, None),
        ("  Qwen2.5-72B ", "qwen2.5-72b", None, None),
        ("Qwen2.5-72B-Instruct-Q8_0.gguf", "qwen2.5-72b", "Q8_0", None),
        ("Qwen2.5-72B-Instruct-Q8_0-00002-of-00002.gguf", "qwen2.5-72b", "Q8_0", None),
        ("Qwen/Qwen2.5-72B-Instruct", "qwen2.5-72b", None, None),
        ("bartowski/Qwen2.5-72B-Instruct-GGUF:Q8_0", "qwen2.5-72b", "Q8_0", "bartowski/Qwen2.5-72B-Instruct-GGUF"),
        ("hf.co/bartowski/Qwen2.5-72B-Instruct-GGUF:q8", "qwen2.5-72b", "Q8_0", "bartowski/Qwen2.5-72B-Instruct-GGUF"),
        (
            "https://huggingface.co/bartowski/Qwen2.5-72B-Instruct-GGUF/blob/main/Qwen2.5-72B-Instruct-Q8_0/"
            "Qwen2.5-72B-Instruct-Q8_0-00001-of-00002.gguf",
            "qwen2.5-72b",
            "Q8_0",
            "bartowski/Qwen2.5-72B-Instruct-GGUF",
        ),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", "qwen3-0.6b", None, None),
        ("somebody/else/Qwen3-8B-Q6_K.gguf", "qwen3-8b", "Q6_K", None),
        ("llama-3.3-70b-q4_k_m", "llama-3.3-70b", "Q4_K_M", None),
        ("qwen2.5-1.5b-q4_k_m", "qwen2.5-1.5b", "Q4_K_M", None),
        ("meta-llama-3.1-8b", "llama-3.1-8b", None, None),
        ("Mistral-7B-Instruct-v0.3.Q8_0.gguf", "mistral-7b-v0.3", "Q8_0", None),
        ("google_gemma-3-27b-it-IQ2_M.gguf", "gemma-3-27b", "IQ2_M", None),
        ("gemma-3-27b-qat-q4_0", "gemma-3-27b-qat", "Q4_0", None),
        ("qwen3-30b-a3b-instruct-2507-ud-q4_k_xl", "qwen3-30b-a3b-instruct-2507", "UD-Q4_K_XL", None),
        ("qwen3-30b-a3b-ud-q4", "qwen3-30b-a3b", "UD-Q4_K_XL", None),
        ("gpt-oss-20b:mxfp4", "gpt-oss-20b", "MXFP4", None),
        ("smollm2-135m-fp16", "smollm2-135m", "F16", None),
        ("phi-4-mini", "phi-4-mini", None, None),
    ],
)
def test_a_name_finds_its_model(text: str, entry: str, quant: str | None, repository: str | None) -> None:
    named = resolve(text, CATALOG)
    assert (named.entry.id, named.quant) == (entry, quant)
    assert (named.repository.repo if named.repository else None) == repository


@given(st.sampled_from(FILES), st.sampled_from([str, str.lower, str.upper]))
@settings(max_examples=60, deadline=None)
def test_every_file_is_found_by_its_name_and_by_its_repository(file, spell) -> None:  # type: ignore[no-untyped-def]
    entry, repository, quant = file
    by_id = resolve(spell(f"{entry.id}-{quant}"), CATALOG)
    assert (by_id.entry, by_id.quant) == (entry, quant)
    by_repository = resolve(f"{spell(repository.repo)}:{quant}", CATALOG)
    assert (by_repository.entry, by_repository.quant) == (entry, quant)
    assert by_repository.repository is not None
    assert by_repository.repository.repo == repository.repo
    for name in file_names(repository, quant):
        inside = resolve(f"{repository.repo}/folder/{name}", CATALOG)
        assert (inside.entry, inside.quant) == (entry, quant)


@pytest.mark.parametrize(
    ("text", "quant"),
    [
        ("q8", "Q8_0"),
        ("q6", "Q6_K"),
        ("q5", "Q5_K_M"),
        ("Q4", "Q4_K_M"),
        ("q3", "Q3_K_M"),
        ("q2", "Q2_K"),
        ("f16", "F16"),
        ("fp16", "F16"),
        ("bf16", "BF16"),
        ("f32", "F32"),
        ("iq4-xs", "IQ4_XS"),
        ("q4_0_4_4", "Q4_0_4_4"),
        ("ud-iq2_xxs", "UD-IQ2_XXS"),
        ("mxfp4_moe", "MXFP4_MOE"),
        ("q7", None),
        ("7b", None),
        ("instruct", None),
        ("", None),
    ],
)
def test_shorthands_of_quantizations(text: str, quant: str | None) -> None:
    assert quant_named(text) == quant


def test_every_quantization_of_the_catalogue_has_a_name() -> None:
    assert [quant for _, _, quant in FILES if quant_named(quant) != quant] == []


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("qwen2.5-71b", "qwen2.5-72b"),
        ("qwen25-7b", "qwen2.5-7b"),
        ("lama-3.3-70b", "llama-3.3-70b"),
        ("mistral-small", "mistral-small-24b-2501, mistral-small-3.1-24b, mistral-small-3.2-24b"),
        ("gemma-3-27b-it-q9", "gemma-3-27b"),
        ("nobody/Qwen3-9B-GGUF", "qwen3-8b"),
    ],
)
def test_an_unknown_name_gets_the_nearest(text: str, near: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve(text, CATALOG)
    assert text in caught.value.what
    assert near in caught.value.fix
    assert caught.value.fix.count(",") < 5
    assert caught.value.exit_code == 2


def test_a_name_like_no_other_is_told_where_to_look() -> None:
    with pytest.raises(OptionError) as caught:
        resolve("zzzzzz", CATALOG)
    assert "advisor models" in caught.value.fix


def test_what_follows_the_colon_must_be_a_quantization() -> None:
    with pytest.raises(OptionError, match="latest is not a quantization"):
        resolve("qwen2.5-7b:latest", CATALOG)


@given(st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_model_or_an_option_error(text: str) -> None:
    try:
        named = resolve(text, CATALOG)
    except OptionError:
        return
    assert named.entry is CATALOG.entries[named.entry.id]


def test_the_preferred_repository_with_a_quantization_is_found() -> None:
    small = CATALOG.entries["qwen2.5-0.5b"]
    chosen = repository_for(small, "Q8_0")
    assert chosen is not None
    assert chosen.repo == "bartowski/Qwen2.5-0.5B-Instruct-GGUF"
    only_there = repository_for(small, "Q5_0")
    assert only_there is not None
    assert only_there.repo == "Qwen/Qwen2.5-0.5B-Instruct-GGUF"
    assert repository_for(small, "IQ1_S") is None


@pytest.mark.parametrize(
    ("entry", "repo", "quant", "names"),
    [
        ("qwen2.5-7b", "bartowski/Qwen2.5-7B-Instruct-GGUF", "Q8_0", ["Qwen2.5-7B-Instruct-Q8_0.gguf"]),
        ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M", ["qwen2.5-0.5b-instruct-q4_k_m.gguf"]),
        ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "F16", ["qwen2.5-0.5b-instruct-fp16.gguf"]),
        (
            "qwen2.5-72b",
            "bartowski/Qwen2.5-72B-Instruct-GGUF",
            "Q8_0",
            ["Qwen2.5-72B-Instruct-Q8_0-00001-of-00002.gguf", "Qwen2.5-72B-Instruct-Q8_0-00002-of-00002.gguf"],
        ),
    ],
)
def test_files_are_called_as_in_the_repository(entry: str, repo: str, quant: str, names: list[str]) -> None:
    repository = next(one for one in CATALOG.entries[entry].repositories if one.repo == repo)
    assert list(file_names(repository, quant)) == names


def test_a_repository_whose_files_are_called_in_two_ways() -> None:
    for text, file in [("Q4_K_M", "Phi-4-mini-instruct-Q4_K_M.gguf"), ("BF16", "Phi-4-mini-instruct.BF16.gguf")]:
        named = resolve(f"unsloth/Phi-4-mini-instruct-GGUF:{text}", CATALOG)
        assert named.repository is not None
        assert file_names(named.repository, text) == (file,)


# -- tables ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_by_family() -> None:
    rows = list_models(CATALOG, "qwen2.5")
    assert {row.family for row in rows} == {"Qwen2.5"}
    largest = rows[-1]
    assert (largest.id, largest.parameters, largest.tokenizer) == ("qwen2.5-72b", 72706203648, "qwen2.5-large")
    assert [quant for quant in largest.quants if quant in ("Q8_0", "Q2_K", "Q4_K_M")] == ["Q2_K", "Q4_K_M", "Q8_0"]
    assert len(list_models(CATALOG)) == len(CATALOG.entries)


def test_the_beginning_of_a_familys_name_lists_all_that_begin_so() -> None:
    assert {row.family for row in list_models(CATALOG, "smol")} == {"SmolLM2", "SmolLM3"}


def test_an_unknown_family_gets_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"no family called qwem2\.5") as caught:
        list_models(CATALOG, "qwem2.5")
    assert "qwen2.5" in caught.value.fix


# -- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "memory", "bandwidth"),
    [
        ("m4-max-128gb", "m4-max", 128, 546),
        ("m4-max-36gb", "m4-max", 36, 410),
        ("M4 Max 64GB", "m4-max", 64, 546),
        ("apple-m2-ultra-192gb", "m2-ultra", 192, 800),
        ("rtx-4090", "rtx-4090", 24, 1008),
        ("nvidia-rtx-3060-12gb", "rtx-3060", 12, 360),
        ("rtx-3080-12gb", "rtx-3080", 12, 912.4),
        ("7900-xtx", "7900-xtx", 24, 960),
        ("dgx-spark", "dgx-spark", 128, 273),
    ],
)
def test_a_host_is_found_with_its_memory(text: str, host: str, memory: int, bandwidth: float) -> None:
    found, gib = host_named(text, CATALOG)
    assert (found.id, gib, found.bandwidth_gb_per_s) == (host, memory, bandwidth)


def test_every_host_can_be_named() -> None:
    for name in host_names(CATALOG):
        host, memory = host_named(name, CATALOG)
        assert f"{host.id}-{memory}gb" == name


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("m4-max", "m4-max-36gb, m4-max-48gb, m4-max-64gb, m4-max-128gb"),
        ("m4-max-100gb", "m4-max-128gb"),
        ("rtx-4091", "rtx-4090"),
        ("m4-maxx-128gb", "m4-max-128gb"),
    ],
)
def test_an_unclear_host_gets_the_names_to_choose_from(text: str, near: str) -> None:
    with pytest.raises(OptionError) as caught:
        host_named(text, CATALOG)
    assert near in str(caught.value)
    assert text in caught.value.what


@pytest.mark.parametrize(
    ("device", "memory_gib", "host"),
    [
        ("Apple M4", None, "m4"),
        ("Apple M4 Max", 128, "m4-max"),
        ("NVIDIA GeForce RTX 4090", 24, "rtx-4090"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", None, "7900-xtx"),
        ("NVIDIA L4", None, "l4"),
        ("NVIDIA L40S", None, "l40s"),
        ("NVIDIA A100-SXM4-80GB", None, "a100-sxm"),
        ("NVIDIA GB10", None, "dgx-spark"),
        ("NVIDIA GeForce RTX 3080 Ti", 12, None),
        ("NVIDIA GeForce RTX 4070 SUPER", 12, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, None),
        ("Radeon RX 7900 XT", 20, None),
        ("Intel Arc A770", 16, None),
    ],
)
def test_a_drivers_name_finds_its_host(device: str, memory_gib: float | None, host: str | None) -> None:
    found = hosts_matching(device, CATALOG, memory_gib)
    assert (found.id if found else None) == host


def test_memory_tells_chips_of_one_name_apart() -> None:
    small, large = (hosts_matching("Apple M4 Max", CATALOG, gib) for gib in (36, 120.5))
    assert small is not None
    assert large is not None
    assert (small.bandwidth_gb_per_s, large.bandwidth_gb_per_s) == (410, 546)
    assert hosts_matching("Apple M4 Max", CATALOG) == small, "without the memory the slower one is the safe answer"


@pytest.mark.parametrize(
    ("text", "entry", "quant"),
    [
        ("llama3.3:70b", "llama-3.3-70b", None),
        ("llama3.3:70b-instruct-q4_K_M", "llama-3.3-70b", "Q4_K_M"),
        ("gemma3:27b", "gemma-3-27b", None),
        ("qwen2.5:72b", "qwen2.5-72b", None),
        ("phi4", "phi-4", None),
    ],
)
def test_names_as_ollama_writes_them(text: str, entry: str, quant: str | None) -> None:
    found = resolve(text, CATALOG)
    assert (found.entry.id, found.quant) == (entry, quant)


@pytest.mark.parametrize(("text", "host"), [("rtx4090", "rtx-4090"), ("4090", "rtx-4090"), ("m4max-128gb", "m4-max")])
def test_hosts_without_dashes(text: str, host: str) -> None:
    assert host_named(text, CATALOG)[0].id == host


def test_a_size_that_a_host_does_not_have_is_said() -> None:
    with pytest.raises(OptionError) as caught:
        host_named("rtx-4090-48gb", CATALOG)
    assert "rtx-4090-48gb" in caught.value.what
    assert "rtx-4090-24gb" in caught.value.fix
