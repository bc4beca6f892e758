"""The explanation on a terminal: what it says, how wide it is, and that no name can drive it."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from advisor.explain import explain
from advisor.report.explain_terminal import render
from advisor.report.wording import percent
from advisor.types import Recommendation, Rejected
from tests.explained import pair, prior_only, simulated

NASTY = '\x1b[2J<script>alert(1)</script>[bold]"><img src=x onerror=alert(1)>\u202e'


def printed(rec: Recommendation, width: int = 100, *, plain: bool = False, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="truecolor" if colour else None, highlight=False
    )
    render(explain(rec), console=console, plain=plain)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("make", [simulated, prior_only, lambda: pair(0.05)])
def test_no_line_is_wider_than_the_terminal_or_100_columns(width, make):
    wrapped = [line for line in printed(make(), width).splitlines() if not line.startswith("advisor recommend ")]
    assert max(map(len, wrapped)) <= min(width, 100)


def test_it_says_where_the_pairing_stands_and_where_it_would_lose():
    subject = explain(simulated()).subject
    text = " ".join(printed(simulated()).split())
    assert f"is right at {percent(subject.agreement)} of the positions" in text
    assert f"as fast as the target alone at {percent(subject.break_even.measured)}" in text
    for share in (subject.break_even.textbook, subject.break_even.verification_priced, subject.break_even.measured):
        assert percent(share) in text
    assert f"The textbook formula puts the break-even at {percent(subject.break_even.textbook)}" in text
    assert "A decode of 7 tokens costs 0.46 passes more than one of 6." in text


def test_every_draft_every_length_and_every_category_is_there():
    explanation = explain(simulated())
    text = printed(simulated())
    for one in explanation.drafts:
        assert one.label in text
    for point in explanation.subject.lengths:
        assert f"{point.speedup:.2f}x [{point.low:.2f}, {point.high:.2f}]" in text
    for category in explanation.subject.categories:
        assert category.category in text


def test_plain_is_ascii_without_escapes():
    text = printed(simulated(), plain=True, colour=True)
    assert text.isascii()
    assert "\x1b" not in text
    assert "####" in text


def test_bars_grow_with_what_they_show():
    explanation = explain(simulated())
    lines = [line for line in printed(simulated(), plain=True).splitlines() if " k " in line and "#" in line]
    by_speedup = sorted(zip(explanation.subject.lengths, lines, strict=True), key=lambda pair: pair[0].speedup)
    drawn = [line.count("#") for _, line in by_speedup]
    assert drawn == sorted(drawn)
    assert drawn[-1] > drawn[0]


def test_names_of_unknown_origin_neither_drive_the_terminal_nor_vanish():
    rec = dataclasses.replace(simulated(), rejected=(Rejected(NASTY, "Q8_0", "tokenizer", NASTY),))
    text = "".join(printed(rec).split())
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>[bold]" in text


def test_a_prior_names_what_it_cannot_show():
    text = " ".join(printed(prior_only()).split())
    assert "No answers were replayed" in text
    assert "One step" not in text
    assert "By position" not in text
