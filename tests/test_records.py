"""Every record that is kept or sent survives JSON, whatever is in it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.errors import FileProblem
from advisor.plan import Plan
from advisor.runs import Pair
from advisor.store import Store
from advisor.testing.builders import make_recommendation
from advisor.types import (
    Candidate,
    CostCurve,
    Estimate,
    Host,
    Model,
    Recommendation,
    Run,
    Settings,
    Trace,
    Transcript,
    Trial,
    from_json,
    to_json,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
KEPT = (Run, Pair, Plan, Trace, Transcript, CostCurve, Trial, Host, Model, Settings, Candidate, Estimate)


@pytest.fixture(autouse=True, scope="module")
def finite_numbers():
    """No measurement is infinite; JSON has no word for it."""
    st.register_type_strategy(float, NUMBERS)
    yield
    st.register_type_strategy(float, st.floats())


@pytest.mark.parametrize("record_type", KEPT, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_record_comes_back_from_json_and_from_the_store(record_type: type[Any], data: st.DataObject) -> None:
    record = data.draw(st.from_type(record_type))
    assert from_json(record_type, to_json(record)) == record
    with Store.in_memory() as store:
        store.put("any", {"a": 1}, record, wall_s=1)
        assert store.get("any", {"a": 1}, record_type) == record


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from([field.name for field in dataclasses.fields(Recommendation)]), value=st.text(max_size=5))
def test_a_recommendation_with_a_field_of_another_type_is_a_file_problem_or_sound(name: str, value: str) -> None:
    document = json.loads(to_json(make_recommendation()))
    document[name] = value
    said = ""
    try:
        assert getattr(from_json(Recommendation, json.dumps(document)), name) == value
    except FileProblem as error:
        said = str(error)
    assert not said or name in said
