"""Downloads one quantization of a catalogue model: first a plan with sizes, then the files.

    plan = plan_pull(entry, "Q4_K_M", entry.repositories[0])     # one request, nothing downloaded
    check_disk(plan)                                            # FileProblem when it cannot fit
    pulled = pull(plan, progress=progress)

Files go to the Hugging Face cache, where llama.cpp and other programs find them, or to a folder as
<owner>/<repository>/<file>, which is LM Studio's layout. A download that stops leaves ``<file>.<digest>.incomplete``
beside its final place; the next pull of the same content goes on from there. huggingface_hub talks to the hub, but
its own downloader is not used: that of recent versions deletes what it has when it is interrupted.

This module knows nothing about what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from advisor.catalog.local import hub_cache
from advisor.catalog.records import Entry, Repository
from advisor.errors import AdvisorError, FileProblem, HubError, OptionError
from advisor.progress import Progress, Silent

DEFAULT_ENDPOINT = "https://huggingface.co"
RECORD = "pulled.json"
TIMEOUT_S = 30.0
MAX_FRUITLESS_TRIES = 5
BLOCK_BYTES = 1 << 20
RATE_WINDOW_S = 10.0
PROGRESS_STEPS = 100

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
_QUANT = r"(?P<quant>(?:UD-)?[A-Za-z0-9_]+)"


@dataclass(frozen=True)
class PullFile:
    """A file of a repository. ``path`` is its place there; ``sha256`` is "" when the hub does not tell it."""

    path: str
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class PullPlan:
    """What to download. ``revision`` is the commit that was listed, so that all files are of one version."""

    repo: str
    revision: str
    quant: str
    files: tuple[PullFile, ...]
    endpoint: str = DEFAULT_ENDPOINT

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class LocalPull:
    """The files on disk, in the order of their parts."""

    paths: tuple[Path, ...]
    revision: str


# -- planning --------------------------------------------------------------------------------------------------------


def plan_pull(entry: Entry, quant: str, repository: Repository, *, endpoint: str | None = None) -> PullPlan:
    """The files of a quantization, with sizes, from one listing of the repository.

    ``endpoint`` is by default HF_ENDPOINT, else the public hub. Raises OptionError naming the quantizations that there
    are when this one is not, HubError when the hub cannot be asked.
    """
    endpoint = _endpoint(endpoint)
    revision, files = _list_repository(repository.repo, endpoint)
    offered = _by_quant(files, repository.file)
    chosen = next((found for name in _spellings(repository, quant) if (found := _named(files, offered, name))), ())
    if not chosen:
        raise OptionError(
            f"{repository.repo} has no file of {entry.name} in {quant}.",
            why=f"It has {', '.join(sorted(offered)) or 'no files that look like ' + repository.file}.",
            fix="Ask for one of these." if offered else "Choose another repository.",
        )
    return PullPlan(repository.repo, revision, quant, chosen, endpoint)


def _spellings(repository: Repository, quant: str) -> Iterator[str]:
    """What the quantization may be called in file names: as the catalogue says (F16 as "fp16"), or as it is."""
    yield from (spelled for name, spelled in repository.spelled.items() if name.upper() == quant.upper())
    yield quant


def _named(files: Iterable[PullFile], offered: Mapping[str, tuple[PullFile, ...]], name: str) -> tuple[PullFile, ...]:
    return offered.get(name.upper()) or _by_suffix(files, name)


def _endpoint(endpoint: str | None) -> str:
    # Read here: huggingface_hub reads the variable once, when it is imported.
    return (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def _list_repository(repo: str, endpoint: str) -> tuple[str, tuple[PullFile, ...]]:
    """The commit and the files of a repository's main revision."""
    with _hub_errors(repo, endpoint):
        info = _library().HfApi(endpoint=endpoint).model_info(repo, files_metadata=True, timeout=TIMEOUT_S)
    if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):  # it becomes the name of a folder
        raise HubError(f"{endpoint} did not say which version of {repo} it has.", fix="Check HF_ENDPOINT.")
    return info.sha, tuple(_pull_file(one, repo) for one in info.siblings or ())


