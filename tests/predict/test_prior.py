"""The prior's speedup: its arithmetic, its slopes, and how its interval grows away from the evidence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.catalog.load import load
from advisor.cost.prior import Machine
from advisor.cost.step_law import CURRENT, OLD, StepLaw
from advisor.errors import StoreError
from advisor.predict.belief import (
    PERSISTENCE,
    SPREAD,
    Posterior,
    assumed,
    posterior_from_json,
    posterior_to_json,
    shipped,
)
from advisor.predict.prior import (
    DECODE_SD,
    TRIED_K,
    TRIED_P_MIN,
    UNTRIED_KERNEL_SD,
    UNTRIED_SD,
    Design,
    predict,
    token_log_sd,
    token_seconds,
)
from advisor.predict.reading import digests_in
from advisor.predict.tables import CATALOGUE_HOSTS
from advisor.predict.terms import LEAST_TRIED_BITS, skill_terms
from tests.predict.pairs import GB, METAL, case, mixture, side

KS = (1, 3, 8, 16)
NOTHING_KNOWN = Posterior((), np.zeros(0), np.zeros((0, 0)), row_sd=0.03)


def knowing(design: Design, spread: float = 0.1, row_sd: float = 0.03, seed: int = 0) -> Posterior:
    """A posterior that has seen all of a design: means as assumed, narrower and correlated."""
    mean = np.array([assumed(name)[0] for name in design.names])
    sd = np.array([assumed(name)[1] for name in design.names]) * spread
    mix = np.eye(len(sd)) + 0.3 * np.random.default_rng(seed).standard_normal((len(sd), len(sd))) / np.sqrt(len(sd))
    return Posterior(design.names, mean, np.outer(sd, sd) * (mix @ mix.T), row_sd, ("a table of 9 rows",))


def typical_values(design: Design, seed: int = 0) -> np.ndarray:
    mean = np.array([assumed(name)[0] for name in design.names])
    sd = np.array([assumed(name)[1] for name in design.names])
    return mean + 0.3 * sd * np.random.default_rng(seed).standard_normal(len(sd))


def log_sd(one, posterior: Posterior) -> float:
    return float(predict([one], posterior, (4,), 0.0, CURRENT).log_sd[0, 0])


# -- the arithmetic --------------------------------------------------------------------------------------------------


def test_the_speedup_is_tokens_per_step_over_the_price_of_a_step():
    """p_min = 0: k draft decodes, one target decode of k + 1 tokens, one draft decode of k + 1."""
    for reevaluates in (False, True):
        design = Design([case()], StepLaw(reevaluates))
        values = typical_values(design)
        t, d = design.target_s(values, 9)[0], design.draft_s(values, 9)[0]
        steps = design.steps(values, (8,), 0.0)
        step_s = 8 * d[0] + t[8] + reevaluates * d[8]
        speedup = np.exp(design.log_speedup(values, steps)[0, 0])
        assert speedup == pytest.approx(steps.tokens_per_step[0, 0] * t[0] / step_s)


def test_drafts_cut_short_by_p_min_are_priced_at_their_own_length():
    design = Design([case()], CURRENT)
    values = typical_values(design)
    t, d = design.target_s(values, 5)[0], design.draft_s(values, 5)[0]
    steps = design.steps(values, (4,), 0.7)
    share = steps.drafted[0, 0]
    step_s = sum(share[n] * (min(n + 1, 4) * d[0] + t[n] + d[n]) for n in range(5))
    assert 0.05 < share[:4].sum() < 0.95
    speedup = np.exp(design.log_speedup(values, steps)[0, 0])
    assert speedup == pytest.approx(steps.tokens_per_step[0, 0] * t[0] / step_s)


def test_skill_is_that_of_the_named_terms():
    other = case(draft=side(1.5, "Q4_K", "Llama"), category="chat", text="a poem")
    terms = skill_terms(other)
    assert terms["skill/log_draft"] == pytest.approx(0)  # 1.5B is the reference
    assert terms["skill/draft_bits"] == pytest.approx(2**-2.85)
    assert {"skill/family/Qwen2.5", "skill/category/chat", "skill/text/a poem", "skill/other_base"} <= set(terms)
    assert "skill/other_base" not in skill_terms(case())
    assert terms[f"skill/draft/{other.draft.name}"] == 1
    assert "skill/temperature" not in terms
    assert skill_terms(case(temperature=0.7))["skill/temperature"] == 0.7


def test_two_files_of_one_size_may_differ_in_skill():
    names = [set(skill_terms(case(draft=side(1.5, quant)))) for quant in ("Q8_0", "Q4_K")]
    assert names[0] != names[1]


def test_a_draft_elsewhere_costs_what_it_costs_there():
    slow = Machine("cpu", 50 * GB, "ram")
    design = Design([case(), case(draft_machine=slow), case(machine=slow)], CURRENT)
    values = NOTHING_KNOWN.over(design.names).mean
    targets, drafts = design.target_s(values, 4), design.draft_s(values, 4)
    assert targets[1] == pytest.approx(targets[0])
    assert drafts[1] == pytest.approx(drafts[2])
    assert drafts[1, 0] > 5 * drafts[0, 0]


def test_a_token_alone_takes_what_the_design_prices():
    design = Design([case()], CURRENT)
    expected = design.target_s(shipped().over(design.names).mean, 1)[0, 0]
    assert token_seconds(METAL, side(14), shipped()) == pytest.approx(expected)


def test_a_mixture_is_as_able_as_the_geometric_mean_of_its_sizes():
    assert mixture().skill_parameters == pytest.approx(np.sqrt(30.5 * 3.3) * GB)


def test_a_known_baseline_replaces_one_token_and_keeps_what_rows_add():
    plain, known = Design([case()], CURRENT), Design([case(baseline_s=0.050)], CURRENT)
    values = typical_values(plain)
    t, shifted = plain.target_s(values, 9)[0], known.target_s(values, 9)[0]
    assert shifted[0] == pytest.approx(0.050)
    assert shifted - shifted[0] == pytest.approx(t - t[0])
    assert known.draft_s(values, 9)[0] == pytest.approx(plain.draft_s(values, 9)[0] * 0.050 / t[0])


def test_a_baseline_as_priced_changes_nothing():
    plain = Design([case()], CURRENT)
    belief = NOTHING_KNOWN.over(plain.names)
    priced_s = float(plain.target_s(belief.mean, 1)[0, 0])
    with_baseline = predict([case(baseline_s=priced_s)], NOTHING_KNOWN, KS, 0.0, CURRENT)
    assert with_baseline.speedup == pytest.approx(predict([case()], NOTHING_KNOWN, KS, 0.0, CURRENT).speedup)


def test_a_baseline_narrows_the_interval():
    plain = Design([case()], CURRENT)
    priced_s = float(plain.target_s(NOTHING_KNOWN.over(plain.names).mean, 1)[0, 0])
    assert log_sd(case(baseline_s=priced_s), NOTHING_KNOWN) <= log_sd(case(), NOTHING_KNOWN) * 1.001


# -- slopes ----------------------------------------------------------------------------------------------------------

DESIGNS = {
    "plain": [case(), case(side(32, "Q4_K"), side(0.5, "Q4_0"), category="chat")],
    "baseline": [case(baseline_s=0.05), case(text="a poem")],
    "mixture": [case(mixture(), side(0.5, family="Qwen3"), Machine("cuda", 1008 * GB, "rtx-4090"))],
}


@pytest.mark.parametrize("cases", DESIGNS.values(), ids=DESIGNS)
@pytest.mark.parametrize(("p_min", "temperature", "law"), [(0.0, 0.0, CURRENT), (0.75, 0.0, OLD), (0.4, 0.8, CURRENT)])
def test_the_gradient_is_that_of_finite_differences(cases, p_min, temperature, law):
    heated = [dataclasses.replace(one, temperature=temperature) for one in cases]
    design = Design(heated, law, ["efficiency/cpu"])  # one that no case touches
    values = typical_values(design)

    def at(moved):
        steps = design.steps(moved, KS, p_min)
        return design.log_speedup(moved, steps), steps.acceptance_rate

    speed, rates = design.gradient(values, KS, p_min)
    for column, name in enumerate(design.names):
        step = np.zeros(len(values))
        step[column] = 2e-3
        (up, rate_up), (down, rate_down) = at(values + step), at(values - step)
        assert speed[..., column] == pytest.approx((up - down) / 4e-3, abs=6e-3), name
        assert rates[..., column] == pytest.approx((rate_up - rate_down) / 4e-3, abs=6e-3), name
    assert not speed[..., design.index["efficiency/cpu"]].any()


def test_the_chain_matters_to_the_speedup():
    design = Design([case()], CURRENT)
    speed, _ = design.gradient(typical_values(design), (8,), 0.0)
    for name in (SPREAD, PERSISTENCE, "skill"):
        assert abs(speed[0, 0, design.index[name]]) > 1e-3, name


def test_confidence_matters_only_where_p_min_asks_for_it():
    design = Design([case()], CURRENT)
    for p_min, matters in ((0.0, False), (0.75, True)):
        speed, _ = design.gradient(typical_values(design), (8,), p_min)
        assert bool(abs(speed[0, 0, design.index["confidence"]]) > 1e-3) == matters


def test_confidence_is_of_the_draft_whatever_the_target_is():
    small, large = Design([case(side(7))], CURRENT), Design([case(side(72, "Q4_K", "Llama"))], CURRENT)
    steps = [d.steps(NOTHING_KNOWN.over(d.names).mean, (8,), 0.75) for d in (small, large)]
    assert steps[0].drafted == pytest.approx(steps[1].drafted, abs=0.08)
    assert steps[0].acceptance_rate[0, 0] > steps[1].acceptance_rate[0, 0]


# -- beliefs ---------------------------------------------------------------------------------------------------------


def test_known_coefficients_keep_their_covariance_and_unknown_ones_are_as_assumed():
    belief = Posterior(
        ("skill", "row/metal"), np.array([3.0, -0.5]), np.array([[0.04, 0.01], [0.01, 0.09]]), 0.02, ("x",)
    )
    over = belief.over(["row/metal", "skill/family/Granite", "skill"])
    assert over.names == ("row/metal", "skill/family/Granite", "skill")
    assert over.mean == pytest.approx([-0.5, 0.0, 3.0])
    family = assumed("skill/family/Granite")[1] ** 2
    assert over.covariance == pytest.approx(np.array([[0.09, 0, 0.01], [0, family, 0], [0.01, 0, 0.04]]))
    assert (over.row_sd, over.provenance) == (0.02, ("x",))


def test_the_kind_of_a_name_is_its_longest_known_beginning():
    assert assumed("skill/category/chat") != assumed("skill/category/riddles")
    assert assumed("efficiency/metal/Q4_K") == assumed("efficiency/metal/")
    assert assumed("row/metal/F16") != assumed("row/metal/Q4_K")


@pytest.mark.parametrize("backend", ["metal", "cuda", "rocm", "vulkan", "cpu"])
def test_every_backend_can_be_priced(backend):
    got = predict([case(machine=Machine(backend, 500 * GB, "new"))], NOTHING_KNOWN, KS, 0.0, CURRENT)
    assert np.isfinite(got.speedup).all()
    assert (got.log_sd > 0.03).all()


def test_json_and_back():
    belief = knowing(Design([case()], CURRENT))
    back = posterior_from_json(posterior_to_json(belief))
    assert back.names == belief.names
    assert back.provenance == belief.provenance
    assert back.mean == pytest.approx(belief.mean, rel=1e-4)
    assert back.row_sd == pytest.approx(belief.row_sd, rel=1e-4)
    assert back.covariance == pytest.approx(belief.covariance, rel=1e-4)
    assert (back.covariance == back.covariance.T).all()

    def wide(posterior: Posterior) -> np.ndarray:
        return predict([case()], posterior, KS, 0.0, CURRENT).log_sd

    assert wide(back) == pytest.approx(wide(belief), rel=1e-3)


def test_rounded_covariances_stay_covariances():
    """Five digits must not make a variance negative, for any direction a prediction may look in."""
    belief = posterior_from_json(posterior_to_json(knowing(Design([case(), *DESIGNS["mixture"]], CURRENT), seed=3)))
    assert np.linalg.eigvalsh(belief.covariance).min() > -1e-7


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"row_sd": 1}', '{"coefficients": {"skill": "much"}, "covariance": []}']
)
def test_another_file_is_refused(text):
    with pytest.raises(StoreError) as caught:
        posterior_from_json(text)
    assert "fit" in str(caught.value)


def test_the_shipped_posterior_is_a_belief_with_sources():
    belief = shipped()
    assert belief.provenance
    assert 0.005 < belief.row_sd < 0.15
    assert np.linalg.eigvalsh(belief.covariance).min() > -1e-7
    assert all(assumed(name) for name in belief.names), "every coefficient is of a kind that is still in use"


# -- how sure --------------------------------------------------------------------------------------------------------

SEEN = case()


@pytest.mark.parametrize(
    "unseen",
    [
        case(side(14, family="Granite"), side(1.5, family="Granite")),
        case(draft=side(1.5, family="Granite")),
        case(machine=Machine("cuda", 546 * GB, "rtx-0000")),
        case(side(14, "Q3_K"), side(1.5, "Q3_K")),
        case(category="chat"),
    ],
    ids=["family", "base", "backend", "kernel", "category"],
)
def test_the_interval_is_wider_where_nothing_like_it_was_seen(unseen):
    belief = knowing(Design([SEEN], CURRENT))
    assert log_sd(unseen, belief) > 1.15 * log_sd(SEEN, belief)


def test_what_is_known_exactly_leaves_the_spread_of_single_pairs():
    design = Design([SEEN], CURRENT)
    sure = dataclasses.replace(knowing(design), covariance=np.zeros((len(design.names),) * 2), row_sd=0.07)
    assert predict([SEEN], sure, (TRIED_K,), TRIED_P_MIN, CURRENT).log_sd == pytest.approx(0.07)


def test_settings_that_no_table_ran_at_are_less_certain():
    design = Design([SEEN], CURRENT)
    sure = dataclasses.replace(knowing(design), covariance=np.zeros((len(design.names),) * 2), row_sd=0.07)
    assert predict([SEEN], sure, KS, 0.0, CURRENT).log_sd == pytest.approx(np.hypot(0.07, UNTRIED_SD))


def test_without_the_spread_the_means_are_the_same():
    full, quick = (predict([SEEN], shipped(), KS, 0.5, CURRENT, with_sd=asked) for asked in (True, False))
    assert quick.speedup == pytest.approx(full.speedup)
    assert not quick.log_sd.any()


def test_the_spread_is_that_of_draws_from_the_belief():
    """Linear error propagation against sampling, where the belief is narrow enough to be linear."""
    design = Design([SEEN], CURRENT)
    belief = knowing(design)
    rng = np.random.default_rng(5)
    draws = rng.multivariate_normal(belief.mean, belief.covariance, size=600)
    logs = [design.log_speedup(v, design.steps(v, (4,), 0.0))[0, 0] for v in draws]
    expected = np.sqrt(np.var(logs) + belief.row_sd**2 + UNTRIED_SD**2)
    assert expected == pytest.approx(log_sd(SEEN, belief), rel=0.1)


def test_more_evidence_is_a_narrower_interval():
    design = Design([SEEN], CURRENT)
    assert log_sd(SEEN, knowing(design, spread=0.05)) < log_sd(SEEN, knowing(design, spread=0.5))


# -- what it recommends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [NOTHING_KNOWN, shipped()], ids=["assumed", "shipped"])
def test_a_draft_as_large_as_its_target_is_slower(posterior):
    for k in KS:
        assert predict([case(side(7), side(7))], posterior, (k,), 0.0, CURRENT).speedup[0, 0] < 1


@pytest.mark.parametrize("posterior", [NOTHING_KNOWN, shipped()], ids=["assumed", "shipped"])
def test_a_small_draft_helps_a_large_target_with_code(posterior):
    assert predict([case(side(72), side(1.5))], posterior, KS, 0.0, CURRENT).speedup.max() > 1.2


def test_chat_is_accepted_less_than_code():
    code, chat = (predict([case(category=c)], shipped(), KS, 0.0, CURRENT).acceptance_rate for c in ("code", "chat"))
    assert (chat < code).all()


def test_sampling_is_accepted_less_than_greedy():
    cold, hot = (predict([case(temperature=t)], shipped(), KS, 0.0, CURRENT).tokens_per_step for t in (0.0, 1.0))
    assert (hot < cold).all()


def test_a_build_that_does_not_re_evaluate_is_faster():
    old, new = (predict([case()], shipped(), KS, 0.75, StepLaw(r)).speedup for r in (False, True))
    assert (old > new).all()


def test_many_pairs_at_once_are_what_each_is_alone():
    cases = [case(), case(category="chat"), *DESIGNS["mixture"], case(baseline_s=0.04)]
    together = predict(cases, shipped(), KS, 0.5, CURRENT)
    for i, one in enumerate(cases):
        alone = predict([one], shipped(), KS, 0.5, CURRENT)
        for name in ("speedup", "log_sd", "acceptance_rate", "tokens_per_step"):
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name)[0]), name


@settings(deadline=None, max_examples=40)
@given(
    target=st.sampled_from([7, 14, 32, 72]),
    draft=st.sampled_from([0.5, 1.5, 3, 7]),
    quants=st.tuples(
        st.sampled_from(["F16", "Q8_0", "Q4_K", "Q2_K"]), st.sampled_from(["F16", "Q8_0", "Q4_K", "Q2_K"])
    ),
    backend=st.sampled_from(["metal", "cuda", "rocm", "vulkan", "cpu"]),
    bandwidth_gb=st.floats(20, 4000),
    p_min=st.floats(0, 1),
    temperature=st.floats(0, 1.5),
    baseline_s=st.none() | st.floats(1e-4, 10),
)
def test_any_pair_has_a_finite_answer(target, draft, quants, backend, bandwidth_gb, p_min, temperature, baseline_s):
    machine = Machine(backend, bandwidth_gb * GB, "x")
    one = case(side(target, quants[0]), side(draft, quants[1]), machine, baseline_s=baseline_s, temperature=temperature)
    got = predict([one], shipped(), KS, p_min, CURRENT)
    assert np.isfinite(got.speedup).all()
    assert np.isfinite(got.log_sd).all()
    assert (got.log_sd >= shipped().row_sd * 0.999).all()
    assert ((got.acceptance_rate >= 0) & (got.acceptance_rate <= 1)).all()
    assert ((got.tokens_per_step >= 1) & (got.tokens_per_step <= np.array(KS) + 1)).all()
    assert (got.speedup <= got.tokens_per_step + 1e-9).all(), "nothing is faster than free drafts and free rows"


# -- kinds of pairs that no table has --------------------------------------------------------------------------------


def test_a_refused_draft_makes_a_recurrent_target_decode_twice():
    """Two decodes of n + 1 and of a + 2 tokens give a + 2 tokens."""
    recurrent = case(dataclasses.replace(side(14), is_recurrent=True))
    design = Design([recurrent], CURRENT)
    values = typical_values(design)
    steps = design.steps(values, KS, 0.0)
    target, draft = design.target_s(values, max(KS) + 2)[0], design.draft_s(values, max(KS) + 2)[0]
    for i, k in enumerate(KS):
        seconds = k * draft[0] + target[k] + draft[k]
        seconds += sum(steps.refused[0, i, a] * (target[a + 1] + draft[a + 1]) for a in range(k))
        tokens = steps.tokens_per_step[0, i] + steps.refused[0, i].sum()
        expected = np.log(tokens * target[0] / seconds)
        assert design.log_speedup(values, steps)[0, i] == pytest.approx(expected)


def test_a_recurrent_target_gains_less_and_less_surely():
    plain, recurrent = SEEN, case(dataclasses.replace(side(14), is_recurrent=True))
    belief = knowing(Design([SEEN], CURRENT))
    found = predict([plain, recurrent], belief, (4,), 0.0, CURRENT)
    assert found.speedup[1, 0] < found.speedup[0, 0]
    assert found.log_sd[1, 0] > found.log_sd[0, 0]


def test_layers_of_fewer_bits_than_any_table_has_draft_worse_and_less_surely():
    few = case(draft=dataclasses.replace(side(1.5), layer_bits=1.7))
    found = predict([SEEN, few], shipped(), (4,), 0.0, CURRENT)
    assert found.acceptance_rate[1, 0] < found.acceptance_rate[0, 0]
    assert found.log_sd[1, 0] > 1.2 * found.log_sd[0, 0]
    as_tried = case(draft=dataclasses.replace(side(1.5), layer_bits=LEAST_TRIED_BITS))
    assert predict([as_tried], shipped(), (4,), 0.0, CURRENT).speedup[0] == pytest.approx(found.speedup[0])


def test_a_quantization_that_no_measured_draft_had_is_less_certain():
    assert {"Q2_K", "Q4_0", "Q4_K", "Q8_0", "F16"} <= shipped().draft_kernels
    assert not {"IQ1", "IQ2", "IQ3"} & shipped().draft_kernels
    tried = log_sd(SEEN, shipped())
    forgetful = shipped().over(name for name in shipped().names if not name.startswith("skill/draft/"))
    assert log_sd(SEEN, forgetful) == pytest.approx(np.hypot(tried, UNTRIED_KERNEL_SD), rel=0.02)


def test_a_baseline_alone_has_a_spread():
    sd = token_log_sd(METAL, side(14), shipped())
    assert DECODE_SD < sd < token_log_sd(METAL, side(14), NOTHING_KNOWN)


def test_every_host_in_the_shipped_posterior_is_one_that_can_be_asked_for():
    hosts = {name.rpartition("/")[2] for name in shipped().names if "/host/" in name}
    assert len(hosts) > 10
    assert hosts <= {host.id for host in load().hosts}
    assert not [name for name in hosts if CATALOGUE_HOSTS.get(name, name) != name]


def test_the_shipped_posterior_names_its_inputs_by_content():
    assert len(digests_in(shipped().provenance)) == len(shipped().provenance) == 4
