"""Exports for programs that are no llama-server: vLLM, mlx-lm, LM Studio, llama-cpp-python."""

from __future__ import annotations

import ast
import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.errors import OptionError
from advisor.exporters import exporter, vllm
from advisor.gguf import read_model
from advisor.testing.builders import GIB, make_gpu_host, make_recommendation
from advisor.testing.saved import (
    AWKWARD,
    deployed,
    draft,
    ngram,
    none,
    with_device,
    with_paths,
)
from advisor.testing.zoo import Recipe, build
from advisor.types import Device, Placement, Recommendation, Sampling, Settings

# vLLM, docs/features/speculative_decoding: draft_model.md and n_gram.md.
# And its vllm/config/speculative.py: draft_sample_method.
DOCUMENTED = {
    "draft_sample_method",
    "method",
    "model",
    "num_speculative_tokens",
    "prompt_lookup_max",
    "prompt_lookup_min",
}


@pytest.mark.parametrize(("rec", "method"), [(draft(), "draft_model"), (ngram(), "ngram")])
def test_vllm_is_told_in_documented_keys(rec: Recommendation, method: str) -> None:
    config = rec.best.config
    found = vllm.speculative_config(deployed(rec), config)
    assert set(found) <= DOCUMENTED
    assert (found["method"], found["num_speculative_tokens"]) == (method, config.k)


def vllm_sampling(rec: Recommendation) -> dict[str, float]:
    argv = shlex.split(vllm.text(deployed(rec)), comments=True)
    found: dict[str, float] = json.loads(argv[argv.index("--override-generation-config") + 1])
    return found


def test_vllm_decodes_as_was_measured_but_for_what_it_refuses_with_speculation() -> None:
    """vllm/sampling_params.py: min_p is refused with speculation (its issue 42744)."""
    sampled = Settings(sampling=Sampling(temperature=0.6, top_p=0.9, top_k=20, min_p=0.1))
    assert vllm_sampling(draft()) == {"temperature": 0}
    speculating = dataclasses.replace(draft(), settings=sampled)
    assert vllm_sampling(speculating) == {"temperature": 0.6, "top_p": 0.9, "top_k": 20}
    text = vllm.text(deployed(speculating))
    assert "min-p 0.1: vLLM refuses it" in text
    alone = dataclasses.replace(none(), settings=sampled)
    assert vllm_sampling(alone) == {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1}


def test_vllm_samples_the_draft_where_that_was_better() -> None:
    rec = with_config(draft(), draft_sampling="probabilistic")
    assert vllm.speculative_config(deployed(rec), rec.best.config)["draft_sample_method"] == "probabilistic"
    assert "draft_sample_method" not in vllm.speculative_config(deployed(draft()), draft().best.config)


def with_config(rec: Recommendation, **changes: object) -> Recommendation:
    best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, **changes))
    return dataclasses.replace(rec, best=best)


def placed(rec: Recommendation, **changes: object) -> Recommendation:
    candidates = (
        dataclasses.replace(one, placement=dataclasses.replace(one.placement, **changes)) for one in rec.candidates
    )
    return dataclasses.replace(rec, candidates=tuple(candidates))


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm", "lm-studio"])
def test_a_quantized_cache_of_a_draft_is_named_where_there_is_no_setting_for_it(consumer: str) -> None:
    with pytest.raises(OptionError, match=f"{consumer} cannot express a cache of q8_0"):
        exporter(consumer).text(deployed(placed(draft(), cache_type="q8_0")))


