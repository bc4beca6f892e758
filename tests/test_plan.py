"""A budget becomes a number of prompts and a length of answers."""

from __future__ import annotations

import pytest

from advisor.errors import BudgetTooSmall
from advisor.plan import divide
from advisor.types import Settings


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


def test_a_workload_of_one_prompt_is_enough():
    assert plan(300, 0.05, prompts=1).prompts == 1


def test_a_hopeless_budget_says_what_is_needed_and_that_much_is_enough():
    with pytest.raises(BudgetTooSmall) as caught:
        plan(30, 1.5)
    needed_s = 60 * float(caught.value.fix.split("--budget ")[1].rstrip("m."))
    assert plan(needed_s, 1.5).prompts == 4
