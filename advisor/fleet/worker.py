"""This machine as a Dask worker that replays drafts, until it is stopped or the scheduler is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from advisor.errors import OptionError, ServerProblem
from advisor.fleet.station import Station, open_station

CONNECT_S = 30


def serve(scheduler: str, one: Station, *, ready: Callable[[str], None]) -> None:
    """Replays for whoever asks through this scheduler. ``ready`` is told the worker's address once it is known there.

    One replay at a time: two would share the cores. Raises OptionError where Dask is not installed, ServerProblem where
    there is no scheduler.
    """
    try:
        from distributed import Worker
    except ModuleNotFoundError as error:
        raise OptionError(
            "A worker needs Dask, which is not installed.",
            why=f"There is no module {error.name}.",
            fix='Run: pip install "draft-advisor[fleet]"',
        ) from None

    async def run() -> None:
        worker = Worker(scheduler, nthreads=1, memory_limit=0, death_timeout=CONNECT_S)
        try:
            await worker
        except (OSError, ValueError, TimeoutError, RuntimeError) as error:
            raise ServerProblem(
                f"There is no Dask scheduler at {scheduler}.",
                why=f"{error}.",
                fix="Start one with `dask scheduler`; it prints its address, such as tcp://192.168.1.5:8786.",
            ) from None
        try:
            ready(worker.address)
            await worker.finished()
        finally:
            await worker.close()

    open_station(one)
    asyncio.run(run())
