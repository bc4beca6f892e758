"""Looking at a server again and again: through failures and restarts, with whatever it says at the time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from advisor.errors import ServerProblem
from advisor.types import Recommendation, Verdict
from advisor.watch.expectation import Expected, expected
from advisor.watch.judgement import Judgement, judge
from advisor.watch.readings import History, Live, Reading, Slots

SAME_PARAMETERS = 0.05  # a converter may leave out or double an embedding


class Source(Protocol):
    """A server that can be asked: ``server_reader.ServerReader``, or a script in tests."""

    def metrics(self) -> Mapping[str, float]: ...
    def slots(self) -> Any: ...
    def model_path(self) -> str: ...
    def model_parameters(self) -> int: ...
    def nonsense(self, said: str) -> ServerProblem: ...


@dataclass(frozen=True)
class View:
    """What there is to show. ``live`` is what was judged. ``problem``: why nothing new is known, None where it is."""

    elapsed_s: float
    live: Live | None
    since_start: Live | None
    reading: Reading | None
    restarts: int
    expected: Expected | None
    judgement: Judgement
    problem: ServerProblem | None = None


@dataclass
class Watcher:
    """``clock`` counts seconds. Without a recommendation there is nothing to compare with."""

    source: Source
    recommendation: Recommendation | None
    clock: Callable[[], float]
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._expected = expected(self.recommendation) if self.recommendation is not None else None
        self._model_path: str | None = None
        self._parameters = 0

    def read(self) -> None:
        """One more reading. Raises ServerProblem."""
        reading = read(self.source, self.clock() - self._began)
        restarts = self.history.restarts
        self.history = self.history.add(reading)
        if self._model_path is None or self.history.restarts > restarts:
            self._model_path, self._parameters = self.source.model_path(), self.source.model_parameters()

    def look(self) -> View:
        """One more reading and what it says; a failure is told in the view, and the next look tries again."""
        try:
            self.read()
        except ServerProblem as problem:
            self._model_path = None
            return replace(self.view(self.history.lately), problem=problem)
        return self.view(self.history.lately)

    def view(self, live: Live | None) -> View:
        last = self.history.last
        other = self._other_model()
        expected = None if other else self._expected
        verdict = None if other else self._verdict
        judgement = judge(live, expected, verdict=verdict, slots=last.slots if last else None)
        return View(
            self.clock() - self._began,
            live,
            self.history.since_start,
            last,
            self.history.restarts,
            expected,
            replace(judgement, warnings=(*other, *judgement.warnings)),
        )

    @property
    def _verdict(self) -> Verdict | None:
        return self.recommendation.verdict if self.recommendation is not None else None

    def _other_model(self) -> tuple[str, ...]:
        """By the names of their files; of a target that was only named, by the number of parameters."""
        if self.recommendation is None:
            return ()
        target, served = self.recommendation.target, file_name(self._model_path or "")
        wanted = file_name(target.path)
        if wanted and served:
            return (_not_comparable(served, wanted),) if wanted != served else ()
        if wanted or not target.parameters or not self._parameters:
            return ()
        if abs(self._parameters / target.parameters - 1) <= SAME_PARAMETERS:
            return ()
        own, other = (f"{count / 1e9:.2g} billion parameters" for count in (self._parameters, target.parameters))
        return (_not_comparable(f"{served or 'a model'} with {own}", f"{target.name} with {other}"),)


def _not_comparable(served: str, wanted: str) -> str:
    return (
        f"The server serves {served}, the recommendation is for {wanted}: the two cannot be compared. "
        "Name the saved recommendation that is for this server."
    )


def read(source: Source, at_s: float) -> Reading:
    """One look at a server. Raises ServerProblem."""
    metrics = source.metrics()
    try:
        return Reading.of(metrics, Slots.of(source.slots()), at_s)
    except ValueError as error:
        raise source.nonsense(str(error)) from None


def follow(watcher: Watcher, show: Callable[[View], None], wait: Callable[[], None]) -> None:
    """Without end: whoever watches interrupts it."""
    while True:
        show(watcher.look())
        wait()


def file_name(path: str) -> str:
    """The last part, whichever system the path is of."""
    return re.split(r"[\\/]", path)[-1]
