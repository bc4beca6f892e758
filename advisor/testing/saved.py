"""Four recommendations as people have them saved, for every exporter.

draft    a draft on a graphics card; code wants longer drafts than chat
ngram    a method without a draft
none     do not speculate
repack   a machine without a GPU on which llama.cpp needs --no-repack; sampled, with p_min and a number of threads
"""

from __future__ import annotations

import dataclasses
from typing import Any

from advisor.dialect import dialect_of
from advisor.exporters.deployment import Deployment
from advisor.testing.builders import (
    make_estimate,
    make_gpu_host,
    make_measurement,
    make_recommendation,
)
from advisor.types import Config, Placement, Recommendation, Sampling, Settings

GPU = Placement(-1, -1, "CUDA0")
AWKWARD = (
    "/my models/it's \"5 $HOME ${PORT} $(touch x) `id` %h 100%/tar\\get;&|<>*?!#.gguf",
    "/models/übung 模型 🦙/dra'ft.gguf",
)
DEPLOYED_NAMES = ("example/Target-14B", "example/Draft-0.5B")
"""What a program with models of its own is told to call target and draft."""
LINES = ("/models/two\nlines\n# three\n", "/models/bell\x07 escape\x1b[2J override\u202e.gguf")


def draft() -> Recommendation:
    rec = make_recommendation(host=make_gpu_host())
    small = rec.candidates[0].draft
    estimates = (
        make_estimate(small, 1.42, 4, evidence="measured", speedup_by_category={"code": 1.5, "chat": 1.34}),
        make_estimate(small, 1.35, 8, speedup_by_category={"code": 2.2, "chat": 0.9}),
        make_estimate(small, 1.33, 2, speedup_by_category={"code": 1.25, "chat": 1.41}),
    )
    candidates = tuple(dataclasses.replace(one, placement=GPU) for one in rec.candidates)
    return dataclasses.replace(rec, estimates=estimates, best=estimates[0], candidates=candidates, traces={})


def ngram(method: str = "ngram-simple") -> Recommendation:
    rec = make_recommendation()
    found = make_estimate("", 1.2, 8, method=method, acceptance_rate=0.5, speedup_by_category={})
    best = dataclasses.replace(found, config=Config("", 8, method=method, ngram_size=4))
    return dataclasses.replace(rec, best=best, estimates=(best, *rec.estimates), traces={}, categories=("code",))


def none() -> Recommendation:
    return dataclasses.replace(make_recommendation("do-not-speculate"), traces={}, categories=("code",))


def repack() -> Recommendation:
    rec = make_recommendation(
        settings=Settings(context=8192, threads=6, sampling=Sampling(temperature=0.8)),
        measurement=make_measurement(repack_off=True),
    )
    return dataclasses.replace(rec, traces={}, categories=("code",))


SAVED = {"draft": draft, "ngram": ngram, "none": none, "repack": repack}


def deployed(rec: Recommendation, **changes: Any) -> Deployment:
    """For a current build and a POSIX shell; other programs call the models by these names."""
    target, small = DEPLOYED_NAMES
    named = Deployment(rec, dialect_of(0), target_name=target, draft_name=small)
    return dataclasses.replace(named, **changes)


def with_paths(rec: Recommendation, target: str, draft: str) -> Recommendation:
    """The same models in other files."""

    def at(model: Any, path: str) -> Any:
        return dataclasses.replace(model, path=path, paths=(path,))

    candidates = tuple(dataclasses.replace(one, draft=at(one.draft, draft)) for one in rec.candidates)
    return dataclasses.replace(rec, target=at(rec.target, target), candidates=candidates)


def awkward(names: tuple[str, str] = AWKWARD) -> Recommendation:
    return with_paths(draft(), *names)


def with_device(rec: Recommendation, device: str) -> Recommendation:
    layers = 0 if device == "CPU" else -1
    candidates = tuple(dataclasses.replace(one, placement=Placement(layers, layers, device)) for one in rec.candidates)
    return dataclasses.replace(rec, candidates=candidates)
