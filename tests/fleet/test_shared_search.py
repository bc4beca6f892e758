"""A search in a database: nothing is run twice, a machine that is killed or a database that is lost ends nothing."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from advisor.cli import app
from advisor.errors import OptionError, ServerProblem
from advisor.plan import Plan
from advisor.progress import Silent
from advisor.search import _choosing, search
from advisor.shared_study import BY, LOST_AFTER, TRIAL, Peers, Sharing, agreed, lies, open_storage
from advisor.testing.builders import make_estimate, make_model, make_trial
from advisor.types import Config, Trial, to_json
from tests.fleet.cluster import ROOT
from tests.fleet.postgres import missing, postgres
from tests.fleet.searching import NOISY
from tests.machines import WORLD_A, Machine, machine_a, models, true_speedup
from tests.test_search import PROMPTS, Runner, fastest, predictor

__all__ = ["models"]
COSTS = {"a": 0.01, "b": 0.02}
FACTORS = {"a": 1.02, "b": 0.97}


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/search.sqlite3"


def shared_search(
    database: str,
    runner=None,
    others=None,
    notes=None,
    sleep=None,
    left_s=lambda: 1e9,
    me=None,
    clock=lambda: 0.0,
    on_trial=lambda _trial: None,
):
    guess = predictor(COSTS)
    runner = runner or Runner(guess, FACTORS)

    class Heard(Silent):
        def note(self, text):
            (notes if notes is not None else []).append(text)

    def no_sleep(_seconds):
        raise AssertionError("it waited for nobody")

    found = search(
        guess,
        runner,
        fastest(guess),
        journal=None,
        study_name="s",
        proposers=sorted(COSTS),
        k_max=8,
        prompts=PROMPTS,
        trial_s=10,
        time_left_s=left_s,
        progress=Heard(),
        shared=Sharing(database, me or uuid.uuid4().hex),
        on_trial=on_trial,
        on_trial_of_others=(others if others is not None else []).append,
        sleep=sleep or no_sleep,
        clock=clock,
    )
    return found, runner


def begun_elsewhere(
    database: str, config: Config, *, ahead: timedelta = timedelta(), by: str = "another"
) -> tuple[optuna.Study, int]:
    """Another machine is running this config. Its clock is ``ahead``."""
    study = optuna.load_study(study_name="s", storage=database)
    space = next(one.distributions for one in study.get_trials() if one.distributions)
    params = {"proposer": config.draft, "k": config.k, "p_min": config.p_min, "n_min": 0, "ngram_size": 0}
    params["draft_sampling"] = config.draft_sampling
    running = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, params=params, distributions=space, user_attrs={BY: by}
    )
    running.datetime_start = datetime.now() + ahead
    study.add_trial(running)
    return study, study.get_trials()[-1]._trial_id


def first_choice(tmp_path: Path) -> Config:
    found, _ = shared_search(f"sqlite:///{tmp_path}/first.sqlite3")
    return found.trials[0].config


def empty_study(database: str) -> None:
    shared_search(database, left_s=lambda: 0.0)


def test_what_one_machine_ran_another_does_not_run_again(database):
    first, ran = shared_search(database)
    others: list[Trial] = []
    second, ran_too = shared_search(database, others=others)
    assert ran.asked
    assert ran_too.asked == []
    assert [one.config for one in others] == [one.config for one in first.trials]
    assert second.trials == first.trials
    assert second.stop_reason == first.stop_reason


def test_a_machine_that_comes_back_knows_its_own_trials(database):
    first, ran = shared_search(database, me="this machine")
    others, own = list[Trial](), list[Trial]()
    again, ran_again = shared_search(database, me="this machine", others=others, on_trial=own.append)
    assert ran.asked
    assert ran_again.asked == []
    assert others == []
    assert tuple(own) == again.trials == first.trials


def test_what_this_machine_was_running_when_it_was_killed_is_run_again_at_once(database, tmp_path):
    taken = first_choice(tmp_path)
    empty_study(database)
    study, trial_id = begun_elsewhere(database, taken, by="this machine")
    found, _ = shared_search(database, me="this machine")
    assert found.trials[0].config == taken
    assert study._storage.get_trial(trial_id).state == optuna.trial.TrialState.FAIL  # nobody waits for it either


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=5), timedelta(hours=-5)])
def test_what_another_machine_is_running_is_not_begun_and_is_waited_for(database, tmp_path, ahead):
    """Whatever its clock says."""
    taken = first_choice(tmp_path)
    empty_study(database)
    study, trial_id = begun_elsewhere(database, taken, ahead=ahead)
    guess = predictor(COSTS)
    runner, events = Runner(guess, FACTORS), list[object]()

    def run_here(config: Config, prompt: int):
        events.append(config)
        return runner(config, prompt)

    def it_fails_elsewhere(_seconds: float) -> None:
        events.append("waited")
        study._storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL)

    shared_search(database, runner=run_here, sleep=it_fails_elsewhere)
    assert events[0] not in ("waited", taken)
    assert "waited" in events
    assert taken not in events[: events.index("waited")]


def test_a_trial_of_a_machine_that_was_killed_is_run_by_another(database, tmp_path):
    """It is known by this machine's own clock: nothing changes in the trial any more."""
    taken = first_choice(tmp_path)
    empty_study(database)
    begun_elsewhere(database, taken, ahead=timedelta(hours=5))
    slept: list[float] = []
    found, _ = shared_search(database, sleep=slept.append, clock=lambda: sum(slept))
    assert taken in [one.config for one in found.trials]
    assert LOST_AFTER * 10 <= sum(slept) <= LOST_AFTER * 10 + 2


