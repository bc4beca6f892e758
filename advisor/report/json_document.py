"""A recommendation as one JSON document, and back.

The first half of the document is for programs of others: a few keys with stable names, described by
``advisor/schema/recommendation.schema.json``. ``record`` is the whole Recommendation, for later commands of advisor.

Versions of the document:
    draft-advisor/recommendation/1   the first
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor.errors import FileProblem
from advisor.report.rows import Row, row_of, rows
from advisor.types import RECOMMENDATION_SCHEMA, Host, Model, Recommendation, Rejected, from_json, to_json

HOST_SCHEMA = "draft-advisor/host/1"


def document(rec: Recommendation, *, command: Sequence[str], show_all: bool = False) -> dict[str, Any]:
    """The document. ``candidates`` has the best config of each draft and method, all with ``show_all``."""
    record = json.loads(to_json(rec))
    return {
        "schema": RECOMMENDATION_SCHEMA,
        "host": record["host"],
        "target": _target(rec.target),
        "workload": {"name": rec.workload, "prompts": rec.measurement.prompts, "categories": list(rec.categories)},
        "baseline": {"tokens_per_second": rec.baseline.tokens_per_second},
        "candidates": [_candidate(row) for row in rows(rec, show_all=show_all)],
        "rejected": [_rejected(rejected) for rejected in rec.rejected],
        "recommendation": _recommendation(rec),
        "measurement": record["measurement"],
        "command": list(command),
        "record": record,
    }


def load(text: str | bytes) -> Recommendation:
    """The Recommendation inside a document, or stored bare, as the last one is. Raises FileProblem when it is something
    else, or from another version."""
    fix = "Use a file written by `advisor recommend --format json`."
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise FileProblem("This is not a saved recommendation.", why="It is not JSON.", fix=fix) from None
    found = parsed.get("schema") if isinstance(parsed, dict) else None
    if found == RECOMMENDATION_SCHEMA and "record" not in parsed and "estimates" in parsed:
        return from_json(Recommendation, text)
    if found != RECOMMENDATION_SCHEMA or "record" not in parsed:
        why = f"Its schema is {found!r}." if isinstance(found, str) else "It does not name its schema."
        if found == RECOMMENDATION_SCHEMA:
            why = "Its record is missing."
        raise FileProblem(
            f"This is not a saved recommendation of the version {RECOMMENDATION_SCHEMA}.", why=why, fix=fix
        )
    return from_json(Recommendation, json.dumps(parsed["record"]))


def load_file(path: Path) -> Recommendation:
    """As load, from a file."""
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise FileProblem(
            f"The recommendation {path} cannot be read.",
            why=f"{error.strerror or error}.",
            fix="Name a file written by `advisor recommend --format json --output FILE`.",
        ) from None


def host_document(host: Host) -> dict[str, Any]:
    """What `advisor probe --format json` prints."""
    return {"schema": HOST_SCHEMA, "host": json.loads(to_json(host))}


def dumps(parsed: dict[str, Any]) -> str:
    """JSON text in ASCII: it survives every terminal, pipe and code page, and no name in it can drive a terminal."""
    return json.dumps(parsed, indent=2, allow_nan=False)


def _target(target: Model) -> dict[str, Any]:
    return {
        "name": target.name,
        "quant": target.quant,
        "path": target.path,
        "architecture": target.architecture,
        "parameters": target.parameters,
        "layers": target.layers,
        "weights_bytes": target.weights_bytes,
        "context_length": target.context_length,
        "content_hash": target.content_hash,
    }


def _candidate(row: Row) -> dict[str, Any]:
    estimate = row.estimate
    return {
        "draft": row.name if row.candidate else None,
        "quant": row.quant if row.candidate else None,
        "method": estimate.config.method,
        "k": estimate.config.k,
        "p_min": estimate.config.p_min,
        "n_min": estimate.config.n_min,
        **({"ngram_size": estimate.config.ngram_size} if estimate.config.ngram_size else {}),
        **({"draft_sampling": "probabilistic"} if estimate.config.draft_sampling == "probabilistic" else {}),
        "fits": row.fits,
        "memory_bytes": row.memory_bytes,
        "acceptance_rate": estimate.acceptance_rate,
        "tokens_per_step": estimate.tokens_per_step,
        "speedup": estimate.speedup,
        "speedup_low": estimate.speedup_low,
        "speedup_high": estimate.speedup_high,
        "tokens_per_second": estimate.tokens_per_second,
        "evidence": estimate.evidence,
        **({"on_disk": True} if row.is_on_disk else {}),
    }


def _rejected(rejected: Rejected) -> dict[str, Any]:
    return {
        "draft": rejected.draft,
        "quant": rejected.quant,
        "reason": rejected.reason,
        "detail": rejected.detail,
    }


def _recommendation(rec: Recommendation) -> dict[str, Any]:
    answer: dict[str, Any] = {"verdict": rec.verdict, "sentence": rec.sentence}
    row = row_of(rec, rec.best) if rec.best is not None and rec.verdict == "speculate" else None
    if row is None:
        return answer
    there = {"at_depth": dataclasses.asdict(rec.at_depth)} if rec.at_depth is not None else {}
    return {**answer, **_candidate(row), **there}
