"""The document keeps what was measured, section by section."""

from __future__ import annotations

import re
import sys

import pytest

from advisor.errors import EngineError
from benchmarks import __main__ as command
from benchmarks import document

ORDER = ("First", "Second", "Third")


def test_sections_stand_in_order_and_are_replaced_alone():
    text = document.with_section("", "Second", "## Second\n\nold\n", ORDER)
    text = document.with_section(text, "First", "## First\n\n- one\n", ORDER)
    text = document.with_section(text, "Second", "## Second\n\nnew\n\n### within\n", ORDER)
    assert text == (
        f"{document.HEAD}\nNot kept here yet: Third.\n\n## First\n\n- one\n\n## Second\n\nnew\n\n### within\n"
    )
    assert "Not kept" not in document.with_section(text, "Third", "## Third\n", ORDER)


def test_the_figures_of_every_run_are_kept_beside_the_last_one():
    def section(day: int, figure: str) -> str:
        return f"## First\n\n- {figure}\n- a remark\n\nMeasured 2026-01-0{day} 10:00 UTC at abc on CPU, 2 cores.\n"

    text = document.with_section("", "First", section(1, "faster: 19 (goal >= 20: **not met**)"), ORDER)
    text = document.with_section(text, "Second", "## Second\n\nno goal\n", ORDER)
    text = document.with_section(text, "First", section(2, "faster: 21 (goal >= 20: met)"), ORDER)
    assert text.count("## First") == 1
    assert text.endswith(
        f"## {document.RUNS}\n\n| measured | part | figures |\n|---|---|---|\n"
        "| 2026-01-01 10:00 UTC at abc | First | faster: 19 (goal >= 20: **not met**) |\n"
        "| 2026-01-02 10:00 UTC at abc | First | faster: 21 (goal >= 20: met) |\n"
    )


@pytest.fixture
def parts(monkeypatch, tmp_path):
    def works(_host, seed):
        yield f"seed {seed}"

    def fails(_host, _seed):
        yield "so far"
        raise EngineError("The engine process died.")

    monkeypatch.setattr(document, "PATH", tmp_path / "benchmarks.md")
    monkeypatch.setattr(command, "DOCUMENTED", {"bad": ("First", fails), "good": ("Second", works)})
    monkeypatch.setattr(command, "CHECKS", {"check": ("Third", works)})
    return tmp_path / "benchmarks.md"


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    return command.main()


def test_a_part_that_fails_leaves_the_others(monkeypatch, parts, capsys):
    assert run(monkeypatch, "--seed", "7") == 1
    assert "## Second\n\nseed 7\n\nMeasured " in parts.read_text()
    assert "## First" not in parts.read_text()
    assert "bad: The engine process died." in capsys.readouterr().err


def test_named_parts_are_kept_only_where_asked(monkeypatch, parts):
    assert run(monkeypatch, "check") == 0
    assert not parts.exists()
    assert run(monkeypatch, "check", "--keep") == 0
    assert "## Third" in parts.read_text()


def test_a_figure_is_marked_where_its_code_was_changed_and_not_for_the_document_it_was_kept_in(tmp_path, git):
    assert command.commit_of(tmp_path) == "unknown"
    (tmp_path / "docs").mkdir()
    for path in ("code.py", "docs/benchmarks.md"):
        (tmp_path / path).write_text("old\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = command.commit_of(tmp_path)
    assert re.fullmatch("[0-9a-f]{4,}", commit)
    (tmp_path / "docs" / "benchmarks.md").write_text("new\n")
    assert command.commit_of(tmp_path) == commit
    (tmp_path / "more.py").write_text("new\n")
    assert command.commit_of(tmp_path) == f"{commit}+"
    (tmp_path / "more.py").unlink()
    (tmp_path / "code.py").write_text("new\n")
    assert command.commit_of(tmp_path) == f"{commit}+"
