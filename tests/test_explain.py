"""The reasons, against independent computations and against an engine whose truth is known."""

from __future__ import annotations

import dataclasses
import math
import re
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.acceptance.walk import walk
from advisor.errors import OptionError
from advisor.reasons import explain, narrowed
from advisor.reasons.answers import coloured_answers
from advisor.reasons.break_even import independent_break_even
from advisor.reasons.ground import Ground
from advisor.report.explain_wording import too_unsure
from advisor.testing import saved
from advisor.testing.builders import MIB, make_candidate, make_estimate, make_model, make_recommendation, make_trace
from advisor.types import AnswerText, Config, CostCurve, Recommendation, Trace
from tests.explained import (
    CATEGORIES,
    LARGE_Q4,
    LARGE_Q8,
    MAX_TOKENS,
    SMALL_Q8,
    TARGET_S,
    TOKEN_S,
    WORLD,
    corrected,
    foreseen,
    pair,
    pair_world,
    simulated,
    sweep,
    true_speedup,
    without_a_draft,
)


def with_best(rec: Recommendation, k: int, p_min: float) -> Recommendation:
    """The recommendation as if this setting had won."""
    best = next(e for e in rec.estimates if (e.config.k, e.config.p_min) == (k, p_min))
    return dataclasses.replace(rec, best=best, verdict="speculate")


@pytest.mark.parametrize(("k", "p_min"), [(2, 0.0), (4, 0.0), (8, 0.0), (6, 0.6)])
def test_at_its_break_even_agreement_a_real_run_is_as_fast_as_the_target_alone(k, p_min):
    rec = with_best(pair(0.65, prompts=150), k, p_min)
    even = explain(rec).subject.break_even.measured
    config = Config(SMALL_Q8.content_hash, k, p_min)
    assert true_speedup(pair_world(even), config, SMALL_Q8) == pytest.approx(1.0, abs=0.01)
    assert abs(even - 0.65) > 0.02  # not where the draft happened to stand


@pytest.mark.parametrize("side", [1, -1])
def test_five_points_of_agreement_change_what_the_change_says(side):
    explanation = explain(with_best(pair(0.65, prompts=40), 4, 0.0))
    word = "more" if side > 0 else "less"
    change = next(c for c in explanation.changes if c.what == f"5 points {word} agreement")
    own = explanation.subject.agreement
    config = Config(SMALL_Q8.content_hash, 4)
    before, after = (true_speedup(pair_world(match), config, SMALL_Q8) for match in (own, own + side * 0.05))
    assert change.speedup / explanation.subject.best.speedup == pytest.approx(after / before, rel=0.01)


@given(k=st.integers(1, 16), cost=st.floats(0.01, 0.9))
def test_the_textbook_break_even_is_the_root_of_leviathans_polynomial(k, cost):
    coefficients = [1.0, *[0.0] * (k - 1), -(k * cost + 1), k * cost]
    found = independent_break_even(k, k * cost + 1)
    inside = [r.real for r in np.roots(coefficients) if abs(r.imag) < 1e-9 and 0 < r.real < 1 - 1e-6]
    assert found == pytest.approx(min(inside, default=1.0), abs=1e-4)


def test_a_step_that_costs_more_than_it_can_yield_never_breaks_even():
    assert independent_break_even(3, 4.0) is None
    assert independent_break_even(3, 1.0) == pytest.approx(0.0, abs=1e-9)


def test_each_price_that_the_formula_leaves_out_raises_the_break_even():
    even = explain(pair(0.65)).subject.break_even
    assert even.textbook < even.verification_priced < even.reevaluation_priced


def test_where_agreement_is_independent_the_measured_break_even_is_the_fully_priced_formula():
    even = explain(with_best(pair(0.65, prompts=40), 4, 0.0)).subject.break_even
    assert even.measured == pytest.approx(even.reevaluation_priced, abs=0.02)
    expected_rate = sum(even.measured**j for j in range(1, 5)) / 4
    assert even.acceptance_rate == pytest.approx(expected_rate, abs=0.02)


