"""Ranking and verdict."""

from __future__ import annotations

import dataclasses

import pytest

from advisor.ranking import answer, rank
from advisor.testing.builders import make_candidate, make_estimate, make_model
from advisor.types import Config

SMALL = make_model("Small", weights_bytes=2**29)
LARGE = make_model("Large", weights_bytes=2**31)
CANDIDATES = [make_candidate(SMALL), make_candidate(LARGE)]
BY_DRAFT = {one.draft.content_hash: one for one in CANDIDATES}


@pytest.mark.parametrize("evidence", ["replay", "measured"])
def test_after_replays_the_fastest_of_what_is_sure_to_help_is_picked(evidence):
    """How much answers differ from each other is true of every pairing."""
    fast = make_estimate(SMALL, 1.9, speedup_low=1.2, speedup_high=2.6, evidence=evidence)
    steady = make_estimate(LARGE, 1.6, speedup_low=1.5, speedup_high=1.7, evidence=evidence)
    assert answer([steady, fast], CANDIDATES).best == fast


def test_what_is_not_sure_to_help_never_leads_what_is():
    bold = make_estimate(SMALL, 1.9, speedup_low=0.99, speedup_high=3.6)
    sure = make_estimate(LARGE, 1.2, speedup_low=1.1, speedup_high=1.3)
    assert answer([bold, sure], CANDIDATES).best == sure


def test_before_replays_the_lower_end_decides_not_the_middle():
    bold = make_estimate(SMALL, 1.9, speedup_low=1.2, speedup_high=2.6, evidence="prior")
    sure = make_estimate(LARGE, 1.6, speedup_low=1.5, speedup_high=1.7, evidence="prior")
    assert answer([bold, sure], CANDIDATES).best == sure


def test_a_tie_goes_to_the_draft_with_less_memory():
    heavy, light = make_estimate(LARGE, 1.500), make_estimate(SMALL, 1.495)
    assert rank([heavy, light], BY_DRAFT) == (light, heavy)


def test_beyond_a_tie_speed_wins_over_memory():
    heavy, light = make_estimate(LARGE, 1.6), make_estimate(SMALL, 1.5)
    assert rank([heavy, light], BY_DRAFT) == (heavy, light)


def test_among_settings_of_one_draft_the_measured_one_is_preferred_in_a_tie():
    predicted, measured = make_estimate(SMALL, 1.505, k=5), make_estimate(SMALL, 1.5, k=4, evidence="measured")
    assert rank([predicted, measured], BY_DRAFT)[0] == measured


def free(speedup: float, **changes):
    """An estimate of a method without a draft."""
    config = Config("", 8, method="ngram-mod", ngram_size=12, n_min=6)
    return dataclasses.replace(make_estimate(SMALL, speedup, **changes), config=config)


def test_a_method_without_a_draft_wins_within_the_interval_of_the_best_draft():
    draft, method = make_estimate(SMALL, 1.5, speedup_low=1.35, speedup_high=1.65), free(1.4, speedup_low=1.3)
    found = answer([draft, method], CANDIDATES)
    assert (found.best, found.runner_up) == (method, draft)
    assert found.sentence.startswith("Speculate with ngram-mod, n = 12, n_min = 6, k = 8: 1.40x")


@pytest.mark.parametrize(("speedup", "low"), [(1.3, 1.2), (1.4, 0.98)])
def test_a_method_without_a_draft_loses_below_the_interval_or_where_it_may_slow_down(speedup, low):
    draft = make_estimate(SMALL, 1.5, speedup_low=1.35, speedup_high=1.65)
    assert answer([draft, free(speedup, speedup_low=low)], CANDIDATES).best == draft


def test_a_method_without_a_draft_is_no_reason_to_speculate_where_nothing_wins():
    draft, method = make_estimate(SMALL, 0.9, speedup_low=0.8), free(1.01, speedup_low=0.97)
    found = answer([draft, method], CANDIDATES)
    assert found.verdict == "do-not-speculate"
    assert "ngram-mod" in found.sentence


def test_an_interval_that_touches_one_is_a_no():
    found = answer([make_estimate(SMALL, 1.1, speedup_low=0.99, speedup_high=1.2)], CANDIDATES)
    assert found.verdict == "do-not-speculate"
    assert found.best is None
    assert "Do not speculate" in found.sentence
    assert "1.10x" in found.sentence


def test_what_is_unsure_is_told_from_what_loses():
    unsure = make_estimate(LARGE, 1.3, speedup_low=0.94, speedup_high=1.79)
    flat = make_estimate(SMALL, 1.01, speedup_low=0.985, speedup_high=1.03)
    hopeful, hopeless = answer([flat, unsure], CANDIDATES), answer([flat], CANDIDATES)
    assert hopeful.verdict == hopeless.verdict == "do-not-speculate"
    assert hopeful.sentence.startswith("Do not speculate yet: nothing is sure to help.")
    assert "1.30x (80 % interval 0.94 to 1.79)" in hopeful.sentence
    assert hopeless.sentence.startswith("Do not speculate: the best that was found should give")


def test_the_runner_up_is_another_draft():
    estimates = [make_estimate(SMALL, 1.8, k=4), make_estimate(SMALL, 1.7, k=5), make_estimate(LARGE, 1.5)]
    found = answer(estimates, CANDIDATES)
    assert found.runner_up == estimates[2]


def test_no_draft_left_is_a_no_too():
    assert answer([], []).verdict == "do-not-speculate"


def test_a_tie_goes_to_a_kind_of_draft_that_was_tried_then_to_one_that_is_here() -> None:
    here, elsewhere = make_model("Here", weights_bytes=2**31), make_model("Elsewhere", path="", weights_bytes=2**29)
    by_draft = {one.draft.content_hash: one for one in (make_candidate(here), make_candidate(elsewhere))}
    local, remote = make_estimate(here, 1.5, evidence="prior"), make_estimate(elsewhere, 1.5, evidence="prior")
    assert rank([remote, local], by_draft) == (local, remote)
    assert rank([local, remote], by_draft, lambda draft: draft.name == "Elsewhere") == (remote, local)


def test_where_nothing_wins_the_draft_that_most_likely_helps_leads() -> None:
    timid = make_estimate(SMALL, 1.01, speedup_low=0.97, speedup_high=1.05, evidence="prior")
    able = make_estimate(LARGE, 1.40, speedup_low=0.95, speedup_high=2.06, evidence="prior")
    assert rank([timid, able], BY_DRAFT) == (able, timid)
    assert answer([timid, able], CANDIDATES).verdict == "do-not-speculate"


def test_why_there_is_nothing_to_try_is_said() -> None:
    assert answer([], [], nothing="nobody makes one").sentence == "Do not speculate: nobody makes one."
