"""A short form of each part of ``make chaos``: a few of everything, with real processes that really die."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from advisor.errors import EngineError
from advisor.testing.builders import make_recommendation
from advisor.types import Recommendation
from chaos import bad_files, crashes, disk, fuzz, ledger, load, memory, mutations, resume, security
from chaos.outcome import Outcome, all_held, table
from chaos.processes import Ended
from chaos.world import Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground.prepare(tmp_path_factory.mktemp("chaos"))


def nothing_lost(outcomes: Iterable[Outcome], *, at_least: int = 1) -> None:
    found = tuple(outcomes)
    print(table(found))
    assert all_held(found), table(found)
    if all(one.skipped for one in found):
        pytest.skip("; ".join(one.skipped for one in found))
    assert sum(one.times for one in found) >= at_least


def test_no_damaged_file_crashes_hangs_or_fills_memory(tmp_path: Path):
    nothing_lost(bad_files.bad_files(tmp_path, list(mutations.mutants())[::9]), at_least=300)


def test_the_corpus_is_large_and_always_the_same():
    names = [mutant.name for mutant in mutations.mutants(seed=3)]
    assert len(names) > 300
    assert names == [mutant.name for mutant in mutations.mutants(seed=3)]


def test_a_second_of_coverage_guided_fuzz_finds_nothing(tmp_path: Path):
    nothing_lost(fuzz.fuzz(tmp_path, 2), at_least=100)


def test_a_draft_whose_worker_dies_leaves_the_race_and_nothing_else_does(ground: Ground):
    nothing_lost(crashes.crash_isolation(ground, ("SIGKILL",), ("score", "speculative run")), at_least=5)


def test_a_killed_advisor_goes_on_where_it_was(ground: Ground):
    nothing_lost(resume.resume(ground, kills=1, seed=1, thorough=False), at_least=3)


def test_a_full_disk_and_a_damaged_journal_cost_no_answer(ground: Ground):
    nothing_lost(disk.disk(ground, sizes=(disk.FULL_SIZES[6],), damages=1, thorough=False))


def test_only_pairs_that_fit_a_limit_are_started(ground: Ground):
    nothing_lost(memory.limits(ground, (1.0, 2.5)))


def test_chat_templates_cannot_attack(tmp_path: Path):
    attacks = ("endless loops", "a text doubled 40 times", "a function's globals")
    chosen = {name: security.ATTACKS[name] for name in attacks}
    nothing_lost([security.chat_templates(tmp_path, chosen)], at_least=3)


def test_what_is_written_is_private(ground: Ground):
    nothing_lost([security.private_files(ground)], at_least=2)


def test_searches_survive_random_faults(ground: Ground):
    """About as often as a search takes here, so that some are answered on a slow machine too."""
    began = time.monotonic()
    ground.search(ground.folder / "undisturbed")  # it also imports what searches import, which is no growth
    every_s = time.monotonic() - began
    nothing_lost(load.load(ground.folder, ground.search, seconds=8 * every_s, seed=1, every_s=every_s, thorough=False))


# -- does the table tell a loss? ---------------------------------------------------------------------------------------


def test_a_loss_is_counted_and_named():
    outcomes = [Outcome("kept", 3), Outcome("lost", 2, ("one record",)), Outcome("left out", 0, skipped="no disk")]
    assert not all_held(outcomes)
    text = table(outcomes)
    assert "| kept | 3 | nothing |  |" in text
    assert "| lost | 2 | 1 |  |" in text
    assert "- lost: one record" in text
    assert "| left out | 0 | skipped | no disk |" in text


def losses(outcomes: Iterable[Outcome]) -> str:
    return "; ".join(loss for one in outcomes for loss in one.lost)


def test_a_load_under_which_nothing_is_answered_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "PATIENCE_S", 0.0)

    def search(_folder: Path) -> Recommendation:
        raise EngineError("The engine failed.")

    lost = losses(load.load(tmp_path, search, seconds=0.05, seed=1))
    assert "no search was answered" in lost
    assert "no fault was sent" in lost


@pytest.mark.parametrize(
    ("sizes_mib", "said"),
    [
        ((100, 100, 100), "too few to tell"),
        ((100, 100, 101, 101, 101, 101), ""),
        ((100, 100, 104, 108, 112, 116), "grew by"),
    ],
)
def test_memory_that_grows_is_seen_and_what_cannot_be_told_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes_mib: tuple[int, ...], said: str
):
    """A search a second, and the parent's memory after each."""
    seconds, left = len(sizes_mib) + 1, list(sizes_mib)
    clock = partial(next, itertools.count(0.0))
    monkeypatch.setattr(load, "PATIENCE_S", 0.0)
    monkeypatch.setattr(load, "_resident_bytes", lambda: left.pop(0) << 20)
    monkeypatch.setattr(load, "Disturber", NoDisturber)
    lost = losses(load.load(tmp_path, lambda _folder: make_recommendation(), seconds=seconds, seed=1, clock=clock))
    assert lost == said or (said and said in lost)


class NoDisturber(load.Disturber):
    """Does nothing, and says that it did."""

    def __enter__(self) -> NoDisturber:
        self.sent["SIGKILL"] += 1
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_store_that_forgets_what_it_was_given_is_seen(ground: Ground):
    """What was stored is known from the advisor's own word, not from the store."""
    data = ground.data_dir("forgetful")
    resume._advisor(ground, data, pace_s=0).wait()
    reported = ledger.reported(data.parent / "ledger")
    assert len(reported) > 10
    assert not list(resume.missing(reported, resume.stored_rows(data)))
    with sqlite3.connect(data / "measurements.sqlite3") as connection:
        connection.execute("DELETE FROM measurement WHERE rowid = (SELECT rowid FROM measurement WHERE kind = 'run')")
    connection.close()
    (lost,) = resume.missing(reported, resume.stored_rows(data))
    assert "'run': 1" in lost


def test_a_full_disk_that_nobody_is_told_of_is_seen(ground: Ground, monkeypatch: pytest.MonkeyPatch):
    calm = Ended(0, "{}", "")
    monkeypatch.setattr(disk, "_run", lambda *_: calm)
    monkeypatch.setattr(disk, "different", lambda *_: iter(()))
    (outcome,) = [disk._full(ground, (disk.FULL_SIZES[2],), calm)]
    assert outcome.skipped or outcome.lost == ("nobody was told that the disk is full",)


def test_timings_that_overlap_are_seen():
    from chaos.ledger import Entry

    def entry(advisor: int, begin_s: float, end_s: float) -> Entry:
        return Entry(advisor, "answer", "", "", begin_s, end_s)

    assert not list(resume.overlaps([entry(1, 0, 1), entry(2, 1, 2), entry(1, 2, 3)]))
    assert len(list(resume.overlaps([entry(1, 0, 2), entry(2, 1, 3)]))) == 1


def test_seeds_are_files_that_make_the_reader_take_a_new_step(tmp_path: Path):
    from chaos.cover import worth_keeping

    sound = mutations.seeds()["llama"]
    contents = {"sound": sound, "twin": sound + b"\0", "cut": sound[:40], "cut alike": sound[:41], "no model": b"no"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert [path.name for path in worth_keeping(tmp_path.iterdir())] == ["no model", "cut", "sound"]
