"""What a decode of b tokens costs before anything is measured: a roofline with the overheads of small models.

    t(1) = overhead + layers * per_layer + read_bytes / (efficiency * bandwidth)
    t(b) = t(1) + rows(b) * row * parameters / bandwidth + experts(b)

``efficiency`` is the fraction of the published bandwidth that a decode of this backend and quantization reaches;
``row`` is the price of one more row, in the time to read one byte for every weight: near nothing where kernels wait
for memory (F16 on a GPU), about a third of the pass where they compute (4-bit weights on Metal). rows(b) = b - 1 as far
as the backend's matrix-vector kernels go, constant behind it, where matrix-matrix kernels take over.
experts(b) is a mixture's extra reading: N(b) = E * (1 - (1 - K/E)**b) experts (arXiv 2505.19645) over-predicts because
neighbours share experts, so N(b) / K is raised to a fitted power below 1; leaving the one-row kernels costs a step at
b = 2.

Coefficients have names; their values are fitted in advisor.predict.fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.types import Model

Floats = npt.NDArray[np.float64]

# Up to so many rows the price of a pass grows row by row: on Metal, Vulkan and ROCm as far as the matrix-vector kernels
# go, on CUDA and CPUs through all row counts of the tables.
VECTOR_ROWS = {"metal": 8, "vulkan": 8, "cuda": 32, "rocm": 8, "cpu": 32}
EXPERTS, EXPERTS_FIRST = "cost/experts_shared", "cost/experts_first"
MIXTURE = "layer/mixture"


@dataclass(frozen=True)
class Machine:
    """Where models run. ``host`` is a name for what is particular to it, "" when it is not known."""

    backend: str
    bandwidth_bytes_per_s: float
    host: str = ""


@dataclass(frozen=True)
class Load:
    """What one token of a model moves. ``read_bytes`` counts active weights, ``routed_bytes`` the part of them in
    routed experts, ``experts`` (total, used). ``run`` names the target's run that was measured, "" is one to
    come: what is particular to one model's matrix shapes is not carried over to another."""

    read_bytes: float
    active_parameters: float
    layers: int
    kernel: str
    experts: tuple[int, int] = (0, 0)
    routed_bytes: float = 0.0
    run: str | None = None


def load_of(model: Model) -> Load:
    total, used = model.experts
    idle = max(0, model.weights_bytes - model.active_weights_bytes - _table_bytes(model))
    routed = idle * used / (total - used) if total > used else 0.0
    return Load(
        read_bytes=float(model.active_weights_bytes),
        active_parameters=float(_active_parameters(model)),
        layers=model.layers,
        kernel=kernel_of(model.quant),
        experts=model.experts,
        routed_bytes=min(routed, float(model.active_weights_bytes)),
    )


def _active_parameters(model: Model) -> int:
    """Of a mixture without the rows of the input table that are not read and the experts that are not used."""
    total, used = model.experts
    if not total:
        return model.parameters
    table = 0 if model.tied_output_bytes else model.vocabulary.size * model.embedding_length
    expert = 3 * model.embedding_length * (model.expert_feed_forward_length or model.feed_forward_length)
    idle = expert * (total - used) * (model.layers - model.nextn_layers)
    return max(model.parameters - table - idle, 0) or model.parameters


def _table_bytes(model: Model) -> int:
    """The input table, where it is not the output matrix too: only a row of it is read."""
    return 0 if model.tied_output_bytes else model.token_embedding_bytes


def kernel_of(quant: str) -> str:
    """The kernel that does most of a file's work: "UD-Q4_K_XL" -> "Q4_K", "BF16" -> "F16"."""
    name = quant.upper().removeprefix("UD-")
    name = {"BF16": "F16", "FP16": "F16", "FP32": "F32"}.get(name, name)
    parts = name.split("_")
    if parts[:2] == ["Q8", "K"]:  # no file's weights are in Q8_K: UD-Q8_K_XL is Q8_0 with some layers in F16
        return "Q8_0"
    return "_".join(parts[:2]) if parts[0].startswith("Q") else parts[0]


def efficiency_terms(machine: Machine, kernel: str) -> dict[str, float]:
    """log(efficiency) as a sum of named coefficients."""
    names = [
        f"efficiency/{machine.backend}",
        f"efficiency/kernel/{kernel}",
        f"efficiency/{machine.backend}/{kernel}",
        f"efficiency/host/{machine.host}",
    ]
    return dict.fromkeys(names, 1.0)


