"""From a catalogue to a measured recommendation, as a user goes: pull two models from a hub, import what somebody else
measured, recommend with the real engine, and let the priors learn from that. The hub is on loopback, the models are
small ones of the zoo."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor.testing.hub import FakeHub
from advisor.testing.zoo import Recipe, build

pytestmark = pytest.mark.alone

TARGET, DRAFT = Recipe(29, "F16"), Recipe(24, "Q4_0")
LAYER_PARAMETERS = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
OTHER_PARAMETERS = 49152 * 576 + 576
GROUPS = """
groups:
  - { id: zoo, model: gpt2, pre: smollm, add_bos: false, add_eos: false, tokens: zoo, bos_id: 1, eos_id: 2,
      source: the header of the zoo's files }
"""
FAMILY = "name: Zoo\nmodels:"
ENTRY = """
  - id: zoo-{layers}l
    name: SmolLM2-135M-zoo-{layers}L
    hf_repo: zoo/SmolLM2-135M-zoo-{layers}L
    licence: apache-2.0
    parameters: {parameters}
    tokenizer: zoo
    shape: {{
      architecture: llama, layers: {layers}, embedding_length: 576, feed_forward_length: 1536, heads: 9, kv_heads: 3,
      head_length: 64, vocabulary_size: 49152, context_length: 8192, tied_embeddings: true
    }}
    base: smollm2-135m
    source: advisor/testing/zoo.py
    repositories:
      - repo: zoo/{layers}L-GGUF
        file: "zoo-{layers}l-{{quant}}.gguf"
        sizes: {{ {quant}: {size} B }}
        source: advisor/testing/zoo.py
"""


def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "advisor", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def entry(recipe: Recipe, size: int) -> str:
    parameters = recipe.layers * LAYER_PARAMETERS + OTHER_PARAMETERS
    return ENTRY.format(layers=recipe.layers, parameters=parameters, quant=recipe.quant, size=size)


@pytest.fixture
def hub(tmp_path: Path, data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with both models, and a catalogue of the user's own that describes them."""
    for name in ("ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    served, catalogue = tmp_path / "served", data_directory / "models_catalog"
    catalogue.mkdir(parents=True)
    text = FAMILY
    for recipe in (TARGET, DRAFT):
        file = build(recipe)
        offered = served / "zoo" / f"{recipe.layers}L-GGUF" / f"zoo-{recipe.layers}l-{recipe.quant}.gguf"
        offered.parent.mkdir(parents=True)
        shutil.copyfile(file, offered)
        text += entry(recipe, file.stat().st_size)
    (catalogue / "zoo.yaml").write_text(text, encoding="utf-8")
    (catalogue / "tokenizers.yaml").write_text(GROUPS, encoding="utf-8")
    with FakeHub(served, cdn=True) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def others_results(path: Path) -> Path:
    """What a friend measured on another machine."""
    rows = [
        {"target": "29l F16", "draft": None, "mean_tps": 400.0, "acceptance_rate": None},
        {"target": "29l F16", "draft": "24l Q4_0", "mean_tps": 340.0, "acceptance_rate": 0.5},
    ]
    table = {"timestamp": "2026-02-06", "hardware": "m4max-128gb", "model_family": "Zoo", "results": rows}
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def test_from_the_catalogue_to_a_measurement_and_back(hub: FakeHub, tmp_path: Path, data_directory: Path) -> None:
    assert "Q4_0" in run("pull", "zoo-24l", code=2).stderr
    draft = Path(run("pull", "zoo-24l-q4_0").stdout.strip())
    target = Path(run("pull", "zoo-29l", "--quant", "f16", "--models-dir", tmp_path / "mine").stdout.strip())
    assert target.read_bytes() == build(TARGET).read_bytes()

    local = json.loads(run("models", "--local", "--models-dir", tmp_path / "mine", "--format", "json").stdout)
    found = {file["model"]: file for file in local["files"]}
    assert found["zoo-29l"]["path"] == str(target)
    assert found["zoo-24l"]["origin"] == "Hugging Face"
    assert found["zoo-24l"]["quant"] == "Q4_0"
    assert found["zoo-29l"]["contradictions"] == found["zoo-24l"]["contradictions"] == []

    assert "1 pair, 1 baseline" in run("import", others_results(tmp_path / "friend.json")).stdout

    workload = tmp_path / "prompts.txt"
    workload.write_text("Count from one to twenty.\nList five colours.\n", encoding="utf-8")
    question = ("--workload", workload, "--budget", "30s", "--max-tokens", 24, "--k-max", 4, "--context", 512)
    answer = tmp_path / "answer.json"
    run("recommend", "--target", target, "--draft", draft, *question, "--format", "json", "--output", answer)
    document = json.loads(answer.read_text(encoding="utf-8"))
    assert document["baseline"]["tokens_per_second"] > 0
    (candidate,) = document["candidates"]
    assert candidate["quant"] == "Q4_0"
    assert candidate["evidence"] in ("replay", "measured")

    assert "1 baseline" in run("import", answer).stdout
    fitted = run("fit-priors").stdout
    assert "friend.json" in fitted
    assert "answer.json" in fitted
    assert "friend.json" in (data_directory / "priors.json").read_text(encoding="utf-8")