def test_one_category_keeps_the_methods_without_a_draft():
    rec = without_a_draft()
    category = next(iter(rec.best.speedup_by_category))
    found = narrowed(rec, category)
    assert {one.config.method for one in found.estimates} >= {"ngram-mod", "ngram-simple"}
    best = next(one for one in found.estimates if one.config == rec.best.config)
    assert best.speedup == pytest.approx(rec.best.speedup_by_category[category])


@pytest.mark.parametrize("make", [simulated, lambda: corrected(1.1), lambda: corrected(0.9), lambda: pair(0.65)])
def test_the_time_of_a_step_is_the_speedup_and_its_parts_the_analytic_one(make):
    for one in explain(make()).drafts:
        assert one.step.plain_s / one.step.parts.total_s == pytest.approx(one.best.analytic_speedup)
        assert one.step.plain_s / one.step.total_s == pytest.approx(one.best.speedup)
        assert one.step.plain_s == pytest.approx(one.step.tokens * TOKEN_S)


@pytest.mark.parametrize("slower", [1.1, 0.9])
def test_what_real_runs_taught_is_beyond_the_parts_of_every_draft(slower):
    for one in explain(corrected(slower)).drafts:
        assert one.step.parts.total_s + one.step.beyond_s == pytest.approx(one.step.total_s)
        assert (one.step.beyond_s > 0) == (slower > 1)
    assert explain(simulated()).subject.step.beyond_s == 0
    assert explain(pair(0.65)).subject.step.beyond_s is None


def test_a_draft_that_lost_has_the_dearer_tokens():
    first, *others = explain(corrected(1.1)).drafts
    for one in others:
        if "ms a token" in one.verdict:
            assert one.step.token_s > first.step.token_s


def test_the_parts_of_a_step_are_the_true_prices():
    config = Config(SMALL_Q8.content_hash, 4)
    step = explain(
        with_best(pair(0.0), 4, 0.0)
    ).subject.step  # nothing is accepted: every step is the same but the last
    assert config.k * 0.008 == pytest.approx(step.parts.drafting_s, rel=0.03)
    assert TARGET_S[4] == pytest.approx(step.parts.verifying_s, rel=0.03)
    assert pytest.approx(step.parts.reevaluating_s, rel=0.03) == 0.008 + 4 * 0.0006


def test_survival_and_hazard_by_position_follow_the_agreement():
    subject = explain(with_best(pair(0.65, prompts=60), 4, 0.0)).subject
    for one in subject.positions[:4]:
        assert one.survival == pytest.approx(subject.agreement**one.position, abs=0.03)
        assert one.hazard == pytest.approx(subject.agreement, abs=0.04)
    survival = [one.survival for one in subject.positions]
    assert survival == sorted(survival, reverse=True)


def test_a_hazard_seen_over_a_handful_of_steps_is_not_shown():
    subject = explain(with_best(pair(0.2, prompts=3), 4, 0.0)).subject
    assert subject.positions[0].hazard is not None
    assert subject.positions[-1].hazard is None


def test_the_kernel_step_of_the_target_is_found():
    jumps = explain(simulated()).jumps
    assert [jump.b for jump in jumps] == [7]
    assert jumps[0].passes == pytest.approx(0.46)


def test_flat_draft_lengths_are_those_within_two_percent():
    subject = explain(simulated()).subject
    for point in subject.lengths:
        assert (point.k in subject.flat) == (point.speedup >= 0.98 * subject.best.speedup)
    assert subject.best.config.k in subject.flat


def test_neighbours_in_size_and_quantization_come_from_the_other_candidates():
    rec = simulated()
    best = next(e for e in rec.estimates if e.config.draft == LARGE_Q4.content_hash)
    changes = {c.what: c for c in explain(dataclasses.replace(rec, best=best)).changes}
    of = {
        d.content_hash: max(e.speedup for e in rec.estimates if e.config.draft == d.content_hash) for d in (LARGE_Q8,)
    }
    assert changes["one quantization up"].speedup == pytest.approx(of[LARGE_Q8.content_hash], rel=0.02)
    assert "Small-0.5B Q4_0" in changes["a draft one size smaller"].sentence
    for missing in ("one quantization down", "a draft one size larger"):
        assert changes[missing].speedup is None
        assert "None is among the drafts" in changes[missing].sentence