def _pull_file(sibling: Any, repo: str) -> PullFile:
    path = PurePosixPath(sibling.rfilename)
    if path.is_absolute() or ".." in path.parts or "\\" in sibling.rfilename or ":" in sibling.rfilename:
        raise HubError(f"{repo} lists a file with an unsafe name: {sibling.rfilename}", fix="Do not use it.")
    sha256 = sibling.lfs.sha256 if sibling.lfs else ""
    return PullFile(sibling.rfilename, sibling.size or 0, sha256 if re.fullmatch("[0-9a-f]{64}", sha256) else "")


def _by_quant(files: Iterable[PullFile], pattern: str) -> dict[str, tuple[PullFile, ...]]:
    """The files whose name fits ``pattern``, by quantization in capitals; incomplete split sets are left out."""
    expression = _expression(pattern)
    names: dict[str, list[PullFile]] = {}
    for file in _model_files(files):
        match = expression.fullmatch(_stem(file.path))
        if match is not None:
            names.setdefault(match["quant"].upper(), []).append(file)
    sets = ((quant, _one_set(listed)) for quant, listed in names.items())
    return {quant: chosen for quant, chosen in sets if chosen}


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern of the catalogue as one for file names; a second {quant} must be the same as the first."""
    first, *others = (re.escape(part) for part in _stem(pattern).split("{quant}"))
    expression = first + "(?P=quant)".join([_QUANT + others[0], *others[1:]]) if others else first + "-" + _QUANT
    return re.compile(expression, re.IGNORECASE)


def _by_suffix(files: Iterable[PullFile], quant: str) -> tuple[PullFile, ...]:
    """For a repository that names its files otherwise: those whose name ends with the quantization."""
    ending = re.compile(rf".+[-._]{re.escape(quant)}", re.IGNORECASE)
    listed = [file for file in _model_files(files) if ending.fullmatch(_stem(file.path))]
    return _one_set(listed) if len({_stem(file.path).lower() for file in listed}) == 1 else ()


def _model_files(files: Iterable[PullFile]) -> Iterator[PullFile]:
    for file in files:
        name = PurePosixPath(file.path).name.lower()
        if name.endswith(".gguf") and "mmproj" not in name:
            yield file


def _stem(path: str) -> str:
    """The name without folder, extension and part number."""
    name = re.sub(r"\.gguf$", "", PurePosixPath(path).name, flags=re.IGNORECASE)
    split = _SPLIT.fullmatch(name)
    return split["stem"] if split else name


def _one_set(files: Sequence[PullFile]) -> tuple[PullFile, ...]:
    """A whole file when there is one, else all the parts of a split one, in order; nothing when parts are missing."""
    whole = [file for file in files if not _SPLIT.fullmatch(file.path[: -len(".gguf")])]
    if whole:
        return (min(whole, key=lambda file: (file.path.count("/"), file.path)),)
    parts: dict[tuple[str, int], dict[int, PullFile]] = {}
    for file in files:
        split = _SPLIT.fullmatch(file.path[: -len(".gguf")])
        if split is not None:
            parts.setdefault((split["stem"], int(split["count"])), {})[int(split["number"])] = file
    complete = [(key, found) for key, found in parts.items() if sorted(found) == list(range(1, key[1] + 1))]
    if not complete:
        return ()
    _key, found = min(complete, key=lambda one: one[0])
    return tuple(found[number] for number in sorted(found))


# -- where files go --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where one file goes: ``partial`` while it is being downloaded, then ``content``. ``path`` is what people use; in
    the Hugging Face cache it is a link to the content."""

    path: Path
    content: Path
    partial: Path


