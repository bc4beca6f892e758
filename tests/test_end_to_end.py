"""The command as a user runs it, on real models, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

import advisor
from advisor.testing.zoo import Recipe, build
from benchmarks.answer import Peak
from benchmarks.report import PARENT_GOAL_BYTES

pytestmark = pytest.mark.alone

PROMPTS = ("Count from one to twenty.", "Write a haiku about rain.", "What is 12 times 12?", "List five colours.")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "advisor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def run_watched(*arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """Also the most memory that the process, without its workers, held."""
    command = [sys.executable, "-m", "advisor", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = Peak(process.pid)
    out, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, out, errors), peak.stop()


@pytest.fixture(scope="module")
def target() -> Path:
    return build(Recipe(60, "F16"))


@pytest.fixture(scope="module")
def drafts() -> tuple[Path, Path]:
    return build(Recipe(29, "Q8_0")), build(Recipe(24, "Q4_0"))


@pytest.fixture
def question(tmp_path: Path, target: Path, drafts: tuple[Path, Path]) -> list[str | Path]:
    workload = tmp_path / "prompts.txt"
    workload.write_text("\n".join(PROMPTS))
    choices = [argument for draft in drafts for argument in ("--draft", draft)]
    return ["recommend", "--target", target, *choices, "--workload", workload, "--budget", "45s", "--max-tokens", 32]


def test_a_recommendation_from_nothing_and_again_from_the_store(question, target):
    first, peak_bytes = run_watched(*question, "--format", "json", "--all")
    assert first.returncode == 0, first.stderr
    assert peak_bytes < PARENT_GOAL_BYTES
    document = json.loads(first.stdout)
    schema = json.loads((Path(advisor.__file__).parent / "schema" / "recommendation.schema.json").read_text())
    jsonschema.validate(document, schema)
    assert {row["quant"] for row in document["candidates"] if row["draft"]} == {"Q8_0", "Q4_0"}
    assert document["baseline"]["tokens_per_second"] > 0
    same = {row["quant"]: row for row in document["candidates"] if (row["k"], row["p_min"]) == (4, 0)}
    assert same["Q8_0"]["acceptance_rate"] > same["Q4_0"]["acceptance_rate"]  # one layer dropped against six
    started = time.monotonic()
    again = run(*question, "--format", "json", "--all")
    assert time.monotonic() - started < 20
    repeated = json.loads(again.stdout)
    assert repeated["candidates"] == document["candidates"]
    assert repeated["measurement"]["from_store"]
    shown = run(*question)
    assert shown.returncode == 0, shown.stderr
    assert "Verdict" in shown.stdout
    assert f"-m {target}" in shown.stdout
    assert "Traceback" not in shown.stderr


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child needs a console group on Windows")
def test_ctrl_c_exits_130_and_leaves_no_process(question):
    command = [sys.executable, "-m", "advisor", *map(str, question)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children: list[int] = []
    import psutil

    deadline = time.monotonic() + 60
    while not children and time.monotonic() < deadline:
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    psutil.wait_procs([psutil.Process(pid) for pid in children if psutil.pid_exists(pid)], timeout=20)
    assert not any(psutil.pid_exists(pid) for pid in children)


def refused(*arguments: str | Path) -> str:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_missing_file(tmp_path):
    assert "missing.gguf" in refused("recommend", "--target", tmp_path / "missing.gguf")


def test_an_unknown_name_gets_the_nearest_names():
    assert "qwen2.5-72b" in refused("recommend", "--target", "qwen2.5-71b-q8", "--host", "m4-max-128gb")


def test_a_file_that_is_no_model(tmp_path, drafts):
    text = tmp_path / "notes.gguf"
    text.write_text("these are my notes")
    assert "GGUF" in refused("recommend", "--target", text, "--draft", drafts[0])


def test_a_truncated_model(tmp_path, target, drafts):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(target.read_bytes()[:500_000])
    assert "cut.gguf" in refused("recommend", "--target", cut, "--draft", drafts[0])


def test_a_draft_as_large_as_the_target_is_named_with_its_reason(target, drafts):
    message = refused("recommend", "--target", drafts[0], "--draft", target)
    assert "60L" in message


def test_a_malformed_workload_names_the_line(tmp_path, target, drafts):
    workload = tmp_path / "bad.jsonl"
    workload.write_text('{"prompt": "fine"}\n{"prompt": 3}\n')
    assert "line 2" in refused("recommend", "--target", target, "--draft", drafts[0], "--workload", workload)


def test_a_prompt_longer_than_the_context_is_named(tmp_path, target, drafts):
    workload = tmp_path / "long.txt"
    workload.write_text("short\n" + "word " * 600)
    message = refused(
        "recommend",
        "--target",
        target,
        "--draft",
        drafts[0],
        "--workload",
        workload,
        "--context",
        512,
        "--max-tokens",
        32,
    )
    assert "Prompt 2" in message
    assert "--context" in message


def test_a_budget_too_small_for_one_run_is_answered_by_the_prior(target, drafts):
    done = run("recommend", "--target", target, "--draft", drafts[0], "--budget", "2s")
    assert done.returncode == 0, done.stderr
    assert "--budget" in done.stderr
    assert "Nothing was measured." in done.stdout


def test_an_unknown_option_value(target, drafts):
    assert "--k-max" in refused("recommend", "--target", target, "--draft", drafts[0], "--k-max", 0)
