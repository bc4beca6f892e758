import dataclasses
import importlib.resources
import json
from typing import Any

import jsonschema
import pytest

from advisor.errors import FileProblem
from advisor.report.json_document import document, dumps, host_document, load
from advisor.testing.builders import make_estimate, make_host, make_measurement, make_model, make_recommendation
from advisor.types import Recommendation

COMMAND = ["llama-server", "-m", "/models/target.gguf"]
CANDIDATE_KEYS = {
    *("draft", "quant", "method", "k", "p_min", "n_min", "fits", "memory_bytes", "acceptance_rate"),
    *("tokens_per_step", "speedup", "speedup_low", "speedup_high", "tokens_per_second", "evidence"),
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    text = importlib.resources.files("advisor").joinpath("schema", "recommendation.schema.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def parsed(rec: Recommendation, *, show_all: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(dumps(document(rec, command=COMMAND, show_all=show_all)))
    return result


@pytest.mark.parametrize("verdict", ["speculate", "do-not-speculate"])
@pytest.mark.parametrize("show_all", [False, True])
def test_the_document_validates(validator: jsonschema.Draft202012Validator, verdict: Any, show_all: bool) -> None:
    validator.validate(parsed(make_recommendation(verdict), show_all=show_all))


def test_the_document_without_any_candidate_validates(validator: jsonschema.Draft202012Validator) -> None:
    rec = make_recommendation("do-not-speculate", candidates=(), estimates=(), rejected=(), trials=())
    validator.validate(parsed(rec))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("baseline"),
        lambda d: d.update(extra=1),
        lambda d: d["baseline"].update(extra=1),
        lambda d: d["candidates"][0].pop("k"),
        lambda d: d["candidates"][0].update(extra=1),
        lambda d: d["recommendation"].pop("draft"),
        lambda d: d["recommendation"].update(verdict="do-not-speculate"),
        lambda d: d["rejected"][0].update(reason="because"),
        lambda d: d.update(schema="something/else"),
        lambda d: d.update(command="llama-server"),
    ],
)
def test_the_schema_refuses_what_the_document_never_is(validator: jsonschema.Draft202012Validator, spoil: Any) -> None:
    spoiled = parsed(make_recommendation())
    spoil(spoiled)
    assert not validator.is_valid(spoiled)


def test_keys_are_exactly_those_promised() -> None:
    found = parsed(make_recommendation())
    assert set(found) == {
        *("schema", "host", "target", "workload", "baseline", "candidates", "rejected"),
        *("recommendation", "measurement", "command", "record"),
    }
    assert set(found["baseline"]) == {"tokens_per_second"}
    assert all(set(candidate) == CANDIDATE_KEYS for candidate in found["candidates"])
    assert all(set(rejected) == {"draft", "quant", "reason", "detail"} for rejected in found["rejected"])
    assert set(found["recommendation"]) == {"verdict", "sentence"} | CANDIDATE_KEYS
    assert found["command"] == COMMAND


def test_do_not_speculate_names_no_draft() -> None:
    rec = make_recommendation("do-not-speculate")
    found = parsed(dataclasses.replace(rec, best=rec.estimates[0]))
    assert set(found["recommendation"]) == {"verdict", "sentence"}


def test_each_draft_is_listed_once_with_its_best_config() -> None:
    rec = make_recommendation()
    assert [(c["draft"], c["k"]) for c in parsed(rec)["candidates"]] == [
        ("Example-0.5B-Instruct", 4),
        ("Example-1.5B-Instruct", 4),
    ]
    assert len(parsed(rec, show_all=True)["candidates"]) == len(rec.estimates) == 6


def test_the_pick_stands_for_its_draft_even_where_another_config_is_nominally_faster() -> None:
    rec = make_recommendation()
    found = parsed(dataclasses.replace(rec, best=rec.estimates[2]))
    assert found["candidates"][0]["k"] == rec.estimates[2].config.k == found["recommendation"]["k"]
    assert len(found["candidates"]) == 2


def test_the_baseline_is_not_a_candidate() -> None:
    rec = make_recommendation()
    with_baseline = dataclasses.replace(rec, estimates=(*rec.estimates, make_estimate("", 1.0, k=0)))
    assert len(parsed(with_baseline, show_all=True)["candidates"]) == 6


def test_a_saved_document_gives_the_whole_recommendation_back() -> None:
    for verdict in ("speculate", "do-not-speculate"):
        rec = make_recommendation(verdict)
        assert load(dumps(document(rec, command=COMMAND))) == rec


def test_names_cannot_drive_a_terminal_through_the_json() -> None:
    target = make_model("evil\x1b[2J\u202e\x9b", "Q8_0")
    text = dumps(document(make_recommendation(target=target), command=[]))
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text)["target"]["name"] == target.name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "does not name its schema"),
        ("{}", "does not name its schema"),
        ('{"schema": "draft-advisor/recommendation/99", "record": {}}', "recommendation/99"),
        ('{"schema": "draft-advisor/recommendation/1"}', "record is missing"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_loading_something_else_says_what_it_is(text: str, why: str) -> None:
    with pytest.raises(FileProblem) as caught:
        load(text)
    assert why in caught.value.why


def test_loading_a_damaged_record_names_the_field() -> None:
    found = parsed(make_recommendation())
    found["record"]["baseline"]["token_s"] = "soon"
    with pytest.raises(FileProblem, match=r"baseline\.token_s"):
        load(json.dumps(found))


def test_a_store_answer_says_so() -> None:
    rec = make_recommendation(measurement=make_measurement(from_store=True, notes=("all from the store",)))
    found = parsed(rec)["measurement"]
    assert found["from_store"] is True
    assert found["notes"] == ["all from the store"]


def test_the_host_document_carries_every_field_of_the_probe() -> None:
    host = make_host()
    found = host_document(host)
    assert found["schema"] == "draft-advisor/host/1"
    assert set(found["host"]) == {field.name for field in dataclasses.fields(host)}


def test_a_predicted_draft_that_is_here_is_marked(validator: jsonschema.Draft202012Validator) -> None:
    rec = make_recommendation()
    here, missing = rec.candidates[0], rec.candidates[1]
    missing = dataclasses.replace(missing, draft=dataclasses.replace(missing.draft, path=""))
    estimates = tuple(dataclasses.replace(one, evidence="prior") for one in rec.estimates)
    rec = dataclasses.replace(rec, candidates=(here, missing), estimates=estimates, best=estimates[0])
    found = parsed(rec)
    validator.validate(found)
    marked = {one["draft"]: one.get("on_disk") for one in found["candidates"]}
    assert marked == {here.draft.name: True, missing.draft.name: None}
    assert found["recommendation"]["on_disk"] is True
