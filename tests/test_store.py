from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import store as store_module
from advisor.errors import FileProblem, StoreError
from advisor.store import (
    SCHEMA_VERSION,
    Store,
    canonical_key,
    data_dir,
    last_path,
    load_last,
    measurements_path,
    save_last,
)
from advisor.testing.builders import make_recommendation
from advisor.types import CostCurve, Run, Sampling, Trace, Transcript

KEY = {"model": "3f2a", "depth": 0, "threads": 2}
CURVE = CostCurve(depth=0, anchor_s=(0.1, 0.11), rounds_s={1: (0.1, 0.12), 8: (0.2, 0.3)})
TRANSCRIPTS = (
    Transcript("code", (1, 2), (3, 4, 5), ended=True, text="naïve – ∑"),
    Transcript("chat", (), (7,), ended=False),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "measurements.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def rows(path: Path, query: str = "SELECT * FROM measurement") -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


# -- what is put is got ------------------------------------------------------------------------------------------------


def test_a_record_comes_back_in_another_session(path: Path) -> None:
    with Store(path) as first:
        first.put("curve", KEY, CURVE, wall_s=3.5)
    with Store(path) as second:
        assert second.get("curve", KEY, CostCurve) == CURVE
        assert second.kept_aside is None


def test_tuples_and_nested_records_come_back(store: Store) -> None:
    traces = (Trace("code", (3, 4), (3, 9), (0.5, 0.25), rollout={1: (0.75, 0.5)}),)
    store.put("transcripts", KEY, TRANSCRIPTS, wall_s=1)
    store.put("traces", KEY, traces, wall_s=1)
    store.put("runs", KEY, (Run(5, 0.5, 0.1, accepted_per_position=(1, 2)),), wall_s=1)
    store.put("nothing", KEY, (), wall_s=1)
    assert store.get("transcripts", KEY, tuple[Transcript, ...]) == TRANSCRIPTS
    assert store.get("traces", KEY, tuple[Trace, ...]) == traces
    assert store.get("runs", KEY, tuple[Run, ...]) == (Run(5, 0.5, 0.1, accepted_per_position=(1, 2)),)
    assert store.get("nothing", KEY, tuple[Run, ...]) == ()


def test_what_was_never_put_is_none(store: Store) -> None:
    store.put("curve", KEY, CURVE, wall_s=1)
    assert store.get("curve", {**KEY, "threads": 4}, CostCurve) is None
    assert store.get("transcripts", KEY, CostCurve) is None


def test_the_same_key_is_replaced_and_not_doubled(store: Store, path: Path) -> None:
    store.put("curve", KEY, CURVE, wall_s=1)
    store.put("curve", dict(reversed(KEY.items())), replace(CURVE, depth=9), wall_s=2)
    assert store.get("curve", KEY, CostCurve) == replace(CURVE, depth=9)
    assert store.spent_s([("curve", KEY)]) == 2
    assert len(rows(path)) == 1


def test_a_record_of_another_shape_is_measured_again(store: Store) -> None:
    store.put("curve", KEY, Run(1, 2.0, 3.0), wall_s=1)
    assert store.get("curve", KEY, CostCurve) is None
    store.put("curve", KEY, CURVE, wall_s=1)
    assert store.get("curve", KEY, CostCurve) == CURVE


def test_forgetting_takes_one_record_only(store: Store) -> None:
    store.put("curve", KEY, CURVE, wall_s=1)
    store.put("curve", {"model": "other"}, CURVE, wall_s=1)
    store.forget("curve", KEY)
    store.forget("curve", {"model": "never put"})
    assert store.get("curve", KEY, CostCurve) is None
    assert store.get("curve", {"model": "other"}, CostCurve) == CURVE


def test_what_was_put_after_a_mark_can_be_forgotten(store: Store) -> None:
    keys = [{"model": name} for name in ("before", "after", "later")]
    store.put("curve", keys[0], CURVE, wall_s=1)
    mark = store.mark()
    store.put("curve", keys[1], CURVE, wall_s=1)
    store.forget_since(mark)
    store.put("curve", keys[2], CURVE, wall_s=1)
    assert [store.get("curve", key, CostCurve) for key in keys] == [CURVE, None, CURVE]


def test_time_spent_counts_each_stored_record_once(store: Store) -> None:
    store.put("curve", KEY, CURVE, wall_s=1.5)
    store.put("transcripts", KEY, TRANSCRIPTS, wall_s=20.25)
    assert store.spent_s([("curve", KEY), ("transcripts", KEY), ("curve", KEY), ("curve", {"a": 1})]) == 21.75
    assert store.spent_s([]) == 0


def test_a_fresh_run_finds_only_its_own_measurements(path: Path) -> None:
    with Store(path) as earlier:
        earlier.put("curve", KEY, CURVE, wall_s=1)
        earlier.put("curve", {"model": "other"}, CURVE, wall_s=2)
        earlier.remember("remedy", "repack off")
    with Store(path) as fresh:
        fresh.ignore_earlier()
        assert fresh.get("curve", KEY, CostCurve) is None
        fresh.put("curve", KEY, replace(CURVE, depth=9), wall_s=4)
        assert fresh.get("curve", KEY, CostCurve) == replace(CURVE, depth=9)
        assert fresh.spent_s([("curve", KEY), ("curve", {"model": "other"})]) == 4
        assert fresh.recall("remedy") == "repack off"
    with Store(path) as later:
        assert later.get("curve", {"model": "other"}, CostCurve) == CURVE, "ignored is not deleted"
        assert later.get("curve", KEY, CostCurve) == replace(CURVE, depth=9)


def test_small_texts_are_remembered(path: Path) -> None:
    with Store(path) as first:
        assert first.recall("remedy") is None
        first.remember("remedy", "repack off")
        first.remember("remedy", "repack off, one thread")
    with Store(path) as second:
        assert second.recall("remedy") == "repack off, one thread"


def test_the_key_can_be_read_in_the_file(store: Store, path: Path) -> None:
    store.put("curve", KEY, CURVE, wall_s=1)
    assert rows(path, "SELECT key_json FROM measurement") == [('{"depth":0,"model":"3f2a","threads":2}',)]


def test_in_memory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.in_memory() as store:
        store.put("curve", KEY, CURVE, wall_s=1)
        assert store.get("curve", KEY, CostCurve) == CURVE
    with Store.in_memory() as store:
        assert store.get("curve", KEY, CostCurve) is None
    assert [file.name for file in tmp_path.iterdir()] == []


# -- keys --------------------------------------------------------------------------------------------------------------

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_KEYS = st.dictionaries(
    st.text(),
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def reordered(value: Any) -> Any:
    """The same key, written differently: other order, tuples for lists, floats for whole numbers."""
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return tuple(reordered(part) for part in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


def tagged(value: Any) -> Any:
    """A form in which 1 == 1.0 but neither equals True, to compare two keys independently of any text."""
    if isinstance(value, dict):
        return ("map", tuple(sorted((name, tagged(part)) for name, part in value.items())).__repr__())
    if isinstance(value, list):
        return ("list", [tagged(part) for part in value].__repr__())
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return (type(value).__name__, repr(value))


@given(key=_KEYS)
def test_a_key_is_the_same_however_it_is_written(key: dict[str, Any]) -> None:
    assert canonical_key(key) == canonical_key(reordered(key))


@given(one=_KEYS, other=_KEYS)
def test_different_keys_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (canonical_key(one) == canonical_key(other)) == (tagged(one) == tagged(other))


@settings(max_examples=40)
@given(key=_KEYS, other=_KEYS, value=st.integers(0, 1000))
def test_any_key_finds_its_own_record(key: dict[str, Any], other: dict[str, Any], value: int) -> None:
    with Store.in_memory() as store:
        store.put("run", other, Run(-1, 0.0, 0.0), wall_s=0)
        store.put("run", key, Run(value, 0.0, 0.0), wall_s=0)
        assert store.get("run", reordered(key), Run) == Run(value, 0.0, 0.0)


def test_records_can_be_parts_of_a_key() -> None:
    sampling = Sampling(temperature=0.0)
    assert canonical_key({"sampling": sampling}) == canonical_key({"sampling": dataclasses.asdict(sampling)})
    assert canonical_key({"sampling": sampling}) != canonical_key({"sampling": replace(sampling, seed=2)})


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": {1: 2}}, {"a": {1, 2}}, {"a": Path("x")}])
def test_a_key_without_a_stable_text_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_key(bad)


# -- crashes and other processes ---------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from advisor.store import Store
from advisor.types import Run
first, count = int(sys.argv[2]), int(sys.argv[3])
with Store(Path(sys.argv[1])) as store:
    for number in range(first, first + count):
        store.put("run", {"number": number}, Run(number, 1.0, 2.0), wall_s=1.0)
        print(number, flush=True)
"""


def writer(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_in_a_stream_of_puts_nothing_reported_is_lost(path: Path) -> None:
    with writer(path, 0, 1_000_000) as child:
        assert child.stdout is not None
        reported = [int(child.stdout.readline()) for _ in range(25)]
        child.kill()
        reported += [int(line) for line in child.stdout.read().splitlines() if line]
    with Store(path) as store:
        assert store.kept_aside is None
        found = [store.get("run", {"number": number}, Run) for number in reported]
    assert found == [Run(number, 1.0, 2.0) for number in reported]
    assert len(reported) >= 25


def test_two_processes_write_at_once(path: Path) -> None:
    """Both create the store, and half of their keys are the same."""
    children = [writer(path, first, 40) for first in (0, 20)]
    assert [(child.communicate(), child.returncode)[1] for child in children] == [0, 0]
    with Store(path) as store:
        assert all(store.get("run", {"number": number}, Run) == Run(number, 1.0, 2.0) for number in range(60))
    assert len(rows(path)) == 60


def test_threads_share_a_store(store: Store) -> None:
    def put(first: int) -> None:
        for number in range(first, first + 20):
            store.put("run", {"number": number}, Run(number, 0.0, 0.0), wall_s=1)

    threads = [threading.Thread(target=put, args=(first,)) for first in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.spent_s(("run", {"number": number}) for number in range(60)) == 60


# -- files that cannot be used -----------------------------------------------------------------------------------------


def put_one(path: Path) -> None:
    with Store(path) as store:
        store.put("curve", KEY, CURVE, wall_s=1)


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def foreign_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE holiday_photos (name TEXT)")
    connection.commit()
    connection.close()


def half_a_schema(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE remembered")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is a text file, " * 500),
        lambda path: path.write_bytes(b"short"),
        lambda path: overwrite(path, 0, b"\0" * 100),
        lambda path: overwrite(path, 100, b"\xff" * (path.stat().st_size - 100)),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        foreign_database,
        half_a_schema,
    ],
    ids=["text", "short", "header", "pages", "cut", "foreign", "half a schema"],
)
def test_a_damaged_file_is_kept_aside_and_a_new_store_begun(path: Path, damage: Any) -> None:
    put_one(path)
    damage(path)
    content = path.read_bytes()
    with Store(path) as store:
        assert store.kept_aside == path.with_name("measurements.sqlite3.kept-1")
        assert store.kept_aside.read_bytes() == content
        assert store.get("curve", KEY, CostCurve) is None
        store.put("curve", KEY, CURVE, wall_s=1)
    with Store(path) as store:
        assert store.kept_aside is None
        assert store.get("curve", KEY, CostCurve) == CURVE


def test_bytes_that_are_no_text_are_measured_again(store: Store) -> None:
    """Damage inside a value, where SQLite's own check does not look."""
    store.put("curve", KEY, CURVE, wall_s=1)
    store.remember("remedy", "repack off")
    store._connection.execute("UPDATE measurement SET value_json = CAST(x'7b22ff80' AS TEXT)")
    store._connection.execute("UPDATE remembered SET value = CAST(x'ff80' AS TEXT)")
    assert store.get("curve", KEY, CostCurve) is None
    assert store.recall("remedy") is None
    store.put("curve", KEY, CURVE, wall_s=1)
    assert store.get("curve", KEY, CostCurve) == CURVE


def test_kept_files_are_never_overwritten(path: Path) -> None:
    for number in (1, 2, 3):
        put_one(path)
        path.write_bytes(f"damaged {number}".encode())
    put_one(path)
    kept = [path.with_name(f"measurements.sqlite3.kept-{number}").read_bytes() for number in (1, 2, 3)]
    assert kept == [b"damaged 1", b"damaged 2", b"damaged 3"]


def test_an_emptied_file_does_not_take_its_journal_with_it(path: Path, tmp_path: Path) -> None:
    """SQLite deletes the journal of an empty file; what was only in the journal is kept aside instead."""
    with Store(path) as store:
        store.put("curve", KEY, CURVE, wall_s=1)
        wal = path.with_name("measurements.sqlite3-wal")
        if not wal.exists():
            pytest.skip("this file system has no shared memory for a write-ahead log")
        copy = tmp_path / "copy" / path.name
        copy.parent.mkdir()
        shutil.copy(wal, copy.with_name(wal.name))
    copy.write_bytes(b"")
    journal = copy.with_name(wal.name).read_bytes()
    with Store(copy) as store:
        assert store.kept_aside is not None
        assert store.kept_aside.with_name(f"{store.kept_aside.name}-wal").read_bytes() == journal


def test_a_newer_store_is_refused_and_left_as_it_is(path: Path) -> None:
    put_one(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    with pytest.raises(StoreError) as error:
        Store(path)
    after = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    assert after == before
    assert "newer version" in error.value.what
    assert "Update advisor" in error.value.fix


def test_a_newer_store_that_is_open_elsewhere_is_refused_too(path: Path) -> None:
    """Its version may so far be in the write-ahead log only."""
    put_one(path)
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="newer version"):
        Store(path)
    other.close()


def assert_helpful(error: StoreError) -> None:
    assert error.what
    assert error.why
    assert "ADVISOR_DATA_DIR" in error.fix


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as error:
        Store(tmp_path / "file" / "measurements.sqlite3")
    assert_helpful(error.value)


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="permissions do not bind")
def test_a_read_only_directory(path: Path) -> None:
    put_one(path)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        with pytest.raises(StoreError) as error:
            Store(path)
    finally:
        path.parent.chmod(0o755)
    assert_helpful(error.value)


def test_a_store_that_became_read_only_while_open(store: Store) -> None:
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError) as error:
        store.put("curve", KEY, CURVE, wall_s=1)
    assert_helpful(error.value)
    assert "read-only" in error.value.why


def test_a_full_disk_loses_only_what_did_not_fit(store: Store) -> None:
    store.put("curve", KEY, CURVE, wall_s=1)
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    huge = (replace(TRANSCRIPTS[0], text="x" * 1_000_000),)
    with pytest.raises(StoreError) as error:
        store.put("transcripts", KEY, huge, wall_s=1)
    assert_helpful(error.value)
    assert "full" in error.value.why
    assert store.get("curve", KEY, CostCurve) == CURVE
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.put("transcripts", KEY, huge, wall_s=1)
    assert store.get("transcripts", KEY, tuple[Transcript, ...]) == huge


def test_what_does_not_fit_on_a_full_disk_is_kept_until_the_end_and_told_once(path: Path) -> None:
    told: list[StoreError] = []
    with Store(path, on_full=told.append) as store:
        store.put("curve", KEY, CURVE, wall_s=1)
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        huge = (replace(TRANSCRIPTS[0], text="x" * 1_000_000),)
        for number in range(2):
            store.put("transcripts", {**KEY, "number": number}, huge, wall_s=1)
        store.remember("remedy", "x" * 1_000_000)
        assert store.get("transcripts", {**KEY, "number": 1}, tuple[Transcript, ...]) == huge
        assert store.get("curve", KEY, CostCurve) == CURVE
        assert store.recall("remedy") == "x" * 1_000_000
    assert len(told) == 1
    assert "full" in told[0].why
    with Store(path) as again:
        assert again.get("curve", KEY, CostCurve) == CURVE
        assert again.get("transcripts", {**KEY, "number": 1}, tuple[Transcript, ...]) is None


def test_a_store_locked_by_another_program_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_one(path)
    monkeypatch.setattr(store_module, "_BUSY_TIMEOUT_S", 0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        Store(path)
    other.close()


# -- where things are --------------------------------------------------------------------------------------------------


def test_the_data_directory_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / "elsewhere"))
    assert data_dir() == tmp_path / "elsewhere"
    assert measurements_path() == tmp_path / "elsewhere" / "measurements.sqlite3"
    assert not data_dir().exists(), "asking where it is makes nothing"
    monkeypatch.delenv("ADVISOR_DATA_DIR")
    assert data_dir().name == "draft-advisor"
    assert data_dir().is_absolute()


def test_the_last_recommendation_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path))
    recommendation = make_recommendation()
    assert save_last(recommendation) == last_path() == tmp_path / "recommendations" / "last.json"
    assert load_last() == recommendation
    save_last(replace(recommendation, sentence="another one"))
    assert load_last().sentence == "another one"
    assert [file.name for file in (tmp_path / "recommendations").iterdir()] == ["last.json"]


def test_without_a_recommendation_people_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path))
    with pytest.raises(FileProblem, match="advisor recommend"):
        load_last()
    last_path().mkdir(parents=True)
    with pytest.raises(FileProblem):
        load_last()


def test_a_recommendation_that_cannot_be_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(StoreError) as error:
        save_last(make_recommendation())
    assert_helpful(error.value)


def test_remembered_seconds_that_make_no_sense_are_none():
    store = Store.in_memory()
    for text, seconds in {"12.5": 12.5, "": 0.0, "soon": 0.0, "nan": 0.0, "inf": 0.0, "-3": 0.0}.items():
        store.remember("spent", text)
        assert store.recall_seconds("spent") == seconds
    assert store.recall_seconds("never") == 0.0
