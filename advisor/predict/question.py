"""What is asked of a prediction: a target, on disk or only named, for a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from advisor.catalog.describe import describe, quants_of, repository_of
from advisor.catalog.load import Catalog
from advisor.catalog.matching import contradictions, match_entry
from advisor.catalog.names import resolve
from advisor.catalog.records import Entry, HostEntry, Repository
from advisor.gguf import read_model
from advisor.paths import expanded
from advisor.predict.evidence import PairRow
from advisor.types import Build, Candidate, Host, Model, Settings

DEFAULT_QUANT = "Q4_K_M"
# Repacked at load time since the end of 2024; llama.cpp no longer reads such files.
WITHDRAWN_QUANTS = frozenset({"Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"})
SAME_QUANT = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # two names of one mix


@dataclass(frozen=True)
class Outlook:
    """What is asked. ``k`` and ``p_min`` pin a setting; ``baseline_tps`` is what the target gives today; ``on_disk``:
    paths of files that are here, by catalogue id and quant; ``measured``: what was imported; ``given``: the drafts that
    are asked about, where it is not all of the catalogue."""

    target: Model
    target_entry: Entry | None
    host: Host
    host_entry: HostEntry | None
    build: Build
    settings: Settings
    k: int | None = None
    p_min: float | None = None
    baseline_tps: float | None = None
    categories: tuple[str, ...] = ()
    on_disk: Mapping[tuple[str, str], str] = field(default_factory=dict)
    measured: tuple[PairRow, ...] = ()
    given: tuple[Candidate, ...] | None = None


def catalogue_model(catalog: Catalog, entry: Entry, quant: str, repository: Repository | None = None) -> Model:
    """A model that need not be on disk. OptionError for a quant whose size cannot be told."""
    repository = repository or repository_of(entry, quant)
    model = describe(entry, quant, catalog.tokenizers[entry.tokenizer], repository=repository)
    return replace(model, hub=f"{repository.repo}:{quant}" if repository else "")


def named_target(text: str, catalog: Catalog, note: Callable[[str], None]) -> tuple[Model, Entry | None]:
    """A target by its file or its name, with its catalogue entry. OptionError, FileProblem."""
    path = expanded(text)
    if path.is_file():
        model = read_model(path)
        entry = match_entry(model, tuple(catalog.entries.values()), name_hint=path.stem)
        if entry is None:
            note(f"The catalogue does not know {model.name}: its family is taken for an unknown one.")
            return model, None
        for contradiction in contradictions(entry, model):
            note(f"{contradiction}; the file is right.")
        return model, entry
    named = resolve(text, catalog)
    quant = named.quant or default_quant(named.entry, catalog, named.repository)
    if named.quant is None:
        offered = [f"{named.entry.id}-{one.lower()}" for one in usual_quants(named.entry) if one != quant]
        others = f" Others are {', '.join(offered)}." if offered else ""
        note(f"{text} names no quantization: {quant} is taken.{others}")
    return catalogue_model(catalog, named.entry, quant, named.repository), named.entry


def default_quant(entry: Entry, catalog: Catalog, repository: Repository | None = None) -> str:
    """What most people run, else the published quantization nearest to it in size."""
    published = usual_quants(entry)
    if repository is not None:
        published = tuple(one for one in published if one in (*repository.sizes, *repository.quants)) or published
    if DEFAULT_QUANT in published or not published:
        return DEFAULT_QUANT
    group = catalog.tokenizers[entry.tokenizer]
    wanted = describe(entry, DEFAULT_QUANT, group).weights_bytes
    return min(published, key=lambda quant: abs(describe(entry, quant, group).weights_bytes - wanted))


def usual_quants(entry: Entry) -> tuple[str, ...]:
    """Published quantizations that llama.cpp still reads, each by one name, smallest first."""
    published = quants_of(entry)
    return tuple(one for one in published if one not in WITHDRAWN_QUANTS and SAME_QUANT.get(one) not in published)
