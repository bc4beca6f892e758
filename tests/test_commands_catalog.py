"""models, pull, import and fit-priors as a user runs them: what is printed, what is kept, which exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from advisor.catalog.load import load
from advisor.cli import app
from advisor.cost.prior import Machine
from advisor.cost.step_law import CURRENT
from advisor.errors import FileProblem, StoreError
from advisor.predict import belief, imported
from advisor.predict.belief import current, posterior_to_json, shipped
from advisor.predict.evidence import READ_OVER_PUBLISHED, Evidence
from advisor.predict.reading import read_text
from advisor.report.json_document import document, dumps
from advisor.testing.builders import make_estimate, make_host, make_model, make_recommendation
from advisor.testing.gguf_files import Q8_0, llama_tensors, llama_values, tokens, write
from advisor.testing.hub import FakeHub, Refuse
from advisor.types import Recommendation

REPO = "zoo/Tiny-1B-GGUF"
FAMILY = """
name: Tiny
models:
  - id: tiny-1b
    name: Tiny-1B-Instruct
    hf_repo: zoo/Tiny-1B-Instruct
    licence: apache-2.0
    parameters: 131072
    tokenizer: tiny
    shape: {
      architecture: llama, layers: LAYERS, embedding_length: 64, feed_forward_length: 128, heads: 4, kv_heads: 2,
      head_length: 16, vocabulary_size: VOCABULARY, context_length: 2048, tied_embeddings: true
    }
    source: made for a test
    repositories:
      - repo: zoo/Tiny-1B-GGUF
        file: "tiny-1b-{quant}.gguf"
        sizes: { Q8_0: 70.0 MB, Q4_0: 40.0 MB }
        quants: [F16]
        spelled: { F16: fp16 }
        source: made for a test
"""
GROUPS = """
groups:
  - { id: tiny, model: gpt2, pre: default, add_bos: false, add_eos: false, tokens: tiny, source: made for a test }