def test_the_neighbour_in_size_is_another_model_of_the_same_line():
    """Files of one model differ in parameters, since some store the output matrix apart."""
    own, apart, coder, general = (
        make_model(name, quant, parameters=parameters, weights_bytes=size)
        for name, quant, parameters, size in (
            ("Kin-1.5B-Instruct", "Q4_0", 1_500, 900),
            ("Kin-1.5B-Instruct", "Q8_0", 1_700, 1500),
            ("Kin-Coder-0.5B-Instruct", "Q4_0", 600, 320),
            ("Kin-0.5B-Instruct", "Q4_0", 500, 310),
        )
    )
    estimates = tuple(make_estimate(draft, 1.5 - 0.1 * i) for i, draft in enumerate((own, apart, coder, general)))
    rec = make_recommendation(
        candidates=tuple(make_candidate(draft) for draft in (own, apart, coder, general)),
        estimates=estimates, best=estimates[0], traces={}, draft_curves={}, trials=(),
    )  # fmt: skip
    changes = {change.what: change for change in explain(rec).changes}
    assert changes["a draft one size smaller"].sentence.startswith("Kin-0.5B-Instruct Q4_0")
    assert changes["a draft one size larger"].speedup is None
    assert changes["one quantization up"].sentence.startswith("Kin-1.5B-Instruct Q8_0")


@pytest.mark.parametrize(("of_parameters", "said"), [(1.0, "needs more memory"), (0.0, "was not run")])
def test_a_draft_that_lost_a_tie_lost_it_for_memory_or_for_want_of_a_run(of_parameters, said):
    light, heavy = make_model("A", "Q8_0", weights_bytes=1000), make_model("B", "Q8_0", weights_bytes=1000)
    heavy = dataclasses.replace(heavy, weights_bytes=1000 + int(500 * of_parameters))
    first, second = make_estimate(light, 1.5, evidence="measured"), make_estimate(heavy, 1.505)
    rec = make_recommendation(
        candidates=(make_candidate(light), make_candidate(heavy)), estimates=(first, second), best=first, traces={},
        draft_curves={}, trials=(),
    )  # fmt: skip
    assert said in explain(rec).drafts[1].verdict
    assert "interval" not in explain(rec).drafts[1].verdict


def test_a_middle_above_one_is_too_unsure_where_the_lower_end_is_not():
    draft = make_model("A", "Q8_0")
    unsure = make_estimate(draft, 1.1, speedup_low=0.9, speedup_high=1.34)
    rec = make_recommendation(
        "do-not-speculate", candidates=(make_candidate(draft),), estimates=(unsure,), traces={}, draft_curves={},
        trials=(),
    )  # fmt: skip
    assert "the lower end of its interval, 0.90x, is not" in too_unsure(explain(rec))
    assert too_unsure(explain(simulated())) == ""


def test_five_points_pay_by_the_rule_of_the_verdict():
    """With the verdict no, nothing pays still; what would pay clears 1 with its lower end."""
    changes = [change for change in explain(pair(0.05)).changes if "agreement" in change.what]
    assert changes
    assert not any("still" in change.sentence or "no longer" in change.sentence for change in changes)


def test_what_to_know_before_trusting_the_numbers_is_said():
    rec = simulated()
    curves = {
        draft: CostCurve(curve.depth, curve.anchor_s[:1], {b: values[:1] for b, values in curve.rounds_s.items()})
        for draft, curve in rec.draft_curves.items()
    }
    measurement = dataclasses.replace(
        rec.measurement, anchor_drift=0.4, repack_off=True, stop_reason="the budget is spent", notes=("A note.",)
    )
    host = dataclasses.replace(rec.host, notes=("The host was only named.",))
    said = " ".join(explain(dataclasses.replace(rec, measurement=measurement, host=host, draft_curves=curves)).caveats)
    for words in ("drifted by 40 %", "Q4_0 (1)", "the budget is spent", "--no-repack", "A note.", "only named"):
        assert words in said
    assert "drifted" not in " ".join(explain(rec).caveats)


def test_real_runs_over_all_categories_are_told_where_one_category_is_explained():
    assert any("over all categories" in sentence for sentence in explain(simulated(), "chat").caveats)
    assert not any("No real run" in sentence for sentence in explain(simulated(), "chat").caveats)
    assert any("No real run" in sentence for sentence in explain(pair(0.65)).caveats)
    assert explain(simulated(), "chat").answered == 3


