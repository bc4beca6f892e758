"""A machine that replays for others: its files by content, and never beside a timing."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest

from advisor.acceptance.replay import ReplayTask
from advisor.engines.base import RolloutOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.errors import FileProblem, StoreError
from advisor.fleet import station as stations
from advisor.fleet.station import FilesByContent, Station, Versions, advisor_version
from advisor.gguf import read_model
from advisor.host.files import host_lock_path, timing_lock
from advisor.testing.builders import make_host
from advisor.types import Build, Device, Placement, Transcript

GIB = 1 << 30
PLAIN = Placement()
ROLLOUT = RolloutOptions(0.4, 4, 2)


@pytest.fixture
def draft(smollm2: Path, tmp_path: Path) -> Path:
    path = tmp_path / "models" / "renamed.gguf"
    path.parent.mkdir()
    shutil.copy(smollm2, path)
    return path


@pytest.fixture
def made(draft: Path) -> Station:
    world = World((0.1,), {read_model(draft).content_hash: SimulatedDraft(0.01, {"": 0.7})})
    return Station(
        lambda _buffers, _found: SimulatedEngine(world),
        FilesByContent(lambda: sorted(draft.parent.iterdir())),
        1,
        make_host,
    )


def task(draft: Path, placement: Placement = PLAIN) -> ReplayTask:
    return ReplayTask(read_model(draft), placement, (Transcript("code", (1,), (2, 3), False),), ROLLOUT, 64)


def asked(version: str = "1") -> Versions:
    return Versions(advisor_version(), Build("simulated", version, libraries="another digest"))


def test_files_are_told_by_content_and_what_is_no_model_does_not_matter(made, draft, smollm2):
    (draft.parent / "notes.gguf").write_text("no model")
    digest = read_model(smollm2).content_hash
    assert made.describe(frozenset({digest, "another"})).drafts == {digest}


def test_a_draft_that_has_gone_is_no_failure(made, draft):
    wanted = task(draft)
    draft.unlink()
    assert "is not there" in made.replay(wanted, asked()).why


def test_nothing_is_replayed_while_this_machine_times_and_nobody_waits_long_for_it(made, draft):
    """Not even for an asker on this machine, which holds the lock itself: it has this machine's own replays."""
    with timing_lock(host_lock_path()):
        started = time.monotonic()
        declined = made.replay(task(draft), asked())
        assert time.monotonic() - started < 30  # two machines that search and work for each other must not wait
    assert "measuring on this machine" in declined.why
    (outcome,) = made.replay(task(draft), asked())
    assert outcome[0].answer_tokens == (2, 3)


def test_nothing_is_timed_while_a_replay_runs(made, draft):
    seen = []

    class Looking(SimulatedEngine):
        def score(self, *arguments):
            with pytest.raises(StoreError), timing_lock(host_lock_path(), timeout_s=0):
                pass
            seen.append("locked")
            return super().score(*arguments)

    engine = made._engine()
    made.start_engine = lambda _buffers, _found: Looking(engine.world)
    made.replay(task(draft), asked())
    assert seen == ["locked"]


def test_another_version_than_was_asked_for_replays_nothing(made, draft):
    declined = made.replay(task(draft), asked("2"))
    assert "simulated 1" in declined.why
    assert "simulated 2" in declined.why


@pytest.mark.parametrize(
    ("host", "placement", "said"),
    [
        (make_host(ram_available_bytes=GIB // 2), PLAIN, "GiB are free on CPU"),
        (
            make_host(devices=(Device("CUDA0", "Card", "gpu", GIB, GIB // 4),)),
            Placement(0, -1, "CUDA0"),
            "GiB are free on CUDA0",
        ),
    ],
)
def test_a_draft_that_does_not_fit_is_declined_with_the_numbers_before_it_is_loaded(made, draft, host, placement, said):
    class NeverLoads(SimulatedEngine):
        def open(self, *arguments):
            raise AssertionError("it was loaded")

    made.look = lambda: host
    made.start_engine = lambda _buffers, _found: NeverLoads(World((0.1,), {}))
    declined = made.replay(task(draft, placement), asked())
    assert said in declined.why
    assert re.search(r"needs [\d.]+ GiB \(weights 0\.0\d, KV", declined.why)


def test_a_folder_of_models_must_be_there(tmp_path):
    with pytest.raises(FileProblem, match="no folder"):
        stations.station((tmp_path / "none",)).describe(frozenset())
