"""What the priors learn from: published or measured speeds, and the files they are read from.

    DecodeRow   seconds of a token of one model on one machine
    VerifyRow   a decode of b rows over a decode of one row
    PairRow     speedup and acceptance of one draft for one target at one setting

``read_evidence`` knows four kinds of files by their content: draftbench results (github.com/alexziskind1/draftbench),
recommendations of this program with what it measured, a table of decode speeds (device, bandwidth_gbs, model, quant,
size_gib, tg128_tps) and one of verify costs (device, backend, model, quant, n_rows, ratio_to_1).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from advisor.catalog.describe import describe, repository_of
from advisor.catalog.load import Catalog
from advisor.catalog.local import match_entry
from advisor.catalog.names import host_named, hosts_matching, resolve
from advisor.catalog.records import Entry, HostEntry, Repository
from advisor.cost.prior import Load, Machine, kernel_of, load_of
from advisor.cost.step_law import CURRENT, OLD, StepLaw, step_law
from advisor.errors import AdvisorError, FileProblem
from advisor.predict.prior import OTHER_HOST, Z_80, Case, Side
from advisor.types import RECOMMENDATION_SCHEMA, Estimate, Host, Model, Placement, Recommendation, from_json

# draftbench passes only --model-draft. Builds before May 2026 then drafted up to 16 tokens, stopped at a confidence
# below 0.75 and did not re-evaluate; newer ones do not speculate at all without --spec-type.
OLD_DEFAULTS_UNTIL = "2026-05"
OLD_K, OLD_P_MIN = 16, 0.75
TELLING_REPLAYS = ((1, 0.0), (4, 0.0), (16, 0.75))  # (k, p_min)
MIXED_CATEGORY = "mixed"
TABLE_CATEGORY = "code"  # its three prompts ask for code, JSON and a list

GB = 10**9
READ_OVER_PUBLISHED = 0.8  # what a plain read reaches of a memory's published bandwidth
GIB = 2**30
DIGEST_DIGITS = 12
_DIGEST = re.compile(rf"sha256 ([0-9a-f]{{{DIGEST_DIGITS}}})")
MOST_TABLE_BITS = 17  # a weight of a table of tokens
# Layers of dense models by size, for tables that name no more than the size: (parameters in 10**9, layers).
USUAL_LAYERS = ((0.6, 26), (1.5, 24), (4, 34), (9, 32), (15, 44), (40, 62), (80, 80), (500, 100))


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
        is_recurrent=model.attention.recurrent_state_bytes > 0,
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


def read_evidence(paths: Sequence[Path], catalog: Catalog) -> Evidence:
    """All files together. FileProblem for a file of another kind; rows that cannot be placed become notes."""
    total = Evidence()
    for path in paths:
        total += _read(path, catalog)
    return total


def _read(path: Path, catalog: Catalog) -> Evidence:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"{path} cannot be read.", why=str(error), fix="Give a draftbench result file.") from None
    return read_text(path, text, catalog)


def read_text(path: Path, text: str, catalog: Catalog) -> Evidence:
    """What is in a file with this content; ``path`` gives its kind and its name in messages. FileProblem as above."""
    try:
        if path.suffix.lower() == ".csv":
            return _digested(text, _checked(path, _read_csv(path, text, catalog)))
        read = read_recommendation if is_recommendation(text) else _read_draftbench
        return _digested(text, _checked(path, read(path, text, catalog)))
    except FileProblem:
        raise
    except AdvisorError as error:
        raise FileProblem(f"{path} cannot be used: {error.what}", why=error.why, fix=error.fix) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FileProblem(
            f"{path} cannot be used: something in it is not what it should be.",
            why=f"{type(error).__name__}: {error}.",
            fix="Give the file as the program wrote it.",
        ) from None


def digest(text: str) -> str:
    """What tells a text apart, whatever its file is called."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]


def digests_in(provenance: Iterable[str]) -> frozenset[str]:
    return frozenset(match[1] for line in provenance if (match := _DIGEST.search(line)))


def _digested(text: str, evidence: Evidence) -> Evidence:
    return replace(evidence, provenance=tuple(f"{line}, sha256 {digest(text)}" for line in evidence.provenance))