def test_two_files_of_one_name_and_quantization_are_told_apart():
    one, other = (make_model("A", "Q8_0", path=f"/{name}.gguf", weights_bytes=300 * MIB) for name in "ab")
    larger = make_model("A", "Q8_0", path="/c.gguf", weights_bytes=400 * MIB)
    models = (one, other, larger, make_model("B", "Q8_0"))
    rec = make_recommendation(
        candidates=tuple(make_candidate(model) for model in models), traces={}, draft_curves={}, trials=(),
        estimates=tuple(make_estimate(model) for model in models), best=None,
    )  # fmt: skip
    labels = [reasons.label for reasons in explain(rec).drafts]
    assert labels == [
        f"A Q8_0 ({one.content_hash[:6]})", f"A Q8_0 ({other.content_hash[:6]})", "A Q8_0 (400 MiB)", "B Q8_0"
    ]  # fmt: skip


def test_what_the_record_cannot_say_is_said_without_a_number():
    changes = {c.what: c for c in explain(simulated()).changes}
    assert changes["temperature 0.8"].speedup is None
    assert "--temperature 0.8" in changes["temperature 0.8"].sentence
    half = changes["half the context (2048 tokens)"]
    assert half.speedup is None
    assert "64 tokens" in half.sentence


def test_the_chance_of_a_gain_is_that_of_the_interval():
    explanation = explain(simulated())
    best = explanation.subject.best
    sd = math.log(best.speedup_high / best.speedup) / NormalDist().inv_cdf(0.9)
    assert explanation.sureness.gain_chance == pytest.approx(NormalDist().cdf(math.log(best.speedup) / sd), abs=1e-3)


def test_the_advice_is_the_measurement_that_narrows_the_interval_most():
    explanation = explain(pair(0.65))
    sources, best = explanation.sureness.sources, explanation.subject.best
    assert sum(source.share for source in sources) == pytest.approx(1.0)
    widths = [source.high / source.low for source in sources]
    assert widths == sorted(widths)
    assert all(width <= best.speedup_high / best.speedup_low * (1 + 1e-9) for width in widths)
    assert sources[0].remedy.lower() in explanation.sureness.advice.lower()


def test_without_noise_in_the_curves_they_are_not_to_blame():
    shares = {source.name: source.share for source in explain(pair(0.65)).sureness.sources}
    assert shares["t(b), the target's costs"] == pytest.approx(0.0, abs=1e-9)
    assert shares["the answers"] > 0.2


def test_more_answers_are_asked_for_where_one_answer_is_all_there_is():
    assert "wice as many prompts" in explain(pair(0.65, prompts=1)).sureness.advice


def test_every_draft_that_lost_has_its_reason():
    first, *others = explain(simulated()).drafts
    assert first.verdict == "the pick"
    for one in others:
        tokens, cost = one.step.tokens - first.step.tokens, one.step.total_s - first.step.total_s
        assert f"{abs(tokens):.2f} {'more' if tokens > 0 else 'fewer'} tokens a step" in one.verdict
        assert f"{abs(cost) * 1e3:.0f} ms {'longer' if cost > 0 else 'shorter'} steps" in one.verdict


def test_one_category_is_explained_from_its_own_answers():
    explanation = explain(simulated(), "chat")
    whole = explain(simulated())
    assert explanation.category == "chat"
    assert explanation.sentence.startswith("For chat alone: ")
    assert {one.category for one in explanation.answers} == {"chat"}
    same = next(d for d in whole.drafts if d.draft == explanation.subject.draft)
    assert explanation.subject.agreement != same.agreement
    assert [c.category for c in explanation.subject.categories] == ["chat"]


def test_a_category_has_the_speedup_that_the_record_gives_it():
    rec = simulated()
    subject = explain(rec, "code").subject
    same = next(e for e in rec.estimates if e.config == subject.best.config)
    assert subject.best.speedup == pytest.approx(same.speedup_by_category["code"], rel=0.02)


