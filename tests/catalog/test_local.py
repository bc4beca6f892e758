"""Model files on this machine: where they are found, and which catalogue entries they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from advisor.catalog.local import (
    LocalFile,
    find_local,
    hub_cache,
    llama_cpp_cache,
    lm_studio_folders,
    ollama_folders,
    searched_folders,
)
from advisor.catalog.matching import contradictions, match_entry, match_local, remarks
from advisor.catalog.records import Entry, Shape
from advisor.errors import FileProblem
from advisor.gguf import read_model
from advisor.testing.gguf_files import Q8_0, llama_tensors, llama_values, tokens, write

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHAPE = Shape(
    architecture="llama",
    layers=2,
    embedding_length=64,
    feed_forward_length=128,
    heads=4,
    kv_heads=2,
    head_length=16,
    vocabulary_size=32,
    context_length=2048,
    tied_embeddings=True,
)


class Notes:
    """A progress listener that keeps what people are told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str, steps: int) -> None: ...
    def step(self, detail: str = "") -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)


def entry(name: str = "Tiny-1B-Instruct", owner: str = "Tiny", **shape: Any) -> Entry:
    return Entry(
        id=name.lower(),
        name=name,
        hf_repo=f"{owner}/{name}",
        licence="apache-2.0",
        parameters=10**9,
        tokenizer="tiny",
        shape=dataclasses.replace(SHAPE, **shape),
        source="made for a test",
    )


