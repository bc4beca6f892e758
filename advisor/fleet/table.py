"""The answer for a fleet, for people and for programs.

Versions of the document:
    draft-advisor/fleet/1   the first
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from advisor.fleet.forecast import FleetAnswer, Row
from advisor.printable import visible
from advisor.ranking import setting_of
from advisor.types import Build, Config, Estimate

if TYPE_CHECKING:
    from rich.console import Console

FLEET_SCHEMA = "draft-advisor/fleet/1"
EVIDENCE = {"prior": "foreseen", "replay": "replayed, costs measured there", "measured": "measured"}


def render(found: FleetAnswer, *, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("Host", "Pairing", "Speedup", "tok/s", "Evidence", "Shared"):
        table.add_column(name, overflow="fold")
    for row, shared in zip(found.rows, _shared_on(found), strict=True):
        table.add_row(*(Text(visible(cell)) for cell in _cells(found, row, shared)))
    console.print(Text(f"Fleet for {visible(found.target.label)}"))
    console.print(table)
    console.print(Text(visible(sentence(found))))


def sentence(found: FleetAnswer) -> str:
    """The pairing for all, or that there is none."""
    machines = sum(row.place.count for row in found.able)
    if not found.able:
        return "The target runs on none of these machines."
    if found.shared is None:
        return f"No one pairing beats the target alone over these {machines} machines: let each have its own."
    losing = [row.place.name for row, one in zip(found.able, found.shared.on, strict=True) if one.speedup_low <= 1]
    mean = math.exp(_mean_log_speedup(found))
    words = (
        f"If one pairing must serve all {machines} machines: {_pairing(found, found.shared.config)}, {mean:.2f}x on "
        f"average (geometric mean). With its own pairing each would have a lower end "
        f"{math.exp(found.shared.own_score - found.shared.score):.2f} times as high."
    )
    return words + (f" It is not sure to help on {', '.join(losing)}." if losing else "")


def document(found: FleetAnswer) -> dict[str, Any]:
    return {
        "schema": FLEET_SCHEMA,
        "target": {"name": found.target.name, "quant": found.target.quant, "content_hash": found.target.content_hash},
        "hosts": [_host(found, row, one) for row, one in zip(found.rows, _shared_on(found), strict=True)],
        "shared": _estimate(found, found.shared.config) if found.shared else None,
        "sentence": sentence(found),
    }


def _cells(found: FleetAnswer, row: Row, shared: Estimate | None) -> tuple[str, ...]:
    name = row.place.name if row.place.count == 1 else f"{row.place.name} ({row.place.count})"
    if row.answer is None:
        return name, row.why_not, "", "", "", ""
    beside = _interval(shared) if shared else ""
    best = row.answer.best
    if best is None:
        return name, "do not speculate", "", f"{row.baseline.tokens_per_second:.1f}" if row.baseline else "", "", beside
    return (
        name,
        _pairing(found, best.config),
        _interval(best),
        f"{best.tokens_per_second:.1f}",
        EVIDENCE[best.evidence] + (f" with {_named(row.build)}" if row.build and best.evidence != "prior" else ""),
        beside,
    )


def _host(found: FleetAnswer, row: Row, shared: Estimate | None) -> dict[str, Any]:
    about = {"name": row.place.name, "count": row.place.count, "cpu": row.place.host.cpu}
    if row.answer is None:
        return {**about, "verdict": "does-not-run", "detail": row.why_not}
    best = row.answer.best
    return {
        **about,
        "verdict": row.answer.verdict,
        "detail": row.answer.sentence,
        "baseline_tokens_per_second": row.baseline.tokens_per_second if row.baseline else None,
        "best": {**_estimate(found, best.config), **_numbers(best)} if best else None,
        "shared": _numbers(shared) if shared else None,
        "profile": row.profile or None,
        "costs_of": _named(row.build) if row.build else None,
    }


def _estimate(found: FleetAnswer, config: Config) -> dict[str, Any]:
    draft = found.draft_of(config)
    return {"draft": draft.name, "quant": draft.quant, "k": config.k, "p_min": config.p_min}


def _numbers(one: Estimate) -> dict[str, Any]:
    fields = ("speedup", "speedup_low", "speedup_high", "tokens_per_second", "acceptance_rate", "evidence")
    return {name: getattr(one, name) for name in fields}


def _shared_on(found: FleetAnswer) -> list[Estimate | None]:
    """What the shared pairing gives, a machine."""
    given = iter(found.shared.on) if found.shared else iter(())
    return [next(given, None) if row.answer is not None else None for row in found.rows]


def _mean_log_speedup(found: FleetAnswer) -> float:
    assert found.shared is not None
    counts = [row.place.count for row in found.able]
    logs = (count * math.log(one.speedup) for count, one in zip(counts, found.shared.on, strict=True))
    return math.fsum(logs) / sum(counts)


def _named(build: Build) -> str:
    return f"{build.engine} {build.version}"


def _pairing(found: FleetAnswer, config: Config) -> str:
    return f"{found.draft_of(config).label}, {setting_of(config)}"


def _interval(one: Estimate) -> str:
    return f"{one.speedup:.2f}x [{one.speedup_low:.2f}, {one.speedup_high:.2f}]"
