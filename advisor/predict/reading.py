"""Files -> evidence: draftbench results, recommendations of this program, tables of costs, known by their content.

draftbench results (github.com/alexziskind1/draftbench), recommendations with what they measured, and the tables of
``tables.py``. Whatever a file is called, it is known again by the digest of its text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from advisor.catalog.describe import describe, repository_of
from advisor.catalog.load import Catalog
from advisor.catalog.matching import match_entry
from advisor.catalog.names import host_named, hosts_matching, resolve
from advisor.catalog.records import Entry, Repository
from advisor.cost.prior import Machine
from advisor.cost.step_law import CURRENT, OLD, StepLaw, step_law
from advisor.errors import AdvisorError, FileProblem
from advisor.predict.evidence import GIB, DecodeRow, Evidence, PairRow, machine_of, probed_cpu, side_of, side_of_entry
from advisor.predict.prior import Z_80
from advisor.predict.tables import read_csv
from advisor.predict.terms import Case, Side
from advisor.types import RECOMMENDATION_SCHEMA, Estimate, Model, Placement, Recommendation, from_json

# draftbench passes only --model-draft. Builds before May 2026 then drafted up to 16 tokens, stopped at a confidence
# below 0.75 and did not re-evaluate; newer ones do not speculate at all without --spec-type.
OLD_DEFAULTS_UNTIL = "2026-05"
OLD_K, OLD_P_MIN = 16, 0.75
TELLING_REPLAYS = ((1, 0.0), (4, 0.0), (16, 0.75))  # (k, p_min)
MIXED_CATEGORY = "mixed"
TABLE_CATEGORY = "code"  # its three prompts ask for code, JSON and a list
DIGEST_DIGITS = 12
_DIGEST = re.compile(rf"sha256 ([0-9a-f]{{{DIGEST_DIGITS}}})")


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
            return _digested(text, _checked(path, read_csv(path, text, catalog)))
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
