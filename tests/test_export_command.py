"""`advisor export` as a user meets it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from advisor.commands_export import register
from advisor.engines.find_server import PACKAGED
from advisor.exporters.llama_server import command
from advisor.report import json_document
from advisor.store import save_last
from advisor.testing.saved import draft, none, repack
from advisor.types import AtDepth, Build, Recommendation
from tests.engines.fake_llama_server import script
from tests.export.test_check import FAKE_TPS, real
from tests.export.test_check import saved as present

posix_only = pytest.mark.skipif(os.name == "nt", reason="a script that runs by itself")
app = typer.Typer()
app.callback()(lambda: None)
register(app)


def run(*arguments: str):
    return CliRunner().invoke(app, ["export", *arguments])


def write(rec: Recommendation, folder: Path) -> str:
    path = folder / "recommendation.json"
    path.write_text(json_document.dumps(json_document.document(rec, command=[])), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("option", [(), ("--last",)])
def test_the_last_recommendation_is_exported_for_llama_server(option) -> None:
    save_last(draft())
    result = run(*option)
    assert result.exit_code == 0
    assert "llama-server" in result.stdout
    assert "--spec-draft-n-max 4" in result.stdout


def test_without_any_recommendation_it_says_how_to_get_one() -> None:
    result = run()
    assert result.exit_code == 2
    assert "advisor recommend" in result.stderr


def test_a_saved_file_is_exported_to_a_file(tmp_path: Path) -> None:
    output = tmp_path / "compose.yaml"
    result = run(write(draft(), tmp_path), "--to", "docker-compose", "-o", str(output))
    assert (result.exit_code, result.stdout) == (0, "")
    assert yaml.safe_load(output.read_text())["services"]


def test_the_document_is_exported_as_it_was_saved(tmp_path: Path) -> None:
    result = run(write(draft(), tmp_path), "--to", "json")
    assert json_document.load(result.stdout) == draft()
    assert json.loads(result.stdout)["command"] == command(draft())


def test_an_answer_not_to_speculate_is_said(tmp_path: Path) -> None:
    result = run(write(none(), tmp_path))
    assert result.exit_code == 0
    assert "not to speculate" in result.stderr
    assert "-md" not in result.stdout


def test_what_a_program_cannot_express_is_an_error_that_names_it(tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = run(write(repack(), tmp_path), "--to", "lm-studio", "-o", str(output))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lm-studio cannot express --no-repack" in result.stderr
    assert not output.exists()


def with_p_min(folder: Path) -> str:
    """The pick has a p_min; of the others the one without it that is surest is at k = 8."""
    rec = draft()
    first, second, third = rec.estimates
    best = dataclasses.replace(first, config=dataclasses.replace(first.config, p_min=0.75))
    return write(dataclasses.replace(rec, best=best, estimates=(best, third, second)), folder)


NAMED = ("--target-name", "example/T", "--draft-name", "example/D")
SECOND = "Example-0.5B-Instruct Q8_0, k = 8: 1.35x, 80 % interval 1.30 to 1.40, predicted from replayed answers"


@pytest.mark.parametrize("to", ["vllm", "mlx-lm"])
def test_a_setting_that_cannot_be_expressed_is_refused_with_the_best_that_can(to: str, tmp_path: Path) -> None:
    result = run(with_p_min(tmp_path), "--to", to, *NAMED)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{to} cannot express p_min = 0.75" in result.stderr
    assert SECOND in result.stderr
    assert "--next-best" in result.stderr


@pytest.mark.parametrize("to", ["vllm", "mlx-lm"])
def test_the_best_setting_that_can_be_expressed_is_written_with_its_own_speedup(to: str, tmp_path: Path) -> None:
    result = run(with_p_min(tmp_path), "--to", to, *NAMED, "--next-best")
    assert result.exit_code == 0
    assert f"cannot express p_min = 0.75. Written is the best setting that it can: {SECOND}" in result.stderr
    assert result.stdout.startswith(f"# {SECOND}")
    assert "1.42x" not in result.stdout
    assert 'num_speculative_tokens": 8' in result.stdout or "--num-draft-tokens 8" in result.stdout


def test_the_best_setting_that_can_be_expressed_may_still_want_a_name(tmp_path: Path) -> None:
    saved = with_p_min(tmp_path)
    assert SECOND in run(saved, "--to", "mlx-lm", "--target-name", "example/T").stderr
    assert "--draft-name" in run(saved, "--to", "mlx-lm", "--target-name", "example/T", "--next-best").stderr


def test_where_no_other_setting_can_be_expressed_it_says_so(tmp_path: Path) -> None:
    for option in ((), ("--next-best",)):
        result = run(write(draft(), tmp_path), "--to", "llama-cpp-python", *option)
        assert result.exit_code == 2
        assert "No setting that it can express is sure to help" in result.stderr


def test_a_setting_that_can_be_expressed_is_the_pick(tmp_path: Path) -> None:
    result = run(write(draft(), tmp_path), "--to", "vllm", *NAMED, "--next-best")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1.42x" in result.stdout


def test_what_was_seen_of_the_pick_in_a_long_context_is_not_said_of_another(tmp_path: Path) -> None:
    rec = json_document.load_file(Path(with_p_min(tmp_path)))
    there = AtDepth(8000, 4000, 2, 0.5, 1.1, 1.0, 1.2, 22.0)
    saved = write(dataclasses.replace(rec, at_depth=there), tmp_path)
    assert "in the context:" not in run(saved, "--to", "vllm", *NAMED, "--next-best").stdout


def test_a_build_is_written_for_in_its_own_words(tmp_path: Path) -> None:
    result = run(write(draft(), tmp_path), "--llama-build", "b7900")
    assert "--draft-max 4" in result.stdout
    assert "--spec-type" not in result.stdout
    assert run(write(draft(), tmp_path), "--llama-build", "new").exit_code == 2


@posix_only
def test_a_server_is_asked_what_it_speaks_and_is_what_is_started(tmp_path: Path) -> None:
    server = str(script(tmp_path, "b8672"))
    result = run(write(draft(), tmp_path), "--llama-server", server)
    assert result.exit_code == 0
    assert server in result.stdout
    assert "--draft-max 4" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--last",), "exclude each other"),
        (("--llama-server", "x", "--llama-build", "b9000"), "exclude each other"),
        (("--check", "--to", "systemd"), "--check has no meaning for --to systemd"),
        (("--check", "--llama-build", "b9000"), "--llama-build has no meaning for --check"),
        (("--check", "--target-name", "example/T"), "--target-name has no meaning for --check"),
        (("--check", "--draft-name", "example/D"), "--draft-name has no meaning for --check"),
        (("--check", "--next-best"), "--next-best has no meaning for --check"),
        (("--workload", "x"), "--workload has no meaning"),
        (("--to", "vllm", "--llama-build", "b9000"), "--llama-build has no meaning for --to vllm"),
        (("--target-name", "x"), "--target-name has no meaning for --to llama-server"),
        (("--to", "systemd", "--draft-name", "x"), "--draft-name has no meaning for --to systemd"),
        (("-o", "missing/folder/x"), "does not exist"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    result = run(write(draft(), tmp_path), *arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.split())


@posix_only
@pytest.mark.parametrize(
    ("baseline_tps", "acceptance_rate", "code", "places"),
    [
        (FAKE_TPS / 1.42, 0.7, 0, ("inside", "inside")),
        (FAKE_TPS * 1.3, 0.7, 1, ("inside", "below")),
        (FAKE_TPS / 3, 0.7, 1, ("inside", "above")),
        (FAKE_TPS / 1.42, 0.95, 1, ("below", "inside")),
        (FAKE_TPS / 1.42, 0.4, 1, ("above", "inside")),
    ],
)
def test_a_check_says_what_was_measured_beside_what_was_recommended(
    tmp_path: Path, baseline_tps: float, acceptance_rate: float, code: int, places: tuple[str, str]
) -> None:
    server = str(script(tmp_path, "b11434"))
    rec = present(tmp_path, baseline_tps, acceptance_rate)
    result = run(write(rec, tmp_path), "--check", "--llama-server", server)
    assert result.exit_code == code, result.stderr
    acceptance, speed = result.stdout.splitlines()[1:3]
    assert "70.0%" in acceptance
    assert acceptance.endswith(f": {places[0]}")
    assert f"{FAKE_TPS:.2f} tok/s" in speed
    assert speed.endswith(f": {places[1]}")


@posix_only
@pytest.mark.parametrize("measured", [Build("llama-server", "b11400", 11400), Build("llama-server", "b11434", 11434)])
def test_a_check_says_where_another_build_was_measured(tmp_path: Path, measured: Build) -> None:
    server = str(script(tmp_path, "b11434"))
    rec = dataclasses.replace(present(tmp_path), build=measured)
    result = run(write(rec, tmp_path), "--check", "--llama-server", server)
    assert result.exit_code == 0
    assert "llama-server b11434 speculated" in result.stdout
    assert ("It was measured with llama-server b11400" in result.stdout) == (measured.version == "b11400")


@pytest.mark.alone
def test_a_check_on_the_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in the package, which is found where there is no other. What is said of the pair is far from true: the
    speed is that of a large target, and hardly anything is accepted."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    rec = real(acceptance_rate=0.02)
    result = run(write(rec, tmp_path), "--check", "-o", str(tmp_path / "report"))
    assert result.exit_code == 1, result.stderr
    said = (tmp_path / "report").read_text()
    assert "speculated: 2 prompts (code)" in said
    assert said.splitlines()[1].endswith(": above"), said
    assert "It was measured with llama_cpp_python 0.3.36" in said


# -- the file ----------------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("to", ["llama-server", "llama-cli"])
def test_a_command_in_a_file_can_be_run(to: str, tmp_path: Path) -> None:
    output = tmp_path / "serve.sh"
    result = run(write(draft(), tmp_path), "--to", to, "-o", str(output))
    assert result.exit_code == 0
    assert output.read_text() == f"#!/bin/sh\n{run(write(draft(), tmp_path), '--to', to).stdout}"
    (tmp_path / to).write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / to).chmod(0o755)
    said = subprocess.run([output], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True).stdout
    assert "--spec-draft-n-max 4" in said


@posix_only
@pytest.mark.parametrize("to", ["systemd", "json"])
def test_a_configuration_in_a_file_is_no_program(to: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run(write(draft(), tmp_path), "--to", to, "-o", str(output)).exit_code == 0
    assert not output.read_text().startswith("#!")
    assert not os.access(output, os.X_OK)


@posix_only
def test_a_device_gets_what_a_terminal_gets(tmp_path: Path) -> None:
    result = run(write(draft(), tmp_path), "-o", "/dev/null")
    assert result.exit_code == 0
    assert "Wrote" not in result.stderr


def test_a_file_that_is_replaced_is_named(tmp_path: Path) -> None:
    output = tmp_path / "serve.sh"
    saved = write(draft(), tmp_path)
    assert "Wrote" not in run(saved, "-o", str(output)).stderr
    assert f"Wrote {output}, which replaced an older one." in run(saved, "-o", str(output)).stderr


# -- the program -------------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("to", ["systemd", "llama-swap"])
def test_what_has_a_path_of_its_own_gets_the_server_of_this_machine_in_its_words(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = script(tmp_path, "b8672")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    result = run(write(draft(), tmp_path), "--to", to)
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(server) in result.stdout
    assert "--draft-max" in result.stdout
    assert "whole path" not in result.stdout


@posix_only
def test_a_command_for_the_path_says_nothing_where_a_server_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "b8672")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    result = run(write(draft(), tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\nllama-server " in result.stdout


@posix_only
@pytest.mark.parametrize("has_script", [True, False])
def test_where_only_the_packaged_server_is_here_it_says_how_that_is_started(
    has_script: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    program = tmp_path / "advisor-llama-server"
    if has_script:
        program.write_text(f'#!/bin/sh\nexec {" ".join(PACKAGED)} "$@"\n')
        program.chmod(0o755)
    result = run(write(draft(), tmp_path))
    assert result.exit_code == 0
    assert "of the package xllamacpp" in result.stderr
    if not has_script:
        assert " ".join(PACKAGED) in result.stderr
        return
    assert f"--llama-server {program}" in result.stderr
    named = run(write(draft(), tmp_path), "--llama-server", str(program))
    assert (named.exit_code, named.stderr) == (0, "")
    assert f"\n{program} " in named.stdout


def test_without_any_server_a_command_for_the_path_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert run(write(draft(), tmp_path)).stderr == ""


@pytest.mark.parametrize("to", ["systemd", "llama-swap"])
@pytest.mark.parametrize("packaged", [True, False])
def test_without_a_server_it_is_said_whose_path_is_missing(
    to: str, packaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    if not packaged:
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    result = run(write(draft(), tmp_path), "--to", to)
    assert result.exit_code == 0
    assert ("of the package xllamacpp" in result.stderr) is packaged
    assert "--llama-server FILE" in result.stderr
    assert "whole path" in result.stdout


def test_a_build_that_is_named_is_not_looked_for_on_this_machine(tmp_path: Path) -> None:
    result = run(write(draft(), tmp_path), "--to", "systemd", "--llama-build", "b11434")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "ExecStart=llama-server " in result.stdout


@posix_only
def test_a_check_of_a_server_that_does_not_speculate_fails(tmp_path: Path) -> None:
    server = str(script(tmp_path, "b11434", "dropped"))
    result = run(write(present(tmp_path), tmp_path), "--check", "--llama-server", server)
    assert result.exit_code == 3
    assert "without speculating" in result.stderr
    assert result.stdout == ""


def test_a_check_asks_for_the_prompts_of_a_recommendation_that_had_its_own(tmp_path: Path) -> None:
    result = run(write(dataclasses.replace(draft(), workload="mine.jsonl"), tmp_path), "--check")
    assert result.exit_code == 2
    assert "--workload FILE" in result.stderr


def test_a_check_of_nothing_says_so(tmp_path: Path) -> None:
    result = run(write(none(), tmp_path), "--check")
    assert result.exit_code == 2
    assert "nothing to check" in result.stderr