def _checked(path: Path, evidence: Evidence) -> Evidence:
    """FileProblem for figures that nothing can be, such as a negative speed."""
    for pair in evidence.pairs:
        if not 0 < pair.speedup < math.inf or not 0 <= (pair.acceptance_rate or 0) <= 1:
            raise FileProblem(
                f"{path} cannot be used: {pair.draft} for {pair.target} cannot be.",
                why=f"Its speedup is {pair.speedup:g}, its acceptance rate {pair.acceptance_rate}.",
                fix="Correct the file, or leave this result out.",
            )
    speeds = [(row.token_s, row.machine.bandwidth_bytes_per_s, row.load.read_bytes) for row in evidence.decodes]
    speeds += [(row.ratio, row.machine.bandwidth_bytes_per_s, row.load.read_bytes) for row in evidence.verifies]
    if not all(0 < value < math.inf for one in speeds for value in one):
        raise FileProblem(
            f"{path} cannot be used: one of its speeds, sizes or bandwidths cannot be.",
            why="It is zero, negative or not a number.",
            fix="Correct the file, or leave this row out.",
        )
    return evidence


# -- recommendations of this program ---------------------------------------------------------------------------------


def is_recommendation(text: str) -> bool:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("schema") == RECOMMENDATION_SCHEMA


def read_recommendation(path: Path, text: str, catalog: Catalog) -> Evidence:
    """What `advisor recommend --format json` measured: every real run, and of each draft's replays the few that teach
    different things (they all walk over the same tokens)."""
    content = json.loads(text)
    try:
        rec = from_json(Recommendation, json.dumps(content.get("record", content)))
    except FileProblem as error:
        raise FileProblem(f"{path} is not a whole recommendation.", why=error.what, fix=error.fix) from None
    machine = _machine_of(rec, catalog)
    if machine is None:
        note = f"{path.name}: how fast the memory of this host is was not measured, so nothing can be learnt"
        return Evidence(notes=(note,))
    target = _known_side(rec.target, catalog)
    case = Case(
        machine,
        replace(target, load=replace(target.load, run=f"{rec.target.label} {machine.host}")),
        target,
        category=rec.categories[0] if len(set(rec.categories)) == 1 else MIXED_CATEGORY,
        text=f"{rec.target.label} {_answers_id(rec)}",
        baseline_s=rec.baseline.token_s,
        temperature=rec.settings.sampling.temperature,
    )
    drafts = {one.draft.content_hash: _known_side(one.draft, catalog) for one in rec.candidates}
    pairs = tuple(
        _pair(rec, replace(case, draft=drafts[one.config.draft]), one, path.stem)
        for one in _telling(rec.estimates)
        if one.config.draft in drafts
    )
    decodes: tuple[DecodeRow, ...] = ()
    if rec.baseline.evidence != "prior":
        decodes = (DecodeRow(machine, target.load, rec.baseline.token_s, path.name, is_baseline=True),)
    source = f"{path.name}: {len(pairs)} pairs, {len(decodes)} baselines, {rec.created_at[:10]}"
    return Evidence(decodes, (), pairs, (f"advisor recommend, {source}",))


def _answers_id(rec: Recommendation) -> str:
    """The same for all measurements of one target on one text."""
    answers = f"{rec.workload} {','.join(rec.categories)} {rec.measurement.prompts} {rec.target.content_hash}"
    return hashlib.sha256(answers.encode()).hexdigest()[:12]


def _pair(rec: Recommendation, case: Case, estimate: Estimate, table: str) -> PairRow:
    return PairRow(
        case,
        estimate.config.k,
        estimate.config.p_min,
        step_law(rec.build),
        speedup=estimate.speedup,
        acceptance_rate=estimate.acceptance_rate,
        target=rec.target.label,
        draft=rec.draft_of(estimate.config).label,
        table=table,
        noise_sd=math.log(estimate.speedup_high / estimate.speedup_low) / (2 * Z_80),
    )


def _machine_of(rec: Recommendation, catalog: Catalog) -> Machine | None:
    """The device the pairs ran on; None where nothing tells its bandwidth."""
    placement = next((candidate.placement for candidate in rec.candidates), Placement())
    if placement.target_gpu_layers == 0:
        return probed_cpu(rec.host)
    if 0 < placement.target_gpu_layers <= rec.target.layers:  # on both sides: no single bandwidth explains it
        return None
    device = next((one for one in rec.host.devices if one.name == placement.device), None)
    known = hosts_matching(device.description, catalog, device.memory_total_bytes / GIB) if device else None
    return machine_of(known) if known else None


