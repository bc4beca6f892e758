"""One part of the page: a title, a lead, a chart with its numbers in a table, sentences. Everything is escaped here."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

from advisor.printable import visible

ROW_REM, AXES_REM = 2.6, 7.0  # height of a chart with one bar or row a draft


@dataclass(frozen=True)
class Number:
    """A table cell: what is shown, and the exact value it stands for."""

    value: float
    shown: str


Cell = str | Number | None


@dataclass(frozen=True)
class Section:
    """One part of the page. ``chart`` is the data that the drawing of that name takes, None for a table alone;
    ``rows_drawn`` sets the chart's height where it has one bar or row a draft. ``command`` and ``notes`` follow."""

    name: str
    title: str
    lead: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chart: dict[str, Any] | None = None
    rows_drawn: int = 0
    command: str = ""
    notes: tuple[str, ...] = ()


def text(content: str) -> str:
    return html.escape(visible(content), quote=True)


def share(value: float | None) -> Number | None:
    return Number(value, f"{100 * value:.0f} %") if value is not None and math.isfinite(value) else None


def milliseconds(seconds: float | None) -> Number | None:
    return Number(seconds, f"{1e3 * seconds:.1f} ms".replace("-", "−")) if seconds is not None else None


def ratio(value: float) -> Number:
    return Number(value, f"{value:.2f}")


def count(value: int) -> Number:
    return Number(value, str(value))


def rendered(section: Section) -> str:
    table = _table(section)
    chart = ""
    if section.chart is not None:
        height = f' style="height: {AXES_REM + ROW_REM * section.rows_drawn:.1f}rem"' if section.rows_drawn else ""
        chart = (
            f'<div class="chart" id="chart-{section.name}" role="img" aria-label="{text(section.title)}"{height}></div>'
        )
        table = f"<details><summary>The numbers</summary>{table}</details>"
    lead = f'<p class="lead">{text(section.lead)}</p>\n' if section.lead else ""
    command = f"<pre>{text(section.command)}</pre>\n" if section.command else ""
    notes = "".join(f"<li>{text(sentence)}</li>" for sentence in section.notes)
    listed = f'<ul class="notes">{notes}</ul>\n' if notes else ""
    return (
        f'<section id="{section.name}">\n<div class="opening">\n<h2>{text(section.title)}</h2>\n{lead}{chart}</div>\n'
        f"{command}{table}\n{listed}</section>"
    )


def _table(section: Section) -> str:
    """Columns in which nothing is known are left out."""
    if not section.rows:
        return ""
    used = [i for i in range(len(section.headings)) if any(row[i] is not None for row in section.rows)]
    numeric = {i for i in used if any(isinstance(row[i], Number) for row in section.rows)}
    head = "".join(
        f'<th scope="col"{" class=n" if i in numeric else ""}>{text(section.headings[i])}</th>' for i in used
    )
    rows = "\n".join("<tr>" + "".join(_cell(row[i]) for i in used) + "</tr>" for row in section.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _cell(cell: Cell) -> str:
    if cell is None:
        return "<td></td>"
    if isinstance(cell, Number):
        return f'<td class="n" data-value="{cell.value!r}">{text(cell.shown)}</td>'
    return f"<td>{text(cell)}</td>"
