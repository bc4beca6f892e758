"""Memory: pairs that do not fit are not started, limits of the process count, estimates are what llama.cpp takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.engines.process import child_environment
from advisor.gguf import read_model
from advisor.memory import memory_use
from advisor.prune import margin_bytes
from advisor.report.json_document import load as load_document
from advisor.testing.gguf_files import F16, llama_tensors, llama_values, write
from advisor.testing.zoo import Recipe, build
from advisor.types import MemoryUse, Model
from chaos import ledger
from chaos.logged_buffers import Setting, logs_of, mebibytes_in
from chaos.outcome import Outcome
from chaos.processes import Advisor, recommend_command
from chaos.world import SETTINGS, Ground, Models

MIB = 1 << 20
GIB = 1 << 30
LIMITS_GIB = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
WEIGHTS_GOAL, TOTAL_GOAL, LEAST_BYTES = 0.02, 0.10, 100 * MIB
ZOO = (Recipe(29, "Q8_0"), Recipe(30, "Q8_0"), Recipe(30, "F16"), Recipe(60, "F16"), Recipe(110, "F16"))
CONTEXTS: tuple[Setting, ...] = ((512, 512, 17), (4096, 512, 17), (8192, 512, 1))
NEEDS_LIMIT = "needs a limit on address space (Linux)"


@dataclass(frozen=True)
class Estimated:
    """One model and setting: what was estimated, and what llama.cpp logged."""

    name: str
    context: int
    estimate: MemoryUse
    weights_and_kv_mib: float
    total_mib: float

    @property
    def weights_error(self) -> float:
        return (self.estimate.weights_bytes + self.estimate.kv_bytes) / MIB / self.weights_and_kv_mib - 1

    @property
    def total_error(self) -> float:
        return self.estimate.total_bytes / MIB / self.total_mib - 1


# -- pairs that do not fit ---------------------------------------------------------------------------------------------


def limits(ground: Ground, limits_gib: Sequence[float] = LIMITS_GIB) -> Iterator[Outcome]:
    """The simulated advisor below several limits, with files whose shapes are those of large models."""
    what = "a limit on address space (RLIMIT_AS): only pairs that fit are started"
    if sys.platform != "linux":
        yield Outcome(what, 0, skipped=NEEDS_LIMIT)
        return
    models = _large_models(ground.folder / "large")
    lost: list[str] = []
    started = refused = 0
    for limit_gib in limits_gib:
        data = ground.data_dir(f"limit-{limit_gib}")
        command = _limited(recommend_command(models, data.parent / "prompts.txt"), round(limit_gib * GIB))
        ended = Advisor(command, data, ledger=data.parent / "ledger").wait()
        pairs = {entry.models for entry in ledger.read(data.parent / "ledger") if entry.call == "open"}
        started += len({pair for pair in pairs if "+" in pair})
        if ended.code == 0:
            free = load_document(ended.output).host.ram_available_bytes
            lost += [f"{limit_gib} GiB: {why}" for why in _too_large(models, pairs, free)]
        elif ended.code == 2 and re.search(r"needs [\d.]+ GiB.* are free", ended.errors) and not pairs:
            refused += 1
        else:
            lost.append(f"{limit_gib} GiB: exit code {ended.code}, {pairs}: {ended.errors[-400:]}")
    yield Outcome(what, len(limits_gib), tuple(lost), f"{started} pairs started; {refused} refused with the numbers")


def _too_large(models: Models, pairs: set[str], free_bytes: int) -> Iterator[str]:
    sizes = {path.stem: read_model(path) for path in (models.target, *models.drafts)}
    target = _needed(sizes["target"], "target")
    for pair in sorted(pairs):
        others = [name for name in pair.split("+") if name != "target"]
        needed = target + sum(_needed(sizes[name], "draft") for name in others)
        if needed + margin_bytes(free_bytes) > free_bytes:
            yield f"{pair} was started: {needed / GIB:.2f} GiB where {free_bytes / GIB:.2f} GiB are free"


def _needed(model: Model, role: str) -> int:
    outputs = SETTINGS.k_max + 1
    if role == "target":
        return memory_use(model, SETTINGS.context, outputs=outputs, role="target", on_gpu=False).total_bytes
    return memory_use(model, SETTINGS.context, outputs=1, role="draft", on_gpu=False).total_bytes


def _large_models(folder: Path) -> Models:
    """A target of 0.6 GiB and drafts of 0.1 to 0.5 GiB, all holes."""
    folder.mkdir()
    layers = {"target": 24, "alder": 4, "birch": 10, "cedar": 20}
    paths = {name: _hole(folder / f"{name}.gguf", count) for name, count in layers.items()}
    return Models(paths["target"], tuple(paths[name] for name in ("alder", "birch", "cedar")))


def _hole(path: Path, layers: int) -> Path:
    shapes: dict[str, Any] = {"layers": layers, "embedding": 1024, "feed_forward": 4096, "heads": 16, "kv_heads": 4}
    values = {**llama_values(**shapes), "general.name": path.stem}
    return write(path, values, llama_tensors(**shapes, kind=F16))


def _limited(command: list[str], limit_bytes: int) -> list[str]:
    """The command below a limit that its children inherit."""
    program = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    return [sys.executable, "-c", program, str(limit_bytes), *command]


# -- estimates ---------------------------------------------------------------------------------------------------------


def estimates(recipes: Sequence[Recipe] = ZOO) -> Iterator[Outcome]:
    """Against the sizes of the buffers that llama.cpp logs, for real models."""
    found = [one for recipe in recipes for one in estimated(build(recipe))]
    large = [one for one in found if one.estimate.weights_bytes > LEAST_BYTES]
    lost = [
        f"{one.name} at {one.context}: weights and KV {one.weights_error:+.1%}, total {one.total_error:+.1%}"
        for one in large
        if abs(one.weights_error) > WEIGHTS_GOAL or abs(one.total_error) > TOTAL_GOAL
    ]
    worst = max((abs(one.weights_error) for one in large), default=0.0)
    worst_total = max((abs(one.total_error) for one in large), default=0.0)
    note = f"largest error: weights and KV {worst:.2%} (goal 2 %), total {worst_total:.1%} (goal 10 %)"
    yield Outcome("memory estimates against what llama.cpp logs", len(large), tuple(lost), note)


def estimated(path: Path, settings: Sequence[Setting] = CONTEXTS) -> Iterator[Estimated]:
    model = read_model(path)
    for (context, ubatch, outputs), log in zip(settings, logs_of(path, settings), strict=True):
        use = memory_use(model, context, n_ubatch=ubatch, outputs=outputs, role="target", on_gpu=False)
        weights_and_kv = mebibytes_in(log, "model") + mebibytes_in(log, "KV")
        # llama.cpp logs its output buffer before the first decode, with a single row.
        total = weights_and_kv + mebibytes_in(log, "compute") + mebibytes_in(log, "output") * outputs
        yield Estimated(model.label, context, use, weights_and_kv, total)


# -- what real runs take -----------------------------------------------------------------------------------------------


def peaks(folder: Path) -> Iterator[Outcome]:
    """A real search; the most memory of each of its runs beside the estimate of the pair."""
    data, drafts = folder / "peaks" / "data", (Recipe(29, "Q8_0"), Recipe(24, "Q4_0"))
    data.mkdir(parents=True)
    command = [sys.executable, "-m", "advisor", "recommend", "--target", str(build(Recipe(60, "F16"))), "--fresh"]
    for recipe in drafts:
        command += ["--draft", str(build(recipe))]
    command += ["--budget", "30s", "--max-tokens", "32", "--format", "json"]
    environment = {**child_environment(), "ADVISOR_DATA_DIR": str(data)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=600)
    rec = load_document(json.dumps(json.loads(done.stdout)))
    needed = {
        one.draft.content_hash: (one.draft.label, sum(use.needed_bytes for use in one.memory)) for one in rec.candidates
    }
    lost, notes, runs = [], [], 0
    for trial in rec.trials:
        peak = max((run.peak_bytes for run in trial.runs), default=0)
        runs += len(trial.runs)
        if not peak:
            lost.append(f"no peak was recorded for {trial.config}")
        elif trial.config.draft:
            label, estimate = needed[trial.config.draft]
            notes.append(f"{label} k={trial.config.k}: {peak / MIB:.0f} MiB, estimate {estimate / MIB:.0f} MiB")
    yield Outcome("peak memory of real runs is recorded", runs, tuple(lost), "; ".join(notes))
