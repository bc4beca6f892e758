"""A budget becomes a number of prompts and a length of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advisor.engines.simulated import SimulatedEngine, World
from advisor.errors import BudgetTooSmall
from advisor.plan import divide, make_plan, thread_counts
from advisor.testing.builders import make_host
from advisor.types import Message, Prompt, Settings


def plan(budget_s: float, token_s: float, prompts: int = 28, max_tokens: int = 256):
    settings = Settings(budget_s=budget_s, max_tokens=max_tokens)
    return divide(settings, prompts, token_s, prompt_s=4 * token_s, load_s=1.0)


@pytest.mark.parametrize("budget_s", [120, 300, 3600])
@pytest.mark.parametrize("token_s", [0.005, 0.05, 0.15])
def test_the_answers_take_about_their_share_of_the_budget(budget_s, token_s):
    made = plan(budget_s, token_s)
    assert made.prompts * (made.max_tokens + 4) * token_s <= 0.21 * budget_s


def test_a_fast_target_writes_many_whole_answers_and_a_slow_one_a_few_short_ones():
    fast, slow = plan(300, 0.005), plan(300, 0.3)
    assert (fast.prompts, fast.max_tokens) == (24, 256)
    assert 4 <= slow.prompts <= 5
    assert 32 <= slow.max_tokens < 64


def test_answers_are_shortened_before_prompts_are_dropped():
    made = plan(240, 0.06)
    assert made.prompts == 8
    assert 64 <= made.max_tokens < 128


def test_a_real_run_writes_as_much_as_timing_it_takes():
    assert [plan(300, token_s).trial_tokens for token_s in (0.005, 0.04, 0.3)] == [256, 125, plan(300, 0.3).max_tokens]
    long = plan(300, 0.06, prompts=3, max_tokens=1024)
    assert (long.max_tokens, long.trial_tokens) == (256, 96)


def test_a_workload_of_one_prompt_is_enough():
    assert plan(300, 0.05, prompts=1).prompts == 1


def test_a_hopeless_budget_says_what_is_needed_and_that_much_is_enough():
    with pytest.raises(BudgetTooSmall) as caught:
        plan(30, 1.5)
    needed_s = 60 * float(caught.value.fix.split("--budget ")[1].rstrip("m."))
    assert plan(needed_s, 1.5).prompts == 4


@pytest.mark.parametrize(
    ("physical", "usable", "asked", "tried"),
    [(8, 16, 0, (8, 16)), (8, 8, 0, (8,)), (64, 2, 0, (2,)), (8, 16, 5, (5,))],
)
def test_threads_to_try_begin_with_the_cores(physical, usable, asked, tried):
    host = make_host(cores_physical=physical, cores_usable=usable)
    assert thread_counts(host, Settings(threads=asked)) == tried


@pytest.mark.parametrize(("hyper_threaded_s", "chosen"), [(0.08, 16), (0.097, 8), (0.12, 8)])
def test_hyper_threads_are_used_where_they_are_clearly_faster(hyper_threaded_s, chosen):
    opened: list[int] = []

    class Threaded(SimulatedEngine):
        def answer(self, *asked):
            run = super().answer(*asked)
            return replace(run, decode_s=run.decode_s * (hyper_threaded_s / 0.1 if opened[-1] == 16 else 1))

    engine = Threaded(World((0.1, 0.11), {}))
    prompts = [Prompt((Message("user", "Hello"),), "chat")]
    made = make_plan(engine, prompts, Settings(), (8, 16), opened.append)
    assert made.threads == opened[-1] == chosen
    assert made.token_s == pytest.approx(min(0.1, hyper_threaded_s) if chosen == 16 else 0.1)
