"""The distributions that are sampled from, against a plain sort of every logit."""

from __future__ import annotations

import numpy as np
import pytest

from advisor.engines.sampling import draft_distribution, top_probability

SIZES = (11, 383, 384, 767, 768, 5000, 49152, 100_003)


def sorted_softmax(row, count, temperature=1.0):
    best = np.sort(row.astype(float))[::-1][:count] / temperature
    return np.exp(best - best[0]) / np.exp(best - best[0]).sum()


@pytest.mark.parametrize("size", SIZES)
def test_the_best_are_found_wherever_they_are_in_the_row(size):
    rng = np.random.default_rng(size)
    for spread in (0.1, 3.0):
        row = (rng.normal(size=size) * spread).astype(np.float32)
        assert top_probability(row) == pytest.approx(sorted_softmax(row, 10)[0])
        found = draft_distribution(row, 0.7)
        assert list(found) == np.argsort(-row, kind="stable")[:10].tolist()
        assert list(found.values()) == pytest.approx(sorted_softmax(row, 10, 0.7).tolist())


@pytest.mark.parametrize("at", [0, 5, 49_151])
def test_neighbours_and_the_last_token_count_too(at):
    row = np.zeros(49_152, np.float32)
    row[at] = 8.0
    row[max(0, at - 12) : at] = 7.0
    assert top_probability(row) == pytest.approx(sorted_softmax(row, 10)[0])


def test_equal_logits_are_equally_likely():
    assert top_probability(np.ones(50_000, np.float32)) == pytest.approx(0.1)


def test_logits_that_are_no_numbers_do_not_stop_a_run():
    row = np.ones(50_000, np.float32)
    row[7] = np.nan
    assert np.isnan(top_probability(row))
