"""The examples of the how-to pages do what the pages say."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import advisor
from advisor.errors import OptionError
from advisor.testing.saved import SAVED, deployed
from scripts.reference import DOCS


def example(page: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", (DOCS / "how-to" / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return found[0]


def test_the_family_can_be_asked_for(data_directory: Path) -> None:
    folder = data_directory / "models_catalog"
    folder.mkdir(parents=True)
    (folder / "my-olmo.yaml").write_text(example("add-a-family.md", "yaml"), encoding="utf-8")
    rec = advisor.recommend(target="my-olmo-7b-q4_k_m", host="m4-max-128gb")
    assert (rec.target.name, rec.target.quant) == ("My-OLMo-7B", "Q4_K_M")


@pytest.fixture
def exporter() -> ModuleType:
    module = ModuleType("my_server")
    exec(example("add-an-exporter.md", "python"), module.__dict__)
    return module


def test_the_exporter_writes_a_draft_and_a_no(exporter: ModuleType) -> None:
    assert "--draft-tokens 4" in exporter.text(deployed(SAVED["draft"]()))
    alone = exporter.text(deployed(SAVED["none"]()))
    assert "Do not speculate" in alone
    assert "--draft" not in alone


@pytest.mark.parametrize("kind", ["ngram", "repack"])
def test_the_exporter_refuses_what_its_program_has_no_words_for(exporter: ModuleType, kind: str) -> None:
    with pytest.raises(OptionError, match="my-server cannot express"):
        exporter.text(deployed(SAVED[kind]()))
