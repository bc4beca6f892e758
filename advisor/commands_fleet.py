"""``advisor worker``: this machine replays drafts for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advisor.failures import errors_for_people, say


def register(app: typer.Typer) -> None:
    app.command()(worker)


def worker(
    scheduler: Annotated[
        str, typer.Option(metavar="URL", help="The Dask scheduler to work for, such as tcp://192.168.1.5:8786.")
    ],
    models_dir: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Where else draft files are. Can be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads a replay; 0: one a core.")] = 0,
) -> None:
    """Replay drafts for `advisor recommend --scheduler`, until stopped. Only for networks that you trust."""
    with errors_for_people():
        from advisor.fleet.station import station
        from advisor.fleet.worker import serve

        here = station(tuple(folder.expanduser() for folder in models_dir or ()), threads)
        here.describe(frozenset())  # a folder that is not there shows now, and headers are read before anyone waits
        serve(scheduler, here, ready=lambda address: say(f"Ready to replay at {address} for {scheduler}."))
