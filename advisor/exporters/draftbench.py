"""A sweep as the JSON that draftbench writes: one document a draft length, since its tables have one.

draftbench (MIT) times each pair after the target alone; here every run has a baseline beside it, and the baseline of
the table is the mean of all. Speeds are tokens a second of decoding over all prompts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from advisor.reasons.labels import suffixes
from advisor.types import Model, Recommendation, Run, Trial, pooled_token_s


def documents(rec: Recommendation) -> dict[int, dict[str, Any]]:
    """By draft length, for the cells without p_min."""
    cells = [trial for trial in rec.trials if trial.config.draft and not trial.config.p_min]
    return {k: _document(rec, k, [t for t in cells if t.config.k == k]) for k in sorted({t.config.k for t in cells})}


def _document(rec: Recommendation, k: int, trials: Sequence[Trial]) -> dict[str, Any]:
    settings, device = rec.settings, next((one for one in rec.host.devices if one.kind != "cpu"), None)
    baselines = [run for trial in rec.trials for run in trial.baselines]
    target = _name(rec.target)
    drafts = [(rec.draft_of(trial.config), trial) for trial in trials]
    suffix = suffixes([draft for draft, _ in drafts])
    return {
        "timestamp": rec.created_at,
        "name": rec.target.name,
        "hardware": device.description if device else rec.host.cpu,
        "backend": "llamacpp",
        "model_family": rec.target.name,
        "settings": {
            "engine": f"{rec.build.engine} {rec.build.version}",
            "runs": rec.measurement.prompts,
            "max_tokens": settings.max_tokens,
            "temperature": settings.sampling.temperature,
            "ctx_size": settings.context,
            "draft_max": k,
            "draft_p_min": 0.0,
        },
        "results": [
            _row(target, None, baselines),
            *(_row(target, _name(draft) + suffix[draft.content_hash], trial.runs) for draft, trial in drafts),
        ],
    }


def _row(target: str, draft: str | None, runs: Sequence[Run]) -> dict[str, Any]:
    drafted = sum(run.drafted for run in runs)
    return {
        "target": target,
        "draft": draft,
        "mean_tps": round(1 / pooled_token_s(runs), 2),
        "median_tps": round(statistics.median(1 / run.token_s for run in runs), 2),
        "mean_ttft": round(statistics.mean(run.prefill_s for run in runs), 3),
        "mean_total_time": round(statistics.mean(run.prefill_s + run.decode_s for run in runs), 2),
        "acceptance_rate": round(sum(run.accepted for run in runs) / drafted, 4) if drafted else None,
    }


def _name(model: Model) -> str:
    """Size and quantization, as draftbench names models: "0.5B Q8_0"."""
    billions = model.parameters / 1e9
    return f"{billions:.1f}B {model.quant}" if billions < 10 else f"{billions:.0f}B {model.quant}"
