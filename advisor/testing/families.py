"""What a family of the catalogue owes: ``python -m advisor.testing.families my-family.yaml``, or

    assert problems(path) == []

Beyond what every reading of the catalogue checks (types, names, vocabularies): that counted weights and published sizes
are those of the shape, that every name leads back to its model, that files are told apart, that facts have a source.
Nothing here is about speed, and nothing is downloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from advisor.catalog.compatible import token_groups_incompatibility
from advisor.catalog.describe import computed_file_size_bytes, is_known
from advisor.catalog.load import UNIT_BYTES, VOCABULARIES, Catalog, load, load_file, published_size, shipped_folder
from advisor.catalog.names import file_names, resolve
from advisor.catalog.records import Entry, Repository
from advisor.catalog.shapes import parameters
from advisor.errors import AdvisorError, FileProblem, UserError
from advisor.user_catalog import folder as own_folder

PARAMETERS_OFF = 0.002
SIZE_OFF = 0.02  # and the rounding: 1931 of the 1979 shipped sizes are met so
OWN_MIX_OFF = 0.25  # the farthest shipped file with types of its own is 21 % off
LARGER_AND_LARGER = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "BF16")
KEEPS_ITS_BITS = "gpt-oss"  # its experts are of 4 bits in every quantization


def problems(path: Path) -> list[str]:
    """What is wrong with a family file, shipped or in a folder of one's own; each names the model and what is off."""
    try:
        catalog = _catalog_with(path)
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except AdvisorError as error:
        return [error.line]
    if not isinstance(document, dict) or "models" not in document:
        return [f"{path} is no family: it has no models."]
    entries = [catalog.entries[model["id"]] for model in document["models"]]
    return [f"{entry.id}: {said}" for entry in entries for said in _entry_problems(entry, catalog)]


def _catalog_with(path: Path) -> Catalog:
    """The shipped catalogue with this file, and with what is at hand for it."""
    if not path.is_file():
        raise FileProblem(f"{path} is no file.")
    if path.resolve().parent == shipped_folder().resolve():
        return load()
    return load_file(path, [one for one in _at_hand(path) if one.resolve() != path.resolve()])


def _at_hand(path: Path) -> list[Path]:
    """The vocabularies beside a file and in the user's own folder; all of that folder for a file that is in it."""
    beside, own = path.resolve().parent, own_folder().resolve()
    if beside == own:
        return sorted(own.glob("*.yaml"))
    return [one for one in (beside / VOCABULARIES, own / VOCABULARIES) if one.is_file()]


def _entry_problems(entry: Entry, catalog: Catalog) -> Iterator[str]:
    group = catalog.tokenizers[entry.tokenizer]
    if not entry.source.strip():
        yield "its facts have no source"
    counted = parameters(replace(entry.shape, nextn_layers=0))
    if abs(counted / entry.parameters - 1) > PARAMETERS_OFF:
        yield f"parameters: {entry.parameters}, but the tensors of this shape have {counted}"
    size = entry.shape.vocabulary_size
    if (refused := token_groups_incompatibility(group, size, group, size)) is not None:
        yield f"it could not even draft for itself: {refused}"
    yield from _leads_elsewhere(entry.id, entry, None, catalog)
    for repository in entry.repositories:
        yield from (f"{repository.repo}: {said}" for said in _repository_problems(entry, repository, catalog))
    yield from size_problems(entry, catalog)


def _repository_problems(entry: Entry, repository: Repository, catalog: Catalog) -> Iterator[str]:
    quants = list(dict.fromkeys([*repository.sizes, *repository.quants]))
    if not repository.source.strip():
        yield "no source"
    if not quants:
        yield "no quantization is named"
    files = [name for quant in quants for name in file_names(repository, quant)]
    if len(files) != len(set(files)):
        yield "two quantizations have one file name"
    for quant in quants:
        if not is_known(quant):
            yield f"{quant} is no quantization that is known"
            continue
        for name in (f"{entry.id}-{quant}", f"{repository.repo}:{quant}"):
            yield from _leads_elsewhere(name, entry, quant, catalog)
    if files:
        yield from _leads_elsewhere(files[-1], entry, None, catalog)
    sizes = [published_size(repository.sizes[quant]).bytes for quant in LARGER_AND_LARGER if quant in repository.sizes]
    if sizes != sorted(sizes) and not entry.id.startswith(KEEPS_ITS_BITS):
        yield "a larger quantization is smaller"


def _leads_elsewhere(name: str, entry: Entry, quant: str | None, catalog: Catalog) -> Iterator[str]:
    """``quant`` None: any."""
    try:
        found = resolve(name, catalog)
    except AdvisorError as error:
        yield f"{name} leads nowhere: {error.what}"
        return
    if found.entry is not entry or quant not in (None, found.quant):
        yield f"{name} leads to {found.entry.id} {found.quant or ''}".rstrip()


def size_problems(entry: Entry, catalog: Catalog) -> Iterator[str]:
    """Published sizes that are not those that the tensors of the shape add up to."""
    group = catalog.tokenizers[entry.tokenizer]
    for repository in entry.repositories:
        for quant, text in repository.sizes.items():
            if not is_known(quant):
                continue
            computed = computed_file_size_bytes(entry, quant, group, repository=repository)
            if (said := _size_problem(text, computed, own_mix=quant in repository.own_mix)) is not None:
                yield f"{repository.repo} {quant}: {said}"


def _size_problem(text: str, computed_bytes: int, *, own_mix: bool) -> str | None:
    """``text`` is what is published. The tolerance is a part of it, and its rounding on top."""
    published, allowed = published_size(text), OWN_MIX_OFF if own_mix else SIZE_OFF
    off_bytes = abs(computed_bytes - published.bytes)
    if off_bytes <= allowed * published.bytes + published.rounding_bytes:
        return None
    return (
        f"{text} published, but the tensors of its shape add up to {_as_published(computed_bytes, text)}: "
        f"{off_bytes / published.bytes:.0%} off, where {allowed:.0%} and the rounding are allowed"
        + ("" if own_mix else "; own_mix is for files with types of their own")
    )


def _as_published(size_bytes: int, text: str) -> str:
    """A size in the unit of another."""
    unit = text.rpartition(" ")[2]
    return f"{size_bytes / UNIT_BYTES[unit]:.{0 if unit == 'B' else 2}f} {unit}"


def main(arguments: list[str]) -> int:
    """2 where something is wrong, or no file is named."""
    if not arguments:
        print("usage: python -m advisor.testing.families FILE.yaml [FILE.yaml ...]", file=sys.stderr)
        return UserError.exit_code
    found = {name: problems(Path(name)) for name in arguments}
    for name, said in found.items():
        counted = f"{len(said)} problem{'s' if len(said) != 1 else ''}"
        print("\n".join([f"{name}: {counted if said else 'as it should be'}", *(f"  {one}" for one in said)]))
    return UserError.exit_code if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
