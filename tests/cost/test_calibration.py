"""Costs of a server fitted to whole runs."""

from __future__ import annotations

import pytest

from advisor.cost.calibration import LENGTHS, expected, fit, token_s
from advisor.types import Config, Run, Trial
from tests.builders import make_model

TARGET = make_model("Target", weights_bytes=10_000)
SMALL, LARGE, OTHER = (make_model(name, weights_bytes=size) for name, size in (("S", 500), ("L", 2000), ("O", 1000)))
TOKEN_S = 0.05


def trial(draft, k: int, step_passes: float, *, token_s: float = TOKEN_S) -> Trial:
    """Two prompts, 20 steps each, of which every third token was accepted; a step takes ``step_passes`` * t(1)."""
    accepted = 20 * k // 3
    run = Run(21 + accepted, 20 * step_passes * token_s, 0, steps=20, drafted=20 * k, accepted=accepted)
    return Trial.of(Config(draft.content_hash, k), [(Run(64, 63 * token_s, 0), run)] * 2)


def step(row: float, d: float, k: int, again: int = 1) -> float:
    return 1 + k * row + (k + again) * d


@pytest.mark.parametrize("reevaluates", [True, False])
@pytest.mark.parametrize(("row", "small", "large"), [(0.05, 0.06, 0.25), (0.5, 0.15, 0.3), (0.0, 0.03, 0.1)])
def test_a_server_that_is_a_line_is_found_at_every_length(reevaluates, row, small, large):
    costs, again = {"S": small, "L": large}, int(reevaluates)
    runs = [trial(d, k, step(row, costs[d.name], k, again)) for d in (SMALL, LARGE) for k in LENGTHS]
    found = fit(runs, expected(TARGET, [SMALL, LARGE]), reevaluates=reevaluates)
    for draft in (SMALL, LARGE):
        for k in (1, 2, 4, 8, 12):
            told = step(found.row, found.drafts[draft.content_hash], k, again)
            between = min(LENGTHS) <= k <= max(LENGTHS)
            assert told == pytest.approx(step(row, costs[draft.name], k, again), rel=0.03 if between else 0.06)


def test_a_draft_that_did_not_run_is_expected_to_differ_from_its_size_as_the_others_did():
    before = expected(TARGET, [SMALL, LARGE, OTHER])
    runs = [trial(d, k, step(0.05, 2 * before.drafts[d.content_hash], k)) for d in (SMALL, LARGE) for k in LENGTHS]
    found = fit(runs, before, reevaluates=True)
    assert found.drafts[OTHER.content_hash] == pytest.approx(0.2, rel=0.25)


def test_nothing_is_cheaper_than_free():
    found = fit([trial(SMALL, k, 0.9) for k in LENGTHS], expected(TARGET, [SMALL]), reevaluates=True)
    assert found.row >= 0
    assert found.drafts[SMALL.content_hash] > 0


def test_a_machine_that_slows_down_between_two_runs_does_not_change_the_costs():
    still = [trial(SMALL, k, step(0.05, 0.06, k)) for k in LENGTHS]
    drifting = [trial(SMALL, k, step(0.05, 0.06, k), token_s=s) for k, s in zip(LENGTHS, (0.05, 0.09), strict=True)]
    before = expected(TARGET, [SMALL])
    first, second = (fit(runs, before, reevaluates=True) for runs in (drifting, still))
    assert first.row == pytest.approx(second.row)
    assert first.drafts == pytest.approx(second.drafts)


def test_as_curves_they_are_lines_in_seconds_that_say_they_were_fitted():
    runs = [trial(SMALL, k, step(0.1, 0.05, k)) for k in LENGTHS]
    found = fit(runs, expected(TARGET, [SMALL]), reevaluates=True)
    target, drafts = found.curves(token_s(runs), 64, 17)
    assert target.fitted
    assert target.rounds_s[1] == (pytest.approx(TOKEN_S),)
    assert target.rounds_s[17][0] == pytest.approx(TOKEN_S * (1 + 16 * found.row))
    draft_s = TOKEN_S * found.drafts[SMALL.content_hash]
    assert [*drafts[SMALL.content_hash].rounds_s.values()] == [(pytest.approx(draft_s),)] * 2