def test_a_trial_that_shows_signs_of_life_is_waited_for_longer(database, tmp_path):
    taken = first_choice(tmp_path)
    empty_study(database)
    study, trial_id = begun_elsewhere(database, taken)
    slept: list[float] = []

    def tells_of_a_prompt(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 60:
            study._storage.set_trial_intermediate_value(trial_id, 0, 1.5)

    found, _ = shared_search(database, sleep=tells_of_a_prompt, clock=lambda: sum(slept))
    assert taken in [one.config for one in found.trials]
    assert sum(slept) >= LOST_AFTER * 10 + sum(slept[:60])


def test_a_machine_that_was_killed_while_it_wrote_its_trial_is_not_waited_for_without_end(database):
    empty_study(database)
    study = optuna.load_study(study_name="s", storage=database)
    study.ask()  # it has no parameters yet, and never will
    slept: list[float] = []
    found, ran = shared_search(database, sleep=slept.append, clock=lambda: 0.0)
    assert ran.asked
    assert found.trials
    assert sum(slept) < 60


def test_of_two_machines_that_begin_the_same_the_later_one_steps_back(database, tmp_path):
    taken = first_choice(tmp_path)
    empty_study(database)
    study, trial_id = begun_elsewhere(database, taken)
    space = study.get_trials()[-1].distributions

    def asked_now() -> optuna.Trial:
        study.sampler = _choosing(taken)
        return study.ask(space)

    peers = Peers(study, lambda _params: taken, len(space), 10, "this machine")
    assert not peers.claims(asked_now())
    trial = make_trial(make_estimate(make_model("Draft-A"), 1.5, 4), prompts=2)
    study._storage.set_trial_user_attr(trial_id, TRIAL, to_json(trial).decode())
    study._storage.set_trial_state_values(trial_id, optuna.trial.TrialState.COMPLETE, [1.5])
    assert not peers.claims(asked_now())  # it ended after this machine chose, which knew nothing of it
    assert peers.news() == [trial]
    assert peers.claims(asked_now())


def test_a_lie_says_what_is_believed():
    guess = predictor(COSTS)
    belief = guess.believe([])
    best = fastest(guess)([])
    (lie,) = lies([best, Config("gone", 1)], belief, guess.analytics)
    after = guess.believe([lie])
    at = belief.configs.index(best)
    assert after.log_mean[at] == pytest.approx(belief.log_mean[at], abs=1e-3)
    assert after.log_sd()[at] < belief.log_sd()[at]
    assert best in after.measured


def test_a_database_that_is_lost_does_not_end_the_search(database, monkeypatch):
    notes: list[str] = []
    guess = predictor(COSTS)
    runner = Runner(guess, FACTORS)
    alone, _ = shared_search(f"{database}-alone")

    def lost(*_arguments, **_named):
        raise optuna.exceptions.StorageInternalError("the connection is gone")

    def lose_it(config, prompt):
        monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_intermediate_value", lost)
        monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_state_values", lost)
        return runner(config, prompt)

    lose_it.asked = runner.asked
    found, _ = shared_search(database, runner=lose_it, notes=notes)
    assert [one.config for one in found.trials] == [one.config for one in alone.trials]
    assert any("goes on alone" in note and "connection is gone" in note for note in notes)


def test_a_database_that_is_gone_when_the_search_begins_does_not_end_it(tmp_path):
    """It answered at the start, minutes ago."""
    notes: list[str] = []
    alone, _ = shared_search(f"sqlite:///{tmp_path}/alone.sqlite3")
    found, _ = shared_search(f"sqlite:///{tmp_path}/gone/search.sqlite3", notes=notes)
    assert [one.config for one in found.trials] == [one.config for one in alone.trials]
    (note,) = notes
    assert "shared search is lost" in note
    assert "goes on alone" in note


def test_tables_that_refuse_a_study_when_the_search_begins_do_not_end_it(database, monkeypatch):
    def lost(*_arguments, **_named):
        raise optuna.exceptions.StorageInternalError("the connection is gone")

    monkeypatch.setattr(optuna.storages.RDBStorage, "create_new_study", lost)
    notes: list[str] = []
    found, _ = shared_search(database, notes=notes)
    assert found.trials
    assert any("connection is gone" in note for note in notes)


def test_tables_of_another_version_are_refused_by_name(database):
    open_storage(database)
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE version_info SET schema_version = 99")
        connection.execute("UPDATE alembic_version SET version_num = 'v99'")
    connection.close()
    with pytest.raises(ServerProblem, match="cannot be used with this version of Optuna"):
        open_storage(database)


PLANS = [Plan(8, 96, token_s, 2, 1.0, 48) for token_s in (0.1, 0.11)]


def test_machines_whose_measurements_differ_a_little_search_together(database):
    """The second would have planned otherwise by itself."""
    first = agreed(database, "question", PLANS[0], fresh=False)
    second = agreed(
        database, "question", dataclasses.replace(PLANS[1], prompts=7, max_tokens=64, threads=4), fresh=False
    )
    assert first == ("question-0", PLANS[0])
    assert second == ("question-0", dataclasses.replace(PLANS[0], token_s=0.11))  # its time a token is its own
    assert agreed(database, "another question", PLANS[1], fresh=False) == ("another question-0", PLANS[1])


def test_a_search_that_another_version_of_advisor_began_is_not_joined(database):
    agreed(database, "question", PLANS[0], fresh=False)
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE trial_user_attributes SET value_json = '\"{}\"' WHERE key = 'plan'")
    connection.close()
    with pytest.raises(OSError, match="another version of advisor"):
        agreed(database, "question", PLANS[0], fresh=False)


def test_fresh_begins_a_study_of_its_own_which_others_then_join(database):
    before, _ = agreed(database, "question", PLANS[0], fresh=False)
    fresh, plan = agreed(database, "question", PLANS[1], fresh=True)
    assert fresh != before
    assert plan == PLANS[1]
    assert agreed(database, "question", PLANS[0], fresh=False)[0] == fresh
    assert agreed(database, "question", PLANS[0], fresh=True)[0] not in (before, fresh)


def test_fresh_runs_again_what_was_run_before(models, tmp_path, database):
    first, second = machine_a(tmp_path / "one"), machine_a(tmp_path / "two")
    ran = first.recommend(shared_search=database)
    assert ran.trials
    found = second.recommend(shared_search=database, fresh=True)
    assert not any("run by other machines" in note for note in found.measurement.notes)
    third = machine_a(tmp_path / "three")
    third.recommend(shared_search=database)
    assert sum(engine.runs for engine in third.engines) == 0  # it joins what was begun anew


def test_a_noisy_machine_of_the_class_joins_the_search(models, tmp_path, database):
    """Its target is a little slower: by itself it would write fewer or shorter answers."""
    a = machine_a(tmp_path)
    budget_s = 150  # little: the plan follows the target's speed
    first = a.recommend(shared_search=database, budget_s=budget_s)
    slower = dataclasses.replace(WORLD_A, target_s=tuple(1.3 * seconds for seconds in WORLD_A.target_s))
    alone = Machine(tmp_path / "alone", slower).recommend(budget_s=budget_s)
    assert (alone.measurement.prompts, alone.measurement.answer_tokens) != (
        first.measurement.prompts,
        first.measurement.answer_tokens,
    )
    joined = Machine(tmp_path / "joined", slower).recommend(shared_search=database, budget_s=budget_s)
    assert any("run by other machines" in note for note in joined.measurement.notes)


def test_what_a_resumed_process_ran_itself_is_not_called_that_of_others(models, tmp_path, database):
    machine = machine_a(tmp_path)
    machine.recommend(shared_search=database)
    (machine.data / "last.json").unlink(missing_ok=True)
    again = machine_a(tmp_path).recommend(shared_search=database)
    assert again.trials
    assert not any("run by other machines" in note for note in again.measurement.notes)


def test_a_database_that_is_lost_before_anything_is_planned_is_told_and_the_answer_comes(models, tmp_path, monkeypatch):
    database = f"sqlite:///{tmp_path}/search.sqlite3"
    create = optuna.create_study

    def lost(*arguments, **named):
        if isinstance(named["storage"], optuna.storages.RDBStorage):
            raise optuna.exceptions.StorageInternalError("the connection is gone")
        return create(*arguments, **named)

    monkeypatch.setattr(optuna, "create_study", lost)
    machine = machine_a(tmp_path)
    assert machine.recommend(shared_search=database).best is not None
    assert sum("goes on alone" in note for note in machine.notes) == 1


def test_what_is_no_database_is_named_without_its_password():
    with pytest.raises(OptionError, match="not the address of a database"):
        open_storage("nonsense")
    with pytest.raises(ServerProblem) as caught:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:9/none")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_a_database_that_does_not_answer_shows_before_anything_is_measured(tmp_path):
    for name in ("t.gguf", "d.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    arguments = ["recommend", "--target", str(tmp_path / "t.gguf"), "--draft", str(tmp_path / "d.gguf")]
    result = CliRunner().invoke(app, [*arguments, "--share-search", "sqlite:////nowhere/at/all.sqlite3"])
    assert result.exit_code == 2
    assert "does not answer" in result.stderr


@pytest.mark.skipif(bool(missing()), reason=missing() or "PostgreSQL is here")
def test_two_processes_search_one_study_in_postgresql(models, tmp_path):
    alone = machine_a(tmp_path / "alone").recommend()
    with postgres() as address:
        processes = [_searching(tmp_path / name, address) for name in ("one", "two")]
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        texts = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], texts
        results = [json.loads(text.splitlines()[-1]) for text, _ in texts]
        third = Machine(tmp_path / "third", NOISY)
        kept = finished(address)
        later = third.recommend(shared_search=address)
    together = [trial for result in results for trial in result["trials"]]
    assert len(kept) == len({str(one) for one in kept})  # nothing was run twice
    assert sum(result["ran"] for result in results) >= len(kept) > 0
    assert any(result["others"] for result in results)  # at least who ended last knows what the other ran
    assert sum(engine.runs for engine in third.engines) == 0  # both are known to whoever comes later
    assert {(t.config.draft or t.config.method, t.config.k, t.config.p_min) for t in later.trials} == {
        tuple(trial) for trial in together
    }
    assert any("run by other machines" in note for note in later.measurement.notes)
    best = true_speedup(WORLD_A, alone.best.config)
    for result in results:
        assert true_speedup(WORLD_A, Config(*result["best"])) >= 0.98 * best


def finished(address: str) -> list[dict[str, object]]:
    """The settings of all trials that machines have run in the only study of this database."""
    storage = open_storage(address)
    (name,) = [name for name in optuna.get_all_study_names(storage) if "-" in name]
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    return [one.params for one in trials if TRIAL in one.user_attrs]


def _searching(data: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fleet.searching", str(data), address],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
