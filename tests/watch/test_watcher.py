"""A watch through failures and restarts, on a clock of its own."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from advisor.errors import ServerProblem
from advisor.testing.builders import make_recommendation
from advisor.types import Recommendation
from advisor.watch import View, Watcher, follow
from tests.watch.servers import Counting, Script

DOWN = ServerProblem("http://127.0.0.1:8080 is not reachable.")


class Enough(Exception):
    pass


def watched(script: Script, looks: int, rec: Recommendation | None = None) -> list[View]:
    """What is shown at each of so many looks, 5 seconds apart."""
    clock = itertools.count(0, 5)
    now = [0.0]
    waits = itertools.count(1)
    views: list[View] = []

    def wait() -> None:
        now[0] = float(next(clock))
        if next(waits) == looks:
            raise Enough

    with pytest.raises(Enough):
        follow(Watcher(script, rec, lambda: now[0]), views.append, wait)
    return views


def test_every_look_adds_to_what_is_known() -> None:
    one = Counting().answered(100, (90, 80))
    two = one.answered(100, (10, 0))
    views = watched(Script(one, one, two, slots=[{"is_processing": True}]), 3)
    assert [view.live.tokens if view.live else None for view in views] == [None, 0, 110]
    assert [view.since_start.tokens for view in views if view.since_start] == [270, 270, 380]
    assert views[-1].reading is not None
    assert views[-1].reading.slots is not None
    assert all(view.problem is None for view in views)


def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    views = watched(Script(DOWN, DOWN, Counting(), Counting().answered(200, (90, 80))), 4)
    assert [view.problem for view in views] == [DOWN, DOWN, None, None]
    assert views[0].reading is None
    assert views[-1].live is not None
    assert views[-1].live.tokens == 370


def test_it_goes_on_through_a_restart() -> None:
    old = Counting().answered(1000, (900, 800))
    new = Counting().answered(100, (30, 10))
    views = watched(Script(old, DOWN, DOWN, new), 4)
    assert [view.restarts for view in views] == [0, 0, 0, 1]
    assert views[2].since_start is not None
    assert views[2].since_start.tokens == old.tokens, "what was known stays on the screen"
    assert views[3].live is not None
    assert views[3].live.acceptance_rate == pytest.approx(0.2)


def test_a_connection_that_failed_is_no_restart() -> None:
    one = Counting().answered(100, (90, 80))
    views = watched(Script(one, DOWN, one.answered(100, (90, 80))), 3)
    assert views[-1].restarts == 0
    assert views[-1].live is not None
    assert views[-1].live.tokens == 270


def test_what_is_no_llama_server_is_a_problem_not_a_crash() -> None:
    (view,) = watched(Script(dataclasses.replace(Counting(), decode_s=float("nan"))), 1)
    assert view.problem is not None
    assert "nan" in view.problem.why


@pytest.mark.parametrize(
    ("served", "said"),
    [
        ("/other/place/Example-14B-Instruct-Q8_0.gguf", False),
        ("C:\\models\\Example-14B-Instruct-Q8_0.gguf", False),
        ("/models/Another-7B.gguf", True),
        ("", False),
    ],
)
def test_another_model_than_recommended_is_said(served: str, said: bool) -> None:
    (view,) = watched(Script(Counting(), model=served), 1, make_recommendation())
    assert any("Another-7B.gguf" in one for one in view.judgement.warnings) == said


def test_another_model_is_not_judged_by_the_recommendation() -> None:
    poor = [Counting().answered(500, (30,)), Counting().answered(500, (30,)).answered(500, (30,))]
    own, other = (
        watched(Script(*poor, model=f"/m/{name}.gguf"), 2, make_recommendation())[-1].judgement
        for name in ("Example-14B-Instruct-Q8_0", "Another-7B")
    )
    assert own.below
    assert (other.state, other.below, other.advice) == ("not-compared", False, ())


@pytest.mark.parametrize(("parameters", "said"), [(14_770_000_000, False), (134_000_000, True), (0, False)])
def test_of_a_target_that_was_only_named_the_number_of_parameters_tells(parameters: int, said: bool) -> None:
    rec = make_recommendation()
    named = dataclasses.replace(rec, target=dataclasses.replace(rec.target, path="", parameters=14_800_000_000))
    refused = dataclasses.replace(named, verdict="do-not-speculate", best=None)
    drafting = [Counting().answered(500, (30,)), Counting().answered(500, (30,)).answered(500, (30,))]
    for one in (named, refused):
        view = watched(Script(*drafting, model="/m/x.gguf", parameters=parameters), 2, one)[-1]
        warnings = " ".join(view.judgement.warnings)
        assert ("0.13 billion parameters" in warnings) is said
        if said:
            assert view.judgement.state == "not-compared"
            assert "not to speculate" not in warnings


def test_the_model_is_asked_again_after_a_restart() -> None:
    class Changing(Script):
        def __init__(self, *said: Any) -> None:
            super().__init__(*said)
            self.models = ["/models/Example-14B-Instruct-Q8_0.gguf", "/models/Another-7B.gguf"]

        def model_path(self) -> str:
            return self.models.pop(0)

    views = watched(Changing(Counting().answered(100, (90,)), Counting()), 2, make_recommendation())
    assert [bool(view.judgement.warnings) for view in views] == [False, True]
