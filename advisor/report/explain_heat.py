"""The heat map: the best setting of each draft, model by quantization, and what was rejected."""

from __future__ import annotations

import re
from collections.abc import Iterable
from statistics import mean
from typing import Any

from advisor.reasons.records import DraftReasons, Explanation
from advisor.report.explain_section import Cell, Number, Section, count, ratio, share
from advisor.types import Rejected

# A prediction knows every published quantization; these stand for them in the map, the table has all.
COMMON_QUANTS = frozenset({"Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"})


def drafts_section(explanation: Explanation) -> Iterable[Section]:
    if not explanation.drafts and not explanation.rejected:
        return
    rows = [_draft_row(one) for one in explanation.drafts] + [_rejected_row(one) for one in explanation.rejected]
    heat = _heat(explanation) if explanation.drafts and len(rows) > 1 else None
    is_prior = explanation.evidence == "prior"
    more = " The map shows the common quantizations, the table all." if heat and is_prior else ""
    agreement = (
        " Agreement is the share of positions at which the draft's own choice is the token that the target wrote."
        if any(one.agreement is not None for one in explanation.drafts)
        else ""
    )
    yield Section(
        "heat",
        "Drafts",
        "The best setting of each draft, by model and quantization. A cross is a draft that was rejected."
        + agreement
        + more,
        (
            *("draft", "quant", "k", "p_min", "speedup", "low", "high", "accepted", "agreement"),
            *("break-even", "accepted there", "textbook", "why"),
        ),
        tuple(rows),
        heat,
        rows_drawn=len(heat["drafts"]) if heat else 0,
    )


def _draft_row(one: DraftReasons) -> tuple[Cell, ...]:
    best, even = one.best, one.break_even
    return (
        one.row,
        one.draft.quant,
        count(best.config.k),
        Number(best.config.p_min, f"{best.config.p_min:g}"),
        *(ratio(value) for value in (best.speedup, best.speedup_low, best.speedup_high)),
        share(best.acceptance_rate),
        share(one.agreement),
        share(even.measured) if even and even.measured is not None else "never" if one.curve else None,
        share(even.acceptance_rate) if even else None,
        share(even.textbook) if even and even.textbook is not None else "never" if even else None,
        one.verdict,
    )


def _rejected_row(one: Rejected) -> tuple[Cell, ...]:
    return (one.draft, one.quant, *[None] * 10, f"{one.reason}: {one.detail}")


def _heat(explanation: Explanation) -> dict[str, Any]:
    drawn = _drawn(explanation)
    placed = {(one.row, one.draft.quant) for one in drawn}
    crosses = [one for one in explanation.rejected if one.quant and (one.draft, one.quant) not in placed]
    if explanation.evidence == "prior":
        shown = {one.draft.quant for one in drawn}
        crosses = [one for one in crosses if one.quant in shown]
    refused = [one for one in explanation.rejected if not one.quant]
    quants = _by_bits(drawn, crosses)
    smallest: dict[str, int] = {}
    for one in drawn:
        smallest[one.row] = min(one.draft.weights_bytes, smallest.get(one.row, one.draft.weights_bytes))
    named = [*sorted(smallest, key=smallest.__getitem__), *(one.draft for one in (*crosses, *refused))]
    rows = list(dict.fromkeys(named))
    return {
        "drafts": rows,
        "quants": quants,
        "cells": [_cell(one, quants.index(one.draft.quant), rows.index(one.row)) for one in drawn]
        + [_cross(one, quants.index(one.quant), rows.index(one.draft)) for one in crosses],
        "refused": [
            {"y": rows.index(one.draft), "label": one.draft, "reason": _reason(one), "detail": one.detail}
            for one in refused
        ],
    }


def _drawn(explanation: Explanation) -> list[DraftReasons]:
    if explanation.evidence != "prior" or explanation.subject is None:
        return list(explanation.drafts)
    kept = COMMON_QUANTS | {explanation.subject.draft.quant}
    return [one for one in explanation.drafts if one.draft.quant in kept]


def _cell(one: DraftReasons, x: int, y: int) -> dict[str, Any]:
    best = one.best
    return {
        "x": x,
        "y": y,
        "label": one.label,
        "speedup": best.speedup,
        "low": best.speedup_low,
        "high": best.speedup_high,
        "k": best.config.k,
        "p_min": best.config.p_min,
        "evidence": best.evidence,
        "detail": one.verdict,
    }


def _cross(one: Rejected, x: int, y: int) -> dict[str, Any]:
    label = f"{one.draft} {one.quant}"
    return {"x": x, "y": y, "label": label, "speedup": None, "reason": _reason(one), "detail": one.detail}


def _reason(one: Rejected) -> str:
    return f"rejected: {one.reason}"


def _by_bits(drawn: Iterable[DraftReasons], crosses: Iterable[Rejected]) -> list[str]:
    """Quantizations from few to many bits a weight: as the files have it, else as the name says."""
    bits: dict[str, list[float]] = {}
    for one in drawn:
        bits.setdefault(one.draft.quant, []).append(8 * one.draft.weights_bytes / max(1, one.draft.parameters))
    for rejected in crosses:
        bits.setdefault(rejected.quant, [_nominal_bits(rejected.quant)])
    return sorted(bits, key=lambda quant: (mean(bits[quant]), quant))


def _nominal_bits(quant: str) -> float:
    digits = re.search(r"\d+", quant)
    return float(digits[0]) if digits else 0.0
