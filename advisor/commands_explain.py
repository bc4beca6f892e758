"""``advisor explain``: why this pairing, from a saved recommendation. No model and no measurement is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from advisor import api
from advisor.api.using import serving_command
from advisor.choices import LastOption, SavedArgument, check_saved
from advisor.failures import errors_for_people, say
from advisor.output import check_output, console_for, deliver

if TYPE_CHECKING:
    from advisor.reasons.records import Explanation


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    file: SavedArgument = None,
    last: LastOption = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it, the target's answers included, as one page that opens offline."),
    ] = None,
    category: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the answers of this category.", show_default=False)
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="ASCII without colour, for logs.")] = False,
) -> None:
    """Say why a recommendation is what it is.

    Break-even, margins, where the time of a step goes, what would change it.
    """
    with errors_for_people():
        check_saved(file, last=last)
        check_output(html, option="--html")
        rec = api.load(file)
        if html is None:
            _print(api.explain(rec, category), serving_command(rec, category), plain=plain)
        else:
            _write_page(api.to_html(rec, category), html)


def _print(explanation: Explanation, command: str, *, plain: bool) -> None:
    from advisor.report import explain_terminal

    def write(stream: TextIO) -> None:
        explain_terminal.render(explanation, console=console_for(stream), command=command, plain=plain)

    deliver(write, None)


def _write_page(text: str, path: Path) -> None:
    deliver(lambda stream: print(text, file=stream, end=""), path)
    if sys.stderr.isatty():
        say(f"Written to {path}.")
