"""Cost curves: what is kept of noisy rounds, and what is made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from advisor.cost.curves import (
    TARGET_ANCHOR,
    CurveQuestion,
    Reference,
    bare_prices,
    curve_operations,
    curve_points,
    drift,
    measure_curve,
    merged,
    prices,
    reference,
    text_for_timing,
    typical_depth,
)
from advisor.engines.base import LoadOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.store import Store
from advisor.testing.builders import make_model
from advisor.types import CostCurve, Sampling, Transcript

TARGET, DRAFT = make_model("T"), make_model("D", weights_bytes=2**30)
TRUTH = (0.1, 0.11, 0.12, 0.13, 0.2)


def world(**changes) -> World:
    drafts = {DRAFT.content_hash: SimulatedDraft(0.01, {"": 0.5}, row_s=0.002)}
    return World(**{"target_s": TRUTH, "drafts": drafts, **changes})


def measure(engine: SimulatedEngine, store: Store, role="target", rounds=5, **changes) -> CostCurve:
    options = LoadOptions(512, 2)
    engine.open("target", TARGET, options)
    engine.open("draft", DRAFT, options)
    asked = {
        "models": {"target": TARGET, "draft": DRAFT},
        "role": role,
        "host": "h",
        "loading": {"threads": 2},
        "points": curve_points(5, coarse=False),
        "depth": 100,
        "sampling": Sampling(),
    }
    question = CurveQuestion(**{**asked, **changes})
    return measure_curve(engine, store, question, text=tuple(range(105)), rounds=rounds, budget_s=60)


def in_target_passes(curve: CostCurve, role="target"):
    unit = reference([curve], []) if role == "target" else Reference(0.1, {"draft": 1.0})
    return prices(curve, role, unit, 5)


def test_prices_are_the_true_ones_in_target_passes():
    engine, store = SimulatedEngine(world()), Store.in_memory()
    target, draft = (in_target_passes(measure(engine, store, role), role) for role in ("target", "draft"))
    assert np.median(target, axis=0).tolist() == pytest.approx([0, 1.0, 1.1, 1.2, 1.3, 2.0])
    assert np.median(draft, axis=0).tolist() == pytest.approx([0, 0.1, 0.12, 0.14, 0.16, 0.18])


def test_the_bare_pass_is_timed_beside_the_draft_and_priced_in_plain_passes():
    engine, store = SimulatedEngine(world(bare=1.07)), Store.in_memory()
    both = merged([measure(engine, store, "draft", visit=visit) for visit in (0, 1)])
    assert bare_prices(both).tolist() == pytest.approx([1.07] * 10)
    assert measure(engine, store).bare_s == ()
    with_an_old_one = merged([both, replace(both, bare_s=())])
    assert bare_prices(with_an_old_one).tolist() == [1.0]


def test_a_machine_that_slows_down_between_rounds_leaves_the_ratios_alone():
    drifting = world(noise=lambda call: 1.0 + 0.5 * (call // 7))  # 7 operations a round
    table = in_target_passes(measure(SimulatedEngine(drifting), Store.in_memory()))
    assert np.median(table, axis=0)[1:].tolist() == pytest.approx([1.0, 1.1, 1.2, 1.3, 2.0], rel=0.05)


def test_contention_that_slows_only_the_one_token_decode_is_not_taken_for_a_slow_machine():
    """Ten rounds, the anchor 40 % slower in half of them, verification unmoved: t(b) keeps its own time."""
    anchors = (0.10, 0.14) * 5
    curve = CostCurve(10, anchors, {1: anchors, 4: (0.2,) * 10})
    unit = reference([curve], [])
    assert unit.shared["target"] < 0.3
    assert unit.anchor_s == pytest.approx(0.12)
    assert np.median(prices(curve, "target", unit, 4)[:, 4]) == pytest.approx(0.2 / 0.12, rel=0.05)


def test_a_machine_that_slows_down_as_a_whole_shares_all_of_it():
    anchors = (0.10, 0.14) * 5
    curve = CostCurve(10, anchors, {1: anchors, 4: tuple(2 * a for a in anchors)})
    assert reference([curve], []).shared["target"] == pytest.approx(1.0)


def test_a_round_in_which_the_anchor_jumps_is_measured_again():
    stalled = world(noise=lambda call: 4.0 if call == 3 else 1.0)  # the middle anchor of the first round
    curve = measure(SimulatedEngine(stalled), Store.in_memory())
    assert len(curve.anchor_s) == 5
    assert max(curve.anchor_s) == pytest.approx(0.1)


def test_a_second_call_measures_nothing_and_another_visit_does():
    store, engine = Store.in_memory(), SimulatedEngine(world())
    first = measure(engine, store)
    spent = engine.elapsed_s
    assert measure(engine, store) == first
    assert engine.elapsed_s == spent
    measure(engine, store, visit=1)
    assert engine.elapsed_s > spent


def test_visits_are_joined_round_by_round():
    store, engine = Store.in_memory(), SimulatedEngine(world())
    both = merged([measure(engine, store), measure(engine, store, visit=1, rounds=2)])
    assert len(both.anchor_s) == 7
    assert {len(rounds) for rounds in both.rounds_s.values()} == {7}


def test_unmeasured_points_lie_between_their_neighbours():
    curve = CostCurve(10, (1.0,), {1: (1.0,), 3: (3.0,), 5: (4.0,)})
    assert in_target_passes(curve).tolist() == [[0.0, 1.0, 2.0, 3.0, 3.5, 4.0]]


def test_every_round_begins_and_ends_with_the_anchor():
    for role in ("target", "draft"):
        operations = curve_operations(role, curve_points(17, coarse=False))
        assert operations[0] == operations[-1] == TARGET_ANCHOR
        assert {b for name, b in operations if name == role} == set(range(1, 18))


def test_coarse_points_keep_both_ends():
    assert curve_points(17, coarse=True) == (1, 2, 3, 5, 8, 9, 17)
    assert curve_points(9, coarse=True) == (1, 2, 3, 5, 8, 9)
    assert curve_points(2, coarse=True) == (1, 2)


def test_drift_is_the_range_of_the_anchor():
    curves = [CostCurve(1, anchors, {}) for anchors in ((1.0, 1.0), (1.1, 1.3), (1.2, 1.2))]
    assert drift(curves) == pytest.approx(0.2)


def test_depth_and_text_come_from_the_answers():
    answers = [Transcript("code", tuple(range(n)), tuple(range(20)), False) for n in (30, 40, 90)]
    assert typical_depth(answers) == 64
    assert len(text_for_timing(answers, 1000)) == 1000
