"""The examples of the how-to pages do what the pages say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import advisor
from advisor import exporters
from advisor.testing import families
from advisor.testing.exporters import ExporterConformance
from advisor.testing.saved import SAVED, deployed
from scripts.reference import DOCS


def example(page: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", (DOCS / "how-to" / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("page", "suite"),
    [
        ("add-a-family.md", "python -m advisor.testing.families my-qwen.yaml"),
        ("add-an-exporter.md", "advisor/testing/exporters.py"),
        ("add-an-engine.md", "advisor/testing/engines.py"),
        ("add-an-ngram-method.md", "advisor/testing/ngram.py"),
    ],
)
def test_a_page_on_adding_says_which_suite_to_run_and_how(page: str, suite: str) -> None:
    text = (DOCS / "how-to" / page).read_text(encoding="utf-8")
    assert suite in text
    told = re.findall(r"python -m pytest (tests/\S+)", text)
    assert told
    assert all((DOCS.parent / path).exists() for path in told)


def test_the_family_can_be_asked_for(data_directory: Path) -> None:
    folder = data_directory / "models_catalog"
    folder.mkdir(parents=True)
    (folder / "my-qwen.yaml").write_text(example("add-a-family.md", "yaml"), encoding="utf-8")
    rec = advisor.recommend(target="my-qwen-14b-q8", host="m4-max-128gb")
    assert (rec.target.name, rec.target.quant) == ("My-Qwen-14B", "Q8_0")
    assert rec.verdict == "speculate"
    assert len(rec.candidates) > 1


def test_the_family_is_as_the_suite_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "my-qwen.yaml"
    path.write_text(example("add-a-family.md", "yaml"), encoding="utf-8")
    assert families.problems(path) == []


class TestMyServer(ExporterConformance):
    name = "my-server"
    refuses = frozenset({"ngram", "repack"})

    @pytest.fixture(autouse=True)
    def added(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The example as the page tells to add it."""
        module = ModuleType("advisor.exporters.my_server")
        exec(example("add-an-exporter.md", "python"), module.__dict__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(exporters.EXPORTERS, self.name, "my_server")

    def test_it_writes_a_draft_and_a_no(self) -> None:
        text = exporters.exporter(self.name).text
        assert "--draft-tokens 4" in text(deployed(SAVED["draft"]()))
        alone = text(deployed(SAVED["none"]()))
        assert "Do not speculate" in alone
        assert "--draft" not in alone
