"""``advisor explain``: why this pairing, from a saved recommendation. No model and no measurement is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.choices import LastOption, SavedArgument, check_saved
from advisor.errors import FileProblem
from advisor.failures import errors_for_people, say
from advisor.output import check_output, console_for, deliver

if TYPE_CHECKING:
    from advisor.reasons.records import Explanation
    from advisor.types import Recommendation


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
    """Say why a recommendation is what it is: break-even, margins, costs of a step, what would change it."""
    with errors_for_people():
        check_saved(file, last=last)
        check_output(html, option="--html")
        rec = saved_recommendation(file)
        explanation = _reasons(rec, category)
        if html is None:
            _print(explanation, plain=plain)
        else:
            _write_page(rec, explanation, html)


def saved_recommendation(file: Path | None) -> Recommendation:
    """The recommendation in a file, the last one without a file. Raises FileProblem."""
    if file is None:
        from advisor import store

        return store.load_last()
    from advisor.report import json_document

    path = file.expanduser()
    try:
        return json_document.load(path.read_bytes())
    except OSError as error:
        raise FileProblem(
            f"The recommendation {path} cannot be read.",
            why=f"{error.strerror or error}.",
            fix="Name a file written by `advisor recommend --format json --output FILE`.",
        ) from None


def _reasons(rec: Recommendation, category: str | None) -> Explanation:
    from advisor.reasons import explain as reasons

    return reasons(rec, category)


def _print(explanation: Explanation, *, plain: bool) -> None:
    from advisor.report import explain_terminal

    deliver(lambda stream: explain_terminal.render(explanation, console=console_for(stream), plain=plain), None)


def _write_page(rec: Recommendation, explanation: Explanation, path: Path) -> None:
    from advisor.report import explain_page

    text = explain_page.page(rec, explanation)
    deliver(lambda stream: print(text, file=stream, end=""), path)
    if sys.stderr.isatty():
        say(f"Written to {path}.")
