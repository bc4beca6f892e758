"""The shipped facts hang together, and a wrong file is named with line and field."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.catalog.load import Catalog, load, load_folders, published_size, shipped_folder
from advisor.catalog.records import Entry, Repository
from advisor.errors import FileProblem

FAMILIES_ASKED_FOR = {
    *("Qwen2.5", "Qwen2.5-Coder", "Qwen3", "Qwen3-Coder", "Qwen3.5", "Qwen3.6", "Llama 3", "Llama 3.1", "Llama 3.2"),
    *("Llama 3.3", "Gemma 3", "SmolLM2", "SmolLM3", "Mistral", "DeepSeek-R1 distillations", "gpt-oss", "Phi-4"),
    *("Granite 3", "OLMo 2"),
}

FAMILY = """\
name: Tiny
models:
  - id: tiny-1b
    name: Tiny-1B
    hf_repo: maker/Tiny-1B
    licence: mit
    parameters: 1000
    tokenizer: tiny
    shape:
      architecture: llama
      layers: 2
      embedding_length: 64
      feed_forward_length: 128
      heads: 4
      kv_heads: 2
      head_length: 16
      vocabulary_size: 100
      context_length: 512
      tied_embeddings: true
    source: the maker's page
    repositories:
      - repo: maker/Tiny-1B-GGUF
        file: "tiny-{quant}.gguf"
        sizes: {Q8_0: 1.5 MiB}
"""
TOKENIZERS = """\
groups:
  - {id: tiny, model: gpt2, pre: qwen2, add_bos: false, add_eos: false, tokens: tiny, source: the maker's page}
"""
HOSTS = """\
hosts:
  - id: box
    name: Box
    backend: cuda
    memory_gib: [8, 16]
    bandwidth_gb_per_s: 100
    unified: false
    source: the maker's page
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models_catalog"
    folder.mkdir()
    write(folder, "tiny.yaml", FAMILY)
    write(folder, "tokenizers.yaml", TOKENIZERS)
    write(folder, "hosts.yaml", HOSTS)
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def files_of(catalog: Catalog) -> list[tuple[Entry, Repository, str, str]]:
    return [
        (entry, repository, quant, size)
        for entry in catalog.entries.values()
        for repository in entry.repositories
        for quant, size in repository.sizes.items()
    ]


# -- what is shipped -------------------------------------------------------------------------------------------------


def test_every_family_that_was_asked_for_is_there(catalog: Catalog) -> None:
    assert FAMILIES_ASKED_FOR - {family.name for family in catalog.families} == set()
    assert all(family.models for family in catalog.families)


def test_there_are_at_least_thirty_kinds_of_machines(catalog: Catalog) -> None:
    assert len({host.id for host in catalog.hosts}) >= 30
    assert {host.backend for host in catalog.hosts} == {"metal", "cuda", "rocm", "vulkan", "cpu"}


def test_nearly_two_thousand_published_sizes_can_be_checked(catalog: Catalog) -> None:
    assert len(files_of(catalog)) >= 1950


def test_every_vocabulary_that_is_described_is_used(catalog: Catalog) -> None:
    assert {entry.tokenizer for entry in catalog.entries.values()} == set(catalog.tokenizers)


def test_every_fact_names_its_source(catalog: Catalog) -> None:
    sourced = [*catalog.entries.values(), *catalog.tokenizers.values(), *catalog.hosts]
    assert [one.id for one in sourced if not one.source.strip()] == []
    assert [repository.repo for _, repository, _, _ in files_of(catalog) if not repository.source] == []


def test_sixteen_bit_files_are_as_large_as_their_weights(catalog: Catalog) -> None:
    """Two bytes a weight, up to rounding and 3 % (vocabulary, norms in 32 bits): the shapes and the sizes agree."""
    wrong = []
    for entry, repository, quant, text in files_of(catalog):
        if quant not in ("F16", "BF16") or entry.id.startswith("gpt-oss"):
            continue
        size, shape = published_size(text), entry.shape
        weights = entry.parameters + (shape.vocabulary_size * shape.embedding_length if repository.untied else 0)
        if abs(size.bytes - 2 * weights) > 0.03 * size.bytes + size.rounding_bytes:
            wrong.append((entry.id, repository.repo, text, weights))
    assert wrong == []


def test_a_model_was_tuned_from_one_of_the_catalogue_or_from_a_named_one(catalog: Catalog) -> None:
    bases = {entry.base for entry in catalog.entries.values() if entry.base}
    assert {base for base in bases if base not in catalog.entries} == {"Qwen2.5-Math-1.5B", "Qwen2.5-Math-7B"}


def test_no_field_is_written_twice() -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in shipped_folder().glob("*.yaml"):
        _assert_no_key_twice(yaml.compose(path.read_text(encoding="utf-8"), Loader=loader), path)


def _assert_no_key_twice(node: yaml.Node, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), (path, node.start_mark.line + 1)
    for child in node.value if isinstance(node.value, list) else ():
        for one in child if isinstance(child, tuple) else (child,):
            _assert_no_key_twice(one, path)


def test_reading_the_catalogue_twice_gives_the_same_one() -> None:
    assert load() is load()


def test_reading_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys; from advisor.catalog.load import load; load();"
        "print(sorted({'pydantic', 'sklearn', 'optuna', 'llama_cpp', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# -- published sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size", "rounding"),
    [
        ("4683073632 B", 4683073632, 0),
        ("4.68 GB", 4.68e9, 5e6),
        ("812 MB", 812e6, 5e5),
        ("1.5 MiB", 1.5 * 2**20, 0.05 * 2**20),
        ("8 GiB", 8 * 2**30, 0.05 * 2**30),
    ],
)
def test_a_published_size_in_bytes(text: str, size: float, rounding: float) -> None:
    published = published_size(text)
    assert published.bytes == pytest.approx(size)
    assert published.rounding_bytes == pytest.approx(rounding)


