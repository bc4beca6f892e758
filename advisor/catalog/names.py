"""Which model or machine a person means.

A model may be called by its id with or without a quantization (``qwen2.5-72b``, ``qwen2.5-72b-q8``), by a file name, by
a Hugging Face repository (``bartowski/Qwen2.5-72B-Instruct-GGUF:Q8_0``, ``Qwen/Qwen2.5-72B-Instruct``) or by a link.
A name that fits nothing or several models is an OptionError with the nearest names. Files on disk are not looked at.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from advisor.catalog.load import Catalog, published_size
from advisor.catalog.records import Entry, HostEntry, Repository
from advisor.errors import OptionError

MAX_SUGGESTIONS = 5

_SHORT_QUANTS = {
    "Q8": "Q8_0",
    "Q6": "Q6_K",
    "Q5": "Q5_K_M",
    "Q4": "Q4_K_M",
    "Q3": "Q3_K_M",
    "Q2": "Q2_K",
    "FP16": "F16",
    "FP32": "F32",
    "UD-Q8": "UD-Q8_K_XL",
    "UD-Q6": "UD-Q6_K_XL",
    "UD-Q5": "UD-Q5_K_XL",
    "UD-Q4": "UD-Q4_K_XL",
    "UD-Q3": "UD-Q3_K_XL",
    "UD-Q2": "UD-Q2_K_XL",
}
_QUANT = re.compile(
    r"(?:UD-)?(?:IQ[1-4]_(?:XXS|XS|S|M|NL)(?:_XL)?|Q[2-68]_K(?:_(?:XS|S|M|L|XL))?|Q[458]_[01](?:_[48]_[48])?"
    r"|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4)|BF16|F16|F32"
)
_HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_INSIDE_HUB = re.compile(r"/(?:blob|resolve|tree)/[^/]+")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_MEMORY = re.compile(r"(?P<host>.+?)-(?P<gib>\d+)\s*gi?b?$")
_MAKERS = re.compile(r"^(?:apple|nvidia|geforce|amd|radeon|rx|instinct)-")
# A driver's name that goes on like this is of another product.
_OTHER_PRODUCT = re.compile(r"\s+(?:ti|super|laptop|mobile|max-q|pro|max|ultra|xt|xtx|gre|d)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """``quant`` and ``repository`` are None where the name did not say them."""

    entry: Entry
    quant: str | None = None
    repository: Repository | None = None


@dataclass(frozen=True)
class ModelRow:
    """A line of a table of models. ``quants`` of all repositories, smallest first, those of unknown size last."""

    id: str
    family: str
    parameters: int
    quants: tuple[str, ...]
    tokenizer: str
    licence: str


# -- models ----------------------------------------------------------------------------------------------------------


def resolve(text: str, catalog: Catalog) -> Named:
    """The model that ``text`` names. OptionError, with suggestions, when there is none or more than one."""
    name, tag = _without_tag(_INSIDE_HUB.sub("", _HUB.sub("", text.strip())).strip("/"))
    quant = quant_named(tag or "")
    if tag is not None and quant is None:
        sized = _by_name(f"{name.rpartition('/')[2]}-{tag}", catalog)  # as Ollama calls it: llama3.3:70b
        if sized is not None:
            return sized
        raise OptionError(f"{text}: {tag} is not a quantization.", fix="Write for example :Q8_0 or :Q4_K_M.")
    found = _by_repository(name, quant, catalog) or _by_name(name.rpartition("/")[2], catalog)
    if found is None:
        raise _unknown_model(text, name.rpartition("/")[2], catalog)
    return Named(found.entry, quant or found.quant, found.repository)


def quant_named(text: str) -> str | None:
    """A quantization as llama.cpp writes it: "q8" is Q8_0, "q4_k_m" is Q4_K_M. None for other words."""
    word = text.strip().upper()
    if word.startswith("UD_"):
        word = "UD-" + word[3:]
    head, dash, rest = word.partition("UD-") if word.startswith("UD-") else ("", "", word)
    word = head + dash + rest.replace("-", "_")
    word = _SHORT_QUANTS.get(word, word)
    return word if _QUANT.fullmatch(word) else None


def repository_for(entry: Entry, quant: str) -> Repository | None:
    """The preferred repository with a file in ``quant``."""
    return next((one for one in entry.repositories if quant in one.sizes or quant in one.quants), None)


def file_names(repository: Repository, quant: str) -> tuple[str, ...]:
    """What the files of a quantization are called, without folders; one name where parts are not known."""
    spelled = repository.spelled.get(quant) or (quant.lower() if repository.lower_case_quants else quant)
    whole = repository.file.replace("{quant}", spelled)
    parts = repository.parts.get(quant, 1)
    if parts == 1:
        return (whole,)
    stem = whole.removesuffix(".gguf")
    return tuple(f"{stem}-{part:05}-of-{parts:05}.gguf" for part in range(1, parts + 1))


def list_models(catalog: Catalog, family: str | None = None) -> tuple[ModelRow, ...]:
    """All models, or those of a family by its name or its beginning. OptionError when no family is called so."""
    chosen = _families_named(family, catalog) if family else {one.name for one in catalog.families}
    return tuple(_row(entry, catalog) for entry in catalog.entries.values() if catalog.family_of[entry.id] in chosen)


def _families_named(family: str, catalog: Catalog) -> set[str]:
    names = {_plain(one.name): one.name for one in catalog.families}
    wanted = _plain(family)
    found = {name for plain, name in names.items() if plain == wanted}
    found = found or {name for plain, name in names.items() if plain.startswith(wanted)}
    if not found:
        said = f"There is no family called {family}."
        raise OptionError(said, why=_left_out(catalog), fix=_did_you_mean(_nearest(wanted, names)))
    return found


def _row(entry: Entry, catalog: Catalog) -> ModelRow:
    smallest: dict[str, float] = {}
    for repository in entry.repositories:
        for quant in (*repository.sizes, *repository.quants):
            size = published_size(repository.sizes[quant]).bytes if quant in repository.sizes else math.inf
            smallest[quant] = min(size, smallest.get(quant, math.inf))
    quants = tuple(sorted(smallest, key=lambda quant: smallest[quant]))
    family = catalog.family_of[entry.id]
    return ModelRow(entry.id, family, entry.parameters, quants, entry.tokenizer, entry.licence)


def _without_tag(name: str) -> tuple[str, str | None]:
    head, colon, tag = name.partition(":")
    return (head, tag) if colon else (name, None)


def _by_repository(name: str, quant: str | None, catalog: Catalog) -> Named | None:
    """owner/name, or owner/name/file."""
    parts = name.split("/")
    if len(parts) < 2:
        return None
    repo, file = "/".join(parts[:2]).lower(), parts[-1] if len(parts) > 2 else ""
    for entry in catalog.entries.values():
        same = [one for one in entry.repositories if one.repo.lower() == repo]
        if same:  # before the original's own repository: some publish their GGUF files there
            return _inside(entry, same, file, quant)
        if entry.hf_repo.lower() == repo and not file:
            return Named(entry)
    return None


def _inside(entry: Entry, same: list[Repository], file: str, quant: str | None) -> Named:
    """Which of the descriptions of one repository is meant: files in it may be called in more than one way."""
    for repository in same if file else ():
        if found := _quant_of_file(file, repository):
            return Named(entry, found, repository)
    fitting = (one for one in same if quant in one.sizes or quant in one.quants)
    return Named(entry, None, next(fitting, same[0]))


def _quant_of_file(file: str, repository: Repository) -> str | None:
    stem = _stem(file)
    before = repository.file.partition("{quant}")[0].lower()
    return quant_named(stem[len(before) :]) if stem.startswith(before) else None


def _by_name(name: str, catalog: Catalog) -> Named | None:
    """An id, a name or a file name, with a quantization at its end or without."""
    plain, index = _plain(_stem(name)), _index(catalog)
    without_dashes: dict[str, tuple[str, ...]] = {}
    for known, ids in index.items():
        same = without_dashes.get(_joined(known), ())
        without_dashes[_joined(known)] = tuple(dict.fromkeys((*same, *ids)))
    return _in_index(name, plain, index, catalog, str) or _in_index(name, plain, without_dashes, catalog, _joined)


def _in_index(
    name: str, plain: str, index: Mapping[str, tuple[str, ...]], catalog: Catalog, spelled: Callable[[str], str]
) -> Named | None:
    if spelled(plain) in index:
        return Named(_only(name, index[spelled(plain)], catalog))
    for cut in (place.start() for place in re.finditer(r"[-.@]", plain)):
        quant = quant_named(_quant_text(plain[cut + 1 :]))
        if quant and spelled(plain[:cut]) in index:
            return Named(_only(name, index[spelled(plain[:cut])], catalog), quant)
    return None


def _joined(plain: str) -> str:
    return plain.replace("-", "")


def _quant_text(plain: str) -> str:
    """The end of a plain name, where underscores have become dashes."""
    return "ud-" + plain[3:].replace("-", "_") if plain.startswith("ud-") else plain.replace("-", "_")


def _only(name: str, ids: tuple[str, ...], catalog: Catalog) -> Entry:
    if len(ids) > 1:
        raise OptionError(f"{name} may be any of {', '.join(ids)}.", fix="Name one of them.")
    return catalog.entries[ids[0]]


def _index(catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """Every plain name by which entries are known, with the ids of those entries."""
    index: dict[str, tuple[str, ...]] = {}
    for entry in catalog.entries.values():
        for name in {_plain(one) for one in _names_of(entry)}:
            index[name] = (*index.get(name, ()), entry.id)
    return index


def _names_of(entry: Entry) -> Iterator[str]:
    yield entry.id
    yield entry.name
    yield from entry.aliases
    yield entry.hf_repo.rpartition("/")[2]
    yield entry.hf_repo.replace("/", "_")  # how some uploaders name files
    for repository in entry.repositories:
        tail = re.sub(r"-gguf$", "", repository.repo.rpartition("/")[2], flags=re.IGNORECASE)
        if quant_named(tail.rpartition("-")[2]) is None:  # else it names a quantization too
            yield tail
            yield tail + "-GGUF"
        yield repository.file.partition("{quant}")[0].rstrip("-._")


def _stem(file: str) -> str:
    """A file name in lower case without its ending and its part number."""
    return _PART.sub("", file.lower().removesuffix(".gguf"))


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())


def _unknown_model(text: str, name: str, catalog: Catalog) -> OptionError:
    plain = _plain(_stem(name))
    longer = sorted((one for one in catalog.entries if one.startswith(plain)), key=lambda one: one[len(plain)] != "-")
    if len(longer) > 1:
        near = longer[:MAX_SUGGESTIONS]
        return OptionError(f"{text} may be any of {len(longer)} models.", fix=_did_you_mean(near))
    near = longer or _nearest(plain, catalog.entries)
    return OptionError(
        f"The catalogue knows no model called {text}.",
        why=f"It has {len(catalog.entries)} models. {_left_out(catalog)}".strip(),
        fix=_did_you_mean(near) or "`advisor models` lists them. A path to a GGUF file works too.",
    )


def _nearest(plain: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(plain, list(known), n=MAX_SUGGESTIONS, cutoff=0.5)


def _did_you_mean(near: Iterable[str]) -> str:
    names = ", ".join(near)
    return f"Did you mean {names}?" if names else ""


def _left_out(catalog: Catalog) -> str:
    """The files where a name that is not known may be."""
    said = [problem.line for problem in catalog.left_out]
    return f"A file of your own is left out: {' '.join(said)}" if said else ""


# -- hosts -----------------------------------------------------------------------------------------------------------


def host_names(catalog: Catalog) -> tuple[str, ...]:
    """Every name a host can be asked for by: id-<memory>gb."""
    return tuple(name for host in catalog.hosts for name in host.names)


def host_named(text: str, catalog: Catalog) -> tuple[HostEntry, int]:
    """The host and its memory in GiB; the memory may be left out where there is one size only.

    OptionError with suggestions when there is no such host, or several.
    """
    plain = _plain(text)
    bare = _MAKERS.sub("", _MAKERS.sub("", plain))
    for name in (plain, bare):
        match = _MEMORY.fullmatch(name)
        wanted, memory = (match["host"], int(match["gib"])) if match else (name, None)
        hosts = [host for host in catalog.hosts if host.id == wanted]
        hosts = hosts or [host for host in catalog.hosts if _joined(wanted) in _short_names(host)]
        found = [(host, size) for host in hosts for size in host.memory_gib]
        exact = [one for one in found if memory is None or one[1] == memory]
        if len(exact) == 1:
            return exact[0]
        if found:
            raise _which_memory(text, found, memory)
    near = _nearest(bare, host_names(catalog)) or _nearest(bare, dict.fromkeys(host.id for host in catalog.hosts))
    raise OptionError(
        f"The catalogue knows no host called {text}.",
        why=f"It has {len({host.id for host in catalog.hosts})} kinds of machines. {_left_out(catalog)}".strip(),
        fix=_did_you_mean(near) or f"Names are like {host_names(catalog)[0]}.",
    )


def _short_names(host: HostEntry) -> tuple[str, str]:
    """ "rtx-4090" is rtx4090 or 4090."""
    return _joined(host.id), _joined(host.id).removeprefix("rtx")


def _which_memory(text: str, found: list[tuple[HostEntry, int]], memory_gib: int | None) -> OptionError:
    names = ", ".join(dict.fromkeys(f"{host.id}-{size}gb" for host, size in found))
    if memory_gib is not None and memory_gib not in [size for _, size in found]:
        return OptionError(f"The catalogue knows no {text}.", fix=_did_you_mean([names]))
    return OptionError(f"{text} does not say which of these machines is meant: {names}.", fix="Name one of them.")


def hosts_matching(device: str, catalog: Catalog, memory_gib: float | None = None) -> HostEntry | None:
    """The host whose driver reports this device name, None when none does.

    Of several with the same name the one with this much memory, or the slowest where the memory is not told.
    """
    longest = max((len(match) for match, _ in _matches(device, catalog)), default=0)
    found = [host for match, host in _matches(device, catalog) if len(match) == longest]
    if memory_gib is None:
        return min(found, key=lambda host: host.bandwidth_gb_per_s, default=None)
    return min(found, key=lambda host: min(abs(size - memory_gib) for size in host.memory_gib), default=None)


def _matches(device: str, catalog: Catalog) -> Iterator[tuple[str, HostEntry]]:
    for host in catalog.hosts:
        for match in host.matches:
            place = re.search(rf"(?<!\w){re.escape(match)}(?!\w)", device, re.IGNORECASE)
            if place and not _OTHER_PRODUCT.match(device, place.end()):
                yield match, host
