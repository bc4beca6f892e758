"""A recommendation as flat rows, one an estimate: what a data frame, a CSV file or a spreadsheet wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from advisor.report.rows import Row, rows
from advisor.types import Recommendation

Cell = Callable[[Recommendation, Row], Any]


_CELLS: dict[str, tuple[str, Cell]] = {
    "label": ("draft and quantization, or the method: short, for axes and legends", lambda rec, row: row.label),
    "draft": ("name of the draft model; None of a method without one", lambda rec, row: row.draft and row.draft.name),
    "quant": ("quantization of the draft, such as Q4_K_M", lambda rec, row: row.quant or None),
    "method": ("draft-simple, or the method without a draft", lambda rec, row: row.estimate.config.method),
    "k": ("the longest draft, in tokens", lambda rec, row: row.estimate.config.k),
    "p_min": ("a draft ends where its probability is below this", lambda rec, row: row.estimate.config.p_min),
    "n_min": ("shorter drafts are thrown away, in tokens", lambda rec, row: row.estimate.config.n_min),
    "ngram_size": ("tokens that an n-gram method looks up", lambda rec, row: row.estimate.config.ngram_size or None),
    "speedup": ("speed over that of the target alone, a ratio", lambda rec, row: row.estimate.speedup),
    "speedup_low": ("lower end of its 80 % interval", lambda rec, row: row.estimate.speedup_low),
    "speedup_high": ("upper end of its 80 % interval", lambda rec, row: row.estimate.speedup_high),
    "acceptance_rate": ("share of drafted tokens accepted, 0 to 1", lambda rec, row: row.estimate.acceptance_rate),
    "tokens_per_step": ("tokens that one pass of the target yields", lambda rec, row: row.estimate.tokens_per_step),
    "tokens_per_second": ("speed, in tokens a second", lambda rec, row: row.estimate.tokens_per_second),
    "baseline_tokens_per_second": ("that of the target alone", lambda rec, row: rec.baseline.tokens_per_second),
    "evidence": ("measured, replay or prior, the surest first", lambda rec, row: row.estimate.evidence),
    "is_best": ("whether it is the recommended one", lambda rec, row: row.estimate == rec.best),
    "memory_bytes": ("of target and draft at this context, in bytes", lambda rec, row: row.memory_bytes),
    "fits": ("whether that fits in the memory there is", lambda rec, row: row.fits),
    "draft_parameters": ("weights of the draft, a count", lambda rec, row: row.draft and row.draft.parameters),
    "draft_bytes": ("size of the draft's weights, in bytes", lambda rec, row: row.draft and row.draft.weights_bytes),
    "draft_path": ("its file; None where it is not on disk", lambda rec, row: (row.draft and row.draft.path) or None),
    "draft_hash": ("key of traces and curves in the record", lambda rec, row: row.estimate.config.draft or None),
    "target": ("name of the target", lambda rec, row: rec.target.name),
    "target_quant": ("quantization of the target", lambda rec, row: rec.target.quant),
    "host": ("processor or accelerator of the machine", lambda rec, row: rec.host.cpu),
    "context": ("context size, in tokens", lambda rec, row: rec.settings.context),
    "temperature": ("of sampling; 0 is greedy", lambda rec, row: rec.settings.sampling.temperature),
    "workload": ("name of the prompts", lambda rec, row: rec.workload),
    "created_at": ("when it was made, ISO 8601", lambda rec, row: rec.created_at),
}
COLUMNS: dict[str, str] = {name: meaning for name, (meaning, _cell) in _CELLS.items()}
"""The columns in their order, and what each holds."""


def flat_rows(rec: Recommendation, *, show_all: bool) -> list[dict[str, Any]]:
    """One dict an estimate, best first; of each draft and method the best alone unless ``show_all``."""
    return [{name: cell(rec, row) for name, (_meaning, cell) in _CELLS.items()} for row in rows(rec, show_all=show_all)]
