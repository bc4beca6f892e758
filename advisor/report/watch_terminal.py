"""A watched server on a terminal, redrawn in place, or as lines where there is none.

Everything is printed as Text objects, never as markup: names come from a server and from files of unknown origin.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from advisor.errors import ServerProblem
from advisor.printable import visible
from advisor.report.wording import counted, duration, percent
from advisor.watch import Expected, Live, View

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as RichLive

UNKNOWN = "–"
_POSITIONS_SHOWN = 16
_STATES = {
    "waiting": "Waiting for a request to end.",
    "too-few": "Too few tokens were drafted to judge.",
    "pays": "Speculation pays.",
    "below-break-even": "Below break-even.",
    "not-drafting": "Nothing is drafted.",
    "not-counted": "Acceptance is not known.",
    "not-compared": "There is no recommendation of a pairing to compare with.",
}


class Screen:
    """Shows views one after the other, for as long as it is open."""

    def __init__(self, console: Console, server: str) -> None:
        self._console, self._server = console, server
        self._live: RichLive | None = None
        self._said: tuple[str, ...] = ()

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            from rich.live import Live as RichLive

            self._live = RichLive(
                console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, view: View) -> None:
        if self._live is not None:
            self._live.update(block(view, self._server), refresh=True)
            return
        said = _lines(view)
        new = [line for line in said if line not in self._said]
        self._said = said
        if new:
            self._print(f"{duration(view.elapsed_s)}  {new[0]}", *(f"      {line}" for line in new[1:]))

    def _print(self, *lines: str) -> None:
        from rich.text import Text

        for line in lines:
            self._console.print(Text(visible(line)), soft_wrap=True)


def _lines(view: View) -> tuple[str, ...]:
    """What is true now, most important first; what was already said need not be said again."""
    judgement = view.judgement
    lines = [trying_again(view.problem)] if view.problem is not None else [_figures(view)]
    if view.restarts:
        lines.append(f"The server was started again {counted(view.restarts, 'time')} since the watch began.")
    lines += [f"warning: {said}" for said in judgement.warnings]
    lines += judgement.advice
    lines += [f"note: {said}" for said in judgement.notes]
    return tuple(lines)


def trying_again(problem: ServerProblem) -> str:
    return " ".join(part for part in (problem.what, problem.why, problem.fix, "Trying again.") if part)


def _figures(view: View) -> str:
    live, expected = view.live, view.expected
    if live is None or live.tokens <= 0:
        return _STATES["waiting"]
    even = expected.break_even_acceptance if expected is not None else None
    limit = f" (break-even {percent(even)})" if even is not None else ""
    parts = [
        f"acceptance {percent(live.acceptance_rate)}{limit}" if live.acceptance_rate is not None else "",
        f"{live.tokens_per_step:.2f} tokens a step" if live.tokens_per_step is not None else "",
        f"{live.tokens_per_second:.1f} tok/s" if live.tokens_per_second is not None else "",
    ]
    return f"{', '.join(part for part in parts if part)}. {_STATES[view.judgement.state]}"


def block(view: View, server: str) -> RenderableType:
    """Everything at once."""
    from rich.console import Group
    from rich.text import Text

    once = view.live is not None and view.live.whole
    title = Text(visible(server if once else f"{server}  {duration(view.elapsed_s)}"), style="bold")
    parts: list[RenderableType] = [title]
    if view.expected is not None:
        parts.append(Text(visible(f"recommended: {view.expected.label}")))
    if view.problem is not None:
        parts.append(Text(visible(trying_again(view.problem)), style="red"))
    parts += [Text(), _table(view), Text(visible(_traffic(view))), Text()]
    judgement = view.judgement
    parts.append(Text(visible(_STATES[judgement.state]), style="bold red" if judgement.below else "bold"))
    for said in judgement.warnings:
        parts.append(Text(visible(f"- {said}"), style="yellow"))
    for said in (*judgement.advice, *judgement.notes):
        parts.append(Text(visible(f"- {said}")))
    return Group(*parts)


def _table(view: View) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    spans = _spans(view)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for heading, _live in spans:
        table.add_column(Text(heading), justify="right")
    if view.expected is not None:
        table.add_column(Text("expected"), justify="right")
        table.add_column(Text("break-even"), justify="right")
    for name, figure, wanted, limit in _rows(view.expected, spans[0][1] if spans else None):
        cells = [name, *(figure(live) for _heading, live in spans)]
        if view.expected is not None:
            cells += [wanted, limit]
        table.add_row(*(Text(visible(cell)) for cell in cells))
    shown = max((len(live.by_position) for _heading, live in spans), default=0)
    for i in range(min(shown, _POSITIONS_SHOWN)):
        table.add_row(Text(f"position {i + 1}"), *(Text(_at(live, i)) for _heading, live in spans))
    return table


def _spans(view: View) -> list[tuple[Literal["lately", "since start"], Live]]:
    spans: list[tuple[Literal["lately", "since start"], Live]] = []
    if view.live is not None and not view.live.whole:
        spans.append(("lately", view.live))
    if view.since_start is not None:
        spans.append(("since start", view.since_start))
    return spans


Figure = Callable[[Live], str]


def _rows(expected: Expected | None, live: Live | None) -> list[tuple[str, Figure, str, str]]:
    """(name, the figure of a span, what is expected, break-even) of each row. Break-even is that of drafts as long as
    those of ``live``."""
    wanted, limits = ("", "", ""), ("", "", "")
    if expected is not None:
        even = expected.break_even_acceptance
        wanted = (
            percent(expected.acceptance_rate),
            f"{expected.tokens_per_step:.2f}",
            f"{expected.low_tps:.1f} to {expected.high_tps:.1f}",
        )
        limits = (
            percent(even) if even is not None else UNKNOWN,
            f"{expected.break_even_tokens(live.drafted_per_step if live is not None else None):.2f}",
            f"{expected.baseline_tps:.1f}",
        )
    figures: tuple[tuple[str, Figure], ...] = (
        ("acceptance", lambda live: _or_unknown(live.acceptance_rate, percent)),
        ("tokens a step", lambda live: _or_unknown(live.tokens_per_step, "{:.2f}".format)),
        ("tok/s", lambda live: _or_unknown(live.tokens_per_second, "{:.1f}".format)),
    )
    return [(name, figure, one, limit) for (name, figure), one, limit in zip(figures, wanted, limits, strict=True)] + [
        ("tokens", lambda live: f"{live.tokens:,.0f}", "", "")
    ]


def _or_unknown(value: float | None, words: Callable[[float], str]) -> str:
    return UNKNOWN if value is None else words(value)


def _at(live: Live, position: int) -> str:
    return percent(live.by_position[position]) if position < len(live.by_position) else UNKNOWN


def _traffic(view: View) -> str:
    if view.reading is None:
        return ""
    slots = view.reading.slots
    running = slots.running if slots is not None else view.reading.processing
    parts = [f"{counted(running, 'request')} running"]
    if slots is not None and slots.tokens:
        parts.append(f"{counted(slots.tokens, 'token')} so far, counted when they end")
    if view.reading.waiting:
        parts.append(f"{view.reading.waiting:,} waiting")
    if view.restarts:
        parts.append(f"started again {counted(view.restarts, 'time')}")
    return ", ".join(parts)
