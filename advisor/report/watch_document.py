"""What `advisor watch --once --format json` prints: one document with stable names, described by
``advisor/schema/watch.schema.json``.

Versions of the document:
    draft-advisor/watch/1   the first
"""

from __future__ import annotations

from typing import Any

from advisor.watch import Expected, Judgement, Live, View

WATCH_SCHEMA = "draft-advisor/watch/1"


def document(view: View, *, server: str) -> dict[str, Any]:
    """Numbers are null where the server does not count them. ``live.seconds`` is null where all was counted that the
    server did since it started."""
    slots = view.reading.slots if view.reading is not None else None
    return {
        "schema": WATCH_SCHEMA,
        "server": server,
        "live": _live(view.live) if view.live is not None else None,
        "running": slots.running if slots is not None else view.reading.processing if view.reading is not None else 0,
        "waiting": view.reading.waiting if view.reading is not None else 0,
        "restarted": view.restarts > 0,
        "expected": _expected(view.expected) if view.expected is not None else None,
        "judgement": _judgement(view.judgement),
    }


def _live(live: Live) -> dict[str, Any]:
    return {
        "since_start": live.whole,
        "seconds": None if live.whole else live.seconds,
        "tokens": live.tokens,
        "decode_s": live.decode_s,
        "drafts": live.drafts,
        "drafted": live.drafted,
        "accepted": live.accepted,
        "accepted_per_position": list(live.accepted_per_position),
        "acceptance_rate": live.acceptance_rate,
        "acceptance_by_position": list(live.by_position),
        "tokens_per_step": live.tokens_per_step,
        "tokens_per_second": live.tokens_per_second,
        "requests_at_once": live.at_once,
    }


def _expected(expected: Expected) -> dict[str, Any]:
    return {
        "pairing": expected.label,
        "method": expected.config.method,
        "k": expected.config.k,
        "p_min": expected.config.p_min,
        "evidence": expected.evidence,
        "acceptance_rate": expected.acceptance_rate,
        "tokens_per_step": expected.tokens_per_step,
        "tokens_per_second": expected.tokens_per_second,
        "tokens_per_second_low": expected.low_tps,
        "tokens_per_second_high": expected.high_tps,
        "baseline_tokens_per_second": expected.baseline_tps,
        "break_even_acceptance_rate": expected.break_even_acceptance,
        "break_even_tokens_per_step": expected.break_even_tokens_per_step,
        "break_even_from": expected.break_even_from,
    }


def _judgement(judgement: Judgement) -> dict[str, Any]:
    return {
        "state": judgement.state,
        "below_break_even": judgement.below,
        "speed": judgement.pace,
        "warnings": list(judgement.warnings),
        "advice": list(judgement.advice),
        "notes": list(judgement.notes),
    }