@pytest.mark.parametrize("text", ["4.7", "4.7 Gib", "4,7 GiB", "-1 B", "4.7GiB", ""])
def test_another_form_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it carries the text and nothing else
        published_size(text)


# -- a user's own folder ---------------------------------------------------------------------------------------------


def test_a_small_catalogue_loads(folder: Path) -> None:
    catalog = load_folders([folder])
    assert list(catalog.entries) == ["tiny-1b"]
    assert catalog.entries["tiny-1b"].repositories[0].sizes == {"Q8_0": "1.5 MiB"}
    assert catalog.family_of["tiny-1b"] == "Tiny"
    assert catalog.hosts[0].memory_gib == (8, 16)


def test_a_users_folder_adds_models_with_their_vocabulary(folder: Path) -> None:
    (folder / "hosts.yaml").unlink()
    catalog = load(folder)
    assert catalog.entries["tiny-1b"].tokenizer == "tiny"
    assert len(catalog.entries) == len(load().entries) + 1


def test_a_users_folder_that_does_not_exist_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "nothing") is load()


def test_a_user_cannot_replace_a_shipped_model(folder: Path) -> None:
    write(folder, "tiny.yaml", FAMILY.replace("tiny-1b", "qwen2.5-7b"))
    catalog = load(folder)
    (problem,) = catalog.left_out
    assert f"{folder / 'tiny.yaml'}, line 3: models.0.id: qwen2.5-7b is taken in" in problem.what
    assert "qwen2.5.yaml" in problem.what
    assert catalog.entries["qwen2.5-7b"] == load().entries["qwen2.5-7b"]


@pytest.mark.parametrize("text", ["name: [", "families: 7\n", FAMILY.replace("tokenizer: tiny", "tokenizer: walnut")])
def test_a_wrong_file_of_a_users_own_is_left_out_and_the_rest_is_there(folder: Path, text: str) -> None:
    write(folder, "broken.yaml", text.replace("tiny-1b", "other-1b"))
    catalog = load(folder)
    assert str(folder / "broken.yaml") in catalog.left_out[0].what
    assert "line " in catalog.left_out[0].what
    assert "tiny-1b" in catalog.entries
    assert "other-1b" not in catalog.entries
    assert catalog.hosts[-1].id == "box"


def test_families_whose_vocabulary_is_left_out_are_too(folder: Path) -> None:
    write(folder, "tokenizers.yaml", "groups: 7\n")
    assert [Path(one.what.split(",")[0]).name for one in load(folder).left_out] == ["tokenizers.yaml", "tiny.yaml"]


def test_all_models_of_a_file_that_name_a_missing_vocabulary_are_told(folder: Path) -> None:
    text = FAMILY.replace("tokenizer: tiny", "tokenizer: walnut")
    write(folder, "tiny.yaml", text + text.partition("models:\n")[2].replace("tiny-1b", "tiny-2b"))
    with pytest.raises(FileProblem, match=r"no group walnut \(tiny-1b, tiny-2b name it\)"):
        load_folders([folder])


