"""An Explanation on a terminal, or in a log: at most 100 columns, bars of block characters, or ``plain`` ASCII.

Everything is printed as Text objects, never as markup: names come from files of unknown origin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from advisor.printable import visible
from advisor.ranking import setting_of
from advisor.reasons.records import CategoryPoint, DraftReasons, Explanation, Step
from advisor.report.explain_wording import (
    UPPER_BOUND,
    about_the_draft,
    break_even,
    break_even_path,
    chance,
    length_range,
    margin_points,
    positions_basis,
    shares_of_step,
    shell,
    signed,
    too_unsure,
)
from advisor.report.wording import interval, percent, what_is_served
from advisor.types import Estimate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MAX_COLUMNS = 100
_LABEL_WIDTH = 12
_BAR_WIDTH = 40
_LONGEST_LABEL = 30
_NARROW = 80  # below this the bars give way
_EIGHTHS = " ▏▎▍▌▋▊▉"
_POSITIONS_SHOWN = 8
_MODELS_SHOWN, _QUANTS_SHOWN, _REFUSED_SHOWN = 6, 3, 1  # of a prediction, which knows every published file
_REJECTED_SHOWN = 12


def render(explanation: Explanation, *, console: Console, command: str = "", plain: bool = False) -> None:
    """Print the report. ``command`` is the llama-server command line, already quoted for the shell; "": none is
    printed. ``plain`` uses ASCII only and no colour."""
    page = _Page(console, plain)
    page.field("Verdict", explanation.sentence, "bold")
    if explanation.is_upper_bound:
        page.field("", UPPER_BOUND)
    if explanation.subject is not None:
        _print_subject(page, explanation, explanation.subject)
    else:
        _print_methods(page, explanation.methods)
    _print_caveats(page, explanation)
    _print_rejected(page, explanation)
    if explanation.left_out:
        page.heading("Not in this report", "")
        for sentence in explanation.left_out:
            page.item(sentence)
    if command:
        page.heading("Command", f"llama-server, {what_is_served(explanation.verdict)}")
        for line in command.split("\n"):
            page.command(line)


def _print_subject(page: _Page, explanation: Explanation, subject: DraftReasons) -> None:
    if said := about_the_draft(explanation):
        page.field("", said)
    _print_methods(page, explanation.methods)
    _print_margin(page, explanation, subject)
    if explanation.evidence == "prior":
        _print_models(page, explanation.drafts, subject)
    else:
        _print_drafts(page, explanation.drafts)
    _print_lengths(page, subject)
    if subject.step is not None:
        _print_step(page, subject.step)
    _print_positions(page, explanation, subject)
    _print_categories(page, subject)
    if explanation.changes:
        page.heading("What would change it", "")
    for change in explanation.changes:
        page.row(change.what, f"{change.speedup:.2f}x  {change.sentence}" if change.speedup else change.sentence)
    _print_sureness(page, explanation)


def _print_methods(page: _Page, methods: Sequence[Estimate]) -> None:
    if not methods:
        return
    page.heading("Without a draft model", "the best setting of each method; they take no second model")
    page.table(
        ("method", "setting", "speedup", "accepted", "tokens a step", "evidence"),
        [
            (
                one.config.method,
                setting_of(one.config),
                interval(one),
                percent(one.acceptance_rate),
                f"{one.tokens_per_step:.2f}",
                one.evidence,
            )
            for one in methods
        ],
    )


def _print_margin(page: _Page, explanation: Explanation, subject: DraftReasons) -> None:
    if unsure := too_unsure(explanation):
        page.field("", unsure)
    if said := break_even(subject):
        page.field("Break-even", said)
    if said := f"{break_even_path(subject.break_even)} {explanation.why_formulas_differ}".strip():
        page.field("", said)
    for jump in explanation.jumps:
        page.field(
            "Kernels", f"A decode of {jump.b} tokens costs {jump.passes:.2f} passes more than one of {jump.b - 1}."
        )


def _print_drafts(page: _Page, drafts: Sequence[DraftReasons]) -> None:
    remark = "agree: share of the draft's choices that are the target's; even: where it would be 1.00x"
    page.heading("Drafts", remark if any(one.agreement is not None for one in drafts) else "")
    _print_draft_table(page, drafts)


def _print_models(page: _Page, drafts: Sequence[DraftReasons], subject: DraftReasons) -> None:
    """A prediction knows every published quantization: the best of each model, and the pick's next ones."""
    models: dict[str, DraftReasons] = {}
    for one in drafts:
        models.setdefault(one.draft.name, one)
    page.heading("Drafts", "the best quantization of each model")
    _print_draft_table(page, list(models.values())[:_MODELS_SHOWN])
    _print_rest(page, len(models) - _MODELS_SHOWN)
    quants = [one for one in drafts if one.draft.name == subject.draft.name]
    if len(quants) > 1:
        page.heading(f"Quantizations of {subject.draft.name}", "")
        _print_draft_table(page, quants[:_QUANTS_SHOWN])
        _print_rest(page, len(quants) - _QUANTS_SHOWN)


