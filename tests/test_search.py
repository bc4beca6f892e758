"""The search loop with a runner whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advisor.errors import EngineCrash, TargetFailure
from advisor.plan import TRIAL_PROMPTS
from advisor.progress import Silent
from advisor.ranking import merit
from advisor.search import (
    STOPPED_BUDGET,
    STOPPED_HOPELESS,
    STOPPED_SETTLED,
    expected_improvement,
    search,
    speedup_of,
)
from advisor.types import Config, Run
from tests.predict.test_analytic import CURRENT, curve, trace
from tests.predict.test_correction import Predictor

PROMPTS = TRIAL_PROMPTS


def predictor(draft_costs: dict[str, float], rate: float = 0.8) -> Predictor:
    traces = [trace(rate, seed, 120) for seed in range(PROMPTS)]
    target = curve(lambda b: 0.1 + 0.004 * (b - 1))
    drafts = {name: curve(lambda b, cost=cost: cost + 0.001 * (b - 1)) for name, cost in draft_costs.items()}
    return Predictor(dict.fromkeys(draft_costs, traces), target, drafts, CURRENT, k_max=8, max_tokens=120)


class Runner:
    """Real runs whose speed is the prediction times a factor of the draft's."""

    def __init__(self, p: Predictor, factors: dict[str, float]) -> None:
        self.analytics, self.factors = dict(p.analytics), factors
        self.asked: list[tuple[Config, int]] = []

    def __call__(self, config: Config, prompt: int) -> tuple[Run, Run]:
        self.asked.append((config, prompt))
        speedup = self.analytics[config].by_prompt[prompt] * self.factors[config.draft]
        return Run(120, 11.9, 0), Run(120, 11.9 / speedup, 0)


def fastest(p: Predictor):
    def pick(trials):
        return max(p.estimates(trials, 1.0), key=merit).config

    return pick


def run(p: Predictor, runner, tmp_path: Path, left_s=lambda: 1e9, drafts=("a", "b"), pick=None, **more):
    return search(
        p,
        runner,
        pick or fastest(p),
        journal=tmp_path / "studies.journal",
        study_name="s",
        proposers=drafts,
        k_max=8,
        **{"prompts": PROMPTS, "trial_s": 10, "time_left_s": left_s, "progress": Silent(), **more},
    )


def test_the_predicted_best_runs_first_and_a_true_prediction_ends_it(tmp_path):
    p = predictor({"a": 0.005, "b": 0.03})
    runner = Runner(p, {"a": 1.0, "b": 1.0})
    result = run(p, runner, tmp_path)
    assert result.trials[0].config.draft == "a"
    assert result.stop_reason == STOPPED_SETTLED
    assert len(result.trials) <= 3


def test_no_search_ends_before_what_would_be_answered_was_seen_to_work(tmp_path):
    """Whatever the answer is chosen by: memory, methods without a draft, ties."""
    p = predictor({"a": 0.005, "b": 0.03})
    answers = iter([Config("a", 4), Config("b", 1), Config("b", 1)])
    result = run(p, Runner(p, {"a": 1.0, "b": 1.0}), tmp_path, pick=lambda trials: next(answers))
    assert result.trials[0].config == Config("a", 4)
    assert result.trials[-1].config == Config("b", 1)
    assert result.stop_reason == STOPPED_SETTLED


def test_an_answer_that_is_nothing_to_search_for_asks_for_no_run(tmp_path):
    """A prediction head, which was run before."""
    p = predictor({"a": 0.005, "b": 0.03})
    result = run(p, Runner(p, {"a": 1.0, "b": 1.0}), tmp_path, pick=lambda trials: Config("", 3, method="mtp"))
    assert result.trials[0].config == max(p.analytics.values(), key=lambda one: one.speedup).config
    assert result.stop_reason == STOPPED_SETTLED


def test_a_leader_that_disappoints_is_compared_with_the_other_draft(tmp_path):
    p = predictor({"a": 0.009, "b": 0.010})
    result = run(p, Runner(p, {"a": 0.90, "b": 1.0}), tmp_path)
    best = max((e for e in p.estimates(result.trials, 1.0)), key=lambda e: e.speedup)
    assert {trial.config.draft for trial in result.trials} == {"a", "b"}
    assert best.config.draft == "b"


def test_nothing_is_run_when_nothing_can_win(tmp_path):
    p = predictor({"a": 0.09}, rate=0.1)
    runner = Runner(p, {"a": 1.0})
    result = run(p, runner, tmp_path, drafts=("a",))
    assert (result.trials, result.stop_reason, runner.asked) == ((), STOPPED_HOPELESS, [])


def test_a_trial_that_does_not_fit_in_the_time_left_is_not_begun(tmp_path):
    p = predictor({"a": 0.005, "b": 0.03})
    result = run(p, Runner(p, {"a": 1.0, "b": 1.0}), tmp_path, left_s=lambda: 9.0)
    assert (result.trials, result.stop_reason) == ((), STOPPED_BUDGET)


def test_a_loser_is_stopped_before_its_last_prompt(tmp_path):
    """The leader's rival is far slower than predicted: the pruner sees it on the first prompts."""
    p = predictor({"a": 0.010, "b": 0.0102})
    result = run(p, Runner(p, {"a": 0.97, "b": 0.6}), tmp_path)
    rivals = [trial for trial in result.trials if trial.config.draft == "b"]
    assert rivals
    assert rivals[0].pruned
    assert len(rivals[0].runs) < PROMPTS


