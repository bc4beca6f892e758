"""Which files a quantization is, from one listing of the repository. Nothing is downloaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from advisor.catalog.pull.failures import hub_errors, library
from advisor.catalog.records import Entry, Repository
from advisor.errors import HubError, OptionError

DEFAULT_ENDPOINT = "https://huggingface.co"
LISTING_TIMEOUT_S = 30.0

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
    with hub_errors(repo, endpoint):
        info = library().HfApi(endpoint=endpoint).model_info(repo, files_metadata=True, timeout=LISTING_TIMEOUT_S)
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
