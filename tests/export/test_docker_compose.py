"""Compose files as a YAML parser and the schema of the Compose specification read them, and Docker where it is."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from advisor.dialect import dialect_of, read_dialect
from advisor.errors import OptionError
from advisor.exporters import docker_compose
from advisor.exporters.deployment import Deployment
from advisor.exporters.llama_server import measured_dialect
from advisor.testing.saved import (
    AWKWARD,
    LINES,
    SAVED,
    awkward,
    deployed,
    draft,
    none,
    repack,
    with_device,
    with_paths,
)
from advisor.types import Build
from tests.engines.fake_llama_server import DATA


def image(deployment: Deployment) -> str:
    found: str = yaml.safe_load(docker_compose.text(deployment))["services"]["llama-server"]["image"]
    return found.removeprefix("ghcr.io/ggml-org/llama.cpp:")


def test_compose_takes_the_image_of_the_build_that_is_asked_for_else_of_the_one_that_was_measured() -> None:
    rec = repack()
    assert rec.build.llama_cpp_build == 11312
    assert image(deployed(rec, dialect=dialect_of(8672))) == "server-b8672"
    assert image(deployed(rec)) == "server-b11312"
    served = dataclasses.replace(rec, build=Build("llama-server", "b11434", 11434))
    assert image(deployed(served, dialect=measured_dialect(served))) == "server-b11434"


def test_compose_says_where_it_cannot_pin_its_image() -> None:
    """The measured build has other flags than these, or no number."""
    for number in (0, 8672):
        deployment = deployed(dataclasses.replace(repack(), build=Build("llama_cpp_python", "0.1", number)))
        assert image(deployment) == "server"
        assert "The newest image" in docker_compose.text(deployment)


def test_compose_takes_a_newer_image_for_what_the_measured_build_could_not_do_as_a_server() -> None:
    rec = draft()
    best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, draft_sampling="probabilistic"))
    assert not dialect_of(rec.build.llama_cpp_build).rejection_sampling
    assert image(deployed(dataclasses.replace(rec, best=best))) == "server-cuda"


def test_a_fork_has_no_image() -> None:
    fork = read_dialect("version: 11434 (abc)", (DATA / "b8672.help.txt").read_text())
    measured = dataclasses.replace(draft(), build=Build("llama-server", "4711", 8980))
    for deployment in (deployed(draft(), dialect=fork), deployed(measured, dialect=measured_dialect(measured))):
        with pytest.raises(OptionError, match="not one of llama") as caught:
            docker_compose.text(deployment)
        assert "--llama-build" in caught.value.fix


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
    text = docker_compose.text(deployed(with_device(draft(), device)))
    assert yaml.safe_load(text)["services"]["llama-server"]["image"].endswith(f":{image}-b11312")


def test_compose_cannot_reach_metal() -> None:
    with pytest.raises(OptionError, match="docker-compose cannot express the device MTL0"):
        docker_compose.text(deployed(with_device(draft(), "MTL0")))


@pytest.fixture(scope="module")
def compose_specification() -> jsonschema.protocols.Validator:
    """The JSON schema of the Compose specification, as check-jsonschema ships it."""
    vendored = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text("utf-8"))
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("device", ["CPU", "CUDA0", "ROCm0", "Vulkan0"])
def test_compose_files_are_what_the_specification_says(
    saved: str, device: str, compose_specification: jsonschema.protocols.Validator
) -> None:
    rec = with_device(SAVED[saved](), device)
    if saved != "repack":
        rec = with_paths(rec, *AWKWARD)
    compose_specification.validate(yaml.safe_load(docker_compose.text(deployed(rec))))


def test_the_specification_refuses_what_is_none(compose_specification: jsonschema.protocols.Validator) -> None:
    document = yaml.safe_load(docker_compose.text(deployed(draft())))
    document["services"]["llama-server"]["healthchek"] = {}
    assert not compose_specification.is_valid(document)


def compose_works() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.skipif(not compose_works(), reason="needs docker compose")
@pytest.mark.parametrize("saved", SAVED)
def test_compose_reads_its_file(saved: str, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(docker_compose.text(deployed(SAVED[saved]())))
    subprocess.run(["docker", "compose", "-f", str(path), "config", "--quiet"], check=True)
