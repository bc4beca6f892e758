"""A recommendation as a ``vllm serve`` command. vLLM is another engine: acceptance carries over to it, costs do not.

The keys of ``--speculative-config`` are those of vLLM's documentation (features/speculative_decoding, and of its
vllm/config/speculative.py ``draft_sample_method``). It reads models of the Hugging Face hub; of GGUF files it takes
those of a repository, through a plug-in of its own. None of the formats of ``--kv-cache-dtype`` is one of llama.cpp's.
"""

from __future__ import annotations

import json
from typing import Any

from advisor.errors import OptionError
from advisor.exporters.deployment import (
    Deployment,
    cannot_set,
    check_first_match_drafts,
    check_fixed_length,
    check_plain_cache,
    placement_left,
    remarks,
)
from advisor.exporters.llama_server import commented
from advisor.types import Config, Model, Sampling

CONSUMER = "vllm"
TAKES_NAMES, TAKES_BUILD = True, False
SCRIPT = True
HOST, PORT = "127.0.0.1", 8000


def text(deployment: Deployment) -> str:
    rec, config = deployment.rec, deployment.config
    check_plain_cache(CONSUMER, deployment, why="The formats of its --kv-cache-dtype are others.")
    argv = ["vllm", "serve", _name(deployment.target_name, rec.target, "--target-name")]
    argv += ["--host", HOST, "--port", str(PORT), "--max-model-len", str(rec.settings.context)]
    lines = [
        *remarks(rec),
        "Found with llama.cpp: acceptance carries over to the same models, costs and so the speedup do not.",
        *placement_left(deployment, "vLLM"),
    ]
    argv += ["--override-generation-config", json.dumps(sampling_defaults(rec.settings.sampling, config))]
    if config is not None:
        argv += ["--speculative-config", json.dumps(speculative_config(deployment, config))]
        lines += _sampled_otherwise(rec.settings.sampling, config)
    if config is not None and not config.draft:
        lines.append("vLLM copies from the first match in the text, llama.cpp from the last: acceptance can differ.")
    if not deployment.target_name:
        lines.append("GGUF needs: pip install vllm-gguf-plugin. --tokenizer with the original model is recommended.")
    return commented(argv, lines, windows=deployment.windows)


def sampling_defaults(sampling: Sampling, config: Config | None) -> dict[str, float]:
    """The sampling of requests that ask for none. With speculation vLLM refuses every request that has a min_p."""
    if sampling.temperature == 0:
        return {"temperature": 0}
    values = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return values if config is not None else {**values, "min_p": sampling.min_p}


def _sampled_otherwise(sampling: Sampling, config: Config) -> list[str]:
    """What differs above temperature 0. The rule does not: rejection sampling accepts a draft's arg-max with the
    probability that the target gives it, and as often the target samples it."""
    if sampling.temperature == 0:
        return []
    left_out = f"Left out is min-p {sampling.min_p:g}: vLLM refuses it with speculation."
    newer = "draft_sample_method needs a vLLM that knows it: older ones always draft the likeliest token."
    return [left_out, newer] if config.draft_sampling == "probabilistic" else [left_out]


def speculative_config(deployment: Deployment, config: Config) -> dict[str, Any]:
    if config.method == "ngram-simple":
        check_first_match_drafts(CONSUMER, config)
        size = config.ngram_size
        lookup = {"prompt_lookup_min": size, "prompt_lookup_max": size}
        return {"method": "ngram", "num_speculative_tokens": config.k, **lookup}
    if config.method != "draft-simple":
        raise cannot_set(CONSUMER, f"the method {config.method}")
    check_fixed_length(CONSUMER, config)
    draft = _name(deployment.draft_name, deployment.rec.draft_of(config), "--draft-name")
    sampled = {"draft_sample_method": "probabilistic"} if config.draft_sampling == "probabilistic" else {}
    return {"method": "draft_model", "model": draft, "num_speculative_tokens": config.k, **sampled}


def _name(given: str, model: Model, option: str) -> str:
    name = given or model.hub
    if not name:
        raise OptionError(
            f"{CONSUMER} cannot be given the file of {model.label}.",
            why="It takes models of the Hugging Face hub, and the recommendation knows only a GGUF file.",
            fix=f"Name the same model there: {option} OWNER/NAME.",
        )
    return name
