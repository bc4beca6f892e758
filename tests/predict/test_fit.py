"""The fit against worlds whose coefficients are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from advisor.catalog.load import load
from advisor.cost.prior import Machine, passes
from advisor.cost.step_law import CURRENT, OLD
from advisor.errors import FileProblem
from advisor.predict.belief import Posterior, assumed
from advisor.predict.evidence import DecodeRow, Evidence, PairRow, VerifyRow
from advisor.predict.fit import PASSING, compact, fit
from advisor.predict.prior import TRIED_K, TRIED_P_MIN, Design, predict
from advisor.predict.reading import read_evidence
from advisor.predict.terms import Case
from tests.predict.pairs import GB, METAL, case, side

Z_80 = 1.2816
SPEEDUP_NOISE, RATE_NOISE = 0.03, 0.02
K, P_MIN = TRIED_K, TRIED_P_MIN
TARGETS = [(size, quant) for size in (7, 14, 32) for quant in ("F16", "Q8_0", "Q4_K", "Q4_0")]
DRAFTS = [(0.5, "Q8_0"), (0.5, "Q4_0"), (1.5, "Q8_0"), (1.5, "Q4_K"), (3, "Q4_K")]


@dataclass(frozen=True)
class World:
    """What is true: one value for every coefficient of ``design``."""

    design: Design
    cases: tuple[Case, ...]
    values: np.ndarray

    def pairs(self, seed: int, chosen: slice = slice(None)) -> tuple[PairRow, ...]:
        """Noisy measurements of its cases."""
        rng = np.random.default_rng(seed)
        steps = self.design.steps(self.values, (K,), P_MIN)
        logs = self.design.log_speedup(self.values, steps)[:, 0]
        logs = logs + SPEEDUP_NOISE * rng.standard_normal(len(logs))
        rates = np.clip(steps.acceptance_rate[:, 0] + RATE_NOISE * rng.standard_normal(len(logs)), 0.01, 1)
        rows = [
            PairRow(one, K, P_MIN, CURRENT, float(np.exp(log)), float(rate), one.text, f"draft {i}", "world")
            for i, (one, log, rate) in enumerate(zip(self.cases, logs, rates, strict=True))
        ]
        return tuple(rows[chosen])

    def decodes(self, seed: int) -> tuple[DecodeRow, ...]:
        rng = np.random.default_rng(seed)
        places = [(one.machine, one.target.load) for one in self.cases[:: len(DRAFTS)]]
        seconds = passes(places, self.design.index).seconds(self.values, 1)[:, 0] * np.exp(
            0.02 * rng.standard_normal(len(places))
        )
        return tuple(
            DecodeRow(machine, load, float(s), "world", is_baseline=True)
            for (machine, load), s in zip(places, seconds, strict=True)
        )


def world(seed: int, spread: float = 1.0) -> World:
    """Every target answers its own text; coefficients are drawn from what is assumed before any table."""
    cases = tuple(
        case(side(*target, run=f"{target}"), side(*draft), text=f"{target}") for target in TARGETS for draft in DRAFTS
    )
    design = Design(cases, CURRENT)
    first = [assumed(name) for name in design.names]
    draw = np.random.default_rng(seed).standard_normal(len(first))
    return World(design, cases, np.array([mean + spread * z * sd for (mean, sd), z in zip(first, draw, strict=True)]))


def new_text(pairs: tuple[PairRow, ...]) -> list[Case]:
    """The cases as a user asks for them: text and run not seen."""
    return [
        replace(p.case, text="", target=replace(p.case.target, load=replace(p.case.target.load, run=""))) for p in pairs
    ]


def misses(pairs: tuple[PairRow, ...], cases: list[Case], posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """log(predicted / measured), and how far it was expected to stray."""
    got = predict(cases, posterior, (K,), P_MIN, CURRENT)
    return np.log(got.speedup[:, 0]) - np.log([p.speedup for p in pairs]), got.log_sd[:, 0]


@pytest.fixture(scope="module")
def learnt() -> tuple[World, Posterior]:
    truth = world(1)
    return truth, fit(Evidence(truth.decodes(2), (), truth.pairs(3), ("a world",)))


# -- recovering what is true -----------------------------------------------------------------------------------------


def test_pairs_that_were_seen_are_predicted_within_their_noise(learnt):
    truth, posterior = learnt
    again = truth.pairs(4)
    errors, _ = misses(again, list(truth.cases), posterior)
    assert np.sqrt(np.mean(errors**2)) < 1.5 * SPEEDUP_NOISE
    assert abs(errors.mean()) < 0.5 * SPEEDUP_NOISE


def test_acceptance_is_recovered_too(learnt):
    truth, posterior = learnt
    rates = truth.design.steps(truth.values, (K,), P_MIN).acceptance_rate
    assert predict(truth.cases, posterior, (K,), P_MIN, CURRENT).acceptance_rate == pytest.approx(rates, abs=0.03)


def test_pairs_know_more_than_was_assumed(learnt):
    truth, posterior = learnt
    _, before = misses(truth.pairs(4), new_text(truth.pairs(4)), Posterior((), np.zeros(0), np.zeros((0, 0)), 0.03))
    _, after = misses(truth.pairs(4), new_text(truth.pairs(4)), posterior)
    assert np.median(after) < 0.6 * np.median(before)


def test_single_pairs_stray_as_far_as_their_noise(learnt):
    assert learnt[1].row_sd == pytest.approx(SPEEDUP_NOISE, rel=0.35)


def test_where_it_came_from_is_kept(learnt):
    assert learnt[1].provenance == ("a world",)


def test_the_covariance_is_one(learnt):
    covariance = learnt[1].covariance
    assert covariance == pytest.approx(covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_no_coefficient_is_known_less_than_before(learnt):
    posterior = learnt[1]
    first = np.array([assumed(name)[1] for name in posterior.names])
    assert (np.sqrt(np.diag(posterior.covariance)) <= first * (1 + 1e-6)).all()


def test_the_intervals_hold_four_of_five_targets_that_were_not_seen():
    """Over worlds drawn from what is assumed: the last three targets of each are kept back."""
    hits = []
    seen = slice(0, len(DRAFTS) * (len(TARGETS) - 3))
    unseen = slice(seen.stop, None)
    for seed in range(6):
        truth = world(10 + seed)
        posterior = fit(Evidence(truth.decodes(seed)[:-3], (), truth.pairs(seed, seen), ()))
        kept = truth.pairs(100 + seed, unseen)
        errors, expected = misses(kept, new_text(kept), posterior)
        hits.append(np.abs(errors) < Z_80 * expected)
    assert 0.65 <= np.mean(hits) <= 0.95


# -- other kinds of rows ---------------------------------------------------------------------------------------------


def test_decode_speeds_teach_how_much_of_the_bandwidth_is_reached():
    machine = Machine("cuda", 1000 * GB, "card")
    rows = tuple(
        DecodeRow(machine, side(size, quant).load, side(size, quant).load.read_bytes / (0.6 * 1000 * GB) + 2e-3, "x")
        for size in (7, 14, 32)
        for quant in ("Q8_0", "Q4_K")
    )
    posterior = fit(Evidence(rows, (), (), ("speeds",)))
    design = Design([case(machine=machine)], CURRENT)
    told = design.target_s(posterior.over(design.names).mean, 1)[0, 0]
    assert told == pytest.approx(side(14).load.read_bytes / 600e9 + 2e-3, rel=0.06)


def test_verify_costs_teach_what_a_row_costs():
    machine = Machine("cuda", 1000 * GB, "card")
    rows = tuple(VerifyRow(machine, side(7).load, b, 1 + 0.3 * (b - 1), "x") for b in (2, 3, 4, 6, 8))
    design = Design([case(side(7), machine=machine)], CURRENT)
    t = design.target_s(fit(Evidence((), rows, (), ("rows",))).over(design.names).mean, 8)[0]
    assumed_t = design.target_s(Posterior((), np.zeros(0), np.zeros((0, 0)), 0.0).over(design.names).mean, 8)[0]
    assert assumed_t[7] / assumed_t[0] < 2.2
    assert t[7] / t[0] == pytest.approx(3.1, rel=0.12)


def test_what_was_not_recorded_teaches_speed_only():
    truth = world(5)
    pairs = tuple(replace(p, acceptance_rate=None) for p in truth.pairs(6))
    errors, _ = misses(truth.pairs(7), list(truth.cases), fit(Evidence((), (), pairs, ())))
    assert np.sqrt(np.mean(errors**2)) < 1.6 * SPEEDUP_NOISE


def test_settings_of_every_row_count():
    """The same world measured at two settings: a fit that mixed them up could not predict both."""
    truth = world(8)
    values, chosen = truth.values, [(2, 0.0, CURRENT), (16, 0.75, OLD)]
    rows = []
    for k, p_min, law in chosen:
        design = Design(truth.cases, law, truth.design.names)
        steps = design.steps(values, (k,), p_min)
        logs = design.log_speedup(values, steps)[:, 0]
        rates = steps.acceptance_rate[:, 0]
        rows += [
            PairRow(one, k, p_min, law, float(np.exp(log)), float(rate), "t", "d", "w")
            for one, log, rate in zip(truth.cases, logs, rates, strict=True)
        ]
    posterior = fit(Evidence((), (), tuple(rows), ()))
    for k, p_min, law in (*chosen, (4, 0.5, CURRENT)):
        design = Design(truth.cases, law, truth.design.names)
        true = design.log_speedup(values, design.steps(values, (k,), p_min))
        got = predict(truth.cases, posterior, (k,), p_min, law)
        assert np.sqrt(np.mean((np.log(got.speedup) - true) ** 2)) < 0.03, (k, p_min)


# -- going on from a fit ---------------------------------------------------------------------------------------------


def test_two_halves_one_after_the_other_are_about_the_whole():
    truth = world(9, spread=0.5)
    pairs, half = truth.pairs(1), len(DRAFTS) * 6
    whole = fit(Evidence((), (), pairs, ("first", "second")))
    first = fit(Evidence((), (), pairs[:half], ("first",)))
    both = fit(Evidence((), (), pairs[half:], ("second",)), start=first)
    assert both.provenance == ("first", "second")
    names = [name for name in whole.names if not name.startswith(("skill/text/", "row/run/"))]
    once, twice = whole.over(names), both.over(names)
    assert (np.abs(once.mean - twice.mean) < 0.5 * np.sqrt(np.diag(once.covariance)) + 0.02).mean() > 0.95
    assert np.sqrt(np.diag(twice.covariance)) == pytest.approx(np.sqrt(np.diag(once.covariance)), rel=0.2)


def test_one_table_moves_the_answer_for_its_own_machine_most():
    """A machine that is 25 % faster than thought: its own predictions follow, another backend's stay."""
    here, there = METAL, Machine("rocm", 960 * GB, "card")
    priced = Design([case(machine=here)], CURRENT)
    usual = priced.target_s(Posterior((), np.zeros(0), np.zeros((0, 0)), 0.0).over(priced.names).mean, 1)[0, 0]
    rows = tuple(DecodeRow(here, side(14).load, 0.8 * usual, "x", is_baseline=True) for _ in range(3))
    posterior = fit(Evidence(rows, (), (), ()))
    t_here = priced.target_s(posterior.over(priced.names).mean, 1)[0, 0]
    assert t_here == pytest.approx(0.8 * usual, rel=0.05)
    other = Design([case(machine=there)], CURRENT)
    names = other.names
    none = Posterior((), np.zeros(0), np.zeros((0, 0)), 0.0)
    assert other.target_s(posterior.over(names).mean, 1)[0, 0] == pytest.approx(
        other.target_s(none.over(names).mean, 1)[0, 0], rel=0.15
    )


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_a_handful_of_new_pairs_does_not_make_single_pairs_certain(learnt, pairs):
    """What 60 pairs said about how far a pair strays cannot be undone by two that fit well."""
    truth, before = learnt
    fresh = Evidence(truth.decodes(30), (), truth.pairs(31)[:pairs], ())
    wide = replace(before, row_sd=0.06)
    assert fit(fresh, start=wide).row_sd > 0.04


