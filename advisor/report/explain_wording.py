"""Sentences about reasons, the same on the terminal and on the page."""

from __future__ import annotations

from advisor.explain.reasons import DraftReasons, Step
from advisor.report.wording import percent


def points(share: float) -> str:
    return f"{100 * share:+.0f} points"


def margin(one: DraftReasons) -> str:
    return points(one.margin) if one.margin is not None else ""


def chance(value: float) -> str:
    """A chance, never as certain as 0 or 100 %."""
    if value > 0.99:
        return "over 99 %"
    return "under 1 %" if value < 0.01 else percent(value)


def break_even(one: DraftReasons) -> str:
    """Where the draft stands and where it would stop paying, measured and by the textbook."""
    even, label = one.break_even, one.label
    if even is None:
        return "It cannot be computed from this record: there are no measured costs."
    textbook = _textbook(even.textbook)
    if one.agreement is None:
        return f"{textbook} There are no replayed answers to measure it over."
    if even.measured is None:
        return (
            f"{label} is right at {percent(one.agreement)} of the positions, and at k = {one.best.config.k} it would "
            f"lose even if it were right at all of them. {textbook}"
        )
    side = "above" if even.measured <= one.agreement else "below"
    accepted = f" ({percent(even.acceptance_rate)} of the drafted tokens accepted)" if even.acceptance_rate else ""
    return (
        f"{label} is right at {percent(one.agreement)} of the positions. It would be as fast as the target alone at "
        f"{percent(even.measured)}{accepted}: it is {abs(100 * (one.agreement - even.measured)):.0f} points {side}. "
        f"{textbook}"
    )


def _textbook(value: float | None) -> str:
    if value is None:
        return "The textbook formula says it can never pay."
    return f"The textbook formula says {percent(value)}."


def length_range(one: DraftReasons) -> str:
    """Which draft lengths are as good as the best."""
    flat = [point.k for point in one.lengths if point.k in one.flat]
    if len(flat) < 2:
        return f"k = {one.best.config.k} alone: every other length is more than 2 % slower"
    return f"within 2 % of the best: k = {', '.join(str(k) for k in flat)}"


def shares_of_step(step: Step) -> list[tuple[str, float, float]]:
    """(name, seconds, share of the step) of each part."""
    parts = [
        ("drafting", step.drafting_s),
        ("verifying", step.verifying_s),
        ("re-evaluating", step.reevaluating_s),
    ]
    if step.rest_s is not None:
        parts.append(("rest of a real run", step.rest_s))
    return [(name, seconds, seconds / step.total_s) for name, seconds in parts]
