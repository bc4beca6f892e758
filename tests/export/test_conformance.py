"""Every exporter through the suite that a new one has to pass."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

from advisor.exporters import EXPORTERS, Exporter
from advisor.exporters.deployment import Deployment, chosen, remarks
from advisor.exporters.llama_server import flags
from advisor.testing.exporters import ExporterConformance
from advisor.types import PLAIN_CACHE, Config, Recommendation


class TestLlamaServer(ExporterConformance):
    name = "llama-server"


class TestLlamaCli(ExporterConformance):
    name = "llama-cli"


class TestLlamaSwap(ExporterConformance):
    name = "llama-swap"


class TestDockerCompose(ExporterConformance):
    name = "docker-compose"


class TestSystemd(ExporterConformance):
    name = "systemd"
    comment = re.compile(r"# [\w ._,:+%/=~-]*", re.ASCII)  # names a folder in the user's home


class TestLmStudio(ExporterConformance):
    name = "lm-studio"
    refuses = frozenset({"ngram", "repack"})


class TestMlxLm(ExporterConformance):
    name = "mlx-lm"
    refuses = frozenset({"ngram", "repack"})


class TestVllm(ExporterConformance):
    name = "vllm"
    refuses = frozenset({"repack"})


class TestLlamaCppPython(ExporterConformance):
    name = "llama-cpp-python"
    refuses = frozenset({"draft", "repack"})


class TestJson(ExporterConformance):
    name = "json"


def test_every_exporter_is_tested() -> None:
    assert {kind.name for kind in ExporterConformance.__subclasses__()} >= set(EXPORTERS)


# -- the suite itself --------------------------------------------------------------------------------------------------


class Written(ExporterConformance):
    """An exporter that was never added to the table."""

    name = "llama-server"

    def __init__(self, text: Callable[[Deployment], str]) -> None:
        self._text = text

    @property
    def exporter(self) -> Exporter:
        return Exporter(self._text)


def forgetting(forget: Callable[[Recommendation], Recommendation]) -> Callable[[Deployment], str]:
    """Says all in its remarks, and writes a command that lacks something."""

    def text(deployment: Deployment) -> str:
        kept = forget(deployment.rec)
        return "\n".join([*remarks(deployment.rec), *flags(kept, chosen(kept), deployment.dialect), ""])

    return text


def without(**changes: object) -> Callable[[Recommendation], Recommendation]:
    """Forgets these fields of the config."""

    def forget(rec: Recommendation) -> Recommendation:
        if rec.best is None:
            return rec
        best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, **changes))
        return dataclasses.replace(rec, best=best)

    return forget


def placed(**changes: object) -> Callable[[Recommendation], Recommendation]:
    def forget(rec: Recommendation) -> Recommendation:
        candidates = (
            dataclasses.replace(one, placement=dataclasses.replace(one.placement, **changes)) for one in rec.candidates
        )
        return dataclasses.replace(rec, candidates=tuple(candidates))

    return forget


def sampled(**changes: object) -> Callable[[Recommendation], Recommendation]:
    def forget(rec: Recommendation) -> Recommendation:
        sampling = dataclasses.replace(rec.settings.sampling, **changes)
        return dataclasses.replace(rec, settings=dataclasses.replace(rec.settings, sampling=sampling))

    return forget


def set_to(**changes: object) -> Callable[[Recommendation], Recommendation]:
    return lambda rec: dataclasses.replace(rec, settings=dataclasses.replace(rec.settings, **changes))


FORGETFUL = {
    "k": without(k=4),
    "ngram_size": without(ngram_size=4),
    "p_min": without(p_min=Config("", 1).p_min),
    "n_min": without(n_min=0),
    "draft_sampling": without(draft_sampling="greedy"),
    "cache_type": placed(cache_type=PLAIN_CACHE),
    "draft_threads": placed(draft_threads=0),
    "target_gpu_layers": placed(target_gpu_layers=-1),
    "draft_gpu_layers": placed(draft_gpu_layers=-1),
    "threads": set_to(threads=0),
    "temperature": sampled(temperature=0.0),
    "top_p": sampled(top_p=1.0),
    "top_k": sampled(top_k=0),
    "min_p": sampled(min_p=0.0),
    "context": set_to(context=4096),
}


@pytest.mark.parametrize("thing", FORGETFUL)
def test_an_exporter_that_drops_a_thing_is_found_out(thing: str) -> None:
    with pytest.raises(AssertionError, match=f"{thing} was dropped"):
        Written(forgetting(FORGETFUL[thing])).test_nothing_of_the_recommendation_is_dropped()
    Written(forgetting(lambda rec: rec)).test_nothing_of_the_recommendation_is_dropped()


def test_an_export_of_a_no_that_loads_a_draft_under_a_name_of_its_own_is_found_out() -> None:
    with pytest.raises(AssertionError, match="a draft in it"):
        Written(lambda one: f"serve --draft {one.draft_name}\n").test_a_verdict_of_no_is_the_target_alone()
    Written(lambda one: f"serve {one.target_name}\n").test_a_verdict_of_no_is_the_target_alone()
