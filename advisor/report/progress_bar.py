"""Progress on a terminal: stage, detail, elapsed time, and time left against the budget.

Where standard error is not a terminal there is no bar: each stage is a plain line as it begins, and so is each note.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from advisor.printable import visible
from advisor.report.wording import duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, TaskID

_REFRESH_PER_SECOND = 2  # the bar shares the cores with the timings it reports on


class ProgressBar:
    """An advisor.progress.Progress, and the context manager in which its bar is visible. ``budget_s``: None where the
    end is not known."""

    def __init__(self, console: Console, budget_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._budget_s, self._clock = budget_s, clock
        self._started = clock()

    def __enter__(self) -> ProgressBar:
        self._started = self._clock()
        if self._console.is_terminal:
            self._bar = _bar(self._console, self._times)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def stage(self, name: str, steps: int) -> None:
        if self._bar is None:
            self._print(f"{visible(name)} ({self._times()})")
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(visible(name), total=steps or None, detail="")

    def step(self, detail: str = "") -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, detail=visible(detail))

    def note(self, text: str) -> None:
        self._print(f"note: {visible(text)}")

    def first_answer(self, sentence: str) -> None:
        self._print(f"first answer ({self._times()}, to refine it; Ctrl-C takes it): {visible(sentence)}")

    def _print(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text(line), soft_wrap=True)

    def _times(self) -> str:
        elapsed_s = self._clock() - self._started
        if self._budget_s is None:
            return f"{duration(elapsed_s)} elapsed"
        return f"{duration(elapsed_s)} elapsed, at most {duration(max(0.0, self._budget_s - elapsed_s))} left"


def _bar(console: Console, times: Callable[[], str]) -> RichProgress:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    cut = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        _times_column(times),
        TextColumn("{task.fields[detail]}", markup=False, table_column=cut),
        console=console,
        transient=True,
        refresh_per_second=_REFRESH_PER_SECOND,
        redirect_stdout=False,  # standard output carries the report, which may go elsewhere
        redirect_stderr=False,
        expand=True,
    )


def _times_column(times: Callable[[], str]) -> ProgressColumn:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Times(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(times())

    return Times()
