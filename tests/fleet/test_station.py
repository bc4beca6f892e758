"""A machine that replays for others: its files by content, and never beside a timing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from advisor.acceptance.replay import ReplayTask
from advisor.engines.base import RolloutOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.errors import FileProblem, StoreError
from advisor.fleet import station as stations
from advisor.fleet.station import FilesByContent, Station
from advisor.gguf import read_model
from advisor.host.files import host_lock_path, timing_lock
from advisor.types import Placement, Transcript

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
        lambda _buffers, _found: SimulatedEngine(world), FilesByContent(lambda: sorted(draft.parent.iterdir())), 1
    )


def task(draft: Path) -> ReplayTask:
    return ReplayTask(read_model(draft), Placement(), (Transcript("code", (1,), (2, 3), False),), ROLLOUT, 64)


def test_files_are_told_by_content_and_what_is_no_model_does_not_matter(made, draft, smollm2):
    (draft.parent / "notes.gguf").write_text("no model")
    digest = read_model(smollm2).content_hash
    assert made.describe(frozenset({digest, "another"})).drafts == {digest}


def test_a_draft_that_has_gone_is_no_failure(made, draft):
    asked = task(draft)
    draft.unlink()
    assert made.replay(asked, stations.machine()) is None


def test_nothing_is_replayed_for_another_machine_while_this_one_times(made, draft, monkeypatch):
    monkeypatch.setattr(stations, "LOCK_TIMEOUT_S", 0.0)
    with timing_lock(host_lock_path()):
        with pytest.raises(StoreError, match="measuring on this machine"):
            made.replay(task(draft), "another-machine")
        (outcome,) = made.replay(task(draft), stations.machine())  # who asks holds the lock, and waits
    assert outcome[0].answer_tokens == (2, 3)
    (again,) = made.replay(task(draft), "another-machine")
    assert again[0] == outcome[0]


def test_a_folder_of_models_must_be_there(tmp_path):
    with pytest.raises(FileProblem, match="no folder"):
        stations.station((tmp_path / "none",)).describe(frozenset())
