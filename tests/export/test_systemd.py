"""Units as systemd reads them, by its manual pages and by systemd-analyze where it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from advisor.cli import app
from advisor.dialect import dialect_of
from advisor.errors import OptionError
from advisor.exporters import systemd
from advisor.exporters.llama_server import command
from advisor.store import save_last
from advisor.testing.saved import (
    AWKWARD,
    LINES,
    SAVED,
    awkward,
    deployed,
    draft,
    with_paths,
)
from tests.engines.fake_llama_server import script

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")


def exec_start(unit: str) -> list[str]:
    """The words of ExecStart as systemd.service(5) and systemd.syntax(7) say that they are read."""
    line = unit.partition("\nExecStart=")[2].partition("\n#")[0].replace("\\\n", " ")
    words = re.findall(r'"((?:\\.|[^"\\])*)"|(\S+)', line)
    return [word_of(quoted or plain) for quoted, plain in words]


def word_of(text: str) -> str:
    tokens = re.findall(r"\\x[0-9a-f]{2}|\\[\\\"]|%%|\$\$|[^\\%$]", text, re.DOTALL)
    assert "".join(tokens) == text, "nothing is left that systemd would replace"
    return os.fsdecode(
        b"".join(bytes.fromhex(one[2:]) if one.startswith("\\x") else one[-1].encode() for one in tokens)
    )


@pytest.mark.parametrize("names", [AWKWARD, LINES, ("/caf\udce9.gguf", "/;/ ;.gguf")])
def test_names_survive_a_unit(names: tuple[str, str]) -> None:
    unit = systemd.text(deployed(awkward(names)))
    assert unit.isascii()
    argv = exec_start(unit)
    assert argv[:-4] == command(awkward(names), dialect_of(0))
    assert argv[-4:] == ["--host", "127.0.0.1", "--port", "8080"]


def test_a_unit_is_not_written_for_what_systemd_cannot_start() -> None:
    with pytest.raises(OptionError, match="systemd cannot express the path"):
        systemd.text(deployed(with_paths(draft(), "C:\\a.gguf", "D:\\b.gguf")))
    for program in ("/opt/$x/llama-server", "/opt/it's/llama-server", "/opt/a\nb/llama-server"):
        with pytest.raises(OptionError, match="systemd cannot express the program"):
            systemd.text(deployed(draft(), program=program))


def wait_command(unit: str) -> list[str]:
    """The words of ExecStartPost, with the port of a server that never was."""
    line = unit.partition("\nExecStartPost=")[2].partition("\n")[0]
    return [word_of(quoted or plain) for quoted, plain in re.findall(r'"((?:\\.|[^"\\])*)"|(\S+)', line)]


def waited(folder: Path, healthy_after: int, pid: int) -> tuple[int, int]:
    """(exit code, requests) of the wait for a server of this process id that is healthy after so many requests. In
    place of curl and sleep are scripts that take no time."""
    folder.mkdir()
    asked = folder / "asked"
    asked.touch()
    for name, body in (("curl", f'echo >> "{asked}"; [ "$(wc -l < "{asked}")" -gt {healthy_after} ]'), ("sleep", ":")):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "MAINPID": str(pid)}
    done = subprocess.run(wait_command(systemd.text(deployed(draft()))), env=environment, timeout=60)
    return done.returncode, len(asked.read_text().splitlines())


@posix_only
def test_the_wait_of_a_unit_ends_when_the_server_is_healthy_or_gone(tmp_path: Path) -> None:
    assert waited(tmp_path / "healthy", 3, os.getpid()) == (0, 4)
    crashed = subprocess.Popen([sys.executable, "-c", ""])
    crashed.wait()
    assert waited(tmp_path / "crashed", 1000, crashed.pid) == (1, 1)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("saved", SAVED)
def test_systemd_finds_nothing_wrong_with_a_unit(saved: str, tmp_path: Path) -> None:
    """It also looks for the program, whose path it has to read right for that."""
    program = tmp_path / "all 100% mine; ü" / "llama-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / "llama-server.service"
    rec = with_paths(SAVED[saved](), *AWKWARD)
    path.write_text(systemd.text(deployed(rec, program=str(program))))
    assert complaints(path) == []


def complaints(unit: Path) -> list[str]:
    """What systemd-analyze has to say of a user unit."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--user", str(unit)],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    return said or ([] if done.returncode == 0 else [f"exit code {done.returncode}"])


@posix_only
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_that_is_written_by_default_starts_the_server_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = script(tmp_path, "b11434")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    save_last(draft())
    unit = tmp_path / "llama-server.service"
    result = CliRunner().invoke(app, ["export", "--to", "systemd", "-o", str(unit)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert exec_start(unit.read_text())[0] == str(server)
    assert complaints(unit) == []
    server.unlink()
    assert "not executable" in complaints(unit)[0], "it looks for the program"
