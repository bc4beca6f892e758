"""What was tried, how often, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """``lost``: one sentence for each thing that should not have happened. ``skipped``: why nothing was tried here."""

    what: str
    times: int
    lost: tuple[str, ...] = ()
    note: str = ""
    skipped: str = ""

    @property
    def held(self) -> bool:
        return not self.lost


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown, with every loss below."""
    outcomes = tuple(outcomes)
    rows = [_row(one) for one in outcomes]
    losses = [f"- {one.what}: {loss}" for one in outcomes for loss in one.lost]
    heading = ["| what was tried | times | lost | |", "|---|---|---|---|"]
    return "\n".join([*heading, *rows, *(["", "Lost:", *losses] if losses else [])])


def _row(one: Outcome) -> str:
    if one.skipped:
        return f"| {one.what} | 0 | skipped | {one.skipped} |"
    return f"| {one.what} | {one.times} | {len(one.lost) or 'nothing'} | {one.note} |"


def all_held(outcomes: Sequence[Outcome]) -> bool:
    return all(one.held for one in outcomes)
