"""``advisor watch``: a running llama-server beside the recommendation it was started with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from advisor import api
from advisor.choices import Format, FormatOption, LastOption, SavedArgument, check_saved
from advisor.errors import FileProblem, OptionError
from advisor.failures import errors_for_people, say
from advisor.options import duration_s
from advisor.output import console_for, deliver
from advisor.paths import expanded

if TYPE_CHECKING:
    from advisor.types import Recommendation
    from advisor.watch import View

BELOW_BREAK_EVEN = 1  # the exit code for scripts
DEFAULT_INTERVAL = "5s"
SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S = 0.5, 86400.0


def register(app: typer.Typer) -> None:
    app.command()(watch)


def watch(
    file: SavedArgument = None,
    url: Annotated[
        str, typer.Option(metavar="URL", help="The llama-server to watch; it needs --metrics.")
    ] = "http://127.0.0.1:8080",
    last: LastOption = False,
    once: Annotated[
        bool,
        typer.Option("--once", help="Say it once and exit: 1 below break-even, 2 where nothing can be read, else 0."),
    ] = False,
    interval: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How often it looks: 5s, 1m. With --once, over how long it counts. "
            "[default: 5s; with --once all since the server started]",
            show_default=False,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the server's API key is: its first line.", show_default=False),
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Show what a running llama-server accepts, and its speed.

    Both are shown beside its recommendation, with a warning when speculation stops to pay. A server counts a request
    when it ends. Goes on through restarts until it is interrupted.
    """
    with errors_for_people():
        from advisor.server_reader import address

        check_saved(file, last=last)
        if output_format is Format.json and not once:
            raise OptionError("--format json is one document, so it needs --once.", fix="Add --once.")
        pause_s, server, api_key = _interval_s(interval), str(address(url)), _api_key(api_key_file)
        rec = _recommendation(file, last=last)
        if not once:
            _follow(server, rec, api_key, pause_s)
            return
        view = api.observe(server, rec, api_key=api_key, seconds=pause_s if interval is not None else 0.0)
        _print(view, server, output_format)
        if view.judgement.below:
            raise typer.Exit(BELOW_BREAK_EVEN)


def _interval_s(interval: str | None) -> float:
    seconds = duration_s(interval if interval is not None else DEFAULT_INTERVAL, option="--interval")
    if not SHORTEST_INTERVAL_S <= seconds <= LONGEST_INTERVAL_S:
        raise OptionError(f"--interval: {interval!r} is not from half a second to a day.", fix="Write 5s or 1m.")
    return seconds


def _api_key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        lines = expanded(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"--api-key-file: {path} cannot be read.", why=f"{error}.") from None
    key = lines[0].strip() if lines else ""
    if not key or not key.isascii() or not key.isprintable():
        raise FileProblem(f"--api-key-file: the first line of {path} is not an API key.", fix="Put the key there.")
    return key


def _recommendation(file: Path | None, *, last: bool) -> Recommendation | None:
    """None where none is asked for and none was ever made: then the server alone is shown."""
    from advisor import store

    if file is None and not last and not store.has_last():
        say("note: there is no recommendation yet, so there is nothing to compare the server with.")
        return None
    return api.load(file)


def _follow(server: str, rec: Recommendation | None, api_key: str, pause_s: float) -> None:
    from advisor.report.watch_terminal import Screen
    from advisor.server_reader import ServerReader, address
    from advisor.watch import Watcher, follow

    watcher = Watcher(ServerReader(address(server), api_key=api_key), rec, time.monotonic)

    def write(stream: TextIO) -> None:
        with Screen(console_for(stream), server) as screen:
            follow(watcher, screen.show, lambda: time.sleep(pause_s))

    deliver(write, None)


def _print(view: View, server: str, output_format: Format) -> None:
    if output_format is Format.json:
        from advisor.report import json_document, watch_document

        text = json_document.dumps(watch_document.document(view, server=server))
        deliver(lambda stream: print(text, file=stream), None)
        return
    from advisor.report import watch_terminal

    deliver(lambda stream: console_for(stream).print(watch_terminal.block(view, server)), None)
