"""Every shipped family through what a new one has to pass, and mistakes that it must find."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.catalog.load import load, shipped_folder
from advisor.catalog.records import Repository
from advisor.testing.families import main, problems, size_problems

NO_FAMILY = ("hosts.yaml", "tokenizers.yaml")
FAMILIES = [path for path in sorted(shipped_folder().glob("*.yaml")) if path.name not in NO_FAMILY]


@pytest.mark.parametrize("path", FAMILIES, ids=lambda path: path.stem)
def test_a_shipped_family_is_as_it_should_be(path: Path) -> None:
    assert problems(path) == []


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """SmolLM2 under another name, as somebody's own family."""
    text = (shipped_folder() / "smollm2.yaml").read_text(encoding="utf-8")
    for old, new in (("smollm2-", "mylm-"), ("SmolLM2", "MyLM"), ("smollm2-135m", "mylm-135m")):
        text = text.replace(old, new)
    path = tmp_path / "own" / "mylm.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def test_a_family_of_ones_own_is_checked_beside_the_shipped_ones(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert problems(mine) == []
    assert main([str(mine)]) == 0
    assert "as it should be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("parameters: 134515008", "parameters: 234515008", "mylm-135m: parameters: 234515008"),
        ("layers: 30", "layers: 31", "the tensors of this shape have"),
        ("Q8_0: 138.1 MiB", "Q8_0: 38.1 MiB", "a larger quantization is smaller"),
        ("Q4_K_M: 100.6 MiB", "Q4_K_X: 100.6 MiB", "Q4_K_X is no quantization"),
        ("source: janhq/model-catalog\n", "source: ' '\n", "no source"),
        ("{Q8_0: 386404992 B}", "{}", "no quantization is named"),
        ("tokenizer: smollm2", "tokenizer: smollm9", "smollm9"),
        ("id: mylm-135m", "id: qwen2.5-7b", "qwen2.5-7b"),
        ("MyLM-135M-Instruct-{quant}.gguf", "MyLM-1.7B-Instruct-{quant}.gguf", "MyLM-1.7B-Instruct-"),
    ],
)
def test_a_mistake_is_found_and_told(
    mine: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = mine.read_text(encoding="utf-8")
    assert old in text
    mine.write_text(text.replace(old, new), encoding="utf-8")
    found = problems(mine)
    assert any(said in problem for problem in found), found
    assert main([str(mine)]) == 2
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "Q8_0: 138.1 MiB",
            "Q8_0: 151.1 MiB",
            "151.1 MiB published, but the tensors of its shape add up to 138.",
        ),
        ("Q8_0: 138.1 MiB", "Q8_0: 13.81 GB", "add up to 0.14 GB: 99% off, where 2% and the rounding are allowed"),
        ("{Q8_0: 386404992 B}", "{Q8_0: 486404992 B}", "add up to 3864"),
    ],
)
def test_a_single_size_that_is_of_another_shape_is_named_with_both_numbers(
    mine: Path, old: str, new: str, said: str
) -> None:
    text = mine.read_text(encoding="utf-8")
    assert old in text
    mine.write_text(text.replace(old, new, 1), encoding="utf-8")
    (problem,) = [one for one in problems(mine) if "published" in one]
    assert said in problem


@pytest.mark.parametrize(("size", "allowed"), [("450000000 B", True), ("550000000 B", False)])
def test_a_file_with_types_of_its_own_is_said_to_be_one(mine: Path, size: str, allowed: bool) -> None:
    text = mine.read_text(encoding="utf-8")
    own = f"{{Q8_0: {size}}}\n        own_mix: [Q8_0]"
    mine.write_text(text.replace("{Q8_0: 386404992 B}", own), encoding="utf-8")
    assert (problems(mine) == []) is allowed


def test_every_shipped_file_that_is_said_to_have_types_of_its_own_needs_it() -> None:
    catalog = load()
    needless = [
        f"{repository.repo} {quant}"
        for entry in catalog.entries.values()
        for repository in entry.repositories
        for quant in repository.own_mix
        if not list(size_problems(replace(entry, repositories=(only(repository, quant),)), catalog))
    ]
    assert needless == []


def only(repository: Repository, quant: str) -> Repository:
    """One file of a repository, as if it had the usual types."""
    return replace(repository, sizes={quant: repository.sizes[quant]}, own_mix=())


WALNUT = """groups:
  - {id: walnut, model: gpt2, pre: "", add_bos: false, add_eos: false, tokens: walnut, source: made for a test}
"""


@pytest.fixture
def walnut(mine: Path) -> Path:
    """A family with a vocabulary that is not shipped."""
    text = mine.read_text(encoding="utf-8")
    mine.write_text(text.replace("tokenizer: smollm2", "tokenizer: walnut"), encoding="utf-8")
    return mine


@pytest.mark.parametrize("place", ["beside the file", "in the user's folder"])
def test_a_vocabulary_of_ones_own_is_found(walnut: Path, data_directory: Path, place: str) -> None:
    folder = walnut.parent if place == "beside the file" else data_directory / "models_catalog"
    folder.mkdir(parents=True, exist_ok=True)
    assert "no group walnut" in problems(walnut)[0]
    (folder / "tokenizers.yaml").write_text(WALNUT, encoding="utf-8")
    assert problems(walnut) == []


def test_a_wrong_file_of_vocabularies_is_named_where_a_group_is_missing(walnut: Path) -> None:
    (walnut.parent / "tokenizers.yaml").write_text("groups: 7\n", encoding="utf-8")
    (problem,) = problems(walnut)
    assert problem.startswith(f"{walnut}, line ")
    assert f"Left out: {walnut.parent / 'tokenizers.yaml'}, line 1" in problem


def test_only_the_file_that_is_named_is_judged(mine: Path, data_directory: Path) -> None:
    (mine.parent / "neighbour.yaml").write_text("name: [", encoding="utf-8")
    assert problems(mine) == []
    own = data_directory / "models_catalog"
    shutil.copytree(mine.parent, own)
    assert problems(own / mine.name) == []
    assert problems(mine) == []
    assert str(own / "neighbour.yaml") in problems(own / "neighbour.yaml")[0]


def test_a_name_that_another_file_of_the_users_folder_has_is_told(mine: Path, data_directory: Path) -> None:
    own = data_directory / "models_catalog"
    shutil.copytree(mine.parent, own)
    shutil.copy(mine, own / "twin.yaml")
    assert f"is taken in {own / mine.name}" in problems(own / "twin.yaml")[0]


def test_without_a_file_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: python -m advisor.testing.families FILE" in capsys.readouterr().err


def test_what_is_no_family_is_told(tmp_path: Path) -> None:
    assert problems(tmp_path / "missing.yaml") == [f"{tmp_path / 'missing.yaml'} is no file."]
    hosts = tmp_path / "hosts.yaml"
    shutil.copy(shipped_folder() / "hosts.yaml", hosts)
    assert len(problems(hosts)) == 1
