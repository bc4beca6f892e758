"""`advisor watch` as a user meets it, against a server in this process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from advisor import commands_watch
from advisor.cli import app
from advisor.errors import ServerProblem
from advisor.report import json_document
from advisor.report.watch_terminal import Screen
from advisor.store import save_last
from advisor.testing.builders import make_recommendation
from advisor.types import Recommendation
from advisor.watch import Watcher
from tests.watch.http_server import Answer, serving
from tests.watch.servers import Counting, Script
from tests.watch.test_judgement import recommended

GOOD, BAD = Counting().answered(200, (160, 140, 130, 120)), Counting().answered(200, (60, 20, 5, 0))
ESCAPE = "\x1b[2J\u202e"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["watch", *arguments])


def answers(*states: Counting, **more: Answer) -> dict[str, Answer]:
    left = list(states)

    def metrics(handler: Any) -> None:
        content = (left.pop(0) if len(left) > 1 else left[0]).text().encode()
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return {"/metrics": metrics, **{f"/{name}": answer for name, answer in more.items()}}


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "recommendation.json"
    path.write_text(json_document.dumps(json_document.document(recommended(), command=[])), encoding="utf-8")
    return str(path)


# -- once --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "code", "below"), [(GOOD, 0, False), (BAD, 1, True)])
def test_the_exit_code_says_whether_it_pays(saved: str, state: Counting, code: int, below: bool) -> None:
    with serving(answers(state)) as fake:
        found = run(saved, "--url", fake.url, "--once", "--format", "json")
    assert found.exit_code == code
    said = json.loads(found.stdout)
    assert said["judgement"]["below_break_even"] is below
    assert said["live"]["since_start"] is True
    assert said["live"]["acceptance_rate"] == pytest.approx(sum(state.per_position) / state.drafted)
    assert said["expected"]["break_even_acceptance_rate"] == pytest.approx(0.35)


def test_the_document_has_its_names() -> None:
    """Names that scripts read: adding is fine, changing needs another schema."""
    save_last(recommended())
    with serving(answers(GOOD)) as fake:
        said = json.loads(run("--url", fake.url, "--once", "--format", "json").stdout)
    assert said["schema"] == "draft-advisor/watch/1"
    assert said["server"] == fake.url
    assert set(said) == {"schema", "server", "live", "running", "waiting", "restarted", "expected", "judgement"}
    assert set(said["live"]) == {
        "since_start", "seconds", "tokens", "decode_s", "drafts", "drafted", "accepted", "accepted_per_position",
        "acceptance_rate", "acceptance_by_position", "tokens_per_step", "tokens_per_second", "requests_at_once",
    }  # fmt: skip
    assert set(said["expected"]) == {
        "pairing", "method", "k", "p_min", "evidence", "acceptance_rate", "tokens_per_step", "tokens_per_second",
        "tokens_per_second_low", "tokens_per_second_high", "baseline_tokens_per_second", "break_even_acceptance_rate",
        "break_even_tokens_per_step", "break_even_from",
    }  # fmt: skip
    assert set(said["judgement"]) == {"state", "below_break_even", "speed", "warnings", "advice", "notes"}


def test_over_an_interval_only_its_requests_count(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(commands_watch.time, "sleep", waited.append)
    with serving(answers(BAD, BAD.answered(200, (160, 140, 130, 120)))) as fake:
        found = run(saved, "--url", fake.url, "--once", "--interval", "90s", "--format", "json")
    assert waited == [90.0]
    assert found.exit_code == 0
    said = json.loads(found.stdout)["live"]
    assert (said["since_start"], said["drafted"]) == (False, 800)


def test_once_for_people(saved: str) -> None:
    slots = json.dumps([{"is_processing": True, "speculative": True, "next_token": [{"n_decoded": 77}]}]).encode()
    with serving(answers(BAD, slots=(200, slots))) as fake:
        found = run(saved, "--url", fake.url, "--once")
    text = " ".join(found.stdout.split())
    for part in (
        "acceptance 11 % 70 % 35 %",
        "position 1 30 %",
        "1 request running, 77 tokens so far",
        "Below break-even.",
        "--workload",
    ):
        assert part in text
    assert found.exit_code == 1


def test_a_server_that_has_answered_nothing_yet(saved: str) -> None:
    with serving(answers(Counting())) as fake:
        found = run(saved, "--url", fake.url, "--once", "--format", "json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["judgement"]["state"] == "waiting"


def test_without_any_recommendation_the_server_alone_is_shown() -> None:
    with serving(answers(GOOD)) as fake:
        found = run("--url", fake.url, "--once", "--format", "json")
    assert found.exit_code == 0
    assert "no recommendation yet" in found.stderr
    assert json.loads(found.stdout)["expected"] is None


@pytest.mark.parametrize("text", [(), ("--format", "json")])
def test_nothing_that_a_server_says_drives_the_terminal(saved: str, text: tuple[str, ...]) -> None:
    props = json.dumps({"model_path": f"/models/{ESCAPE}.gguf"}).encode()
    with serving(answers(GOOD, props=(200, props))) as fake:
        found = run(saved, "--url", fake.url, "--once", *text)
    assert ".gguf" in found.stdout
    assert not {"\x1b", "\u202e"} & set(found.stdout)
    with serving({"/metrics": (500, ESCAPE.encode())}) as fake:
        found = run(saved, "--url", fake.url, "--once", *text)
    assert found.exit_code == 2
    assert not {"\x1b", "\u202e"} & set(found.stderr)


def test_a_key_from_a_file(saved: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\nother\n")
    with serving(answers(GOOD)) as fake:
        run(saved, "--url", fake.url, "--once", "--api-key-file", str(tmp_path / "key"))
        assert {headers.get("Authorization") for _path, headers in fake.asked} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "json"], "needs --once"),
        (["--last", "{saved}"], "exclude each other"),
        (["--once", "--last"], "no recommendation yet"),
        (["--once", "{folder}/missing.json"], "cannot be read"),
        (["--once", "{saved}", "--interval", "soon"], "not a duration"),
        (["--once", "{saved}", "--interval", "0.1s"], "half a second"),
        (["--once", "{saved}", "--interval", "48h"], "half a second"),
        (["--once", "{saved}", "--url", "file:///etc/passwd"], "not an http"),
        (["--once", "{saved}", "--api-key-file", "{folder}/none"], "cannot be read"),
        (["--once", "{saved}", "--api-key-file", "{folder}/empty"], "not an API key"),
        (["--once", "{saved}", "--url", "http://127.0.0.1:1"], "not reachable"),
    ],
)
def test_what_a_user_gets_wrong_is_said_in_a_sentence(
    saved: str, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    found = run(*(argument.format(saved=saved, folder=tmp_path) for argument in arguments))
    assert found.exit_code == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_a_server_without_metrics_is_told_how_to_have_them(saved: str) -> None:
    off = b'{"error": {"code": 501, "message": "This server does not support metrics endpoint."}}'
    with serving({"/metrics": (501, off)}) as fake:
        found = run(saved, "--url", fake.url, "--once")
    assert found.exit_code == 2
    assert "Start llama-server with --metrics." in found.stderr


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, typer, advisor.commands_watch;"
        "print([m for m in ('numpy', 'sklearn', 'rich.console', 'pydantic') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert printed.stdout.strip() == "[]"


# -- again and again ---------------------------------------------------------------------------------------------------


def test_it_goes_on_until_it_is_interrupted(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = iter([None, None, KeyboardInterrupt()])

    def sleep(_seconds: float) -> None:
        if stop := next(pauses):
            raise stop

    monkeypatch.setattr(commands_watch.time, "sleep", sleep)
    with serving(answers(GOOD, GOOD, GOOD.answered(200, (60, 20, 5, 0)))) as fake:
        found = run(saved, "--url", fake.url)
    assert found.exit_code == 130
    assert "Waiting for a request to end." in found.stdout
    assert "acceptance 11 % (break-even 35 %)" in found.stdout
    assert "warning: Acceptance is 11 %" in found.stdout
    assert "Interrupted" in found.stderr


def screens(*said: Counting | Exception, rec: Recommendation | None = None, **console: Any) -> str:
    """What is printed while a server says one thing after the other."""
    stream = io.StringIO()
    now = iter(range(0, 100_000, 5))
    watcher = Watcher(Script(*said), rec, lambda: float(next(now)))
    with Screen(Console(file=stream, width=100, markup=False, **console), "http://127.0.0.1:8080") as screen:
        for _ in said:
            screen.show(watcher.look())
    return stream.getvalue()


DOWN = ServerProblem("http://127.0.0.1:8080 is not reachable.", why="Connection refused.", fix="Check it.")


def test_without_a_terminal_only_what_is_new_is_printed() -> None:
    text = screens(GOOD, DOWN, DOWN, DOWN, GOOD, BAD, BAD, rec=recommended())
    assert text.count("not reachable. Connection refused. Check it. Trying again.") == 1
    assert text.count("started again 1 time") == 1
    assert text.count("warning: Acceptance is") == 1
    assert "\x1b" not in text


def test_on_a_terminal_it_is_drawn_in_place() -> None:
    text = screens(GOOD, BAD, rec=recommended(), force_terminal=True, legacy_windows=False)
    assert "Below break-even." in text
    assert "\x1b[" in text


@pytest.mark.parametrize("rec", [None, recommended(), make_recommendation("do-not-speculate")])
@pytest.mark.parametrize("width", [40, 100])
def test_every_kind_of_view_fits_a_narrow_terminal(rec: Recommendation | None, width: int) -> None:
    states = (DOWN, Counting(), GOOD, Counting(counts_drafts=False).answered(900, (5,)), BAD, Counting(), DOWN)
    stream = io.StringIO()
    now = iter(range(0, 100_000, 5))
    watcher = Watcher(Script(*states), rec, lambda: float(next(now)))
    console = Console(file=stream, width=width, markup=False, force_terminal=True, legacy_windows=False)
    with Screen(console, "http://127.0.0.1:8080") as screen:
        for _ in states:
            screen.show(watcher.look())
    assert stream.getvalue()
