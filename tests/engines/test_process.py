"""The parent's side of a worker, with workers that misbehave."""

from __future__ import annotations

import pytest

from advisor.engines.again import asked_again_once
from advisor.engines.process import WorkerProcess
from advisor.errors import EngineCrash, EngineRefusal, EngineTimeout, TargetFailure

LONGER_THAN_A_PIPE_HOLDS = "x" * (1 << 22)


def test_a_question_to_a_worker_that_does_not_even_read_ends_in_time(monkeypatch):
    monkeypatch.setenv("ODD", "deaf")
    worker = WorkerProcess("tests.engines.odd_worker")
    with pytest.raises(EngineTimeout, match="did not finish 'answer' within 1 s"):
        worker.ask("answer", {"prompt": LONGER_THAN_A_PIPE_HOLDS}, timeout_s=1)
    assert worker._process.returncode is not None


def test_a_worker_that_answers_nonsense_is_ended(monkeypatch):
    monkeypatch.setattr("advisor.engines.process.REAP_S", 0.5)
    monkeypatch.setenv("ODD", "nonsense")
    worker = WorkerProcess("tests.engines.odd_worker")
    with pytest.raises(EngineCrash):
        worker.ask("answer", {}, timeout_s=30)
    assert worker._process.returncode is not None


class Target:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.asked = list(failures), 0

    def __call__(self) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


@pytest.mark.parametrize("failure", [EngineCrash("died"), EngineTimeout("hung")])
def test_the_target_is_asked_once_more_after_a_death(failure):
    assert asked_again_once(Target(failure)) == "answer"
    target = Target(failure, failure, failure)
    with pytest.raises(TargetFailure, match=r"failed twice: (died|hung)"):
        asked_again_once(target)
    assert target.asked == 2


def test_a_refusal_is_an_answer():
    target = Target(EngineRefusal("no"))
    with pytest.raises(EngineRefusal):
        asked_again_once(target)
    assert target.asked == 1
