"""Who a recommendation can be exported to, by the name that ``advisor export --to`` takes. ``json`` is the document
itself, which the command writes."""

from __future__ import annotations

from collections.abc import Callable

from advisor.exporters import (
    docker_compose,
    llama_cli,
    llama_cpp_python,
    llama_server,
    llama_swap,
    lm_studio,
    mlx_lm,
    systemd,
    vllm,
)
from advisor.exporters.deployment import Deployment

EXPORTERS: dict[str, Callable[[Deployment], str]] = {
    "llama-server": llama_server.text,
    "llama-cli": llama_cli.text,
    "llama-swap": llama_swap.text,
    "docker-compose": docker_compose.text,
    "systemd": systemd.text,
    "lm-studio": lm_studio.text,
    "mlx-lm": mlx_lm.text,
    "vllm": vllm.text,
    "llama-cpp-python": llama_cpp_python.text,
}