def _place(plan: PullPlan, file: PullFile, folder: Path | None) -> _Place:
    version = (file.sha256 or plan.revision)[:12]
    if folder is not None:
        path = folder.joinpath(*plan.repo.split("/"), PurePosixPath(file.path).name)
        return _Place(path, path, path.with_name(f"{path.name}.{version}.incomplete"))
    path = _cached_repository(plan).joinpath("snapshots", plan.revision, *PurePosixPath(file.path).parts)
    if not file.sha256:  # the cache names content by its digest
        return _Place(path, path, path.with_name(f"{path.name}.{version}.incomplete"))
    blob = _cached_repository(plan) / "blobs" / file.sha256
    return _Place(path, blob, blob.with_name(f"{blob.name}.advisor.incomplete"))


def _cached_repository(plan: PullPlan) -> Path:
    return hub_cache(os.environ, Path.home()) / f"models--{plan.repo.replace('/', '--')}"


def check_disk(plan: PullPlan, folder: Path | None = None) -> None:
    """FileProblem when what is still to be downloaded does not fit on the disk of ``folder`` (None: the cache)."""
    needed, free = missing_bytes(plan, folder), free_bytes(plan, folder)
    if free is not None and needed > free:
        raise _disk_full(plan, needed, free, _disk_of(plan, folder))


def missing_bytes(plan: PullPlan, folder: Path | None = None) -> int:
    """What is still to be downloaded: nothing of files that are there, the rest of files that were begun."""
    return sum(_missing_bytes(file, _place(plan, file, folder)) for file in plan.files)


def free_bytes(plan: PullPlan, folder: Path | None = None) -> int | None:
    """Room on the disk that the files go to, None where the file system does not say, as some on the network."""
    try:
        return shutil.disk_usage(_disk_of(plan, folder)).free
    except OSError:
        return None


def _disk_of(plan: PullPlan, folder: Path | None) -> Path:
    return _existing(_place(plan, plan.files[0], folder).content.parent)


def _missing_bytes(file: PullFile, place: _Place) -> int:
    if _size(place.path) == file.size_bytes or _size(place.content) == file.size_bytes:
        return 0
    return max(0, file.size_bytes - _size(place.partial))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _existing(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.is_dir()), folder)


def _disk_full(plan: PullPlan, needed: int, free: int, where: Path) -> FileProblem:
    return FileProblem(
        f"{plan.repo} {plan.quant} does not fit on the disk: it needs {_amount(needed)}, {_amount(free)} are free.",
        why=f"It would go to {where}.",
        fix="Free some space, or choose another folder with --models-dir or HF_HOME, or a smaller quantization.",
    )


# -- downloading -----------------------------------------------------------------------------------------------------


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
    meter = _Meter(plan, progress or Silent(), clock)
    paths = []
    for file in plan.files:
        place = _place(plan, file, folder)
        with _hub_errors(plan.repo, plan.endpoint), _disk_errors(plan, place):
            _pull_one(_Transfer(plan, file, place, meter, timeout_s, sleep))
            if folder is None:
                _link(place)
            else:
                _record(place.path.parent / RECORD, plan, file)
        paths.append(place.path)
    if folder is None:
        _remember_main(plan)
    return LocalPull(tuple(paths), plan.revision)


@dataclass(frozen=True)
class _Transfer:
    """One file on its way."""

    plan: PullPlan
    file: PullFile
    place: _Place
    meter: _Meter
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
    with _library().utils.WeakFileLock(lock):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that somebody waits for
                lock.unlink()


def _is_there(transfer: _Transfer) -> bool:
    """Whether the content is on disk already. A file nobody recorded as pulled is read and compared."""
    file, place = transfer.file, transfer.place
    for path in dict.fromkeys((place.content, place.path)):
        if not path.is_file() or _size(path) != file.size_bytes:
            continue
        named_by_digest = path.name == file.sha256
        if named_by_digest or not file.sha256 or _recorded_digest(path) == file.sha256:
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
        except _transport_error() as error:
            if _status(error) is not None:
                raise  # an answer, not a broken connection
            fruitless = 0 if content.size > before else fruitless + 1
            if fruitless >= MAX_FRUITLESS_TRIES:
                raise
            transfer.sleep(min(1.0 * 2**fruitless, 10.0))


