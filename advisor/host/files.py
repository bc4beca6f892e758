"""Two file operations that survive crashes and other processes: replace a file whole, and hold a lock.

This module knows nothing about what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from advisor.errors import StoreError


class LockHeld(StoreError):
    """Another process has it."""


HOST_LOCK_NAME = "draft-advisor-timing.lock"
_POLL_S = 0.1
_LOCKED_BYTE = 1 << 30  # far behind the text: Windows forbids others to read a locked byte
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)


def write_atomically(path: Path, content: bytes) -> None:
    """A reader finds the old content or the new, never a part. Raises OSError; the old content then stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def host_lock_path() -> Path:
    """The timing lock of this machine: the same for every store and every user that shares the temporary folder.

    On macOS and Windows, in containers and under systemd's PrivateTmp that is not every user. ADVISOR_LOCK_DIR
    overrides the folder.
    """
    return Path(os.environ.get("ADVISOR_LOCK_DIR") or tempfile.gettempdir()) / HOST_LOCK_NAME


@contextmanager
def timing_lock(
    path: Path,
    *,
    timeout_s: float = 3600.0,
    waiting: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Held by one process of this machine at a time, so that no two timings disturb each other.

    The operating system owns the lock and frees it when its holder dies, however it dies; the file itself means
    nothing and stays. ``waiting`` gets one sentence when the lock is not free at once. Not reentrant: a second
    timing_lock on the same path waits for the first even within one process. Raises LockHeld when the lock is
    still held after ``timeout_s``, StoreError when the file cannot be locked at all.
    """
    with _opened(path) as descriptor:
        _acquire(descriptor, path, timeout_s, waiting, clock, sleep)
        try:
            _write_holder(descriptor, str(os.getpid()))
            yield
        finally:
            _write_holder(descriptor, "")
            _unlock(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_to_lock(path)
    except OSError as error:
        raise _not_lockable(path, error) from error
    try:
        if os.fstat(descriptor).st_nlink > 1:  # another name of somebody's file, which must not be written to
            raise _not_lockable(path, OSError(errno.EMLINK, os.strerror(errno.EMLINK)))
        yield descriptor
    finally:
        os.close(descriptor)


def _open_to_lock(path: Path) -> int:
    """Never through a symbolic link. A file of another user is opened to be read, which is enough to lock it."""
    no_links = getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | no_links, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY | no_links)
    if os.name != "nt":
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o644)  # whatever the umask: others wait for this lock as well
    return descriptor


def _acquire(
    descriptor: int,
    path: Path,
    timeout_s: float,
    waiting: Callable[[str], None] | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    deadline = clock() + timeout_s
    told = False
    while not _try_lock(descriptor, path):
        holder = _read_holder(descriptor)
        if clock() >= deadline:
            raise LockHeld(
                f"Another advisor ({holder}) is measuring on this machine.",
                why=f"Two timings at once would disturb each other, and it has not finished within {timeout_s:.0f} s.",
                fix="Wait until it has finished, or stop it, and run again.",
            )
        if waiting is not None and not told:
            waiting(
                f"Another advisor ({holder}) is measuring on this machine; waiting for it, {timeout_s:.0f} s at most."
            )
            told = True
        sleep(_POLL_S)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        _lock_now(descriptor)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise _not_lockable(path, error) from error
    return True


def _not_lockable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The lock that keeps timings apart cannot be taken: {path}",
        why=f"The system says: {error.strerror or error}.",
        fix="Set ADVISOR_LOCK_DIR (timings) or ADVISOR_DATA_DIR (the store) to a writable directory on a local disk.",
    )


def _write_holder(descriptor: int, holder: str) -> None:
    """Only for the sentence that another process shows, so failing (a full disk) does not matter."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, holder.encode())


def _read_holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = os.read(descriptor, 20).decode(errors="replace")
        if holder.isdigit():
            return f"process {holder}"
    return "another process"


if sys.platform == "win32":
    import msvcrt

    def _lock_now(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock_now(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
