"""Costs of a server: curves of another origin scaled to its own runs."""

from __future__ import annotations

import pytest

from advisor.cost.calibration import LENGTHS, Costs, expected, fit, step_passes, token_s
from advisor.types import Config, CostCurve, Run, Trial
from tests.builders import make_model

TARGET = make_model("Target", weights_bytes=10_000)
SMALL, LARGE, OTHER = (make_model(name, weights_bytes=size) for name, size in (("S", 500), ("L", 2000), ("O", 1000)))
TOKEN_S, B_MAX = 0.05, 17
DRAFTS = {"S": SMALL.content_hash, "L": LARGE.content_hash, "O": OTHER.content_hash}


def trial(draft: str, k: int, step_passes: float, *, token_s: float = TOKEN_S) -> Trial:
    """Two prompts, 20 steps each, of which every third token was accepted; a step takes ``step_passes`` * t(1)."""
    accepted = 20 * k // 3
    run = Run(21 + accepted, 20 * step_passes * token_s, 0, steps=20, drafted=20 * k, accepted=accepted)
    return Trial.of(Config(DRAFTS[draft], k), [(Run(64, 63 * token_s, 0), run)] * 2)


def staircase(b: int) -> float:
    """t(b) in passes: kernels that take four tokens at a time."""
    return 1 + 0.3 * ((b - 1) // 4) + 0.02 * (b - 1)


def step(a: float, b: float, d: float, k: int, again: int = 1) -> float:
    """A server whose target rows cost ``a`` times and whose draft costs ``b`` times what was timed here."""
    return 1 + a * (staircase(k + 1) - 1) + b * d * (k + again)


def timed(**passes: float) -> Costs:
    """What was timed in this process, whose target is faster than the server's."""
    unit_s = 0.03
    target = CostCurve(64, (unit_s,), {b: (unit_s * staircase(b),) for b in range(1, B_MAX + 1)})
    drafts = {
        DRAFTS[name]: CostCurve(64, (unit_s,), {1: (unit_s * d,), B_MAX: (unit_s * d,)}) for name, d in passes.items()
    }
    return Costs(target, drafts)


@pytest.mark.parametrize("again", [0, 1])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (1.4, 1.2), (0.7, 1.0), (1.0, 0.7)])
def test_a_server_of_other_kernels_is_priced_at_every_length(again, a, b):
    d = {"S": 0.06, "L": 0.25}
    runs = [trial(name, k, step(a, b, d[name], k, again)) for name in d for k in LENGTHS]
    found = fit(runs, timed(**d), reevaluates=bool(again))
    for name in d:
        for k in (1, 2, 3, 4, 6, 8, 12):
            told = step_passes(found, DRAFTS[name], k, reevaluates=bool(again))
            assert told == pytest.approx(step(a, b, d[name], k, again), rel=0.04)


def test_without_timed_decodes_a_line_through_the_runs_is_what_is_known():
    def line(d: float, k: int) -> float:
        return 1 + 0.3 * k + d * (k + 1)

    passes = {"S": 0.1, "L": 0.3}
    before = expected(TARGET, [SMALL, LARGE], 0.01, 64, B_MAX)
    found = fit([trial(n, k, line(d, k)) for n, d in passes.items() for k in LENGTHS], before, reevaluates=True)
    for name, d in passes.items():
        for k in (2, 4, 6, 8):
            assert step_passes(found, DRAFTS[name], k, reevaluates=True) == pytest.approx(line(d, k), rel=0.03)


def test_a_draft_that_did_not_run_is_scaled_as_the_others_were():
    d = {"S": 0.06, "L": 0.25}
    runs = [trial(name, k, step(1.0, 1.5, d[name], k)) for name in d for k in LENGTHS]
    found = fit(runs, timed(**d, O=0.1), reevaluates=True)
    assert found.drafts[DRAFTS["O"]].rounds_s[1][0] / TOKEN_S == pytest.approx(0.15, rel=0.15)


def test_nothing_is_cheaper_than_free():
    found = fit([trial("S", k, 0.9) for k in LENGTHS], timed(S=0.06), reevaluates=True)
    assert min(found.target.rounds_s[b][0] for b in range(1, B_MAX + 1)) >= TOKEN_S * 0.999
    assert found.drafts[DRAFTS["S"]].rounds_s[1][0] >= 0


def test_a_machine_that_slows_down_between_two_runs_does_not_change_the_costs():
    still = [trial("S", k, step(1.2, 1.2, 0.06, k)) for k in LENGTHS]
    slow = [trial("S", k, step(1.2, 1.2, 0.06, k), token_s=s) for k, s in zip(LENGTHS, (0.05, 0.09), strict=True)]
    first, second = (fit(runs, timed(S=0.06), reevaluates=True) for runs in (still, slow))
    for k in (1, 4, 8):
        told = [step_passes(one, DRAFTS["S"], k, reevaluates=True) for one in (first, second)]
        assert told[0] == pytest.approx(told[1])


def test_curves_are_in_the_seconds_of_the_server_and_say_that_they_were_fitted():
    runs = [trial("S", k, step(1.0, 1.0, 0.06, k)) for k in LENGTHS]
    found = fit(runs, timed(S=0.06), reevaluates=True)
    assert found.target.fitted
    assert all(curve.fitted for curve in found.drafts.values())
    assert found.target.rounds_s[1] == (pytest.approx(TOKEN_S),)
    assert token_s(runs) == pytest.approx(TOKEN_S)
