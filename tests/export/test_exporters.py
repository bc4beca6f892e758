"""Exports as the programs read them that they are for: a real sh, a YAML parser, systemd, Python."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from advisor.dialect import dialect_of, read_dialect
from advisor.errors import OptionError
from advisor.exporters import EXPORTERS, docker_compose, exporter, llama_swap, systemd, vllm
from advisor.exporters.llama_server import REASONS, command
from advisor.gguf import read_model
from advisor.testing.zoo import Recipe, build
from advisor.types import Device, Placement, Recommendation, Settings
from tests.builders import GIB, make_gpu_host, make_recommendation
from tests.engines.fake_llama_server import DATA, names_of
from tests.export.saved import SAVED, deployed, draft, ngram, none, repack, with_paths

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
AWKWARD = (
    "/my models/it's \"5 $HOME ${PORT} $(touch x) `id` %h 100%/tar\\get;&|<>*?!#.gguf",
    "/models/übung 模型 🦙/dra'ft.gguf",
)
LINES = ("/models/two\nlines\n# three\n", "/models/bell\x07 escape\x1b[2J override\u202e.gguf")
SHELLS = ("llama-server", "llama-cli", "vllm", "mlx-lm")


def awkward(names: tuple[str, str] = AWKWARD) -> Recommendation:
    return with_paths(draft(), *names)


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
    return json.loads(arg)["model"] if arg.startswith("{") else None


@pytest.mark.parametrize("consumer", EXPORTERS)
def test_a_comment_is_harmless_in_a_shell_that_does_not_know_it_is_one(consumer: str) -> None:
    """zsh runs pasted lines that begin with #."""
    rec = draft()
    evil = "x; rm -rf ~ & $(id) `id` 'q \"q\n| tee > f"
    target = dataclasses.replace(rec.target, name=evil)
    candidates = tuple(
        dataclasses.replace(one, draft=dataclasses.replace(one.draft, name=evil)) for one in rec.candidates
    )
    rec = dataclasses.replace(rec, target=target, candidates=candidates, workload=evil, categories=(evil,))
    try:
        text = exporter(consumer).text(deployed(rec))
    except OptionError:
        assert consumer == "llama-cpp-python"
        return
    comments = [line for line in text.splitlines() if line.startswith("#")]
    allowed = r"# [\w ._,:+%/=~-]*" if consumer == "systemd" else r"# [\w ._,:+%/=-]*"
    assert all(re.fullmatch(allowed, line, re.ASCII) for line in comments)
    assert not any(line.startswith(("|", "rm")) for line in text.splitlines())


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
    assert yaml.safe_load(docker_compose.text(old))["services"]["llama-server"]["image"].endswith(":server-b8672")
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


def test_llama_swap_has_the_target_alone_the_pair_and_what_each_kind_of_text_wants() -> None:
    models = yaml.safe_load(llama_swap.text(deployed(draft())))["models"]
    words = {name.removeprefix("example-14b-instruct-q8_0"): swapped(model["cmd"]) for name, model in models.items()}
    assert list(words) == ["", "-speculative", "-code", "-chat"]
    assert "-md" not in words[""]
    lengths = {name: argv[argv.index("--spec-draft-n-max") + 1] for name, argv in words.items() if name}
    assert lengths == {"-speculative": "4", "-code": "8", "-chat": "2"}
    for argv in words.values():
        assert argv[-4:] == ["--host", "127.0.0.1", "--port", "5800"]


def test_llama_swap_has_no_entry_for_a_kind_of_text_that_wants_what_all_want() -> None:
    rec = draft()
    same = tuple(dataclasses.replace(one, speedup_by_category={}) for one in rec.estimates)
    models = yaml.safe_load(llama_swap.text(deployed(dataclasses.replace(rec, estimates=same))))["models"]
    assert len(models) == 2


def test_names_survive_llama_swap() -> None:
    models = yaml.safe_load(llama_swap.text(deployed(awkward())))["models"]
    argv = swapped(models["example-14b-instruct-q8_0-speculative"]["cmd"])
    assert (argv[argv.index("-m") + 1], argv[argv.index("-md") + 1]) == AWKWARD


@pytest.mark.parametrize("name", LINES)
def test_llama_swap_is_not_given_a_name_that_it_would_read_as_lines(name: str) -> None:
    with pytest.raises(OptionError, match="llama-swap cannot express the name"):
        llama_swap.text(deployed(with_paths(draft(), name, AWKWARD[1])))