@pytest.mark.parametrize("make", [simulated, lambda: corrected(1.1), without_a_draft, sweep])
@pytest.mark.parametrize("category", CATEGORIES)
def test_on_few_answers_a_category_keeps_the_pick_with_its_own_figure(make, category):
    rec = make()
    found = narrowed(rec, category)
    assert found.best.config == found.estimates[0].config == rec.best.config
    figure = rec.best.speedup_by_category[category]
    assert found.best.speedup == pytest.approx(figure, rel=0.02)
    assert f"{rec.label_of(rec.best.config)}, " in found.sentence
    assert re.search(r"on [13] answers?, too few to choose otherwise", found.sentence)


def test_a_figure_of_few_answers_is_less_sure_than_that_of_all():
    rec = without_a_draft()
    found = narrowed(rec, "code").best
    assert found.speedup_high / found.speedup_low > rec.best.speedup_high / rec.best.speedup_low


def by_code(speedups: dict[int, float], prompts: int) -> Recommendation:
    """Settings of one draft by their k, with what they give for code; the pick is k = 4."""
    rec = saved.draft()
    estimates = tuple(
        dataclasses.replace(one, speedup_by_category={"code": speedups[one.config.k], "chat": 1.2})
        for one in rec.estimates
    )
    measurement = dataclasses.replace(rec.measurement, prompts=prompts)
    return dataclasses.replace(rec, estimates=estimates, best=estimates[0], measurement=measurement)


@pytest.mark.parametrize(
    ("speedups", "prompts", "k"),
    [
        ({4: 1.3, 8: 2.2, 2: 1.2}, 12, 8),
        ({4: 1.3, 8: 2.2, 2: 1.2}, 6, 4),
        ({4: 1.3, 8: 1.5, 2: 1.2}, 12, 4),
        ({4: 0.6, 8: 0.6, 2: 0.5}, 12, None),
        ({4: 0.6, 8: 0.6, 2: 0.5}, 6, 4),
        ({4: 0.95, 8: 0.9, 2: 0.9}, 12, 4),
    ],
)
def test_a_category_wants_another_setting_only_where_its_answers_are_enough_to_say_so(speedups, prompts, k):
    found = narrowed(by_code(speedups, prompts), "code")
    assert (found.best and found.best.config.k) == k
    assert (found.verdict == "do-not-speculate") == found.sentence.startswith("For code alone: Do not") == (k is None)
    assert f"on {prompts // 2} answers" in found.sentence


def test_where_the_answer_is_no_one_answer_of_a_category_does_not_say_yes():
    rec = dataclasses.replace(by_code({4: 1.3, 8: 2.2, 2: 1.2}, 2), best=None, verdict="do-not-speculate")
    assert narrowed(rec, "code").verdict == "do-not-speculate"
    enough = dataclasses.replace(rec, measurement=dataclasses.replace(rec.measurement, prompts=12))
    assert narrowed(enough, "code").best.config.k == 8


def test_an_unknown_category_is_refused_with_the_known_ones():
    with pytest.raises(OptionError) as failure:
        explain(simulated(), "poetry")
    assert "'poetry'" in failure.value.what
    assert all(category in failure.value.fix for category in CATEGORIES)


def test_without_measurements_only_what_the_estimates_hold_is_explained():
    explanation = explain(foreseen())
    subject = explanation.subject
    assert explanation.evidence == "prior"
    assert (subject.curve, subject.step, subject.positions, subject.cost, subject.break_even) == (
        (),
        None,
        (),
        (),
        None,
    )
    assert (explanation.answers, explanation.target_cost, explanation.jumps) == ((), (), ())
    assert any("Nothing was timed" in sentence for sentence in explanation.left_out)
    assert any("No answers were replayed" in sentence for sentence in explanation.left_out)
    assert "Nothing was measured here" in explanation.sureness.advice
    assert not explanation.is_upper_bound


def test_a_prediction_tells_of_other_lengths_another_temperature_and_half_the_context():
    explanation = explain(foreseen())
    lengths = {point.k: point.speedup for point in explanation.subject.lengths}
    assert len(lengths) > 5
    assert max(lengths, key=lengths.__getitem__) == explanation.subject.best.config.k
    changes = {change.what: change for change in explanation.changes}
    assert changes["temperature 0.8"].speedup < explanation.subject.best.speedup
    assert changes["half the context (2048 tokens)"].speedup == pytest.approx(explanation.subject.best.speedup)


