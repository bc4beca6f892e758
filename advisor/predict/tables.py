"""Tables of costs -> evidence.

decode speeds   device, bandwidth_gbs, model, quant, size_gib, tg128_tps
verify costs    device, backend, model, quant, n_rows, ratio_to_1
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from advisor.catalog.describe import describe
from advisor.catalog.load import Catalog
from advisor.catalog.names import resolve
from advisor.cost.prior import Load, Machine, kernel_of, load_of
from advisor.errors import FileProblem, OptionError
from advisor.predict.belief import OTHER_HOST
from advisor.predict.evidence import GB, GIB, DecodeRow, Evidence, VerifyRow

# Layers of dense models by size, for tables that name no more than the size: (parameters in 10**9, layers).
USUAL_LAYERS = ((0.6, 26), (1.5, 24), (4, 34), (9, 32), (15, 44), (40, 62), (80, 80), (500, 100))

MIXTURE_MARK = " (MoE)"  # behind the names of mixtures


def read_csv(path: Path, text: str, catalog: Catalog) -> Evidence:
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = set(rows[0]) if rows else set()
    if {"device", "bandwidth_gbs", "model", "quant", "tg128_tps"} <= columns:
        decodes = tuple(row for line in rows if (row := _decode_row(line, catalog)) is not None)
        return Evidence(decodes=decodes, provenance=(_counted(path, len(decodes), "decode speeds", rows),))
    if {"device", "backend", "model", "quant", "n_rows", "ratio_to_1"} <= columns:
        verifies = tuple(one for line in rows if (one := _verify_row(line, catalog)) is not None)
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


def _decode_row(row: Mapping[str, str], catalog: Catalog) -> DecodeRow | None:
    """None for another runtime, and where nothing says how many bytes a token reads."""
    backend, size = _backend(row["device"]), row["size_gib"]
    if backend is None or not (size or row["model"].endswith(MIXTURE_MARK)):
        return None
    load = _load(row["model"], row["quant"], float(size) * GIB if size else None, catalog)
    machine = Machine(backend, float(row["bandwidth_gbs"]) * GB, _host(row["device"], catalog))
    return DecodeRow(machine, load, 1 / float(row["tg128_tps"]), row["source"]) if load else None


def _verify_row(row: Mapping[str, str], catalog: Catalog) -> VerifyRow | None:
    """None for another runtime, single kernels, experts kept in RAM, and models of unknown size."""
    bandwidth = _BANDWIDTH_GB_PER_S.get(row["device"])
    if row["backend"] not in ("cuda", "metal", "hip") or bandwidth is None or int(row["n_rows"]) < 2:
        return None
    load = _load(row["model"], row["quant"], None, catalog)
    if load is None:
        return None
    backend = {"hip": "rocm"}.get(row["backend"], row["backend"])
    machine = Machine(backend, bandwidth * GB, _host(row["device"], catalog))
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
_BITS = {
    "F16": 16, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K": 5.7, "Q5_0": 5.5, "Q4_K": 4.85, "Q4_0": 4.6, "Q3_K": 3.9, "Q2_K": 3.2,
    "MXFP4": 4.3, "IQ2": 2.5,
}  # fmt: skip


CATALOGUE_HOSTS = {"a100-sxm4": "a100-sxm", "m4-mini": "m4", "tesla-v100": "v100-sxm2"}


def _load(model: str, quant: str, size_bytes: float | None, catalog: Catalog) -> Load | None:
    if model.endswith(MIXTURE_MARK):
        return _mixture(model.removesuffix(MIXTURE_MARK), quant, catalog)
    kernel = kernel_of(quant.split("/")[-1])
    bits = _BITS.get(kernel)
    match = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)\s*[Bb]\b", model.replace("-", " "))
    if match is None or bits is None:
        return None
    parameters = float(match[1]) * GB
    layers = next(count for limit, count in USUAL_LAYERS if parameters <= limit * GB)
    return Load(size_bytes or parameters * bits / 8, parameters, layers, kernel)


def _mixture(model: str, quant: str, catalog: Catalog) -> Load | None:
    """As the catalogue describes it: what one token reads does not follow from a file's size. None where it cannot."""
    try:
        entry = resolve(model, catalog).entry
        return load_of(describe(entry, quant, catalog.tokenizers[entry.tokenizer]))
    except OptionError:
        return None


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


def _host(device: str, catalog: Catalog) -> str:
    """A device of a table as the catalogue calls it, "Apple M2 Ultra 76-core" is m2-ultra; marked where that does not
    know it, so that nobody takes it for a host that can be asked for."""
    slug = _slug(device)
    return slug if any(host.id == slug for host in catalog.hosts) else OTHER_HOST + slug


def _slug(device: str) -> str:
    plain = re.sub(r"\(.*?\)|\b\d+GB\b|\d+-core|^Apple |^RX ", "", device).lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return CATALOGUE_HOSTS.get(slug, slug)
