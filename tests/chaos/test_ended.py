"""SIGTERM, as a service manager or `timeout` sends it, at the real command over simulated workers."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from advisor.report.json_document import load
from chaos import ledger
from chaos.processes import PACE_S, Advisor, left_over, recommend_command
from chaos.world import Ground

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")


@pytest.fixture
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground.prepare(tmp_path_factory.mktemp("ended"))


def ended_at(ground: Ground, call: str) -> tuple[int, str, str, list[str]]:
    """(exit code, output, errors, what was left running) of a command that is told to end at its first such call."""
    data = ground.data_dir(f"ended-{call}")
    log = data.parent / "ledger"
    advisor = Advisor(recommend_command(ground.models, data.parent / "prompts.txt"), data, ledger=log, pace_s=PACE_S)
    until = time.monotonic() + 60
    while not any(entry.call == call for entry in ledger.read(log)):
        assert time.monotonic() < until
    family = psutil.Process(advisor.pid).children(recursive=True)
    os.kill(advisor.pid, signal.SIGTERM)
    ended = advisor.wait()
    return ended.code, ended.output, ended.errors, list(left_over(family))


def test_told_to_end_it_prints_the_best_so_far_and_leaves_nothing_running(ground: Ground):
    code, output, errors, left = ended_at(ground, "speculate")
    assert code == 130
    assert load(output).measurement.stop_reason == "interrupted"
    assert "best so far" in errors
    assert left == []


def test_told_to_end_before_there_is_an_answer_it_says_so(ground: Ground):
    code, output, errors, left = ended_at(ground, "answer")
    assert (code, output) == (130, "")
    assert "Run the same command again" in errors
    assert "Traceback" not in errors
    assert left == []
