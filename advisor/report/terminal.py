"""A recommendation for people, on a terminal or in a pipe.

Everything is printed as Text objects, never as markup: names come from files of unknown origin. Colour only repeats
what the words say, so the report reads the same without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from advisor.printable import visible
from advisor.ranking import likeliest, lookup_of, setting_of
from advisor.reasons.caveats import about_the_machine
from advisor.report.rows import Row, row_of, rows
from advisor.report.wording import bandwidth, counted, duration, interval, percent, sampling, size, what_is_served
from advisor.types import Device, Estimate, Host, Recommendation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

ON_DISK = ", on disk"
_LABEL_WIDTH = 11
_SHOWN_REJECTED = 12
_TABLE_MIN_COLUMNS = 92  # below this the candidate table would break numbers; a list is printed instead


def render(
    rec: Recommendation, *, console: Console, command: str, show_all: bool = False, grid: Table | None = None
) -> None:
    """Print the report. ``command`` is the llama-server command line, already quoted for the shell; ``grid`` is
    shown in place of the candidates."""
    render_host(rec.host, console=console)
    _print_context(console, rec)
    if grid is None:
        _print_candidates(console, rec, show_all)
    else:
        _print_heading(console, "Every cell", "speedup over the target alone; > marks the pick")
        console.print(grid)
    _print_rejected(console, rec, show_all)
    _print_categories(console, rec)
    _print_measurement(console, rec)
    _print_verdict(console, rec)
    _print_command(console, rec, command)


def render_host(host: Host, *, console: Console) -> None:
    memory = f"{size(host.ram_total_bytes)} RAM, {size(host.ram_available_bytes)} available"
    if host.os:  # a machine that is only named has neither cores nor a system
        cores = f"{host.cores_usable} of {host.cores_physical} cores usable"
        _print_field(console, "Host", f"{host.cpu}, {cores}, {memory}")
        _print_field(console, "", f"{host.os}; {' '.join(host.isa) or 'no instruction set extensions known'}")
    else:
        _print_field(console, "Host", f"{host.cpu}, {memory}")
    for device in host.devices:
        if device.kind != "cpu":
            _print_field(console, "", _device(device))
    if speeds := _bandwidths(host):
        _print_field(console, "", speeds)
    for note in host.notes:
        _print_field(console, "Note", note)


def _device(device: Device) -> str:
    shared = ", shared with the RAM" if device.unified else ""
    total, free = size(device.memory_total_bytes), size(device.memory_free_bytes)
    return f"{device.name}: {device.description} ({device.kind}), {total}, {free} free{shared}"


def _bandwidths(host: Host) -> str:
    parts = []
    if host.read_bandwidth_bytes_per_s is not None:
        parts.append(f"reads at least {bandwidth(host.read_bandwidth_bytes_per_s)}")
    if host.decode_bandwidth_bytes_per_s is not None:
        parts.append(f"a decode reached {bandwidth(host.decode_bandwidth_bytes_per_s)}")
    return "Memory " + ", ".join(parts) if parts else ""


def _print_context(console: Console, rec: Recommendation) -> None:
    target, notes = rec.target, rec.measurement
    build = f" (llama.cpp b{rec.build.llama_cpp_build})" if rec.build.llama_cpp_build else ""
    _print_field(console, "Engine", f"{rec.build.engine} {rec.build.version}{build}")
    layers = counted(target.layers, "layer")
    _print_field(
        console,
        "Target",
        f"{target.label}, {target.architecture}, {layers}, {size(target.weights_bytes)}, "
        f"context {counted(rec.settings.context, 'token')}",
    )
    if notes.prompts:
        answered = f"{counted(notes.prompts, 'prompt')}, {counted(notes.answer_tokens, 'answer token')}"
        _print_field(console, "Workload", f"{rec.workload}: {answered}, {sampling(rec.settings.sampling)}")
    _print_field(console, "Baseline", f"{rec.baseline.tokens_per_second:.1f} tok/s ({rec.baseline.evidence})")


def _print_candidates(console: Console, rec: Recommendation, show_all: bool) -> None:
    shown = rows(rec, show_all=show_all)
    if not shown:
        _print_heading(console, "Candidates", "none could be estimated")
        return
    each = "model" if shown[0].estimate.evidence == "prior" else "draft and method"
    remark = "all that were estimated" if show_all else f"the best setting of each {each}; --all lists every one"
    _print_heading(console, "Candidates", f"{remark}; speedup with its 80 % interval")
    pick = rec.best if rec.verdict == "speculate" else None
    if console.width >= _TABLE_MIN_COLUMNS:
        console.print(_candidate_table(shown, pick))
    else:
        for row in shown:
            _print_item(console, _row_sentence(row), marked=row.estimate == pick)


def _candidate_table(shown: Iterable[Row], pick: Estimate | None) -> Table:
    table = _table()
    table.add_column("", width=1)
    table.add_column("draft", overflow="fold", ratio=1)
    table.add_column("quant", overflow="fold", max_width=8)
    for heading in ("k", "p_min", "memory", "accept.", "tok/step", "speedup", "tok/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("evidence", no_wrap=True)
    for row in shown:
        estimate, marked = row.estimate, row.estimate == pick
        cells = (
            ">" if marked else "",
            _name(row),
            row.quant,
            str(estimate.config.k),
            f"{estimate.config.p_min:g}" if row.candidate else "",
            size(row.memory_bytes),
            percent(estimate.acceptance_rate),
            f"{estimate.tokens_per_step:.2f}",
            interval(estimate),
            f"{estimate.tokens_per_second:.1f}",
            f"{estimate.evidence}{ON_DISK}" if row.is_on_disk else estimate.evidence,
        )
        table.add_row(*(_text(cell) for cell in cells), style="bold" if marked else None)
    return table


def _name(row: Row) -> str:
    config = row.estimate.config
    if row.candidate is None:
        return f"{row.name}, {lookup_of(config)}"
    return f"{row.name}, rejection sampling" if config.draft_sampling == "probabilistic" else row.name


def _row_sentence(row: Row) -> str:
    estimate = row.estimate
    return (
        f"{row.label}, {setting_of(estimate.config)}: {interval(estimate)}, "
        f"{estimate.tokens_per_second:.1f} tok/s, {percent(estimate.acceptance_rate)} accepted, "
        f"{estimate.tokens_per_step:.2f} tokens per step, {size(row.memory_bytes)}, {estimate.evidence}"
        f"{ON_DISK if row.is_on_disk else ''}"
    )


def _print_rejected(console: Console, rec: Recommendation, show_all: bool) -> None:
    if rec.rejected:
        _print_heading(console, "Rejected", "")
    kept = rec.rejected if show_all else rec.rejected[:_SHOWN_REJECTED]
    for rejected in kept:
        label = f"{rejected.draft} {rejected.quant}".strip()
        _print_item(console, f"{label} ({rejected.reason}): {rejected.detail}")
    if len(kept) < len(rec.rejected):
        _print_item(console, f"and {len(rec.rejected) - len(kept)} more, listed with --all")


def _print_categories(console: Console, rec: Recommendation) -> None:
    if rec.best is None or not rec.best.acceptance_by_category:
        return
    whose = "of the pick" if rec.verdict == "speculate" else "of the best that was found"
    _print_heading(console, "By category", whose)
    table = _table()
    table.add_column("category", overflow="fold", max_width=40)
    table.add_column("accepted", justify="right")
    table.add_column("speedup", justify="right")
    for category, acceptance in rec.best.acceptance_by_category.items():
        speedup = rec.best.speedup_by_category.get(category)
        shown = f"{speedup:.2f}x" if speedup is not None else "n/a"
        table.add_row(_text(category), _text(percent(acceptance)), _text(shown))
    console.print(table)


def _print_measurement(console: Console, rec: Recommendation) -> None:
    notes = rec.measurement
    console.print()
    if not notes.prompts:
        _print_field(console, "Evidence", f"prior: {notes.stop_reason}")
        for note in notes.notes:
            _print_field(console, "", note)
        return
    runs = counted(notes.trials, "speculative trial")
    measured = f"measured now; {runs} in {duration(notes.elapsed_s)}"
    stored = f"from stored measurements, nothing was run; {runs} then"
    _print_field(console, "Measured", stored if notes.from_store else measured)
    _print_field(console, "", f"the target's own speed drifted by {100 * notes.anchor_drift:.1f} % meanwhile")
    _print_field(console, "", f"stopped because: {notes.stop_reason}")
    if notes.first_answer is not None and not notes.from_store:
        _print_field(console, "", f"first answer after {duration(notes.first_answer.elapsed_s)}")
    for sentence in about_the_machine(notes):
        _print_field(console, "In use", sentence, "yellow")
    if notes.repack_off:
        _print_field(console, "", "measured with --no-repack: the repacked kernels crash on this machine")
    for note in notes.notes:
        _print_field(console, "Note", note)


def _print_verdict(console: Console, rec: Recommendation) -> None:
    console.print()
    style = "bold green" if rec.verdict == "speculate" else "bold yellow"
    _print_field(console, "Verdict", rec.sentence, style)
    if (trade := _runner_up(rec)) is not None:
        _print_field(console, "Runner-up", trade)
    if rec.best is not None and rec.best.config.k == rec.settings.k_max and rec.verdict == "speculate":
        _print_field(console, "", f"k = {rec.settings.k_max} is the longest that was considered: --k-max tries longer")
    if (how := _to_decide(rec)) is not None:
        _print_field(console, "To decide", how)


def _to_decide(rec: Recommendation) -> str | None:
    """What would turn "not sure" into yes or no; None where it is decided."""
    if rec.verdict == "speculate" or not rec.measurement.prompts or likeliest(rec.estimates) is None:
        return None
    minutes = math.ceil(2 * rec.settings.budget_s / 60)
    ran = "No pairing was run for real yet" if not rec.trials else "The intervals are still wide"
    return f"{ran}: ask again with --budget {minutes}m. `advisor explain` says what is unsure."


def _runner_up(rec: Recommendation) -> str | None:
    """The runner-up and what it gives up, or gains, against the pick."""
    if rec.verdict != "speculate" or rec.best is None or rec.runner_up is None:
        return None
    pick, other = row_of(rec, rec.best), row_of(rec, rec.runner_up)
    if pick is None or other is None:
        return None
    slower = 1 - rec.runner_up.tokens_per_second / rec.best.tokens_per_second
    less_certain = rec.runner_up.speedup_low < rec.best.speedup_low
    faster = "faster, but less certain" if less_certain else "faster, which is no more than a tie"
    speed = f"{abs(slower):.1%} {'slower' if slower >= 0 else faster}".replace("%", " %")
    more = other.memory_bytes - pick.memory_bytes
    memory = f"{size(abs(more))} {'more' if more > 0 else 'less'} memory" if more else "the same memory"
    return f"{other.label} with {setting_of(rec.runner_up.config)}: {interval(rec.runner_up)}; {speed}, {memory}"


def _print_command(console: Console, rec: Recommendation, command: str) -> None:
    _print_heading(console, "Command", f"llama-server, {what_is_served(rec.verdict)}")
    # Not wrapped, so that it can be copied; its control characters were taken out when it was quoted.
    console.print(_text(command, keep_newlines=True), soft_wrap=True)


def _print_field(console: Console, label: str, value: str, style: str = "") -> None:
    from rich.table import Table

    grid = Table.grid(padding=0)
    grid.add_column(width=_LABEL_WIDTH)
    grid.add_column(overflow="fold", ratio=1)
    grid.add_row(_text(label, "bold"), _text(value, style))
    console.print(grid)


def _print_heading(console: Console, title: str, remark: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text.assemble((title, "bold"), f" ({remark})" if remark else ""))


def _print_item(console: Console, sentence: str, *, marked: bool = False) -> None:
    from rich.padding import Padding

    lead = "> " if marked else "- "
    console.print(Padding(_text(lead + sentence, "bold" if marked else ""), (0, 0, 0, 2)))


def _table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False, collapse_padding=True)


def _text(content: str, style: str = "", *, keep_newlines: bool = False) -> Text:
    from rich.text import Text

    return Text(visible(content, keep_newlines=keep_newlines), style=style, overflow="fold")
