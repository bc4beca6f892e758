"""The whole flow on a clock that time passes on: what is promised of time, also where the machine is in use."""

from __future__ import annotations

import dataclasses

import pytest

from advisor import pipeline
from advisor.engines.simulated import Clock, SimulatedEngine
from advisor.errors import NothingFits
from advisor.host.files import host_lock_path, timing_lock
from advisor.pipeline import Interrupted
from advisor.progress import Silent
from advisor.reasons import explain
from advisor.store import load_last
from advisor.types import Recommendation
from tests.test_pipeline import MIDDLE, SMALL, WORLD, ask, best_of_all, models, true_speedup

__all__ = ["models"]  # the fixture

BUDGET_S = 210.0
# A target of 10 tokens a second whose drafts take a second to load: what a demo on two cores is like.
TIMED = dataclasses.replace(WORLD, load_s=0.5, score_s=0.004, prefill_s=0.01)
PROMISE = 1.1


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    first_answer = note


def answered(world=TIMED, **asked) -> tuple[Recommendation, float]:
    """The answer, and what of the budget the whole command took."""
    clock = Clock()
    found = ask(world, clock=clock, **{"budget_s": BUDGET_S, "fresh": True, **asked})
    return found, clock.now_s / asked.get("budget_s", BUDGET_S)


def beside_others(factor: float, begin_s: float, end_s: float):
    """A world that another program slows so much between two moments, and the cores that it takes."""

    def is_on(now_s: float) -> bool:
        return begin_s <= now_s < end_s

    world = dataclasses.replace(TIMED, slowed=lambda now_s: factor if is_on(now_s) else 1.0)
    return world, lambda now_s: 1.0 if is_on(now_s) else 0.0


def replayed(found: Recommendation) -> set[str]:
    return {one.config.draft for one in found.estimates if one.config.draft and one.evidence != "prior"}


DRAFTS = {SMALL.content_hash, MIDDLE.content_hash}  # the third does not fit beside the target


def test_a_quiet_machine_answers_within_the_budget_and_first_in_a_third_of_it(models):
    found, share = answered()
    assert share <= 1.0
    assert found.measurement.first_answer.elapsed_s <= BUDGET_S / 3
    assert true_speedup(TIMED, found.measurement.first_answer.config) >= 0.95 * best_of_all(TIMED)
    assert true_speedup(TIMED, found.best.config) >= 0.98 * best_of_all(TIMED)
    assert not found.measurement.contention.in_use


@pytest.mark.parametrize(("begin_s", "end_s"), [(0, 1e9), (0, 60), (15, 45), (30, 90), (60, 1e9), (100, 140)])
@pytest.mark.parametrize("factor", [3.0, 20.0])
def test_decodes_that_slow_down_for_a_while_cost_no_promise(models, begin_s, end_s, factor):
    world, others = beside_others(factor, begin_s, end_s)
    found, share = answered(world, others=others)
    assert share <= PROMISE
    assert replayed(found) == DRAFTS
    assert found.verdict == "speculate"
    assert true_speedup(WORLD, found.best.config) >= 0.95 * best_of_all(WORLD)
    assert found.best.speedup_low * 0.95 <= true_speedup(WORLD, found.best.config) <= found.best.speedup_high * 1.05


def test_a_machine_in_use_is_told_with_who_uses_it_and_what_to_do(models):
    world, others = beside_others(3.0, 0, 1e9)
    heard = Heard()
    found, _ = answered(world, others=others, progress=heard)
    said = found.measurement.contention
    assert said.in_use
    assert said.asleep
    assert said.programs == ("compiler",)
    assert said.waited_s <= 0.1 * BUDGET_S
    assert "compiler 1.0" in said.sentence
    assert "idle" in said.sentence
    assert any("Waiting" in note and "compiler" in note for note in heard.notes)


def test_intervals_are_wider_where_others_disturbed_what_was_timed(models):
    quiet, _ = answered()
    world, others = beside_others(3.0, 0, 1e9)
    busy, _ = answered(world, others=others)

    def width(found: Recommendation) -> float:
        return found.best.speedup_high / found.best.speedup_low

    assert width(busy) > width(quiet)


def test_what_was_measured_on_a_machine_in_use_is_measured_again_when_it_is_idle(models):
    world, others = beside_others(3.0, 0, 1e9)
    ask(world, clock=Clock(), others=others, budget_s=BUDGET_S)
    again = ask(TIMED, clock=Clock(), budget_s=BUDGET_S)
    assert not again.measurement.from_store
    assert not again.measurement.contention.in_use


@pytest.mark.parametrize("begin_s", [20, 25, 30, 35, 40])
def test_timings_that_others_disturbed_are_not_handed_to_a_quiet_machine(models, begin_s):
    """The other program begins while decodes are timed with threads that wait as built."""
    world, others = beside_others(3.0, begin_s, begin_s + 15)
    ask(world, clock=Clock(), others=others, budget_s=BUDGET_S)
    again = ask(TIMED, clock=Clock(), budget_s=BUDGET_S)
    anchors = [s for curve in (again.target_curve, *again.draft_curves.values()) for s in curve.anchor_s]
    assert max(anchors) < 1.01 * min(anchors)
    assert all(run.token_s < 1.01 * min(anchors) for trial in again.trials for run in trial.baselines)


def test_a_machine_that_is_idle_again_is_planned_for_anew(models):
    world, others = beside_others(20.0, 0, 1e9)
    ask(world, clock=Clock(), others=others, budget_s=BUDGET_S)
    again = ask(TIMED, clock=Clock(), budget_s=BUDGET_S)
    quiet, _ = answered()
    assert again.measurement.answer_tokens == quiet.measurement.answer_tokens