def test_a_prediction_of_a_hybrid_target_is_told_to_be_an_upper_bound():
    explanation = explain(foreseen("qwen3.5-27b-q8"))
    assert explanation.is_upper_bound
    assert "cannot measure such a target" in explanation.sureness.advice
    assert explanation.sureness.command == ()


def test_a_prediction_is_for_its_categories_together():
    rec = foreseen(categories=("code", "chat"))
    with pytest.raises(OptionError, match="together"):
        explain(rec, "chat")
    assert explain(foreseen(), "code").subject.best == explain(foreseen()).subject.best


def test_a_sweep_is_explained_from_its_whole_runs():
    rec = sweep()
    explanation = explain(rec)
    subject = explanation.subject
    for one in explanation.drafts:
        assert one.step.plain_s / one.step.total_s == pytest.approx(one.best.speedup)
        assert (one.step.parts, one.step.beyond_s, one.break_even) == (None, None, None)
    trial = next(one for one in rec.trials if one.config == subject.best.config)
    steps = sum(run.steps for run in trial.runs)
    assert [point.survival for point in subject.positions] == [
        pytest.approx(sum(run.accepted_per_position[i] for run in trial.runs) / steps)
        for i in range(subject.best.config.k)
    ]
    assert subject.positions_in == "runs"
    assert explanation.sureness.lead_chance > 0.9
    said = " ".join(explanation.left_out)
    assert "timed as wholes" in said
    assert "Nothing was timed" not in said


def test_one_category_of_a_sweep_takes_its_own_figure():
    rec = sweep()
    config = explain(rec, "code").subject.best.config
    original = next(e for e in rec.estimates if e.config == config)
    assert explain(rec, "code").subject.best.speedup == pytest.approx(original.speedup_by_category["code"])


def test_where_nothing_could_be_estimated_or_rejected_it_says_so():
    rec = dataclasses.replace(foreseen(), estimates=(), candidates=(), rejected=(), best=None, what_if=())
    assert explain(rec).left_out == (
        "No pairing could be estimated: no smaller model with the target's tokens is known.",
    )


def test_with_the_verdict_no_the_nearest_pairing_is_explained():
    rec = pair(0.05)
    assert rec.verdict == "do-not-speculate"
    explanation = explain(rec)
    assert explanation.subject.verdict == "the nearest to winning"
    assert explanation.subject.margin is None or explanation.subject.margin < 0


def test_with_no_candidate_left_the_rejected_are_explained():
    rec = make_recommendation(
        "do-not-speculate", candidates=(), estimates=(), traces={}, draft_curves={}, trials=(), answers=()
    )
    explanation = explain(rec)
    assert explanation.subject is None
    assert explanation.rejected == rec.rejected
    assert len(explanation.left_out) == 1


def test_a_record_without_texts_says_so():
    explanation = explain(dataclasses.replace(simulated(), answers=()))
    assert explanation.answers == ()
    assert any("texts of the answers" in sentence for sentence in explanation.left_out)


def colour(matches: list[bool], k: int, confidences: list[float] | None = None, p_min: float = 0.0) -> list[str]:
    answer = tuple(range(100, 100 + len(matches)))
    trace = Trace(
        "code",
        answer,
        tuple(token if ok else 7 for token, ok in zip(answer, matches, strict=True)),
        tuple(confidences or [0.9] * len(matches)),
    )
    draft = make_model("D", "Q8_0")
    rec = dataclasses.replace(
        pair(0.65), traces={draft.content_hash: (trace,)}, answers=(AnswerText("code", tuple(map(str, answer))),)
    )
    subject = explain(pair(0.65)).subject
    config = Config(draft.content_hash, k, p_min)
    subject = dataclasses.replace(subject, draft=draft, best=dataclasses.replace(subject.best, config=config))
    ground = dataclasses.replace(Ground.of(rec), max_tokens=MAX_TOKENS)
    (answered,) = coloured_answers(rec, ground, subject)
    return [token.role for token in answered.tokens]


