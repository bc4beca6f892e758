"""This machine as a Dask worker that replays drafts, until it is stopped or the scheduler is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from advisor.fleet.address import connecting, exposure, loopback_host
from advisor.fleet.station import Station, open_station

CONNECT_S = 30


def serve(
    scheduler: str, one: Station, *, ready: Callable[[str], None], note: Callable[[str], None] = lambda _text: None
) -> None:
    """Replays for whoever asks through this scheduler. ``ready`` is told the worker's address once it is known there,
    ``note`` who else can reach it.

    One replay at a time: two would share the cores. Where the scheduler's address is of loopback the worker listens
    there only, else on every interface: what it is sent is code to run. Raises OptionError where Dask is not installed,
    ServerProblem where there is no scheduler.
    """
    with connecting(scheduler):
        from distributed import Worker

    async def run() -> None:
        with connecting(scheduler):
            worker = Worker(
                scheduler,
                nthreads=1,
                memory_limit=0,
                death_timeout=CONNECT_S,
                host=loopback_host(scheduler),
                dashboard_address="127.0.0.1:0",  # a page that nobody needs
            )
            await worker
        try:
            if exposed := exposure(scheduler):
                note(exposed)
            ready(worker.address)
            await worker.finished()
        finally:
            await worker.close()

    open_station(one)
    asyncio.run(run())
