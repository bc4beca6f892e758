"""Every shipped family through what a new one has to pass, and mistakes that it must find."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from advisor.catalog.load import shipped_folder
from advisor.testing.families import main, problems

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


def test_sizes_that_are_of_another_shape_are_found(mine: Path) -> None:
    text = mine.read_text(encoding="utf-8")
    mine.write_text(text.replace(" MiB", " GiB"), encoding="utf-8")
    assert any("published sizes are not those of its shape" in problem for problem in problems(mine))


def test_what_is_no_family_is_told(tmp_path: Path) -> None:
    assert problems(tmp_path / "missing.yaml") == [f"{tmp_path / 'missing.yaml'} is no file."]
    hosts = tmp_path / "hosts.yaml"
    shutil.copy(shipped_folder() / "hosts.yaml", hosts)
    assert len(problems(hosts)) == 1
