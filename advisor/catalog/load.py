"""Reads the catalogue: one YAML file per family, ``tokenizers.yaml`` and ``hosts.yaml``.

A user's own folder adds to what is shipped; nothing there replaces a shipped entry. Every problem is a FileProblem that
names file, line and field. A file of the user's own that has one is left out, and the rest is read.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from advisor.catalog.records import Entry, Family, HostEntry, Hosts, Repository, Shape, TokenizerGroup, Tokenizers
from advisor.catalog.typed import Location, MisfitError, build
from advisor.errors import FileProblem

if TYPE_CHECKING:
    from yaml import Node, SafeLoader

FOLDER = "models_catalog"
VOCABULARIES = "tokenizers.yaml"
_KINDS: Mapping[str, type[Family | Tokenizers | Hosts]] = {VOCABULARIES: Tokenizers, "hosts.yaml": Hosts}
_PUBLISHED = re.compile(r"(?P<number>\d+(?:\.(?P<digits>\d+))?) (?P<unit>B|MB|GB|MiB|GiB)")
UNIT_BYTES = {"B": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
_FIX = f"Correct the file; {FOLDER}/schema describes what it may say."


@dataclass(frozen=True)
class Catalog:
    """All families in the order of their file names; ``entries`` by id; ``family_of`` by id, the name of the family.
    ``left_out``: what is wrong with files of the user's own that are not part of it."""

    families: tuple[Family, ...]
    entries: Mapping[str, Entry]
    family_of: Mapping[str, str]
    tokenizers: Mapping[str, TokenizerGroup]
    hosts: tuple[HostEntry, ...]
    left_out: tuple[FileProblem, ...] = ()


@dataclass(frozen=True)
class PublishedSize:
    """A size as somebody printed it; the true one is within ``rounding_bytes`` of it."""

    bytes: float
    rounding_bytes: float


@dataclass(frozen=True)
class _Read:
    """One file's content, and where it came from for messages."""

    path: Path
    content: Family | Tokenizers | Hosts


@dataclass(frozen=True)
class _Origin:
    path: Path
    location: Location


def load(user_folder: Path | None = None) -> Catalog:
    """The shipped catalogue and, where it exists, the user's own; read once per process.

    A file of the user's own that cannot be read, is not what the schema says or contradicts another is left out.
    FileProblem when a shipped one is so, and when the user's folder cannot be read.
    """
    return _load(shipped_folder(), user_folder if user_folder is not None and _is_folder(user_folder) else None)


@lru_cache(maxsize=8)
def _load(shipped: Path, user: Path | None) -> Catalog:
    reads = [_read(path) for path in _files(shipped)]
    return _catalog(*_with_sound(reads, _files(user))) if user else _catalog(reads)


def load_folders(folders: Sequence[Path]) -> Catalog:
    """A catalogue of these folders together, not cached. FileProblem for the first file that is wrong."""
    return _catalog([_read(path) for folder in folders for path in _files(folder)])


def load_file(path: Path, companions: Sequence[Path]) -> Catalog:
    """The shipped catalogue with one file more, not cached. ``companions``: other files, of which wrong ones are left
    out. FileProblem for what is wrong with ``path``."""
    reads, left_out = _with_sound([_read(one) for one in _files(shipped_folder())], companions)
    try:
        return _catalog([*reads, _read(path)], left_out)
    except FileProblem as problem:
        others = " ".join(one.line for one in left_out)
        why = f"{problem.why} Left out: {others}".strip() if left_out else problem.why
        raise FileProblem(problem.what, why=why, fix=problem.fix) from None


def _with_sound(reads: Sequence[_Read], paths: Sequence[Path]) -> tuple[list[_Read], list[FileProblem]]:
    """``reads`` with those files that go with them and with each other, and what is wrong with the others."""
    sound, left_out = list(reads), []
    for path in sorted(paths, key=lambda one: one.name != VOCABULARIES):  # families name groups of these
        try:
            more = [*sound, _read(path)]
            _catalog(more)
        except FileProblem as problem:
            left_out.append(problem)
        else:
            sound = more
    return sound, left_out


def _catalog(reads: Sequence[_Read], left_out: Sequence[FileProblem] = ()) -> Catalog:
    catalog = Catalog(
        families=tuple(read.content for read in reads if isinstance(read.content, Family)),
        entries=MappingProxyType({entry.id: entry for entry, _ in _entries(reads)}),
        family_of=MappingProxyType({entry.id: family for entry, family in _with_family(reads)}),
        tokenizers=MappingProxyType({group.id: group for group, _ in _groups(reads)}),
        hosts=tuple(host for host, _ in _hosts(reads)),
        left_out=tuple(left_out),
    )
    _check(reads, catalog)
    return catalog


