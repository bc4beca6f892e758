import io

from rich.console import Console

from advisor.report.progress_bar import ProgressBar


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_shows_stage_detail_elapsed_and_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None, _environ={"TERM": "xterm"})
    with ProgressBar(console, budget_s=300, clock=clock) as progress:
        progress.stage("replay", 2)
        clock.now_s += 75
        progress.step("Example-0.5B [Q8_0]\x1b[2J")
        assert progress._bar is not None
        progress._bar.refresh()
    shown = stream.getvalue()
    assert "replay" in shown
    assert "Example-0.5B [Q8_0]\\x1b[2J" in shown
    assert "1:15 elapsed, at most 3:45 left" in shown


def test_time_left_never_goes_below_zero() -> None:
    clock = Clock()
    progress = ProgressBar(Console(file=io.StringIO()), budget_s=60, clock=clock)
    clock.now_s += 61
    assert progress._times() == "1:01 elapsed, at most 0:00 left"


def test_without_a_budget_only_the_elapsed_time_is_shown() -> None:
    clock = Clock()
    progress = ProgressBar(Console(file=io.StringIO()), budget_s=None, clock=clock)
    clock.now_s += 61
    assert progress._times() == "1:01 elapsed"


def test_a_log_gets_a_line_a_stage_and_a_note() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressBar(Console(file=stream, width=40), budget_s=300, clock=clock) as progress:
        progress.stage("answers", 2)
        progress.step("1 of 2")
        clock.now_s += 75
        progress.stage("curves", 0)
        progress.note("The remedy [--no-repack] was applied because the \x1b first decode crashed.")
    expected = "answers (0:00 elapsed, at most 5:00 left)\ncurves (1:15 elapsed, at most 3:45 left)\n"
    expected += "note: The remedy [--no-repack] was applied because the \\x1b first decode crashed.\n"
    assert stream.getvalue() == expected


def test_a_step_before_any_stage_is_no_problem() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    with ProgressBar(console, budget_s=1) as progress:
        progress.step("early")
        progress.stage("one", 1)
        progress.stage("two", 1)
        progress.step()
        progress.step("more than announced")
