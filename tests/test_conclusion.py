"""What a recommendation says of the memory that its runs took."""

from __future__ import annotations

import dataclasses

from advisor.conclusion import memory_notes
from advisor.testing.builders import make_candidate, make_estimate, make_model, make_trial

DRAFT = make_model("Small-0.5B", weights_bytes=1 << 29)
CANDIDATE = make_candidate(DRAFT)
NEEDED = sum(use.needed_bytes for use in CANDIDATE.memory)
MARGIN = sum(use.margin_bytes for use in CANDIDATE.memory)


def said_of_a_peak_of(peak_bytes: int) -> tuple[str, ...]:
    trial = make_trial(make_estimate(DRAFT))
    runs = tuple(dataclasses.replace(run, peak_bytes=peak_bytes) for run in trial.runs)
    return memory_notes([dataclasses.replace(trial, runs=runs)], [CANDIDATE])


def test_memory_within_the_estimate_and_its_margin_is_not_worth_a_word():
    assert said_of_a_peak_of(NEEDED + MARGIN) == ()
    assert said_of_a_peak_of(0) == (), "not seen"


def test_more_memory_than_that_is_told_with_the_numbers():
    (note,) = said_of_a_peak_of(NEEDED + MARGIN + (2 << 30))
    assert "Small-0.5B" in note
    assert f"{(NEEDED + MARGIN + (2 << 30)) / (1 << 30):.2f} GiB" in note
