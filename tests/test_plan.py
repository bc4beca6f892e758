"""A time becomes a number of prompts and a length of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advisor.budget import Budget
from advisor.engines.simulated import Clock, SimulatedEngine, World
from advisor.plan import FIRST, MORE_FOR_SLOW, THOROUGH, Effort, Plan, Speed, make_plan, see_speed, thread_counts
from advisor.testing.builders import make_host
from advisor.types import Message, Prompt, Settings


def plan(budget_s: float, token_s: float, prompts: int = 28, max_tokens: int = 256, effort: Effort = THOROUGH) -> Plan:
    settings = Settings(budget_s=budget_s, max_tokens=max_tokens)
    speed = Speed(token_s, prompt_s=4 * token_s, threads=2, load_s=1.0)
    return make_plan(effort, speed, settings, prompts, token_s)


@pytest.mark.parametrize("effort", [FIRST, THOROUGH])
@pytest.mark.parametrize("budget_s", [120, 300, 3600])
@pytest.mark.parametrize("token_s", [0.005, 0.05, 0.15])
def test_the_answers_take_about_their_share_of_the_budget(budget_s, token_s, effort):
    made = plan(budget_s, token_s, effort=effort)
    assert made.prompts * (made.max_tokens + 4) * token_s <= 1.05 * MORE_FOR_SLOW * effort.write * budget_s


def test_a_fast_target_writes_many_whole_answers_and_a_slow_one_a_few_short_ones():
    fast, slow = plan(300, 0.005), plan(300, 0.4)
    assert (fast.prompts, fast.max_tokens) == (24, 256)
    assert 4 <= slow.prompts <= 5
    assert 32 <= slow.max_tokens < 64


def test_the_first_look_is_at_a_few_short_answers_however_fast_the_target():
    first = plan(300, 0.005, effort=FIRST)
    assert (first.prompts, first.max_tokens, first.trial_prompts) == (6, 48, 1)


def test_answers_are_shortened_before_prompts_are_dropped():
    made = plan(240, 0.06)
    assert made.prompts >= 8
    assert 64 <= made.max_tokens < 128


def test_a_real_run_writes_as_much_as_timing_it_takes():
    assert [plan(300, token_s).trial_tokens for token_s in (0.005, 0.04, 0.3)] == [256, 96, 48]


def test_real_runs_of_both_looks_are_as_long_also_where_the_machine_has_slowed_down():
    settings, speed = Settings(budget_s=210), Speed(0.08, 0.5, 2, 1.0)
    first = make_plan(FIRST, speed, settings, 28, 0.08)
    thorough = make_plan(THOROUGH, speed, settings, 28, 0.16)
    assert first.trial_tokens == thorough.trial_tokens


def test_a_workload_of_one_prompt_is_enough():
    assert plan(300, 0.05, prompts=1).prompts == 1


def test_where_there_is_no_time_for_four_answers_there_are_fewer():
    made = plan(30, 1.0)
    assert (made.prompts, made.max_tokens) == (1, 32)


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
    seen = see_speed(engine, prompts, Settings(), (8, 16), opened.append, Budget(300, Clock()))
    assert seen.threads == opened[-1] == chosen
    assert seen.token_s == pytest.approx(min(0.1, hyper_threaded_s) if chosen == 16 else 0.1)


def test_seeing_the_speed_of_a_glacial_target_takes_a_small_part_of_the_budget():
    clock = Clock()
    engine = SimulatedEngine(World((20.0, 21.0), {}), clock)
    prompts = [Prompt((Message("user", "Hello"),), "chat")]
    see_speed(engine, prompts, Settings(), (2,), lambda _threads: None, Budget(300, clock))
    assert clock.now_s <= 0.1 * 300
