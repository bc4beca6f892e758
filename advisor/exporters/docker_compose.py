"""A recommendation as a Compose file: llama.cpp's own server image, on the loopback of the host, with a health check.

Each file of a model is mounted by itself, so that Docker follows links (the cache of the Hugging Face hub is made of
them). Compose replaces ``$NAME`` in every value, and reads ``$$`` as a dollar.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from advisor.dialect import dialect_of
from advisor.engines.base import Role
from advisor.errors import OptionError
from advisor.exporters.deployment import (
    Deployment,
    absolute,
    cannot,
    check_known,
    is_windows_path,
    moved,
    remarks,
    slug,
    start_s,
)
from advisor.exporters.llama_server import flags, reasons
from advisor.exporters.yaml_text import yaml_text
from advisor.types import Model

CONSUMER = "docker-compose"
IMAGE = "ghcr.io/ggml-org/llama.cpp"
PORT = 8080
PINNED = "Not every build has an image: https://github.com/ggml-org/llama.cpp/pkgs/container/llama.cpp lists those."
NEWEST = "The newest image: which build was measured is not known, and a later one can differ. Pin it by its tag."
DOWNLOADS = {"type": "volume", "source": "downloads", "target": "/root/.cache"}


@dataclass(frozen=True)
class _Backend:
    """The image of llama.cpp for a kind of device (its docs/docker.md), and what a container needs to reach it."""

    tag: str
    needs: dict[str, Any]
    remark: str = ""


NVIDIA = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
BACKENDS = {
    "cpu": _Backend("server", {}),
    "cuda": _Backend("server-cuda", {"deploy": {"resources": {"reservations": {"devices": [NVIDIA]}}}}),
    "rocm": _Backend(
        "server-rocm",
        {"devices": ["/dev/kfd", "/dev/dri"]},
        "Add group_add with the numbers that getent group video render prints on the host.",
    ),
    "vulkan": _Backend("server-vulkan", {"devices": ["/dev/dri"]}),
}


def text(deployment: Deployment) -> str:
    check_known(deployment, CONSUMER)
    backend = _backend(deployment.placement.device)
    rec = moved(deployment.rec, deployment.config, _in_container)
    inside = "0.0.0.0"  # of the container; the port is published on loopback  # nosec B104
    argv = [*flags(rec, deployment.config, deployment.dialect), "--host", inside, "--port", str(PORT)]
    volumes = [mount for model, role in _roles(deployment) for mount in _mounts(model, role)]
    downloads = any(not model.path for model in deployment.models)
    volumes += [DOWNLOADS] if downloads else []
    build = _build(deployment)
    service = {
        "image": f"{IMAGE}:{backend.tag}-b{build}" if build else f"{IMAGE}:{backend.tag}",
        "command": [_value(arg) for arg in argv],
        "ports": [f"127.0.0.1:{PORT}:{PORT}"],
        **({"volumes": volumes} if volumes else {}),
        **backend.needs,
        "healthcheck": {
            "test": ["CMD", "curl", "-f", f"http://localhost:{PORT}/health"],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{start_s(deployment)}s",
        },
        "restart": "unless-stopped",
    }
    document: dict[str, Any] = {"services": {"llama-server": service}}
    if downloads:
        document["volumes"] = {"downloads": {}}
    lines = [
        *remarks(deployment.rec),
        *reasons(argv),
        f"Serves {slug(deployment.rec.target)} on the loopback of this machine.",
    ]
    lines.append(PINNED if build else NEWEST)
    return yaml_text(document, [*lines, *([backend.remark] if backend.remark else [])])


def _backend(device: str) -> _Backend:
    for name, backend in BACKENDS.items():
        if device.lower().startswith(name):
            return backend
    raise cannot(CONSUMER, f"the device {device}", why="llama.cpp publishes no image that is known to reach it.")


def _build(deployment: Deployment) -> int:
    """The llama.cpp build of the image: the one the flags are for, else the one that was measured, 0 where neither has
    a number of its own. OptionError for a fork, which no image has."""
    dialect, measured = deployment.dialect, deployment.rec.build.llama_cpp_build
    if dialect.borrowed:
        raise OptionError(
            f"{CONSUMER} cannot express this build: it is not one of llama.cpp's own.",
            why="Its flags are not those of llama.cpp under its number, and the images are llama.cpp's.",
            fix="Name a llama.cpp build for the image: --llama-build bN.",
        )
    if dialect.build:
        return dialect.build
    return measured if _understands(measured, deployment) else 0


def _understands(build: int, deployment: Deployment) -> bool:
    rec, config = deployment.rec, deployment.config
    try:
        return flags(rec, config, dialect_of(build)) == flags(rec, config, deployment.dialect)
    except OptionError:
        return False


def _roles(deployment: Deployment) -> list[tuple[Model, Role]]:
    models: list[tuple[Model, Role]] = [(deployment.rec.target, "target")]
    return [*models, (deployment.draft, "draft")] if deployment.draft is not None else models


def _mounts(model: Model, role: Role) -> list[dict[str, Any]]:
    files = (model.paths or (model.path,)) if model.path else ()
    return [
        {
            "type": "bind",
            "source": _value(absolute(file, CONSUMER)),
            "target": _value(_inside(file, role)),
            "read_only": True,
        }
        for file in files
    ]


def _in_container(model: Model, role: Role) -> Model:
    return replace(model, path=_inside(model.path, role)) if model.path else model


def _inside(file: str, role: Role) -> str:
    path: PurePath = PureWindowsPath(file) if is_windows_path(file) else PurePosixPath(file)
    return f"/models/{role}/{path.name}"


def _value(word: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise cannot(CONSUMER, f"the name {word!r}", why="YAML is Unicode, and this is not.")
    return word.replace("$", "$$")