def _known_side(model: Model, catalog: Catalog) -> Side:
    entry = match_entry(model, tuple(catalog.entries.values()), name_hint=Path(model.path).stem)
    return side_of_entry(catalog, entry, model) if entry else side_of(model, "", model.name)


def _telling(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Real runs, and of each draft the replays nearest to the settings in ``TELLING_REPLAYS``."""
    simple = [one for one in estimates if one.config.method == "draft-simple" and not one.config.n_min]
    chosen = {one.config: one for one in simple if one.evidence == "measured"}
    for draft in dict.fromkeys(one.config.draft for one in simple):
        replays = [one for one in simple if one.evidence == "replay" and one.config.draft == draft]
        for k, p_min in TELLING_REPLAYS if replays else ():
            nearest = min(replays, key=lambda one: abs(math.log(one.config.k / k)) + abs(one.config.p_min - p_min))
            chosen.setdefault(nearest.config, nearest)
    return list(chosen.values())


# -- draftbench ------------------------------------------------------------------------------------------------------


def _read_draftbench(path: Path, text: str, catalog: Catalog) -> Evidence:
    table = _draftbench_table(path, text)
    if table.get("backend", "llamacpp") not in ("llamacpp", "llama.cpp", "llama-server"):
        raise FileProblem(
            f"{path} was not measured with llama.cpp.", why=f"Its backend is {table['backend']}.", fix="Leave it out."
        )
    host, _ = host_named(_dashed(_text(table, "hardware", path)), catalog)
    machine = machine_of(host)
    models = _Models(catalog, _text(table, "model_family", path), table["results"])
    k, p_min, law, temperature = _settings(table)
    decodes: list[DecodeRow] = []
    pairs: list[PairRow] = []
    notes: list[str] = []
    base_tps = {
        row["target"]: float(row["mean_tps"])
        for row in table["results"]
        if row.get("draft") is None and row["mean_tps"]
    }
    for target, tps in base_tps.items():
        try:
            side = models.side(target)
        except AdvisorError as error:
            notes.append(f"{path.name}: {target}: {error.what}")
            continue
        decodes.append(DecodeRow(machine, side.load, 1 / tps, path.name, is_baseline=True))
    for number, row in enumerate(table["results"], 1):
        draft, target = row.get("draft"), row.get("target")
        if draft is None:
            continue
        if target not in base_tps or not row.get("mean_tps"):
            notes.append(f"{path.name}: result {number} has no baseline or no speed")
            continue
        if not row.get("acceptance_rate"):
            notes.append(f"{path.name}: result {number} has no acceptance: the draft may never have run")
            continue
        try:
            side = models.side(target)
            case = Case(
                machine,
                replace(side, load=replace(side.load, run=f"{models.family} {target}")),
                models.side(draft),
                category=TABLE_CATEGORY,
                text=f"{models.family} {target}",
                baseline_s=1 / base_tps[target],
                temperature=temperature,
            )
        except AdvisorError as error:
            notes.append(f"{path.name}: result {number}: {error.what}")
            continue
        pairs.append(
            PairRow(
                case,
                k,
                p_min,
                law,
                speedup=float(row["mean_tps"]) / base_tps[target],
                acceptance_rate=float(row["acceptance_rate"]),
                target=f"{models.family} {target}",
                draft=draft,
                table=path.stem,
            )
        )
    source = f"{path.name}: {len(pairs)} pairs, {len(decodes)} baselines, {str(table.get('timestamp', ''))[:10]}"
    return Evidence(tuple(decodes), (), tuple(pairs), (f"draftbench (MIT), {source}",), tuple(notes))


def _draftbench_table(path: Path, text: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
        rows = table["results"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("target") for row in rows):
            raise TypeError("results is not a list of objects with a target")
        for row in rows:
            float(row["mean_tps"] or 0), float(row.get("acceptance_rate") or 0)
    except (ValueError, KeyError, TypeError) as error:
        raise FileProblem(
            f"{path} is not a draftbench result.",
            why=f"{error}" if not isinstance(error, KeyError) else f"It has no {error}.",
            fix="Give the JSON that draftbench writes: hardware, model_family, settings and results with target, "
            "draft, mean_tps and acceptance_rate.",
        ) from None
    return dict(table)


def _text(table: Mapping[str, Any], name: str, path: Path) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise FileProblem(f"{path} is not a draftbench result.", why=f"It has no {name}.", fix=f"Add {name} to it.")
    return value


def _settings(table: Mapping[str, Any]) -> tuple[int, float, StepLaw, float]:
    """(k, p_min, step law, temperature): as written, else what builds of that time did by default."""
    settings = table.get("settings") or {}
    old = str(table.get("timestamp", "")) < OLD_DEFAULTS_UNTIL
    k = settings.get("draft_max") or settings.get("n_max") or (OLD_K if old else 3)
    p_min = settings.get("draft_p_min", settings.get("p_min", OLD_P_MIN if old else 0.0))
    return int(k), float(p_min), OLD if old else CURRENT, float(settings.get("temperature") or 0.0)


def _dashed(hardware: str) -> str:
    """ "m4max-128gb" -> "m4-max-128gb"."""
    return re.sub(r"^(m\d)(max|pro|ultra)", r"\1-\2", hardware.lower())


class _Models:
    """Models of a table by their short names ("7B Q8_0"), as the files of one repository where one has all quants."""

    def __init__(self, catalog: Catalog, family: str, results: Iterable[Mapping[str, Any]]) -> None:
        self._catalog, self.family = catalog, family
        self._quants: dict[str, set[str]] = {}
        self._sides: dict[str, Side] = {}
        for row in results:
            for name in (row.get("target"), row.get("draft")):
                if name:
                    size, _, quant = name.partition(" ")
                    self._quants.setdefault(size, set()).add(_quant(quant))

    def side(self, name: str) -> Side:
        if name not in self._sides:
            self._sides[name] = self._find(name)
        return self._sides[name]

    def _find(self, name: str) -> Side:
        size, _, quant = name.partition(" ")
        entry = resolve(f"{self.family}-{size}".lower().replace(" ", "-"), self._catalog).entry
        model = describe(
            entry,
            _quant(quant),
            self._catalog.tokenizers[entry.tokenizer],
            repository=_repository(entry, self._quants[size]) or repository_of(entry, _quant(quant)),
        )
        return side_of_entry(self._catalog, entry, model)


def _repository(entry: Entry, quants: set[str]) -> Repository | None:
    for repository in entry.repositories:
        published = {quant.upper() for quant in (*repository.sizes, *repository.quants)}
        if quants <= published:
            return repository
    return None


def _quant(text: str) -> str:
    return {"FP16": "F16", "FP32": "F32"}.get(text.upper(), text.upper())


# -- tables of decode speeds and verify costs ------------------------------------------------------------------------


def _read_csv(path: Path, text: str, catalog: Catalog) -> Evidence:
    rows = list(csv.DictReader(io.StringIO(text)))
    hosts = frozenset(host.id for host in catalog.hosts)
    columns = set(rows[0]) if rows else set()
    if {"device", "bandwidth_gbs", "model", "quant", "tg128_tps"} <= columns:
        decodes = tuple(row for line in rows if (row := _decode_row(line, hosts)) is not None)
        return Evidence(decodes=decodes, provenance=(_counted(path, len(decodes), "decode speeds", rows),))
    if {"device", "backend", "model", "quant", "n_rows", "ratio_to_1"} <= columns:
        verifies = tuple(one for line in rows if (one := _verify_row(line, hosts)) is not None)
        return Evidence(verifies=verifies, provenance=(_counted(path, len(verifies), "verify costs", rows),))
    raise FileProblem(
        f"{path} is not a table the priors can learn from.",
        why=f"Its columns are {', '.join(sorted(columns)) or 'missing'}.",
        fix="Give draftbench results, or a table with the columns of decode speeds or verify costs.",
    )


def _counted(path: Path, used: int, what: str, rows: Sequence[Mapping[str, str]]) -> str:
    sources = sorted(
        {match for row in rows for match in re.findall(r"(?:github\.com/|HF )([\w.-]+/[\w.-]+)", row["source"])}
    )
    return f"{path.name}: {used} {what} of {len(rows)} rows, read from {', '.join(sources) or 'its source column'}"


def _decode_row(row: Mapping[str, str], hosts: frozenset[str]) -> DecodeRow | None:
    """None for another runtime, and where nothing says how many bytes a token reads."""
    backend, size = _backend(row["device"]), row["size_gib"]
    if backend is None or (not size and row["model"] not in _EXPERTS):
        return None
    load = _load(row["model"], row["quant"], float(size) * GIB if size else None)
    machine = Machine(backend, float(row["bandwidth_gbs"]) * GB, _host(row["device"], hosts))
    return DecodeRow(machine, load, 1 / float(row["tg128_tps"]), row["source"]) if load else None


def _verify_row(row: Mapping[str, str], hosts: frozenset[str]) -> VerifyRow | None:
    """None for another runtime, single kernels, experts kept in RAM, and models of unknown size."""
    bandwidth = _BANDWIDTH_GB_PER_S.get(row["device"])
    if row["backend"] not in ("cuda", "metal", "hip") or bandwidth is None or int(row["n_rows"]) < 2:
        return None
    load = _load(row["model"], row["quant"], None)
    if load is None:
        return None
    backend = {"hip": "rocm"}.get(row["backend"], row["backend"])
    machine = Machine(backend, bandwidth * GB, _host(row["device"], hosts))
    return VerifyRow(machine, load, int(row["n_rows"]), float(row["ratio_to_1"]), row["source"])


# Published bandwidths of the devices in the table of verify costs; its own column is missing there.
_BANDWIDTH_GB_PER_S = {
    "DGX Spark (GB10)": 273,
    "RTX 3090": 936,
    "RTX 4090": 1008,
    "RX 7900 XTX": 960,
    "A100-SXM4-80GB": 2039,
    "Tesla V100 16GB": 900,
    "Apple M4": 120,
}
_EXPERTS = {
    "gpt-oss-20b (MoE)": (20.9e9, 3.6e9, 24, 32, 4),
    "gpt-oss-120b (MoE)": (116.8e9, 5.1e9, 36, 128, 4),
    "Qwen3-Coder-30B-A3B (MoE)": (30.5e9, 3.3e9, 48, 128, 8),
    "Qwen3-30B-A3B (MoE)": (30.5e9, 3.3e9, 48, 128, 8),
    "Qwen3.5-35B-A3B (MoE)": (34.7e9, 2.95e9, 40, 256, 8),
    "Qwen3.6-35B-A3B (MoE)": (34.7e9, 2.95e9, 40, 256, 8),
}
_BITS = {
    "F16": 16, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K": 5.7, "Q5_0": 5.5, "Q4_K": 4.85, "Q4_0": 4.6, "Q3_K": 3.9, "Q2_K": 3.2,
    "MXFP4": 4.3, "IQ2": 2.5,
}  # fmt: skip


_CATALOGUE_HOSTS = {"a100-sxm4": "a100-sxm", "m4-mini": "m4", "tesla-v100": "v100-sxm2"}


def _load(model: str, quant: str, size_bytes: float | None) -> Load | None:
    kernel = kernel_of(quant.split("/")[-1])
    bits = _BITS.get(kernel)
    if model in _EXPERTS and bits:
        total, active, layers, experts, used = _EXPERTS[model]
        bits = 8 * size_bytes / total if size_bytes else bits
        read = active * bits / 8
        routed = (total - active) / (experts - used) * used * bits / 8
        return Load(read, active, layers, kernel, (experts, used), min(routed, read))
    match = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)\s*[Bb]\b", model.replace("-", " "))
    if match is None or bits is None or "MoE" in model:
        return None
    parameters = float(match[1]) * GB
    layers = next(count for limit, count in USUAL_LAYERS if parameters <= limit * GB)
    return Load(size_bytes or parameters * bits / 8, parameters, layers, kernel)


def _backend(device: str) -> str | None:
    if "MLX" in device:
        return None
    if "Vulkan" in device or "Strix" in device:
        return "vulkan"
    if device.startswith("Apple"):
        return "metal"
    if re.match(r"RTX|GTX|Tesla|A100|DGX", device):
        return "cuda"
    if device.startswith("RX"):
        return "rocm"
    return "cpu" if device.startswith("Core") else None


def _host(device: str, hosts: frozenset[str]) -> str:
    """A device of a table as the catalogue calls it, "Apple M2 Ultra 76-core" is m2-ultra; marked where that does not
    know it, so that nobody takes it for a host that can be asked for."""
    slug = _slug(device)
    return slug if slug in hosts else OTHER_HOST + slug


def _slug(device: str) -> str:
    plain = re.sub(r"\(.*?\)|\b\d+GB\b|\d+-core|^Apple |^RX ", "", device).lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return _CATALOGUE_HOSTS.get(slug, slug)