def _stream(transfer: _Transfer, content: _Content) -> None:
    """One request for the bytes that are missing."""
    plan, file, library = transfer.plan, transfer.file, _library()
    url = library.hf_hub_url(plan.repo, file.path, revision=plan.revision, endpoint=plan.endpoint)
    headers = {**library.utils.build_hf_headers(), "Accept-Encoding": "identity"}
    if content.size:
        headers["Range"] = f"bytes={content.size}-"
    with library.utils.get_session().stream("GET", url, headers=headers, timeout=transfer.timeout_s) as response:
        library.utils.hf_raise_for_status(response)
        if content.size and response.status_code != 206:  # the server sends all of it again
            transfer.meter.add(-content.size, downloaded=False)
            content.clear()
        for block in response.iter_bytes(BLOCK_BYTES):
            content.append(block)
            transfer.meter.add(len(block))


def _library() -> Any:
    """huggingface_hub, told to send nothing but what a download needs. Untyped, because it does not export all its
    documented names to type checkers."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when it is imported
    import huggingface_hub
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


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


def _link(place: _Place) -> None:
    """Give cached content its name. Where links are not allowed (Windows) the content itself gets it."""
    if place.path == place.content or place.path.exists():
        return
    place.path.parent.mkdir(parents=True, exist_ok=True)
    place.path.unlink(missing_ok=True)  # a link to content that was deleted
    try:
        place.path.symlink_to(os.path.relpath(place.content, place.path.parent))
    except OSError:
        place.content.replace(place.path)


def _remember_main(plan: PullPlan) -> None:
    """Tell other programs which snapshot is the current one, as huggingface_hub does."""
    reference = _cached_repository(plan) / "refs" / "main"
    with contextlib.suppress(OSError):
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(plan.revision, encoding="utf-8")


def _record(record: Path, plan: PullPlan, file: PullFile) -> None:
    """Note beside the files which version of which repository they are."""
    pulled = _read_record(record)
    pulled[PurePosixPath(file.path).name] = {
        "repo": plan.repo,
        "revision": plan.revision,
        "path": file.path,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "pulled_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    temporary = record.with_name(f"{record.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(pulled, indent=2) + "\n", encoding="utf-8")
    temporary.replace(record)


def _read_record(record: Path) -> dict[str, Any]:
    try:
        pulled = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return pulled if isinstance(pulled, dict) else {}


def _recorded_digest(path: Path) -> str:
    recorded = _read_record(path.parent / RECORD).get(path.name)
    return str(recorded.get("sha256", "")) if isinstance(recorded, dict) else ""


# -- telling ---------------------------------------------------------------------------------------------------------


@dataclass
class _Meter:
    """Bytes of a whole plan as the steps of a progress stage. The rate is that of the last seconds."""

    plan: PullPlan
    progress: Progress
    clock: Callable[[], float]
    done_bytes: int = 0
    steps: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    downloaded_bytes: int = 0

    def __post_init__(self) -> None:
        self.progress.stage(f"download {self.plan.repo} {self.plan.quant}", PROGRESS_STEPS)
        self.recent.append((self.clock(), 0))

    def add(self, size: int, *, downloaded: bool = True) -> None:
        """``downloaded`` is false for what was on disk before."""
        self.done_bytes += size
        if downloaded:
            self.downloaded_bytes += size
            self._forget_old(self.clock())
        reached = PROGRESS_STEPS * self.done_bytes // max(1, self.plan.total_bytes)
        while self.steps < min(reached, PROGRESS_STEPS):
            self.steps += 1
            self.progress.step(self._detail())

    def _forget_old(self, now: float) -> None:
        self.recent.append((now, self.downloaded_bytes))
        while len(self.recent) > 2 and now - self.recent[0][0] > RATE_WINDOW_S:
            self.recent.popleft()

    def _detail(self) -> str:
        text = f"{_amount(self.done_bytes)} of {_amount(self.plan.total_bytes)}"
        (then, before), (now, after) = self.recent[0], self.recent[-1]
        return f"{text}, {_amount(round((after - before) / (now - then)))}/s" if now > then else text


def _amount(size: int) -> str:
    for unit, divisor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} B"


# -- failing ---------------------------------------------------------------------------------------------------------


def _transport_error() -> type[Exception]:
    """What the HTTP library of this huggingface_hub raises: httpx's HTTPError until 1.x, httpx2's since."""
    kind: type[Exception] = getattr(_library().errors, "HTTPError", ConnectionError)
    return kind


def _status(error: BaseException) -> int | None:
    """The HTTP status an error carries, None when there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def _disk_errors(plan: PullPlan, place: _Place) -> Iterator[None]:
    """What the disk can refuse while files are written, as FileProblem."""
    try:
        yield
    except OSError as error:
        if _status(error) is not None:
            raise
        if error.errno in _DISK_FULL:
            folder = _existing(place.content.parent)
            raise FileProblem(
                f"The disk is full: {folder} took {_amount(_size(place.partial))} of {place.path.name}.",
                why=f"The whole download needs {_amount(plan.total_bytes)}.",
                fix="Free some space and run the same command again: it goes on from there.",
            ) from error
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise FileProblem(
                f"{error.filename or place.partial} cannot be written.",
                why=f"{error.strerror or error}.",
                fix="Choose another folder with --models-dir or HF_HOME.",
            ) from error
        raise


