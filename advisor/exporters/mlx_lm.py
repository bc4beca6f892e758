"""A recommendation as a command of mlx_lm.server, Apple's MLX: another engine, which has models in a format of its own.

The flags are those of mlx_lm/server.py. It drafts with a model, always k tokens. Only some versions of it have
--kv-bits, and that is MLX's quantization, in groups of 64; q8_0 has groups of 32.
"""

from __future__ import annotations

from advisor.errors import OptionError
from advisor.exporters.deployment import (
    Deployment,
    cannot_set,
    check_fixed_length,
    check_plain_cache,
    placement_left,
    remarks,
)
from advisor.exporters.llama_server import commented
from advisor.types import Model

CONSUMER = "mlx-lm"
TAKES_NAMES, TAKES_BUILD = True, False
SCRIPT = True
HOST, PORT = "127.0.0.1", 8080


def text(deployment: Deployment) -> str:
    rec, config, sampling = deployment.rec, deployment.config, deployment.rec.settings.sampling
    check_plain_cache(CONSUMER, deployment, why="It has MLX's own formats only.")
    argv = ["mlx_lm.server", "--model", _name(deployment.target_name, rec.target, "--target-name")]
    if config is not None:
        if config.method != "draft-simple":
            raise cannot_set(CONSUMER, f"the method {config.method}", why="It drafts with a model only.")
        check_fixed_length(CONSUMER, config)
        if config.draft_sampling == "probabilistic":
            raise cannot_set(CONSUMER, "rejection sampling", why="It accepts where the target samples the same token.")
        draft = _name(deployment.draft_name, rec.draft_of(config), "--draft-name")
        argv += ["--draft-model", draft, "--num-draft-tokens", str(config.k)]
    argv += ["--host", HOST, "--port", str(PORT), "--temp", f"{sampling.temperature:g}"]
    argv += ["--top-p", f"{sampling.top_p:g}", "--top-k", str(sampling.top_k), "--min-p", f"{sampling.min_p:g}"]
    lines = [
        *remarks(rec),
        "Found with llama.cpp: acceptance carries over to the same models, costs and so the speedup do not.",
        f"The context of {rec.settings.context} is left to MLX, which grows its cache.",
        *placement_left(deployment, "MLX"),
    ]
    return commented(argv, lines, windows=deployment.windows)


def _name(given: str, model: Model, option: str) -> str:
    if not given:
        raise OptionError(
            f"{CONSUMER} cannot read the GGUF file of {model.label}.",
            why="It has models in MLX's own format, and the recommendation does not name one.",
            fix=f"Name the same model in that format: {option} OWNER/NAME, or its folder.",
        )
    return given