def test_tokens_are_coloured_by_who_wrote_them():
    # The prefill's token; a whole draft of two and its bonus; a hit, then a miss corrected; a miss at once; the end.
    assert colour([True, True, True, True, True, False, False, True], k=2) == [
        *("alone", "accepted", "accepted", "bonus", "accepted", "corrected", "corrected", "accepted")
    ]


def test_where_the_draft_was_too_unsure_to_begin_the_target_writes_alone():
    roles = colour([True, True, True, True], k=4, confidences=[0.9, 0.1, 0.9, 0.1], p_min=0.5)
    assert roles == ["alone", "alone", "accepted", "bonus"]


@given(st.data())
def test_as_many_tokens_are_coloured_accepted_as_the_walk_accepts(data):
    matches = data.draw(st.lists(st.booleans(), min_size=2, max_size=40))
    confidences = data.draw(st.lists(st.sampled_from([0.2, 0.7, 0.95]), min_size=len(matches), max_size=len(matches)))
    k, p_min = data.draw(st.integers(1, 6)), data.draw(st.sampled_from([0.0, 0.5, 0.9]))
    answer = tuple(range(100, 100 + len(matches)))
    proposal = tuple(token if ok else 7 for token, ok in zip(answer, matches, strict=True))
    walked = walk(Trace("", answer, proposal, tuple(confidences)), Config("", k, p_min), max_tokens=MAX_TOKENS)
    roles = _roles(Trace("", answer, proposal, tuple(confidences)), k, p_min)
    ends_on_a_hit = roles[-1] == "accepted"  # no token of the target's own follows it
    assert roles.count("accepted") - walked.accepted in ((0, 1) if ends_on_a_hit else (0,))
    assert len(roles) - roles.count("accepted") == walked.steps + (0 if ends_on_a_hit else 1)


def _roles(trace: Trace, k: int, p_min: float) -> list[str]:
    from advisor.reasons.answers import _coloured_tokens

    pieces = [str(token) for token in trace.answer_tokens]
    return [token.role for token in _coloured_tokens(trace, pieces, Config("", k, p_min), 0.0, MAX_TOKENS)]


def test_the_explanation_of_the_whole_world_agrees_with_the_world():
    """The pick's margin is positive, and its true speedup is the one explained."""
    explanation = explain(simulated())
    subject = explanation.subject
    assert subject.margin > 0
    truth = true_speedup(WORLD, subject.best.config, subject.draft)
    assert subject.best.speedup == pytest.approx(truth, rel=0.06)


@pytest.mark.parametrize("verdict", ["speculate", "do-not-speculate"])
def test_a_record_of_another_engine_with_settings_off_the_grid_is_explained(verdict):
    """Four-token answers, p_min = 0.5, a k_max beyond what was estimated: nothing that was only usual is required."""
    rec = make_recommendation(verdict)
    explanation = explain(rec)
    assert len(explanation.drafts) == 2
    assert explanation.subject.step.total_s > 0
    assert explanation.rejected == rec.rejected


@pytest.mark.parametrize("matches", [(False,) * 12, (True,) * 12])
def test_a_draft_that_is_never_or_always_right_is_explained(matches):
    rec = make_recommendation()
    traces = {draft: (make_trace("code", matches), make_trace("chat", matches)) for draft in rec.traces}
    subject = explain(dataclasses.replace(rec, traces=traces)).subject
    assert subject.agreement == float(matches[0])
    agreements = [point.agreement for point in subject.curve]
    assert (agreements[0], agreements[-1]) == (0.0, 1.0)
    assert agreements == sorted(set(agreements))


def test_a_draft_without_curves_keeps_what_its_estimates_say():
    rec = simulated()
    other = next(c.draft for c in rec.candidates if c.draft.content_hash != rec.best.config.draft)
    curves = {draft: curve for draft, curve in rec.draft_curves.items() if draft != other.content_hash}
    found = next(d for d in explain(dataclasses.replace(rec, draft_curves=curves)).drafts if d.draft == other)
    assert (found.step, found.break_even, found.cost) == (None, None, ())
    assert found.lengths
    assert found.positions


def test_explaining_twice_says_the_same():
    assert explain(pair(0.65)) == explain(pair(0.65))
