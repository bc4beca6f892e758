"""Replays over workers in processes of their own: the same traces as from one process, whatever happens to a worker."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from distributed.comm.addressing import address_from_user_args
from typer.testing import CliRunner

from advisor.acceptance.replay import P_MIN_GRID, Outcome, ReplaysHere, ReplayTask
from advisor.cli import app
from advisor.engines.base import RolloutOptions
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.simulated import SimulatedEngine
from advisor.errors import ServerProblem
from advisor.fleet import spread as spreading
from advisor.fleet.address import loopback_host
from advisor.fleet.spread import SpreadReplays, spread_over
from advisor.gguf import read_model
from advisor.host.files import HOST_LOCK_NAME, timing_lock
from advisor.testing.zoo import Recipe, build
from advisor.types import Placement, Recommendation, Transcript
from tests.fleet.asking import NeverReplays
from tests.fleet.cluster import Cluster, cluster, wait_for
from tests.machines import MIDDLE, SMALL, Machine, OtherBuild, machine_a, models

__all__ = ["models"]
SEVERAL = 3


@pytest.fixture
def dask() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@pytest.fixture
def alone(models, tmp_path: Path) -> Recommendation:
    """What one process finds."""
    return machine_a(tmp_path / "alone").recommend()


def over(dask: Cluster, tmp_path: Path, make: type[SimulatedEngine] = NeverReplays) -> tuple[Recommendation, Machine]:
    machine = machine_a(tmp_path / "spread")
    machine.make = make
    return machine.recommend(scheduler=dask.address), machine


def same(found: Recommendation, alone: Recommendation) -> bool:
    assert found.traces == alone.traces
    assert list(found.traces) == list(alone.traces)
    assert found.rejected == alone.rejected
    return found.estimates == alone.estimates


def test_several_workers_give_what_one_process_gives(dask, alone, tmp_path):
    for _ in range(SEVERAL):
        dask.simulated_worker()
    found, machine = over(dask, tmp_path)
    assert same(found, alone)
    assert machine.notes == []


def test_the_replay_of_a_killed_worker_is_done_by_another(dask, alone, tmp_path):
    victim = dask.simulated_worker("stuck")

    def kill_in_the_middle() -> None:
        wait_for(victim, "replaying")
        dask.simulated_worker()
        victim.kill()

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    found, _ = over(dask, tmp_path)
    killer.join()
    assert same(found, alone)


def test_without_any_worker_left_this_machine_does_the_rest(dask, alone, tmp_path):
    victim = dask.simulated_worker("stuck")

    def kill_the_only_one() -> None:
        wait_for(victim, "replaying")
        victim.kill()

    killer = threading.Thread(target=kill_the_only_one)
    killer.start()
    found, machine = over(dask, tmp_path, SimulatedEngine)
    killer.join()
    assert same(found, alone)
    assert any("No worker is left" in note for note in machine.notes)


def test_without_the_scheduler_this_machine_does_the_rest(dask, alone, tmp_path):
    worker = dask.simulated_worker("stuck")

    def kill_the_scheduler() -> None:
        wait_for(worker, "replaying")
        dask.scheduler.kill()

    killer = threading.Thread(target=kill_the_scheduler)
    killer.start()
    found, _ = over(dask, tmp_path, SimulatedEngine)
    killer.join()
    assert same(found, alone)


def test_a_draft_that_no_worker_has_is_replayed_here(dask, alone, tmp_path):
    dask.simulated_worker("poor")
    replayed_here: list[str] = []

    class Recording(SimulatedEngine):
        def score(self, *arguments):
            replayed_here.append(self._loaded["draft"].name)
            return super().score(*arguments)

    found, machine = over(dask, tmp_path, Recording)
    assert same(found, alone)
    assert set(replayed_here) == {MIDDLE.name}
    assert any("1 of 2 drafts are on no worker" in note for note in machine.notes)


def test_a_worker_with_another_build_is_left_out_by_name(dask, alone, tmp_path):
    dask.simulated_worker("other")
    found, machine = over(dask, tmp_path, SimulatedEngine)
    assert same(found, alone)
    assert any(f"simulated {OtherBuild(None).build.version}" in note for note in machine.notes)


def test_a_worker_with_another_build_gives_no_trace_though_it_is_handed_a_replay(dask, alone, tmp_path):
    """What a lost worker had may go to any other; this one's traces would be wrong."""
    victim, other = dask.simulated_worker("stuck"), dask.simulated_worker("other")

    def kill_the_sound_one() -> None:
        wait_for(victim, "replaying")
        victim.kill()
        wait_for(other, "replaying")

    killer = threading.Thread(target=kill_the_sound_one)
    killer.start()
    found, _ = over(dask, tmp_path, SimulatedEngine)
    killer.join()
    assert same(found, alone)


