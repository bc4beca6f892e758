"""Fits advisor/catalog/dynamic.json to the file sizes that models_catalog quotes. Run after the catalogue changed:

    python scripts/fit_dynamic_sizes.py

Prints, for each publisher and kind of model, how many sizes there are, the share met within 2 % and their rounding, and
the same for models that were left out of the fit.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from advisor.catalog import dynamic, load
from advisor.catalog.describe import computed_file_size_bytes, published_size_bytes
from advisor.catalog.records import Entry, Repository
from advisor.catalog.shapes import groups

TOLERANCE = 0.02
ABOUT = (
    "Bits per weight above llama.cpp's nearest mix, by class of tensors, for files whose recipe is not published. "
    "Fitted by scripts/fit_dynamic_sizes.py to the sizes in models_catalog, whose sources are named there. "
    "quality: the share of these sizes met within 2 % and their rounding; left_out: the same for models left out of "
    "the fit."
)

Observation = tuple[str, dynamic.Observed]  # entry id, size


def main() -> None:
    observations: dict[str, list[Observation]] = defaultdict(list)
    catalogue = load.load()
    for entry in catalogue.entries.values():
        for repository in entry.repositories:
            for key, observed in observations_of(entry, repository, catalogue):
                observations[key].append((entry.id, observed))
    recipes = {key: dynamic.fit([one for _, one in rows]) for key, rows in sorted(observations.items())}
    quality = {kind: quality_of(kind, observations, recipes) for kind in sorted({kind_of(key) for key in recipes})}
    dynamic.TABLE.write_text(as_json(quality, recipes), encoding="utf-8")
    for kind, numbers in quality.items():
        print(kind, numbers)


def observations_of(
    entry: Entry, repository: Repository, catalogue: load.Catalog
) -> Iterator[tuple[str, dynamic.Observed]]:
    group = catalogue.tokenizers[entry.tokenizer]
    elements = dynamic.elements_by_class(entry.shape, groups(entry.shape, untied=repository.untied))
    for quant in repository.sizes:
        key = dynamic.recipe_key(repository.repo, entry.shape, quant)
        size = published_size_bytes(repository, quant)
        if key and size:
            mix = computed_file_size_bytes(entry, quant, group, repository=repository, fitted=False)
            yield key, dynamic.Observed(elements, mix, size.bytes, size.rounding_bytes)


def kind_of(key: str) -> str:
    return key.rsplit(" ", 1)[0]


def quality_of(
    kind: str,
    observations: dict[str, list[Observation]],
    recipes: dict[str, dict[dynamic.TensorClass, float]],
) -> dict[str, float | None]:
    inside, outside = [], []
    for key in recipes:
        if kind_of(key) != kind:
            continue
        for name, observed in observations[key]:
            inside.append(is_met(observed, recipes[key]))
            others = [one for other, one in observations[key] if other != name]
            if others:
                outside.append(is_met(observed, dynamic.fit(others)))
    return {
        "sizes": len(inside),
        "within": round(sum(inside) / len(inside), 3),
        "left_out": round(sum(outside) / len(outside), 3) if outside else None,
    }


def is_met(observed: dynamic.Observed, bits: dict[dynamic.TensorClass, float]) -> bool:
    extra = sum(value * observed.elements[name] for name, value in bits.items()) / 8
    off = abs(observed.size_bytes - observed.mix_bytes - extra)
    return off <= TOLERANCE * observed.size_bytes + observed.half_width_bytes


def as_json(quality: dict[str, dict[str, float | None]], recipes: dict[str, dict[dynamic.TensorClass, float]]) -> str:
    """One recipe a line."""

    def lines(content: dict[str, dict[str, float | None]] | dict[str, dict[dynamic.TensorClass, float]]) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())

    head = f' "about": {json.dumps(ABOUT)},\n "quality": {{\n{lines(quality)}\n }},\n'
    return f'{{\n{head} "extra_bits": {{\n{lines(recipes)}\n }}\n}}\n'


if __name__ == "__main__":
    main()
