"""Sentences about reasons, the same on the terminal and on the page."""

from __future__ import annotations

import shlex

from advisor.printable import visible
from advisor.ranking import setting_of
from advisor.reasons.records import BreakEven, DraftReasons, Explanation, Step
from advisor.report.wording import percent

PRICED_PARTS = ("drafting", "verifying", "re-evaluating")
BEYOND, WHOLE = "beyond the parts", "whole step"
STEP_PARTS = (*PRICED_PARTS, BEYOND, WHOLE)

UPPER_BOUND = (
    "An upper bound: the target is recurrent or hybrid, and the second pass that a refused draft costs it is not in "
    "these numbers."
)


def about_the_draft(explanation: Explanation) -> str:
    """What the rest of the report is about where the pick has no draft."""
    if explanation.pick is None or explanation.subject is None or explanation.pick.config.draft:
        return ""
    what = "The pick" if explanation.verdict == "speculate" else "What comes nearest to winning"
    return f"{what} needs no draft model. What follows is about {explanation.subject.label}, the best of the drafts."


def margin_points(one: DraftReasons) -> int | None:
    """Agreement minus break-even, in points, as the difference of the two percentages that are shown."""
    if one.agreement is None or one.break_even is None or one.break_even.measured is None:
        return None
    return round(100 * one.agreement) - round(100 * one.break_even.measured)


def signed(number: int) -> str:
    return f"+{number}" if number > 0 else f"−{-number}" if number else "0"


def above_or_below(margin: int) -> str:
    return "above" if margin >= 0 else "below"


def chance(value: float) -> str:
    """A chance, never as certain as 0 or 100 %."""
    if value > 0.99:
        return "over 99 %"
    return "under 1 %" if value < 0.01 else percent(value)


def too_unsure(explanation: Explanation) -> str:
    """Why a speedup above 1 is not recommended."""
    subject = explanation.subject
    if subject is None or explanation.verdict == "speculate" or subject.best.speedup <= 1:
        return ""
    return (
        f"Its middle, {subject.best.speedup:.2f}x, is above 1, but the lower end of its interval, "
        f"{subject.best.speedup_low:.2f}x, is not: too unsure to recommend."
    )


def break_even(one: DraftReasons) -> str:
    """Where the draft stands and where it would stop paying. Empty where the record cannot tell."""
    even, margin = one.break_even, margin_points(one)
    if even is None:
        return ""
    if one.agreement is None:
        return f"{_textbook(even.textbook)} There are no replayed answers to measure it over."
    stands = f"{one.label} is right at {percent(one.agreement)} of the positions"
    if even.measured is None or margin is None:
        return f"{stands}, and at {setting_of(one.best.config)} it would lose even if it were right at all of them."
    accepted = f" ({percent(even.acceptance_rate)} of the drafted tokens accepted)" if even.acceptance_rate else ""
    return (
        f"{stands}. At {setting_of(one.best.config)} it would be as fast as the target alone at "
        f"{percent(even.measured)}{accepted}: it is {abs(margin)} points {above_or_below(margin)}."
    )


def break_even_path(even: BreakEven | None) -> str:
    """From the textbook's break-even to the measured one, one price after the other."""
    if even is None:
        return ""
    said = [_textbook(even.textbook), f"With verification at its price it is {_share(even.verification_priced)}"]
    if even.reevaluation_priced != even.verification_priced:
        said[-1] += f", with the draft's second reading too {_share(even.reevaluation_priced)}"
    if even.measured is not None:
        said[-1] += f", and over the answers themselves {percent(even.measured)}"
    return " ".join(said) + "."


def _share(value: float | None) -> str:
    return percent(value) if value is not None else "out of reach"


def _textbook(value: float | None) -> str:
    if value is None:
        return "The textbook formula says that it can never pay."
    return f"The textbook formula puts the break-even at {percent(value)}."


def length_range(one: DraftReasons) -> str:
    """Which draft lengths are as good as the best."""
    flat = [point.k for point in one.lengths if point.k in one.flat]
    p_min = f" at p_min = {one.best.config.p_min:g}" if one.best.config.p_min else ""
    if len(flat) < 2:
        return f"k = {one.best.config.k} alone{p_min}: every other length is more than 2 % slower"
    return f"within 2 % of the best{p_min}: k = {', '.join(str(k) for k in flat)}"


def positions_basis(one: DraftReasons, k_max: int) -> str:
    """What the shares by position are shares of."""
    if one.positions_in == "answers":
        return f"without p_min, drafts of {k_max}"
    return f"of all steps of the real runs at {setting_of(one.best.config)}"


def shares_of_step(step: Step) -> list[tuple[str, float, float]]:
    """(name, seconds, share of the step) of each part."""
    if step.parts is None:
        return [(WHOLE, step.total_s, 1.0)]
    seconds = [step.parts.drafting_s, step.parts.verifying_s, step.parts.reevaluating_s]
    parts = list(zip(PRICED_PARTS, seconds, strict=True))
    if step.beyond_s is not None:
        parts.append((BEYOND, step.beyond_s))
    return [(name, value, value / step.total_s) for name, value in parts]


def shell(command: tuple[str, ...]) -> str:
    """A command line to copy. Control characters of a file's name are shown, not sent."""
    return shlex.join(visible(argument) for argument in command)