def _print_draft_table(page: _Page, drafts: Sequence[DraftReasons]) -> None:
    headings = ("draft", "k", "p_min", "speedup", "agree", "even", "textbook", "margin")
    rows = [_draft_cells(one) for one in drafts]
    used = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    page.table([headings[i] for i in used], [[row[i] for i in used] for row in rows])


def _draft_cells(one: DraftReasons) -> tuple[str, ...]:
    even, margin = one.break_even, margin_points(one)
    return (
        one.label,
        str(one.best.config.k),
        f"{one.best.config.p_min:g}",
        interval(one.best),
        percent(one.agreement) if one.agreement is not None else "",
        percent(even.measured) if even and even.measured is not None else "never" if one.curve else "",
        percent(even.textbook) if even and even.textbook is not None else "never" if even else "",
        f"{signed(margin)} points" if margin is not None else "",
    )


def _print_lengths(page: _Page, subject: DraftReasons) -> None:
    if len(subject.lengths) < 2:
        return
    page.heading("Draft length", length_range(subject))
    top = max(1.0, *(point.high for point in subject.lengths))
    page.bars(
        [
            (
                f"{'>' if point.k == subject.best.config.k else ' '} k {point.k:>2}",
                point.speedup / top,
                f"{point.speedup:.2f}x [{point.low:.2f}, {point.high:.2f}]",
            )
            for point in subject.lengths
        ],
        mark=1 / top,
    )


def _print_step(page: _Page, step: Step) -> None:
    total = step.total_s
    page.heading(
        "One step",
        f"{total * 1e3:.0f} ms for {step.tokens:.2f} tokens; the target alone needs {step.plain_s * 1e3:.0f} ms",
    )
    page.bars(
        (name, share, f"{seconds * 1e3:6.1f} ms {percent(share)}".replace("-", "−"))
        for name, seconds, share in shares_of_step(step)
    )


def _print_positions(page: _Page, explanation: Explanation, subject: DraftReasons) -> None:
    if not subject.positions:
        return
    basis = positions_basis(subject, explanation.k_max)
    page.heading("By position", f"{basis}: all accepted up to here; in brackets: accepted where all before were")
    page.bars(
        (
            str(one.position),
            one.survival,
            percent(one.survival) + (f" [{percent(one.hazard)}]" if one.hazard is not None else ""),
        )
        for one in subject.positions[:_POSITIONS_SHOWN]
    )


def _print_categories(page: _Page, subject: DraftReasons) -> None:
    if not subject.categories:
        return
    page.heading("By category", "")
    top = max(1.0, *(point.speedup for point in subject.categories))
    page.bars(
        [(point.category, point.speedup / top, _category_words(point)) for point in subject.categories],
        mark=1 / top,
    )


def _category_words(point: CategoryPoint) -> str:
    accepted = f", {percent(point.acceptance_rate)} accepted" if math.isfinite(point.acceptance_rate) else ""
    return f"{point.speedup:.2f}x{accepted}"


def _print_sureness(page: _Page, explanation: Explanation) -> None:
    sure = explanation.sureness
    if sure is None:
        return
    page.heading("How sure", "")
    page.row("a gain at all", chance(sure.gain_chance))
    if sure.lead_chance is not None:
        page.row("better than next draft", f"{chance(sure.lead_chance)} ({explanation.drafts[1].label})")
    page.bars((one.name, one.share, f"{percent(one.share)} of the uncertainty") for one in sure.sources)
    page.item(sure.advice)
    if sure.command:
        page.item("A larger budget does that:")
        page.command(shell(sure.command))