"""


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(*args: str | Path) -> str:
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's models, token or hub."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "llama"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def own_catalogue(data_directory: Path, *, layers: int = 2, vocabulary: int = 32) -> None:
    folder = data_directory / "models_catalog"
    folder.mkdir(parents=True)
    text = FAMILY.replace("LAYERS", str(layers)).replace("VOCABULARY", str(vocabulary))
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    (folder / "tokenizers.yaml").write_text(GROUPS, encoding="utf-8")


def tiny_file(path: Path, *, vocabulary: int = 32, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {**llama_values(vocabulary=tokens(vocabulary), **more), "general.name": "Tiny 1B Instruct"}
    return write(path, values, llama_tensors(kind=Q8_0, vocabulary=vocabulary))


# -- models ----------------------------------------------------------------------------------------------------------


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    result = run("--help")
    for name in ("models", "pull", "import", "fit-priors"):
        assert name in result.stdout
    heavy = ("numpy", "yaml", "pydantic", "huggingface_hub", "rich")
    code = f"import sys, advisor.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_models_lists_a_family_with_its_facts() -> None:
    result = run("models", "--family", "qwen2.5")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("qwen2.5-72b ")]
    for word in ("72.7B", "Q4_K_M", "Q8_0", "qwen2.5-large", "qwen"):
        assert word in line
    assert "llama" not in result.stdout


def test_models_as_json_lists_every_quant() -> None:
    parsed = json.loads(run("models", "--format", "json").stdout)
    assert parsed["schema"] == "draft-advisor/models/1"
    by_id = {one["id"]: one for one in parsed["models"]}
    assert len(by_id) == len(load().entries)
    assert {"Q8_0", "Q4_K_M", "Q2_K"} <= set(by_id["qwen2.5-7b"]["quants"])
    assert by_id["qwen2.5-7b"]["parameters"] == load().entries["qwen2.5-7b"].parameters


def test_an_unknown_family_suggests_the_known() -> None:
    assert "Qwen3" in refused("models", "--family", "qwem3").replace("qwen", "Qwen")


def test_a_wrong_file_of_ones_own_stops_nothing_but_what_is_in_it(data_directory: Path) -> None:
    own_catalogue(data_directory)
    wrong = data_directory / "models_catalog" / "wrong.yaml"
    wrong.write_text("name: Wrong\nmodels: 7\n", encoding="utf-8")
    for arguments in (("--family", "qwen3"), ("--family", "tiny"), ("--hosts",)):
        result = run("models", *arguments)
        assert result.exit_code == 0, result.output
        assert f"note: A file of your catalogue is left out: {wrong}, line 2: models: a list expected" in result.stderr
    assert str(wrong) in refused("models", "--family", "wrong")
    result = run("recommend", "--target", "qwen2.5-7b-q8", "--host", "m4-max-128gb")
    assert result.exit_code == 0, result.output
    assert f"{wrong}, line 2" in result.stderr
    assert f"{wrong}, line 2" in refused("recommend", "--target", "wrong-7b", "--host", "m4-max-128gb")
    assert f"{wrong}, line 2" in refused("recommend", "--target", "qwen2.5-7b-q8", "--host", "wrongbox")


def test_hosts_are_listed_by_the_names_that_host_takes() -> None:
    parsed = json.loads(run("models", "--hosts", "--format", "json").stdout)
    by_name = {name: one for one in parsed["hosts"] for name in one["names"]}
    assert by_name["m4-max-128gb"]["bandwidth_gb_per_s"] == 546
    assert "m4-max-128gb" in run("models", "--hosts").stdout
    assert "--hosts" in refused("models", "--hosts", "--local")


def test_a_models_folder_without_local_is_a_mistake(tmp_path: Path) -> None:
    assert "--local" in refused("models", "--models-dir", tmp_path)


def test_local_shows_what_is_on_disk_and_where(tmp_path: Path, data_directory: Path) -> None:
    own_catalogue(data_directory)
    known = tiny_file(tmp_path / "models" / "renamed.gguf")
    result = run("models", "--local", "--models-dir", tmp_path / "models")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "renamed.gguf" in line]
    assert line.startswith("tiny-1b")
    assert "Q8_0" in line
    assert "folder" in line
    assert str(known) in line
    assert "note" not in result.stdout


def test_a_header_that_contradicts_the_catalogue_wins(tmp_path: Path, data_directory: Path) -> None:
    own_catalogue(data_directory, layers=3)
    tiny_file(tmp_path / "models" / "tiny.gguf")
    result = run("models", "--local", "--models-dir", tmp_path / "models")
    assert "the catalogue says 3 layers for Tiny-1B-Instruct, the file 2. The header wins." in result.stdout
    parsed = json.loads(run("models", "--local", "--models-dir", tmp_path / "models", "--format", "json").stdout)
    (found,) = parsed["files"]
    assert found["model"] == "tiny-1b"
    assert found["contradictions"] == ["the catalogue says 3 layers for Tiny-1B-Instruct, the file 2"]


def test_a_padded_vocabulary_is_a_remark(tmp_path: Path, data_directory: Path) -> None:
    own_catalogue(data_directory, vocabulary=2000)
    tiny_file(tmp_path / "models" / "tiny.gguf", vocabulary=2064)
    parsed = json.loads(run("models", "--local", "--models-dir", tmp_path / "models", "--format", "json").stdout)
    (found,) = parsed["files"]
    assert found["model"] == "tiny-1b"
    assert found["contradictions"] == []
    assert "64 padding tokens" in found["remarks"][0]


def test_local_without_any_file_says_what_to_do() -> None:
    result = run("models", "--local")
    assert result.exit_code == 0
    assert "advisor pull" in result.stdout


def test_local_looks_into_the_models_folder_at_home_and_says_where_it_looked(
    tmp_path: Path, data_directory: Path
) -> None:
    own_catalogue(data_directory)
    home = tmp_path / "home" / "models"
    assert f"Looked in {home} (not there), {tmp_path / 'hf' / 'hub'} (not there)" in run("models", "--local").stdout
    file = tiny_file(home / "tiny.gguf")
    (tmp_path / "more").mkdir()
    result = run("models", "--local", "--models-dir", tmp_path / "more")
    assert str(file) in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"Looked in {tmp_path / 'more'}, {home}, ")


def test_local_of_one_family_leaves_the_others_out(tmp_path: Path, data_directory: Path) -> None:
    own_catalogue(data_directory)
    tiny_file(tmp_path / "models" / "tiny.gguf")
    arguments = ("--local", "--models-dir", tmp_path / "models", "--format", "json")
    assert len(json.loads(run("models", "--family", "tiny", *arguments).stdout)["files"]) == 1
    assert json.loads(run("models", "--family", "qwen3", *arguments).stdout)["files"] == []


def test_a_name_in_a_file_cannot_drive_the_terminal(tmp_path: Path) -> None:
    values = {**llama_values(), "general.name": "evil\x1b[2Jname"}
    write(tmp_path / "x.gguf", values, llama_tensors(kind=Q8_0))
    result = run("models", "--local", "--models-dir", tmp_path)
    assert "evil" in result.stdout
    assert "\x1b" not in result.stdout


# -- pull ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_directory: Path) -> Iterator[FakeHub]:
    own_catalogue(data_directory)
    with FakeHub(tmp_path / "served") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for file in ("tiny-1b-Q8_0.gguf", "tiny-1b-fp16.gguf"):
            tiny_file(hub.folder / REPO / file)
        yield hub


def test_pull_prints_the_path_and_how_to_go_on(hub: FakeHub, tmp_path: Path) -> None:
    result = run("pull", "tiny-1b-q8", "--models-dir", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    path = Path(result.stdout.strip())
    assert path.read_bytes() == (hub.folder / REPO / "tiny-1b-Q8_0.gguf").read_bytes()
    assert path.is_relative_to(tmp_path / "mine")
    first, *rest = result.stderr.splitlines()
    assert f"{REPO} Q8_0: 1 file" in first
    assert "are free" in first
    assert any("advisor recommend" in line and str(path) in line for line in rest)


def test_a_second_pull_says_that_it_is_on_disk(hub: FakeHub) -> None:
    run("pull", "tiny-1b", "--quant", "q8")
    again = run("pull", "tiny-1b", "--quant", "q8")
    assert again.exit_code == 0
    assert "already on disk" in again.stderr
    assert len(hub.downloads("tiny-1b-Q8_0.gguf")) == 1


def test_a_quant_that_the_repository_calls_otherwise(hub: FakeHub, tmp_path: Path) -> None:
    result = run("pull", "tiny-1b-f16", "--models-dir", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).name == "tiny-1b-fp16.gguf"


def test_without_a_quant_the_choice_is_listed_with_sizes(hub: FakeHub) -> None:
    message = refused("pull", "tiny-1b")
    assert "Q8_0 66.7 MiB" in message
    assert "Q4_0 38.1 MiB" in message
    assert "F16" in message
    assert "tiny-1b-q8_0" in message
    assert hub.requests == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tiny-1b-q8", "--quant", "q4_0"), ("Q8_0", "--quant", "Q4_0")),
        (("tiny-1b", "--quant", "huge"), ("--quant", "huge")),
        (("tiny-1b-q6",), ("Q6_K", "Q8_0", "Q4_0")),
        (("tiny-2b-q8",), ("tiny-1b",)),
        (("tiny-1b-q4_0",), (REPO, "Q8_0")),  # the catalogue says so, the hub does not
    ],
)
def test_what_cannot_be_pulled(hub: FakeHub, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    message = refused("pull", *arguments)
    for word in words:
        assert word in message


def test_a_hub_that_refuses_is_exit_3(hub: FakeHub) -> None:
    hub.faults.append(Refuse("Tiny-1B", 403))
    result = run("pull", "tiny-1b-q8")
    assert result.exit_code == 3
    assert REPO in result.stderr
    assert result.stdout == ""


def test_a_full_disk_is_seen_before_the_download(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": 10})())
    message = refused("pull", "tiny-1b-q8")
    assert "does not fit" in message
    assert hub.downloads("tiny-1b-Q8_0.gguf") == []


def test_ctrl_c_exits_130_and_the_next_pull_goes_on(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advisor.catalog import pull

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pull, "pull", interrupted)
        result = run("pull", "tiny-1b-q8", "--models-dir", tmp_path / "mine")
    assert result.exit_code == 130
    assert "same command again" in result.stderr
    assert run("pull", "tiny-1b-q8", "--models-dir", tmp_path / "mine").exit_code == 0


# -- import ----------------------------------------------------------------------------------------------------------


def table(**changes: Any) -> dict[str, Any]:
    """A small draftbench result."""
    speeds = {"0.5B Q8_0": 60.0, "1.5B Q8_0": 66.0, "3B Q4_K_M": 40.0}
    rows: list[dict[str, Any]] = [{"target": "7B Q8_0", "draft": None, "mean_tps": 50.0, "acceptance_rate": None}]
    rows += [
        {"target": "7B Q8_0", "draft": draft, "mean_tps": tps, "acceptance_rate": 0.7} for draft, tps in speeds.items()
    ]
    return {
        "timestamp": "2026-02-06T06:22:52+00:00",
        "hardware": "m4max-128gb",
        "model_family": "Qwen2.5",
        "settings": {"runs": 1, "temperature": 0.0},
        "results": rows,
        **changes,
    }


def saved(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_import_keeps_a_table_and_says_what_it_read(tmp_path: Path, data_directory: Path) -> None:
    extra = {"target": "7B Q8_0", "draft": "0.9B Q8_0", "mean_tps": 10.0, "acceptance_rate": 0.5}
    path = saved(tmp_path / "mine.json", table(results=[*table()["results"], extra]))
    result = run("import", path)
    assert result.exit_code == 0, result.output
    assert "mine.json: imported" in result.stdout
    assert "3 pairs, 1 baseline" in result.stdout
    assert "metal, 546 GB/s" in result.stdout
    assert "0.80x to 1.32x" in result.stdout
    assert "note: mine.json: result 5" in result.stdout
    (kept,) = imported.kept(data_directory)
    assert (kept.name, kept.text) == ("mine.json", path.read_text(encoding="utf-8"))


def test_importing_twice_changes_nothing(tmp_path: Path, data_directory: Path) -> None:
    path = saved(tmp_path / "mine.json", table())
    run("import", path)
    again = run("import", saved(tmp_path / "copy.json", table()))
    assert again.exit_code == 0
    assert "imported before" in again.stdout
    assert len(imported.kept(data_directory)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "bad.json"),
        ("[" * 100_000, "bad.json"),
        ([], "bad.json"),
        ({}, "results"),
        (table(hardware=None), "hardware"),
        (table(model_family=""), "model_family"),
        (table(hardware="toaster-9000"), "toaster-9000"),
        (table(model_family="Nonesuch"), "nothing that the priors could learn from"),
        (table(results=[{"target": "7B Q8_0", "draft": None}]), "mean_tps"),
        (table(results=[{"draft": None, "mean_tps": 3}]), "target"),
        (table(results=[*table()["results"], {"target": "7B Q8_0", "draft": 3, "mean_tps": 9.0}]), "bad.json"),
        (table(results=[{**row, "mean_tps": -row["mean_tps"]} for row in table()["results"][1:2]]), "nothing"),
        (table(results=[table()["results"][0], {**table()["results"][1], "acceptance_rate": 7}]), "acceptance"),
        (table(results=[table()["results"][0], {**table()["results"][1], "mean_tps": float("nan")}]), "speedup"),
        (table(settings=[1]), "bad.json"),
        ({"schema": "draft-advisor/recommendation/1"}, "bad.json is not a whole recommendation"),
    ],
)
def test_a_malformed_file_is_named_and_nothing_is_kept(
    tmp_path: Path, data_directory: Path, content: object, words: str
) -> None:
    good, bad = saved(tmp_path / "good.json", table()), saved(tmp_path / "bad.json", content)
    message = refused("import", good, bad)
    assert "bad.json" in message
    assert words in message
    assert not (data_directory / "evidence").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "missing.json" in refused("import", tmp_path / "missing.json")


def recommendation_text(rec: Recommendation) -> str:
    return dumps(document(rec, command=["llama-server"], show_all=True))


def read(rec: Recommendation) -> Evidence:
    return read_text(Path("rec.json"), recommendation_text(rec), load())


def test_a_recommendation_becomes_pairs_and_a_baseline(tmp_path: Path) -> None:
    rec = make_recommendation()
    result = run("import", saved(tmp_path / "rec.json", recommendation_text(rec)))
    assert result.exit_code == 0, result.output
    assert "1 baseline" in result.stdout
    assert "(cpu, 52 GB/s)" in result.stdout
    evidence = read(rec)
    measured = {(p.draft, p.k, p.p_min): p for p in evidence.pairs}
    best = measured["Example-0.5B-Instruct Q8_0", 4, 0.5]
    assert best.speedup == rec.estimates[0].speedup
    assert best.acceptance_rate == rec.estimates[0].acceptance_rate
    assert best.law == CURRENT
    assert best.case.machine == Machine("cpu", pytest.approx(41.5e9 / READ_OVER_PUBLISHED), rec.host.fingerprint)
    assert best.case.category == "mixed"
    assert best.case.baseline_s == 1 / 20
    (baseline,) = evidence.decodes
    assert baseline.token_s == 1 / 20
    assert baseline.is_baseline


def test_a_workload_of_one_kind_keeps_its_category() -> None:
    assert {p.case.category for p in read(make_recommendation(categories=("chat",))).pairs} == {"chat"}


def test_of_many_replays_of_one_draft_a_few_are_taken() -> None:
    """They all walk over the same tokens: 60 rows would count one replay sixty times."""
    rec = make_recommendation()
    draft = rec.candidates[0].draft
    replays = tuple(make_estimate(draft, 1.1, k, p_min=p) for k in range(1, 13) for p in (0.0, 0.3, 0.5, 0.75, 0.9))
    pairs = read(make_recommendation(estimates=(*replays, make_estimate(draft, 1.2, 7, evidence="measured")))).pairs
    assert {(p.k, p.p_min) for p in pairs} == {(1, 0.0), (4, 0.0), (12, 0.75), (7, 0.0)}


def test_what_was_only_predicted_is_no_evidence() -> None:
    rec = make_recommendation()
    predicted = tuple(make_estimate(c.draft, 1.3, 4, evidence="prior") for c in rec.candidates)
    assert read(make_recommendation(estimates=predicted)).pairs == ()


def test_a_host_of_unknown_bandwidth_is_told(tmp_path: Path) -> None:
    rec = make_recommendation(host=make_host(read_bandwidth_bytes_per_s=None))
    assert "was not measured" in refused("import", saved(tmp_path / "rec.json", recommendation_text(rec)))


def test_a_recommendation_knows_its_models_by_header() -> None:
    entry = load().entries["qwen2.5-7b"]
    shape = entry.shape
    target = make_model(
        "Qwen2.5 7B Instruct",
        architecture="qwen2",
        layers=shape.layers,
        embedding_length=shape.embedding_length,
        feed_forward_length=shape.feed_forward_length,
        heads=shape.heads,
        attention=make_model(layers=shape.layers).attention.__class__((shape.kv_heads,) * shape.layers, 128, 128),
    )
    pair = read(make_recommendation(target=target)).pairs[0]
    assert pair.case.target.family == "Qwen2.5"
    assert pair.case.draft.family == ""


def test_damaged_kept_evidence_is_named(data_directory: Path) -> None:
    folder = data_directory / "evidence"
    folder.mkdir(parents=True)
    saved(folder / "x.json", "{")
    with pytest.raises(StoreError, match=r"x\.json"):
        imported.kept(data_directory)
    result = run("fit-priors")
    assert result.exit_code == 3
    assert "x.json" in result.stderr


# -- fit-priors ------------------------------------------------------------------------------------------------------


def test_fitting_from_scratch_writes_what_it_learnt(tmp_path: Path, data_directory: Path) -> None:
    out = tmp_path / "own.json"
    result = run("fit-priors", "--from-scratch", "-o", out, saved(tmp_path / "mine.json", table()))
    assert result.exit_code == 0, result.output
    assert "learnt from draftbench (MIT), mine.json: 3 pairs" in result.stdout
    assert "row_sd" in result.stdout
    moves = [line for line in result.stdout.splitlines() if "->" in line]
    assert len(moves) == 5
    assert str(out) in result.stdout
    assert "3 pairs" in out.read_text(encoding="utf-8")
    assert not (data_directory / "priors.json").exists()


def test_the_place_to_write_to_is_looked_at_before_the_fit(tmp_path: Path) -> None:
    message = refused("fit-priors", "-o", tmp_path / "nowhere" / "own.json", saved(tmp_path / "mine.json", table()))
    assert "nowhere" in message
    assert "Fitting" not in message


def test_imported_evidence_moves_the_priors_in_use(tmp_path: Path, data_directory: Path) -> None:
    assert posterior_to_json(current(data_directory)) == posterior_to_json(shipped())
    run("import", saved(tmp_path / "mine.json", table()))
    result = run("fit-priors")
    assert result.exit_code == 0, result.output
    mine = current(data_directory)
    assert mine.provenance[: len(shipped().provenance)] == shipped().provenance
    assert "mine.json" in mine.provenance[-1]
    assert set(shipped().names) <= set(mine.names)
    place = [mine.names.index(name) for name in shipped().names]
    assert not np.allclose(mine.mean[place], shipped().mean, atol=1e-3)


def test_what_the_shipped_priors_know_is_not_learnt_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(
        "fit-priors", "--from-scratch", "-o", tmp_path / "known-priors.json", saved(tmp_path / "a.json", table())
    )
    assert first.exit_code == 0, first.output
    known = belief.posterior_from_json((tmp_path / "known-priors.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(belief, "shipped", lambda: known)
    message = refused("fit-priors", saved(tmp_path / "another-name.json", table()))
    assert "left out" in message
    assert "another-name.json" in message
    assert "nothing new" in message
    changed = run("fit-priors", "-o", tmp_path / "b.json", saved(tmp_path / "a.json", table(timestamp="2026-02-07")))
    assert changed.exit_code == 0, "other results under a known name are new"


def test_imported_evidence_of_a_host_that_left_the_catalogue_is_passed_over(
    tmp_path: Path, data_directory: Path
) -> None:
    imported.keep(imported.Imported("old.json", json.dumps(table(hardware="toaster-9000"))), data_directory)
    result = run("fit-priors", "--from-scratch", "-o", tmp_path / "own.json", saved(tmp_path / "mine.json", table()))
    assert result.exit_code == 0, result.output
    assert "note: old.json, imported before, is left out" in result.stdout


def test_nothing_to_learn_from_is_exit_2() -> None:
    assert "advisor fit-priors FILE" in refused("fit-priors")
    assert "advisor fit-priors FILE" in refused("fit-priors", "--from-scratch")


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    assert "notes.csv" in refused("fit-priors", saved(tmp_path / "notes.csv", "a,b\n1,2\n"))


OF_ANOTHER_VERSION = {"row_sd": 0.02, "provenance": [], "coefficients": {"charm": 1.0}, "covariance": [[1.0]]}


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"coefficients": {"skill": 1}, "covariance": [[1], [2, 3]]}', json.dumps(OF_ANOTHER_VERSION)],
)
def test_damaged_priors_of_the_user_are_named(data_directory: Path, text: str) -> None:
    data_directory.mkdir(parents=True)
    saved(data_directory / "priors.json", text)
    with pytest.raises(StoreError, match=r"priors\.json") as caught:
        current(data_directory)
    assert "fit-priors" in str(caught.value)


def test_texts_are_kept_once_and_whole(tmp_path: Path) -> None:
    one, other = imported.Imported("a.json", "ä\n{}"), imported.Imported("b.json", "{}")
    assert imported.keep(one, tmp_path)
    assert not imported.keep(one, tmp_path)
    assert imported.keep(other, tmp_path)
    assert set(imported.kept(tmp_path)) == {one, other}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "evidence", "a file in the way")
    with pytest.raises(StoreError, match="evidence"):
        imported.keep(imported.Imported("a.json", "{}"), tmp_path)


def test_file_problem_is_what_reading_raises(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"x\.json"):
        read_text(tmp_path / "x.json", "{}", load())
