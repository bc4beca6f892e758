"""The parts of the page about speed and acceptance: draft length, agreement, changes, positions, categories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from advisor.ranking import setting_of
from advisor.reasons.records import DraftReasons, Explanation
from advisor.report.explain_section import Cell, Number, Section, count, ratio, share
from advisor.report.explain_wording import length_range, positions_basis

LINES_SHOWN = 3  # drafts whose lines are drawn at first; the legend brings the others
LINES_MOST = 8  # as many as there are colours; the table has the rest


def lengths_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    all_lines = _coloured(explanation, [one for one in explanation.drafts if len(one.lengths) > 1])
    if subject is None or not all_lines:
        return
    rows = tuple(
        (
            one.label,
            count(point.k),
            *(ratio(value) for value in (point.speedup, point.low, point.high)),
            share(point.acceptance_rate),
            ratio(point.tokens_per_step),
            point.evidence,
        )
        for _, one in all_lines
        for point in one.lengths
    )
    drawn = all_lines[:LINES_MOST]
    yield Section(
        "lengths",
        "Speedup against draft length",
        f"{subject.label}: {length_range(subject)}. Whiskers are 80 % intervals, the dashed line is the target alone, "
        f"large points are each draft's best setting.{_rest(all_lines)}",
        ("draft", "k", "speedup", "low", "high", "accepted", "tokens a step", "evidence"),
        rows,
        {
            "ks": sorted({point.k for _, one in drawn for point in one.lengths}),
            "shown": LINES_SHOWN,
            "drafts": [
                {
                    "label": one.label,
                    "colour": colour,
                    "best_k": one.best.config.k,
                    "points": [asdict(point) for point in one.lengths],
                }
                for colour, one in drawn
            ],
        },
    )


def methods_section(explanation: Explanation) -> Iterable[Section]:
    if explanation.methods:
        yield Section(
            "methods",
            "Without a draft model",
            "The best setting of each method that drafts from the text itself, or with the target's own head. "
            "They take no second model and no download.",
            ("method", "setting", "speedup", "low", "high", "accepted", "tokens a step", "evidence"),
            tuple(
                (
                    one.config.method,
                    setting_of(one.config),
                    *(ratio(value) for value in (one.speedup, one.speedup_low, one.speedup_high)),
                    share(one.acceptance_rate),
                    ratio(one.tokens_per_step),
                    one.evidence,
                )
                for one in explanation.methods
            ),
        )


def _coloured(explanation: Explanation, chosen: Sequence[DraftReasons]) -> list[tuple[int, DraftReasons]]:
    """Each draft with its number in the ranking, which is its colour in every chart."""
    ranks = {one.draft.content_hash: rank for rank, one in enumerate(explanation.drafts)}
    return [(ranks[one.draft.content_hash], one) for one in chosen]


def _rest(lines: Sequence[object]) -> str:
    if len(lines) <= 1:
        return ""
    more = f" The first {LINES_MOST} drafts are drawn, the table has all." if len(lines) > LINES_MOST else ""
    return f" The legend shows and hides drafts.{more}"


def acceptance_section(explanation: Explanation) -> Iterable[Section]:
    all_lines = _coloured(explanation, [one for one in explanation.drafts if one.curve])
    if not all_lines:
        return
    first = all_lines[0][1]
    textbook_label = f"textbook, k = {first.best.config.k}"
    rows: list[tuple[Cell, ...]] = [
        (one.label, share(point.agreement), share(point.acceptance_rate), ratio(point.speedup))
        for _, one in all_lines
        for point in one.curve
    ]
    rows += [(textbook_label, share(agreement), None, ratio(speedup)) for agreement, speedup in first.textbook_curve]
    yield Section(
        "acceptance",
        "How far from losing",
        "Each draft at its best setting, with its agreement moved up and down: agreements of the replayed answers are "
        "turned into mismatches, or mismatches into agreements, at random places. The circle is where the draft "
        "stands, the diamond where it is as fast as the target alone. Dotted: the textbook formula for the first."
        + _rest(all_lines),
        ("draft", "agreement", "accepted of drafted", "speedup"),
        tuple(rows),
        {
            "shown": LINES_SHOWN,
            "textbook_label": textbook_label,
            "textbook": [list(pair) for pair in first.textbook_curve],
            "drafts": [_acceptance_line(colour, one) for colour, one in all_lines[:LINES_MOST]],
        },
    )


def _acceptance_line(colour: int, one: DraftReasons) -> dict[str, Any]:
    even = one.break_even
    return {
        "label": one.label,
        "colour": colour,
        "agreement": one.agreement,
        "acceptance_rate": one.best.acceptance_rate,
        "speedup": one.best.speedup,
        "break_even": even.measured if even else None,
        "break_even_rate": even.acceptance_rate if even else None,
        "curve": [asdict(point) for point in one.curve],
    }


def changes_section(explanation: Explanation) -> Iterable[Section]:
    if not explanation.changes:
        return
    yield Section(
        "changes",
        "What would change it",
        "",
        ("if", "speedup", ""),
        tuple(
            (one.what, Number(one.speedup, f"{one.speedup:.2f}x") if one.speedup is not None else None, one.sentence)
            for one in explanation.changes
        ),
    )


def survival_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    if subject is None or not subject.positions:
        return
    lines = [("all answers", subject.positions)]
    if len(subject.categories) > 1:
        lines += [(one.category, one.survival) for one in subject.categories if one.survival]
    rows = tuple(
        (name, count(one.position), share(one.survival), share(one.hazard), count(one.steps))
        for name, points in lines
        for one in points
    )
    yield Section(
        "survival",
        "Acceptance by position and category",
        f"{subject.label}: the share of drafts whose first tokens, up to each position, are all accepted "
        f"({positions_basis(subject, explanation.k_max)}).",
        ("category", "position", "accepted up to here", "accepted if all before were", "steps"),
        rows,
        {
            "k_max": max(one.position for _, points in lines for one in points),
            "lines": [{"name": name, "points": [asdict(one) for one in points]} for name, points in lines],
        },
    )


def categories_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    if subject is None or len(subject.categories) < 2:
        return
    yield Section(
        "categories",
        "Speedup by category",
        f"{subject.label} at {setting_of(subject.best.config)}. A category rests on few answers: see the table.",
        ("category", "speedup", "accepted", "answers"),
        tuple(
            (one.category, ratio(one.speedup), share(one.acceptance_rate), count(one.answers))
            for one in subject.categories
        ),
        {
            "points": [
                {name: value for name, value in asdict(one).items() if name != "survival"} for one in subject.categories
            ]
        },
        rows_drawn=len(subject.categories),
    )
