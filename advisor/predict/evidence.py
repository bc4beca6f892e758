"""What the priors learn from: published or measured speeds. ``reading.py`` finds them in files.

DecodeRow   seconds of a token of one model on one machine
VerifyRow   a decode of b rows over a decode of one row
PairRow     speedup and acceptance of one draft for one target at one setting
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from advisor.catalog.load import Catalog
from advisor.catalog.records import Entry, HostEntry
from advisor.cost.prior import Load, Machine, load_of
from advisor.cost.step_law import StepLaw
from advisor.predict.terms import Case, Side
from advisor.types import Host, Model

GB, GIB = 10**9, 2**30
READ_OVER_PUBLISHED = 0.8  # what a plain read reaches of a memory's published bandwidth
MOST_TABLE_BITS = 17  # a weight of a table of tokens


@dataclass(frozen=True)
class DecodeRow:
    machine: Machine
    load: Load
    token_s: float
    source: str
    is_baseline: bool = False


@dataclass(frozen=True)
class VerifyRow:
    machine: Machine
    load: Load
    rows: int
    ratio: float
    source: str


@dataclass(frozen=True)
class PairRow:
    """``acceptance_rate`` is None where it was not recorded. ``target`` and ``draft`` are names for people.
    ``noise_sd``: how uncertain the measured log(speedup) is."""

    case: Case
    k: int
    p_min: float
    law: StepLaw
    speedup: float
    acceptance_rate: float | None
    target: str
    draft: str
    table: str
    noise_sd: float = 0.0


@dataclass(frozen=True)
class Evidence:
    decodes: tuple[DecodeRow, ...] = ()
    verifies: tuple[VerifyRow, ...] = ()
    pairs: tuple[PairRow, ...] = ()
    provenance: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.decodes + other.decodes,
            self.verifies + other.verifies,
            self.pairs + other.pairs,
            self.provenance + other.provenance,
            self.notes + other.notes,
        )


def side_of(model: Model, family: str, base: str) -> Side:
    """A model for the acceptance prior. ``family`` and ``base`` are names; "" for a model of no known family."""
    load = load_of(model)
    return Side(
        name=f"{model.name} {model.quant}",
        family=family,
        base=base,
        parameters=float(model.parameters),
        active_parameters=load.active_parameters,
        bits_per_weight=8 * model.weights_bytes / model.parameters,
        load=load,
        layer_bits=_layer_bits(model),
        is_recurrent=model.is_recurrent,
    )


def _layer_bits(model: Model) -> float:
    """Small models keep their tables of tokens in more bits than their layers, which do the thinking."""
    table = model.vocabulary.size * model.embedding_length
    if 8 * model.token_embedding_bytes > MOST_TABLE_BITS * table:  # layers have tables of their own in there
        return 8 * model.weights_bytes / model.parameters
    tables = table * (1 if model.tied_output_bytes else 2)
    return 8 * model.repeating_bytes / max(1, model.parameters - tables)


def side_of_entry(catalog: Catalog, entry: Entry, model: Model) -> Side:
    """``base`` is the family at the end of the chain of bases, as far as the catalogue knows it."""
    root = entry
    while root.base in catalog.entries:
        root = catalog.entries[root.base]
    side = side_of(model, catalog.family_of[entry.id], root.base or catalog.family_of[root.id])
    return replace(side, name=f"{entry.name} {model.quant}")


def machine_of(host: HostEntry) -> Machine:
    return Machine(host.backend, host.bandwidth_gb_per_s * GB, host.id)


def probed_cpu(host: Host) -> Machine | None:
    """The processor and RAM of a probed host; None where the bandwidth was not measured."""
    read = host.read_bandwidth_bytes_per_s
    return Machine("cpu", read / READ_OVER_PUBLISHED, host.fingerprint) if read else None