def test_a_compact_posterior_says_the_same_of_a_case_to_come(learnt):
    truth, posterior = learnt
    small = compact(posterior)
    assert 0 < len(small.names) < len(posterior.names)
    assert not any(name.startswith(PASSING) for name in small.names)
    cases = new_text(truth.pairs(4))
    whole, kept = (predict(cases, one, (K,), P_MIN, CURRENT) for one in (posterior, small))
    assert kept.speedup == pytest.approx(whole.speedup, rel=0.01)
    assert kept.log_sd == pytest.approx(whole.log_sd, rel=0.05)


def test_nothing_to_learn_from_is_said():
    with pytest.raises(FileProblem, match="nothing to fit"):
        fit(Evidence())


# -- from a file -----------------------------------------------------------------------------------------------------


def test_a_table_on_disk_teaches_its_own_speeds(tmp_path):
    """A draftbench table is filled from known coefficients, read, fitted, and its pairs are predicted."""
    catalog = load()
    rows = [
        {"target": f"{size} {quant}", "draft": draft, "mean_tps": 10.0, "acceptance_rate": 0.5 if draft else None}
        for size in ("7B", "32B")
        for quant in ("Q8_0", "Q4_K_M")
        for draft in (None, "0.5B Q8_0", "0.5B Q4_K_M", "1.5B Q8_0", "1.5B Q4_K_M")
    ]
    table = {
        "timestamp": "2026-02-06T06:22:52+00:00",
        "hardware": "m4max-128gb",
        "backend": "llamacpp",
        "model_family": "Qwen2.5",
        "settings": {},
        "results": rows,
    }
    path = tmp_path / "made-up.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    pairs = read_evidence([path], catalog).pairs
    design = Design([replace(p.case, baseline_s=None) for p in pairs], OLD)
    first = [assumed(name) for name in design.names]
    draw = np.random.default_rng(12).standard_normal(len(first))
    values = np.array([mean + 0.7 * sd * z for (mean, sd), z in zip(first, draw, strict=True)])
    steps = design.steps(values, (16,), 0.75)
    speedups = np.exp(design.log_speedup(values, steps)[:, 0])
    base_tps = {p.target: 1 / t for p, t in zip(pairs, design.target_s(values, 1)[:, 0], strict=True)}
    measured = iter(zip(pairs, speedups, steps.acceptance_rate[:, 0], strict=True))
    for row in rows:
        row["mean_tps"] = base_tps[f"Qwen2.5 {row['target']}"]
        if row["draft"]:
            pair, speedup, rate = next(measured)
            assert pair.draft == row["draft"]
            row["mean_tps"], row["acceptance_rate"] = row["mean_tps"] * speedup, rate
    path.write_text(json.dumps(table), encoding="utf-8")

    found = read_evidence([path], catalog)
    posterior = fit(found)
    got = predict([p.case for p in found.pairs], posterior, (16,), 0.75, OLD)
    assert got.speedup[:, 0] == pytest.approx(speedups, rel=0.05)
    assert got.acceptance_rate[:, 0] == pytest.approx(steps.acceptance_rate[:, 0], abs=0.04)
    assert any("made-up.json" in one and "16 pairs" in one for one in posterior.provenance)
