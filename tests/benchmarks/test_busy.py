"""An answer beside processes that spin: they really do, and what came of it is told on made-up answers."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import psutil
import pytest

from advisor.engines.llama_server import BASELINE
from advisor.testing.builders import make_estimate, make_measurement, make_recommendation
from advisor.types import Contention, FirstAnswer, Recommendation
from benchmarks import busy, document, report
from benchmarks.answer import Answered, Failed, Question
from benchmarks.busy import Beside
from benchmarks.turns import Ran

TITLE, BUDGET_S, DRAFTS = "Busy", 100.0, 2
SPEAKS = make_recommendation()
OTHER = make_recommendation(best=SPEAKS.estimates[1])
REFUSES = make_recommendation("do-not-speculate")
NO_ANSWER = Failed(3.0, 2, "note: a remark\nerror: No draft | can run.\nAll were too large.\n")


def answered(spinning: int, wall_s: float = BUDGET_S, rec: Recommendation = SPEAKS) -> Beside:
    return Beside(spinning, Answered(wall_s, 0, rec))


def told(*rows: Beside, tokens_per_s: tuple[float, ...] = (10.0, 9.5, 9.0)) -> str:
    """``tokens_per_s``: of the picks, in the order of the rows."""
    ran = [Ran("draft", pick, speed, ()) for pick, speed in zip(busy.picks(rows), tokens_per_s, strict=False)]
    return "\n".join(report.busy_machine(rows, ran, BUDGET_S, DRAFTS))


def test_processes_spin_until_the_block_ends_however_it_ends():
    spinning: list[psutil.Process] = []

    def fail_beside_them() -> None:
        with busy.spinning(2) as pids:
            spinning.extend(psutil.Process(pid) for pid in pids)
            while min(one.cpu_times().user for one in spinning) < 0.1:
                assert all(one.status() != psutil.STATUS_ZOMBIE for one in spinning)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_them()
    assert len(spinning) == 2
    assert not any(one.is_running() for one in spinning)


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not told there that its parent is gone")
def test_processes_do_not_outlive_a_benchmark_that_was_killed():
    killed = """
import os, psutil, subprocess, sys
one = psutil.Process(subprocess.Popen([sys.executable, "-c", sys.argv[1]]).pid)
while one.cpu_times().user < 0.1:
    pass
os._exit(0)
"""
    # Standard output is theirs as well, so this returns when both are gone.
    subprocess.run([sys.executable, "-c", killed, busy.SPIN], stdout=subprocess.PIPE, timeout=60, check=True)


def test_the_command_is_asked_beside_them_and_they_are_gone_when_it_failed(monkeypatch, tmp_path):
    question = Question(tmp_path / "target.gguf", (), "100s")
    beside: list[psutil.Process] = []

    def ask(asked: Question) -> Failed:
        assert asked == question
        beside.extend(psutil.Process().children())
        return NO_ANSWER

    monkeypatch.setattr(busy, "ask", ask)
    assert busy.ask_beside(2, question) == Beside(2, NO_ANSWER)
    assert len(beside) == 2
    assert not any(one.is_running() for one in beside)


def test_drafts_count_as_replayed_where_more_than_the_prior_is_known():
    more = (make_estimate("another", evidence="prior"), make_estimate("", method="ngram-mod"))
    rec = dataclasses.replace(SPEAKS, estimates=(*SPEAKS.estimates, *more))
    assert answered(0, rec=rec).replayed == 2
    assert Beside(0, NO_ANSWER).replayed is None


def test_every_pick_is_run_once_and_a_refusal_is_the_target_alone():
    rows = [answered(0), Beside(1, NO_ANSWER), answered(2, rec=REFUSES), answered(3)]
    assert busy.picks(rows) == [SPEAKS.best.config, BASELINE]
    tokens_per_s = {SPEAKS.best.config: 10.0, BASELINE: 8.0}
    assert busy.shares(rows, tokens_per_s) == [1.0, None, 0.8, 1.0]
    assert busy.shares([Beside(0, NO_ANSWER), answered(1)], tokens_per_s) == [None, None]


def test_good_answers_beside_others_meet_every_goal():
    text = told(answered(0, 90.0), answered(1, 100.0, OTHER), answered(2, 110.0))
    assert text.count(": met)") == text.count("(goal ") == 3
    assert "- wall time over budget, beside 0, 1, 2 spinning: 0.90, 1.00, 1.10 (goal <= 1.1: met)" in text
    assert "- drafts replayed of 2, beside 0, 1, 2 spinning: 2, 2, 2 (goal all: met)" in text
    share = "throughput over that of the quiet pick, beside 0, 1, 2 spinning: 100.0%, 95.0%, 100.0% (goal >= 95 %: met)"
    assert share in text
    assert f"- beside 1 the advisor said: {OTHER.sentence}" in text


def test_each_goal_can_be_missed_alone():
    one_draft = [one for one in SPEAKS.estimates if one.config.draft == SPEAKS.best.config.draft]
    late = told(answered(0), answered(1, 111.0))
    unread = told(answered(0), answered(1, rec=dataclasses.replace(SPEAKS, estimates=tuple(one_draft))))
    slow = told(answered(0), answered(1, rec=OTHER), tokens_per_s=(10.0, 9.4))
    for text, missed in ((late, "1.00, 1.11 (goal <= 1.1"), (unread, "2, 1 (goal all"), (slow, "94.0% (goal >= 95 %")):
        assert f"{missed}: **not met**)" in text
        assert text.count("**not met**") == 1


def test_a_command_that_failed_is_a_row_and_misses_every_goal():
    text = told(answered(0), Beside(1, NO_ANSWER))
    assert "| 1 | 3 s | 0.03 | | | failed | error: No draft / can run. |" in text
    assert "1.00, failed (goal" in text
    assert text.count("**not met**") == 3
    assert told(Beside(0, NO_ANSWER)).count("failed (goal") == 3


def test_a_row_has_when_the_first_answer_came_the_pick_and_what_was_noticed():
    sentence = "Other programs take 1.0 of 2 cores: python3. " + "Close them and ask again. " * 9
    contention = Contention(2, 1.0, 0.0, 0.0, ("python3",), 0.0, True, 2, sentence)
    first = FirstAnswer(31.26, "Speculate.", None)
    rec = make_recommendation(measurement=make_measurement(contention=contention, first_answer=first))
    text = told(answered(1, rec=rec), answered(2, rec=REFUSES))
    (row,) = (line for line in text.splitlines() if line.startswith("| 1 |"))
    label = "Example-0.5B-Instruct Q8_0, k = 4, p_min = 0.5"
    assert row.startswith(
        f"| 1 | 100 s | 1.00 | 2 of 2 | 31.3 s | {label} | Other programs take 1.0 of 2 cores: python3."
    )
    assert row.endswith(" ... |")
    assert len(row) < 240
    assert "| 2 | 100 s | 1.00 | 2 of 2 | not told | none | nothing |" in text


def test_its_figures_go_into_the_table_of_all_runs():
    section = report.section(TITLE, told(answered(0), answered(1)).splitlines())
    runs = document.with_section("", TITLE, section, (TITLE,)).split(f"## {document.RUNS}")[1]
    for figure in ("wall time over budget", "drafts replayed of 2", "throughput over that of the quiet pick"):
        assert figure in runs