SLOW_DISK = dataclasses.replace(TIMED, load_s=25.0)  # a target, a draft, and the minute is over


def test_a_draft_without_a_turn_is_listed_as_it_is_foreseen(models):
    found, share = answered(SLOW_DISK, budget_s=60.0)
    assert share <= PROMISE
    (unturned,) = DRAFTS - replayed(found)
    rows = [one for one in found.estimates if one.config.draft == unturned]
    assert [one.evidence for one in rows] == ["prior"]
    assert rows[0].tokens_per_second == pytest.approx(rows[0].speedup * found.baseline.tokens_per_second)
    assert found.estimates[0].evidence != "prior"
    (rejected,) = (one for one in found.rejected if one.reason == "budget")
    assert "--budget" in rejected.detail
    assert explain(found).drafts[0].draft.content_hash in replayed(found)


def test_costs_that_were_guessed_are_told(models):
    found, _ = answered(SLOW_DISK, budget_s=60.0)
    assert "costs guessed from its size" in found.sentence
    assert any(note.startswith("No decode was timed") for note in found.measurement.notes)
    timed, _ = answered()
    assert "guessed" not in " ".join([timed.sentence, *timed.measurement.notes])


def test_where_no_draft_has_a_turn_the_prior_answers(models):
    """Methods without a draft are no answer to a question about drafts."""
    found, share = answered(dataclasses.replace(TIMED, load_s=35.0), budget_s=60.0)
    assert share <= PROMISE
    assert found.sentence.startswith("Nothing was measured.")
    assert {one.config.draft for one in found.estimates} == DRAFTS


def test_a_draft_that_had_no_turn_at_first_has_one_in_the_thorough_look(models):
    found, _ = answered(dataclasses.replace(TIMED, load_s=12.0), budget_s=100.0)
    assert replayed(found) == DRAFTS


def test_quick_ends_at_the_first_answer(models):
    whole, _ = answered()
    quick, share = answered(quick=True)
    assert quick.measurement.elapsed_s <= whole.measurement.first_answer.elapsed_s + 1
    assert share <= 1 / 3
    assert quick.best.config == whole.measurement.first_answer.config


def test_the_first_answer_is_told_when_it_is_there(models):
    heard = Heard()
    found, _ = answered(progress=heard)
    assert any(found.measurement.first_answer.sentence in note for note in heard.notes)


@pytest.mark.parametrize("budget_s", [20.0, 40.0, 90.0])
def test_a_budget_for_a_first_look_alone_is_kept_and_answered(models, budget_s):
    found, share = answered(budget_s=budget_s)
    assert share <= PROMISE
    assert found.measurement.prompts
    assert true_speedup(TIMED, found.best.config) >= 0.8 * best_of_all(TIMED)


def test_a_target_that_has_no_time_to_answer_is_predicted(models):
    """A hundred times slower than the budget allows, or a budget of seconds."""
    glacial = dataclasses.replace(TIMED, target_s=tuple(300 * s for s in TIMED.target_s), prefill_s=3.0)
    for world, budget_s in ((glacial, BUDGET_S), (TIMED, 5.0)):
        heard = Heard()
        found, share = answered(world, budget_s=budget_s, progress=heard)
        assert share <= PROMISE
        assert found.sentence.startswith("Nothing was measured.")
        assert {one.evidence for one in found.estimates} == {"prior"}
        assert {one.config.draft for one in found.estimates} <= DRAFTS
        assert any("--budget" in note for note in heard.notes)


def test_ctrl_c_in_the_thorough_look_gives_the_first_answer(models):
    class Interrupts(SimulatedEngine):
        def answer(self, *arguments):
            if self.clock() > BUDGET_S / 2:
                raise KeyboardInterrupt
            return super().answer(*arguments)

    with pytest.raises(Interrupted) as stopped:
        answered(make=Interrupts)
    assert stopped.value.recommendation.verdict == "speculate"
    assert stopped.value.recommendation.measurement.stop_reason == "interrupted"


def test_an_answer_from_the_store_needs_no_lock_and_is_the_last_one_again(models):
    first = ask(TIMED, clock=Clock(), budget_s=BUDGET_S)
    ask(TIMED, clock=Clock(), budget_s=BUDGET_S, k_max=4)
    with timing_lock(host_lock_path(), timeout_s=0):
        again = ask(TIMED, clock=Clock(), budget_s=BUDGET_S)
    assert again.measurement.from_store
    assert again.best == first.best
    assert load_last().best == first.best


def test_where_nothing_fits_beside_another_advisor_it_is_waited_for(models, monkeypatch):
    """What it holds is free again when it is done."""
    prepare, full = pipeline._prepare, [NothingFits("No draft fits.")]

    def prepared(*arguments):
        if full:
            raise full.pop()
        return prepare(*arguments)

    monkeypatch.setattr(pipeline, "_prepare", prepared)
    heard = Heard()
    with timing_lock(host_lock_path(), timeout_s=0):
        found = ask(TIMED, budget_s=0.2, progress=heard)
    assert found.sentence.startswith("Nothing was measured.")
    assert not full


def test_where_another_advisor_measures_all_the_time_the_prior_answers(models):
    heard = Heard()
    with timing_lock(host_lock_path(), timeout_s=0):
        found = ask(TIMED, budget_s=0.2, progress=heard)
    assert found.sentence.startswith("Nothing was measured.")
    assert any("Another advisor" in note for note in heard.notes)