def _print_caveats(page: _Page, explanation: Explanation) -> None:
    if explanation.caveats:
        page.heading("Good to know", "")
    for sentence in explanation.caveats:
        page.item(sentence)


def _print_rejected(page: _Page, explanation: Explanation) -> None:
    if not explanation.rejected:
        return
    page.heading("Rejected", "")
    most = _REFUSED_SHOWN if explanation.evidence == "prior" else _REJECTED_SHOWN
    for one in explanation.rejected[:most]:
        page.item(f"{one.draft} {one.quant}".strip() + f" ({one.reason}): {one.detail}")
    _print_rest(page, len(explanation.rejected) - most)


def _print_rest(page: _Page, left: int) -> None:
    if left > 0:
        page.item(f"and {left} more; the page lists all (--html)")


class _Page:
    def __init__(self, console: Console, plain: bool) -> None:
        self._console, self._plain = console, plain
        self._width = min(MAX_COLUMNS, console.width)

    def field(self, label: str, value: str, style: str = "") -> None:
        self._grid(_LABEL_WIDTH, label, value, style)

    def row(self, label: str, value: str) -> None:
        self._grid(33 if self._width >= _NARROW else _LABEL_WIDTH, f"  {label}", value, "", label_style="")

    def heading(self, title: str, remark: str) -> None:
        from rich.text import Text

        self._console.print()
        words = Text.assemble((self._shown(title), self._style("bold")), self._shown(f" ({remark})") if remark else "")
        self._console.print(words, width=self._width)

    def item(self, sentence: str) -> None:
        self._grid(2, "- ", sentence, "", label_style="")

    def command(self, line: str) -> None:
        """Not wrapped, so that it can be copied."""
        self._console.print(self._text(line), soft_wrap=True)

    def bars(self, rows: Iterable[tuple[str, float, str]], mark: float | None = None) -> None:
        """(label, share of a full bar from 0 to 1, value in words) of each bar; ``mark`` is drawn across them all."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(max_width=_LONGEST_LABEL, overflow="fold")
        if self._width >= _NARROW:
            grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for label, share, value in rows:
            drawn = [self._bar(share, mark)] if self._width >= _NARROW else []
            grid.add_row(self._text(f"  {label}"), *drawn, self._text(value))
        self._console.print(grid, width=self._width)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        if self._width < _NARROW:
            for row in rows:
                pairs = zip(headings[1:], row[1:], strict=True)
                self.item(f"{row[0]}: " + ", ".join(f"{name} {value}" for name, value in pairs if value))
            return
        from rich.table import Table

        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style=self._style("dim"))
        for index, name in enumerate(headings):
            if index:
                table.add_column(name, justify="right", no_wrap=True)
            else:
                table.add_column(name, overflow="fold", ratio=1)
        for row in rows:
            table.add_row(*(self._text(cell) for cell in row))
        self._console.print(table, width=self._width)

    def _bar(self, share: float, mark: float | None) -> Text:
        width = _BAR_WIDTH if self._width >= MAX_COLUMNS else 24
        filled = max(0.0, min(1.0, share)) * width
        if self._plain:
            drawn = ("#" * round(filled)).ljust(width)
        else:
            whole, part = divmod(round(filled * 8), 8)
            drawn = ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)
        if mark is None:
            return self._text(drawn, "cyan")
        at = min(width - 1, int(mark * width))
        marked = self._text(drawn[:at] + ("|" if self._plain else "│") + drawn[at + 1 :], "cyan")
        marked.stylize(self._style("default"), at, at + 1)
        return marked

    def _grid(self, width: int, label: str, value: str, style: str, *, label_style: str = "bold") -> None:
        from rich.table import Table

        grid = Table.grid(padding=0)
        grid.add_column(width=width, overflow="fold")
        grid.add_column(overflow="fold", ratio=1)
        grid.add_row(self._text(label, label_style), self._text(value, style))
        self._console.print(grid, width=self._width)

    def _text(self, content: str, style: str = "") -> Text:
        from rich.text import Text

        return Text(self._shown(content), style=self._style(style), overflow="fold")

    def _shown(self, content: str) -> str:
        shown = visible(content)
        return shown.replace("−", "-").encode("ascii", "backslashreplace").decode() if self._plain else shown

    def _style(self, style: str) -> str:
        return "" if self._plain else style
