"""The document of `advisor watch --once --format json` against its published schema."""

from __future__ import annotations

import dataclasses
import importlib.resources
import itertools
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from advisor.report import json_document
from advisor.report.watch_document import WATCH_SCHEMA, document
from advisor.testing.builders import make_recommendation
from advisor.types import Recommendation
from advisor.watch import Watcher
from tests.watch.servers import Counting, Script
from tests.watch.test_judgement import recommended

GOOD, BAD = Counting().answered(200, (160, 140, 130, 120)), Counting().answered(200, (60, 20, 5, 0))
SERVERS = {
    "waiting": Counting(),
    "pays": GOOD,
    "below": BAD,
    "nothing drafted": Counting().answered(900, ()),
    "few": Counting().answered(5, (3, 2, 1, 1)),
    "does not count": Counting(counts_drafts=False).answered(900, (5,)),
    "shared": dataclasses.replace(GOOD, busy_per_decode=3.0),
}
RECOMMENDATIONS = {"none": None, "a pairing": recommended(), "not to": make_recommendation("do-not-speculate")}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    text = importlib.resources.files("advisor").joinpath("schema", "watch.schema.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def said(*states: Counting, rec: Recommendation | None, lately: bool = False) -> dict[str, Any]:
    clock = itertools.count(0, 5)
    slots = [{"is_processing": True, "speculative": True, "next_token": [{"n_decoded": 7}]}]
    watcher = Watcher(Script(*states, slots=slots), rec, lambda: float(next(clock)))
    for _ in states:
        watcher.read()
    view = watcher.view(watcher.history.lately if lately else watcher.history.since_start)
    parsed: dict[str, Any] = json.loads(json_document.dumps(document(view, server="http://127.0.0.1:8080")))
    return parsed


@pytest.mark.parametrize("rec", RECOMMENDATIONS)
@pytest.mark.parametrize("server", SERVERS)
def test_the_document_validates(validator: jsonschema.Draft202012Validator, server: str, rec: str) -> None:
    validator.validate(said(SERVERS[server], rec=RECOMMENDATIONS[rec]))


def test_the_document_of_a_span_and_of_a_restart_validates(validator: jsonschema.Draft202012Validator) -> None:
    span = said(GOOD, GOOD.answered(100, (10, 5, 2, 1)), rec=recommended(), lately=True)
    restarted = said(GOOD, Counting().answered(100, (10, 5, 2, 1)), rec=recommended(), lately=True)
    assert (span["live"]["seconds"], restarted["restarted"]) == (5.0, True)
    validator.validate(span)
    validator.validate(restarted)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("judgement"),
        lambda d: d.update(extra=1),
        lambda d: d.update(schema="draft-advisor/watch/2"),
        lambda d: d["live"].pop("drafted"),
        lambda d: d["live"].update(tokens=None),
        lambda d: d["expected"].update(k=0),
        lambda d: d["judgement"].update(state="fine"),
        lambda d: d["judgement"].update(speed="fast"),
        lambda d: d.update(expected={}),
    ],
)
def test_the_schema_refuses_what_the_document_never_is(
    validator: jsonschema.Draft202012Validator, spoil: Callable[[dict[str, Any]], object]
) -> None:
    spoiled = said(GOOD, rec=recommended())
    assert validator.is_valid(spoiled)
    spoil(spoiled)
    assert not validator.is_valid(spoiled)


def test_the_schema_is_of_this_version(validator: jsonschema.Draft202012Validator) -> None:
    assert validator.schema["properties"]["schema"]["const"] == WATCH_SCHEMA