def gguf(path: Path, name: str = "Tiny 1B Instruct", *, layers: int = 2, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {**llama_values(layers=layers, **more), "general.name": name}
    return write(path, values, llama_tensors(layers=layers, kind=Q8_0))


def split(folder: Path, stem: str) -> list[Path]:
    """A model in two parts, as llama.cpp's splitter names and marks them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = llama_tensors(kind=Q8_0)
    halves = (tensors[:3], tensors[3:])
    paths = []
    for number, half in enumerate(halves):
        marks = {"split.no": number, "split.count": 2, "split.tensors.count": len(tensors)}
        values = {**llama_values(), **marks} if number == 0 else {"general.architecture": "llama", **marks}
        paths.append(write(folder / f"{stem}-{number + 1:05d}-of-00002.gguf", values, half))
    return paths


def cached(root: Path, repo: str, file: str, *, name: str = "Tiny 1B Instruct") -> Path:
    """A file as the Hugging Face cache keeps it: content by digest, and a link with its name."""
    repository = root / f"models--{repo.replace('/', '--')}"
    content = gguf(repository / "blobs" / "content", name)
    blob = content.rename(content.with_name(hashlib.sha256(content.read_bytes()).hexdigest()))
    link = repository / "snapshots" / COMMIT / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def found(home: Path, *folders: Path, progress: Notes | None = None, platform: str = "linux", **environ: str) -> Any:
    return find_local(folders, environ=environ, home=home, platform=platform, progress=progress)


def described(files: tuple[LocalFile, ...]) -> list[tuple[str, str, str]]:
    return [(file.path.name, file.origin, file.name_hint) for file in files]


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


# -- where programs keep their models --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, "home/.cache/llama.cpp"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/llama.cpp"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/llama.cpp"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/llama.cpp"),
        ("linux", {"LLAMA_CACHE": "mine"}, "mine"),
        ("win32", {"LLAMA_CACHE": "mine", "LOCALAPPDATA": "local"}, "mine"),
    ],
)
def test_the_cache_of_llama_cpp(platform: str, environ: dict[str, str], expected: str) -> None:
    assert llama_cpp_cache(environ, Path("home"), platform) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface/hub"),
        ({"HF_HOME": "hf", "XDG_CACHE_HOME": "xdg"}, "hf/hub"),
        ({"HF_HOME": "~/hf"}, "home/hf/hub"),
        ({"HF_HOME": "$SCRATCH/hf", "SCRATCH": "big"}, "big/hf/hub"),
        ({"HF_HUB_CACHE": "hub", "HF_HOME": "hf"}, "hub"),
        ({"HUGGINGFACE_HUB_CACHE": "old", "HF_HOME": "hf"}, "old"),
    ],
)
def test_the_hugging_face_cache(environ: dict[str, str], expected: str) -> None:
    assert hub_cache(environ, Path("home")) == Path(expected)


@pytest.mark.parametrize("environ", [{}, {"XDG_CACHE_HOME": "xdg"}, {"HF_HOME": "~/$PART/hf", "PART": "big"}])
def test_the_hugging_face_cache_is_where_its_own_library_puts_it(tmp_path: Path, environ: dict[str, str]) -> None:
    given = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), **environ}
    ours = hub_cache(given, tmp_path)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT")}
    show = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", show], env={**kept, **given}, capture_output=True, check=True)
    assert ours == Path(theirs.stdout.decode().strip())


def test_the_folders_of_ollama() -> None:
    home = Path("home")
    assert ollama_folders({}, home, "darwin") == (home / ".ollama/models",)
    assert Path("/usr/share/ollama/.ollama/models") in ollama_folders({}, home, "linux")
    assert ollama_folders({"OLLAMA_MODELS": "mine"}, home, "linux") == (Path("mine"),)


def test_lm_studio_is_searched_where_its_settings_say(tmp_path: Path) -> None:
    (tmp_path / ".lmstudio").mkdir()
    settings = tmp_path / ".lmstudio" / "settings.json"
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "big disk")}), encoding="utf-8")
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'moved'}\n", encoding="utf-8")
    folders = lm_studio_folders(tmp_path)
    assert tmp_path / "big disk" in folders
    assert tmp_path / "moved" / "models" in folders
    settings.write_text("not JSON", encoding="utf-8")
    assert tmp_path / ".lmstudio" / "models" in lm_studio_folders(tmp_path)


# -- finding files ---------------------------------------------------------------------------------------------------


def test_an_empty_machine_has_no_models_and_nothing_to_say(tmp_path: Path) -> None:
    notes = Notes()
    assert found(tmp_path, progress=notes) == ()
    assert notes.notes == []


def test_files_of_older_llama_cpp(tmp_path: Path) -> None:
    cache = tmp_path / ".cache" / "llama.cpp"
    gguf(cache / "ggml-org_tiny_tiny-q8_0.gguf")
    (cache / "ggml-org_tiny_tiny-q8_0.gguf.json").write_text("{}", encoding="utf-8")
    (cache / "manifest=ggml-org=tiny=latest.json").write_text("{}", encoding="utf-8")
    name = "ggml-org_tiny_tiny-q8_0"
    assert described(found(tmp_path)) == [(f"{name}.gguf", "llama.cpp", name)]


@needs_links
def test_files_of_newer_llama_cpp_in_a_cache_of_its_own(tmp_path: Path) -> None:
    cached(tmp_path / "mine", "ggml-org/tiny-GGUF", "tiny-q8_0.gguf")
    assert described(found(tmp_path, LLAMA_CACHE=str(tmp_path / "mine"))) == [
        ("tiny-q8_0.gguf", "llama.cpp", "ggml-org/tiny-GGUF")
    ]


@needs_links
def test_files_in_the_hugging_face_cache(tmp_path: Path) -> None:
    hub = tmp_path / ".cache" / "huggingface" / "hub"
    cached(hub, "Tiny/Tiny-1B-GGUF", "Q8_0/tiny-1b-Q8_0.gguf")
    (hub / "models--Tiny--Tiny-1B-GGUF" / "snapshots" / COMMIT / "config.json").write_text("{}", encoding="utf-8")
    (hub / "datasets--some--data" / "snapshots" / COMMIT).mkdir(parents=True)
    gguf(hub / "datasets--some--data" / "snapshots" / COMMIT / "not-a-model.gguf")
    assert described(found(tmp_path)) == [("tiny-1b-Q8_0.gguf", "Hugging Face", "Tiny/Tiny-1B-GGUF")]


@needs_links
def test_two_revisions_with_the_same_content_are_one_file(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    link = cached(hub, "Tiny/Tiny-1B-GGUF", "tiny.gguf")
    newer = link.parent.with_name("f" * 40)
    newer.mkdir()
    (newer / "tiny.gguf").symlink_to(link.resolve())
    assert len(found(tmp_path, HF_HUB_CACHE=str(hub))) == 1


@pytest.mark.parametrize("folder", [".lmstudio/models", ".cache/lm-studio/models"])
def test_files_of_lm_studio(tmp_path: Path, folder: str) -> None:
    gguf(tmp_path / folder / "bartowski" / "Tiny-1B-GGUF" / "Tiny-1B-Q8_0.gguf")
    assert described(found(tmp_path)) == [("Tiny-1B-Q8_0.gguf", "LM Studio", "bartowski/Tiny-1B-GGUF")]


def ollama(root: Path, tag: str = "1b") -> Path:
    """A model as Ollama keeps it. Returns the file with the weights."""
    content = gguf(root / "blobs" / "content")
    digest = hashlib.sha256(content.read_bytes()).hexdigest()
    blob = content.rename(content.with_name(f"sha256-{digest}"))
    manifest = root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": 1},
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'a' * 64}", "size": 1},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}), encoding="utf-8")
    return blob


def test_files_of_ollama(tmp_path: Path) -> None:
    blob = ollama(tmp_path / ".ollama" / "models")
    files = found(tmp_path)
    assert described(files) == [(blob.name, "Ollama", "tiny:1b")]
    (local,) = match_local(files, [entry()])
    assert (local.quant, local.entry) == ("Q8_0", entry())


def test_a_folder_of_ollama_that_was_asked_for(tmp_path: Path) -> None:
    blob = ollama(tmp_path / "backup")
    assert described(found(tmp_path, tmp_path / "backup")) == [(blob.name, "Ollama", "tiny:1b")]


@pytest.mark.parametrize("text", ["", "not JSON", "[]", '{"layers": 3}', '{"layers": [{"digest": 1}, 2]}'])
def test_a_broken_manifest_is_passed_over(tmp_path: Path, text: str) -> None:
    models = tmp_path / ".ollama" / "models"
    blob = ollama(models)
    (models / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "broken").write_text(text, encoding="utf-8")
    assert [file.path for file in found(tmp_path)] == [blob]


def test_a_manifest_cannot_point_outside(tmp_path: Path) -> None:
    models = tmp_path / ".ollama" / "models"
    blob = ollama(models)
    gguf(tmp_path / "secret")
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "../../../secret"}
    (models / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "evil").write_text(
        json.dumps({"layers": [layer]}), encoding="utf-8"
    )
    assert [file.path for file in found(tmp_path)] == [blob]


def test_folders_that_were_asked_for_come_first(tmp_path: Path) -> None:
    gguf(tmp_path / "models" / "tiny.gguf")
    gguf(tmp_path / "models" / "deeper" / "small.gguf", layers=1)
    assert described(found(tmp_path, tmp_path / "models")) == [
        ("tiny.gguf", "folder", "tiny"),
        ("small.gguf", "folder", "deeper"),
    ]


def test_files_in_the_models_folder_at_home(tmp_path: Path) -> None:
    gguf(tmp_path / "models" / "tiny.gguf")
    assert described(found(tmp_path)) == [("tiny.gguf", "folder", "tiny")]


def test_the_folders_that_are_searched_are_named_each_once(tmp_path: Path) -> None:
    home = tmp_path / "models"
    searched = searched_folders([home], environ={"OLLAMA_MODELS": "o"}, home=tmp_path, platform="linux")
    assert searched[:2] == (home, hub_cache({}, tmp_path))
    assert searched[-1] == Path("o")


def test_a_folder_that_was_asked_for_and_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no folder") as caught:
        found(tmp_path, tmp_path / "typo")
    assert "--models-dir" in caught.value.fix


def test_a_split_model_is_found_once_and_image_encoders_are_not(tmp_path: Path) -> None:
    split(tmp_path / "models", "tiny-Q8_0")
    gguf(tmp_path / "models" / "mmproj-tiny-f16.gguf")
    gguf(tmp_path / "models" / "tiny-mmproj.gguf")
    files = found(tmp_path, tmp_path / "models")
    assert described(files) == [("tiny-Q8_0-00001-of-00002.gguf", "folder", "tiny-Q8_0-00001-of-00002")]
    (local,) = match_local(files, [entry()])
    assert len(local.model.paths) == 2


def test_a_split_model_without_its_first_part_is_noted(tmp_path: Path) -> None:
    first, second = split(tmp_path / "models", "tiny-Q8_0")
    first.unlink()
    notes = Notes()
    assert match_local(found(tmp_path, tmp_path / "models"), [entry()], progress=notes) == ()
    (note,) = notes.notes
    assert first.name in note
    assert str(second) in note


@needs_links
def test_a_loop_of_links_ends_and_a_linked_folder_is_searched(tmp_path: Path) -> None:
    gguf(tmp_path / "elsewhere" / "tiny.gguf")
    models = tmp_path / "models"
    models.mkdir()
    (models / "linked").symlink_to(tmp_path / "elsewhere")
    (models / "again").symlink_to(tmp_path / "elsewhere" / "tiny.gguf")
    (tmp_path / "elsewhere" / "loop").symlink_to(models)
    (models / "itself.gguf").symlink_to(models / "itself.gguf")
    notes = Notes()
    (local,) = match_local(found(tmp_path, models), [entry()], progress=notes)
    assert Path(local.model.path).name == "tiny.gguf"
    (note,) = notes.notes
    assert "itself.gguf" in note


def test_a_folder_that_cannot_be_listed_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf(tmp_path / "models" / "open.gguf")
    (tmp_path / "models" / "closed").mkdir()
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    notes = Notes()
    assert len(found(tmp_path, tmp_path / "models", progress=notes)) == 1
    (note,) = notes.notes
    assert "closed" in note
    assert "Permission denied" in note


# -- what they are ---------------------------------------------------------------------------------------------------


def test_a_misleading_file_name_does_not_matter(tmp_path: Path) -> None:
    gguf(tmp_path / "models" / "Big-70B-Q2_K.gguf", "Tiny 1B Instruct")
    big = entry("Big-70B", embedding_length=128)
    (local,) = match_local(found(tmp_path, tmp_path / "models"), [big, entry()])
    assert local.entry == entry()
    assert local.quant == "Q8_0"
    assert not local.tuned


def test_a_file_that_is_no_model_is_left_out_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "page.gguf").write_text("<html>", encoding="utf-8")
    gguf(tmp_path / "models" / "tiny.gguf")
    notes = Notes()
    assert len(match_local(found(tmp_path, tmp_path / "models"), [entry()], progress=notes)) == 1
    (note,) = notes.notes
    assert "page.gguf" in note
    assert "not a GGUF file" in note


SAME_SHAPE = (
    entry("Qwen2.5-7B-Instruct", "Qwen"),
    entry("Qwen2.5-Coder-7B-Instruct", "Qwen"),
    entry("DeepSeek-R1-Distill-Qwen-7B", "deepseek-ai"),
    entry("Qwen2.5-7B", "Qwen"),
)


@pytest.mark.parametrize(
    ("header_name", "expected", "tuned"),
    [
        ("Qwen2.5 7B Instruct", "Qwen2.5-7B-Instruct", False),
        ("Qwen2.5 7B Instruct GGUF", "Qwen2.5-7B-Instruct", False),
        ("Qwen2.5 Coder 7B Instruct", "Qwen2.5-Coder-7B-Instruct", False),
        ("qwen2.5-coder-7b-instruct-q8_0", "Qwen2.5-Coder-7B-Instruct", False),
        ("DeepSeek R1 Distill Qwen 7B", "DeepSeek-R1-Distill-Qwen-7B", False),
        ("Qwen2.5 7B", "Qwen2.5-7B", False),
        ("Dolphin 3.0 Qwen2.5 7B", "Qwen2.5-7B", True),
    ],
)
def test_entries_of_the_same_shape_are_told_apart_by_the_name_in_the_header(
    tmp_path: Path, header_name: str, expected: str, tuned: bool
) -> None:
    gguf(tmp_path / "models" / "some.gguf", header_name)
    (local,) = match_local(found(tmp_path, tmp_path / "models"), SAME_SHAPE)
    assert local.entry is not None
    assert (local.entry.name, local.tuned) == (expected, tuned)


def test_the_file_name_helps_where_the_header_says_nothing(tmp_path: Path) -> None:
    model = read_model(gguf(tmp_path / "x.gguf", "checkpoint"))
    matched = match_entry(model, SAME_SHAPE, name_hint="qwen2.5-coder-7b-instruct-q8_0")
    assert matched == SAME_SHAPE[1]


@pytest.mark.parametrize(
    "shape",
    [
        {"architecture": "qwen2"},
        {"layers": 3},
        {"embedding_length": 128},
        {"heads": 8},
        {"kv_heads": 4},
        {"vocabulary_size": 33},
        {"feed_forward_length": 256},
        {"experts": 8, "expert_feed_forward_length": 128},
    ],
)
def test_another_shape_is_another_model(tmp_path: Path, shape: dict[str, Any]) -> None:
    model = read_model(gguf(tmp_path / "x.gguf", "Tiny 1B Instruct"))
    assert match_entry(model, [entry("Other-1B", **shape)]) is None


def test_a_wrong_catalogue_fact_is_reported(tmp_path: Path) -> None:
    model = read_model(gguf(tmp_path / "x.gguf", "Tiny 1B Instruct", layers=29))
    wrong = entry(layers=28, context_length=4096)
    assert match_entry(model, [wrong]) == wrong
    assert contradictions(wrong, model) == [
        "the catalogue says 28 layers for Tiny-1B-Instruct, the file 29",
        "the catalogue says 4096 as the context length for Tiny-1B-Instruct, the file 2048",
    ]
    assert contradictions(entry(layers=29), model) == []


def padded(path: Path, size: int) -> Any:
    values = {**llama_values(vocabulary=tokens(size)), "general.name": "Tiny 1B Instruct"}
    return read_model(write(path, values, llama_tensors(vocabulary=size, kind=Q8_0)))


@pytest.mark.parametrize(
    ("catalogue", "file", "words"), [(2000, 2064, "64 padding tokens more"), (2064, 2000, "64 padding tokens fewer")]
)
def test_a_vocabulary_padded_by_its_converter_is_no_contradiction(
    tmp_path: Path, catalogue: int, file: int, words: str
) -> None:
    model, known = padded(tmp_path / "x.gguf", file), entry("Other-1B", vocabulary_size=catalogue)
    assert match_entry(model, [known]) == known
    assert contradictions(known, model) == []
    (remark,) = remarks(known, model)
    assert words in remark


def test_the_same_vocabulary_comes_before_a_padded_one(tmp_path: Path) -> None:
    model = padded(tmp_path / "x.gguf", 2064)
    exact = entry("Other-1B", vocabulary_size=2064)
    assert match_entry(model, [entry(vocabulary_size=2000), exact]) == exact
    assert remarks(exact, model) == []


def test_more_tokens_than_padding_are_another_vocabulary(tmp_path: Path) -> None:
    model, known = padded(tmp_path / "x.gguf", 2129), entry("Other-1B", vocabulary_size=2000)
    assert match_entry(model, [known]) is None
    assert remarks(known, model) == []


def test_a_cut_model_is_not_the_entry_with_a_wrong_fact(tmp_path: Path) -> None:
    model = read_model(gguf(tmp_path / "x.gguf", "Tiny 1B Instruct pruned 1L", layers=1))
    assert match_entry(model, [entry()]) is None


def test_prediction_layers_do_not_count(tmp_path: Path) -> None:
    values = {**llama_values(layers=3, nextn_predict_layers=1), "general.name": "Tiny 1B Instruct"}
    model = read_model(write(tmp_path / "x.gguf", values, llama_tensors(layers=3)))
    assert match_entry(model, [entry(layers=2, nextn_layers=1)]) is not None
    assert contradictions(entry(layers=2, nextn_layers=1), model) == []


def test_prediction_layers_in_a_file_of_their_own_are_not_the_model(tmp_path: Path) -> None:
    values = {**llama_values(layers=3, nextn_predict_layers=1), "general.name": "Tiny 1B Instruct"}
    last = [tensor for tensor in llama_tensors(layers=3) if not tensor.name.startswith(("blk.0.", "blk.1."))]
    model = read_model(write(tmp_path / "x.gguf", values, last))
    assert match_entry(model, [entry(layers=2, nextn_layers=1)]) is None


def test_a_tied_output_matrix_is_compared(tmp_path: Path) -> None:
    model = read_model(gguf(tmp_path / "x.gguf"))
    (sentence,) = contradictions(entry(tied_embeddings=False), model)
    assert "shares the token embedding" in sentence


def test_the_real_model_is_its_entry(smollm2: Path, tmp_path: Path) -> None:
    real = Shape(
        architecture="llama",
        layers=30,
        embedding_length=576,
        feed_forward_length=1536,
        heads=9,
        kv_heads=3,
        head_length=64,
        vocabulary_size=49152,
        context_length=8192,
        tied_embeddings=True,
    )
    smollm = dataclasses.replace(entry("SmolLM2-135M-Instruct", "HuggingFaceTB"), shape=real)
    (local,) = match_local([LocalFile(smollm2, "folder", "x")], [entry(), smollm])
    assert local.entry == smollm
    assert contradictions(smollm, local.model) == []


def test_a_large_vocabulary_is_read_without_delay(tmp_path: Path) -> None:
    """A vocabulary of 150k tokens: the header is walked, not decoded."""
    path = tmp_path / "x.gguf"
    write(path, llama_values(vocabulary=tokens(150_000)), llama_tensors(vocabulary=150_000))
    file = LocalFile(path, "folder", "x")
    match_local([file], [])
    started = time.process_time()
    match_local([file], [])
    assert time.process_time() - started < 0.2
