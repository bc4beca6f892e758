"""Folders that cannot be read, and homes of nobody: every command says so, none is taken for a defect."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import advisor
from advisor import completion
from advisor.cli import app
from advisor.errors import FileProblem, OptionError

NOBODY = "~nobody-of-this-name"


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What a folder without permissions does to a user; root, who runs some tests, has them all."""

    def denying(real: Callable[..., object]) -> Callable[..., object]:
        def denied(path: object = ".", *rest: object, **named: object) -> object:
            if isinstance(path, str | os.PathLike) and Path(path).is_relative_to(folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *rest, **named)

        return denied

    for module, name in ((os, "stat"), (os, "listdir"), (os, "scandir"), (os, "mkdir"), (io, "open")):
        monkeypatch.setattr(module, name, denying(getattr(module, name)))


@pytest.fixture(params=["denied", "a file", "a name too long"])
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ("a" * 300 if request.param == "a name too long" else "data")
    if request.param == "a file":
        folder.write_text("")
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(folder))
    if request.param == "denied":
        deny(monkeypatch, folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "recommend --target qwen2.5-72b-q8 --host m4-max-128gb",
        "models",
        "doctor",
        "explain",
        "export",
        "watch --once --url http://127.0.0.1:1",
        "fit-priors",
    ],
)
def test_a_data_folder_that_cannot_be_read_is_no_defect(command: str, broken: Path) -> None:
    result = CliRunner().invoke(app, command.split())
    assert "defect" not in result.output, result.output
    assert result.exit_code in (0, 2, 3)
    assert result.exit_code == 0 or "error: " in result.output or "broken" in result.output


@pytest.mark.parametrize("name", [completion.models, completion.hosts])
def test_a_shell_completes_nothing_then(name: Callable[[str], list[str]], broken: Path) -> None:
    assert isinstance(name("q"), list)


def test_the_folder_and_the_reason_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(folder))
    deny(monkeypatch, folder)
    with pytest.raises(FileProblem, match="cannot be read") as caught:
        advisor.models()
    assert str(folder) in caught.value.what
    assert "Permission denied" in caught.value.why
    broken = {one.subject: one for one in advisor.doctor() if one.level == "broken"}
    assert {"store", "catalogue"} <= set(broken)
    assert all(one.fix for one in broken.values())


@pytest.mark.parametrize(
    "command",
    [
        f"recommend --target {NOBODY}/t.gguf",
        f"recommend --target qwen2.5-72b-q8 --host m4-max-128gb --output {NOBODY}/report.txt",
        f"recommend --target qwen2.5-72b-q8 --models-dir {NOBODY}/models",
        f"explain {NOBODY}/saved.json",
        f"import {NOBODY}/table.json",
        f"profile import {NOBODY}/profile.json",
        f"fleet --inventory {NOBODY}/fleet.yaml --target qwen2.5-72b-q8",
        f"worker --scheduler tcp://127.0.0.1:1 --models-dir {NOBODY}/models",
        f"models --local --models-dir {NOBODY}/models",
        f"pull qwen2.5-1.5b-q4_k_m --models-dir {NOBODY}/models",
    ],
)
def test_the_home_of_nobody_is_named(command: str) -> None:
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 2, result.output
    assert f"the home folder {NOBODY} is not known" in result.output


def test_the_home_of_nobody_is_named_from_python_and_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=NOBODY):
        advisor.load(f"{NOBODY}/saved.json")
    with pytest.raises(OptionError, match=NOBODY):
        advisor.models(store=f"{NOBODY}/store")
    monkeypatch.setenv("ADVISOR_DATA_DIR", f"{NOBODY}/data")
    with pytest.raises(OptionError, match=NOBODY):
        advisor.load()