def test_a_worker_whose_memory_is_too_small_says_so_and_another_replays(dask, alone, tmp_path):
    dask.simulated_worker("small")
    dask.simulated_worker()
    found, machine = over(dask, tmp_path)
    assert same(found, alone)
    declined = [note for note in machine.notes if "left a replay to others" in note]
    assert all("GiB are free on CPU" in note for note in declined)
    assert len(declined) == len(machine.notes)


def test_what_every_worker_declines_is_replayed_here_and_the_reason_is_told(dask, alone, tmp_path):
    dask.simulated_worker("small")
    found, machine = over(dask, tmp_path, SimulatedEngine)
    assert same(found, alone)
    assert any("Small-0.5B" in note and "GiB are free on CPU" in note for note in machine.notes)


def test_a_worker_whose_machine_measures_is_not_waited_for(dask, alone, tmp_path, monkeypatch):
    dask.simulated_worker()
    with timing_lock(dask.locks_of_last / HOST_LOCK_NAME):
        found, machine = over(dask, tmp_path, SimulatedEngine)
    assert same(found, alone)
    assert any("measuring on this machine" in note for note in machine.notes)


def test_an_engine_that_fails_on_a_worker_is_tried_here(dask, alone, tmp_path):
    dask.simulated_worker("failing")
    found, _ = over(dask, tmp_path, SimulatedEngine)
    assert same(found, alone)


def two_tasks() -> list[ReplayTask]:
    transcripts = (Transcript("code", (1, 2), (3, 4, 5), ended=False),)
    return [ReplayTask(draft, Placement(), transcripts, RolloutOptions(0.4, 4, 2), 64) for draft in (SMALL, MIDDLE)]


def never() -> SimulatedEngine:
    raise AssertionError("replayed on the machine that asked")


def test_what_workers_have_not_done_in_time_missed_its_turn(dask, models):
    """The one that is stuck is not waited for once the budget is spent; what is done is kept."""
    stuck = dask.simulated_worker("stuck")
    machine_notes: list[str] = []
    tasks = two_tasks()
    engine = SimulatedEngine(machine_a(Path()).world)

    def start_a_sound_one() -> None:
        wait_for(stuck, "replaying")
        dask.simulated_worker()

    sound = threading.Thread(target=start_a_sound_one)
    sound.start()
    outcomes: dict[int, Outcome] = {}

    def left_s() -> float:
        return 0.0 if outcomes else 1.0

    here = ReplaysHere(never, threads=1, at_once=1, time_left_s=left_s)
    spread = SpreadReplays(dask.address, here, engine.build, left_s, machine_notes.append)
    for number, outcome in spread(tasks):
        outcomes[number] = outcome
    sound.join()
    kinds = sorted(type(outcome).__name__ for outcome in outcomes.values())
    assert kinds == ["OutOfTime", "list"]


def test_where_no_worker_has_done_anything_in_time_every_draft_has_its_turn_here(dask, models):
    dask.simulated_worker("stuck")
    engine = SimulatedEngine(machine_a(Path()).world)
    here = ReplaysHere(lambda: engine, threads=1, at_once=1, time_left_s=lambda: 0.0)
    outcomes = dict(SpreadReplays(dask.address, here, engine.build, lambda: 0.0, print)(two_tasks()))
    assert [len(outcomes[number]) for number in (0, 1)] == [1, 1]  # an answer each, however little time is left