def interpolated(value: Any) -> Any:
    """A value of a Compose file after Compose has replaced what begins with a dollar."""
    if isinstance(value, str):
        assert "$" not in value.replace("$$", "")
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [interpolated(one) for one in value]
    return {key: interpolated(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("names", [AWKWARD, LINES])
def test_names_survive_compose(names: tuple[str, str]) -> None:
    text = docker_compose.text(deployed(awkward(names)))
    assert text.isascii()
    service = interpolated(yaml.safe_load(text))["services"]["llama-server"]
    assert [mount["source"] for mount in service["volumes"]] == list(names)
    targets = [mount["target"] for mount in service["volumes"]]
    argv = service["command"]
    assert [argv[argv.index("-m") + 1], argv[argv.index("-md") + 1]] == targets


def test_compose_listens_on_loopback_and_asks_whether_it_is_well() -> None:
    service = yaml.safe_load(docker_compose.text(deployed(repack())))["services"]["llama-server"]
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert service["healthcheck"]["test"][-1] == "http://localhost:8080/health"
    assert all(isinstance(word, str) for word in service["command"])


def test_compose_mounts_every_part_of_a_split_model() -> None:
    rec = none()
    parts = tuple(f"/models/big-0000{number}-of-00002.gguf" for number in (1, 2))
    rec = dataclasses.replace(rec, target=dataclasses.replace(rec.target, path=parts[0], paths=parts))
    volumes = yaml.safe_load(docker_compose.text(deployed(rec)))["services"]["llama-server"]["volumes"]
    assert [mount["source"] for mount in volumes] == list(parts)


def test_compose_takes_files_of_windows() -> None:
    rec = with_paths(draft(), "C:\\my models\\a.gguf", "D:\\b.gguf")
    volumes = yaml.safe_load(docker_compose.text(deployed(rec)))["services"]["llama-server"]["volumes"]
    assert [(mount["source"], mount["target"]) for mount in volumes] == [
        ("C:\\my models\\a.gguf", "/models/target/a.gguf"),
        ("D:\\b.gguf", "/models/draft/b.gguf"),
    ]


@pytest.mark.parametrize(
    ("device", "image"), [("CUDA0", "server-cuda"), ("ROCm0", "server-rocm"), ("Vulkan0", "server-vulkan")]
)
def test_compose_takes_the_image_of_the_device(device: str, image: str) -> None:
    rec = draft()
    candidates = tuple(dataclasses.replace(one, placement=Placement(-1, -1, device)) for one in rec.candidates)
    text = docker_compose.text(deployed(dataclasses.replace(rec, candidates=candidates)))
    assert yaml.safe_load(text)["services"]["llama-server"]["image"].endswith(f":{image}")


def test_compose_cannot_reach_metal() -> None:
    rec = draft()
    candidates = tuple(dataclasses.replace(one, placement=Placement(-1, -1, "MTL0")) for one in rec.candidates)
    with pytest.raises(OptionError, match="docker-compose cannot express the device MTL0"):
        docker_compose.text(deployed(dataclasses.replace(rec, candidates=candidates)))


def compose_works() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.skipif(not compose_works(), reason="needs docker compose")
@pytest.mark.parametrize("saved", SAVED)
def test_compose_reads_its_file(saved: str, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(docker_compose.text(deployed(SAVED[saved]())))
    subprocess.run(["docker", "compose", "-f", str(path), "config", "--quiet"], check=True)


# -- systemd -----------------------------------------------------------------------------------------------------------


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
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--user", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert [line for line in done.stderr.splitlines() if path.name in line] == []
    assert done.returncode == 0


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


# -- other programs ----------------------------------------------------------------------------------------------------

# vLLM, docs/features/speculative_decoding: draft_model.md and n_gram.md.
DOCUMENTED = {"method", "model", "num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min"}


@pytest.mark.parametrize(("rec", "method"), [(draft(), "draft_model"), (ngram(), "ngram")])
def test_vllm_is_told_in_documented_keys(rec: Recommendation, method: str) -> None:
    config = rec.best.config
    found = vllm.speculative_config(deployed(rec), config)
    assert set(found) <= DOCUMENTED
    assert (found["method"], found["num_speculative_tokens"]) == (method, config.k)


@pytest.mark.parametrize("consumer", ["vllm", "llama-cpp-python", "mlx-lm", "lm-studio"])
@pytest.mark.parametrize("method", ["ngram-map-k", "ngram-map-k4v", "ngram-mod"])
def test_a_method_that_a_program_does_not_have_is_named(consumer: str, method: str) -> None:
    with pytest.raises(OptionError, match=f"{consumer} cannot express the method {method}"):
        exporter(consumer).text(deployed(ngram(method)))


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm"])
@pytest.mark.parametrize("field", [{"p_min": 0.5}, {"n_min": 2}])
def test_a_draft_that_may_end_early_is_refused_where_it_cannot(consumer: str, field: dict[str, float]) -> None:
    rec = draft()
    best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, **field))
    with pytest.raises(OptionError, match=f"{consumer} cannot express {next(iter(field))}"):
        exporter(consumer).text(deployed(dataclasses.replace(rec, best=best)))


@pytest.mark.parametrize("consumer", ["vllm", "mlx-lm"])
def test_a_program_with_models_of_its_own_asks_for_their_names(consumer: str) -> None:
    with pytest.raises(OptionError) as caught:
        exporter(consumer).text(deployed(draft(), target_name=""))
    assert "--target-name" in caught.value.fix
    with pytest.raises(OptionError) as caught:
        exporter(consumer).text(deployed(draft(), draft_name=""))
    assert "--draft-name" in caught.value.fix


def test_names_survive_the_python_program() -> None:
    text = exporter("llama-cpp-python").text(deployed(with_paths(ngram(), *AWKWARD)))
    assert text.isascii()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    paths = [one.value.value for call in calls for one in call.keywords if one.arg == "model_path"]
    assert paths == [AWKWARD[0]]


def test_the_python_program_runs_on_a_real_model(tmp_path: Path) -> None:
    """In F16: some hosts need --no-repack for quantized models, which is refused."""
    rec = make_recommendation(
        target=read_model(build(Recipe(30, "F16"))), best=ngram().best, settings=Settings(context=512, max_tokens=8)
    )
    path = tmp_path / "serve.py"
    path.write_text(exporter("llama-cpp-python").text(deployed(rec)))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