def test_a_finished_study_of_the_same_name_is_taken_up_again(tmp_path):
    p = predictor({"a": 0.009, "b": 0.010})
    first = run(p, Runner(p, {"a": 0.95, "b": 1.0}), tmp_path)
    again = Runner(p, {"a": 0.95, "b": 1.0})
    second = run(p, again, tmp_path)
    assert second.trials == first.trials
    assert len(again.asked) == sum(len(trial.runs) for trial in first.trials)  # looked up, not chosen anew


def test_a_crashing_draft_is_dropped_and_named(tmp_path):
    p = predictor({"a": 0.005, "b": 0.03})
    healthy = Runner(p, {"a": 1.0, "b": 1.0})

    def runner(config: Config, prompt: int) -> tuple[Run, Run]:
        if config.draft == "a":
            raise EngineCrash("died", signal_name="SIGSEGV")
        return healthy(config, prompt)

    result = run(p, runner, tmp_path)
    assert set(result.failed) == {"a"}
    assert {trial.config.draft for trial in result.trials} == {"b"}


def test_a_target_that_fails_is_nobody_elses_fault(tmp_path):
    """No draft is dropped for it: every other one would fail alike."""
    p = predictor({"a": 0.005, "b": 0.03})

    def runner(config: Config, prompt: int) -> tuple[Run, Run]:
        raise TargetFailure("The target alone failed: died")

    with pytest.raises(TargetFailure):
        run(p, runner, tmp_path)
    assert {config.draft for config in p.analytics} == {"a", "b"}


@pytest.mark.parametrize("writes", [0, 5, 12])
def test_a_journal_that_can_no_longer_be_written_costs_nothing_but_itself(tmp_path, monkeypatch, writes):
    """A disk that is full from the n-th write on."""
    from optuna.storages.journal import JournalFileBackend

    append, left = JournalFileBackend.append_logs, [writes]

    def full(self, logs):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        append(self, logs)

    def search_in(folder):
        p = predictor({"a": 0.009, "b": 0.010})
        return run(p, Runner(p, {"a": 0.90, "b": 1.0}), folder)

    (tmp_path / "good").mkdir()
    good = search_in(tmp_path / "good")
    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    assert search_in(tmp_path) == good


def test_stored_runs_of_an_earlier_search_cost_nothing_and_lost_ones_wait_for_time(tmp_path):
    p = predictor({"a": 0.009, "b": 0.010})
    first = run(p, Runner(p, {"a": 0.90, "b": 1.0}), tmp_path)
    assert len(first.trials) > 1
    stored = Runner(p, {"a": 0.90, "b": 1.0})
    assert run(p, stored, tmp_path, left_s=lambda: -5.0).trials == first.trials
    lost = Runner(p, {"a": 0.90, "b": 1.0})
    found = run(p, lost, tmp_path, left_s=lambda: -5.0, is_stored=lambda config, prompt: False)
    assert (found.trials, found.stop_reason, lost.asked) == ((), STOPPED_BUDGET, [])


def test_an_earlier_run_keeps_all_its_prompts_where_there_is_time_for_fewer_now(tmp_path):
    """The same question with the same store is answered the same, however little of its budget is left."""
    p = predictor({"a": 0.009, "b": 0.010})
    first = run(p, Runner(p, {"a": 0.90, "b": 1.0}), tmp_path)
    later = Runner(p, {"a": 0.90, "b": 1.0})
    again = run(p, later, tmp_path, left_s=lambda: -5.0, prompts=PROMPTS - 2, answers=PROMPTS)
    assert again.trials == first.trials
    cut = run(p, later, tmp_path, left_s=lambda: -5.0, prompts=PROMPTS - 2)
    assert {len(trial.runs) for trial in cut.trials} == {PROMPTS - 2}  # a workload of fewer answers


def test_a_draft_that_crashes_on_runs_of_an_earlier_search_is_dropped_too(tmp_path):
    p = predictor({"a": 0.009, "b": 0.010})
    run(p, Runner(p, {"a": 0.90, "b": 1.0}), tmp_path)
    healthy = Runner(p, {"a": 0.90, "b": 1.0})

    def runner(config: Config, prompt: int) -> tuple[Run, Run]:
        if config.draft == "a":
            raise EngineCrash("died", signal_name="SIGSEGV")
        return healthy(config, prompt)

    found = run(p, runner, tmp_path)
    assert set(found.failed) == {"a"}
    assert {trial.config.draft for trial in found.trials} == {"b"}


def test_an_interrupt_leaves_the_finished_trials_and_the_study_usable(tmp_path):
    p = predictor({"a": 0.009, "b": 0.010})
    healthy = Runner(p, {"a": 0.9, "b": 1.0})

    def runner(config: Config, prompt: int) -> tuple[Run, Run]:
        if len(healthy.asked) == PROMPTS + 2:
            raise KeyboardInterrupt
        return healthy(config, prompt)

    with pytest.raises(KeyboardInterrupt):
        run(p, runner, tmp_path)
    assert run(p, healthy, tmp_path).stop_reason == STOPPED_SETTLED


def test_expected_improvement_is_the_mean_of_the_positive_part():
    rng = np.random.default_rng(0)
    mean, sd = np.array([-0.05, 0.0, 0.02]), np.array([0.05, 0.03, 1e-15])
    simulated = np.maximum(0, rng.normal(mean, sd, size=(400_000, 3))).mean(axis=0)
    assert expected_improvement(mean, sd) == pytest.approx(simulated, abs=2e-4)


def test_pooled_speedup_adds_times_not_ratios():
    fast, slow = (Run(11, 1.0, 0), Run(11, 0.5, 0)), (Run(11, 1.0, 0), Run(11, 1.0, 0))
    assert speedup_of([fast, slow]) == pytest.approx(2.0 / 1.5)