# -- wrong files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("layers: 2", "layers: two", 11, "models.0.shape.layers: a whole number expected, not 'two'"),
        ("layers: 2", "layers: true", 11, "models.0.shape.layers: a whole number expected, not True"),
        ("layers: 2", "layer: 2", 11, "models.0.shape.layer: there is no such field; did you mean layers?"),
        ("      layers: 2\n", "", 9, "models.0.shape.layers: this field is missing"),
        ("layers: 2", "layers: 0", 11, "models.0.shape.layers: must be more than 0"),
        ("tied_embeddings: true", 'tied_embeddings: "yes"', 19, "tied_embeddings: true or false expected, not 'yes'"),
        ("kv_heads: 2", "kv_heads: 3", 15, "models.0.shape.kv_heads: 4 heads cannot share 3 KV heads"),
        ("head_length: 16", "head_length: 4096", 16, "models.0.shape.head_length: 4 heads of 4096 do not go with"),
        ("licence: mit", "licence:", 6, "models.0.licence: text expected, not nothing"),
        ("tokenizer: tiny", "tokenizer: tyny", 8, "tokenizers.yaml has no group tyny; did you mean tiny?"),
        ("tiny-{quant}.gguf", "tiny.gguf", 23, "models.0.repositories.0.file: the pattern needs {quant} once"),
        ("1.5 MiB", "1.5 MB!", 24, 'repositories.0.sizes.Q8_0: "1.5 MB!" is not a size'),
        ("1.5 MiB", "1500000", 24, "models.0.repositories.0.sizes.Q8_0: text expected, not 1500000"),
        ("{Q8_0: 1.5 MiB}", "[Q8_0]", 24, "models.0.repositories.0.sizes: names with values expected"),
        (
            "{Q8_0: 1.5 MiB}",
            "{Q8_0: 1.5 MiB}\n        parts: {Q6_K: 2}",
            25,
            "parts.Q6_K: neither sizes nor quants",
        ),
        ("{Q8_0: 1.5 MiB}", "{Q8_0: 1.5 MiB}\n        own_mix: [Q6_K]", 25, "own_mix.0: sizes does not have Q6_K"),
        ("maker/Tiny-1B-GGUF", "Tiny-1B-GGUF", 22, "repositories.0.repo: a repository is named owner/name"),
        ("id: tiny-1b", "id: Tiny-1b", 3, "models.0.id: Tiny-1b must be in lower case"),
        ("name: Tiny\n", "", 1, "name: this field is missing"),
        ("models:", "modles:", 2, "modles: there is no such field; did you mean models?"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(folder: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in FAMILY
    write(folder, "tiny.yaml", FAMILY.replace(old, new, 1))
    with pytest.raises(FileProblem) as caught:
        load_folders([folder])
    assert f"{folder / 'tiny.yaml'}, line {line}: " in caught.value.what
    assert said in caught.value.what


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "hosts.yaml",
            "backend: cuda",
            "backend: gpu",
            "line 4: hosts.0.backend: one of metal, cuda, rocm,",
        ),
        ("hosts.yaml", "[8, 16]", "[8, 8]", "line 5: hosts.0.memory_gib: box with 8 GiB is there twice"),
        ("hosts.yaml", "[8, 16]", "[]", "line 5: hosts.0.memory_gib: a host needs a memory size and a bandwidth"),
        ("hosts.yaml", "[8, 16]", "8", "line 5: hosts.0.memory_gib: a list expected, not 8"),
        ("tokenizers.yaml", "add_bos: false", "add_bos: 0", "line 2: groups.0.add_bos: true or false expected, not 0"),
    ],
)
def test_hosts_and_vocabularies_are_checked_too(folder: Path, file: str, old: str, new: str, said: str) -> None:
    text = HOSTS if file == "hosts.yaml" else TOKENIZERS
    write(folder, file, text.replace(old, new, 1))
    with pytest.raises(FileProblem) as caught:
        load_folders([folder])
    assert said in caught.value.what


def test_two_models_cannot_share_a_name(folder: Path) -> None:
    write(folder, "twin.yaml", FAMILY.replace("id: tiny-1b", "id: twin\n    aliases: [other, tiny-1b]"))
    with pytest.raises(FileProblem) as caught:
        load_folders([folder])
    assert "twin.yaml, line 4: models.0.aliases.1: tiny-1b is taken in" in caught.value.what


@pytest.mark.parametrize(
    ("text", "line"),
    [("name: Tiny\nmodels: [\n", 3), ("name: Tiny\n\tmodels: []\n", 2), ("name: 'Tiny\n", 2)],
)
def test_what_is_not_yaml_is_said_with_the_line(folder: Path, text: str, line: int) -> None:
    write(folder, "tiny.yaml", text)
    with pytest.raises(FileProblem) as caught:
        load_folders([folder])
    assert caught.value.what == f"{folder / 'tiny.yaml'}, line {line}: this is not YAML."
    assert caught.value.why


@pytest.mark.parametrize("text", ["", "[]", "just words", "null"])
def test_yaml_of_another_form_is_refused(folder: Path, text: str) -> None:
    write(folder, "tiny.yaml", text)
    with pytest.raises(FileProblem, match=r"tiny\.yaml, line 1: the file: fields such as name expected"):
        load_folders([folder])


def test_a_file_that_is_not_utf_8_is_refused(folder: Path) -> None:
    (folder / "tiny.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(FileProblem, match=r"tiny\.yaml is not UTF-8 text"):
        load_folders([folder])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(FAMILY)), inserted=st.text(max_size=6), dropped=st.integers(0, 12))
def test_a_family_file_with_anything_in_it_is_read_or_named(
    tmp_path: Path, at: int, inserted: str, dropped: int
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(FAMILY[:at] + inserted + FAMILY[at + dropped :], encoding="utf-8")
    said = ""
    try:
        assert load_folders([tmp_path]).families
    except FileProblem as error:
        said = str(error)
    assert not said or "tiny.yaml" in said


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_PLAIN)
def test_a_family_file_of_any_shape_is_read_or_named(tmp_path: Path, content: object) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == content
    with pytest.raises(FileProblem, match=r"tiny\.yaml"):
        load_folders([tmp_path])
