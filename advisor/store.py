"""Measurements on disk: what was paid for once is never measured again.

One SQLite file holds records by (kind, key) and small named texts (remedies, plans); beside it lies the last
recommendation. Each put is one committed transaction, so a process killed at any moment loses nothing it reported.
A file this version cannot read is never overwritten: a damaged one is kept aside, a newer one is not touched.

This module knows nothing about what the records mean. It is one, though long: most of it is what may have become of the
one file between two openings, and each part of that relies on the order of the others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from advisor.errors import FileProblem, StoreError
from advisor.host.files import timing_lock, write_atomically
from advisor.paths import expanded
from advisor.types import Recommendation, from_json, to_json

__all__ = [
    "SCHEMA_VERSION",
    "Store",
    "canonical_key",
    "data_dir",
    "kept_in",
    "last_path",
    "load_last",
    "measurements_path",
    "save_last",
]

R = TypeVar("R")

SCHEMA_VERSION = 1  # 1: measurement, remembered
_TABLES = """
CREATE TABLE measurement (
    kind TEXT NOT NULL, key_hash TEXT NOT NULL, key_json TEXT NOT NULL, value_json TEXT NOT NULL,
    wall_s REAL NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (kind, key_hash));
CREATE TABLE remembered (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_COLUMNS_CHECK = (
    "SELECT kind, key_hash, key_json, value_json, wall_s, created_at FROM measurement LIMIT 0",
    "SELECT name, value FROM remembered LIMIT 0",
)
_IN_MEMORY = Path(":memory:")
_PARTS = ("", "-wal", "-shm", "-journal")  # the files that SQLite makes of one store
_BUSY_TIMEOUT_S = 30.0
_FILE_HEADER = b"SQLite format 3\0"
_VERSION_BYTES = slice(60, 64)  # where the file format keeps user_version, big-endian
_LARGEST_EXACT_FLOAT = 2.0**53


class _DamagedError(Exception):
    """The file is there and is not a store."""


_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """While this is open, everything is kept in ``folder``, and read from there; None changes nothing."""
    token = _FOLDER.set(folder if folder is not None else _FOLDER.get())
    try:
        yield
    finally:
        _FOLDER.reset(token)


def data_dir() -> Path:
    """Where measurements live: the folder of ``kept_in``, else ADVISOR_DATA_DIR, else the platform's own place."""
    if (chosen := _FOLDER.get()) is not None:
        return chosen
    override = os.environ.get("ADVISOR_DATA_DIR")
    if override:
        return expanded(override)
    import platformdirs

    return Path(platformdirs.user_data_dir("draft-advisor", appauthor=False))


def measurements_path() -> Path:
    return data_dir() / "measurements.sqlite3"


def last_path() -> Path:
    return data_dir() / "recommendations" / "last.json"


def save_last(recommendation: Recommendation) -> Path:
    """Keeps ``recommendation`` as the last one, for explain and export. Raises StoreError."""
    path = last_path()
    with _explained(path, "written"):
        write_atomically(path, to_json(recommendation))
    return path


def has_last() -> bool:
    """Whether a recommendation was ever kept, readable or not."""
    try:
        return last_path().exists()
    except OSError:  # nobody knows: load_last says what the matter is
        return True


def load_last() -> Recommendation:
    """What save_last kept. Raises FileProblem where there is none, or where it is not one."""
    path = last_path()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileProblem(
            "There is no recommendation yet.",
            why=f"{path} does not exist.",
            fix="Run `advisor recommend` first, or name the file of a saved recommendation.",
        ) from None
    except OSError as error:
        raise FileProblem(
            "The last recommendation cannot be read.",
            why=f"{path}: {error.strerror}.",
            fix="Run `advisor recommend` again, or name the file of a saved recommendation.",
        ) from error
    return from_json(Recommendation, content)


def canonical_key(key: Mapping[str, object]) -> str:
    """One text for all keys that mean the same: sorted names, tuples as lists, records as their fields, 1.0 as 1.

    TypeError or ValueError for what has no such text (a set, a NaN, a name that is not a string).
    """
    return json.dumps(_plain(key), sort_keys=True, separators=(",", ":"), allow_nan=False)


class Store:
    """Records by (kind, key). Usable from several threads and several processes at once.

    ``kept_aside`` is the file that a damaged store was renamed to when this one was opened, else None.
    A method raises StoreError when the file cannot be read or written. With ``on_full`` a write does not: that is told
    once, and what cannot be written is kept in memory until the store is closed.
    """

    def __init__(self, path: Path, *, on_full: Callable[[StoreError], None] | None = None) -> None:
        self.path = path
        self._on_full = on_full
        self._overflow: Store | None = None
        self._mutex = threading.RLock()
        self._connection, self.kept_aside = _open(path)
        self._only_own = False
        self._own: set[tuple[str, str]] = set()

    @classmethod
    def in_memory(cls) -> Store:
        """A store that forgets everything when it is closed."""
        return cls(_IN_MEMORY)

    @property
    def on_disk(self) -> bool:
        return self.path != _IN_MEMORY

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._mutex:
            self._connection.close()

    def get(self, kind: str, key: Mapping[str, object], record_type: type[R]) -> R | None:
        """The record put under this key; None where there is none, or one of a shape that is no longer known."""
        kept = self._overflow.get(kind, key, record_type) if self._overflow else None
        rows = self._rows("CAST(value_json AS BLOB)", (kind, _hash(key))) if kept is None else []
        if not rows:
            return kept
        try:
            return from_json(record_type, rows[0][0])
        except FileProblem:
            return None  # damaged, or of a version whose records looked different: measured again, then replaced

    def put(self, kind: str, key: Mapping[str, object], record: object, *, wall_s: float) -> None:
        """Keeps ``record``, in place of one with the same key. ``wall_s``: seconds that measuring it took."""
        row = (kind, _hash(key), canonical_key(key), to_json(record).decode(), wall_s, _now())
        if self._write_or_keep("INSERT OR REPLACE INTO measurement VALUES (?, ?, ?, ?, ?, ?)", row) and self._overflow:
            self._overflow._forget((kind, _hash(key)))
        self._own.add((kind, _hash(key)))

    def forget(self, kind: str, key: Mapping[str, object]) -> None:
        self._forget((kind, _hash(key)))

    def _forget(self, kind_hash: tuple[str, str]) -> None:
        if self._overflow is not None:
            self._overflow._forget(kind_hash)
        self._write("DELETE FROM measurement WHERE kind = ? AND key_hash = ?", kind_hash)
        self._own.discard(kind_hash)

    def mark(self) -> frozenset[tuple[str, str]]:
        """What this object has put so far, for ``forget_since``."""
        return frozenset(self._own)

    def forget_since(self, mark: frozenset[tuple[str, str]]) -> None:
        """Drop what this object put after the ``mark``."""
        for kind_hash in self._own - mark:
            self._forget(kind_hash)

    def spent_s(self, kind_keys: Iterable[tuple[str, Mapping[str, object]]]) -> float:
        """Seconds that measuring these records took; what is not stored counts nothing, and nothing counts twice."""
        wanted = {(kind, _hash(key)) for kind, key in kind_keys}
        return math.fsum(row[0] for kind_hash in wanted for row in self._rows("wall_s", kind_hash))

    def ignore_earlier(self) -> None:
        """From now on only records that this object put are found, so that everything is measured afresh.

        The others stay in the file until they are replaced. What was remembered is no measurement, and stays known.
        """
        self._only_own = True

    def remember(self, name: str, value: str) -> None:
        """Keeps a small text under a name, in place of an earlier one."""
        if self._write_or_keep("INSERT OR REPLACE INTO remembered VALUES (?, ?)", (name, value)) and self._overflow:
            self._overflow._write("DELETE FROM remembered WHERE name = ?", (name,))

    def recall(self, name: str) -> str | None:
        kept = self._overflow.recall(name) if self._overflow else None
        if kept is not None:
            return kept
        rows = self._select("SELECT CAST(value AS BLOB) FROM remembered WHERE name = ?", (name,))
        try:
            return bytes(rows[0][0]).decode() if rows else None
        except UnicodeDecodeError:
            return None  # damaged: found out and remembered again

    def recall_seconds(self, name: str) -> float:
        """0 where nothing, or nothing that makes sense, is remembered."""
        try:
            seconds = float(self.recall(name) or 0)
        except ValueError:
            return 0.0
        return seconds if 0 <= seconds < math.inf else 0.0

    def _rows(self, column: str, kind_hash: tuple[str, str]) -> list[Any]:
        if self._only_own and kind_hash not in self._own:
            return []
        query = f"SELECT {column} FROM measurement WHERE kind = ? AND key_hash = ?"  # a name from this class  # nosec B608
        return self._select(query, kind_hash)

    def _select(self, query: str, values: tuple[object, ...]) -> list[Any]:
        with self._mutex, _explained(self.path, "read"):
            return self._connection.execute(query, values).fetchall()

    def _write_or_keep(self, statement: str, values: tuple[object, ...]) -> bool:
        """Whether it is in the file; else it is in memory."""
        try:
            self._write(statement, values)
            return True
        except StoreError as error:
            if self._on_full is None:
                raise
            if self._overflow is None:
                self._overflow = Store.in_memory()
                self._on_full(error)
            self._overflow._write(statement, values)
            return False

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        with self._mutex, _explained(self.path, "written"), _transaction(self._connection):
            self._connection.execute(statement, values)


def _open(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """A ready connection, and where a damaged file went."""
    if path == _IN_MEMORY:
        return _connect(path), None
    with _explained(path, "opened"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path), None
        except _DamagedError:
            return _open_after_keeping_aside(path)


def _open_after_keeping_aside(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Locked, and looked at again: another process may just have put a good file in place of the damaged one."""
    with timing_lock(path.with_name(f"{path.name}.lock"), timeout_s=_BUSY_TIMEOUT_S):
        try:
            return _connect(path), None
        except _DamagedError:
            kept = _keep_aside(path)
        return _connect(path), kept


def _keep_aside(path: Path) -> Path:
    """Renames the file and its journals, so that they still belong together, to a name that nothing has."""
    names = (f"{path.name}.kept-{number}" for number in itertools.count(1))
    kept = next(name for name in names if not any(path.with_name(name + part).exists() for part in _PARTS))
    for part in _PARTS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + part).rename(path.with_name(kept + part))
    return path.with_name(kept)


def _connect(path: Path) -> sqlite3.Connection:
    """Raises _DamagedError, StoreError (a newer file, which is then as it was), sqlite3.Error or OSError."""
    if path != _IN_MEMORY:
        _check_unopened(path)
        if not path.exists():
            path.touch(mode=0o600)  # the answers to the user's own prompts are in it; SQLite's journals follow
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _DamagedError from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check_unopened(path: Path) -> None:
    """What can be told without SQLite, which may write to a file merely by opening it."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        header = b""
    wal = path.with_name(f"{path.name}-wal")
    if not header and wal.exists() and wal.stat().st_size:
        raise _DamagedError  # SQLite would delete a journal whose file was emptied or lost
    if header and not header.startswith(_FILE_HEADER):
        raise _DamagedError
    _refuse_newer(int.from_bytes(header[_VERSION_BYTES], "big"), path)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _refuse_newer(_version(connection), path)
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok" or _is_foreign(connection):
        raise _DamagedError
    # Without shared memory (network drives) or while another process switches, the old journal does as well.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    with _transaction(connection):
        _ensure_tables(connection, path)


def _ensure_tables(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)  # again: another process may have made the tables by now
    _refuse_newer(version, path)
    if version == 0:
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
    try:
        for statement in _COLUMNS_CHECK:
            connection.execute(statement)
    except sqlite3.OperationalError as error:
        if _code(error) == sqlite3.SQLITE_ERROR:  # no such table or column
            raise _DamagedError from error
        raise
    # Written each time: on a read-only file BEGIN IMMEDIATE succeeds, and the first put would fail after an hour.
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _is_foreign(connection: sqlite3.Connection) -> bool:
    """Another program's database: tables, but no version. One query, because a store may just be in the making."""
    query = "SELECT user_version = 0 AND EXISTS (SELECT 1 FROM sqlite_master) FROM pragma_user_version"
    return bool(connection.execute(query).fetchone()[0])


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_newer(version: int, path: Path) -> None:
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The measurements in {path} were written by a newer version of advisor.",
            why=f"They have schema {version}; this version knows schemas up to {SCHEMA_VERSION}.",
            fix="Update advisor, or set ADVISOR_DATA_DIR to another directory. The file was left as it is.",
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself after some errors (a full disk)
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    """Turns what the system says into a sentence for people."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        why, fix = _reason(error)
        raise StoreError(f"{path} cannot be {verb}.", why=why, fix=fix) from error


def _reason(error: sqlite3.Error | OSError) -> tuple[str, str]:
    elsewhere = "set ADVISOR_DATA_DIR to a directory that can be written."
    if isinstance(error, OSError):
        return f"The system says: {error.strerror or error}.", f"Change that, or {elsewhere}"
    code = _code(error)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return "The file or its directory is read-only.", f"Change its permissions, or {elsewhere}"
    if code == sqlite3.SQLITE_FULL:
        return "The disk, or your share of it, is full.", f"Free some space, or {elsewhere}"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"Another process has kept it locked for {_BUSY_TIMEOUT_S:.0f} s.", "End that process and run again."
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "The file was damaged while it was open.", "Run again: the file is then kept aside and a new one begun."
    return f"SQLite says: {error}.", f"Check the disk, or {elsewhere}"


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _hash(key: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical_key(key).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("the names in a key must be strings")
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT_FLOAT:
        return int(value)
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