def in_little_memory(rec: Recommendation) -> Recommendation:
    """So little that the target alone fits only with a quantized cache."""
    rec = dataclasses.replace(rec, settings=dataclasses.replace(rec.settings, context=131072))
    for available in range(16 * GIB, 64 * GIB, GIB // 4):
        tight = dataclasses.replace(rec, host=dataclasses.replace(rec.host, ram_available_bytes=available))
        if deployed(tight).placement.cache_type == "q8_0":
            return tight
    raise AssertionError("no such size")


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm", "llama-cpp-python"])
def test_a_quantized_cache_of_the_target_alone_is_named_too(consumer: str) -> None:
    with pytest.raises(OptionError, match=f"{consumer} cannot express a cache of q8_0"):
        exporter(consumer).text(deployed(in_little_memory(none())))


def test_lm_studio_has_a_setting_for_the_cache_of_the_target() -> None:
    assert "cache quantization q8_0" in exporter("lm-studio").text(deployed(in_little_memory(none())))


def test_lm_studio_has_no_setting_for_the_threads_of_a_draft() -> None:
    with pytest.raises(OptionError, match="lm-studio cannot express 3 threads for the draft"):
        exporter("lm-studio").text(deployed(placed(draft(), draft_threads=3)))


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm"])
def test_threads_of_the_draft_are_named_where_another_engine_chooses_them(consumer: str) -> None:
    assert "with 3 threads of its own" in exporter(consumer).text(deployed(placed(draft(), draft_threads=3)))


def on_second_gpu(rec: Recommendation) -> Recommendation:
    host = make_gpu_host()
    second = Device("CUDA1", "Example GPU 24GB", "gpu", 24 * GIB, 24 * GIB)
    return dataclasses.replace(
        with_device(rec, "CUDA1"), host=dataclasses.replace(host, devices=(*host.devices, second))
    )


def test_lm_studio_is_told_which_gpu_and_what_it_has_no_setting_for() -> None:
    text = exporter("lm-studio").text(deployed(on_second_gpu(draft())))
    assert "leave only CUDA1 switched on" in text
    assert "no setting for where the draft is" in text
    assert "CUDA" not in exporter("lm-studio").text(deployed(draft())), "one GPU needs no choice"
    partly = dataclasses.replace(
        draft(),
        candidates=tuple(dataclasses.replace(one, placement=Placement(-1, 7, "CUDA0")) for one in draft().candidates),
    )
    assert "GPU offload of the draft: 7 layers" in exporter("lm-studio").text(deployed(partly))


def test_the_python_program_stays_on_the_gpu_whose_memory_was_counted() -> None:
    """The target alone goes where most memory is free: the second."""
    text = exporter("llama-cpp-python").text(deployed(on_second_gpu(none())))
    arguments = {one.arg: ast.unparse(one.value) for one in first_call(text).keywords}
    assert (arguments["main_gpu"], arguments["split_mode"]) == ("1", "0")
    assert arguments["n_gpu_layers"] == "-1"
    one_gpu = exporter("llama-cpp-python").text(deployed(dataclasses.replace(none(), host=make_gpu_host())))
    assert "main_gpu" not in one_gpu


def first_call(text: str) -> ast.Call:
    return next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))


@pytest.mark.parametrize("consumer", ["vllm", "llama-cpp-python"])
def test_a_wait_for_more_matches_is_named_where_there_is_none(consumer: str) -> None:
    rec = ngram()
    best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, ngram_min_hits=2))
    with pytest.raises(OptionError, match=f"{consumer} cannot express ngram_min_hits = 2"):
        exporter(consumer).text(deployed(dataclasses.replace(rec, best=best)))


@pytest.mark.parametrize("consumer", ["vllm", "llama-cpp-python", "mlx-lm", "lm-studio"])
@pytest.mark.parametrize("method", ["ngram-map-k", "ngram-map-k4v", "ngram-mod"])
def test_a_method_that_a_program_does_not_have_is_named(consumer: str, method: str) -> None:
    with pytest.raises(OptionError, match=f"{consumer} cannot express the method {method}"):
        exporter(consumer).text(deployed(ngram(method)))


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm"])
@pytest.mark.parametrize("field", [{"p_min": 0.5}, {"n_min": 2}])
def test_a_draft_that_may_end_early_is_refused_where_it_cannot(consumer: str, field: dict[str, float]) -> None:
    rec = draft()
    best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, **field))
    with pytest.raises(OptionError, match=f"{consumer} cannot express {next(iter(field))}"):
        exporter(consumer).text(deployed(dataclasses.replace(rec, best=best)))


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm"])
def test_a_program_with_models_of_its_own_asks_for_their_names(consumer: str) -> None:
    with pytest.raises(OptionError) as caught:
        exporter(consumer).text(deployed(draft(), target_name=""))
    assert "--target-name" in caught.value.fix
    with pytest.raises(OptionError) as caught:
        exporter(consumer).text(deployed(draft(), draft_name=""))
    assert "--draft-name" in caught.value.fix


def test_names_survive_the_python_program() -> None:
    text = exporter("llama-cpp-python").text(deployed(with_paths(ngram(), *AWKWARD)))
    assert text.isascii()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    paths = [one.value.value for call in calls for one in call.keywords if one.arg == "model_path"]
    assert paths == [AWKWARD[0]]


@pytest.mark.alone
def test_the_python_program_runs_on_a_real_model(tmp_path: Path) -> None:
    """In F16: some hosts need --no-repack for quantized models, which is refused."""
    rec = make_recommendation(
        target=read_model(build(Recipe(30, "F16"))), best=ngram().best, settings=Settings(context=512, max_tokens=8)
    )
    path = tmp_path / "serve.py"
    path.write_text(exporter("llama-cpp-python").text(deployed(rec)))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
