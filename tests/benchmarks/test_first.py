"""The first answer against an older commit: the older one really runs, and the figures are told on made-up answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from advisor.engines.llama_server import BASELINE
from advisor.errors import EngineError
from advisor.testing.builders import make_host, make_measurement, make_recommendation
from advisor.types import Config, FirstAnswer
from benchmarks import checkout, first, parts, report
from benchmarks.answer import Answered
from benchmarks.turns import Contest, Ran

NEW = make_recommendation(measurement=make_measurement(first_answer=FirstAnswer(57.04, "Speculate.", None)))
OLD = make_recommendation(best=NEW.estimates[1])
NEW_PICK, OLD_PICK = NEW.best.config, OLD.best.config


@pytest.fixture
def repository(tmp_path, git) -> Path:
    """Three commits: no package, an advisor whose word is "old", one whose word is "new"."""
    root = tmp_path / "repository"
    package = root / "advisor" / "__init__.py"
    package.parent.mkdir(parents=True)
    git(root, "init")
    git(root, "commit", "--allow-empty", "-m", "nothing")
    for word in ("old", "new"):
        package.write_text(f"WORD = {word!r}\n")
        git(root, "add", ".")
        git(root, "commit", "-m", word)
    return root


def commit(repository: Path, name: str) -> str:
    return checkout.git(repository, "rev-parse", "--short", name)


def one_worktree(repository: Path) -> bool:
    return len(checkout.git(repository, "worktree", "list").splitlines()) == 1


def test_an_older_commit_runs_beside_this_one_and_leaves_nothing(repository):
    with checkout.worktree(repository, commit(repository, "HEAD~1")) as tree:
        assert tree != repository
        asked = [sys.executable, "-P", "-c", "import advisor; print(advisor.WORD)"]
        said = subprocess.run(asked, cwd=repository, env=checkout.environment(tree), capture_output=True, text=True)
        assert said.stdout == "old\n"
    assert not tree.exists()
    assert one_worktree(repository)


def test_a_commit_whose_package_is_not_the_one_imported_is_refused(repository):
    """It has none, so that the installed one would be measured against itself."""
    with (
        pytest.raises(EngineError, match="is imported instead"),
        checkout.worktree(repository, commit(repository, "HEAD~2")),
    ):
        pass
    assert one_worktree(repository)


def test_a_repository_without_the_commit_has_nothing_to_compare_with(repository, tmp_path):
    assert checkout.has(repository, commit(repository, "HEAD"))
    assert not checkout.has(repository, first.OLD)
    assert not checkout.has(tmp_path, first.OLD)
    with pytest.raises(EngineError, match=f"could not check out {first.OLD}"), checkout.worktree(repository, first.OLD):
        pass


def test_without_the_commit_the_part_says_so(repository, monkeypatch):
    monkeypatch.setattr(checkout, "ROOT", repository)
    (line,) = parts.first_answer(make_host(), 0)
    assert f"no commit {first.OLD}" in line


def a_round(new_s: float, old_s: float, rec=NEW) -> first.Round:
    return first.Round(Answered(new_s, 0, rec), Answered(old_s, 0, OLD))


def contest(**tokens_per_s: float) -> Contest:
    """``new``, ``old``, ``alone``: as fast in both parts of the contest."""
    configs: dict[str, Config] = {"new": NEW_PICK, "old": OLD_PICK, "alone": BASELINE}
    ran = [Ran(name, configs[name], speed, ()) for name, speed in tokens_per_s.items()]
    chosen = tuple(sorted(ran, key=lambda one: -one.tokens_per_s))
    return Contest(chosen, {one.config: one for one in ran})


def told(rounds: list[first.Round], found: Contest) -> str:
    return "\n".join(report.first_answer(rounds, found, 256))


def test_the_medians_of_the_rounds_are_compared():
    rounds = [a_round(90, 300), a_round(100, 310), a_round(400, 280)]
    assert first.ratio(rounds) == pytest.approx(100 / 300)
    text = told(rounds, contest(new=10.0, old=10.2))
    assert f"over the whole time of {first.OLD}, medians: 0.333 (goal <= 1/3: met)" in text
    assert "- regret of the first answers' picks, at most: 2.0% (goal <= 2 %: met)" in text
    picks = ("Example-0.5B-Instruct Q8_0, k = 4, p_min = 0.5", "Example-1.5B-Instruct Q4_K_M, k = 4")
    assert f"| 1 | 90 s | 57.0 s | 5.0 min | 0.300 | {picks[0]} | {picks[1]} |" in text
    assert "the regret against a sweep is a part of its own" in text


def test_an_early_answer_counts_only_where_it_is_a_good_one():
    text = told([a_round(101, 300)], contest(new=10.0, old=10.3))
    assert "0.337 (goal <= 1/3: **not met**)" in text
    assert "at most: 2.9% (goal <= 2 %: **not met**)" in text


def test_the_worst_pick_of_all_rounds_is_judged_and_a_refusal_is_the_target_alone():
    rounds = [a_round(90, 300), a_round(90, 300, make_recommendation("do-not-speculate")), a_round(90, 300)]
    assert first.new_picks(rounds) == [NEW_PICK, BASELINE]
    assert first.picks(rounds) == [NEW_PICK, BASELINE, OLD_PICK]
    text = told(rounds, contest(new=10.0, alone=8.0, old=9.0))
    assert "at most: 20.0% (goal <= 2 %: **not met**)" in text
    assert "| 2 | 90 s | not told | 5.0 min | 0.300 | none |" in text
