"""Completion, colours, pipes and exit codes, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.store import save_last
from advisor.testing.builders import make_recommendation

ROOT = Path(__file__).parent.parent
posix_only = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")


def advisor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "advisor", *arguments]
    return subprocess.run(line, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


def completions(line: str, shell: str = "bash") -> list[str]:
    """What the shell would offer for the last word of ``line``."""
    code = "import sys; sys.argv = ['advisor']; from advisor.cli import main; main()"
    environment = {
        **os.environ,
        "_ADVISOR_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_options_and_names_are_completed() -> None:
    assert set(completions("advisor ex")) == {"explain", "export"}
    assert "--draft-dir" in completions("advisor recommend --draft")
    assert completions("advisor export --to sys") == ["systemd"]
    assert "m4-max-128gb" in completions("advisor recommend --host m4-max")
    assert "qwen2.5-1.5b" in completions("advisor pull qwen2.5-1")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_completed_too(shell: str) -> None:
    assert any("export" in line for line in completions("advisor exp", shell))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_can_be_taught(shell: str) -> None:
    code = "import sys; sys.argv = ['advisor']; from advisor.cli import main; main()"
    environment = {**os.environ, "_ADVISOR_COMPLETE": f"source_{shell}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "_ADVISOR_COMPLETE" in done.stdout
    assert done.stderr == ""


def test_exit_codes_are_documented_as_they_are() -> None:
    text = advisor("--help").stdout
    documented = {int(line.split()[0]) for line in text.splitlines() if line.strip()[:1].isdigit()}
    assert documented == {0, 1, 2, 3, 130}
    assert advisor("probe", "--no-such-option").returncode == 2
    assert advisor("explain", "missing.json").returncode == 2


@posix_only
@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured_on_a_terminal(no_color: str, coloured: bool) -> None:
    import pty

    save_last(make_recommendation())
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    for name in ("FORCE_COLOR", "COLORTERM"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor", "explain"], cwd=ROOT, env=environment, stdout=child, stderr=child
    )
    os.close(child)
    said = b""
    try:
        while part := os.read(parent, 65536):
            said += part
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(parent)
    assert process.wait() == 0, said
    assert (b"\x1b[3" in said) == coloured


@pytest.mark.parametrize("arguments", [["--help"], ["profile", "--help"]])
def test_the_description_of_every_command_fits_on_a_line(arguments: list[str]) -> None:
    listed = advisor(*arguments).stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert len(listed) >= 4
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models"], ["doctor"], ["explain"], ["export"], ["recommend", "--help"]]
)
def test_a_reader_that_has_seen_enough_is_no_failure(arguments: list[str]) -> None:
    save_last(make_recommendation())
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "advisor", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert all(line.startswith(b"note: ") for line in err.splitlines())  # such as that no llama-server is here