@contextmanager
def _hub_errors(repo: str, endpoint: str) -> Iterator[None]:
    """Everything the hub and the network can do, as HubError."""
    try:
        yield
    except AdvisorError:
        raise
    except (_transport_error(), OSError, ValueError) as error:
        raise _explained(error, repo, endpoint) from error


def _explained(error: Exception, repo: str, endpoint: str) -> HubError:
    errors = _library().errors
    page = f"{endpoint}/{repo}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(f"{repo} was not asked for.", why="HF_HUB_OFFLINE is set.", fix="Unset HF_HUB_OFFLINE.")
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{repo!r} cannot be the name of a repository.", fix="It should be like owner/name.")
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{repo} is gated: its owner asks for consent before anybody may download it.",
            why="The hub refused the download.",
            fix=f"Agree at {page}, then log in with `hf auth login` or set HF_TOKEN, and run again.",
        )
    if isinstance(error, errors.RevisionNotFoundError | errors.EntryNotFoundError):
        return HubError(
            f"A file of {repo} is no longer on the hub.",
            why="The repository has changed since it was listed.",
            fix="Run the same command again.",
        )
    status = _status(error)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return HubError(
            f"The hub does not give out {repo}.",
            why="It does not exist there, or it is private and you are not logged in as somebody who may see it.",
            fix=f"Look at {page}; for a private repository run `hf auth login` or set HF_TOKEN.",
        )
    if status is not None:
        return HubError(
            f"The hub at {endpoint} answered with status {status}.",
            why="It is too busy." if status == 429 else "Something is wrong there.",
            fix="Run the same command again later: a download goes on from where it stopped.",
        )
    if isinstance(error, ValueError):
        return HubError(f"{endpoint} does not answer as a model hub does.", why=f"{error}.", fix="Check HF_ENDPOINT.")
    return _unreachable(error, endpoint)


def _unreachable(error: Exception, endpoint: str) -> HubError:
    slow = "timeout" in type(error).__name__.lower()
    return HubError(
        f"The hub at {endpoint} {'did not answer in time' if slow else 'cannot be reached'}.",
        why=f"{type(error).__name__}: {error}".rstrip(": ") + ".",
        fix="Check the network (and HF_ENDPOINT, if set) and run again: a download goes on from where it stopped.",
    )
