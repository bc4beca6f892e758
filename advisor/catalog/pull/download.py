"""Downloads the files of a plan, each whole and as the hub listed it, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from advisor.catalog.pull.failures import hub_errors, library, status_of, transport_error
from advisor.catalog.pull.meter import Meter, amount
from advisor.catalog.pull.places import (
    RECORD,
    Place,
    link,
    nearest_folder,
    note_pulled,
    place_of,
    recorded_digest,
    remember_main,
    size_of,
)
from advisor.catalog.pull.plan import PullFile, PullPlan
from advisor.errors import FileProblem, HubError
from advisor.progress import Progress, Silent

TIMEOUT_S = 30.0
MAX_FRUITLESS_TRIES = 5
BLOCK_BYTES = 1 << 20

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True)
class LocalPull:
    """The files on disk, in the order of their parts."""

    paths: tuple[Path, ...]
    revision: str


def pull(
    plan: PullPlan,
    folder: Path | None = None,
    progress: Progress | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LocalPull:
    """Download the files of a plan into ``folder``, or into the Hugging Face cache; what is there already stays.

    ``timeout_s`` is how long the hub may be silent. Every file has the size and the SHA-256 that the hub listed, else
    it is removed and HubError raised. On any other failure, Ctrl-C included, the part that arrived stays and the next
    pull goes on from it. Raises HubError, and FileProblem when the disk is full or cannot be written.
    """
    meter = Meter(plan, progress or Silent(), clock)
    paths = []
    for file in plan.files:
        place = place_of(plan, file, folder)
        with hub_errors(plan.repo, plan.endpoint), disk_errors(plan, place):
            _pull_one(_Transfer(plan, file, place, meter, timeout_s, sleep))
            if folder is None:
                link(place)
            else:
                note_pulled(place.path.parent / RECORD, plan, file)
        paths.append(place.path)
    if folder is None:
        remember_main(plan)
    return LocalPull(tuple(paths), plan.revision)


@dataclass(frozen=True)
class _Transfer:
    """One file on its way."""

    plan: PullPlan
    file: PullFile
    place: Place
    meter: Meter
    timeout_s: float
    sleep: Callable[[float], None]


def _pull_one(transfer: _Transfer) -> None:
    place = transfer.place
    place.content.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.partial):
        if _is_there(transfer):
            transfer.meter.add(transfer.file.size_bytes, downloaded=False)
            return
        with place.partial.open("a+b") as partial:
            content = _Content(partial)
            if content.size > transfer.file.size_bytes:
                content.clear()
            transfer.meter.add(content.size, downloaded=False)
            _fetch(transfer, content)
        try:
            _check(transfer, content)
        except HubError:
            place.partial.unlink(missing_ok=True)
            raise
        place.partial.replace(place.content)


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Two pulls of the same file: the second waits for the first, and finds the file there."""
    lock = partial.with_name(f"{partial.name}.lock")
    with library().utils.WeakFileLock(lock):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that somebody waits for
                lock.unlink()


def _is_there(transfer: _Transfer) -> bool:
    """Whether the content is on disk already. A file nobody recorded as pulled is read and compared."""
    file, place = transfer.file, transfer.place
    for path in dict.fromkeys((place.content, place.path)):
        if not path.is_file() or size_of(path) != file.size_bytes:
            continue
        named_by_digest = path.name == file.sha256
        if named_by_digest or not file.sha256 or recorded_digest(path) == file.sha256:
            return True
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() == file.sha256:
                return True
    return False


class _Content:
    """A partial file being appended to, and the digest of all that it holds."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size, self._digest = 0, hashlib.sha256()
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            self._count(block)

    def append(self, block: bytes) -> None:
        self._file.write(block)
        self._count(block)

    def _count(self, block: bytes) -> None:
        self._digest.update(block)
        self.size += len(block)

    def clear(self) -> None:
        self._file.truncate(0)
        self.size, self._digest = 0, hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _fetch(transfer: _Transfer, content: _Content) -> None:
    """Download what is missing. A broken connection is tried again from where it broke, until several tries in a row
    have brought nothing."""
    fruitless = 0
    while content.size < transfer.file.size_bytes:
        before = content.size
        try:
            _stream(transfer, content)
            return
        except transport_error() as error:
            if status_of(error) is not None:
                raise  # an answer, not a broken connection
            fruitless = 0 if content.size > before else fruitless + 1
            if fruitless >= MAX_FRUITLESS_TRIES:
                raise
            transfer.sleep(min(1.0 * 2**fruitless, 10.0))


def _stream(transfer: _Transfer, content: _Content) -> None:
    """One request for the bytes that are missing."""
    plan, file, hub = transfer.plan, transfer.file, library()
    url = hub.hf_hub_url(plan.repo, file.path, revision=plan.revision, endpoint=plan.endpoint)
    headers = {**hub.utils.build_hf_headers(), "Accept-Encoding": "identity"}
    if content.size:
        headers["Range"] = f"bytes={content.size}-"
    with hub.utils.get_session().stream("GET", url, headers=headers, timeout=transfer.timeout_s) as response:
        hub.utils.hf_raise_for_status(response)
        if content.size and response.status_code != 206:  # the server sends all of it again
            transfer.meter.add(-content.size, downloaded=False)
            content.clear()
        for block in response.iter_bytes(BLOCK_BYTES):
            content.append(block)
            transfer.meter.add(len(block))


def _check(transfer: _Transfer, content: _Content) -> None:
    file = transfer.file
    fix = "Run the same command again; if it happens again, the file on the hub is broken."
    if content.size != file.size_bytes:
        raise HubError(
            f"{file.path} is not what the hub lists: {content.size} bytes arrived, {file.size_bytes} were expected.",
            why="The download was removed.",
            fix=fix,
        )
    if file.sha256 and content.sha256 != file.sha256:
        raise HubError(
            f"{file.path} arrived damaged: its SHA-256 is not the one the hub lists.",
            why="The download was removed.",
            fix=fix,
        )


@contextmanager
def disk_errors(plan: PullPlan, place: Place) -> Iterator[None]:
    """What the disk can refuse while files are written, as FileProblem."""
    try:
        yield
    except OSError as error:
        if status_of(error) is not None:
            raise
        if error.errno in _DISK_FULL:
            folder = nearest_folder(place.content.parent)
            raise FileProblem(
                f"The disk is full: {folder} took {amount(size_of(place.partial))} of {place.path.name}.",
                why=f"The whole download needs {amount(plan.total_bytes)}.",
                fix="Free some space and run the same command again: it goes on from there.",
            ) from error
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise FileProblem(
                f"{error.filename or place.partial} cannot be written.",
                why=f"{error.strerror or error}.",
                fix="Choose another folder with --models-dir or HF_HOME.",
            ) from error
        raise