def shipped_folder() -> Path:
    """Where the catalogue lies: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / FOLDER, package.parent / FOLDER):
        if candidate.is_dir():
            return candidate
    raise FileProblem(
        "The catalogue of models is missing.",
        why=f"There is no folder {FOLDER} in or beside {package}.",
        fix="Install draft-advisor again.",
    )


def published_size(text: str) -> PublishedSize:
    """ "4.7 GiB" as bytes with the rounding of its last digit. ValueError for another form.

    GiB and MiB are taken as rounded to a tenth even where no digit is printed: catalogues drop a final ".0".
    """
    match = _PUBLISHED.fullmatch(text)
    if not match:
        raise ValueError(text)
    unit, digits = match["unit"], len(match["digits"] or "")
    if unit == "B":
        return PublishedSize(float(match["number"]), 0.0)
    digits = max(digits, 1) if unit.endswith("iB") else digits
    return PublishedSize(float(match["number"]) * UNIT_BYTES[unit], UNIT_BYTES[unit] * 0.5 * 10.0**-digits)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(path: Path, error: OSError) -> FileProblem:
    return FileProblem(
        f"The folder {path} cannot be read.",
        why=f"The system says: {error.strerror or error}.",
        fix="Check its permissions and those of the folders above it.",
    )


# -- one file --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> _Read:
    text = _text(path)
    try:
        return _Read(path, build(_KINDS.get(path.name, Family), _parsed(path, text)))
    except MisfitError as misfit:
        raise _problem(path, misfit.location, misfit.said, text=text) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileProblem(f"{path} cannot be read.", why=str(error.strerror or error)) from None
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not UTF-8 text.", why=f"Byte {error.start} does not belong there.") from None


def _parsed(path: Path, text: str) -> object:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # a safe loader in either case  # nosec B506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise FileProblem(f"{path}{line}: this is not YAML.", why=f"{error.problem or error}.", fix=_FIX) from None
    except yaml.YAMLError as error:
        raise FileProblem(f"{path}: this is not YAML.", why=f"{error}.", fix=_FIX) from None


def _loader() -> type[SafeLoader]:
    """The fast one where PyYAML was built with it; both build plain data only."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _problem(path: Path, location: Location, said: str, *, text: str | None = None) -> FileProblem:
    line = _line(text if text is not None else _text(path), location)
    name = ".".join(str(part) for part in location)
    return FileProblem(f"{path}, line {line}: {name or 'the file'}: {said}.", fix=_FIX)


def _line(text: str, location: Location) -> int:
    """The line of a field, or of the nearest thing around it that is there."""
    import yaml

    node = yaml.compose(text, Loader=_loader())
    line = 1
    for part in location:
        if node is None:
            break
        line, node = _step(node, part, line)
    return line


def _step(node: Node, part: str | int, line: int) -> tuple[int, Node | None]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        found = node.value[part]
        return found.start_mark.line + 1, found
    return line, None


# -- all files together ----------------------------------------------------------------------------------------------


def _entries(reads: Sequence[_Read]) -> Iterator[tuple[Entry, _Origin]]:
    for read in reads:
        if isinstance(read.content, Family):
            for index, entry in enumerate(read.content.models):
                yield entry, _Origin(read.path, ("models", index))


def _with_family(reads: Sequence[_Read]) -> Iterator[tuple[Entry, str]]:
    for read in reads:
        if isinstance(read.content, Family):
            yield from ((entry, read.content.name) for entry in read.content.models)


def _groups(reads: Sequence[_Read]) -> Iterator[tuple[TokenizerGroup, _Origin]]:
    for read in reads:
        if isinstance(read.content, Tokenizers):
            for index, group in enumerate(read.content.groups):
                yield group, _Origin(read.path, ("groups", index))


def _hosts(reads: Sequence[_Read]) -> Iterator[tuple[HostEntry, _Origin]]:
    for read in reads:
        if isinstance(read.content, Hosts):
            for index, host in enumerate(read.content.hosts):
                yield host, _Origin(read.path, ("hosts", index))


def _check(reads: Sequence[_Read], catalog: Catalog) -> None:
    """FileProblem for the first thing that no single field shows."""
    _check_names(reads)
    _check_vocabularies(reads, catalog)
    for entry, origin in _entries(reads):
        for where, said in _entry_faults(entry):
            raise _problem(origin.path, origin.location + where, said)
    _check_groups(reads)
    _check_hosts(reads)


