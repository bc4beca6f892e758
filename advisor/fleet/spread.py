"""Replays on whatever machines of a Dask cluster have the draft; what the cluster does not do is done here.

A worker that is lost takes no result with it: Dask gives its replay to another one, and what no worker can do comes
back to this machine. Acceptance is the same wherever it was replayed, so nothing depends on who did what, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from advisor.acceptance.replay import Elsewhere, Outcome, Replayer, ReplaysHere, ReplayTask, turn_missed
from advisor.errors import EngineError, OptionError, ServerProblem
from advisor.fleet.station import Described, advisor_version, describe_here, machine, replay_here
from advisor.types import Build

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 10
LOOK_UP_S = 1.0  # how often lost workers and the budget are looked at while nothing is done

Note = Callable[[str], None]


def spread_over(scheduler: str, note: Note) -> Elsewhere:
    """Replays over the cluster of this scheduler. OptionError where Dask is not installed, ServerProblem where there is
    no scheduler: both are found out at once, not after the target has written for minutes."""
    with _connected(scheduler):
        pass

    def elsewhere(here: ReplaysHere, build: Build, time_left_s: Callable[[], float]) -> Replayer:
        return SpreadReplays(scheduler, here, build, time_left_s, note)

    return elsewhere


class SpreadReplays:
    """``here`` replays what the cluster cannot; workers with another ``build`` of the engine are left out."""

    def __init__(
        self, scheduler: str, here: Replayer, build: Build, time_left_s: Callable[[], float], note: Note
    ) -> None:
        self._scheduler, self._here, self._build = scheduler, here, build
        self._time_left_s, self._note = time_left_s, note

    def __call__(self, tasks: Sequence[ReplayTask]) -> Iterator[tuple[int, Outcome]]:
        left = list(range(len(tasks)))
        if tasks:
            try:
                with _connected(self._scheduler) as client:
                    for number, outcome in self._on_cluster(client, tasks):
                        left.remove(number)
                        yield number, outcome
            except OSError as error:  # the scheduler is gone
                self._note(f"The scheduler {self._scheduler} was lost: {error}. What is left is replayed here.")
        again = [tasks[number] for number in left]
        for position, outcome in self._here(again) if again else ():
            yield left[position], outcome

    def _on_cluster(self, client: Client, tasks: Sequence[ReplayTask]) -> Iterator[tuple[int, Outcome]]:
        """What workers have done. A task without an outcome was not done."""
        drafts = frozenset(task.draft.content_hash for task in tasks)
        workers = self._able(client.run(describe_here, drafts, on_error="return"))
        futures: dict[Future[Any], int] = {}
        for number, task in enumerate(tasks):
            having = [address for address, one in workers.items() if task.draft.content_hash in one.drafts]
            if having:
                future = client.submit(
                    replay_here, task, machine(), workers=having, allow_other_workers=True, pure=False
                )
                futures[future] = number
        if len(futures) < len(tasks):
            self._note(f"{len(tasks) - len(futures)} of {len(tasks)} drafts are on no worker: replayed here.")
        try:
            yield from self._as_done(client, futures)
        finally:
            with suppress(OSError):  # the scheduler may be what was lost
                client.cancel(list(futures), force=True)

    def _as_done(self, client: Client, futures: dict[Future[Any], int]) -> Iterator[tuple[int, Outcome]]:
        done: SimpleQueue[Future[Any]] = SimpleQueue()
        for future in futures:
            future.add_done_callback(done.put)
        pending, has_any = set(futures), False
        while pending:
            with suppress(Empty):
                future = done.get(timeout=LOOK_UP_S)
                pending.remove(future)
                outcome = _outcome(future)
                if outcome is not None:
                    has_any = True
                    yield futures[future], outcome
            if pending and has_any and self._time_left_s() <= 0:
                yield from ((futures[future], turn_missed()) for future in pending)
                return
            if pending and not client.nthreads():
                self._note(f"No worker is left at {self._scheduler}: what is left is replayed here.")
                return

    def _able(self, answers: Mapping[str, object]) -> dict[str, Described]:
        """Workers that replay as this machine would."""
        able: dict[str, Described] = {}
        for address, one in answers.items():
            if not isinstance(one, Described):
                self._note(f"The worker {address} is left out: {one}.")
            elif (one.advisor, *_version(one.build)) != (advisor_version(), *_version(self._build)):
                self._note(
                    f"The worker {address} is left out: it has advisor {one.advisor} with {one.build.engine} "
                    f"{one.build.version}, this machine {advisor_version()} with {self._build.engine} "
                    f"{self._build.version}."
                )
            else:
                able[address] = one
        return able


def _version(build: Build) -> tuple[str, str, int]:
    """Without the digest of the libraries: another compiler's replay is acceptance all the same."""
    return build.engine, build.version, build.llama_cpp_build


def _outcome(future: Future[Any]) -> Outcome | None:
    """None where this machine should try: the file is not there, the engine or the worker failed, Dask gave up."""
    if future.status != "finished":
        return None
    outcome: Outcome | None = future.result()
    return None if isinstance(outcome, EngineError) else outcome


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise OptionError(
            "--scheduler needs Dask, which is not installed.",
            why=f"There is no module {error.name}.",
            fix='Run: pip install "draft-advisor[fleet]"',
        ) from None
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ServerProblem(
            f"--scheduler: there is no Dask scheduler at {scheduler}.",
            why=f"{error}.",
            fix="Start one with `dask scheduler`; it prints its address, such as tcp://192.168.1.5:8786.",
        ) from None
    try:
        yield client
    finally:
        client.close()
