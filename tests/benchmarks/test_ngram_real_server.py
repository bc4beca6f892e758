"""The replay of every n-gram method against the real llama-server, on texts that a small real model copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.ngram import METHODS
from advisor.types import Config
from benchmarks import ngram, report

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("method", METHODS)
def test_the_replay_counts_what_the_real_server_counts(smollm2: Path, method: str):
    config = Config("", 8, method=method, ngram_size=4)
    (row,) = ngram.compare(smollm2, [config], ngram.PROMPTS[:4], max_tokens=96)
    for told, real in (row.drafted, row.accepted, row.steps):
        assert real > 0
        assert told == pytest.approx(real, rel=0.03)


def test_the_table_says_whether_the_goal_is_met():
    config = Config("", 8, method="ngram-mod", ngram_size=4, n_min=2)
    good = ngram.Compared(config, 100, (50, 50), (40, 40), (10, 10))
    bad = ngram.Compared(config, 100, (50, 50), (44, 40), (10, 10))
    assert "(goal within 3 %: met)" in "\n".join(report.ngram([good]))
    text = "\n".join(report.ngram([good, bad]))
    assert "| ngram-mod | 4 | 8 | 2 | 100 | 50 / 50 | 44 / 40 | 10 / 10 |" in text
    assert "accepted +5.00%" in text
    assert "**not met**" in text
