"""`advisor explain` as a user meets it."""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from advisor.commands_explain import register
from advisor.exporters.llama_server import command, shell
from advisor.report import json_document
from advisor.store import save_last
from advisor.types import to_json
from tests.explained import pair, simulated

app = typer.Typer()
app.callback()(lambda: None)
register(app)


def run(*arguments: str):
    return CliRunner().invoke(app, ["explain", *arguments])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "recommendation.json"
    path.write_text(json_document.dumps(json_document.document(simulated(), command=[])), encoding="utf-8")
    return path


def test_a_saved_file_is_explained(saved):
    result = run(str(saved))
    assert result.exit_code == 0
    assert " ".join(simulated().sentence.split()) in " ".join(result.stdout.split()).replace("Verdict ", "")


def test_a_bare_record_is_explained_too(tmp_path):
    path = tmp_path / "last.json"
    path.write_bytes(to_json(simulated()))
    assert run(str(path)).stdout == run_saved(tmp_path).stdout


def run_saved(folder: Path):
    path = folder / "document.json"
    path.write_text(json_document.dumps(json_document.document(simulated(), command=[])), encoding="utf-8")
    return run(str(path))


@pytest.mark.parametrize("option", [(), ("--last",)])
def test_the_last_recommendation_is_the_default(option):
    save_last(simulated())
    result = run("--plain", *option)
    assert result.exit_code == 0
    assert "Break-even" in result.stdout
    assert result.stdout.isascii()


def test_without_any_recommendation_it_says_how_to_get_one():
    result = run()
    assert result.exit_code == 2
    assert "advisor recommend" in result.stderr


@pytest.mark.parametrize("option", [(), ("--plain",)])
def test_it_ends_with_the_command_of_llama_server(saved, option):
    result = run(str(saved), *option)
    assert "Command (llama-server, as recommended)" in result.stdout
    assert result.stdout.endswith(f"{shell(command(simulated()))}\n")


def test_a_page_ends_with_the_command_of_llama_server(saved, tmp_path):
    page = tmp_path / "report.html"
    assert run(str(saved), "--html", str(page)).exit_code == 0
    shown = page.read_text(encoding="utf-8").partition('<section id="command">')[2]
    assert html.escape(shell(command(simulated()))) in shown
    assert "llama-server, as recommended." in shown


def test_where_the_answer_is_no_the_command_is_the_target_alone(tmp_path):
    path = tmp_path / "no.json"
    path.write_bytes(to_json(pair(0.05)))
    found = run(str(path)).stdout.partition("Command (llama-server, the target alone)")[2]
    assert "llama-server" in found
    assert "-md" not in found


def test_a_page_is_written(saved, tmp_path):
    page = tmp_path / "report.html"
    result = run(str(saved), "--html", str(page))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_one_category(saved):
    result = run(str(saved), "--category", "math")
    assert "For math alone:" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{saved}", "--last"], "exclude each other"),
        (["{saved}", "--category", "poetry"], "'poetry'"),
        (["{folder}/missing.json"], "cannot be read"),
        (["{folder}"], "cannot be read"),
        (["{folder}/other.json"], "not a saved recommendation"),
        (["{saved}", "--html", "{folder}/no/such/folder.html"], "does not exist"),
    ],
)
def test_what_a_user_gets_wrong_is_said_in_a_sentence(saved, tmp_path, arguments, said):
    (tmp_path / "other.json").write_text("[1]", encoding="utf-8")
    result = run(*(a.format(saved=saved, folder=tmp_path) for a in arguments))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_no_heavy_library():
    code = (
        "import sys, typer, advisor.commands_explain;"
        "print([m for m in ('numpy', 'sklearn', 'rich.console', 'pydantic') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert printed.stdout.strip() == "[]"
