"""Replays on whatever machines of a Dask cluster have the draft; what the cluster does not do is done here.

A worker that is lost takes no result with it: Dask gives its replay to another one, and what no worker can do comes
back to this machine. Acceptance is the same wherever it was replayed, so nothing depends on who did what, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from advisor.acceptance.replay import Elsewhere, Outcome, Replayer, ReplaysHere, ReplayTask
from advisor.errors import EngineError, OutOfTime, ServerProblem
from advisor.fleet.address import connecting, exposure
from advisor.fleet.station import Declined, Described, Versions, advisor_version, describe_here, replay_here
from advisor.types import Build

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 10
DESCRIBE_S = 60  # headers of many files may have to be read
LEAST_DESCRIBE_S = 1.0
LOOK_UP_S = 1.0  # how often lost workers and the budget are looked at while nothing is done

Note = Callable[[str], None]


def spread_over(scheduler: str, note: Note) -> Elsewhere:
    """Replays over the cluster of this scheduler. OptionError where Dask is not installed, ServerProblem where there is
    no scheduler: both are found out at once, not after the target has written for minutes."""
    with _connected(scheduler):
        pass
    if exposed := exposure(scheduler):
        note(exposed)

    def elsewhere(here: ReplaysHere, build: Build, time_left_s: Callable[[], float]) -> Replayer:
        return SpreadReplays(scheduler, here, build, time_left_s, note)

    return elsewhere


class SpreadReplays:
    """``here`` replays what the cluster cannot; workers with another ``build`` of the engine are left out."""

    def __init__(
        self, scheduler: str, here: Replayer, build: Build, time_left_s: Callable[[], float], note: Note
    ) -> None:
        self._scheduler, self._here = scheduler, here
        self._versions = Versions(advisor_version(), build)
        self._time_left_s, self._note = time_left_s, note

    def __call__(self, tasks: Sequence[ReplayTask]) -> Iterator[tuple[int, Outcome]]:
        left = list(range(len(tasks)))
        if tasks:
            try:
                with _connected(self._scheduler) as client:
                    for number, outcome in self._on_cluster(client, tasks):
                        left.remove(number)
                        yield number, outcome
            except (OSError, ServerProblem) as error:  # the scheduler is gone
                self._note(f"The scheduler {self._scheduler} was lost: {error}. What is left is replayed here.")
        again = [tasks[number] for number in left]
        for position, outcome in self._here(again) if again else ():
            yield left[position], outcome

    def _on_cluster(self, client: Client, tasks: Sequence[ReplayTask]) -> Iterator[tuple[int, Outcome]]:
        """What workers have done. A task without an outcome was not done."""
        drafts = frozenset(task.draft.content_hash for task in tasks)
        try:
            within_s = min(DESCRIBE_S, max(self._time_left_s(), LEAST_DESCRIBE_S))
            answers = client.run(describe_here, drafts, on_error="return", callback_timeout=within_s)
        except TimeoutError:
            self._note(f"A worker at {self._scheduler} does not say which drafts it has: all are replayed here.")
            return
        workers = self._able(answers)
        given = _Given(client, tasks, workers, self._versions, self._note)
        on_none = sum(not given.give(number) for number in range(len(tasks)))
        if on_none:
            self._note(f"{on_none} of {len(tasks)} drafts are on no worker: replayed here.")
        has_any = False
        try:
            while given.numbers:
                for number, outcome in given.done(LOOK_UP_S):
                    has_any = True
                    yield number, outcome
                if given.numbers and self._time_left_s() <= 0:
                    yield from ((number, OutOfTime()) for number in given.numbers if has_any)
                    return
                if given.numbers and not client.nthreads():
                    self._note(f"No worker is left at {self._scheduler}: what is left is replayed here.")
                    return
        finally:
            with suppress(OSError):  # the scheduler may be what was lost
                given.take_back()

    def _able(self, answers: Mapping[str, object]) -> dict[str, Described]:
        """Workers that replay as this machine would."""
        able: dict[str, Described] = {}
        for address, one in answers.items():
            if not isinstance(one, Described):
                self._note(f"The worker {address} is left out: {one}.")
            elif not one.versions.replay_alike(self._versions):
                self._note(f"The worker {address} is left out: it has {one.versions}, this machine {self._versions}.")
            else:
                able[address] = one
        return able


class _Given:
    """Replays that workers were given. Any of them may take one that a lost worker had, or that waits for a busy one;
    one that is declined goes once more to the others that have its draft, and to nobody else."""

    def __init__(
        self,
        client: Client,
        tasks: Sequence[ReplayTask],
        workers: Mapping[str, Described],
        versions: Versions,
        note: Note,
    ) -> None:
        self._client, self._tasks, self._workers, self._versions = client, tasks, workers, versions
        self._note, self._noted = note, set[str]()
        self._numbers: dict[Future[Any], int] = {}
        self._second: dict[Future[Any], frozenset[str]] = {}
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the tasks that are with the workers."""
        return tuple(self._numbers.values())

    def give(self, number: int, declined_by: frozenset[str] | None = None) -> bool:
        """False where no worker has the draft, but those that ``declined_by`` names. None: nobody was asked before."""
        is_first = declined_by is None
        having = self._having(number) - (declined_by or frozenset())
        if not having:
            return False
        future = self._client.submit(
            replay_here,
            self._tasks[number],
            self._versions,
            workers=sorted(having),
            allow_other_workers=is_first,
            pure=False,
        )
        self._numbers[future] = number
        if not is_first:
            self._second[future] = having
        future.add_done_callback(self._ended.put)
        return True

    def done(self, within_s: float) -> Iterator[tuple[int, Outcome]]:
        """The next outcome, if there is one by then. What nobody can do is no longer with the workers."""
        with suppress(Empty):
            future = self._ended.get(timeout=within_s)
            if future in self._numbers:
                number = self._numbers.pop(future)
                answer: Outcome | Declined | None = future.result() if future.status == "finished" else None
                if isinstance(answer, Declined):
                    self._decline(future, number, answer)
                elif answer is not None and not isinstance(answer, EngineError):  # one that fails there is tried here
                    yield number, answer
        self._drop_lost()

    def take_back(self) -> None:
        self._client.cancel(list(self._numbers), force=True)

    def _having(self, number: int) -> frozenset[str]:
        wanted = self._tasks[number].draft.content_hash
        return frozenset(address for address, one in self._workers.items() if wanted in one.drafts)

    def _decline(self, future: Future[Any], number: int, answer: Declined) -> None:
        by = frozenset(address for addresses in self._client.who_has([future]).values() for address in addresses)
        sentence = f"A worker left a replay to others: {', '.join(sorted(by))}: {answer.why}."
        is_news = not by.isdisjoint(self._having(number))  # of the others it was known
        if is_news and sentence not in self._noted:
            self._noted.add(sentence)
            self._note(sentence)
        if future not in self._second:
            self.give(number, by)

    def _drop_lost(self) -> None:
        """A second time nobody but those who were asked may do it: they may all be gone."""
        waiting = self._second.keys() & self._numbers.keys()
        if waiting:
            alive = self._client.nthreads().keys()
            lost = [future for future in waiting if alive.isdisjoint(self._second[future])]
            for future in lost:
                del self._numbers[future]
            self._client.cancel(lost, force=True)


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    with connecting(scheduler):
        from distributed import Client

        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    try:
        yield client
    finally:
        client.close()