def row_terms(machine: Machine, load: Load) -> dict[str, float]:
    """log(row) as a sum of named coefficients."""
    names = [
        f"row/{machine.backend}",
        f"row/kernel/{load.kernel}",
        f"row/{machine.backend}/{load.kernel}",
        f"row/host/{machine.host}",
        *([] if load.run is None else [f"row/run/{load.run}"]),
    ]
    return dict.fromkeys(names, 1.0)


def overhead_term(machine: Machine) -> str:
    """The name of log(seconds a pass)."""
    return f"overhead/{machine.backend}"


def layer_terms(machine: Machine, load: Load) -> dict[str, float]:
    """log(seconds a layer) as a sum of named coefficients."""
    return dict.fromkeys([f"layer/{machine.backend}", *([MIXTURE] if load.experts[0] else [])], 1.0)


@dataclass(frozen=True)
class Pass:
    """One model on one machine as arrays over cases: everything a price needs but the coefficients. ``*_terms`` have
    shape (cases, coefficients); the others (cases,)."""

    efficiency_terms: Floats
    row_terms: Floats
    overhead_terms: Floats
    layer_terms: Floats
    layers: Floats
    read_s: Floats
    row_s: Floats
    vector_rows: Floats
    experts_total: Floats
    experts_used: Floats
    routed_share: Floats
    experts_index: int
    experts_first_index: int

    def seconds(self, values: Floats, b_max: int) -> Floats:
        """Seconds of a decode of b = 1 .. b_max tokens, shape (cases, b_max)."""
        fixed = np.exp(self.overhead_terms @ values) + self.layers * np.exp(self.layer_terms @ values)
        reading = self.read_s / np.exp(self.efficiency_terms @ values)
        b = np.arange(1, b_max + 1)
        rows = np.minimum(b[None, :] - 1, self.vector_rows[:, None])
        extra = (self.row_s * np.exp(self.row_terms @ values))[:, None] * rows
        power = 1 / (1 + np.exp(-values[self.experts_index]))
        used = np.maximum(self.experts_used, 1)
        total = np.maximum(self.experts_total, used)
        active = total[:, None] * (1 - (1 - (used / total)[:, None]) ** b)
        first = np.exp(values[self.experts_first_index]) * (b > 1)
        more_experts = self.routed_share[:, None] * ((active / used[:, None]) ** power - 1 + first)
        return np.asarray((fixed + reading)[:, None] + extra + reading[:, None] * more_experts)


def passes(cases: Sequence[tuple[Machine, Load]], index: dict[str, int]) -> Pass:
    """``index`` maps the name of every coefficient to its place."""
    width = len(index)

    def terms(rows: Sequence[dict[str, float]]) -> Floats:
        matrix = np.zeros((len(rows), width))
        for row, named in enumerate(rows):
            for name, value in named.items():
                matrix[row, index[name]] = value
        return matrix

    return Pass(
        efficiency_terms=terms([efficiency_terms(machine, load.kernel) for machine, load in cases]),
        row_terms=terms([row_terms(machine, load) for machine, load in cases]),
        overhead_terms=terms([{overhead_term(machine): 1.0} for machine, _ in cases]),
        layer_terms=terms([layer_terms(machine, load) for machine, load in cases]),
        layers=np.array([load.layers for _, load in cases], float),
        read_s=np.array([load.read_bytes / machine.bandwidth_bytes_per_s for machine, load in cases]),
        row_s=np.array([load.active_parameters / machine.bandwidth_bytes_per_s for machine, load in cases]),
        vector_rows=np.array([VECTOR_ROWS[machine.backend] for machine, _ in cases], float),
        experts_total=np.array([load.experts[0] for _, load in cases], float),
        experts_used=np.array([load.experts[1] for _, load in cases], float),
        routed_share=np.array([load.routed_bytes / load.read_bytes for _, load in cases]),
        experts_index=index[EXPERTS],
        experts_first_index=index[EXPERTS_FIRST],
    )


def coefficient_names(machine: Machine, load: Load) -> set[str]:
    return {
        *efficiency_terms(machine, load.kernel),
        *row_terms(machine, load),
        overhead_term(machine),
        *layer_terms(machine, load),
        EXPERTS,
        EXPERTS_FIRST,
    }
