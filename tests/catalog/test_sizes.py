"""File sizes computed from tensor types against every size the catalogue quotes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from advisor.catalog import dynamic, load
from advisor.catalog.describe import (
    computed_file_size_bytes,
    describe,
    file_size_bytes,
    is_known,
    published_size_bytes,
    quants_of,
    repository_of,
)
from advisor.catalog.load import PublishedSize
from advisor.catalog.records import Entry, Repository, TokenizerGroup
from advisor.catalog.shapes import groups
from advisor.errors import OptionError

CATALOGUE = load.load()
TOLERANCE = 0.02


@dataclass(frozen=True)
class Row:
    """A published size and what is computed for it, whatever is published."""

    entry: Entry
    repository: Repository
    quant: str
    published: PublishedSize
    computed_bytes: int

    @property
    def error(self) -> float:
        return self.computed_bytes / self.published.bytes - 1

    @property
    def within(self) -> bool:
        off = abs(self.computed_bytes - self.published.bytes)
        return off <= TOLERANCE * self.published.bytes + self.published.rounding_bytes

    @property
    def fitted(self) -> bool:
        return bool(dynamic.recipe_key(self.repository.repo, self.entry.shape, self.quant))

    def __str__(self) -> str:
        return f"{self.error:+.1%} {self.quant} of {self.repository.repo}"


def group_of(entry: Entry) -> TokenizerGroup:
    return CATALOGUE.tokenizers[entry.tokenizer]


def all_rows() -> Iterator[Row]:
    for entry in CATALOGUE.entries.values():
        for repository in entry.repositories:
            for quant in repository.sizes:
                published = published_size_bytes(repository, quant)
                assert published is not None
                computed = computed_file_size_bytes(entry, quant, group_of(entry), repository=repository)
                yield Row(entry, repository, quant, published, computed)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(all_rows())


def worst(rows: list[Row]) -> str:
    off = sorted((row for row in rows if not row.within), key=lambda row: -abs(row.error))
    return f"{len(off)} of {len(rows)} are off: " + "; ".join(map(str, off[:25]))


def share_within(rows: list[Row]) -> float:
    return sum(row.within for row in rows) / len(rows)


def test_every_quant_of_the_catalogue_is_known():
    names = {quant for entry in CATALOGUE.entries.values() for one in entry.repositories for quant in one.sizes}
    assert not {quant for quant in names if not is_known(quant)}


def test_95_percent_of_all_published_sizes_are_met_within_2_percent(rows: list[Row]):
    assert len(rows) > 1900
    assert share_within(rows) >= 0.95, worst(rows)


def test_llama_cpps_own_mixes_need_no_fit(rows: list[Row]):
    plain = [row for row in rows if not row.fitted]
    assert len(plain) > 1300
    assert share_within(plain) >= 0.975, worst(plain)


def test_sizes_known_to_the_byte_are_met_to_a_thousandth(rows: list[Row]):
    exact = [row for row in rows if not row.fitted and not row.published.rounding_bytes]
    close = [row for row in exact if abs(row.error) < 0.001]
    assert len(exact) >= 80
    assert len(close) / len(exact) >= 0.9, worst(exact)


def test_the_fitted_recipes_are_what_the_fit_gives(rows: list[Row]):
    key = "unsloth dense UD-Q4_K_XL"
    assert dynamic.fit([observation(row) for row in of_recipe(rows, key)]) == pytest.approx(
        dynamic.table()[key], abs=0.02
    )


def test_fitted_recipes_hold_for_models_they_were_not_fitted_to(rows: list[Row]):
    for quant in ("UD-Q2_K_XL", "UD-Q4_K_XL", "UD-Q8_K_XL"):
        known = of_recipe(rows, f"unsloth dense {quant}")
        met = [left_out_is_met(row, known) for row in known]
        assert sum(met) / len(met) >= 0.85, quant


def of_recipe(rows: list[Row], key: str) -> list[Row]:
    """The rows of one recipe, computed from the mix alone."""
    return [
        replace(row, computed_bytes=mix_bytes(row))
        for row in rows
        if dynamic.recipe_key(row.repository.repo, row.entry.shape, row.quant) == key
    ]


def mix_bytes(row: Row) -> int:
    return computed_file_size_bytes(row.entry, row.quant, group_of(row.entry), repository=row.repository, fitted=False)


def observation(row: Row) -> dynamic.Observed:
    shape = row.entry.shape
    elements = dynamic.elements_by_class(shape, groups(shape, untied=row.repository.untied))
    return dynamic.Observed(elements, row.computed_bytes, row.published.bytes, row.published.rounding_bytes)


def left_out_is_met(row: Row, known: list[Row]) -> bool:
    others = [observation(other) for other in known if other.entry.id != row.entry.id]
    shape = row.entry.shape
    extra = dynamic.extra_bytes(shape, groups(shape, untied=row.repository.untied), dynamic.fit(others))
    return replace(row, computed_bytes=round(row.computed_bytes + extra)).within


def test_a_size_published_to_the_byte_is_the_files_size(rows: list[Row]):
    exact = next(row for row in rows if not row.published.rounding_bytes)
    size = file_size_bytes(exact.entry, exact.quant, group_of(exact.entry), repository=exact.repository)
    assert size == exact.published.bytes


def test_a_published_size_wins_where_it_contradicts(rows: list[Row]):
    for row in rows:
        size = file_size_bytes(row.entry, row.quant, group_of(row.entry), repository=row.repository)
        off = abs(size - row.published.bytes)
        assert off <= row.published.rounding_bytes + 0.0011 * row.published.bytes, str(row)


def test_a_wrong_size_in_a_catalogue_scales_the_model():
    entry = CATALOGUE.entries["qwen2.5-7b"]
    honest = describe(entry, "Q8_0", group_of(entry))
    doubled = Repository("someone/files", "{quant}.gguf", sizes={"Q8_0": f"{2 * honest.weights_bytes} B"})
    scaled = describe(entry, "Q8_0", group_of(entry), repository=doubled)
    assert scaled.weights_bytes == pytest.approx(2 * honest.weights_bytes, rel=0.001)
    assert scaled.repeating_bytes == pytest.approx(2 * honest.repeating_bytes, rel=0.001)
    assert scaled.active_weights_bytes == pytest.approx(2 * honest.active_weights_bytes, rel=0.001)


def test_quants_come_smallest_first():
    entry = CATALOGUE.entries["llama-3.1-8b"]
    quants = quants_of(entry)
    assert len(quants) == len(set(quants)) > 15
    assert quants.index("Q2_K") < quants.index("Q4_K_M") < quants.index("Q6_K") < quants.index("Q8_0")


def test_the_first_repository_that_has_a_quant_is_meant():
    entry = CATALOGUE.entries["qwen2.5-0.5b"]
    named = Repository("a/named", "{quant}.gguf", quants=("Q4_0",))
    sized = Repository("b/sized", "{quant}.gguf", sizes={"q4_0": "409 MiB"})
    assert repository_of(replace(entry, repositories=(named, sized)), "Q4_0") is sized
    assert repository_of(replace(entry, repositories=(named,)), "q4_0") is named
    assert repository_of(replace(entry, repositories=()), "Q4_0") is None


def test_an_unknown_quant_is_the_users_to_change():
    entry = CATALOGUE.entries["qwen2.5-0.5b"]
    with pytest.raises(OptionError, match="Q9_K") as caught:
        describe(entry, "Q9_K", group_of(entry))
    assert caught.value.fix


def test_repositories_that_store_the_output_matrix_are_larger():
    entry = CATALOGUE.entries["qwen2.5-0.5b"]
    by_owner = {one.repo.split("/")[0]: one for one in entry.repositories}
    own, other = (
        computed_file_size_bytes(entry, "Q8_0", group_of(entry), repository=by_owner[owner])
        for owner in ("Qwen", "bartowski")
    )
    assert own == pytest.approx(644.4 * 2**20, rel=0.001)
    assert other == pytest.approx(506.5 * 2**20, rel=0.001)
