"""The lock between processes, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from advisor.errors import StoreError
from advisor.host.files import host_lock_path, timing_lock, write_atomically

HOLDER = """
import sys
import tempfile
from pathlib import Path
from advisor.host.files import timing_lock
with timing_lock(Path(sys.argv[1]), timeout_s=30):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""
COUNTER = """
import sys
import tempfile
from pathlib import Path
from advisor.host.files import timing_lock
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(40):
    with timing_lock(lock, timeout_s=60, sleep=lambda seconds: None):
        number.write_text(str(int(number.read_text()) + 1))
"""


@contextmanager
def another_process_holds(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        try:
            yield holder
        finally:
            holder.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "timing.lock"


def test_a_held_lock_is_waited_for_with_one_sentence(path: Path) -> None:
    heard: list[str] = []
    with another_process_holds(path) as holder:

        def let_go(seconds: float) -> None:
            """Stands in for waiting: the other process finishes meanwhile."""
            if holder.poll() is None:
                holder.communicate("\n")

        with timing_lock(path, timeout_s=60, waiting=heard.append, sleep=let_go):
            pass
    assert len(heard) == 1
    assert f"process {holder.pid}" in heard[0]


def test_a_lock_held_too_long_is_an_error_for_people(path: Path) -> None:
    with (
        another_process_holds(path) as holder,
        pytest.raises(StoreError) as error,
        timing_lock(path, timeout_s=0),
    ):
        pass
    assert f"process {holder.pid}" in error.value.what
    assert error.value.why
    assert error.value.fix


def test_a_killed_holder_frees_it_at_once(path: Path) -> None:
    heard: list[str] = []
    with another_process_holds(path) as holder:
        holder.kill()
        holder.wait()
        with timing_lock(path, timeout_s=0, waiting=heard.append):
            pass
    assert heard == []


def test_it_is_free_again_after_use_and_after_an_error(path: Path) -> None:
    with pytest.raises(RuntimeError), timing_lock(path, timeout_s=0):
        raise RuntimeError
    with timing_lock(path, timeout_s=0):
        pass


def test_a_second_holder_in_the_same_process_waits_as_well(path: Path) -> None:
    with timing_lock(path, timeout_s=0), pytest.raises(StoreError), timing_lock(path, timeout_s=0):
        pass


def test_two_processes_never_hold_it_together(path: Path, tmp_path: Path) -> None:
    """Unprotected, reading a number and writing it back plus one would lose counts."""
    number = tmp_path / "number"
    number.write_text("0")
    counters = [subprocess.Popen([sys.executable, "-c", COUNTER, str(path), str(number)]) for _ in range(2)]
    assert [counter.wait() for counter in counters] == [0, 0]
    assert number.read_text() == "80"


def test_a_path_that_cannot_be_locked_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="ADVISOR_DATA_DIR"), timing_lock(tmp_path / "file" / "lock", timeout_s=0):
        pass


def test_writing_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_atomically(path, b"long content")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_one_lock_for_every_store_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = set()
    for store in ("one", "other"):
        monkeypatch.setenv("ADVISOR_DATA_DIR", str(tmp_path / store))
        paths.add(host_lock_path())
    assert paths == {tmp_path / "draft-advisor-timing.lock"}
    monkeypatch.delenv("ADVISOR_LOCK_DIR")
    assert host_lock_path().parent == Path(tempfile.gettempdir())


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_lock_that_is_a_link_to_a_file_of_the_user_is_refused(tmp_path: Path, link: Callable[..., None]) -> None:
    precious, path = tmp_path / "precious", tmp_path / "lock"
    precious.write_text("content")
    link(path, precious)
    with pytest.raises(StoreError), timing_lock(path, timeout_s=0):
        pass
    assert precious.read_text() == "content"
