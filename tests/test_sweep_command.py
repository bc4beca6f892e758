"""``advisor sweep`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from advisor import pipeline
from advisor.cli import app
from advisor.testing.builders import make_recommendation


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    calls: list[tuple] = []

    def sweep(request, grid, progress):
        calls.append((request, grid))
        return make_recommendation()

    monkeypatch.setattr(pipeline, "sweep", sweep)
    return calls


@pytest.fixture
def target(tmp_path: Path) -> Path:
    for name in ("draft.gguf", "target.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    return tmp_path / "target.gguf"


def run(*args: object):
    return CliRunner().invoke(app, ["sweep", *map(str, args)])


def test_the_grid_is_what_was_asked_for(asked, target):
    result = run("--target", target, "--k", 8, "--k", 2, "--p-min", 0.6, "--prompts", 3, "--max-tokens", 64)
    assert result.exit_code == 0, result.output
    ((request, grid),) = asked
    assert (grid.ks, grid.p_mins, grid.prompts) == ((2, 8), (0.6,), 3)
    assert (request.settings.max_tokens, request.settings.k_max, request.server) == (64, 8, None)
    assert request.drafts == (target.with_name("draft.gguf"),)


def test_the_map_has_a_line_a_draft_and_a_column_a_length(asked, target):
    text = run("--target", target).stdout
    assert "k = 4" in text
    line = next(line for line in text.splitlines() if "Example-0.5B-Instruct" in line and "x" in line)
    assert ">1.42x" in line
    assert "llama-server" in text


def test_json_lists_every_cell(asked, target):
    document = json.loads(run("--target", target, "--format", "json").stdout)
    assert len(document["candidates"]) == len(make_recommendation().estimates)


def test_tables_for_draftbench_are_written_and_named(asked, target, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    result = run("--target", target, "--draftbench", folder)
    assert result.exit_code == 0, result.output
    files = sorted(folder.iterdir())
    assert files
    assert all(json.loads(file.read_text())["results"][0]["draft"] is None for file in files)
    assert str(files[0]) in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--k", "0"), "--k is 0"),
        (("--p-min", "2"), "--p-min is 2"),
        (("--prompts", "0"), "--prompts is 0"),
        (("--draftbench", "nowhere"), "--draftbench: nowhere is not a directory"),
    ],
)
def test_a_grid_that_cannot_be(asked, target, options, words):
    result = run("--target", target, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert asked == []
