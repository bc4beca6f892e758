"""A recommendation as a Python program with llama-cpp-python. Its only way to speculate is to look up the prompt.

So a draft model cannot be had with it, and of the methods without one only ngram-simple comes near: the others keep a
memory that LlamaPromptLookupDecoding does not have.
"""

from __future__ import annotations

from typing import Any

from advisor.exporters.deployment import (
    Deployment,
    cannot,
    cannot_set,
    check_first_match_drafts,
    check_known,
    check_plain_cache,
    remarks,
)
from advisor.types import Config, Model

CONSUMER = "llama-cpp-python"
TAKES_BUILD = False
SPLIT_MODE_NONE = 0  # llama_cpp.LLAMA_SPLIT_MODE_NONE: the whole model on main_gpu


def text(deployment: Deployment) -> str:
    rec, config, sampling = deployment.rec, deployment.config, deployment.rec.settings.sampling
    check_known(deployment, CONSUMER)
    if rec.measurement.repack_off:
        raise cannot(
            CONSUMER, "--no-repack", why="Its class Llama has no such argument, and would crash on this machine."
        )
    source, given = _source(rec.target)
    given |= {"n_ctx": rec.settings.context, "seed": sampling.seed}
    given |= {"n_gpu_layers": deployment.placement.target_gpu_layers}
    given |= _one_gpu(deployment)
    check_plain_cache(CONSUMER, deployment, why="This export does not write it.")
    given |= {"n_threads": rec.settings.threads} if rec.settings.threads else {}
    arguments = [f"{name}={value!a}" for name, value in given.items()]
    arguments += [f"draft_model={_lookup(config)}"] if config is not None else []
    lines = remarks(rec)
    if config is not None:
        lines.append("This also looks up fewer tokens than the recommendation, and copies from the first match.")
    lookup = ["from llama_cpp.llama_speculative import LlamaPromptLookupDecoding"] if config is not None else []
    return "\n".join(
        [
            *(f"# {line}" for line in lines),
            "from llama_cpp import Llama",
            *lookup,
            "",
            f"llm = {source}(",
            *(f"    {argument}," for argument in arguments),
            ")",
            "reply = llm.create_chat_completion(",
            '    messages=[{"role": "user", "content": "Say hello."}],',
            f"    temperature={sampling.temperature!r},",
            f"    top_p={sampling.top_p!r},",
            f"    top_k={sampling.top_k!r},",
            f"    min_p={sampling.min_p!r},",
            f"    max_tokens={rec.settings.max_tokens!r},",
            ")",
            'print(reply["choices"][0]["message"]["content"])',
            "",
        ]
    )


def _source(model: Model) -> tuple[str, dict[str, Any]]:
    if model.path:
        return "Llama", {"model_path": model.path}
    repository, _, quant = model.hub.partition(":")
    return "Llama.from_pretrained", {"repo_id": repository, "filename": f"*{quant}.gguf"}


def _one_gpu(deployment: Deployment) -> dict[str, Any]:
    """The arguments that keep it on the GPU whose memory was counted. It numbers GPUs as llama.cpp lists them:
    integrated ones only where there is no other."""
    if not deployment.gpu:
        return {}
    kind = next(device.kind for device in deployment.rec.host.devices if device.name == deployment.gpu)
    names = [device.name for device in deployment.rec.host.devices if device.kind == kind]
    return {"split_mode": SPLIT_MODE_NONE, "main_gpu": names.index(deployment.gpu)}


def _lookup(config: Config) -> str:
    if config.draft:
        raise cannot_set(CONSUMER, "a draft model", why="Its only draft is LlamaPromptLookupDecoding.")
    if config.method != "ngram-simple":
        raise cannot_set(CONSUMER, f"the method {config.method}", why="LlamaPromptLookupDecoding has no memory.")
    check_first_match_drafts(CONSUMER, config)
    return f"LlamaPromptLookupDecoding(max_ngram_size={config.ngram_size}, num_pred_tokens={config.k})"
