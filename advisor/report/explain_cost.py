"""The parts of the page about time and doubt: the step, the costs of decodes, how sure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from advisor.reasons.records import CostPoint, DraftReasons, Explanation, Step
from advisor.report.explain_section import Cell, Section, count, milliseconds, ratio, share
from advisor.report.explain_wording import STEP_PARTS, chance, shares_of_step, shell

CURVES_SHOWN = 4  # drafts whose d(b) is drawn
HIGHEST = 1.5  # a draft's curve is drawn up to this many times the target's highest point


def step_section(explanation: Explanation) -> Iterable[Section]:
    drawn = [(one, one.step) for one in explanation.drafts if one.step is not None]
    if not drawn:
        return
    used = [part for part in STEP_PARTS if any(part in _seconds(step) for _, step in drawn)]
    first = drawn[0][1]
    bars = [_bar(one, step) for one, step in drawn]
    bars.append({"name": "the target alone", "tokens": 1, "parts": {"plain decoding": first.plain_s / first.tokens}})
    is_shortened = any(bar.get("shortened") for bar in bars)
    yield Section(
        "step",
        "Where the time goes",
        "One average step of each draft at its best setting, shared out over the tokens it yields: the shorter the "
        "bar, the faster." + _beyond(drawn, is_shortened=is_shortened),
        ("draft", *used, "a step", "tokens a step", "a token", "target alone"),
        tuple(_step_row(one, step, used) for one, step in drawn),
        {"bars": bars, "parts": [*used, "plain decoding"]},
        rows_drawn=len(bars),
    )


def _seconds(step: Step) -> dict[str, float]:
    return {name: seconds for name, seconds, _ in shares_of_step(step)}


def _beyond(drawn: Iterable[tuple[DraftReasons, Step]], *, is_shortened: bool) -> str:
    if not any(step.beyond_s is not None for _, step in drawn):
        return ""
    said = (
        " Beyond the parts: what real runs took above the decodes as they were timed (sampling, the loop, what the "
        "timing did not see); for a draft that was not run, what the runs of others taught."
    )
    return said + (" Where they took less, the parts are drawn shorter in proportion." if is_shortened else "")


def _bar(one: DraftReasons, step: Step) -> dict[str, Any]:
    """``scale`` shortens the parts where real runs took less than their sum."""
    parts = {name: seconds for name, seconds in _seconds(step).items() if seconds > 0}
    bar = {"name": one.label, "tokens": step.tokens, "parts": parts, "speedup": one.best.speedup}
    is_less = step.beyond_s is not None and step.beyond_s < 0
    return {**bar, "shortened": step.total_s / sum(parts.values())} if is_less else bar


def _step_row(one: DraftReasons, step: Step, used: Sequence[str]) -> tuple[Cell, ...]:
    seconds = _seconds(step)
    return (
        one.label,
        *(milliseconds(seconds.get(part)) for part in used),
        milliseconds(step.total_s),
        ratio(step.tokens),
        milliseconds(step.token_s),
        milliseconds(step.plain_s),
    )


def costs_section(explanation: Explanation) -> Iterable[Section]:
    lines: list[tuple[str, int | None, Sequence[CostPoint]]] = [("t(b), the target", None, explanation.target_cost)]
    lines += [(f"d(b), {one.label}", rank, one.cost) for rank, one in enumerate(explanation.drafts)]
    lines = [line for line in lines if len(line[2]) > 1]
    if not lines:
        return
    jumps = " ".join(
        f"A decode of {jump.b} tokens costs {jump.passes:.2f} target passes more than one of {jump.b - 1}."
        for jump in explanation.jumps
    )
    drawn = lines[: 1 + CURVES_SHOWN]
    top_s = HIGHEST * max((point.seconds for point in explanation.target_cost), default=0.0)
    is_cut = any(point.seconds > top_s > 0 for _, _, points in drawn for point in points)
    cut = " A draft's curve goes on above the chart: see the table." if is_cut else ""
    yield Section(
        "costs",
        "What decodes cost",
        f"The time of one decode of b tokens, measured; whiskers are the fastest and the slowest round.{cut} "
        f"{jumps}".strip(),
        ("curve", "b", "median", "fastest", "slowest", "rounds"),
        tuple(
            (name, count(one.b), *map(milliseconds, (one.seconds, one.low_s, one.high_s)), count(one.rounds))
            for name, _, points in lines
            for one in points
        ),
        {
            "jumps": [jump.b for jump in explanation.jumps],
            "top_s": top_s if is_cut else None,
            "lines": [
                {"name": name, "colour": colour, "points": [asdict(one) for one in points]}
                for name, colour, points in drawn
            ],
        },
    )


def sureness_section(explanation: Explanation) -> Iterable[Section]:
    sure = explanation.sureness
    if sure is None:
        if explanation.caveats:
            yield Section("sureness", "Good to know", "", (), (), notes=explanation.caveats)
        return
    said = [f"Chance that the pairing gains anything: {chance(sure.gain_chance)}."]
    if sure.lead_chance is not None:
        said.append(f"That it is faster than {explanation.drafts[1].label}: {chance(sure.lead_chance)}.")
    yield Section(
        "sureness",
        "How sure",
        " ".join([*said, sure.advice, *(["A larger budget does that:"] if sure.command else [])]),
        ("measurement", "low after it", "high", "uncertainty from", "share"),
        tuple((one.remedy, ratio(one.low), ratio(one.high), one.name, share(one.share)) for one in sure.sources),
        command=shell(sure.command),
        notes=explanation.caveats,
    )
