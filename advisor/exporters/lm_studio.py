"""A recommendation as the settings to make in LM Studio. The format of its presets is not documented.

The names in brackets are those of its SDK (lmstudio-js, prediction settings of llama.cpp models), which tell a setting
whatever the app calls it in your version.
"""

from __future__ import annotations

from advisor.exporters.deployment import Deployment, cannot, cannot_set, check_known, harmless, layers_in_words, remarks
from advisor.exporters.llama_server import shell
from advisor.types import PLAIN_CACHE, Config, Model, Placement

CONSUMER = "lm-studio"
TAKES_BUILD = False
ONLY_OF_THE_TARGET = "That is a setting of the target: the draft is loaded with the app's own."


def text(deployment: Deployment) -> str:
    rec, config = deployment.rec, deployment.config
    check_known(deployment, CONSUMER)
    if rec.measurement.repack_off:
        raise cannot(CONSUMER, "--no-repack", why="llama.cpp crashes on this machine with repacked weights.")
    if config is not None and config.method != "draft-simple":
        raise cannot_set(CONSUMER, f"the method {config.method}", why="It drafts with a model only.")
    if config is not None and config.draft_sampling == "probabilistic":
        raise cannot_set(CONSUMER, "rejection sampling", why="Its settings do not name it.")
    if deployment.draft is not None:
        _check_draft_as_the_app_loads_it(deployment.placement)
    steps = [
        *(_get(model, windows=deployment.windows) for model in deployment.models),
        f"Load {harmless(rec.target.label)} with these settings: {'; '.join(_loading(deployment))}.",
        f"In the chat, set: temperature {rec.settings.sampling.temperature:g}, "
        f"top-p {rec.settings.sampling.top_p:g}, top-k {rec.settings.sampling.top_k}, "
        f"min-p {rec.settings.sampling.min_p:g}.",
    ]
    if config is not None:
        steps = ["Choose Power User at the bottom of the window.", *steps, *_drafting(deployment, config)]
    if deployment.gpu:
        steps = [f"In the hardware settings, leave only {harmless(deployment.gpu)} switched on [disabledGpus].", *steps]
    numbered = [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
    return "\n".join([*remarks(rec), *_not_expressed(deployment), "", *numbered, ""])


def _check_draft_as_the_app_loads_it(place: Placement) -> None:
    """OptionError for what only the target has a setting for: of the draft the app takes the name."""
    if place.cache_type != PLAIN_CACHE:
        raise cannot_set(CONSUMER, f"a cache of {place.cache_type} for the draft", why=ONLY_OF_THE_TARGET)
    if place.draft_threads:
        raise cannot_set(CONSUMER, f"{place.draft_threads} threads for the draft", why=ONLY_OF_THE_TARGET)


def _not_expressed(deployment: Deployment) -> list[str]:
    """What there is no setting for, and the app may choose as it was found."""
    if deployment.draft is None:
        return []
    layers = layers_in_words(deployment.placement.draft_gpu_layers)
    return [f"There is no setting for where the draft is. It was found with this GPU offload of the draft: {layers}."]


def _get(model: Model, *, windows: bool) -> str:
    if model.path:
        command = " ".join(shell([word], windows=windows) for word in ("lms", "import", "--copy", model.path))
        return f"Import {harmless(model.label)}, unless the app lists it: {command}"
    return f"Download {harmless(model.hub)} in the app's model search."


def _loading(deployment: Deployment) -> list[str]:
    rec = deployment.rec
    offload, cache = layers_in_words(deployment.placement.target_gpu_layers), deployment.placement.cache_type
    quantized = [f"K and V cache quantization {cache}, flash attention on"] if cache != PLAIN_CACHE else []
    threads = [f"CPU threads {rec.settings.threads}"] if rec.settings.threads else []
    return [f"context length {rec.settings.context}", f"GPU offload {offload}", *quantized, *threads]


def _drafting(deployment: Deployment, config: Config) -> list[str]:
    numbers = [
        f"most tokens to draft: {config.k} [maxTokensToDraft]",
        f"least draft length: {config.n_min} [minDraftLengthToConsider]",
        f"drafting probability cutoff: {config.p_min:g} [minContinueDraftingProbability]",
    ]
    return [
        f"In the section Speculative Decoding of the chat's sidebar, choose "
        f"{harmless(deployment.rec.draft_of(config).label)} as the draft model.",
        f"In the same section: {'; '.join(numbers)}.",
    ]
