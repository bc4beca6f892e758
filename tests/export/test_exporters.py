"""What all exports have in common, as a real sh reads them, and those for llama-swap as a YAML parser does."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from advisor.dialect import dialect_of, read_dialect
from advisor.errors import OptionError
from advisor.exporters import docker_compose, exporter, llama_swap, vllm
from advisor.exporters.llama_server import REASONS, command
from advisor.testing.builders import GIB, make_gpu_host
from advisor.testing.saved import (
    AWKWARD,
    LINES,
    SAVED,
    awkward,
    deployed,
    draft,
    ngram,
    none,
    repack,
    with_paths,
)
from advisor.types import Device, Recommendation
from tests.engines.fake_llama_server import DATA, names_of

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
SHELLS = ("llama-server", "llama-cli", "vllm", "mlx-lm")


# -- shells ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a program under the name of each, which prints its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("llama-server", "llama-cli", "vllm", "mlx_lm.server"):
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport os, sys\n"
            "for arg in sys.argv[1:]:\n    sys.stdout.buffer.write(os.fsencode(arg) + b'\\0')\n"
        )
        path.chmod(0o755)
    return folder


def received(text: str, programs: Path) -> list[str]:
    """What the program is given when sh runs the text as a script."""
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["/bin/sh"], input=text.encode(), capture_output=True, check=True, env=environment, cwd=programs.parent
    )
    assert done.stderr == b""
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


@posix_only
@pytest.mark.parametrize("names", [AWKWARD, LINES])
def test_names_reach_llama_server_through_sh_and_run_nothing(names: tuple[str, str], programs: Path) -> None:
    rec = awkward(names)
    assert received(exporter("llama-server").text(deployed(rec)), programs) == command(rec, dialect_of(0))[1:]
    found = received(exporter("llama-cli").text(deployed(rec)), programs)
    assert found[found.index("-m") + 1] == names[0]
    assert found[found.index("-md") + 1] == names[1]
    assert not (programs.parent / "x").exists()


@posix_only
@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm"])
def test_names_given_for_other_programs_reach_them_through_sh(consumer: str, programs: Path) -> None:
    found = received(
        exporter(consumer).text(deployed(draft(), target_name=AWKWARD[0], draft_name=AWKWARD[1])), programs
    )
    assert AWKWARD[0] in found
    assert any(AWKWARD[1] in (arg, decoded_model(arg)) for arg in found)


def decoded_model(arg: str) -> object:
    return json.loads(arg).get("model") if arg.startswith("{") else None


@pytest.mark.parametrize("consumer", SHELLS)
def test_for_windows_the_command_is_one_line(consumer: str) -> None:
    lines = exporter(consumer).text(deployed(draft(), windows=True)).splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == 1


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("build_number", [0, 9101, 8672])
def test_every_flag_of_llama_server_is_explained(saved: str, build_number: int) -> None:
    argv = command(SAVED[saved](), dialect_of(build_number))
    assert {arg for arg in argv if re.match(r"--?[a-z]", arg)} <= set(REASONS)


# -- the build ---------------------------------------------------------------------------------------------------------


def test_an_older_build_is_written_for_in_its_own_words() -> None:
    old = deployed(repack(), dialect=dialect_of(8672))
    for consumer in ("llama-server", "llama-swap", "docker-compose", "systemd"):
        text = exporter(consumer).text(old)
        assert "--draft-max" in text
        assert "--spec-" not in text
    with pytest.raises(OptionError, match="llama-cli of this build"):
        exporter("llama-cli").text(old)


@pytest.mark.parametrize("build_name", ["b8672", "b9101", "b11434"])
def test_every_flag_is_one_that_the_build_lists(build_name: str) -> None:
    help_text = (DATA / f"{build_name}.help.txt").read_text()
    entries = re.findall(r"^(-.*)", help_text, re.MULTILINE)
    known = {name for entry in entries for name in names_of(entry)}
    dialect = read_dialect((DATA / f"{build_name}.version.txt").read_text(), help_text)
    for saved in SAVED.values():
        text = exporter("systemd").text(deployed(saved(), dialect=dialect))
        exec_start = text.partition("ExecStart=")[2].partition("\n#")[0]
        assert {word for word in exec_start.split() if re.match(r"--?[a-z]", word)} <= known


def test_a_build_without_the_remedy_is_refused() -> None:
    dialect = dataclasses.replace(dialect_of(0), no_repack=False)
    with pytest.raises(OptionError, match="--no-repack"):
        exporter("llama-server").text(deployed(repack(), dialect=dialect))


def test_a_build_without_the_method_is_refused_as_something_the_user_can_change() -> None:
    dialect = dataclasses.replace(dialect_of(0), methods=frozenset({"draft-simple"}))
    with pytest.raises(OptionError, match="ngram-simple"):
        exporter("llama-server").text(deployed(ngram(), dialect=dialect))


def test_one_of_several_gpus_is_named() -> None:
    host = make_gpu_host()
    second = Device("CUDA1", "Example GPU 24GB", "gpu", 24 * GIB, 20 * GIB)
    argv = command(dataclasses.replace(draft(), host=dataclasses.replace(host, devices=(*host.devices, second))))
    assert (argv[argv.index("-dev") + 1], argv[argv.index("-devd") + 1]) == ("CUDA0", "CUDA0")
    assert "-dev" not in command(draft())


# -- YAML --------------------------------------------------------------------------------------------------------------


def swapped(cmd: str) -> list[str]:
    """The words of a command as llama-swap reads it: macros, then lines, then words."""
    assert not re.search(r"\$\{(?!PORT\})", cmd)
    filled = cmd.replace("${PORT}", "5800")
    lines = [line for line in filled.splitlines() if not line.strip().startswith("#")]
    assert not any(line.strip().endswith("\\") for line in lines)
    return shlex.split("\n".join(lines))


def test_llama_swap_has_the_target_alone_the_pair_and_what_a_kind_of_text_surely_wants() -> None:
    models = yaml.safe_load(llama_swap.text(deployed(draft())))["models"]
    words = {name.removeprefix("example-14b-instruct-q8_0"): swapped(model["cmd"]) for name, model in models.items()}
    assert list(words) == ["", "-speculative", "-code"]
    assert "-md" not in words[""]
    lengths = {name: argv[argv.index("--spec-draft-n-max") + 1] for name, argv in words.items() if name}
    assert lengths == {"-speculative": "4", "-code": "8"}
    for argv in words.values():
        assert argv[-4:] == ["--host", "127.0.0.1", "--port", "5800"]


def test_llama_swap_has_no_entry_for_a_kind_of_text_that_wants_what_all_want() -> None:
    rec = draft()
    same = tuple(dataclasses.replace(one, speedup_by_category={}) for one in rec.estimates)
    models = yaml.safe_load(llama_swap.text(deployed(dataclasses.replace(rec, estimates=same))))["models"]
    assert len(models) == 2


def asked(rec: Recommendation, prompts: int) -> Recommendation:
    return dataclasses.replace(rec, measurement=dataclasses.replace(rec.measurement, prompts=prompts))


def test_llama_swap_has_no_entry_on_few_answers_and_says_on_how_many() -> None:
    text = llama_swap.text(deployed(asked(draft(), 2)))
    assert len(yaml.safe_load(text)["models"]) == 2
    assert "# For code as for all texts: on 1 answer, too few to choose otherwise than for all texts." in text
    enough = llama_swap.text(deployed(draft()))
    assert "For code, on 6 answers: Example-0.5B-Instruct Q8_0, k = 8: 2.20x" in enough
    assert "# For chat as for all texts: on 6 answers, by which no other choice is surely better." in enough


def test_llama_swap_names_a_kind_of_text_that_surely_loses() -> None:
    rec = draft()
    losing = tuple(dataclasses.replace(one, speedup_by_category={"code": 1.5, "chat": 0.6}) for one in rec.estimates)
    rec = dataclasses.replace(rec, estimates=losing, best=losing[0])
    said = "# For chat the target is faster without a draft: on 6 answers."
    assert said in llama_swap.text(deployed(rec))
    assert said not in llama_swap.text(deployed(asked(rec, 2)))


def test_names_survive_llama_swap() -> None:
    models = yaml.safe_load(llama_swap.text(deployed(awkward())))["models"]
    argv = swapped(models["example-14b-instruct-q8_0-speculative"]["cmd"])
    assert (argv[argv.index("-m") + 1], argv[argv.index("-md") + 1]) == AWKWARD


@pytest.mark.parametrize("name", LINES)
def test_llama_swap_is_not_given_a_name_that_it_would_read_as_lines(name: str) -> None:
    with pytest.raises(OptionError, match="llama-swap cannot express the name"):
        llama_swap.text(deployed(with_paths(draft(), name, AWKWARD[1])))


# -- paths -------------------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("consumer", ["llama-swap", "docker-compose", "systemd"])
def test_what_is_started_elsewhere_gets_whole_paths(
    consumer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rec = with_paths(draft(), "target.gguf", "draft.gguf")
    with pytest.raises(OptionError, match=r"the whole path of target\.gguf"):
        exporter(consumer).text(deployed(rec))
    for name in ("target.gguf", "draft.gguf"):
        (tmp_path / name).touch()
    assert str(tmp_path / "draft.gguf") in exporter(consumer).text(deployed(rec))


@pytest.mark.parametrize("consumer", ["llama-swap", "docker-compose", "systemd", "lm-studio", "llama-cpp-python"])
def test_a_model_that_nobody_publishes_is_not_exported_as_if_it_were_there(consumer: str) -> None:
    rec = none()
    rec = dataclasses.replace(rec, target=dataclasses.replace(rec.target, path="", paths=()))
    with pytest.raises(OptionError, match=f"{consumer} needs the file of Example-14B-Instruct Q8_0"):
        exporter(consumer).text(deployed(rec))


def test_a_model_that_is_not_here_is_downloaded_by_its_repository() -> None:
    rec = none()
    rec = dataclasses.replace(rec, target=dataclasses.replace(rec.target, path="", paths=(), hub="example/x-GGUF:Q8_0"))
    service = yaml.safe_load(docker_compose.text(deployed(rec)))
    assert service["services"]["llama-server"]["command"][:2] == ["-hf", "example/x-GGUF:Q8_0"]
    assert service["services"]["llama-server"]["volumes"] == [docker_compose.DOWNLOADS]
    assert "downloads" in service["volumes"]
    assert "vllm serve example/x-GGUF:Q8_0" in vllm.text(deployed(rec, target_name=""))
    assert "repo_id='example/x-GGUF'" in exporter("llama-cpp-python").text(deployed(rec))
