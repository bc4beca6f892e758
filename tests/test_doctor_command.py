"""`advisor doctor` and `advisor --version` on machines that have, lack, or have broken things."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from advisor import checkup
from advisor.cli import app
from advisor.engines.find_server import find_server
from advisor.errors import FileProblem
from advisor.host import devices
from advisor.host.devices import Listing
from advisor.types import Device
from tests.engines.fake_llama_server import script

posix_only = pytest.mark.skipif(os.name == "nt", reason="a script that runs by itself")
GPU = Device("CUDA0", "Example GPU", "gpu", 1 << 34, 1 << 34)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose devices are listed at once, with no models and no llama-server but what a test puts there."""
    monkeypatch.setattr(devices, "list_devices", lambda: Listing((GPU,)))
    monkeypatch.setattr("advisor.engines.find_server.PACKAGE", "no_such_package")
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "ProgramFiles"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def findings() -> dict[str, dict[str, str]]:
    document = json.loads(run("doctor", "--format", "json").stdout)
    assert document["schema"] == "draft-advisor/doctor/1"
    return {one["subject"]: one for one in document["findings"]}


def test_one_line_each_and_what_is_missing_says_how_to_get_it() -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == len(checkup.examine())
    assert all(line.split()[0] in ("ok", "missing") for line in lines)
    assert all(" -> " in line for line in lines if line.startswith("missing"))
    assert findings()["llama-server"]["level"] == "missing"
    assert findings()["devices"]["found"] == "CUDA0 Example GPU"


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        (
            {"url": "file:///home/me/draft%20advisor", "dir_info": {"editable": True}},
            ["-e", "/home/me/draft advisor[server]"],
        ),
        ({"url": "file:///home/me/draft_advisor.whl", "archive_info": {}}, ["draft-advisor[server]"]),
        (None, ["draft-advisor[server]"]),
    ],
)
@posix_only
def test_the_command_that_installs_a_server_is_for_this_copy(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None, wanted: list[str]
) -> None:
    class Installed:
        def read_text(self, _name: str) -> str | None:
            return json.dumps(origin) if origin else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda _name: Installed())
    with pytest.raises(FileProblem) as caught:
        find_server()
    command = caught.value.fix.split("run: ")[1]
    assert shlex.split(command) == [sys.executable, "-m", "pip", "install", *wanted]


def test_where_the_models_of_the_demo_are_kept_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADVISOR_ZOO_DIR", str(tmp_path / "zoo"))
    assert str(tmp_path / "zoo") in findings()["demo"]["found"]


def test_a_binding_that_does_not_load_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_devices", lambda: Listing(note="The process ended with SIGILL."))
    result = run("doctor")
    assert result.exit_code == 2
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("broken")]
    assert "SIGILL" in line
    assert "pip install" in line
    assert json.loads(run("doctor", "--format", "json").stdout)["ok"] is False


def test_without_the_binding_nothing_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_version", lambda name: None if name == "llama-cpp-python" else "1")
    assert findings()["llama-cpp-python"]["level"] == "broken"
    assert "llama-cpp-python (not installed)" in run("--version").stdout


def test_a_store_of_a_newer_version_is_broken_and_left_alone(data_directory: Path) -> None:
    import sqlite3

    data_directory.mkdir()
    path = data_directory / "measurements.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE later (x)")
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = path.read_bytes()
    assert run("doctor").exit_code == 2
    assert "newer version" in findings()["store"]["found"]
    assert path.read_bytes() == before


def test_a_catalogue_of_ones_own_with_a_mistake_is_broken(data_directory: Path) -> None:
    from advisor.catalog.load import FOLDER

    folder = data_directory / FOLDER
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("families: 7\n", encoding="utf-8")
    found = findings()["catalogue"]
    assert found["level"] == "broken"
    assert "mine.yaml, line 1" in found["found"]
    assert found["fix"]


def test_the_machines_are_counted_as_models_lists_them() -> None:
    listed = len(run("models", "--hosts").stdout.splitlines()) - 1
    assert f"machines in {listed} sizes of memory" in findings()["catalogue"]["found"]


def test_models_of_other_programs_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".lmstudio" / "models" / "someone" / "model"
    folder.mkdir(parents=True)
    (folder / "model-Q4_0.gguf").write_bytes(b"GGUF")
    assert findings()["models"]["found"].startswith("1 files (LM Studio)")


@posix_only
def test_the_server_on_the_path_is_named_with_its_build(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    server = script(tmp_path, "b11434")
    (folder / "llama-server").symlink_to(server)
    found = findings()["llama-server"]
    assert found["level"] == "ok"
    assert "11434" in found["found"]
    out = run("--version").stdout
    assert out.startswith("advisor ")
    assert "llama-server: " in out
    assert "11434" in out


@posix_only
def test_a_server_that_does_not_start_is_broken_but_a_version_is_still_told(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    server = folder / "llama-server"
    server.write_text("#!/bin/sh\nexit 127\n")
    server.chmod(0o755)
    assert run("doctor").exit_code == 2
    assert "does not start" in findings()["llama-server"]["found"]
    result = run("--version")
    assert result.exit_code == 0
    assert "does not start" in result.stdout


def test_a_command_that_does_not_need_the_disk_still_says_what_is_wrong_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(occupied / "data"))
    result = run("doctor")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
