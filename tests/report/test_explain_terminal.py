"""The explanation on a terminal: what it says, how wide it is, and that no name can drive it."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from advisor.reasons import explain
from advisor.report.explain_terminal import render
from advisor.report.wording import percent
from advisor.types import Recommendation, Rejected
from tests.explained import foreseen, pair, simulated, sweep, without_a_draft

NASTY = '\x1b[2J<script>alert(1)</script>[bold]"><img src=x onerror=alert(1)>\u202e'


def printed(rec: Recommendation, width: int = 100, *, plain: bool = False, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, color_system="truecolor" if colour else None, highlight=False
    )
    render(explain(rec), console=console, plain=plain)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("make", [simulated, foreseen, sweep, without_a_draft, lambda: pair(0.05)])
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


def test_a_pick_without_a_draft_is_told_from_the_drafts_that_are_explained():
    text = " ".join(printed(without_a_draft()).split())
    assert text.startswith("Verdict Speculate with ngram-mod, n = 4, k = 8: 2.50x")
    label = explain(without_a_draft()).subject.label
    assert f"The pick needs no draft model. What follows is about {label}, the best of the drafts." in text
    assert "ngram-mod n = 4, k = 8 2.50x [2.40, 2.60] 55 % 3.20 measured" in text
    assert "ngram-simple n = 4, k = 8 1.20x" in text
    assert "the best draft; the pick needs none" in {one.verdict for one in explain(without_a_draft()).drafts}


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
    text = " ".join(printed(foreseen()).split())
    assert "No answers were replayed" in text
    assert "One step" not in text
    assert "By position" not in text


def test_a_prediction_over_every_published_file_fits_on_two_screens():
    rec = foreseen()
    text = printed(rec)
    assert len(rec.estimates) > 100
    assert len(text.splitlines()) <= 70
    assert "Quantizations of Qwen2.5-1.5B-Instruct" in text
    assert "more; the page lists all" in text


def test_bars_of_speedups_are_marked_where_the_target_alone_is():
    lines = [line for line in printed(simulated(), plain=True).splitlines() if " k " in line and "#" in line]
    assert len({line.index("|") for line in lines}) == 1


def test_what_is_above_one_but_unsure_and_what_is_an_upper_bound_is_told_beside_the_verdict():
    bound = printed(foreseen("qwen3.5-27b-q8"))
    assert "An upper bound" in bound
    assert bound.index("An upper bound") < bound.index("Drafts")


def test_the_measurement_to_make_is_a_command_in_one_piece():
    lines = printed(simulated(), width=60).splitlines()
    (command,) = (line for line in lines if line.startswith("advisor recommend "))
    assert command.endswith("--budget 10m")
