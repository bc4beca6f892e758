"""A sweep on a terminal: speedups of every draft at every length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advisor.printable import visible
from advisor.reasons.labels import suffixes
from advisor.report import terminal
from advisor.report.rows import Row, rows
from advisor.types import Recommendation

if TYPE_CHECKING:
    from rich.console import Console


def render(rec: Recommendation, *, console: Console, command: str) -> None:
    """The report of a recommendation, with the whole grid in place of the best of each draft."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = rows(rec, show_all=True)
    ks = sorted({row.estimate.config.k for row in cells})
    has_p_min = len({row.estimate.config.p_min for row in cells}) > 1
    suffix = suffixes([candidate.draft for candidate in rec.candidates])
    grid: dict[tuple[str, float], tuple[Row, dict[int, str]]] = {}
    for row in cells:
        config, pick = row.estimate.config, row.estimate == rec.best and rec.verdict == "speculate"
        _, line = grid.setdefault((config.draft, config.p_min), (row, {}))
        line[config.k] = f"{'>' if pick else ''}{row.estimate.speedup:.2f}x"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    for heading in ("draft", "quant", *(["p_min"] if has_p_min else []), *(f"k = {k}" for k in ks)):
        table.add_column(heading, justify="left" if heading in ("draft", "quant") else "right")
    for (draft, p_min), (row, line) in grid.items():
        name = row.name + suffix.get(draft, "")
        shown = [name, row.quant, *([f"{p_min:g}"] if has_p_min else []), *(line.get(k, "") for k in ks)]
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in shown))
    terminal.render(rec, console=console, command=command, grid=table)