def _check_names(reads: Sequence[_Read]) -> None:
    taken: dict[str, _Origin] = {}
    for entry, origin in _entries(reads):
        spots: list[tuple[str, Location]] = [(entry.id, ("id",))]
        spots += [(alias, ("aliases", index)) for index, alias in enumerate(entry.aliases)]
        for name, where in spots:
            if name in taken:
                raise _problem(origin.path, origin.location + where, f"{name} is taken in {taken[name].path}")
            if name != name.lower():
                raise _problem(origin.path, origin.location + where, f"{name} must be in lower case")
            taken[name] = origin


def _check_vocabularies(reads: Sequence[_Read], catalog: Catalog) -> None:
    unknown = [(entry, origin) for entry, origin in _entries(reads) if entry.tokenizer not in catalog.tokenizers]
    if not unknown:
        return
    wanted, first = unknown[0][0].tokenizer, unknown[0][1]
    near = difflib.get_close_matches(wanted, catalog.tokenizers, n=1)
    ids = [entry.id for entry, origin in unknown if (entry.tokenizer, origin.path) == (wanted, first.path)]
    said = f"{VOCABULARIES} has no group {wanted}" + (f"; did you mean {near[0]}?" if near else "")
    said += f" ({', '.join(ids)} name it)" if len(ids) > 1 else ""
    raise _problem(first.path, (*first.location, "tokenizer"), said)


def _check_groups(reads: Sequence[_Read]) -> None:
    taken: dict[str, _Origin] = {}
    for group, origin in _groups(reads):
        if group.id in taken:
            raise _problem(origin.path, (*origin.location, "id"), f"{group.id} is taken in {taken[group.id].path}")
        taken[group.id] = origin


def _check_hosts(reads: Sequence[_Read]) -> None:
    taken: set[tuple[str, int]] = set()
    for host, origin in _hosts(reads):
        if not host.memory_gib or host.bandwidth_gb_per_s <= 0:
            field = "bandwidth_gb_per_s" if host.memory_gib else "memory_gib"
            raise _problem(origin.path, (*origin.location, field), "a host needs a memory size and a bandwidth")
        for memory in host.memory_gib:
            if (host.id, memory) in taken:
                said = f"{host.id} with {memory} GiB is there twice"
                raise _problem(origin.path, (*origin.location, "memory_gib"), said)
            taken.add((host.id, memory))


def _entry_faults(entry: Entry) -> Iterator[tuple[Location, str]]:
    for field, said in _shape_faults(entry.shape):
        yield ("shape", field), said
    for index, repository in enumerate(entry.repositories):
        for where, said in _repository_faults(repository):
            yield ("repositories", index, *where), said


def _shape_faults(shape: Shape) -> Iterator[tuple[str, str]]:
    for name in ("layers", "embedding_length", "heads", "kv_heads", "head_length", "vocabulary_size", "context_length"):
        if getattr(shape, name) <= 0:
            yield name, "must be more than 0"
            return
    if shape.heads % shape.kv_heads:
        yield "kv_heads", f"{shape.heads} heads cannot share {shape.kv_heads} KV heads"
    if not 0.25 <= shape.heads * shape.head_length / shape.embedding_length <= 4:
        width = shape.embedding_length
        yield "head_length", f"{shape.heads} heads of {shape.head_length} do not go with a width of {width}"
    if shape.experts_used > shape.experts:
        yield "experts_used", f"more than the {shape.experts} experts there are"
    if not shape.feed_forward_length and not shape.experts:
        yield "feed_forward_length", "neither dense nor expert layers have a width"


def _repository_faults(repository: Repository) -> Iterator[tuple[Location, str]]:
    if repository.file.count("{quant}") != 1:
        yield ("file",), "the pattern needs {quant} once"
    if repository.repo.count("/") != 1:
        yield ("repo",), "a repository is named owner/name"
    for name, told in (("spelled", repository.spelled), ("parts", repository.parts)):
        for quant in told.keys() - repository.sizes.keys() - set(repository.quants):
            yield (name, quant), f"neither sizes nor quants have {quant}"
    for index, quant in enumerate(repository.own_mix):
        if quant not in repository.sizes:
            yield ("own_mix", index), f"sizes does not have {quant}"
    for quant, size in repository.sizes.items():
        if not _PUBLISHED.fullmatch(size):
            yield ("sizes", quant), f'"{size}" is not a size such as "4.7 GiB", "4.68 GB" or "4683073632 B"'