def test_a_worker_that_does_not_answer_is_not_waited_for_without_end(dask, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(spreading, "DESCRIBE_S", 1)
    dask.simulated_worker("mute")
    found, machine = over(dask, tmp_path, SimulatedEngine)
    assert same(found, alone)
    assert any("does not say which drafts it has" in note for note in machine.notes)


def test_there_must_be_a_scheduler(monkeypatch):
    monkeypatch.setattr(spreading, "CONNECT_S", 1)
    with pytest.raises(ServerProblem, match="no Dask scheduler at tcp://127"):
        spread_over("tcp://127.0.0.1:9", print)
    with pytest.raises(ServerProblem, match="no Dask scheduler at nonsense"):
        spread_over("nonsense://x", print)


def test_without_certificates_tls_is_refused_with_what_to_do():
    with pytest.raises(ServerProblem, match="certificates"):
        spread_over("tls://127.0.0.1:9", print)
    result = CliRunner().invoke(app, ["worker", "--scheduler", "tls://127.0.0.1:9"])
    assert result.exit_code == 2
    assert "certificates" in result.stderr


@pytest.mark.parametrize(
    ("scheduler", "exposed"),
    [
        ("tcp://192.168.1.5:8786", True),
        ("192.168.1.5:8786", True),
        ("tcp://scheduler.lan:8786", True),
        ("tcp://[fe80::1]:8786", True),
        ("ws://192.168.1.5:8786", True),
        ("tls://192.168.1.5:8786", False),
        ("wss://192.168.1.5:8786", False),
        ("tcp://127.0.0.1:8786", False),
        ("127.0.0.1:8786", False),
        ("tcp://[::1]:8786", False),
        ("tcp://localhost:8786", False),
    ],
)
def test_a_scheduler_that_others_can_reach_and_read_is_warned_of(scheduler, exposed, monkeypatch):
    monkeypatch.setattr(spreading, "_connected", lambda _scheduler: nullcontext())
    notes: list[str] = []
    spread_over(scheduler, notes.append)
    assert [scheduler in note and "run code on every machine" in note for note in notes] == [True] * exposed


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_host_of_loopback_is_one_that_dask_can_listen_on(host):
    found = loopback_host(f"tcp://{host}:8786")
    assert address_from_user_args(host=found, port=0) == f"tcp://{host}:0"


def test_for_a_scheduler_on_loopback_a_worker_listens_on_loopback_only(dask):
    worker = psutil.Process(dask.simulated_worker().pid)
    listening = [one.laddr.ip for one in worker.net_connections() if one.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_a_worker_without_a_scheduler_exits_2():
    result = CliRunner().invoke(app, ["worker", "--scheduler", "nonsense://x"])
    assert result.exit_code == 2
    assert "no Dask scheduler" in result.stderr


@pytest.mark.alone
def test_real_drafts_replayed_by_two_advisor_workers_are_bit_for_bit_those_of_one_process(dask, tmp_path):
    files = [build(Recipe(24, quant)) for quant in ("Q8_0", "Q4_0")]
    folder = tmp_path / "models"
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)
    drafts = [read_model(file) for file in files]
    tokens = tuple(range(300, 340))
    transcripts = (Transcript("code", tokens[:16], tokens[16:], ended=False),) * 2
    rollout = RolloutOptions(p_min=P_MIN_GRID[1], length=4, chains=2)
    tasks = [ReplayTask(draft, Placement(), transcripts, rollout, 256) for draft in drafts]

    def forever() -> float:
        return 1e9

    here = ReplaysHere(LlamaCppPython, threads=1, at_once=1, time_left_s=forever)
    expected = dict(here(tasks))
    for _ in drafts:
        dask.worker("--models-dir", folder, "--threads", "1")
    unplaced = [dataclasses.replace(draft, path="/nowhere", paths=()) for draft in drafts]
    elsewhere = [dataclasses.replace(task, draft=draft) for task, draft in zip(tasks, unplaced, strict=True)]
    found = dict(SpreadReplays(dask.address, here, LlamaCppPython().build, forever, print)(elsewhere))
    for number in range(len(tasks)):
        assert [trace for trace, _ in found[number]] == [trace for trace, _ in expected[number]]
